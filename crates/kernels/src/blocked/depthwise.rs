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

/// Taps of a row at most, for tiles.
const MOST_TAPS: usize = 5;

/// Inputs under a row of taps of a tile at most: of eight pixels two apart, with five taps.
const MOST_INPUTS: usize = (PIXELS - 1) * 2 + MOST_TAPS;

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
        let reach = Reach::new(&window);
        for (plane, y) in y.chunks_exact_mut(shape.plane()).enumerate() {
            let block = plane % blocks;
            self.isa.run_float(Plane {
                window,
                reach: &reach,
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
    reach: &'a Reach,
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    residual: Option<&'a [f32]>,
    limits: (f32, f32),
    y: &'a mut [f32],
}

/// Which taps lie inside the input.
struct Reach {
    /// Of each output row.
    rows: Vec<Range<usize>>,
    /// Outputs of a row with all taps inside.
    inner: Range<usize>,
    /// The other outputs of a row.
    edges: Vec<(usize, Range<usize>)>,
}

impl Reach {
    fn new([vertical, horizontal]: &[Axis; 2]) -> Self {
        let inner = horizontal.all_inside();
        let edges = (0..inner.start).chain(inner.end..horizontal.output);
        Self {
            rows: (0..vertical.output).map(|row| vertical.taps_inside(row)).collect(),
            edges: edges.map(|column| (column, horizontal.taps_inside(column))).collect(),
            inner,
        }
    }
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
        let h = self.window[1];
        match (h.dilation, h.stride, h.kernel) {
            (1, 1, 3) => self.rows::<S, 1, 3>(s),
            (1, 1, 5) => self.rows::<S, 1, 5>(s),
            (1, 2, 3) => self.rows::<S, 2, 3>(s),
            (1, 2, 5) => self.rows::<S, 2, 5>(s),
            _ => self.rows::<S, 0, 0>(s),
        }
    }
}

impl Plane<'_> {
    /// All rows. `STRIDE` and `TAPS` are those along a row, or 0 if nothing is known of them.
    #[inline(always)]
    fn rows<S: Simd, const STRIDE: usize, const TAPS: usize>(&mut self, s: S) {
        let (reach, h) = (self.reach, self.window[1]);
        let inner = reach.inner.clone();
        let parts = inner.len().div_ceil(PIXELS);
        for (row, vertical) in reach.rows.iter().enumerate() {
            for (column, horizontal) in &reach.edges {
                let (vertical, horizontal) = (vertical.clone(), horizontal.clone());
                self.general::<S, 1>(s, &Span { row, pixels: *column..*column + 1, vertical, horizontal });
            }
            for part in split(inner.len(), parts) {
                let pixels = inner.start + part.start..inner.start + part.end;
                let span = Span { row, pixels, vertical: vertical.clone(), horizontal: 0..h.kernel };
                if TAPS > 0 {
                    self.tile::<S, STRIDE, TAPS>(s, span);
                } else {
                    self.pixels(s, span);
                }
            }
        }
    }

    /// Pixels with any stride and dilation.
    #[inline(always)]
    fn pixels<S: Simd>(&mut self, s: S, mut span: Span) {
        while span.pixels.len() >= PIXELS / 2 {
            self.general::<S, { PIXELS / 2 }>(s, &span);
            span.pixels.start += PIXELS / 2;
        }
        while !span.pixels.is_empty() {
            self.general::<S, 1>(s, &span);
            span.pixels.start += 1;
        }
    }

    /// The first `P` pixels of a span, whose taps all lie inside the input.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn general<S: Simd, const P: usize>(&mut self, s: S, span: &Span) {
        let [v, h] = self.window;
        let at = self.checked(s, span, P);
        // SAFETY: for the taps of the span, rows and columns of its pixels lie inside the input plane, which has
        // `input` rows of `input` pixels; `checked` compared the lengths of everything else.
        unsafe {
            let mut sums = [s.load(self.bias.as_ptr()); P];
            for i in span.vertical.clone() {
                let row = span.row * v.stride + i * v.dilation - v.pad_begin;
                for j in span.horizontal.clone() {
                    let column = span.pixels.start * h.stride + j * h.dilation - h.pad_begin;
                    let weight = s.load(self.weight.as_ptr().add((i * h.kernel + j) * S::LANES));
                    let x = self.x.as_ptr().add((row * h.input + column) * S::LANES);
                    for p in 0..P {
                        sums[p] = s.mul_add(s.load(x.add(p * h.stride * S::LANES)), weight, sums[p]);
                    }
                }
            }
            self.write(s, at, &sums);
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const STRIDE: usize, const TAPS: usize>(&mut self, s: S, span: Span) {
        match span.pixels.len() {
            1 => self.span::<S, STRIDE, TAPS, 1>(s, span),
            2 => self.span::<S, STRIDE, TAPS, 2>(s, span),
            3 => self.span::<S, STRIDE, TAPS, 3>(s, span),
            4 => self.span::<S, STRIDE, TAPS, 4>(s, span),
            5 => self.span::<S, STRIDE, TAPS, 5>(s, span),
            6 => self.span::<S, STRIDE, TAPS, 6>(s, span),
            7 => self.span::<S, STRIDE, TAPS, 7>(s, span),
            _ => self.span::<S, STRIDE, TAPS, PIXELS>(s, span),
        }
    }

    /// `P` pixels with all `TAPS` taps of a row, which all lie inside the input: each input is loaded once for a row of
    /// taps.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn span<S: Simd, const STRIDE: usize, const TAPS: usize, const P: usize>(&mut self, s: S, span: Span) {
        let [v, h] = self.window;
        let at = self.checked(s, &span, P);
        let column = span.pixels.start * STRIDE - h.pad_begin;
        // SAFETY: as for `general`.
        unsafe {
            let mut sums = [s.load(self.bias.as_ptr()); P];
            for i in span.vertical {
                let row = span.row * v.stride + i * v.dilation - v.pad_begin;
                let x = self.x.as_ptr().add((row * h.input + column) * S::LANES);
                let weight = self.weight.as_ptr().add(i * TAPS * S::LANES);
                let mut weights = [s.splat(0.0); MOST_TAPS];
                for j in 0..TAPS {
                    weights[j] = s.load(weight.add(j * S::LANES));
                }
                let mut inputs = [s.splat(0.0); MOST_INPUTS];
                for q in 0..(P - 1) * STRIDE + TAPS {
                    inputs[q] = s.load(x.add(q * S::LANES));
                }
                for j in 0..TAPS {
                    for p in 0..P {
                        sums[p] = s.mul_add(inputs[p * STRIDE + j], weights[j], sums[p]);
                    }
                }
            }
            self.write(s, at, &sums);
        }
    }

    /// Where the span's `pixels` pixels are in the result, which has them; so have the other operands.
    #[inline(always)]
    fn checked<S: Simd>(&self, _: S, span: &Span, pixels: usize) -> usize {
        let [v, h] = self.window;
        let at = (span.row * h.output + span.pixels.start) * S::LANES;
        assert!(at + pixels * S::LANES <= self.y.len() && self.residual.is_none_or(|r| r.len() == self.y.len()));
        assert!(self.bias.len() >= S::LANES && self.weight.len() >= v.kernel * h.kernel * S::LANES);
        at
    }

    /// Adds the residual to sums, cuts them to the limits and writes them.
    ///
    /// # Safety
    /// The result, and what is added to it, have these pixels from element `at` on.
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn write<S: Simd, const P: usize>(&mut self, s: S, at: usize, sums: &[S::F32; P]) {
        let (lo, hi) = (s.splat(self.limits.0), s.splat(self.limits.1));
        for p in 0..P {
            let at = at + p * S::LANES;
            // SAFETY: the caller's.
            unsafe {
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
mod tests;
