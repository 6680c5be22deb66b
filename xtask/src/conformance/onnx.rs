//! The checks of ONNX, against onnxruntime.

mod accuracy;
mod demo;
mod determinism;
mod encoder;
mod four_bit;
mod fp32;
mod identity;
pub(crate) mod lite0;
mod memory;
pub(crate) mod models;
mod networks;
mod simulation;
mod wheel;

use super::Check;

/// All checks, the quick ones first.
pub(super) const CHECKS: &[Check] = &[
    ("identity", identity::check),
    ("fp32", fp32::check),
    ("wheel", wheel::check),
    ("networks", networks::check),
    ("encoder", encoder::check),
    ("four-bit", four_bit::check),
    ("demo", demo::check),
    ("lite0", accuracy::check),
    ("simulation", simulation::check),
    ("determinism", determinism::check),
    ("memory", memory::check),
];
