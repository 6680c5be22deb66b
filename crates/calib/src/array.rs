//! Arrays whose numbers are taken for real ones, whatever their type in the file: samples and means of Caffe networks.
//!
//! What the axes mean and which shapes fit is decided by whoever uses an [`Array`].

use quantize_ir::TensorData;

use crate::decode::Limits;
use crate::error::CalibError;
use crate::npy;

/// A dense array of numbers in memory, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    name: String,
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Array {
    /// Wraps values that are in memory already, in row-major order; `name` serves messages.
    ///
    /// # Errors
    /// [`CalibError::Array`] if the number of values is not the product of the shape.
    pub fn new(name: impl Into<String>, shape: Vec<usize>, data: Vec<f64>) -> Result<Self, CalibError> {
        let name = name.into();
        if quantize_ir::tensor::element_count(&shape) != Ok(data.len()) {
            let cause = format!("{} values do not have the shape {shape:?}", data.len());
            return Err(CalibError::Array { name, cause });
        }
        Ok(Self { name, shape, data })
    }

    /// Reads the content of a `.npy` file of little-endian numbers of any type; those of 64-bit integers that `float64`
    /// cannot hold are rounded.
    ///
    /// # Errors
    /// [`CalibError::Array`]: damaged or cut short, not of numbers, trailing bytes, or more numbers than `limits` allow
    /// pixels. Nothing is allocated before the header agrees with the length of the content.
    pub fn parse(name: impl Into<String>, bytes: &[u8], limits: Limits) -> Result<Self, CalibError> {
        let name = name.into();
        match npy::decode(bytes, limits) {
            Ok(tensor) => Ok(Self { name, shape: tensor.shape().to_vec(), data: real(tensor.into_data()) }),
            Err(cause) => Err(CalibError::Array { name, cause }),
        }
    }

    /// What messages call it: its path if it was read from a file, else the name given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lengths of the axes.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, the last axis fastest.
    #[must_use]
    pub fn data(&self) -> &[f64] {
        &self.data
    }

    /// Gives the values away.
    pub(crate) fn into_data(self) -> Vec<f64> {
        self.data
    }

    /// An error about this array.
    pub(crate) fn refuse(&self, cause: String) -> CalibError {
        CalibError::Array { name: self.name.clone(), cause }
    }
}

fn real(data: TensorData) -> Vec<f64> {
    fn each<T: Into<f64>>(values: Vec<T>) -> Vec<f64> {
        values.into_iter().map(Into::into).collect()
    }
    match data {
        TensorData::F64(values) => values,
        TensorData::F32(values) => each(values),
        TensorData::I8(values) => each(values),
        TensorData::U8(values) => each(values),
        TensorData::I16(values) => each(values),
        TensorData::U16(values) => each(values),
        TensorData::I32(values) => each(values),
        TensorData::U32(values) => each(values),
        TensorData::I64(values) => values.into_iter().map(|value| value as f64).collect(),
        TensorData::U64(values) => values.into_iter().map(|value| value as f64).collect(),
        TensorData::Bool(values) => values.into_iter().map(|value| f64::from(u8::from(value))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_must_fit_their_shape() {
        assert_eq!(Array::new("a", vec![2, 3], vec![1.0; 6]).unwrap().into_data(), [1.0; 6]);
        for shape in [vec![2, 2], vec![], vec![usize::MAX, 2]] {
            assert!(matches!(Array::new("a", shape, vec![1.0; 6]), Err(CalibError::Array { .. })));
        }
    }

    #[test]
    fn every_type_of_number_is_real() {
        let integers = [
            TensorData::I8(vec![1, 0]),
            TensorData::U8(vec![1, 0]),
            TensorData::I16(vec![1, 0]),
            TensorData::U16(vec![1, 0]),
            TensorData::I32(vec![1, 0]),
            TensorData::U32(vec![1, 0]),
            TensorData::I64(vec![1, 0]),
            TensorData::U64(vec![1, 0]),
            TensorData::Bool(vec![true, false]),
        ];
        for data in integers {
            assert_eq!(real(data), [1.0, 0.0]);
        }
        assert_eq!(real(TensorData::F32(vec![0.5])), [0.5]);
        assert_eq!(real(TensorData::F64(vec![0.1])), [0.1]);
    }

    #[test]
    fn a_file_that_is_no_array_is_refused_by_its_name() {
        let error = Array::parse("a.npy", b"0.1,0.2", Limits::default()).unwrap_err();
        assert_eq!(error.to_string(), "cannot use array a.npy: it does not begin like a .npy file");
        assert!(error.hint().is_some());
    }
}
