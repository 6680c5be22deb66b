//! Tests of the table of operators: reading at each opset, forms that are refused, writing and reading back.

use super::*;
use crate::tests::{float, floats, int, ints, names, node, tensor, text};
use quantize_ir::op::*;
use quantize_ir::{DType, Op, Tensor, TensorData};
use quantize_proto::onnx::NodeProto;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Operands added, by slot.
type Added = Vec<(usize, Tensor)>;

/// Nothing is known of any value.
struct Nothing;

impl Known for Nothing {
    fn constant(&self, _: &str) -> Option<Arc<Tensor>> {
        None
    }

    fn constant_shape(&self, _: &str) -> Option<Vec<usize>> {
        None
    }

    fn rank(&self, _: &str) -> Option<usize> {
        None
    }
}

fn read_at(node: &NodeProto, opset: i64) -> Result<Read, ReadError> {
    read(&NodeReader::new(node, opset, &Nothing)).unwrap_or_else(|| panic!("no row for {}", node.op_type()))
}

fn window(padding: Padding) -> Window {
    Window { strides: vec![2, 1], dilations: vec![], padding, rounding: Rounding::Floor }
}

fn padded() -> Window {
    window(Padding::Explicit { begin: vec![1, 0], end: vec![2, 3] })
}

fn ceiled() -> Window {
    Window { rounding: Rounding::Ceil, ..padded() }
}

fn dilated() -> Window {
    Window { dilations: vec![2, 3], ..padded() }
}

fn conv(window: Window) -> Conv {
    Conv { window, group: 2, layout: Layout::ChannelsFirst, filter: FilterLayout::OutputFirst }
}

fn conv_transpose(window: Window) -> ConvTranspose {
    let (layout, filter) = (Layout::ChannelsFirst, FilterLayout::OutputFirst);
    ConvTranspose { window, group: 1, output_padding: vec![1, 0], output_shape: vec![9, 9], layout, filter }
}

fn max_pool(window: Window, column_major: bool) -> Op {
    Op::MaxPool(MaxPool { kernel: vec![3, 2], window, column_major, layout: Layout::ChannelsFirst })
}

fn average_pool(window: Window) -> Op {
    Op::AveragePool(AveragePool { kernel: vec![3, 2], window, count_include_pad: true, layout: Layout::ChannelsFirst })
}

fn lp_pool(window: Window) -> Op {
    Op::LpPool(LpPool { kernel: vec![3, 2], window, p: 3, layout: Layout::ChannelsFirst })
}

fn nearest(coordinates: CoordinateMode) -> Resize {
    let mode = ResizeMode::Nearest(NearestMode::Floor);
    Resize { mode, coordinates, antialias: false, axes: vec![], aspect: AspectPolicy::Stretch }
}

fn reduce(kind: ReduceKind, keep_dims: bool, noop_with_empty_axes: bool) -> Op {
    Op::Reduce(Reduce { kind, keep_dims, noop_with_empty_axes })
}

fn linear(axis: i64, block_size: usize, output: Option<DType>) -> LinearQuantization {
    LinearQuantization { axis, block_size, output }
}

fn softmax(axis: i64, flatten: bool, log: bool) -> Op {
    Op::Softmax(Softmax { axis, flatten, log })
}

fn depth_to_space(mode: DepthToSpaceMode, layout: Layout) -> Op {
    Op::DepthToSpace(DepthToSpace { block: 2, mode, layout })
}

/// An operator in a form that can be written: number of operands and results, and the first opset it exists at.
pub(crate) struct Form(pub(crate) Op, pub(crate) usize, pub(crate) usize, pub(crate) i64);

fn windowed() -> Vec<Form> {
    vec![
        Form(Op::Conv(conv(padded())), 2, 1, 13),
        Form(Op::Conv(conv(dilated())), 3, 1, 13),
        Form(Op::Conv(conv(window(Padding::SameUpper))), 3, 1, 13),
        Form(Op::Conv(conv(window(Padding::SameLower))), 3, 1, 13),
        Form(Op::Conv(conv(window(Padding::Valid))), 3, 1, 13),
        Form(Op::ConvTranspose(conv_transpose(dilated()).into()), 3, 1, 13),
        Form(max_pool(padded(), false), 1, 1, 13),
        Form(max_pool(Window { rounding: Rounding::Ceil, ..dilated() }, true), 1, 2, 13),
        Form(average_pool(ceiled()), 1, 1, 13),
        Form(average_pool(dilated()), 1, 1, 19),
        Form(lp_pool(padded()), 1, 1, 13),
        Form(lp_pool(ceiled()), 1, 1, 18),
        Form(lp_pool(dilated()), 1, 1, 18),
        Form(Op::GlobalPool(GlobalPool::Average), 1, 1, 13),
        Form(Op::GlobalPool(GlobalPool::Max), 1, 1, 13),
        Form(Op::GlobalPool(GlobalPool::Lp(1)), 1, 1, 13),
    ]
}

fn elementwise() -> Vec<Form> {
    use {Binary::*, Unary::*};
    let unary = [
        (Relu, 13),
        (LeakyRelu { alpha: 0.25 }, 13),
        (Sigmoid, 13),
        (Tanh, 13),
        (HardSigmoid { alpha: 0.25, beta: 0.75 }, 13),
        (HardSwish, 14),
        (Elu { alpha: 0.5 }, 13),
        (Selu { alpha: 0.5, gamma: 2.0 }, 13),
        (Shrink { lambda: 0.25, bias: 0.5 }, 13),
        (Softplus, 13),
        (Erf, 13),
        (Gelu { tanh: false }, 20),
        (Gelu { tanh: true }, 20),
        (Mish, 18),
        (Exp, 13),
        (Log, 13),
        (Sqrt, 13),
        (Abs, 13),
        (Neg, 13),
        (Sign, 13),
        (Reciprocal, 13),
        (Floor, 13),
        (Ceil, 13),
        (Round, 13),
        (Not, 13),
    ];
    let binary = [Add, Sub, Mul, Div, Pow, Equal, Less, LessOrEqual, Greater, GreaterOrEqual, And, Or];
    let nary = [Nary::Sum, Nary::Mean, Nary::Min, Nary::Max];
    let mut forms: Vec<Form> = unary.map(|(f, since)| Form(Op::Unary(f), 1, 1, since)).into();
    forms.extend(binary.map(|f| Form(Op::Binary(f), 2, 1, 13)));
    forms.extend(nary.map(|f| Form(Op::Nary(f), 5, 1, 13)));
    forms.extend([Form(Op::Clip, 1, 1, 13), Form(Op::Clip, 3, 1, 13), Form(Op::PRelu, 2, 1, 13)]);
    forms.extend([Form(Op::Where, 3, 1, 13), Form(Op::Cast(Cast { to: DType::I8 }), 1, 1, 13)]);
    forms
}

fn products_and_norms() -> Vec<Form> {
    let gemm = |alpha, beta, trans_a, trans_b| Op::Gemm(Gemm { alpha, beta, trans_a, trans_b });
    let layer = Op::LayerNorm(LayerNorm { axis: 2, epsilon: 0.5 });
    vec![
        Form(Op::MatMul, 2, 1, 13),
        Form(gemm(1.0, 1.0, false, false), 2, 1, 13),
        Form(gemm(0.5, 2.0, true, true), 3, 1, 13),
        Form(Op::BatchNorm(BatchNorm { epsilon: 0.5, axis: 1 }), 5, 1, 13),
        Form(Op::Lrn(Lrn { alpha: 0.5, beta: 0.25, bias: 2.0, size: 3, region: LrnRegion::Across }), 1, 1, 13),
        Form(Op::InstanceNorm(InstanceNorm { epsilon: 0.5 }), 3, 1, 13),
        Form(layer.clone(), 2, 1, 17),
        Form(layer, 3, 3, 17),
        Form(softmax(1, false, false), 1, 1, 13),
        Form(softmax(-1, false, true), 1, 1, 13),
    ]
}

fn layout() -> Vec<Form> {
    let pad = |mode| Op::Pad(Pad { mode });
    let first = Layout::ChannelsFirst;
    vec![
        Form(Op::Concat(Concat { axis: -2 }), 4, 1, 13),
        Form(Op::Split(Split { axis: 1 }), 2, 3, 13),
        Form(Op::Split(Split { axis: -1 }), 1, 2, 13),
        Form(Op::Slice, 3, 1, 13),
        Form(Op::Slice, 5, 1, 13),
        Form(Op::Gather(Gather { axis: 2 }), 2, 1, 13),
        Form(Op::Transpose(Transpose { perm: vec![0, 2, 1] }), 1, 1, 13),
        Form(Op::Transpose(Transpose { perm: vec![] }), 1, 1, 13),
        Form(Op::Reshape(Reshape { allow_zero: false }), 2, 1, 13),
        Form(Op::Reshape(Reshape { allow_zero: true }), 2, 1, 14),
        Form(Op::Flatten(Flatten { axis: 2 }), 1, 1, 13),
        Form(Op::Squeeze, 1, 1, 13),
        Form(Op::Squeeze, 2, 1, 13),
        Form(Op::Unsqueeze, 2, 1, 13),
        Form(Op::Expand, 2, 1, 13),
        Form(Op::Tile, 2, 1, 13),
        Form(pad(PadMode::Constant), 3, 1, 13),
        Form(pad(PadMode::Reflect), 2, 1, 13),
        Form(pad(PadMode::Edge), 4, 1, 18),
        Form(pad(PadMode::Wrap), 2, 1, 19),
        Form(depth_to_space(DepthToSpaceMode::DepthColumnRow, first), 1, 1, 13),
        Form(depth_to_space(DepthToSpaceMode::ColumnRowDepth, first), 1, 1, 13),
        Form(Op::SpaceToDepth(SpaceToDepth { block: 3, layout: first }), 1, 1, 13),
        Form(Op::Identity, 1, 1, 13),
        Form(Op::Identity, 1, 2, 13),
    ]
}

fn resizes() -> Vec<Form> {
    let half = || nearest(CoordinateMode::HalfPixel);
    let mode = |mode| Resize { mode, ..half() };
    let cubic = |coefficient, exclude_outside| mode(ResizeMode::Cubic { coefficient, exclude_outside });
    let rounding = |rounding| mode(ResizeMode::Nearest(rounding));
    let crop = nearest(CoordinateMode::TfCropAndResize { extrapolation: 0.5 });
    let resizes = [
        (nearest(CoordinateMode::HalfPixelSymmetric), 19),
        (nearest(CoordinateMode::PytorchHalfPixel), 13),
        (nearest(CoordinateMode::AlignCorners), 13),
        (nearest(CoordinateMode::Asymmetric), 13),
        (crop, 13),
        (rounding(NearestMode::RoundPreferFloor), 13),
        (rounding(NearestMode::RoundPreferCeil), 13),
        (rounding(NearestMode::Ceil), 13),
        (mode(ResizeMode::Linear), 13),
        (cubic(-0.5, false), 13),
        (cubic(-0.75, true), 13),
        (Resize { antialias: true, ..mode(ResizeMode::Linear) }, 18),
        (Resize { axes: vec![2, -1], ..half() }, 18),
        (Resize { aspect: AspectPolicy::NotLarger, ..half() }, 18),
        (Resize { aspect: AspectPolicy::NotSmaller, ..half() }, 18),
    ];
    resizes.map(|(resize, since)| Form(Op::Resize(resize), 4, 1, since)).into()
}

fn reductions_and_meta() -> Vec<Form> {
    use ReduceKind::*;
    let others = [Mean, Max, Min, Prod, L1, L2, SumSquare];
    let arg_max = |select_last| Op::ArgMax(ArgMax { axis: -1, keep_dims: false, select_last });
    let shape = |start, end| Op::Shape(ShapeOf { start, end });
    let mut forms: Vec<Form> = others.map(|kind| Form(reduce(kind, false, false), 2, 1, 18)).into();
    forms.extend(others.map(|kind| Form(reduce(kind, true, false), 1, 1, 13)));
    forms.extend([
        Form(reduce(Max, true, true), 1, 1, 18),
        Form(reduce(Sum, false, true), 2, 1, 13),
        Form(arg_max(false), 1, 1, 13),
        Form(arg_max(true), 1, 1, 13),
        Form(shape(0, None), 1, 1, 13),
        Form(shape(1, None), 1, 1, 15),
        Form(shape(0, Some(-1)), 1, 1, 15),
        Form(Op::Size, 1, 1, 13),
        Form(Op::ConstantOfShape(ConstantOfShape { value: TensorData::I64(vec![7]) }), 1, 1, 13),
        Form(Op::Range, 3, 1, 13),
        Form(Op::Quantize(linear(1, 0, None)), 2, 1, 13),
        Form(Op::Quantize(linear(-1, 0, None)), 3, 1, 13),
        Form(Op::Quantize(linear(0, 0, Some(DType::I8))), 2, 1, 21),
        Form(Op::Quantize(linear(0, 16, None)), 3, 1, 21),
        Form(Op::Dequantize(linear(0, 0, None)), 3, 1, 13),
        Form(Op::Dequantize(linear(0, 16, None)), 2, 1, 21),
        Form(Op::Dequantize(linear(0, 0, Some(DType::F32))), 2, 1, 23),
    ]);
    forms
}

pub(crate) fn forms() -> Vec<Form> {
    [windowed(), elementwise(), products_and_norms(), layout(), resizes(), reductions_and_meta()]
        .into_iter()
        .flatten()
        .collect()
}

fn numbered(stem: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{stem}{i}")).collect()
}

#[test]
fn what_is_written_reads_back_the_same() {
    for Form(op, inputs, outputs, since) in forms() {
        let write = |opset| emit(&op, "n", numbered("i", inputs), numbered("o", outputs), opset);
        for opset in [since, 28] {
            let node = write(opset).unwrap_or_else(|e| panic!("{op:?} at {opset}: {e}"));
            let read = read_at(&node, opset).unwrap_or_else(|e| panic!("{op:?} at {opset}: {e}"));
            assert_eq!(read.op, op, "at {opset}");
            assert_eq!((node.input, node.output), (numbered("i", inputs), numbered("o", outputs)), "{op:?}");
            assert!(read.added.is_empty() && read.placed.is_none(), "{op:?}: {read:?}");
        }
        let early = write(since - 1).unwrap_err().to_string();
        assert!(early.contains(&format!("exists from opset {since} on, the model has {}", since - 1)), "{early}");
    }
}

#[test]
fn every_operator_stands_in_the_table_once_and_is_written() {
    let rows: Vec<&str> = TABLES.iter().flat_map(|rows| rows.iter()).map(|row| row.name).collect();
    let table: BTreeSet<&str> = rows.iter().copied().collect();
    assert_eq!(rows.len(), table.len());
    let node = |Form(op, inputs, outputs, _): Form| {
        emit(&op, "", numbered("i", inputs), numbered("o", outputs), 28).unwrap().op_type.unwrap()
    };
    let mut written: BTreeSet<String> = forms().into_iter().map(node).collect();
    // Its successor is written in its place.
    written.insert("Upsample".into());
    assert_eq!(written.iter().map(String::as_str).collect::<BTreeSet<_>>(), table);
}

#[test]
fn a_split_into_equal_pieces_says_how_many() {
    let pieces = |opset, sizes: &[&str]| {
        let op = Op::Split(Split { axis: 0 });
        let node = emit(&op, "", names(sizes), numbered("o", 3), opset).unwrap();
        node.attribute.iter().find(|a| a.name() == "num_outputs").map(|a| a.i())
    };
    assert_eq!(pieces(17, &["x"]), None);
    assert_eq!(pieces(18, &["x"]), Some(3));
    assert_eq!(pieces(18, &["x", "sizes"]), None);
}

#[test]
fn what_onnx_cannot_say_is_not_written() {
    let last = Layout::ChannelsLast;
    let cases = [
        (Op::Conv(Conv { layout: last, ..conv(padded()) }), "ONNX has no channels-last form of it"),
        (
            Op::Conv(Conv { filter: FilterLayout::OutputLast, ..conv(padded()) }),
            "its weight has the output channels last",
        ),
        (Op::Conv(conv(ceiled())), "it keeps a last partial window, which ONNX convolutions cannot"),
        (
            Op::ConvTranspose(conv_transpose(ceiled()).into()),
            "it keeps a last partial window, which ONNX convolutions cannot",
        ),
        (Op::BatchNorm(BatchNorm { epsilon: 0.5, axis: -1 }), "ONNX has no channels-last form of it"),
        (depth_to_space(DepthToSpaceMode::DepthColumnRow, last), "ONNX has no channels-last form of it"),
        (
            Op::Lrn(Lrn { alpha: 0.5, beta: 0.25, bias: 2.0, size: 3, region: LrnRegion::Within }),
            "ONNX normalizes responses across channels only, not within one",
        ),
        (softmax(1, true, false), "its axes are flattened, which opset 13 and later cannot express in one node"),
        (
            Op::Resize(nearest(CoordinateMode::TfHalfPixelForNearest)),
            "its coordinate mode tf_half_pixel_for_nn was removed with opset 13",
        ),
        (Op::Opaque(Opaque { domain: String::new(), kind: "NonZero".into() }), "it is not an operator known here"),
    ];
    for (op, cause) in cases {
        let error = emit(&op, "n", numbered("i", 2), numbered("o", 1), 28).unwrap_err();
        assert_eq!(error.to_string(), format!("node `n`: {cause}"));
    }
}

#[test]
fn attributes_of_older_opsets_become_operands() {
    let x = |op_type: &str, attributes| node(op_type, &["x"], &["y"], attributes);
    let vector = |values: &[i64]| Tensor::vector(values.to_vec());
    let clip = |attributes| x("Clip", attributes);
    let pads = || ints("pads", &[0, 1, 0, 2]);
    let pad = Op::Pad(Pad { mode: PadMode::Constant });
    let split = node("Split", &["x"], &["a", "b"], vec![int("axis", 1), ints("split", &[2, 3])]);
    let cut = || vec![ints("starts", &[1]), ints("ends", &[-1])];
    let cut_axes = [cut(), vec![ints("axes", &[2])]].concat();
    let mean = x("ReduceMean", vec![ints("axes", &[2, 3]), int("keepdims", 0), int("noop_with_empty_axes", 1)]);
    let old_resize = Op::Resize(nearest(CoordinateMode::Asymmetric));
    let scales = floats("scales", &[1.0, 1.0, 2.0, 2.0]);
    let cases: Vec<(&str, i64, NodeProto, Op, Added)> = vec![
        ("clip without limits", 10, clip(vec![]), Op::Clip, vec![]),
        ("clip above", 10, clip(vec![float("max", 6.0)]), Op::Clip, vec![(2, Tensor::scalar(6f32))]),
        (
            "clip",
            7,
            clip(vec![float("min", 0.0), float("max", 6.0)]),
            Op::Clip,
            vec![(1, Tensor::scalar(0f32)), (2, Tensor::scalar(6f32))],
        ),
        ("squeeze", 12, x("Squeeze", vec![ints("axes", &[0, 2])]), Op::Squeeze, vec![(1, vector(&[0, 2]))]),
        ("squeeze all", 7, x("Squeeze", vec![]), Op::Squeeze, vec![]),
        ("unsqueeze", 12, x("Unsqueeze", vec![ints("axes", &[0])]), Op::Unsqueeze, vec![(1, vector(&[0]))]),
        ("split", 12, split, Op::Split(Split { axis: 1 }), vec![(1, vector(&[2, 3]))]),
        ("slice", 9, x("Slice", cut()), Op::Slice, vec![(1, vector(&[1])), (2, vector(&[-1]))]),
        (
            "slice along axes",
            9,
            x("Slice", cut_axes),
            Op::Slice,
            vec![(1, vector(&[1])), (2, vector(&[-1])), (3, vector(&[2]))],
        ),
        (
            "pad",
            10,
            x("Pad", vec![pads(), float("value", 0.5)]),
            pad,
            vec![(1, vector(&[0, 1, 0, 2])), (2, Tensor::scalar(0.5f32))],
        ),
        ("mean", 17, mean, reduce(ReduceKind::Mean, false, false), vec![(1, vector(&[2, 3]))]),
        (
            "sum",
            12,
            x("ReduceSum", vec![ints("axes", &[1])]),
            reduce(ReduceKind::Sum, true, false),
            vec![(1, vector(&[1]))],
        ),
        ("upsample", 7, x("Upsample", vec![scales]), old_resize, vec![(2, Tensor::vector(vec![1f32, 1.0, 2.0, 2.0]))]),
        ("softmax", 12, x("Softmax", vec![]), softmax(1, true, false), vec![]),
        ("log softmax", 7, x("LogSoftmax", vec![int("axis", 2)]), softmax(2, true, true), vec![]),
        ("dropout", 7, node("Dropout", &["x"], &["y", "mask"], vec![float("ratio", 0.5)]), Op::Identity, vec![]),
    ];
    for (name, opset, node, op, added) in cases {
        let read = read_at(&node, opset).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((&read.op, &read.added, read.placed), (&op, &added, None), "{name}");
    }
}

#[test]
fn operands_of_older_opsets_find_their_place() {
    let old_resize = Op::Resize(nearest(CoordinateMode::Asymmetric));
    let read = read_at(&node("Upsample", &["x", "scales"], &["y"], vec![]), 9).unwrap();
    assert_eq!((&read.op, read.placed), (&old_resize, Some([0, 2].as_slice())));
}

/// The scales of a resize are known, and nothing else.
struct Scales(Vec<f32>);

impl Known for Scales {
    fn constant(&self, name: &str) -> Option<Arc<Tensor>> {
        (name == "scales").then(|| Arc::new(Tensor::vector(self.0.clone())))
    }

    fn constant_shape(&self, _: &str) -> Option<Vec<usize>> {
        None
    }

    fn rank(&self, _: &str) -> Option<usize> {
        None
    }
}

#[test]
fn the_first_resize_rounds_up_where_it_shrinks() {
    let up_and_down = "nearest rounds up where it shrinks and down where it grows";
    let cases: Vec<(&str, Vec<f32>, Result<NearestMode, &str>)> = vec![
        ("grows", vec![1.0, 1.0, 2.0, 1.5], Ok(NearestMode::Floor)),
        ("keeps", vec![1.0; 4], Ok(NearestMode::Floor)),
        ("shrinks", vec![1.0, 1.0, 0.6, 0.5], Ok(NearestMode::Ceil)),
        ("shrinks along one axis", vec![1.0, 1.0, 0.6, 1.0], Ok(NearestMode::Ceil)),
        ("both", vec![1.0, 1.0, 0.6, 2.0], Err(up_and_down)),
    ];
    let resize = |mode| node("Resize", &["x", "scales"], &["y"], vec![text("mode", mode)]);
    for (name, scales, expected) in cases {
        let known = Scales(scales);
        let mode = |node: &NodeProto| match read(&NodeReader::new(node, 10, &known)).unwrap()?.op {
            Op::Resize(resize) => Ok(resize.mode),
            other => panic!("{other:?}"),
        };
        let found = mode(&resize("nearest")).map_err(|e: ReadError| e.to_string());
        assert_eq!(found, expected.map(ResizeMode::Nearest).map_err(str::to_owned), "{name}");
        assert_eq!(mode(&resize("linear")), Ok(ResizeMode::Linear), "{name}");
    }
    assert_eq!(read_at(&resize("linear"), 10).unwrap().placed, Some([0, 2].as_slice()));
}

#[test]
fn attributes_that_became_operands_are_not_read_again() {
    let axes = ints("axes", &[1]);
    for (op_type, opset) in [("Squeeze", 13), ("Unsqueeze", 13), ("ReduceSum", 13), ("ReduceMax", 18)] {
        let node = node(op_type, &["x", "axes"], &["y"], vec![axes.clone()]);
        assert_eq!(read_at(&node, opset).unwrap().added, [], "{op_type}");
    }
    let ceil = node("Conv", &["x", "w"], &["y"], vec![int("ceil_mode", 1)]);
    let Op::Conv(conv) = read_at(&ceil, 13).unwrap().op else { panic!("no convolution") };
    assert_eq!(conv.window.rounding, Rounding::Floor);
}

#[test]
fn forms_that_are_not_known_are_told_apart() {
    let x = |op_type: &str, attributes| node(op_type, &["x"], &["y"], attributes);
    let weighted = |op_type: &str, attributes| node(op_type, &["x", "w"], &["y"], attributes);
    let kernel = |attribute| vec![ints("kernel_shape", &[2, 2]), attribute];
    let two = TensorData::F32(vec![0.0; 2]);
    let two = crate::tensor::encode_tensor("", &Tensor::from_data(vec![2], two).unwrap());
    let norm = |outputs: &[&str], attributes| {
        node("BatchNormalization", &["x", "scale", "bias", "mean", "variance"], outputs, attributes)
    };
    let cases: Vec<(i64, NodeProto, &str)> = vec![
        (13, x("Conv", vec![]), "operand 1 is missing"),
        (13, node("Conv", &["x", ""], &["y"], vec![]), "operand 1 is missing"),
        (13, x("Unsqueeze", vec![]), "operand 1 is missing"),
        (12, x("Unsqueeze", vec![]), "operand 1 is missing"),
        (13, node("Concat", &[], &["y"], vec![int("axis", 0)]), "operand 0 is missing"),
        (13, node("Relu", &["x", "z"], &["y"], vec![]), "it has 2 operands, at most 1 are possible"),
        (13, node("Relu", &["x"], &["y", "z"], vec![]), "it has 2 results, at most 1 are possible"),
        (13, node("Relu", &["x"], &[], vec![]), "none of its results is asked for"),
        (13, node("Relu", &["x"], &[""], vec![]), "none of its results is asked for"),
        (17, weighted("ReduceMax", vec![]), "it has 2 operands at this opset, at most 1 are possible"),
        (9, weighted("Clip", vec![]), "it has 2 operands at this opset, at most 1 are possible"),
        (9, node("Upsample", &["x"], &["y"], vec![]), "operand 1 is missing"),
        (13, x("Resize", vec![]), "it gives neither scales nor sizes"),
        (13, weighted("Conv", vec![ints("strides", &[0, 1])]), "attribute `strides` has value [0, 1]"),
        (13, weighted("Conv", vec![ints("dilations", &[0])]), "attribute `dilations` has value [0]"),
        (13, weighted("Conv", vec![ints("pads", &[-1, 0])]), "attribute `pads` has value -1"),
        (13, weighted("Conv", vec![ints("pads", &[1])]), "attribute `pads` has value [1], an odd number of entries"),
        (13, weighted("Conv", vec![int("group", 0)]), "attribute `group` has value 0"),
        (13, weighted("Conv", vec![float("group", 1.0)]), "attribute `group` has the wrong type"),
        (13, weighted("Conv", vec![text("auto_pad", "SAME")]), "attribute `auto_pad` has value `SAME`"),
        (13, x("MaxPool", vec![]), "attribute `kernel_shape` is missing"),
        (13, x("MaxPool", vec![ints("kernel_shape", &[2, 0])]), "attribute `kernel_shape` has value [2, 0]"),
        (13, x("LpPool", kernel(int("p", 0))), "attribute `p` has value 0"),
        (13, x("Cast", vec![]), "attribute `to` is missing"),
        (13, x("Cast", vec![int("to", 8)]), "attribute `to` has value 8"),
        (13, x("Cast", vec![int("to", 10)]), "half precision is not computed here"),
        (13, x("Cast", vec![int("to", 16)]), "half precision is not computed here"),
        (
            10,
            weighted("Resize", vec![]),
            "its scales are not constant, so how nearest rounds at this opset is not known",
        ),
        (13, x("Concat", vec![]), "attribute `axis` is missing"),
        (9, x("Slice", vec![]), "attribute `starts` is missing"),
        (
            18,
            x("Split", vec![int("num_outputs", 2)]),
            "attribute `num_outputs` has value 2, unlike its number of results",
        ),
        (13, x("DepthToSpace", vec![]), "attribute `blocksize` is missing"),
        (
            28,
            x("SpaceToDepth", vec![int("blocksize", 2), text("mode", "CRD")]),
            "its blocks are not spread depth last (`mode` is not DCR)",
        ),
        (13, node("Dropout", &["x", "", "train"], &["y"], vec![]), "it may drop elements, as in training"),
        (14, norm(&["y"], vec![int("training_mode", 1)]), "it computes statistics, as in training"),
        (9, norm(&["y", "mean_out"], vec![]), "it computes statistics, as in training"),
        (7, norm(&["y"], vec![int("spatial", 0)]), "it normalizes each activation on its own (`spatial` is 0)"),
        (13, x("LRN", vec![]), "attribute `size` is missing"),
        (
            17,
            weighted("LayerNormalization", vec![int("stash_type", 10)]),
            "it computes in another type than float32 (`stash_type` is not 1)",
        ),
        (
            23,
            weighted("QuantizeLinear", vec![int("precision", 1)]),
            "it divides in another type than its operands' (`precision` is not 0)",
        ),
        (21, weighted("QuantizeLinear", vec![int("output_dtype", 22)]), "attribute `output_dtype` has value 22"),
        (
            23,
            weighted("DequantizeLinear", vec![int("output_dtype", 10)]),
            "attribute `output_dtype` has value float16, not float32",
        ),
        (13, x("ConstantOfShape", vec![tensor("value", two)]), "attribute `value` has value with 2 elements"),
    ];
    for (opset, node, message) in cases {
        assert_eq!(read_at(&node, opset).unwrap_err().to_string(), message, "{} at {opset}", node.op_type());
    }
}
