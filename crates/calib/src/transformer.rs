//! From a picture or an array to a net input as Caffe's Python `Transformer` does it.
//!
//! Stretch to the net's size, transpose, channel swap, raw scale, mean, input scale, in this order. Reading files and
//! the mean's own format live elsewhere.

use std::fmt;

use crate::array::Array;
use crate::bilinear::Grid;
use crate::decode::DecodedImage;
use crate::error::CalibError;
use crate::images::RawSample;
use crate::mean::Mean;
use crate::preprocess::Sample;
use crate::resample::Size;

/// How a sample becomes the input of a Caffe net, a tensor [1, C, H, W].
///
/// Pictures enter with values 0 to 1, 16-bit ones with all their bits; arrays with the values they hold. A net of three
/// channels sees red, green and blue before the swap. For a net of one channel a picture becomes gray before it is
/// stretched: 0.2125 R + 0.7154 G + 0.0721 B, scikit-image's `rgb2gray`, which `caffe.io.load_image` uses. Other nets
/// can be fed from arrays only.
#[derive(Debug, Clone, PartialEq)]
pub struct Transformer {
    /// Number of channels C of the net's input.
    pub channels: usize,
    /// Width and height of the net's input. The whole picture is stretched to it.
    pub size: Size,
    /// Axis k of the result is axis `transpose[k]` of height, width, channels. The channels must come first.
    pub transpose: [usize; 3],
    /// Channel k of the result is channel `channel_swap[k]` of the sample; empty leaves the channels in order.
    pub channel_swap: Vec<usize>,
    /// Multiplies first, in `f32`.
    pub raw_scale: f32,
    /// Subtracted then, in `f64`; in the order of channels after the swap.
    pub mean: Mean,
    /// Multiplies last, in `f32`; 0 stands for no such step.
    pub input_scale: f32,
}

impl Transformer {
    /// The defaults of the xfDNN quantizer: transpose 2,0,1, raw scale 255, input scale 1, and for three channels
    /// channel swap 2,1,0 (blue first) and mean 104,117,123. For other numbers of channels these two mean nothing, and
    /// channels stay in order with no mean subtracted.
    #[must_use]
    pub fn new(channels: usize, size: Size) -> Self {
        let (channel_swap, mean) = match channels {
            3 => (vec![2, 1, 0], vec![104.0, 117.0, 123.0]),
            _ => (Vec::new(), Vec::new()),
        };
        let mean = Mean::Values(mean);
        Self { channels, size, transpose: [2, 0, 1], channel_swap, raw_scale: 255.0, mean, input_scale: 1.0 }
    }

    /// Checks what does not depend on a sample.
    ///
    /// # Errors
    /// [`CalibError::EmptyInput`], [`CalibError::Order`] (transpose or channel swap), [`CalibError::BadValue`],
    /// [`CalibError::ListLength`] or [`CalibError::Array`] (a mean image of another shape).
    pub fn validate(&self) -> Result<(), CalibError> {
        if self.channels == 0 || self.size.is_empty() {
            return Err(CalibError::EmptyInput { channels: self.channels, size: self.size });
        }
        self.check_transpose()?;
        self.check_channel_swap()?;
        for (what, value) in [("raw scale", self.raw_scale), ("input scale", self.input_scale)] {
            if !value.is_finite() || (value == 0.0 && what == "raw scale") {
                return Err(CalibError::BadValue { what, value });
            }
        }
        self.mean.validate(self.channels, self.size)
    }

    /// Makes the net's input of one sample.
    ///
    /// # Errors
    /// What [`Transformer::validate`] reports, [`CalibError::ChannelCount`] if the sample does not have the channels of
    /// the net, [`CalibError::Array`] for an array that is no H x W x C or H x W of finite numbers, or
    /// [`CalibError::ResizeTooLarge`].
    pub fn apply(&self, sample: &RawSample) -> Result<Sample, CalibError> {
        self.validate()?;
        let stretched = match sample {
            RawSample::Image(image) => self.stretched_image(image)?,
            RawSample::Array(array) => self.stretched_array(array)?,
        };
        let Size { width, height } = self.size;
        let pixels = width * height;
        let mut data = Vec::with_capacity(stretched.len());
        for channel in 0..self.channels {
            let source = self.channel_swap.get(channel).copied().unwrap_or(channel);
            let value = |at: usize| stretched[self.pixel(at) * self.channels + source];
            data.extend((0..pixels).map(|at| self.scaled(value(at), self.mean.at(channel, at))));
        }
        Ok(Sample { dims: [1, self.channels, height, width], data })
    }

    /// Smallest and largest value any picture can produce: black and white over all channels. Arrays may hold values
    /// outside 0 to 1 and exceed them.
    ///
    /// # Errors
    /// As [`Transformer::validate`].
    pub fn possible_range(&self) -> Result<(f32, f32), CalibError> {
        self.validate()?;
        let means = self.mean.numbers(self.channels);
        let ends = means.into_iter().flat_map(|mean| [self.scaled(0.0, mean), self.scaled(1.0, mean)]);
        Ok(ends.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x))))
    }

    fn scaled(&self, value: f32, mean: f64) -> f32 {
        let centred = (f64::from(value * self.raw_scale) - mean) as f32;
        if self.input_scale == 0.0 { centred } else { centred * self.input_scale }
    }

    /// Where pixel `at` of the result comes from: exchanged rows and columns need a square, which is checked.
    fn pixel(&self, at: usize) -> usize {
        let side = self.size.width;
        if self.transpose == [2, 1, 0] { at % side * side + at / side } else { at }
    }

    fn stretched_image(&self, image: &DecodedImage) -> Result<Vec<f32>, CalibError> {
        let (name, size, channels) = (image.name(), image.size(), self.channels);
        match channels {
            3 => Grid { name, size, channels, value: |at| image.fraction(at) as f32 }.resized(self.size),
            1 => Grid { name, size, channels, value: |at| gray(image, at) }.resized(self.size),
            _ => Err(self.channel_count(name, 3)),
        }
    }

    fn stretched_array(&self, array: &Array) -> Result<Vec<f32>, CalibError> {
        let (name, shape, data) = (array.name(), array.shape(), array.data());
        let (size, channels) = match *shape {
            [height, width] => (Size { width, height }, 1),
            [height, width, channels] => (Size { width, height }, channels),
            _ => return Err(array.refuse(format!("its shape {shape:?} is neither [H, W, C] nor [H, W]"))),
        };
        if channels != self.channels {
            return Err(self.channel_count(name, channels));
        }
        if data.is_empty() {
            return Err(array.refuse(format!("its shape {shape:?} has no pixels")));
        }
        if let Some(at) = data.iter().position(|value| !(*value as f32).is_finite()) {
            return Err(array.refuse(format!("value {} at position {at} is not usable", data[at])));
        }
        Grid { name, size, channels, value: |at: usize| data[at] as f32 }.resized(self.size)
    }

    fn channel_count(&self, name: &str, found: usize) -> CalibError {
        CalibError::ChannelCount { name: name.to_owned(), found, channels: self.channels }
    }

    fn check_transpose(&self) -> Result<(), CalibError> {
        let mut axes = self.transpose;
        axes.sort_unstable();
        let cause = match self.transpose {
            [2, 0, 1] => return Ok(()),
            [2, 1, 0] if self.size.width == self.size.height => return Ok(()),
            [2, 1, 0] => format!("it exchanges rows and columns, and the net's input of {} is not square", self.size),
            _ if axes == [0, 1, 2] => "the net takes the channels first".to_owned(),
            _ => "each of the axes 0, 1 and 2 is needed once".to_owned(),
        };
        let cure = "2,0,1 makes channels, rows, columns of rows, columns, channels".to_owned();
        Err(CalibError::Order { what: "transpose", order: self.transpose.to_vec(), cause, cure })
    }

    fn check_channel_swap(&self) -> Result<(), CalibError> {
        let (order, channels) = (&self.channel_swap, self.channels);
        let cause = if !order.is_empty() && order.len() != channels {
            format!("it names {} channels, the net takes {channels}", order.len())
        } else if let Some(outside) = order.iter().find(|channel| **channel >= channels) {
            format!("there is no channel {outside}, the net's {channels} are numbered from 0")
        } else {
            return Ok(());
        };
        let cure = match channels {
            1 => "give 0 for a net of one channel".to_owned(),
            3 => "2,1,0 feeds blue, green, red, and 0,1,2 red, green, blue".to_owned(),
            _ => format!("give {channels} numbers from 0 to {}", channels - 1),
        };
        Err(CalibError::Order { what: "channel swap", order: order.clone(), cause, cure })
    }
}

/// Gray of pixel `at`. Written around green so that gray pixels keep their value exactly.
fn gray(image: &DecodedImage, at: usize) -> f32 {
    let [red, green, blue] = [0, 1, 2].map(|channel| image.fraction(3 * at + channel));
    (green + 0.2125 * (red - green) + 0.0721 * (blue - green)) as f32
}

impl fmt::Display for Transformer {
    /// One line that names every step, for summaries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commas = |order: &[usize]| order.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        if self.channels == 1 {
            f.write_str("gray, ")?;
        }
        write!(f, "stretch to {} bilinear without antialiasing, ", self.size)?;
        write!(f, "transpose {}, ", commas(&self.transpose))?;
        if !self.channel_swap.is_empty() {
            write!(f, "channel swap {}, ", commas(&self.channel_swap))?;
        }
        write!(f, "raw scale {}, {}, ", self.raw_scale, self.mean)?;
        if self.input_scale == 0.0 {
            f.write_str("no input scale")
        } else {
            write!(f, "input scale {}", self.input_scale)
        }
    }
}

#[cfg(test)]
mod tests;
