//! The checks of TensorFlow's format, against TensorFlow.

mod graph_run;
mod mobilenet;
mod photos;
mod stages;

use super::Check;

/// All checks, the quick ones first.
pub(super) const CHECKS: &[Check] = &[("stages", stages::check), ("mobilenet", mobilenet::check)];
