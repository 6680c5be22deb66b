//! TensorFlow: graphs as documents that can be edited.
//!
//! | module | what lives there |
//! |---|---|
//! | `document` | files: a GraphDef, MetaGraph or SavedModel, binary or text |
//! | `checkpoint` | the values of variables |
//! | `graph`, `node`, `attr`, `tensor` | the graph, its nodes, their attributes and tensors |
//! | `shape`, `dtype` | partly known shapes, element types |
//! | `backend` | a plan carried out on a graph |
//! | `summary` | what a graph is |
//! | `freeze` | variables become constants |
//! | `eightbit` | reals become codes of 8 bits with ranges that are found as the graph runs |
//! | `frontend` | from the graph to the framework-neutral one |
//! | `log` | what a running graph prints of its ranges |
//! | `recipe` | what TensorFlow computes on integers |
//! | `transform` | transforms and the language that requests them |
//! | `order` | orders of execution |
//! | `names` | names of nodes as users write them |
//! | `error` | what can go wrong |
//!
//! What a file holds is kept as bytes until someone asks; what nobody edits is written as it was.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod attr;
pub mod backend;
pub mod checkpoint;
pub mod document;
pub mod dtype;
pub mod eightbit;
pub mod error;
pub mod freeze;
pub mod frontend;
pub mod graph;
pub mod log;
pub mod names;
pub mod node;
mod number;
pub mod order;
mod outputs;
mod reach;
pub mod recipe;
mod schema;
pub mod shape;
pub mod summary;
pub mod tensor;
#[cfg(test)]
mod tests;
mod text;
pub mod transform;
mod wire;

pub use attr::{Attr, AttrList, AttrValue};
pub use backend::{Encoded, Revision, encode};
pub use checkpoint::{Checkpoint, Variable};
pub use document::{Container, Encoding, ReadOptions, Signature, TensorName, TensorflowDocument, render};
pub use dtype::DataType;
pub use eightbit::{Covered, Eightbit, EightbitOptions, eightbit};
pub use error::TensorflowError;
pub use freeze::{FreezeOptions, Frozen, freeze};
pub use frontend::{Request, import, likely_outputs};
pub use graph::{GraphDef, GraphIndex};
pub use log::{FutureRange, Print, future_ranges, prints};
pub use names::{node_name, node_names};
pub use node::{Input, NodeDef, Port};
pub use order::execution_order;
pub use recipe::{SignedSum, TensorflowRecipe};
pub use shape::PartialShape;
pub use summary::{Fed, GraphSummary, structure};
pub use tensor::TensorProto;
pub use transform::language::{Call, parse as parse_transforms};
pub use transform::{Evaluator, Setting, Transformed, transform, transform_names};
