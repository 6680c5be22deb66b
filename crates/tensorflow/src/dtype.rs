//! Element types of the format.

use crate::schema::DATA_TYPES;
use quantize_ir::DType;
use std::fmt;

/// What a reference type has its number increased by.
const REFERENCE: i32 = 100;

/// An element type, by its number in the format; numbers that are not known are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataType(pub i32);

impl DataType {
    /// No type.
    pub const INVALID: Self = Self(0);
    /// Single precision.
    pub const FLOAT: Self = Self(1);
    /// Double precision.
    pub const DOUBLE: Self = Self(2);
    /// Signed integers of 32 bits.
    pub const INT32: Self = Self(3);
    /// Unsigned integers of 8 bits.
    pub const UINT8: Self = Self(4);
    /// Signed integers of 16 bits.
    pub const INT16: Self = Self(5);
    /// Signed integers of 8 bits.
    pub const INT8: Self = Self(6);
    /// Strings of bytes.
    pub const STRING: Self = Self(7);
    /// Complex numbers of two singles.
    pub const COMPLEX64: Self = Self(8);
    /// Signed integers of 64 bits.
    pub const INT64: Self = Self(9);
    /// Truth values.
    pub const BOOL: Self = Self(10);
    /// Codes: signed, 8 bits.
    pub const QINT8: Self = Self(11);
    /// Codes: unsigned, 8 bits.
    pub const QUINT8: Self = Self(12);
    /// Codes: signed, 32 bits.
    pub const QINT32: Self = Self(13);
    /// The upper half of single precision.
    pub const BFLOAT16: Self = Self(14);
    /// Codes: signed, 16 bits.
    pub const QINT16: Self = Self(15);
    /// Codes: unsigned, 16 bits.
    pub const QUINT16: Self = Self(16);
    /// Unsigned integers of 16 bits.
    pub const UINT16: Self = Self(17);
    /// Complex numbers of two doubles.
    pub const COMPLEX128: Self = Self(18);
    /// Half precision.
    pub const HALF: Self = Self(19);
    /// Handles of resources.
    pub const RESOURCE: Self = Self(20);
    /// Anything.
    pub const VARIANT: Self = Self(21);
    /// Unsigned integers of 32 bits.
    pub const UINT32: Self = Self(22);
    /// Unsigned integers of 64 bits.
    pub const UINT64: Self = Self(23);

    /// The type that a reference type refers to; any other is itself.
    #[must_use]
    pub fn base(self) -> Self {
        if self.0 > REFERENCE { Self(self.0 - REFERENCE) } else { self }
    }

    /// The type of this name: `float`, `DT_FLOAT` and `FLOAT` are the same.
    pub fn named(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("DT_").unwrap_or(&upper);
        let known = DATA_TYPES.iter().find(|(_, known)| known.strip_prefix("DT_") == Some(bare));
        known.map(|(number, _)| Self(*number))
    }

    /// Bytes of one element, if all have the same number.
    pub fn size(self) -> Option<usize> {
        Some(match self.base() {
            Self::UINT8 | Self::INT8 | Self::BOOL | Self::QINT8 | Self::QUINT8 => 1,
            Self::INT16 | Self::UINT16 | Self::QINT16 | Self::QUINT16 | Self::HALF | Self::BFLOAT16 => 2,
            Self::FLOAT | Self::INT32 | Self::QINT32 | Self::UINT32 => 4,
            Self::DOUBLE | Self::INT64 | Self::UINT64 | Self::COMPLEX64 => 8,
            Self::COMPLEX128 => 16,
            _ => return None,
        })
    }

    /// The type of the numbers in memory; codes are the integers that they are stored as, and halves are read as
    /// singles.
    pub fn elements(self) -> Option<DType> {
        Some(match self.base() {
            Self::FLOAT | Self::HALF | Self::BFLOAT16 => DType::F32,
            Self::DOUBLE => DType::F64,
            Self::INT8 | Self::QINT8 => DType::I8,
            Self::UINT8 | Self::QUINT8 => DType::U8,
            Self::INT16 | Self::QINT16 => DType::I16,
            Self::UINT16 | Self::QUINT16 => DType::U16,
            Self::INT32 | Self::QINT32 => DType::I32,
            Self::UINT32 => DType::U32,
            Self::INT64 => DType::I64,
            Self::UINT64 => DType::U64,
            Self::BOOL => DType::Bool,
            _ => return None,
        })
    }

    /// The type that numbers of this type are written as.
    pub fn of_elements(elements: DType) -> Self {
        match elements {
            DType::F32 => Self::FLOAT,
            DType::F64 => Self::DOUBLE,
            DType::F16 => Self::HALF,
            DType::BF16 => Self::BFLOAT16,
            DType::I8 => Self::INT8,
            DType::U8 => Self::UINT8,
            DType::I16 => Self::INT16,
            DType::U16 => Self::UINT16,
            DType::I32 => Self::INT32,
            DType::U32 => Self::UINT32,
            DType::I64 => Self::INT64,
            DType::U64 => Self::UINT64,
            DType::Bool => Self::BOOL,
        }
    }
}

/// The name in lower case, e.g. `float`, `quint8` or `float_ref`; a number that is not known as `type 99`.
impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DATA_TYPES.iter().find(|(number, _)| *number == self.0) {
            Some((0, _)) => f.write_str("INVALID"),
            Some((_, name)) => f.write_str(&name.trim_start_matches("DT_").to_ascii_lowercase()),
            None => write!(f, "type {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_in_every_spelling() {
        for name in ["float", "DT_FLOAT", "Float", "dt_float"] {
            assert_eq!(DataType::named(name), Some(DataType::FLOAT), "{name}");
        }
        assert_eq!(DataType::named("float_ref"), Some(DataType(101)));
        assert_eq!(DataType::named("floot"), None);
    }

    #[test]
    fn every_known_type_reads_its_own_name() {
        for (number, _) in DATA_TYPES {
            assert_eq!(DataType::named(&DataType(*number).to_string()), Some(DataType(*number)));
        }
        assert_eq!(DataType(99).to_string(), "type 99");
    }

    #[test]
    fn a_reference_refers_to_its_base() {
        assert_eq!(DataType(101).base(), DataType::FLOAT);
        assert_eq!(DataType::HALF.base(), DataType::HALF);
        assert_eq!(DataType(112).size(), Some(1));
    }
}
