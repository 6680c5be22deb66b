//! `MatMulNBits`, read as what it stands for: weights dequantized in blocks, a product, and an addition of its bias.
//!
//! The shared operators have no packed codes; these become constants that are unpacked when someone reads them.

use crate::expand::{RUNTIME_DOMAIN, step};
use crate::nbits::{
    BIAS, CODES, GROUP_INDEX, OPERATOR, SCALES, Shape, UNPACKED_CODES, UNPACKED_SCALES, UNPACKED_ZERO_POINTS, Unpacked,
    ZERO_POINTS,
};
use quantize_ir::{Constant, ConstantSource, DType};
use quantize_proto::onnx::attribute_proto::AttributeType;
use quantize_proto::onnx::{AttributeProto, NodeProto};
use std::sync::Arc;

/// A constant that stands in the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) key: u32,
    pub(crate) dtype: DType,
    pub(crate) elements: usize,
}

/// What a node stands for.
#[derive(Debug)]
pub(crate) struct Expansion {
    /// New constants.
    pub(crate) constants: Vec<(String, Constant, DType)>,
    /// Standard nodes, in the order they run.
    pub(crate) steps: Vec<NodeProto>,
}

/// The standard nodes that `node` stands for; `None` if it is no product by blocks of codes, or one in a form that they
/// cannot say. `stored` finds constants of `document`, `fresh` makes names.
pub(crate) fn unpack(
    node: &NodeProto,
    document: Arc<dyn ConstantSource>,
    stored: &dyn Fn(&str) -> Option<Stored>,
    fresh: &mut dyn FnMut(&str) -> String,
) -> Option<Expansion> {
    if node.op_type() != OPERATOR || node.domain() != RUNTIME_DOMAIN {
        return None;
    }
    let input = |slot: usize| node.input.get(slot).map(String::as_str).filter(|name| !name.is_empty());
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name() == name).map(AttributeProto::i);
    let size = |name: &str| attribute(name).and_then(|i| usize::try_from(i).ok());
    if input(GROUP_INDEX).is_some() || attribute("weight_prepacked").is_some_and(|i| i != 0) {
        return None;
    }
    let bits = attribute("bits").map_or(Some(4), |bits| usize::try_from(bits).ok())?;
    let shape = Shape::new(size("K")?, size("N")?, size("block_size")?, bits)?;
    let fitting = |slot: usize, dtype: DType, elements: usize| {
        let found = stored(input(slot)?)?;
        (found.dtype == dtype && found.elements == elements).then_some(found.key)
    };
    let zero_points = match input(ZERO_POINTS) {
        Some(_) => Some(fitting(ZERO_POINTS, DType::U8, shape.zero_point_bytes())?),
        None => None,
    };
    let source = Arc::new(Unpacked {
        shape,
        document,
        codes: fitting(CODES, DType::U8, shape.code_bytes())?,
        scales: fitting(SCALES, DType::F32, shape.blocks() * shape.n)?,
        zero_points,
    });
    let mut constants = Vec::new();
    let mut constant = |key: u32, height: usize, dtype: DType, what: &str| {
        let name = fresh(&format!("{}_{what}", input(CODES).unwrap_or_default()));
        let source: Arc<dyn ConstantSource> = source.clone();
        constants.push((name.clone(), Constant::Stored { source, key, shape: vec![height, shape.n] }, dtype));
        name
    };
    let parameters = vec![
        constant(UNPACKED_CODES, shape.k, DType::U8, "codes"),
        constant(UNPACKED_SCALES, shape.blocks(), DType::F32, "scales"),
        constant(UNPACKED_ZERO_POINTS, shape.blocks(), DType::U8, "zero_points"),
    ];
    let weight = fresh(&format!("{}_dequantized", input(CODES)?));
    let mut dequantize = step("DequantizeLinear", parameters, &weight, Some(0));
    dequantize.attribute.push(AttributeProto {
        name: Some("block_size".to_owned()),
        i: i64::try_from(shape.block).ok(),
        r#type: Some(AttributeType::Int.into()),
        ..AttributeProto::default()
    });
    let (x, y) = (input(0)?.to_owned(), node.output.first()?.clone());
    let product = |output: &str| step("MatMul", vec![x, weight], output, None);
    let mut steps = vec![dequantize];
    match input(BIAS) {
        None => steps.push(product(&y)),
        Some(bias) => {
            let sum = fresh(&format!("{y}_unbiased"));
            steps.push(product(&sum));
            steps.push(step("Add", vec![sum, bias.to_owned()], &y, None));
        }
    }
    if let Some(last) = steps.last_mut() {
        last.name.clone_from(&node.name);
    }
    Some(Expansion { constants, steps })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::Tensor;

    #[derive(Debug)]
    struct Nothing;

    impl ConstantSource for Nothing {
        fn read(&self, _: u32) -> Result<Tensor, String> {
            Err("nothing is here".into())
        }
    }

    fn node(input: &[&str], sizes: &[(&str, i64)]) -> NodeProto {
        let attribute = sizes.iter().map(|(name, i)| AttributeProto {
            name: Some((*name).to_owned()),
            i: Some(*i),
            ..AttributeProto::default()
        });
        NodeProto {
            op_type: Some(OPERATOR.to_owned()),
            domain: Some(RUNTIME_DOMAIN.to_owned()),
            input: input.iter().map(|s| (*s).to_owned()).collect(),
            output: vec!["y".to_owned()],
            attribute: attribute.collect(),
            ..NodeProto::default()
        }
    }

    const SIZES: &[(&str, i64)] = &[("K", 40), ("N", 3), ("bits", 4), ("block_size", 32)];

    fn listing(node: &NodeProto) -> Option<Vec<String>> {
        let stored = |name: &str| {
            let (dtype, elements) = match name {
                "b" => (DType::U8, 96),
                "s" => (DType::F32, 6),
                "z" => (DType::U8, 3),
                _ => return None,
            };
            Some(Stored { key: 0, dtype, elements })
        };
        let found = unpack(node, Arc::new(Nothing), &stored, &mut |name| format!("{name}'"))?;
        let steps = found.steps.iter();
        Some(steps.map(|n| format!("{}({})->{}", n.op_type(), n.input.join(","), n.output.join(","))).collect())
    }

    #[test]
    fn a_product_with_a_bias() {
        let expected = [
            "DequantizeLinear(b_codes',b_scales',b_zero_points')->b_dequantized'",
            "MatMul(x,b_dequantized')->y_unbiased'",
            "Add(y_unbiased',c)->y",
        ];
        assert_eq!(listing(&node(&["x", "b", "s", "z", "", "c"], SIZES)).unwrap(), expected);
        assert_eq!(listing(&node(&["x", "b", "s"], SIZES)).unwrap()[1], "MatMul(x,b_dequantized')->y");
    }

    #[test]
    fn what_cannot_be_said_stays() {
        assert_eq!(listing(&node(&["x", "b", "s", "z", "order"], SIZES)), None);
        assert_eq!(listing(&node(&["x", "b", "b", "z"], SIZES)), None, "scales are bytes");
        assert_eq!(listing(&node(&["x", "w", "s", "z"], SIZES)), None, "codes are computed");
        assert_eq!(listing(&node(&["x", "b", "s", "z"], &SIZES[1..])), None, "a size is missing");
        let mut wide = SIZES.to_vec();
        wide[1].1 = i64::MAX;
        assert_eq!(listing(&node(&["x", "b", "s", "z"], &wide)), None, "sizes overflow");
    }
}
