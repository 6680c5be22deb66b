//! Named preprocessing recipes, as a table.

use crate::choice::lookup;
use crate::error::CalibError;
use crate::preprocess::{Channels, Layout, Preprocess, Resize};
use crate::resample::{Interpolation, Size};

/// A named recipe that becomes a full [`Preprocess`] once the size of the model input is known.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Name on the command line.
    pub name: &'static str,
    /// One line for help texts.
    pub summary: &'static str,
    fit: Fit,
    interpolation: Interpolation,
    channels: Channels,
    mean: &'static [f32],
    scale: &'static [f32],
}

/// How an image is brought to the size of the model input.
#[derive(Debug, Clone, Copy)]
enum Fit {
    /// Short side to 8/7 of the input (224 gives 256), then the centre: the usual 87.5 % evaluation crop.
    CentralCrop,
    /// The whole image, aspect ratio not kept.
    Stretch,
}

/// Every preset.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "imagenet",
        summary: "torchvision classifiers: central crop, RGB, ImageNet mean and standard deviation",
        fit: Fit::CentralCrop,
        interpolation: Interpolation::Bilinear,
        channels: Channels::Rgb,
        mean: &[123.675, 116.28, 103.53],
        scale: &[1.0 / 58.395, 1.0 / 57.12, 1.0 / 57.375],
    },
    Preset {
        name: "tf",
        summary: "TensorFlow classifiers: central crop, RGB, -1 to 1",
        fit: Fit::CentralCrop,
        interpolation: Interpolation::Bilinear,
        channels: Channels::Rgb,
        mean: &[127.5],
        scale: &[1.0 / 127.5],
    },
    Preset {
        name: "caffe",
        summary: "Caffe classifiers: whole image stretched, BGR, mean 104,117,123",
        fit: Fit::Stretch,
        interpolation: Interpolation::Bilinear,
        channels: Channels::Bgr,
        mean: &[104.0, 117.0, 123.0],
        scale: &[1.0],
    },
    Preset {
        name: "mlperf-mobilenet",
        summary: "MLPerf MobileNet: central crop, RGB, -1 to 1",
        fit: Fit::CentralCrop,
        interpolation: Interpolation::Bilinear,
        channels: Channels::Rgb,
        mean: &[127.5],
        scale: &[1.0 / 127.5],
    },
    Preset {
        name: "mlperf-resnet",
        summary: "MLPerf ResNet-50: central crop by area averaging, RGB, mean 123.68,116.78,103.94",
        fit: Fit::CentralCrop,
        interpolation: Interpolation::Box,
        channels: Channels::Rgb,
        mean: &[123.68, 116.78, 103.94],
        scale: &[1.0],
    },
    Preset {
        name: "raw",
        summary: "pixel values 0 to 255: whole image stretched, RGB",
        fit: Fit::Stretch,
        interpolation: Interpolation::Bicubic,
        channels: Channels::Rgb,
        mean: &[0.0],
        scale: &[1.0],
    },
];

impl Preset {
    /// Finds a preset by name.
    ///
    /// # Errors
    /// [`CalibError::UnknownName`], whose hint lists the names.
    pub fn named(name: &str) -> Result<&'static Self, CalibError> {
        let table: Vec<_> = PRESETS.iter().map(|preset| (preset, preset.name)).collect();
        lookup("preprocessing", &table, name)
    }

    /// The recipe for a model input of this size and layout. Fields may be overridden afterwards; mean and scale are in
    /// the order of the preset's channels.
    #[must_use]
    pub fn for_input(&self, input: Size, layout: Layout) -> Preprocess {
        let (resize, crop) = match self.fit {
            Fit::CentralCrop => (Resize::Short(input.width.max(input.height).saturating_mul(8) / 7), Some(input)),
            Fit::Stretch => (Resize::Exact(input), None),
        };
        Preprocess {
            resize: Some(resize),
            crop,
            interpolation: self.interpolation,
            channels: self.channels,
            mean: self.mean.to_vec(),
            scale: self.scale.to_vec(),
            layout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DecodedImage;

    #[test]
    fn every_preset_makes_the_model_input_from_any_image() {
        let inputs = [Size::square(224), Size::square(299), Size::square(1), Size { width: 320, height: 160 }];
        for (width, height) in [(37, 91), (400, 300)] {
            let image = DecodedImage::from_rgb("x", Size { width, height }, vec![9; width * height * 3]).unwrap();
            for (preset, input) in PRESETS.iter().flat_map(|preset| inputs.map(|input| (preset, input))) {
                let sample = preset.for_input(input, Layout::Nhwc).apply(&image).unwrap();
                assert_eq!(sample.dims, [1, input.height, input.width, 3], "{} {input}", preset.name);
            }
        }
    }

    #[test]
    fn presets_cover_these_ranges() {
        let cases = [
            ("imagenet", -2.117_904, 2.64),
            ("tf", -1.0, 1.0),
            ("caffe", -123.0, 151.0),
            ("mlperf-mobilenet", -1.0, 1.0),
            ("mlperf-resnet", -123.68, 151.06),
            ("raw", 0.0, 255.0),
        ];
        assert_eq!(cases.map(|case| case.0).as_slice(), PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>());
        for (name, low, high) in cases {
            let preprocess = Preset::named(name).unwrap().for_input(Size::square(224), Layout::Nchw);
            let (found_low, found_high) = preprocess.possible_range().unwrap();
            assert!(
                (found_low - low).abs() < 1e-5 && (found_high - high).abs() < 1e-5,
                "{name}: {found_low} {found_high}"
            );
        }
    }

    #[test]
    fn imagenet_for_224_is_the_usual_recipe() {
        let preprocess = Preset::named("imagenet").unwrap().for_input(Size::square(224), Layout::Nchw);
        assert_eq!(preprocess.resize, Some(Resize::Short(256)));
        assert_eq!(preprocess.crop, Some(Size::square(224)));
        assert_eq!(preprocess.mean, [123.675, 116.28, 103.53]);
        assert_eq!((preprocess.channels, preprocess.interpolation), (Channels::Rgb, Interpolation::Bilinear));
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = Preset::named("imagnet").unwrap_err();
        assert_eq!(error.to_string(), "unknown preprocessing \"imagnet\"");
        assert_eq!(error.hint().unwrap(), "known are imagenet, tf, caffe, mlperf-mobilenet, mlperf-resnet, raw");
    }
}
