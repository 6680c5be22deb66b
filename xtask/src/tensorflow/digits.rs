//! The example of `quantize demo` as a frozen TensorFlow graph, made from its ONNX model: the same numbers in the nodes
//! that a TensorFlow user would have, channels last, with batch normalization unfolded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quantize_document::OutputSet;
use quantize_ir::op::behaviour::clip_limits;
use quantize_ir::op::{BatchNorm, Binary, Conv, Gemm, GlobalPool, MaxPool, Unary};
use quantize_ir::{Graph, Node, Op, Tensor, ValueId};
use quantize_tensorflow::{DataType, GraphDef, NodeDef, PartialShape, TensorProto};

use super::serialized;
use crate::error::Result;
use crate::example::{self, Step, constant, square};

/// Name of the file.
const FILE: &str = "digits.pb";
/// Name of the node that is fed: grey pictures.
const INPUT: &str = "input";
/// Name of the node with the scores.
const OUTPUT: &str = "logits";
/// Side of a picture.
const SIDE: u64 = 16;

/// Writes the graph beside the model.
///
/// # Errors
///
/// If the model cannot be read or has an operator that is not in the table here, or the file cannot be written.
pub(crate) fn write_digits() -> Result<PathBuf> {
    let path = example::folder().join(FILE);
    let mut outputs = OutputSet::new();
    outputs.add_bytes(&path, serialized(&network(&example::model())?)?);
    outputs.commit()?;
    Ok(path)
}

fn network(model: &Path) -> Result<GraphDef> {
    let graph = example::graph(model)?;
    let mut converter = Converter { graph: &graph, names: BTreeMap::new(), nodes: Vec::new() };
    converter.convert().map_err(|cause| example::wrong(model, cause))?;
    Ok(GraphDef::new(converter.nodes))
}

struct Converter<'g> {
    graph: &'g Graph,
    /// The node that computes each value.
    names: BTreeMap<ValueId, String>,
    nodes: Vec<NodeDef>,
}

impl Converter<'_> {
    fn convert(&mut self) -> Step<()> {
        let ([input], [output]) = (self.graph.inputs(), self.graph.outputs()) else {
            return Err("it does not have one input and one output".into());
        };
        let shape = PartialShape::Known(vec![None, Some(SIDE), Some(SIDE), Some(1)]);
        let placeholder = NodeDef::new(INPUT, "Placeholder").with_attr("dtype", DataType::FLOAT);
        self.nodes.push(placeholder.with_attr("shape", shape));
        self.names.insert(*input, INPUT.into());
        let order = self.graph.topological_order().map_err(|error| error.to_string())?;
        for node in order.into_iter().filter_map(|id| self.graph.node(id)) {
            let result = node.output(0).ok_or_else(|| format!("node `{}` has no result", node.name))?;
            let name = if result == *output { OUTPUT.to_owned() } else { node.name.replace('.', "/") };
            let name = self.node(node, name).map_err(|cause| format!("node `{}`: {cause}", node.name))?;
            self.names.insert(result, name);
        }
        Ok(())
    }

    /// Writes the nodes that stand for one, and returns the name of the last.
    fn node(&mut self, node: &Node, name: String) -> Step<String> {
        let x = self.operand(node, 0)?;
        match &node.op {
            Op::Conv(op) => self.convolution(node, op, name, x),
            Op::BatchNorm(op) => self.normalization(node, *op, name, x),
            Op::Clip if clip_limits(self.graph, node) == Some((0.0, 6.0)) => Ok(self.push("Relu6", name, &[&x])),
            Op::Unary(Unary::Relu) => Ok(self.push("Relu", name, &[&x])),
            Op::Binary(Binary::Add) => {
                let other = self.operand(node, 1)?;
                Ok(self.push("AddV2", name, &[&x, &other]))
            }
            Op::MaxPool(op) => self.max_pool(op, name, x),
            Op::GlobalPool(GlobalPool::Average) => {
                let axes = self.constant(&format!("{name}/axes"), DataType::INT32, &Tensor::vector(vec![1i32, 2]))?;
                let name = self.push("Mean", name, &[&x, &axes]);
                self.with("keep_dims", false);
                Ok(name)
            }
            // The mean has left images and channels.
            Op::Flatten(_) => Ok(x),
            Op::Gemm(op) => self.dense(node, *op, name, x),
            other => Err(format!("{} is not converted", other.name())),
        }
    }

    fn operand(&self, node: &Node, slot: usize) -> Step<String> {
        let value = node.input(slot).ok_or_else(|| format!("operand {slot} is missing"))?;
        self.names.get(&value).cloned().ok_or_else(|| format!("nothing computes `{}`", self.graph.value(value).name))
    }

    fn push(&mut self, op: &str, name: String, inputs: &[&str]) -> String {
        let node = NodeDef::new(name.as_str(), op).with_inputs(inputs.iter().copied());
        self.nodes.push(node.with_attr("T", DataType::FLOAT));
        name
    }

    /// Sets an attribute of the last node.
    fn with(&mut self, name: &str, value: impl Into<quantize_tensorflow::Attr>) {
        if let Some(node) = self.nodes.last_mut() {
            node.set_attr(name, value);
        }
    }

    fn constant(&mut self, name: &str, dtype: DataType, tensor: &Tensor) -> Step<String> {
        self.nodes.push(NodeDef::constant(name, TensorProto::new(dtype, tensor)?));
        Ok(name.to_owned())
    }

    fn floats(&mut self, name: &str, tensor: &Tensor) -> Step<String> {
        self.constant(name, DataType::FLOAT, tensor)
    }

    /// A border of zeros is a node of its own; TensorFlow's own kind of border puts the odd one at the other end.
    fn convolution(&mut self, node: &Node, op: &Conv, name: String, x: String) -> Step<String> {
        let weight = constant(self.graph, node, 1)?;
        let (pad, stride) = square(&op.window)?;
        let &[outputs, inner, rows, columns] = weight.shape() else { return Err("its window is not flat".into()) };
        if node.input(2).is_some() || (op.group > 1 && (op.group != outputs || inner != 1)) {
            return Err("it has a bias, or groups of channels".into());
        }
        let is_depthwise = op.group > 1;
        // Channels of a depthwise weight stand where inputs do.
        let order = if is_depthwise { [2, 3, 0, 1] } else { [2, 3, 1, 0] };
        let weights = self.floats(&format!("{name}/weights"), &permuted(&weight, order)?)?;
        let keeps_size = stride == 1 && rows == columns && 2 * pad + 1 == rows;
        let x = if pad == 0 || keeps_size { x } else { self.zeros(&name, &x, pad)? };
        let kind = if is_depthwise { "DepthwiseConv2dNative" } else { "Conv2D" };
        let name = self.push(kind, name, &[&x, &weights]);
        let stride = i64::try_from(stride).map_err(|error| error.to_string())?;
        self.with("strides", vec![1, stride, stride, 1]);
        self.with("dilations", vec![1i64; 4]);
        self.with("padding", if keeps_size { "SAME" } else { "VALID" });
        self.with("data_format", "NHWC");
        Ok(name)
    }

    fn zeros(&mut self, name: &str, x: &str, by: usize) -> Step<String> {
        let by = i32::try_from(by).map_err(|error| error.to_string())?;
        let amounts = Tensor::new([4, 2], vec![0, 0, by, by, by, by, 0, 0]).map_err(|error| error.to_string())?;
        let amounts = self.constant(&format!("{name}/paddings"), DataType::INT32, &amounts)?;
        let name = self.push("Pad", format!("{name}/pad"), &[x, &amounts]);
        self.with("Tpaddings", DataType::INT32);
        Ok(name)
    }

    fn normalization(&mut self, node: &Node, op: BatchNorm, name: String, x: String) -> Step<String> {
        let mut inputs = vec![x];
        for (slot, part) in [(1, "gamma"), (2, "beta"), (3, "mean"), (4, "variance")] {
            let tensor = constant(self.graph, node, slot)?;
            inputs.push(self.floats(&format!("{name}/{part}"), &tensor)?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let name = self.push("FusedBatchNormV3", name, &inputs);
        self.with("U", DataType::FLOAT);
        self.with("epsilon", op.epsilon);
        self.with("is_training", false);
        self.with("data_format", "NHWC");
        Ok(name)
    }

    fn max_pool(&mut self, op: &MaxPool, name: String, x: String) -> Step<String> {
        let (pad, stride) = square(&op.window)?;
        let (&[rows, columns], 0) = (op.kernel.as_slice(), pad) else { return Err("its window has a border".into()) };
        let name = self.push("MaxPool", name, &[&x]);
        let image = |rows: usize, columns: usize| vec![1, rows as i64, columns as i64, 1];
        self.with("ksize", image(rows, columns));
        self.with("strides", image(stride, stride));
        self.with("padding", "VALID");
        self.with("data_format", "NHWC");
        Ok(name)
    }

    fn dense(&mut self, node: &Node, op: Gemm, name: String, x: String) -> Step<String> {
        if !op.trans_b || op.trans_a || op.alpha != 1.0 || op.beta != 1.0 {
            return Err("it is more than a product and a bias".into());
        }
        let (weight, bias) = (constant(self.graph, node, 1)?, constant(self.graph, node, 2)?);
        let weights = self.floats(&format!("{name}/weights"), &permuted(&weight, [1, 0])?)?;
        let product = self.push("MatMul", format!("{name}/product"), &[&x, &weights]);
        let bias = self.floats(&format!("{name}/bias"), &bias)?;
        let name = self.push("BiasAdd", name, &[&product, &bias]);
        self.with("data_format", "NHWC");
        Ok(name)
    }
}

/// The elements with axis `order[i]` in the place of axis `i`.
fn permuted<const RANK: usize>(tensor: &Tensor, order: [usize; RANK]) -> Step<Tensor> {
    let elements = tensor.as_slice::<f32>().map_err(|error| error.to_string())?;
    let shape = <[usize; RANK]>::try_from(tensor.shape()).map_err(|_| "a weight has another rank".to_owned())?;
    let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let (sizes, strides) = (order.map(|axis| shape[axis]), order.map(stride));
    let mut moved = Vec::with_capacity(elements.len());
    for at in 0..elements.len() {
        let (mut rest, mut from) = (at, 0);
        for axis in (0..RANK).rev() {
            from += rest % sizes[axis] * strides[axis];
            rest /= sizes[axis];
        }
        moved.push(elements[from]);
    }
    Tensor::new(sizes, moved).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_graph_of_the_example_is_the_one_made_here() {
        let made = serialized(&network(&example::model()).unwrap()).unwrap();
        assert!(fs::read(example::folder().join(FILE)).unwrap() == made, "run `cargo xtask demo-tensorflow`");
    }

    #[test]
    fn axes_change_places() {
        let tensor = Tensor::new([2, 3], vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let turned = permuted(&tensor, [1, 0]).unwrap();
        assert_eq!(turned, Tensor::new([3, 2], vec![1f32, 4.0, 2.0, 5.0, 3.0, 6.0]).unwrap());
    }
}
