//! The values that statistics look at: finite ones, with subnormals and −0.0 flushed to +0.0 so that results do not
//! depend on the floating-point mode of the processor.

/// Values handled per pass; small enough that all passes over a chunk hit the first-level cache.
pub(crate) const CHUNK: usize = 1024;

/// Bits of the smallest normal magnitude and of infinity.
const SMALLEST_NORMAL: i32 = f32::MIN_POSITIVE.to_bits() as i32;
const INFINITY: i32 = f32::INFINITY.to_bits() as i32;

/// The finite values of a chunk, subnormals and −0.0 replaced by +0.0.
pub(crate) struct Cleaned<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) n_nan: u64,
    pub(crate) n_inf: u64,
    pub(crate) n_zero: u64,
}

/// Cleans up to [`CHUNK`] values into `buffer`.
pub(crate) fn clean<'a>(chunk: &[f32], buffer: &'a mut [f32; CHUNK]) -> Cleaned<'a> {
    debug_assert!(chunk.len() <= CHUNK);
    let buffer = &mut buffer[..chunk.len()];
    let (mut non_finite, mut zeros) = (0i32, 0i32);
    for (out, &x) in buffer.iter_mut().zip(chunk) {
        // Magnitudes of floats order like their bits, and integer comparisons make masks in any instruction set.
        let magnitude = (x.to_bits() & 0x7fff_ffff) as i32;
        let is_zero = i32::from(magnitude < SMALLEST_NORMAL);
        *out = f32::from_bits(x.to_bits() & (is_zero - 1) as u32);
        zeros += is_zero;
        non_finite += i32::from(magnitude >= INFINITY);
    }
    let (non_finite, zeros) = (non_finite as u64, zeros as u64);
    if non_finite == 0 {
        return Cleaned { values: buffer, n_nan: 0, n_inf: 0, n_zero: zeros };
    }
    without_non_finite(buffer, non_finite, zeros)
}

/// `x` if it is normal, else +0.0; and whether it is finite. Free of branches.
pub(crate) fn flushed(x: f32) -> (f32, bool) {
    let magnitude = (x.to_bits() & 0x7fff_ffff) as i32;
    let is_finite = magnitude < INFINITY;
    let keep = i32::from((magnitude >= SMALLEST_NORMAL) & is_finite);
    (f32::from_bits(x.to_bits() & -keep as u32), is_finite)
}

/// Moves the finite values of `buffer` to its front.
#[cold]
fn without_non_finite(buffer: &mut [f32], non_finite: u64, n_zero: u64) -> Cleaned<'_> {
    let (mut kept, mut n_nan) = (0, 0);
    for index in 0..buffer.len() {
        let x = buffer[index];
        n_nan += u64::from(x.is_nan());
        if x.is_finite() {
            buffer[kept] = x;
            kept += 1;
        }
    }
    Cleaned { values: &buffer[..kept], n_nan, n_inf: non_finite - n_nan, n_zero }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_values_are_told_apart() {
        let mut buffer = [0.0; CHUNK];
        let cleaned = clean(&[1.0, f32::NAN, -0.0, f32::INFINITY, f32::NEG_INFINITY, 1e-39, -2.0], &mut buffer);
        assert_eq!((cleaned.n_nan, cleaned.n_inf, cleaned.n_zero), (1, 2, 2));
        assert_eq!(
            cleaned.values.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            [1.0f32, 0.0, 0.0, -2.0].map(f32::to_bits)
        );
    }
}
