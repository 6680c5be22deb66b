//! Models that compute in half precision, made to compute in single precision.
//!
//! onnxruntime has integer kernels between values of single precision only. So a model that computes on halves is
//! widened before anything else happens to it: constants keep their bytes and are cast, inputs and outputs keep their
//! type and are cast at the ends, and whatever names a type of half precision in between names `float32`. What is left
//! alone is copied byte for byte.

use crate::document::{
    GRAPH_INPUT, GRAPH_NODE, GRAPH_OUTPUT, GRAPH_VALUE_INFO, INITIALIZER_NAME, MODEL_FUNCTIONS, OnnxDocument,
};
use crate::error::OnnxError;
use crate::names::Names;
use crate::tensor::{decode_tensor_beside, dtype_of, encode_tensor};
use prost::Message;
use quantize_document::encode::bytes_field;
use quantize_document::{Piece, Splice};
use quantize_ir::{DType, Graph, GraphError, Op};
use quantize_proto::onnx::attribute_proto::AttributeType;
use quantize_proto::onnx::tensor_proto::DataType;
use quantize_proto::onnx::{
    AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto,
};
use std::collections::{BTreeMap, BTreeSet};

/// Attributes that say which element type a node computes in or results in.
const TYPE_ATTRIBUTES: [&str; 6] = ["to", "dtype", "output_dtype", "output_datatype", "stash_type", "precision"];

const SINGLE: i32 = DataType::Float as i32;

/// Whether a node of `graph` computes halves from what the graph is fed, by anything but a cast.
///
/// # Errors
/// If the graph has a cycle.
pub fn computes_in_half(graph: &Graph) -> Result<bool, GraphError> {
    let mut varies = vec![false; graph.value_count()];
    graph.inputs().iter().for_each(|value| mark(&mut varies, value.index()));
    for node in graph.topological_order()?.into_iter().filter_map(|id| graph.node(id)) {
        let is_fed = node.inputs.iter().flatten().any(|value| varies.get(value.index()) == Some(&true));
        for value in node.outputs.iter().flatten().filter(|_| is_fed) {
            let is_half = graph.value(*value).dtype.is_some_and(DType::is_half);
            if is_half && !matches!(node.op, Op::Cast(_)) {
                return Ok(true);
            }
            mark(&mut varies, value.index());
        }
    }
    Ok(false)
}

fn mark(table: &mut [bool], at: usize) {
    table.get_mut(at).into_iter().for_each(|entry| *entry = true);
}

fn is_half(data_type: i32) -> bool {
    dtype_of(data_type).is_some_and(DType::is_half)
}

/// The model with everything that computes on halves computing on singles.
///
/// # Errors
/// If a message cannot be decoded, a tensor in an attribute cannot be read, or a sparse tensor holds halves.
pub fn widened(document: &OnnxDocument) -> Result<Vec<u8>, OnnxError> {
    let mut widening = Widening::of(document)?;
    let mut graph = document.graph_splice()?;
    widening.constants(&mut graph)?;
    for index in 0..document.node_count() {
        let (before, field) = (document.node(index)?, document.node_field(index)?);
        let mut node = before.clone();
        widening.node(&mut node, &widening.renamed)?;
        if node != before {
            graph.replace(field, Piece::encoded(bytes_field(GRAPH_NODE, &node.encode_to_vec())))?;
        }
    }
    for described in document.value_infos(GRAPH_VALUE_INFO) {
        let (field, mut info) = described?;
        if widen_description(&mut info) {
            graph.replace(field, Piece::encoded(bytes_field(GRAPH_VALUE_INFO, &info.encode_to_vec())))?;
        }
    }
    if document.node_count() > 0 {
        graph.insert_before(document.node_field(0)?, Piece::encoded(std::mem::take(&mut widening.first)))?;
    }
    graph.append(Piece::encoded(std::mem::take(&mut widening.last)));
    let mut model = document.splice()?;
    model.replace_body(document.graph_field(), graph)?;
    widening.functions(&mut model)?;
    Ok(model.to_vec())
}

/// What is changed in a document.
struct Widening<'d> {
    document: &'d OnnxDocument,
    names: Names,
    /// Inputs and outputs of half precision, and what they are called in single precision.
    renamed: BTreeMap<String, String>,
    /// Casts in front of all nodes.
    first: Vec<u8>,
    /// Casts behind all nodes.
    last: Vec<u8>,
}

impl<'d> Widening<'d> {
    /// Decides on names and casts at both ends of the graph.
    fn of(document: &'d OnnxDocument) -> Result<Self, OnnxError> {
        let names = Names::taken(document.names()?);
        let mut widening = Self { document, names, renamed: BTreeMap::new(), first: Vec::new(), last: Vec::new() };
        let constants: BTreeSet<&str> = document.initializers().iter().map(|head| head.name.as_str()).collect();
        for described in document.value_infos(GRAPH_INPUT) {
            let (_, info) = described?;
            if half_type(&info).is_some() {
                widening.read_as_single(info.name());
            }
        }
        for described in document.value_infos(GRAPH_OUTPUT) {
            let (_, info) = described?;
            let Some(to) = half_type(&info).filter(|_| !widening.renamed.contains_key(info.name())) else { continue };
            if constants.contains(info.name()) {
                widening.read_as_single(info.name());
                continue;
            }
            let single = widening.names.fresh(&format!("{}_single", info.name()));
            let cast = widening.cast(&single, info.name(), to);
            widening.last.extend(cast);
            widening.renamed.insert(info.name().to_owned(), single);
        }
        Ok(widening)
    }

    /// Whoever reads `name` reads a cast of it from now on.
    fn read_as_single(&mut self, name: &str) {
        if !self.renamed.contains_key(name) {
            let single = self.names.fresh(&format!("{name}_single"));
            let cast = self.cast(name, &single, SINGLE);
            self.first.extend(cast);
            self.renamed.insert(name.to_owned(), single);
        }
    }

    /// A node that casts, as a field of the graph.
    fn cast(&mut self, from: &str, result: &str, to: i32) -> Vec<u8> {
        let to = AttributeProto {
            name: Some("to".to_owned()),
            i: Some(to.into()),
            r#type: Some(AttributeType::Int.into()),
            ..AttributeProto::default()
        };
        let node = NodeProto {
            op_type: Some("Cast".to_owned()),
            name: Some(self.names.fresh(&format!("{result}_Cast"))),
            input: vec![from.to_owned()],
            output: vec![result.to_owned()],
            attribute: vec![to],
            ..NodeProto::default()
        };
        bytes_field(GRAPH_NODE, &node.encode_to_vec())
    }

    /// Initializers get other names, and theirs go to what they are cast to.
    fn constants(&mut self, graph: &mut Splice<'d>) -> Result<(), OnnxError> {
        let document = self.document;
        for head in document.initializers().iter().filter(|head| is_half(head.data_type)) {
            if self.renamed.contains_key(&head.name) {
                continue;
            }
            let stored = self.names.fresh(&format!("{}_half", head.name));
            let (mut message, fields) = document.initializer_splice(head.field)?;
            let name = fields.iter().rposition(|field| field.number() == INITIALIZER_NAME);
            if let Some(name) = name {
                message.replace(name, Piece::encoded(bytes_field(INITIALIZER_NAME, stored.as_bytes())))?;
            }
            graph.replace_body(head.field, message)?;
            let cast = self.cast(&stored, &head.name, SINGLE);
            self.first.extend(cast);
        }
        for sparse in document.sparse_messages()? {
            let values = sparse.values.unwrap_or_default();
            if is_half(values.data_type()) {
                let item = format!("sparse initializer `{}`", values.name());
                return Err(document.invalid(Some(item), "holds elements of half precision".into()));
            }
        }
        Ok(())
    }

    /// Operators that the model defines itself; names inside are their own.
    fn functions(&self, model: &mut Splice<'_>) -> Result<(), OnnxError> {
        for (index, field) in self.document.model_fields().with_number(MODEL_FUNCTIONS) {
            let before: FunctionProto = self.document.decode_model_field(field)?;
            let mut function = before.clone();
            function.node.iter_mut().try_for_each(|node| self.node(node, &BTreeMap::new()))?;
            for info in &mut function.value_info {
                widen_description(info);
            }
            if function != before {
                let encoded = function.encode_to_vec();
                model.replace(index, Piece::encoded(bytes_field(MODEL_FUNCTIONS, &encoded)))?;
            }
        }
        Ok(())
    }

    fn node(&self, node: &mut NodeProto, renamed: &BTreeMap<String, String>) -> Result<(), OnnxError> {
        for name in node.input.iter_mut().chain(&mut node.output) {
            if let Some(single) = renamed.get(name) {
                name.clone_from(single);
            }
        }
        node.attribute.iter_mut().try_for_each(|attribute| self.attribute(attribute, renamed))
    }

    fn attribute(&self, attribute: &mut AttributeProto, renamed: &BTreeMap<String, String>) -> Result<(), OnnxError> {
        let names_half = attribute.i.and_then(|i| i32::try_from(i).ok()).is_some_and(is_half);
        if names_half && TYPE_ATTRIBUTES.contains(&attribute.name()) {
            attribute.i = Some(SINGLE.into());
        }
        attribute.t.iter_mut().chain(&mut attribute.tensors).try_for_each(|tensor| self.tensor(tensor))?;
        attribute.g.iter_mut().chain(&mut attribute.graphs).try_for_each(|graph| self.graph(graph, renamed))
    }

    /// A graph in a node.
    fn graph(&self, graph: &mut GraphProto, renamed: &BTreeMap<String, String>) -> Result<(), OnnxError> {
        graph.initializer.iter_mut().try_for_each(|tensor| self.tensor(tensor))?;
        graph.node.iter_mut().try_for_each(|node| self.node(node, renamed))?;
        let described = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
        for info in described {
            widen_description(info);
            if let Some(single) = renamed.get(info.name()) {
                info.name = Some(single.clone());
            }
        }
        Ok(())
    }

    fn tensor(&self, tensor: &mut TensorProto) -> Result<(), OnnxError> {
        if is_half(tensor.data_type()) {
            let path = self.document.source().path();
            let item = || Some(format!("tensor `{}`", tensor.name()));
            let read = decode_tensor_beside(tensor, path).map_err(|cause| self.document.invalid(item(), cause))?;
            *tensor = encode_tensor(tensor.name(), &read);
        }
        Ok(())
    }
}

/// The element type of a described tensor, if it is one of half precision.
fn half_type(info: &ValueInfoProto) -> Option<i32> {
    match info.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => Some(tensor.elem_type()).filter(|t| is_half(*t)),
        _ => None,
    }
}

/// Describes a tensor of halves as one of singles; whether it was one.
fn widen_description(info: &mut ValueInfoProto) -> bool {
    match info.r#type.as_mut().and_then(|described| described.value.as_mut()) {
        Some(type_proto::Value::TensorType(tensor)) if is_half(tensor.elem_type()) => {
            tensor.elem_type = Some(SINGLE);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
