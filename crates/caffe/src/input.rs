//! What a network is fed: the header of the file, `Input` layers, or the data layers of a file for training.

use crate::error::CaffeError;
use crate::net::{Layer, ReadOptions, location};
use crate::params::{FieldError, Params};
use crate::weights::MAX_AXES;
use quantize_document::text::{Message, Scalar};
use quantize_document::{Location, TextDocument};

/// A blob that the caller feeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetInput {
    /// Its name.
    pub blob: String,
    /// Its shape as stated, batch first: `[N, C, H, W]` for images.
    pub shape: Vec<usize>,
    /// Index of the layer that stands for it; `None` if the header of the file names it.
    pub layer: Option<usize>,
}

/// How a layer that feeds the network states its shape.
struct Source {
    kind: &'static str,
    /// Whether its second result, and one called `label`, is a label.
    labels: bool,
    shapes: fn(&Layer) -> Result<Vec<Vec<usize>>, FieldError>,
}

const SOURCES: &[Source] = &[
    Source { kind: "Input", labels: false, shapes: input_shapes },
    Source { kind: "DummyData", labels: true, shapes: dummy_shapes },
    Source { kind: "MemoryData", labels: true, shapes: memory_shape },
    Source { kind: "Data", labels: true, shapes: image_shape },
    Source { kind: "ImageData", labels: true, shapes: image_shape },
    Source { kind: "WindowData", labels: true, shapes: image_shape },
    Source { kind: "AnnotatedData", labels: true, shapes: image_shape },
    Source { kind: "HDF5Data", labels: true, shapes: |_| Ok(Vec::new()) },
    Source { kind: "Python", labels: true, shapes: |_| Ok(Vec::new()) },
];

/// Name of the result of a data layer that is a label wherever it stands.
const LABEL: &str = "label";

fn source(layer: &Layer) -> Option<&'static Source> {
    SOURCES.iter().find(|source| source.kind == layer.kind).filter(|_| layer.bottoms.is_empty())
}

/// Whether a layer feeds the network.
pub(crate) fn is_source(layer: &Layer) -> bool {
    source(layer).is_some()
}

/// Takes the labels from the results of a data layer.
pub(crate) fn take_labels(layer: &mut Layer) -> Vec<String> {
    let Some(source) = source(layer).filter(|source| source.labels) else { return Vec::new() };
    // Dummy data has a result for each shape, and which of them are labels only names tell.
    let by_place = source.kind != "DummyData";
    let is_label = |index: usize, top: &String| top == LABEL || (by_place && index > 0);
    let tops = std::mem::take(&mut layer.tops);
    let (labels, tops): (Vec<_>, Vec<_>) = tops.into_iter().enumerate().partition(|(index, top)| is_label(*index, top));
    layer.tops = tops.into_iter().map(|(_, top)| top).collect();
    labels.into_iter().map(|(_, top)| top).collect()
}

/// The blobs that the caller feeds, in file order, those of the header first.
pub(crate) fn inputs(
    text: &TextDocument,
    layers: &[Layer],
    options: &ReadOptions,
) -> Result<Vec<NetInput>, CaffeError> {
    let header = |error: FieldError| {
        let place = Location::item(text.source().path(), "the header");
        CaffeError::invalid(Location { field: Some(error.field), ..place }, error.cause)
    };
    let mut found = header_inputs(text.root()).map_err(header)?;
    for (index, layer) in layers.iter().enumerate() {
        let Some(source) = source(layer) else { continue };
        let wrong = |e: FieldError| CaffeError::invalid(location(text, layer, Some(e.field)), e.cause);
        let shapes = (source.shapes)(layer).map_err(wrong)?;
        for (position, top) in layer.tops.iter().enumerate() {
            // One shape serves all results.
            let shape = if shapes.len() == 1 { shapes.first() } else { shapes.get(position) };
            found.push(NetInput { blob: top.clone(), shape: shape.cloned().unwrap_or_default(), layer: Some(index) });
        }
    }
    let place = |input: &NetInput| match input.layer.and_then(|index| layers.get(index)) {
        Some(layer) => location(text, layer, None),
        None => Location::item(text.source().path(), format!("input `{}`", input.blob)),
    };
    if found.is_empty() {
        let location = Location::file(text.source().path());
        return Err(CaffeError::invalid(location, "the network has no input")
            .with_hint("use the deploy prototxt, which begins with an input"));
    }
    state_dims(&mut found, options, &place)?;
    found.iter().try_for_each(|input| check_shape(input, &place))?;
    Ok(found)
}

/// `input` with `input_dim` four times each, or with `input_shape`.
fn header_inputs(root: &Message) -> Result<Vec<NetInput>, FieldError> {
    let header = Params::whole(root);
    let names: Vec<&str> = root.scalars("input").filter_map(Scalar::as_str).collect();
    let dims = header.sizes("input_dim")?;
    let shapes = root.messages("input_shape").map(shape).collect::<Result<Vec<_>, _>>()?;
    if !dims.is_empty() && dims.len() != 4 * names.len() {
        return Err(header.error("input_dim", format!("{} of them for {} inputs of 4 axes", dims.len(), names.len())));
    }
    if !shapes.is_empty() && shapes.len() != names.len() {
        return Err(header.error("input_shape", format!("{} of them for {} inputs", shapes.len(), names.len())));
    }
    let by_dims = dims.chunks(4).map(<[usize]>::to_vec);
    let shapes: Vec<Vec<usize>> = if shapes.is_empty() { by_dims.collect() } else { shapes };
    let shapes = shapes.into_iter().chain(std::iter::repeat(Vec::new()));
    let input = |(name, shape): (&str, Vec<usize>)| NetInput { blob: name.to_owned(), shape, layer: None };
    Ok(names.into_iter().zip(shapes).map(input).collect())
}

fn shape(message: &Message) -> Result<Vec<usize>, FieldError> {
    Params::whole(message).sizes("dim")
}

fn input_shapes(layer: &Layer) -> Result<Vec<Vec<usize>>, FieldError> {
    let params = Params::of(&layer.params, "input_param")?;
    let shapes = params.messages("shape").map(shape).collect::<Result<Vec<_>, _>>()?;
    if shapes.len() > 1 && shapes.len() != layer.tops.len() {
        return Err(params.error("shape", format!("{} of them for {} tops", shapes.len(), layer.tops.len())));
    }
    Ok(shapes)
}

fn dummy_shapes(layer: &Layer) -> Result<Vec<Vec<usize>>, FieldError> {
    let params = Params::of(&layer.params, "dummy_data_param")?;
    let shapes = params.messages("shape").map(shape).collect::<Result<Vec<_>, _>>()?;
    if !shapes.is_empty() {
        return Ok(shapes);
    }
    let axes = [params.sizes("num")?, params.sizes("channels")?, params.sizes("height")?, params.sizes("width")?];
    let count = axes.iter().map(Vec::len).max().unwrap_or(0);
    let along = |axis: &Vec<usize>, i: usize| axis.get(i).or_else(|| axis.first()).copied();
    Ok((0..count).filter_map(|i| axes.iter().map(|axis| along(axis, i)).collect()).collect())
}

fn memory_shape(layer: &Layer) -> Result<Vec<Vec<usize>>, FieldError> {
    let params = Params::of(&layer.params, "memory_data_param")?;
    let axes = ["batch_size", "channels", "height", "width"].map(|name| params.size(name));
    let axes = axes.into_iter().collect::<Result<Option<Vec<usize>>, _>>()?;
    Ok(axes.into_iter().collect())
}

/// Messages of data layers that may hold the size of the images, as the current and the former format have it.
const IMAGE_PARAMS: &[&str] =
    &["transform_param", "data_param", "image_data_param", "window_data_param", "annotated_data_param"];

fn image_shape(layer: &Layer) -> Result<Vec<Vec<usize>>, FieldError> {
    let mut grey = false;
    let mut size = None;
    for name in IMAGE_PARAMS {
        let params = Params::of(&layer.params, name)?;
        grey |= params.flag("force_gray", false)? || !params.flag("is_color", true)?;
        let crop = params.size("crop_size")?.filter(|size| *size > 0).map(|size| (size, size));
        let resized = pair(&params, "new_height", "new_width")?;
        let inner = params.messages("resize_param").last().map(Params::whole);
        let inner = inner.map(|resize| pair(&resize, "height", "width")).transpose()?.flatten();
        size = size.or(crop).or(resized).or(inner);
    }
    let shape = |(height, width)| vec![1, if grey { 1 } else { 3 }, height, width];
    Ok(size.map(shape).into_iter().collect())
}

fn pair(params: &Params<'_>, height: &str, width: &str) -> Result<Option<(usize, usize)>, FieldError> {
    Ok(params.size(height)?.zip(params.size(width)?).filter(|(height, width)| *height > 0 && *width > 0))
}

/// Puts the caller's dims to the input they are for: the first image, or the first that states no shape.
fn state_dims(
    inputs: &mut [NetInput],
    options: &ReadOptions,
    place: &dyn Fn(&NetInput) -> Location,
) -> Result<(), CaffeError> {
    let Some(dims) = options.dims else { return Ok(()) };
    let first = inputs.iter().position(|input| matches!(input.shape.len(), 0 | 4));
    let Some(input) = inputs.get_mut(first.unwrap_or(0)) else { return Ok(()) };
    match input.shape.as_slice() {
        [] => input.shape = std::iter::once(1).chain(dims).collect(),
        [_, own @ ..] if own == dims => {}
        [batch, channels, _, _] if options.override_dims && *channels == dims[0] => {
            input.shape = std::iter::once(*batch).chain(dims).collect();
        }
        [_, own @ ..] => {
            let cause = format!("the network's input `{}` is {}, not {}", input.blob, times(own), times(&dims));
            let hint = if own.len() == 3 && own.first() == dims.first() {
                "give the network's own dims, or ask to override them"
            } else {
                "give the network's own dims; only height and width can be overridden"
            };
            return Err(CaffeError::invalid(place(input), cause).with_hint(hint));
        }
    }
    Ok(())
}

fn times(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

fn check_shape(input: &NetInput, place: &dyn Fn(&NetInput) -> Location) -> Result<(), CaffeError> {
    if input.shape.is_empty() {
        return Err(CaffeError::invalid(place(input), format!("nothing states the shape of `{}`", input.blob))
            .with_hint("give the dims of the input: channels, height, width"));
    }
    if input.shape.len() > MAX_AXES {
        let cause = format!("`{}` has {} axes, a blob has {MAX_AXES} at most", input.blob, input.shape.len());
        return Err(CaffeError::invalid(place(input), cause));
    }
    if input.shape.iter().skip(1).any(|dim| *dim == 0) {
        let cause = format!("the shape {:?} of `{}` has an empty axis", input.shape, input.blob);
        return Err(CaffeError::invalid(place(input), cause));
    }
    Ok(())
}
