//! The shape of every value, for one choice of input shapes.

use crate::error::Error;
use crate::synthetic::{shapes as synthetic_shapes, synthetic_inputs};
use crate::unknown::Unknown;
use crate::work::Shapes;
use quantize_exec::{ExecError, Program, Session};
use quantize_ir::{Dim, Graph, Tensor, ValueId};
use std::path::Path;

/// What is known of the shapes.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    /// Shape of each input that was fed.
    pub(super) fed: Vec<Vec<usize>>,
    pub(super) seen: Shapes,
}

/// Shapes of the values of `graph` with inputs of the shapes `given`, by name, and what kept some from being known.
/// What cannot be executed has the shape that the file declares, if it is known but for the batch, which is 1.
///
/// # Errors
/// If a given shape is of no input or contradicts the declared one.
pub(super) fn shapes(
    graph: &Graph,
    model: &Path,
    given: &[(String, Vec<usize>)],
) -> Result<(Sizes, Vec<String>), Error> {
    let graph = &with_given(graph, model, given)?;
    let mut sizes = Sizes::default();
    let mut remarks = Vec::new();
    let fed = synthetic_shapes(graph, model, None).and_then(|shapes| synthetic_inputs(graph, &shapes, model, 0));
    match fed {
        Ok(fed) => {
            sizes.fed = fed.iter().map(|(_, tensor)| tensor.shape().to_vec()).collect();
            let run = run(graph, &fed, &mut sizes.seen);
            remarks.extend(run.err().map(|error| format!("not all shapes are known: {error}")));
        }
        Err(error) => remarks.push(match given_hint(&error) {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        }),
    }
    for (value, shape) in declared(graph) {
        sizes.seen.assume(value, shape);
    }
    Ok((sizes, remarks))
}

/// What to do about inputs whose shapes are open.
fn given_hint(error: &Error) -> Option<&'static str> {
    let open = matches!(error, Error::Synthetic { cause, .. } if cause.contains("shape"));
    open.then_some("choose it with `--shape NAME=N,N,…` to count work and memory")
}

/// The graph with the given shapes declared.
fn with_given(graph: &Graph, model: &Path, given: &[(String, Vec<usize>)]) -> Result<Graph, Error> {
    let mut graph = graph.clone();
    for (name, shape) in given {
        let refuse = |cause: String| Error::GivenShape { model: model.to_owned(), input: name.clone(), cause };
        let input = graph.inputs().iter().copied().find(|value| graph.value(*value).name == *name);
        let Some(input) = input else {
            let names: Vec<&str> = graph.inputs().iter().map(|value| graph.value(*value).name.as_str()).collect();
            return Err(refuse(format!("the model's inputs are `{}`", names.join("`, `"))));
        };
        let declared = graph.value(input).shape.as_deref().unwrap_or_default();
        let known = declared.iter().map(Dim::known);
        let fits = known.zip(shape).all(|(known, n)| known.is_none_or(|known| known == *n as u64));
        if !fits || !(declared.is_empty() || declared.len() == shape.len()) {
            return Err(refuse("the model declares another shape".to_owned()));
        }
        graph.value_mut(input).shape = Some(shape.iter().map(|n| Dim::Known(*n as u64)).collect());
    }
    Ok(graph)
}

/// Computes every value that can be computed, up to the first node that fails.
fn run(graph: &Graph, fed: &[(ValueId, Tensor)], seen: &mut Shapes) -> Result<(), ExecError> {
    let unknown = Unknown::of(graph)?;
    let wanted = |value: &ValueId| graph.value(*value).constant.is_none() && unknown.computes(*value);
    let inputs = graph.inputs().iter().copied();
    let computed = graph.nodes().flat_map(|(_, node)| node.outputs.iter().flatten().copied());
    let values: Vec<ValueId> = inputs.chain(computed).filter(wanted).collect();
    let program = Program::observe(graph, &values)?;
    Session::new(&program).run(fed, seen).map(|_| ())
}

/// Shapes that the file declares, with 1 for an open batch.
fn declared(graph: &Graph) -> impl Iterator<Item = (ValueId, Vec<usize>)> + '_ {
    let extent = |(axis, dim): (usize, &Dim)| match dim.known() {
        Some(n) => usize::try_from(n).ok(),
        None => (axis == 0).then_some(1),
    };
    graph.values().filter_map(move |(id, value)| {
        let shape = value.shape.as_ref().filter(|_| value.constant.is_none())?;
        Some((id, shape.iter().enumerate().map(extent).collect::<Option<Vec<usize>>>()?))
    })
}
