//! The example of `quantize demo` as its ONNX model has it, from which its other forms are made.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quantize_document::{Limits, SourceFile};
use quantize_ir::op::{Padding, Window};
use quantize_ir::{Graph, Node, Tensor};
use quantize_onnx::{OnnxDocument, import};

use crate::error::{Error, Result, at};
use crate::workspace;

/// Why something cannot be converted.
pub(crate) type Step<T> = std::result::Result<T, String>;

/// Where the example lies.
pub(crate) fn folder() -> PathBuf {
    workspace::root().join("crates/cli/demo")
}

/// The path of the model.
pub(crate) fn model() -> PathBuf {
    folder().join("digits.onnx")
}

/// The error that a model cannot be converted.
pub(crate) fn wrong(model: &Path, cause: String) -> Error {
    Error::Example { path: model.to_owned(), cause }
}

/// The graph of the model.
///
/// # Errors
///
/// If the model cannot be read.
pub(crate) fn graph(model: &Path) -> Result<Graph> {
    let bytes = fs::read(model).map_err(at(model))?;
    let source = SourceFile::from_bytes(model, bytes);
    let document = OnnxDocument::parse(source, &Limits::default()).map_err(|error| wrong(model, error.to_string()))?;
    let (graph, _) = import(&Arc::new(document)).map_err(|error| wrong(model, error.to_string()))?;
    Ok(graph)
}

/// The constant operand in `slot`.
///
/// # Errors
///
/// If there is none.
pub(crate) fn constant(graph: &Graph, node: &Node, slot: usize) -> Step<Arc<Tensor>> {
    let value = node.input(slot).ok_or_else(|| format!("operand {slot} is missing"))?;
    let tensor = graph.constant(value).map_err(|error| error.to_string())?;
    tensor.ok_or_else(|| format!("operand {slot} is no constant"))
}

/// Padding and stride that are the same on all sides.
///
/// # Errors
///
/// If they are not.
pub(crate) fn square(window: &Window) -> Step<(usize, usize)> {
    let same = |list: &[usize], default: usize| match list {
        [] => Some(default),
        [first, rest @ ..] => rest.iter().all(|other| other == first).then_some(*first),
    };
    let pad = match &window.padding {
        Padding::Explicit { begin, end } if begin == end => same(begin, 0),
        Padding::Valid => Some(0),
        _ => None,
    };
    let undilated = same(&window.dilations, 1).filter(|dilation| *dilation == 1);
    let both = pad.zip(same(&window.strides, 1)).filter(|_| undilated.is_some());
    both.ok_or_else(|| "its window is not the same on all sides".into())
}
