//! Winograd's minimal filtering F(4x4, 3x3): four by four outputs of a 3x3 window from 36 products instead of 144.
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), with the points 0, ±1, ±2 and infinity.
//! Tiles are transformed with channels in the lanes; the products of the 36 places are 36 pointwise convolutions.

use super::activation::{self, Activation};
use super::filter::Filter;
use super::pack::Weights;
use super::rows::{Rows, split};
use super::tile::Input;
use super::{Blocked, Shape};
use crate::buffer::Buffer;
use crate::geometry::Axis;
use crate::simd::{Isa, Kernel, Simd};

/// Outputs along a side of a tile.
const OUT: usize = 4;
/// Inputs along a side of a tile.
const IN: usize = 6;
/// Taps of the window.
const TAPS: usize = 9;
/// Places of a transformed tile.
const PLACES: usize = IN * IN;

/// Fewer input channels do not pay for the transforms.
const LEAST_CHANNELS: usize = 32;
/// Smaller outputs waste too much of their tiles.
const LEAST_OUTPUT: usize = 8;
/// With more padding than this at an end, windows read nothing else.
const MOST_PADDING: usize = 2;

/// Transformed inputs and products of a chunk of tiles stay near the second-level cache, in bytes.
const CHUNK: usize = 700 * 1024;
/// Large weights come from memory once for each chunk, so with them chunks may be larger, in bytes.
const LARGEST_CHUNK: usize = 8 << 20;
/// Tiles of a chunk at least, to fill the registers.
const LEAST_TILES: usize = 14;

/// Rows of the filter's transform.
const FILTER: [[f64; 3]; IN] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// Transformed weights: those of a pointwise convolution for each place.
#[derive(Debug)]
pub(super) struct Winograd {
    lanes: usize,
    places: Vec<Weights>,
    bias: Buffer<f32>,
}

/// One image of a call.
pub(super) struct Image<'a> {
    pub(super) isa: Isa,
    pub(super) x: Blocked<'a, f32>,
    pub(super) window: [Axis; 2],
    /// Shape of the result.
    pub(super) shape: Shape,
    pub(super) residual: Option<&'a [f32]>,
    pub(super) activation: Activation,
}

impl Winograd {
    /// Whether the transform computes what the filter says, and has enough channels to pay.
    pub(super) fn suits(filter: &Filter) -> bool {
        let plain = filter.stride == [1, 1] && filter.dilation == [1, 1] && filter.group == 1;
        plain && filter.kernel == [3, 3] && filter.in_channels >= LEAST_CHANNELS
    }

    /// Whether there are enough outputs, and none of them reads padding alone.
    pub(super) fn pays(window: &[Axis; 2]) -> bool {
        let large = |axis: &Axis| axis.output >= LEAST_OUTPUT;
        let reads =
            |axis: &Axis| axis.pad_begin <= MOST_PADDING && axis.output <= axis.input.saturating_add(MOST_PADDING);
        window.iter().all(|axis| large(axis) && reads(axis))
    }

    /// Transforms the weights of a filter that [suits](Winograd::suits), in f64.
    pub(super) fn new(isa: Isa, weights: &Weights) -> Self {
        let (lanes, inputs) = (isa.lanes(), weights.in_channels());
        let mut places: Vec<Weights> = (0..PLACES).map(|_| weights.single_tap()).collect();
        let mut at = 0;
        for group in weights.groups(0) {
            let columns = group.weight.len() / (TAPS * inputs);
            for block in group.weight.chunks(TAPS * lanes * columns) {
                // Taps are one behind the other, and under each of them all inputs of the block.
                let pitch = block.len() / TAPS;
                for i in 0..pitch {
                    let taps = std::array::from_fn(|tap| f64::from(block[tap * pitch + i]));
                    for (place, value) in places.iter_mut().zip(transformed_filter(&taps)) {
                        place.elements_mut()[at] = value as f32;
                    }
                    at += 1;
                }
            }
        }
        Self { lanes, places, bias: Buffer::from(weights.bias(0)) }
    }

    /// Computes one image; lengths have been checked.
    pub(super) fn run(&self, image: &Image<'_>, y: &mut [f32], scratch: &mut Buffer<f32>) {
        let [vertical, horizontal] = image.window;
        let (down, across) = (vertical.output.div_ceil(OUT), horizontal.output.div_ceil(OUT));
        let blocks = [image.x.shape.blocks(), image.shape.blocks()];
        let per_tile = PLACES * (blocks[0] + blocks[1]) * self.lanes;
        let weights = PLACES * image.x.shape.channels * image.shape.channels * size_of::<f32>();
        let room = weights.clamp(CHUNK, LARGEST_CHUNK) / (per_tile * size_of::<f32>());
        let tiles = down * across;
        for chunk in split(tiles, tiles.div_ceil(room.max(LEAST_TILES))) {
            let count = chunk.len();
            scratch.resize(per_tile * count);
            let (inputs, products) = scratch.split_at_mut(PLACES * blocks[0] * count * self.lanes);
            let grid = Grid { first: chunk.start, count, across };
            image.isa.run_float(TransformInput { image, grid: &grid, inputs });
            self.multiply(image, count, inputs, products);
            image.isa.run_float(TransformOutput { image, grid: &grid, bias: &self.bias, products, y });
        }
        activation::finish(image.isa, image.activation, y);
    }

    fn multiply(&self, image: &Image<'_>, count: usize, inputs: &[f32], products: &mut [f32]) {
        let lanes = self.lanes;
        let blocks = image.x.shape.blocks();
        let last = image.x.shape.channels - (blocks - 1) * lanes;
        let input = Input { block_pitch: count * lanes, row_pitch: 0, blocks, last, narrow: false, taps: &[0] };
        let in_place = inputs.chunks_exact(blocks * count * lanes);
        let out_place = products.chunks_exact_mut(image.shape.blocks() * count * lanes);
        for ((x, y), weights) in in_place.zip(out_place).zip(&self.places) {
            let rows = Rows {
                input,
                x,
                rows: 1,
                width: count,
                lanes,
                y_block: count * lanes,
                y_row: 0,
                limits: Activation::Identity.limits(),
            };
            for group in weights.groups(0) {
                rows.run(&group, group.first_block * count * lanes, None, y);
            }
        }
    }
}

fn transformed_filter(taps: &[f64; TAPS]) -> [f64; PLACES] {
    let half: [[f64; 3]; IN] =
        std::array::from_fn(|i| std::array::from_fn(|c| (0..3).map(|r| FILTER[i][r] * taps[r * 3 + c]).sum()));
    std::array::from_fn(|place| (0..3).map(|c| half[place / IN][c] * FILTER[place % IN][c]).sum())
}

/// The tiles of a chunk: `count` from `first` on, in rows of `across`.
struct Grid {
    first: usize,
    count: usize,
    across: usize,
}

impl Grid {
    /// Output pixel at the top left of a tile of the chunk.
    #[inline(always)]
    fn corner(&self, tile: usize) -> [usize; 2] {
        let index = self.first + tile;
        [index / self.across * OUT, index % self.across * OUT]
    }
}

/// Writes `[places][blocks][count][lanes]`.
struct TransformInput<'a> {
    image: &'a Image<'a>,
    grid: &'a Grid,
    inputs: &'a mut [f32],
}

impl Kernel for TransformInput<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) {
        let Self { image, grid, inputs } = self;
        let shape = &image.x.shape;
        let pitch = shape.blocks() * grid.count * S::LANES;
        assert!(inputs.len() >= PLACES * pitch && image.x.data.len() >= shape.image() && shape.lanes == S::LANES);
        for (block, plane) in image.x.data.chunks_exact(shape.plane()).enumerate() {
            for tile in 0..grid.count {
                let corner = grid.corner(tile);
                let origin = [0, 1].map(|i| corner[i] as isize - image.window[i].pad_begin as isize);
                let patch = load_patch(s, plane, [shape.height, shape.width], origin);
                let mut half = [[s.splat(0.0); IN]; IN];
                for j in 0..IN {
                    let column = [patch[0][j], patch[1][j], patch[2][j], patch[3][j], patch[4][j], patch[5][j]];
                    half[j] = input_column(s, column);
                }
                let at = (block * grid.count + tile) * S::LANES;
                for i in 0..IN {
                    let row = [half[0][i], half[1][i], half[2][i], half[3][i], half[4][i], half[5][i]];
                    for (j, value) in input_column(s, row).into_iter().enumerate() {
                        // SAFETY: the place, block and tile lie inside `inputs`, whose length was checked.
                        unsafe { s.store(inputs.as_mut_ptr().add((i * IN + j) * pitch + at), value) };
                    }
                }
            }
        }
    }
}

/// Six by six pixels from `origin` on; those outside the plane are 0.
#[inline(always)]
#[allow(unsafe_code)]
fn load_patch<S: Simd>(s: S, plane: &[f32], size: [usize; 2], origin: [isize; 2]) -> [[S::F32; IN]; IN] {
    let mut patch = [[s.splat(0.0); IN]; IN];
    let inside = |i: isize, n: usize| i >= 0 && i < n as isize;
    let whole = |i: isize, n: usize| i >= 0 && i + IN as isize <= n as isize;
    let all_inside = whole(origin[0], size[0]) && whole(origin[1], size[1]);
    for (i, row) in patch.iter_mut().enumerate() {
        let y = origin[0] + i as isize;
        for (j, pixel) in row.iter_mut().enumerate() {
            let x = origin[1] + j as isize;
            if all_inside || (inside(y, size[0]) && inside(x, size[1])) {
                let at = (y as usize * size[1] + x as usize) * S::LANES;
                // SAFETY: row and column are inside the plane, which has as many pixels as `size` says.
                *pixel = unsafe { s.load(plane.as_ptr().add(at)) };
            }
        }
    }
    patch
}

/// One row or column of the input's transform.
#[inline(always)]
fn input_column<S: Simd>(s: S, d: [S::F32; IN]) -> [S::F32; IN] {
    let (two, four, five) = (s.splat(2.0), s.splat(4.0), s.splat(5.0));
    // d4 - 4 d2, d3 - 4 d1, d4 - d2 and 2 (d3 - d1), each of which two results share.
    let even = s.sub(d[4], s.mul(four, d[2]));
    let odd = s.sub(d[3], s.mul(four, d[1]));
    let outer = s.sub(d[4], d[2]);
    let inner = s.mul(two, s.sub(d[3], d[1]));
    [
        s.mul_add(four, d[0], s.sub(d[4], s.mul(five, d[2]))),
        s.add(even, odd),
        s.sub(even, odd),
        s.add(outer, inner),
        s.sub(outer, inner),
        s.mul_add(four, d[1], s.sub(d[5], s.mul(five, d[3]))),
    ]
}

/// Reads `[places][blocks][count][lanes]` and writes the outputs.
struct TransformOutput<'a> {
    image: &'a Image<'a>,
    grid: &'a Grid,
    bias: &'a [f32],
    products: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for TransformOutput<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) {
        let Self { image, grid, bias, products, y } = self;
        let shape = &image.shape;
        let pitch = shape.blocks() * grid.count * S::LANES;
        let long_enough = |len: usize| len >= shape.image();
        assert!(products.len() >= PLACES * pitch && bias.len() >= shape.blocks() * S::LANES && long_enough(y.len()));
        assert!(image.residual.is_none_or(|r| long_enough(r.len())));
        let (lo, hi) = image.activation.limits();
        let (lo, hi) = (s.splat(lo), s.splat(hi));
        for block in 0..shape.blocks() {
            // SAFETY: `bias` has a vector for each block.
            let start = unsafe { s.load(bias.as_ptr().add(block * S::LANES)) };
            for tile in 0..grid.count {
                let at = (block * grid.count + tile) * S::LANES;
                let mut half = [[s.splat(0.0); OUT]; IN];
                for j in 0..IN {
                    let mut column = [s.splat(0.0); IN];
                    for (i, value) in column.iter_mut().enumerate() {
                        // SAFETY: the place, block and tile lie inside `products`, whose length was checked.
                        *value = unsafe { s.load(products.as_ptr().add((i * IN + j) * pitch + at)) };
                    }
                    half[j] = output_column(s, column);
                }
                let [top, left] = grid.corner(tile);
                for i in 0..OUT.min(shape.height - top) {
                    let row = [half[0][i], half[1][i], half[2][i], half[3][i], half[4][i], half[5][i]];
                    for (j, sum) in output_column(s, row).into_iter().enumerate().take(shape.width - left) {
                        let at = block * shape.plane() + ((top + i) * shape.width + left + j) * S::LANES;
                        let sum = s.add(sum, start);
                        // SAFETY: the pixel is inside the plane; the lengths of `y` and of the residual were checked.
                        unsafe {
                            let sum = match image.residual {
                                Some(residual) => s.add(sum, s.load(residual.as_ptr().add(at))),
                                None => sum,
                            };
                            s.store(y.as_mut_ptr().add(at), s.min(hi, s.max(lo, sum)));
                        }
                    }
                }
            }
        }
    }
}

/// One row or column of the output's transform.
#[inline(always)]
fn output_column<S: Simd>(s: S, m: [S::F32; IN]) -> [S::F32; OUT] {
    let (two, four, eight) = (s.splat(2.0), s.splat(4.0), s.splat(8.0));
    let (sum, difference) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    let (far_sum, far_difference) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
    [
        s.add(s.add(m[0], sum), far_sum),
        s.mul_add(two, far_difference, difference),
        s.mul_add(four, far_sum, sum),
        s.add(s.mul_add(eight, far_difference, difference), m[5]),
    ]
}
