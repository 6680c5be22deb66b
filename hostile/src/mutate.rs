//! Damage to a valid file. Every function draws what it does, so that a seed stands for the result.

mod bytes;
mod fields;
mod tokens;

use crate::draw::Draw;

/// What a file consists of, which is where damage does most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing but bytes.
    Bytes,
    /// Fields of nested protocol buffers messages.
    Protobuf,
    /// Words, numbers, strings and brackets.
    Text,
}

/// Largest result of a mutation that makes a file grow, in bytes over the size of the file.
const MAX_GROWTH: usize = 1 << 16;

/// Damages `bytes`, a file of this form, once or several times; parts of `donor`, another file of the form, may get
/// into it.
#[must_use]
pub fn mutated(draw: &mut Draw, form: Form, bytes: &[u8], donor: &[u8]) -> Vec<u8> {
    let limit = bytes.len() + MAX_GROWTH;
    let mut damaged = bytes.to_vec();
    for _ in 0..draw.few(6) {
        damaged = match form {
            Form::Protobuf if !draw.one_in(5) => fields::damaged(draw, &damaged, donor),
            Form::Text if !draw.one_in(5) => tokens::damaged(draw, &damaged, donor),
            _ => bytes::damaged(draw, damaged, donor),
        };
        damaged.truncate(limit);
    }
    damaged
}

/// `bytes` with one bit flipped among the first `reach`, and what was done.
#[must_use]
pub fn flipped(draw: &mut Draw, bytes: &[u8], reach: usize) -> (String, Vec<u8>) {
    let mut damaged = bytes.to_vec();
    let (at, bit) = (draw.below(reach.min(bytes.len())), draw.below(8));
    if let Some(byte) = damaged.get_mut(at) {
        *byte ^= 1 << bit;
    }
    (format!("bit {bit} of byte {at} flipped"), damaged)
}

/// Numbers at which something overflows, wraps, changes its sign or its encoded length.
const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    63,
    64,
    65,
    127,
    128,
    255,
    256,
    1000,
    1 << 14,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    1 << 24,
    1 << 28,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 40,
    1 << 56,
    (1 << 62) - 1,
    1 << 62,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Bit patterns of `f32` at the edges of its range: zeros, subnormals, largest, infinities, NaN.
const FLOATS: &[u32] = &[
    0,
    0x8000_0000,
    1,
    0x007f_ffff,
    0x0080_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0x7f80_0001,
    0xffff_ffff,
];

/// A number worth trying: one of the table, or one beside it.
fn number(draw: &mut Draw) -> u64 {
    let number = draw.pick(NUMBERS).copied().unwrap_or_default();
    match draw.below(4) {
        0 => number.wrapping_sub(draw.below(4) as u64),
        1 => draw.below(300) as u64,
        _ => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"layer { name: 'conv' num_output: 16 bias: true } # end\n";

    #[test]
    fn damage_follows_from_the_seed_and_keeps_its_bound() {
        let message = [&b"\x08\x01\x12\x03abc\x1a\x04\x0a\x02xy\x25\x00\x00\x80\x3f"[..]; 3].concat();
        for (form, file) in [(Form::Bytes, TEXT), (Form::Text, TEXT), (Form::Protobuf, &message[..])] {
            let (mut changed, mut grown) = (0, 0);
            for seed in 0..2000 {
                let damaged = mutated(&mut Draw::new(seed), form, file, TEXT);
                assert_eq!(damaged, mutated(&mut Draw::new(seed), form, file, TEXT), "{form:?}, seed {seed}");
                assert!(damaged.len() <= file.len() + MAX_GROWTH, "{form:?}, seed {seed}");
                changed += usize::from(damaged != file);
                grown += usize::from(damaged.len() > file.len());
            }
            assert!(changed > 1800 && grown > 200, "{form:?}: {changed} changed, {grown} grown");
        }
    }

    #[test]
    fn an_empty_file_is_damaged_too() {
        for form in [Form::Bytes, Form::Text, Form::Protobuf] {
            for seed in 0..300 {
                let _ = mutated(&mut Draw::new(seed), form, b"", b"");
            }
        }
    }

    #[test]
    fn one_bit_is_flipped_within_reach() {
        let mut draw = Draw::new(3);
        for _ in 0..100 {
            let (case, damaged) = flipped(&mut draw, TEXT, 10);
            let bits: Vec<u32> = TEXT.iter().zip(&damaged).map(|(a, b)| (a ^ b).count_ones()).collect();
            assert_eq!((bits.iter().sum::<u32>(), bits[10..].iter().sum::<u32>()), (1, 0), "{case}");
        }
    }
}
