//! From images to model inputs: which input is fed, how images are preprocessed for it, and loading one sample.

use crate::error::Error;
use crate::options::{DataOptions, PreparationOptions, PreprocessOptions, TransformerOptions};
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
pub(crate) struct ImageInput {
    pub(crate) value: ValueId,
    name: String,
    batch: usize,
    channels: Option<usize>,
    height: Option<usize>,
    width: Option<usize>,
    layout: Layout,
}

/// A data set with everything needed to turn one of its images into a model input.
#[derive(Debug)]
pub(crate) struct Data {
    images: ImageFolder,
    preparation: Preparation,
    input: ImageInput,
    assumed: Option<String>,
}

/// Names of left-out files listed before the rest is counted.
const NAMED: usize = 3;

impl ImageInput {
    /// The only input of `graph`, if images can feed it: four axes, three or one channels.
    pub(crate) fn of(graph: &Graph, model: &Path, layout: Option<Layout>) -> Result<Self, Error> {
        let refuse = |cause: String, cure: &str| Error::Input { model: model.to_owned(), cause, cure: cure.to_owned() };
        let [value] = graph.inputs() else {
            let names: Vec<String> = graph.inputs().iter().map(|v| format!("`{}`", graph.value(*v).name)).collect();
            let cause = format!("it has {} inputs ({})", names.len(), names.join(", "));
            return Err(refuse(cause, "models with exactly one image input can be calibrated from a folder of images"));
        };
        let declared = graph.value(*value);
        let name = declared.name.clone();
        let Some([n, a, b, c]) = declared.shape.as_deref() else {
            let cause = format!("input `{name}` does not have four axes");
            return Err(refuse(cause, "images feed inputs of shape [N, C, H, W] or [N, H, W, C]"));
        };
        let size = |d: &quantize_ir::Dim| d.known().and_then(|d| usize::try_from(d).ok()).filter(|d| *d > 0);
        let image_like = |d: Option<usize>| matches!(d, Some(1 | 3));
        let last = !image_like(size(a)) && image_like(size(c));
        let layout = layout.unwrap_or(if last { Layout::Nhwc } else { Layout::Nchw });
        let (channels, height, width) = match layout {
            Layout::Nchw => (size(a), size(b), size(c)),
            Layout::Nhwc => (size(c), size(a), size(b)),
        };
        Ok(Self { value: *value, name, batch: size(n).unwrap_or(1), channels, height, width, layout })
    }

    fn size(&self) -> Option<Size> {
        Some(Size { width: self.width?, height: self.height? })
    }

    fn describe(&self) -> String {
        let dim = |d: Option<usize>| d.map_or("?".to_owned(), |d| d.to_string());
        let (c, h, w) = (dim(self.channels), dim(self.height), dim(self.width));
        match self.layout {
            Layout::Nchw => format!("[{}, {c}, {h}, {w}]", self.batch),
            Layout::Nhwc => format!("[{}, {h}, {w}, {c}]", self.batch),
        }
    }
}

impl Data {
    /// Opens the data set and settles its preprocessing for the input of `graph`.
    pub(crate) fn open(options: &DataOptions, graph: &Graph, model: &Path) -> Result<Self, Error> {
        let (preparation, input, assumed) = match &options.preparation {
            PreparationOptions::Pillow(preprocess) => {
                let input = ImageInput::of(graph, model, preprocess.layout)?;
                let (preprocess, assumed) = resolve(preprocess, &input, model)?;
                (Preparation::Pillow(preprocess), input, assumed)
            }
            PreparationOptions::Caffe(parts) => {
                let input = ImageInput::of(graph, model, Some(Layout::Nchw))?;
                (Preparation::Caffe(transformer(parts, &input, model)?), input, None)
            }
        };
        preparation.validate()?;
        let images = match &preparation {
            Preparation::Pillow(_) => ImageFolder::open(&options.path, Limits::default())?,
            Preparation::Caffe(_) => ImageFolder::open_with_arrays(&options.path, Limits::default())?,
        };
        let positions = options.sampling.positions(images.len()).map_err(CalibError::from)?;
        Ok(Self { images: images.select(&positions)?, preparation, input, assumed })
    }

    /// Number of images.
    pub(crate) fn len(&self) -> usize {
        self.images.len()
    }

    /// Name of image `index`, for messages.
    pub(crate) fn name(&self, index: u64) -> &str {
        usize::try_from(index).ok().and_then(|i| self.images.name(i)).unwrap_or("?")
    }

    /// The images themselves.
    pub(crate) fn images(&self) -> &ImageFolder {
        &self.images
    }

    /// The input that is fed.
    pub(crate) fn input(&self) -> ValueId {
        self.input.value
    }

    /// How images are preprocessed.
    pub(crate) fn preparation(&self) -> &Preparation {
        &self.preparation
    }

    /// The range any sample can produce; `None` if arrays are among them, whose numbers nothing bounds.
    pub(crate) fn possible_range(&self) -> Result<Option<Range>, Error> {
        let (lo, hi) = self.preparation.possible_range()?;
        Ok(Range::new(lo, hi).ok().filter(|_| !self.images.has_arrays()))
    }

    /// What was assumed because nothing was said, for a warning.
    pub(crate) fn assumed(&self) -> Option<&str> {
        self.assumed.as_deref()
    }

    /// What of the folder was left out, for a log.
    pub(crate) fn left_out(&self) -> Option<String> {
        left_out(&self.images)
    }

    /// Decodes and preprocesses image `index`; a fixed batch is filled with copies.
    pub(crate) fn sample(&self, index: usize) -> Result<Tensor, Error> {
        let image = self.images.load(index)?;
        let sample = self.preparation.apply(&image)?;
        self.check_shape(image.name(), sample.dims)?;
        let mut shape = sample.dims.to_vec();
        shape[0] = self.input.batch;
        let data = if self.input.batch == 1 { sample.data } else { sample.data.repeat(self.input.batch) };
        Tensor::new(shape, data).map_err(|e| self.mismatch(image.name(), sample.dims, e.to_string()))
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

/// What of the folder is no sample, in words.
fn left_out(images: &ImageFolder) -> Option<String> {
    let count = images.left_out().len();
    let listed: Vec<String> = images.left_out().take(NAMED).map(|n| format!("`{n}`")).collect();
    let rest = if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() };
    (count > 0).then(|| format!("data: not samples, left out: {}{rest}", listed.join(", ")))
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
        ImageInput::of(&graph, Path::new("m.onnx"), None)
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
