//! A model ready to be timed: prepared as for quantization, with an input and, if wanted, a plan.

use super::workload::{Work, Workload};
use crate::calibrate::{Collector, observing};
use crate::error::Error;
use crate::model::Model;
use crate::options::{DataOptions, RecipeOptions, thread_count};
use crate::planning::make_plan;
use crate::progress::Progress;
use crate::settle::{Job, Prepared, Ready, constants_folded, nothing_quantized, planned, prepared};
use quantize_ir::{DType, Graph, QuantPlan, Tensor, ValueId};
use quantize_onnx::OnnxRecipe;
use quantize_passes::{Preparation, Selection, prepare};
use rand_mt::Mt;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
        let job = Job { model, recipe: &OnnxRecipe::default(), options: &recipe, data: Some(data), threads };
        let ready = match prepared(&job)? {
            Prepared::Ready(ready) => ready,
            Prepared::Untouched(untouched) => return Err(nothing_quantized(model, &untouched.graph, &untouched.plan)),
        };
        let fed = vec![(ready.data.input(), ready.data.sample(0)?)];
        let (graph, observed) = (ready.graph.clone(), ready.selection.observed().collect());
        let plan = options.int8.then(|| plan_of(&job, ready, progress)).transpose()?;
        Ok(Self { path: model.path().to_owned(), graph, observed, plan, fed })
    }

    fn synthetic(model: &Model, options: &BenchOptions) -> Result<Self, Error> {
        let path = model.path();
        let broken = |source| Error::pass(path, source);
        let folded = constants_folded(model)?;
        let Preparation { graph, selection, .. } =
            prepare(&folded, &OnnxRecipe::default(), &BTreeSet::new()).map_err(broken)?;
        let shapes = shapes(&graph, path, options.size)?;
        let plan = options.int8.then(|| synthetic_plan(model, &graph, &selection, &shapes)).transpose()?;
        let (observed, fed) = (selection.observed().collect(), synthetic_inputs(&shapes, path, 0)?);
        Ok(Self { path: path.to_owned(), graph, observed, plan, fed })
    }
}

fn plan_of(job: &Job<'_>, ready: Ready, progress: &dyn Progress) -> Result<QuantPlan, Error> {
    Ok(planned(job, ready, progress)?.plan)
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
        collector.see(u64::from(image), &synthetic_inputs(shapes, path, image)?)?;
    }
    let statistics = collector.into_statistics();
    let plan =
        make_plan(graph, path, selection, &statistics, &OnnxRecipe::default(), &RecipeOptions::default(), None)?.plan;
    let quantizes = graph.nodes().any(|(id, _)| selection.quantizes(id));
    if quantizes { Ok(plan) } else { Err(nothing_quantized(model, graph, &plan)) }
}

/// Shape of each input. A first extent that is open is one image; height and width that are open are `size`.
fn shapes(graph: &Graph, model: &Path, size: Option<(usize, usize)>) -> Result<Vec<(ValueId, Vec<usize>)>, Error> {
    let shape = |value: &ValueId| Ok((*value, shape(graph, model, *value, size)?));
    graph.inputs().iter().map(shape).collect()
}

fn shape(graph: &Graph, model: &Path, value: ValueId, size: Option<(usize, usize)>) -> Result<Vec<usize>, Error> {
    let declared = graph.value(value);
    let name = &declared.name;
    let refuse = |cause: String, cure: &str| Error::Synthetic { model: model.to_owned(), cause, cure: cure.to_owned() };
    if declared.dtype.is_some_and(|dtype| dtype != DType::F32) {
        return Err(refuse(format!("input `{name}` is not float32"), "only float32 inputs can be made up"));
    }
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

/// Numbers between -1 and 1, the same for every run.
fn synthetic_inputs(
    shapes: &[(ValueId, Vec<usize>)],
    model: &Path,
    seed: u32,
) -> Result<Vec<(ValueId, Tensor)>, Error> {
    let mut random = Mt::new(seed);
    let mut input = |(value, shape): &(ValueId, Vec<usize>)| {
        let too_large = |source: quantize_ir::TensorError| Error::graph(model, source.into());
        let count = quantize_ir::tensor::element_count(shape).map_err(too_large)?;
        let data: Vec<f32> = (0..count).map(|_| (random.next_u32() >> 8) as f32 / (1u32 << 23) as f32 - 1.0).collect();
        Ok((*value, Tensor::new(shape.clone(), data).map_err(too_large)?))
    };
    shapes.iter().map(&mut input).collect()
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
        let draw = |seed| synthetic_inputs(&shapes, Path::new("m.onnx"), seed).unwrap();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(3)[0].1.as_slice::<f32>().unwrap().iter().all(|x| (-1.0..1.0).contains(x)));
    }
}
