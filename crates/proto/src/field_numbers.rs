//! Checks the compiled schema against the published ONNX format: each field's
//! number, type and packing, and each enum value, as a table of facts.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use Presence::{Optional, Packed, Repeated};

static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// How often a field occurs, and for repeated numbers how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Optional,
    Repeated,
    Packed,
}

type FieldFact = (&'static str, &'static str, i32, Type, Presence);

/// Message, field, number, type, presence.
#[rustfmt::skip]
const FIELDS: &[FieldFact] = &[
    ("AttributeProto", "name", 1, Type::String, Optional),
    ("AttributeProto", "ref_attr_name", 21, Type::String, Optional),
    ("AttributeProto", "doc_string", 13, Type::String, Optional),
    ("AttributeProto", "type", 20, Type::Enum, Optional),
    ("AttributeProto", "f", 2, Type::Float, Optional),
    ("AttributeProto", "i", 3, Type::Int64, Optional),
    ("AttributeProto", "s", 4, Type::Bytes, Optional),
    ("AttributeProto", "t", 5, Type::Message, Optional),
    ("AttributeProto", "g", 6, Type::Message, Optional),
    ("AttributeProto", "sparse_tensor", 22, Type::Message, Optional),
    ("AttributeProto", "tp", 14, Type::Message, Optional),
    ("AttributeProto", "floats", 7, Type::Float, Repeated),
    ("AttributeProto", "ints", 8, Type::Int64, Repeated),
    ("AttributeProto", "strings", 9, Type::Bytes, Repeated),
    ("AttributeProto", "tensors", 10, Type::Message, Repeated),
    ("AttributeProto", "graphs", 11, Type::Message, Repeated),
    ("AttributeProto", "sparse_tensors", 23, Type::Message, Repeated),
    ("AttributeProto", "type_protos", 15, Type::Message, Repeated),
    ("FunctionProto", "name", 1, Type::String, Optional),
    ("FunctionProto", "input", 4, Type::String, Repeated),
    ("FunctionProto", "output", 5, Type::String, Repeated),
    ("FunctionProto", "attribute", 6, Type::String, Repeated),
    ("FunctionProto", "attribute_proto", 11, Type::Message, Repeated),
    ("FunctionProto", "node", 7, Type::Message, Repeated),
    ("FunctionProto", "doc_string", 8, Type::String, Optional),
    ("FunctionProto", "opset_import", 9, Type::Message, Repeated),
    ("FunctionProto", "domain", 10, Type::String, Optional),
    ("FunctionProto", "overload", 13, Type::String, Optional),
    ("FunctionProto", "value_info", 12, Type::Message, Repeated),
    ("FunctionProto", "metadata_props", 14, Type::Message, Repeated),
    ("GraphProto", "node", 1, Type::Message, Repeated),
    ("GraphProto", "name", 2, Type::String, Optional),
    ("GraphProto", "initializer", 5, Type::Message, Repeated),
    ("GraphProto", "sparse_initializer", 15, Type::Message, Repeated),
    ("GraphProto", "doc_string", 10, Type::String, Optional),
    ("GraphProto", "input", 11, Type::Message, Repeated),
    ("GraphProto", "output", 12, Type::Message, Repeated),
    ("GraphProto", "value_info", 13, Type::Message, Repeated),
    ("GraphProto", "quantization_annotation", 14, Type::Message, Repeated),
    ("GraphProto", "metadata_props", 16, Type::Message, Repeated),
    ("ModelProto", "ir_version", 1, Type::Int64, Optional),
    ("ModelProto", "opset_import", 8, Type::Message, Repeated),
    ("ModelProto", "producer_name", 2, Type::String, Optional),
    ("ModelProto", "producer_version", 3, Type::String, Optional),
    ("ModelProto", "domain", 4, Type::String, Optional),
    ("ModelProto", "model_version", 5, Type::Int64, Optional),
    ("ModelProto", "doc_string", 6, Type::String, Optional),
    ("ModelProto", "graph", 7, Type::Message, Optional),
    ("ModelProto", "metadata_props", 14, Type::Message, Repeated),
    ("ModelProto", "functions", 25, Type::Message, Repeated),
    ("NodeProto", "input", 1, Type::String, Repeated),
    ("NodeProto", "output", 2, Type::String, Repeated),
    ("NodeProto", "name", 3, Type::String, Optional),
    ("NodeProto", "op_type", 4, Type::String, Optional),
    ("NodeProto", "domain", 7, Type::String, Optional),
    ("NodeProto", "overload", 8, Type::String, Optional),
    ("NodeProto", "attribute", 5, Type::Message, Repeated),
    ("NodeProto", "doc_string", 6, Type::String, Optional),
    ("NodeProto", "metadata_props", 9, Type::Message, Repeated),
    ("OperatorSetIdProto", "domain", 1, Type::String, Optional),
    ("OperatorSetIdProto", "version", 2, Type::Int64, Optional),
    ("SparseTensorProto", "values", 1, Type::Message, Optional),
    ("SparseTensorProto", "indices", 2, Type::Message, Optional),
    ("SparseTensorProto", "dims", 3, Type::Int64, Repeated),
    ("StringStringEntryProto", "key", 1, Type::String, Optional),
    ("StringStringEntryProto", "value", 2, Type::String, Optional),
    ("TensorAnnotation", "tensor_name", 1, Type::String, Optional),
    ("TensorAnnotation", "quant_parameter_tensor_names", 2, Type::Message, Repeated),
    ("TensorProto", "dims", 1, Type::Int64, Repeated),
    ("TensorProto", "data_type", 2, Type::Int32, Optional),
    ("TensorProto", "segment", 3, Type::Message, Optional),
    ("TensorProto", "float_data", 4, Type::Float, Packed),
    ("TensorProto", "int32_data", 5, Type::Int32, Packed),
    ("TensorProto", "string_data", 6, Type::Bytes, Repeated),
    ("TensorProto", "int64_data", 7, Type::Int64, Packed),
    ("TensorProto", "name", 8, Type::String, Optional),
    ("TensorProto", "doc_string", 12, Type::String, Optional),
    ("TensorProto", "raw_data", 9, Type::Bytes, Optional),
    ("TensorProto", "external_data", 13, Type::Message, Repeated),
    ("TensorProto", "data_location", 14, Type::Enum, Optional),
    ("TensorProto", "double_data", 10, Type::Double, Packed),
    ("TensorProto", "uint64_data", 11, Type::Uint64, Packed),
    ("TensorProto", "metadata_props", 16, Type::Message, Repeated),
    ("TensorProto.Segment", "begin", 1, Type::Int64, Optional),
    ("TensorProto.Segment", "end", 2, Type::Int64, Optional),
    ("TensorShapeProto", "dim", 1, Type::Message, Repeated),
    ("TensorShapeProto.Dimension", "dim_value", 1, Type::Int64, Optional),
    ("TensorShapeProto.Dimension", "dim_param", 2, Type::String, Optional),
    ("TensorShapeProto.Dimension", "denotation", 3, Type::String, Optional),
    ("TypeProto", "tensor_type", 1, Type::Message, Optional),
    ("TypeProto", "sequence_type", 4, Type::Message, Optional),
    ("TypeProto", "map_type", 5, Type::Message, Optional),
    ("TypeProto", "optional_type", 9, Type::Message, Optional),
    ("TypeProto", "sparse_tensor_type", 8, Type::Message, Optional),
    ("TypeProto", "denotation", 6, Type::String, Optional),
    ("TypeProto.Tensor", "elem_type", 1, Type::Int32, Optional),
    ("TypeProto.Tensor", "shape", 2, Type::Message, Optional),
    ("TypeProto.Sequence", "elem_type", 1, Type::Message, Optional),
    ("TypeProto.Map", "key_type", 1, Type::Int32, Optional),
    ("TypeProto.Map", "value_type", 2, Type::Message, Optional),
    ("TypeProto.Optional", "elem_type", 1, Type::Message, Optional),
    ("TypeProto.SparseTensor", "elem_type", 1, Type::Int32, Optional),
    ("TypeProto.SparseTensor", "shape", 2, Type::Message, Optional),
    ("ValueInfoProto", "name", 1, Type::String, Optional),
    ("ValueInfoProto", "type", 2, Type::Message, Optional),
    ("ValueInfoProto", "doc_string", 3, Type::String, Optional),
    ("ValueInfoProto", "metadata_props", 4, Type::Message, Repeated),
];

type EnumFact = (&'static str, &'static [(&'static str, i32)]);

/// Enum, then its values.
#[rustfmt::skip]
const ENUMS: &[EnumFact] = &[
    ("AttributeProto.AttributeType", &[
        ("UNDEFINED", 0),
        ("FLOAT", 1),
        ("INT", 2),
        ("STRING", 3),
        ("TENSOR", 4),
        ("GRAPH", 5),
        ("SPARSE_TENSOR", 11),
        ("TYPE_PROTO", 13),
        ("FLOATS", 6),
        ("INTS", 7),
        ("STRINGS", 8),
        ("TENSORS", 9),
        ("GRAPHS", 10),
        ("SPARSE_TENSORS", 12),
        ("TYPE_PROTOS", 14),
    ]),
    ("TensorProto.DataType", &[
        ("UNDEFINED", 0),
        ("FLOAT", 1),
        ("UINT8", 2),
        ("INT8", 3),
        ("UINT16", 4),
        ("INT16", 5),
        ("INT32", 6),
        ("INT64", 7),
        ("STRING", 8),
        ("BOOL", 9),
        ("FLOAT16", 10),
        ("DOUBLE", 11),
        ("UINT32", 12),
        ("UINT64", 13),
        ("COMPLEX64", 14),
        ("COMPLEX128", 15),
        ("BFLOAT16", 16),
        ("FLOAT8E4M3FN", 17),
        ("FLOAT8E4M3FNUZ", 18),
        ("FLOAT8E5M2", 19),
        ("FLOAT8E5M2FNUZ", 20),
        ("UINT4", 21),
        ("INT4", 22),
        ("FLOAT4E2M1", 23),
        ("FLOAT8E8M0", 24),
        ("UINT2", 25),
        ("INT2", 26),
        ("FLOAT6E2M3", 27),
        ("FLOAT6E3M2", 28),
    ]),
    ("TensorProto.DataLocation", &[
        ("DEFAULT", 0),
        ("EXTERNAL", 1),
    ]),
];

#[test]
fn fields_are_those_of_the_published_format() {
    let schema = Schema::compiled();
    for &(message, field, number, kind, presence) in FIELDS {
        let name = format!("{message}.{field}");
        let actual = schema.fields.get(&name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(actual, &(number, kind, presence), "{name}");
    }
}

#[test]
fn no_field_is_outside_the_table() {
    let known: Vec<String> = FIELDS.iter().map(|fact| format!("{}.{}", fact.0, fact.1)).collect();
    for name in Schema::compiled().fields.keys() {
        assert!(known.contains(name), "{name} is not in the table");
    }
}

#[test]
fn enum_values_are_those_of_the_published_format() {
    let schema = Schema::compiled();
    let expected: BTreeMap<String, BTreeMap<String, i32>> = ENUMS
        .iter()
        .map(|(name, values)| {
            let values = values.iter().map(|&(value, number)| (value.to_string(), number));
            (name.to_string(), values.collect())
        })
        .collect();
    assert_eq!(schema.enums, expected);
}

/// The compiled schema, flattened to `Message.field` and `Message.Enum`.
#[derive(Default)]
struct Schema {
    fields: BTreeMap<String, (i32, Type, Presence)>,
    enums: BTreeMap<String, BTreeMap<String, i32>>,
}

impl Schema {
    fn compiled() -> Self {
        let files = FileDescriptorSet::decode(DESCRIPTORS).expect("the build script wrote it");
        let mut schema = Self::default();
        for message in files.file.iter().flat_map(|file| &file.message_type) {
            schema.add_message("", message);
        }
        schema
    }

    fn add_message(&mut self, scope: &str, message: &DescriptorProto) {
        let path = format!("{scope}{}", message.name());
        for field in &message.field {
            let fact = (field.number(), field.r#type(), presence(field));
            self.fields.insert(format!("{path}.{}", field.name()), fact);
        }
        let scope = format!("{path}.");
        for inner in &message.enum_type {
            self.add_enum(&scope, inner);
        }
        for inner in &message.nested_type {
            self.add_message(&scope, inner);
        }
    }

    fn add_enum(&mut self, scope: &str, inner: &EnumDescriptorProto) {
        let values = inner.value.iter().map(|value| (value.name().to_string(), value.number()));
        self.enums.insert(format!("{scope}{}", inner.name()), values.collect());
    }
}

fn presence(field: &FieldDescriptorProto) -> Presence {
    let packed = field.options.as_ref().is_some_and(|options| options.packed());
    match (field.label(), packed) {
        (Label::Repeated, true) => Packed,
        (Label::Repeated, false) => Repeated,
        _ => Optional,
    }
}
