//! Exact convolution of integer codes with 32- or 64-bit sums, and with it the product of fully connected layers: a
//! convolution without axes.
//!
//! What lives here: the arithmetic of accumulators, bit for bit the same for every instruction set. What does not:
//! scales, zero points, bias, rounding of accumulators to codes. Padding is code 0.
//!
//! Codes are `i16`, whatever the quantizer's width. Two neighbours along the summed axis share an `i32`, because
//! processors multiply and add such pairs in one step. `packed` lays out weights, `columns` inputs, `product` loops over
//! tiles, `tile` computes one.

mod accumulator;
mod columns;
mod depthwise;
mod packed;
mod product;
mod tile;

#[cfg(test)]
mod tests;

pub use accumulator::Accumulator;
pub use packed::PackedCodes;

use crate::error::{KernelError, check_len};
use crate::geometry::ConvGeometry;
use crate::simd::Isa;

/// Working memory of a thread; grows as needed, to about 1 MiB, some columns of the unfolded input, or one bordered
/// plane of a depthwise convolution.
#[derive(Clone, Debug, Default)]
pub struct Scratch(Buffers);

#[derive(Clone, Debug, Default)]
struct Buffers {
    /// Rows of the unfolded input.
    rows: Vec<i16>,
    /// The unfolded input, paired and in lanes.
    panels: Vec<tile::Lanes>,
    /// The unfolded input, paired and in rows.
    blocks: Vec<[i32; tile::ROWS]>,
    /// Bordered plane and output row of a depthwise convolution.
    plane: Vec<i32>,
}

/// Convolution with 32-bit sums: `out[n, oc, o] = Σ x[n, ic, o * stride + tap * dilation - pad] * weight[oc, ic, tap]`.
///
/// `x` is `[batch, in_channels, input…]`, `out` is `[batch, out_channels, output…]`; `geometry` may differ from the one
/// the weights were packed for in its batch.
///
/// # Errors
/// If a slice has another length than `geometry` says, the weights were packed for other sizes, smaller codes than `x`
/// has, or 64-bit sums. Nothing has been written then.
pub fn conv_codes(
    geometry: &ConvGeometry,
    x: &[i16],
    weight: &PackedCodes,
    out: &mut [i32],
    scratch: &mut Scratch,
) -> Result<(), KernelError> {
    narrow(Isa::active(), geometry, x, weight, out, scratch)
}

/// Convolution with 64-bit sums, for all weights; otherwise as [`conv_codes`]. It costs twice as much for weights that
/// were packed for 64-bit sums, and about the same for others.
///
/// # Errors
/// If a slice has another length than `geometry` says, or the weights were packed for other sizes, or smaller codes
/// than `x` has. Nothing has been written then.
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
    if weight.accumulator() == Accumulator::I64 {
        return Err(KernelError::Overflow { largest_input: weight.largest_input() });
    }
    product::run(isa, geometry, x, weight, out, |to, sum, _| *to = sum, &mut scratch.0);
    Ok(())
}

fn wide(
    isa: Isa,
    geometry: &ConvGeometry,
    x: &[i16],
    weight: &PackedCodes,
    out: &mut [i64],
    scratch: &mut Scratch,
) -> Result<(), KernelError> {
    check(geometry, x, weight, out.len())?;
    let put = |to: &mut i64, sum, step: product::Step| {
        let term = i64::from(sum) << step.shift;
        *to = if step.first { term } else { *to + term };
    };
    product::run(isa, geometry, x, weight, out, put, &mut scratch.0);
    Ok(())
}

fn check(geometry: &ConvGeometry, x: &[i16], weight: &PackedCodes, out: usize) -> Result<(), KernelError> {
    check_len("input", geometry.input_len(), x.len())?;
    check_len("output", geometry.output_len(), out)?;
    weight.check(geometry, x)
}
