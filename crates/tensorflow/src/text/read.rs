//! From a tree of text to the wire format.

use crate::schema::{Field, Kind, Label, Message};
use quantize_document::WireType;
use quantize_document::encode::{bytes_field, length_prefix, tag, varint, varint_field};
use quantize_document::text::{Field as TextField, Message as TextMessage, Scalar, ScalarKind, Value};
use std::collections::BTreeSet;

/// Why a text is not a message of its type, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Byte of the text.
    pub(crate) offset: usize,
    /// What is wrong there.
    pub(crate) cause: String,
}

/// The wire format of `message`, read as of type `schema`. Fields stay in the order of the text; the values of a packed
/// list stand together where the first of them does. The text is nested no deeper than its parser allows.
///
/// # Errors
/// A field that the type does not have, a value of another kind, or one that does not fit.
pub(crate) fn encode(message: &TextMessage, schema: &Message) -> Result<Vec<u8>, Misfit> {
    let mut out = Vec::new();
    let mut packed = BTreeSet::new();
    for field in message.fields() {
        let Some(known) = schema.named(&field.name) else {
            let cause = format!("{} has no field `{}`", title(schema), field.name);
            return Err(Misfit { offset: field.name_span.start, cause });
        };
        match known.label {
            Label::Packed if packed.insert(known.number) => list(message, known, &mut out)?,
            Label::Packed => {}
            Label::One | Label::Many | Label::Map => each(field, known, &mut out)?,
        }
    }
    Ok(out)
}

/// All values of a packed field.
fn list(message: &TextMessage, known: &Field, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let mut values = Vec::new();
    for value in message.values(known.name) {
        let encoded = scalar(value).and_then(|scalar| bare(scalar, known.kind));
        values.extend_from_slice(&encoded.map_err(|cause| at(value, known, cause))?);
    }
    out.extend_from_slice(&bytes_field(known.number, &values));
    Ok(())
}

/// The values of a field, each a field of its own.
fn each(field: &TextField, known: &Field, out: &mut Vec<u8>) -> Result<(), Misfit> {
    for value in &field.values {
        match (value, known.kind) {
            (Value::Message(inner), Kind::Message(schema)) => {
                let mut body = encode(inner, schema)?;
                out.extend_from_slice(&length_prefix(known.number, body.len()));
                out.append(&mut body);
            }
            (value, _) => {
                let encoded = scalar(value).and_then(|scalar| single(scalar, known));
                out.extend_from_slice(&encoded.map_err(|cause| at(value, known, cause))?);
            }
        }
    }
    Ok(())
}

fn title(schema: &Message) -> &str {
    if schema.name.is_empty() { "an entry of a map" } else { schema.name }
}

fn at(value: &Value, field: &Field, cause: String) -> Misfit {
    Misfit { offset: value.span().start, cause: format!("`{}`: {cause}", field.name) }
}

fn scalar(value: &Value) -> Result<&Scalar, String> {
    value.scalar().ok_or_else(|| "expected a single value, found fields in brackets".into())
}

/// A whole field of one value.
fn single(value: &Scalar, field: &Field) -> Result<Vec<u8>, String> {
    Ok(match field.kind {
        Kind::Text => {
            let text = value.as_str().filter(|_| value.kind() == ScalarKind::Text);
            bytes_field(field.number, text.ok_or("expected a string of UTF-8")?.as_bytes())
        }
        Kind::Bytes => match value.kind() {
            ScalarKind::Text => bytes_field(field.number, value.bytes()),
            _ => return Err(format!("expected a string, found `{value}`")),
        },
        Kind::Float => fixed(field.number, WireType::Fixed32, &bare(value, field.kind)?),
        Kind::Double | Kind::Fixed64 => fixed(field.number, WireType::Fixed64, &bare(value, field.kind)?),
        Kind::Message(schema) => return Err(format!("expected the fields of {} in brackets", title(schema))),
        _ => varint_field(field.number, integer(value, field.kind)?),
    })
}

fn fixed(number: u32, kind: WireType, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(6 + bytes.len());
    tag(&mut out, number, kind);
    out.extend_from_slice(bytes);
    out
}

/// A value without a tag, as it stands in a list.
fn bare(value: &Scalar, kind: Kind) -> Result<Vec<u8>, String> {
    let number = || format!("expected a number, found `{value}`");
    Ok(match kind {
        Kind::Float => value.as_f32().ok_or_else(number)?.to_le_bytes().to_vec(),
        Kind::Double => value.as_f64().ok_or_else(number)?.to_le_bytes().to_vec(),
        Kind::Fixed64 => value.as_u64().ok_or_else(number)?.to_le_bytes().to_vec(),
        _ => {
            let mut out = Vec::new();
            varint(&mut out, integer(value, kind)?);
            out
        }
    })
}

/// A value as the pattern of its varint.
fn integer(value: &Scalar, kind: Kind) -> Result<u64, String> {
    let refused = |what: &str| format!("expected {what}, found `{value}`");
    match kind {
        Kind::Bool => value.as_bool().map(u64::from).ok_or_else(|| refused("true or false")),
        Kind::Int32 => {
            let number = value.as_i64().filter(|number| i32::try_from(*number).is_ok());
            number.map(|number| number as u64).ok_or_else(|| refused("a 32-bit integer"))
        }
        Kind::Uint32 => {
            let number = value.as_u64().filter(|number| u32::try_from(*number).is_ok());
            number.ok_or_else(|| refused("a 32-bit integer that is not negative"))
        }
        Kind::Int64 => value.as_i64().map(|number| number as u64).ok_or_else(|| refused("a 64-bit integer")),
        Kind::Uint64 => value.as_u64().ok_or_else(|| refused("a 64-bit integer that is not negative")),
        Kind::Enum(names) => {
            let named = value.as_str().and_then(|name| names.iter().find(|(_, known)| *known == name));
            let number = named.map(|(number, _)| i64::from(*number)).or_else(|| value.as_i64());
            let number = number.filter(|number| i32::try_from(*number).is_ok());
            number.map(|number| number as u64).ok_or_else(|| format!("there is no value `{value}`"))
        }
        Kind::Fixed64 | Kind::Float | Kind::Double | Kind::Text | Kind::Bytes | Kind::Message(_) => {
            Err(refused("an integer"))
        }
    }
}
