//! The walk: every layer in turn, with all samples at once, in both branches.
//!
//! At each layer the quantized branch holds what the runtime will hold there, because all layers before it are final.
//! The layer gets its codes, then its gain, then its bias, each measured with what came before; then both branches go
//! on to the next layer. Samples join as soon as what lies between two layers is small enough for all of them, so that
//! memory is bounded whatever their number and size.

use crate::assembled::bias_plan;
use crate::columns::{Geometry, fits};
use crate::correction::{GainRule, gains, shifts};
use crate::error::OptimizeError;
use crate::layer::{BIAS, Bias, Layer, WEIGHT, set_bias};
use crate::live::{Held, Image, element_bytes};
use crate::moments::Moments;
use crate::rounding::{Task, round};
use crate::route::{Stage, stages};
use quantize_exec::{Program, Session, View};
use quantize_ir::quant::storage;
use quantize_ir::{ActivationPlan, DType, Graph, QuantParams, QuantPlan, Tensor, ValueId, WeightPlan};
use quantize_numerics::ChannelLayout;
use quantize_numerics::measure::sqnr_db;
use quantize_numerics::weights::{MAX_BIAS_CODE, dequantize_weights};
use quantize_parallel::{Progress, Silent, for_each};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that all samples together may hold between two layers.
const LIVE_BYTES: u64 = 96 << 20;

/// Samples that are walked with even where they do not fit.
const FEWEST_IMAGES: usize = 4;

/// Samples for a walk, each fed on its own.
pub trait Samples: Sync {
    /// What goes wrong.
    type Error: Send;

    /// Number of samples.
    fn count(&self) -> usize;

    /// The values to feed for one of them.
    ///
    /// # Errors
    /// If the sample cannot be read.
    fn sample(&self, index: usize) -> Result<Vec<(ValueId, Tensor)>, Self::Error>;

    /// How the caller says that the walk failed.
    fn failed(&self, error: OptimizeError) -> Self::Error;
}

/// What a walk does at each layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Codes that keep the layer's result.
    pub rounding: bool,
    /// Gains on weight scales.
    pub gain: bool,
    /// Shifts of biases.
    pub bias: bool,
}

/// What layers are measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerInputs {
    /// What the layers before make of the samples on integers, so that errors of all of them are answered.
    Rounded,
    /// What they make of them in fp32: only errors of the layer's own weights are answered, which few samples show.
    Real,
}

/// How a walk is done.
#[derive(Clone, Copy, Debug)]
pub struct WalkOptions {
    /// What it does.
    pub steps: Steps,
    /// What a layer's result is measured on.
    pub inputs: LayerInputs,
    /// Whether biases are 32-bit codes in the plan.
    pub coded_bias: bool,
    /// Threads, at least 1.
    pub threads: usize,
}

/// What a walk did to one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerChange {
    /// The layer's node, as messages name it.
    pub node: String,
    /// Samples it was measured with.
    pub images: usize,
    /// Weights whose code is not the nearest.
    pub codes: usize,
    /// Slope of the quantized result over the fp32 one, before the gain.
    pub slope: f64,
    /// Smallest and largest gain.
    pub gains: (f64, f64),
    /// Signal to noise of the result before gain and shift, in dB; infinite if there is no noise.
    pub before_db: f64,
    /// The same after them.
    pub after_db: f64,
}

/// A graph and a plan after a walk.
#[derive(Clone, Debug)]
pub struct Walked {
    /// The graph, with biases as they are now.
    pub graph: Graph,
    /// The plan, with codes and scales as they are now.
    pub plan: QuantPlan,
    /// What happened to each layer, in the order of the walk.
    pub changes: Vec<LayerChange>,
}

/// Walks through the layers of `graph` that `plan` quantizes and that `targets` depend on, and answers what rounding
/// does there. The same for any number of threads.
///
/// # Errors
/// If the network cannot be run, or a sample cannot be read.
pub fn walk<S: Samples>(
    graph: &Graph,
    plan: &QuantPlan,
    targets: &[ValueId],
    samples: &S,
    options: &WalkOptions,
    progress: &dyn Progress,
) -> Result<Walked, S::Error> {
    let fail = |e: OptimizeError| samples.failed(e);
    let stages = stages(graph, plan, targets).map_err(fail)?;
    let walked = Walked { graph: graph.clone(), plan: plan.clone(), changes: Vec::new() };
    if stages.is_empty() || samples.count() == 0 {
        return Ok(walked);
    }
    let mut walker = Walker { reference: graph, samples, options, walked, images: Vec::new(), room: Vec::new() };
    walker.room = walker.measure_room(&stages)?;
    progress.begin("correcting", stages.len());
    for (index, stage) in stages.iter().enumerate() {
        walker.admit(index, stage)?;
        walker.pass(stage)?;
        progress.step();
    }
    progress.end();
    Ok(walker.walked)
}

struct Walker<'a, S> {
    /// The graph that the fp32 branch runs.
    reference: &'a Graph,
    samples: &'a S,
    options: &'a WalkOptions,
    walked: Walked,
    images: Vec<Mutex<Image>>,
    /// Samples that fit at each stage.
    room: Vec<usize>,
}

impl<S: Samples> Walker<'_, S> {
    fn fail(&self, error: impl Into<OptimizeError>) -> S::Error {
        self.samples.failed(error.into())
    }

    /// How many samples fit at each stage, by the sizes that the first one's values have.
    fn measure_room(&self, stages: &[Stage]) -> Result<Vec<usize>, S::Error> {
        let values: BTreeSet<ValueId> = stages.iter().flat_map(|s| s.before.iter().chain(&s.after)).copied().collect();
        let values: Vec<ValueId> = values.into_iter().collect();
        let program = Program::observe(self.reference, &values).map_err(|e| self.fail(e))?;
        let mut sizes: BTreeMap<ValueId, u64> = BTreeMap::new();
        let mut observer = |value: ValueId, seen: &View<'_>| {
            sizes.insert(value, seen.dims().iter().map(|d| *d as u64).product());
        };
        Session::new(&program).run(&self.samples.sample(0)?, &mut observer).map_err(|e| self.fail(e))?;
        let bytes = |values: &[ValueId]| {
            let each = values.iter().map(|v| {
                let (size, (real, rounded)) =
                    (sizes.get(v).copied().unwrap_or(0), element_bytes(*v, &self.walked.plan));
                (size * real, size * rounded)
            });
            each.fold((0, 0), |sum, bytes| (sum.0 + bytes.0, sum.1 + bytes.1))
        };
        let fit = |stage: &Stage| {
            let (before, after) = (bytes(&stage.before), bytes(&stage.after));
            let image = before.0.max(after.0) + before.1 + after.1;
            let fit = usize::try_from(LIVE_BYTES / image.max(1)).unwrap_or(usize::MAX);
            fit.max(FEWEST_IMAGES).min(self.samples.count())
        };
        Ok(stages.iter().map(fit).collect())
    }

    /// Lets go of samples that do not fit, and takes in those that do.
    fn admit(&mut self, index: usize, stage: &Stage) -> Result<(), S::Error> {
        let (room, present) = (self.room[index], self.images.len());
        self.images.truncate(room);
        // A few more are not worth running the network up to here.
        let worth = room == self.samples.count() || room >= 2 * present;
        if room <= present || !worth {
            return Ok(());
        }
        let reference = Program::compile(self.reference, &stage.before).map_err(|e| self.fail(e))?;
        let plan = &self.walked.plan;
        let quantized = Program::simulate(&self.walked.graph, &stage.before, plan).map_err(|e| self.fail(e))?;
        let init = || (Session::new(&reference), Session::new(&quantized), Vec::new());
        let joined = for_each(room - present, self.options.threads, &Silent, init, |(real, rounded, joined), at| {
            let fed = self.samples.sample(present + at)?;
            let mut image = Image::default();
            let values = real.run(&fed, &mut ()).map_err(|e| self.fail(e))?;
            image.advance_reals(&stage.before, values, &stage.before);
            let values = rounded.run(&fed, &mut ()).map_err(|e| self.fail(e))?;
            image.advance_rounded(&stage.before, values, &stage.before, plan);
            joined.push((at, image));
            Ok(())
        })?;
        let mut joined: Vec<_> = joined.into_iter().flat_map(|(_, _, joined)| joined).collect();
        joined.sort_by_key(|(at, _)| *at);
        self.images.extend(joined.into_iter().map(|(_, image)| Mutex::new(image)));
        Ok(())
    }

    fn pass(&mut self, stage: &Stage) -> Result<(), S::Error> {
        let computed: Vec<ValueId> = stage.after.iter().copied().filter(|v| !stage.before.contains(v)).collect();
        match &stage.layer {
            None => {
                self.advance_reals(stage, &computed, None)?;
            }
            Some(layer) => {
                let codes = if self.options.steps.rounding { self.round(layer)? } else { 0 };
                let images = self.advance_reals(stage, &computed, Some(layer))?;
                let change = self.correct(layer, codes, &images).map_err(|e| self.fail(e))?;
                self.walked.changes.push(change);
            }
        }
        self.advance_rounded(stage, &computed)
    }

    /// Gives a layer codes that keep its result; the number of those that are not the nearest.
    fn round(&mut self, layer: &Layer) -> Result<usize, S::Error> {
        let weight = self.reference.constant(layer.weight).map_err(|e| self.fail(e))?;
        let key = (layer.node, WEIGHT);
        let (Some(weight), Some(entry)) = (weight, self.walked.plan.weights.get(&key)) else { return Ok(0) };
        let Some(geometry) = Geometry::of(&layer.op, weight.shape()).filter(|g| fits(g, &weight)) else { return Ok(0) };
        let Some(layout) = scale_layout(&entry.params, weight.shape()) else { return Ok(0) };
        let values = weight.as_slice::<f32>().map_err(|e| self.fail(e))?;
        let scales = entry.params.scale();
        let scale_of = |index: usize| scales[index / layout.inner % layout.channels];
        let (qtype, threads) = (entry.params.qtype(), self.options.threads);
        let task = Task { geometry: &geometry, weights: values, scale_of: &scale_of, qtype, threads };
        let images: Vec<&Image> =
            self.images.iter_mut().map(|i| &*i.get_mut().unwrap_or_else(PoisonError::into_inner)).collect();
        let inputs: Vec<&Held> = images.iter().filter_map(|image| image.rounded(layer.input)).collect();
        let Some(codes) = round(layer, &task, &inputs) else { return Ok(0) };
        let back = dequantize_weights(&codes, layout, scales)
            .map_err(|e| self.fail(OptimizeError::numbers(&layer.label)(e)))?;
        let sqnr_db = sqnr_db(values, &back).map_err(|e| self.fail(OptimizeError::numbers(&layer.label)(e)))?;
        let stored = stored(weight.shape(), &codes, storage(qtype)).map_err(|e| self.fail(e))?;
        let changed = differences(&entry.codes, &stored);
        let entry = WeightPlan { params: entry.params.clone(), codes: Arc::new(stored), sqnr_db };
        self.walked.plan.weights.insert(key, entry);
        Ok(changed)
    }

    /// Takes the fp32 branch through a stage; the moments of the layer's result in both branches, for each sample.
    fn advance_reals(
        &self,
        stage: &Stage,
        computed: &[ValueId],
        layer: Option<&Layer>,
    ) -> Result<Vec<Moments>, S::Error> {
        let mut targets = computed.to_vec();
        targets.extend(layer.map(|l| l.result).filter(|v| !computed.contains(v)));
        let segment = Program::segment(self.reference, &stage.before, &targets, &QuantPlan::default());
        let segment = segment.map_err(|e| self.fail(e))?;
        let probe = layer.map(|layer| self.probe(layer)).transpose().map_err(|e| self.fail(e))?;
        let init = || (Session::new(&segment), probe.as_ref().map(Session::new), Vec::new());
        let work = |real: &mut Session<'_>, probe: Option<&mut Session<'_>>, index: usize| {
            let mut image = self.images[index].lock().unwrap_or_else(PoisonError::into_inner);
            let values = real.run(&image.reals, &mut ())?;
            let moments = match (layer, probe) {
                (Some(layer), Some(probe)) => {
                    let found = match self.options.inputs {
                        LayerInputs::Rounded => probe.run(&image.fed(&[layer.input])?, &mut ())?,
                        LayerInputs::Real => probe.run(&image.reals, &mut ())?,
                    };
                    let at = targets.iter().position(|v| *v == layer.result).unwrap_or_default();
                    let moments = moments(layer, &values[at], &found[0])?;
                    probe.recycle(found);
                    moments
                }
                _ => Moments::default(),
            };
            image.advance_reals(&targets, values, &stage.after);
            Ok::<_, OptimizeError>(moments)
        };
        let found = for_each(self.images.len(), self.options.threads, &Silent, init, |(real, probe, found), index| {
            found.push((index, work(real, probe.as_mut(), index).map_err(|e| self.fail(e))?));
            Ok(())
        })?;
        let mut found: Vec<_> = found.into_iter().flat_map(|(_, _, found)| found).collect();
        found.sort_by_key(|(index, _)| *index);
        Ok(found.into_iter().map(|(_, moments)| moments).collect())
    }

    /// The layer alone, as the plan computes it, with its result before it is rounded.
    fn probe(&self, layer: &Layer) -> Result<Program, OptimizeError> {
        let Walked { graph, plan, .. } = &self.walked;
        let entry = |value: ValueId| Some((value, plan.activations.get(&value)?.clone()));
        let rounded = (self.options.inputs == LayerInputs::Rounded).then(|| entry(layer.input)).flatten();
        let activations: BTreeMap<ValueId, ActivationPlan> = rounded.into_iter().collect();
        let weights = plan.weights.range((layer.node, 0)..=(layer.node, usize::MAX));
        let weights = weights.map(|(key, entry)| (*key, entry.clone())).collect();
        let plan = QuantPlan { activations, weights, ..QuantPlan::default() };
        Ok(Program::segment(graph, &[layer.input], &[layer.result], &plan)?)
    }

    /// Gives a layer its gains and its biases.
    fn correct(&mut self, layer: &Layer, codes: usize, images: &[Moments]) -> Result<LayerChange, OptimizeError> {
        let total = Moments::total(images);
        let entry = self.walked.plan.weights.get(&(layer.node, WEIGHT));
        let params = entry
            .map(|entry| entry.params.clone())
            .ok_or_else(|| OptimizeError::layer(&layer.label, "it has no codes"))?;
        let rule = self.gain_rule(layer, &params);
        let biases = self.biases(layer)?;
        let mut gains = gains(&total, rule);
        let mut shifts = match layer.bias {
            Bias::Absent | Bias::Given(_) if self.options.steps.bias => shifts(images, &total, &gains, &biases),
            _ => vec![0.0; layer.channels],
        };
        let scale = self.input_scale(layer);
        self.keep_representable(&params, scale, &biases, &mut gains, &mut shifts);
        self.apply(layer, &params, scale, &biases, &gains, &shifts)?;
        let decibel = |noise: f64| 10.0 * (total.0.iter().map(|p| p.signal()).sum::<f64>() / noise).log10();
        let noise = |of: &dyn Fn(usize) -> (f64, f64)| {
            total.0.iter().enumerate().map(|(c, p)| p.noise(of(c).0, biases[c], of(c).1)).sum::<f64>()
        };
        let (spread, shared) = total.0.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.spread(), sum.1 + p.shared()));
        Ok(LayerChange {
            node: layer.label.clone(),
            images: images.len(),
            codes,
            slope: if spread > 0.0 { shared / spread } else { 1.0 },
            gains: gains.iter().fold((f64::INFINITY, 0.0), |(lo, hi), g| (g.min(lo), g.max(hi))),
            before_db: decibel(noise(&|_| (1.0, 0.0))),
            after_db: decibel(noise(&|c| (gains[c], shifts[c]))),
        })
    }

    /// Where a function that bends follows, moments are those of values that are cut off anyway. The last layer has few
    /// positions for each channel; and a scale for the whole tensor cannot turn single channels.
    fn gain_rule(&self, layer: &Layer, params: &QuantParams) -> GainRule {
        match (self.options.steps.gain, layer.bent, params.axis()) {
            (false, ..) | (_, true, _) => GainRule::None,
            (true, false, Some(_)) => GainRule::PerChannel,
            (true, false, None) if self.options.steps.rounding => GainRule::Pooled,
            (true, false, None) => GainRule::None,
        }
    }

    fn biases(&self, layer: &Layer) -> Result<Vec<f64>, OptimizeError> {
        let Bias::Given(value) = layer.bias else { return Ok(vec![0.0; layer.channels]) };
        let Some(bias) = self.reference.constant(value)? else { return Ok(vec![0.0; layer.channels]) };
        Ok(bias.as_slice::<f32>()?.iter().map(|b| f64::from(*b)).collect())
    }

    fn input_scale(&self, layer: &Layer) -> Option<f32> {
        let entry = self.walked.plan.activations.get(&layer.input).filter(|_| self.options.coded_bias)?;
        entry.params.scale().first().copied()
    }

    /// Leaves channels as they were whose bias would need too large a code.
    fn keep_representable(
        &self,
        params: &QuantParams,
        input_scale: Option<f32>,
        biases: &[f64],
        gains: &mut [f64],
        shifts: &mut [f64],
    ) {
        let Some(input_scale) = input_scale else { return };
        let scales = params.scale();
        for (c, bias) in biases.iter().enumerate() {
            let scale = f64::from(scales[if scales.len() == 1 { 0 } else { c }]) * gains[c];
            let code = (bias + shifts[c]) / (f64::from(input_scale) * scale);
            if code.abs() >= f64::from(MAX_BIAS_CODE) || code.is_nan() {
                shifts[c] = 0.0;
                if scales.len() > 1 {
                    gains[c] = 1.0;
                }
            }
        }
    }

    fn apply(
        &mut self,
        layer: &Layer,
        params: &QuantParams,
        input_scale: Option<f32>,
        biases: &[f64],
        gains: &[f64],
        shifts: &[f64],
    ) -> Result<(), OptimizeError> {
        let gain_of = |c: usize| gains.get(c).copied().unwrap_or(1.0);
        let scales =
            params.scale().iter().enumerate().map(|(c, s)| (f64::from(*s) * gain_of(c)) as f32).collect::<Vec<_>>();
        let unfit = |e: quantize_ir::QuantError| OptimizeError::layer(&layer.label, e);
        let params = match params.axis() {
            Some(axis) => QuantParams::per_channel(params.qtype(), axis, scales).map_err(unfit)?,
            None => QuantParams::per_tensor(params.qtype(), scales[0], params.zero_point()[0]).map_err(unfit)?,
        };
        if let Some(entry) = self.walked.plan.weights.get_mut(&(layer.node, WEIGHT)) {
            entry.params = params.clone();
        }
        let bias: Vec<f32> = biases.iter().zip(shifts).map(|(b, d)| (b + d) as f32).collect();
        let moved = shifts.iter().any(|d| *d != 0.0);
        if moved {
            set_bias(&mut self.walked.graph, layer.node, bias.clone())?;
        }
        if let Some(scale) = input_scale.filter(|_| moved || matches!(layer.bias, Bias::Given(_))) {
            let entry =
                bias_plan(&Tensor::vector(bias), scale, &params).map_err(|e| OptimizeError::layer(&layer.label, e))?;
            self.walked.plan.weights.insert((layer.node, BIAS), entry);
        }
        Ok(())
    }

    /// Takes the quantized branch through a stage.
    fn advance_rounded(&self, stage: &Stage, computed: &[ValueId]) -> Result<(), S::Error> {
        let Walked { graph, plan, .. } = &self.walked;
        let segment = Program::segment(graph, &stage.before, computed, plan).map_err(|e| self.fail(e))?;
        let init = || Session::new(&segment);
        for_each(self.images.len(), self.options.threads, &Silent, init, |session, index| {
            let mut image = self.images[index].lock().unwrap_or_else(PoisonError::into_inner);
            let values = if computed.is_empty() {
                Vec::new()
            } else {
                let fed = image.fed(&stage.before).map_err(|e| self.fail(e))?;
                session.run(&fed, &mut ()).map_err(|e| self.fail(e))?
            };
            image.advance_rounded(computed, values, &stage.after, plan);
            Ok(())
        })?;
        Ok(())
    }
}

fn moments(layer: &Layer, real: &Tensor, rounded: &Tensor) -> Result<Moments, OptimizeError> {
    let found = Moments::of(real.as_slice()?, rounded.as_slice()?, real.shape(), layer.channel_axis);
    let unfit =
        || OptimizeError::layer(&layer.label, format!("a result of shape {:?} has not its channels", real.shape()));
    found.filter(|found| found.0.len() == layer.channels).ok_or_else(unfit)
}

/// How scales are spread over weights of `shape`.
fn scale_layout(params: &QuantParams, shape: &[usize]) -> Option<ChannelLayout> {
    let all: usize = shape.iter().product();
    match params.axis() {
        None => Some(ChannelLayout::new(1, all.max(1))),
        Some(axis) => {
            ChannelLayout::of_shape(shape, axis).filter(|l| l.channels == params.scale().len() && l.inner > 0)
        }
    }
}

fn stored(shape: &[usize], codes: &[i32], dtype: DType) -> Result<Tensor, quantize_ir::TensorError> {
    match dtype {
        DType::I16 => Tensor::new(shape, codes.iter().map(|q| *q as i16).collect::<Vec<_>>()),
        _ => Tensor::new(shape, codes.iter().map(|q| *q as i8).collect::<Vec<_>>()),
    }
}

fn differences(before: &Tensor, after: &Tensor) -> usize {
    fn count<T: quantize_ir::Element + PartialEq>(before: &Tensor, after: &Tensor) -> Option<usize> {
        let (before, after) = (before.as_slice::<T>().ok()?, after.as_slice::<T>().ok()?);
        Some(before.iter().zip(after).filter(|(b, a)| b != a).count())
    }
    count::<i8>(before, after).or_else(|| count::<i16>(before, after)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Net;
    use std::collections::BTreeMap;

    struct Given(Vec<(ValueId, Tensor)>);

    impl Samples for Given {
        type Error = OptimizeError;

        fn count(&self) -> usize {
            self.0.len()
        }

        fn sample(&self, index: usize) -> Result<Vec<(ValueId, Tensor)>, OptimizeError> {
            Ok(vec![self.0[index].clone()])
        }

        fn failed(&self, error: OptimizeError) -> OptimizeError {
            error
        }
    }

    const ALL: Steps = Steps { rounding: true, gain: true, bias: true };

    /// Two convolutions of a few channels with an activation between, and images of correlated channels.
    fn network() -> (Net, ValueId, Given) {
        let wave = |i: usize| ((i * 7919 % 997) as f32 / 997.0 - 0.45) * 2.0;
        let weights = |count: usize| (0..count).map(|i| wave(3 * i + 1)).collect::<Vec<f32>>();
        let mut net = Net::new();
        let x = net.input("x");
        let a = net.conv("first", x, &[6, 4, 1, 1], &weights(24), Some(&[0.1; 6]));
        let r = net.relu("relu", a);
        let b = net.conv("second", r, &[5, 6, 1, 1], &weights(30), None);
        let c = net.conv("third", b, &[3, 5, 1, 1], &weights(15), Some(&[0.0; 3]));
        net.outputs(&[c]);
        let image = |n: usize| {
            let pixel = |i: usize| wave(11 * (i % 900) + n) + 0.5 * wave(i / 900 + 5 * n);
            (x, Tensor::new([1, 4, 30, 30], (0..3600).map(pixel).collect::<Vec<f32>>()).unwrap())
        };
        (net, c, Given((0..12).map(image).collect()))
    }

    fn options(steps: Steps, threads: usize) -> WalkOptions {
        WalkOptions { steps, inputs: LayerInputs::Rounded, coded_bias: true, threads }
    }

    /// Mean square difference of the simulated result and the fp32 one.
    fn noise(net: &Net, result: ValueId, graph: &Graph, plan: &QuantPlan, samples: &Given) -> f64 {
        let fp32 = Program::compile(&net.graph, &[result]).unwrap();
        let quantized = Program::simulate(graph, &[result], plan).unwrap();
        let (mut sum, mut count) = (0.0, 0.0);
        for sample in &samples.0 {
            let fed = std::slice::from_ref(sample);
            let y = Session::new(&fp32).run(fed, &mut ()).unwrap();
            let q = Session::new(&quantized).run(fed, &mut ()).unwrap();
            for (y, q) in y[0].as_slice::<f32>().unwrap().iter().zip(q[0].as_slice::<f32>().unwrap()) {
                sum += f64::from(y - q).powi(2);
                count += 1.0;
            }
        }
        sum / count
    }

    #[test]
    fn a_coarse_network_gets_better_with_every_step() {
        let (net, result, samples) = network();
        // Scales eight times too large: weights of four bits.
        let plan = net.plan_within(8.0, 4.0);
        let mut before = noise(&net, result, &net.graph, &plan, &samples);
        let gain = Steps { rounding: false, ..ALL };
        for steps in [Steps { gain: false, ..gain }, gain, ALL] {
            let walked = walk(&net.graph, &plan, &[result], &samples, &options(steps, 1), &Silent).unwrap();
            let after = noise(&net, result, &walked.graph, &walked.plan, &samples);
            assert!(after < before, "{steps:?}: {after} after {before}");
            before = after;
        }
    }

    #[test]
    fn what_is_left_of_a_mean_is_chance() {
        let (net, result, samples) = network();
        let steps = Steps { rounding: false, ..ALL };
        let plan = net.plan_within(8.0, 4.0);
        let walked = walk(&net.graph, &plan, &[result], &samples, &options(steps, 1), &Silent).unwrap();
        let codes = walked.plan.weights.clone();
        let biases = |node| -> Vec<f64> {
            codes[&(node, BIAS)].params.scale().iter().map(|step| 0.5 * f64::from(*step)).collect()
        };
        let again = Steps { rounding: false, gain: false, bias: true };
        // Walking the corrected network against the original one finds no more than chance.
        let mut walker = Walker {
            reference: &net.graph,
            samples: &samples,
            options: &options(again, 1),
            walked: Walked { changes: Vec::new(), ..walked },
            images: Vec::new(),
            room: vec![samples.count(); 4],
        };
        for (index, stage) in stages(&net.graph, &plan, &[result]).unwrap().iter().enumerate() {
            walker.admit(index, stage).unwrap();
            let computed: Vec<ValueId> = stage.after.iter().copied().filter(|v| !stage.before.contains(v)).collect();
            let images = walker.advance_reals(stage, &computed, stage.layer.as_ref()).unwrap();
            for (c, pair) in Moments::total(&images).0.iter().enumerate() {
                let ((y, q), deviation) = (pair.means(), (pair.spread() / pair.count).sqrt());
                let chance = crate::correction::standard_error(images.iter().map(|image| {
                    let (y, q) = image.0[c].means();
                    y - q
                }));
                let left = (y - q).abs();
                let step = biases(stage.layer.as_ref().unwrap().node)[c];
                assert!(left <= chance + step + 1e-4 * deviation, "{:?}: {left} of {deviation}", stage.layer);
            }
            walker.advance_rounded(stage, &computed).unwrap();
        }
    }

    #[test]
    fn nothing_is_lost_so_nothing_is_changed() {
        let (net, result, samples) = network();
        let exact = |plan: QuantPlan| QuantPlan { activations: BTreeMap::new(), ..plan };
        // Weights that are multiples of their scales, and activations in fp32.
        let mut plan = exact(net.plan(1.0));
        let mut graph = net.graph.clone();
        for (&(node, slot), entry) in plan.weights.iter_mut().filter(|((_, slot), _)| *slot == WEIGHT) {
            let layout = scale_layout(&entry.params, entry.codes.shape()).unwrap();
            let codes: Vec<i32> = entry.codes.as_slice::<i8>().unwrap().iter().map(|q| i32::from(*q)).collect();
            let back = dequantize_weights(&codes, layout, entry.params.scale()).unwrap();
            let value = graph.node(node).unwrap().input(slot).unwrap();
            let tensor = Tensor::new(entry.codes.shape(), back).unwrap();
            graph.value_mut(value).constant = Some(quantize_ir::Constant::owned(tensor));
        }
        plan.weights.retain(|(_, slot), _| *slot == WEIGHT);
        let walked = walk(&graph, &plan, &[result], &samples, &options(ALL, 1), &Silent).unwrap();
        for change in &walked.changes {
            assert!(change.codes == 0 && change.before_db > 100.0, "{change:?}");
            assert!((change.gains.0 - 1.0).abs() < 1e-6 && (change.gains.1 - 1.0).abs() < 1e-6, "{change:?}");
        }
    }

    #[test]
    fn a_scale_that_is_wrong_is_put_right() {
        let (net, result, samples) = network();
        let mut plan = net.plan(1.0);
        let key = (net.id("second"), WEIGHT);
        let right = plan.weights[&key].params.scale().to_vec();
        let weak = right.iter().map(|s| 0.9 * s).collect();
        let entry = plan.weights.get_mut(&key).unwrap();
        entry.params = QuantParams::per_channel(entry.params.qtype(), 0, weak).unwrap();
        let steps = Steps { rounding: false, ..ALL };
        let walked = walk(&net.graph, &plan, &[result], &samples, &options(steps, 1), &Silent).unwrap();
        for (found, right) in walked.plan.weights[&key].params.scale().iter().zip(right) {
            assert!((found / right - 1.0).abs() < 2e-2, "{found} for {right}");
        }
    }

    #[test]
    fn threads_do_not_show() {
        let (net, result, samples) = network();
        let plan = net.plan_within(8.0, 4.0);
        let walked = |threads| {
            let walked = walk(&net.graph, &plan, &[result], &samples, &options(ALL, threads), &Silent).unwrap();
            (walked.plan, walked.changes)
        };
        let one = walked(1);
        assert_eq!(walked(2), one);
        assert_eq!(walked(7), one);
    }

    #[test]
    fn a_layer_without_a_bias_gets_one() {
        let (net, result, samples) = network();
        let steps = Steps { rounding: false, gain: false, bias: true };
        let plan = net.plan_within(8.0, 4.0);
        let walked = walk(&net.graph, &plan, &[result], &samples, &options(steps, 1), &Silent).unwrap();
        let node = walked.graph.node(net.id("second")).unwrap();
        assert!(node.input(BIAS).is_some() && walked.plan.weights.contains_key(&(net.id("second"), BIAS)));
        let (graph, plan_without) = walked.without(crate::Step::Bias, &net.graph, &plan).unwrap();
        assert!(graph.node(net.id("second")).unwrap().input(BIAS).is_none());
        assert_eq!(plan_without.weights, plan.weights);
    }
}
