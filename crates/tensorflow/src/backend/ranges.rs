//! Codes in the format's terms: an element type and a range, and the nodes that turn reals into codes and back.

use super::Ported;
use super::names::{Names, as_part};
use crate::dtype::DataType;
use crate::node::NodeDef;
use crate::tensor::TensorProto;
use quantize_ir::{QuantParams, QuantType, Tensor};

/// Largest codes of both types; a range reaches as far below zero as above if there are negative ones.
const UNSIGNED: f32 = 255.0;
pub(super) const SIGNED: f32 = 127.0;
/// Steps that `QuantizeV2` makes of the upper end of a range of signed codes.
const SIGNED_STEPS: f32 = 127.5;

/// The scaling of all operators here: no zero point but 0.
pub(super) const SCALED: &str = "SCALED";

/// The codes of an activation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Codes {
    /// `quint8` or `qint8`.
    pub(super) dtype: DataType,
    /// Lower end of the range.
    pub(super) low: f32,
    /// Upper end.
    pub(super) high: f32,
}

impl Codes {
    /// Codes with these parameters, from 0 to `255 * scale` or `-127 * scale` to `127 * scale`.
    ///
    /// # Errors
    /// If the format has no such codes.
    pub(super) fn of(params: &QuantParams) -> Result<Self, String> {
        let (&[scale], &[0]) = (params.scale(), params.zero_point()) else {
            return Err("codes of TensorFlow have one scale and no zero point but 0".into());
        };
        match params.qtype() {
            // Of the lower half of the codes, which stand for what they do in the whole range.
            QuantType::U8 | QuantType::U7 => Ok(Self { dtype: DataType::QUINT8, low: 0.0, high: scale * UNSIGNED }),
            QuantType::I8 => Ok(Self { dtype: DataType::QINT8, low: -scale * SIGNED, high: scale * SIGNED }),
            other => Err(format!("TensorFlow has no codes of type {other}")),
        }
    }

    /// Whether there are negative codes.
    pub(super) fn is_signed(&self) -> bool {
        self.dtype == DataType::QINT8
    }
}

/// Ends of the ranges of weights with these scales: those of all channels, or one.
pub(super) fn weight_ends(scales: &[f32]) -> [Vec<f32>; 2] {
    [-SIGNED, SIGNED].map(|code| scales.iter().map(|scale| scale * code).collect())
}

/// A constant of one number.
pub(super) fn scalar(name: String, value: f32) -> NodeDef {
    constant(name, DataType::FLOAT, &Tensor::scalar(value)).unwrap_or_else(|_| NodeDef::new("", "Const"))
}

/// A constant.
///
/// # Errors
/// If the elements are not of the type's kind.
pub(super) fn constant(name: String, dtype: DataType, tensor: &Tensor) -> Result<NodeDef, String> {
    Ok(NodeDef::constant(name, TensorProto::new(dtype, tensor)?))
}

/// The nodes that turn the real tensor `real` into codes for `reader`, and the codes with their range.
///
/// Signed codes get a range of their own besides the one that `QuantizeV2` is given: it makes half a step more of a range
/// than whatever reads the codes, which is 0.4 % of every value.
pub(super) fn quantize(reader: &str, real: &str, codes: &Codes, names: &mut Names) -> (Vec<NodeDef>, Ported) {
    let part = as_part(real);
    let mut named = |what: &str| names.fresh(&format!("{reader}_eightbit_{what}_{part}"));
    let (low, high, name) = (named("min"), named("max"), named("quantize"));
    let mut made = vec![scalar(low.clone(), codes.low), scalar(high.clone(), codes.high)];
    let (ported, ends) = if codes.is_signed() {
        let given = (named("quantize_min"), named("quantize_max"));
        let wider = SIGNED_STEPS / SIGNED;
        made.extend([scalar(given.0.clone(), codes.low * wider), scalar(given.1.clone(), codes.high * wider)]);
        (Ported { codes: name.clone(), low, high }, given)
    } else {
        (Ported::of(&name), (low, high))
    };
    let node = NodeDef::new(name, "QuantizeV2")
        .with_inputs([real, ends.0.as_str(), ends.1.as_str()])
        .with_attr("T", codes.dtype)
        .with_attr("mode", SCALED)
        .with_attr("round_mode", "HALF_TO_EVEN");
    made.push(node);
    (made, ported)
}

/// The node `real` that turns codes back.
pub(super) fn dequantize(real: &str, ported: &Ported, codes: &Codes) -> NodeDef {
    NodeDef::new(real, "Dequantize")
        .with_inputs([&ported.codes, &ported.low, &ported.high].map(String::as_str))
        .with_attr("T", codes.dtype)
        .with_attr("mode", SCALED)
}
