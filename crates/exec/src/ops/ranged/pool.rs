//! Pools of codes with their channels last.

use super::{code_values, codes_tensor};
use crate::error::OpError;
use quantize_ir::Tensor;
use quantize_ir::op::{RangedPadding, RangedWindow};
use quantize_kernels::Axis;
use quantize_numerics::ranged::Codes;

/// Height and width under a window.
///
/// # Errors
/// If a size is zero, or the window does not fit.
pub(super) fn axes(window: &RangedWindow, size: [usize; 2], input: [usize; 2]) -> Result<[Axis; 2], OpError> {
    let axis = |at: usize| {
        let (kernel, stride, dilation) = (size[at], window.strides[at], window.dilations[at]);
        if kernel == 0 || stride == 0 || dilation == 0 {
            return Err(OpError::shape("a window or its steps have the size 0"));
        }
        let reach = (kernel - 1).checked_mul(dilation).and_then(|reach| reach.checked_add(1));
        let reach = reach.ok_or_else(|| OpError::shape("a window is too large"))?;
        let (output, pad_begin, pad_end) = match window.padding {
            RangedPadding::Same => {
                let output = input[at].div_ceil(stride);
                let total = (output.max(1) - 1).saturating_mul(stride).saturating_add(reach).saturating_sub(input[at]);
                (output, total / 2, total - total / 2)
            }
            RangedPadding::Explicit(pads) => {
                let (begin, end) = (pads[2 * at], pads[2 * at + 1]);
                let padded = input[at].saturating_add(begin).saturating_add(end);
                let room = padded.checked_sub(reach);
                let room = room.ok_or_else(|| OpError::shape("a window is larger than the padded input"))?;
                (room / stride + 1, begin, end)
            }
        };
        Ok(Axis { input: input[at], kernel, stride, dilation, pad_begin, pad_end, output })
    };
    Ok([axis(0)?, axis(1)?])
}

/// The dimensions of activations: images, height, width, channels.
pub(super) fn dims(tensor: &Tensor) -> Result<[usize; 4], OpError> {
    <[usize; 4]>::try_from(tensor.shape())
        .map_err(|_| OpError::shape(format!("activations have the shape {:?}", tensor.shape())))
}

/// The greatest code of each window.
pub(super) fn max(window: &RangedWindow, codes: Codes, x: &Tensor) -> Result<Tensor, OpError> {
    pool(window, codes, x, |found| found.iter().copied().max().map_or(0, i32::from))
}

/// The mean of each window, of the codes that exist; ties to even.
pub(super) fn average(window: &RangedWindow, codes: Codes, x: &Tensor) -> Result<Tensor, OpError> {
    pool(window, codes, x, |found| {
        let sum: i64 = found.iter().map(|code| i64::from(*code)).sum();
        codes.nearest(sum as f64 / found.len().max(1) as f64)
    })
}

/// One code for each window and channel, made of the codes in it.
fn pool(window: &RangedWindow, codes: Codes, x: &Tensor, combine: impl Fn(&[i16]) -> i32) -> Result<Tensor, OpError> {
    let [images, height, width, channels] = dims(x)?;
    let [rows, columns] = axes(window, window.size, [height, width])?;
    let data = code_values(x)?;
    let taps = |axis: &Axis, output: usize| {
        let (axis, start) = (*axis, output * axis.stride);
        (0..axis.kernel).filter_map(move |tap| {
            (start + tap * axis.dilation).checked_sub(axis.pad_begin).filter(|at| *at < axis.input)
        })
    };
    let mut pooled = Vec::new();
    let mut found = Vec::new();
    for image in 0..images {
        for row in 0..rows.output {
            for column in 0..columns.output {
                for channel in 0..channels {
                    found.clear();
                    for y in taps(&rows, row) {
                        let line = (image * height + y) * width;
                        found.extend(taps(&columns, column).map(|x| data[(line + x) * channels + channel]));
                    }
                    pooled.push(combine(&found));
                }
            }
        }
    }
    codes_tensor(codes, &[images, rows.output, columns.output, channels], pooled.into_iter())
}
