//! Whatever operators and operands come together, the result is a value or an error, never a panic.

use super::{elementwise, layout, meta, norm, quantize, reduce, resize};
use crate::error::OpError;
use crate::operands::Operands;
use crate::pool::Pool;
use proptest::collection::vec;
use proptest::prelude::*;
use quantize_ir::op::{
    ArgMax, AspectPolicy, BatchNorm, Binary, Cast, Concat, ConstantOfShape, CoordinateMode, DepthToSpace,
    DepthToSpaceMode, Flatten, Gather, InstanceNorm, LayerNorm, Layout, LinearQuantization, Lrn, LrnRegion, Nary,
    NearestMode, Pad, PadMode, Reduce, ReduceKind, Reshape, Resize, ResizeMode, ShapeOf, Softmax, SpaceToDepth, Split,
    Transpose, Unary,
};
use quantize_ir::{DType, Tensor};

const DTYPES: [DType; 11] = [
    DType::F32,
    DType::F64,
    DType::I8,
    DType::U8,
    DType::I16,
    DType::U16,
    DType::I32,
    DType::U32,
    DType::I64,
    DType::U64,
    DType::Bool,
];

/// Numbers that operators meet: small ones, and the ends of the types. Sizes in between would only allocate.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (-3i8..5).prop_map(f64::from),
        2 => -2.0..2.0f64,
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 1e15, -1e15]),
    ]
}

fn dtype() -> impl Strategy<Value = DType> {
    prop_oneof![3 => Just(DType::F32), 2 => Just(DType::I64), 4 => prop::sample::select(DTYPES.to_vec())]
}

fn tensor() -> impl Strategy<Value = Tensor> {
    let shape =
        prop_oneof![4 => vec(1usize..4, 0..5), 2 => vec(0usize..3, 0..6), 3 => (0usize..9).prop_map(|n| vec![n])];
    (shape, dtype()).prop_flat_map(|(shape, dtype)| {
        let len = shape.iter().product::<usize>();
        vec(number(), len).prop_map(move |values| {
            // The largest `int32` is a size that would be allocated; the smallest is refused like all that are beyond.
            let refused = |x: f64| if dtype == DType::I32 && x > 1e6 { f64::NEG_INFINITY } else { x };
            let wide = quantize_ir::TensorData::F64(values.into_iter().map(refused).collect());
            Tensor::from_data(shape.clone(), elementwise::convert(&wide, dtype)).unwrap()
        })
    })
}

fn operands() -> impl Strategy<Value = Vec<Option<Tensor>>> {
    vec(prop::option::weighted(0.9, tensor()), 0..6)
}

/// Attributes of any operator, drawn from the same few numbers.
#[derive(Clone, Debug)]
struct Attributes {
    axis: i64,
    count: usize,
    float: f32,
    other: f32,
    flags: [bool; 2],
    choice: usize,
    dtype: DType,
    perm: Vec<usize>,
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let axis = prop_oneof![8 => -5i64..5, 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
    let count = prop_oneof![8 => 0usize..5, 1 => Just(usize::MAX), 1 => Just(1usize << 33)];
    let float = || number().prop_map(|x| x as f32);
    (axis, count, float(), float(), any::<[bool; 2]>(), 0usize..1000, dtype(), vec(0usize..5, 0..6)).prop_map(
        |(axis, count, float, other, flags, choice, dtype, perm)| Attributes {
            axis,
            count,
            float,
            other,
            flags,
            choice,
            dtype,
            perm,
        },
    )
}

impl Attributes {
    fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[self.choice % of.len()]
    }

    fn unary(&self) -> Unary {
        let (alpha, beta) = (self.float, self.other);
        self.pick(&[
            Unary::Relu,
            Unary::LeakyRelu { alpha },
            Unary::Sigmoid,
            Unary::Tanh,
            Unary::HardSigmoid { alpha, beta },
            Unary::HardSwish,
            Unary::Elu { alpha },
            Unary::Selu { alpha, gamma: beta },
            Unary::Shrink { lambda: alpha, bias: beta },
            Unary::Softplus,
            Unary::Erf,
            Unary::Gelu { tanh: self.flags[0] },
            Unary::Mish,
            Unary::Exp,
            Unary::Log,
            Unary::Sqrt,
            Unary::Abs,
            Unary::Neg,
            Unary::Sign,
            Unary::Reciprocal,
            Unary::Floor,
            Unary::Ceil,
            Unary::Round,
            Unary::Not,
        ])
    }

    fn binary(&self) -> Binary {
        self.pick(&[
            Binary::Add,
            Binary::Sub,
            Binary::Mul,
            Binary::Div,
            Binary::Pow,
            Binary::Equal,
            Binary::Less,
            Binary::LessOrEqual,
            Binary::Greater,
            Binary::GreaterOrEqual,
            Binary::And,
            Binary::Or,
        ])
    }

    fn reduce(&self) -> Reduce {
        use ReduceKind::{L1, L2, Max, Mean, Min, Prod, Sum, SumSquare};
        let kind = self.pick(&[L1, L2, Max, Mean, Min, Prod, Sum, SumSquare]);
        Reduce { kind, keep_dims: self.flags[0], noop_with_empty_axes: self.flags[1] }
    }

    fn resize(&self) -> Resize {
        use NearestMode::{Ceil, Floor, RoundPreferCeil, RoundPreferFloor};
        let nearest = self.pick(&[Ceil, Floor, RoundPreferCeil, RoundPreferFloor]);
        let cubic = ResizeMode::Cubic { coefficient: self.float, exclude_outside: self.flags[0] };
        let modes = [
            CoordinateMode::HalfPixel,
            CoordinateMode::HalfPixelSymmetric,
            CoordinateMode::PytorchHalfPixel,
            CoordinateMode::AlignCorners,
            CoordinateMode::Asymmetric,
            CoordinateMode::TfHalfPixelForNearest,
            CoordinateMode::TfCropAndResize { extrapolation: self.other },
        ];
        let policies = [AspectPolicy::Stretch, AspectPolicy::NotLarger, AspectPolicy::NotSmaller];
        Resize {
            mode: [ResizeMode::Nearest(nearest), ResizeMode::Linear, cubic][self.choice / 4 % 3],
            coordinates: modes[self.choice / 12 % modes.len()],
            antialias: self.flags[1],
            axes: self.perm.iter().map(|&p| p as i64 - 1).take(self.choice % 3).collect(),
            aspect: policies[self.choice / 84 % 3],
        }
    }

    fn layout(&self) -> Layout {
        if self.flags[0] { Layout::ChannelsFirst } else { Layout::ChannelsLast }
    }
}

type Evaluation = fn(&Attributes, Operands<'_>, &mut Pool) -> Result<Vec<Tensor>, OpError>;

const ALL: [Evaluation; 36] = [
    |a, o, p| elementwise::unary(a.unary(), o, p),
    |a, o, p| elementwise::binary(a.binary(), o, p),
    |a, o, p| elementwise::nary(a.pick(&[Nary::Sum, Nary::Mean, Nary::Min, Nary::Max]), o, p),
    |_, o, p| elementwise::clip(o, p),
    |_, o, p| elementwise::prelu(o, p),
    |_, o, p| elementwise::select(o, p),
    |a, o, p| elementwise::cast(Cast { to: a.dtype }, o, p),
    |a, o, p| layout::concat(&Concat { axis: a.axis }, o, p),
    |a, o, p| layout::split(&Split { axis: a.axis }, a.count, o, p),
    |_, o, p| layout::slice(o, p),
    |a, o, p| layout::gather(&Gather { axis: a.axis }, o, p),
    |a, o, p| layout::transpose(&Transpose { perm: a.perm.clone() }, o, p),
    |a, o, p| layout::reshape(&Reshape { allow_zero: a.flags[0] }, o, p),
    |a, o, p| layout::flatten(&Flatten { axis: a.axis }, o, p),
    |_, o, p| layout::squeeze(o, p),
    |_, o, p| layout::unsqueeze(o, p),
    |_, o, p| layout::expand(o, p),
    |_, o, p| layout::tile(o, p),
    |a, o, p| {
        let mode = a.pick(&[PadMode::Constant, PadMode::Reflect, PadMode::Edge, PadMode::Wrap]);
        layout::pad(&Pad { mode }, o, p)
    },
    |a, o, p| {
        let mode = a.pick(&[DepthToSpaceMode::DepthColumnRow, DepthToSpaceMode::ColumnRowDepth]);
        layout::depth_to_space(&DepthToSpace { block: a.count, mode, layout: a.layout() }, o, p)
    },
    |a, o, p| layout::space_to_depth(&SpaceToDepth { block: a.count, layout: a.layout() }, o, p),
    |_, o, p| layout::identity(o, p),
    |a, o, p| resize::resize(&a.resize(), o, p),
    |a, o, p| norm::batch_norm(&BatchNorm { epsilon: a.float, axis: a.axis }, o, p),
    |a, o, p| {
        let region = a.pick(&[LrnRegion::Across, LrnRegion::Within]);
        norm::lrn(&Lrn { alpha: a.float, beta: a.other, bias: a.float, size: a.count, region }, o, p)
    },
    |a, o, p| norm::instance_norm(&InstanceNorm { epsilon: a.float }, o, p),
    |a, o, p| norm::layer_norm(&LayerNorm { axis: a.axis, epsilon: a.float }, o, p),
    |a, o, p| norm::softmax(&Softmax { axis: a.axis, flatten: a.flags[0], log: a.flags[1] }, o, p),
    |a, o, p| reduce::reduce(&a.reduce(), o, p),
    |a, o, p| {
        let attrs = ArgMax { axis: a.axis, keep_dims: a.flags[0], select_last: a.flags[1] };
        reduce::arg_max(&attrs, o, p)
    },
    |a, o, p| meta::shape_of(&ShapeOf { start: a.axis, end: a.flags[0].then_some(a.count as i64) }, o, p),
    |_, o, p| meta::size(o, p),
    |a, o, p| {
        let value = quantize_ir::TensorData::F32(vec![a.float; a.choice % 3]);
        meta::constant_of_shape(&ConstantOfShape { value: elementwise::convert(&value, a.dtype) }, o, p)
    },
    |_, o, p| meta::range(o, p),
    |a, o, p| quantize::quantize(&a.quantization(), o, p),
    |a, o, p| quantize::dequantize(&a.quantization(), o, p),
];

impl Attributes {
    fn quantization(&self) -> LinearQuantization {
        LinearQuantization { axis: self.axis, block_size: self.count, output: self.flags[0].then_some(self.dtype) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn nothing_panics(attributes in attributes(), operands in operands()) {
        let slots: Vec<Option<&Tensor>> = operands.iter().map(Option::as_ref).collect();
        let alike = vec![slots.first().copied().flatten(); slots.len()];
        let mut pool = Pool::default();
        for evaluation in ALL {
            for slots in [&slots, &alike] {
                let results = evaluation(&attributes, Operands(slots), &mut pool);
                results.into_iter().flatten().for_each(|t| pool.give(t));
            }
        }
    }
}
