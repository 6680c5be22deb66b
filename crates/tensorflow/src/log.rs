//! Logs of ranges: what the nodes of `insert_logging` print while a graph runs, and the same lines from ranges that were
//! measured in single precision.
//!
//! What lives here: which tensors a log is made of, and its lines. What does not: running the graph. Reading logs is part of
//! the transforms that freeze ranges.

use crate::eightbit::{EightbitOptions, eightbit};
use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::node::{Input, NodeDef, Port};
use crate::number::{general, short};
use crate::order::execution_order;
use crate::reach::behind;
use crate::transform::{PRINT, RANGE};
use quantize_document::Location;
use quantize_ir::{Tensor, TensorData};
use std::fmt::Display;

/// A node `Print`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Print {
    /// Its name.
    pub node: String,
    /// What a line begins with.
    pub message: String,
    /// The tensors that it prints, as `node:port`.
    pub tensors: Vec<String>,
    /// Elements of a tensor beyond which none is printed.
    pub summarize: usize,
    /// Runs after which nothing is printed; `None` if there is no end.
    pub first: Option<usize>,
}

/// The nodes `Print` that `outputs` depend on, all of them if no output is named, in the order of execution.
///
/// # Errors
/// If a name is no node's, an input names no node, the graph has a cycle, or an attribute is of another kind than it
/// should be.
pub fn prints(graph: &GraphDef, outputs: &[String]) -> Result<Vec<Print>, TensorflowError> {
    let order = execution_order(graph)?;
    let index = graph.index()?;
    outputs.iter().try_for_each(|name| index.find(name).map(|_| ()))?;
    let needed = behind(&index, outputs, &[])?;
    let is_needed = |at: &usize| outputs.is_empty() || needed.get(*at).copied().unwrap_or(false);
    let nodes = order.iter().filter(|at| is_needed(at)).filter_map(|at| graph.nodes().get(*at));
    nodes.filter(|node| node.op() == "Print").map(print).collect()
}

fn print(node: &NodeDef) -> Result<Print, TensorflowError> {
    let tensor = |input: Input<'_>| match input.port {
        Port::Data(port) => Some(format!("{}:{port}", input.node)),
        Port::Control => None,
    };
    Ok(Print {
        node: node.name().to_owned(),
        message: node.text("message")?.unwrap_or_default(),
        tensors: node.data_inputs().skip(1).filter_map(tensor).collect(),
        // Without a number, three elements; with a negative one, all of them.
        summarize: usize::try_from(node.int("summarize")?.unwrap_or(3)).unwrap_or(usize::MAX),
        first: usize::try_from(node.int("first_n")?.unwrap_or(-1)).ok(),
    })
}

impl Print {
    /// The line that the node prints of its tensors: the message, and each tensor in brackets.
    pub fn line(&self, tensors: &[&Tensor]) -> String {
        tensors.iter().fold(self.message.clone(), |line, tensor| line + "[" + &summary(tensor, self.summarize) + "]")
    }
}

/// Elements of a tensor separated by blanks, with brackets around what all axes but the last hold, up to a limit.
fn summary(tensor: &Tensor, limit: usize) -> String {
    let mut text = String::new();
    let mut next = 0;
    nested(tensor, tensor.shape(), limit, &mut next, &mut text);
    if tensor.len() > limit { text + "..." } else { text }
}

fn nested(tensor: &Tensor, shape: &[usize], limit: usize, next: &mut usize, text: &mut String) {
    let (count, inner) = match shape {
        [] => (1, None),
        [count] => (*count, None),
        [count, inner @ ..] => (*count, Some(inner)),
    };
    for at in 0..count {
        if *next >= limit {
            return;
        }
        match inner {
            Some(inner) => {
                text.push('[');
                nested(tensor, inner, limit, next, text);
                text.push(']');
                if tensor.is_empty() {
                    return;
                }
            }
            None => {
                text.push_str(if at > 0 { " " } else { "" });
                text.push_str(&element(tensor, *next));
                *next += 1;
            }
        }
    }
}

/// An element as TensorFlow prints it.
fn element(tensor: &Tensor, at: usize) -> String {
    fn plain<T: Display>(values: &[T], at: usize) -> String {
        values.get(at).map(ToString::to_string).unwrap_or_default()
    }
    match tensor.data() {
        TensorData::F32(values) => values.get(at).map(|value| short(*value)).unwrap_or_default(),
        TensorData::F64(values) => values.get(at).map(|value| double(*value)).unwrap_or_default(),
        TensorData::Bool(values) => values.get(at).map(|value| u8::from(*value).to_string()).unwrap_or_default(),
        TensorData::I8(values) => plain(values, at),
        TensorData::U8(values) => plain(values, at),
        TensorData::I16(values) => plain(values, at),
        TensorData::U16(values) => plain(values, at),
        TensorData::I32(values) => plain(values, at),
        TensorData::U32(values) => plain(values, at),
        TensorData::I64(values) => plain(values, at),
        TensorData::U64(values) => plain(values, at),
    }
}

/// A number of double precision with 15 significant digits, or 17 where these do not read back to it.
fn double(value: f64) -> String {
    let short = general(value, 15);
    if short.parse() == Ok(value) { short } else { general(value, 17) }
}

/// A range that `eightbit` would find while the graph runs, and what in the graph of single precision has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FutureRange {
    /// The node of the graph on codes that finds the range.
    pub node: String,
    /// The node of the graph of single precision whose result takes the range up.
    pub tensor: String,
}

/// The ranges that [`eightbit`] would find, in the order of its nodes.
///
/// # Errors
/// Those of [`eightbit`]; and if it would find none.
pub fn future_ranges(graph: &GraphDef, options: &EightbitOptions) -> Result<Vec<FutureRange>, TensorflowError> {
    // With all conversions left in, codes become reals under the name that the tensor had.
    let options = EightbitOptions { intel: true, strip_redundant: false, ..options.clone() };
    let coded = eightbit(graph, &options)?.graph;
    let reader = |of: &NodeDef, ops: [&str; 2]| {
        coded
            .nodes()
            .iter()
            .find(|node| ops.contains(&node.op()) && node.data_inputs().any(|input| input.node == of.name()))
    };
    let future = |range: &NodeDef| {
        let narrowed = reader(range, ["Requantize", "RequantizePerChannel"])?;
        let read = reader(narrowed, ["Dequantize"; 2])?;
        Some(FutureRange { node: range.name().to_owned(), tensor: read.name().to_owned() })
    };
    let is_range = |node: &&NodeDef| matches!(node.op(), "RequantizationRange" | "RequantizationRangePerChannel");
    let ranges: Vec<FutureRange> = coded.nodes().iter().filter(is_range).filter_map(future).collect();
    if ranges.is_empty() {
        let cause = "nothing in it has a range to log: no node prints one, and none would compute on codes";
        return Err(TensorflowError::invalid(Location::default(), cause)
            .with_hint("`quantize tf transform` with `insert_logging` adds nodes that print"));
    }
    Ok(ranges)
}

impl FutureRange {
    /// The line of a log that says the range of these elements, which zero is part of or below; no elements are zeros.
    pub fn line(&self, elements: &[f32]) -> String {
        let min = elements.iter().copied().fold(0.0, f32::min);
        let max = elements.iter().copied().reduce(f32::max).unwrap_or(0.0);
        format!(";{}{PRINT};{RANGE}[{}][{}]", self.node, short(min), short(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print_node() -> NodeDef {
        NodeDef::new("r__print__", "Print")
            .with_inputs(["r:0", "r", "r:1"])
            .with_attr("message", ";r__print__;__requant_min_max:")
            .with_attr("first_n", 2)
            .with_attr("summarize", 3)
    }

    #[test]
    fn lines_are_those_of_the_runtime() {
        let nodes = vec![NodeDef::new("r", "RequantizationRange"), print_node()];
        let found = prints(&GraphDef::new(nodes), &[]).unwrap();
        assert_eq!(found[0].tensors, ["r:0", "r:1"]);
        assert_eq!(found[0].first, Some(2));
        let line = found[0].line(&[&Tensor::scalar(0f32), &Tensor::scalar(5.970_948_7f32)]);
        assert_eq!(line, ";r__print__;__requant_min_max:[0][5.9709487]");
    }

    #[test]
    fn only_what_outputs_need_is_printed() {
        let nodes = vec![NodeDef::new("r", "A"), print_node(), NodeDef::new("out", "B").with_inputs(["r"])];
        assert_eq!(prints(&GraphDef::new(nodes.clone()), &["out".to_owned()]).unwrap(), []);
        assert_eq!(prints(&GraphDef::new(nodes.clone()), &["r__print__".to_owned()]).unwrap().len(), 1);
        assert!(prints(&GraphDef::new(nodes), &["r_print".to_owned()]).is_err());
    }

    #[test]
    fn tensors_are_summarized() {
        let tensor = Tensor::new([2, 2], vec![1i32, 2, 3, 4]).unwrap();
        assert_eq!(summary(&tensor, 9), "[1 2][3 4]");
        assert_eq!(summary(&tensor, 3), "[1 2][3]...");
        assert_eq!(summary(&Tensor::vector(vec![true, false]), 9), "1 0");
        assert_eq!(summary(&Tensor::vector(vec![0.1f64, 1.0 / 3.0]), 9), "0.1 0.33333333333333331");
        assert_eq!(summary(&Tensor::new([3, 0], Vec::<f32>::new()).unwrap(), 9), "[]");
    }

    #[test]
    fn ranges_have_zero_in_them_or_below() {
        let range = FutureRange { node: "c".into(), tensor: "t".into() };
        assert_eq!(range.line(&[0.5, 2.0, f32::NAN]), ";c__print__;__requant_min_max:[0][2]");
        assert_eq!(range.line(&[-1.0, -0.5]), ";c__print__;__requant_min_max:[-1][-0.5]");
        assert_eq!(range.line(&[]), ";c__print__;__requant_min_max:[0][0]");
    }
}
