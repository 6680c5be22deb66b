//! From real numbers to codes and back, and sums of the codes of two tensors, element by element.

use super::addition::{Addition, Grid};
use super::requantize::{CodeRange, MOST_LANES};
use crate::error::{KernelError, check_len};
use crate::simd::{Isa, Kernel, Simd};

/// Codes of real numbers: `y = round(x / scale) + zero point`, half to even, saturated to `range`. NaN becomes the
/// lowest code, infinities the ends.
///
/// That is ONNX's `QuantizeLinear` as ONNX Runtime computes it: a division, not a product with the reciprocal.
///
/// # Errors
/// If the lengths differ.
pub fn quantize(isa: Isa, x: &[f32], scale: f32, range: CodeRange, y: &mut [u8]) -> Result<(), KernelError> {
    check_len("codes", x.len(), y.len())?;
    isa.run_float(Quantize { x, scale, range, y });
    Ok(())
}

/// Real numbers of codes: `y = (x - zero point) * scale`, in `f32`.
///
/// # Errors
/// If the lengths differ.
pub fn dequantize(isa: Isa, x: &[u8], grid: Grid, y: &mut [f32]) -> Result<(), KernelError> {
    check_len("real numbers", x.len(), y.len())?;
    isa.run_float(ToReals { x, grid, y });
    Ok(())
}

/// Sums of the codes of two tensors of one length. A ReLU that follows is the range of the addition.
///
/// # Errors
/// If the lengths differ.
pub fn add(isa: Isa, addition: &Addition, a: &[u8], b: &[u8], y: &mut [u8]) -> Result<(), KernelError> {
    check_len("second operand", a.len(), b.len())?;
    check_len("result", a.len(), y.len())?;
    isa.run_float(Add { addition, a, b, y });
    Ok(())
}

/// What is left of a slice after whole vectors, filled up to one.
fn padded<T: Copy + Default>(rest: &[T]) -> [T; MOST_LANES] {
    let mut vector = [T::default(); MOST_LANES];
    vector[..rest.len()].copy_from_slice(rest);
    vector
}

struct Quantize<'a> {
    x: &'a [f32],
    scale: f32,
    range: CodeRange,
    y: &'a mut [u8],
}

impl Kernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) {
        let (scale, range) = (s.splat(self.scale), self.range.vector(s));
        let (mut x, mut y) = (self.x.chunks_exact(S::LANES), self.y.chunks_exact_mut(S::LANES));
        for (y, x) in (&mut y).zip(&mut x) {
            // SAFETY: the chunks have `LANES` elements.
            unsafe { s.store_low_bytes(y.as_mut_ptr(), range.codes(s, s.div(s.load(x.as_ptr()), scale))) };
        }
        let (x, y) = (x.remainder(), y.into_remainder());
        let mut codes = [0; MOST_LANES];
        // SAFETY: the arrays have at least `LANES` elements.
        unsafe {
            s.store_low_bytes(codes.as_mut_ptr(), range.codes(s, s.div(s.load(padded(x).as_ptr()), scale)));
        }
        y.copy_from_slice(&codes[..y.len()]);
    }
}

struct ToReals<'a> {
    x: &'a [u8],
    grid: Grid,
    y: &'a mut [f32],
}

impl Kernel for ToReals<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Grid { scale, zero_point } = self.grid;
        for (y, x) in self.y.iter_mut().zip(self.x) {
            *y = (i32::from(*x) - i32::from(zero_point)) as f32 * scale;
        }
    }
}

struct Add<'a> {
    addition: &'a Addition,
    a: &'a [u8],
    b: &'a [u8],
    y: &'a mut [u8],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, s: S) {
        let addition = self.addition.vector(s);
        let (mut a, mut b) = (self.a.chunks_exact(S::LANES), self.b.chunks_exact(S::LANES));
        let mut y = self.y.chunks_exact_mut(S::LANES);
        for ((y, a), b) in (&mut y).zip(&mut a).zip(&mut b) {
            // SAFETY: the chunks have `LANES` elements.
            unsafe {
                let sum = addition.codes(s, s.load_u8(a.as_ptr()), s.load_u8(b.as_ptr()));
                s.store_low_bytes(y.as_mut_ptr(), sum);
            }
        }
        let (a, b, y) = (padded(a.remainder()), padded(b.remainder()), y.into_remainder());
        let mut codes = [0; MOST_LANES];
        // SAFETY: the arrays have at least `LANES` elements.
        unsafe {
            let sum = addition.codes(s, s.load_u8(a.as_ptr()), s.load_u8(b.as_ptr()));
            s.store_low_bytes(codes.as_mut_ptr(), sum);
        }
        y.copy_from_slice(&codes[..y.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::Sign;
    use crate::testing::noise;
    use proptest::prelude::*;

    /// The definition, for one number.
    fn code(x: f32, scale: f32, range: CodeRange) -> u8 {
        let code = (x / scale).round_ties_even() + f32::from(range.zero_point);
        if code.is_nan() { range.lowest } else { code.clamp(range.lowest.into(), range.highest.into()) as u8 }
    }

    fn bytes(seed: u64, len: usize) -> Vec<u8> {
        noise(seed, len).into_iter().map(|x| (x * 128.0 + 128.0) as u8).collect()
    }

    proptest! {
        #[test]
        fn numbers_become_the_nearest_codes_and_codes_their_numbers(
            len in 0usize..70, scale in 1e-4f32..2.0, halves: bool, zero_point: u8, ends: (u8, u8), seed: u64,
        ) {
            let range = CodeRange { zero_point, lowest: ends.0.min(ends.1), highest: ends.0.max(ends.1) };
            let number = |x: f32| if halves { (x * 300.0).round() * scale * 0.5 } else { x * 200.0 * scale };
            let x: Vec<f32> = noise(seed, len).into_iter().map(number).collect();
            let codes = bytes(seed, len);
            for isa in Isa::all() {
                let (mut y, mut reals) = (vec![0; len], vec![0.0; len]);
                quantize(isa, &x, scale, range, &mut y).unwrap();
                prop_assert_eq!(&y, &x.iter().map(|x| code(*x, scale, range)).collect::<Vec<_>>(), "{}", isa.name());
                dequantize(isa, &codes, Grid { scale, zero_point }, &mut reals).unwrap();
                let real = |c: &u8| f32::from(i16::from(*c) - i16::from(zero_point)) * scale;
                prop_assert_eq!(&reals, &codes.iter().map(real).collect::<Vec<_>>(), "{}", isa.name());
            }
        }

        #[test]
        fn sums_are_those_of_single_codes(len in 0usize..70, signed: bool, zero_points: (u8, u8, u8), seed: u64) {
            let grid = |scale, zero_point| Grid { scale, zero_point };
            let range = CodeRange { zero_point: zero_points.2, lowest: 5, highest: 240 };
            let sign = if signed { Sign::Signed } else { Sign::Unsigned };
            let (first, second) = (grid(0.03, zero_points.0), grid(0.05, zero_points.1));
            let addition = Addition::new(sign, first, second, 0.06, range).unwrap();
            let (a, b) = (bytes(seed, len), bytes(seed + 1, len));
            let expected: Vec<u8> = a.iter().zip(&b).map(|(a, b)| addition.code(*a, *b)).collect();
            for isa in Isa::all() {
                let mut y = vec![0; len];
                add(isa, &addition, &a, &b, &mut y).unwrap();
                prop_assert_eq!(&y, &expected, "{}", isa.name());
            }
        }
    }

    #[test]
    fn numbers_beyond_all_codes() {
        let range = CodeRange { zero_point: 100, lowest: 3, highest: 250 };
        let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, 0.0, -0.0, 0.5, 1.5];
        for isa in Isa::all() {
            let mut y = [0; 9];
            quantize(isa, &x, 1.0, range, &mut y).unwrap();
            assert_eq!(y, [3, 250, 3, 250, 3, 100, 100, 100, 102], "{}", isa.name());
            quantize(isa, &x, 0.0, range, &mut y).unwrap();
            assert_eq!(y, [3, 250, 3, 250, 3, 3, 3, 250, 250], "{}", isa.name());
        }
    }

    #[test]
    fn different_lengths_are_errors() {
        let isa = Isa::active();
        let grid = Grid { scale: 1.0, zero_point: 0 };
        let addition = Addition::new(Sign::Unsigned, grid, grid, 1.0, CodeRange::full(0)).unwrap();
        assert!(quantize(isa, &[0.0], 1.0, CodeRange::full(0), &mut []).is_err());
        assert!(dequantize(isa, &[0], grid, &mut []).is_err());
        assert!(add(isa, &addition, &[0], &[], &mut [0]).is_err());
        assert!(add(isa, &addition, &[0], &[0], &mut []).is_err());
    }
}
