//! Graphs of single precision become graphs of 8-bit codes that compute their ranges as they run: what
//! `quantize_graph.py` does.
//!
//! | module | what lives there |
//! |---|---|
//! | `training` | nodes that only matter while a network learns |
//! | `sign` | tensors that are never negative |
//! | `fusion` | which nodes one operator on codes takes the place of |
//! | `intel` | the graph of fused operators for Intel's processors |
//! | `plain` | the older graph of one operator on codes for each node |
//! | `prologue` | nodes that find a range and quantize |
//! | `redundant` | codes that become reals and codes again |
//! | `weights` | codes of weights |
//!
//! Names, operators and attributes are those of the original, whose decisions depend on the order in which it meets
//! nodes; here they depend on who reads what.

mod fusion;
mod intel;
pub(crate) mod plain;
mod prologue;
mod redundant;
mod sign;
mod training;
pub(crate) mod weights;

use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::graph::GraphDef;
use crate::node::NodeDef;
use crate::reach::{behind, check_outputs};
use quantize_document::{Location, Problem};

/// What is done to a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Operators on codes.
    Eightbit,
    /// Constants are stored as unsigned codes; everything computes on reals.
    Weights,
    /// Constants are moved to the middle of one of `2^bitdepth` buckets.
    WeightsRounded,
}

/// Which decisions are the original's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Rules {
    /// All of them: `AddV2` is no addition that could be fused, a `Pad` ends the search for a sign, weights of one range
    /// use -128, those of channels are cut off towards zero.
    #[default]
    Original,
    /// `AddV2` is an addition, a `Pad` goes into the convolution behind it, a missing bias in front of `Relu` is zero,
    /// weights are rounded to nearest in symmetric ranges, and signed tensors get signed codes.
    Sound,
}

/// How a graph is quantized, each field a flag of the original.
#[derive(Clone, Debug)]
pub struct EightbitOptions {
    /// `--mode`.
    pub mode: Mode,
    /// `--output_node_names`.
    pub outputs: Vec<String>,
    /// `--bitdepth`, of [`Mode::WeightsRounded`] only; from 1 to 16.
    pub bitdepth: u32,
    /// `--intel_cpu_eightbitize`: fused operators on codes with signed weights.
    pub intel: bool,
    /// `--per_channel`, of fused operators only.
    pub per_channel: bool,
    /// `--strip_redundant_quantization`.
    pub strip_redundant: bool,
    /// `--quantized_input` with its range: placeholders are fed codes.
    pub quantized_input: Option<[f32; 2]>,
    /// `--quantized_fallback_min` and `max`: a range for whatever computes its own otherwise; not of fused operators.
    pub fallback: Option<[f32; 2]>,
    /// `--excluded_ops`.
    pub excluded_ops: Vec<String>,
    /// `--excluded_nodes`.
    pub excluded_nodes: Vec<String>,
    /// Convolutions are quantized whether or not what they read is never negative.
    pub signed_input_convs: bool,
    /// `MatMul` with a bias is quantized; of fused operators only.
    pub quantize_matmul: bool,
    /// `ConcatV2` is not quantized.
    pub exclude_concat: bool,
    /// Which decisions are the original's.
    pub rules: Rules,
}

impl Default for EightbitOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Eightbit,
            outputs: Vec::new(),
            bitdepth: 8,
            intel: false,
            per_channel: false,
            strip_redundant: true,
            quantized_input: None,
            fallback: None,
            excluded_ops: Vec::new(),
            excluded_nodes: Vec::new(),
            signed_input_convs: false,
            quantize_matmul: false,
            exclude_concat: false,
            rules: Rules::Original,
        }
    }
}

impl EightbitOptions {
    /// Sets what `--model_name` means in the original: `FasterRCNN` and `R-FCN` quantize every convolution and no
    /// concatenation, `wide_deep_large_ds` quantizes `MatMul` and no concatenation. Whether the name means anything.
    pub fn set_model_name(&mut self, name: &str) -> bool {
        match name {
            "FasterRCNN" | "R-FCN" => (self.signed_input_convs, self.exclude_concat) = (true, true),
            "wide_deep_large_ds" => (self.quantize_matmul, self.exclude_concat) = (true, true),
            _ => return name.is_empty(),
        }
        true
    }

    /// Why a node is not quantized, whatever it is.
    fn exclusion(&self, node: &NodeDef) -> Option<String> {
        let is_in = |list: &[String], text: &str| list.iter().any(|known| known == text);
        if is_in(&self.excluded_ops, node.op()) {
            return Some(format!("{} is excluded", node.op()));
        }
        is_in(&self.excluded_nodes, node.name()).then(|| "it is excluded by name".to_owned())
    }
}

/// What became of a node whose operator could be quantized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    /// The node.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// The operator on codes that it became, or why it became none.
    pub outcome: Result<String, String>,
}

/// A quantized graph.
#[derive(Clone, Debug)]
pub struct Eightbit {
    /// The graph.
    pub graph: GraphDef,
    /// What became of nodes that could be quantized, in order of execution; empty where only constants change.
    pub coverage: Vec<Covered>,
    /// What deserves attention.
    pub problems: Vec<Problem>,
}

impl Eightbit {
    /// How often reals become codes, and codes reals.
    pub fn conversions(&self) -> (usize, usize) {
        let count = |op: &str| self.graph.nodes().iter().filter(|node| node.op() == op).count();
        (count("QuantizeV2"), count("Dequantize"))
    }
}

/// Quantizes a graph whose variables are frozen.
///
/// # Errors
/// If two nodes have the same name, an input or output names no node, there is a cycle, or an option is out of range.
pub fn eightbit(graph: &GraphDef, options: &EightbitOptions) -> Result<Eightbit, TensorflowError> {
    let done = match options.mode {
        Mode::Eightbit => {
            check_outputs(&graph.index()?, &options.outputs)?;
            let mut graph = training::without(graph, &options.outputs)?;
            if let Some(range) = options.quantized_input {
                graph = plain::fed_with_codes(&graph, range)?;
            }
            let mut done = if options.intel { intel::build(&graph, options)? } else { plain::build(&graph, options)? };
            if options.strip_redundant {
                done.graph = redundant::stripped(&done.graph)?;
            }
            done.graph = needed(&done.graph, &options.outputs)?;
            done
        }
        Mode::Weights | Mode::WeightsRounded => {
            let graph = constants(graph, options)?;
            Eightbit { graph, coverage: Vec::new(), problems: Vec::new() }
        }
    };
    done.graph.index()?.check_inputs()?;
    Ok(done)
}

/// What the outputs need, in the order of the graph.
fn needed(graph: &GraphDef, outputs: &[String]) -> Result<GraphDef, TensorflowError> {
    let needed = behind(&graph.index()?, outputs, &[])?;
    let kept = graph.nodes().iter().zip(needed).filter(|(_, needed)| *needed);
    Ok(graph.with_nodes(kept.map(|(node, _)| node.clone()).collect()))
}

/// Every constant of single precision stored in another way.
fn constants(graph: &GraphDef, options: &EightbitOptions) -> Result<GraphDef, TensorflowError> {
    if !(1..=16).contains(&options.bitdepth) {
        return Err(TensorflowError::invalid(Location::default(), "the bit depth is not from 1 to 16"));
    }
    let stored = plain::Storage::counted(weights::Counting::MinCombined);
    let mut nodes = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let is_float = node.op() == "Const" && node.dtype("dtype")? == Some(DataType::FLOAT);
        match node.constant_value()?.filter(|_| is_float) {
            None => nodes.push(node.clone()),
            Some(value) if options.mode == Mode::WeightsRounded => {
                let about = |cause| TensorflowError::invalid(Location::node(node.name()), cause);
                let rounded = weights::bucketed(&value, 1 << options.bitdepth).map_err(about)?;
                let rounded = crate::tensor::TensorProto::new(DataType::FLOAT, &rounded).map_err(about)?;
                nodes.push(node.clone().with_attr("value", rounded));
            }
            Some(value) => {
                nodes.extend(plain::stored_as_codes(node, &value, stored)?);
            }
        }
    }
    Ok(graph.with_nodes(nodes))
}

/// The control inputs of a node.
fn waits(node: &NodeDef) -> impl Iterator<Item = String> {
    node.refs().filter(|input| !input.is_data()).map(|input| input.to_string())
}

/// A node with some attributes of another.
fn with_copied(mut node: NodeDef, from: &NodeDef, names: &[&str]) -> NodeDef {
    for name in names {
        if let Some(value) = from.attr(name) {
            node.set_attr(name, value.clone());
        }
    }
    node
}

#[cfg(test)]
mod tests;
