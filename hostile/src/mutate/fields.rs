//! Damage to the fields of protocol buffers messages: the wire format is walked to a field, and around it the lengths
//! fit again most of the time, so that the damage gets past the first check.

use super::{FLOATS, MAX_GROWTH, bytes, number};
use crate::draw::Draw;
use quantize_document::encode::{self, varint};
use quantize_document::{Field, Limits, WireType, index_message};

/// Deepest message that is damaged; those of real models are less deep.
const MAX_DEPTH: usize = 24;

/// Longest payload that is taken for a name.
const NAME: usize = 64;

/// Damages a message once, or its bytes if it is none.
pub(super) fn damaged(draw: &mut Draw, message: &[u8], donor: &[u8]) -> Vec<u8> {
    inside(draw, message, &Around { file: message, donor }, 0)
}

/// What parts are taken from.
struct Around<'a> {
    file: &'a [u8],
    donor: &'a [u8],
}

/// Damages this message or one in it.
fn inside(draw: &mut Draw, message: &[u8], around: &Around<'_>, depth: usize) -> Vec<u8> {
    let fields = fields_of(message);
    if fields.is_empty() {
        return bytes::damaged(draw, message.to_vec(), around.donor);
    }
    let at = chosen(draw, message.len(), &fields);
    let Some(field) = fields.get(at) else { return message.to_vec() };
    let payload = &message[field.payload()];
    let goes_in = field.wire_type() == WireType::LengthDelimited && depth < MAX_DEPTH && !draw.one_in(4);
    if goes_in && !fields_of(payload).is_empty() {
        let new = inside(draw, payload, around, depth + 1);
        return replaced(message, field, &delimited(draw, field.number(), &new));
    }
    match draw.below(10) {
        0..=2 => rearranged(draw, message, &fields, at, around),
        _ => replaced(message, field, &changed(draw, message, field, around)),
    }
}

/// The fields of a message; none if it is no message.
fn fields_of(bytes: &[u8]) -> Vec<Field> {
    let limits = Limits { max_fields: 1 << 16, ..Limits::default() };
    index_message(bytes, 0..bytes.len(), &limits).map_or_else(|_| Vec::new(), |index| index.fields().to_vec())
}

/// A field: any with the same chance, or the one at some byte, which finds the large ones.
fn chosen(draw: &mut Draw, length: usize, fields: &[Field]) -> usize {
    if draw.one_in(2) {
        return draw.below(fields.len());
    }
    let byte = draw.below(length);
    fields.partition_point(|field| field.whole().end <= byte).min(fields.len() - 1)
}

/// The message with other bytes in place of a field.
fn replaced(message: &[u8], field: &Field, new: &[u8]) -> Vec<u8> {
    let whole = field.whole();
    [&message[..whole.start], new, &message[whole.end..]].concat()
}

/// A length-delimited field; one time in 64 the length is wrong.
fn delimited(draw: &mut Draw, field: u32, payload: &[u8]) -> Vec<u8> {
    if !draw.one_in(64) {
        return encode::bytes_field(field, payload);
    }
    let mut bytes = tag(u64::from(field), 2);
    varint(&mut bytes, number(draw));
    bytes.extend_from_slice(payload);
    bytes
}

fn tag(field: u64, wire_type: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(&mut bytes, (field << 3) | wire_type);
    bytes
}

/// Fields removed, doubled, swapped, moved, repeated or taken from elsewhere.
fn rearranged(draw: &mut Draw, message: &[u8], fields: &[Field], at: usize, around: &Around<'_>) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = fields.iter().map(|field| &message[field.whole()]).collect();
    let other = draw.below(parts.len());
    let field = parts[at];
    match draw.below(7) {
        0 => drop(parts.remove(at)),
        1 => parts.insert(other, field),
        2 => parts.swap(at, other),
        3 => {
            parts.remove(at);
            parts.insert(other.min(parts.len()), field);
        }
        4 => parts.truncate(at + 1),
        5 => {
            let times = draw.few(MAX_GROWTH / field.len().max(1) + 1);
            parts.splice(at..at, std::iter::repeat_n(field, times));
        }
        _ => {
            let donor = if draw.one_in(2) { around.donor } else { around.file };
            parts.insert(other, somewhere(draw, donor, |_| true));
        }
    }
    parts.concat()
}

/// What takes the place of a field.
fn changed(draw: &mut Draw, message: &[u8], field: &Field, around: &Around<'_>) -> Vec<u8> {
    let (number, payload) = (field.number(), &message[field.payload()]);
    match draw.below(8) {
        0 => retagged(draw, field, payload),
        1 => {
            let donor = if draw.one_in(4) { around.donor } else { around.file };
            let name = payload_of(somewhere(draw, donor, is_name));
            encode::bytes_field(number, name)
        }
        2 => encode::bytes_field(number, &packed(draw)),
        3 if field.wire_type() == WireType::LengthDelimited => nested(draw, number, payload),
        4 => encode::varint_field(number, super::number(draw)),
        _ => of_same_type(draw, field, payload, around),
    }
}

/// The same payload under another number or wire type.
fn retagged(draw: &mut Draw, field: &Field, payload: &[u8]) -> Vec<u8> {
    let number = match draw.below(4) {
        0 => super::number(draw),
        1 => u64::from(field.number()),
        _ => draw.below(30) as u64,
    };
    let mut bytes = tag(number, draw.below(8) as u64);
    bytes.extend_from_slice(payload);
    bytes
}

/// Numbers whose product is likely to overflow, or very many of them.
fn packed(draw: &mut Draw) -> Vec<u8> {
    let mut payload = Vec::new();
    let (count, same) = if draw.one_in(16) { (draw.few(5000), Some(number(draw))) } else { (draw.few(8), None) };
    for _ in 0..count {
        varint(&mut payload, same.unwrap_or_else(|| number(draw)));
    }
    payload
}

/// The payload inside messages that hold nothing else, around the depth where reading must end or far beyond it.
fn nested(draw: &mut Draw, field: u32, payload: &[u8]) -> Vec<u8> {
    let depth = match draw.below(3) {
        0 => draw.few(10),
        1 => 90 + draw.below(20),
        _ => draw.few(3000),
    };
    let mut heads = Vec::with_capacity(depth);
    let mut length = payload.len();
    for _ in 0..depth {
        let mut head = tag(u64::from(field), 2);
        varint(&mut head, length as u64);
        length += head.len();
        heads.push(head);
    }
    heads.reverse();
    let mut bytes = heads.concat();
    bytes.extend_from_slice(payload);
    bytes
}

/// Another value of the field's wire type.
fn of_same_type(draw: &mut Draw, field: &Field, payload: &[u8], around: &Around<'_>) -> Vec<u8> {
    match field.wire_type() {
        WireType::Varint => encode::varint_field(field.number(), number(draw)),
        WireType::LengthDelimited => {
            let new = match draw.below(4) {
                0 => Vec::new(),
                1 => payload[..draw.below(payload.len() + 1)].to_vec(),
                2 => vec![draw.bits() as u8; draw.few(1000)],
                _ => bytes::damaged(draw, payload.to_vec(), around.donor),
            };
            delimited(draw, field.number(), &new)
        }
        WireType::Fixed32 | WireType::Fixed64 => {
            let float = draw.pick(FLOATS).copied().unwrap_or_default();
            let fixed64 = field.wire_type() == WireType::Fixed64;
            let mut bytes = tag(u64::from(field.number()), if fixed64 { 1 } else { 5 });
            if fixed64 {
                bytes.extend_from_slice(&f64::from(f32::from_bits(float)).to_le_bytes());
            } else {
                bytes.extend_from_slice(&float.to_le_bytes());
            }
            bytes
        }
        WireType::Group => {
            let mut bytes = tag(u64::from(field.number()), 3);
            bytes.extend_from_slice(payload);
            bytes
        }
    }
}

fn is_name(payload: &[u8]) -> bool {
    payload.len() <= NAME && payload.iter().all(u8::is_ascii_graphic)
}

/// A field of `message` or of a message in it, whole, whose payload is `wanted`; empty if none is met.
fn somewhere<'a>(draw: &mut Draw, message: &'a [u8], wanted: fn(&[u8]) -> bool) -> &'a [u8] {
    for _ in 0..4 {
        let mut level = message;
        for _ in 0..MAX_DEPTH {
            let fields = fields_of(level);
            let Some(field) = draw.pick(&fields) else { break };
            let payload = &level[field.payload()];
            let is_last = field.wire_type() != WireType::LengthDelimited || fields_of(payload).is_empty();
            if (is_last || draw.one_in(3)) && wanted(payload) {
                return &level[field.whole()];
            }
            level = payload;
        }
    }
    &[]
}

/// The payload of a field that stands alone.
fn payload_of(field: &[u8]) -> &[u8] {
    fields_of(field).first().map_or(&[], |found| &field[found.payload()])
}
