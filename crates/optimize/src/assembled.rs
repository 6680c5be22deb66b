//! Entries of a plan for constants whose codes or scales were chosen here.

use quantize_ir::{QuantError, QuantParams, Tensor, TensorError, WeightPlan};
use quantize_numerics::measure::sqnr_db;
use quantize_numerics::weights::quantize_bias;
use quantize_numerics::{NumericsError, QuantType};
use std::sync::Arc;

/// Why an entry cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AssembleError {
    /// The numbers cannot be quantized.
    #[error(transparent)]
    Numbers(#[from] NumericsError),
    /// The parameters cannot be used.
    #[error(transparent)]
    Params(#[from] QuantError),
    /// The codes do not have the shape of the constant.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// The entry of a bias: 32-bit codes of scale `input_scale * s_w`, with one scale for each of the weight's.
///
/// # Errors
/// If the bias is not real, holds what is no number, or needs a code above 2^30.
pub fn bias_plan(bias: &Tensor, input_scale: f32, weight: &QuantParams) -> Result<WeightPlan, AssembleError> {
    let values = bias.as_slice::<f32>()?;
    let s_w = weight.scale();
    let spread: Vec<f32> = if s_w.len() == 1 { vec![s_w[0]; values.len()] } else { s_w.to_vec() };
    let codes = quantize_bias(values, input_scale, &spread)?;
    let scales: Vec<f32> = s_w.iter().map(|s| (f64::from(input_scale) * f64::from(*s)) as f32).collect();
    let scale_of = |c: usize| f64::from(scales[if scales.len() == 1 { 0 } else { c }]);
    let back: Vec<f32> = codes.iter().enumerate().map(|(c, q)| (f64::from(*q) * scale_of(c)) as f32).collect();
    let sqnr_db = sqnr_db(values, &back)?;
    let params = match weight.axis() {
        Some(_) => QuantParams::per_channel(QuantType::I32, 0, scales)?,
        None => QuantParams::per_tensor(QuantType::I32, scales[0], 0)?,
    };
    Ok(WeightPlan { params, codes: Arc::new(Tensor::new(bias.shape(), codes)?), sqnr_db })
}
