//! A network put together operator by operator: nodes, the constants they read, and the shapes in between.

use super::CLASSES;
use super::file::{Constant, Elements, Model};
use crate::random::he_deviation;
use quantize_proto::onnx::attribute_proto::AttributeType;
use quantize_proto::onnx::{AttributeProto, NodeProto};

/// Height, width and channels of an image.
const INPUT: [usize; 3] = [224, 224, 3];
/// Biases are within this, plus and minus: small beside activations, whose size is about one.
const BIAS: f32 = 0.1;

/// A value `[1, channels, side, side]`.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) name: String,
    pub(super) channels: usize,
    pub(super) side: usize,
}

/// A convolution that pads by half of its kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Convolution {
    pub(super) outputs: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    /// Whether each channel is convolved by itself.
    pub(super) depthwise: bool,
    /// Factor of the weights' deviation.
    pub(super) gain: f32,
}

/// A convolution with stride 1.
pub(super) const fn plain(outputs: usize, kernel: usize) -> Convolution {
    Convolution { outputs, kernel, stride: 1, depthwise: false, gain: 1.0 }
}

/// What stands behind a convolution or matrix product.
#[derive(Clone, Copy, Debug)]
pub(super) enum Activation {
    None,
    Relu,
    /// `Clip` to 0 to 6.
    Relu6,
}

/// A network on its way.
pub(super) struct Builder {
    model: Model,
}

impl Builder {
    /// A network that reads an image.
    pub(super) fn new(name: &'static str, seed: u32) -> (Self, Flow) {
        let [height, width, channels] = INPUT;
        let input = ("image".to_owned(), vec![1, channels, height, width]);
        let flow = Flow { name: input.0.clone(), channels, side: height };
        let output = (String::new(), Vec::new());
        (Self { model: Model { name, seed, input, output, nodes: Vec::new(), constants: Vec::new() } }, flow)
    }

    /// A convolution with a bias.
    pub(super) fn convolution(&mut self, name: &str, from: &Flow, c: Convolution, activation: Activation) -> Flow {
        let (group, inputs) = if c.depthwise { (from.channels, 1) } else { (1, from.channels) };
        let weight = self.weight(name, &[c.outputs, inputs, c.kernel, c.kernel], c.gain);
        let bias = self.bias(name, c.outputs);
        let attributes = vec![
            ints("kernel_shape", &[c.kernel; 2]),
            ints("strides", &[c.stride; 2]),
            ints("pads", &[c.kernel / 2; 4]),
            int("group", group),
        ];
        let result = self.node("Conv", name, &[&from.name, &weight, &bias], attributes);
        let side = (from.side - 1) / c.stride + 1;
        Flow { name: self.activation(result, activation), channels: c.outputs, side }
    }

    /// Max pooling with stride 2.
    pub(super) fn max_pool(&mut self, name: &str, from: &Flow, kernel: usize, pad: usize) -> Flow {
        let attributes = vec![ints("kernel_shape", &[kernel; 2]), ints("strides", &[2; 2]), ints("pads", &[pad; 4])];
        let result = self.node("MaxPool", name, &[&from.name], attributes);
        Flow { name: result, channels: from.channels, side: (from.side + 2 * pad - kernel) / 2 + 1 }
    }

    /// The ReLU of a sum.
    pub(super) fn add(&mut self, name: &str, a: &Flow, b: &Flow) -> Flow {
        let sum = self.node("Add", name, &[&a.name, &b.name], Vec::new());
        Flow { name: self.activation(sum, Activation::Relu), ..a.clone() }
    }

    /// The mean of each channel.
    pub(super) fn average(&mut self, name: &str, from: &Flow) -> Flow {
        let result = self.node("GlobalAveragePool", name, &[&from.name], Vec::new());
        Flow { name: result, channels: from.channels, side: 1 }
    }

    /// All elements along one axis.
    pub(super) fn flatten(&mut self, name: &str, from: &Flow) -> Flow {
        let result = self.node("Flatten", name, &[&from.name], vec![int("axis", 1)]);
        Flow { name: result, channels: from.channels * from.side * from.side, side: 1 }
    }

    /// A matrix product with a bias, of what [`Builder::flatten`] gave.
    pub(super) fn dense(&mut self, name: &str, from: &Flow, outputs: usize, activation: Activation) -> Flow {
        let weight = self.weight(name, &[outputs, from.channels], 1.0);
        let bias = self.bias(name, outputs);
        let result = self.node("Gemm", name, &[&from.name, &weight, &bias], vec![int("transB", 1)]);
        Flow { name: self.activation(result, activation), channels: outputs, side: 1 }
    }

    /// The network whose result is a map of channels.
    pub(super) fn finish_map(mut self, result: &Flow) -> Model {
        self.model.output = (result.name.clone(), vec![1, result.channels, result.side, result.side]);
        self.model
    }

    /// The network whose results are the classes' scores, computed from a vector.
    pub(super) fn finish_classes(mut self, from: &Flow) -> Model {
        let scores = self.dense("classifier", from, CLASSES, Activation::None);
        self.model.output = (scores.name, vec![1, CLASSES]);
        self.model
    }

    fn weight(&mut self, layer: &str, shape: &[usize], gain: f32) -> String {
        let fan_in = shape.iter().skip(1).product();
        self.constant(format!("{layer}.weight"), shape, Elements::Normal(he_deviation(fan_in, gain)))
    }

    fn bias(&mut self, layer: &str, outputs: usize) -> String {
        self.constant(format!("{layer}.bias"), &[outputs], Elements::Within(BIAS))
    }

    /// Adds a constant unless there is one of that name, which is then the same.
    fn constant(&mut self, name: String, shape: &[usize], elements: Elements) -> String {
        if !self.model.constants.iter().any(|constant| constant.name == name) {
            self.model.constants.push(Constant { name: name.clone(), shape: shape.to_vec(), elements });
        }
        name
    }

    fn activation(&mut self, from: String, activation: Activation) -> String {
        match activation {
            Activation::None => from,
            Activation::Relu => self.node("Relu", &format!("{from}.relu"), &[&from], Vec::new()),
            Activation::Relu6 => {
                let low = self.constant("zero".into(), &[], Elements::Same(0.0));
                let high = self.constant("six".into(), &[], Elements::Same(6.0));
                self.node("Clip", &format!("{from}.relu6"), &[&from, &low, &high], Vec::new())
            }
        }
    }

    /// Appends a node and returns its result, which has the node's name.
    fn node(&mut self, kind: &str, name: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        self.model.nodes.push(NodeProto {
            name: Some(name.into()),
            op_type: Some(kind.into()),
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            output: vec![name.into()],
            attribute,
            ..NodeProto::default()
        });
        name.into()
    }
}

fn int(name: &str, value: usize) -> AttributeProto {
    let r#type = Some(AttributeType::Int as i32);
    AttributeProto { name: Some(name.into()), r#type, i: Some(value as i64), ..AttributeProto::default() }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let r#type = Some(AttributeType::Ints as i32);
    let ints = values.iter().map(|value| *value as i64).collect();
    AttributeProto { name: Some(name.into()), r#type, ints, ..AttributeProto::default() }
}
