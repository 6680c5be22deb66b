//! Dense row-major tensors: what executors compute and constants hold.

use crate::dtype::DType;
use std::fmt;
use std::ops::Range;

/// Why a tensor could not be built or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The number of elements and the shape disagree.
    #[error("shape {shape:?} does not hold {len} elements")]
    Length {
        /// The claimed shape.
        shape: Vec<usize>,
        /// Elements given.
        len: usize,
    },
    /// The product of the dimensions does not fit the machine.
    #[error("shape {shape:?} has too many elements")]
    Overflow {
        /// The claimed shape.
        shape: Vec<usize>,
    },
    /// Another element type was needed.
    #[error("expected {expected} elements, found {found}")]
    DType {
        /// What the caller needs.
        expected: DType,
        /// What the tensor holds.
        found: DType,
    },
}

/// Number of elements of `shape`. Dimensions beside an empty one are checked as if it were 1, so that the product of
/// any of them fits too.
///
/// # Errors
/// If the product does not fit `usize`.
pub fn element_count(shape: &[usize]) -> Result<usize, TensorError> {
    let largest = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)));
    let count = largest.ok_or_else(|| TensorError::Overflow { shape: shape.to_vec() })?;
    Ok(if shape.contains(&0) { 0 } else { count })
}

/// The elements of a tensor, by type. Half-precision types are read as `F32` by the front-ends.
#[derive(Clone, PartialEq)]
pub enum TensorData {
    /// `float32`
    F32(Vec<f32>),
    /// `float64`
    F64(Vec<f64>),
    /// `int8`
    I8(Vec<i8>),
    /// `uint8`
    U8(Vec<u8>),
    /// `int16`
    I16(Vec<i16>),
    /// `uint16`
    U16(Vec<u16>),
    /// `int32`
    I32(Vec<i32>),
    /// `uint32`
    U32(Vec<u32>),
    /// `int64`
    I64(Vec<i64>),
    /// `uint64`
    U64(Vec<u64>),
    /// `bool`
    Bool(Vec<bool>),
}

/// A Rust type that can be the element of a [`Tensor`].
pub trait Element: Copy + Send + Sync + 'static {
    /// The matching element type.
    const DTYPE: DType;
    /// Wraps a vector of this type.
    fn wrap(data: Vec<Self>) -> TensorData;
    /// The elements, if they are of this type.
    fn slice(data: &TensorData) -> Option<&[Self]>;
    /// The elements, mutable, if they are of this type.
    fn slice_mut(data: &mut TensorData) -> Option<&mut [Self]>;
    /// The vector itself, if its elements are of this type.
    fn take(data: TensorData) -> Option<Vec<Self>>;
}

macro_rules! elements {
    ($($ty:ty => $variant:ident),* $(,)?) => {
        $(impl Element for $ty {
            const DTYPE: DType = DType::$variant;
            fn wrap(data: Vec<Self>) -> TensorData {
                TensorData::$variant(data)
            }
            fn slice(data: &TensorData) -> Option<&[Self]> {
                if let TensorData::$variant(v) = data { Some(v) } else { None }
            }
            fn slice_mut(data: &mut TensorData) -> Option<&mut [Self]> {
                if let TensorData::$variant(v) = data { Some(v) } else { None }
            }
            fn take(data: TensorData) -> Option<Vec<Self>> {
                if let TensorData::$variant(v) = data { Some(v) } else { None }
            }
        })*

        impl TensorData {
            /// Number of elements.
            pub fn len(&self) -> usize {
                match self { $(Self::$variant(v) => v.len()),* }
            }
            /// The element type.
            pub fn dtype(&self) -> DType {
                match self { $(Self::$variant(_) => DType::$variant),* }
            }
            /// The elements at these positions; `None` if there are fewer.
            pub fn part(&self, positions: Range<usize>) -> Option<Self> {
                match self { $(Self::$variant(v) => Some(Self::$variant(v.get(positions)?.to_vec()))),* }
            }
            /// Adds the elements of `other`.
            ///
            /// # Errors
            /// If they are of another type.
            pub fn append(&mut self, other: &Self) -> Result<(), TensorError> {
                match (self, other) {
                    $((Self::$variant(v), Self::$variant(other)) => v.extend_from_slice(other),)*
                    (v, other) => {
                        return Err(TensorError::DType { expected: v.dtype(), found: other.dtype() });
                    }
                }
                Ok(())
            }
        }
    };
}

elements! {
    f32 => F32, f64 => F64, i8 => I8, u8 => U8, i16 => I16, u16 => U16,
    i32 => I32, u32 => U32, i64 => I64, u64 => U64, bool => Bool,
}

impl TensorData {
    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A dense tensor, row-major, of any rank (rank 0 is a scalar with one element).
#[derive(Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: TensorData,
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype(), self.shape)
    }
}

impl Tensor {
    /// A tensor of `shape` holding `data`.
    ///
    /// # Errors
    /// If the shape's element count overflows or differs from `data.len()`.
    pub fn new<T: Element>(shape: impl Into<Vec<usize>>, data: Vec<T>) -> Result<Self, TensorError> {
        Self::from_data(shape, T::wrap(data))
    }

    /// Like [`Tensor::new`], for data whose type is known only at run time.
    ///
    /// # Errors
    /// If the shape's element count overflows or differs from the number of elements.
    pub fn from_data(shape: impl Into<Vec<usize>>, data: TensorData) -> Result<Self, TensorError> {
        let shape = shape.into();
        if element_count(&shape)? == data.len() {
            Ok(Self { shape, data })
        } else {
            Err(TensorError::Length { len: data.len(), shape })
        }
    }

    /// A scalar (rank 0).
    pub fn scalar<T: Element>(value: T) -> Self {
        Self { shape: Vec::new(), data: T::wrap(vec![value]) }
    }

    /// A vector (rank 1).
    pub fn vector<T: Element>(data: Vec<T>) -> Self {
        Self { shape: vec![data.len()], data: T::wrap(data) }
    }

    /// The dimensions; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// The elements, by type.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The elements by value.
    pub fn into_data(self) -> TensorData {
        self.data
    }

    /// The elements as a slice of `T`.
    ///
    /// # Errors
    /// If the tensor holds another type.
    pub fn as_slice<T: Element>(&self) -> Result<&[T], TensorError> {
        T::slice(&self.data).ok_or(TensorError::DType { expected: T::DTYPE, found: self.dtype() })
    }

    /// The elements as a mutable slice of `T`.
    ///
    /// # Errors
    /// If the tensor holds another type.
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T], TensorError> {
        let found = self.dtype();
        T::slice_mut(&mut self.data).ok_or(TensorError::DType { expected: T::DTYPE, found })
    }

    /// The elements as an owned vector of `T`.
    ///
    /// # Errors
    /// If the tensor holds another type.
    pub fn into_vec<T: Element>(self) -> Result<Vec<T>, TensorError> {
        let found = self.dtype();
        T::take(self.data).ok_or(TensorError::DType { expected: T::DTYPE, found })
    }

    /// The part of the first axis at these positions.
    ///
    /// # Errors
    /// If there is no such part.
    pub fn rows(&self, rows: Range<usize>) -> Result<Self, TensorError> {
        let wrong = || TensorError::Length { shape: self.shape.clone(), len: rows.end };
        let (count, row) = self.shape.split_first().ok_or_else(wrong)?;
        if rows.start > rows.end || rows.end > *count {
            return Err(wrong());
        }
        let size: usize = row.iter().product();
        let shape: Vec<usize> = std::iter::once(rows.len()).chain(row.iter().copied()).collect();
        Self::from_data(shape, self.data.part(rows.start * size..rows.end * size).ok_or_else(wrong)?)
    }

    /// Adds the rows of `other` behind those of this tensor, along the first axis.
    ///
    /// # Errors
    /// If the types or the shapes of a row differ.
    pub fn append_rows(&mut self, other: &Self) -> Result<(), TensorError> {
        let wrong = || TensorError::Length { shape: self.shape.clone(), len: other.len() };
        let ([count, row @ ..], [more, other_row @ ..]) = (self.shape.as_slice(), other.shape.as_slice()) else {
            return Err(wrong());
        };
        if row != other_row {
            return Err(wrong());
        }
        let count = count.checked_add(*more).ok_or_else(wrong)?;
        self.data.append(&other.data)?;
        if let Some(first) = self.shape.first_mut() {
            *first = count;
        }
        Ok(())
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// If the element counts differ.
    pub fn reshaped(self, shape: impl Into<Vec<usize>>) -> Result<Self, TensorError> {
        Self::from_data(shape, self.data)
    }

    /// Integer elements (`int32` or `int64`) widened to `i64`: the form shapes, axes and pads come in.
    ///
    /// # Errors
    /// If the elements are of another type.
    pub fn to_i64_vec(&self) -> Result<Vec<i64>, TensorError> {
        match &self.data {
            TensorData::I64(v) => Ok(v.clone()),
            TensorData::I32(v) => Ok(v.iter().map(|&x| i64::from(x)).collect()),
            other => Err(TensorError::DType { expected: DType::I64, found: other.dtype() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_and_length_must_agree() {
        assert!(Tensor::new(vec![2, 3], vec![0f32; 6]).is_ok());
        assert_eq!(Tensor::new(vec![2, 3], vec![0f32; 5]), Err(TensorError::Length { shape: vec![2, 3], len: 5 }));
        assert_eq!(
            Tensor::new(vec![usize::MAX, 2], vec![0f32; 1]),
            Err(TensorError::Overflow { shape: vec![usize::MAX, 2] })
        );
        assert!(element_count(&[0, usize::MAX, 2]).is_err(), "an empty axis does not excuse the others");
    }

    #[test]
    fn a_scalar_has_one_element_and_an_empty_tensor_none() {
        assert_eq!(Tensor::scalar(1i64).len(), 1);
        assert!(Tensor::new(vec![0, 4], Vec::<f32>::new()).is_ok_and(|t| t.is_empty()));
    }

    #[test]
    fn rows_are_taken_and_joined_along_the_first_axis() {
        let whole = Tensor::new([3, 2], vec![0i64, 1, 2, 3, 4, 5]).unwrap();
        let mut joined = whole.rows(0..1).unwrap();
        assert_eq!(joined, Tensor::new([1, 2], vec![0i64, 1]).unwrap());
        joined.append_rows(&whole.rows(1..3).unwrap()).unwrap();
        assert_eq!(joined, whole);
        assert!(whole.rows(2..4).is_err() && Tensor::scalar(1i64).rows(0..0).is_err());
        for other in [Tensor::vector(vec![6i64]), Tensor::new([1, 2], vec![6f32, 7.0]).unwrap(), Tensor::scalar(6i64)] {
            assert!(joined.append_rows(&other).is_err());
            assert_eq!(joined, whole, "an error changes nothing");
        }
    }

    #[test]
    fn reading_as_another_type_names_both() {
        let error = Tensor::scalar(1i64).as_slice::<f32>().unwrap_err();
        assert_eq!(error.to_string(), "expected float32 elements, found int64");
    }

    #[test]
    fn int32_shapes_widen() {
        assert_eq!(Tensor::vector(vec![1i32, -2]).to_i64_vec(), Ok(vec![1, -2]));
    }
}
