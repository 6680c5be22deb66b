//! Typed access to the attributes of a node.

use quantize_ir::{Op, Tensor};
use quantize_proto::onnx::attribute_proto::AttributeType;
use quantize_proto::onnx::{AttributeProto, NodeProto, TensorProto};
use std::sync::Arc;

/// Why a node of a known operator cannot be read as that operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    /// An attribute has another type than the operator's.
    #[error("attribute `{0}` has the wrong type")]
    Type(&'static str),
    /// A required attribute is missing.
    #[error("attribute `{0}` is missing")]
    Missing(&'static str),
    /// An attribute has a value that makes no sense.
    #[error("attribute `{name}` has value {value}")]
    Value {
        /// The attribute.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A required operand is missing.
    #[error("operand {0} is missing")]
    Operand(usize),
    /// More operands or results than the operator has.
    #[error("it has {found} {what}, at most {most} are possible")]
    TooMany {
        /// Number of them.
        found: usize,
        /// Number the operator has at most.
        most: usize,
        /// What they are.
        what: &'static str,
    },
    /// The operator exists, but not in this form.
    #[error("{0}")]
    Form(&'static str),
    /// The node contradicts the model around it: no runtime can run it.
    #[error("{0}")]
    Contradiction(String),
}

/// A node read into the shared operator set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Read {
    pub(crate) op: Op,
    /// Operands added behind the node's own, by slot.
    pub(crate) added: Vec<(usize, Tensor)>,
    /// Number of the node's own operands that are kept; the others mean nothing to the shared operator.
    pub(crate) operands: Option<usize>,
    /// Slots into which the node's own operands go, if not in order.
    pub(crate) placed: Option<&'static [usize]>,
}

impl From<Op> for Read {
    fn from(op: Op) -> Self {
        Self { op, added: Vec::new(), operands: None, placed: None }
    }
}

impl Read {
    /// With `tensor` as operand `slot`.
    pub(crate) fn with(mut self, slot: usize, tensor: Tensor) -> Self {
        self.added.push((slot, tensor));
        self
    }

    /// With `tensor` as operand `slot`, if there is one.
    pub(crate) fn with_some(self, slot: usize, tensor: Option<Tensor>) -> Self {
        match tensor {
            Some(tensor) => self.with(slot, tensor),
            None => self,
        }
    }

    /// Whether the shared operator has an operand in `slot`.
    pub(super) fn fills(&self, slot: usize, node: &NodeReader<'_>) -> bool {
        let own = match self.placed {
            None => Some(slot),
            Some(slots) => slots.iter().position(|place| *place == slot),
        };
        let kept = own.filter(|own| *own < self.operands.unwrap_or(usize::MAX));
        self.added.iter().any(|(place, _)| *place == slot) || kept.is_some_and(|own| node.has_input(own))
    }
}

/// Elements up to which a constant is read before the graph stands: those of an operand that says how a node computes,
/// or of one number for each channel. Any number of nodes may read the same constant.
pub(crate) const MAX_READ_ELEMENTS: usize = 1 << 12;

/// What is known of values before the graph stands.
pub(crate) trait Known {
    /// The elements of a constant with at most [`MAX_READ_ELEMENTS`] of them.
    fn constant(&self, name: &str) -> Option<Arc<Tensor>>;
    /// The dimensions of a constant.
    fn constant_shape(&self, name: &str) -> Option<Vec<usize>>;
    /// Number of dimensions.
    fn rank(&self, name: &str) -> Option<usize>;
}

/// A node at the opset of its model.
pub(crate) struct NodeReader<'a> {
    node: &'a NodeProto,
    opset: i64,
    known: &'a dyn Known,
}

type Found<T> = Result<Option<T>, ReadError>;

impl<'a> NodeReader<'a> {
    pub(crate) fn new(node: &'a NodeProto, opset: i64, known: &'a dyn Known) -> Self {
        Self { node, opset, known }
    }

    pub(crate) fn op_type(&self) -> &str {
        self.node.op_type()
    }

    pub(crate) fn opset(&self) -> i64 {
        self.opset
    }

    /// Whether operand `slot` is given.
    pub(crate) fn has_input(&self, slot: usize) -> bool {
        self.node.input.get(slot).is_some_and(|name| !name.is_empty())
    }

    /// Number of operands, without those left out at the end.
    pub(super) fn input_count(&self) -> usize {
        given(&self.node.input)
    }

    /// Number of results, without those left out at the end.
    pub(super) fn output_count(&self) -> usize {
        given(&self.node.output)
    }

    /// Operand `slot`, if it is a constant that is small enough to be read.
    pub(super) fn constant(&self, slot: usize) -> Option<Arc<Tensor>> {
        self.known.constant(self.node.input.get(slot)?)
    }

    /// Name and dimensions of operand `slot`, if it is a constant.
    pub(super) fn constant_shape(&self, slot: usize) -> Option<(&str, Vec<usize>)> {
        let name = self.node.input.get(slot)?;
        Some((name, self.known.constant_shape(name)?))
    }

    /// Number of dimensions of operand `slot`, if it is known.
    pub(super) fn rank(&self, slot: usize) -> Option<usize> {
        self.known.rank(self.node.input.get(slot)?)
    }

    /// Whether result `slot` is asked for.
    pub(crate) fn has_output(&self, slot: usize) -> bool {
        self.node.output.get(slot).is_some_and(|name| !name.is_empty())
    }

    fn attribute(&self, name: &'static str, kind: AttributeType) -> Found<&'a AttributeProto> {
        let Some(attribute) = self.node.attribute.iter().find(|a| a.name() == name) else { return Ok(None) };
        // Files of IR version 1 and careless writers leave the type out.
        let fits = attribute.r#type.is_none_or(|t| t == i32::from(kind) || t == i32::from(AttributeType::Undefined));
        if fits { Ok(Some(attribute)) } else { Err(ReadError::Type(name)) }
    }

    pub(crate) fn int(&self, name: &'static str) -> Found<i64> {
        Ok(self.attribute(name, AttributeType::Int)?.map(AttributeProto::i))
    }

    pub(crate) fn int_or(&self, name: &'static str, default: i64) -> Result<i64, ReadError> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    pub(crate) fn flag(&self, name: &'static str, default: bool) -> Result<bool, ReadError> {
        Ok(self.int(name)?.map_or(default, |v| v != 0))
    }

    pub(crate) fn float(&self, name: &'static str) -> Found<f32> {
        Ok(self.attribute(name, AttributeType::Float)?.map(AttributeProto::f))
    }

    pub(crate) fn float_or(&self, name: &'static str, default: f32) -> Result<f32, ReadError> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    pub(crate) fn ints(&self, name: &'static str) -> Found<&'a [i64]> {
        Ok(self.attribute(name, AttributeType::Ints)?.map(|a| a.ints.as_slice()))
    }

    pub(crate) fn floats(&self, name: &'static str) -> Found<&'a [f32]> {
        Ok(self.attribute(name, AttributeType::Floats)?.map(|a| a.floats.as_slice()))
    }

    pub(crate) fn text(&self, name: &'static str) -> Found<&'a str> {
        let Some(attribute) = self.attribute(name, AttributeType::String)? else { return Ok(None) };
        std::str::from_utf8(attribute.s()).map(Some).map_err(|_| ReadError::Type(name))
    }

    pub(crate) fn text_or(&self, name: &'static str, default: &'a str) -> Result<&'a str, ReadError> {
        Ok(self.text(name)?.unwrap_or(default))
    }

    pub(crate) fn tensor(&self, name: &'static str) -> Found<&'a TensorProto> {
        Ok(self.attribute(name, AttributeType::Tensor)?.and_then(|a| a.t.as_ref()))
    }

    /// A list of sizes: none may be negative.
    pub(crate) fn sizes(&self, name: &'static str) -> Result<Vec<usize>, ReadError> {
        let list = self.ints(name)?.unwrap_or_default();
        list.iter().map(|v| self.size(name, *v)).collect()
    }

    /// A list of sizes none of which may be zero.
    pub(crate) fn positive_sizes(&self, name: &'static str) -> Result<Vec<usize>, ReadError> {
        let sizes = self.sizes(name)?;
        if sizes.contains(&0) { Err(ReadError::Value { name, value: format!("{sizes:?}") }) } else { Ok(sizes) }
    }

    /// A size with a default.
    pub(crate) fn size_or(&self, name: &'static str, default: usize) -> Result<usize, ReadError> {
        self.int(name)?.map_or(Ok(default), |v| self.size(name, v))
    }

    fn size(&self, name: &'static str, value: i64) -> Result<usize, ReadError> {
        usize::try_from(value).map_err(|_| ReadError::Value { name, value: value.to_string() })
    }

    /// The entry of `table` that the attribute names.
    pub(crate) fn choice<T: Copy>(
        &self,
        name: &'static str,
        default: &'a str,
        table: &[(&str, T)],
    ) -> Result<T, ReadError> {
        let value = self.text_or(name, default)?;
        let found = table.iter().find(|(spelling, _)| *spelling == value);
        found.map(|(_, choice)| *choice).ok_or_else(|| ReadError::Value { name, value: format!("`{value}`") })
    }

    /// An older form of `op`, which has a single operand and the rest in attributes.
    pub(super) fn old_form(&self, op: Op) -> Result<Read, ReadError> {
        match self.input_count() {
            0 | 1 => Ok(op.into()),
            found => Err(ReadError::TooMany { found, most: 1, what: "operands at this opset" }),
        }
    }

    /// Axes as operand 1, which before opset `since` are an attribute.
    pub(crate) fn axes_operand(&self, op: Op, since: i64) -> Result<Read, ReadError> {
        if self.opset >= since {
            return Ok(op.into());
        }
        let axes = self.ints("axes")?.map(|axes| Tensor::vector(axes.to_vec()));
        Ok(self.old_form(op)?.with_some(1, axes))
    }
}

/// Length of a list of names without the empty ones at its end.
fn given(names: &[String]) -> usize {
    names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1)
}
