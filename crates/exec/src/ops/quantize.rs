//! Quantization operators that a model contains already.

use super::alloc;
use super::dispatch::unsupported;
use crate::error::OpError;
use crate::operands::Operands;
use crate::pool::Pool;
use quantize_ir::op::LinearQuantization;
use quantize_ir::shape::resolve_axis;
use quantize_ir::{DType, Element, Tensor, TensorData};

/// Which elements share a scale.
enum Granularity {
    /// All.
    Tensor,
    /// Those with the same index along an axis: its size, and the elements after each other with one index.
    Axis { axis: usize, inner: usize },
    /// Those in one block along an axis: size of the axis, elements after each other with one index, size of a block.
    Block { axis: usize, inner: usize, block: usize },
}

impl Granularity {
    fn new(attrs: &LinearQuantization, x: &Tensor, scale: &Tensor) -> Result<Self, OpError> {
        if attrs.block_size == 0 && scale.len() == 1 && scale.rank() <= 1 {
            return Ok(Self::Tensor);
        }
        let misfit = || OpError::shape(format!("scales of shape {:?} for elements of {:?}", scale.shape(), x.shape()));
        let k = resolve_axis(attrs.axis, x.rank())?;
        let (axis, inner) = (x.shape()[k], x.shape()[k + 1..].iter().product());
        if attrs.block_size == 0 {
            return if scale.shape() == [axis] { Ok(Self::Axis { axis, inner }) } else { Err(misfit()) };
        }
        let mut blocks = x.shape().to_vec();
        blocks[k] = axis.div_ceil(attrs.block_size);
        if scale.shape() != blocks {
            return Err(misfit());
        }
        Ok(Self::Block { axis, inner, block: attrs.block_size })
    }

    /// Elements in a row that share a scale.
    fn run(&self) -> usize {
        match self {
            Self::Tensor => usize::MAX,
            Self::Axis { inner, .. } => (*inner).max(1),
            Self::Block { .. } => 1,
        }
    }

    /// Index of the scale of the run.
    fn scale_of(&self, run: usize) -> usize {
        match *self {
            Self::Tensor => 0,
            Self::Axis { axis, .. } => run % axis,
            Self::Block { axis, inner, block } => {
                let (outer, rest) = (run / (axis * inner), run % (axis * inner));
                (outer * axis.div_ceil(block) + rest / inner / block) * inner + rest % inner
            }
        }
    }

    /// Calls `f(x, out, scale, zero point)` for each run.
    fn for_each_run<X, Y>(
        &self,
        x: &[X],
        out: &mut [Y],
        parameters: (&[f32], &[i32]),
        f: impl Fn(&[X], &mut [Y], f32, i32),
    ) {
        let runs = x.chunks(self.run()).zip(out.chunks_mut(self.run()));
        for (i, (x, out)) in runs.enumerate() {
            let k = self.scale_of(i);
            f(x, out, parameters.0[k], parameters.1.get(k).copied().unwrap_or(0));
        }
    }
}

/// Zero points in a common type; none stand for zeros.
fn zero_points(operands: Operands<'_>, scale: &Tensor) -> Result<Vec<i32>, OpError> {
    let Some(tensor) = operands.optional(2) else { return Ok(Vec::new()) };
    if tensor.len() != scale.len() {
        return Err(OpError::shape(format!("{} zero points for {} scales", tensor.len(), scale.len())));
    }
    codes(tensor)
}

/// Integer codes in a common type.
fn codes(tensor: &Tensor) -> Result<Vec<i32>, OpError> {
    Ok(match tensor.data() {
        TensorData::I8(v) => v.iter().map(|&q| q.into()).collect(),
        TensorData::U8(v) => v.iter().map(|&q| q.into()).collect(),
        TensorData::I16(v) => v.iter().map(|&q| q.into()).collect(),
        TensorData::U16(v) => v.iter().map(|&q| q.into()).collect(),
        TensorData::I32(v) => v.clone(),
        other => return Err(unsupported("quantization", other.dtype())),
    })
}

/// `saturate(round(x / scale) + zero point)`, halves to even, NaN to the lowest code: 8 and 16 bit codes of `float32`
/// elements. The zero point's type is the result's; without one it is the attribute's, or `uint8`.
///
/// # Errors
/// If scales or zero points do not fit the elements, or the result type is no 8 or 16 bit integer.
pub(crate) fn quantize(
    attrs: &LinearQuantization,
    operands: Operands<'_>,
    pool: &mut Pool,
) -> Result<Vec<Tensor>, OpError> {
    let dtype = operands.optional(2).map(Tensor::dtype).or(attrs.output).unwrap_or(DType::U8);
    let y = match dtype {
        DType::I8 => quantize_to(attrs, operands, (i8::MIN.into(), i8::MAX.into()), |q| q as i8, pool),
        DType::U8 => quantize_to(attrs, operands, (u8::MIN.into(), u8::MAX.into()), |q| q as u8, pool),
        DType::I16 => quantize_to(attrs, operands, (i16::MIN.into(), i16::MAX.into()), |q| q as i16, pool),
        DType::U16 => quantize_to(attrs, operands, (u16::MIN.into(), u16::MAX.into()), |q| q as u16, pool),
        other => Err(unsupported("QuantizeLinear to codes", other)),
    }?;
    Ok(vec![y])
}

fn quantize_to<T: Element + Default>(
    attrs: &LinearQuantization,
    operands: Operands<'_>,
    (lowest, highest): (f32, f32),
    code: impl Fn(f32) -> T,
    pool: &mut Pool,
) -> Result<Tensor, OpError> {
    let (x, scale) = (operands.required(0)?, operands.required(1)?);
    let granularity = Granularity::new(attrs, x, scale)?;
    let zero_points = zero_points(operands, scale)?;
    let mut out = alloc::buffer(x.shape(), pool)?;
    granularity.for_each_run(x.as_slice()?, &mut out, (scale.as_slice()?, &zero_points), |x, out, scale, zero| {
        let zero = zero as f32;
        out.iter_mut().zip(x).for_each(|(q, x): (&mut T, &f32)| {
            // `max` returns the other operand for NaN.
            *q = code(((x / scale).round_ties_even() + zero).max(lowest).min(highest));
        });
    });
    Ok(Tensor::new(x.shape(), out)?)
}

/// `(q - zero point) * scale` as `float32`, of 8, 16 or 32 bit codes.
///
/// # Errors
/// If scales or zero points do not fit the elements, or the elements are no such codes.
pub(crate) fn dequantize(
    attrs: &LinearQuantization,
    operands: Operands<'_>,
    pool: &mut Pool,
) -> Result<Vec<Tensor>, OpError> {
    let (x, scale) = (operands.required(0)?, operands.required(1)?);
    let granularity = Granularity::new(attrs, x, scale)?;
    let zero_points = zero_points(operands, scale)?;
    if let Some(zero) = operands.optional(2).filter(|zero| zero.dtype() != x.dtype()) {
        return Err(OpError::shape(format!("{} codes with {} zero points", x.dtype(), zero.dtype())));
    }
    let codes = codes(x)?;
    let mut out = alloc::buffer(x.shape(), pool)?;
    granularity.for_each_run(&codes, &mut out, (scale.as_slice()?, &zero_points), |codes, out, scale, zero| {
        out.iter_mut().zip(codes).for_each(|(x, &q)| *x = (i64::from(q) - i64::from(zero)) as f32 * scale);
    });
    Ok(vec![Tensor::new(x.shape(), out)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::run;

    const PLAIN: LinearQuantization = LinearQuantization { axis: 1, block_size: 0, output: None };

    #[test]
    fn rounding_and_saturation() {
        let x = Tensor::vector(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.5, 1.5, -200.0, 2.4]);
        let (scale, zero) = (Tensor::scalar(1f32), Tensor::scalar(3i8));
        let y = run(&[&x, &scale, &zero], |o, p| quantize(&PLAIN, o, p));
        assert_eq!(y, Ok(Tensor::vector(vec![-128i8, 127, -128, 3, 5, -128, 5])));
        let y = run(&[&x, &scale], |o, p| quantize(&PLAIN, o, p));
        assert_eq!(y, Ok(Tensor::vector(vec![0u8, 255, 0, 0, 2, 0, 2])));
        let wide = LinearQuantization { output: Some(DType::I16), ..PLAIN };
        let y = run(&[&x, &scale], |o, p| quantize(&wide, o, p));
        assert_eq!(y, Ok(Tensor::vector(vec![-32768i16, 32767, -32768, 0, 2, -200, 2])));
        let real = LinearQuantization { output: Some(DType::F32), ..PLAIN };
        assert!(run(&[&x, &scale], |o, p| quantize(&real, o, p)).is_err());
    }

    #[test]
    fn per_axis() {
        let x = Tensor::new([1, 2, 2], vec![1f32, 2.0, 3.0, 4.0]).unwrap();
        let (scale, zero) = (Tensor::vector(vec![1f32, 0.5]), Tensor::vector(vec![10u8, 20]));
        let q = run(&[&x, &scale, &zero], |o, p| quantize(&PLAIN, o, p)).unwrap();
        assert_eq!(q, Tensor::new([1, 2, 2], vec![11u8, 12, 26, 28]).unwrap());
        assert_eq!(run(&[&q, &scale, &zero], |o, p| dequantize(&PLAIN, o, p)), Ok(x.clone()));
        let three = Tensor::vector(vec![1f32; 3]);
        assert!(run(&[&x, &three], |o, p| quantize(&PLAIN, o, p)).is_err());
        assert!(run(&[&x, &scale, &Tensor::vector(vec![1u8])], |o, p| quantize(&PLAIN, o, p)).is_err());
    }

    #[test]
    fn blocked() {
        let q = Tensor::new([3, 2], vec![1i8, 2, 3, 4, 5, 6]).unwrap();
        let scale = Tensor::new([2, 2], vec![1f32, 10.0, 100.0, 1000.0]).unwrap();
        let attrs = LinearQuantization { axis: 0, block_size: 2, output: Some(DType::I8) };
        let x = run(&[&q, &scale], |o, p| dequantize(&attrs, o, p)).unwrap();
        assert_eq!(x, Tensor::new([3, 2], vec![1f32, 20.0, 3.0, 40.0, 500.0, 6000.0]).unwrap());
        assert_eq!(run(&[&x, &scale], |o, p| quantize(&attrs, o, p)), Ok(q));
    }

    #[test]
    fn accumulators_become_real() {
        let q = Tensor::vector(vec![i32::MIN, 5]);
        let x = run(&[&q, &Tensor::scalar(0.5f32)], |o, p| dequantize(&PLAIN, o, p));
        assert_eq!(x, Ok(Tensor::vector(vec![-1073741824f32, 2.5])));
        assert!(run(&[&q, &Tensor::scalar(0.5f32), &Tensor::scalar(0u8)], |o, p| dequantize(&PLAIN, o, p)).is_err());
        let x = Tensor::vector(vec![1f32]);
        assert!(run(&[&x, &Tensor::scalar(0.5f32)], |o, p| dequantize(&PLAIN, o, p)).is_err());
    }
}
