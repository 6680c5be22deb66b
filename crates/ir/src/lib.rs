//! The framework-neutral representation every format is read into and every pass works on.
//!
//! What lives here: the graph ([`Graph`], [`Node`], [`Value`]), the closed operator set ([`Op`]), tensors and
//! their element types, quantization parameters, provenance ([`Origin`]), graph edits ([`Patch`]) and the
//! [`QuantPlan`], the hinge between what decides and what carries out.
//!
//! What does not: file formats, arithmetic (`quantize-numerics`), input and output. Nothing here opens a file, executes an operator or
//! is serialized; whoever needs a value of a constant asks its [`ConstantSource`].
#![forbid(unsafe_code)]

pub mod dtype;
pub mod graph;
pub mod integer;
pub mod op;
pub mod origin;
pub mod patch;
pub mod plan;
pub mod quant;
pub mod recipe;
pub mod shape;
pub mod tensor;

pub use dtype::DType;
pub use graph::{Constant, ConstantSource, Graph, GraphError, Node, NodeId, Value, ValueId};
pub use integer::{IntegerNode, IntegerPlan, IntegerWork};
pub use op::Op;
pub use origin::{DocId, Origin};
pub use patch::{Operand, Patch, PatchEdit, Reversal};
pub use plan::{ActivationPlan, Decision, KeepReason, NodePlan, QuantPlan, WeightPlan};
pub use quant::{Blocks, QuantError, QuantParams, Quantizers, ScaleIndex, Spread};
pub use quantize_numerics::{QuantType, Range};
pub use recipe::{Grids, OperandRole, Recipe, Support, Ties, out_of_reach};
pub use shape::{Dim, Shape, ShapeError};
pub use tensor::{Element, Tensor, TensorData, TensorError};
