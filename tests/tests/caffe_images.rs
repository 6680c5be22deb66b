//! From image files to blobs: open_nsfw on the images that Caffe saw, prepared by us.
//!
//! What differs from Caffe's run is the decoder of JPEG files: 0.3 of 255 levels on average, up to 4 at edges of colour
//! (`caffe_data.rs` checks as much). What that becomes behind fifty convolutions has no bound worth the name, so the
//! tolerances here are twice what was found. On the reference's own inputs `caffe_fp32.rs` is as near as two runtimes.
#![allow(clippy::unwrap_used)]

use quantize_calib::{ImageFolder, Limits, Size, Transformer};
use quantize_ir::{Graph, Tensor};
use quantize_tests::caffe::{Network, run};
use quantize_tests::{counted, shared};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Largest difference of a logit, ln(p / (1 - p)) of the probability p.
const LOGIT: f64 = 0.2;
/// Largest difference of the mean magnitude of a blob, as a part of it.
const MEAN: f64 = 6e-3;
/// Largest difference of an extreme of a blob, as a part of its largest magnitude.
const EXTREME: f64 = 2e-2;

/// Statistics of a blob over all images.
#[derive(Clone, Copy, Default)]
struct Statistics {
    magnitudes: f64,
    count: usize,
    min: f32,
    max: f32,
}

impl Statistics {
    fn add(&mut self, data: &[f32]) {
        if self.count == 0 {
            (self.min, self.max) = (f32::INFINITY, f32::NEG_INFINITY);
        }
        self.magnitudes += data.iter().map(|value| f64::from(value.abs())).sum::<f64>();
        self.count += data.len();
        self.min = data.iter().copied().fold(self.min, f32::min);
        self.max = data.iter().copied().fold(self.max, f32::max);
    }
}

/// An image of the folder as an input of the network.
fn prepared(folder: &ImageFolder, name: &str) -> Tensor {
    let at = folder.names().position(|known| known == name).unwrap();
    let sample = Transformer::new(3, Size::square(224)).apply(&folder.load(at).unwrap()).unwrap();
    Tensor::new(sample.dims.to_vec(), sample.data).unwrap()
}

/// What the network computes for the images, by blob, and its probabilities for each image.
fn computed(graph: &Graph, images: &[Tensor]) -> (BTreeMap<String, Statistics>, Vec<Vec<f32>>) {
    let (mut statistics, mut probabilities) = (BTreeMap::<String, Statistics>::new(), Vec::new());
    for image in images {
        let values = run(graph, image);
        for (name, value) in &values {
            statistics.entry(name.clone()).or_default().add(value.as_slice::<f32>().unwrap());
        }
        probabilities.push(values["prob"].as_slice::<f32>().unwrap().to_vec());
    }
    (statistics, probabilities)
}

fn logit(sfw: f64, nsfw: f64) -> f64 {
    (sfw / nsfw).ln()
}

#[test]
fn images_become_the_blobs_of_caffe() {
    let Some(shared) = shared() else { return };
    let text = std::fs::read(shared.join("golden/xfdnn/fp32/open_nsfw_fp32.json")).unwrap();
    let reference: Json = serde_json::from_slice(&text).unwrap();
    let folder = ImageFolder::open(shared.join("images/val"), Limits::default()).unwrap();
    let expected = reference["images"].as_array().unwrap();
    let images: Vec<Tensor> = expected.iter().map(|image| prepared(&folder, image["file"].as_str().unwrap())).collect();
    let graph = Network::named("open_nsfw").graph(&shared.join("models/caffe"), [3, 224, 224]);
    let (statistics, probabilities) = computed(&graph, &images);

    let number = |json: &Json, key: &str| json[key].as_f64().unwrap();
    for (expected, found) in expected.iter().zip(&probabilities) {
        let apart = logit(number(expected, "sfw"), number(expected, "nsfw")) - logit(found[0].into(), found[1].into());
        assert!(apart.abs() <= LOGIT, "{}: {apart} apart", expected["file"]);
    }
    counted(probabilities.len(), "images");

    let blobs = reference["blob_stats_over_10_images"].as_array().unwrap();
    for blob in blobs {
        let name = blob["blob"].as_str().unwrap();
        let found = statistics.get(name).unwrap_or_else(|| panic!("no value is called `{name}`"));
        let axes = blob["shape"].as_array().unwrap().iter().map(|axis| axis.as_u64().unwrap() as usize);
        assert_eq!(found.count, axes.product::<usize>(), "{name}");
        let (min, max, mean) = (number(blob, "min"), number(blob, "max"), number(blob, "abs_mean"));
        let largest = min.abs().max(max.abs());
        let mean_apart = (found.magnitudes / found.count as f64 - mean).abs() / mean;
        let extreme_apart = (f64::from(found.min) - min).abs().max((f64::from(found.max) - max).abs()) / largest;
        assert!(mean_apart <= MEAN && extreme_apart <= EXTREME, "{name}: {mean_apart:e} {extreme_apart:e}");
    }
    counted(blobs.len(), "blobs");
}
