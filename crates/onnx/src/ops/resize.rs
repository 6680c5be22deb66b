//! Resampling, whose operands and attributes changed with nearly every opset.

use super::Row;
use super::reader::{NodeReader, Read, ReadError};
use quantize_ir::op::{AspectPolicy, CoordinateMode, NearestMode, Resize, ResizeMode};
use quantize_ir::{Op, Tensor};

pub(super) const ROWS: &[Row] = &[
    Row { name: "Resize", operands: 1..=4, results: 1, read: resize },
    Row { name: "Upsample", operands: 1..=4, results: 1, read: upsample },
];

const NEAREST: [(&str, NearestMode); 4] = [
    ("round_prefer_floor", NearestMode::RoundPreferFloor),
    ("round_prefer_ceil", NearestMode::RoundPreferCeil),
    ("floor", NearestMode::Floor),
    ("ceil", NearestMode::Ceil),
];

const ASPECTS: [(&str, AspectPolicy); 3] = [
    ("stretch", AspectPolicy::Stretch),
    ("not_larger", AspectPolicy::NotLarger),
    ("not_smaller", AspectPolicy::NotSmaller),
];

/// Spellings of [`CoordinateMode`]; `tf_crop_and_resize` takes its value from another attribute.
pub(super) const COORDINATES: [(&str, CoordinateMode); 6] = [
    ("half_pixel", CoordinateMode::HalfPixel),
    ("half_pixel_symmetric", CoordinateMode::HalfPixelSymmetric),
    ("pytorch_half_pixel", CoordinateMode::PytorchHalfPixel),
    ("align_corners", CoordinateMode::AlignCorners),
    ("asymmetric", CoordinateMode::Asymmetric),
    ("tf_half_pixel_for_nn", CoordinateMode::TfHalfPixelForNearest),
];

/// Where an older form keeps its operands in today's order x, roi, scales, sizes.
const DATA_AND_SCALES: &[usize] = &[0, 2];

fn resize(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    if node.opset() < 11 {
        return first_resize(node);
    }
    if !node.has_input(2) && !node.has_input(3) {
        return Err(ReadError::Form("it gives neither scales nor sizes"));
    }
    let mode = match node.text_or("mode", "nearest")? {
        "nearest" => ResizeMode::Nearest(node.choice("nearest_mode", "round_prefer_floor", &NEAREST)?),
        "linear" => ResizeMode::Linear,
        "cubic" => ResizeMode::Cubic {
            coefficient: node.float_or("cubic_coeff_a", -0.75)?,
            exclude_outside: node.flag("exclude_outside", false)?,
        },
        other => return Err(ReadError::Value { name: "mode", value: format!("`{other}`") }),
    };
    let op = Resize {
        mode,
        coordinates: coordinates(node)?,
        antialias: node.flag("antialias", false)?,
        axes: node.ints("axes")?.unwrap_or_default().to_vec(),
        aspect: node.choice("keep_aspect_ratio_policy", "stretch", &ASPECTS)?,
    };
    Ok(Op::Resize(op).into())
}

fn coordinates(node: &NodeReader<'_>) -> Result<CoordinateMode, ReadError> {
    const NAME: &str = "coordinate_transformation_mode";
    if node.text(NAME)? == Some("tf_crop_and_resize") {
        return Ok(CoordinateMode::TfCropAndResize { extrapolation: node.float_or("extrapolation_value", 0.0)? });
    }
    node.choice(NAME, "half_pixel", &COORDINATES)
}

/// The first `Resize`: nearest rounds coordinates up along an axis that shrinks, down along one that grows.
///
/// A shared operator rounds all axes alike, so the scales must be known and agree.
fn first_resize(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let mut read = scales_operand(node)?;
    if let Op::Resize(Resize { mode: ResizeMode::Nearest(rounding), .. }) = &mut read.op {
        *rounding = first_rounding(node)?;
    }
    Ok(read)
}

fn first_rounding(node: &NodeReader<'_>) -> Result<NearestMode, ReadError> {
    let tensor = node.constant(1);
    let Some(scales) = tensor.as_ref().and_then(|t| t.as_slice::<f32>().ok()) else {
        return Err(ReadError::Form("its scales are not constant, so how nearest rounds at this opset is not known"));
    };
    let (shrinks, grows) = (scales.iter().any(|s| *s < 1.0), scales.iter().any(|s| *s > 1.0));
    match (shrinks, grows) {
        (false, _) => Ok(NearestMode::Floor),
        (true, false) => Ok(NearestMode::Ceil),
        (true, true) => Err(ReadError::Form("nearest rounds up where it shrinks and down where it grows")),
    }
}

/// The form of `Upsample` and of the first `Resize`: coordinates are divided by the scale, nearest rounds down.
fn asymmetric(node: &NodeReader<'_>) -> Result<Resize, ReadError> {
    let modes = [
        ("nearest", ResizeMode::Nearest(NearestMode::Floor)),
        ("linear", ResizeMode::Linear),
        ("bilinear", ResizeMode::Linear),
    ];
    Ok(Resize {
        mode: node.choice("mode", "nearest", &modes)?,
        coordinates: CoordinateMode::Asymmetric,
        antialias: false,
        axes: Vec::new(),
        aspect: AspectPolicy::Stretch,
    })
}

fn scales_operand(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    if !node.has_input(1) {
        return Err(ReadError::Operand(1));
    }
    Ok(Read { placed: Some(DATA_AND_SCALES), operands: Some(2), ..Op::Resize(asymmetric(node)?).into() })
}

fn upsample(node: &NodeReader<'_>) -> Result<Read, ReadError> {
    if node.opset() >= 9 {
        return scales_operand(node);
    }
    let op = Op::Resize(asymmetric(node)?);
    let scales = node.floats("scales")?.ok_or(ReadError::Missing("scales"))?;
    Ok(node.old_form(op)?.with(2, Tensor::vector(scales.to_vec())))
}
