//! Damage to bytes, whatever they mean.

use super::{FLOATS, MAX_GROWTH, number};
use crate::draw::Draw;

/// Longest part that is copied, moved or removed most of the time.
const PART: usize = 256;

/// Damages `bytes` once.
pub(super) fn damaged(draw: &mut Draw, mut bytes: Vec<u8>, donor: &[u8]) -> Vec<u8> {
    let length = bytes.len();
    match draw.below(10) {
        0 | 1 => flip(draw, &mut bytes),
        2 => overwrite(draw, &mut bytes, &[0, 1, 0x7f, 0x80, 0xff, b'0', b'{', b'"', b'\n']),
        3 | 4 => integer(draw, &mut bytes),
        5 => bytes.truncate(draw.below(length + 1)),
        6 => drop(bytes.drain(draw.span(length, PART))),
        7 => {
            let part = bytes[draw.span(length, PART)].to_vec();
            insert(draw, &mut bytes, &part);
        }
        8 => {
            let part = donor[draw.span(donor.len(), PART)].to_vec();
            insert(draw, &mut bytes, &part);
        }
        _ => {
            let part = vec![bytes.get(draw.below(length)).copied().unwrap_or(0); draw.few(MAX_GROWTH)];
            insert(draw, &mut bytes, &part);
        }
    }
    bytes
}

fn flip(draw: &mut Draw, bytes: &mut [u8]) {
    let at = draw.below(bytes.len());
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << draw.below(8);
    }
}

fn overwrite(draw: &mut Draw, bytes: &mut [u8], with: &[u8]) {
    let (at, new) = (draw.below(bytes.len()), draw.pick(with).copied().unwrap_or_default());
    if let Some(byte) = bytes.get_mut(at) {
        *byte = new;
    }
}

/// Writes a number of 2, 4 or 8 bytes over what stands somewhere.
fn integer(draw: &mut Draw, bytes: &mut [u8]) {
    let value = if draw.one_in(4) { u64::from(draw.pick(FLOATS).copied().unwrap_or(0)) } else { number(draw) };
    let size = 2 << draw.below(3);
    let at = draw.below(bytes.len().saturating_sub(size) + 1);
    for (byte, new) in bytes.iter_mut().skip(at).zip(&value.to_le_bytes()[..size]) {
        *byte = *new;
    }
}

fn insert(draw: &mut Draw, bytes: &mut Vec<u8>, part: &[u8]) {
    let at = draw.below(bytes.len() + 1);
    bytes.splice(at..at, part.iter().copied());
}
