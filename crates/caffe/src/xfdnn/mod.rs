//! What the xfDNN runtime takes: the rules of its hardware, and the quantization file.

pub mod backend;
pub mod file;
mod json;
pub mod recipe;

pub use json::TextStyle;
