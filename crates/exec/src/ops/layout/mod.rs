//! Operators that move elements without computing new ones: joining and cutting ([`join`]), reading in another order
//! ([`view`]), giving another shape ([`reshape`]) and extending at the borders ([`pad`]). Resampling is in
//! [`super::resize`].

mod join;
mod pad;
mod reshape;
mod slice;
mod view;

pub(crate) use join::{concat, gather, split};
pub(crate) use pad::pad;
pub(crate) use reshape::{flatten, identity, reshape, squeeze, unsqueeze};
pub(crate) use slice::slice;
pub(crate) use view::{depth_to_space, expand, space_to_depth, tile, transpose};
pub(crate) use view::{expand_to, permute};

use crate::error::OpError;
use quantize_ir::shape::resolve_axis;

/// Resolves a list of axes that may be negative; none may come twice.
pub(crate) fn resolve_axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, OpError> {
    let mut seen = vec![false; rank];
    let mut resolved = Vec::with_capacity(axes.len().min(rank));
    for &axis in axes {
        let index = resolve_axis(axis, rank)?;
        if std::mem::replace(&mut seen[index], true) {
            return Err(OpError::shape(format!("axis {axis} is given twice")));
        }
        resolved.push(index);
    }
    Ok(resolved)
}

/// Sizes given as an operand.
pub(crate) fn sizes(values: &[i64], what: &str) -> Result<Vec<usize>, OpError> {
    let size = |&v: &i64| usize::try_from(v).map_err(|_| OpError::shape(format!("{what} of {v}")));
    values.iter().map(size).collect()
}
