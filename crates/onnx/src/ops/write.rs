//! Writing a shared operator as an ONNX node, from nothing, at opset 13 or later.

use crate::error::OnnxError;
use crate::tensor::{data_type_of, encode_tensor};
use quantize_ir::op::{
    AspectPolicy, Conv, ConvTranspose, CoordinateMode, DepthToSpaceMode, FilterLayout, GlobalPool, Layout,
    LinearQuantization, LrnRegion, NearestMode, PadMode, Padding, ReduceKind, Resize, ResizeMode, Rounding, Unary,
    Window,
};
use quantize_ir::{Op, Tensor};
use quantize_proto::onnx::attribute_proto::AttributeType;
use quantize_proto::onnx::{AttributeProto, NodeProto};

/// Attributes under construction; defaults are left out where the standard has them.
#[derive(Default)]
struct Attributes(Vec<AttributeProto>);

impl Attributes {
    fn push(&mut self, name: &str, kind: AttributeType, fill: impl FnOnce(&mut AttributeProto)) -> &mut Self {
        let mut attribute =
            AttributeProto { name: Some(name.to_owned()), r#type: Some(kind.into()), ..Default::default() };
        fill(&mut attribute);
        self.0.push(attribute);
        self
    }

    fn int(&mut self, name: &str, value: i64) -> &mut Self {
        self.push(name, AttributeType::Int, |a| a.i = Some(value))
    }

    fn flag(&mut self, name: &str, value: bool) -> &mut Self {
        if value { self.int(name, 1) } else { self }
    }

    fn float(&mut self, name: &str, value: f32) -> &mut Self {
        self.push(name, AttributeType::Float, |a| a.f = Some(value))
    }

    fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.push(name, AttributeType::String, |a| a.s = Some(value.as_bytes().to_vec()))
    }

    fn ints(&mut self, name: &str, values: Vec<i64>) -> &mut Self {
        self.push(name, AttributeType::Ints, |a| a.ints = values)
    }

    /// A list that may be left out when empty.
    fn sizes(&mut self, name: &str, values: &[usize]) -> &mut Self {
        // Sizes were read from 63-bit attributes or are tensor dimensions.
        if values.is_empty() { self } else { self.ints(name, values.iter().map(|v| *v as i64).collect()) }
    }

    fn window(&mut self, window: &Window) -> &mut Self {
        self.sizes("strides", &window.strides).sizes("dilations", &window.dilations);
        match &window.padding {
            Padding::Explicit { begin, end } => self.sizes("pads", &[begin.as_slice(), end].concat()),
            Padding::SameUpper => self.text("auto_pad", "SAME_UPPER"),
            Padding::SameLower => self.text("auto_pad", "SAME_LOWER"),
            Padding::Valid => self.text("auto_pad", "VALID"),
        };
        self
    }

    fn pool_window(&mut self, window: &Window) -> &mut Self {
        self.window(window).flag("ceil_mode", window.rounding == Rounding::Ceil)
    }
}

/// The node of the standard domain that computes `op`.
///
/// # Errors
/// If ONNX has no such operator at this opset: unknown ones, channels-last layouts, forms newer than `opset`.
pub fn emit(op: &Op, name: &str, input: Vec<String>, output: Vec<String>, opset: i64) -> Result<NodeProto, OnnxError> {
    let refuse = |cause: String| OnnxError::Unwritable { node: name.to_owned(), cause };
    let (mut op_type, mut attributes) = spell(op).map_err(|cause| refuse(cause.to_owned()))?;
    let given = |names: &[String], slot: usize| names.get(slot).is_some_and(|name| !name.is_empty());
    let since = first_opset(op, |slot| given(&input, slot));
    if opset < since {
        return Err(refuse(format!("this form of `{op_type}` exists from opset {since} on, the model has {opset}")));
    }
    if matches!(op, Op::Identity) && given(&output, 1) {
        op_type = "Dropout";
    }
    if matches!(op, Op::Split(_)) && opset >= 18 && !given(&input, 1) {
        attributes.int("num_outputs", output.len() as i64);
    }
    Ok(NodeProto {
        input,
        output,
        name: (!name.is_empty()).then(|| name.to_owned()),
        op_type: Some(op_type.to_owned()),
        attribute: attributes.0,
        ..NodeProto::default()
    })
}

/// Whether ONNX has an operator for `op`, at the newest opset.
///
/// # Errors
/// Why not, as [`emit`] would say.
pub(crate) fn check(op: &Op) -> Result<(), &'static str> {
    spell(op).map(|_| ())
}

/// First opset at which an operator can be written in the form used here, with the operands that are `given`; 13 if
/// earlier.
pub(crate) fn first_opset(op: &Op, given: impl Fn(usize) -> bool) -> i64 {
    match op {
        Op::Unary(Unary::HardSwish) => 14,
        Op::Reshape(r) if r.allow_zero => 14,
        Op::Shape(s) if s.start != 0 || s.end.is_some() => 15,
        Op::LayerNorm(_) => 17,
        Op::Unary(Unary::Mish) => 18,
        Op::Reduce(r) if r.kind != ReduceKind::Sum && (given(1) || r.noop_with_empty_axes) => 18,
        Op::Pad(p) if p.mode == PadMode::Wrap => 19,
        Op::Pad(_) if given(3) => 18,
        Op::LpPool(p) if p.window.rounding == Rounding::Ceil || !p.window.dilations.is_empty() => 18,
        Op::AveragePool(p) if !p.window.dilations.is_empty() => 19,
        Op::Resize(r) => resize_opset(r),
        Op::Unary(Unary::Gelu { .. }) => 20,
        Op::Dequantize(q) if q.output.is_some() => 23,
        Op::Quantize(q) | Op::Dequantize(q) if q.block_size != 0 || q.output.is_some() => 21,
        _ => 13,
    }
}

fn resize_opset(r: &Resize) -> i64 {
    if r.coordinates == CoordinateMode::HalfPixelSymmetric {
        return 19;
    }
    if r.antialias || !r.axes.is_empty() || r.aspect != AspectPolicy::Stretch { 18 } else { 13 }
}

const CHANNELS_LAST: &str = "ONNX has no channels-last form of it";
const ROUNDS_UP: &str = "it keeps a last partial window, which ONNX convolutions cannot";
const REMOVED_COORDINATES: &str = "its coordinate mode tf_half_pixel_for_nn was removed with opset 13";
const FLATTENED: &str = "its axes are flattened, which opset 13 and later cannot express in one node";
const WITHIN: &str = "ONNX normalizes responses across channels only, not within one";

fn spell(op: &Op) -> Result<(&str, Attributes), &'static str> {
    let mut a = Attributes::default();
    match op {
        Op::Conv(c) => return conv(c),
        Op::ConvTranspose(c) => return conv_transpose(c),
        Op::MaxPool(p) => {
            channels_first(p.layout)?;
            a.sizes("kernel_shape", &p.kernel).pool_window(&p.window).flag("storage_order", p.column_major);
        }
        Op::AveragePool(p) => {
            channels_first(p.layout)?;
            a.sizes("kernel_shape", &p.kernel).pool_window(&p.window).flag("count_include_pad", p.count_include_pad);
        }
        Op::LpPool(p) => {
            channels_first(p.layout)?;
            a.sizes("kernel_shape", &p.kernel).pool_window(&p.window).int("p", p.p.into());
        }
        Op::GlobalPool(GlobalPool::Lp(p)) => {
            a.int("p", (*p).into());
        }
        Op::Unary(f) => unary(*f, &mut a),
        Op::Cast(c) => {
            a.int("to", data_type_of(c.to).into());
        }
        Op::Gemm(g) => {
            if g.alpha != 1.0 {
                a.float("alpha", g.alpha);
            }
            if g.beta != 1.0 {
                a.float("beta", g.beta);
            }
            a.flag("transA", g.trans_a).flag("transB", g.trans_b);
        }
        Op::BatchNorm(b) if b.axis != 1 => return Err(CHANNELS_LAST),
        Op::BatchNorm(b) => {
            a.float("epsilon", b.epsilon);
        }
        Op::Lrn(l) if l.region == LrnRegion::Within => return Err(WITHIN),
        Op::Lrn(l) => {
            // Sizes were read from 63-bit attributes.
            a.float("alpha", l.alpha).float("beta", l.beta).float("bias", l.bias).int("size", l.size as i64);
        }
        Op::InstanceNorm(n) => {
            a.float("epsilon", n.epsilon);
        }
        Op::LayerNorm(n) => {
            a.int("axis", n.axis).float("epsilon", n.epsilon);
        }
        Op::Softmax(s) if s.flatten => return Err(FLATTENED),
        Op::Softmax(s) => {
            a.int("axis", s.axis);
        }
        Op::Concat(c) => {
            a.int("axis", c.axis);
        }
        Op::Split(s) => {
            a.int("axis", s.axis);
        }
        Op::Gather(g) => {
            a.int("axis", g.axis);
        }
        Op::Transpose(t) => {
            a.sizes("perm", &t.perm);
        }
        Op::Reshape(r) => {
            a.flag("allowzero", r.allow_zero);
        }
        Op::Flatten(f) => {
            a.int("axis", f.axis);
        }
        Op::Pad(p) => {
            a.text("mode", pad_mode(p.mode));
        }
        Op::Resize(r) if r.coordinates == CoordinateMode::TfHalfPixelForNearest => return Err(REMOVED_COORDINATES),
        Op::Resize(r) => resize(r, &mut a),
        Op::DepthToSpace(d) => {
            channels_first(d.layout)?;
            let mode = if d.mode == DepthToSpaceMode::DepthColumnRow { "DCR" } else { "CRD" };
            a.int("blocksize", d.block as i64).text("mode", mode);
        }
        Op::SpaceToDepth(d) => {
            channels_first(d.layout)?;
            a.int("blocksize", d.block as i64);
        }
        Op::Reduce(r) => {
            a.int("keepdims", r.keep_dims.into()).flag("noop_with_empty_axes", r.noop_with_empty_axes);
        }
        Op::ArgMax(m) => {
            a.int("axis", m.axis).int("keepdims", m.keep_dims.into()).flag("select_last_index", m.select_last);
        }
        Op::Shape(s) => {
            if s.start != 0 {
                a.int("start", s.start);
            }
            s.end.into_iter().for_each(|end| {
                a.int("end", end);
            });
        }
        Op::ConstantOfShape(c) => {
            let value = Tensor::from_data([1], c.value.clone()).map_err(|_| "its value is not one element")?;
            a.push("value", AttributeType::Tensor, |attribute| attribute.t = Some(encode_tensor("", &value)));
        }
        Op::Quantize(q) => linear(q, &mut a),
        Op::Dequantize(q) => linear(q, &mut a),
        Op::Ranged(_) => return Err("no operator of ONNX takes codes with their ranges"),
        Op::Opaque(_) => return Err("it is not an operator known here"),
        Op::GlobalPool(_)
        | Op::Binary(_)
        | Op::Nary(_)
        | Op::Clip
        | Op::PRelu
        | Op::Where
        | Op::MatMul
        | Op::Slice
        | Op::Squeeze
        | Op::Unsqueeze
        | Op::Expand
        | Op::Tile
        | Op::Size
        | Op::Range
        | Op::Identity => {}
    }
    Ok((op.name(), a))
}

fn channels_first(layout: Layout) -> Result<(), &'static str> {
    if layout == Layout::ChannelsFirst { Ok(()) } else { Err(CHANNELS_LAST) }
}

fn output_first(filter: FilterLayout) -> Result<(), &'static str> {
    if filter == FilterLayout::OutputFirst { Ok(()) } else { Err("its weight has the output channels last") }
}

fn rounds_down(window: &Window) -> Result<(), &'static str> {
    if window.rounding == Rounding::Floor { Ok(()) } else { Err(ROUNDS_UP) }
}

fn conv(c: &Conv) -> Result<(&'static str, Attributes), &'static str> {
    channels_first(c.layout)?;
    rounds_down(&c.window)?;
    output_first(c.filter)?;
    let mut a = Attributes::default();
    a.window(&c.window).int("group", c.group as i64);
    Ok(("Conv", a))
}

fn conv_transpose(c: &ConvTranspose) -> Result<(&'static str, Attributes), &'static str> {
    channels_first(c.layout)?;
    rounds_down(&c.window)?;
    output_first(c.filter)?;
    let mut a = Attributes::default();
    a.window(&c.window).int("group", c.group as i64);
    a.sizes("output_padding", &c.output_padding).sizes("output_shape", &c.output_shape);
    Ok(("ConvTranspose", a))
}

fn unary(f: Unary, a: &mut Attributes) {
    match f {
        Unary::LeakyRelu { alpha } | Unary::Elu { alpha } => {
            a.float("alpha", alpha);
        }
        Unary::HardSigmoid { alpha, beta } => {
            a.float("alpha", alpha).float("beta", beta);
        }
        Unary::Selu { alpha, gamma } => {
            a.float("alpha", alpha).float("gamma", gamma);
        }
        Unary::Shrink { lambda, bias } => {
            a.float("lambd", lambda).float("bias", bias);
        }
        Unary::Gelu { tanh } => {
            a.text("approximate", if tanh { "tanh" } else { "none" });
        }
        _ => {}
    }
}

fn pad_mode(mode: PadMode) -> &'static str {
    match mode {
        PadMode::Constant => "constant",
        PadMode::Reflect => "reflect",
        PadMode::Edge => "edge",
        PadMode::Wrap => "wrap",
    }
}

fn resize(r: &Resize, a: &mut Attributes) {
    match r.mode {
        ResizeMode::Nearest(mode) => {
            let rounding = match mode {
                NearestMode::RoundPreferFloor => "round_prefer_floor",
                NearestMode::RoundPreferCeil => "round_prefer_ceil",
                NearestMode::Floor => "floor",
                NearestMode::Ceil => "ceil",
            };
            a.text("mode", "nearest").text("nearest_mode", rounding);
        }
        ResizeMode::Linear => {
            a.text("mode", "linear");
        }
        ResizeMode::Cubic { coefficient, exclude_outside } => {
            a.text("mode", "cubic").float("cubic_coeff_a", coefficient).flag("exclude_outside", exclude_outside);
        }
    }
    let coordinates = super::resize::COORDINATES.iter().find(|(_, mode)| *mode == r.coordinates);
    a.text("coordinate_transformation_mode", coordinates.map_or("tf_crop_and_resize", |(name, _)| name));
    if let CoordinateMode::TfCropAndResize { extrapolation } = r.coordinates {
        a.float("extrapolation_value", extrapolation);
    }
    a.flag("antialias", r.antialias);
    if !r.axes.is_empty() {
        a.ints("axes", r.axes.clone());
    }
    match r.aspect {
        AspectPolicy::Stretch => {}
        AspectPolicy::NotLarger => {
            a.text("keep_aspect_ratio_policy", "not_larger");
        }
        AspectPolicy::NotSmaller => {
            a.text("keep_aspect_ratio_policy", "not_smaller");
        }
    }
}

fn linear(q: &LinearQuantization, a: &mut Attributes) {
    a.int("axis", q.axis);
    if q.block_size != 0 {
        a.int("block_size", q.block_size as i64);
    }
    q.output.into_iter().for_each(|dtype| {
        a.int("output_dtype", data_type_of(dtype).into());
    });
}
