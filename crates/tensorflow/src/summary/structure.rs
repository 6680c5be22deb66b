//! The structure of a graph, a line for each node in the order of execution.

use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::node::NodeDef;
use crate::number::{general, short};
use crate::order::execution_order;
use crate::tensor::TensorProto;
use quantize_ir::TensorData;
use std::fmt::Write as _;

/// Elements of a constant that are shown.
const SHOWN: usize = 3;

/// Every node with its operator and inputs, and the first elements of constants.
///
/// # Errors
/// If the graph has no order of execution, or a constant has no value.
pub fn structure(graph: &GraphDef) -> Result<String, TensorflowError> {
    let mut out = String::new();
    for node in execution_order(graph)?.into_iter().filter_map(|at| graph.nodes().get(at)) {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{} ({}): [{}]{}", node.name(), node.op(), node.inputs().join(", "), value(node)?);
    }
    Ok(out)
}

/// What a constant holds.
fn value(node: &NodeDef) -> Result<String, TensorflowError> {
    if node.op() != "Const" {
        return Ok(String::new());
    }
    let Some(tensor) = node.tensor_proto("value")? else { return Ok(String::new()) };
    let elements = elements(&tensor).unwrap_or_else(|cause| format!("<{cause}>"));
    Ok(format!(", value=Tensor<type: {} shape: {} values: {elements}>", tensor.dtype(), tensor.shape()))
}

/// The first elements, rows in brackets.
fn elements(tensor: &TensorProto) -> Result<String, String> {
    let shape = tensor.shape().dims().ok_or("unknown shape")?;
    let texts: Vec<String> = match tensor.to_strings() {
        Ok(strings) => strings.iter().take(SHOWN).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect(),
        Err(_) => first(tensor.to_tensor()?.data()),
    };
    let mut printer = Printer { shape: &shape, texts, at: 0, out: String::new() };
    printer.axis(0);
    let mut out = printer.out;
    if tensor.len()? > SHOWN {
        out.push_str("...");
    }
    Ok(out)
}

fn first(data: &TensorData) -> Vec<String> {
    fn some<T: Copy>(list: &[T], text: impl Fn(T) -> String) -> Vec<String> {
        list.iter().take(SHOWN).map(|value| text(*value)).collect()
    }
    match data {
        TensorData::F32(list) => some(list, short),
        TensorData::F64(list) => some(list, |value| general(value, 6)),
        TensorData::I8(list) => some(list, |value| value.to_string()),
        TensorData::U8(list) => some(list, |value| value.to_string()),
        TensorData::I16(list) => some(list, |value| value.to_string()),
        TensorData::U16(list) => some(list, |value| value.to_string()),
        TensorData::I32(list) => some(list, |value| value.to_string()),
        TensorData::U32(list) => some(list, |value| value.to_string()),
        TensorData::I64(list) => some(list, |value| value.to_string()),
        TensorData::U64(list) => some(list, |value| value.to_string()),
        TensorData::Bool(list) => some(list, |value| u8::from(value).to_string()),
    }
}

struct Printer<'a> {
    shape: &'a [usize],
    texts: Vec<String>,
    /// Elements that have been printed.
    at: usize,
    out: String,
}

impl Printer<'_> {
    /// Everything along axis `axis`, as far as elements are shown.
    fn axis(&mut self, axis: usize) {
        let extent = self.shape.get(axis).copied().unwrap_or(1);
        let is_last = axis + 1 >= self.shape.len();
        for index in 0..extent {
            let Some(text) = self.texts.get(self.at) else {
                if is_last && axis != 0 {
                    self.out.push_str("...");
                }
                return;
            };
            if is_last {
                if index > 0 {
                    self.out.push(' ');
                }
                self.out.push_str(text);
                self.at += 1;
            } else {
                self.out.push('[');
                self.axis(axis + 1);
                self.out.push(']');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DataType;
    use quantize_ir::Tensor;

    #[test]
    fn constants_show_their_first_elements() {
        let tensor = |shape: &[usize], count: usize| {
            let numbers = (0..count).map(|n| n as f32 / 2.0).collect();
            TensorProto::new(DataType::FLOAT, &Tensor::new(shape, numbers).unwrap()).unwrap()
        };
        let cases: [(&[usize], usize, &str); 5] = [
            (&[], 1, "0"),
            (&[2], 2, "0 0.5"),
            (&[5], 5, "0 0.5 1..."),
            (&[2, 2], 4, "[0 0.5][1...]..."),
            (&[0, 2], 0, ""),
        ];
        for (shape, count, expected) in cases {
            assert_eq!(elements(&tensor(shape, count)).unwrap(), expected, "{shape:?}");
        }
    }

    #[test]
    fn nodes_stand_in_the_order_of_execution() {
        let one = TensorProto::new(DataType::INT32, &Tensor::vector(vec![1i32])).unwrap();
        let graph =
            GraphDef::new(vec![NodeDef::new("r", "Relu").with_inputs(["c", "^c"]), NodeDef::constant("c", one)]);
        let expected = "c (Const): [], value=Tensor<type: int32 shape: [1] values: 1>\nr (Relu): [c, ^c]\n";
        assert_eq!(structure(&graph).unwrap(), expected);
    }
}
