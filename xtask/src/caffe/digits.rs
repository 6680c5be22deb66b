//! The example of `quantize demo` in Caffe's format, made from its ONNX model: the same numbers in the layers that a
//! Caffe user would have trained, with batch normalization unfolded and a softmax at the end.

use super::net::{Blob, Format, Layer, Net};
use crate::error::Result;
use crate::example::{self, Step, square};
use quantize_document::OutputSet;
use quantize_ir::op::behaviour::clip_limits;
use quantize_ir::op::{BatchNorm, Binary, Conv, GlobalPool, MaxPool, Unary};
use quantize_ir::{Graph, Node, Op, ValueId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const PROTOTXT: &str = "digits.prototxt";
const CAFFEMODEL: &str = "digits.caffemodel";
/// One grey picture.
const INPUT: [usize; 4] = [1, 1, 16, 16];

/// Writes the two files beside the model.
///
/// # Errors
///
/// If the model cannot be read or has an operator that is not in the table here, or a file cannot be written.
pub(crate) fn write() -> Result<Vec<PathBuf>> {
    let folder = example::folder();
    let net = network(&example::model())?;
    let mut outputs = OutputSet::new();
    outputs.add_bytes(folder.join(CAFFEMODEL), net.caffemodel());
    outputs.add_bytes(folder.join(PROTOTXT), net.prototxt().into_bytes());
    Ok(outputs.commit()?)
}

fn network(model: &Path) -> Result<Net> {
    let graph = example::graph(model)?;
    let mut converter =
        Converter { graph: &graph, blobs: BTreeMap::new(), net: Net::new(Format::Current, "digits", INPUT) };
    converter.convert().map_err(|cause| example::wrong(model, cause))?;
    Ok(converter.net)
}

struct Converter<'g> {
    graph: &'g Graph,
    /// The blob each value is in.
    blobs: BTreeMap<ValueId, String>,
    net: Net,
}

impl Converter<'_> {
    fn convert(&mut self) -> Step<()> {
        let [input] = self.graph.inputs() else { return Err("it does not have one input".into()) };
        self.blobs.insert(*input, "data".into());
        let order = self.graph.topological_order().map_err(|error| error.to_string())?;
        for node in order.into_iter().filter_map(|id| self.graph.node(id)) {
            let blob = self.node(node).map_err(|cause| format!("node `{}`: {cause}", node.name))?;
            let result = node.output(0).ok_or_else(|| format!("node `{}` has no result", node.name))?;
            self.blobs.insert(result, blob);
        }
        let [output] = self.graph.outputs() else { return Err("it does not have one output".into()) };
        let logits = self.blob(*output)?;
        self.net.push(&Layer::new("Softmax", "prob", &[&logits]));
        Ok(())
    }

    /// Writes the layers of a node and returns the blob of its result.
    fn node(&mut self, node: &Node) -> Step<String> {
        let name = node.name.replace('.', "/");
        let x = self.blob(node.input(0).ok_or("it reads nothing")?)?;
        match &node.op {
            Op::Conv(op) => self.convolution(node, op, &name, &x),
            Op::BatchNorm(op) => self.batch_norm(node, *op, &name, &x),
            Op::Clip if clip_limits(self.graph, node) == Some((0.0, 6.0)) => self.in_place("ReLU6", node, &name, &x),
            Op::Unary(Unary::Relu) => self.in_place("ReLU", node, &name, &x),
            Op::MaxPool(op) => self.max_pool(op, &name, &x),
            Op::GlobalPool(GlobalPool::Average) => {
                let layer = Layer::new("Pooling", &name, &[&x]);
                Ok(self.push(&layer.params("pooling_param", "pool: AVE global_pooling: true"), name))
            }
            Op::Binary(Binary::Add) => {
                let other = self.blob(node.input(1).ok_or("it adds nothing")?)?;
                let layer = Layer::new("Eltwise", &name, &[&x, &other]).params("eltwise_param", "operation: SUM");
                Ok(self.push(&layer, name))
            }
            // Fully connected layers flatten what they read.
            Op::Flatten(_) => Ok(x),
            Op::Gemm(op) if op.trans_b && !op.trans_a && op.alpha == 1.0 && op.beta == 1.0 => {
                let (weight, bias) = (self.constant(node, 1)?, self.constant(node, 2)?);
                let fields = format!("num_output: {}", bias.data.len());
                let layer = Layer::new("InnerProduct", &name, &[&x]).params("inner_product_param", &fields);
                Ok(self.push(&layer.blobs([weight, bias]), name))
            }
            other => Err(format!("{} is not converted", other.name())),
        }
    }

    fn push(&mut self, layer: &Layer, blob: String) -> String {
        self.net.push(layer);
        blob
    }

    fn blob(&self, value: ValueId) -> Step<String> {
        self.blobs.get(&value).cloned().ok_or_else(|| format!("nothing computes `{}`", self.graph.value(value).name))
    }

    fn constant(&self, node: &Node, slot: usize) -> Step<Blob> {
        let tensor = example::constant(self.graph, node, slot)?;
        let data = tensor.as_slice::<f32>().map_err(|error| error.to_string())?.to_vec();
        Ok(Blob { shape: tensor.shape().to_vec(), data })
    }

    /// A layer that overwrites what it reads, which it may as its only reader.
    fn in_place(&mut self, kind: &'static str, node: &Node, name: &str, x: &str) -> Step<String> {
        self.check_alone(node)?;
        Ok(self.push(&Layer::in_place(kind, name, x), x.to_owned()))
    }

    fn check_alone(&self, node: &Node) -> Step<()> {
        let alone = node.input(0).and_then(|value| self.graph.sole_consumer(value));
        alone.map(|_| ()).ok_or_else(|| "another node reads what it would overwrite".into())
    }

    fn convolution(&mut self, node: &Node, op: &Conv, name: &str, x: &str) -> Step<String> {
        let weight = self.constant(node, 1)?;
        let &[outputs, _, kernel, width] = weight.shape.as_slice() else { return Err("its window is not flat".into()) };
        let (pad, stride) = square(&op.window)?;
        if kernel != width || node.input(2).is_some() {
            return Err("its window is not square, or it has a bias".into());
        }
        let optional = [("pad", pad, 0), ("stride", stride, 1), ("group", op.group, 1)];
        let mut fields = format!("num_output: {outputs} bias_term: false kernel_size: {kernel}");
        for (field, value, default) in optional {
            if value != default {
                fields.push_str(&format!(" {field}: {value}"));
            }
        }
        let layer = Layer::new("Convolution", name, &[x]).params("convolution_param", &fields).blobs([weight]);
        Ok(self.push(&layer, name.to_owned()))
    }

    /// Caffe normalizes in one layer and scales in another.
    fn batch_norm(&mut self, node: &Node, op: BatchNorm, name: &str, x: &str) -> Step<String> {
        self.check_alone(node)?;
        let [gamma, beta, mean, variance] =
            [self.constant(node, 1)?, self.constant(node, 2)?, self.constant(node, 3)?, self.constant(node, 4)?];
        let fields = format!("use_global_stats: true eps: {:e}", op.epsilon);
        let statistics = [mean, variance, Blob::vector(vec![1.0])];
        let normalization = Layer::in_place("BatchNorm", name, x).params("batch_norm_param", &fields);
        self.net.push(&normalization.blobs(statistics));
        let scale = match name.strip_suffix("bn") {
            Some(front) => format!("{front}scale"),
            None => format!("{name}/scale"),
        };
        let scale = Layer::in_place("Scale", &scale, x).params("scale_param", "bias_term: true");
        Ok(self.push(&scale.blobs([gamma, beta]), x.to_owned()))
    }

    fn max_pool(&mut self, op: &MaxPool, name: &str, x: &str) -> Step<String> {
        let (pad, stride) = square(&op.window)?;
        let [kernel, width] = *op.kernel.as_slice() else { return Err("its window is not flat".into()) };
        if kernel != width || pad != 0 {
            return Err("its window is not square, or it has a border".into());
        }
        let fields = format!("pool: MAX kernel_size: {kernel} stride: {stride}");
        let layer = Layer::new("Pooling", name, &[x]).params("pooling_param", &fields);
        Ok(self.push(&layer, name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_files_of_the_example_are_those_made_here() {
        let folder = example::folder();
        let net = network(&example::model()).unwrap();
        assert_eq!(fs::read_to_string(folder.join(PROTOTXT)).unwrap(), net.prototxt());
        assert!(fs::read(folder.join(CAFFEMODEL)).unwrap() == net.caffemodel(), "run `cargo xtask demo-caffe`");
    }
}
