//! The checks of TensorFlow's format, against TensorFlow.

mod digits;
mod graph_run;
mod mobilenet;
mod photos;
mod resnet;
mod small_net;
mod steps;

use super::Check;

/// All checks, the quick ones first.
pub(super) const CHECKS: &[Check] = &[
    ("demo", digits::check),
    ("small-net", small_net::check),
    ("mobilenet", mobilenet::check),
    ("resnet", resnet::check),
];
