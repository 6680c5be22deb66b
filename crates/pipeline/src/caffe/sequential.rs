//! The original quantizer's own pass: layer by layer, on a network that is rounded on the way.
//!
//! Layers are visited once in the order of the file, all samples together. What a layer reads is rounded first, so
//! each threshold is that of a network quantized so far. The threshold of a blob is looked up by the blob's name, as
//! an in-place layer overwrites it: so an activation replaces the threshold of the layer before it, and a `Concat`
//! those of all its inputs. The two inputs of an `Eltwise` keep the thresholds of their producers although the hardware
//! adds their codes as they are; that is the original's defect, and why this is not the default.

use super::options::FileOptions;
use crate::data::Data;
use crate::error::Error;
use crate::evidence::Evidence;
use crate::options::InputRange;
use crate::settle::{Job, Prepared, Ready, Settled, prepared};
use quantize_caffe::xfdnn::{
    Entry, LayerKind, LayerThresholds, QuantizationFile, XfdnnRecipe, in_layer_order, layer_kind,
};
use quantize_exec::evaluate_node;
use quantize_ir::op::Unary;
use quantize_ir::{Decision, Graph, KeepReason, Node, NodeId, NodePlan, Op, QuantPlan, Recipe, Tensor, ValueId};
use quantize_numerics::xfdnn::{SymmetricGrid, kl_threshold};
use quantize_numerics::{NumericsError, RangeMethod, TensorStats, estimate};
use quantize_parallel::{Progress, for_each};
use std::collections::BTreeMap;
use std::path::Path;

/// Makes the file of the original's pass.
///
/// # Errors
/// As [`settle`](crate::settle::settle), or if a layer cannot be executed.
pub(crate) fn run(
    job: &Job<'_>,
    recipe: &XfdnnRecipe,
    options: &FileOptions,
    progress: &dyn Progress,
) -> Result<(Settled, QuantizationFile), Error> {
    let ready = match prepared(job)? {
        Prepared::Ready(ready) => ready,
        Prepared::Untouched(settled) => return Ok((*settled, QuantizationFile::default())),
    };
    let data = ready.samples(job)?;
    let Ready { graph, selection, targets, log, channels, .. } = *ready;
    let mut pass = Pass {
        graph: &graph,
        path: job.model.path(),
        recipe,
        options,
        method: job.options.range,
        input: job.options.input,
        threads: job.threads,
        blobs: BTreeMap::new(),
        thresholds: BTreeMap::new(),
        entries: Vec::new(),
        notes: Vec::new(),
    };
    pass.feed(&data, progress)?;
    let layers: Vec<NodeId> = in_layer_order(&graph).map(|(id, _)| id).collect();
    progress.begin("finding thresholds", layers.len());
    let mut readers = Readers::of(&graph, &layers);
    for id in layers {
        pass.layer(id, selection.decisions.get(&id) == Some(&Decision::Keep(KeepReason::Skipped)))?;
        readers.done(&graph, id).into_iter().for_each(|value| {
            pass.blobs.remove(&value);
        });
        progress.step();
    }
    progress.end();
    let network = pass.file();
    let quantized: Vec<NodeId> = pass.entries.iter().map(|e| e.node).collect();
    let warnings: Vec<String> = pass.notes;
    let decide = |(id, decision): (NodeId, Decision)| match decision {
        Decision::Quantize if !quantized.contains(&id) => {
            let passes = KeepReason::Unsupported("has no entry of its own in this file".into());
            (id, NodePlan { decision: Decision::Keep(passes) })
        }
        decision => (id, NodePlan { decision }),
    };
    let nodes = selection.decisions.into_iter().map(decide).collect();
    let plan = QuantPlan { nodes, ..QuantPlan::default() };
    let settled = Settled {
        graph,
        reference: None,
        plan,
        evidence: Some(Evidence::of(&data)?),
        data: Some(data),
        targets,
        judges: None,
        outcome: None,
        improvement: None,
        accuracy: None,
        channels,
        warnings,
        log,
    };
    Ok((settled, QuantizationFile { network }))
}

/// One tensor for each sample.
type Batch = Vec<Tensor>;

/// A blob at some point of the pass.
struct Blob {
    /// Rounded, as the layers after it read it.
    rounded: Batch,
    /// As its layer computed it, which an activation or a `Concat` after it goes back to.
    exact: Batch,
}

/// A layer with an entry; its output threshold is looked up when all layers were visited.
struct Visited {
    node: NodeId,
    name: String,
    input: f64,
    output_blob: String,
    kind: LayerKind,
}

struct Pass<'a> {
    graph: &'a Graph,
    path: &'a Path,
    recipe: &'a XfdnnRecipe,
    options: &'a FileOptions,
    method: RangeMethod,
    input: InputRange,
    threads: usize,
    blobs: BTreeMap<ValueId, Blob>,
    /// By name of the blob.
    thresholds: BTreeMap<String, f64>,
    entries: Vec<Visited>,
    notes: Vec<String>,
}

impl Pass<'_> {
    fn feed(&mut self, data: &Data, progress: &dyn Progress) -> Result<(), Error> {
        progress.begin("reading samples", data.runs());
        let samples = each(data.runs(), self.threads, progress, |run| data.feed(run))?;
        progress.end();
        let mut inputs: BTreeMap<ValueId, Batch> = BTreeMap::new();
        for (value, tensor) in samples.into_iter().flatten() {
            inputs.entry(value).or_default().push(tensor);
        }
        let method = if self.input == InputRange::Observed { RangeMethod::MinMax } else { self.method };
        for (value, batch) in inputs {
            let threshold = self.threshold(&batch, method, value)?;
            let blob = self.rounded(batch, threshold)?;
            self.thresholds.insert(self.graph.value(value).name.clone(), threshold);
            self.blobs.insert(value, blob);
        }
        Ok(())
    }

    fn layer(&mut self, id: NodeId, skipped: bool) -> Result<(), Error> {
        let Some(node) = self.graph.node(id) else { return Ok(()) };
        let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { return Ok(()) };
        if !self.blobs.contains_key(&x) {
            return Ok(());
        }
        match &node.op {
            _ if skipped => self.real(id, y),
            Op::Softmax(_) => self.real(id, y),
            Op::Unary(Unary::Relu) | Op::Clip => self.activation(id, x, y),
            Op::Concat(_) => self.concat(id, node, y),
            Op::Binary(_) | Op::Nary(_) if self.has_integers(id) => self.eltwise(id, node, y),
            Op::Conv(_) | Op::Gemm(_) | Op::BatchNorm(_) if self.has_integers(id) => self.product(id, node, x, y),
            _ if self.has_integers(id) => self.pass_on(id, x, y),
            _ => {
                self.notes.push(format!("layer `{}` ({}) runs in fp32", node.name, node.op.name()));
                self.real(id, y)
            }
        }
    }

    /// Whether the pass knows the layer's type.
    fn has_integers(&self, id: NodeId) -> bool {
        !matches!(self.recipe.support(self.graph, id), quantize_ir::Support::Keep(_))
    }

    /// Convolution, inner product, scale: input and weights are rounded, the output gets a threshold of its own.
    fn product(&mut self, id: NodeId, node: &Node, x: ValueId, y: ValueId) -> Result<(), Error> {
        let input = self.round_again(x)?;
        let kind = layer_kind(self.recipe, self.graph, id, self.options.release.is_none())?;
        let weight = self.rounded_weight(node, kind.as_ref())?;
        let exact = self.evaluate(id, weight.as_ref())?;
        let threshold = self.threshold(&exact, self.method, y)?;
        self.write(y, exact, threshold)?;
        self.visit(id, node, input, y, kind);
        Ok(())
    }

    /// The weight with every channel rounded to its own threshold.
    fn rounded_weight(&self, node: &Node, kind: Option<&LayerKind>) -> Result<Option<Tensor>, Error> {
        let thresholds: Vec<f32> = match kind {
            Some(LayerKind::Product { weights }) => weights.clone(),
            Some(LayerKind::ChannelScale { factors, .. }) => factors.iter().map(|g| g.abs()).collect(),
            _ => return Ok(None),
        };
        let weight = node.input(1).map(|v| self.graph.constant(v)).transpose();
        let weight = weight.map_err(|source| Error::graph(self.path, source))?.flatten();
        let Some(weight) = weight else { return Ok(None) };
        let axis = match node.op.operand_role(1) {
            quantize_ir::OperandRole::Weight { channel_axis: Some(axis) } => axis,
            _ => 0,
        };
        let axis = quantize_ir::shape::resolve_axis(axis, weight.rank()).unwrap_or(0);
        let inner = weight.shape().get(axis + 1..).map_or(1, |s| s.iter().product::<usize>()).max(1);
        let mut weight = Tensor::clone(&weight);
        let broken = |e: quantize_ir::TensorError| Error::graph(self.path, e.into());
        let rows = weight.as_mut_slice::<f32>().map_err(broken)?.chunks_mut(inner);
        for (row, threshold) in rows.zip(thresholds.iter().cycle()) {
            self.grid(f64::from(*threshold))?.fake_quantize_in_place(row);
        }
        Ok(Some(weight))
    }

    /// The layer before it is computed once more without rounding its output, and its threshold replaced where the
    /// activation runs in place.
    fn activation(&mut self, id: NodeId, x: ValueId, y: ValueId) -> Result<(), Error> {
        let exact = self.evaluate_exactly(id, x)?;
        let threshold = self.threshold(&exact, self.method, y)?;
        self.write(y, exact, threshold)
    }

    fn concat(&mut self, id: NodeId, node: &Node, y: ValueId) -> Result<(), Error> {
        let operands: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        let exact = self.with_exact(&operands, |pass| pass.evaluate(id, None))?;
        let threshold = self.threshold(&exact, self.method, y)?;
        for value in operands {
            self.thresholds.insert(self.blob_name(value), threshold);
        }
        self.write(y, exact, threshold)
    }

    /// Operands other than the first are rounded to the largest of their thresholds, which the output takes.
    fn eltwise(&mut self, id: NodeId, node: &Node, y: ValueId) -> Result<(), Error> {
        let operands: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        let input = operands.iter().map(|v| self.threshold_of(*v)).fold(0.0, f64::max);
        for value in operands.iter().skip(1) {
            self.round_to(*value, input)?;
        }
        let exact = self.evaluate(id, None)?;
        self.write(y, exact, input)?;
        let kind = layer_kind(self.recipe, self.graph, id, true)?;
        self.visit(id, node, input, y, kind);
        Ok(())
    }

    /// Pooling, normalization and whatever only moves elements: the output takes the input's threshold.
    fn pass_on(&mut self, id: NodeId, x: ValueId, y: ValueId) -> Result<(), Error> {
        let input = self.round_again(x)?;
        let exact = self.evaluate(id, None)?;
        self.write(y, exact, input)?;
        if let Some(node) = self.graph.node(id) {
            let kind = layer_kind(self.recipe, self.graph, id, true)?;
            self.visit(id, node, input, y, kind);
        }
        Ok(())
    }

    /// A layer that the hardware does not run: computed on what it reads, and not rounded.
    fn real(&mut self, id: NodeId, y: ValueId) -> Result<(), Error> {
        let exact = self.evaluate(id, None)?;
        let threshold = self.threshold(&exact, self.method, y)?;
        self.thresholds.insert(self.blob_name(y), threshold);
        self.blobs.insert(y, Blob { rounded: exact.clone(), exact });
        Ok(())
    }

    fn visit(&mut self, node: NodeId, layer: &Node, input: f64, output: ValueId, kind: Option<LayerKind>) {
        let output_blob = self.blob_name(output);
        self.entries.extend(kind.map(|kind| Visited { node, name: layer.name.clone(), input, output_blob, kind }));
    }

    fn file(&self) -> Vec<Entry> {
        let entry = |visited: &Visited| {
            let output = self.thresholds.get(&visited.output_blob).copied().unwrap_or(0.0);
            let layer = LayerThresholds {
                name: visited.name.clone(),
                input: visited.input,
                output,
                kind: visited.kind.clone(),
            };
            let (bits, raise) = (self.options.bits, self.options.power_of_two);
            let layer = if raise { layer.with_power_of_two_steps(bits) } else { layer };
            Entry::new(&layer, self.options.format())
        };
        self.entries.iter().map(entry).collect()
    }

    /// Name of the blob `value` is a state of.
    fn blob_name(&self, value: ValueId) -> String {
        let top = || {
            let (node, slot) = self.graph.value(value).producer()?;
            let layer = self.recipe.document.layer(self.graph.node(node)?.origin.source()?)?;
            layer.tops.get(slot).cloned()
        };
        top().unwrap_or_else(|| self.graph.value(value).name.clone())
    }

    fn threshold_of(&self, value: ValueId) -> f64 {
        self.thresholds.get(&self.blob_name(value)).copied().unwrap_or(0.0)
    }

    fn grid(&self, threshold: f64) -> Result<SymmetricGrid, Error> {
        SymmetricGrid::new(threshold, self.options.bits)
            .map_err(|source| Error::tensor(self.path, "threshold".into(), None, source))
    }

    /// Threshold of a batch by `method`.
    fn threshold(&self, batch: &Batch, method: RangeMethod, value: ValueId) -> Result<f64, Error> {
        let broken = |e: quantize_ir::TensorError| Error::graph(self.path, e.into());
        let parts: Vec<&[f32]> = batch.iter().map(|t| t.as_slice::<f32>()).collect::<Result<_, _>>().map_err(broken)?;
        if method == RangeMethod::CdfKl {
            return Ok(kl_threshold(&parts, self.options.bits));
        }
        let place = || format!("blob `{}`", self.graph.value(value).name);
        let failed = |source: NumericsError| Error::tensor(self.path, place(), None, source);
        let mut stats = TensorStats::new();
        for (image, part) in (0u64..).zip(&parts) {
            stats.observe(image, None, part).map_err(failed)?;
        }
        let grids = self.recipe.grids();
        let found = estimate(&stats, grids.activation, grids.symmetric, method, None).map_err(failed)?;
        Ok(f64::from(found.range.abs_max()))
    }

    /// Rounds what is already rounded to the blob's present threshold, and returns it.
    fn round_again(&mut self, value: ValueId) -> Result<f64, Error> {
        let threshold = self.threshold_of(value);
        self.round_to(value, threshold)?;
        Ok(threshold)
    }

    fn round_to(&mut self, value: ValueId, threshold: f64) -> Result<(), Error> {
        let grid = self.grid(threshold)?;
        let Some(blob) = self.blobs.get_mut(&value) else { return Ok(()) };
        for tensor in &mut blob.rounded {
            let values = tensor.as_mut_slice::<f32>().map_err(|e| Error::graph(self.path, e.into()))?;
            grid.fake_quantize_in_place(values);
        }
        Ok(())
    }

    fn rounded(&self, exact: Batch, threshold: f64) -> Result<Blob, Error> {
        let grid = self.grid(threshold)?;
        let mut rounded = exact.clone();
        for tensor in &mut rounded {
            let values = tensor.as_mut_slice::<f32>().map_err(|e| Error::graph(self.path, e.into()))?;
            grid.fake_quantize_in_place(values);
        }
        Ok(Blob { rounded, exact })
    }

    fn write(&mut self, value: ValueId, exact: Batch, threshold: f64) -> Result<(), Error> {
        let blob = self.rounded(exact, threshold)?;
        self.thresholds.insert(self.blob_name(value), threshold);
        self.blobs.insert(value, blob);
        Ok(())
    }

    fn evaluate_exactly(&mut self, id: NodeId, x: ValueId) -> Result<Batch, Error> {
        self.with_exact(&[x], |pass| pass.evaluate(id, None))
    }

    /// Runs `act` while `values` hold what their layers computed.
    fn with_exact<R>(&mut self, values: &[ValueId], act: impl FnOnce(&Self) -> R) -> R {
        let swap = |pass: &mut Self| {
            let distinct: std::collections::BTreeSet<&ValueId> = values.iter().collect();
            for value in distinct {
                if let Some(blob) = pass.blobs.get_mut(value) {
                    std::mem::swap(&mut blob.rounded, &mut blob.exact);
                }
            }
        };
        swap(self);
        let result = act(self);
        swap(self);
        result
    }

    /// Evaluates a layer on the rounded blobs, with another weight if one is given.
    fn evaluate(&self, id: NodeId, weight: Option<&Tensor>) -> Result<Batch, Error> {
        let Some(node) = self.graph.node(id) else { return Ok(Vec::new()) };
        let failed = |source| Error::exec(self.path, source);
        let constant = |value: ValueId| self.graph.constant(value).map_err(|source| Error::graph(self.path, source));
        let constants = node.inputs.iter().map(|v| v.map_or(Ok(None), constant)).collect::<Result<Vec<_>, _>>()?;
        let varying = node.inputs.iter().flatten().find_map(|v| self.blobs.get(v));
        let count = varying.map_or(0, |blob| blob.rounded.len());
        each(count, self.threads, &quantize_parallel::Silent, |index| {
            let operand = |(slot, value): (usize, &Option<ValueId>)| match (slot, weight) {
                (1, Some(weight)) => Some(weight),
                _ => constants[slot].as_deref().or_else(|| self.blobs.get(&(*value)?)?.rounded.get(index)),
            };
            let operands: Vec<Option<&Tensor>> = node.inputs.iter().enumerate().map(operand).collect();
            let results = evaluate_node(self.graph, id, &operands).map_err(failed)?;
            results
                .into_iter()
                .next()
                .ok_or_else(|| failed(quantize_exec::ExecError::NotFed { name: node.name.clone() }))
        })
    }
}

/// Results of `work` for each index below `count`, in order.
fn each<T: Send>(
    count: usize,
    threads: usize,
    progress: &dyn Progress,
    work: impl Fn(usize) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let states = for_each(count, threads, progress, Vec::new, |done: &mut Vec<(usize, T)>, index| {
        done.push((index, work(index)?));
        Ok::<(), Error>(())
    })?;
    let mut all: Vec<(usize, T)> = states.into_iter().flatten().collect();
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}

/// How many layers have yet to read each value.
struct Readers(BTreeMap<ValueId, usize>);

impl Readers {
    fn of(graph: &Graph, layers: &[NodeId]) -> Self {
        let mut readers = BTreeMap::new();
        for value in layers.iter().filter_map(|id| graph.node(*id)).flat_map(|n| n.inputs.iter().flatten()) {
            *readers.entry(*value).or_default() += 1;
        }
        Self(readers)
    }

    /// Values that nobody reads any more once `id` is done.
    fn done(&mut self, graph: &Graph, id: NodeId) -> Vec<ValueId> {
        let Some(node) = graph.node(id) else { return Vec::new() };
        let mut free = Vec::new();
        for value in node.inputs.iter().flatten() {
            if let Some(left) = self.0.get_mut(value) {
                *left -= 1;
                if *left == 0 {
                    free.push(*value);
                }
            }
        }
        free
    }
}
