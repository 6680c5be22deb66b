//! `quantize_weights` and `round_weights`: constants with fewer different values, so that a graph takes less room, packed
//! or not. Everything still computes in single precision.

use super::Setting;
use super::language::{Call, misplaced};
use crate::dtype::DataType;
use crate::eightbit::plain::{Storage, stored_as_codes};
use crate::eightbit::weights::{Counting, bucketed};
use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::node::NodeDef;
use crate::tensor::TensorProto;
use quantize_document::{Location, Problem};
use quantize_ir::Tensor;

/// Constants with fewer elements are never worth it.
const FEWEST_ROUNDED: usize = 16;

/// How large constants are stored.
const STORAGE: Storage = Storage {
    counting: Counting::MinFirst,
    parts: ["quantized_const", "quantized_min", "quantized_max"],
    reaches_zero: true,
};

/// `quantize_weights`: large constants become codes behind a `Dequantize` of their name.
pub(super) fn quantize(
    graph: &GraphDef,
    call: &Call,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let fewest = call.number("minimum_size", 1024usize)?;
    let mut nodes = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        match numbers(node, setting, problems, fewest)? {
            Some(value) => nodes.extend(stored_as_codes(node, &value, STORAGE)?),
            None => nodes.push(node.clone()),
        }
    }
    Ok(graph.with_nodes(nodes))
}

/// `round_weights`: constants have `num_steps` different values at most, in the middle of equal parts of their range.
pub(super) fn round(
    graph: &GraphDef,
    call: &Call,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
) -> Result<GraphDef, TensorflowError> {
    let steps = call.number("num_steps", 256u32)?;
    if steps == 0 {
        return Err(misplaced(call.position, format!("{}: `num_steps` is from 1 on", call.name)));
    }
    let mut changed = graph.clone();
    for node in changed.nodes_mut() {
        if let Some(value) = numbers(node, setting, problems, FEWEST_ROUNDED)? {
            let rounded = bucketed(&value, steps).map_err(|cause| about(node, cause))?;
            node.set_attr("value", TensorProto::new(DataType::FLOAT, &rounded).map_err(|cause| about(node, cause))?);
        }
    }
    Ok(changed)
}

fn about(node: &NodeDef, cause: String) -> TensorflowError {
    TensorflowError::invalid(Location::node(node.name()), cause)
}

/// The value of a constant in single precision with so many elements, if it is no input and all of it is finite.
fn numbers(
    node: &NodeDef,
    setting: &Setting<'_>,
    problems: &mut Vec<Problem>,
    fewest: usize,
) -> Result<Option<Tensor>, TensorflowError> {
    let is_meant = node.op() == "Const" && node.dtype("dtype")? == Some(DataType::FLOAT);
    if !is_meant || setting.inputs.iter().any(|input| input == node.name()) {
        return Ok(None);
    }
    let Some(value) = node.constant_value()?.filter(|value| value.len() >= fewest.max(1)) else { return Ok(None) };
    let elements = value.as_slice::<f32>().map_err(|error| about(node, error.to_string()))?;
    if elements.iter().all(|element| element.is_finite()) {
        return Ok(Some(value));
    }
    problems.push(Problem::of_node(node.name(), "left as it is: it holds NaN or infinity".into()));
    Ok(None)
}

#[cfg(test)]
mod tests {
    use crate::transform::tests::{floats, names, node, run, setting, values};

    #[test]
    fn large_constants_become_codes_of_their_name() {
        let weights: Vec<f32> = (0..1024).map(|i| (i as f32 - 300.0) / 100.0).collect();
        let nodes =
            vec![floats("w", &[1024], &weights), floats("small", &[2], &[1.0, 2.0]), node("y", "Add", &["w", "w"])];
        let done = run(nodes, "quantize_weights", &setting(&[], &["y"])).unwrap().graph;
        assert_eq!(names(&done), ["w_quantized_const", "w_quantized_min", "w_quantized_max", "w", "small", "y"]);
        assert_eq!((values(&done, "w_quantized_min"), values(&done, "w_quantized_max")), (vec![-3.0], vec![7.23]));
        let codes = done.nodes()[0].tensor_proto("value").unwrap().unwrap().to_raw().unwrap();
        assert!(codes.iter().zip(&weights).all(|(q, w)| (f32::from(*q) * 10.23 / 255.0 - 3.0 - w).abs() <= 0.0411));
        let real = &done.nodes()[3];
        assert_eq!((real.op(), real.text("mode").unwrap().as_deref()), ("Dequantize", Some("MIN_FIRST")));
        assert_eq!(real.inputs(), ["w_quantized_const", "w_quantized_min", "w_quantized_max"]);
    }

    #[test]
    fn ranges_hold_zero_and_are_no_points() {
        for (value, ends) in [(0.0, [0.0, 1.0]), (2.0, [0.0, 2.0]), (-2.0, [-2.0, 0.0])] {
            let nodes = vec![floats("w", &[2], &[value; 2])];
            let done = run(nodes, "quantize_weights(minimum_size=2)", &setting(&[], &["w"])).unwrap().graph;
            assert_eq!([values(&done, "w_quantized_min"), values(&done, "w_quantized_max")].concat(), ends);
        }
    }

    #[test]
    fn constants_are_rounded_to_the_middle_of_steps() {
        let weights: Vec<f32> = (0..=16).map(|i| i as f32 / 4.0).collect();
        let nodes = vec![floats("w", &[17], &weights), floats("small", &[2], &[0.1, 2.0])];
        let done = run(nodes, "round_weights(num_steps=4)", &setting(&[], &["w"])).unwrap().graph;
        let wanted = (0..=16).map(|i| f32::min((i / 4) as f32, 3.0) + 0.5).collect::<Vec<f32>>();
        assert_eq!((values(&done, "w"), values(&done, "small")), (wanted, vec![0.1, 2.0]));
        let error = run(vec![], "round_weights(num_steps=0)", &setting(&[], &[])).unwrap_err();
        assert!(error.to_string().contains("from 1 on"), "{error}");
    }

    #[test]
    fn what_has_no_range_stays() {
        for (count, value) in [(16, f32::NAN), (16, f32::INFINITY), (0, 0.0), (16, 1.0)] {
            let request = if value == 1.0 { "round_weights" } else { "round_weights quantize_weights(minimum_size=0)" };
            let done = run(vec![floats("w", &[count], &vec![value; count])], request, &setting(&[], &["w"])).unwrap();
            assert_eq!(names(&done.graph), ["w"]);
            assert_eq!(done.problems.is_empty(), value.is_finite(), "{:?}", done.problems);
        }
        let fed = run(vec![floats("w", &[16], &[1.0; 16])], "quantize_weights(minimum_size=1)", &setting(&["w"], &[]));
        assert_eq!(names(&fed.unwrap().graph), ["w"]);
    }
}
