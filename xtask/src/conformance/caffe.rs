//! The checks of Caffe, against OpenCV and onnxruntime.

mod command;
mod determinism;
mod emulation;
mod fp32;
mod identity;
mod int8;
mod networks;
mod onnx;
mod open_nsfw;

use super::Check;

/// All checks, the quick ones first.
pub(super) const CHECKS: &[Check] = &[
    ("identity", identity::check),
    ("fp32", fp32::check),
    ("onnx", onnx::check),
    ("int8", int8::check),
    ("emulation", emulation::check),
    ("command", command::check),
    ("determinism", determinism::check),
];
