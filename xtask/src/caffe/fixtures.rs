//! Small Caffe networks for the test suites, each for something that networks in the wild have.

use super::net::{Blob, Format, Layer, Net};
use super::random::Weights;
use crate::error::{Result, at};
use crate::workspace;
use quantize_document::OutputSet;
use std::fs;
use std::path::PathBuf;

/// Where they go.
const FOLDER: &str = "tests/fixtures/caffe";

/// A network, by the name of its two files.
struct Fixture {
    name: &'static str,
    net: fn() -> Net,
    /// What ends a line of its text.
    line_end: &'static str,
}

const FIXTURES: &[Fixture] = &[
    Fixture { name: "residual", net: residual, line_end: "\n" },
    Fixture { name: "former", net: former, line_end: "\r\n" },
    Fixture { name: "parametric", net: parametric, line_end: "\r\n" },
    Fixture { name: "scaled", net: scaled, line_end: "\n" },
];

impl Fixture {
    fn files(&self) -> [(String, Vec<u8>); 2] {
        let net = (self.net)();
        let text = net.prototxt().replace('\n', self.line_end);
        [
            (format!("{}.caffemodel", self.name), net.caffemodel()),
            (format!("{}.prototxt", self.name), text.into_bytes()),
        ]
    }
}

/// Writes all of them.
///
/// # Errors
///
/// If a file cannot be written.
pub(crate) fn write() -> Result<Vec<PathBuf>> {
    let folder = workspace::root().join(FOLDER);
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    let mut outputs = OutputSet::new();
    for (file, bytes) in FIXTURES.iter().flat_map(Fixture::files) {
        outputs.add_bytes(folder.join(file), bytes);
    }
    Ok(outputs.commit()?)
}

struct Builder {
    net: Net,
    weights: Weights,
}

impl Builder {
    fn new(format: Format, name: &str, input: [usize; 4], seed: u32) -> Self {
        Self { net: Net::new(format, name, input), weights: Weights::new(seed) }
    }

    fn push(&mut self, layer: Layer) {
        self.net.push(&layer);
    }

    /// A convolution without bias that keeps height and width, from `shape`, its weights' `[output, input, k, k]`.
    fn convolution(&mut self, name: &str, bottom: &str, [outputs, inputs, kernel]: [usize; 3]) {
        let fields = format!("num_output: {outputs} kernel_size: {kernel} pad: {} bias_term: false", kernel / 2);
        let weight = self.weights.he(&[outputs, inputs, kernel, kernel], 1.0);
        self.push(Layer::new("Convolution", name, &[bottom]).params("convolution_param", &fields).blobs([weight]));
    }

    /// The same with a bias.
    fn biased(&mut self, name: &str, bottom: &str, [outputs, inputs, kernel]: [usize; 3]) {
        let fields = format!("num_output: {outputs} kernel_size: {kernel} pad: {}", kernel / 2);
        let blobs =
            [self.weights.he(&[outputs, inputs, kernel, kernel], 1.0), self.weights.uniform(outputs, -0.1, 0.1)];
        self.push(Layer::new("Convolution", name, &[bottom]).params("convolution_param", &fields).blobs(blobs));
    }

    /// Batch normalization in place whose statistics were summed over `factor` batches, and a scale behind it.
    fn normalized(&mut self, suffix: &str, blob: &str, channels: usize, factor: f32) {
        let mean = scaled_by(self.weights.uniform(channels, -0.5, 0.5), factor);
        let variance = scaled_by(self.weights.uniform(channels, 0.5, 2.0), factor);
        let statistics = [mean, variance, Blob::vector(vec![factor])];
        self.push(Layer::in_place("BatchNorm", &format!("bn{suffix}"), blob).blobs(statistics));
        let scale = [self.weights.uniform(channels, 0.5, 1.5), self.weights.uniform(channels, -0.3, 0.3)];
        let layer = Layer::in_place("Scale", &format!("scale{suffix}"), blob);
        self.push(layer.params("scale_param", "bias_term: true").blobs(scale));
    }

    fn classifier(&mut self, bottom: &str, [classes, inputs]: [usize; 2]) {
        let blobs = [self.weights.he(&[classes, inputs], 1.0), self.weights.uniform(classes, -0.1, 0.1)];
        let layer = Layer::new("InnerProduct", "fc", &[bottom]);
        self.push(layer.params("inner_product_param", &format!("num_output: {classes}")).blobs(blobs));
        self.push(Layer::new("Softmax", "prob", &["fc"]));
    }

    /// Max pooling, 2x2 with stride 2.
    fn halved(&mut self, name: &str, bottom: &str) {
        let layer = Layer::new("Pooling", name, &[bottom]);
        self.push(layer.params("pooling_param", "pool: MAX kernel_size: 2 stride: 2"));
    }

    fn global_average(&mut self, bottom: &str) {
        let layer = Layer::new("Pooling", "pool", &[bottom]);
        self.push(layer.params("pooling_param", "pool: AVE global_pooling: true"));
    }
}

fn scaled_by(blob: Blob, factor: f32) -> Blob {
    Blob { data: blob.data.iter().map(|number| number * factor).collect(), ..blob }
}

/// A residual sum, ReLUs in place, a concatenation and batch normalization in place and not in place.
fn residual() -> Net {
    let mut b = Builder::new(Format::Current, "residual", [2, 3, 16, 16], 1);
    b.convolution("conv1", "data", [8, 3, 3]);
    b.normalized("1", "conv1", 8, 1.0);
    b.push(Layer::in_place("ReLU", "relu1", "conv1"));
    b.convolution("branch", "conv1", [8, 8, 3]);
    b.normalized("_branch", "branch", 8, 999.98);
    b.push(Layer::new("Eltwise", "sum", &["conv1", "branch"]).params("eltwise_param", "operation: SUM"));
    b.push(Layer::in_place("ReLU", "relu_sum", "sum"));
    b.biased("left", "sum", [4, 8, 1]);
    b.push(Layer::in_place("ReLU", "relu_left", "left"));
    b.convolution("right", "sum", [4, 8, 3]);
    // Not in place.
    let statistics = [b.weights.uniform(4, -0.5, 0.5), b.weights.uniform(4, 0.5, 2.0), Blob::vector(vec![2.0])];
    b.push(Layer::new("BatchNorm", "bn_right", &["right"]).blobs(statistics));
    b.push(Layer::new("ReLU", "relu_right", &["bn_right"]));
    b.push(Layer::new("Concat", "concat", &["left", "relu_right"]));
    b.global_average("concat");
    b.classifier("pool", [5, 8]);
    b.net
}

/// Layers of the former format, leaky ReLUs, ceiling in the size of a pool.
fn former() -> Net {
    let mut b = Builder::new(Format::Former, "former", [2, 3, 15, 15], 2);
    b.biased("conv1", "data", [6, 3, 3]);
    b.push(Layer::in_place("ReLU", "relu1", "conv1").params("relu_param", "negative_slope: 0.25"));
    b.halved("pool1", "conv1");
    b.biased("conv2", "pool1", [8, 6, 3]);
    b.push(Layer::in_place("ReLU", "relu2", "conv2"));
    let pool = Layer::new("Pooling", "pool2", &["conv2"]);
    b.push(pool.params("pooling_param", "pool: AVE kernel_size: 4 stride: 4"));
    b.classifier("pool2", [4, 32]);
    b.net
}

/// The input in the header, a parametric ReLU in place and one that is not.
fn parametric() -> Net {
    let mut b = Builder::new(Format::Headed, "parametric", [2, 3, 15, 15], 4);
    b.biased("conv1", "data", [6, 3, 3]);
    let slopes = b.weights.uniform(6, 0.05, 0.4);
    b.push(Layer::in_place("PReLU", "prelu1", "conv1").blobs([slopes]));
    b.halved("pool1", "conv1");
    b.biased("conv2", "pool1", [8, 6, 3]);
    let slopes = b.weights.uniform(8, 0.05, 0.4);
    b.push(Layer::new("PReLU", "prelu2", &["conv2"]).blobs([slopes]));
    b.global_average("prelu2");
    b.classifier("pool", [4, 8]);
    b.net
}

/// A scale that no layer can take, for it stands behind a pool and has a negative factor, and a dead channel.
fn scaled() -> Net {
    let mut b = Builder::new(Format::Current, "scaled", [1, 3, 16, 16], 3);
    let mut weight = b.weights.he(&[6, 3, 3, 3], 1.0);
    weight.data.iter_mut().skip(2 * 27).take(27).for_each(|number| *number = 0.0);
    let layer = Layer::new("Convolution", "conv1", &["data"]);
    b.push(layer.params("convolution_param", "num_output: 6 kernel_size: 3 bias_term: false").blobs([weight]));
    b.push(Layer::in_place("ReLU", "relu1", "conv1"));
    b.halved("pool1", "conv1");
    let mut factors = b.weights.uniform(6, 0.5, 1.5);
    factors.data.iter_mut().take(1).for_each(|factor| *factor = -*factor);
    let offsets = b.weights.uniform(6, -0.2, 0.2);
    let layer = Layer::new("Scale", "scale1", &["pool1"]).params("scale_param", "bias_term: true");
    b.push(layer.blobs([factors, offsets]));
    b.biased("conv2", "scale1", [8, 6, 3]);
    b.push(Layer::in_place("ReLU", "relu2", "conv2"));
    b.global_average("conv2");
    b.classifier("pool", [4, 8]);
    b.net
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_caffe::{CaffeDocument, ReadOptions, import};
    use quantize_document::{Limits, SourceFile};
    use std::sync::Arc;

    #[test]
    fn the_fixtures_are_those_made_here_and_read_without_remarks() {
        let folder = workspace::root().join(FOLDER);
        for fixture in FIXTURES {
            let [model, text] = fixture.files().map(|(file, bytes)| {
                assert!(fs::read(folder.join(&file)).unwrap() == bytes, "{file}: run `cargo xtask caffe-fixtures`");
                assert!(bytes.len() < 16 << 10, "{file} is not small");
                SourceFile::from_bytes(file, bytes)
            });
            let document = CaffeDocument::parse(text, model, &Limits::default(), &ReadOptions::default()).unwrap();
            assert_eq!(import(&Arc::new(document)).unwrap().1, [], "{}", fixture.name);
        }
    }
}
