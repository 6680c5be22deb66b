//! A model ready to be timed: prepared as for quantization, with an input and, if wanted, a plan.

use super::workload::{Work, Workload};
use crate::accuracy::Simulated;
use crate::calibrate::{Collector, observing};
use crate::error::Error;
use crate::model::Model;
use crate::options::{DataOptions, RecipeOptions, thread_count};
use crate::planning::{Parameters, make_plan};
use crate::settle::{Job, Prepared, calibrated, constants_folded, nothing_quantized, prepared};
use crate::synthetic::{shapes, synthetic_inputs};
use quantize_ir::{Graph, QuantPlan, Tensor, ValueId};
use quantize_onnx::OnnxRecipe;
use quantize_parallel::Progress;
use quantize_passes::{Preparation, Selection, prepare};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Synthetic inputs that a plan is made from where no images are given.
const SYNTHETIC_IMAGES: u32 = 4;

/// What is timed, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchOptions {
    /// The fp32 model.
    pub model: PathBuf,
    /// Whether the plan of the default recipe is made and its simulation timed, in place of fp32.
    pub int8: bool,
    /// Images to make the plan from, the first of which is the input that is timed; without them, both are synthetic.
    pub data: Option<DataOptions>,
    /// Width and height of synthetic images, for models that leave them open.
    pub size: Option<(usize, usize)>,
    /// Threads, each of which runs the whole network; 0 for one for each core.
    pub threads: usize,
    /// How often each thread runs the network; at least once.
    pub rounds: usize,
    /// Whether the time of each step is measured too, in runs of its own.
    pub per_layer: bool,
}

/// A model ready to be run again and again.
#[derive(Debug)]
pub struct BenchModel {
    pub(crate) path: PathBuf,
    /// The graph after folding.
    pub(crate) graph: Graph,
    /// Values whose statistics make a plan.
    pub(crate) observed: BTreeSet<ValueId>,
    pub(crate) plan: Option<QuantPlan>,
    pub(crate) fed: Vec<(ValueId, Tensor)>,
}

impl BenchModel {
    /// Opens an ONNX model, folds batch normalization as for quantization, and makes the input and, if asked for, the
    /// plan.
    ///
    /// # Errors
    /// If the model or the images cannot be read or used, the size of an input is not known, or nothing can be
    /// quantized although that was asked for.
    pub fn open(options: &BenchOptions, progress: &dyn Progress) -> Result<Self, Error> {
        let model = Model::open_onnx(&options.model)?;
        match &options.data {
            Some(data) => Self::with_images(&model, data, options, progress),
            None => Self::synthetic(&model, options),
        }
    }

    /// The inputs, in the model's order.
    pub fn inputs(&self) -> impl Iterator<Item = &Tensor> {
        self.fed.iter().map(|(_, tensor)| tensor)
    }

    /// Images that one run computes: the first extent of the first input.
    pub fn batch(&self) -> usize {
        self.inputs().next().and_then(|input| input.shape().first()).map_or(1, |batch| (*batch).max(1))
    }

    /// One way of running the model.
    ///
    /// # Errors
    /// If an operator is not known, or there is no plan to simulate.
    pub fn workload(&self, work: Work) -> Result<Workload<'_>, Error> {
        Workload::new(self, work)
    }

    fn with_images(
        model: &Model,
        data: &DataOptions,
        options: &BenchOptions,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let recipe = RecipeOptions::default();
        let threads = thread_count(options.threads);
        let job = Job {
            model,
            recipe: &OnnxRecipe::default(),
            runtime: &Simulated,
            options: &recipe,
            data: Some(data),
            labelled: None,
            threads,
        };
        let ready = match prepared(&job)? {
            Prepared::Ready(ready) => ready,
            Prepared::Untouched(untouched) => return Err(nothing_quantized(model, &untouched.graph, &untouched.plan)),
        };
        let samples = ready.samples(&job)?;
        let fed = samples.feed(0)?;
        let (graph, observed) = (ready.graph.clone(), ready.selection.observed().collect());
        let plan = options.int8.then(|| calibrated(&job, *ready, samples, progress)).transpose()?;
        let plan = plan.map(|settled| settled.plan);
        Ok(Self { path: model.path().to_owned(), graph, observed, plan, fed })
    }

    fn synthetic(model: &Model, options: &BenchOptions) -> Result<Self, Error> {
        let path = model.path();
        let broken = |source| Error::pass(path, source);
        let folded = constants_folded(model)?;
        let Preparation { graph, selection, .. } =
            prepare(folded, &OnnxRecipe::default(), &BTreeSet::new()).map_err(broken)?;
        let shapes = shapes(&graph, path, options.size)?;
        let plan = options.int8.then(|| synthetic_plan(model, &graph, &selection, &shapes)).transpose()?;
        let (observed, fed) = (selection.observed().collect(), synthetic_inputs(&graph, &shapes, path, 0)?);
        Ok(Self { path: path.to_owned(), graph, observed, plan, fed })
    }
}

/// The plan of the default recipe, from synthetic inputs.
fn synthetic_plan(
    model: &Model,
    graph: &Graph,
    selection: &Selection,
    shapes: &[(ValueId, Vec<usize>)],
) -> Result<QuantPlan, Error> {
    let path = model.path();
    let observed: BTreeSet<ValueId> = selection.observed().collect();
    let program = observing(graph, path, &observed)?;
    let mut collector = Collector::new(graph, path, &program, &observed);
    for image in 0..SYNTHETIC_IMAGES {
        collector.see(u64::from(image), &synthetic_inputs(graph, shapes, path, image)?)?;
    }
    let statistics = collector.into_statistics();
    let parameters = Parameters::Found { statistics: &statistics, bounds: &BTreeMap::new() };
    let plan = make_plan(graph, path, selection, parameters, &OnnxRecipe::default(), &RecipeOptions::default())?.plan;
    let quantizes = graph.nodes().any(|(id, _)| selection.quantizes(id));
    if quantizes { Ok(plan) } else { Err(nothing_quantized(model, graph, &plan)) }
}
