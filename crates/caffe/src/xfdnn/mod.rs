//! What the xfDNN runtime takes: the rules of its hardware, and the quantization file.

mod backend;
mod carried;
mod file;
mod json;
mod recipe;
mod runtime;

pub use backend::{WeightThresholds, in_layer_order, layer_kind, quantization_file};
pub use carried::with_planned_weights;
pub use file::{Entry, FileFormat, LayerKind, LayerThresholds, QuantizationFile};
pub use json::TextStyle;
pub use recipe::{EntryKinds, XfdnnRecipe};
pub use runtime::{FileRecipe, integer_plan};
