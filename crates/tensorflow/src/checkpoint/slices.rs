//! Variables that are stored in parts: what part of the whole one is, the key it has in a table, and the whole put
//! together.

use crate::wire::Reader;
use bytes::Bytes;
use quantize_document::WireError;

// Fields of `TensorSliceProto` and its extents.
const EXTENT: u32 = 1;
const START: u32 = 1;
const LENGTH: u32 = 2;

/// A part of a variable: along each axis the first element and their number, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slice(Vec<Extent>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    start: i64,
    length: Option<i64>,
}

impl Slice {
    /// Decodes a `TensorSliceProto`.
    pub(super) fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let extent = |bytes: Bytes| -> Result<Extent, WireError> {
            let message = Reader::new(&bytes)?;
            let number = |field| message.varint(field).map(|number| number as i64);
            Ok(Extent { start: number(START).unwrap_or(0), length: number(LENGTH) })
        };
        Ok(Self(Reader::new(bytes)?.each(EXTENT).map(extent).collect::<Result<_, _>>()?))
    }

    /// First element and number of elements along each axis of a variable of shape `shape`.
    pub(super) fn ranges(&self, shape: &[usize]) -> Result<Vec<(usize, usize)>, String> {
        let error = || format!("a part of it is no part of its shape {shape:?}");
        if self.0.is_empty() {
            return Ok(shape.iter().map(|length| (0, *length)).collect());
        }
        if self.0.len() != shape.len() {
            return Err(error());
        }
        let range = |(extent, axis): (&Extent, &usize)| {
            let Some(length) = extent.length else { return Some((0, *axis)) };
            let (start, length) = (usize::try_from(extent.start).ok()?, usize::try_from(length).ok()?);
            (start.checked_add(length)? <= *axis).then_some((start, length))
        };
        self.0.iter().zip(shape).map(range).collect::<Option<_>>().ok_or_else(error)
    }

    /// The key under which a part of the variable `name` stands: numbers and texts whose order as bytes is their own
    /// (TensorFlow's ordered code).
    pub(super) fn key(&self, name: &str) -> Vec<u8> {
        let mut key = vec![0];
        for byte in name.bytes() {
            match byte {
                0x00 => key.extend_from_slice(&[0x00, 0xff]),
                0xff => key.extend_from_slice(&[0xff, 0x00]),
                _ => key.push(byte),
            }
        }
        key.extend_from_slice(&[0x00, 0x01]);
        unsigned(&mut key, self.0.len() as u64);
        for extent in &self.0 {
            signed(&mut key, if extent.length.is_some() { extent.start } else { 0 });
            signed(&mut key, extent.length.unwrap_or(-1));
        }
        key
    }
}

/// The number of bytes, then those bytes, the highest first.
fn unsigned(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_be_bytes();
    let used = bytes.iter().position(|byte| *byte != 0).map_or(&[][..], |first| bytes.get(first..).unwrap_or_default());
    out.push(used.len() as u8);
    out.extend_from_slice(used);
}

/// Two's complement in as many bytes as needed, the highest first; as many bits as bytes are flipped in front, so that
/// longer numbers sort outside shorter ones.
fn signed(out: &mut Vec<u8>, value: i64) {
    let magnitude = if value < 0 { !value } else { value } as u64;
    let bits = 64 - magnitude.leading_zeros() as usize;
    let length = bits / 7 + 1;
    let flipped = !0u128 << (128 - length) >> (128 - 8 * length);
    let pattern = (i128::from(value) as u128) ^ flipped;
    let bytes = pattern.to_be_bytes();
    out.extend_from_slice(bytes.get(bytes.len() - length..).unwrap_or_default());
}

/// A variable that is put together from parts.
#[derive(Debug)]
pub(super) struct Whole {
    shape: Vec<usize>,
    size: usize,
    bytes: Vec<u8>,
    filled: usize,
}

impl Whole {
    /// A variable of `shape` with elements of `size` bytes each; `available` is the number of bytes that all parts have.
    pub(super) fn new(shape: &[usize], size: usize, available: usize) -> Result<Self, String> {
        let count = quantize_ir::tensor::element_count(shape).map_err(|error| error.to_string())?;
        let length = count.checked_mul(size).filter(|length| *length <= available);
        let length = length.ok_or_else(|| format!("its parts have fewer bytes than its shape {shape:?}"))?;
        Ok(Self { shape: shape.to_vec(), size, bytes: vec![0; length], filled: 0 })
    }

    /// Puts a part in its place. Parts that overlap, or that leave gaps, are found by their number of elements.
    pub(super) fn put(&mut self, slice: &Slice, part: &[u8]) -> Result<(), String> {
        let ranges = slice.ranges(&self.shape)?;
        let lengths: Vec<usize> = ranges.iter().map(|(_, length)| *length).collect();
        let count = quantize_ir::tensor::element_count(&lengths).map_err(|error| error.to_string())?;
        if count.checked_mul(self.size) != Some(part.len()) {
            return Err(format!("a part of it has {} bytes, not what {lengths:?} elements need", part.len()));
        }
        let (inner, outer) = match ranges.split_last() {
            Some((last, outer)) => (*last, outer),
            None => ((0, 1), &[][..]),
        };
        let run = inner.1 * self.size;
        if run == 0 {
            return Ok(());
        }
        for (index, row) in part.chunks_exact(run).enumerate() {
            let start = (self.row(outer, index) * self.shape.last().copied().unwrap_or(1) + inner.0) * self.size;
            let place = self.bytes.get_mut(start..start + run).ok_or("a part of it is outside")?;
            place.copy_from_slice(row);
        }
        self.filled += part.len();
        Ok(())
    }

    /// Position among all rows of the variable of row `index` of a part with these outer ranges.
    fn row(&self, outer: &[(usize, usize)], mut index: usize) -> usize {
        let (mut row, mut stride) = (0, 1);
        for ((start, length), axis) in outer.iter().zip(&self.shape).rev() {
            row += (start + index % length) * stride;
            index /= length;
            stride *= axis;
        }
        row
    }

    /// The elements, if all parts were there.
    pub(super) fn finish(self) -> Result<Vec<u8>, String> {
        if self.filled == self.bytes.len() { Ok(self.bytes) } else { Err("parts of it are missing".into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(extents: &[(i64, Option<i64>)]) -> Slice {
        Slice(extents.iter().map(|(start, length)| Extent { start: *start, length: *length }).collect())
    }

    #[test]
    fn keys_are_those_of_published_files() {
        // From a checkpoint of version 1: a whole matrix `layer/w`.
        let whole = part(&[(0, None), (0, None)]);
        assert_eq!(whole.key("layer/w"), b"\x00layer/w\x00\x01\x01\x02\x80\x7f\x80\x7f");
        assert_eq!(Slice::default().key("s"), b"\x00s\x00\x01\x00");
    }

    #[test]
    fn numbers_take_more_bytes_as_they_grow() {
        let code = |value| {
            let mut out = Vec::new();
            signed(&mut out, value);
            out
        };
        let cases: [(i64, &[u8]); 8] = [
            (0, &[0x80]),
            (-1, &[0x7f]),
            (63, &[0xbf]),
            (64, &[0xc0, 0x40]),
            (100, &[0xc0, 0x64]),
            (-65, &[0x3f, 0xbf]),
            (8191, &[0xdf, 0xff]),
            (8192, &[0xe0, 0x20, 0x00]),
        ];
        for (value, expected) in cases {
            assert_eq!(code(value), expected, "{value}");
        }
        assert_eq!(code(i64::MAX).len(), 10);
    }

    proptest! {
        #[test]
        fn the_order_of_keys_is_that_of_numbers(a: i64, b: i64, shift_a in 0u32..64, shift_b in 0u32..64) {
            let (a, b) = (a >> shift_a, b >> shift_b);
            let code = |value| {
                let mut out = Vec::new();
                signed(&mut out, value);
                out
            };
            prop_assert_eq!(code(a).cmp(&code(b)), a.cmp(&b));
        }
    }

    #[test]
    fn parts_make_the_whole() {
        // Two columns of three, then the third.
        let mut whole = Whole::new(&[2, 3], 1, 6).unwrap();
        whole.put(&part(&[(0, None), (0, Some(2))]), &[1, 2, 4, 5]).unwrap();
        whole.put(&part(&[(0, Some(2)), (2, Some(1))]), &[3, 6]).unwrap();
        assert_eq!(whole.finish().unwrap(), [1, 2, 3, 4, 5, 6]);

        let mut scalar = Whole::new(&[], 4, 4).unwrap();
        scalar.put(&Slice::default(), &[1, 2, 3, 4]).unwrap();
        assert_eq!(scalar.finish().unwrap(), [1, 2, 3, 4]);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let mut whole = Whole::new(&[2, 3], 1, 6).unwrap();
        assert!(whole.put(&part(&[(0, None), (2, Some(2))]), &[0; 4]).unwrap_err().contains("no part"));
        assert!(whole.put(&part(&[(-1, Some(1)), (0, None)]), &[0; 3]).unwrap_err().contains("no part"));
        assert!(whole.put(&part(&[(0, None)]), &[0; 2]).unwrap_err().contains("no part"));
        assert!(whole.put(&part(&[(0, Some(1)), (0, None)]), &[0; 2]).unwrap_err().contains("2 bytes"));
        assert!(whole.finish().unwrap_err().contains("missing"));
        assert!(Whole::new(&[1 << 40], 4, 100).is_err());
    }
}
