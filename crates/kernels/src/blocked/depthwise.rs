//! Convolution with one input channel for each output channel: the channels of a block stay in their lanes.
//!
//! The input is read where it is. Rows outside it are left out; the few pixels at the ends of a row whose windows reach
//! beyond it are computed one by one, all others in tiles kept in registers.

use super::Blocked;
use super::activation::{self, Activation};
use super::filter::Filter;
use super::rows::split;
use crate::buffer::Buffer;
use crate::error::{KernelError, check_len};
use crate::geometry::Axis;
use crate::simd::{Isa, Kernel, Simd};
use std::ops::Range;

/// Pixels of a tile at most.
const PIXELS: usize = 8;

/// A depthwise convolution with its weights packed, once for any number of threads.
#[derive(Debug)]
pub struct PackedDepthwise {
    isa: Isa,
    filter: Filter,
    /// `[blocks][taps][lanes]`
    weight: Buffer<f32>,
    /// `[blocks][lanes]`
    bias: Buffer<f32>,
}

impl PackedDepthwise {
    /// Packs `weight`, which is `[channels, 1, kernel…]`; without bias sums start at 0.
    ///
    /// # Errors
    /// If the filter has not as many groups as input and output channels, a zero where it must not, or lengths do not
    /// fit it.
    pub fn new(isa: Isa, filter: &Filter, weight: &[f32], bias: Option<&[f32]>) -> Result<Self, KernelError> {
        filter.check(weight.len(), bias.map(<[f32]>::len))?;
        if filter.in_channels != filter.group || filter.out_channels != filter.group {
            return Err(KernelError::Packing);
        }
        let (lanes, taps) = (isa.lanes(), filter.taps());
        let blocks = filter.group.div_ceil(lanes);
        let mut packed = Self {
            isa,
            filter: *filter,
            weight: Buffer::new(blocks * taps * lanes),
            bias: Buffer::new(blocks * lanes),
        };
        for (channel, weights) in weight.chunks_exact(taps).enumerate() {
            for (tap, value) in weights.iter().enumerate() {
                packed.weight[(channel / lanes * taps + tap) * lanes + channel % lanes] = *value;
            }
        }
        packed.bias[..bias.map_or(0, <[f32]>::len)].copy_from_slice(bias.unwrap_or_default());
        Ok(packed)
    }

    /// `y = activation(convolution(x) + residual)`, all in blocks of a vector's lanes. `window` gives the sizes of both
    /// axes, vertical first.
    ///
    /// # Errors
    /// If an operand, the window or the result does not belong to the filter.
    pub fn run(
        &self,
        x: Blocked<'_, f32>,
        window: [Axis; 2],
        residual: Option<&[f32]>,
        activation: Activation,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        let lanes = self.isa.lanes();
        check_len("lanes", lanes, x.shape.lanes)?;
        let shape = self.filter.result(&x.shape, x.data.len(), &window, lanes, y.len())?;
        residual.map_or(Ok(()), |r| check_len("residual", y.len(), r.len()))?;
        if shape.is_empty() {
            return Ok(());
        }
        let (blocks, taps) = (shape.blocks(), self.filter.taps());
        for (plane, y) in y.chunks_exact_mut(shape.plane()).enumerate() {
            let block = plane % blocks;
            self.isa.run_float(Plane {
                window,
                x: &x.data[plane * x.shape.plane()..][..x.shape.plane()],
                weight: &self.weight[block * taps * lanes..][..taps * lanes],
                bias: &self.bias[block * lanes..][..lanes],
                residual: residual.map(|r| &r[plane * shape.plane()..][..shape.plane()]),
                limits: activation.limits(),
                y,
            });
            activation::finish(self.isa, activation, y);
        }
        Ok(())
    }
}

/// One block of one image.
struct Plane<'a> {
    window: [Axis; 2],
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    residual: Option<&'a [f32]>,
    limits: (f32, f32),
    y: &'a mut [f32],
}

/// Some pixels of an output row, and the taps that read them.
struct Span {
    row: usize,
    pixels: Range<usize>,
    vertical: Range<usize>,
    horizontal: Range<usize>,
}

impl Kernel for Plane<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let [v, h] = self.window;
        let inner = h.all_inside();
        let parts = inner.len().div_ceil(PIXELS);
        for row in 0..v.output {
            let vertical = v.taps_inside(row);
            for column in (0..inner.start).chain(inner.end..h.output) {
                let horizontal = h.taps_inside(column);
                let span = Span { row, pixels: column..column + 1, vertical: vertical.clone(), horizontal };
                self.span::<S, 1, 1>(s, span);
            }
            for part in split(inner.len(), parts) {
                let pixels = inner.start + part.start..inner.start + part.end;
                let span = Span { row, pixels, vertical: vertical.clone(), horizontal: 0..h.kernel };
                match h.stride {
                    1 => self.tile::<S, 1>(s, span),
                    2 => self.tile::<S, 2>(s, span),
                    _ => self.one_by_one(s, span),
                }
            }
        }
    }
}

impl Plane<'_> {
    #[inline(always)]
    fn tile<S: Simd, const STRIDE: usize>(&mut self, s: S, span: Span) {
        match span.pixels.len() {
            1 => self.span::<S, STRIDE, 1>(s, span),
            2 => self.span::<S, STRIDE, 2>(s, span),
            3 => self.span::<S, STRIDE, 3>(s, span),
            4 => self.span::<S, STRIDE, 4>(s, span),
            5 => self.span::<S, STRIDE, 5>(s, span),
            6 => self.span::<S, STRIDE, 6>(s, span),
            7 => self.span::<S, STRIDE, 7>(s, span),
            _ => self.span::<S, STRIDE, PIXELS>(s, span),
        }
    }

    #[inline(always)]
    fn one_by_one<S: Simd>(&mut self, s: S, span: Span) {
        for column in span.pixels {
            let (vertical, horizontal) = (span.vertical.clone(), span.horizontal.clone());
            self.span::<S, 1, 1>(s, Span { row: span.row, pixels: column..column + 1, vertical, horizontal });
        }
    }

    /// `P` pixels, whose taps all lie inside the input.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn span<S: Simd, const STRIDE: usize, const P: usize>(&mut self, s: S, span: Span) {
        let [v, h] = self.window;
        let first = span.pixels.start;
        let (lo, hi) = (s.splat(self.limits.0), s.splat(self.limits.1));
        let at = (span.row * h.output + first) * S::LANES;
        assert!(at + P * S::LANES <= self.y.len() && self.residual.is_none_or(|r| r.len() == self.y.len()));
        assert!(self.bias.len() >= S::LANES && self.weight.len() >= v.kernel * h.kernel * S::LANES);
        // SAFETY: for the taps of the span, rows and columns of all its pixels lie inside the input plane, which has
        // `input` rows of `input` pixels; the lengths of everything else have just been checked.
        unsafe {
            let mut sums = [s.load(self.bias.as_ptr()); P];
            for i in span.vertical {
                let row = span.row * v.stride + i * v.dilation - v.pad_begin;
                for j in span.horizontal.clone() {
                    let column = first * h.stride + j * h.dilation - h.pad_begin;
                    let weight = s.load(self.weight.as_ptr().add((i * h.kernel + j) * S::LANES));
                    let x = self.x.as_ptr().add((row * h.input + column) * S::LANES);
                    for p in 0..P {
                        sums[p] = s.mul_add(s.load(x.add(p * STRIDE * S::LANES)), weight, sums[p]);
                    }
                }
            }
            for p in 0..P {
                let at = at + p * S::LANES;
                let sum = match self.residual {
                    Some(residual) => s.add(sums[p], s.load(residual.as_ptr().add(at))),
                    None => sums[p],
                };
                s.store(self.y.as_mut_ptr().add(at), s.min(hi, s.max(lo, sum)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocked::{Shape, activate, to_blocked, to_planes};
    use crate::testing::{any_axis, noise, tap_input};
    use proptest::prelude::*;

    fn check(isa: Isa, batch: usize, channels: usize, window: [Axis; 2], activation: Activation, seed: u64) {
        let [v, h] = window;
        let filter = Filter {
            in_channels: channels,
            out_channels: channels,
            group: channels,
            kernel: window.map(|a| a.kernel),
            stride: window.map(|a| a.stride),
            dilation: window.map(|a| a.dilation),
        };
        let (inputs, outputs, taps) = (v.input * h.input, v.output * h.output, filter.taps());
        let (x, weight) = (noise(seed, batch * channels * inputs), noise(seed + 1, channels * taps));
        let (bias, residual) = (noise(seed + 2, channels), noise(seed + 3, batch * channels * outputs));
        let shape = Shape::new(batch, channels, v.input, h.input, isa.lanes()).unwrap();
        let result = Shape::new(batch, channels, v.output, h.output, isa.lanes()).unwrap();
        let (mut blocks, mut added) = (vec![0.0; shape.len()], vec![0.0; result.len()]);
        to_blocked(isa, shape, &x, &mut blocks).unwrap();
        to_blocked(isa, result, &residual, &mut added).unwrap();
        let packed = PackedDepthwise::new(isa, &filter, &weight, Some(&bias)).unwrap();
        let mut y = vec![f32::NAN; result.len()];
        packed.run(Blocked { shape, data: &blocks }, window, Some(&added), activation, &mut y).unwrap();
        let mut found = vec![0.0; residual.len()];
        to_planes(isa, Blocked { shape: result, data: &y }, &mut found).unwrap();
        for (i, found) in found.iter().enumerate() {
            let (plane, position) = (i / outputs, i % outputs);
            let c = plane % channels;
            let term = |tap| {
                let x = tap_input(&window, position, tap).map_or(0.0, |at| x[plane * inputs + at]);
                f64::from(weight[c * taps + tap]) * f64::from(x)
            };
            let sum: f64 = (0..taps).map(term).sum();
            let mut expected = [(sum + f64::from(bias[c]) + f64::from(residual[i])) as f32];
            activate(Isa::best_from("scalar"), activation, &mut expected);
            let close = (found - expected[0]).abs() <= 2e-7 * (taps as f32 + 4.0);
            assert!(close, "{} {window:?} {channels}: {found} instead of {}", isa.name(), expected[0]);
        }
    }

    #[test]
    fn typical_layers() {
        for (input, kernel, stride) in [(19, 3, 1), (20, 3, 2), (23, 5, 2), (14, 5, 1), (7, 7, 1), (9, 3, 3), (2, 5, 1)]
        {
            let pad = kernel / 2;
            let output = (input + 2 * pad - kernel) / stride + 1;
            let axis = Axis { input, kernel, stride, dilation: 1, pad_begin: pad, pad_end: pad, output };
            for isa in Isa::all() {
                check(isa, 2, 21, [axis; 2], Activation::Clamp { lo: 0.0, hi: 6.0 }, 1);
            }
        }
    }

    #[test]
    fn other_filters_are_refused() {
        let ones = [1; 2];
        let filter = Filter { in_channels: 4, out_channels: 8, group: 4, kernel: ones, stride: ones, dilation: ones };
        assert!(PackedDepthwise::new(Isa::active(), &filter, &[0.0; 8], None).is_err());
        let filter = Filter { out_channels: 4, ..filter };
        assert!(PackedDepthwise::new(Isa::active(), &filter, &[0.0; 3], None).is_err());
        assert!(PackedDepthwise::new(Isa::active(), &filter, &[0.0; 4], Some(&[0.0; 3])).is_err());
        assert!(PackedDepthwise::new(Isa::active(), &filter, &[0.0; 4], None).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn depthwise_convolutions_match_the_definition(
            batch in 1usize..3, channels in 1usize..40, window in [any_axis(), any_axis()], seed: u64,
        ) {
            Isa::all().for_each(|isa| check(isa, batch, channels, window, Activation::HardSwish, seed));
        }
    }
}
