//! Carrying out a quantization plan in real arithmetic: every value is a multiple of its scale, as it is after the
//! integer arithmetic of the plan.

use crate::blocked::NARROW;
use crate::error::OpError;
use crate::grid::CodeGrid;
use crate::pool::Pool;
use crate::value::{Activations, Codes, Value};
use quantize_ir::op::Layout;
use quantize_ir::{QuantParams, Spread, Tensor, TensorData, WeightPlan};
use quantize_kernels::Isa;
use quantize_numerics::AffineParams;

/// The quantizer of an activation.
///
/// # Errors
/// If the parameters are not per tensor, or cannot be used.
pub(crate) fn activation_quantizer(params: &QuantParams) -> Result<AffineParams, String> {
    if params.spread() != Spread::Tensor {
        return Err("activations need one scale for the whole tensor".into());
    }
    params.affine(0).ok_or_else(|| "its scale and zero point do not fit its grid".into())
}

/// A value with every element rounded to the grid: codes, if these have 8 bits and the value an axis of channels;
/// reals otherwise. A tensor in memory order has its channels where `layout` says.
///
/// # Errors
/// If the elements are not `float32`.
pub(crate) fn rounded<'a>(
    value: Value<'a>,
    quantizer: AffineParams,
    layout: Layout,
    isa: Isa,
    pool: &mut Pool,
) -> Result<Value<'a>, String> {
    let message = |e: OpError| e.to_string();
    let Some(grid) = CodeGrid::of(quantizer) else { return round_reals(value, quantizer) };
    let reals = match &value {
        Value::Codes(codes) if codes.grid == grid => return Ok(value),
        Value::Codes(codes) => Some(codes.reals(isa, pool).map_err(message)?),
        Value::Blocked(_) => None,
        Value::Shared(tensor) => in_blocks(tensor, layout, isa, pool).map_err(message)?,
        Value::Plain(tensor) => in_blocks(tensor, layout, isa, pool).map_err(message)?,
    };
    let codes = match (&reals, &value) {
        (Some(reals), _) => Codes::of(reals, grid, isa, pool),
        (None, Value::Blocked(reals)) => Codes::of(reals, grid, isa, pool),
        (None, _) => return round_reals(value, quantizer),
    };
    if let Some(reals) = reals {
        pool.give_blocks(reals.data);
    }
    value.release(pool);
    codes.map(Value::Codes).map_err(message)
}

/// A tensor in blocks, narrow ones for the few channels of an image; `None` without an axis of channels.
fn in_blocks(tensor: &Tensor, layout: Layout, isa: Isa, pool: &mut Pool) -> Result<Option<Activations<f32>>, OpError> {
    let channels = match layout {
        Layout::ChannelsFirst => tensor.shape().get(1),
        Layout::ChannelsLast => tensor.shape().last(),
    };
    let few = tensor.rank() > 2 && channels.is_some_and(|channels| *channels <= NARROW);
    let lanes = if few { NARROW } else { isa.lanes() };
    Activations::of(tensor, layout, lanes, isa, pool)
}

fn round_reals(value: Value<'_>, quantizer: AffineParams) -> Result<Value<'_>, String> {
    Ok(match value {
        Value::Blocked(mut blocks) => {
            quantizer.fake_quantize_in_place(&mut blocks.data);
            Value::Blocked(blocks)
        }
        Value::Plain(mut tensor) => {
            round_tensor(&mut tensor, quantizer)?;
            Value::Plain(tensor)
        }
        Value::Shared(tensor) => Value::Plain(fake_quantized(tensor, quantizer)?),
        Value::Codes(_) => return Err("codes of 8 bits on a grid of more".into()),
    })
}

fn round_tensor(tensor: &mut Tensor, quantizer: AffineParams) -> Result<(), String> {
    quantizer.fake_quantize_in_place(tensor.as_mut_slice::<f32>().map_err(|e| e.to_string())?);
    Ok(())
}

/// A copy with every element rounded to the grid.
///
/// # Errors
/// If the elements are not `float32`.
pub(crate) fn fake_quantized(tensor: &Tensor, quantizer: AffineParams) -> Result<Tensor, String> {
    let mut copy = tensor.clone();
    round_tensor(&mut copy, quantizer)?;
    Ok(copy)
}

/// The real values of a planned constant's codes.
///
/// # Errors
/// If the codes are not integers, or their shape does not have the channels of the parameters.
pub(crate) fn dequantized(plan: &WeightPlan) -> Result<Tensor, String> {
    let shape = plan.codes.shape();
    if plan.codes.is_empty() {
        return Tensor::new(shape, Vec::<f32>::new()).map_err(|e| e.to_string());
    }
    let misfit = || format!("{} scales for {} of shape {shape:?}", plan.params.scale().len(), plan.params.spread());
    let quantizers = plan.params.quantizers(shape).ok_or_else(misfit)?;
    let values = match plan.codes.data() {
        TensorData::I8(codes) => quantizers.dequantize(codes),
        TensorData::U8(codes) => quantizers.dequantize(codes),
        TensorData::I16(codes) => quantizers.dequantize(codes),
        TensorData::U16(codes) => quantizers.dequantize(codes),
        TensorData::I32(codes) => quantizers.dequantize(codes),
        other => return Err(format!("codes are stored as {}", other.dtype())),
    };
    Tensor::new(shape, values).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::QuantType;
    use std::sync::Arc;

    fn plan(params: QuantParams, codes: Tensor) -> WeightPlan {
        WeightPlan { params, codes: Arc::new(codes), sqnr_db: 0.0 }
    }

    #[test]
    fn codes_take_the_scale_of_their_channel() {
        let params = QuantParams::per_channel(QuantType::I8Narrow, 1, vec![0.5, 2.0]).unwrap();
        let codes = Tensor::new(vec![2, 2, 1], vec![1i8, 2, -3, 4]).unwrap();
        assert_eq!(
            dequantized(&plan(params, codes)),
            Tensor::new(vec![2, 2, 1], vec![0.5f32, 4.0, -1.5, 8.0]).map_err(|e| e.to_string())
        );
        let params = QuantParams::per_tensor(QuantType::U8, 0.25, 128).unwrap();
        let codes = Tensor::vector(vec![0u8, 128, 255]);
        assert_eq!(dequantized(&plan(params, codes)), Ok(Tensor::vector(vec![-32f32, 0.0, 31.75])));
    }

    #[test]
    fn entries_that_do_not_fit_are_errors() {
        let per_channel = |axis| QuantParams::per_channel(QuantType::I8Narrow, axis, vec![0.5, 2.0]).unwrap();
        for (name, axis, codes) in [
            ("channels", 0, Tensor::vector(vec![1i8; 3])),
            ("axis", 1, Tensor::vector(vec![1i8; 2])),
            ("type", 0, Tensor::vector(vec![1f32; 2])),
        ] {
            assert!(dequantized(&plan(per_channel(axis), codes)).is_err(), "{name}");
        }
        assert!(activation_quantizer(&per_channel(0)).is_err());
    }
}
