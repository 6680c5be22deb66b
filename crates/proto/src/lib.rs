//! Message types of the model formats that are stored as protocol buffers,
//! generated from the schemas in the top-level `proto` folder.
//!
//! Only data types live here. Reading files, keeping unknown fields and
//! interpreting messages belong to the document and format crates.
#![forbid(unsafe_code)]

/// Messages of the ONNX model format.
///
/// The schema is proto2: every singular field is an `Option`, so a field that
/// is absent and one that is present with its default value stay different.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod onnx {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

#[cfg(test)]
mod field_numbers;
