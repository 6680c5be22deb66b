//! Which source positions make an output position, and with which weights.

use std::f64::consts::PI;
use std::ops::Range;

use super::Interpolation;

/// Fraction bits of a weight: 32 less 8 for the pixel and 2 for overshoot and sign.
pub(super) const PRECISION_BITS: u32 = 32 - 8 - 2;

/// A weighting of positions by their distance, in units of the coarser of both resolutions.
pub(super) struct Filter {
    kernel: fn(f64) -> f64,
    support: f64,
}

impl Filter {
    /// The filter of an interpolation; `None` for one that takes single pixels.
    pub(super) fn of(interpolation: Interpolation) -> Option<Self> {
        let (kernel, support): (fn(f64) -> f64, f64) = match interpolation {
            Interpolation::Nearest => return None,
            Interpolation::Box => (box_kernel, 0.5),
            Interpolation::Bilinear => (triangle_kernel, 1.0),
            Interpolation::Hamming => (hamming_kernel, 1.0),
            Interpolation::Bicubic => (cubic_kernel, 2.0),
            Interpolation::Lanczos => (lanczos_kernel, 3.0),
        };
        Some(Self { kernel, support })
    }
}

fn box_kernel(x: f64) -> f64 {
    if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 }
}

fn triangle_kernel(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

fn hamming_kernel(x: f64) -> f64 {
    // Pillow spells these constants in single precision.
    let (base, swing) = (f64::from(0.54_f32), f64::from(0.46_f32));
    if x.abs() >= 1.0 { 0.0 } else { sinc(x) * (base + swing * (x * PI).cos()) }
}

fn cubic_kernel(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn lanczos_kernel(x: f64) -> f64 {
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

/// What one pass does along its axis.
pub(super) enum Axis {
    /// The size does not change: the wanted positions are copied.
    Copy(Range<usize>),
    Filter(Taps),
}

/// For each output position the first source position and the weights of it and its successors, equally many for all.
pub(super) struct Taps {
    pub(super) starts: Vec<usize>,
    /// Weights of an output position.
    pub(super) count: usize,
    pub(super) weights: Vec<i32>,
}

impl Axis {
    pub(super) fn new(filter: &Filter, source: usize, target: usize, wanted: &Range<usize>) -> Self {
        if source == target {
            return Self::Copy(wanted.clone());
        }
        let scale = source as f64 / target as f64;
        Self::Filter(Taps::new(wanted.clone().map(|position| tap(filter, source, scale, position)).collect(), source))
    }

    /// The source positions that are read. Taps move monotonically, so the first and last bound them.
    pub(super) fn source_span(&self) -> Range<usize> {
        match self {
            Self::Copy(range) => range.clone(),
            Self::Filter(taps) => {
                let start = taps.starts.first().map_or(0, |start| *start);
                start..taps.starts.last().map_or(start, |last| last + taps.count)
            }
        }
    }

    /// The same axis over a source that lacks its first `start` positions.
    pub(super) fn shifted(self, start: usize) -> Self {
        match self {
            Self::Copy(range) => Self::Copy(range.start - start..range.end - start),
            Self::Filter(mut taps) => {
                taps.starts.iter_mut().for_each(|first| *first -= start);
                Self::Filter(taps)
            }
        }
    }
}

impl Taps {
    /// Weights of zero make up for what positions at the border of a source of `source` positions have fewer.
    fn new(taps: Vec<(usize, Vec<i32>)>, source: usize) -> Self {
        let count = taps.iter().map(|(_, weights)| weights.len()).max().unwrap_or(0);
        let mut all = Self { starts: Vec::with_capacity(taps.len()), count, weights: vec![0; count * taps.len()] };
        for ((first, weights), padded) in taps.iter().zip(all.weights.chunks_exact_mut(count.max(1))) {
            let start = (*first).min(source - count);
            padded[first - start..][..weights.len()].copy_from_slice(weights);
            all.starts.push(start);
        }
        all
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// First source position and weights of each output position.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.starts.iter().copied().zip(self.weights.chunks_exact(self.count.max(1)))
    }
}

/// First source position and weights of one output position. `scale` is source size over target size; when it exceeds
/// 1 the kernel is stretched by it.
fn tap(filter: &Filter, source: usize, scale: f64, position: usize) -> (usize, Vec<i32>) {
    let stretch = scale.max(1.0);
    let support = filter.support * stretch;
    let center = (position as f64 + 0.5) * scale;
    let start = (center - support + 0.5).max(0.0) as usize;
    let end = ((center + support + 0.5) as usize).min(source);
    let at = |x: usize| (filter.kernel)((x as f64 - center + 0.5) * (1.0 / stretch));
    let weights: Vec<f64> = (start..end).map(at).collect();
    (start, to_fixed_point(&weights))
}

/// Normalises weights to sum 1 and rounds them, halves away from zero, to `PRECISION_BITS` fraction bits.
fn to_fixed_point(weights: &[f64]) -> Vec<i32> {
    let sum: f64 = weights.iter().sum();
    let normal = if sum == 0.0 { 1.0 } else { sum };
    let one = f64::from(1 << PRECISION_BITS);
    weights.iter().map(|weight| (weight / normal * one + 0.5_f64.copysign(*weight)) as i32).collect()
}
