//! Typed access to the parameters of a layer. Fields nobody asks for are ignored: forks of Caffe add their own.

use quantize_document::text::{Message, Scalar, Value};
use std::borrow::Cow;

/// A parameter whose value makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {cause}")]
pub(crate) struct FieldError {
    /// The field with the message it is in, e.g. "convolution_param.pad".
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) cause: String,
}

type Found<T> = Result<T, FieldError>;

/// The fields of one message, such as `convolution_param`; empty if the layer does not have it.
pub(crate) struct Params<'a> {
    message: Option<Cow<'a, Message>>,
    name: &'static str,
}

impl<'a> Params<'a> {
    /// The fields of the message in field `name` of `parent`.
    pub(crate) fn of(parent: &'a Message, name: &'static str) -> Found<Self> {
        if parent.scalar(name).is_some() {
            return Err(FieldError { field: name.into(), cause: "it is no message in brackets".into() });
        }
        Ok(Self { message: parent.merged(name), name })
    }

    /// The fields of `message` itself.
    pub(crate) fn whole(message: &'a Message) -> Self {
        Self { message: Some(Cow::Borrowed(message)), name: "" }
    }

    /// The error that field `name` has a value that makes no sense.
    pub(crate) fn error(&self, name: &str, cause: impl Into<String>) -> FieldError {
        let field = if self.name.is_empty() { name.to_owned() } else { format!("{}.{name}", self.name) };
        FieldError { field, cause: cause.into() }
    }

    /// Whether the field is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// The messages of a repeated field.
    pub(crate) fn messages<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s Message> {
        self.values(name).filter_map(Value::message)
    }

    fn values<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s Value> {
        self.message.iter().flat_map(move |message| message.values(name))
    }

    fn list<T>(&self, name: &str, what: &str, read: impl Fn(&Scalar) -> Option<T>) -> Found<Vec<T>> {
        let item = |value: &Value| {
            let scalar = value.scalar().ok_or_else(|| self.error(name, format!("found a message, expected {what}")))?;
            read(scalar).ok_or_else(|| self.error(name, format!("`{scalar}` is not {what}")))
        };
        self.values(name).map(item).collect()
    }

    fn last<T>(&self, name: &str, what: &str, read: impl Fn(&Scalar) -> Option<T>) -> Found<Option<T>> {
        Ok(self.list(name, what, read)?.pop())
    }

    /// A repeated field of integers that are not negative.
    pub(crate) fn sizes(&self, name: &str) -> Found<Vec<usize>> {
        self.list(name, "a size", |scalar| scalar.as_u64().and_then(as_size))
    }

    /// A repeated field of integers.
    pub(crate) fn ints(&self, name: &str) -> Found<Vec<i64>> {
        self.list(name, "an integer", |scalar| scalar.as_i64().filter(|v| i32::try_from(*v).is_ok()))
    }

    /// A repeated field of reals.
    pub(crate) fn floats(&self, name: &str) -> Found<Vec<f32>> {
        self.list(name, "a number", Scalar::as_f32)
    }

    /// An integer that is not negative, if given.
    pub(crate) fn size(&self, name: &str) -> Found<Option<usize>> {
        self.last(name, "a size", |scalar| scalar.as_u64().and_then(as_size))
    }

    /// A size that must be given and positive.
    pub(crate) fn positive(&self, name: &str) -> Found<usize> {
        match self.size(name)? {
            Some(0) => Err(self.error(name, "it is 0")),
            Some(size) => Ok(size),
            None => Err(self.error(name, "it is missing")),
        }
    }

    /// An integer, if given.
    pub(crate) fn int(&self, name: &str) -> Found<Option<i64>> {
        Ok(self.ints(name)?.pop())
    }

    /// An integer with a default.
    pub(crate) fn int_or(&self, name: &str, default: i64) -> Found<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// A real with a default.
    pub(crate) fn float_or(&self, name: &str, default: f32) -> Found<f32> {
        Ok(self.floats(name)?.pop().unwrap_or(default))
    }

    /// A truth value with a default.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Found<bool> {
        Ok(self.last(name, "true or false", Scalar::as_bool)?.unwrap_or(default))
    }

    /// The entry of `table` (name, number, meaning) that the field names or numbers, if given.
    pub(crate) fn choice<T: Copy>(&self, name: &str, table: &[(&str, u64, T)]) -> Found<Option<T>> {
        let entry = |scalar: &Scalar| {
            let named = |(spelling, number, _): &&(&str, u64, T)| {
                scalar.as_str() == Some(*spelling) || scalar.as_u64() == Some(*number)
            };
            table.iter().find(named).map(|(_, _, choice)| *choice)
        };
        self.last(name, "one of the values it can have", entry)
    }
}

/// Sizes are 32-bit in Caffe; larger ones would only overflow.
fn as_size(value: u64) -> Option<usize> {
    i32::try_from(value).ok().and_then(|value| usize::try_from(value).ok())
}
