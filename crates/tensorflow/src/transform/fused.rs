//! Convolutions on codes that write codes of a fixed range: which inputs they have, and what follows from these.

use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::graph::GraphIndex;
use crate::node::{Input, NodeDef, Port};
use crate::tensor::TensorProto;
use quantize_document::Location;
use quantize_ir::Tensor;

/// What stands behind the operator of a convolution that writes codes of a fixed range.
pub(super) const REQUANTIZE: &str = "AndRequantize";

/// Whether a node is a convolution on codes that writes codes of a fixed range.
pub(super) fn is_fused_conv(node: &NodeDef) -> bool {
    let is_conv = node.op().starts_with("QuantizedConv2D") || node.op().starts_with("QuantizedDepthwiseConv2D");
    is_conv && node.op().ends_with(REQUANTIZE)
}

/// Whether an operator on codes adds a bias.
pub(super) fn has_bias(op: &str) -> bool {
    op.contains("WithBias")
}

/// Where the range of the result begins among the inputs: behind codes, weights, bias and the ranges of the former two.
pub(super) fn range_position(op: &str) -> usize {
    if has_bias(op) { 7 } else { 6 }
}

/// The single-precision elements of the constant that an input is.
pub(super) fn floats(index: &GraphIndex<'_>, input: &str) -> Result<Option<Vec<f32>>, TensorflowError> {
    let input = Input::parse(input);
    let node = index.node(input.node).filter(|_| input.port == Port::Data(0));
    let value = node.map(NodeDef::constant_value).transpose()?.flatten();
    Ok(value.and_then(|value| value.into_vec().ok()))
}

/// The number that a constant input is.
pub(super) fn scalar(index: &GraphIndex<'_>, input: &str) -> Result<Option<f32>, TensorflowError> {
    Ok(floats(index, input)?.filter(|values| values.len() == 1).and_then(|values| values.first().copied()))
}

/// A constant of one number.
pub(super) fn scalar_node(name: &str, value: f32) -> Result<NodeDef, TensorflowError> {
    let tensor = TensorProto::new(DataType::FLOAT, &Tensor::scalar(value));
    let tensor = tensor.map_err(|cause| TensorflowError::invalid(Location::node(name), cause))?;
    Ok(NodeDef::constant(name, tensor))
}

/// The largest magnitude of codes: 255 without sign, 127 with.
pub(super) fn top(dtype: Option<DataType>) -> f32 {
    if dtype == Some(DataType::QINT8) { 127.0 } else { 255.0 }
}

/// How many 32-bit codes one unit of each channel's sum is: the inverse of the product of the scales of a convolution's
/// input, with codes up to `top` for magnitudes up to `magnitude`, and of its weights. None if a weight range is no
/// constant.
pub(super) fn units(
    index: &GraphIndex<'_>,
    conv: &NodeDef,
    magnitude: f32,
    top: f32,
) -> Result<Option<Vec<f32>>, TensorflowError> {
    let at = range_position(conv.op());
    let [Some(min), Some(max)] = [at - 2, at - 1].map(|at| conv.inputs().get(at)) else { return Ok(None) };
    let (Some(min), Some(max)) = (floats(index, min)?, floats(index, max)?) else { return Ok(None) };
    let unit = |(min, max): (&f32, &f32)| top * 127.0 / (magnitude * min.abs().max(max.abs()));
    Ok(Some(min.iter().zip(&max).map(unit).collect()))
}

/// A bias as 32-bit codes, cut off towards zero; one unit for all or one for each element.
///
/// # Errors
/// If there is another number of units, or the bias is not of single precision.
pub(super) fn coded_bias(bias: &NodeDef, units: &[f32]) -> Result<NodeDef, TensorflowError> {
    stored_bias(bias, units, None, |bias, unit, _| (bias * unit) as i32)
}

/// The same with so many codes added to each element first.
///
/// # Errors
/// As [`coded_bias`], or if there are codes for another number of elements.
pub(super) fn moved_bias(bias: &NodeDef, units: &[f32], more: &[f64]) -> Result<NodeDef, TensorflowError> {
    stored_bias(bias, units, Some(more), |bias, unit, more| (f64::from(bias) * f64::from(unit) + more) as i32)
}

fn stored_bias(
    bias: &NodeDef,
    units: &[f32],
    more: Option<&[f64]>,
    code: impl Fn(f32, f32, f64) -> i32,
) -> Result<NodeDef, TensorflowError> {
    let about = |cause: String| TensorflowError::invalid(Location::node(bias.name()), cause);
    let value = bias.constant_value()?.ok_or_else(|| about("it is no constant".into()))?;
    let elements = value.as_slice::<f32>().map_err(|error| about(error.to_string()))?;
    let channels = more.map_or(units.len(), <[f64]>::len);
    if [units.len(), channels].iter().any(|count| *count != 1 && *count != elements.len()) {
        return Err(about(format!("it has {} elements for {channels} channels of weights", elements.len())));
    }
    let more = more.unwrap_or(&[0.0]);
    let parts = elements.iter().zip(units.iter().cycle()).zip(more.iter().cycle());
    let codes = parts.map(|((bias, unit), more)| code(*bias, *unit, *more)).collect();
    let codes = Tensor::new(value.shape(), codes).map_err(|error| about(error.to_string()))?;
    let mut coded = bias.clone();
    coded.set_attr("dtype", DataType::QINT32);
    coded.set_attr("value", TensorProto::new(DataType::QINT32, &codes).map_err(about)?);
    Ok(coded)
}

/// Whether a node is read once only, by anyone.
pub(super) fn is_read_once(index: &GraphIndex<'_>, readers: &[Vec<(usize, Port)>], name: &str) -> bool {
    index.position(name).and_then(|at| readers.get(at)).is_some_and(|readers| readers.len() == 1)
}
