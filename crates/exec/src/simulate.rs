//! Carrying out a quantization plan in real arithmetic: every value is a multiple of its scale, as it is after the
//! integer arithmetic of the plan.

use crate::value::Value;
use quantize_ir::{QuantParams, Tensor, TensorData, WeightPlan};
use quantize_numerics::AffineParams;

/// The quantizer of an activation.
///
/// # Errors
/// If the parameters are not per tensor, or cannot be used.
pub(crate) fn activation_quantizer(params: &QuantParams) -> Result<AffineParams, String> {
    if params.axis().is_some() {
        return Err("activations need one scale for the whole tensor".into());
    }
    params.affine(0).ok_or_else(|| "its scale and zero point do not fit its grid".into())
}

/// Rounds every element of a computed value to the grid.
///
/// # Errors
/// If the elements are not `float32`.
pub(crate) fn fake_quantize(value: &mut Value<'_>, quantizer: AffineParams) -> Result<(), String> {
    match value {
        Value::Blocked(blocks) => quantizer.fake_quantize_in_place(&mut blocks.data),
        Value::Plain(tensor) => round_tensor(tensor, quantizer)?,
        Value::Shared(tensor) => *value = Value::Plain(fake_quantized(tensor, quantizer)?),
    }
    Ok(())
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
    let codes = widened(plan.codes.data())?;
    let (channels, inner) = match plan.params.axis() {
        None => (1, codes.len()),
        Some(axis) => {
            let channels = *shape.get(axis).ok_or_else(|| format!("there is no axis {axis} in shape {shape:?}"))?;
            (channels, shape[axis + 1..].iter().product())
        }
    };
    let quantizers = (0..plan.params.scale().len()).map(|c| plan.params.affine(c)).collect::<Option<Vec<_>>>();
    let quantizers = quantizers.ok_or("a scale or zero point does not fit its grid")?;
    if quantizers.len() != channels {
        return Err(format!("{} scales for {channels} channels", quantizers.len()));
    }
    let runs = codes.chunks(inner.max(1)).zip(quantizers.iter().cycle());
    let values: Vec<f32> = runs.flat_map(|(run, q)| run.iter().map(|code| q.dequantize(*code))).collect();
    Tensor::new(shape, values).map_err(|e| e.to_string())
}

fn widened(codes: &TensorData) -> Result<Vec<i32>, String> {
    match codes {
        TensorData::I8(v) => Ok(v.iter().map(|&c| i32::from(c)).collect()),
        TensorData::U8(v) => Ok(v.iter().map(|&c| i32::from(c)).collect()),
        TensorData::I16(v) => Ok(v.iter().map(|&c| i32::from(c)).collect()),
        TensorData::U16(v) => Ok(v.iter().map(|&c| i32::from(c)).collect()),
        TensorData::I32(v) => Ok(v.clone()),
        other => Err(format!("codes are stored as {}", other.dtype())),
    }
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
