//! A Caffe network small enough to be damaged at will: one layer of every kind that has an entry.

use crate::caffe::{blob, stored};
use crate::sandbox::Sandbox;

/// The description. The input is that of the images of the fixtures; `gain` cannot be folded.
const PROTOTXT: &str = r#"name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 16 dim: 16 } } }
layer {
  name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 bias_term: false }
}
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "conv1" bottom: "conv2" top: "sum" eltwise_param { operation: SUM } }
layer { name: "gain" type: "Scale" bottom: "sum" top: "gain" }
layer { name: "pool" type: "Pooling" bottom: "gain" top: "pool" pooling_param { pool: AVE kernel_size: 4 stride: 4 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"#;

/// Weights of a layer: shape and numbers of each blob.
type Blobs = Vec<(Vec<u64>, Vec<f32>)>;

/// A network that can still be changed.
#[derive(Clone, Debug)]
pub struct SmallNet {
    /// The description.
    pub prototxt: String,
    /// Weights by layer, in order.
    pub layers: Vec<(&'static str, Blobs)>,
}

impl SmallNet {
    /// The network as it should be.
    #[must_use]
    pub fn new() -> Self {
        let layers = vec![
            ("conv1", vec![wave(&[4, 3, 3, 3], 0.2)]),
            ("bn1", vec![wave(&[4], 8.0), (vec![4], vec![900.0, 1600.0, 400.0, 2500.0]), (vec![1], vec![1.0])]),
            ("scale1", vec![(vec![4], vec![1.5, 0.75, 1.25, 2.0]), (vec![4], vec![0.5, 0.25, 1.0, -0.25])]),
            ("conv2", vec![wave(&[4, 4, 1, 1], 0.9), wave(&[4], 0.3)]),
            ("gain", vec![(vec![4], vec![0.5, -1.5, 2.0, 0.75])]),
            ("fc", vec![wave(&[3, 64], 0.4), wave(&[3], 0.1)]),
        ];
        Self { prototxt: PROTOTXT.to_owned(), layers }
    }

    /// The weights of a layer.
    ///
    /// # Panics
    /// If it has none.
    pub fn blobs(&mut self, layer: &str) -> &mut Blobs {
        &mut self.layers.iter_mut().find(|(name, _)| *name == layer).expect("a layer with weights").1
    }

    /// Replaces a part of the description that occurs in it.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn with(mut self, old: &str, new: &str) -> Self {
        assert!(self.prototxt.contains(old), "no `{old}` in the description");
        self.prototxt = self.prototxt.replace(old, new);
        self
    }

    /// Writes `net.prototxt` and `net.caffemodel`.
    pub fn write(&self, sandbox: &Sandbox) {
        sandbox.write("net.prototxt", &self.prototxt);
        sandbox.write("net.caffemodel", self.caffemodel());
    }

    /// A folder with the images of the fixtures and this network.
    #[must_use]
    pub fn sandbox(&self) -> Sandbox {
        let sandbox = Sandbox::new();
        self.write(&sandbox);
        sandbox
    }

    fn caffemodel(&self) -> Vec<u8> {
        let layer = |(name, blobs): &(&str, Blobs)| {
            let blobs: Vec<Vec<u8>> = blobs.iter().map(|(shape, data)| blob(shape, data)).collect();
            stored(name, &blobs)
        };
        self.layers.iter().flat_map(layer).collect()
    }
}

impl Default for SmallNet {
    fn default() -> Self {
        Self::new()
    }
}

/// Numbers of both signs up to `amplitude` that do not repeat.
fn wave(shape: &[u64], amplitude: f32) -> (Vec<u64>, Vec<f32>) {
    let count: u64 = shape.iter().product();
    // The golden ratio's multiples spread evenly over the unit interval.
    let number = |k: u64| amplitude * (2.0 * ((k + 1) as f32 * 0.618_034).fract() - 1.0);
    (shape.to_vec(), (0..count).map(number).collect())
}
