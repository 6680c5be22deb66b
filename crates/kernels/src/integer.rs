//! Exact convolution of integer codes with 32- or 64-bit sums, and with it the product of fully connected layers: a
//! convolution without axes.
//!
//! What lives here: the arithmetic of accumulators, bit for bit the same for every instruction set. What does not:
//! scales, zero points, bias, rounding of accumulators to codes. Padding is code 0.
//!
//! Codes are `i16`, whatever the quantizer's width. Two neighbours along the summed axis share an `i32`, because
//! processors multiply and add such pairs in one step. `packed` lays out weights, `columns` inputs, `product` loops over
//! tiles, `isa` is the table of instruction sets.
//!
//! The variable `QUANTIZE_ISA` of the environment chooses an instruction set (`scalar`, `avx2`, `avx512`, `vnni`); if
//! the processor lacks it, the best one below it runs. With another value, or none, the best one runs.

mod columns;
mod depthwise;
mod isa;
mod packed;
mod portable;
mod product;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

pub use packed::{Accumulator, PackedCodes};

use crate::error::{KernelError, check_len};
use crate::geometry::ConvGeometry;
use isa::Isa;

/// Name of the instruction set the convolutions of this process run on, as `QUANTIZE_ISA` names it.
pub fn isa_name() -> &'static str {
    Isa::active().name()
}

/// Working memory of a thread; grows as needed, to about 1 MiB, one column of the unfolded input, or one bordered
/// plane of a depthwise convolution, and for 64-bit sums a copy of the input.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    digits: Vec<i16>,
    buffers: Buffers,
}

#[derive(Clone, Debug, Default)]
struct Buffers {
    /// Rows of the unfolded input.
    rows: Vec<i16>,
    /// The unfolded input, paired and in lanes.
    panels: Vec<isa::Lanes>,
    /// The unfolded input, paired and in rows.
    blocks: Vec<[i32; isa::ROWS]>,
    /// Bordered plane and output row of a depthwise convolution.
    plane: Vec<i32>,
}

/// Convolution with 32-bit sums: `out[n, oc, o] = Σ x[n, ic, o * stride + tap * dilation - pad] * weight[oc, ic, tap]`.
///
/// `x` is `[batch, in_channels, input…]`, `out` is `[batch, out_channels, output…]`; `geometry` may differ from the one
/// the weights were packed for in its batch. See [`PackedCodes::accumulator`] for what fits 32 bits.
///
/// # Errors
/// If a slice has another length than `geometry` says, the weights were packed for other sizes, or a sum may overflow:
/// the largest magnitude in `x` times the largest sum of the magnitudes of a channel's weights exceeds `i32::MAX`.
/// Nothing has been written then.
pub fn conv_codes(
    geometry: &ConvGeometry,
    x: &[i16],
    weight: &PackedCodes,
    out: &mut [i32],
    scratch: &mut Scratch,
) -> Result<(), KernelError> {
    narrow(Isa::active(), geometry, x, weight, out, scratch)
}

/// Convolution with 64-bit sums, which hold any codes; otherwise as [`conv_codes`], at about twice its cost.
///
/// # Errors
/// If a slice has another length than `geometry` says, or the weights were packed for other sizes.
pub fn conv_codes_wide(
    geometry: &ConvGeometry,
    x: &[i16],
    weight: &PackedCodes,
    out: &mut [i64],
    scratch: &mut Scratch,
) -> Result<(), KernelError> {
    wide(Isa::active(), geometry, x, weight, out, scratch)
}

fn narrow(
    isa: Isa,
    geometry: &ConvGeometry,
    x: &[i16],
    weight: &PackedCodes,
    out: &mut [i32],
    scratch: &mut Scratch,
) -> Result<(), KernelError> {
    check(geometry, x, weight, out.len())?;
    let largest_input = largest_magnitude(x);
    if weight.accumulator(largest_input) == Accumulator::I64 {
        return Err(KernelError::Overflow { largest_input, largest_sum: weight.largest_sum() });
    }
    let whole = geometry.group_weight();
    product::run(isa, geometry, x, weight, whole, out, |to, sum| *to = sum, &mut scratch.buffers);
    Ok(())
}

/// Terms whose sum fits 32 bits when a factor is a digit and the other any code; even, to hold whole pairs.
const TERMS_OF_DIGITS: usize = i32::MAX as usize / (128 * 32768) / 2 * 2;

/// Splits `x` into two digits of base 256, each at most 128 in magnitude, so that sums of many products fit 32 bits.
fn wide(
    isa: Isa,
    geometry: &ConvGeometry,
    x: &[i16],
    weight: &PackedCodes,
    out: &mut [i64],
    scratch: &mut Scratch,
) -> Result<(), KernelError> {
    check(geometry, x, weight, out.len())?;
    let Scratch { digits, buffers } = scratch;
    out.fill(0);
    for (digit, shift) in [(low_digit as fn(i16) -> i16, 0), (high_digit, 8)] {
        digits.clear();
        digits.extend(x.iter().map(|c| digit(*c)));
        let put = |to: &mut i64, sum| *to += i64::from(sum) << shift;
        product::run(isa, geometry, digits, weight, TERMS_OF_DIGITS, out, put, buffers);
    }
    Ok(())
}

/// In -128..=127.
fn low_digit(code: i16) -> i16 {
    i16::from(code as i8)
}

/// In -128..=128.
fn high_digit(code: i16) -> i16 {
    ((i32::from(code) - i32::from(low_digit(code))) >> 8) as i16
}

fn check(geometry: &ConvGeometry, x: &[i16], weight: &PackedCodes, out: usize) -> Result<(), KernelError> {
    check_len("input", geometry.input_len(), x.len())?;
    check_len("output", geometry.output_len(), out)?;
    if weight.suits(geometry) { Ok(()) } else { Err(KernelError::Packing) }
}

fn largest_magnitude(codes: &[i16]) -> u16 {
    // Signed extremes, because every x86-64 processor has them as vector instructions.
    let (low, high) = codes.iter().fold((0, 0), |(low, high): (i16, i16), c| (low.min(*c), high.max(*c)));
    low.unsigned_abs().max(high.unsigned_abs())
}
