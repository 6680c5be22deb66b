//! Which input elements make up each output element along one axis, and with which weights.

use super::axis::ResizedAxis;
use super::coordinate;
use quantize_ir::op::{Resize, ResizeMode};

/// One input element's share in an output element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tap {
    pub(super) index: usize,
    pub(super) weight: f32,
}

/// Taps of one output element after another.
pub(super) struct TapTable {
    taps: Vec<Tap>,
    ends: Vec<usize>,
    /// Whether the coordinate of each output element lies outside the input.
    pub(super) outside: Vec<bool>,
}

impl TapTable {
    /// The taps of every output element of an axis that has at least one input element.
    pub(super) fn new(attrs: &Resize, axis: &ResizedAxis) -> Self {
        let mut table = Self { taps: Vec::new(), ends: Vec::new(), outside: Vec::new() };
        let kernel = Kernel::new(attrs.mode);
        for i in 0..axis.output {
            let x = coordinate::source(axis, attrs.coordinates, i);
            table.outside.push(axis.is_outside(x));
            if attrs.antialias {
                kernel.widened(x, axis, &mut table.taps);
            } else {
                kernel.interpolating(x, axis, &mut table.taps);
            }
            table.ends.push(table.taps.len());
        }
        table
    }

    /// The taps of each output element in turn.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &[Tap]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.taps[start..end])
    }
}

/// The interpolation kernel, as a function of the distance from the coordinate.
#[derive(Clone, Copy)]
struct Kernel {
    /// Coefficient of cubic convolution; `None` for the linear kernel.
    cubic: Option<f32>,
    exclude_outside: bool,
}

impl Kernel {
    fn new(mode: ResizeMode) -> Self {
        match mode {
            ResizeMode::Cubic { coefficient, exclude_outside } => Self { cubic: Some(coefficient), exclude_outside },
            _ => Self { cubic: None, exclude_outside: false },
        }
    }

    /// Half its width.
    fn support(self) -> f32 {
        if self.cubic.is_some() { 2.0 } else { 1.0 }
    }

    /// Cubic convolution is the kernel of R. Keys, "Cubic convolution interpolation for digital image processing".
    fn weight(self, distance: f32) -> f32 {
        let d = distance.abs();
        match self.cubic {
            None => (1.0 - d).max(0.0),
            Some(a) if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
            Some(a) if d < 2.0 => (((d - 5.0) * d + 8.0) * d - 4.0) * a,
            Some(_) => 0.0,
        }
    }

    /// Taps around `x` at the kernel's own width. A linear coordinate is first moved into the input.
    fn interpolating(self, x: f32, axis: &ResizedAxis, taps: &mut Vec<Tap>) {
        let last = axis.input as f32 - 1.0;
        let x = if self.cubic.is_some() { bounded(x) } else { bounded(x).clamp(0.0, last.max(0.0)) };
        let base = x.floor();
        let reach = self.support() as i64;
        let window = (1 - reach..=reach).map(|k| (base as i64 + k, self.weight(x - base - k as f32)));
        self.collect(window, axis, taps);
    }

    /// Taps around `x` with the kernel widened to the distance of output elements where the axis shrinks.
    fn widened(self, x: f32, axis: &ResizedAxis, taps: &mut Vec<Tap>) {
        let width = (1.0 / axis.scale).max(1.0);
        let center = bounded(x) + 0.5;
        let support = self.support() * width;
        let first = bounded((center - support + 0.5).floor()) as i64;
        let end = bounded((center + support + 0.5).floor()) as i64;
        let window = (first..end).map(|i| (i, self.weight((i as f32 - center + 0.5) / width)));
        self.collect(window, axis, taps);
    }

    /// Keeps the taps of a window, with a sum of one: those outside the input fall on the border element or are left
    /// out.
    fn collect(self, window: impl Iterator<Item = (i64, f32)>, axis: &ResizedAxis, taps: &mut Vec<Tap>) {
        let last = axis.input.saturating_sub(1) as i64;
        let start = taps.len();
        for (index, weight) in window {
            let inside = index.clamp(0, last);
            if inside != index && self.exclude_outside {
                continue;
            }
            match taps[start..].last_mut() {
                Some(tap) if tap.index == inside as usize => tap.weight += weight,
                _ => taps.push(Tap { index: inside as usize, weight }),
            }
        }
        normalize(&mut taps[start..]);
    }
}

/// A coordinate that can be an integer: far outside any input all are the same.
fn bounded(x: f32) -> f32 {
    const FAR: f32 = 4_294_967_296.0;
    if x.is_nan() { 0.0 } else { x.clamp(-FAR, FAR) }
}

fn normalize(taps: &mut [Tap]) {
    let sum: f32 = taps.iter().map(|t| t.weight).sum();
    if sum != 0.0 && sum.is_finite() {
        taps.iter_mut().for_each(|t| t.weight /= sum);
    }
}
