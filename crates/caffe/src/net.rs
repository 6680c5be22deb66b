//! The description of a network: its layers in file order, upgraded to the current format and filtered by phase.

use crate::error::CaffeError;
use crate::input::{self, NetInput};
use crate::params::FieldError;
use crate::{kind, phase};
use quantize_document::text::{Field, Message, Scalar, Value};
use quantize_document::{Location, Problem, TextDocument};
use std::collections::BTreeSet;
use std::ops::Range;

/// One layer of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Its name; that of a result if it has none.
    pub name: String,
    /// Its type, spelled as in the current format.
    pub kind: String,
    /// Blobs it reads, in order.
    pub bottoms: Vec<String>,
    /// Blobs it writes, in order.
    pub tops: Vec<String>,
    /// All of its fields as they are written.
    pub params: Message,
    /// The bytes of its block, field name and brackets included; its fields alone in the short form `layer: [...]`.
    pub span: Range<usize>,
}

impl Layer {
    /// How messages call it.
    pub(crate) fn label(&self) -> String {
        format!("layer `{}`", self.name)
    }

    /// Names under which its blobs are shared with other layers, by blob; `None` where they are not.
    pub(crate) fn shared_names(&self) -> Vec<Option<String>> {
        let name = |value: &Value| {
            let scalar = match value {
                // The former format has the name itself, the current one a message with it.
                Value::Scalar(name) => Some(name),
                Value::Message(spec) => spec.scalar("name"),
            };
            scalar.and_then(Scalar::as_str).filter(|name| !name.is_empty()).map(str::to_owned)
        };
        self.params.values("param").map(name).collect()
    }
}

/// What of the network's own input a caller states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Channels, height and width of the input. They must be those of the network, if it states them.
    pub dims: Option<[usize; 3]>,
    /// Whether height and width of `dims` replace those of the network.
    pub override_dims: bool,
}

/// A network without its weights.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) name: String,
    pub(crate) layers: Vec<Layer>,
    pub(crate) inputs: Vec<NetInput>,
    pub(crate) problems: Vec<Problem>,
}

/// Reads the description of a network.
///
/// # Errors
/// If a field has a value that makes no sense, a layer is of a format before the former one, the file mixes formats,
/// or there is no input or no layer.
pub(crate) fn read(text: &TextDocument, options: &ReadOptions) -> Result<Net, CaffeError> {
    let name = text.root().scalar("name").and_then(Scalar::as_str).unwrap_or_default().to_owned();
    let layers = layers(text)?;
    let (layers, problems) = without_labels(layers);
    let inputs = input::inputs(text, &layers, options)?;
    Ok(Net { name, layers, inputs, problems })
}

/// The place of a layer's field in the file.
pub(crate) fn location(text: &TextDocument, layer: &Layer, field: Option<String>) -> Location {
    let line = Some(text.line(layer.span.start));
    Location { line, field, ..Location::item(text.source().path(), layer.label()) }
}

fn layers(text: &TextDocument) -> Result<Vec<Layer>, CaffeError> {
    let root = text.root();
    let file = Location::file(text.source().path());
    let (current, former) = (root.fields_named("layer").next(), root.fields_named("layers").next());
    if let (Some(_), Some(former)) = (current, former) {
        let location = Location { line: Some(text.line(former.span.start)), ..file };
        return Err(CaffeError::invalid(location, "the file has both `layer` and `layers`")
            .with_hint("write all layers in one format"));
    }
    if current.is_none() && former.is_none() {
        return Err(CaffeError::invalid(file, "the file has no layers").with_hint("is this the prototxt of a network?"));
    }
    let blocks = root.fields().iter().filter(|field| matches!(field.name.as_str(), "layer" | "layers"));
    let mut layers = Vec::new();
    for (field, value) in blocks.flat_map(|field| field.values.iter().map(move |value| (field, value))) {
        layers.extend(layer(text, field, value)?);
    }
    Ok(layers)
}

/// The layer in a block; `None` if another phase has it.
fn layer(text: &TextDocument, field: &Field, value: &Value) -> Result<Option<Layer>, CaffeError> {
    let at = |wrong: Option<String>, item: Option<String>| Location {
        line: Some(text.line(field.span.start)),
        item,
        field: wrong,
        ..Location::file(text.source().path())
    };
    let Some(message) = value.message() else {
        return Err(CaffeError::invalid(at(None, None), format!("`{}` is no message in brackets", field.name)));
    };
    if field.name == "layers" && message.values("layer").next().is_some() {
        let cause = "the layer is in the oldest format (V0), which is not read";
        return Err(CaffeError::unsupported(at(None, None), cause)
            .with_hint("upgrade the file with Caffe's tool `upgrade_net_proto_text`"));
    }
    let named = |name: &str| message.scalar(name).and_then(Scalar::as_str).map(str::to_owned);
    let name = named("name").or_else(|| named("top")).unwrap_or_default();
    let item = Some(format!("layer `{name}`"));
    let wrong = |error: FieldError| CaffeError::invalid(at(Some(error.field), item.clone()), error.cause);
    let (bottoms, tops) = (blobs(message, "bottom").map_err(wrong)?, blobs(message, "top").map_err(wrong)?);
    if !phase::is_included(message).map_err(wrong)? {
        return Ok(None);
    }
    let Some(written) = named("type") else {
        return Err(CaffeError::invalid(at(None, item), "it has no type"));
    };
    let kind = kind_of(field, &written);
    let span = if field.values.len() == 1 { field.span.clone() } else { value.span() };
    Ok(Some(Layer { name, kind, bottoms, tops, params: message.clone(), span }))
}

fn kind_of(field: &Field, written: &str) -> String {
    let former = if field.name == "layers" { kind::upgraded(written) } else { None };
    former.unwrap_or_else(|| kind::canonical(written)).to_owned()
}

/// The names in a repeated field.
fn blobs(message: &Message, name: &str) -> Result<Vec<String>, FieldError> {
    let text = |value: &Value| {
        let text = value.scalar().and_then(Scalar::as_str);
        text.map(str::to_owned).ok_or_else(|| FieldError { field: name.into(), cause: "it is not a name".into() })
    };
    message.values(name).map(text).collect()
}

/// Leaves out the labels of data layers and every layer that needs them: losses and accuracies.
fn without_labels(layers: Vec<Layer>) -> (Vec<Layer>, Vec<Problem>) {
    let mut missing: BTreeSet<String> = BTreeSet::new();
    let mut written: BTreeSet<String> = BTreeSet::new();
    let (mut kept, mut problems) = (Vec::with_capacity(layers.len()), Vec::new());
    for mut layer in layers {
        if let Some(label) = layer.bottoms.iter().find(|bottom| missing.contains(*bottom)) {
            let message = format!("left out, because it needs the label `{label}`");
            problems.push(Problem::of_layer(&layer.name, message));
            missing.extend(layer.tops.into_iter().filter(|top| !written.contains(top)));
            continue;
        }
        let labels = input::take_labels(&mut layer);
        for top in &layer.tops {
            missing.remove(top);
            written.insert(top.clone());
        }
        missing.extend(labels.into_iter().filter(|label| !written.contains(label)));
        kept.push(layer);
    }
    (kept, problems)
}
