//! GoogLeNet v1 as BVLC published it for deployment (Szegedy et al. 2014, "Going Deeper with Convolutions", table 1),
//! without its two LRN layers and without auxiliary classifiers: the network that the example of the xfDNN quantizer's
//! manual names. Names and sizes are the published ones; the weights are random.

use super::net::{Blob, Format, Layer, Net};
use super::random::Weights;
use crate::error::{Result, at};
use quantize_document::OutputSet;
use std::fs;
use std::path::{Path, PathBuf};

const SEED: u32 = 1409;
const INPUT: [usize; 4] = [10, 3, 224, 224];
const CLASSES: usize = 1000;
/// Biases are within this, plus and minus: small beside activations of the size of pixels.
const BIAS: f32 = 0.5;
/// Makes logits, which would be of the size of pixels, a few units.
const CLASSIFIER_GAIN: f32 = 0.05;

const PROTOTXT: &str = "bvlc_googlenet_without_lrn_deploy.prototxt";
const CAFFEMODEL: &str = "bvlc_googlenet_without_lrn.caffemodel";
/// Where the commands of the manual's example look for the network.
const NETWORK_FOLDER: &str = "models/caffe/bvlc_googlenet_without_lrn/fp32";
/// Other folders that the example names: its images, and where it is started.
const OTHER_FOLDERS: [&str; 2] = ["models/data/ilsvrc12/ilsvrc12_img_cal", "xfdnn/tools/quantize"];

/// A part of the network, which reads the part before it.
enum Part {
    /// A convolution and a ReLU.
    Convolution(Convolution),
    /// Max pooling, 3x3 with stride 2.
    Pool(&'static str),
    /// Four branches whose results are put together.
    Inception(Inception),
}

struct Convolution {
    /// `<module>/<name>` is the layer's name.
    module: &'static str,
    name: &'static str,
    /// The ReLU's name within the module.
    relu: &'static str,
    outputs: usize,
    kernel: usize,
    pad: usize,
    stride: usize,
}

struct Inception {
    module: &'static str,
    one: usize,
    three_reduce: usize,
    three: usize,
    five_reduce: usize,
    five: usize,
    pool: usize,
}

const fn inception(module: &'static str, outputs: [usize; 6]) -> Part {
    let [one, three_reduce, three, five_reduce, five, pool] = outputs;
    Part::Inception(Inception { module, one, three_reduce, three, five_reduce, five, pool })
}

const STEM: Convolution =
    Convolution { module: "conv1", name: "7x7_s2", relu: "relu_7x7", outputs: 64, kernel: 7, pad: 3, stride: 2 };

/// Outputs of an inception module: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection.
const NETWORK: &[Part] = &[
    Part::Convolution(STEM),
    Part::Pool("pool1/3x3_s2"),
    Part::Convolution(plain("conv2", "3x3_reduce", "relu_3x3_reduce", 64, 1)),
    Part::Convolution(plain("conv2", "3x3", "relu_3x3", 192, 3)),
    Part::Pool("pool2/3x3_s2"),
    inception("inception_3a", [64, 96, 128, 16, 32, 32]),
    inception("inception_3b", [128, 128, 192, 32, 96, 64]),
    Part::Pool("pool3/3x3_s2"),
    inception("inception_4a", [192, 96, 208, 16, 48, 64]),
    inception("inception_4b", [160, 112, 224, 24, 64, 64]),
    inception("inception_4c", [128, 128, 256, 24, 64, 64]),
    inception("inception_4d", [112, 144, 288, 32, 64, 64]),
    inception("inception_4e", [256, 160, 320, 32, 128, 128]),
    Part::Pool("pool4/3x3_s2"),
    inception("inception_5a", [256, 160, 320, 32, 128, 128]),
    inception("inception_5b", [384, 192, 384, 48, 128, 128]),
];

/// A convolution with stride 1 that keeps height and width.
const fn plain(
    module: &'static str,
    name: &'static str,
    relu: &'static str,
    outputs: usize,
    kernel: usize,
) -> Convolution {
    Convolution { module, name, relu, outputs, kernel, pad: kernel / 2, stride: 1 }
}

/// Writes the network into `folder`; with `tree`, into the folders below it that the manual's example names.
///
/// # Errors
///
/// If a folder or file cannot be written.
pub(crate) fn write(folder: &Path, tree: bool) -> Result<Vec<PathBuf>> {
    let place = if tree { folder.join(NETWORK_FOLDER) } else { folder.to_owned() };
    let others = OTHER_FOLDERS.iter().filter(|_| tree).map(|other| folder.join(other));
    for folder in others.chain([place.clone()]) {
        fs::create_dir_all(&folder).map_err(at(&folder))?;
    }
    let net = network();
    let mut outputs = OutputSet::new();
    outputs.add_bytes(place.join(CAFFEMODEL), net.caffemodel());
    outputs.add_bytes(place.join(PROTOTXT), net.prototxt().into_bytes());
    Ok(outputs.commit()?)
}

fn network() -> Net {
    let layers = layers();
    let mut net = Net::new(Format::Current, "GoogleNet", INPUT);
    layers.iter().for_each(|layer| net.push(layer));
    net
}

fn layers() -> Vec<Layer> {
    let [_, channels, _, _] = INPUT;
    let mut builder = Builder { layers: Vec::new(), weights: Weights::new(SEED) };
    let mut flow = Flow { blob: "data".into(), channels };
    for part in NETWORK {
        flow = match part {
            Part::Convolution(convolution) => builder.convolution(&flow, convolution),
            Part::Pool(name) => builder.pool(&flow, name, "pool: MAX kernel_size: 3 stride: 2"),
            Part::Inception(inception) => builder.inception(&flow, inception),
        };
    }
    builder.classifier(&flow);
    builder.layers
}

/// A blob and the number of its channels.
struct Flow {
    blob: String,
    channels: usize,
}

struct Builder {
    layers: Vec<Layer>,
    weights: Weights,
}

impl Builder {
    fn convolution(&mut self, from: &Flow, c: &Convolution) -> Flow {
        let name = format!("{}/{}", c.module, c.name);
        let pad = if c.pad > 0 { format!(" pad: {}", c.pad) } else { String::new() };
        let stride = if c.stride > 1 { format!(" stride: {}", c.stride) } else { String::new() };
        let fields = format!("num_output: {}{pad} kernel_size: {}{stride}", c.outputs, c.kernel);
        let blobs = self.filled(&[c.outputs, from.channels, c.kernel, c.kernel], 1.0);
        let layer = Layer::new("Convolution", &name, &[&from.blob]).params("convolution_param", &fields);
        self.layers.push(layer.blobs(blobs));
        self.layers.push(Layer::in_place("ReLU", &format!("{}/{}", c.module, c.relu), &name));
        Flow { blob: name, channels: c.outputs }
    }

    fn filled(&mut self, shape: &[usize], gain: f32) -> [Blob; 2] {
        let outputs = shape.first().copied().unwrap_or(0);
        [self.weights.he(shape, gain), self.weights.uniform(outputs, -BIAS, BIAS)]
    }

    fn pool(&mut self, from: &Flow, name: &str, fields: &str) -> Flow {
        self.layers.push(Layer::new("Pooling", name, &[&from.blob]).params("pooling_param", fields));
        Flow { blob: name.into(), channels: from.channels }
    }

    fn inception(&mut self, from: &Flow, i: &Inception) -> Flow {
        let module = i.module;
        let one = self.convolution(from, &plain(module, "1x1", "relu_1x1", i.one, 1));
        let reduced = self.convolution(from, &plain(module, "3x3_reduce", "relu_3x3_reduce", i.three_reduce, 1));
        let three = self.convolution(&reduced, &plain(module, "3x3", "relu_3x3", i.three, 3));
        let reduced = self.convolution(from, &plain(module, "5x5_reduce", "relu_5x5_reduce", i.five_reduce, 1));
        let five = self.convolution(&reduced, &plain(module, "5x5", "relu_5x5", i.five, 5));
        let pooled = self.pool(from, &format!("{module}/pool"), "pool: MAX kernel_size: 3 stride: 1 pad: 1");
        let projected = self.convolution(&pooled, &plain(module, "pool_proj", "relu_pool_proj", i.pool, 1));
        let branches = [one, three, five, projected];
        let output = format!("{module}/output");
        self.layers.push(Layer::new("Concat", &output, &branches.each_ref().map(|branch| branch.blob.as_str())));
        Flow { blob: output, channels: branches.iter().map(|branch| branch.channels).sum() }
    }

    fn classifier(&mut self, from: &Flow) {
        let pooled = self.pool(from, "pool5/7x7_s1", "pool: AVE kernel_size: 7 stride: 1");
        let dropout = Layer::in_place("Dropout", "pool5/drop_7x7_s1", &pooled.blob);
        self.layers.push(dropout.params("dropout_param", "dropout_ratio: 0.4"));
        let blobs = self.filled(&[CLASSES, pooled.channels], CLASSIFIER_GAIN);
        let classifier = Layer::new("InnerProduct", "loss3/classifier", &[&pooled.blob]);
        let fields = format!("num_output: {CLASSES}");
        self.layers.push(classifier.params("inner_product_param", &fields).blobs(blobs));
        self.layers.push(Layer::new("Softmax", "prob", &["loss3/classifier"]));
    }
}

#[cfg(test)]
mod tests;
