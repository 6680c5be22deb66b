//! The ONNX format: reading models into the framework-neutral graph and writing them back under a plan.
//!
//! What lives here: the indexed source document ([`OnnxDocument`]), the front-end ([`import`]), the table of operators
//! with their way in and out, the recipe for onnxruntime ([`OnnxRecipe`]), the back-end ([`encode`]) and the writer of
//! graphs that came from another format ([`export`]). What does not: executing anything, data, choosing parameters.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod backend;
mod document;
mod error;
mod expand;
mod export;
mod external;
mod frontend;
mod header;
mod names;
mod nbits;
mod ops;
mod opset;
mod recipe;
mod tensor;
#[cfg(test)]
mod tests;
mod types;
mod unpack;
mod values;
mod weight;

pub use backend::{Encoded, MAX_MODEL_BYTES, Placement, Revision, encode};
pub use document::OnnxDocument;
pub use error::{OnnxError, Refusal};
pub use export::export;
pub use frontend::import;
pub use header::Header;
pub use ops::emit;
pub use recipe::{ActivationCodes, Form, GroupSize, NoSuchModel, OnnxRecipe, WeightCodes};
pub use tensor::decode_tensor_message;
