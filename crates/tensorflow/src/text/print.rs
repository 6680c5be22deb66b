//! From the wire format to text: two spaces for each level, fields by number, entries of maps by key, numbers with the
//! fewest digits that read back to the same.

use crate::schema::{Field, Kind, Label, Message};
use crate::wire::{fixed32, fixed64, varints};
use quantize_document::{Field as Place, Limits, MessageIndex, WireType, index_message};
use std::fmt::Write as _;

/// The message in `bytes`, of type `schema`, as a text.
///
/// # Errors
/// What is wrong with the bytes, or a field that the text format has no name for.
pub(crate) fn print(bytes: &[u8], schema: &Message, limits: &Limits) -> Result<String, String> {
    let index = index_message(bytes, 0..bytes.len(), limits).map_err(|error| error.to_string())?;
    let mut printer = Printer { bytes, limits, out: String::new() };
    printer.message(&index, schema, 0)?;
    Ok(printer.out)
}

struct Printer<'a> {
    bytes: &'a [u8],
    limits: &'a Limits,
    out: String,
}

impl Printer<'_> {
    fn message(&mut self, message: &MessageIndex, schema: &Message, depth: usize) -> Result<(), String> {
        let known = |place: &Place| schema.fields.iter().any(|field| field.number == place.number());
        if let Some(place) = message.fields().iter().find(|place| !known(place)) {
            let (number, offset) = (place.number(), place.whole().start);
            return Err(format!("field {number} of {} at byte {offset} has no name in text", schema.name));
        }
        for field in schema.fields {
            self.field(message, field, depth)?;
        }
        Ok(())
    }

    fn field(&mut self, message: &MessageIndex, field: &Field, depth: usize) -> Result<(), String> {
        if let Kind::Message(schema) = field.kind {
            let places = message.with_number(field.number).map(|(_, place)| *place);
            let mut places: Vec<Place> = match field.label {
                Label::Map => self.by_key(message, places)?,
                _ => places.collect(),
            };
            for place in places.drain(..) {
                let inner = message.child(self.bytes, &place, self.limits).map_err(|error| error.to_string())?;
                self.line(depth, format_args!("{} {{", field.name));
                self.message(&inner, schema, depth + 1)?;
                self.line(depth, format_args!("}}"));
            }
            return Ok(());
        }
        for (_, place) in message.with_number(field.number) {
            for value in self.values(place, field)? {
                self.line(depth, format_args!("{}: {value}", field.name));
            }
        }
        Ok(())
    }

    /// Entries of a map in the order of their keys; of several with the same key the last counts.
    fn by_key(&self, message: &MessageIndex, entries: impl Iterator<Item = Place>) -> Result<Vec<Place>, String> {
        let mut sorted = std::collections::BTreeMap::new();
        for entry in entries {
            let inner = message.child(self.bytes, &entry, self.limits).map_err(|error| error.to_string())?;
            let key = inner.with_number(1).last().map(|(_, key)| self.payload(key).to_vec()).unwrap_or_default();
            sorted.insert(key, entry);
        }
        Ok(sorted.into_values().collect())
    }

    fn payload(&self, place: &Place) -> &[u8] {
        self.bytes.get(place.payload()).unwrap_or_default()
    }

    fn line(&mut self, depth: usize, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "{:width$}{text}", "", width = 2 * depth);
    }

    /// The values in one field, as they are written.
    fn values(&self, place: &Place, field: &Field) -> Result<Vec<String>, String> {
        let payload = self.payload(place);
        let texts = match (field.kind, place.wire_type()) {
            (Kind::Text | Kind::Bytes, WireType::LengthDelimited) => vec![quoted(payload)],
            (Kind::Text | Kind::Bytes | Kind::Message(_), _) => return Err(other_kind(place, field)),
            (Kind::Float, WireType::Fixed32 | WireType::LengthDelimited) => fixed32(payload)
                .map(|bits| float(f64::from(f32::from_bits(bits)), format!("{:?}", f32::from_bits(bits))))
                .collect(),
            (Kind::Double, WireType::Fixed64 | WireType::LengthDelimited) => fixed64(payload)
                .map(|bits| float(f64::from_bits(bits), format!("{:?}", f64::from_bits(bits))))
                .collect(),
            (Kind::Fixed64, WireType::Fixed64 | WireType::LengthDelimited) => {
                fixed64(payload).map(|number| number.to_string()).collect()
            }
            (Kind::Float | Kind::Double | Kind::Fixed64, _) => return Err(other_kind(place, field)),
            (_, WireType::Varint | WireType::LengthDelimited) => {
                varints(payload).map(|number| integer(number, field.kind)).collect()
            }
            _ => return Err(other_kind(place, field)),
        };
        Ok(texts)
    }
}

fn other_kind(place: &Place, field: &Field) -> String {
    format!("field `{}` at byte {} is of another kind than it should be", field.name, place.whole().start)
}

fn integer(number: u64, kind: Kind) -> String {
    match kind {
        Kind::Bool => (number != 0).to_string(),
        Kind::Int32 => (number as i32).to_string(),
        Kind::Uint32 => (number as u32).to_string(),
        Kind::Uint64 => number.to_string(),
        Kind::Enum(names) => {
            let named = names.iter().find(|(known, _)| *known == number as i32);
            named.map_or_else(|| (number as i32).to_string(), |(_, name)| (*name).to_owned())
        }
        _ => (number as i64).to_string(),
    }
}

/// A number of which `shortest` has the digits.
fn float(number: f64, shortest: String) -> String {
    match number {
        n if n.is_nan() => "nan".into(),
        f64::INFINITY => "inf".into(),
        f64::NEG_INFINITY => "-inf".into(),
        _ => shortest.strip_suffix(".0").map(str::to_owned).unwrap_or(shortest),
    }
}

fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b'"' => text.push_str("\\\""),
            b'\'' => text.push_str("\\'"),
            b'\\' => text.push_str("\\\\"),
            0x20..=0x7e => text.push(char::from(*byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\{byte:03o}");
            }
        }
    }
    text.push('"');
    text
}
