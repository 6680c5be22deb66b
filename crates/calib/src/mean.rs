//! The mean that Caffe subtracts: a number for each channel, or an image from a `.npy` or `.binaryproto` file.

use std::fmt;
use std::path::Path;

use prost::Message;

use crate::array::Array;
use crate::bilinear::Grid;
use crate::decode::Limits;
use crate::error::CalibError;
use crate::listing::read_bounded;
use crate::npy;
use crate::resample::Size;

/// What is subtracted, in units of the values after the raw scale and in the order of channels after the swap.
#[derive(Debug, Clone, PartialEq)]
pub enum Mean {
    /// One number for all channels or one per channel; none at all subtracts nothing.
    Values(Vec<f64>),
    /// One number for each value of the net's input.
    Image(MeanImage),
}

/// A mean image of the size of the net's input.
#[derive(Debug, Clone, PartialEq)]
pub struct MeanImage {
    name: String,
    channels: usize,
    size: Size,
    data: Vec<f64>,
}

/// The fields of Caffe's `BlobProto` that hold an array of numbers. Field numbers: `caffe.proto`.
#[derive(Clone, PartialEq, Message)]
struct BlobProto {
    #[prost(int32, optional, tag = "1")]
    num: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    channels: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    height: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    width: Option<i32>,
    #[prost(float, repeated, tag = "5")]
    data: Vec<f32>,
    #[prost(message, optional, tag = "7")]
    shape: Option<BlobShape>,
    #[prost(double, repeated, tag = "8")]
    double_data: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct BlobShape {
    #[prost(int64, repeated, tag = "1")]
    dim: Vec<i64>,
}

impl Mean {
    /// Reads a mean file for a net input of `channels` channels and `size` pixels: a `.npy` array or a serialized
    /// `BlobProto`, told apart by content, of shape C x H x W, 1 x C x H x W, H x W for one channel, or C.
    ///
    /// An image of another size is stretched as the pictures are.
    ///
    /// # Errors
    /// [`CalibError::Io`], [`CalibError::FileTooLarge`], [`CalibError::Array`] (damaged, NaN, infinite, or of a shape
    /// that does not fit) or [`CalibError::ResizeTooLarge`].
    pub fn read(path: impl AsRef<Path>, channels: usize, size: Size, limits: Limits) -> Result<Self, CalibError> {
        let path = path.as_ref();
        let bytes = read_bounded(path, limits.max_file_bytes)?;
        Self::parse(&path.display().to_string(), &bytes, channels, size, limits)
    }

    fn parse(name: &str, bytes: &[u8], channels: usize, size: Size, limits: Limits) -> Result<Self, CalibError> {
        let array = if npy::is_npy(bytes) { Array::parse(name, bytes, limits)? } else { blob(name, bytes)? };
        if !array.data().iter().all(|value| value.is_finite()) {
            return Err(array.refuse("it holds NaN or an infinity".to_owned()));
        }
        let (found, original) = match *array.shape() {
            [found] if found == channels => return Ok(Self::Values(array.into_data())),
            [height, width] => (1, Size { width, height }),
            [found, height, width] | [1, found, height, width] => (found, Size { width, height }),
            _ => (0, Size::square(0)),
        };
        if found != channels || original.is_empty() {
            let cause = format!("a mean of shape {:?} does not fit a net of {channels} channels", array.shape());
            return Err(array.refuse(cause));
        }
        MeanImage::stretched(array, channels, original, size).map(Self::Image)
    }

    /// The number to subtract from value `at` of channel `channel`.
    pub(crate) fn at(&self, channel: usize, at: usize) -> f64 {
        match self {
            Self::Values(values) => match values.as_slice() {
                [] => 0.0,
                [one] => *one,
                several => several[channel],
            },
            Self::Image(image) => image.data[channel * image.size.width * image.size.height + at],
        }
    }

    /// Checks that it has what an input of `channels` channels and `size` pixels needs.
    pub(crate) fn validate(&self, channels: usize, size: Size) -> Result<(), CalibError> {
        match self {
            Self::Values(values) => {
                if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                    return Err(CalibError::BadValue { what: "mean", value: *value as f32 });
                }
                if values.len() > 1 && values.len() != channels {
                    return Err(CalibError::ListLength { what: "mean", found: values.len(), channels });
                }
                Ok(())
            }
            Self::Image(image) if image.channels == channels && image.size == size => Ok(()),
            Self::Image(MeanImage { name, channels: found, size: of, .. }) => {
                let cause = format!("it is fitted to {found} channels of {of}, the net takes {channels} of {size}");
                Err(CalibError::Array { name: name.clone(), cause })
            }
        }
    }

    /// Every number it subtracts from `channels` channels, some of them more than once.
    pub(crate) fn numbers(&self, channels: usize) -> Vec<f64> {
        match self {
            Self::Values(_) => (0..channels).map(|channel| self.at(channel, 0)).collect(),
            Self::Image(image) => image.data.clone(),
        }
    }
}

impl MeanImage {
    /// `array` holds `channels` planes of `original` pixels.
    fn stretched(array: Array, channels: usize, original: Size, size: Size) -> Result<Self, CalibError> {
        let name = array.name().to_owned();
        if original == size {
            return Ok(Self { name, channels, size, data: array.into_data() });
        }
        let (planes, plane) = (array.data(), original.width * original.height);
        let value = |at: usize| planes[at % channels * plane + at / channels] as f32;
        let stretched = Grid { name: &name, size: original, channels, value }.resized(size)?;
        let channel = |channel| stretched.iter().skip(channel).step_by(channels).copied().map(f64::from);
        let data = (0..channels).flat_map(channel).collect();
        Ok(Self { name, channels, size, data })
    }
}

fn blob(name: &str, bytes: &[u8]) -> Result<Array, CalibError> {
    let refuse = |cause: String| CalibError::Array { name: name.to_owned(), cause };
    let blob = BlobProto::decode(bytes).map_err(|error| refuse(format!("it is no .npy file and no blob: {error}")))?;
    let dims = match &blob.shape {
        Some(shape) => shape.dim.clone(),
        None => [blob.num, blob.channels, blob.height, blob.width].map(|dim| dim.unwrap_or(0).into()).to_vec(),
    };
    let shape: Result<Vec<usize>, _> = dims.iter().map(|dim| usize::try_from(*dim)).collect();
    let shape = shape.map_err(|_| refuse(format!("{dims:?} is no shape")))?;
    let wide = || blob.data.iter().copied().map(f64::from).collect();
    let data = if blob.double_data.is_empty() { wide() } else { blob.double_data.clone() };
    Array::new(name, shape, data)
}

impl fmt::Display for Mean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Values(values) if values.is_empty() => f.write_str("no mean"),
            Self::Values(values) => {
                write!(f, "mean {}", values.iter().map(f64::to_string).collect::<Vec<_>>().join(","))
            }
            Self::Image(image) => write!(f, "mean image {}", image.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 2, height: 1 };

    fn npy(shape: &str, values: &[f32]) -> Vec<u8> {
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        let values: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        [b"\x93NUMPY\x01\0", [header.len() as u8, 0].as_slice(), header.as_bytes(), &values].concat()
    }

    fn parse(bytes: &[u8], channels: usize) -> Result<Mean, CalibError> {
        Mean::parse("mean", bytes, channels, SIZE, Limits::default())
    }

    fn numbers(bytes: &[u8], channels: usize) -> Vec<f64> {
        parse(bytes, channels).unwrap().numbers(channels)
    }

    fn legacy(dims: [i32; 4], data: Vec<f32>) -> BlobProto {
        let [num, channels, height, width] = dims.map(Some);
        BlobProto { num, channels, height, width, data, ..BlobProto::default() }
    }

    #[test]
    fn every_shape_of_a_mean_is_read() {
        let four = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(numbers(&npy("(2, 1, 2)", &four), 2), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(numbers(&npy("(1, 2, 1, 2)", &four), 2), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(numbers(&npy("(1, 2)", &four[..2]), 1), [1.0, 2.0]);
        assert_eq!(parse(&npy("(2,)", &four[..2]), 2).unwrap(), Mean::Values(vec![1.0, 2.0]));
    }

    #[test]
    fn a_blob_is_read_with_either_kind_of_shape_and_number() {
        let shape = Some(BlobShape { dim: vec![2, 1, 2] });
        let doubles = BlobProto { shape, double_data: vec![0.1, 2.0, 3.0, 4.0], ..BlobProto::default() };
        assert_eq!(numbers(&doubles.encode_to_vec(), 2), [0.1, 2.0, 3.0, 4.0]);
        assert_eq!(numbers(&legacy([1, 1, 1, 2], vec![7.0, 8.0]).encode_to_vec(), 1), [7.0, 8.0]);
    }

    #[test]
    fn a_mean_of_another_size_is_stretched() {
        assert_eq!(numbers(&npy("(1, 1, 4)", &[0.0, 8.0, 1.0, 0.0]), 1), [4.0, 0.5]);
        let two = npy("(2, 1, 4)", &[0.0, 8.0, 1.0, 0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(numbers(&two, 2), [4.0, 0.5, 3.0, 7.0]);
    }

    #[test]
    fn a_mean_that_cannot_be_used_is_refused_with_the_cause() {
        let cases: &[(&str, Vec<u8>, &str)] = &[
            ("text", b"104,117,123".to_vec(), "it is no .npy file and no blob: "),
            ("nothing", vec![], "a mean of shape [0, 0, 0, 0] does not fit a net of 2 channels"),
            ("channels", npy("(1, 1, 2)", &[1.0; 2]), "a mean of shape [1, 1, 2] does not fit a net of 2 channels"),
            ("batch", npy("(2, 2, 1, 2)", &[1.0; 8]), "a mean of shape [2, 2, 1, 2] does not fit"),
            ("values", npy("(3,)", &[1.0; 3]), "a mean of shape [3] does not fit"),
            ("empty", npy("(2, 0, 1)", &[]), "a mean of shape [2, 0, 1] does not fit"),
            ("NaN", npy("(2,)", &[1.0, f32::NAN]), "it holds NaN or an infinity"),
            (
                "count",
                legacy([1, 2, 1, 2], vec![1.0; 3]).encode_to_vec(),
                "3 values do not have the shape [1, 2, 1, 2]",
            ),
            ("negative", legacy([1, -2, 1, 2], vec![]).encode_to_vec(), "[1, -2, 1, 2] is no shape"),
        ];
        for (name, bytes, cause) in cases {
            let text = parse(bytes, 2).unwrap_err().to_string();
            assert!(text.starts_with("cannot use array mean: ") && text.contains(cause), "{name}: {text}");
        }
    }
}
