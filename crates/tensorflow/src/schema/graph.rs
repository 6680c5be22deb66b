//! Graphs, nodes, attributes and tensors.

use super::function::LIBRARY;
use super::{Field, Kind, Message, many, map, one, packed};

/// Names of the element types.
pub(crate) const DATA_TYPES: &[(i32, &str)] = &[
    (0, "DT_INVALID"),
    (1, "DT_FLOAT"),
    (2, "DT_DOUBLE"),
    (3, "DT_INT32"),
    (4, "DT_UINT8"),
    (5, "DT_INT16"),
    (6, "DT_INT8"),
    (7, "DT_STRING"),
    (8, "DT_COMPLEX64"),
    (9, "DT_INT64"),
    (10, "DT_BOOL"),
    (11, "DT_QINT8"),
    (12, "DT_QUINT8"),
    (13, "DT_QINT32"),
    (14, "DT_BFLOAT16"),
    (15, "DT_QINT16"),
    (16, "DT_QUINT16"),
    (17, "DT_UINT16"),
    (18, "DT_COMPLEX128"),
    (19, "DT_HALF"),
    (20, "DT_RESOURCE"),
    (21, "DT_VARIANT"),
    (22, "DT_UINT32"),
    (23, "DT_UINT64"),
    (101, "DT_FLOAT_REF"),
    (102, "DT_DOUBLE_REF"),
    (103, "DT_INT32_REF"),
    (104, "DT_UINT8_REF"),
    (105, "DT_INT16_REF"),
    (106, "DT_INT8_REF"),
    (107, "DT_STRING_REF"),
    (108, "DT_COMPLEX64_REF"),
    (109, "DT_INT64_REF"),
    (110, "DT_BOOL_REF"),
    (111, "DT_QINT8_REF"),
    (112, "DT_QUINT8_REF"),
    (113, "DT_QINT32_REF"),
    (114, "DT_BFLOAT16_REF"),
    (115, "DT_QINT16_REF"),
    (116, "DT_QUINT16_REF"),
    (117, "DT_UINT16_REF"),
    (118, "DT_COMPLEX128_REF"),
    (119, "DT_HALF_REF"),
    (120, "DT_RESOURCE_REF"),
    (121, "DT_VARIANT_REF"),
    (122, "DT_UINT32_REF"),
    (123, "DT_UINT64_REF"),
];

pub(super) const DATA_TYPE: Kind = Kind::Enum(DATA_TYPES);

/// Kinds of full types.
const FULL_TYPE_IDS: &[(i32, &str)] = &[
    (0, "TFT_UNSET"),
    (1, "TFT_VAR"),
    (2, "TFT_ANY"),
    (3, "TFT_PRODUCT"),
    (4, "TFT_NAMED"),
    (20, "TFT_FOR_EACH"),
    (100, "TFT_CALLABLE"),
    (200, "TFT_BOOL"),
    (201, "TFT_UINT8"),
    (202, "TFT_UINT16"),
    (203, "TFT_UINT32"),
    (204, "TFT_UINT64"),
    (205, "TFT_INT8"),
    (206, "TFT_INT16"),
    (207, "TFT_INT32"),
    (208, "TFT_INT64"),
    (209, "TFT_HALF"),
    (210, "TFT_FLOAT"),
    (211, "TFT_DOUBLE"),
    (212, "TFT_COMPLEX64"),
    (213, "TFT_COMPLEX128"),
    (214, "TFT_STRING"),
    (215, "TFT_BFLOAT16"),
    (1000, "TFT_TENSOR"),
    (1001, "TFT_ARRAY"),
    (1002, "TFT_OPTIONAL"),
    (1003, "TFT_LITERAL"),
    (1004, "TFT_ENCODED"),
    (1005, "TFT_SHAPE_TENSOR"),
    (10102, "TFT_DATASET"),
    (10103, "TFT_RAGGED"),
    (10104, "TFT_ITERATOR"),
    (10202, "TFT_MUTEX_LOCK"),
    (10203, "TFT_LEGACY_VARIANT"),
];

pub(crate) static GRAPH: Message = Message {
    name: "GraphDef",
    fields: &[
        many(1, "node", Kind::Message(&NODE)),
        one(2, "library", Kind::Message(&LIBRARY)),
        one(3, "version", Kind::Int32),
        one(4, "versions", Kind::Message(&VERSIONS)),
        one(5, "debug_info", Kind::Message(&DEBUG_INFO)),
    ],
};

pub(super) static VERSIONS: Message = Message {
    name: "VersionDef",
    fields: &[
        one(1, "producer", Kind::Int32),
        one(2, "min_consumer", Kind::Int32),
        packed(3, "bad_consumers", Kind::Int32),
    ],
};

pub(super) static NODE: Message = Message {
    name: "NodeDef",
    fields: &[
        one(1, "name", Kind::Text),
        one(2, "op", Kind::Text),
        many(3, "input", Kind::Text),
        one(4, "device", Kind::Text),
        map(5, "attr", &ATTRIBUTE_ENTRY),
        one(6, "experimental_debug_info", Kind::Message(&NODE_DEBUG_INFO)),
        one(7, "experimental_type", Kind::Message(&FULL_TYPE)),
    ],
};

static NODE_DEBUG_INFO: Message = Message {
    name: "NodeDef.ExperimentalDebugInfo",
    fields: &[many(1, "original_node_names", Kind::Text), many(2, "original_func_names", Kind::Text)],
};

pub(super) static FULL_TYPE: Message = Message {
    name: "FullTypeDef",
    fields: &[
        one(1, "type_id", Kind::Enum(FULL_TYPE_IDS)),
        many(2, "args", Kind::Message(&FULL_TYPE)),
        one(3, "s", Kind::Text),
        one(4, "i", Kind::Int64),
    ],
};

pub(super) static ATTRIBUTE_ENTRY: Message =
    Message { name: "", fields: &[KEY, one(2, "value", Kind::Message(&ATTRIBUTE))] };

pub(super) const KEY: Field = one(1, "key", Kind::Text);

pub(super) static ATTRIBUTE: Message = Message {
    name: "AttrValue",
    fields: &[
        one(1, "list", Kind::Message(&LIST)),
        one(2, "s", Kind::Bytes),
        one(3, "i", Kind::Int64),
        one(4, "f", Kind::Float),
        one(5, "b", Kind::Bool),
        one(6, "type", DATA_TYPE),
        one(7, "shape", Kind::Message(&SHAPE)),
        one(8, "tensor", Kind::Message(&TENSOR)),
        one(9, "placeholder", Kind::Text),
        one(10, "func", Kind::Message(&NAME_AND_ATTRIBUTES)),
    ],
};

static LIST: Message = Message {
    name: "AttrValue.ListValue",
    fields: &[
        many(2, "s", Kind::Bytes),
        packed(3, "i", Kind::Int64),
        packed(4, "f", Kind::Float),
        packed(5, "b", Kind::Bool),
        packed(6, "type", DATA_TYPE),
        many(7, "shape", Kind::Message(&SHAPE)),
        many(8, "tensor", Kind::Message(&TENSOR)),
        many(9, "func", Kind::Message(&NAME_AND_ATTRIBUTES)),
    ],
};

static NAME_AND_ATTRIBUTES: Message =
    Message { name: "NameAttrList", fields: &[one(1, "name", Kind::Text), map(2, "attr", &ATTRIBUTE_ENTRY)] };

pub(super) static SHAPE: Message = Message {
    name: "TensorShapeProto",
    fields: &[many(2, "dim", Kind::Message(&DIM)), one(3, "unknown_rank", Kind::Bool)],
};

static DIM: Message =
    Message { name: "TensorShapeProto.Dim", fields: &[one(1, "size", Kind::Int64), one(2, "name", Kind::Text)] };

pub(super) static TENSOR: Message = Message {
    name: "TensorProto",
    fields: &[
        one(1, "dtype", DATA_TYPE),
        one(2, "tensor_shape", Kind::Message(&SHAPE)),
        one(3, "version_number", Kind::Int32),
        one(4, "tensor_content", Kind::Bytes),
        packed(5, "float_val", Kind::Float),
        packed(6, "double_val", Kind::Double),
        packed(7, "int_val", Kind::Int32),
        many(8, "string_val", Kind::Bytes),
        packed(9, "scomplex_val", Kind::Float),
        packed(10, "int64_val", Kind::Int64),
        packed(11, "bool_val", Kind::Bool),
        packed(12, "dcomplex_val", Kind::Double),
        packed(13, "half_val", Kind::Int32),
        many(14, "resource_handle_val", Kind::Message(&RESOURCE_HANDLE)),
        many(15, "variant_val", Kind::Message(&VARIANT)),
        packed(16, "uint32_val", Kind::Uint32),
        packed(17, "uint64_val", Kind::Uint64),
        one(18, "float8_val", Kind::Bytes),
    ],
};

static RESOURCE_HANDLE: Message = Message {
    name: "ResourceHandleProto",
    fields: &[
        one(1, "device", Kind::Text),
        one(2, "container", Kind::Text),
        one(3, "name", Kind::Text),
        one(4, "hash_code", Kind::Uint64),
        one(5, "maybe_type_name", Kind::Text),
        many(6, "dtypes_and_shapes", Kind::Message(&TYPE_AND_SHAPE)),
    ],
};

static TYPE_AND_SHAPE: Message = Message {
    name: "ResourceHandleProto.DtypeAndShape",
    fields: &[one(1, "dtype", DATA_TYPE), one(2, "shape", Kind::Message(&SHAPE))],
};

static VARIANT: Message = Message {
    name: "VariantTensorDataProto",
    fields: &[
        one(1, "type_name", Kind::Text),
        one(2, "metadata", Kind::Bytes),
        many(3, "tensors", Kind::Message(&TENSOR)),
    ],
};

static DEBUG_INFO: Message = Message {
    name: "GraphDebugInfo",
    fields: &[
        many(1, "files", Kind::Text),
        map(2, "traces", &TRACE_BY_NAME),
        map(4, "frames_by_id", &FRAME_BY_ID),
        map(5, "name_to_trace_id", &ID_BY_NAME),
        map(6, "traces_by_id", &TRACE_BY_ID),
    ],
};

static TRACE_BY_NAME: Message = Message { name: "", fields: &[KEY, one(2, "value", Kind::Message(&STACK_TRACE))] };
static TRACE_BY_ID: Message =
    Message { name: "", fields: &[one(1, "key", Kind::Fixed64), one(2, "value", Kind::Message(&STACK_TRACE))] };
static FRAME_BY_ID: Message =
    Message { name: "", fields: &[one(1, "key", Kind::Fixed64), one(2, "value", Kind::Message(&FRAME))] };
static ID_BY_NAME: Message = Message { name: "", fields: &[KEY, one(2, "value", Kind::Fixed64)] };

static STACK_TRACE: Message = Message {
    name: "GraphDebugInfo.StackTrace",
    fields: &[many(1, "file_line_cols", Kind::Message(&FRAME)), packed(2, "frame_id", Kind::Fixed64)],
};

static FRAME: Message = Message {
    name: "GraphDebugInfo.FileLineCol",
    fields: &[
        one(1, "file_index", Kind::Int32),
        one(2, "line", Kind::Int32),
        one(3, "col", Kind::Int32),
        one(4, "func", Kind::Text),
        one(5, "code", Kind::Text),
    ],
};
