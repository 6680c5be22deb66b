//! A model that does not fit into the memory it is to be quantized in: fully connected layers whose weights stand in a
//! file beside the model, written as they are made.

use super::CLASSES;
use crate::error::{Result, at};
use crate::random::{Random, he_deviation};
use prost::Message;
use quantize_document::OutputSet;
use quantize_proto::onnx::tensor_proto::{DataLocation, DataType};
use quantize_proto::onnx::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Names of the two files.
const MODEL: &str = "big.onnx";
const DATA: &str = "big.onnx.data";

/// Shape of the input.
const INPUT: [usize; 4] = [1, 3, 16, 16];
/// Width of the hidden layers: their weights have 256 MiB each.
const WIDTH: usize = 8192;

const OPSET: i64 = 17;

/// Rows and columns of each layer's weight.
fn layers(gigabytes: usize) -> Vec<[usize; 2]> {
    let hidden = (gigabytes << 30).div_ceil(WIDTH * WIDTH * size_of::<f32>());
    let first = [INPUT.iter().product(), WIDTH];
    std::iter::once(first).chain((0..hidden).map(|_| [WIDTH, WIDTH])).chain([[WIDTH, CLASSES]]).collect()
}

/// Writes the model with at least so many GiB of weights into `folder`, always the same bytes.
///
/// # Errors
///
/// If a file cannot be written.
pub(crate) fn write(folder: &Path, gigabytes: usize) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).map_err(at(folder))?;
    let layers = layers(gigabytes);
    let (model, data) = (folder.join(MODEL), folder.join(DATA));
    let bytes = model_of(&layers).encode_to_vec();
    let mut outputs = OutputSet::new();
    outputs.add_writer(&data, |out| write_weights(out, &layers));
    outputs.add_bytes(&model, bytes);
    outputs.commit()?;
    Ok(vec![model, data])
}

fn write_weights(out: &mut dyn Write, layers: &[[usize; 2]]) -> io::Result<()> {
    let mut random = Random::new(3);
    for [rows, columns] in layers {
        // Uniform numbers in ±a have the deviation a / sqrt 3.
        let reach = he_deviation(*rows, 1.0) * 3f32.sqrt();
        let mut row = Vec::with_capacity(columns * size_of::<f32>());
        for _ in 0..*rows {
            row.clear();
            (0..*columns).for_each(|_| row.extend(random.between(-reach, reach).to_le_bytes()));
            out.write_all(&row)?;
        }
    }
    Ok(())
}

fn model_of(layers: &[[usize; 2]]) -> ModelProto {
    let mut nodes = vec![node("Flatten", "flatten", &["input"], "flat")];
    let mut weights = Vec::new();
    let (mut x, mut offset) = ("flat".to_owned(), 0);
    for (index, shape) in layers.iter().enumerate() {
        let last = index + 1 == layers.len();
        let (weight, product) = (format!("w{index}"), if last { "scores".to_owned() } else { format!("p{index}") });
        nodes.push(node("Gemm", &format!("fc{index}"), &[&x, &weight], &product));
        weights.push(outside(&weight, *shape, &mut offset));
        if !last {
            x = format!("r{index}");
            nodes.push(node("Relu", &format!("relu{index}"), &[&product], &x));
        }
    }
    let graph = GraphProto {
        name: Some("big".to_owned()),
        node: nodes,
        initializer: weights,
        input: vec![described("input", &INPUT)],
        output: vec![described("scores", &[1, CLASSES])],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(OPSET) }];
    ModelProto { ir_version: Some(8), graph: Some(graph), opset_import, ..ModelProto::default() }
}

/// A node with the operator's default attributes.
fn node(op_type: &str, name: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op_type.to_owned()),
        name: Some(name.to_owned()),
        input: inputs.iter().map(|input| (*input).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

/// A weight that stands in the file beside the model, behind those before it.
fn outside(name: &str, shape: [usize; 2], offset: &mut usize) -> TensorProto {
    let length = shape.iter().product::<usize>() * size_of::<f32>();
    let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
    let external_data = vec![
        entry("location", DATA.to_owned()),
        entry("offset", offset.to_string()),
        entry("length", length.to_string()),
    ];
    *offset += length;
    TensorProto {
        name: Some(name.to_owned()),
        dims: shape.map(|n| n as i64).to_vec(),
        data_type: Some(DataType::Float.into()),
        data_location: Some(DataLocation::External.into()),
        external_data,
        ..TensorProto::default()
    }
}

fn described(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = |n: &usize| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(*n as i64)),
        ..Default::default()
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(DataType::Float.into()), shape: Some(shape) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(r#type), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_follow_each_other_in_the_file() {
        let layers = layers(3);
        assert_eq!(layers.len(), 14);
        let model = model_of(&layers);
        let weights = &model.graph.unwrap().initializer;
        let entry = |t: &TensorProto, key: usize| t.external_data[key].value().parse::<usize>().unwrap();
        for (tensor, next) in weights.iter().zip(&weights[1..]) {
            assert_eq!(entry(tensor, 1) + entry(tensor, 2), entry(next, 1));
        }
        assert!(weights.iter().map(|t| entry(t, 2)).sum::<usize>() > 3 << 30);
    }

    #[test]
    fn a_layer_has_as_many_bytes_as_the_model_says() {
        let mut bytes = Vec::new();
        write_weights(&mut bytes, &[[3, 5], [5, 2]]).unwrap();
        assert_eq!(bytes.len(), (3 * 5 + 5 * 2) * 4);
    }
}
