//! Resampling: which sizes and scales each axis gets, then nearest elements by index tables, or linear and cubic
//! interpolation by one pass over each axis that changes.
//!
//! Coordinates are computed in single precision, as the runtimes the results are compared with do: ties and borders
//! fall the same way.

mod axis;
mod coordinate;
mod separable;
mod taps;

use super::alloc;
use super::dispatch::on_elements;
use super::elementwise::convert;
use super::tables::gather_tables;
use crate::error::OpError;
use crate::operands::Operands;
use crate::pool::Pool;
use axis::ResizedAxis;
use quantize_ir::op::{CoordinateMode, NearestMode, Resize, ResizeMode};
use quantize_ir::{DType, Tensor, TensorData};

/// Resamples to `floor(input * scale)` elements along each axis, or to the sizes given.
///
/// An axis of scale 1, and an operand that has the result's shape already, stay as they are. Interpolated integers are truncated toward zero.
///
/// # Errors
/// If neither or both of scales and sizes are given, they do not fit the axes, or an empty axis should grow.
pub(crate) fn resize(attrs: &Resize, operands: Operands<'_>, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let x = operands.required(0)?;
    let axes = axis::resolve(attrs, operands, x.shape())?;
    let shape: Vec<usize> = axes.iter().map(|a| a.output).collect();
    let len = alloc::result_len(&shape)?;
    let y = if len == 0 {
        Tensor::from_data(shape, empty(x.dtype()))?
    } else if x.is_empty() {
        return Err(OpError::shape(format!("shape {:?} has nothing to resample", x.shape())));
    } else if shape == x.shape() {
        on_elements!(x.data(), v => alloc::copied(v, shape, pool))?
    } else {
        resample(attrs, x, &axes, shape, pool)?
    };
    Ok(vec![y])
}

fn empty(dtype: DType) -> TensorData {
    convert(&TensorData::Bool(Vec::new()), dtype)
}

fn resample(
    attrs: &Resize,
    x: &Tensor,
    axes: &[ResizedAxis],
    shape: Vec<usize>,
    pool: &mut Pool,
) -> Result<Tensor, OpError> {
    match (attrs.mode, x.data()) {
        (ResizeMode::Nearest(nearest), _) => resample_nearest(attrs.coordinates, nearest, x, axes, pool),
        (_, TensorData::F32(v)) => separable::interpolate(attrs, v, x.shape(), axes, shape, pool),
        (_, TensorData::Bool(_)) => Err(super::dispatch::unsupported("Resize by interpolation", DType::Bool)),
        (_, data) => {
            let TensorData::F32(single) = convert(data, DType::F32) else {
                return Err(super::dispatch::unsupported("Resize by interpolation", x.dtype()));
            };
            let y = separable::interpolate(attrs, &single, x.shape(), axes, shape, pool)?;
            let shape = y.shape().to_vec();
            Ok(Tensor::from_data(shape, convert(y.data(), x.dtype()))?)
        }
    }
}

fn resample_nearest(
    coordinates: CoordinateMode,
    nearest: NearestMode,
    x: &Tensor,
    axes: &[ResizedAxis],
    pool: &mut Pool,
) -> Result<Tensor, OpError> {
    let tables: Vec<_> = axes.iter().map(|axis| nearest_table(axis, coordinates, nearest)).collect();
    let fill = TensorData::F32(vec![extrapolation(coordinates).unwrap_or_default()]);
    let fill = convert(&fill, x.dtype());
    on_elements!(x.data(), v => gather_tables(v, x.shape(), &tables, first_as(v, &fill), pool))
}

fn first_as<T: quantize_ir::Element + Default>(_: &[T], data: &TensorData) -> T {
    T::slice(data).and_then(|v| v.first().copied()).unwrap_or_default()
}

fn nearest_table(axis: &ResizedAxis, coordinates: CoordinateMode, nearest: NearestMode) -> Vec<Option<usize>> {
    let source = |i| {
        let x = coordinate::source(axis, coordinates, i);
        let outside = extrapolation(coordinates).is_some() && axis.is_outside(x);
        let index = coordinate::nearest(x, nearest).clamp(0, axis.input.saturating_sub(1) as i64);
        (!outside).then_some(index as usize)
    };
    (0..axis.output).map(source).collect()
}

/// The value outside the region of interest, where there is such a thing.
fn extrapolation(coordinates: CoordinateMode) -> Option<f32> {
    match coordinates {
        CoordinateMode::TfCropAndResize { extrapolation } => Some(extrapolation),
        _ => None,
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
