//! A network put together layer by layer: nodes, and constants with random elements. Images are NHWC.

use quantize_tensorflow::{Attr, DataType, GraphDef, NodeDef, PartialShape, TensorProto};

use crate::random::{Random, he_deviation};

/// Factors of normalization, and the variances that it divides by, are within this of 1: the size of activations stays.
const SPREAD: f32 = 0.2;
/// Shifts, means and biases are within this, plus and minus: small beside activations, whose size is about one.
const SHIFT: f32 = 0.1;
/// What is added to variances.
const EPSILON: f32 = 1.001e-5;

/// A value `[images, side, side, channels]`, or `[images, channels]`.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) name: String,
    pub(super) channels: usize,
}

/// A convolution without bias, with a normalization behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Convolution {
    pub(super) outputs: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    /// Factor of the weights' deviation.
    pub(super) gain: f32,
}

/// A convolution with stride 1.
pub(super) const fn plain(outputs: usize, kernel: usize) -> Convolution {
    Convolution { outputs, kernel, stride: 1, gain: 1.0 }
}

/// A network on its way.
pub(super) struct Builder {
    nodes: Vec<NodeDef>,
    random: Random,
}

impl Builder {
    /// A network that reads images of this side and so many channels from a placeholder.
    pub(super) fn new(seed: u32, input: &str, (side, channels): (usize, usize)) -> (Self, Flow) {
        let dims = [None, Some(side), Some(side), Some(channels)];
        let shape = PartialShape::Known(dims.iter().map(|dim| dim.map(|dim| dim as u64)).collect());
        let placeholder =
            NodeDef::new(input, "Placeholder").with_attr("dtype", DataType::FLOAT).with_attr("shape", shape);
        (Self { nodes: vec![placeholder], random: Random::new(seed) }, Flow { name: input.to_owned(), channels })
    }

    /// A convolution and its normalization. With a stride it reads values padded by half of its kernel, which a kernel
    /// of 1 has no need of.
    pub(super) fn convolution(&mut self, name: &str, from: &Flow, c: Convolution) -> Flow {
        let padded = c.stride > 1 && c.kernel > 1;
        let read = if padded { self.pad(&format!("{name}/pad"), &from.name, c.kernel / 2) } else { from.name.clone() };
        let shape = [c.kernel, c.kernel, from.channels, c.outputs];
        let deviation = he_deviation(c.kernel * c.kernel * from.channels, c.gain);
        let count = shape.iter().product();
        let elements = (0..count).map(|_| deviation * self.random.normal()).collect();
        let weights = self.floats(&format!("{name}/weights"), &shape, elements);
        let result = self.node("Conv2D", &format!("{name}/conv"), &[&read, &weights]);
        let stride = c.stride as i64;
        self.set("strides", vec![1, stride, stride, 1]);
        self.set("dilations", vec![1, 1, 1, 1]);
        self.set("padding", if padded { "VALID" } else { "SAME" });
        self.set("data_format", "NHWC");
        Flow { name: self.normalization(&format!("{name}/bn"), &result, c.outputs), channels: c.outputs }
    }

    fn normalization(&mut self, name: &str, from: &str, channels: usize) -> String {
        let around = |centre: f32, spread: f32| (centre - spread, centre + spread);
        let parts = [
            ("gamma", around(1.0, SPREAD)),
            ("beta", around(0.0, SHIFT)),
            ("mean", around(0.0, SHIFT)),
            ("variance", around(1.0, SPREAD)),
        ];
        let parts = parts.map(|(part, bounds)| self.within(&format!("{name}/{part}"), channels, bounds));
        let [gamma, beta, mean, variance] = parts.each_ref().map(String::as_str);
        let result = self.node("FusedBatchNormV3", name, &[from, gamma, beta, mean, variance]);
        self.set("U", DataType::FLOAT);
        self.set("epsilon", EPSILON);
        self.set("is_training", false);
        self.set("data_format", "NHWC");
        result
    }

    fn pad(&mut self, name: &str, from: &str, by: usize) -> String {
        let by = by as i32;
        let paddings = self.integers(&format!("{name}/paddings"), &[4, 2], &[0, 0, by, by, by, by, 0, 0]);
        let result = self.node("Pad", name, &[from, &paddings]);
        self.set("Tpaddings", DataType::INT32);
        result
    }

    pub(super) fn relu(&mut self, name: &str, from: &Flow) -> Flow {
        Flow { name: self.node("Relu", name, &[&from.name]), ..from.clone() }
    }

    /// The sum of two values.
    pub(super) fn add(&mut self, name: &str, a: &Flow, b: &Flow) -> Flow {
        Flow { name: self.node("AddV2", name, &[&a.name, &b.name]), ..a.clone() }
    }

    /// Max pooling with a kernel of 3 and stride 2.
    pub(super) fn max_pool(&mut self, name: &str, from: &Flow) -> Flow {
        let result = self.node("MaxPool", name, &[&from.name]);
        self.set("ksize", vec![1, 3, 3, 1]);
        self.set("strides", vec![1, 2, 2, 1]);
        self.set("padding", "SAME");
        self.set("data_format", "NHWC");
        Flow { name: result, ..from.clone() }
    }

    /// The mean of each channel.
    pub(super) fn mean(&mut self, name: &str, from: &Flow) -> Flow {
        let axes = self.integers(&format!("{name}/axes"), &[2], &[1, 2]);
        let result = self.node("Mean", name, &[&from.name, &axes]);
        self.set("Tidx", DataType::INT32);
        self.set("keep_dims", false);
        Flow { name: result, ..from.clone() }
    }

    /// A matrix product with a bias, of what [`Builder::mean`] gave.
    pub(super) fn dense(&mut self, name: &str, from: &Flow, outputs: usize) {
        let deviation = he_deviation(from.channels, 1.0);
        let elements = (0..from.channels * outputs).map(|_| deviation * self.random.normal()).collect();
        let weights = self.floats(&format!("{name}/weights"), &[from.channels, outputs], elements);
        let product = self.node("MatMul", &format!("{name}/product"), &[&from.name, &weights]);
        self.set("transpose_a", false);
        self.set("transpose_b", false);
        let bias = self.within(&format!("{name}/bias"), outputs, (-SHIFT, SHIFT));
        self.node("BiasAdd", name, &[&product, &bias]);
        self.set("data_format", "NHWC");
    }

    /// The network with probabilities behind its scores.
    pub(super) fn finish(mut self, name: &str, scores: &str) -> GraphDef {
        self.node("Softmax", name, &[scores]);
        GraphDef::new(self.nodes)
    }

    /// Appends a node that computes on real numbers, and returns its name.
    fn node(&mut self, op: &str, name: &str, inputs: &[&str]) -> String {
        let node = NodeDef::new(name, op).with_inputs(inputs.iter().copied()).with_attr("T", DataType::FLOAT);
        self.nodes.push(node);
        name.to_owned()
    }

    /// Sets an attribute of the last node.
    fn set(&mut self, name: &str, value: impl Into<Attr>) {
        if let Some(node) = self.nodes.last_mut() {
            node.set_attr(name, value);
        }
    }

    /// Random numbers between two bounds, for each channel one.
    fn within(&mut self, name: &str, channels: usize, (low, high): (f32, f32)) -> String {
        let elements = (0..channels).map(|_| self.random.between(low, high)).collect();
        self.floats(name, &[channels], elements)
    }

    fn floats(&mut self, name: &str, shape: &[usize], elements: Vec<f32>) -> String {
        let raw: Vec<u8> = elements.into_iter().flat_map(f32::to_le_bytes).collect();
        self.constant(name, DataType::FLOAT, shape, &raw)
    }

    fn integers(&mut self, name: &str, shape: &[usize], elements: &[i32]) -> String {
        let raw: Vec<u8> = elements.iter().flat_map(|element| element.to_le_bytes()).collect();
        self.constant(name, DataType::INT32, shape, &raw)
    }

    fn constant(&mut self, name: &str, dtype: DataType, shape: &[usize], raw: &[u8]) -> String {
        let tensor = TensorProto::from_raw(dtype, shape, raw).expect("as many elements as the shape has");
        self.nodes.push(NodeDef::constant(name, tensor));
        name.to_owned()
    }
}
