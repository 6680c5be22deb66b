//! Weights in the order the tiles read them.

use super::accumulator::{Accumulator, Digit};
use super::tile::{LANES, Lanes, ROWS};
use crate::depthwise::Plan;
use crate::error::{KernelError, check_len};
use crate::geometry::ConvGeometry;

/// Weights of one convolution, packed once and read by any number of threads.
#[derive(Clone, Debug)]
pub struct PackedCodes {
    /// With batch 1, which the layout does not depend on.
    geometry: ConvGeometry,
    largest_input: u16,
    accumulator: Accumulator,
    pub(super) layout: Layout,
}

/// How the weights are read. Digits of the same weights follow each other.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    /// For each output channel and digit one weight after the other, for sums of shifted planes.
    Depthwise(Plan, Vec<i32>),
    /// Pairs of `ROWS` output channels side by side, to be multiplied by lanes of output positions.
    Rows(Vec<[i32; ROWS]>),
    /// Pairs of `LANES` output channels side by side, for outputs that have a single position.
    Lanes(Vec<Lanes>),
}

impl PackedCodes {
    /// Packs `weight`, which is `[out_channels, in_channels / group, kernel…]`, for inputs whose codes are at most
    /// `largest_input` in magnitude (128 for 8-bit quantizers), and chooses the accumulator that holds their sums.
    ///
    /// # Errors
    /// If `weight` has another length than `geometry` says, or is so large that not even 64-bit sums would hold.
    pub fn new(geometry: &ConvGeometry, weight: &[i16], largest_input: u16) -> Result<Self, KernelError> {
        check_len("weight", geometry.weight_len(), weight.len())?;
        let channels = weight.chunks_exact(geometry.group_weight().max(1));
        let largest_sum = channels.map(sum_of_magnitudes).max().unwrap_or(0);
        if largest_sum > i64::MAX as u64 >> u16::BITS {
            return Err(KernelError::TooLarge("sum of weights"));
        }
        let accumulator = Accumulator::for_sums(largest_input, largest_sum);
        let geometry = ConvGeometry { batch: 1, ..geometry.clone() };
        let layout = Layout::new(&geometry, weight, accumulator);
        Ok(Self { geometry, largest_input, accumulator, layout })
    }

    /// The integer type that holds every sum, whatever the order of its terms. See [`Accumulator::for_sums`].
    pub fn accumulator(&self) -> Accumulator {
        self.accumulator
    }

    /// The largest magnitude of an input code the weights were packed for.
    pub fn largest_input(&self) -> u16 {
        self.largest_input
    }

    /// Whether the weights were packed for these sizes, batch aside.
    pub fn fits(&self, geometry: &ConvGeometry) -> bool {
        let sizes = |g: &ConvGeometry| (g.group, g.group_in, g.group_out);
        sizes(&self.geometry) == sizes(geometry) && self.geometry.space == geometry.space
    }

    /// Refuses what the weights were not packed for: other sizes, batch aside, and larger input codes.
    pub(super) fn check(&self, geometry: &ConvGeometry, x: &[i16]) -> Result<(), KernelError> {
        if !self.fits(geometry) {
            return Err(KernelError::Packing);
        }
        match largest_magnitude(x) {
            found if found > self.largest_input => Err(KernelError::Input { found, largest: self.largest_input }),
            _ => Ok(()),
        }
    }
}

impl Layout {
    fn new(geometry: &ConvGeometry, weight: &[i16], accumulator: Accumulator) -> Self {
        let digits = accumulator.digits();
        if geometry.space.output == 1 {
            return Self::Lanes(interleave::<LANES>(geometry, weight, digits).into_iter().map(Lanes).collect());
        }
        match Plan::new(geometry) {
            // The depthwise loop adds up all its terms in one step.
            Some(plan) if geometry.space.taps <= accumulator.terms() => {
                Self::Depthwise(plan, split(geometry, weight, digits))
            }
            _ => Self::Rows(interleave(geometry, weight, digits)),
        }
    }
}

fn sum_of_magnitudes(weights: &[i16]) -> u64 {
    weights.iter().map(|w| u64::from(w.unsigned_abs())).sum()
}

fn largest_magnitude(codes: &[i16]) -> u16 {
    // Signed extremes, because every x86-64 processor has them as vector instructions.
    let (low, high) = codes.iter().fold((0, 0), |(low, high): (i16, i16), c| (low.min(*c), high.max(*c)));
    low.unsigned_abs().max(high.unsigned_abs())
}

/// Two codes as one `i32`: the first in the low half.
pub(super) fn pair(low: i16, high: i16) -> i32 {
    i32::from(low as u16) | i32::from(high) << 16
}

/// For each output channel all its weights' first digits, then all their second digits.
fn split(geometry: &ConvGeometry, weight: &[i16], digits: &[Digit]) -> Vec<i32> {
    let digits_of =
        |channel: &[i16], digit: &Digit| -> Vec<i32> { channel.iter().map(|w| i32::from((digit.of)(*w))).collect() };
    let channels = weight.chunks_exact(geometry.space.taps);
    channels.flat_map(|channel| digits.iter().flat_map(move |digit| digits_of(channel, digit))).collect()
}

/// For each group, each `N` of its channels and each digit: the pairs along the summed axis, `N` channels side by side.
/// What is missing is 0.
fn interleave<const N: usize>(geometry: &ConvGeometry, weight: &[i16], digits: &[Digit]) -> Vec<[i32; N]> {
    let depth = geometry.group_weight();
    let group_len = geometry.group_out * depth;
    let mut packed = Vec::new();
    if group_len == 0 {
        return packed;
    }
    for channels in weight.chunks_exact(group_len).flat_map(|group| group.chunks(N * depth)) {
        for digit in digits {
            let code = |channel: usize, k: usize| {
                if k < depth { channels.get(channel * depth + k).map_or(0, |w| (digit.of)(*w)) } else { 0 }
            };
            let side_by_side = |k: usize| std::array::from_fn(|channel| pair(code(channel, k), code(channel, k + 1)));
            packed.extend((0..depth).step_by(2).map(side_by_side));
        }
    }
    packed
}
