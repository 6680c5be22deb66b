//! TensorFlow: graphs in binary and in text.

use crate::error::{Error, Result};
use crate::target::Seed;
use quantize_document::{Limits, SourceFile, index_message};
use quantize_ir::Tensor;
use quantize_tensorflow::{
    AttrValue, DataType, Encoding, GraphDef, NodeDef, PartialShape, ReadOptions, TensorProto, TensorflowDocument,
    render,
};

/// Graphs with every kind of attribute.
pub(super) fn graphs() -> Result<Vec<Seed>> {
    written(Encoding::Binary)
}

/// The same graphs as texts.
pub(super) fn texts() -> Result<Vec<Seed>> {
    written(Encoding::Text)
}

fn written(encoding: Encoding) -> Result<Vec<Seed>> {
    let name = format!("a graph, {encoding:?}");
    let failed = |cause: String| Error::Seed { name: name.clone(), cause };
    let graph = graph().map_err(failed)?;
    let bytes = render(&graph, encoding).map_err(|error| failed(error.to_string()))?;
    Ok(vec![Seed::made(name.clone(), bytes)])
}

fn graph() -> std::result::Result<GraphDef, String> {
    let filter = Tensor::new([1, 1, 3, 2], (0..6u8).map(f32::from).collect()).map_err(|error| error.to_string())?;
    let codes = Tensor::vector(vec![1i8, -2, 3]);
    Ok(GraphDef::new(vec![
        NodeDef::new("input", "Placeholder")
            .with_attr("dtype", DataType::FLOAT)
            .with_attr("shape", PartialShape::Known(vec![None, Some(8), Some(8), Some(3)])),
        NodeDef::constant("filter", TensorProto::new(DataType::FLOAT, &filter)?),
        NodeDef::constant("codes", TensorProto::new(DataType::QINT8, &codes)?),
        NodeDef::constant("one", TensorProto::new(DataType::INT32, &Tensor::scalar(1i32))?),
        NodeDef::new("conv", "Conv2D")
            .with_inputs(["input", "filter"])
            .with_attr("T", DataType::FLOAT)
            .with_attr("data_format", "NHWC")
            .with_attr("strides", vec![1, 1, 1, 1])
            .with_attr("use_cudnn_on_gpu", true),
        NodeDef::new("norm", "FusedBatchNorm").with_inputs(["conv:0", "^one"]).with_attr("epsilon", 1e-3f32),
    ]))
}

/// Reads a damaged graph, every value in it, and writes it again in both forms.
pub(super) fn read_graph(_: &Seed, bytes: Vec<u8>) -> std::result::Result<(), String> {
    let source = SourceFile::from_bytes("damaged.pb", bytes);
    let document = TensorflowDocument::parse(source, &Limits::default(), &ReadOptions::default());
    let document = document.map_err(|error| error.to_string())?;
    let graph = document.graph();
    for (_, attr) in graph.nodes().iter().flat_map(NodeDef::attrs) {
        if let Ok(AttrValue::Tensor(tensor)) = attr.value() {
            // Huge shapes with one value are meant to be refused by whoever reads them, not here.
            let _ = (tensor.to_tensor(), tensor.to_strings());
        }
    }
    let _ = graph.index().and_then(|index| index.check_inputs());
    let _ = graph.function_nodes(&Limits::default());
    let _ = render(graph, Encoding::Text);
    document.render(graph, Encoding::Binary).map(|_| ()).map_err(|error| error.to_string())
}

/// Whether a graph cut after `length` bytes ends within one of its fields. The nodes before a cut between two of them
/// are a graph of their own.
pub(super) fn is_inside_a_field(file: &[u8], length: usize) -> bool {
    index_message(&file[..length], 0..length, &Limits::default()).is_err()
}
