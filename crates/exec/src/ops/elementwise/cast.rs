//! Conversion of the element type.

use crate::error::OpError;
use crate::operands::Operands;
use crate::ops::alloc;
use crate::pool::Pool;
use half::{bf16, f16};
use quantize_ir::op::Cast;
use quantize_ir::{DType, Tensor, TensorData};

/// Converts the element type.
///
/// Floats are truncated toward zero and saturate in integers, NaN becomes 0; integers wrap around in narrower ones;
/// anything but zero is true. Half-precision results are rounded to nearest, ties to even, and held in single precision.
///
/// # Errors
/// If the operand is missing.
pub(crate) fn cast(cast: Cast, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let y = match x.data() {
        TensorData::F32(v) if cast.to == DType::F32 => alloc::copied(v, x.shape().to_vec(), pool)?,
        data => Tensor::from_data(x.shape(), convert(data, cast.to))?,
    };
    Ok(vec![y])
}

macro_rules! elements_as {
    ($data:expr, $ty:ty) => {
        match $data {
            TensorData::F32(v) => v.iter().map(|&x| x as $ty).collect(),
            TensorData::F64(v) => v.iter().map(|&x| x as $ty).collect(),
            TensorData::I8(v) => v.iter().map(|&x| x as $ty).collect(),
            TensorData::U8(v) => v.iter().map(|&x| x as $ty).collect(),
            TensorData::I16(v) => v.iter().map(|&x| x as $ty).collect(),
            TensorData::U16(v) => v.iter().map(|&x| x as $ty).collect(),
            TensorData::I32(v) => v.iter().map(|&x| x as $ty).collect(),
            TensorData::U32(v) => v.iter().map(|&x| x as $ty).collect(),
            TensorData::I64(v) => v.iter().map(|&x| x as $ty).collect(),
            TensorData::U64(v) => v.iter().map(|&x| x as $ty).collect(),
            TensorData::Bool(v) => v.iter().map(|&x| u8::from(x) as $ty).collect(),
        }
    };
}

/// The elements in another type, by the rules of [`cast`].
pub(crate) fn convert(data: &TensorData, to: DType) -> TensorData {
    let singles = || -> Vec<f32> { elements_as!(data, f32) };
    match to {
        DType::F32 => TensorData::F32(singles()),
        DType::F16 => TensorData::F32(singles().into_iter().map(|x| f16::from_f32(x).to_f32()).collect()),
        DType::BF16 => TensorData::F32(singles().into_iter().map(|x| bf16::from_f32(x).to_f32()).collect()),
        DType::F64 => TensorData::F64(elements_as!(data, f64)),
        DType::I8 => TensorData::I8(elements_as!(data, i8)),
        DType::U8 => TensorData::U8(elements_as!(data, u8)),
        DType::I16 => TensorData::I16(elements_as!(data, i16)),
        DType::U16 => TensorData::U16(elements_as!(data, u16)),
        DType::I32 => TensorData::I32(elements_as!(data, i32)),
        DType::U32 => TensorData::U32(elements_as!(data, u32)),
        DType::I64 => TensorData::I64(elements_as!(data, i64)),
        DType::U64 => TensorData::U64(elements_as!(data, u64)),
        DType::Bool => TensorData::Bool(truth(data)),
    }
}

fn truth(data: &TensorData) -> Vec<bool> {
    match data {
        TensorData::F32(v) => v.iter().map(|&x| x != 0.0).collect(),
        TensorData::F64(v) => v.iter().map(|&x| x != 0.0).collect(),
        TensorData::I8(v) => v.iter().map(|&x| x != 0).collect(),
        TensorData::U8(v) => v.iter().map(|&x| x != 0).collect(),
        TensorData::I16(v) => v.iter().map(|&x| x != 0).collect(),
        TensorData::U16(v) => v.iter().map(|&x| x != 0).collect(),
        TensorData::I32(v) => v.iter().map(|&x| x != 0).collect(),
        TensorData::U32(v) => v.iter().map(|&x| x != 0).collect(),
        TensorData::I64(v) => v.iter().map(|&x| x != 0).collect(),
        TensorData::U64(v) => v.iter().map(|&x| x != 0).collect(),
        TensorData::Bool(v) => v.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run;

    #[test]
    fn conversions() {
        let floats = TensorData::F32(vec![-1.9, 2.5, 300.0, f32::NAN, f32::INFINITY]);
        let cases = [
            (floats.clone(), TensorData::I8(vec![-1, 2, 127, 0, 127])),
            (floats.clone(), TensorData::U8(vec![0, 2, 255, 0, 255])),
            (floats, TensorData::Bool(vec![true; 5])),
            (TensorData::I32(vec![-1, 256, 3]), TensorData::U8(vec![255, 0, 3])),
            (TensorData::Bool(vec![true, false]), TensorData::F32(vec![1.0, 0.0])),
            (TensorData::I64(vec![0, -7]), TensorData::Bool(vec![false, true])),
        ];
        for (from, to) in cases {
            let x = Tensor::from_data([from.len()], from).unwrap();
            let expected = Tensor::from_data([to.len()], to).unwrap();
            let attrs = Cast { to: expected.dtype() };
            assert_eq!(run(&[&x], |o, p| cast(attrs, o, p)), Ok(expected));
        }
    }

    #[test]
    fn half_precision_is_rounded_and_held_in_single() {
        let x = Tensor::vector(vec![1.5f32, 2049.0, 2051.0, -1e6, 1e-9]);
        let halves = Tensor::vector(vec![1.5f32, 2048.0, 2052.0, f32::NEG_INFINITY, 0.0]);
        assert_eq!(run(&[&x], |o, p| cast(Cast { to: DType::F16 }, o, p)), Ok(halves));
        let x = Tensor::vector(vec![1.5f32, 257.0, 259.0, -1e6]);
        let halves = Tensor::vector(vec![1.5f32, 256.0, 260.0, -999_424.0]);
        assert_eq!(run(&[&x], |o, p| cast(Cast { to: DType::BF16 }, o, p)), Ok(halves));
    }
}
