//! Attributes of nodes: kept as the bytes they have in the file, decoded when someone asks.

use crate::dtype::DataType;
use crate::shape::PartialShape;
use crate::tensor::TensorProto;
use crate::wire::{Reader, fixed32};
use bytes::Bytes;
use quantize_document::encode::{bytes_field, tag, varint, varint_field};
use quantize_document::{WireError, WireType};

// Fields of `AttrValue`; `AttrValue.ListValue` has the same numbers for the same types.
const LIST: u32 = 1;
const TEXT: u32 = 2;
const INT: u32 = 3;
const FLOAT: u32 = 4;
const BOOL: u32 = 5;
const TYPE: u32 = 6;
const SHAPE: u32 = 7;
const TENSOR: u32 = 8;
const PLACEHOLDER: u32 = 9;
const FUNCTION: u32 = 10;

/// An attribute, as its encoded `AttrValue`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attr(Bytes);

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum AttrValue {
    /// No value at all.
    None,
    /// Several values of one type.
    List(AttrList),
    /// A string of bytes.
    Text(Bytes),
    /// An integer.
    Int(i64),
    /// A number.
    Float(f32),
    /// A truth value.
    Bool(bool),
    /// An element type.
    Type(DataType),
    /// A shape.
    Shape(PartialShape),
    /// A tensor.
    Tensor(TensorProto),
    /// The name of an attribute of the enclosing function.
    Placeholder(Bytes),
    /// A function with its attributes, as its encoded `NameAttrList`.
    Function(Bytes),
}

/// A list of values; only one of the fields has any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttrList {
    /// Strings of bytes.
    pub texts: Vec<Bytes>,
    /// Integers.
    pub ints: Vec<i64>,
    /// Numbers.
    pub floats: Vec<f32>,
    /// Truth values.
    pub bools: Vec<bool>,
    /// Element types.
    pub types: Vec<DataType>,
    /// Shapes.
    pub shapes: Vec<PartialShape>,
}

impl Attr {
    /// An attribute with these bytes.
    pub(crate) fn from_encoded(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn encoded(&self) -> &Bytes {
        &self.0
    }

    /// Its value. Of several the last counts.
    ///
    /// # Errors
    /// If the bytes are no message.
    pub fn value(&self) -> Result<AttrValue, WireError> {
        let message = Reader::new(&self.0)?;
        let known = message.fields().iter().rev().find(|field| {
            let expected = match field.number() {
                INT | BOOL | TYPE => WireType::Varint,
                FLOAT => WireType::Fixed32,
                LIST | TEXT | SHAPE..=FUNCTION => WireType::LengthDelimited,
                _ => return false,
            };
            field.wire_type() == expected
        });
        let Some(field) = known else { return Ok(AttrValue::None) };
        let payload = message.payload(field);
        let integer = || message.varint(field.number()).unwrap_or(0);
        Ok(match field.number() {
            LIST => AttrValue::List(AttrList::decode(&message.message(LIST).unwrap_or_default())?),
            TEXT => AttrValue::Text(payload),
            INT => AttrValue::Int(integer() as i64),
            FLOAT => AttrValue::Float(f32::from_bits(fixed32(&payload).next().unwrap_or(0))),
            BOOL => AttrValue::Bool(integer() != 0),
            TYPE => AttrValue::Type(DataType(integer() as i32)),
            SHAPE => AttrValue::Shape(PartialShape::decode(&payload)?),
            TENSOR => AttrValue::Tensor(TensorProto::decode(payload)?),
            PLACEHOLDER => AttrValue::Placeholder(payload),
            _ => AttrValue::Function(payload),
        })
    }
}

impl AttrList {
    fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let message = Reader::new(bytes)?;
        Ok(Self {
            texts: message.each(TEXT).collect(),
            ints: message.all_varints(INT).map(|number| number as i64).collect(),
            floats: message
                .parts(FLOAT, WireType::Fixed32)
                .flat_map(|part| fixed32(&part).map(f32::from_bits).collect::<Vec<_>>())
                .collect(),
            bools: message.all_varints(BOOL).map(|number| number != 0).collect(),
            types: message.all_varints(TYPE).map(|number| DataType(number as i32)).collect(),
            shapes: message.each(SHAPE).map(|shape| PartialShape::decode(&shape)).collect::<Result<_, _>>()?,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.texts.iter().for_each(|text| out.extend_from_slice(&bytes_field(TEXT, text)));
        packed(&mut out, INT, self.ints.iter().map(|number| *number as u64));
        if !self.floats.is_empty() {
            let bytes: Vec<u8> = self.floats.iter().flat_map(|number| number.to_le_bytes()).collect();
            out.extend_from_slice(&bytes_field(FLOAT, &bytes));
        }
        packed(&mut out, BOOL, self.bools.iter().map(|flag| u64::from(*flag)));
        packed(&mut out, TYPE, self.types.iter().map(|kind| i64::from(kind.0) as u64));
        self.shapes.iter().for_each(|shape| out.extend_from_slice(&bytes_field(SHAPE, &shape.encode())));
        out
    }
}

fn packed(out: &mut Vec<u8>, number: u32, values: impl Iterator<Item = u64>) {
    let mut body = Vec::new();
    values.for_each(|value| varint(&mut body, value));
    if !body.is_empty() {
        out.extend_from_slice(&bytes_field(number, &body));
    }
}

impl From<AttrValue> for Attr {
    fn from(value: AttrValue) -> Self {
        let bytes = match value {
            AttrValue::None => Vec::new(),
            AttrValue::List(list) => bytes_field(LIST, &list.encode()),
            AttrValue::Text(text) => bytes_field(TEXT, &text),
            AttrValue::Int(number) => varint_field(INT, number as u64),
            AttrValue::Float(number) => {
                let mut out = Vec::with_capacity(5);
                tag(&mut out, FLOAT, WireType::Fixed32);
                out.extend_from_slice(&number.to_le_bytes());
                out
            }
            AttrValue::Bool(flag) => varint_field(BOOL, u64::from(flag)),
            AttrValue::Type(kind) => varint_field(TYPE, i64::from(kind.0) as u64),
            AttrValue::Shape(shape) => bytes_field(SHAPE, &shape.encode()),
            AttrValue::Tensor(tensor) => bytes_field(TENSOR, tensor.encoded()),
            AttrValue::Placeholder(name) => bytes_field(PLACEHOLDER, &name),
            AttrValue::Function(function) => bytes_field(FUNCTION, &function),
        };
        Self(bytes.into())
    }
}

macro_rules! from_values {
    ($($ty:ty => |$value:ident| $make:expr),* $(,)?) => {
        $(impl From<$ty> for Attr {
            fn from($value: $ty) -> Self {
                $make.into()
            }
        })*
    };
}

from_values! {
    bool => |flag| AttrValue::Bool(flag),
    i64 => |number| AttrValue::Int(number),
    f32 => |number| AttrValue::Float(number),
    DataType => |kind| AttrValue::Type(kind),
    PartialShape => |shape| AttrValue::Shape(shape),
    TensorProto => |tensor| AttrValue::Tensor(tensor),
    &str => |text| AttrValue::Text(Bytes::copy_from_slice(text.as_bytes())),
    Vec<i64> => |ints| AttrValue::List(AttrList { ints, ..AttrList::default() }),
    Vec<DataType> => |types| AttrValue::List(AttrList { types, ..AttrList::default() }),
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::Tensor;

    #[test]
    fn values_read_back() {
        let tensor = TensorProto::new(DataType::FLOAT, &Tensor::vector(vec![1f32, 2.0])).unwrap();
        let list = AttrList { floats: vec![1.5, -0.0], ..AttrList::default() };
        let shapes = AttrList { shapes: vec![PartialShape::full(&[1])], ..AttrList::default() };
        let values = [
            AttrValue::None,
            AttrValue::List(AttrList::default()),
            AttrValue::List(list),
            AttrValue::List(shapes),
            AttrValue::Text(Bytes::from_static(b"SAME")),
            AttrValue::Int(-1),
            AttrValue::Float(0.001),
            AttrValue::Bool(false),
            AttrValue::Type(DataType::QUINT8),
            AttrValue::Shape(PartialShape::UnknownRank),
            AttrValue::Tensor(tensor),
            AttrValue::Placeholder(Bytes::from_static(b"T")),
            AttrValue::Function(Bytes::from_static(b"\x0a\x01f")),
        ];
        for value in values {
            assert_eq!(Attr::from(value.clone()).value(), Ok(value));
        }
        assert_eq!(
            Attr::from(vec![1, 2]).value(),
            Ok(AttrValue::List(AttrList { ints: vec![1, 2], ..AttrList::default() }))
        );
    }
}
