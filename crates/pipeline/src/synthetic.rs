//! Inputs that are made up where no data is given: their shapes and their elements.

use crate::error::Error;
use quantize_ir::{DType, Graph, Tensor, TensorError, ValueId};
use rand_mt::Mt;
use std::path::Path;

/// Elements up to which an input is made up; what a file declares must not decide how much memory is asked for.
const MAX_ELEMENTS: usize = 1 << 28;

/// Shape of each input. A first extent that is open is one image; height and width that are open are `size`.
pub(crate) fn shapes(
    graph: &Graph,
    model: &Path,
    size: Option<(usize, usize)>,
) -> Result<Vec<(ValueId, Vec<usize>)>, Error> {
    let shape = |value: &ValueId| Ok((*value, shape(graph, model, *value, size)?));
    graph.inputs().iter().map(shape).collect()
}

fn shape(graph: &Graph, model: &Path, value: ValueId, size: Option<(usize, usize)>) -> Result<Vec<usize>, Error> {
    let declared = graph.value(value);
    let name = &declared.name;
    let refuse = |cause: String, cure: &str| Error::Synthetic { model: model.to_owned(), cause, cure: cure.to_owned() };
    let unknown = || refuse(format!("the shape of input `{name}` is not known"), "export the model with fixed shapes");
    let dims = declared.shape.as_deref().ok_or_else(unknown)?;
    let mut shape: Vec<Option<usize>> =
        dims.iter().map(|dim| dim.known().and_then(|dim| usize::try_from(dim).ok())).collect();
    if let Some(batch) = shape.first_mut() {
        batch.get_or_insert(1);
    }
    if let (Some((width, height)), [_, a, b, c]) = (size, &mut shape[..]) {
        let (rows, columns) = if a.is_none() && c.is_some() { (a, b) } else { (b, c) };
        rows.get_or_insert(height);
        columns.get_or_insert(width);
    }
    let sized = shape.into_iter().collect::<Option<Vec<usize>>>();
    sized.ok_or_else(|| {
        let cause = format!("the shape of input `{name}` is not fixed");
        refuse(
            cause,
            "choose height and width of an image input with `--resize WxH`, or export the model with fixed shapes",
        )
    })
}

/// Real numbers between -1 and 1, the same for every run; zeros where a network takes integers, which are the first
/// entry of any table that they look into.
pub(crate) fn synthetic_inputs(
    graph: &Graph,
    shapes: &[(ValueId, Vec<usize>)],
    model: &Path,
    seed: u32,
) -> Result<Vec<(ValueId, Tensor)>, Error> {
    let mut random = Mt::new(seed);
    let mut input = |(value, shape): &(ValueId, Vec<usize>)| {
        let too_large = |source: TensorError| Error::graph(model, source.into());
        let count = quantize_ir::tensor::element_count(shape).map_err(too_large)?;
        if count > MAX_ELEMENTS {
            let cause = format!("input `{}` has {count} elements", graph.value(*value).name);
            return Err(Error::Synthetic { model: model.to_owned(), cause, cure: "choose a smaller one".to_owned() });
        }
        let mut real = || (random.next_u32() >> 8) as f32 / (1u32 << 23) as f32 - 1.0;
        let tensor = match graph.value(*value).dtype {
            None | Some(DType::F32) => Tensor::new(shape.clone(), (0..count).map(|_| real()).collect::<Vec<f32>>()),
            Some(DType::I64) => Tensor::new(shape.clone(), vec![0i64; count]),
            Some(DType::I32) => Tensor::new(shape.clone(), vec![0i32; count]),
            Some(other) => return Err(not_made_up(graph, model, *value, other)),
        };
        Ok((*value, tensor.map_err(too_large)?))
    };
    shapes.iter().map(&mut input).collect()
}

fn not_made_up(graph: &Graph, model: &Path, value: ValueId, dtype: DType) -> Error {
    let cause = format!("input `{}` is {dtype}", graph.value(value).name);
    Error::Synthetic {
        model: model.to_owned(),
        cause,
        cure: "float32, int32 and int64 inputs can be made up".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::{Dim, Value};

    fn shape_of(dims: &[Option<u64>], size: Option<(usize, usize)>) -> Result<Vec<usize>, Error> {
        let mut graph = Graph::new();
        let mut value = Value::named("x");
        value.shape = Some(dims.iter().map(|d| d.map_or(Dim::Unknown, Dim::Known)).collect());
        let value = graph.add_value(value);
        shape(&graph, Path::new("m.onnx"), value, size)
    }

    #[test]
    fn an_open_batch_is_one_image() {
        assert_eq!(shape_of(&[None, Some(3), Some(5), Some(7)], None).unwrap(), [1, 3, 5, 7]);
        assert_eq!(shape_of(&[Some(2), Some(10)], None).unwrap(), [2, 10]);
    }

    #[test]
    fn open_height_and_width_need_a_size() {
        let channels_first = [None, Some(3), None, None];
        let channels_last = [None, None, None, Some(3)];
        assert_eq!(shape_of(&channels_first, Some((320, 240))).unwrap(), [1, 3, 240, 320]);
        assert_eq!(shape_of(&channels_last, Some((320, 240))).unwrap(), [1, 240, 320, 3]);
        assert_eq!(shape_of(&[None, Some(3), Some(224), Some(224)], Some((8, 8))).unwrap(), [1, 3, 224, 224]);
        let error = shape_of(&channels_first, None).unwrap_err();
        assert!(error.hint().unwrap().contains("--resize"), "{error}");
        assert!(shape_of(&[None, None], Some((8, 8))).is_err());
    }

    #[test]
    fn synthetic_inputs_are_the_same_for_a_seed() {
        let mut graph = Graph::new();
        let shapes = [(graph.add_value(Value::named("x")), vec![1, 100])];
        let draw = |seed| synthetic_inputs(&graph, &shapes, Path::new("m.onnx"), seed).unwrap();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(3)[0].1.as_slice::<f32>().unwrap().iter().all(|x| (-1.0..1.0).contains(x)));
    }

    #[test]
    fn integers_are_zeros_and_other_types_or_sizes_are_refused() {
        let mut graph = Graph::new();
        let mut typed = |dtype| {
            let mut value = Value::named("x");
            value.dtype = Some(dtype);
            (graph.add_value(value), vec![1, 3])
        };
        let (tokens, mask) = (typed(DType::I64), typed(DType::Bool));
        let huge = (tokens.0, vec![1 << 20; 2]);
        let drawn = synthetic_inputs(&graph, &[tokens], Path::new("m.onnx"), 0).unwrap();
        assert_eq!(drawn[0].1.as_slice::<i64>(), Ok(&[0, 0, 0][..]));
        let error = synthetic_inputs(&graph, &[huge], Path::new("m.onnx"), 0).unwrap_err();
        assert_eq!(error.to_string(), "m.onnx: no synthetic input: input `x` has 1099511627776 elements");
        let error = synthetic_inputs(&graph, &[mask], Path::new("m.onnx"), 0).unwrap_err();
        assert_eq!(error.to_string(), "m.onnx: no synthetic input: input `x` is bool");
    }
}
