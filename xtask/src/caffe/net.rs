//! Writing a Caffe network: its description as text and its weights as protocol buffers.

use quantize_document::encode;
use std::fmt::Write;

/// How layers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `layer`, with types as strings and an `Input` layer.
    Current,
    /// The same with the input in the header.
    Headed,
    /// `layers`, with types as an enumeration, the input in the header and shapes of four axes (V1).
    Former,
}

/// Numbers of the fields of a format: in the network, and in a layer.
struct Numbers {
    layer: u32,
    name: u32,
    kind: u32,
    blobs: u32,
}

/// `NetParameter.layer` and `LayerParameter`
const CURRENT: Numbers = Numbers { layer: 100, name: 1, kind: 2, blobs: 7 };
/// `NetParameter.layers` and `V1LayerParameter`
const FORMER: Numbers = Numbers { layer: 2, name: 4, kind: 5, blobs: 6 };
/// `NetParameter.name`
const NET_NAME: u32 = 1;
/// `BlobProto.data`
const BLOB_DATA: u32 = 5;
/// `BlobProto.shape`
const BLOB_SHAPE: u32 = 7;
/// `BlobShape.dim`
const SHAPE_DIM: u32 = 1;

/// Types as the former format has them: name now, name there, number there.
const FORMER_KINDS: &[(&str, &str, u64)] = &[
    ("Convolution", "CONVOLUTION", 4),
    ("InnerProduct", "INNER_PRODUCT", 14),
    ("Pooling", "POOLING", 17),
    ("ReLU", "RELU", 18),
    ("Softmax", "SOFTMAX", 20),
];

/// Numbers of a layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Blob {
    /// Extents, outermost first.
    pub(crate) shape: Vec<usize>,
    /// As many numbers as the shape has elements.
    pub(crate) data: Vec<f32>,
}

impl Blob {
    /// Numbers along one axis.
    pub(crate) fn vector(data: Vec<f32>) -> Self {
        Self { shape: vec![data.len()], data }
    }

    fn encoded(&self, format: Format) -> Vec<u8> {
        let mut blob = match format {
            Format::Current | Format::Headed => {
                let mut dims = Vec::new();
                self.shape.iter().for_each(|dim| encode::varint(&mut dims, *dim as u64));
                encode::bytes_field(BLOB_SHAPE, &encode::bytes_field(SHAPE_DIM, &dims))
            }
            Format::Former => {
                let ones = std::iter::repeat_n(&1, 4_usize.saturating_sub(self.shape.len()));
                let axes = ones.chain(&self.shape);
                (1..).zip(axes).flat_map(|(number, axis)| encode::varint_field(number, *axis as u64)).collect()
            }
        };
        let data: Vec<u8> = self.data.iter().flat_map(|number| number.to_le_bytes()).collect();
        blob.extend(encode::bytes_field(BLOB_DATA, &data));
        blob
    }
}

/// A layer with its weights.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    kind: &'static str,
    name: String,
    bottoms: Vec<String>,
    top: String,
    params: Option<String>,
    blobs: Vec<Blob>,
}

impl Layer {
    /// A layer that writes a blob of its own name.
    pub(crate) fn new(kind: &'static str, name: &str, bottoms: &[&str]) -> Self {
        let bottoms = bottoms.iter().map(|bottom| (*bottom).to_owned()).collect();
        Self { kind, name: name.into(), bottoms, top: name.into(), params: None, blobs: Vec::new() }
    }

    /// A layer that works in place.
    pub(crate) fn in_place(kind: &'static str, name: &str, blob: &str) -> Self {
        Self { top: blob.into(), ..Self::new(kind, name, &[blob]) }
    }

    /// With a message of parameters.
    pub(crate) fn params(mut self, message: &str, fields: &str) -> Self {
        self.params = Some(format!("{message} {{ {fields} }}"));
        self
    }

    /// With weights.
    pub(crate) fn blobs(mut self, blobs: impl IntoIterator<Item = Blob>) -> Self {
        self.blobs.extend(blobs);
        self
    }
}

/// A network on its way into its two files.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    format: Format,
    text: String,
    weights: Vec<u8>,
}

impl Net {
    /// A network that reads a blob `data`.
    pub(crate) fn new(format: Format, name: &str, shape: [usize; 4]) -> Self {
        let mut text = format!("name: \"{name}\"\n");
        let dims = |field: &str, separator: &str| shape.map(|dim| format!("{field}: {dim}")).join(separator);
        let _ = match format {
            Format::Current => writeln!(
                text,
                "layer {{\n  name: \"data\"\n  type: \"Input\"\n  top: \"data\"\n  \
                 input_param {{ shape {{ {} }} }}\n}}",
                dims("dim", " ")
            ),
            Format::Headed | Format::Former => writeln!(text, "input: \"data\"\n{}", dims("input_dim", "\n")),
        };
        Self { format, text, weights: encode::bytes_field(NET_NAME, name.as_bytes()) }
    }

    /// Appends a layer.
    pub(crate) fn push(&mut self, layer: &Layer) {
        self.describe(layer);
        self.store(layer);
    }

    /// The description.
    pub(crate) fn prototxt(&self) -> String {
        self.text.clone()
    }

    /// The weights.
    pub(crate) fn caffemodel(&self) -> Vec<u8> {
        self.weights.clone()
    }

    fn describe(&mut self, layer: &Layer) {
        let mut lines = vec![format!("name: \"{}\"", layer.name), format!("type: {}", self.kind(layer.kind))];
        lines.extend(layer.bottoms.iter().map(|bottom| format!("bottom: \"{bottom}\"")));
        lines.push(format!("top: \"{}\"", layer.top));
        lines.extend(layer.params.clone());
        let field = if self.format == Format::Former { "layers" } else { "layer" };
        let _ = writeln!(self.text, "{field} {{\n  {}\n}}", lines.join("\n  "));
    }

    /// A type as the text has it; one that the former format does not have stays a string, as in forks.
    fn kind(&self, kind: &str) -> String {
        match (self.format, FORMER_KINDS.iter().find(|(now, _, _)| *now == kind)) {
            (Format::Former, Some((_, there, _))) => (*there).to_owned(),
            _ => format!("\"{kind}\""),
        }
    }

    fn store(&mut self, layer: &Layer) {
        let numbers = if self.format == Format::Former { FORMER } else { CURRENT };
        let mut message = encode::bytes_field(numbers.name, layer.name.as_bytes());
        match self.format {
            Format::Current | Format::Headed => {
                message.extend(encode::bytes_field(numbers.kind, layer.kind.as_bytes()))
            }
            Format::Former => {
                let number = FORMER_KINDS.iter().find(|(now, _, _)| *now == layer.kind);
                message.extend(number.into_iter().flat_map(|(_, _, n)| encode::varint_field(numbers.kind, *n)));
            }
        }
        for blob in &layer.blobs {
            message.extend(encode::bytes_field(numbers.blobs, &blob.encoded(self.format)));
        }
        self.weights.extend(encode::bytes_field(numbers.layer, &message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer() -> Layer {
        let blob = Blob { shape: vec![2, 1], data: vec![1.0, -1.0] };
        Layer::new("InnerProduct", "fc", &["data"]).params("inner_product_param", "num_output: 2").blobs([blob])
    }

    #[test]
    fn the_current_format_has_types_as_strings_and_exact_shapes() {
        let mut net = Net::new(Format::Current, "n", [1, 2, 3, 4]);
        net.push(&layer());
        let text = net.prototxt();
        assert!(text.contains("input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } }"), "{text}");
        let block = "layer {\n  name: \"fc\"\n  type: \"InnerProduct\"\n  bottom: \"data\"\n  top: \"fc\"\n  \
                     inner_product_param { num_output: 2 }\n}\n";
        assert!(text.ends_with(block), "{text}");
        let blob = b"\x3a\x04\x0a\x02\x02\x01\x2a\x08\x00\x00\x80\x3f\x00\x00\x80\xbf";
        assert!(net.caffemodel().ends_with(blob));
    }

    #[test]
    fn the_former_format_has_types_as_words_and_four_axes() {
        let mut net = Net::new(Format::Former, "n", [1, 2, 3, 4]);
        net.push(&layer());
        let text = net.prototxt();
        assert!(text.starts_with("name: \"n\"\ninput: \"data\"\ninput_dim: 1\ninput_dim: 2\n"), "{text}");
        assert!(text.contains("layers {\n  name: \"fc\"\n  type: INNER_PRODUCT\n"), "{text}");
        let blob = b"\x08\x01\x10\x01\x18\x02\x20\x01\x2a\x08\x00\x00\x80\x3f\x00\x00\x80\xbf";
        assert!(net.caffemodel().windows(blob.len()).any(|window| window == blob));
    }
}
