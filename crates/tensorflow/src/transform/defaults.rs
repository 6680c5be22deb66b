//! `add_default_attributes`: attributes that a node leaves out, with the values TensorFlow gives them.
//!
//! The table holds operators of inference graphs, and of their attributes those that TensorFlow 1.15 has with the same
//! value as 2.21.

use super::Setting;
use super::language::Call;
use crate::attr::Attr;
use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::shape::PartialShape;
use quantize_document::Problem;

/// A value of an attribute, as a table has it.
#[derive(Clone, Copy, Debug)]
enum Default {
    Bool(bool),
    Int(i64),
    Float(f32),
    Text(&'static str),
    Type(DataType),
    Ints(&'static [i64]),
    UnknownShape,
}

impl From<Default> for Attr {
    fn from(default: Default) -> Self {
        match default {
            Default::Bool(flag) => flag.into(),
            Default::Int(number) => number.into(),
            Default::Float(number) => number.into(),
            Default::Text(text) => text.into(),
            Default::Type(kind) => kind.into(),
            Default::Ints(numbers) => numbers.to_vec().into(),
            Default::UnknownShape => PartialShape::UnknownRank.into(),
        }
    }
}

type Attributes = &'static [(&'static str, Default)];

const CONVOLUTION: Attributes = &[
    ("use_cudnn_on_gpu", Default::Bool(true)),
    ("explicit_paddings", Default::Ints(&[])),
    ("data_format", Default::Text("NHWC")),
    ("dilations", Default::Ints(&[1; 4])),
];
const NORMALIZATION: Attributes =
    &[("epsilon", Default::Float(1e-4)), ("data_format", Default::Text("NHWC")), ("is_training", Default::Bool(true))];
const REDUCTION: Attributes = &[("keep_dims", Default::Bool(false)), ("Tidx", Default::Type(DataType::INT32))];
const EXTREME_PLACE: Attributes =
    &[("Tidx", Default::Type(DataType::INT32)), ("output_type", Default::Type(DataType::INT64))];
const PADDING: Attributes = &[("Tpaddings", Default::Type(DataType::INT32))];
const IMAGE: Attributes = &[("data_format", Default::Text("NHWC"))];
const RESIZING: Attributes = &[("align_corners", Default::Bool(false)), ("half_pixel_centers", Default::Bool(false))];
const OUT_INDEX: Attributes = &[("out_type", Default::Type(DataType::INT32))];
const ADJOINT: Attributes = &[("adj_x", Default::Bool(false)), ("adj_y", Default::Bool(false))];
const VARIABLE: Attributes = &[("container", Default::Text("")), ("shared_name", Default::Text(""))];
const ON_CODES: Attributes = &[("out_type", Default::Type(DataType::QINT32)), ("dilations", Default::Ints(&[1; 4]))];
const TO_UNSIGNED: Attributes = &[
    ("out_type", Default::Type(DataType::QUINT8)),
    ("dilations", Default::Ints(&[1; 4])),
    ("padding_list", Default::Ints(&[])),
];
const TO_SIGNED: Attributes = &[
    ("out_type", Default::Type(DataType::QINT8)),
    ("dilations", Default::Ints(&[1; 4])),
    ("padding_list", Default::Ints(&[])),
];
const TO_SUMS: Attributes = &[
    ("out_type", Default::Type(DataType::QINT32)),
    ("dilations", Default::Ints(&[1; 4])),
    ("padding_list", Default::Ints(&[])),
];

/// Operators with the attributes they may leave out.
const DEFAULTS: &[(&[&str], Attributes)] = &[
    (&["Conv2D", "Conv2DBackpropInput"], CONVOLUTION),
    (&["DepthwiseConv2dNative"], &[("data_format", Default::Text("NHWC")), ("dilations", Default::Ints(&[1; 4]))]),
    (&["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"], NORMALIZATION),
    (&["MaxPool"], &[("T", Default::Type(DataType::FLOAT)), ("data_format", Default::Text("NHWC"))]),
    (&["AvgPool", "BiasAdd", "SpaceToDepth", "DepthToSpace"], IMAGE),
    (&["MatMul"], &[("transpose_a", Default::Bool(false)), ("transpose_b", Default::Bool(false))]),
    (&["BatchMatMul", "BatchMatMulV2"], ADJOINT),
    (
        &["LRN"],
        &[
            ("depth_radius", Default::Int(5)),
            ("bias", Default::Float(1.0)),
            ("alpha", Default::Float(1.0)),
            ("beta", Default::Float(0.5)),
            ("T", Default::Type(DataType::FLOAT)),
        ],
    ),
    (&["LeakyRelu"], &[("alpha", Default::Float(0.2)), ("T", Default::Type(DataType::FLOAT))]),
    (&["Mean", "Sum", "Max", "Min", "Prod", "Any", "All"], REDUCTION),
    (&["ArgMax", "ArgMin"], EXTREME_PLACE),
    (&["Squeeze"], &[("squeeze_dims", Default::Ints(&[]))]),
    (&["Pad", "PadV2", "MirrorPad"], PADDING),
    (&["Reshape", "QuantizedReshape"], &[("Tshape", Default::Type(DataType::INT32))]),
    (&["ConcatV2", "Range"], &[("Tidx", Default::Type(DataType::INT32))]),
    (&["ExpandDims"], &[("Tdim", Default::Type(DataType::INT32))]),
    (&["Transpose"], &[("Tperm", Default::Type(DataType::INT32))]),
    (&["Tile"], &[("Tmultiples", Default::Type(DataType::INT32))]),
    (&["Fill"], &[("index_type", Default::Type(DataType::INT32))]),
    (
        &["StridedSlice"],
        &[
            ("begin_mask", Default::Int(0)),
            ("end_mask", Default::Int(0)),
            ("ellipsis_mask", Default::Int(0)),
            ("new_axis_mask", Default::Int(0)),
            ("shrink_axis_mask", Default::Int(0)),
        ],
    ),
    (&["Pack", "Unpack"], &[("axis", Default::Int(0))]),
    (&["ResizeBilinear", "ResizeNearestNeighbor"], RESIZING),
    (&["Cast"], &[("Truncate", Default::Bool(false))]),
    (&["Shape", "Size"], OUT_INDEX),
    (&["Gather"], &[("validate_indices", Default::Bool(true))]),
    (&["GatherV2"], &[("batch_dims", Default::Int(0))]),
    (
        &["SpaceToBatchND"],
        &[("Tblock_shape", Default::Type(DataType::INT32)), ("Tpaddings", Default::Type(DataType::INT32))],
    ),
    (
        &["BatchToSpaceND"],
        &[("Tblock_shape", Default::Type(DataType::INT32)), ("Tcrops", Default::Type(DataType::INT32))],
    ),
    (&["Placeholder"], &[("shape", Default::UnknownShape)]),
    (&["VariableV2", "VarHandleOp"], VARIABLE),
    (&["Print"], &[("message", Default::Text("")), ("first_n", Default::Int(-1)), ("summarize", Default::Int(3))]),
    (&["QuantizeV2"], &[("mode", Default::Text("MIN_COMBINED")), ("round_mode", Default::Text("HALF_AWAY_FROM_ZERO"))]),
    (&["Dequantize"], &[("mode", Default::Text("MIN_COMBINED"))]),
    (&["QuantizedRelu", "QuantizedRelu6"], &[("out_type", Default::Type(DataType::QUINT8))]),
    (&["QuantizedConv2D"], ON_CODES),
    (&["QuantizedConv2DWithBias", "QuantizedConv2DWithBiasAndRelu", "QuantizedConv2DWithBiasSumAndRelu"], TO_SUMS),
    (&["QuantizedConv2DAndRequantize", "QuantizedConv2DWithBiasAndRequantize"], TO_SIGNED),
    (
        &[
            "QuantizedConv2DWithBiasAndReluAndRequantize",
            "QuantizedConv2DWithBiasSumAndReluAndRequantize",
            "QuantizedConv2DWithBiasSignedSumAndReluAndRequantize",
            "QuantizedDepthwiseConv2DWithBiasAndReluAndRequantize",
        ],
        TO_UNSIGNED,
    ),
];

/// Adds what is left out; what a node states stays, and so does an operator that the table does not have.
pub(super) fn add(
    graph: &GraphDef,
    _: &Call,
    _: &Setting<'_>,
    _: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let mut changed = graph.clone();
    for node in changed.nodes_mut() {
        let Some((_, defaults)) = DEFAULTS.iter().find(|(ops, _)| ops.contains(&node.op())) else { continue };
        for (name, default) in *defaults {
            if node.attr(name).is_none() {
                node.set_attr(name, *default);
            }
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::DEFAULTS;
    use crate::dtype::DataType;
    use crate::node::NodeDef;
    use crate::transform::tests::{run, setting};
    use std::collections::BTreeSet;

    #[test]
    fn what_is_left_out_is_added_and_what_is_stated_stays() {
        let nodes = vec![
            NodeDef::new("conv", "Conv2D").with_attr("dilations", vec![1i64, 2, 2, 1]),
            NodeDef::new("in", "Placeholder").with_attr("dtype", DataType::FLOAT),
            NodeDef::new("own", "OwnOperator"),
        ];
        let done = run(nodes, "add_default_attributes", &setting(&[], &[])).unwrap().graph;
        let [conv, input, own] = done.nodes() else { panic!("{done:?}") };
        assert_eq!(conv.ints("dilations").unwrap(), Some(vec![1, 2, 2, 1]));
        assert_eq!(conv.text("data_format").unwrap().as_deref(), Some("NHWC"));
        assert_eq!(conv.bool("use_cudnn_on_gpu").unwrap(), Some(true));
        assert_eq!(input.shape("shape").unwrap(), Some(crate::shape::PartialShape::UnknownRank));
        assert_eq!(own.attrs().count(), 0);
    }

    #[test]
    fn no_operator_stands_in_the_table_twice() {
        let all: Vec<&str> = DEFAULTS.iter().flat_map(|(ops, _)| *ops).copied().collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}
