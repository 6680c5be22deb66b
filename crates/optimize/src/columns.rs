//! What a layer reads for one element of its result: a column of its input for each position, on which products of
//! weights and inputs are sums over `K = inputs * taps`.

use crate::live::Held;
use quantize_ir::op::{Conv, FilterLayout, Layout, Window};
use quantize_ir::shape::{WindowAxis, resolve_window};
use quantize_ir::{Op, Tensor};
use std::ops::Range;

/// How a layer's weights stand to its input channels and taps.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    /// Groups of channels that do not read each other's inputs.
    pub(crate) groups: usize,
    /// Input channels of a group.
    pub(crate) inputs: usize,
    /// Output channels of a group.
    pub(crate) outputs: usize,
    /// Taps of the window.
    pub(crate) taps: usize,
    order: Order,
    window: Option<(Window, Vec<usize>, Layout)>,
}

/// Order of a weight's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// `[output, input, tap]`
    OutputFirst,
    /// `[tap, input, output]`
    OutputLast,
}

impl Geometry {
    /// The geometry of a layer's operator with weights of `shape`; `None` if weights are not laid out by output channel,
    /// as those of a transposed convolution.
    pub(crate) fn of(op: &Op, shape: &[usize]) -> Option<Self> {
        match op {
            Op::Conv(conv) => Self::of_conv(conv, shape),
            Op::Gemm(gemm) => Self::of_matrix(shape, gemm.trans_b),
            Op::MatMul => Self::of_matrix(shape, false),
            _ => None,
        }
    }

    fn of_conv(conv: &Conv, shape: &[usize]) -> Option<Self> {
        let (order, outputs, inputs, kernel) = match (conv.filter, shape) {
            (FilterLayout::OutputFirst, [o, i, kernel @ ..]) => (Order::OutputFirst, *o, *i, kernel),
            (FilterLayout::OutputLast, [kernel @ .., i, o]) => (Order::OutputLast, *o, *i, kernel),
            _ => return None,
        };
        let (groups, taps) = (conv.group.max(1), kernel.iter().product());
        let window = Some((conv.window.clone(), kernel.to_vec(), conv.layout));
        (outputs % groups == 0 && inputs * taps > 0).then_some(())?;
        Some(Self { groups, inputs, outputs: outputs / groups, taps, order, window })
    }

    fn of_matrix(shape: &[usize], trans: bool) -> Option<Self> {
        let [rows, columns] = *shape else { return None };
        let (order, inputs, outputs) =
            if trans { (Order::OutputFirst, columns, rows) } else { (Order::OutputLast, rows, columns) };
        (inputs > 0).then_some(Self { groups: 1, inputs, outputs, taps: 1, order, window: None })
    }

    /// Where the weight of an output channel of a group stands.
    pub(crate) fn weight_index(&self, group: usize, output: usize, input: usize, tap: usize) -> usize {
        let output = group * self.outputs + output;
        match self.order {
            Order::OutputFirst => (output * self.inputs + input) * self.taps + tap,
            Order::OutputLast => (tap * self.inputs + input) * self.groups * self.outputs + output,
        }
    }

    /// How to read an input of `shape`; `None` if it does not fit the layer.
    pub(crate) fn reader(&self, shape: &[usize]) -> Option<Reader> {
        let channels = self.groups * self.inputs;
        let Some((window, kernel, layout)) = &self.window else {
            let (last, rows) = shape.split_last()?;
            let rows = rows.iter().product();
            let space = Space { size: vec![], axes: vec![], stride: 0 };
            return (*last == channels).then_some(Reader { rows, batch: channels, channel: 1, space });
        };
        let (found, size) = match (layout, shape) {
            (Layout::ChannelsFirst, [_, c, size @ ..]) => (*c, size),
            (Layout::ChannelsLast, [_, size @ .., c]) => (*c, size),
            _ => return None,
        };
        let axes = resolve_window(window, kernel, size).ok().filter(|_| found == channels)?;
        let area: usize = size.iter().product();
        let (channel, stride) = match layout {
            Layout::ChannelsFirst => (area, 1),
            Layout::ChannelsLast => (1, channels),
        };
        let positions: usize = axes.iter().map(|a| a.output).product();
        let space = Space { size: size.to_vec(), axes, stride };
        Some(Reader { rows: shape[0] * positions, batch: channels * area, channel, space })
    }
}

/// How to find the columns of one input.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    /// Number of columns: positions of the result.
    pub(crate) rows: usize,
    /// Elements from one sample of the batch to the next; for a matrix, from one row to the next.
    batch: usize,
    /// Elements from one channel to the next.
    channel: usize,
    space: Space,
}

/// Spatial axes, the last one running fastest.
#[derive(Clone, Debug)]
struct Space {
    size: Vec<usize>,
    axes: Vec<WindowAxis>,
    /// Elements from one pixel to the next.
    stride: usize,
}

impl Space {
    /// Where each tap reads at position `position` of the result; `None` in the padding.
    fn taps(&self, position: usize, taps: &mut Vec<Option<usize>>) {
        taps.clear();
        taps.push(Some(0));
        let mut rest = position;
        let mut starts = vec![0; self.axes.len()];
        for (start, axis) in starts.iter_mut().zip(&self.axes).rev() {
            *start = rest % axis.output * axis.stride;
            rest /= axis.output;
        }
        for ((axis, size), start) in self.axes.iter().zip(&self.size).zip(starts) {
            let at = |tap: usize| (start + tap * axis.dilation).checked_sub(axis.pad_begin).filter(|i| i < size);
            let wider = taps
                .iter()
                .flat_map(|before| (0..axis.kernel).map(move |tap| Some(before.as_ref()? * size + at(tap)?)));
            *taps = wider.collect();
        }
        taps.iter_mut().flatten().for_each(|i| *i *= self.stride);
    }

    fn positions(&self) -> usize {
        self.axes.iter().map(|a| a.output).product()
    }
}

/// Writes columns of one input.
#[derive(Debug)]
pub(crate) struct Gatherer<'a> {
    reader: &'a Reader,
    input: &'a Held,
    taps: Vec<Option<usize>>,
}

impl<'a> Gatherer<'a> {
    pub(crate) fn new(reader: &'a Reader, input: &'a Held) -> Self {
        Self { reader, input, taps: Vec::new() }
    }

    /// Writes what is read of `channels` for row `row`, channel by channel, each tap by tap. Codes are counted from the
    /// one that stands for zero.
    pub(crate) fn gather(&mut self, row: usize, channels: Range<usize>, column: &mut [f32]) {
        let positions = self.reader.space.positions();
        let start = row / positions * self.reader.batch;
        self.reader.space.taps(row % positions, &mut self.taps);
        let (taps, stride) = (&self.taps, self.reader.channel);
        let places = channels.flat_map(|c| taps.iter().map(move |tap| tap.map(|tap| start + c * stride + tap)));
        match self.input {
            Held::Codes(codes) => {
                let zero = f32::from(codes.zero());
                let value = |at: usize| codes.bytes.get(at).map_or(0.0, |b| f32::from(*b) - zero);
                column.iter_mut().zip(places).for_each(|(x, at)| *x = at.map_or(0.0, value));
            }
            Held::Reals(tensor) => {
                let reals = tensor.as_slice::<f32>().unwrap_or_default();
                let value = |at: usize| reals.get(at).copied().unwrap_or(0.0);
                column.iter_mut().zip(places).for_each(|(x, at)| *x = at.map_or(0.0, value));
            }
        }
    }
}

/// Where the weights of one output channel stand that a column of these input channels of its group is multiplied by.
pub(crate) fn places(geometry: &Geometry, group: usize, output: usize, inputs: Range<usize>) -> Vec<usize> {
    let place = |input, tap| geometry.weight_index(group, output, input, tap);
    inputs.flat_map(|input| (0..geometry.taps).map(move |tap| place(input, tap))).collect()
}

/// Whether a tensor has as many elements as its geometry says.
pub(crate) fn fits(geometry: &Geometry, weight: &Tensor) -> bool {
    weight.len() == geometry.groups * geometry.outputs * geometry.inputs * geometry.taps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::evaluated;
    use quantize_ir::op::{Gemm, Padding};

    fn conv(filter: FilterLayout, layout: Layout, group: usize) -> Op {
        let padding = Padding::Explicit { begin: vec![1, 0], end: vec![1, 1] };
        let window = Window { strides: vec![2, 1], dilations: vec![1, 2], padding, rounding: Default::default() };
        Op::Conv(Conv { window, group, layout, filter })
    }

    /// Sums over columns are what the executor computes.
    fn check(op: &Op, x: &Tensor, w: &Tensor) {
        let found = evaluated(op, &[x, w]);
        let expected = found[0].as_slice::<f32>().unwrap();
        let geometry = Geometry::of(op, w.shape()).unwrap();
        let reader = geometry.reader(x.shape()).unwrap();
        let held = Held::Reals(x.clone());
        let mut gatherer = Gatherer::new(&reader, &held);
        let k = geometry.inputs * geometry.taps;
        let (mut column, mut sums) = (vec![0f32; k], Vec::new());
        for row in 0..reader.rows {
            for group in 0..geometry.groups {
                let channels = group * geometry.inputs..(group + 1) * geometry.inputs;
                gatherer.gather(row, channels, &mut column);
                for output in 0..geometry.outputs {
                    let weights = w.as_slice::<f32>().unwrap();
                    let places = places(&geometry, group, output, 0..geometry.inputs);
                    sums.push(places.iter().zip(&column).map(|(at, x)| weights[*at] * x).sum::<f32>());
                }
            }
        }
        let last = matches!(op, Op::Gemm(_)) || matches!(op, Op::Conv(c) if c.layout == Layout::ChannelsLast);
        let channels = geometry.groups * geometry.outputs;
        let positions = reader.rows / x.shape()[0].max(1);
        for (i, sum) in sums.iter().enumerate() {
            let (row, channel) = (i / channels, i % channels);
            let (image, position) = if last { (0, row) } else { (row / positions, row % positions) };
            let at = if last { i } else { (image * channels + channel) * positions + position };
            assert!((sum - expected[at]).abs() < 1e-4, "{op:?} at {i}: {sum} for {}", expected[at]);
        }
        assert_eq!(sums.len(), expected.len());
    }

    fn tensor(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::new(shape, (0..n).map(|i| ((i * 29 % 17) as f32 - 8.0) / 4.0).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn columns_are_what_a_convolution_reads() {
        let cases = [
            (FilterLayout::OutputFirst, Layout::ChannelsFirst, 1, [2, 4, 5, 6], [6, 4, 3, 2]),
            (FilterLayout::OutputFirst, Layout::ChannelsFirst, 2, [2, 4, 5, 6], [6, 2, 3, 2]),
            (FilterLayout::OutputLast, Layout::ChannelsLast, 1, [1, 5, 6, 4], [3, 2, 4, 6]),
            (FilterLayout::OutputLast, Layout::ChannelsLast, 4, [1, 5, 6, 4], [3, 2, 1, 8]),
        ];
        for (filter, layout, group, x, w) in cases {
            check(&conv(filter, layout, group), &tensor(&x), &tensor(&w));
        }
    }

    #[test]
    fn columns_are_what_a_product_reads() {
        let gemm = |trans_b| Op::Gemm(Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b });
        check(&gemm(true), &tensor(&[3, 4]), &tensor(&[5, 4]));
        check(&gemm(false), &tensor(&[3, 4]), &tensor(&[4, 5]));
    }
}
