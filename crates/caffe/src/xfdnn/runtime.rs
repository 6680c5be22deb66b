//! From the quantization file and the weights to the integer work of the runtime.
//!
//! The file holds no weights: the runtime rounds those of the network, onto the grids that the file states. What is
//! computed with them is exact, so this and the executor reproduce the runtime bit by bit.

use super::backend::{batch_norm_parameters, channel_layout};
use super::file::{Entry, QuantizationFile};
use super::recipe::{XfdnnRecipe, is_eltwise};
use crate::document::CaffeDocument;
use crate::error::CaffeError;
use quantize_ir::op::{GlobalPool, RangeRule, Unary};
use quantize_ir::{
    Graph, Grids, IntegerNode, IntegerPlan, IntegerWork, KeepReason, Node, NodeId, Op, Recipe, Support, Tensor, ValueId,
};
use quantize_numerics::NumericsError;
use quantize_numerics::xfdnn::multiplier::product_factor;
use quantize_numerics::xfdnn::{BiasGrid, BitWidth, Flavor, Multiplier, Rescaler, SymmetricGrid};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// The rules under which the network of a file was prepared: whatever has an entry is on its own, and folding serves
/// nothing else.
#[derive(Clone, Debug)]
pub struct FileRecipe<'a> {
    /// The network's own rules.
    pub target: &'a XfdnnRecipe,
    /// The file.
    pub file: &'a QuantizationFile,
}

impl FileRecipe<'_> {
    /// Layers with an entry that would otherwise be folded into the layer before them.
    pub fn unfolded(&self, graph: &Graph) -> BTreeSet<NodeId> {
        let stays = |node: &Node| matches!(node.op, Op::BatchNorm(_)) && self.file.entry(&node.name).is_some();
        graph.nodes().filter(|(_, node)| stays(node)).map(|(id, _)| id).collect()
    }
}

impl Recipe for FileRecipe<'_> {
    fn support(&self, graph: &Graph, id: NodeId) -> Support {
        let has_entry =
            graph.node(id).is_some_and(|n| n.origin.source().is_some() && self.file.entry(&n.name).is_some());
        if has_entry { Support::Anchor } else { Support::Keep(KeepReason::NoIntegerKernel) }
    }

    fn results_stay_real(&self) -> bool {
        false
    }

    fn allows_real_result(&self, _: &Graph, _: NodeId) -> bool {
        true
    }

    fn channel_axis(&self, graph: &Graph, id: NodeId, slot: usize) -> Option<usize> {
        self.target.channel_axis(graph, id, slot)
    }

    fn grids(&self) -> Grids {
        self.target.grids()
    }
}

/// The work of the layers of `graph` that have entries in `file`, on hardware of generation `flavor`.
///
/// In a file for v2 without entries for `Eltwise`, such a layer adds codes as they are if its operands have one
/// threshold.
///
/// # Errors
/// If an entry contradicts its layer, or no layer has an entry. `path` is the file's, for messages.
pub fn integer_plan(
    document: &CaffeDocument,
    graph: &Graph,
    file: &QuantizationFile,
    flavor: Flavor,
    path: PathBuf,
) -> Result<IntegerPlan, CaffeError> {
    let compiler = Compiler { document, graph, file, flavor, path };
    let mut plan = IntegerPlan::default();
    let mut thresholds = BTreeMap::new();
    for id in graph.topological_order().map_err(|e| compiler.broken(e))? {
        let Some(node) = graph.node(id) else { continue };
        let work = match compiler.entry(node) {
            Some(entry) => compiler.node(node, entry)?.map(|work| (work, entry.th_layer_out)),
            None => compiler.raw_sum(node, &thresholds),
        };
        let threshold = work.as_ref().map(|(_, th)| *th).or_else(|| passed_on(node, &thresholds));
        if let (Some(th), Some(y)) = (threshold, node.output(0)) {
            thresholds.insert(y, th);
        }
        plan.nodes.extend(work.map(|(work, _)| (id, work)));
    }
    if plan.nodes.is_empty() {
        return Err(compiler.refuse(None, "no layer of the network has an entry".into()));
    }
    Ok(plan)
}

/// The threshold of codes that a node passes on as they are.
fn passed_on(node: &Node, thresholds: &BTreeMap<ValueId, f64>) -> Option<f64> {
    let passes = matches!(node.op, Op::Concat(_) | Op::Unary(Unary::Relu) | Op::Clip)
        || node.op.range_rule() == RangeRule::SameAsInput;
    thresholds.get(&node.input(0)?).copied().filter(|_| passes)
}

struct Compiler<'a> {
    document: &'a CaffeDocument,
    graph: &'a Graph,
    file: &'a QuantizationFile,
    flavor: Flavor,
    path: PathBuf,
}

impl Compiler<'_> {
    fn refuse(&self, entry: Option<&Entry>, cause: String) -> CaffeError {
        CaffeError::Quantization { file: self.path.clone(), entry: entry.map(|e| e.name.clone()), cause }
    }

    fn broken(&self, source: quantize_ir::GraphError) -> CaffeError {
        CaffeError::Graph { file: self.document.text().source().path().to_owned(), source }
    }

    /// The entry of the layer whose main operator `node` is.
    fn entry(&self, node: &Node) -> Option<&Entry> {
        node.origin.source()?;
        self.file.entry(&node.name)
    }

    fn node(&self, node: &Node, entry: &Entry) -> Result<Option<IntegerNode>, CaffeError> {
        let refuse = |cause: String| self.refuse(Some(entry), cause);
        let numbers = |e: NumericsError| refuse(e.to_string());
        let bits = entry.bits().map_err(refuse)?;
        let input = SymmetricGrid::new(entry.th_layer_in, bits).map_err(numbers)?;
        let output = SymmetricGrid::new(entry.th_layer_out, bits).map_err(numbers)?;
        let grids = (input, output, bits);
        let work = match &node.op {
            Op::Conv(_) | Op::Gemm(_) => self.product(node, entry, grids)?,
            Op::BatchNorm(_) => self.channel_scale(node, entry, output, bits)?,
            op if is_eltwise(op) => IntegerWork::Eltwise(self.rescaler(entry, 0, bits, 0).map_err(refuse)?),
            Op::AveragePool(_) | Op::GlobalPool(GlobalPool::Average) => {
                let channels = (0..entry.scale.len()).map_while(|c| entry.multiplier(c)).collect();
                IntegerWork::AveragePool { channels, bits }
            }
            _ => return Ok(None),
        };
        Ok(Some(IntegerNode { input, output, work }))
    }

    fn rescaler(&self, entry: &Entry, channel: usize, bits: BitWidth, bias: i32) -> Result<Rescaler, String> {
        let multiplier =
            entry.multiplier(channel).ok_or_else(|| format!("there is no multiplier of channel {channel}"))?;
        Rescaler::new(self.flavor, bits, multiplier, bias).map_err(|e| e.to_string())
    }

    fn product(
        &self,
        node: &Node,
        entry: &Entry,
        (input, output, bits): (SymmetricGrid, SymmetricGrid, BitWidth),
    ) -> Result<IntegerWork, CaffeError> {
        let refuse = |cause: String| self.refuse(Some(entry), cause);
        let weight = self.constant(node, 1)?.ok_or_else(|| refuse("the layer has no constant weight".into()))?;
        let values = weight.as_slice::<f32>().map_err(|e| refuse(e.to_string()))?;
        let layout = channel_layout(node, &weight);
        let layout = layout.ok_or_else(|| refuse("the weight has no output channels".into()))?;
        let grids = weight_grids(entry, layout.channels, bits).map_err(refuse)?;
        let mut rows: Vec<Vec<i16>> = vec![Vec::with_capacity(values.len() / layout.channels.max(1)); layout.channels];
        for (channel, run) in layout.runs(values) {
            if let (Some(row), Some(grid)) = (rows.get_mut(channel), grids.get(channel)) {
                row.extend(run.iter().map(|w| grid.weight_code(*w) as i16));
            }
        }
        let bias = self.constant(node, 2)?;
        let bias = bias.as_ref().and_then(|b| b.as_slice::<f32>().ok()).unwrap_or_default();
        let of = |(channel, grid): (usize, &SymmetricGrid)| {
            let bias = bias.get(channel).copied().unwrap_or(0.0);
            let code = BiasGrid::of(self.flavor, input, *grid, output).code(bias);
            self.rescaler(entry, channel, bits, code)
        };
        let channels = grids.iter().enumerate().map(of).collect::<Result<_, _>>().map_err(refuse)?;
        Ok(IntegerWork::Product { weight: rows.concat().into(), channels })
    }

    /// The bias of a channel-wise scale is added to the result's codes.
    fn channel_scale(
        &self,
        node: &Node,
        entry: &Entry,
        output: SymmetricGrid,
        bits: BitWidth,
    ) -> Result<IntegerWork, CaffeError> {
        let refuse = |cause: String| self.refuse(Some(entry), cause);
        let parameters = batch_norm_parameters(self.graph, node).map_err(|e| self.broken(e))?;
        let (gamma, beta) = parameters.ok_or_else(|| refuse("the layer has no constant factors".into()))?;
        let grids = weight_grids(entry, gamma.len(), bits).map_err(refuse)?;
        let includes_factor = includes_factor(entry, &gamma, &grids);
        let factors = gamma.iter().zip(&grids).map(|(g, grid)| if includes_factor { 1 } else { grid.weight_code(*g) });
        let factors = factors.collect();
        let channels = (0..gamma.len()).map(|c| self.rescaler(entry, c, bits, 0)).collect::<Result<_, _>>();
        let offsets = beta.iter().map(|b| output.weight_code(*b)).collect();
        Ok(IntegerWork::ChannelScale { factors, channels: channels.map_err(refuse)?, offsets, bits })
    }

    fn constant(&self, node: &Node, slot: usize) -> Result<Option<Arc<Tensor>>, CaffeError> {
        let Some(value) = node.input(slot) else { return Ok(None) };
        self.graph.constant(value).map_err(|e| self.broken(e))
    }

    fn raw_sum(&self, node: &Node, thresholds: &BTreeMap<ValueId, f64>) -> Option<(IntegerNode, f64)> {
        let has_entry = |n: &Node| is_eltwise(&n.op) && self.entry(n).is_some();
        let raw = self.flavor == Flavor::V2 && is_eltwise(&node.op) && !self.graph.nodes().any(|(_, n)| has_entry(n));
        let mut operands = node.inputs.iter().flatten().map(|v| thresholds.get(v).copied());
        let first = operands.next().flatten().filter(|_| raw)?;
        if !operands.all(|th| th == Some(first)) {
            return None;
        }
        let bits = self.file.network.first()?.bits().ok()?;
        let rescaler = Rescaler::new(self.flavor, bits, Multiplier::ONE, 0).ok()?;
        let grid = SymmetricGrid::new(first, bits).ok()?;
        Some((IntegerNode { input: grid, output: grid, work: IntegerWork::Eltwise(rescaler) }, first))
    }
}

fn weight_grids(entry: &Entry, channels: usize, bits: BitWidth) -> Result<Vec<SymmetricGrid>, String> {
    let thresholds = entry.th_params.as_ref().ok_or("there is no th_params, but the layer has weights")?;
    let lengths = [thresholds.len(), entry.scale.len()];
    if lengths.iter().any(|n| *n != channels) {
        return Err(format!("th_params and scale have {lengths:?} elements for {channels} output channels"));
    }
    thresholds.iter().map(|th| SymmetricGrid::new(*th, bits).map_err(|e| e.to_string())).collect()
}

/// Whether the multipliers of a channel-wise scale contain the factors' codes: release 1.3 left them out.
fn includes_factor(entry: &Entry, gamma: &[f32], grids: &[SymmetricGrid]) -> bool {
    let Some(sf_params) = &entry.sf_params else { return true };
    let channels = gamma.iter().zip(grids).zip(sf_params).enumerate();
    let ratios = channels.filter_map(|(c, ((gamma, grid), sf))| {
        let plain = product_factor(entry.sf_layer_in, *sf as f32, entry.sf_layer_out);
        let code = f64::from(grid.weight_code(*gamma)).abs();
        (plain > 0.0 && code > 1.0).then_some((entry.multiplier(c)?.value().abs() / plain, code))
    });
    // Nearer to the code than to one, on a logarithmic scale.
    ratios.map(|(ratio, code)| ratio > code.sqrt()).next().unwrap_or(true)
}
