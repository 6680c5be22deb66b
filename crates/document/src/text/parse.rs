//! From text to tree.

use super::cursor::Cursor;
use super::fault::{TextError, TextFault};
use super::message::{Field, Message, Value};
use super::scalar::{Scalar, ScalarKind};
use crate::limits::Limits;
use std::ops::Range;

/// Parses a whole text as the fields of one message.
pub(super) fn parse(text: &[u8], limits: &Limits) -> Result<Message, TextError> {
    let mut parser = Parser { cursor: Cursor::new(text), limits, depth: 0, fields: 0, values: 0 };
    let mut fields = Vec::new();
    while !parser.cursor.at_end() {
        fields.push(parser.field("a field name")?);
    }
    Ok(Message::new(fields, 0..text.len()))
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    limits: &'a Limits,
    depth: usize,
    /// Fields of the whole text so far, and values: a field may have none or several.
    fields: usize,
    values: usize,
}

impl Parser<'_> {
    /// One field and the separator behind it.
    fn field(&mut self, expected: &'static str) -> Result<Field, TextError> {
        let Some(name_span) = self.cursor.word().or_else(|| self.cursor.bracketed_name()) else {
            return Err(self.cursor.unexpected(expected));
        };
        self.fields += 1;
        let counted = self.limits.check_items(self.fields, "fields");
        counted.map_err(|e| self.cursor.error(name_span.start, e.into()))?;
        let name = self.cursor.slice(name_span.clone());
        let colon = self.cursor.eat(b':');
        let (values, end) = match self.cursor.peek() {
            Some(b'[') => self.list(&name, name_span.start, colon)?,
            _ => {
                let (value, end) = self.value(&name, name_span.start, colon)?;
                (vec![value], end)
            }
        };
        // At most one separator; two are an error that the next field reports.
        let _ = self.cursor.eat(b',') || self.cursor.eat(b';');
        Ok(Field { name, span: name_span.start..end, name_span, values })
    }

    /// The values of the short form, and the end of its bracket.
    fn list(&mut self, name: &str, start: usize, colon: bool) -> Result<(Vec<Value>, usize), TextError> {
        self.cursor.eat(b'[');
        let mut values = Vec::new();
        if let Some(end) = self.closed(b']') {
            return Ok((values, end));
        }
        loop {
            values.push(self.value(name, start, colon)?.0);
            if let Some(end) = self.closed(b']') {
                return Ok((values, end));
            }
            if !self.cursor.eat(b',') {
                return Err(self.cursor.unexpected("`,` or `]`"));
            }
        }
    }

    /// One value and its end. Only messages may stand without a colon.
    fn value(&mut self, name: &str, start: usize, colon: bool) -> Result<(Value, usize), TextError> {
        self.values += 1;
        let position = self.cursor.position();
        self.limits.check_items(self.values, "values").map_err(|e| self.cursor.error(position, e.into()))?;
        let close = match self.cursor.peek() {
            Some(b'{') => b'}',
            Some(b'<') => b'>',
            _ if !colon => return Err(self.cursor.unexpected("`:`, `{` or `<`")),
            _ => {
                let scalar = self.scalar()?;
                let end = scalar.span().end;
                return Ok((Value::Scalar(scalar), end));
            }
        };
        let (message, end) = self.message(name, start, close)?;
        Ok((Value::Message(message), end))
    }

    /// The message whose opening bracket stands here, and the end of its closing bracket.
    fn message(&mut self, name: &str, start: usize, close: u8) -> Result<(Message, usize), TextError> {
        let open = self.cursor.position();
        self.depth += 1;
        self.limits.check_nesting(self.depth).map_err(|e| self.cursor.error(open, e.into()))?;
        self.cursor.eat(if close == b'}' { b'{' } else { b'<' });
        let mut fields = Vec::new();
        loop {
            if let Some(end) = self.closed(close) {
                self.depth -= 1;
                return Ok((Message::new(fields, open + 1..end - 1), end));
            }
            if self.cursor.at_end() {
                let (name, line) = (name.to_owned(), self.cursor.line(start));
                let fault = TextFault::Unclosed { name, line, close: char::from(close) };
                return Err(self.cursor.error(self.cursor.position(), fault));
            }
            fields.push(self.field(if close == b'}' { "a field name or `}`" } else { "a field name or `>`" })?);
        }
    }

    /// The end of the bracket that stands here, if it is `close`.
    fn closed(&mut self, close: u8) -> Option<usize> {
        let end = self.cursor.position() + 1;
        self.cursor.eat(close).then_some(end)
    }

    fn scalar(&mut self) -> Result<Scalar, TextError> {
        if let Some(text) = self.text()? {
            return Ok(text);
        }
        let start = self.cursor.position();
        let negative = self.cursor.eat(b'-');
        let (kind, range) = match (self.cursor.number(), negative) {
            (Some(range), _) => (ScalarKind::Number, range),
            (None, _) => match self.cursor.word() {
                Some(range) => (ScalarKind::Word, range),
                None if negative => return Err(self.cursor.unexpected("a number")),
                None => return Err(self.cursor.unexpected("a value")),
            },
        };
        let content = self.cursor.slice(range.clone()).into_bytes();
        let scalar = Scalar::new(kind, negative, content, start..range.end);
        if scalar.is_well_formed() { Ok(scalar) } else { Err(self.cursor.unexpected_at(range.start, "a number")) }
    }

    /// Quoted strings that stand beside each other are one.
    fn text(&mut self) -> Result<Option<Scalar>, TextError> {
        let mut content = Vec::new();
        let mut span: Option<Range<usize>> = None;
        while let Some(part) = self.cursor.string(&mut content)? {
            span = Some(span.map_or(part.start, |whole| whole.start)..part.end);
        }
        Ok(span.map(|span| Scalar::new(ScalarKind::Text, false, content, span)))
    }
}
