//! Moments of the finite values of each channel.

use crate::blocked::Blocked;
use crate::error::{KernelError, check_len};
use crate::simd::{Isa, Kernel, Simd};

/// Partial sums of a channel: its value number `k` goes to sum `k` modulo this, and the sums are added up in order.
/// Hence the result has the same bits in every layout.
const SUMS: usize = 8;

/// What is known about the finite values of a channel, subnormals and -0.0 taken for +0.0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelMoments {
    /// Their number.
    pub count: u64,
    /// Smallest and largest; none without a value.
    pub range: Option<(f32, f32)>,
    /// Their sum: of eight partial sums, for the values whose number modulo eight is 0, 1, …, added up in order.
    pub sum: f64,
    /// Sum of their squares, in the same order.
    pub squares: f64,
}

/// Moments of each channel of a dense tensor `[outer][channels][inner]`.
///
/// # Errors
/// If the length is not a multiple of `channels * inner`, or one of them is zero.
pub fn moments_of_channels(
    isa: Isa,
    x: &[f32],
    channels: usize,
    inner: usize,
) -> Result<Vec<ChannelMoments>, KernelError> {
    let group = channels.checked_mul(inner).ok_or(KernelError::TooLarge("channels"))?;
    if group == 0 {
        return Err(KernelError::Zero("channels and their elements"));
    }
    check_len("channels", x.len() / group * group, x.len())?;
    Ok(match inner {
        1 => isa.run_float(OfPixels { x, channels }),
        _ => isa.run_float(OfPlanes { x, channels, inner }),
    })
}

/// Moments of each channel of all images of `x`.
///
/// # Errors
/// If it has another length than its sizes say.
pub fn moments_of_blocks(isa: Isa, x: Blocked<'_, f32>) -> Result<Vec<ChannelMoments>, KernelError> {
    check_len("blocks", x.shape.len(), x.data.len())?;
    Ok(isa.run_float(OfBlocks(x)))
}

/// Running sums of `N` neighbouring channels.
struct Channels<const N: usize> {
    counts: [u64; N],
    los: [f32; N],
    his: [f32; N],
    sums: [[f64; N]; SUMS],
    squares: [[f64; N]; SUMS],
}

impl<const N: usize> Channels<N> {
    #[inline(always)]
    fn new() -> Self {
        Self {
            counts: [0; N],
            los: [f32::INFINITY; N],
            his: [f32::NEG_INFINITY; N],
            sums: [[0.0; N]; SUMS],
            squares: [[0.0; N]; SUMS],
        }
    }

    /// Adds value number `at` of each channel.
    #[inline(always)]
    fn add(&mut self, at: usize, pixel: &[f32; N]) {
        let (sums, squares) = (&mut self.sums[at % SUMS], &mut self.squares[at % SUMS]);
        for i in 0..N {
            let (value, is_finite) = flushed(pixel[i]);
            let wide = f64::from(value);
            sums[i] += wide;
            squares[i] += wide * wide;
            let lo = if is_finite { value } else { f32::INFINITY };
            let hi = if is_finite { value } else { f32::NEG_INFINITY };
            self.los[i] = if lo < self.los[i] { lo } else { self.los[i] };
            self.his[i] = if hi > self.his[i] { hi } else { self.his[i] };
            self.counts[i] += u64::from(is_finite);
        }
    }

    fn moments(&self, channel: usize) -> ChannelMoments {
        let (lo, hi) = (self.los[channel], self.his[channel]);
        ChannelMoments {
            count: self.counts[channel],
            range: (lo <= hi).then_some((lo, hi)),
            sum: self.sums.iter().fold(0.0, |sum, part| sum + part[channel]),
            squares: self.squares.iter().fold(0.0, |sum, part| sum + part[channel]),
        }
    }
}

/// `x` if it is normal, else +0.0; and whether it is finite.
#[inline(always)]
fn flushed(x: f32) -> (f32, bool) {
    // Magnitudes of floats order like their bits, and comparisons of integers make masks in any instruction set.
    const SMALLEST: i32 = f32::MIN_POSITIVE.to_bits() as i32;
    const INFINITY: i32 = f32::INFINITY.to_bits() as i32;
    let magnitude = (x.to_bits() & 0x7fff_ffff) as i32;
    let is_finite = magnitude < INFINITY;
    let keep = i32::from((magnitude >= SMALLEST) & is_finite);
    (f32::from_bits(x.to_bits() & -keep as u32), is_finite)
}

struct OfBlocks<'a>(Blocked<'a, f32>);

impl Kernel for OfBlocks<'_> {
    type Output = Vec<ChannelMoments>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Vec<ChannelMoments> {
        let x = self.0;
        let mut moments = Vec::with_capacity(x.shape.blocks() * x.shape.lanes);
        for block in 0..x.shape.blocks() {
            match x.shape.lanes {
                16 => of_block::<16>(x, block, 0, &mut moments),
                8 => of_block::<8>(x, block, 0, &mut moments),
                4 => of_block::<4>(x, block, 0, &mut moments),
                lanes => (0..lanes).for_each(|lane| of_block::<1>(x, block, lane, &mut moments)),
            }
        }
        moments.truncate(x.shape.channels);
        moments
    }
}

/// Moments of `N` channels of a block, from lane `lane` on.
#[inline(always)]
fn of_block<const N: usize>(x: Blocked<'_, f32>, block: usize, lane: usize, moments: &mut Vec<ChannelMoments>) {
    let mut channels = Channels::<N>::new();
    for image in 0..x.shape.batch {
        let plane = &x.data[image * x.shape.image() + block * x.shape.plane()..][..x.shape.plane()];
        add_pixels(&mut channels, image * x.shape.positions(), plane, x.shape.lanes, lane);
    }
    for channel in 0..N {
        moments.push(channels.moments(channel));
    }
}

/// Adds `N` elements of each pixel of `stride` elements, from element `first` on; `at` is the number of the first
/// pixel.
#[inline(always)]
fn add_pixels<const N: usize>(channels: &mut Channels<N>, at: usize, x: &[f32], stride: usize, first: usize) {
    for (i, pixel) in x.chunks_exact(stride).enumerate() {
        if let Some(pixel) = pixel[first..].first_chunk() {
            channels.add(at + i, pixel);
        }
    }
}

/// Pixels with all their channels.
struct OfPixels<'a> {
    x: &'a [f32],
    channels: usize,
}

impl Kernel for OfPixels<'_> {
    type Output = Vec<ChannelMoments>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Vec<ChannelMoments> {
        let mut moments = Vec::with_capacity(self.channels);
        while moments.len() < self.channels {
            if self.channels - moments.len() < 8 {
                self.of_pixels::<1>(&mut moments);
            } else {
                self.of_pixels::<8>(&mut moments);
            }
        }
        moments
    }
}

impl OfPixels<'_> {
    /// Moments of the next `N` channels.
    #[inline(always)]
    fn of_pixels<const N: usize>(&self, moments: &mut Vec<ChannelMoments>) {
        let mut channels = Channels::<N>::new();
        add_pixels(&mut channels, 0, self.x, self.channels, moments.len());
        for channel in 0..N {
            moments.push(channels.moments(channel));
        }
    }
}

/// Planes of one channel each.
struct OfPlanes<'a> {
    x: &'a [f32],
    channels: usize,
    inner: usize,
}

impl Kernel for OfPlanes<'_> {
    type Output = Vec<ChannelMoments>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Vec<ChannelMoments> {
        let mut moments = Vec::with_capacity(self.channels);
        for channel in 0..self.channels {
            moments.push(self.of_planes(channel));
        }
        moments
    }
}

impl OfPlanes<'_> {
    /// Moments of one channel: what are channels elsewhere are its partial sums here.
    #[inline(always)]
    fn of_planes(&self, channel: usize) -> ChannelMoments {
        let mut parts = Channels::<SUMS>::new();
        let mut at = 0usize;
        for group in self.x.chunks_exact(self.channels * self.inner) {
            let plane = &group[channel * self.inner..][..self.inner];
            // Up to a multiple of the number of sums, then whole vectors of them.
            let (head, rest) = plane.split_at((at.next_multiple_of(SUMS) - at).min(plane.len()));
            let (whole, tail) = rest.as_chunks::<SUMS>();
            add_some(&mut parts, at, head);
            for values in whole {
                parts.add(0, values);
            }
            add_some(&mut parts, 0, tail);
            at += plane.len();
        }
        joined(&parts)
    }
}

/// Adds values of one channel to its partial sums, the first one to sum `at`.
#[inline(always)]
fn add_some(parts: &mut Channels<SUMS>, at: usize, values: &[f32]) {
    // A value that is not finite changes nothing.
    let mut padded = [f32::NAN; SUMS];
    for (i, x) in values.iter().enumerate() {
        padded[(at + i) % SUMS] = *x;
    }
    parts.add(0, &padded);
}

/// Moments of the one channel whose partial sums these are.
fn joined(parts: &Channels<SUMS>) -> ChannelMoments {
    let lo = parts.los.iter().copied().fold(f32::INFINITY, f32::min);
    let hi = parts.his.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    ChannelMoments {
        count: parts.counts.iter().sum(),
        range: (lo <= hi).then_some((lo, hi)),
        sum: parts.sums[0].iter().fold(0.0, |sum, part| sum + part),
        squares: parts.squares[0].iter().fold(0.0, |sum, part| sum + part),
    }
}
