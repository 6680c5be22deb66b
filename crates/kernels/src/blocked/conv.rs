//! Dense convolution: weights packed for the tiles, and the loops over bands, blocks and tiles.
//!
//! What lives here: filters whose groups are whole blocks or few enough to share some. What does not: one input channel
//! for each output (`depthwise`), the products inside a tile (`tile`), Winograd's transform (`winograd`).

use super::activation::{self, Activation};
use super::border::Band;
use super::filter::{Filter, Units};
use super::pack::Weights;
use super::rows::{Rows, split};
use super::tile::{Input, MOST_PIXELS};
use super::winograd::{Image, Winograd};
use super::{Blocked, Shape};
use crate::buffer::Buffer;
use crate::error::{KernelError, check_len};
use crate::geometry::Axis;
use crate::simd::Isa;
use std::sync::OnceLock;

/// Input of a band of output rows that stays in the cache while all output channels are computed, in bytes.
const BAND: usize = 384 * 1024;

/// A convolution with its weights packed, once for any number of threads.
#[derive(Debug)]
pub struct PackedConv {
    isa: Isa,
    filter: Filter,
    units: Units,
    weights: Weights,
    /// The transformed weights, made when first needed; absent where the transform is not allowed.
    winograd: Option<OnceLock<Winograd>>,
}

/// Order of the elements of a matrix with `depth` rows that products are sums over, and a column for each sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixOrder {
    /// Row after row.
    Rows,
    /// Column after column, as in a convolution's weights.
    Columns,
}

/// A matrix on its way into the form in which a product with it is a convolution of one pixel. It may come in pieces, so
/// that large ones need not be in memory as they were.
#[derive(Debug)]
pub struct MatrixPacker {
    packed: PackedConv,
    order: MatrixOrder,
    /// Elements that have come.
    seen: usize,
}

impl MatrixPacker {
    /// For a matrix of `depth` rows and `columns` columns; without bias sums start at 0. `None` without a depth or columns.
    ///
    /// # Errors
    /// If the bias has another length than a row, or there are too many elements.
    pub fn new(
        isa: Isa,
        [depth, columns]: [usize; 2],
        order: MatrixOrder,
        bias: Option<&[f32]>,
    ) -> Result<Option<Self>, KernelError> {
        let filter = Filter {
            out_channels: columns,
            in_channels: depth,
            group: 1,
            kernel: [1; 2],
            stride: [1; 2],
            dilation: [1; 2],
        };
        let elements = depth.checked_mul(columns).ok_or(KernelError::TooLarge("the matrix"))?;
        filter.check(elements, bias.map(<[f32]>::len))?;
        let Some(units) = filter.units(isa.lanes()).filter(|_| depth > 0) else { return Ok(None) };
        let weights = Weights::empty(&filter, &units, isa, bias);
        Ok(Some(Self { packed: PackedConv::packed(isa, &filter, units, weights), order, seen: 0 }))
    }

    /// Takes the elements that come next. What comes after the last one is counted only.
    pub fn push(&mut self, elements: &[f32]) {
        let Filter { in_channels: depth, out_channels: columns, .. } = self.packed.filter;
        let left = (depth * columns).saturating_sub(self.seen).min(elements.len());
        let mut at = self.seen;
        self.seen = self.seen.saturating_add(elements.len());
        let line = if self.order == MatrixOrder::Rows { columns } else { depth };
        let mut rest = &elements[..left];
        while !rest.is_empty() {
            let (index, first) = (at / line, at % line);
            let (part, after) = rest.split_at(rest.len().min(line - first));
            match self.order {
                MatrixOrder::Rows => self.packed.weights.put_row(&self.packed.units, index, first, part),
                MatrixOrder::Columns => self.packed.weights.put_column(&self.packed.units, index, first, part),
            }
            (at, rest) = (at + part.len(), after);
        }
    }

    /// The packed matrix.
    ///
    /// # Errors
    /// If more or fewer elements have come than it has.
    pub fn finish(self) -> Result<PackedConv, KernelError> {
        let Filter { in_channels: depth, out_channels: columns, .. } = self.packed.filter;
        check_len("weight", self.seen, depth * columns)?;
        Ok(self.packed)
    }
}

/// Everything about one call that does not depend on the unit.
struct Call<'a> {
    isa: Isa,
    x: Blocked<'a, f32>,
    window: [Axis; 2],
    /// Shape of the result.
    shape: Shape,
    residual: Option<&'a [f32]>,
    activation: Activation,
}

impl PackedConv {
    /// Packs `weight`, which is `[out_channels, in_channels / group, kernel…]`; without bias sums start at 0. `None` for
    /// filters with groups that do not map to blocks, or without inputs, which the convolution on planes takes, and for
    /// those with an input channel of its own for each of several outputs, which `PackedDepthwise` takes.
    ///
    /// # Errors
    /// If the lengths do not fit the filter, or it has a zero where it must not.
    pub fn new(isa: Isa, filter: &Filter, weight: &[f32], bias: Option<&[f32]>) -> Result<Option<Self>, KernelError> {
        filter.check(weight.len(), bias.map(<[f32]>::len))?;
        let lanes = isa.lanes();
        let depthwise = filter.group > 1 && filter.group == filter.in_channels && filter.group == filter.out_channels;
        let units = filter.units(lanes).filter(|_| filter.in_channels > 0 && !depthwise);
        let Some(units) = units else { return Ok(None) };
        let weights = Weights::new(filter, &units, isa, weight, bias);
        Ok(Some(Self::packed(isa, filter, units, weights)))
    }

    fn packed(isa: Isa, filter: &Filter, units: Units, weights: Weights) -> Self {
        let winograd = Winograd::suits(filter).then(OnceLock::new);
        Self { isa, filter: *filter, units, weights, winograd }
    }

    /// The same convolution by sums of products alone, for comparisons that must be tight.
    #[must_use]
    pub fn without_winograd(self) -> Self {
        Self { winograd: None, ..self }
    }

    /// Whether a call with this window uses Winograd's transform.
    pub fn uses_winograd(&self, window: &[Axis; 2]) -> bool {
        self.winograd.is_some() && Winograd::pays(window)
    }

    /// `y = activation(convolution(x) + residual)`.
    ///
    /// `x` has blocks of a vector's lanes, or of 4 if it has at most 4 channels. `y` is in blocks of a vector's lanes,
    /// `residual` like `y`. `window` gives the sizes of both axes, vertical first. Where Winograd's transform is used, an
    /// infinite or NaN input may make all outputs of its tile NaN.
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
        scratch: &mut Buffer<f32>,
    ) -> Result<(), KernelError> {
        let lanes = self.isa.lanes();
        if x.shape.lanes != lanes && (x.shape.lanes != 4 || x.shape.channels > 4) {
            return Err(KernelError::Packing);
        }
        let shape = self.filter.result(&x.shape, x.data.len(), &window, lanes, y.len())?;
        residual.map_or(Ok(()), |r| check_len("residual", y.len(), r.len()))?;
        if shape.is_empty() {
            return Ok(());
        }
        let call = Call { isa: self.isa, x, window, shape, residual, activation };
        for image in 0..shape.batch {
            if self.uses_winograd(&window) && x.shape.lanes == lanes {
                let winograd = self.winograd.as_ref().map(|w| w.get_or_init(|| Winograd::new(self.isa, &self.weights)));
                if let Some(winograd) = winograd {
                    winograd.run(&call.image(image), y_image(&shape, y, image), scratch);
                    continue;
                }
            }
            self.direct(&call, image, y_image(&shape, y, image), scratch)?;
        }
        Ok(())
    }

    /// One image.
    fn direct(
        &self,
        call: &Call<'_>,
        image: usize,
        y: &mut [f32],
        scratch: &mut Buffer<f32>,
    ) -> Result<(), KernelError> {
        let in_blocks = self.units.in_channels.div_ceil(call.x.shape.lanes);
        let out_blocks = self.units.out_channels.div_ceil(call.shape.lanes);
        let (in_len, out_len) = (in_blocks * call.x.shape.plane(), out_blocks * call.shape.plane());
        let x = &call.x.data[image * call.x.shape.image()..][..call.x.shape.image()];
        let residual = call.residual.map(|r| &r[image * call.shape.image()..][..call.shape.image()]);
        for unit in 0..self.units.count {
            let job = Job {
                call,
                weights: &self.weights,
                unit,
                channels: self.units.in_channels,
                x: &x[unit * in_len..][..in_len],
                residual: residual.map(|r| &r[unit * out_len..][..out_len]),
            };
            let y = &mut y[unit * out_len..][..out_len];
            if self.filter.is_pointwise() && in_place(&call.window) {
                job.in_place(y);
            } else {
                job.in_bands(y, scratch)?;
            }
        }
        Ok(())
    }
}

/// The part of a result that belongs to an image.
fn y_image<'a>(shape: &Shape, y: &'a mut [f32], image: usize) -> &'a mut [f32] {
    &mut y[image * shape.image()..][..shape.image()]
}

/// Whether each output of a window of one tap reads the input of its own place.
fn in_place(window: &[Axis; 2]) -> bool {
    window.iter().all(Axis::is_identity)
}

impl Call<'_> {
    /// The operands of one image, for Winograd.
    fn image(&self, image: usize) -> Image<'_> {
        Image {
            isa: self.isa,
            x: Blocked {
                shape: self.x.shape,
                data: &self.x.data[image * self.x.shape.image()..][..self.x.shape.image()],
            },
            window: self.window,
            shape: self.shape,
            residual: self.residual.map(|r| &r[image * self.shape.image()..][..self.shape.image()]),
            activation: self.activation,
        }
    }
}

/// One unit of one image.
struct Job<'a> {
    call: &'a Call<'a>,
    weights: &'a Weights,
    unit: usize,
    /// Input channels of the unit.
    channels: usize,
    x: &'a [f32],
    residual: Option<&'a [f32]>,
}

impl Job<'_> {
    /// A pointwise convolution: the plane is one long row, read where it is.
    fn in_place(&self, y: &mut [f32]) {
        let (shape, lanes) = (&self.call.x.shape, self.call.x.shape.lanes);
        let input = self.input(shape.plane(), 0, &[0]);
        let bytes = self.channels * size_of::<f32>();
        let most = (BAND / bytes.max(1)).max(8 * MOST_PIXELS).min(shape.positions());
        let parts = shape.positions().div_ceil(most);
        for part in split(shape.positions(), parts) {
            // Rows count pixels here: one row of many, which starts at a pixel of the plane.
            let rows = self.rows(input, &self.x[part.start * lanes..], 1, part.len(), self.call.shape.lanes);
            self.all_outputs(&rows, part.start, y);
        }
    }

    /// Any window, by bordered bands of the input.
    fn in_bands(&self, y: &mut [f32], scratch: &mut Buffer<f32>) -> Result<(), KernelError> {
        let Call { x, window, shape, .. } = self.call;
        let blocks = self.channels.div_ceil(x.shape.lanes);
        let bands = Band::cut(window, x.shape.lanes, blocks, BAND / size_of::<f32>());
        for band in bands.ok_or(KernelError::TooLarge("bordered input"))? {
            band.fill(&x.shape, blocks, self.x, 0.0, scratch);
            let input = self.input(band.block_pitch(), band.row_pitch(), band.taps());
            let rows = self.rows(input, scratch, band.outputs().len(), shape.width, shape.width * shape.lanes);
            self.all_outputs(&rows, band.outputs().start, y);
        }
        Ok(())
    }

    fn input<'t>(&self, block_pitch: usize, row_pitch: usize, taps: &'t [usize]) -> Input<'t> {
        let lanes = self.call.x.shape.lanes;
        let blocks = self.channels.div_ceil(lanes);
        let last = self.channels - (blocks.max(1) - 1) * lanes;
        Input { block_pitch, row_pitch, blocks, last, narrow: lanes != self.call.shape.lanes, taps }
    }

    /// All output channels of some rows; `first` is the first row, and rows are `y_row` apart in the result.
    fn all_outputs(&self, rows: &Rows<'_>, first: usize, y: &mut [f32]) {
        let plane = self.call.shape.plane();
        for group in self.weights.groups(self.unit) {
            let start = group.first_block * plane + first * rows.y_row;
            rows.run(&group, start, self.residual, y);
            for block in 0..group.blocks {
                let written = &mut y[start + block * plane..][..rows.written()];
                activation::finish(self.call.isa, self.call.activation, written);
            }
        }
    }

    fn rows<'r>(&self, input: Input<'r>, x: &'r [f32], rows: usize, width: usize, y_row: usize) -> Rows<'r> {
        let Call { shape, activation, .. } = self.call;
        let limits = activation.limits();
        Rows { input, x, rows, width, lanes: shape.lanes, y_block: shape.plane(), y_row, limits }
    }
}

#[cfg(test)]
mod tests;
