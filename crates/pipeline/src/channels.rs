//! Scaling channels before anything is planned, where that makes the quantized model better.
//!
//! *Smoothing* scales what matrix products read (`quantize_numerics::smooth`): the model is calibrated and quantized to
//! the nearest codes with and without it, and samples judge. *Equalization* makes the channels of weights alike that have
//! one scale (`quantize_numerics::equalize`): since corrections of codes and biases answer much of the same, whole plans
//! with and without it are judged. The edits are those of `quantize_passes::scaled`.

use crate::accuracy::{Judges, Trial};
use crate::data::Data;
use crate::error::Error;
use crate::evidence::Evidence;
use crate::improve::{Split, WORTH_DB, spread};
use crate::memory::{constants_of, threads_for};
use crate::options::{Granularity, InputRange, Shard};
use crate::planning::{Parameters, Planned, make_plan};
use crate::settle::{Job, Ready, Settled, planned};
use crate::unknown::before_softmax;
use quantize_exec::{Program, Session};
use quantize_ir::{Graph, QuantPlan, Tensor, ValueId};
use quantize_numerics::smooth::{InputChannel, ProductGrids, ProductWeights, smoothing};
use quantize_parallel::{Progress, for_each};
use quantize_passes::equalize::equalized;
use quantize_passes::scaled::{Scaled, weight_of};
use quantize_passes::smooth::{Candidate, candidates, input_layout};
use std::collections::BTreeMap;

/// Samples whose channels are looked at: enough to see which of them are large.
const SURVEYED_SAMPLES: usize = 32;

/// Values of which less is expected than this, in dB of the noise of what reads them, are left alone.
const EXPECTED_DB: f64 = 1.0;

/// The operand slot of a product's weight.
const WEIGHT: usize = 1;

/// What is scaled, and what came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScaledChannels {
    /// In the order in which it is applied.
    pub(crate) scaled: Vec<Scaled>,
    /// What smoothing is worth, if there was something to smooth.
    pub(crate) smoothing: Option<ScalingWorth>,
    /// What equalization is worth, if there was something to equalize.
    pub(crate) equalization: Option<ScalingWorth>,
}

/// What scaling channels is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingWorth {
    /// Layers whose input is scaled.
    pub layers: usize,
    /// Samples that judged.
    pub judges: usize,
    /// Whether they were held back.
    pub held_back: bool,
    /// Signal to noise without it, in dB, as [`crate::OutputAccuracy::sqnr_db`].
    pub before_db: f64,
    /// The same with it.
    pub after_db: f64,
    /// Whether the model was better with it.
    pub kept: bool,
}

/// A model to plan for, and what its plan is made from.
pub(crate) type Draft = (Ready, Evidence);

/// Calibrates the model as it is; and, if channels of values are uneven enough, scaled. The better one is taken.
pub(crate) fn drafted(
    job: &Job<'_>,
    ready: Ready,
    data: &Data,
    split: &Split,
    progress: &dyn Progress,
) -> Result<Draft, Error> {
    let workshop = Workshop { job, data, split, progress };
    let evidence = workshop.gather(&ready)?;
    let scaled = if job.options.smooth { workshop.proposed(&ready)? } else { Vec::new() };
    if scaled.is_empty() {
        return Ok((ready, evidence));
    }
    let other = ready.scaled(job, scaled)?;
    let other_evidence = workshop.gather(&other)?;
    let worth = workshop.judged((&ready, &evidence), (&other, &other_evidence))?;
    let (mut ready, evidence) = if worth.kept { (other, other_evidence) } else { (ready, evidence) };
    ready.channels.smoothing = Some(worth);
    Ok((ready, evidence))
}

/// The plan of a draft; or of the same with equalized weights, if these have one scale each and the model is better.
pub(crate) fn contested(
    job: &Job<'_>,
    (ready, evidence): Draft,
    data: Data,
    split: &Split,
    progress: &dyn Progress,
) -> Result<Settled, Error> {
    let wanted = job.options.equalize && job.options.weights == Granularity::PerTensor;
    let failed = |source| Error::graph(job.model.path(), source);
    let scaled =
        if wanted { equalized(&ready.graph, &ready.selection, &ready.skip).map_err(failed)? } else { Vec::new() };
    if scaled.is_empty() {
        return planned(job, ready, evidence, Some(data), progress);
    }
    let layers = scaled.len();
    let other = ready.scaled(job, scaled)?;
    let workshop = Workshop { job, data: &data, split, progress };
    let other_evidence = workshop.gather(&other)?;
    let nearest = match job.options.correction.is_none() {
        true => Some(workshop.judged((&ready, &evidence), (&other, &other_evidence))?),
        false => None,
    };
    let mut plain = planned(job, ready, evidence, Some(data), progress)?;
    let mut equal = planned(job, other, other_evidence, plain.data.take(), progress)?;
    let worth = nearest.or_else(|| {
        let (before, after) = (plain.improvement.as_ref()?, equal.improvement.as_ref()?);
        let (before_db, after_db) = (before.after_db, after.after_db);
        let (judges, held_back) = (after.judges, after.held_back);
        Some(ScalingWorth { layers, judges, held_back, before_db, after_db, kept: after_db > before_db + WORTH_DB })
    });
    let kept = worth.as_ref().is_some_and(|worth| worth.kept);
    let mut settled = match kept {
        true => equal,
        false => {
            plain.data = equal.data.take();
            plain
        }
    };
    settled.channels.equalization = worth.map(|worth| ScalingWorth { layers, ..worth });
    Ok(settled)
}

struct Workshop<'a> {
    job: &'a Job<'a>,
    data: &'a Data,
    split: &'a Split,
    progress: &'a dyn Progress,
}

impl Workshop<'_> {
    fn gather(&self, ready: &Ready) -> Result<Evidence, Error> {
        let Job { model, threads, .. } = *self.job;
        let observed = ready.observed(self.job);
        let (split, whole) = (self.split, Shard::WHOLE);
        Evidence::gather(&ready.graph, model.path(), &observed, self.data, split, whole, threads, self.progress)
    }

    /// The values that are worth scaling, with their factors.
    fn proposed(&self, ready: &Ready) -> Result<Vec<Scaled>, Error> {
        let found = candidates(&ready.graph, &ready.selection, self.job.recipe, &ready.skip);
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let channels = self.surveyed(&ready.graph, &found)?;
        let mut scaled = Vec::new();
        for candidate in found {
            let Some(channels) = channels.get(&candidate.value) else { continue };
            if let Some(factors) = self.factors(&ready.graph, &candidate, channels)? {
                let Candidate { value, readers, into, .. } = candidate;
                scaled.push(Scaled { value, factors, readers, into });
            }
        }
        Ok(scaled)
    }

    /// The factors for a value, if they are expected to gain something.
    fn factors(
        &self,
        graph: &Graph,
        candidate: &Candidate,
        channels: &[InputChannel],
    ) -> Result<Option<Vec<f32>>, Error> {
        let failed = |source| Error::graph(self.job.model.path(), source);
        let mut weights = Vec::new();
        for id in &candidate.readers {
            let weight = weight_of(graph, *id).map_err(failed)?;
            weights.extend(weight.zip(input_layout(graph, *id)));
        }
        let products = weights
            .iter()
            .filter_map(|(tensor, inputs)| Some(ProductWeights { values: tensor_values(tensor)?, inputs: *inputs }));
        let products: Vec<ProductWeights<'_>> = products.collect();
        if products.len() < candidate.readers.len() {
            return Ok(None);
        }
        let grids = self.job.recipe.grids();
        let own_axis = |id| self.job.recipe.channel_axis(graph, id, WEIGHT).is_some();
        let grids = ProductGrids {
            steps: grids.activation.qmax().abs_diff(grids.activation.qmin()),
            symmetric: grids.symmetric,
            per_output: self.job.options.weights == Granularity::PerChannel
                && candidate.readers.iter().all(|id| own_axis(*id)),
        };
        let found = smoothing(channels, &products, grids).filter(|found| found.gain_db >= EXPECTED_DB);
        Ok(found.map(|found| found.factors))
    }

    /// What the channels of candidates hold, over some of the samples that are calibrated with.
    fn surveyed(&self, graph: &Graph, candidates: &[Candidate]) -> Result<BTreeMap<ValueId, Vec<InputChannel>>, Error> {
        let failed = |source| Error::exec(self.job.model.path(), source);
        let values: Vec<ValueId> = candidates.iter().map(|c| c.value).collect();
        let program =
            Program::compile_with(graph, &values, &QuantPlan::default(), constants_of(graph)).map_err(failed)?;
        let calibrated = &self.split.calibrated;
        let runs = SURVEYED_SAMPLES.div_ceil(self.data.batch());
        let runs: Vec<usize> = spread(calibrated.len(), runs).into_iter().map(|i| calibrated[i]).collect();
        let threads = threads_for(&[&program], self.job.threads);
        self.progress.begin("comparing channels", runs.len());
        let init = || (Session::new(&program), Vec::new());
        let seen = for_each(runs.len(), threads, self.progress, init, |(session, seen), at| {
            let results = session.run(&self.data.feed(runs[at])?, &mut ()).map_err(failed)?;
            let sums = results.iter().zip(candidates).map(|(tensor, c)| ChannelSums::of(tensor, c.channels));
            seen.push((at, sums.collect::<Vec<_>>()));
            Ok::<(), Error>(())
        })?;
        self.progress.end();
        // Sums of reals depend on their order, so it is that of the samples.
        let mut seen: Vec<(usize, Vec<ChannelSums>)> = seen.into_iter().flat_map(|(_, seen)| seen).collect();
        seen.sort_by_key(|(at, _)| *at);
        let together = |(at, candidate): (usize, &Candidate)| {
            let mut sums = ChannelSums::none(candidate.channels);
            seen.iter().for_each(|(_, each)| sums.add(&each[at]));
            (candidate.value, sums.channels())
        };
        Ok(candidates.iter().enumerate().map(together).collect())
    }

    /// What samples say of the model as it is and scaled.
    fn judged(
        &self,
        (plain, plain_evidence): (&Ready, &Evidence),
        (scaled, scaled_evidence): (&Ready, &Evidence),
    ) -> Result<ScalingWorth, Error> {
        let Job { model, threads, .. } = *self.job;
        let plans = [self.nearest(plain, plain_evidence)?, self.nearest(scaled, scaled_evidence)?];
        let judges = self.split.judges().unwrap_or_else(|| Judges::first_of(self.data));
        let targets = before_softmax(&plain.graph, &plain.targets);
        let quantized = [(&plain.graph, &plans[0]), (&scaled.graph, &plans[1])];
        let trial = Trial {
            reference: &plain.graph,
            model: model.path(),
            targets: &targets,
            data: self.data,
            judges: &judges,
            threads,
            progress: self.progress,
        };
        let found = self.job.runtime.accuracy(&trial, &quantized)?;
        let score = |at: usize| found.get(at).and_then(|a| a.outputs.first()).map_or(0.0, |output| output.sqnr_db);
        Ok(ScalingWorth {
            layers: scaled.channels.scaled.iter().map(|s| s.readers.len()).sum(),
            judges: judges.samples(self.data),
            held_back: judges.held_back,
            before_db: score(0),
            after_db: score(1),
            kept: score(1) > score(0) + WORTH_DB,
        })
    }

    /// The plan with the nearest codes.
    fn nearest(&self, ready: &Ready, evidence: &Evidence) -> Result<QuantPlan, Error> {
        let Job { model, recipe, options, .. } = *self.job;
        let unbounded = BTreeMap::new();
        let bounds = if options.input == InputRange::Possible { &evidence.bounds } else { &unbounded };
        let parameters = Parameters::Found { statistics: &evidence.statistics, bounds };
        let Planned { plan, .. } =
            make_plan(&ready.graph, model.path(), &ready.selection, parameters, recipe, options)?;
        Ok(plan)
    }
}

fn tensor_values(tensor: &Tensor) -> Option<&[f32]> {
    tensor.as_slice::<f32>().ok()
}

/// Sums over the finite values of each channel.
#[derive(Clone, Debug, PartialEq)]
struct ChannelSums {
    each: Vec<InputChannel>,
    counts: Vec<u64>,
}

impl ChannelSums {
    /// Sums of nothing.
    fn none(channels: usize) -> Self {
        let nothing = InputChannel { lo: 0.0, hi: 0.0, mean_square: 0.0 };
        Self { each: vec![nothing; channels], counts: vec![0; channels] }
    }

    /// Sums of a tensor whose last axis are the channels; of nothing, if it has another number of them.
    fn of(tensor: &Tensor, channels: usize) -> Self {
        let mut sums = Self::none(channels);
        let Some(values) = tensor_values(tensor).filter(|_| tensor.shape().last() == Some(&channels)) else {
            return sums;
        };
        for row in values.chunks_exact(channels.max(1)) {
            for (at, x) in row.iter().enumerate().filter(|(_, x)| x.is_finite()) {
                let (x, channel) = (f64::from(*x), &mut sums.each[at]);
                (channel.lo, channel.hi) = (channel.lo.min(x), channel.hi.max(x));
                // A sum so far; its mean is taken at the end.
                channel.mean_square += x * x;
                sums.counts[at] += 1;
            }
        }
        sums
    }

    fn add(&mut self, other: &Self) {
        for (channel, more) in self.each.iter_mut().zip(&other.each) {
            (channel.lo, channel.hi) = (channel.lo.min(more.lo), channel.hi.max(more.hi));
            channel.mean_square += more.mean_square;
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
    }

    fn channels(self) -> Vec<InputChannel> {
        let mean = |(channel, count): (InputChannel, u64)| InputChannel {
            mean_square: channel.mean_square / count.max(1) as f64,
            ..channel
        };
        self.each.into_iter().zip(self.counts).map(mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_the_last_axis_and_what_is_not_finite_is_left_out() {
        let values = vec![1.0, -4.0, 3.0, f32::NAN, -1.0, 2.0, f32::INFINITY, 0.0];
        let tensor = Tensor::new(vec![1, 4, 2], values).unwrap();
        let mut sums = ChannelSums::none(2);
        sums.add(&ChannelSums::of(&tensor, 2));
        sums.add(&ChannelSums::of(&Tensor::new(vec![1, 2], vec![-2.0f32, 8.0]).unwrap(), 2));
        sums.add(&ChannelSums::of(&Tensor::new(vec![1, 3], vec![9f32; 3]).unwrap(), 2));
        assert_eq!(
            sums.channels(),
            [
                InputChannel { lo: -2.0, hi: 3.0, mean_square: 15.0 / 4.0 },
                InputChannel { lo: -4.0, hi: 8.0, mean_square: 84.0 / 4.0 },
            ]
        );
    }
}
