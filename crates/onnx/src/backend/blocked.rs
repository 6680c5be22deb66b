//! A product by blocks of codes: the node, and its tensors. How these are laid out is known to [`crate::nbits`].

use super::integer::CodeNames;
use super::wiring::Wired;
use crate::error::OnnxError;
use crate::expand::RUNTIME_DOMAIN;
use crate::nbits::{OPERATOR, Shape};
use quantize_ir::{QuantParams, Tensor, WeightPlan};
use quantize_proto::onnx::attribute_proto::AttributeType;
use quantize_proto::onnx::{AttributeProto, NodeProto};

/// The weight of a plan as the operator takes it.
struct Matrix<'a> {
    shape: Shape,
    params: &'a QuantParams,
    codes: &'a [u8],
    /// Whether blocks run along the second axis.
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// The weight that messages call `label`.
    fn of(entry: &'a WeightPlan, label: &str) -> Result<Self, OnnxError> {
        let cause = "is no matrix in blocks of 16, 32, 64, 128 or 256";
        let refused = || OnnxError::Unwritable { node: label.to_owned(), cause: cause.to_owned() };
        let (Some(blocks), &[rows, columns]) = (entry.params.blocks(), entry.codes.shape()) else {
            return Err(refused());
        };
        let transposed = blocks.axis == 1;
        let (k, n) = if transposed { (columns, rows) } else { (rows, columns) };
        let bits = entry.params.qtype().bits() as usize;
        let shape = Shape::new(k, n, blocks.size, bits).ok_or_else(refused)?;
        Ok(Self { shape, params: &entry.params, codes: entry.codes.as_slice()?, transposed })
    }
}

/// The node that stands for `before`; it computes on reals.
pub(super) fn node(before: &NodeProto, wired: &Wired, entry: &WeightPlan) -> Result<NodeProto, OnnxError> {
    let Shape { k, n, block, bits } = Matrix::of(entry, before.name())?.shape;
    let sizes = [("K", k), ("N", n), ("bits", bits), ("block_size", block)];
    let attribute = sizes.map(|(name, size)| AttributeProto {
        name: Some(name.to_owned()),
        i: i64::try_from(size).ok(),
        r#type: Some(AttributeType::Int.into()),
        ..AttributeProto::default()
    });
    Ok(NodeProto {
        input: wired.inputs.clone(),
        output: wired.outputs.clone(),
        name: before.name.clone(),
        op_type: Some(OPERATOR.to_owned()),
        domain: Some(RUNTIME_DOMAIN.to_owned()),
        attribute: attribute.to_vec(),
        doc_string: before.doc_string.clone(),
        metadata_props: before.metadata_props.clone(),
        ..NodeProto::default()
    })
}

/// The tensors of a weight, with their names.
pub(super) fn initializers<'n>(
    names: &'n CodeNames,
    entry: &WeightPlan,
) -> Result<[(&'n String, Tensor); 3], OnnxError> {
    let Matrix { shape, params, codes, transposed } = Matrix::of(entry, &names.codes)?;
    let place = |row: usize, column: usize, height: usize| {
        if transposed { column * height + row } else { row * shape.n + column }
    };
    let packed = shape.pack(
        codes,
        params,
        |k, column| place(k, column, shape.k),
        |block, column| place(block, column, shape.blocks()),
    )?;
    Ok([(&names.codes, packed.codes), (&names.scale, packed.scales), (&names.zero_point, packed.zero_points)])
}
