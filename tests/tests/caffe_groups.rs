//! The default mode of `quantize caffe`: thresholds agree wherever codes of one layer meet those of another.
#![allow(clippy::unwrap_used)]

use quantize_caffe::xfdnn::{Entry, QuantizationFile};
use quantize_caffe::{CaffeDocument, Layer};
use quantize_tests::caffe::{NETWORKS, Network, sandbox_with, unprepared};
use quantize_tests::quantcfg::{activation_deviations, read, weight_deviation};
use quantize_tests::{counted, shared};
use std::collections::BTreeMap;
use std::path::Path;

/// Largest deviation of a threshold that is a maximum, and of those of weights.
const MAXIMUM: f64 = 1e-5;
/// Largest deviation of a threshold by divergence: the reference has a histogram of the whole batch whose bins follow
/// from its maximum, the streaming statistics one that is known before the maximum is. The divergence is flat, and the
/// bin next to the best may win.
const DIVERGENCE: f64 = 0.03;
/// Entries that a threshold by divergence differs by more than [`MAXIMUM`] in, at most: one tensor, written by one layer
/// and read by another.
const MOVED: usize = 2;

/// The file that the command makes of a network and the inputs of its reference; `None` if there are none.
fn quantized(network: &Network, shared: &Path, options: &str) -> Option<QuantizationFile> {
    let models = shared.join("models/caffe");
    let input = network.reference_input(&shared.join("golden/xfdnn"))?;
    let (sandbox, data) = (sandbox_with(&input), unprepared(input.shape()[1]));
    let dims: Vec<String> = input.shape()[1..].iter().map(ToString::to_string).collect();
    let line = format!(
        "caffe {} --calib data {data} --dims {} --override-dims -q -o out.json {options}",
        network.arguments(&models),
        dims.join(",")
    );
    assert_eq!(sandbox.quantize(&line).succeeded().stdout, "out.json\n", "{}", network.name);
    Some(read(&sandbox.path("out.json")))
}

#[test]
fn thresholds_are_those_of_the_reference() {
    let Some(shared) = shared() else { return };
    let mut compared = 0;
    for (method, largest, moved) in [("max", MAXIMUM, 0), ("kl", DIVERGENCE, MOVED)] {
        // The reference gives the network's results no more room than the method does.
        let options = format!("--method {method} --results range");
        let found = quantized(Network::named("tiny_mix"), &shared, &options).unwrap();
        let expected = read(&shared.join(format!("golden/xfdnn/tiny_mix/groups_{method}_v3_int8.json")));
        let apart = activation_deviations(&found, &expected);
        assert!(apart.values().all(|apart| *apart <= largest), "{method}: {apart:?}");
        assert!(apart.values().filter(|apart| **apart > MAXIMUM).count() <= moved, "{method}: {apart:?}");
        let (weights, channels) = weight_deviation(&found, &expected);
        assert!(weights <= MAXIMUM && channels > 0, "{method}: {weights:e}");
        compared += apart.len();
    }
    counted(compared, "layers of tiny_mix");
}

/// Layers that leave codes as they are, or vanish into the layer before them.
const PASS: &[&str] = &[
    "ReLU",
    "ReLU6",
    "BatchNorm",
    "Scale",
    "Bias",
    "Dropout",
    "Split",
    "Reshape",
    "Flatten",
    "Permute",
    "Slice",
    "Crop",
    "LRN",
    "Pooling",
];

/// What is known of blobs while the layers of a network are visited in order, and how often it was confirmed.
#[derive(Default)]
struct Walk<'d> {
    /// Thresholds of blobs; a blob that is real has none until a reader with an entry gives it one.
    thresholds: BTreeMap<&'d str, f64>,
    confirmed: usize,
}

impl<'d> Walk<'d> {
    /// A reader or writer of a blob has this threshold: so must everyone.
    fn meet(&mut self, place: &str, blob: &'d str, threshold: f64) {
        if let Some(known) = self.thresholds.insert(blob, threshold) {
            assert_eq!(known, threshold, "{place}: blob `{blob}`");
            self.confirmed += 1;
        }
    }

    /// The threshold that all blobs with one share.
    fn shared(&mut self, place: &str, blobs: &'d [String]) -> Option<f64> {
        let known = blobs.iter().filter_map(|blob| self.thresholds.get(blob.as_str()).copied());
        let known: Vec<f64> = known.collect();
        assert!(known.iter().all(|threshold| *threshold == known[0]), "{place}: {blobs:?} have {known:?}");
        self.confirmed += known.len().saturating_sub(1);
        known.first().copied()
    }

    fn visit(&mut self, layer: &'d Layer, entry: Option<&Entry>) {
        let place = format!("layer `{}`", layer.name);
        let output = match entry {
            Some(entry) => {
                layer.bottoms.iter().for_each(|blob| self.meet(&place, blob, entry.th_layer_in));
                Some(entry.th_layer_out)
            }
            None if layer.kind == "Concat" || is_pass_through(layer) => self.shared(&place, &layer.bottoms),
            None => None,
        };
        for top in &layer.tops {
            self.thresholds.remove(top.as_str());
            if let Some(threshold) = output {
                self.thresholds.insert(top, threshold);
            }
        }
    }
}

/// A pooling without an entry takes maxima, and a ReLU with a slope runs on reals.
fn is_pass_through(layer: &Layer) -> bool {
    let slope = layer.params.merged("relu_param").and_then(|relu| relu.scalar("negative_slope")?.as_f32());
    PASS.contains(&layer.kind.as_str()) && slope.is_none_or(|slope| slope == 0.0)
}

fn confirmed(document: &CaffeDocument, file: &QuantizationFile) -> usize {
    let mut walk = Walk::default();
    document.layers().iter().for_each(|layer| walk.visit(layer, file.entry(&layer.name)));
    walk.confirmed
}

#[test]
fn every_layer_reads_codes_as_they_were_written() {
    let Some(shared) = shared() else { return };
    let models = shared.join("models/caffe");
    let (mut networks, mut edges) = (0, 0);
    for network in NETWORKS.iter().filter(|network| models.join(network.prototxt).exists()) {
        let Some(file) = quantized(network, &shared, "") else { continue };
        let input = network.reference_input(&shared.join("golden/xfdnn")).unwrap();
        let document = network.document(&models, input.shape()[1..].try_into().unwrap());
        edges += confirmed(&document, &file);
        networks += 1;
    }
    counted(networks, "networks");
    counted(edges, "pairs of readers and writers");
}
