//! What a message takes in memory once it is decoded, found before that: messages of many small parts take hundreds of
//! times the bytes they have in the file. Numbers are not counted; they take a few times their bytes.

use prost::Message;
use quantize_document::wire::WireFault;
use quantize_document::{Limits, WireError, WireType, index_message};
use quantize_proto::onnx::{
    AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
    StringStringEntryProto, TensorAnnotation, TensorProto, TypeProto, ValueInfoProto, tensor_shape_proto::Dimension,
};

/// Messages of at most so many bytes are decoded without a look: they take a few megabytes at worst.
const SMALL: usize = 4 << 10;

/// A message may take so many bytes…
const MAX_BYTES: usize = 40 << 20;
/// … and twice the bytes of the file.
const MAX_TIMES: usize = 2;

/// Deepest message that the decoder takes.
const MAX_DEPTH: usize = 100;

/// Messages whose parts are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Node,
    Attribute,
    Graph,
    Tensor,
    SparseTensor,
    ValueInfo,
    Type,
    /// A tensor type, or a type of which another is an element.
    TypeOf,
    Shape,
    Function,
    Annotation,
    /// A message of numbers and texts alone.
    Plain,
}

/// A message type of the format whose weight is known.
pub(crate) trait Weighed: Message + Default {
    /// Its parts.
    const KIND: Kind;
}

impl Weighed for NodeProto {
    const KIND: Kind = Kind::Node;
}
impl Weighed for TensorProto {
    const KIND: Kind = Kind::Tensor;
}
impl Weighed for SparseTensorProto {
    const KIND: Kind = Kind::SparseTensor;
}
impl Weighed for ValueInfoProto {
    const KIND: Kind = Kind::ValueInfo;
}
impl Weighed for FunctionProto {
    const KIND: Kind = Kind::Function;
}
impl Weighed for OperatorSetIdProto {
    const KIND: Kind = Kind::Plain;
}

impl Weighed for StringStringEntryProto {
    const KIND: Kind = Kind::Plain;
}

/// A field that takes memory for each time it stands there.
enum Part {
    /// A message of this many bytes in memory, those of its own parts not counted.
    Message(Kind, usize),
    /// A text.
    Text,
}

impl Part {
    const ENTRY: Self = Self::Message(Kind::Plain, size_of::<StringStringEntryProto>());
    const VALUE: Self = Self::Message(Kind::ValueInfo, size_of::<ValueInfoProto>());
    const NODE: Self = Self::Message(Kind::Node, size_of::<NodeProto>());
    const ATTRIBUTE: Self = Self::Message(Kind::Attribute, size_of::<AttributeProto>());
    const TENSOR: Self = Self::Message(Kind::Tensor, size_of::<TensorProto>());
    const SPARSE: Self = Self::Message(Kind::SparseTensor, size_of::<SparseTensorProto>());
    const GRAPH: Self = Self::Message(Kind::Graph, size_of::<GraphProto>());
    const OPSET: Self = Self::Message(Kind::Plain, size_of::<OperatorSetIdProto>());
    const ANNOTATION: Self = Self::Message(Kind::Annotation, size_of::<TensorAnnotation>());
    const TYPE: Self = Self::Message(Kind::Type, size_of::<TypeProto>());
    const TYPE_OF: Self = Self::Message(Kind::TypeOf, 0);
    const SHAPE: Self = Self::Message(Kind::Shape, 0);
    const DIM: Self = Self::Message(Kind::Plain, size_of::<Dimension>());

    /// Bytes in a list.
    const fn bytes(&self) -> usize {
        match self {
            Self::Message(_, bytes) => *bytes,
            Self::Text => size_of::<String>(),
        }
    }
}

impl Kind {
    /// The fields that take memory, by their numbers.
    const fn parts(self) -> &'static [(u32, Part)] {
        match self {
            Self::Node => &[(1, Part::Text), (2, Part::Text), (5, Part::ATTRIBUTE), (9, Part::ENTRY)],
            Self::Attribute => &[
                (5, Part::TENSOR),
                (6, Part::GRAPH),
                (9, Part::Text),
                (10, Part::TENSOR),
                (11, Part::GRAPH),
                (14, Part::TYPE),
                (15, Part::TYPE),
                (22, Part::SPARSE),
                (23, Part::SPARSE),
            ],
            Self::Graph => &[
                (1, Part::NODE),
                (5, Part::TENSOR),
                (11, Part::VALUE),
                (12, Part::VALUE),
                (13, Part::VALUE),
                (14, Part::ANNOTATION),
                (15, Part::SPARSE),
                (16, Part::ENTRY),
            ],
            Self::Tensor => &[(6, Part::Text), (13, Part::ENTRY), (16, Part::ENTRY)],
            Self::SparseTensor => &[(1, Part::TENSOR), (2, Part::TENSOR)],
            Self::ValueInfo => &[(2, Part::TYPE), (4, Part::ENTRY)],
            Self::Type => {
                &[(1, Part::TYPE_OF), (4, Part::TYPE_OF), (5, Part::TYPE_OF), (8, Part::TYPE_OF), (9, Part::TYPE_OF)]
            }
            Self::TypeOf => &[(1, Part::TYPE), (2, Part::SHAPE)],
            Self::Shape => &[(1, Part::DIM)],
            Self::Function => &[
                (4, Part::Text),
                (5, Part::Text),
                (6, Part::Text),
                (7, Part::NODE),
                (9, Part::OPSET),
                (11, Part::ATTRIBUTE),
                (12, Part::VALUE),
                (14, Part::ENTRY),
            ],
            Self::Annotation => &[(2, Part::ENTRY)],
            Self::Plain => &[],
        }
    }
}

/// Accepts a message for decoding that stands in a file of `file` bytes, or says why not.
///
/// # Errors
/// If it would take much more memory than the file.
pub(crate) fn check(message: &[u8], kind: Kind, file: usize) -> Result<(), String> {
    let limit = MAX_BYTES + MAX_TIMES * file;
    if message.len() > SMALL && weight(message, kind, limit, 0) > limit {
        return Err(format!(
            "is made of so many small parts that reading its {} bytes would take more than {} MiB of memory",
            message.len(),
            limit >> 20
        ));
    }
    Ok(())
}

/// Bytes of memory that the parts of a message take; once that is more than `limit`, no more are counted.
fn weight(message: &[u8], kind: Kind, limit: usize, depth: usize) -> usize {
    let parts = kind.parts();
    if parts.is_empty() || depth > MAX_DEPTH {
        return 0;
    }
    let index = match index_message(message, 0..message.len(), &Limits::default()) {
        Ok(index) => index,
        Err(WireError { fault: WireFault::Limit(_), .. }) => return usize::MAX,
        // What is no message is the decoder's to refuse.
        Err(_) => return 0,
    };
    let mut bytes = 0_usize;
    for (number, part) in parts {
        let mut count = 0_usize;
        for (_, field) in index.with_number(*number).filter(|(_, f)| f.wire_type() == WireType::LengthDelimited) {
            count += 1;
            if let Part::Message(kind, _) = part {
                let inner = message.get(field.payload()).unwrap_or_default();
                bytes = bytes.saturating_add(weight(inner, *kind, limit, depth + 1));
            }
            if bytes > limit {
                return bytes;
            }
        }
        // A list that grows doubles its room.
        let room = if count == 0 { 0 } else { count.next_power_of_two() };
        bytes += room * part.bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_document::encode::{bytes_field, varint_field};

    fn refusal(message: &[u8], kind: Kind) -> Option<String> {
        check(message, kind, message.len()).err()
    }

    #[test]
    fn many_small_parts_are_refused_wherever_they_are() {
        let attributes = bytes_field(5, b"").repeat(30_000);
        let node = bytes_field(1, &attributes);
        let graph = bytes_field(5, &bytes_field(6, &node));
        let shape = bytes_field(2, &bytes_field(1, &bytes_field(2, &bytes_field(1, b"").repeat(2_000_000))));
        let cases = [
            (attributes.clone(), Kind::Node),
            (graph.clone(), Kind::Node),
            (bytes_field(7, &graph), Kind::Function),
            (bytes_field(1, b"").repeat(2_000_000), Kind::Node),
            (bytes_field(6, b"").repeat(2_000_000), Kind::Tensor),
            (bytes_field(6, b"").repeat(4_000_000), Kind::Tensor),
            (bytes_field(1, &bytes_field(13, b"").repeat(2_000_000)), Kind::SparseTensor),
            (shape, Kind::ValueInfo),
        ];
        for (message, kind) in cases {
            let cause = refusal(&message, kind).unwrap_or_else(|| panic!("{kind:?} is accepted"));
            assert!(cause.contains("so many small parts"), "{cause}");
        }
    }

    #[test]
    fn large_parts_are_accepted() {
        let attribute = [bytes_field(1, b"pads"), varint_field(20, 7), bytes_field(8, &[1; 8])].concat();
        let node = bytes_field(1, &[bytes_field(1, b"input"), bytes_field(5, &attribute).repeat(4)].concat());
        let body = bytes_field(5, &bytes_field(6, &node.repeat(1000)));
        assert_eq!(refusal(&body, Kind::Node), None);
        assert_eq!(refusal(&bytes_field(9, &vec![0; 10 << 20]), Kind::Tensor), None);
        assert_eq!(refusal(&bytes_field(1, b"operand").repeat(10_000), Kind::Node), None);
    }

    #[test]
    fn what_is_no_message_is_left_to_the_decoder() {
        assert_eq!(refusal(&[0xff; 10_000], Kind::Node), None);
        let nested = (0..200).fold(vec![0; 5000], |inner, _| bytes_field(5, &bytes_field(6, &bytes_field(1, &inner))));
        assert_eq!(refusal(&nested, Kind::Node), None);
    }
}
