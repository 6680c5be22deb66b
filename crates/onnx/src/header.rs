//! What a model file says about itself beside its graph.

use crate::document::OnnxDocument;
use crate::error::OnnxError;
use quantize_document::WireType;
use quantize_ir::Node;

/// `ModelProto.producer_name`
const PRODUCER_NAME: u32 = 2;
/// `ModelProto.producer_version`
const PRODUCER_VERSION: u32 = 3;

/// The header of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Version of the file format.
    pub ir_version: i64,
    /// Operator sets with their versions, by name; the standard one is `ai.onnx`.
    pub opsets: Vec<(String, i64)>,
    /// The program that wrote it, with its version; empty if it does not say.
    pub producer: String,
    /// Number of operators that the model defines itself.
    pub functions: usize,
}

impl OnnxDocument {
    /// What the file says about itself.
    ///
    /// # Errors
    /// If the producer's name or version is no text.
    pub fn header(&self) -> Result<Header, OnnxError> {
        let parts = [self.text(PRODUCER_NAME)?, self.text(PRODUCER_VERSION)?];
        let named = |(domain, version): (&String, &i64)| {
            let name = if domain.is_empty() { "ai.onnx" } else { domain };
            (name.to_owned(), *version)
        };
        Ok(Header {
            ir_version: self.ir_version(),
            opsets: self.opsets().iter().map(named).collect(),
            producer: parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "),
            functions: self.function_count(),
        })
    }

    /// The operator of the document's node that `node` of an imported graph stands for, or for a part of it; `None` if
    /// there is none.
    pub fn operator(&self, node: &Node) -> Option<String> {
        let [id] = node.origin.documents() else { return None };
        let index = self.item_index(*id)?;
        self.node(index).ok().map(|node| node.op_type().to_owned())
    }

    /// The text in a field of the model; of several the last counts, as for any field of its kind.
    fn text(&self, number: u32) -> Result<String, OnnxError> {
        let texts = self.model_fields().with_number(number).filter(|(_, f)| f.wire_type() == WireType::LengthDelimited);
        let Some((_, field)) = texts.last() else { return Ok(String::new()) };
        let bytes = self.source().bytes().get(field.payload()).unwrap_or_default();
        let text = std::str::from_utf8(bytes);
        text.map(str::to_owned).map_err(|_| self.invalid(None, format!("field {number} of the model is no UTF-8 text")))
    }
}
