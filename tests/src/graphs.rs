//! Graphs read, run and compared.

use quantize_document::{Limits, SourceFile};
use quantize_exec::{Program, Session};
use quantize_ir::{Graph, Tensor, ValueId};
use quantize_onnx::{OnnxDocument, import};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The largest difference, as a part of the largest output.
const TOLERANCE: f64 = 1e-6;

/// The graph of an ONNX model.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn read(bytes: &[u8]) -> Graph {
    let document = OnnxDocument::parse(SourceFile::from_bytes("model.onnx", bytes.to_vec()), &Limits::default());
    import(&Arc::new(document.expect("a document"))).expect("a graph").0
}

/// What a graph computes for one of its outputs.
///
/// # Errors
/// What the executor says.
///
/// # Panics
/// If it returns nothing.
pub fn run(graph: &Graph, output: ValueId, inputs: &[Tensor]) -> Result<Tensor, String> {
    let program = Program::compile(graph, &[output]).map_err(|e| e.to_string())?;
    let fed: Vec<(ValueId, Tensor)> = graph.inputs().iter().copied().zip(inputs.iter().cloned()).collect();
    let results = Session::new(&program).run(&fed, &mut ()).map_err(|e| e.to_string())?;
    Ok(results.into_iter().next().expect("one result"))
}

/// Compares what two graphs compute, output by output, and returns how many outputs the first one computes.
///
/// # Panics
/// If the inputs or outputs have other names, an output differs, or nodes of the second share a name.
pub fn compare(name: &str, before: &Graph, after: &Graph, inputs: &[Tensor]) -> usize {
    let names = |graph: &Graph, values: &[ValueId]| -> Vec<String> {
        values.iter().map(|v| graph.value(*v).name.clone()).collect()
    };
    assert_eq!(names(before, before.inputs()), names(after, after.inputs()), "{name}");
    assert_eq!(names(before, before.outputs()), names(after, after.outputs()), "{name}");
    let mut compared = 0;
    for (old, new) in before.outputs().iter().zip(after.outputs()) {
        let label = format!("{name}, {}", before.value(*old).name);
        if let Ok(expected) = run(before, *old, inputs) {
            let found = run(after, *new, inputs).unwrap_or_else(|e| panic!("{label}: {e}"));
            assert_eq!((expected.shape(), expected.dtype()), (found.shape(), found.dtype()), "{label}");
            compared += 1;
            assert!(is_close(&expected, &found), "{label}: {found:?} instead of {expected:?}");
        }
    }
    let nodes: Vec<&str> = after.nodes().map(|(_, node)| node.name.as_str()).collect();
    let distinct: BTreeSet<&str> = nodes.iter().copied().filter(|name| !name.is_empty()).collect();
    assert_eq!(distinct.len(), nodes.len(), "{name}: names of nodes");
    compared
}

fn is_close(expected: &Tensor, found: &Tensor) -> bool {
    let (Ok(expected), Ok(found)) = (expected.as_slice::<f32>(), found.as_slice::<f32>()) else {
        return expected == found;
    };
    let finite = expected.iter().filter(|value| value.is_finite());
    let scale = finite.map(|value| f64::from(value.abs())).fold(1e-6, f64::max);
    let close = |e: f32, f: f32| {
        e == f || (e.is_nan() && f.is_nan()) || (f64::from(e) - f64::from(f)).abs() <= TOLERANCE * scale
    };
    expected.iter().zip(found).all(|(e, f)| close(*e, *f))
}
