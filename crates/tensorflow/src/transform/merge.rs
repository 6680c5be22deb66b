//! `merge_duplicate_nodes`: of nodes that compute the same from the same, one stays.

use super::Setting;
use super::language::Call;
use super::rewire::Rewire;
use crate::attr::Attr;
use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::node::{Input, NodeDef, Port};
use crate::order::execution_order;
use quantize_document::Problem;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Operators whose results depend on nothing but inputs and attributes; what is not known may have a state.
const PURE: &[&str] = &[
    "Abs",
    "Add",
    "AddN",
    "AddV2",
    "All",
    "Any",
    "ArgMax",
    "ArgMin",
    "AvgPool",
    "BatchMatMul",
    "BatchMatMulV2",
    "BatchNormWithGlobalNormalization",
    "BatchToSpaceND",
    "BiasAdd",
    "Cast",
    "Ceil",
    "ClipByValue",
    "Concat",
    "ConcatV2",
    "Const",
    "Conv2D",
    "Conv2DBackpropInput",
    "DepthToSpace",
    "DepthwiseConv2dNative",
    "Dequantize",
    "Div",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "ExpandDims",
    "Fill",
    "Floor",
    "FusedBatchNorm",
    "FusedBatchNormV2",
    "FusedBatchNormV3",
    "Gather",
    "GatherV2",
    "Greater",
    "GreaterEqual",
    "Identity",
    "Inv",
    "LRN",
    "LeakyRelu",
    "Less",
    "LessEqual",
    "Log",
    "LogSoftmax",
    "LogicalAnd",
    "LogicalNot",
    "LogicalOr",
    "MatMul",
    "Max",
    "MaxPool",
    "Maximum",
    "Mean",
    "Min",
    "Minimum",
    "MirrorPad",
    "Mul",
    "Neg",
    "OneHot",
    "Pack",
    "Pad",
    "PadV2",
    "Pow",
    "Prod",
    "QuantizeV2",
    "QuantizedConcat",
    "QuantizedConcatV2",
    "QuantizedConv2D",
    "QuantizedMaxPool",
    "QuantizedAvgPool",
    "QuantizedRelu",
    "QuantizedRelu6",
    "QuantizedReshape",
    "Range",
    "Rank",
    "RealDiv",
    "Reciprocal",
    "Relu",
    "Relu6",
    "RequantizationRange",
    "RequantizationRangePerChannel",
    "Requantize",
    "RequantizePerChannel",
    "Reshape",
    "ResizeBilinear",
    "ResizeNearestNeighbor",
    "Rint",
    "Round",
    "Rsqrt",
    "Select",
    "SelectV2",
    "Selu",
    "Shape",
    "Sigmoid",
    "Sign",
    "Size",
    "Slice",
    "Softmax",
    "Softplus",
    "SpaceToBatchND",
    "SpaceToDepth",
    "Split",
    "SplitV",
    "Sqrt",
    "Square",
    "SquaredDifference",
    "Squeeze",
    "StopGradient",
    "StridedSlice",
    "Sub",
    "Sum",
    "Tanh",
    "Tile",
    "TopKV2",
    "Transpose",
    "Unpack",
    "ZerosLike",
];

/// What two nodes have in common that compute the same.
type Identity<'g> = (&'g str, &'g str, Vec<String>, BTreeMap<&'g str, &'g Attr>);

/// Merges such nodes into the one that is computed first. Inputs and outputs of the graph stay.
pub(super) fn merge(
    graph: &GraphDef,
    _: &Call,
    setting: &Setting<'_>,
    _: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let mut known: HashMap<Identity<'_>, &str> = HashMap::new();
    let readers = graph.index()?.consumers()?;
    let (mut rewire, mut gone) = (Rewire::default(), BTreeSet::new());
    for at in execution_order(graph)? {
        let Some(node) = graph.nodes().get(at).filter(|node| PURE.contains(&node.op())) else { continue };
        // Inputs were merged before, so what reads the same node in the end reads it here.
        let mut read = node.clone();
        rewire.apply(&mut read);
        let attributes = node.attrs().collect();
        let identity = (node.op(), node.device(), read.inputs().to_vec(), attributes);
        match known.get(&identity) {
            Some(first) if !setting.is_end(node.name()) => {
                rewire.node(node.name(), (*first).to_owned());
                for (_, port) in readers.get(at).into_iter().flatten() {
                    if let Port::Data(number) = *port {
                        rewire.tensor(node.name(), number, Input { node: first, port: *port }.to_string());
                    }
                }
                gone.insert(node.name());
            }
            // What is fed is not what the node would compute.
            None if setting.inputs.iter().any(|input| input == node.name()) => {}
            Some(_) => {}
            None => {
                known.insert(identity, node.name());
            }
        }
    }
    let mut nodes: Vec<NodeDef> = graph.nodes().iter().filter(|node| !gone.contains(node.name())).cloned().collect();
    nodes.iter_mut().for_each(|node| rewire.apply(node));
    Ok(graph.with_nodes(nodes))
}

#[cfg(test)]
mod tests {
    use crate::node::NodeDef;
    use crate::transform::tests::{floats, names, node, run, setting};

    #[test]
    fn what_computes_the_same_is_computed_once() {
        let nodes = vec![
            floats("a", &[2], &[1.0, -0.0]),
            floats("b", &[2], &[1.0, -0.0]),
            floats("c", &[2], &[1.0, 0.0]),
            node("split_a", "Split", &["a", "x"]),
            node("split_b", "Split", &["b", "x"]),
            node("left", "Relu", &["split_a:1"]),
            node("right", "Relu", &["split_b:1"]),
            node("other", "Relu", &["split_b"]),
            node("x", "Placeholder", &[]),
            node("sum", "AddN", &["left", "right", "other", "c", "^b"]),
        ];
        let done = run(nodes, "merge_duplicate_nodes", &setting(&["x"], &["sum"])).unwrap().graph;
        // The last of the nodes without inputs is the first in the order of execution.
        assert_eq!(names(&done), ["b", "c", "split_b", "right", "other", "x", "sum"]);
        let index = done.index().unwrap();
        assert_eq!(index.node("sum").unwrap().inputs(), ["right", "right", "other", "c", "^b"]);
        assert_eq!(index.node("other").unwrap().inputs(), ["split_b"]);
    }

    #[test]
    fn ends_states_devices_and_attributes_tell_nodes_apart() {
        let twice = |op: &str, change: &dyn Fn(NodeDef) -> NodeDef| {
            vec![node("a", op, &["x"]), change(node("b", op, &["x"])), node("x", "Placeholder", &[])]
        };
        let left = |nodes: Vec<NodeDef>, outputs: &[&str]| {
            run(nodes, "merge_duplicate_nodes", &setting(&[], outputs)).unwrap().graph.nodes().len()
        };
        assert_eq!(left(twice("Relu", &|node| node), &[]), 2);
        assert_eq!(left(twice("Relu", &|node| node), &["a", "b"]), 3);
        let fed = |inputs: &[&str]| run(twice("Relu", &|node| node), "merge_duplicate_nodes", &setting(inputs, &[]));
        for inputs in [["a"], ["b"]] {
            assert_eq!(fed(&inputs).unwrap().graph.nodes().len(), 3, "{inputs:?}");
        }
        assert_eq!(left(twice("RandomUniform", &|node| node), &[]), 3);
        assert_eq!(left(twice("Relu", &|node| node.with_attr("alpha", 1f32)), &[]), 3);
        let moved = |mut node: NodeDef| {
            node.set_device("/cpu:0");
            node
        };
        assert_eq!(left(twice("Relu", &moved), &[]), 3);
    }
}
