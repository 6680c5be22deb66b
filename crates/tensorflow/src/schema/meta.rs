//! What a graph is saved with: MetaGraph and SavedModel. The object graphs of Keras are not listed.

use super::function::OPERATOR;
use super::graph::{DATA_TYPE, GRAPH, KEY, SHAPE};
use super::{Kind, Message, many, map, one, packed};

pub(crate) static SAVED_MODEL: Message = Message {
    name: "SavedModel",
    fields: &[one(1, "saved_model_schema_version", Kind::Int64), many(2, "meta_graphs", Kind::Message(&META_GRAPH))],
};

pub(crate) static META_GRAPH: Message = Message {
    name: "MetaGraphDef",
    fields: &[
        one(1, "meta_info_def", Kind::Message(&META_INFO)),
        one(2, "graph_def", Kind::Message(&GRAPH)),
        one(3, "saver_def", Kind::Message(&SAVER)),
        map(4, "collection_def", &COLLECTION_ENTRY),
        map(5, "signature_def", &SIGNATURE_ENTRY),
        many(6, "asset_file_def", Kind::Message(&ASSET)),
    ],
};

static COLLECTION_ENTRY: Message = Message { name: "", fields: &[KEY, one(2, "value", Kind::Message(&COLLECTION))] };
static SIGNATURE_ENTRY: Message = Message { name: "", fields: &[KEY, one(2, "value", Kind::Message(&SIGNATURE))] };
static TENSOR_ENTRY: Message = Message { name: "", fields: &[KEY, one(2, "value", Kind::Message(&TENSOR_INFO))] };
static ALIAS_ENTRY: Message = Message { name: "", fields: &[KEY, one(2, "value", Kind::Text)] };

static META_INFO: Message = Message {
    name: "MetaGraphDef.MetaInfoDef",
    fields: &[
        one(1, "meta_graph_version", Kind::Text),
        one(2, "stripped_op_list", Kind::Message(&OPERATORS)),
        one(3, "any_info", Kind::Message(&ANY)),
        many(4, "tags", Kind::Text),
        one(5, "tensorflow_version", Kind::Text),
        one(6, "tensorflow_git_version", Kind::Text),
        one(7, "stripped_default_attrs", Kind::Bool),
        map(8, "function_aliases", &ALIAS_ENTRY),
    ],
};

static OPERATORS: Message = Message { name: "OpList", fields: &[many(1, "op", Kind::Message(&OPERATOR))] };

static ANY: Message = Message { name: "Any", fields: &[one(1, "type_url", Kind::Text), one(2, "value", Kind::Bytes)] };

/// Names of the formats of checkpoints.
const CHECKPOINT_FORMATS: &[(i32, &str)] = &[(0, "LEGACY"), (1, "V1"), (2, "V2")];

static SAVER: Message = Message {
    name: "SaverDef",
    fields: &[
        one(1, "filename_tensor_name", Kind::Text),
        one(2, "save_tensor_name", Kind::Text),
        one(3, "restore_op_name", Kind::Text),
        one(4, "max_to_keep", Kind::Int32),
        one(5, "sharded", Kind::Bool),
        one(6, "keep_checkpoint_every_n_hours", Kind::Float),
        one(7, "version", Kind::Enum(CHECKPOINT_FORMATS)),
    ],
};

static COLLECTION: Message = Message {
    name: "CollectionDef",
    fields: &[
        one(1, "node_list", Kind::Message(&TEXTS)),
        one(2, "bytes_list", Kind::Message(&BYTES)),
        one(3, "int64_list", Kind::Message(&INTEGERS)),
        one(4, "float_list", Kind::Message(&FLOATS)),
        one(5, "any_list", Kind::Message(&ANYS)),
    ],
};

static TEXTS: Message = Message { name: "CollectionDef.NodeList", fields: &[many(1, "value", Kind::Text)] };
static BYTES: Message = Message { name: "CollectionDef.BytesList", fields: &[many(1, "value", Kind::Bytes)] };
static INTEGERS: Message = Message { name: "CollectionDef.Int64List", fields: &[packed(1, "value", Kind::Int64)] };
static FLOATS: Message = Message { name: "CollectionDef.FloatList", fields: &[packed(1, "value", Kind::Float)] };
static ANYS: Message = Message { name: "CollectionDef.AnyList", fields: &[many(1, "value", Kind::Message(&ANY))] };

static SIGNATURE: Message = Message {
    name: "SignatureDef",
    fields: &[map(1, "inputs", &TENSOR_ENTRY), map(2, "outputs", &TENSOR_ENTRY), one(3, "method_name", Kind::Text)],
};

static TENSOR_INFO: Message = Message {
    name: "TensorInfo",
    fields: &[
        one(1, "name", Kind::Text),
        one(2, "dtype", DATA_TYPE),
        one(3, "tensor_shape", Kind::Message(&SHAPE)),
        one(4, "coo_sparse", Kind::Message(&SPARSE)),
    ],
};

static SPARSE: Message = Message {
    name: "TensorInfo.CooSparse",
    fields: &[
        one(1, "values_tensor_name", Kind::Text),
        one(2, "indices_tensor_name", Kind::Text),
        one(3, "dense_shape_tensor_name", Kind::Text),
    ],
};

static ASSET: Message = Message {
    name: "AssetFileDef",
    fields: &[one(1, "tensor_info", Kind::Message(&TENSOR_INFO)), one(2, "filename", Kind::Text)],
};
