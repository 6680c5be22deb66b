//! Images that feed an input: how they are preprocessed for it, and loading one of them.

use crate::error::Error;
use crate::options::{PreparationOptions, PreprocessOptions, TransformerOptions};
use quantize_calib::{
    CalibError, Channels, ImageFolder, Layout, Limits, Mean, Preparation, Preprocess, Preset, Resize, Size, Transformer,
};
use quantize_ir::{Graph, Tensor, ValueId};
use quantize_numerics::Range;
use std::path::Path;

/// Preset that is taken when nothing is said about a model with three channels.
const DEFAULT_PRESET: &str = "imagenet";

/// The model input that images feed.
#[derive(Clone, Debug, PartialEq)]
struct ImageInput {
    name: String,
    channels: Option<usize>,
    height: Option<usize>,
    width: Option<usize>,
    layout: Layout,
}

/// Images, and what turns one of them into a model input.
#[derive(Debug)]
pub(super) struct Images {
    folder: ImageFolder,
    preparation: Preparation,
    input: ImageInput,
    assumed: Option<String>,
}

impl ImageInput {
    /// `value`, if images can feed it: four axes, three or one channels.
    fn of(graph: &Graph, model: &Path, value: ValueId, layout: Option<Layout>) -> Result<Self, Error> {
        let declared = graph.value(value);
        let name = declared.name.clone();
        let Some([_, a, b, c]) = declared.shape.as_deref() else {
            return Err(Error::Input {
                model: model.to_owned(),
                cause: format!("input `{name}` does not have four axes"),
                cure: "images feed inputs of shape [N, C, H, W] or [N, H, W, C]; feed others from arrays".to_owned(),
            });
        };
        let size = |d: &quantize_ir::Dim| d.known().and_then(|d| usize::try_from(d).ok()).filter(|d| *d > 0);
        let image_like = |d: Option<usize>| matches!(d, Some(1 | 3));
        let last = !image_like(size(a)) && image_like(size(c));
        let layout = layout.unwrap_or(if last { Layout::Nhwc } else { Layout::Nchw });
        let (channels, height, width) = match layout {
            Layout::Nchw => (size(a), size(b), size(c)),
            Layout::Nhwc => (size(c), size(a), size(b)),
        };
        Ok(Self { name, channels, height, width, layout })
    }

    fn size(&self) -> Option<Size> {
        Some(Size { width: self.width?, height: self.height? })
    }

    fn describe(&self) -> String {
        let dim = |d: Option<usize>| d.map_or("?".to_owned(), |d| d.to_string());
        let (c, h, w) = (dim(self.channels), dim(self.height), dim(self.width));
        match self.layout {
            Layout::Nchw => format!("[1, {c}, {h}, {w}]"),
            Layout::Nhwc => format!("[1, {h}, {w}, {c}]"),
        }
    }
}

impl Images {
    /// Settles how the images of `folder` are preprocessed for `value`.
    pub(super) fn of(
        folder: ImageFolder,
        options: &PreparationOptions,
        graph: &Graph,
        model: &Path,
        value: ValueId,
    ) -> Result<Self, Error> {
        let (preparation, input, assumed) = match options {
            PreparationOptions::Pillow(preprocess) => {
                let input = ImageInput::of(graph, model, value, preprocess.layout)?;
                let (preprocess, assumed) = resolve(preprocess, &input, model)?;
                (Preparation::Pillow(preprocess), input, assumed)
            }
            PreparationOptions::Caffe(parts) => {
                let input = ImageInput::of(graph, model, value, Some(Layout::Nchw))?;
                (Preparation::Caffe(transformer(parts, &input, model)?), input, None)
            }
        };
        preparation.validate()?;
        Ok(Self { folder, preparation, input, assumed })
    }

    /// The files.
    pub(super) fn folder(&self) -> &ImageFolder {
        &self.folder
    }

    /// How images are preprocessed.
    pub(super) fn preparation(&self) -> &Preparation {
        &self.preparation
    }

    /// What was assumed because nothing was said, for a warning.
    pub(super) fn assumed(&self) -> Option<&str> {
        self.assumed.as_deref()
    }

    /// The range any sample can produce; `None` if arrays are among them, whose numbers nothing bounds.
    pub(super) fn possible_range(&self) -> Result<Option<Range>, Error> {
        let (lo, hi) = self.preparation.possible_range()?;
        Ok(Range::new(lo, hi).ok().filter(|_| !self.folder.has_arrays()))
    }

    /// Decodes and preprocesses image `index`: four axes, the first of which is 1.
    pub(super) fn sample(&self, index: usize) -> Result<Tensor, Error> {
        let image = self.folder.load(index)?;
        let sample = self.preparation.apply(&image)?;
        self.check_shape(image.name(), sample.dims)?;
        Tensor::new(sample.dims, sample.data).map_err(|e| self.mismatch(image.name(), sample.dims, e.to_string()))
    }

    fn check_shape(&self, image: &str, dims: [usize; 4]) -> Result<(), Error> {
        let (channels, height, width) = match self.input.layout {
            Layout::Nchw => (dims[1], dims[2], dims[3]),
            Layout::Nhwc => (dims[3], dims[1], dims[2]),
        };
        if self.input.channels.is_some_and(|c| c != channels) {
            let cure = "choose `--channels gray` for one channel, `rgb` or `bgr` for three, and check `--layout`";
            return Err(self.mismatch(image, dims, cure.to_owned()));
        }
        let fits = self.input.height.is_none_or(|h| h == height) && self.input.width.is_none_or(|w| w == width);
        if fits {
            Ok(())
        } else {
            Err(self.mismatch(image, dims, "set `--crop` or `--resize` to the size of the input".to_owned()))
        }
    }

    fn mismatch(&self, image: &str, dims: [usize; 4], cure: String) -> Error {
        Error::SampleShape {
            image: image.to_owned(),
            input: self.input.name.clone(),
            given: format!("{dims:?}"),
            taken: self.input.describe(),
            cure,
        }
    }
}

/// Caffe's transformer for `input`, with the parts that were given.
fn transformer(parts: &TransformerOptions, input: &ImageInput, model: &Path) -> Result<Transformer, Error> {
    let (Some(channels), Some(size)) = (input.channels, input.size()) else {
        return Err(Error::Input {
            model: model.to_owned(),
            cause: format!("the size of input `{}` is not fixed", input.name),
            cure: "state it in the network's input, or with `--dims C,H,W`".to_owned(),
        });
    };
    let mut transformer = Transformer::new(channels, size);
    transformer.transpose = parts.transpose.unwrap_or(transformer.transpose);
    transformer.raw_scale = parts.raw_scale.unwrap_or(transformer.raw_scale);
    transformer.input_scale = parts.input_scale.unwrap_or(transformer.input_scale);
    if let Some(swap) = &parts.channel_swap {
        transformer.channel_swap.clone_from(swap);
    }
    match (&parts.mean_file, &parts.mean_value) {
        (Some(file), _) => transformer.mean = Mean::read(file, channels, size, Limits::default())?,
        (None, Some(values)) => transformer.mean = Mean::Values(values.clone()),
        (None, None) => {}
    }
    Ok(transformer)
}

/// The preprocessing that `options` mean for `input`, and what had to be assumed.
fn resolve(
    options: &PreprocessOptions,
    input: &ImageInput,
    model: &Path,
) -> Result<(Preprocess, Option<String>), Error> {
    let silent = *options == PreprocessOptions { layout: options.layout, ..PreprocessOptions::default() };
    let preset = match (&options.preset, silent && input.channels != Some(1)) {
        (Some(name), _) => Some(name.as_str()),
        (None, true) => Some(DEFAULT_PRESET),
        (None, false) => None,
    };
    let mut preprocess = match preset {
        Some(name) => preset_for(name, options, input, model)?,
        None => Preprocess { resize: input.size().map(Resize::Exact), layout: input.layout, ..Preprocess::default() },
    };
    apply_parts(&mut preprocess, options, input)?;
    let assumed = match (silent, input.channels) {
        (true, Some(1)) => {
            preprocess.scale = vec![1.0 / 255.0];
            Some("no preprocessing given: assumed gray images scaled to 0..1".to_owned())
        }
        (true, _) => Some(format!("no preprocessing given: assumed `--preprocess {DEFAULT_PRESET}`")),
        _ => None,
    };
    Ok((preprocess, assumed))
}

fn preset_for(name: &str, options: &PreprocessOptions, input: &ImageInput, model: &Path) -> Result<Preprocess, Error> {
    let preset = Preset::named(name)?;
    let chosen = options.crop.or(options.resize).map(|(width, height)| Size { width, height });
    let size = input.size().or(chosen).ok_or_else(|| Error::Input {
        model: model.to_owned(),
        cause: format!("height and width of input `{}` are not fixed", input.name),
        cure: "choose them with `--crop N` or `--resize WxH`".to_owned(),
    })?;
    Ok(preset.for_input(size, input.layout))
}

fn apply_parts(preprocess: &mut Preprocess, options: &PreprocessOptions, input: &ImageInput) -> Result<(), CalibError> {
    let size = |(width, height): (usize, usize)| Size { width, height };
    match (options.resize_short, options.resize) {
        (Some(side), _) => preprocess.resize = Some(Resize::Short(side)),
        (None, Some(exact)) => {
            preprocess.resize = Some(Resize::Exact(size(exact)));
            preprocess.crop = None;
        }
        (None, None) if options.crop.is_some() && options.preset.is_none() => preprocess.resize = None,
        (None, None) => {}
    }
    if let Some(crop) = options.crop {
        preprocess.crop = Some(size(crop));
    }
    preprocess.interpolation = options.interpolation.unwrap_or(preprocess.interpolation);
    preprocess.channels = match (options.channels, input.channels) {
        (Some(channels), _) => channels,
        (None, Some(1)) => Channels::Gray,
        (None, _) => preprocess.channels,
    };
    if let Some(mean) = &options.mean {
        preprocess.mean.clone_from(mean);
    }
    if let Some(scale) = &options.scale {
        preprocess.scale.clone_from(scale);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::{Dim, Value};

    fn input(dims: [Option<u64>; 4]) -> Result<ImageInput, Error> {
        let mut graph = Graph::new();
        let mut value = Value::named("x");
        value.shape = Some(dims.iter().map(|d| d.map_or(Dim::Unknown, Dim::Known)).collect());
        let value = graph.add_value(value);
        graph.set_inputs(vec![value]);
        ImageInput::of(&graph, Path::new("m.onnx"), value, None)
    }

    fn settled(options: &PreprocessOptions, dims: [Option<u64>; 4]) -> Result<(Preprocess, Option<String>), Error> {
        resolve(options, &input(dims)?, Path::new("m.onnx"))
    }

    const RGB: [Option<u64>; 4] = [None, Some(3), Some(224), Some(224)];

    #[test]
    fn the_layout_follows_from_the_axis_that_looks_like_channels() {
        assert_eq!(input(RGB).unwrap().layout, Layout::Nchw);
        assert_eq!(input([Some(1), Some(224), Some(224), Some(3)]).unwrap().layout, Layout::Nhwc);
        assert_eq!(input([None, None, None, None]).unwrap().layout, Layout::Nchw);
    }

    #[test]
    fn silence_is_reported() {
        let (preprocess, assumed) = settled(&PreprocessOptions::default(), RGB).unwrap();
        assert_eq!(preprocess.crop, Some(Size::square(224)));
        assert!(assumed.unwrap().contains("--preprocess imagenet"));
        let (gray, _) = settled(&PreprocessOptions::default(), [None, Some(1), Some(28), Some(28)]).unwrap();
        assert_eq!((gray.channels, gray.resize), (Channels::Gray, Some(Resize::Exact(Size::square(28)))));
    }

    #[test]
    fn parts_override_a_preset_and_stand_alone() {
        let mean = PreprocessOptions { mean: Some(vec![127.0]), ..Default::default() };
        let (alone, assumed) = settled(&mean, RGB).unwrap();
        assert_eq!((alone.mean, alone.resize, assumed), (vec![127.0], Some(Resize::Exact(Size::square(224))), None));
        let short = PreprocessOptions { resize_short: Some(256), crop: Some((224, 224)), ..Default::default() };
        let (short, _) = settled(&short, RGB).unwrap();
        assert_eq!((short.resize, short.crop), (Some(Resize::Short(256)), Some(Size::square(224))));
        let preset = PreprocessOptions { preset: Some("tf".into()), scale: Some(vec![1.0]), ..Default::default() };
        assert_eq!(settled(&preset, RGB).unwrap().0.scale, vec![1.0]);
    }

    #[test]
    fn an_input_of_unknown_size_asks_for_one() {
        let error = settled(&PreprocessOptions::default(), [None, Some(3), None, None]).unwrap_err();
        assert!(error.hint().unwrap().contains("--crop"));
    }
}
