//! Edits of model files: what exporters, and accidents, may have done to them.

use crate::fixtures;
use prost::Message;
use quantize_document::{Field, Limits, MessageIndex, SourceFile};
use quantize_proto::onnx::tensor_shape_proto::dimension;
use quantize_proto::onnx::{GraphProto, ModelProto, NodeProto, TensorProto, type_proto};

/// The file of the fixture `name` after `change`.
///
/// # Panics
/// If the fixture is no model.
#[must_use]
pub fn edited(name: &str, change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let mut model = ModelProto::decode(&*fixtures::model_bytes(name)).expect("a model");
    change(&mut model);
    model.encode_to_vec()
}

/// The graph of a model.
///
/// # Panics
/// If it has none.
pub fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().expect("a graph")
}

/// The node with this name.
///
/// # Panics
/// If there is none.
pub fn node<'m>(model: &'m mut ModelProto, name: &str) -> &'m mut NodeProto {
    graph(model).node.iter_mut().find(|node| node.name() == name).expect("a node of this name")
}

/// The initializer with this name.
///
/// # Panics
/// If there is none.
pub fn initializer<'m>(model: &'m mut ModelProto, name: &str) -> &'m mut TensorProto {
    graph(model).initializer.iter_mut().find(|tensor| tensor.name() == name).expect("an initializer of this name")
}

/// Makes the height and the width of the model's first input a size that is not known beforehand.
///
/// # Panics
/// If its input is no tensor of a declared shape.
pub fn open_size(model: &mut ModelProto) {
    let input = graph(model).input.first_mut().and_then(|input| input.r#type.as_mut()).expect("an input with a type");
    let Some(type_proto::Value::TensorType(tensor)) = input.value.as_mut() else { panic!("a tensor") };
    for dim in tensor.shape.as_mut().expect("a shape").dim.iter_mut().skip(2) {
        dim.value = Some(dimension::Value::DimParam("side".into()));
    }
}

/// Makes the model compute one of its outputs only.
pub fn keep_output(model: &mut ModelProto, name: &str) {
    graph(model).output.retain(|output| output.name() == name);
}

/// The fields of a model file as they stand in it.
#[derive(Debug)]
pub struct Fields {
    file: SourceFile,
    top: MessageIndex,
    graph: MessageIndex,
}

/// Field number of the graph in a model.
const GRAPH: u32 = 7;

impl Fields {
    /// Indexes a model file.
    ///
    /// # Panics
    /// If it is no model.
    #[must_use]
    pub fn of(bytes: Vec<u8>) -> Self {
        let limits = Limits::default();
        let file = SourceFile::from_bytes("model.onnx", bytes);
        let top = file.index(&limits).expect("a message");
        let field = top.with_number(GRAPH).next().expect("a graph").1;
        let graph = top.child(file.bytes(), field, &limits).expect("the message of a graph");
        Self { file, top, graph }
    }

    fn payload(&self, field: &Field) -> &[u8] {
        &self.file.bytes()[field.payload()]
    }

    /// The messages of the graph in fields of this number, byte for byte.
    pub fn in_graph(&self, number: u32) -> impl Iterator<Item = &[u8]> {
        self.graph.with_number(number).map(|(_, field)| self.payload(field))
    }

    /// Every field of the file but the graph, tags included.
    pub fn beside_graph(&self) -> impl Iterator<Item = &[u8]> {
        let beside = self.top.fields().iter().filter(|field| field.number() != GRAPH);
        beside.map(|field| &self.file.bytes()[field.whole()])
    }
}
