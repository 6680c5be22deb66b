//! `emulate`: the integer runtime against fp32, sample by sample, at the outputs and layer by layer.

use super::{CaffeModel, EmulateOptions};
use crate::accuracy::class_count;
use crate::data::Data;
use crate::error::Error;
use crate::evaluate::{Evaluation, place_of};
use crate::options::thread_count;
use crate::unknown::Unknown;
use crate::unknown::before_softmax;
use quantize_caffe::xfdnn::{EntryKinds, FileRecipe, QuantizationFile, XfdnnRecipe, in_layer_order, integer_plan};
use quantize_document::{Limits, SourceFile};
use quantize_exec::{Emulation, Emulator, ExecError, Observer, Program, Session, View};
use quantize_ir::{Decision, Graph, IntegerPlan, NodeId, NodePlan, QuantPlan, Tensor, ValueId};
use quantize_numerics::measure::{sqnr_db_of, top1};
use quantize_numerics::xfdnn::{BitWidth, Flavor};
use quantize_parallel::{Progress, for_each};
use quantize_passes::prepare;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the emulated runtime loses against fp32.
#[derive(Clone, Debug, PartialEq)]
pub struct EmulationReport {
    /// Number of samples.
    pub samples: usize,
    /// How samples were prepared, in words.
    pub preparation: String,
    /// Generation of the hardware.
    pub flavor: Flavor,
    /// Each output: the logits where the network ends in a softmax.
    pub outputs: Vec<EmulatedOutput>,
    /// Each layer with an entry, in the network's order.
    pub layers: Vec<EmulatedLayer>,
    /// Accuracy of fp32 and of the emulated runtime, if there are labels.
    pub labelled: Option<(Evaluation, Evaluation)>,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

/// One output over all samples.
#[derive(Clone, Debug, PartialEq)]
pub struct EmulatedOutput {
    /// Name of the blob.
    pub name: String,
    /// 10·log10 of the energy of the fp32 values over that of the differences, all samples together.
    pub sqnr_db: f64,
    /// Cosine between the two, all samples together.
    pub cosine: f64,
    /// Largest difference.
    pub max_abs_error: f64,
    /// Samples whose largest score is the same, if the output is a vector of scores.
    pub agreeing: Option<usize>,
}

/// One layer over all samples.
#[derive(Clone, Debug, PartialEq)]
pub struct EmulatedLayer {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// As [`EmulatedOutput::sqnr_db`], after an activation that belongs to the layer; it includes what the layers
    /// before it lost.
    pub sqnr_db: f64,
    /// As [`EmulatedOutput::cosine`].
    pub cosine: f64,
    /// Sums of products beyond the 24 bits of the 8-bit hardware's accumulator.
    pub overflows: u64,
}

/// Runs a network as the xfDNN runtime does and compares it with fp32.
///
/// # Errors
/// If a file cannot be read, the quantization file does not fit the network, or the data cannot be used.
pub fn emulate_caffe(options: &EmulateOptions, progress: &dyn Progress) -> Result<EmulationReport, Error> {
    let caffe = CaffeModel::open(&options.model)?;
    let source = SourceFile::read(&options.quantcfg, &Limits::default())?;
    let file = QuantizationFile::parse(&source)?;
    let network = Network::prepare(&caffe, &file, options)?;
    let data = Data::open(&options.data, caffe.model.graph(), caffe.model.path())?;
    let labels = options.labels.as_ref().map(|path| data.labels(path)).transpose()?;
    let tallies = network.run(&caffe, &data, labels.as_deref(), options, progress)?;
    let mut warnings: Vec<String> = caffe.model.problems().to_vec();
    warnings.extend(unmatched(&caffe, &file));
    warnings.extend(network.overflow_warning(&tallies));
    Ok(network.report(&file, &data, tallies, warnings))
}

/// Entries that name no layer, for a warning.
fn unmatched(caffe: &CaffeModel, file: &QuantizationFile) -> Option<String> {
    let known = |name: &str| caffe.document.layers().iter().any(|l| l.name == name);
    let names: Vec<String> = file.network.iter().filter(|e| !known(&e.name)).map(|e| format!("`{}`", e.name)).collect();
    (!names.is_empty()).then(|| format!("the network has no layers {}; their entries are not used", names.join(", ")))
}

/// The network of a file, ready to run both ways.
struct Network {
    graph: Graph,
    targets: Vec<ValueId>,
    /// Layers with entries and the values they end in, in the network's order.
    layers: Vec<(NodeId, ValueId)>,
    reference: Program,
    emulation: Emulation,
    flavor: Flavor,
}

impl Network {
    fn prepare(caffe: &CaffeModel, file: &QuantizationFile, options: &EmulateOptions) -> Result<Self, Error> {
        let path = caffe.model.path();
        let failed = |source| Error::exec(path, source);
        let graph = folded(caffe, file)?;
        let flavor = options.flavor.unwrap_or_else(|| file.flavor());
        let plan = integer_plan(&caffe.document, &graph, file, flavor, options.quantcfg.clone())?;
        let unknown = Unknown::of(&graph).map_err(|source| Error::graph(path, source))?;
        let targets = before_softmax(&graph, &unknown.targets(&graph));
        let layers = layers(&graph, &plan);
        let watched: Vec<ValueId> = targets.iter().copied().chain(layers.iter().map(|(_, v)| *v)).collect();
        let reference = Program::observe(&graph, &watched).map_err(failed)?;
        let emulation = Emulation::compile(&graph, &watched, &plan).map_err(failed)?;
        Ok(Self { graph, targets, layers, reference, emulation, flavor })
    }

    fn run(
        &self,
        caffe: &CaffeModel,
        data: &Data,
        labels: Option<&[u32]>,
        options: &EmulateOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Tally>, Error> {
        let failed = |source| Error::exec(caffe.model.path(), source);
        let count = options.limit.unwrap_or(usize::MAX).clamp(1, data.runs());
        progress.begin("emulating", count);
        let init = || Runner::new(self);
        let workers = for_each(count, thread_count(options.threads), progress, init, |runner, index| {
            let mut tally = runner.sample(&data.feed(index)?).map_err(failed)?;
            if let Some(label) = labels.and_then(|l| l.get(index)) {
                tally.places(self, *label, &data.name(index))?;
            }
            runner.tallies.push((index, tally));
            Ok::<(), Error>(())
        })?;
        progress.end();
        let mut tallies = Vec::with_capacity(count);
        let mut overflows: BTreeMap<NodeId, u64> = BTreeMap::new();
        for worker in workers {
            for (node, n) in worker.emulator.overflows() {
                *overflows.entry(*node).or_default() += n;
            }
            tallies.extend(worker.tallies);
        }
        tallies.sort_by_key(|(index, _)| *index);
        let mut tallies: Vec<Tally> = tallies.into_iter().map(|(_, tally)| tally).collect();
        if let Some(first) = tallies.first_mut() {
            first.overflows = overflows;
        }
        Ok(tallies)
    }

    fn overflow_warning(&self, tallies: &[Tally]) -> Option<String> {
        let total: u64 = tallies.iter().flat_map(|t| t.overflows.values()).sum();
        let worst = tallies.iter().flat_map(|t| &t.overflows).max_by_key(|(_, n)| **n)?;
        let layer = self.graph.label(*worst.0);
        Some(format!(
            "{total} sums of products leave the 24 bits of the hardware's accumulator, most of them in layer `{layer}`"
        ))
    }

    fn report(
        &self,
        file: &QuantizationFile,
        data: &Data,
        tallies: Vec<Tally>,
        mut warnings: Vec<String>,
    ) -> EmulationReport {
        let total = |value: &ValueId| {
            let sums = tallies.iter().filter_map(|t| t.sums.get(value));
            sums.fold(Sums::default(), |total, sums| total.plus(sums))
        };
        let outputs = self.targets.iter().map(|value| {
            let sums = total(value);
            let votes: Option<Vec<bool>> = tallies.iter().map(|t| t.agree.get(value).copied().flatten()).collect();
            EmulatedOutput {
                name: self.graph.value(*value).name.clone(),
                sqnr_db: sums.sqnr_db(),
                cosine: sums.cosine(),
                max_abs_error: sums.largest,
                agreeing: votes.map(|v| v.into_iter().filter(|agree| *agree).count()),
            }
        });
        let overflows = |node: &NodeId| tallies.iter().filter_map(|t| t.overflows.get(node)).sum();
        let layers = self.layers.iter().map(|(node, value)| {
            let sums = total(value);
            let op = self.graph.node(*node).map_or_else(String::new, |n| n.op.name().to_owned());
            let name = self.graph.label(*node);
            EmulatedLayer { name, op, sqnr_db: sums.sqnr_db(), cosine: sums.cosine(), overflows: overflows(node) }
        });
        let (outputs, layers) = (outputs.collect(), layers.collect());
        if file.network.iter().any(|e| e.th_layer_out == 0.0) {
            warnings.push("the file has layers whose output threshold is 0; they give zeros".into());
        }
        let places = |side: fn(&(usize, usize)) -> usize| {
            let places: Option<Vec<usize>> = tallies.iter().map(|t| t.places.as_ref().map(side)).collect();
            places.filter(|p| !p.is_empty()).map(|places| Evaluation {
                images: places.len(),
                top1: places.iter().filter(|p| **p == 0).count(),
                top5: places.iter().filter(|p| **p < 5).count(),
                warnings: Vec::new(),
            })
        };
        EmulationReport {
            samples: tallies.len(),
            preparation: data.preparation(),
            flavor: self.flavor,
            outputs,
            layers,
            labelled: places(|p| p.0).zip(places(|p| p.1)),
            warnings,
        }
    }
}

/// The network with folded what the file says nothing about on its own.
fn folded(caffe: &CaffeModel, file: &QuantizationFile) -> Result<Graph, Error> {
    let entries = EntryKinds { inner_product: true, eltwise: true, average_pool: true, scale: true };
    let document = Arc::clone(&caffe.document);
    let target = XfdnnRecipe {
        document,
        bits: BitWidth::Eight,
        entries,
        keeps_lone_scale: false,
        corrections: false,
        float_lrn: false,
    };
    let recipe = FileRecipe { target: &target, file };
    let stay = recipe.unfolded(caffe.model.graph());
    let prepared = prepare(caffe.model.graph().clone(), &recipe, &stay);
    Ok(prepared.map_err(|source| Error::pass(caffe.model.path(), source))?.graph)
}

/// Layers with entries, and the values they end in: after an activation that belongs to the layer.
fn layers(graph: &Graph, plan: &IntegerPlan) -> Vec<(NodeId, ValueId)> {
    let absorbs = |node: &quantize_ir::Node| {
        matches!(node.op, quantize_ir::Op::Unary(quantize_ir::op::Unary::Relu) | quantize_ir::Op::Clip)
    };
    let activations = graph.nodes().filter(|(_, node)| absorbs(node)).filter_map(|(id, node)| {
        let (into, _) = graph.producer(node.input(0)?)?;
        let decision = Decision::Absorbed { into };
        plan.nodes.contains_key(&into).then_some((id, NodePlan { decision }))
    });
    let ends = QuantPlan { nodes: activations.collect(), ..QuantPlan::default() };
    let with_entry = in_layer_order(graph).filter(|(id, _)| plan.nodes.contains_key(id));
    with_entry.filter_map(|(id, node)| Some((id, ends.materialized(graph, node.output(0)?)))).collect()
}

/// One thread's two runtimes and what it has seen.
struct Runner<'n> {
    network: &'n Network,
    reference: Session<'n>,
    emulator: Emulator<'n>,
    tallies: Vec<(usize, Tally)>,
}

impl<'n> Runner<'n> {
    fn new(network: &'n Network) -> Self {
        Self {
            network,
            reference: Session::new(&network.reference),
            emulator: Emulator::new(&network.emulation),
            tallies: Vec::new(),
        }
    }

    fn sample(&mut self, inputs: &[(ValueId, Tensor)]) -> Result<Tally, ExecError> {
        let mut expected = Kept::of(self.network);
        self.reference.run(inputs, &mut expected)?;
        let mut seen = Kept::of(self.network);
        self.emulator.run(inputs, &mut seen)?;
        let mut tally = Tally::default();
        for (value, reference) in &expected.values {
            let found = seen.values.get(value).unwrap_or(reference);
            tally.add(*value, reference, found, self.network.targets.contains(value));
        }
        Ok(tally)
    }
}

/// Keeps the values that are compared.
struct Kept<'n> {
    network: &'n Network,
    values: BTreeMap<ValueId, Tensor>,
}

impl<'n> Kept<'n> {
    fn of(network: &'n Network) -> Self {
        Self { network, values: BTreeMap::new() }
    }
}

impl Observer for Kept<'_> {
    fn observe(&mut self, value: ValueId, seen: &View<'_>) {
        if self.wants(value)
            && let Ok(tensor) = seen.tensor()
        {
            self.values.insert(value, tensor.into_owned());
        }
    }

    fn wants(&self, value: ValueId) -> bool {
        self.network.targets.contains(&value) || self.network.layers.iter().any(|(_, v)| *v == value)
    }
}

/// What one sample showed.
#[derive(Default)]
struct Tally {
    sums: BTreeMap<ValueId, Sums>,
    agree: BTreeMap<ValueId, Option<bool>>,
    /// Scores of the first output that has some, of both runtimes.
    scores: Option<(ValueId, Vec<f32>, Vec<f32>)>,
    /// How many scores beat the label's, in both runtimes.
    places: Option<(usize, usize)>,
    overflows: BTreeMap<NodeId, u64>,
}

impl Tally {
    fn add(&mut self, value: ValueId, reference: &Tensor, found: &Tensor, is_target: bool) {
        let (Ok(r), Ok(f)) = (reference.as_slice::<f32>(), found.as_slice::<f32>()) else { return };
        self.sums.insert(value, Sums::of(r, f));
        if is_target {
            let scored = class_count(reference.shape(), 1).is_some();
            self.agree.insert(value, scored.then(|| top1(r) == top1(f)));
            if scored && self.scores.is_none() {
                self.scores = Some((value, r.to_vec(), f.to_vec()));
            }
        }
    }

    fn places(&mut self, network: &Network, label: u32, image: &str) -> Result<(), Error> {
        let Some((value, reference, found)) = self.scores.take() else { return Ok(()) };
        let output = &network.graph.value(value).name;
        let place = |scores: &[f32]| place_of(output, scores, label, image);
        self.places = Some((place(&reference)?, place(&found)?));
        Ok(())
    }
}

/// Running sums of two tensors.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    reference: f64,
    found: f64,
    product: f64,
    noise: f64,
    largest: f64,
}

impl Sums {
    fn of(reference: &[f32], found: &[f32]) -> Self {
        let mut sums = Self::default();
        for (r, f) in reference.iter().zip(found) {
            let (r, f) = (f64::from(*r), f64::from(*f));
            sums.reference += r * r;
            sums.found += f * f;
            sums.product += r * f;
            sums.noise += (r - f) * (r - f);
            sums.largest = sums.largest.max((r - f).abs());
        }
        sums
    }

    fn plus(self, other: &Self) -> Self {
        Self {
            reference: self.reference + other.reference,
            found: self.found + other.found,
            product: self.product + other.product,
            noise: self.noise + other.noise,
            largest: self.largest.max(other.largest),
        }
    }

    fn sqnr_db(&self) -> f64 {
        sqnr_db_of(self.reference, self.noise)
    }

    /// 1 if both are zero, 0 if one is.
    fn cosine(&self) -> f64 {
        match (self.reference > 0.0, self.found > 0.0) {
            (true, true) => self.product / (self.reference.sqrt() * self.found.sqrt()),
            (false, false) => 1.0,
            _ => 0.0,
        }
    }
}
