//! Weights as onnxruntime's `MatMulNBits` stores them: for each column of a matrix `[k, n]` blocks of codes along `k`, low
//! bits first, the last one filled up; behind them a scale and a zero point for each block.
//!
//! | input | shape | elements |
//! |---|---|---|
//! | codes | `[n, blocks, block * bits / 8]` | bytes |
//! | scales | `[n, blocks]` or flat | `float32` |
//! | zero points | `[n, ceil(blocks * bits / 8)]` or flat | bytes; without them the middle code |
//!
//! Both directions live here; which node reads the tensors is known to the front-end and the back-end.

use quantize_ir::{ConstantSource, Element, QuantParams, Tensor, TensorError};
use std::sync::Arc;

/// The operator, of onnxruntime's own domain.
pub(crate) const OPERATOR: &str = "MatMulNBits";

/// Inputs of the operator.
pub(crate) const CODES: usize = 1;
pub(crate) const SCALES: usize = 2;
pub(crate) const ZERO_POINTS: usize = 3;
/// An order of the weights along `k`, which old models have.
pub(crate) const GROUP_INDEX: usize = 4;
pub(crate) const BIAS: usize = 5;

/// Sizes of a matrix of weights in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Length of the sums.
    pub(crate) k: usize,
    /// Columns.
    pub(crate) n: usize,
    /// Weights of a block, a power of two from 16 on.
    pub(crate) block: usize,
    /// Bits of a code: 4 or 8.
    pub(crate) bits: usize,
}

/// A matrix of weights in the operator's tensors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packed {
    pub(crate) codes: Tensor,
    pub(crate) scales: Tensor,
    pub(crate) zero_points: Tensor,
}

impl Shape {
    /// `None` unless the operator has such sizes.
    pub(crate) fn new(k: usize, n: usize, block: usize, bits: usize) -> Option<Self> {
        let known = k > 0 && n > 0 && block >= 16 && block.is_power_of_two() && matches!(bits, 4 | 8);
        let shape = Self { k, n, block, bits };
        // Whatever is computed below fits.
        let bytes = k.checked_next_multiple_of(block).and_then(|row| row.checked_mul(n));
        (known && bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok())).then_some(shape)
    }

    /// Blocks of a column.
    pub(crate) fn blocks(self) -> usize {
        self.k.div_ceil(self.block)
    }

    fn codes_in_byte(self) -> usize {
        8 / self.bits
    }

    /// Bytes of the codes of a block.
    fn block_bytes(self) -> usize {
        self.block / self.codes_in_byte()
    }

    /// Bytes of all codes.
    pub(crate) fn code_bytes(self) -> usize {
        self.n * self.blocks() * self.block_bytes()
    }

    /// Bytes of the zero points of a column.
    fn zero_point_row(self) -> usize {
        self.blocks().div_ceil(self.codes_in_byte())
    }

    /// Bytes of all zero points.
    pub(crate) fn zero_point_bytes(self) -> usize {
        self.n * self.zero_point_row()
    }

    /// Codes in bytes, low bits first.
    fn packed(self, codes: &[u8]) -> impl Iterator<Item = u8> {
        codes.chunks(self.codes_in_byte()).map(move |codes| {
            let shifted = codes.iter().enumerate().map(|(at, code)| code << (at * self.bits));
            shifted.fold(0, |byte, code| byte | code)
        })
    }

    /// The code at place `at` of a row of bytes.
    fn code(self, row: &[u8], at: usize) -> u8 {
        let byte = row.get(at / self.codes_in_byte()).copied().unwrap_or(0);
        (byte >> (at % self.codes_in_byte() * self.bits)) & (0xff >> (8 - self.bits))
    }

    /// Stores codes, one to a byte, where `place(k, column)` says which is which, and their parameters likewise by block
    /// and column. What fills up a block is its zero point: a zero.
    pub(crate) fn pack(
        self,
        codes: &[u8],
        params: &QuantParams,
        place: impl Fn(usize, usize) -> usize,
        block_place: impl Fn(usize, usize) -> usize,
    ) -> Result<Packed, TensorError> {
        let (mut packed, mut scales, mut zero_points) = (Vec::new(), Vec::new(), Vec::new());
        for column in 0..self.n {
            let places = (0..self.blocks()).map(|block| block_place(block, column));
            let zeros: Vec<u8> =
                places.clone().map(|at| params.zero_point().get(at).copied().unwrap_or(0) as u8).collect();
            scales.extend(places.map(|at| params.scale().get(at).copied().unwrap_or(1.0)));
            let in_block = |(block, zero): (usize, &u8)| {
                let zero = *zero;
                let code = |k: usize| codes.get(place(k, column)).copied().filter(|_| k < self.k).unwrap_or(zero);
                (block * self.block..(block + 1) * self.block).map(code).collect::<Vec<u8>>()
            };
            let row: Vec<u8> = zeros.iter().enumerate().flat_map(in_block).collect();
            packed.extend(self.packed(&row));
            zero_points.extend(self.packed(&zeros));
        }
        Ok(Packed {
            codes: Tensor::new([self.n, self.blocks(), self.block_bytes()], packed)?,
            scales: Tensor::new([self.n, self.blocks()], scales)?,
            zero_points: Tensor::new([self.n, self.zero_point_row()], zero_points)?,
        })
    }

    /// Codes as a matrix `[k, n]`, one to a byte.
    fn unpacked_codes(self, packed: &[u8]) -> Result<Tensor, String> {
        let rows = rows_of(packed, self.blocks() * self.block_bytes(), self.n, "bytes of codes")?;
        self.matrix(self.k, &rows, |row, k| self.code(row, k))
    }

    /// Scales as a matrix `[blocks, n]`.
    fn unpacked_scales(self, stored: &[f32]) -> Result<Tensor, String> {
        let rows = rows_of(stored, self.blocks(), self.n, "scales")?;
        self.matrix(self.blocks(), &rows, |row, block| row.get(block).copied().unwrap_or(1.0))
    }

    /// Zero points as a matrix `[blocks, n]`, one to a byte.
    fn unpacked_zero_points(self, packed: Option<&[u8]>) -> Result<Tensor, String> {
        let Some(packed) = packed else {
            let middle: u8 = 1 << (self.bits - 1);
            return Tensor::new([self.blocks(), self.n], vec![middle; self.blocks() * self.n])
                .map_err(|e| e.to_string());
        };
        let rows = rows_of(packed, self.zero_point_row(), self.n, "bytes of zero points")?;
        self.matrix(self.blocks(), &rows, |row, block| self.code(row, block))
    }

    /// A matrix `[height, n]` of what stands in rows of columns.
    fn matrix<S, T: Element>(
        self,
        height: usize,
        columns: &[&[S]],
        of: impl Fn(&[S], usize) -> T,
    ) -> Result<Tensor, String> {
        let elements = (0..height).flat_map(|row| columns.iter().map(move |column| (column, row)));
        let elements: Vec<T> = elements.map(|(column, row)| of(column, row)).collect();
        Tensor::new([height, self.n], elements).map_err(|e| e.to_string())
    }
}

fn rows_of<'a, T>(stored: &'a [T], row: usize, rows: usize, what: &str) -> Result<Vec<&'a [T]>, String> {
    if row == 0 || Some(stored.len()) != row.checked_mul(rows) {
        return Err(format!("has {} {what}, not {rows} rows of {row}", stored.len()));
    }
    Ok(stored.chunks_exact(row).collect())
}

/// The tensors of a node as constants that a `DequantizeLinear` along the first axis and a `MatMul` read, made when
/// someone asks for them.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) shape: Shape,
    pub(crate) document: Arc<dyn ConstantSource>,
    /// Keys of codes, scales and zero points in the document.
    pub(crate) codes: u32,
    pub(crate) scales: u32,
    pub(crate) zero_points: Option<u32>,
}

/// Keys of the constants of [`Unpacked`].
pub(crate) const UNPACKED_CODES: u32 = 0;
pub(crate) const UNPACKED_SCALES: u32 = 1;
pub(crate) const UNPACKED_ZERO_POINTS: u32 = 2;

impl ConstantSource for Unpacked {
    fn read(&self, key: u32) -> Result<Tensor, String> {
        let read = |key: u32| self.document.read(key);
        let bytes = |tensor: &Tensor| tensor.as_slice::<u8>().map(<[u8]>::to_vec).map_err(|e| e.to_string());
        match key {
            UNPACKED_CODES => self.shape.unpacked_codes(&bytes(&read(self.codes)?)?),
            UNPACKED_SCALES => {
                let stored = read(self.scales)?;
                self.shape.unpacked_scales(stored.as_slice().map_err(|e| e.to_string())?)
            }
            _ => {
                let stored = self.zero_points.map(|key| bytes(&read(key)?)).transpose()?;
                self.shape.unpacked_zero_points(stored.as_deref())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use quantize_ir::{Blocks, QuantType};

    /// Tensors by their keys.
    #[derive(Debug)]
    struct Tensors(Vec<Tensor>);

    impl ConstantSource for Tensors {
        fn read(&self, key: u32) -> Result<Tensor, String> {
            self.0.get(key as usize).cloned().ok_or_else(|| "no such tensor".into())
        }
    }

    fn unpacked(shape: Shape, packed: &Packed, zero_points: bool) -> [Tensor; 3] {
        let tensors = vec![packed.codes.clone(), packed.scales.clone(), packed.zero_points.clone()];
        let document = Arc::new(Tensors(tensors));
        let source = Unpacked { shape, document, codes: 0, scales: 1, zero_points: zero_points.then_some(2) };
        [UNPACKED_CODES, UNPACKED_SCALES, UNPACKED_ZERO_POINTS].map(|key| source.read(key).unwrap())
    }

    fn params(shape: Shape) -> QuantParams {
        let count = shape.blocks() * shape.n;
        let blocks = Blocks { axis: 0, size: shape.block };
        let scale = (0..count).map(|i| 0.5 + i as f32).collect();
        let zero_point = (0..count).map(|i| (i * 7 % 16) as i32).collect();
        QuantParams::blocked(QuantType::U4, blocks, scale, zero_point).unwrap()
    }

    #[test]
    fn a_short_block_is_filled_with_its_zero_point() {
        let shape = Shape::new(18, 1, 16, 4).unwrap();
        let codes: Vec<u8> = (0..18).map(|k| (k % 16) as u8).collect();
        let packed = shape.pack(&codes, &params(shape), |k, _| k, |block, _| block).unwrap();
        let expected =
            [0x10u8, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 0x10, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77];
        assert_eq!(packed.codes, Tensor::new([1, 2, 8], expected.to_vec()).unwrap());
        assert_eq!(packed.zero_points, Tensor::new([1, 1], vec![0x70u8]).unwrap());
        assert_eq!(packed.scales, Tensor::new([1, 2], vec![0.5f32, 1.5]).unwrap());
    }

    #[test]
    fn an_odd_number_of_zero_points_ends_a_byte_early() {
        let shape = Shape::new(40, 2, 16, 4).unwrap();
        let packed = shape.pack(&[1; 80], &params(shape), |k, n| k * 2 + n, |block, n| block * 2 + n).unwrap();
        // Columns have the blocks 0, 2, 4 and 1, 3, 5, whose zero points are 0, 14, 12 and 7, 5, 3.
        assert_eq!(packed.zero_points, Tensor::new([2, 2], vec![0xe0u8, 0x0c, 0x57, 0x03]).unwrap());
    }

    #[test]
    fn without_zero_points_the_middle_code_is_zero() {
        for (bits, middle) in [(4, 8u8), (8, 128)] {
            let shape = Shape::new(16, 1, 16, bits).unwrap();
            let packed = shape.pack(&[3; 16], &params(shape), |k, _| k, |block, _| block).unwrap();
            assert_eq!(unpacked(shape, &packed, false)[2], Tensor::new([1, 1], vec![middle]).unwrap());
        }
    }

    #[test]
    fn sizes_that_the_operator_has_not_are_refused() {
        for (k, n, block, bits) in [(0, 1, 32, 4), (1, 0, 32, 4), (1, 1, 24, 4), (1, 1, 8, 4), (1, 1, 32, 3)] {
            assert_eq!(Shape::new(k, n, block, bits), None, "{k} {n} {block} {bits}");
        }
        assert_eq!(Shape::new(usize::MAX - 1, 2, 32, 4), None);
        let shape = Shape::new(16, 2, 16, 4).unwrap();
        assert!(shape.unpacked_codes(&[0; 15]).is_err() && shape.unpacked_scales(&[1.0]).is_err());
        assert!(shape.unpacked_zero_points(Some(&[1])).is_err());
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(
            k in 1usize..80, n in 1usize..5, block in prop::sample::select(vec![16usize, 32, 64]),
            wide in any::<bool>(), seed in any::<u8>(),
        ) {
            let shape = Shape::new(k, n, block, if wide { 8 } else { 4 }).unwrap();
            let mask = if wide { 255 } else { 15 };
            let codes: Vec<u8> = (0..k * n).map(|i| (i as u8).wrapping_mul(29).wrapping_add(seed) & mask).collect();
            let params = params(shape);
            let packed = shape.pack(&codes, &params, |k, c| k * n + c, |block, c| block * n + c).unwrap();
            let [found, scales, zeros] = unpacked(shape, &packed, true);
            prop_assert_eq!(found.as_slice::<u8>().unwrap(), codes);
            prop_assert_eq!(scales.as_slice::<f32>().unwrap(), params.scale());
            let zeros: Vec<i32> = zeros.as_slice::<u8>().unwrap().iter().map(|z| i32::from(*z)).collect();
            prop_assert_eq!(zeros, params.zero_point());
        }
    }
}
