//! A node: its fields at hand, its bytes kept for as long as nothing about it changes.

use crate::attr::{Attr, AttrValue};
use crate::dtype::DataType;
use crate::error::{TensorflowError, attribute_of};
use crate::shape::PartialShape;
use crate::tensor::TensorProto;
use crate::wire::slice;
use bytes::Bytes;
use quantize_document::encode::bytes_field;
use quantize_document::{Limits, MessageIndex, WireError, WireType};
use quantize_ir::Tensor;

// Fields of `NodeDef`.
const NAME: u32 = 1;
const OP: u32 = 2;
const INPUT: u32 = 3;
const DEVICE: u32 = 4;
const ATTRIBUTE: u32 = 5;
/// Fields of an entry of the map of attributes.
const KEY: u32 = 1;
const VALUE: u32 = 2;

/// What an input of a node refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Input<'a> {
    /// Name of the node it comes from.
    pub node: &'a str,
    /// Which of its outputs.
    pub port: Port,
}

/// An output of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// A tensor, counted from 0.
    Data(u32),
    /// No tensor: the node only has to be done before.
    Control,
}

impl<'a> Input<'a> {
    /// Reads an input as it is written: `node`, `node:1` or `^node`. What stands behind the colon and is no number
    /// belongs to the inside of functions and counts as the first output.
    pub fn parse(text: &'a str) -> Self {
        if let Some(node) = text.strip_prefix('^') {
            return Self { node, port: Port::Control };
        }
        match text.split_once(':') {
            Some((node, port)) => Self { node, port: Port::Data(port.parse().unwrap_or(0)) },
            None => Self { node: text, port: Port::Data(0) },
        }
    }

    /// Whether it is a tensor.
    pub fn is_data(&self) -> bool {
        self.port != Port::Control
    }
}

/// As it is written; the first output without its number.
impl std::fmt::Display for Input<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Port::Control => write!(f, "^{}", self.node),
            Port::Data(0) => f.write_str(self.node),
            Port::Data(port) => write!(f, "{}:{port}", self.node),
        }
    }
}

/// A node of a graph.
#[derive(Clone, Debug)]
pub struct NodeDef {
    name: String,
    op: String,
    inputs: Vec<String>,
    device: String,
    attrs: Vec<(String, Attr)>,
    /// Fields of other numbers, as they are.
    rest: Bytes,
    original: Option<Original>,
}

/// Why the bytes of a node are none.
#[derive(Debug)]
pub(crate) enum NodeFault {
    /// They are no message.
    Wire(WireError),
    /// A name at this byte is no UTF-8.
    NoText(usize),
}

impl From<WireError> for NodeFault {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

fn text_at(file: &Bytes, range: std::ops::Range<usize>) -> Result<String, NodeFault> {
    let start = range.start;
    let text = std::str::from_utf8(file.get(range).unwrap_or_default());
    text.map(str::to_owned).map_err(|_| NodeFault::NoText(start))
}

/// Where an unchanged node stands.
#[derive(Clone, Debug)]
pub(crate) struct Original {
    /// Its position among the nodes of the file.
    pub(crate) position: usize,
    /// Its field in the message of the graph, tag and length included.
    pub(crate) field: Bytes,
}

impl NodeDef {
    /// A node without inputs and attributes.
    pub fn new(name: impl Into<String>, op: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            op: op.into(),
            inputs: Vec::new(),
            device: String::new(),
            attrs: Vec::new(),
            rest: Bytes::new(),
            original: None,
        }
    }

    /// A node `Const` that holds `tensor`.
    pub fn constant(name: impl Into<String>, tensor: TensorProto) -> Self {
        Self::new(name, "Const").with_attr("dtype", tensor.dtype()).with_attr("value", tensor)
    }

    /// Decodes the `NodeDef` whose fields `message` has in `file`.
    ///
    /// # Errors
    /// If a message in it is none, or a name is no UTF-8.
    pub(crate) fn decode(
        file: &Bytes,
        message: &MessageIndex,
        original: Option<Original>,
        limits: &Limits,
    ) -> Result<Self, NodeFault> {
        let mut node = Self { original, ..Self::new("", "") };
        let mut rest = Vec::new();
        for field in message.fields() {
            let text = || text_at(file, field.payload());
            match (field.number(), field.wire_type()) {
                (NAME, WireType::LengthDelimited) => node.name = text()?,
                (OP, WireType::LengthDelimited) => node.op = text()?,
                (INPUT, WireType::LengthDelimited) => node.inputs.push(text()?),
                (DEVICE, WireType::LengthDelimited) => node.device = text()?,
                (ATTRIBUTE, WireType::LengthDelimited) => {
                    let entry = message.child(file, field, limits)?;
                    let part = |number| {
                        let texts =
                            entry.with_number(number).filter(|(_, f)| f.wire_type() == WireType::LengthDelimited);
                        texts.last().map_or(0..0, |(_, f)| f.payload())
                    };
                    let value = Attr::from_encoded(slice(file, part(VALUE)));
                    node.attrs.push((text_at(file, part(KEY))?, value));
                }
                _ => rest.extend_from_slice(file.get(field.whole()).unwrap_or_default()),
            }
        }
        node.rest = rest.into();
        Ok(node)
    }

    /// Its name, unique in a graph.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its operator.
    pub fn op(&self) -> &str {
        &self.op
    }

    /// Its inputs as they are written, control inputs last.
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// What its inputs refer to.
    pub fn refs(&self) -> impl DoubleEndedIterator<Item = Input<'_>> {
        self.inputs.iter().map(|input| Input::parse(input))
    }

    /// The tensors it reads, in order.
    pub fn data_inputs(&self) -> impl DoubleEndedIterator<Item = Input<'_>> {
        self.refs().filter(Input::is_data)
    }

    /// The device it is assigned to; empty if to none.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Its attributes, in the order of the file.
    pub fn attrs(&self) -> impl Iterator<Item = (&str, &Attr)> {
        self.attrs.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The attribute of this name.
    pub fn attr(&self, name: &str) -> Option<&Attr> {
        self.attrs.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Its bytes in the file, while nothing has changed.
    pub(crate) fn original(&self) -> Option<&Original> {
        self.original.as_ref()
    }

    /// Sets its name.
    pub fn set_name(&mut self, name: impl Into<String>) {
        self.name = name.into();
        self.original = None;
    }

    /// Sets its operator.
    pub fn set_op(&mut self, op: impl Into<String>) {
        self.op = op.into();
        self.original = None;
    }

    /// Sets its device.
    pub fn set_device(&mut self, device: impl Into<String>) {
        let device = device.into();
        if device != self.device {
            self.device = device;
            self.original = None;
        }
    }

    /// Sets all of its inputs.
    pub fn set_inputs(&mut self, inputs: Vec<String>) {
        if inputs != self.inputs {
            self.inputs = inputs;
            self.original = None;
        }
    }

    /// Sets an attribute.
    pub fn set_attr(&mut self, name: &str, value: impl Into<Attr>) {
        let value = value.into();
        self.original = None;
        match self.attrs.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.attrs.push((name.to_owned(), value)),
        }
    }

    /// Takes an attribute away; whether it was there.
    pub fn remove_attr(&mut self, name: &str) -> bool {
        let before = self.attrs.len();
        self.attrs.retain(|(known, _)| known != name);
        let removed = self.attrs.len() != before;
        if removed {
            self.original = None;
        }
        removed
    }

    /// With an attribute.
    #[must_use]
    pub fn with_attr(mut self, name: &str, value: impl Into<Attr>) -> Self {
        self.set_attr(name, value);
        self
    }

    /// With inputs.
    #[must_use]
    pub fn with_inputs<S: Into<String>>(mut self, inputs: impl IntoIterator<Item = S>) -> Self {
        self.set_inputs(inputs.into_iter().map(Into::into).collect());
        self
    }

    /// The `NodeDef`, encoded anew: fields by number, attributes in the order of the file and then of their setting,
    /// fields that are not known last.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut text = |number, text: &str| {
            if !text.is_empty() {
                out.extend_from_slice(&bytes_field(number, text.as_bytes()));
            }
        };
        text(NAME, &self.name);
        text(OP, &self.op);
        self.inputs.iter().for_each(|input| text(INPUT, input));
        text(DEVICE, &self.device);
        for (name, value) in &self.attrs {
            let entry = [bytes_field(KEY, name.as_bytes()), bytes_field(VALUE, value.encoded())].concat();
            out.extend_from_slice(&bytes_field(ATTRIBUTE, &entry));
        }
        out.extend_from_slice(&self.rest);
        out
    }
}

/// Attributes by type. A value of another type than asked for is an error, an absent one is none.
impl NodeDef {
    fn value(&self, name: &str) -> Result<Option<AttrValue>, TensorflowError> {
        let Some(attr) = self.attr(name) else { return Ok(None) };
        match attr.value() {
            Ok(AttrValue::None) => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.about(name, error.to_string())),
        }
    }

    fn about(&self, attribute: &str, cause: impl Into<String>) -> TensorflowError {
        TensorflowError::invalid(attribute_of(&self.name, attribute), cause)
    }

    fn typed<T>(
        &self,
        name: &str,
        expected: &str,
        take: impl Fn(AttrValue) -> Option<T>,
    ) -> Result<Option<T>, TensorflowError> {
        let Some(value) = self.value(name)? else { return Ok(None) };
        take(value).map(Some).ok_or_else(|| self.about(name, format!("it is not {expected}")))
    }

    /// An integer.
    ///
    /// # Errors
    /// If the attribute is of another type or does not decode; so for all of these.
    pub fn int(&self, name: &str) -> Result<Option<i64>, TensorflowError> {
        self.typed(name, "an integer", |value| if let AttrValue::Int(v) = value { Some(v) } else { None })
    }

    /// A number.
    ///
    /// # Errors
    /// As for [`NodeDef::int`].
    pub fn float(&self, name: &str) -> Result<Option<f32>, TensorflowError> {
        self.typed(name, "a number", |value| if let AttrValue::Float(v) = value { Some(v) } else { None })
    }

    /// A truth value.
    ///
    /// # Errors
    /// As for [`NodeDef::int`].
    pub fn bool(&self, name: &str) -> Result<Option<bool>, TensorflowError> {
        self.typed(name, "a truth value", |value| if let AttrValue::Bool(v) = value { Some(v) } else { None })
    }

    /// An element type.
    ///
    /// # Errors
    /// As for [`NodeDef::int`].
    pub fn dtype(&self, name: &str) -> Result<Option<DataType>, TensorflowError> {
        self.typed(name, "an element type", |value| if let AttrValue::Type(v) = value { Some(v) } else { None })
    }

    /// A text.
    ///
    /// # Errors
    /// As for [`NodeDef::int`], or if it is no UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<String>, TensorflowError> {
        self.typed(name, "a text", |value| match value {
            AttrValue::Text(bytes) => std::str::from_utf8(&bytes).ok().map(str::to_owned),
            _ => None,
        })
    }

    /// A shape.
    ///
    /// # Errors
    /// As for [`NodeDef::int`].
    pub fn shape(&self, name: &str) -> Result<Option<PartialShape>, TensorflowError> {
        self.typed(name, "a shape", |value| if let AttrValue::Shape(v) = value { Some(v) } else { None })
    }

    /// A list of integers; an empty list of any type is one.
    ///
    /// # Errors
    /// As for [`NodeDef::int`].
    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, TensorflowError> {
        self.typed(name, "a list of integers", |value| match value {
            AttrValue::List(list) if list.texts.is_empty() && list.floats.is_empty() => Some(list.ints),
            _ => None,
        })
    }

    /// A list of element types.
    ///
    /// # Errors
    /// As for [`NodeDef::int`].
    pub fn dtypes(&self, name: &str) -> Result<Option<Vec<DataType>>, TensorflowError> {
        self.typed(name, "a list of element types", |value| match value {
            AttrValue::List(list) => Some(list.types),
            _ => None,
        })
    }

    /// A tensor as it is encoded.
    ///
    /// # Errors
    /// As for [`NodeDef::int`].
    pub fn tensor_proto(&self, name: &str) -> Result<Option<TensorProto>, TensorflowError> {
        self.typed(name, "a tensor", |value| if let AttrValue::Tensor(v) = value { Some(v) } else { None })
    }

    /// The elements that a node `Const` holds; `None` for any other node.
    ///
    /// # Errors
    /// If it has no value, or one that [`TensorProto::to_tensor`] refuses.
    pub fn constant_value(&self) -> Result<Option<Tensor>, TensorflowError> {
        if self.op != "Const" {
            return Ok(None);
        }
        let tensor = self.tensor_proto("value")?.ok_or_else(|| self.about("value", "the constant has no value"))?;
        tensor.to_tensor().map(Some).map_err(|cause| self.about("value", cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_read_and_written_in_every_form() {
        let forms = [("a", "a", Port::Data(0)), ("a/b:2", "a/b", Port::Data(2)), ("^a", "a", Port::Control)];
        for (text, node, port) in forms {
            assert_eq!(Input::parse(text), Input { node, port });
            assert_eq!(Input::parse(text).to_string(), text);
        }
        assert_eq!(Input::parse("a:0").to_string(), "a");
    }

    #[test]
    fn an_attribute_of_another_type_is_named() {
        let node = NodeDef::new("conv", "Conv2D").with_attr("padding", 1i64);
        let error = node.text("padding").unwrap_err();
        assert_eq!(error.to_string(), "node `conv`, attribute `padding`: it is not a text");
        assert!(node.text("data_format").unwrap().is_none());
        assert_eq!(node.int("padding").unwrap(), Some(1));
    }
}
