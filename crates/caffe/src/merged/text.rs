//! Edits of the prototxt: folded layers go, their results are those of the layers before them.

use super::changes::{Changes, refusal};
use crate::document::CaffeDocument;
use crate::error::CaffeError;
use crate::net::Layer;
use quantize_document::TextSplice;
use quantize_document::text::{Message, Scalar};
use std::ops::Range;

/// Messages that `bias_term` is in.
const WITH_BIAS_TERM: [&str; 2] = ["convolution_param", "inner_product_param"];

pub(super) fn edit<'a>(document: &'a CaffeDocument, changes: &Changes) -> Result<TextSplice<'a>, CaffeError> {
    let mut editor = Editor { document, text: document.text().source().bytes(), splice: document.text().splice() };
    for index in &changes.vanished {
        editor.remove_layer(*index)?;
    }
    for (index, last) in &changes.last {
        editor.take_result(*index, *last, changes)?;
    }
    for index in changes.weights.keys().filter(|index| changes.gains_bias(document, **index)) {
        editor.remove_bias_term(*index)?;
    }
    Ok(editor.splice)
}

struct Editor<'a> {
    document: &'a CaffeDocument,
    text: &'a [u8],
    splice: TextSplice<'a>,
}

impl<'a> Editor<'a> {
    fn layer(&self, index: usize) -> Option<&'a Layer> {
        self.document.layers().get(index)
    }

    fn written(&self, span: Range<usize>) -> &'a [u8] {
        self.text.get(span).unwrap_or_default()
    }

    fn remove_layer(&mut self, index: usize) -> Result<(), CaffeError> {
        let Some(layer) = self.layer(index) else { return Ok(()) };
        if !self.written(layer.span.clone()).starts_with(b"layer") {
            return Err(refusal(self.document, index, "layers in a list `layer: [...]` cannot be taken out".into()));
        }
        Ok(self.splice.remove_lines(layer.span.clone())?)
    }

    /// Lets a layer write the blob that the last layer folded into it wrote.
    fn take_result(&mut self, index: usize, last: usize, changes: &Changes) -> Result<(), CaffeError> {
        let (Some(layer), Some(last)) = (self.layer(index), self.layer(last)) else { return Ok(()) };
        let (Some(own), Some(blob), Some(scalar)) =
            (layer.tops.first(), last.tops.first(), last.params.scalars("top").next())
        else {
            return Ok(());
        };
        let new = String::from_utf8_lossy(self.written(scalar.span())).into_owned();
        if own != blob {
            self.keep_name(layer)?;
            self.rename(&layer.params, "top", own, &new)?;
        }
        for passing in changes.passing.iter().filter(|passing| passing.writer == index && passing.blob != *blob) {
            let Some(layer) = self.layer(passing.layer) else { continue };
            for field in ["bottom", "top"] {
                self.rename(&layer.params, field, &passing.blob, &new)?;
            }
        }
        Ok(())
    }

    /// A layer without a name is called after its result, which is about to change.
    fn keep_name(&mut self, layer: &Layer) -> Result<(), CaffeError> {
        if layer.params.scalar("name").is_some() {
            return Ok(());
        }
        let Some(top) = layer.params.fields_named("top").next() else { return Ok(()) };
        let Some(name) = top.values.first() else { return Ok(()) };
        let name = String::from_utf8_lossy(self.written(name.span())).into_owned();
        Ok(self.splice.insert(top.span.start, &format!("name: {name} "))?)
    }

    /// Puts `new`, as it is written, in place of the values `old` of a field.
    fn rename(&mut self, layer: &Message, field: &str, old: &str, new: &str) -> Result<(), CaffeError> {
        for scalar in layer.scalars(field).filter(|scalar| scalar.as_str() == Some(old)) {
            self.splice.replace(Scalar::span(scalar), new)?;
        }
        Ok(())
    }

    fn remove_bias_term(&mut self, index: usize) -> Result<(), CaffeError> {
        let Some(layer) = self.layer(index) else { return Ok(()) };
        let messages = WITH_BIAS_TERM.iter().flat_map(|name| layer.params.messages(name));
        for field in messages.flat_map(|message| message.fields_named("bias_term")) {
            self.remove_field(field.span.clone())?;
        }
        Ok(())
    }

    /// Takes a field away with the separator behind it, and with its line or the blank before it.
    fn remove_field(&mut self, span: Range<usize>) -> Result<(), CaffeError> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let behind = self.written(span.end..self.text.len());
        let blanks = behind.iter().take_while(|byte| is_blank(byte)).count();
        let separated = matches!(behind.get(blanks), Some(b',' | b';'));
        let end = if separated { span.end + blanks + 1 } else { span.end };

        let before = self.written(0..span.start);
        let begins_line = before.iter().rev().find(|byte| !is_blank(byte)).is_none_or(|byte| *byte == b'\n');
        if begins_line {
            return Ok(self.splice.remove_lines(span.start..end)?);
        }
        let blank = usize::from(before.last().is_some_and(is_blank));
        Ok(self.splice.remove(span.start - blank..end)?)
    }
}
