//! The ways of making a model input that a run can choose from, behind one type.
//!
//! Each way lives in a module of its own; this one only tells them apart.

use std::fmt;

use crate::error::CalibError;
use crate::images::RawSample;
use crate::preprocess::{Preprocess, Sample};
use crate::transformer::Transformer;

/// How the samples of a data set become model inputs.
#[derive(Debug, Clone, PartialEq)]
pub enum Preparation {
    /// As Pillow resizes and torchvision crops; images only.
    Pillow(Preprocess),
    /// As Caffe's Python tools do; images and arrays.
    Caffe(Transformer),
}

impl Preparation {
    /// Checks what does not depend on a sample.
    ///
    /// # Errors
    /// As [`Preprocess::validate`] or [`Transformer::validate`].
    pub fn validate(&self) -> Result<(), CalibError> {
        match self {
            Self::Pillow(preprocess) => preprocess.validate(),
            Self::Caffe(transformer) => transformer.validate(),
        }
    }

    /// Makes the model input of one sample.
    ///
    /// # Errors
    /// As [`Preprocess::apply`], with [`CalibError::NotAnImage`] for an array, or [`Transformer::apply`].
    pub fn apply(&self, sample: &RawSample) -> Result<Sample, CalibError> {
        match self {
            Self::Pillow(preprocess) => preprocess.apply(sample.image()?),
            Self::Caffe(transformer) => transformer.apply(sample),
        }
    }

    /// Smallest and largest value any image can produce.
    ///
    /// # Errors
    /// As [`Preprocess::possible_range`] or [`Transformer::possible_range`].
    pub fn possible_range(&self) -> Result<(f32, f32), CalibError> {
        match self {
            Self::Pillow(preprocess) => preprocess.possible_range(),
            Self::Caffe(transformer) => transformer.possible_range(),
        }
    }
}

impl From<Preprocess> for Preparation {
    fn from(preprocess: Preprocess) -> Self {
        Self::Pillow(preprocess)
    }
}

impl From<Transformer> for Preparation {
    fn from(transformer: Transformer) -> Self {
        Self::Caffe(transformer)
    }
}

impl fmt::Display for Preparation {
    /// One line that names every step, for summaries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pillow(preprocess) => preprocess.fmt(f),
            Self::Caffe(transformer) => transformer.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Array, DecodedImage, Size};

    fn image() -> RawSample {
        RawSample::Image(DecodedImage::from_rgb("x.png", Size::square(1), vec![10, 20, 30]).unwrap())
    }

    #[test]
    fn both_ways_are_used_alike() {
        let size = Size::square(1);
        let pillow = Preparation::from(Preprocess::default());
        let caffe = Preparation::from(Transformer::new(3, size));
        assert_eq!(pillow.apply(&image()).unwrap().data, [10.0, 20.0, 30.0]);
        assert_eq!(caffe.apply(&image()).unwrap().data, [30.0 - 104.0, 20.0 - 117.0, 10.0 - 123.0]);
        assert_eq!(pillow.possible_range().unwrap(), (0.0, 255.0));
        assert_eq!(caffe.possible_range().unwrap(), (-123.0, 151.0));
        assert_eq!(pillow.to_string(), Preprocess::default().to_string());
        assert_eq!(caffe.to_string(), Transformer::new(3, size).to_string());
        assert!(pillow.validate().is_ok() && caffe.validate().is_ok());
    }

    #[test]
    fn only_one_of_them_takes_arrays() {
        let array = RawSample::Array(Array::new("x.npy", vec![1, 1, 3], vec![0.0, 1.0, 0.5]).unwrap());
        let error = Preparation::from(Preprocess::default()).apply(&array).unwrap_err();
        assert_eq!(error.to_string(), "x.npy is an array, an image is needed");
        assert!(Preparation::from(Transformer::new(3, Size::square(1))).apply(&array).is_ok());
    }
}
