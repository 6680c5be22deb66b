//! Element types of what nodes compute.

use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::node::NodeDef;
use quantize_document::Location;

/// The attribute that states the type of a node's first output, in the order in which they are asked.
const STATED: [&str; 8] = ["out_type", "Toutput", "DstT", "output_type", "dtype", "T", "Tparams", "T1"];

/// Operators whose first output is of one type, whatever the attributes say.
const FIXED: [(&str, DataType); 5] = [
    ("Dequantize", DataType::FLOAT),
    ("RequantizationRange", DataType::FLOAT),
    ("RequantizationRangePerChannel", DataType::FLOAT),
    ("Shape", DataType::INT32),
    ("Rank", DataType::INT32),
];

/// The type of output `port` of a node. Codes come with their range: two further outputs of single precision.
///
/// # Errors
/// If nothing states it.
pub(crate) fn output_dtype(node: &NodeDef, port: u32) -> Result<DataType, TensorflowError> {
    let fixed = FIXED.iter().find(|(op, _)| *op == node.op() && node.attr("out_type").is_none());
    if let Some((_, dtype)) = fixed {
        return Ok(*dtype);
    }
    if port > 0 && is_quantized(node.op()) {
        return Ok(DataType::FLOAT);
    }
    for name in STATED {
        if let Some(dtype) = node.dtype(name)? {
            return Ok(dtype.base());
        }
    }
    let cause = format!("nothing states the type of its output {port}");
    Err(TensorflowError::unsupported(Location::node(node.name()), cause))
}

fn is_quantized(op: &str) -> bool {
    op.starts_with("Quantized") || matches!(op, "QuantizeV2" | "Requantize" | "RequantizePerChannel")
}
