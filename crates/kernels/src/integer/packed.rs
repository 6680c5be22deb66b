//! Weights in the order the tiles read them, and what their magnitudes say about the width of sums.

use super::TERMS_OF_DIGITS;
use super::isa::{LANES, Lanes, ROWS};
use crate::depthwise::Plan;
use crate::error::{KernelError, check_len};
use crate::geometry::ConvGeometry;

/// The integer type that holds every sum of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulator {
    /// 32 bits: [`conv_codes`](super::conv_codes).
    I32,
    /// 64 bits: [`conv_codes_wide`](super::conv_codes_wide).
    I64,
}

/// Weights of one convolution, packed once and read by any number of threads.
#[derive(Clone, Debug)]
pub struct PackedCodes {
    /// With batch 1, which the layout does not depend on.
    geometry: ConvGeometry,
    largest_sum: u64,
    pub(super) layout: Layout,
}

/// How the weights are read.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    /// One weight after the other, for sums of shifted planes.
    Depthwise(Plan, Vec<i32>),
    /// Pairs of `ROWS` output channels side by side, to be multiplied by lanes of output positions.
    Rows(Vec<[i32; ROWS]>),
    /// Pairs of `LANES` output channels side by side, for outputs that have a single position.
    Lanes(Vec<Lanes>),
}

impl PackedCodes {
    /// Packs `weight`, which is `[out_channels, in_channels / group, kernel…]`.
    ///
    /// # Errors
    /// If `weight` has another length than `geometry` says, or is so large that not even 64-bit sums would hold.
    pub fn new(geometry: &ConvGeometry, weight: &[i16]) -> Result<Self, KernelError> {
        check_len("weight", geometry.weight_len(), weight.len())?;
        let channels = weight.chunks_exact(geometry.group_weight().max(1));
        let largest_sum = channels.map(sum_of_magnitudes).max().unwrap_or(0);
        if largest_sum > i64::MAX as u64 >> 15 {
            return Err(KernelError::TooLarge("sum of weights"));
        }
        let geometry = ConvGeometry { batch: 1, ..geometry.clone() };
        Ok(Self { layout: Layout::new(&geometry, weight), largest_sum, geometry })
    }

    /// The accumulator that holds every sum, whatever the order of its terms, for input codes up to `largest_input` in
    /// magnitude: 32 bits if `largest_input` times [`PackedCodes::largest_sum`] does not exceed `i32::MAX`.
    pub fn accumulator(&self, largest_input: u16) -> Accumulator {
        let bound = u64::from(largest_input).saturating_mul(self.largest_sum);
        if bound <= i32::MAX as u64 { Accumulator::I32 } else { Accumulator::I64 }
    }

    /// Largest sum, over the output channels, of the magnitudes of a channel's weights.
    pub fn largest_sum(&self) -> u64 {
        self.largest_sum
    }

    /// Whether the weights were packed for these sizes, batch aside.
    pub(super) fn suits(&self, geometry: &ConvGeometry) -> bool {
        (self.geometry.group, self.geometry.group_in, self.geometry.group_out, &self.geometry.space)
            == (geometry.group, geometry.group_in, geometry.group_out, &geometry.space)
    }
}

impl Layout {
    fn new(geometry: &ConvGeometry, weight: &[i16]) -> Self {
        // More taps would need a split of 64-bit sums, which the depthwise loop does not have.
        let few_taps = geometry.space.taps <= TERMS_OF_DIGITS;
        match Plan::new(geometry).filter(|_| few_taps) {
            Some(plan) if geometry.space.output > 1 => {
                Self::Depthwise(plan, weight.iter().map(|w| i32::from(*w)).collect())
            }
            _ if geometry.space.output == 1 => {
                Self::Lanes(interleave::<LANES>(geometry, weight).into_iter().map(Lanes).collect())
            }
            _ => Self::Rows(interleave(geometry, weight)),
        }
    }
}

fn sum_of_magnitudes(weights: &[i16]) -> u64 {
    weights.iter().map(|w| u64::from(w.unsigned_abs())).sum()
}

/// Two codes as one `i32`: the first in the low half.
pub(super) fn pair(low: i16, high: i16) -> i32 {
    i32::from(low as u16) | i32::from(high) << 16
}

/// The two codes of a [`pair`].
pub(super) fn unpair(pair: i32) -> (i32, i32) {
    (i32::from(pair as i16), pair >> 16)
}

/// For each group and each `N` of its channels: the pairs along the summed axis, `N` channels side by side. What is
/// missing is 0.
fn interleave<const N: usize>(geometry: &ConvGeometry, weight: &[i16]) -> Vec<[i32; N]> {
    let depth = geometry.group_weight();
    let group_len = geometry.group_out * depth;
    let mut packed = Vec::new();
    if group_len == 0 {
        return packed;
    }
    for channels in weight.chunks_exact(group_len).flat_map(|group| group.chunks(N * depth)) {
        let code = |channel: usize, k: usize| {
            if k < depth { channels.get(channel * depth + k).copied().unwrap_or(0) } else { 0 }
        };
        let side_by_side = |k: usize| std::array::from_fn(|channel| pair(code(channel, k), code(channel, k + 1)));
        packed.extend((0..depth).step_by(2).map(side_by_side));
    }
    packed
}
