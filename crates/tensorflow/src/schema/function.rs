//! Functions that a graph brings along, and definitions of operators.

use super::graph::{ATTRIBUTE, ATTRIBUTE_ENTRY, DATA_TYPE, FULL_TYPE, KEY, NODE};
use super::{Kind, Message, many, map, one};

pub(super) static LIBRARY: Message = Message {
    name: "FunctionDefLibrary",
    fields: &[
        many(1, "function", Kind::Message(&FUNCTION)),
        many(2, "gradient", Kind::Message(&GRADIENT)),
        many(3, "registered_gradients", Kind::Message(&REGISTERED_GRADIENT)),
    ],
};

static FUNCTION: Message = Message {
    name: "FunctionDef",
    fields: &[
        one(1, "signature", Kind::Message(&OPERATOR)),
        many(3, "node_def", Kind::Message(&NODE)),
        map(4, "ret", &TEXT_ENTRY),
        map(5, "attr", &ATTRIBUTE_ENTRY),
        map(6, "control_ret", &TEXT_ENTRY),
        map(7, "arg_attr", &ARGUMENT_ENTRY),
        map(8, "resource_arg_unique_id", &ID_ENTRY),
    ],
};

static TEXT_ENTRY: Message = Message { name: "", fields: &[KEY, one(2, "value", Kind::Text)] };
static ID_ENTRY: Message = Message { name: "", fields: &[one(1, "key", Kind::Uint32), one(2, "value", Kind::Uint32)] };
static ARGUMENT_ENTRY: Message =
    Message { name: "", fields: &[one(1, "key", Kind::Uint32), one(2, "value", Kind::Message(&ARGUMENT_ATTRIBUTES))] };

static ARGUMENT_ATTRIBUTES: Message =
    Message { name: "FunctionDef.ArgAttrs", fields: &[map(1, "attr", &ATTRIBUTE_ENTRY)] };

static GRADIENT: Message = Message {
    name: "GradientDef",
    fields: &[one(1, "function_name", Kind::Text), one(2, "gradient_func", Kind::Text)],
};

static REGISTERED_GRADIENT: Message = Message {
    name: "RegisteredGradient",
    fields: &[one(1, "gradient_func", Kind::Text), one(2, "registered_op_type", Kind::Text)],
};

pub(super) static OPERATOR: Message = Message {
    name: "OpDef",
    fields: &[
        one(1, "name", Kind::Text),
        many(2, "input_arg", Kind::Message(&ARGUMENT)),
        many(3, "output_arg", Kind::Message(&ARGUMENT)),
        many(4, "attr", Kind::Message(&ATTRIBUTE_DEFINITION)),
        one(5, "summary", Kind::Text),
        one(6, "description", Kind::Text),
        one(8, "deprecation", Kind::Message(&DEPRECATION)),
        one(16, "is_aggregate", Kind::Bool),
        one(17, "is_stateful", Kind::Bool),
        one(18, "is_commutative", Kind::Bool),
        one(19, "allows_uninitialized_input", Kind::Bool),
        many(20, "control_output", Kind::Text),
        one(21, "is_distributed_communication", Kind::Bool),
    ],
};

static ARGUMENT: Message = Message {
    name: "OpDef.ArgDef",
    fields: &[
        one(1, "name", Kind::Text),
        one(2, "description", Kind::Text),
        one(3, "type", DATA_TYPE),
        one(4, "type_attr", Kind::Text),
        one(5, "number_attr", Kind::Text),
        one(6, "type_list_attr", Kind::Text),
        one(16, "is_ref", Kind::Bool),
        one(17, "experimental_full_type", Kind::Message(&FULL_TYPE)),
    ],
};

static ATTRIBUTE_DEFINITION: Message = Message {
    name: "OpDef.AttrDef",
    fields: &[
        one(1, "name", Kind::Text),
        one(2, "type", Kind::Text),
        one(3, "default_value", Kind::Message(&ATTRIBUTE)),
        one(4, "description", Kind::Text),
        one(5, "has_minimum", Kind::Bool),
        one(6, "minimum", Kind::Int64),
        one(7, "allowed_values", Kind::Message(&ATTRIBUTE)),
    ],
};

static DEPRECATION: Message =
    Message { name: "OpDeprecation", fields: &[one(1, "version", Kind::Int32), one(2, "explanation", Kind::Text)] };
