//! Messages and fields: the tree of a text.

use super::scalar::Scalar;
use std::borrow::Cow;
use std::ops::Range;

/// The fields between two brackets, or those of a whole text.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    fields: Vec<Field>,
    span: Range<usize>,
}

/// One field as it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its name; that of an extension with its brackets.
    pub name: String,
    /// Where the name stands.
    pub name_span: Range<usize>,
    /// Its values: one, or any number in the short form `name: [a, b]`.
    pub values: Vec<Value>,
    /// From the name to the end of the value, without a separator behind it.
    pub span: Range<usize>,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number, word or string.
    Scalar(Scalar),
    /// Fields in brackets.
    Message(Message),
}

impl Value {
    /// The number, word or string, if it is one.
    pub fn scalar(&self) -> Option<&Scalar> {
        match self {
            Self::Scalar(scalar) => Some(scalar),
            Self::Message(_) => None,
        }
    }

    /// The message, if it is one.
    pub fn message(&self) -> Option<&Message> {
        match self {
            Self::Scalar(_) => None,
            Self::Message(message) => Some(message),
        }
    }

    /// The bytes it takes in the source; those of a message without its brackets.
    pub fn span(&self) -> Range<usize> {
        match self {
            Self::Scalar(scalar) => scalar.span(),
            Self::Message(message) => message.span(),
        }
    }
}

impl Message {
    pub(super) fn new(fields: Vec<Field>, span: Range<usize>) -> Self {
        Self { fields, span }
    }

    /// The fields in the order they are written.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The bytes between the brackets; the whole text for the outermost message.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The fields of this name, in order.
    pub fn fields_named<'m>(&'m self, name: &str) -> impl Iterator<Item = &'m Field> {
        self.fields.iter().filter(move |field| field.name == name)
    }

    /// All values of a repeated field, in order.
    pub fn values<'m>(&'m self, name: &str) -> impl Iterator<Item = &'m Value> {
        self.fields_named(name).flat_map(|field| &field.values)
    }

    /// All messages of a repeated field, in order; values that are no messages are left out.
    pub fn messages<'m>(&'m self, name: &str) -> impl Iterator<Item = &'m Message> {
        self.values(name).filter_map(Value::message)
    }

    /// All scalars of a repeated field, in order; messages are left out.
    pub fn scalars<'m>(&'m self, name: &str) -> impl Iterator<Item = &'m Scalar> {
        self.values(name).filter_map(Value::scalar)
    }

    /// The value of a field that is not repeated: of several, the last counts.
    pub fn scalar(&self, name: &str) -> Option<&Scalar> {
        self.scalars(name).last()
    }

    /// The message of a field that is not repeated: several are one, the fields of the later behind those of the
    /// earlier. Its span is that of the first.
    pub fn merged(&self, name: &str) -> Option<Cow<'_, Message>> {
        let mut messages = self.messages(name);
        let mut merged = Cow::Borrowed(messages.next()?);
        for message in messages {
            merged.to_mut().fields.extend_from_slice(&message.fields);
        }
        Some(merged)
    }
}
