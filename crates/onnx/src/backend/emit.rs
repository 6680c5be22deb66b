//! The protobuf messages of what quantization adds: pairs, dequantized constants, initializers, guards.

use super::wiring::{ConstantNames, Guard, Lookup, PairNames};
use crate::document::{GRAPH_INITIALIZER, GRAPH_NODE};
use crate::error::OnnxError;
use crate::ops;
use crate::tensor::encode_tensor;
use prost::Message;
use quantize_document::Piece;
use quantize_document::encode::{bytes_field, length_prefix};
use quantize_ir::op::{Binary, Cast};
use quantize_ir::{DType, Op, QuantParams, Tensor};
use quantize_proto::onnx::attribute_proto::AttributeType;
use quantize_proto::onnx::{AttributeProto, NodeProto};
use std::io;

/// A node as a field of its graph.
pub(super) fn node_field(node: &NodeProto) -> Vec<u8> {
    bytes_field(GRAPH_NODE, &node.encode_to_vec())
}

fn node(op_type: &str, name: &str, input: Vec<String>, output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input,
        output: vec![output.to_owned()],
        name: Some(name.to_owned()),
        op_type: Some(op_type.to_owned()),
        attribute,
        ..NodeProto::default()
    }
}

fn axis_attribute(axis: usize) -> AttributeProto {
    AttributeProto {
        name: Some("axis".to_owned()),
        i: i64::try_from(axis).ok(),
        r#type: Some(AttributeType::Int.into()),
        ..AttributeProto::default()
    }
}

/// The quantize and the dequantize node of an activation, in the given domain, as fields of the graph: the former
/// unless its producer writes codes, the latter if `dequantizes`.
pub(super) fn pair(names: &PairNames, dequantizes: bool, domain: &str) -> Vec<u8> {
    let with_parameters =
        |data: &str| vec![data.to_owned(), names.quantized.scale.clone(), names.quantized.zero_point.clone()];
    let in_domain = |op_type: &str, name: &str, data: &str, output: &str| {
        let mut node = node(op_type, name, with_parameters(data), output, Vec::new());
        node.domain = Some(domain.to_owned()).filter(|d| !d.is_empty());
        node_field(&node)
    };
    let quantize =
        names.real.iter().map(|real| in_domain("QuantizeLinear", &names.quantize_node, real, &names.quantized.codes));
    let mut fields: Vec<u8> = quantize.flatten().collect();
    if dequantizes {
        fields.extend(in_domain(
            "DequantizeLinear",
            &names.dequantize_node,
            &names.quantized.codes,
            &names.dequantized,
        ));
    }
    fields
}

/// The dequantize node of a constant, as a field of the graph.
pub(super) fn dequantize_constant(names: &ConstantNames, params: &QuantParams) -> Vec<u8> {
    let mut input = vec![names.quantized.codes.clone(), names.quantized.scale.clone()];
    if has_zero_point(params) {
        input.push(names.quantized.zero_point.clone());
    }
    let attributes = params.axis().map(axis_attribute).into_iter().collect();
    node_field(&node("DequantizeLinear", &names.node, input, &names.dequantized, attributes))
}

/// A node that passes its operand on unchanged and that onnxruntime merges into the float node before it.
pub(super) fn guard(guard: &Guard) -> Vec<u8> {
    let alpha = AttributeProto {
        name: Some("alpha".to_owned()),
        f: Some(1.0),
        r#type: Some(AttributeType::Float.into()),
        ..AttributeProto::default()
    };
    node_field(&node("LeakyRelu", &guard.node, vec![guard.input.clone()], &guard.output, vec![alpha]))
}

/// The nodes that make reals of looked up codes.
///
/// # Errors
/// If the opset lacks one of their operators.
pub(super) fn lookup(lookup: &Lookup, opset: i64) -> Result<Vec<u8>, OnnxError> {
    let [cast, gather, multiply] = &lookup.nodes;
    let mut nodes = Vec::new();
    let mut add = |op: &Op, name: &str, inputs: [&String; 2], output: &String| {
        let inputs = inputs.into_iter().filter(|input| !input.is_empty()).cloned().collect();
        nodes.extend(node_field(&ops::emit(op, name, inputs, vec![output.clone()], opset)?));
        Ok::<(), OnnxError>(())
    };
    let to_real = Op::Cast(Cast { to: DType::F32 });
    add(&to_real, cast, [&lookup.codes, &String::new()], &lookup.cast)?;
    let scales = if lookup.by_entry {
        add(&lookup.op, gather, [&lookup.table, &lookup.indices], &lookup.scales)?;
        &lookup.scales
    } else {
        &lookup.table
    };
    add(&Op::Binary(Binary::Mul), multiply, [&lookup.cast, scales], &lookup.output)?;
    Ok(nodes)
}

/// 32-bit codes have no zero point operand: it could only be zero.
fn has_zero_point(params: &QuantParams) -> bool {
    quantize_ir::quant::storage(params.qtype()) != DType::I32
}

/// The initializers of an activation's parameters, as fields of the graph.
pub(super) fn pair_parameters(names: &PairNames, params: &QuantParams) -> Result<Vec<u8>, OnnxError> {
    let mut out = initializer(&names.quantized.scale, &scales(params)?);
    out.extend(initializer(&names.quantized.zero_point, &zero_points(params)?));
    Ok(out)
}

/// The initializers of a constant's parameters: those of scale and zero point that are needed.
pub(super) fn constant_parameters(
    names: &ConstantNames,
    params: &QuantParams,
    needed: &dyn Fn(&str) -> bool,
) -> Result<Vec<u8>, OnnxError> {
    let mut out = Vec::new();
    if needed(&names.quantized.scale) {
        let scales = Tensor::new(names.scale_shape.clone(), params.scale().to_vec())?;
        out.extend(initializer(&names.quantized.scale, &scales));
    }
    if has_zero_point(params) && needed(&names.quantized.zero_point) {
        out.extend(initializer(&names.quantized.zero_point, &zero_points(params)?));
    }
    Ok(out)
}

/// The code of `x` in per-tensor parameters, as an initializer.
pub(super) fn code(name: &str, params: &QuantParams, x: f32) -> Result<Vec<u8>, OnnxError> {
    let code = params.affine(0).map_or(0, |grid| grid.quantize(x));
    Ok(initializer(name, &stored(Vec::new(), &[code], params)?))
}

/// A tensor as an initializer field of the graph.
pub(super) fn initializer(name: &str, tensor: &Tensor) -> Vec<u8> {
    bytes_field(GRAPH_INITIALIZER, &encode_tensor(name, tensor).encode_to_vec())
}

/// An initializer field of the graph whose message is `head` and then `length` raw elements that `write` writes, in
/// field `number`.
pub(super) fn streamed_initializer<'a>(
    head: &[u8],
    number: u32,
    length: usize,
    write: impl Fn(&mut dyn io::Write) -> io::Result<()> + Send + Sync + 'a,
) -> Piece<'a> {
    let raw = length_prefix(number, length);
    let mut out = length_prefix(GRAPH_INITIALIZER, head.len() + raw.len() + length);
    out.extend_from_slice(head);
    out.extend(raw);
    Piece::streamed(out, length, write)
}

/// Dimensions of the parameters: none for per-tensor, one axis for per-channel.
fn parameter_shape(params: &QuantParams) -> Vec<usize> {
    params.axis().map(|_| params.scale().len()).into_iter().collect()
}

fn scales(params: &QuantParams) -> Result<Tensor, OnnxError> {
    Ok(Tensor::new(parameter_shape(params), params.scale().to_vec())?)
}

fn zero_points(params: &QuantParams) -> Result<Tensor, OnnxError> {
    stored(parameter_shape(params), params.zero_point(), params)
}

/// Codes in the element type they are stored in.
fn stored(shape: Vec<usize>, values: &[i32], params: &QuantParams) -> Result<Tensor, OnnxError> {
    // The constructors of parameters and codes have checked that each fits its grid.
    Ok(match quantize_ir::quant::storage(params.qtype()) {
        DType::U8 => Tensor::new(shape, values.iter().map(|z| *z as u8).collect::<Vec<_>>())?,
        DType::U16 => Tensor::new(shape, values.iter().map(|z| *z as u16).collect::<Vec<_>>())?,
        DType::I16 => Tensor::new(shape, values.iter().map(|z| *z as i16).collect::<Vec<_>>())?,
        DType::I32 => Tensor::new(shape, values.to_vec())?,
        _ => Tensor::new(shape, values.iter().map(|z| *z as i8).collect::<Vec<_>>())?,
    })
}
