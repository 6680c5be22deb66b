//! Shapes as attributes state them: of unknown rank, or with unknown dimensions.

use crate::wire::Reader;
use bytes::Bytes;
use quantize_document::WireError;
use quantize_document::encode::{bytes_field, varint_field};
use std::fmt;

/// `TensorShapeProto.dim`
const DIM: u32 = 2;
/// `TensorShapeProto.unknown_rank`
const UNKNOWN_RANK: u32 = 3;
/// `TensorShapeProto.Dim.size`
const SIZE: u32 = 1;

/// Most dimensions of a tensor (`TensorShape::MaxDimensions`).
pub const MAX_RANK: usize = 254;

/// A shape of which parts may be unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartialShape {
    /// Not even the rank is known.
    UnknownRank,
    /// All dimensions; `None` is one that is not known.
    Known(Vec<Option<u64>>),
}

impl PartialShape {
    /// A shape of which all is known.
    pub fn full(dims: &[usize]) -> Self {
        Self::Known(dims.iter().map(|dim| Some(*dim as u64)).collect())
    }

    /// The dimensions, if all of them are known and fit the machine.
    pub fn dims(&self) -> Option<Vec<usize>> {
        match self {
            Self::UnknownRank => None,
            Self::Known(dims) => dims.iter().map(|dim| usize::try_from((*dim)?).ok()).collect(),
        }
    }

    /// Decodes a `TensorShapeProto`. Dimensions behind [`MAX_RANK`] make the rank unknown; negative ones are unknown.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let message = Reader::new(bytes)?;
        if message.varint(UNKNOWN_RANK).is_some_and(|flag| flag != 0) || message.each(DIM).count() > MAX_RANK {
            return Ok(Self::UnknownRank);
        }
        let size = |dim: Bytes| Ok(u64::try_from(Reader::new(&dim)?.varint(SIZE).unwrap_or(0) as i64).ok());
        Ok(Self::Known(message.each(DIM).map(size).collect::<Result<_, WireError>>()?))
    }

    /// The `TensorShapeProto`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::UnknownRank => varint_field(UNKNOWN_RANK, 1),
            Self::Known(dims) => dims.iter().flat_map(|dim| bytes_field(DIM, &encode_dim(*dim))).collect(),
        }
    }
}

/// Zero is the default of the field and left out.
fn encode_dim(dim: Option<u64>) -> Vec<u8> {
    match dim {
        Some(0) => Vec::new(),
        Some(size) => varint_field(SIZE, size),
        None => varint_field(SIZE, u64::MAX),
    }
}

/// `[1,224,224,3]`, with `?` for what is not known.
impl fmt::Display for PartialShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownRank => f.write_str("<unknown>"),
            Self::Known(dims) => {
                let size = |dim: &Option<u64>| dim.map_or("?".to_owned(), |dim| dim.to_string());
                write!(f, "[{}]", dims.iter().map(size).collect::<Vec<_>>().join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_read_back() {
        let shapes = [
            (PartialShape::UnknownRank, "<unknown>"),
            (PartialShape::Known(vec![]), "[]"),
            (PartialShape::Known(vec![None, Some(0), Some(300)]), "[?,0,300]"),
        ];
        for (shape, text) in shapes {
            assert_eq!(PartialShape::decode(&shape.encode().into()).as_ref(), Ok(&shape));
            assert_eq!(shape.to_string(), text);
        }
        assert_eq!(PartialShape::full(&[2, 3]).dims(), Some(vec![2, 3]));
    }
}
