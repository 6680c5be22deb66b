//! The size and scale each axis is resampled to.

use crate::error::OpError;
use crate::operands::Operands;
use crate::ops::layout::resolve_axes;
use quantize_ir::op::{AspectPolicy, CoordinateMode, Resize};
use quantize_ir::{Tensor, TensorError};

/// How one axis is resampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ResizedAxis {
    /// Elements before.
    pub(super) input: usize,
    /// Elements after.
    pub(super) output: usize,
    /// Elements after for each one before.
    pub(super) scale: f32,
    /// Region of interest, as fractions of the input.
    pub(super) roi: (f32, f32),
}

impl ResizedAxis {
    fn unchanged(input: usize) -> Self {
        Self { input, output: input, scale: 1.0, roi: (0.0, 1.0) }
    }

    /// Whether nothing happens along the axis.
    pub(super) fn is_unchanged(&self) -> bool {
        self.scale == 1.0 && self.input == self.output
    }

    /// Whether an input coordinate lies outside the input.
    pub(super) fn is_outside(&self, x: f32) -> bool {
        !self.is_unchanged() && !(0.0..=self.input as f32 - 1.0).contains(&x)
    }

    fn scaled(mut self, scale: f32) -> Result<Self, OpError> {
        let output = (scale * self.input as f32).floor();
        if !(scale > 0.0 && scale.is_finite() && output < 2f32.powi(32)) {
            return Err(OpError::shape(format!("a scale of {scale} for an axis of {}", self.input)));
        }
        (self.output, self.scale) = (output as usize, scale);
        Ok(self)
    }

    fn sized(mut self, size: i64) -> Result<Self, OpError> {
        self.output = usize::try_from(size).map_err(|_| OpError::shape(format!("a size of {size}")))?;
        self.scale = self.output as f32 / self.input as f32;
        Ok(self)
    }
}

/// Resolves the operands of a resize over an input of `shape`.
pub(super) fn resolve(attrs: &Resize, operands: Operands<'_>, shape: &[usize]) -> Result<Vec<ResizedAxis>, OpError> {
    let chosen = match attrs.axes.as_slice() {
        [] => (0..shape.len()).collect(),
        axes => resolve_axes(axes, shape.len())?,
    };
    let given = |slot| operands.optional(slot).filter(|t: &&Tensor| !t.is_empty());
    let mut axes: Vec<ResizedAxis> = shape.iter().map(|&d| ResizedAxis::unchanged(d)).collect();
    match (given(2), given(3)) {
        (Some(scales), None) => apply_scales(&mut axes, &chosen, scales.as_slice()?)?,
        (None, Some(sizes)) => apply_sizes(&mut axes, &chosen, &sizes.to_i64_vec()?, attrs.aspect)?,
        (None, None) if shape.is_empty() => {}
        _ => return Err(OpError::shape("a resize needs either scales or sizes")),
    }
    if let (CoordinateMode::TfCropAndResize { .. }, Some(roi)) = (attrs.coordinates, given(1)) {
        apply_roi(&mut axes, &chosen, roi)?;
    }
    Ok(axes)
}

fn check_len(what: &str, len: usize, expected: usize) -> Result<(), OpError> {
    if len == expected { Ok(()) } else { Err(OpError::shape(format!("{len} {what}, expected {expected}"))) }
}

fn apply_scales(axes: &mut [ResizedAxis], chosen: &[usize], scales: &[f32]) -> Result<(), OpError> {
    check_len("scales", scales.len(), chosen.len())?;
    for (&i, &scale) in chosen.iter().zip(scales) {
        axes[i] = axes[i].scaled(scale)?;
    }
    Ok(())
}

fn apply_sizes(axes: &mut [ResizedAxis], chosen: &[usize], sizes: &[i64], aspect: AspectPolicy) -> Result<(), OpError> {
    check_len("sizes", sizes.len(), chosen.len())?;
    for (&i, &size) in chosen.iter().zip(sizes) {
        axes[i] = axes[i].sized(size)?;
    }
    let scales = chosen.iter().map(|&i| axes[i].scale);
    let common = match aspect {
        AspectPolicy::Stretch => return Ok(()),
        AspectPolicy::NotLarger => scales.fold(f32::INFINITY, f32::min),
        AspectPolicy::NotSmaller => scales.fold(0.0, f32::max),
    };
    for &i in chosen {
        let rounded = (common * axes[i].input as f32).round();
        axes[i] = axes[i].scaled(common)?;
        axes[i].output = rounded as usize;
    }
    Ok(())
}

fn apply_roi(axes: &mut [ResizedAxis], chosen: &[usize], roi: &Tensor) -> Result<(), OpError> {
    let wide: Vec<f32>;
    let roi: &[f32] = match roi.as_slice::<f64>() {
        Ok(v) => {
            wide = v.iter().map(|&x| x as f32).collect();
            &wide
        }
        Err(_) => roi.as_slice().map_err(|e: TensorError| OpError::from(e))?,
    };
    check_len("bounds of the region of interest", roi.len(), 2 * chosen.len())?;
    for (k, &i) in chosen.iter().enumerate() {
        axes[i].roi = (roi[k], roi[k + chosen.len()]);
    }
    Ok(())
}
