//! From a decoded image to a model input: resize, centre crop, channel order, mean and scale, layout.

use std::fmt;
use std::str::FromStr;

use crate::choice::{lookup, name_of};
use crate::decode::DecodedImage;
use crate::error::CalibError;
use crate::resample::{Interpolation, Pixels, Region, Size, resample};

/// Most pixels a resize may compute, its intermediate included.
pub(crate) const MAX_RESIZED_PIXELS: u64 = 1 << 27;

/// Target of a resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// The short side becomes this long, the long side keeps the aspect ratio and is rounded down, as torchvision does.
    Short(usize),
    /// Both sides are given; the aspect ratio is not kept.
    Exact(Size),
}

/// Which colour channels a sample has, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Luma of ITU-R BT.601 in 16-bit fixed point: (19595 R + 38470 G + 7471 B + 2^15) >> 16, taken before resizing.
    Gray,
}

impl Channels {
    /// Every choice with its name.
    pub const ALL: [(Self, &str); 3] = [(Self::Rgb, "rgb"), (Self::Bgr, "bgr"), (Self::Gray, "gray")];

    /// Number of channels: 3 or 1.
    #[must_use]
    pub fn count(self) -> usize {
        self.sources().len()
    }

    /// For each channel of the sample its index in the source pixel.
    fn sources(self) -> &'static [usize] {
        match self {
            Self::Rgb => &[0, 1, 2],
            Self::Bgr => &[2, 1, 0],
            Self::Gray => &[0],
        }
    }
}

impl FromStr for Channels {
    type Err = CalibError;

    fn from_str(name: &str) -> Result<Self, CalibError> {
        lookup("channels", &Self::ALL, name)
    }
}

/// Order of the axes of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Batch, channel, row, column.
    Nchw,
    /// Batch, row, column, channel.
    Nhwc,
}

impl Layout {
    /// Every choice with its name.
    pub const ALL: [(Self, &str); 2] = [(Self::Nchw, "nchw"), (Self::Nhwc, "nhwc")];
}

impl FromStr for Layout {
    type Err = CalibError;

    fn from_str(name: &str) -> Result<Self, CalibError> {
        lookup("layout", &Self::ALL, name)
    }
}

/// How an image becomes a model input, in the order of the fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// First step; `None` keeps the image's size.
    pub resize: Option<Resize>,
    /// Centre crop after the resize; `None` keeps everything.
    pub crop: Option<Size>,
    /// How the resize interpolates.
    pub interpolation: Interpolation,
    /// Channels of the sample.
    pub channels: Channels,
    /// Subtracted, in units of pixel values 0 to 255: one value, or one per channel of the sample in its order.
    pub mean: Vec<f32>,
    /// Multiplies after the mean is subtracted: one value, or one per channel of the sample in its order.
    pub scale: Vec<f32>,
    /// Axis order of the sample.
    pub layout: Layout,
}

impl Default for Preprocess {
    /// The pixel values as they are: RGB, 0 to 255, NCHW.
    fn default() -> Self {
        Self {
            resize: None,
            crop: None,
            interpolation: Interpolation::Bilinear,
            channels: Channels::Rgb,
            mean: vec![0.0],
            scale: vec![1.0],
            layout: Layout::Nchw,
        }
    }
}

/// One preprocessed image: a tensor of rank 4 with batch 1, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Lengths of the axes in the order of the layout.
    pub dims: [usize; 4],
    /// The values, as many as the product of `dims`.
    pub data: Vec<f32>,
}

impl Preprocess {
    /// Checks what does not depend on an image: sizes, and lengths and values of mean and scale.
    ///
    /// # Errors
    /// [`CalibError::EmptySize`], [`CalibError::ListLength`] or [`CalibError::BadValue`].
    pub fn validate(&self) -> Result<(), CalibError> {
        let resize = self.resize.map(|resize| match resize {
            Resize::Short(side) => Size::square(side),
            Resize::Exact(size) => size,
        });
        check_not_empty("resize", resize)?;
        check_not_empty("crop", self.crop)?;
        self.affine().map(drop)
    }

    /// Preprocesses one image. Each value is (pixel - mean) · scale, both operations in `f32`.
    ///
    /// # Errors
    /// What [`Preprocess::validate`] reports, [`CalibError::CropTooLarge`] or [`CalibError::ResizeTooLarge`].
    pub fn apply(&self, image: &DecodedImage) -> Result<Sample, CalibError> {
        self.validate()?;
        let (size, region) = self.placement(image)?;
        let rgb = image.pixels();
        if self.channels == Channels::Gray {
            let luma: Vec<[u8; 1]> = rgb.data.iter().map(|pixel| [luma(*pixel)]).collect();
            let gray = Pixels { size: rgb.size, data: &luma };
            return self.normalise(&resample(gray, size, self.interpolation, &region), &region);
        }
        self.normalise(&resample(rgb, size, self.interpolation, &region), &region)
    }

    /// Smallest and largest value any image can produce: the images of pixel values 0 and 255 over all channels.
    ///
    /// # Errors
    /// [`CalibError::ListLength`] or [`CalibError::BadValue`].
    pub fn possible_range(&self) -> Result<(f32, f32), CalibError> {
        let ends = self.affine()?.into_iter().flat_map(|channel| [channel.at(0), channel.at(255)]);
        Ok(ends.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x))))
    }

    fn affine(&self) -> Result<Vec<Affine>, CalibError> {
        let channels = self.channels.count();
        let means = per_channel("mean", &self.mean, channels)?;
        let scales = per_channel("scale", &self.scale, channels)?;
        if let Some(&value) = scales.iter().find(|scale| **scale == 0.0) {
            return Err(CalibError::BadValue { what: "scale", value });
        }
        Ok(means.into_iter().zip(scales).map(|(mean, scale)| Affine { mean, scale }).collect())
    }

    /// Size after the resize, and the window of it that is kept.
    fn placement(&self, image: &DecodedImage) -> Result<(Size, Region), CalibError> {
        let size = self.resized(image.size());
        let crop = self.crop.unwrap_or(size);
        if crop.width > size.width || crop.height > size.height {
            let name = image.name().to_owned();
            return Err(CalibError::CropTooLarge { name, crop, available: size, original: image.size() });
        }
        check_work(image, size, crop)?;
        let (left, top) = (centred(size.width, crop.width), centred(size.height, crop.height));
        Ok((size, Region { columns: left..left + crop.width, rows: top..top + crop.height }))
    }

    fn resized(&self, original: Size) -> Size {
        match self.resize {
            None => original,
            Some(Resize::Exact(size)) => size,
            Some(Resize::Short(side)) => {
                let Size { width, height } = original;
                let long = side.saturating_mul(width.max(height)) / width.min(height);
                if width <= height { Size { width: side, height: long } } else { Size { width: long, height: side } }
            }
        }
    }

    fn normalise<const C: usize>(&self, pixels: &[[u8; C]], region: &Region) -> Result<Sample, CalibError> {
        let channels = self.channels.count();
        let (height, width) = (region.rows.len(), region.columns.len());
        let (dims, first_step, pixel_step) = match self.layout {
            Layout::Nchw => ([1, channels, height, width], pixels.len(), 1),
            Layout::Nhwc => ([1, height, width, channels], 1, channels),
        };
        let mut data = vec![0.0; pixels.len() * channels];
        for (channel, (affine, source)) in self.affine()?.iter().zip(self.channels.sources()).enumerate() {
            let table = affine.table();
            let slots = data[channel * first_step..].iter_mut().step_by(pixel_step);
            slots.zip(pixels).for_each(|(slot, pixel)| *slot = table[usize::from(pixel[*source])]);
        }
        Ok(Sample { dims, data })
    }
}

impl fmt::Display for Preprocess {
    /// One line that names every step, for summaries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resize {
            None => {}
            Some(Resize::Short(side)) => {
                write!(f, "short side {side} {}, ", name_of(&Interpolation::ALL, self.interpolation))?
            }
            Some(Resize::Exact(size)) => {
                write!(f, "resize {size} {}, ", name_of(&Interpolation::ALL, self.interpolation))?
            }
        }
        if let Some(crop) = self.crop {
            write!(f, "crop {crop}, ")?;
        }
        let (channels, layout) = (name_of(&Channels::ALL, self.channels), name_of(&Layout::ALL, self.layout));
        write!(f, "{channels}, mean {}, scale {}, {layout}", commas(&self.mean), commas(&self.scale))
    }
}

fn commas(values: &[f32]) -> String {
    values.iter().map(f32::to_string).collect::<Vec<_>>().join(",")
}

/// x = (pixel - mean) · scale of one channel.
struct Affine {
    mean: f32,
    scale: f32,
}

impl Affine {
    fn at(&self, pixel: u8) -> f32 {
        (f32::from(pixel) - self.mean) * self.scale
    }

    fn table(&self) -> [f32; 256] {
        std::array::from_fn(|pixel| self.at(pixel as u8))
    }
}

fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 0x8000) >> 16) as u8
}

/// First position of a centred window; halves go to the even neighbour, as Python's `round` has it.
fn centred(available: usize, window: usize) -> usize {
    let slack = available - window;
    let half = slack / 2;
    if slack % 2 == 1 && half % 2 == 1 { half + 1 } else { half }
}

fn check_not_empty(what: &'static str, size: Option<Size>) -> Result<(), CalibError> {
    match size {
        Some(size) if size.is_empty() => Err(CalibError::EmptySize { what, size }),
        _ => Ok(()),
    }
}

/// Bounds the result, the intermediate between the two passes and the walk along each axis.
fn check_work(image: &DecodedImage, resized: Size, crop: Size) -> Result<(), CalibError> {
    let original = image.size();
    let widest = Size { width: crop.width, height: crop.height.max(original.height) };
    let longest = resized.width.max(resized.height) as u64;
    if widest.pixels() <= MAX_RESIZED_PIXELS && longest <= MAX_RESIZED_PIXELS {
        return Ok(());
    }
    let name = image.name().to_owned();
    Err(CalibError::ResizeTooLarge { name, original, resized, limit: MAX_RESIZED_PIXELS })
}

fn per_channel(what: &'static str, values: &[f32], channels: usize) -> Result<Vec<f32>, CalibError> {
    if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
        return Err(CalibError::BadValue { what, value });
    }
    match values {
        [one] => Ok(vec![*one; channels]),
        _ if values.len() == channels => Ok(values.to_vec()),
        _ => Err(CalibError::ListLength { what, found: values.len(), channels }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use super::*;
    use crate::{ImageFolder, Limits};

    /// An image whose red channel is the column, green the row and blue 100 everywhere.
    fn image(width: usize, height: usize) -> DecodedImage {
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 100]));
        DecodedImage::from_rgb("x.png", Size { width, height }, pixels.collect()).unwrap()
    }

    fn crop(width: usize, height: usize) -> Preprocess {
        Preprocess { crop: Some(Size { width, height }), ..Preprocess::default() }
    }

    #[test]
    fn the_default_keeps_pixel_values() {
        let sample = Preprocess::default().apply(&image(3, 2)).unwrap();
        assert_eq!(sample.dims, [1, 3, 2, 3]);
        assert_eq!(sample.data[..6], [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
        assert_eq!(sample.data[6..], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0]);
    }

    #[test]
    fn channels_layout_mean_and_scale() {
        let mean = vec![1.0, 2.0, 3.0];
        let scale = vec![1.0, 10.0, 0.5];
        let bgr = Preprocess { channels: Channels::Bgr, mean, scale, ..Preprocess::default() };
        let expected = [99.0, -20.0, -1.5, 99.0, -20.0, -1.0, 99.0, -10.0, -1.5, 99.0, -10.0, -1.0];
        let nhwc = Preprocess { layout: Layout::Nhwc, ..bgr.clone() }.apply(&image(2, 2)).unwrap();
        assert_eq!((nhwc.dims, nhwc.data.as_slice()), ([1, 2, 2, 3], expected.as_slice()));
        let nchw = bgr.apply(&image(2, 2)).unwrap();
        let transposed: Vec<f32> = (0..3).flat_map(|c| (0..4).map(move |i| expected[3 * i + c])).collect();
        assert_eq!((nchw.dims, nchw.data), ([1, 3, 2, 2], transposed));
    }

    #[test]
    fn gray_is_the_luma_of_pillow() {
        let rgb = vec![200, 100, 50, 255, 0, 0, 0, 255, 0, 0, 0, 255, 1, 2, 3, 255, 255, 255];
        let image = DecodedImage::from_rgb("x", Size { width: 6, height: 1 }, rgb).unwrap();
        let sample = Preprocess { channels: Channels::Gray, ..Preprocess::default() }.apply(&image).unwrap();
        assert_eq!((sample.dims, sample.data), ([1, 1, 1, 6], vec![124.0, 76.0, 150.0, 29.0, 2.0, 255.0]));
    }

    #[test]
    fn crops_are_centred_and_halves_go_to_the_even_position() {
        for (width, expected) in [(10, 0), (9, 0), (8, 1), (7, 2), (6, 2), (5, 2), (4, 3), (3, 4), (2, 4), (1, 4)] {
            let sample = crop(width, 1).apply(&image(10, 4)).unwrap();
            assert_eq!(sample.dims, [1, 3, 1, width]);
            assert_eq!((sample.data[0], sample.data[width]), (expected as f32, 2.0), "width {width}");
        }
    }

    #[test]
    fn the_short_side_is_given_and_the_long_side_rounded_down() {
        let cases = [((37, 23), 10, (16, 10)), ((23, 37), 10, (10, 16)), ((5, 5), 7, (7, 7)), ((3, 300), 2, (2, 200))];
        for ((width, height), side, (wide, high)) in cases {
            let resize = Some(Resize::Short(side));
            let sample = Preprocess { resize, ..Preprocess::default() }.apply(&image(width, height)).unwrap();
            assert_eq!(sample.dims, [1, 3, high, wide], "{width}x{height}");
        }
    }

    #[test]
    fn resize_comes_before_crop() {
        let resize = Some(Resize::Exact(Size { width: 5, height: 2 }));
        let nearest = Interpolation::Nearest;
        let sample = Preprocess { resize, interpolation: nearest, ..crop(3, 1) }.apply(&image(10, 4)).unwrap();
        assert_eq!(sample.data, [3.0, 5.0, 7.0, 1.0, 1.0, 1.0, 100.0, 100.0, 100.0]);
    }

    #[test]
    fn a_crop_larger_than_the_image_names_the_sizes() {
        let resize = Some(Resize::Short(8));
        let error = Preprocess { resize, ..crop(9, 9) }.apply(&image(10, 4)).unwrap_err();
        let text = "crop 9x9 is larger than image x.png, which is 20x8 after resizing from 10x4";
        assert_eq!(error.to_string(), text);
        assert_eq!(error.hint().unwrap(), "resize the short side to at least 9 first, or choose a smaller crop");
    }

    #[test]
    fn unusable_settings_are_errors() {
        let base = Preprocess::default;
        let cases = [
            ("mean of two", Preprocess { mean: vec![1.0; 2], ..base() }, "mean has 2 values for 3 channels"),
            ("no scale", Preprocess { scale: vec![], ..base() }, "scale has 0 values for 3 channels"),
            (
                "three for gray",
                Preprocess { channels: Channels::Gray, mean: vec![0.0; 3], ..base() },
                "mean has 3 values for 1 channels",
            ),
            ("mean NaN", Preprocess { mean: vec![f32::NAN], ..base() }, "mean value NaN is not usable"),
            ("scale infinite", Preprocess { scale: vec![f32::INFINITY], ..base() }, "scale value inf is not usable"),
            ("scale zero", Preprocess { scale: vec![1.0, 0.0, 1.0], ..base() }, "scale value 0 is not usable"),
            ("crop of nothing", crop(4, 0), "crop 4x0 has no pixels"),
            ("resize to nothing", Preprocess { resize: Some(Resize::Short(0)), ..base() }, "resize 0x0 has no pixels"),
        ];
        for (name, preprocess, message) in cases {
            assert_eq!(preprocess.validate().unwrap_err().to_string(), message, "{name}");
            assert_eq!(preprocess.apply(&image(4, 4)).unwrap_err().to_string(), message, "{name}");
        }
    }

    #[test]
    fn a_huge_resize_is_refused_before_it_is_computed() {
        let huge = [Resize::Short(usize::MAX), Resize::Exact(Size::square(1 << 20)), Resize::Short(1 << 27)];
        for resize in huge {
            let preprocess = Preprocess { resize: Some(resize), ..Preprocess::default() };
            let error = preprocess.apply(&image(4, 8)).unwrap_err();
            assert!(matches!(error, CalibError::ResizeTooLarge { .. }), "{resize:?}: {error}");
        }
    }

    #[test]
    fn the_possible_range_is_reached_by_black_and_white() {
        let two_signs =
            Preprocess { mean: vec![127.5, 0.0, 10.0], scale: vec![2.0, -1.0, 1.0], ..Preprocess::default() };
        assert_eq!(two_signs.possible_range().unwrap(), (-255.0, 255.0));
        let signed = Preprocess { mean: vec![127.0], scale: vec![1.0 / 128.0], ..Preprocess::default() };
        assert_eq!(signed.possible_range().unwrap(), (-127.0 / 128.0, 1.0));
    }

    #[test]
    fn the_summary_names_every_step() {
        let short = Preprocess { resize: Some(Resize::Short(256)), mean: vec![127.5], ..crop(224, 224) };
        let text = "short side 256 bilinear, crop 224x224, rgb, mean 127.5, scale 1, nchw";
        assert_eq!(short.to_string(), text);
    }

    /// Reference values: Pillow's decoder, resize and crop. JPEG decoders differ by single grey levels.
    #[test]
    fn real_images_come_out_as_with_pillow() {
        let Some(shared) = std::env::var_os("QUANTIZE_SHARED").map(PathBuf::from) else {
            // Past the macros, whose output the test harness hides.
            let _ = writeln!(std::io::stderr(), "skipped: QUANTIZE_SHARED is not set");
            return;
        };
        let lite0 = Preprocess {
            resize: Some(Resize::Short(256)),
            interpolation: Interpolation::Bicubic,
            mean: vec![127.0],
            scale: vec![1.0 / 128.0],
            ..crop(224, 224)
        };
        let cases = [
            (0, "0001_n01443537.jpg", [-0.2651, -0.2727, -0.5436], [-0.703_125, 0.531_25, -0.734_375]),
            (150, "0373_n02487347.jpg", [0.0190, -0.0398, -0.1012], [-0.3125, -0.679_687_5, 0.968_75]),
            (399, "0994_n13040303.jpg", [0.0722, -0.2793, -0.4230], [-0.984_375, -0.3125, -0.984_375]),
        ];
        let images = ImageFolder::open(shared.join("images/val"), Limits::default()).unwrap();
        assert_eq!(images.len(), 400);
        let (low, high) = lite0.possible_range().unwrap();
        for (index, name, means, probes) in cases {
            assert_eq!(images.name(index), Some(name));
            let sample = lite0.apply(images.load(index).unwrap().image().unwrap()).unwrap();
            assert_eq!(sample.dims, [1, 3, 224, 224]);
            assert!(sample.data.iter().all(|value| (low..=high).contains(value)));
            let planes: Vec<&[f32]> = sample.data.chunks_exact(224 * 224).collect();
            for ((plane, mean), (probe, at)) in
                planes.iter().zip(means).zip(probes.into_iter().zip([0, 112 * 224 + 100, 224 * 224 - 1]))
            {
                let found = plane.iter().map(|value| f64::from(*value)).sum::<f64>() / (224.0 * 224.0);
                assert!((found - mean).abs() < 0.5 / 128.0, "{name}: mean {found}, expected {mean}");
                assert!((plane[at] - probe).abs() <= 5.0 / 128.0, "{name}: {} at {at}, expected {probe}", plane[at]);
            }
        }
    }
}
