//! Operators on codes that travel with their ranges: those that [`eightbit`](mod@crate::eightbit) writes for Intel's
//! processors, and those that they are fused to.

use crate::dtype::DataType;
use crate::frontend::builder::{Fault, NodeBuilder, Results};
use crate::node::NodeDef;
use quantize_ir::op::ranged::{Codes, Reading};
use quantize_ir::op::{
    ProductOutput, RangedConvolution, RangedOutput, RangedPadding, RangedProduct, RangedWindow, RangedWork,
};
use quantize_ir::{Op, ValueId};

/// The node's results; `None` if its operator is none on codes.
pub(super) fn read(b: &mut NodeBuilder<'_>) -> Option<Results> {
    let work = work(b.node()).transpose()?;
    Some(work.and_then(|work| {
        let inputs: Vec<ValueId> = b.inputs().to_vec();
        let results = work.results();
        b.main_with(Op::Ranged(work), &inputs, results)
    }))
}

/// Number of results of an operator on codes, as far as it is known.
pub(super) fn result_count(node: &NodeDef) -> Option<usize> {
    work(node).ok()?.map(|work| work.results())
}

/// What a node on codes computes; `None` for operators that are none.
fn work(node: &NodeDef) -> Result<Option<RangedWork>, Fault> {
    Ok(Some(match node.op() {
        "QuantizeV2" => {
            expect(node, "mode", "SCALED", "MIN_COMBINED")?;
            expect(node, "round_mode", "HALF_TO_EVEN", "HALF_AWAY_FROM_ZERO")?;
            RangedWork::Quantize(codes(node, "T")?)
        }
        "Dequantize" => {
            let codes = codes(node, "T")?;
            let reading = match node.text("mode")?.as_deref() {
                Some("SCALED") => Reading::Scaled,
                Some("MIN_FIRST") => Reading::MinFirst,
                other => return Err(unsupported("mode", other.unwrap_or("MIN_COMBINED"))),
            };
            RangedWork::Dequantize { codes, reading }
        }
        "RequantizationRange" => RangedWork::UsedRange,
        "RequantizationRangePerChannel" => {
            let clip = node.float("clip_value_max")?;
            RangedWork::UsedChannelRange(clip.ok_or_else(|| missing("clip_value_max"))?)
        }
        "Requantize" => match codes(node, "out_type")? {
            Codes::Unsigned => RangedWork::Narrow,
            Codes::Signed => return Err(unsupported("out_type", "qint8")),
        },
        "RequantizePerChannel" => RangedWork::NarrowChannels(codes(node, "out_type")?),
        "QuantizedMaxPool" => RangedWork::MaxPool(pool(node)?, codes(node, "T")?),
        "QuantizedAvgPool" => RangedWork::AveragePool(pool(node)?, codes(node, "T")?),
        "QuantizedConcatV2" => {
            let parts = node.data_inputs().count().saturating_sub(1) / 3;
            RangedWork::Join { parts, codes: codes(node, "T")? }
        }
        "QuantizedMatMulWithBiasAndReluAndRequantize" => {
            let output = ProductOutput::Codes(codes(node, "Toutput")?);
            RangedWork::Product(RangedProduct { has_relu: true, ..product(node, output)? })
        }
        "QuantizedMatMulWithBiasAndDequantize" => RangedWork::Product(product(node, ProductOutput::Reals)?),
        op => match Parts::of(op) {
            Some(parts) => RangedWork::Convolution(convolution(node, parts)?),
            None => return Ok(None),
        },
    }))
}

/// What the name of a convolution on codes says.
struct Parts {
    is_depthwise: bool,
    has_bias: bool,
    has_sum: bool,
    has_relu: bool,
    is_narrow: bool,
}

impl Parts {
    /// Reads `Quantized[Depthwise]Conv2D[WithBias[[Signed]Sum]][AndRelu][AndRequantize|PerChannel]`.
    fn of(op: &str) -> Option<Self> {
        let rest = op.strip_prefix("Quantized")?;
        let (is_depthwise, rest) = strip(rest, "Depthwise");
        let rest = rest.strip_prefix("Conv2D")?;
        let (has_bias, rest) = strip(rest, "WithBias");
        let (is_signed, rest) = strip(rest, "Signed");
        let (has_sum, rest) = strip(rest, "Sum");
        let (has_relu, rest) = strip(rest, "AndRelu");
        let (is_narrow, rest) = strip(rest, "AndRequantize");
        let (_, rest) = strip(rest, "PerChannel");
        let is_known = rest.is_empty() && (has_sum || !is_signed) && (has_bias || !has_sum);
        is_known.then_some(Self { is_depthwise, has_bias, has_sum, has_relu, is_narrow })
    }
}

/// Whether a text begins with a part, and what stands behind it.
fn strip<'t>(text: &'t str, part: &str) -> (bool, &'t str) {
    text.strip_prefix(part).map_or((false, text), |rest| (true, rest))
}

fn convolution(node: &NodeDef, parts: Parts) -> Result<RangedConvolution, Fault> {
    let output = match parts.is_narrow {
        true => RangedOutput::Narrow {
            codes: codes(node, "out_type")?,
            summand: if parts.has_sum { Some(codes(node, "Tsummand")?) } else { None },
        },
        false => RangedOutput::Wide { has_summand: parts.has_sum },
    };
    Ok(RangedConvolution {
        input: codes(node, "Tinput")?,
        is_depthwise: parts.is_depthwise,
        window: window(node, [1; 2])?,
        has_bias: parts.has_bias,
        has_relu: parts.has_relu,
        output,
    })
}

/// A matrix product without a ReLU, as far as it is run.
fn product(node: &NodeDef, output: ProductOutput) -> Result<RangedProduct, Fault> {
    expect(node, "input_quant_mode", "SCALED", "MIN_FIRST")?;
    for attribute in ["transpose_a", "transpose_b"] {
        if node.bool(attribute)?.unwrap_or(false) {
            return Err(unsupported(attribute, "true"));
        }
    }
    Ok(RangedProduct { input: codes(node, "T1")?, has_relu: false, output })
}

fn pool(node: &NodeDef) -> Result<RangedWindow, Fault> {
    let size = pair(node, "ksize")?.ok_or_else(|| missing("ksize"))?;
    window(node, size)
}

/// How a window of some size moves.
fn window(node: &NodeDef, size: [usize; 2]) -> Result<RangedWindow, Fault> {
    let strides = pair(node, "strides")?.ok_or_else(|| missing("strides"))?;
    let dilations = pair(node, "dilations")?.unwrap_or([1; 2]);
    let listed = node.ints("padding_list")?.unwrap_or_default();
    let padding = match (node.text("padding")?.as_deref(), listed.as_slice()) {
        (_, [0, 0, top, bottom, left, right, 0, 0]) => {
            let sides = [top, bottom, left, right].map(|side| usize::try_from(*side).ok());
            let [Some(top), Some(bottom), Some(left), Some(right)] = sides else {
                return Err(unsupported("padding_list", "a negative number"));
            };
            RangedPadding::Explicit([top, bottom, left, right])
        }
        (_, [_, ..]) => return Err(unsupported("padding_list", "other axes than height and width")),
        (Some("SAME"), []) => RangedPadding::Same,
        (Some("VALID"), []) => RangedPadding::Explicit([0; 4]),
        (other, []) => return Err(unsupported("padding", other.unwrap_or("nothing"))),
    };
    Ok(RangedWindow { size, strides, dilations, padding })
}

/// The numbers for height and width of a list for all four axes, which are 1 for the others.
fn pair(node: &NodeDef, attribute: &str) -> Result<Option<[usize; 2]>, Fault> {
    let Some(list) = node.ints(attribute)? else { return Ok(None) };
    let size = |number: i64| usize::try_from(number).ok().filter(|size| *size > 0);
    match list.as_slice() {
        [1, height, width, 1] => match (size(*height), size(*width)) {
            (Some(height), Some(width)) => Ok(Some([height, width])),
            _ => Err(unsupported(attribute, "a number below 1")),
        },
        _ => Err(unsupported(attribute, &format!("{list:?}"))),
    }
}

/// The kind of 8-bit codes that an attribute names.
fn codes(node: &NodeDef, attribute: &str) -> Result<Codes, Fault> {
    match node.dtype(attribute)? {
        Some(DataType::QUINT8) => Ok(Codes::Unsigned),
        Some(DataType::QINT8) => Ok(Codes::Signed),
        Some(other) => Err(unsupported(attribute, &other.to_string())),
        None => Err(missing(attribute)),
    }
}

/// Checks that an attribute, or what it is where it is not there, has the one value that is known.
fn expect(node: &NodeDef, attribute: &str, known: &str, default: &str) -> Result<(), Fault> {
    match node.text(attribute)?.unwrap_or_else(|| default.to_owned()) {
        value if value == known => Ok(()),
        value => Err(unsupported(attribute, &value)),
    }
}

fn missing(attribute: &str) -> Fault {
    Fault::form(format!("it has no attribute `{attribute}`"))
}

fn unsupported(attribute: &str, value: &str) -> Fault {
    Fault::form(format!("with `{attribute}` {value} it is not run"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(op: &str) -> NodeDef {
        NodeDef::new("c", op)
            .with_attr("Tinput", DataType::QUINT8)
            .with_attr("out_type", DataType::QUINT8)
            .with_attr("strides", vec![1, 2, 3, 1])
            .with_attr("padding", "VALID")
    }

    fn known(node: &NodeDef) -> RangedWork {
        work(node).ok().flatten().unwrap()
    }

    #[test]
    fn names_say_what_is_computed() {
        let node = conv("QuantizedConv2DWithBiasSignedSumAndReluAndRequantize").with_attr("Tsummand", DataType::QINT8);
        let RangedWork::Convolution(sum) = known(&node.with_attr("padding_list", vec![0, 0, 1, 2, 3, 4, 0, 0])) else {
            panic!("no convolution")
        };
        assert!(sum.has_bias && sum.has_relu && !sum.is_depthwise);
        let expected = RangedOutput::Narrow { codes: Codes::Unsigned, summand: Some(Codes::Signed) };
        assert_eq!((sum.output, sum.window.padding), (expected, RangedPadding::Explicit([1, 2, 3, 4])));
        assert_eq!(sum.window.strides, [2, 3]);
        let RangedWork::Convolution(depthwise) = known(&conv("QuantizedDepthwiseConv2DWithBiasAndRelu")) else {
            panic!("no convolution")
        };
        assert_eq!((depthwise.is_depthwise, depthwise.output), (true, RangedOutput::Wide { has_summand: false }));
        for op in ["QuantizedConv2D", "QuantizedConv2DPerChannel", "QuantizedConv2DAndRequantize"] {
            assert!(work(&conv(op)).ok().unwrap().is_some(), "{op}");
        }
        for op in ["QuantizedConv2DSum", "QuantizedConv2DWithBiasSigned", "QuantizedConv3D", "Conv2D", "QuantizedRelu"]
        {
            assert!(work(&conv(op)).ok().unwrap().is_none(), "{op}");
        }
    }

    #[test]
    fn what_is_not_run_is_named() {
        let cause = |node: NodeDef| match work(&node) {
            Err(Fault::Form(cause)) => cause,
            other => panic!("{:?}", other.is_ok()),
        };
        let quantize = NodeDef::new("q", "QuantizeV2").with_attr("T", DataType::QUINT8);
        assert_eq!(cause(quantize), "with `mode` MIN_COMBINED it is not run");
        assert_eq!(cause(NodeDef::new("r", "Requantize")), "it has no attribute `out_type`");
        let wide = NodeDef::new("d", "Dequantize").with_attr("T", DataType::QINT32);
        assert_eq!(cause(wide), "with `T` qint32 it is not run");
        let strange = conv("QuantizedConv2D").with_attr("strides", vec![2, 1, 1, 1]);
        assert!(cause(strange).contains("[2, 1, 1, 1]"));
    }
}
