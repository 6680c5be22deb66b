//! What the recipes make of real networks, judged in onnxruntime: beside other tools, and with and without each step.

mod nncf;
mod recipes;
mod steps;

use super::Check;

/// All checks, the quick ones first.
pub(super) const CHECKS: &[Check] = &[("recipes", recipes::check), ("nncf", nncf::check), ("steps", steps::check)];
