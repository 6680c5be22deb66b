//! From an output index to an input coordinate, and to the nearest element.

use super::axis::ResizedAxis;
use quantize_ir::op::{CoordinateMode, NearestMode};

/// Input coordinate of output element `i`.
pub(super) fn source(axis: &ResizedAxis, mode: CoordinateMode, i: usize) -> f32 {
    let (x, input, output) = (i as f32, axis.input as f32, axis.output as f32);
    if axis.is_unchanged() {
        return x;
    }
    let half_pixel = (x + 0.5) / axis.scale - 0.5;
    match mode {
        CoordinateMode::HalfPixel => half_pixel,
        CoordinateMode::HalfPixelSymmetric => {
            let adjustment = output / (axis.scale * input);
            input / 2.0 * (1.0 - adjustment) + half_pixel
        }
        CoordinateMode::PytorchHalfPixel if axis.output > 1 => half_pixel,
        CoordinateMode::PytorchHalfPixel => 0.0,
        CoordinateMode::AlignCorners if axis.output == 1 => 0.0,
        CoordinateMode::AlignCorners => x * (input - 1.0) / (output - 1.0),
        CoordinateMode::Asymmetric => x / axis.scale,
        CoordinateMode::TfHalfPixelForNearest => (x + 0.5) / axis.scale,
        CoordinateMode::TfCropAndResize { .. } => {
            let (start, end) = axis.roi;
            if axis.output > 1 {
                start * (input - 1.0) + (x * (end - start) * (input - 1.0)) / (output - 1.0)
            } else {
                0.5 * (start + end) * (input - 1.0)
            }
        }
    }
}

/// Distance from a half within which a coordinate counts as one: the rounding error of its division.
const TIE: f64 = 1e-6;

/// Index of the element nearest to `x`, not yet limited to the input.
pub(super) fn nearest(x: f32, mode: NearestMode) -> i64 {
    let x = f64::from(x);
    let index = match mode {
        NearestMode::RoundPreferFloor => (x - 0.5 - TIE).ceil(),
        NearestMode::RoundPreferCeil => (x + 0.5 + TIE).floor(),
        NearestMode::Floor => x.floor(),
        NearestMode::Ceil => x.ceil(),
    };
    index as i64
}
