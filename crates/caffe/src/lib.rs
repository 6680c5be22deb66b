//! The Caffe format: reading a network and its weights into the framework-neutral graph, and writing what the xfDNN
//! runtime takes.
//!
//! What lives here: the source document ([`CaffeDocument`]), the front-end ([`import`]), the table of layer types and
//! the network written back with normalizations folded ([`merged()`]).
//! [`xfdnn`] holds what the xfDNN runtime takes: the rules of its hardware and the quantization file.
//! What does not live here: executing anything, data, choosing parameters.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod document;
mod error;
mod frontend;
mod input;
mod kind;
mod layers;
mod merged;
mod net;
mod params;
mod phase;
#[cfg(test)]
mod tests;
mod weights;
pub mod xfdnn;

pub use document::CaffeDocument;
pub use error::CaffeError;
pub use frontend::import;
pub use input::NetInput;
pub use merged::{MergedModel, merged};
pub use net::{Layer, ReadOptions};
pub use weights::{StoredBlob, StoredLayer, StoredShape, Weights};
