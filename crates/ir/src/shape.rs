//! Shape arithmetic shared by every interpreter of the operators: broadcasting, window sizes, axes.
//!
//! [`Shape`] describes what is known before execution; the functions work on the sizes known while executing.

use crate::op::{Padding, Rounding, Window};

/// One dimension of a declared shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A number.
    Known(u64),
    /// A named dimension, such as the batch.
    Symbol(String),
    /// Nothing is known.
    Unknown,
}

impl Dim {
    /// The number, if it is known.
    pub fn known(&self) -> Option<u64> {
        match self {
            Self::Known(n) => Some(*n),
            _ => None,
        }
    }
}

/// A declared shape: one [`Dim`] for each axis.
pub type Shape = Vec<Dim>;

/// Why operand shapes do not fit an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// Operands cannot be broadcast together.
    #[error("shapes {0:?} and {1:?} cannot be broadcast together")]
    Broadcast(Vec<usize>, Vec<usize>),
    /// An axis lies outside the rank.
    #[error("axis {axis} is outside a tensor of rank {rank}")]
    Axis {
        /// The axis as given.
        axis: i64,
        /// Rank of the tensor.
        rank: usize,
    },
    /// A window does not fit its padded input.
    #[error("a window of {window} does not fit a padded input of {input}")]
    Window {
        /// Extent of the dilated window.
        window: usize,
        /// Input size with its padding.
        input: usize,
    },
    /// Anything else, in words.
    #[error("{0}")]
    Invalid(String),
}

/// Turns a possibly negative axis into an index below `rank`.
///
/// # Errors
/// If the axis lies outside `-rank..rank`.
pub fn resolve_axis(axis: i64, rank: usize) -> Result<usize, ShapeError> {
    let outside = ShapeError::Axis { axis, rank };
    let r = i64::try_from(rank).map_err(|_| outside.clone())?;
    let resolved = if axis < 0 { axis.checked_add(r) } else { Some(axis) };
    match resolved {
        Some(a) if (0..r).contains(&a) => usize::try_from(a).map_err(|_| outside),
        _ => Err(outside),
    }
}

/// Shape two operands broadcast to: aligned at the last axis, a dimension of 1 stretches.
///
/// # Errors
/// If two aligned dimensions differ and neither is 1.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, ShapeError> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |k| s[k]);
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(ShapeError::Broadcast(a.to_vec(), b.to_vec())),
        })
        .collect()
}

/// Where a sliding window falls along one spatial axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowAxis {
    /// Taps of the window.
    pub kernel: usize,
    /// Step between neighbouring outputs.
    pub stride: usize,
    /// Distance between taps.
    pub dilation: usize,
    /// Implicit elements before the input.
    pub pad_begin: usize,
    /// Implicit elements after the input.
    pub pad_end: usize,
    /// Number of outputs.
    pub output: usize,
}

/// Resolves a window over `input` spatial sizes: padding and output size along each axis.
///
/// Output sizes are `floor((input + pads - extent) / stride) + 1` with `extent = dilation * (kernel - 1) + 1`; rounding
/// up keeps a last window only if it starts inside the input or its leading padding.
///
/// # Errors
/// If a stride, dilation or kernel size is zero, a list has the wrong length, or a window does not fit.
pub fn resolve_window(window: &Window, kernel: &[usize], input: &[usize]) -> Result<Vec<WindowAxis>, ShapeError> {
    let rank = input.len();
    if kernel.len() != rank {
        return Err(ShapeError::Invalid(format!("a kernel of rank {} over {rank} spatial axes", kernel.len())));
    }
    let strides = spread(&window.strides, rank, "strides")?;
    let dilations = spread(&window.dilations, rank, "dilations")?;
    (0..rank)
        .map(|i| {
            let (begin, end) = explicit_pads(&window.padding, i, rank)?;
            let axis = WindowAxis {
                kernel: kernel[i],
                stride: strides[i],
                dilation: dilations[i],
                pad_begin: begin,
                pad_end: end,
                output: 0,
            };
            resolve_axis_window(axis, &window.padding, window.rounding, input[i])
        })
        .collect()
}

fn spread(list: &[usize], rank: usize, what: &str) -> Result<Vec<usize>, ShapeError> {
    match list.len() {
        0 => Ok(vec![1; rank]),
        n if n == rank => Ok(list.to_vec()),
        n => Err(ShapeError::Invalid(format!("{n} {what} for {rank} spatial axes"))),
    }
}

fn explicit_pads(padding: &Padding, axis: usize, rank: usize) -> Result<(usize, usize), ShapeError> {
    match padding {
        Padding::Explicit { begin, end } if begin.is_empty() && end.is_empty() => Ok((0, 0)),
        Padding::Explicit { begin, end } if begin.len() == rank && end.len() == rank => Ok((begin[axis], end[axis])),
        Padding::Explicit { begin, end } => {
            Err(ShapeError::Invalid(format!("{}+{} pads for {rank} spatial axes", begin.len(), end.len())))
        }
        Padding::SameUpper | Padding::SameLower | Padding::Valid => Ok((0, 0)),
    }
}

fn resolve_axis_window(
    mut axis: WindowAxis,
    padding: &Padding,
    rounding: Rounding,
    input: usize,
) -> Result<WindowAxis, ShapeError> {
    if axis.kernel == 0 || axis.stride == 0 || axis.dilation == 0 {
        return Err(ShapeError::Invalid("kernel sizes, strides and dilations must be positive".into()));
    }
    let overflow = || ShapeError::Invalid("window sizes overflow".into());
    let extent = (axis.kernel - 1).checked_mul(axis.dilation).and_then(|e| e.checked_add(1)).ok_or_else(overflow)?;
    if matches!(padding, Padding::SameUpper | Padding::SameLower) {
        axis.output = input.div_ceil(axis.stride);
        let last = axis.output.saturating_sub(1).checked_mul(axis.stride).ok_or_else(overflow)?;
        let total = last.checked_add(extent).ok_or_else(overflow)?.saturating_sub(input);
        let small = total / 2;
        let upper = matches!(padding, Padding::SameUpper);
        (axis.pad_begin, axis.pad_end) = if upper { (small, total - small) } else { (total - small, small) };
        return Ok(axis);
    }
    let padded = input.checked_add(axis.pad_begin).and_then(|p| p.checked_add(axis.pad_end)).ok_or_else(overflow)?;
    let free = padded.checked_sub(extent).ok_or(ShapeError::Window { window: extent, input: padded })?;
    axis.output = match rounding {
        Rounding::Floor => free / axis.stride + 1,
        Rounding::Ceil => {
            let outputs = free.div_ceil(axis.stride) + 1;
            let starts_outside = (outputs - 1).saturating_mul(axis.stride) >= input + axis.pad_begin;
            if starts_outside { outputs - 1 } else { outputs }
        }
    };
    Ok(axis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(strides: &[usize], padding: Padding, rounding: Rounding) -> Window {
        Window { strides: strides.to_vec(), dilations: vec![], padding, rounding }
    }

    #[test]
    fn broadcasting_follows_the_last_axis() {
        assert_eq!(broadcast(&[2, 1, 4], &[3, 1]), Ok(vec![2, 3, 4]));
        assert_eq!(broadcast(&[], &[5]), Ok(vec![5]));
        assert_eq!(broadcast(&[0], &[1]), Ok(vec![0]));
        assert!(broadcast(&[2], &[3]).is_err());
    }

    #[test]
    fn axes_count_from_either_end() {
        assert_eq!(resolve_axis(-1, 3), Ok(2));
        assert_eq!(resolve_axis(0, 3), Ok(0));
        assert!(resolve_axis(3, 3).is_err() && resolve_axis(-4, 3).is_err() && resolve_axis(i64::MIN, 1).is_err());
    }

    #[test]
    fn window_sizes() {
        let none = Padding::Explicit { begin: vec![], end: vec![] };
        let cases = [
            ("floor", window(&[2], none.clone(), Rounding::Floor), 3, 8, (0, 0, 3)),
            ("ceil", window(&[2], none.clone(), Rounding::Ceil), 3, 8, (0, 0, 4)),
            ("ceil drops a window that starts outside", window(&[3], none, Rounding::Ceil), 1, 3, (0, 0, 1)),
            ("same upper", window(&[2], Padding::SameUpper, Rounding::Floor), 3, 224, (0, 1, 112)),
            ("same lower", window(&[2], Padding::SameLower, Rounding::Floor), 3, 224, (1, 0, 112)),
            ("valid", window(&[2], Padding::Valid, Rounding::Floor), 3, 224, (0, 0, 111)),
        ];
        for (name, window, kernel, input, expected) in cases {
            let axis = resolve_window(&window, &[kernel], &[input]).unwrap()[0];
            assert_eq!((axis.pad_begin, axis.pad_end, axis.output), expected, "{name}");
        }
    }

    #[test]
    fn a_window_larger_than_its_input_is_an_error() {
        let w = window(&[1], Padding::Valid, Rounding::Floor);
        assert_eq!(resolve_window(&w, &[5], &[4]), Err(ShapeError::Window { window: 5, input: 4 }));
        assert!(resolve_window(&window(&[0], Padding::Valid, Rounding::Floor), &[1], &[4]).is_err());
    }
}
