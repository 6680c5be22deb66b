//! Writing an ONNX model whose weights are drawn on the way out, so that none of them is ever held.

use crate::random::Random;
use prost::Message;
use quantize_document::{WireType, encode};
use quantize_proto::onnx::tensor_proto::DataType;
use quantize_proto::onnx::tensor_shape_proto::{self, dimension::Value};
use quantize_proto::onnx::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    type_proto,
};
use std::io::{self, Write};

const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;
/// `ModelProto.graph`
const MODEL_GRAPH: u32 = 7;
/// `GraphProto.initializer`
const GRAPH_INITIALIZER: u32 = 5;
/// `TensorProto.raw_data`
const TENSOR_RAW_DATA: u32 = 9;

/// A tensor of `f32` whose elements are made when it is written.
#[derive(Clone, Debug)]
pub(super) struct Constant {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) elements: Elements,
}

/// What a constant consists of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Elements {
    /// Random numbers of mean 0 with this standard deviation.
    Normal(f32),
    /// Random numbers between this and its negative.
    Within(f32),
    /// The same number everywhere.
    Same(f32),
}

/// A model with one input and one output.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) name: &'static str,
    pub(super) seed: u32,
    pub(super) input: (String, Vec<usize>),
    pub(super) output: (String, Vec<usize>),
    pub(super) nodes: Vec<NodeProto>,
    /// In the order in which their elements are drawn.
    pub(super) constants: Vec<Constant>,
}

impl Constant {
    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The message before its elements, and the header of the field that holds them.
    fn header(&self) -> Vec<u8> {
        let message = TensorProto {
            name: Some(self.name.clone()),
            data_type: Some(DataType::Float as i32),
            dims: self.shape.iter().map(|dim| *dim as i64).collect(),
            ..TensorProto::default()
        };
        [message.encode_to_vec(), prefix(TENSOR_RAW_DATA, self.data_len())].concat()
    }

    fn data_len(&self) -> usize {
        self.len() * size_of::<f32>()
    }

    fn write_to(&self, random: &mut Random, out: &mut dyn Write) -> io::Result<()> {
        for _ in 0..self.len() {
            let element = match self.elements {
                Elements::Normal(deviation) => deviation * random.normal(),
                Elements::Within(bound) => random.between(-bound, bound),
                Elements::Same(number) => number,
            };
            out.write_all(&element.to_le_bytes())?;
        }
        Ok(())
    }
}

impl Model {
    /// Writes the bytes of the model.
    ///
    /// # Errors
    ///
    /// As `out`.
    pub(super) fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        let headers: Vec<Vec<u8>> = self.constants.iter().map(Constant::header).collect();
        let fields: Vec<usize> = headers.iter().zip(&self.constants).map(|(h, c)| h.len() + c.data_len()).collect();
        let prefixes: Vec<Vec<u8>> = fields.iter().map(|len| prefix(GRAPH_INITIALIZER, *len)).collect();
        let graph = self.graph().encode_to_vec();
        let constants: usize = prefixes.iter().zip(&fields).map(|(prefix, field)| prefix.len() + field).sum();
        out.write_all(&self.header().encode_to_vec())?;
        out.write_all(&prefix(MODEL_GRAPH, graph.len() + constants))?;
        out.write_all(&graph)?;
        let mut random = Random::new(self.seed);
        for ((constant, header), prefix) in self.constants.iter().zip(&headers).zip(&prefixes) {
            out.write_all(prefix)?;
            out.write_all(header)?;
            constant.write_to(&mut random, out)?;
        }
        Ok(())
    }

    /// Everything of the model but its graph.
    fn header(&self) -> ModelProto {
        ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("quantize xtask".into()),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
            ..ModelProto::default()
        }
    }

    /// Everything of the graph but its constants.
    fn graph(&self) -> GraphProto {
        GraphProto {
            name: Some(self.name.into()),
            node: self.nodes.clone(),
            input: vec![described(&self.input)],
            output: vec![described(&self.output)],
            ..GraphProto::default()
        }
    }
}

/// Tag and length of a field of `length` bytes.
fn prefix(number: u32, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::tag(&mut bytes, number, WireType::LengthDelimited);
    encode::varint(&mut bytes, length as u64);
    bytes
}

fn described((name, shape): &(String, Vec<usize>)) -> ValueInfoProto {
    let dim = |dim: &usize| tensor_shape_proto::Dimension {
        value: Some(Value::DimValue(*dim as i64)),
        ..tensor_shape_proto::Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(DataType::Float as i32),
        shape: Some(TensorShapeProto { dim: shape.iter().map(dim).collect() }),
    };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.clone()), r#type: Some(r#type), ..ValueInfoProto::default() }
}
