//! Convolution of codes with one input channel for each output channel: the channels of a block stay in their lanes.
//!
//! What lives here: weights packed in two ways, and the loops over bands of bordered rows. Taps along a row come in
//! quads, whose four products are one instruction, where they are few and close together ([`Quads`]); anything else is
//! computed tap by tap. What does not live here: rounding (`requantize`).

mod quads;
mod taps;

use super::output::Output;
use super::requantize::whole_vectors;
use crate::blocked::{Blocked, Filter, Shape};
use crate::buffer::Buffer;
use crate::error::{KernelError, check_len};
use crate::geometry::Axis;
use crate::simd::Isa;
use quads::Quads;
use taps::Taps;

/// A depthwise convolution of `u8` codes with its `i8` weights packed, once for any number of threads.
#[derive(Debug)]
pub struct PackedCodesDepthwise {
    isa: Isa,
    filter: Filter,
    weights: Weights,
    /// Sums of each channel's weights.
    sums: Buffer<i32>,
}

#[derive(Debug)]
enum Weights {
    Quads(Quads),
    Taps(Taps),
}

impl PackedCodesDepthwise {
    /// Packs `weight`, which is `[channels, 1, kernel…]`.
    ///
    /// # Errors
    /// If the filter has not as many groups as input and output channels, a zero where it must not, the length does not
    /// fit it, or sums may overflow 32 bits: the magnitudes of a channel's weights add up to more than 2³¹ / 255.
    pub fn new(isa: Isa, filter: &Filter, weight: &[i8]) -> Result<Self, KernelError> {
        filter.check(weight.len(), None)?;
        if filter.in_channels != filter.group || filter.out_channels != filter.group {
            return Err(KernelError::Packing);
        }
        let channels = || weight.chunks_exact(filter.taps());
        let magnitude = |weights: &[i8]| weights.iter().map(|w| u64::from(w.unsigned_abs())).sum::<u64>();
        if channels().any(|weights| magnitude(weights) > i32::MAX as u64 / 255) {
            return Err(KernelError::Overflow { largest_input: 255 });
        }
        let sums = whole_vectors(channels().map(|weights| weights.iter().map(|w| i32::from(*w)).sum()));
        let lanes = isa.lanes();
        let weights = match Quads::new(filter, lanes, weight) {
            Some(quads) => Weights::Quads(quads),
            None => Weights::Taps(Taps::new(filter, lanes, weight)),
        };
        Ok(Self { isa, filter: *filter, weights, sums })
    }

    /// `output = round or scale (convolution(x - x_zero_point) + bias)`, where the sum with the bias wraps around if it
    /// does not fit 32 bits. Padding is code `x_zero_point`. Both `x` and the result have blocks of a vector's lanes;
    /// `window` gives the sizes of both axes, vertical first.
    ///
    /// # Errors
    /// If an operand, the window or the output does not belong to the filter.
    pub fn run(
        &self,
        x: Blocked<'_, u8>,
        x_zero_point: u8,
        window: [Axis; 2],
        mut output: Output<'_>,
        scratch: &mut Buffer<u8>,
    ) -> Result<(), KernelError> {
        let lanes = self.isa.lanes();
        check_len("lanes", lanes, x.shape.lanes)?;
        output.check(self.filter.out_channels)?;
        let shape = self.filter.result(&x.shape, x.data.len(), &window, lanes, output.len())?;
        if shape.is_empty() {
            return Ok(());
        }
        let job = Job { isa: self.isa, x, x_zero_point, window, shape, sums: &self.sums };
        match &self.weights {
            Weights::Quads(quads) => quads.run(&job, &mut output, scratch),
            Weights::Taps(taps) => taps.run(&job, &mut output, scratch),
        }
    }
}

/// One call.
struct Job<'a> {
    isa: Isa,
    x: Blocked<'a, u8>,
    x_zero_point: u8,
    window: [Axis; 2],
    /// Shape of the result.
    shape: Shape,
    /// Sums of each channel's weights.
    sums: &'a [i32],
}

impl<'a> Job<'a> {
    /// Blocks of all images: one after the other, in the input as in the result.
    fn planes(&self) -> usize {
        self.shape.batch * self.shape.blocks()
    }

    /// The input of a plane.
    fn x(&self, plane: usize) -> &'a [u8] {
        &self.x.data[plane * self.x.shape.plane()..][..self.x.shape.plane()]
    }

    /// Block of channels of a plane.
    fn block(&self, plane: usize) -> usize {
        plane % self.shape.blocks()
    }

    /// First element of row `row` of a plane of the result.
    fn y(&self, plane: usize, row: usize) -> usize {
        plane * self.shape.plane() + row * self.shape.width * self.shape.lanes
    }
}

/// Some rows of a plane of the result, and what they read.
struct Rows<'a> {
    /// Bordered rows of the input.
    x: &'a [u8],
    /// Between the rows of `x` under neighbouring rows of the result.
    x_row: usize,
    /// Block of channels.
    block: usize,
    /// Where the first row is in the result.
    y: usize,
    /// How many, and pixels of each.
    height: usize,
    width: usize,
}

#[cfg(test)]
mod tests;
