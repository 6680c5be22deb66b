//! Improving a plan by running the network: which samples are walked with, which are held back to judge, and which steps
//! are worth keeping. What is divided are runs, of one sample each unless the model has a fixed batch.

use crate::accuracy::{Accuracy, Judges, Runtime, Trial};
use crate::data::Data;
use crate::error::Error;
use crate::memory::constants_of;
use crate::options::{BiasCorrection, Correction, RecipeOptions, WeightRounding};
use crate::unknown::before_softmax;
use quantize_ir::{Graph, QuantPlan, Recipe, Tensor, ValueId};
use quantize_optimize::{LayerInputs, OptimizeError, Samples, Steps, WalkOptions, Walked, walk};
use quantize_parallel::Progress;
use std::path::Path;

/// With fewer samples none is held back: statistics need them more.
const FEWEST_TO_SPLIT: usize = 24;

/// Samples held back: one in ten, and at least these.
const HELD_BACK_SHARE: usize = 10;
const FEWEST_HELD_BACK: usize = 8;

/// With fewer samples errors of other layers cannot be told from chance.
const FEWEST_TO_FOLLOW: usize = 8;

/// A step is given up if the model is better without it by this much, in dB.
pub(crate) const WORTH_DB: f64 = 0.1;

/// Which samples statistics are gathered from, and which are only judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) calibrated: Vec<usize>,
    pub(crate) held_back: Vec<usize>,
}

impl Split {
    /// All samples are calibrated with.
    pub(crate) fn whole(samples: usize) -> Self {
        Self { calibrated: (0..samples).collect(), held_back: Vec::new() }
    }

    /// What a recipe needs: one that neither corrects nor has a target calibrates with all samples.
    pub(crate) fn for_recipe(samples: usize, options: &RecipeOptions) -> Self {
        let judges = !options.correction.is_none() || options.target.is_some();
        if judges { Self::of(samples) } else { Self::whole(samples) }
    }

    /// The samples held back, which judge; `None` where there are too few to hold any back.
    pub(crate) fn judges(&self) -> Option<Judges> {
        (!self.held_back.is_empty()).then(|| Judges { runs: self.held_back.clone(), held_back: true })
    }

    /// Some samples are held back, evenly spread; none of a few.
    pub(crate) fn of(samples: usize) -> Self {
        if samples < FEWEST_TO_SPLIT {
            return Self::whole(samples);
        }
        let held_back = spread(samples, FEWEST_HELD_BACK.max(samples / HELD_BACK_SHARE));
        let calibrated = (0..samples).filter(|i| held_back.binary_search(i).is_err()).collect();
        Self { calibrated, held_back }
    }
}

/// `count` numbers below `samples`, evenly spread, or all of them.
pub(crate) fn spread(samples: usize, count: usize) -> Vec<usize> {
    let count = count.min(samples);
    (0..count).map(|i| (2 * i + 1) * samples / (2 * count)).collect()
}

/// What improving a plan came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Improvement {
    /// Layers whose weights or biases were worked on.
    pub layers: usize,
    /// Samples the last layers were measured with.
    pub images: usize,
    /// Samples that judged, none of which was used for anything else if `held_back`.
    pub judges: usize,
    /// Whether the judges were held back.
    pub held_back: bool,
    /// Signal to noise before, in dB, as [`crate::OutputAccuracy::sqnr_db`].
    pub before_db: f64,
    /// After all steps that were kept.
    pub after_db: f64,
    /// What each step is worth: the ratio without it, and whether it was kept.
    pub steps: Vec<StepWorth>,
}

impl Improvement {
    /// Whether any step was kept.
    pub(crate) fn changes_something(&self) -> bool {
        self.steps.iter().any(|step| step.kept)
    }
}

/// What one step is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct StepWorth {
    /// The step, in words.
    pub step: &'static str,
    /// Signal to noise without it, in dB.
    pub without_db: f64,
    /// Whether the model was better with it.
    pub kept: bool,
}

/// A better graph and plan.
pub(crate) struct Improved {
    pub(crate) graph: Graph,
    pub(crate) plan: QuantPlan,
    pub(crate) report: Improvement,
    pub(crate) accuracy: Accuracy,
    pub(crate) log: Vec<String>,
}

/// What a plan is improved with.
pub(crate) struct Workshop<'a> {
    pub(crate) model: &'a Path,
    pub(crate) data: &'a Data,
    pub(crate) split: &'a Split,
    /// Values that show what quantization costs.
    pub(crate) targets: &'a [ValueId],
    pub(crate) recipe: &'a dyn Recipe,
    /// What judges.
    pub(crate) runtime: &'a dyn Runtime,
    pub(crate) threads: usize,
}

impl Workshop<'_> {
    /// Walks through the network and keeps the steps that make the model better.
    pub(crate) fn improve(
        &self,
        graph: &Graph,
        plan: &QuantPlan,
        correction: &Correction,
        progress: &dyn Progress,
    ) -> Result<Improved, Error> {
        let calibrated = &self.split.calibrated;
        let chosen: Vec<usize> = spread(calibrated.len(), correction.images.div_ceil(self.data.batch()))
            .into_iter()
            .map(|i| calibrated[i])
            .collect();
        let samples = Walkers { model: self.model, data: self.data, chosen: &chosen };
        let fixed = graph.nodes().map(|(id, _)| id).filter(|id| !self.recipe.takes_corrections(graph, *id)).collect();
        let options = WalkOptions {
            steps: steps(correction, chosen.len()),
            fixed: &fixed,
            inputs: inputs(correction, chosen.len()),
            coded_bias: self.recipe.grids().coded_bias,
            constants: constants_of(graph),
            threads: self.threads,
        };
        let walked = walk(graph, plan, self.targets, &samples, &options, progress)?;
        let judges = self.split.judges().unwrap_or(Judges { runs: chosen.clone(), held_back: false });
        let steps = taken(options.steps);
        // The other steps would do something else without it. Only codes stay, which are chosen before the gain; but where a
        // bias takes up the mean, other ones are.
        let with_codes = walked.codes_on(plan);
        let without = |(rest, _): &(Steps, _)| {
            let keeps_codes = rest.rounding && rest.bias;
            let plan = if keeps_codes { &with_codes } else { plan };
            let options = WalkOptions { steps: Steps { rounding: rest.rounding && !keeps_codes, ..*rest }, ..options };
            if options.steps == Steps::default() {
                return Ok((graph.clone(), plan.clone()));
            }
            let walked = walk(graph, plan, self.targets, &samples, &options, progress)?;
            Ok((walked.graph, walked.plan))
        };
        let lacking: Vec<(Graph, QuantPlan)> = steps.iter().map(without).collect::<Result<_, Error>>()?;
        let (before, all) = ((graph, plan), (&walked.graph, &walked.plan));
        let candidates: Vec<(&Graph, &QuantPlan)> =
            [before, all].into_iter().chain(lacking.iter().map(|(graph, plan)| (graph, plan))).collect();
        let judged = self.judge(graph, &candidates, &judges, progress)?;
        let best = best(&judged);
        let report = Improvement {
            layers: walked.changes.len(),
            images: walked
                .changes
                .last()
                .map_or(0, |change| change.images * self.data.batch())
                .min(self.data.samples()),
            judges: judges.samples(self.data),
            held_back: judges.held_back,
            before_db: judged[BEFORE].0,
            after_db: judged[best].0,
            steps: steps
                .iter()
                .zip(&judged[FIRST_WITHOUT..])
                .enumerate()
                .map(|(i, ((_, step), (without_db, _)))| StepWorth {
                    step,
                    without_db: *without_db,
                    kept: best != BEFORE && best != FIRST_WITHOUT + i,
                })
                .collect(),
        };
        let (log, (graph, plan)) = (log(&walked), candidates[best]);
        let accuracy = judged[best].1.clone();
        Ok(Improved { graph: graph.clone(), plan: plan.clone(), report, accuracy, log })
    }

    /// The signal to noise of candidates, before a softmax if one follows, and their accuracy.
    fn judge(
        &self,
        reference: &Graph,
        candidates: &[(&Graph, &QuantPlan)],
        judges: &Judges,
        progress: &dyn Progress,
    ) -> Result<Vec<(f64, Accuracy)>, Error> {
        let scores = before_softmax(reference, self.targets);
        let hidden = scores.iter().filter(|v| !self.targets.contains(v));
        let values: Vec<ValueId> = self.targets.iter().chain(hidden).copied().collect();
        let Self { model, data, threads, .. } = *self;
        let trial = Trial { reference, model, targets: &values, data, judges, threads, progress };
        let found = self.runtime.accuracy(&trial, candidates)?;
        let score = scores.first().map(|v| reference.value(*v).name.as_str());
        let shown: Vec<&str> = self.targets.iter().map(|v| reference.value(*v).name.as_str()).collect();
        let split = |mut accuracy: Accuracy| {
            let ratio = accuracy.outputs.iter().find(|o| Some(o.name.as_str()) == score).map(|o| o.sqnr_db);
            accuracy.outputs.retain(|o| shown.contains(&o.name.as_str()));
            (ratio.unwrap_or(0.0), accuracy)
        };
        Ok(found.into_iter().map(split).collect())
    }
}

/// Places among the candidates: the plan as it came, that after the walk, and that without one of the steps, for each.
const BEFORE: usize = 0;
const ALL_STEPS: usize = 1;
const FIRST_WITHOUT: usize = 2;

/// The candidate to take: the one with all steps, unless the model is clearly better without one, or no better at all.
fn best(judged: &[(f64, Accuracy)]) -> usize {
    let ratio = |i: usize| judged[i].0;
    let lacking = (FIRST_WITHOUT..judged.len()).max_by(|a, b| ratio(*a).total_cmp(&ratio(*b)));
    let taken = lacking.filter(|i| ratio(*i) > ratio(ALL_STEPS) + WORTH_DB).unwrap_or(ALL_STEPS);
    if ratio(taken) < ratio(BEFORE) { BEFORE } else { taken }
}

/// The steps a correction asks for; few samples are not enough for all of them.
fn steps(correction: &Correction, samples: usize) -> Steps {
    Steps {
        rounding: correction.rounding == WeightRounding::Result && samples >= FEWEST_TO_FOLLOW,
        gain: correction.gain && correction.bias != BiasCorrection::Analytic && samples >= FEWEST_TO_FOLLOW,
        bias: correction.bias != BiasCorrection::None,
    }
}

fn inputs(correction: &Correction, samples: usize) -> LayerInputs {
    match correction.bias {
        BiasCorrection::Analytic => LayerInputs::Real,
        BiasCorrection::Sequential if samples < FEWEST_TO_FOLLOW => LayerInputs::Real,
        BiasCorrection::Sequential | BiasCorrection::None => LayerInputs::Rounded,
    }
}

/// The steps that were taken, by name, each with what is left without it.
fn taken(steps: Steps) -> Vec<(Steps, &'static str)> {
    let all = [
        (steps.rounding, Steps { rounding: false, ..steps }, "weight rounding"),
        (steps.gain, Steps { gain: false, ..steps }, "gain correction"),
        (steps.bias, Steps { bias: false, ..steps }, "bias correction"),
    ];
    all.into_iter().filter(|(taken, ..)| *taken).map(|(_, rest, words)| (rest, words)).collect()
}

fn log(walked: &Walked) -> Vec<String> {
    let line = |c: &quantize_optimize::LayerChange| {
        format!(
            "correct: `{}` on {} images: {} codes, slope {:.4}, gains {:.3} to {:.3}, {:.1} to {:.1} dB",
            c.node, c.images, c.codes, c.slope, c.gains.0, c.gains.1, c.before_db, c.after_db
        )
    };
    walked.changes.iter().map(line).collect()
}

/// Samples of the data set at these positions.
struct Walkers<'a> {
    model: &'a Path,
    data: &'a Data,
    chosen: &'a [usize],
}

impl Samples for Walkers<'_> {
    type Error = Error;

    fn count(&self) -> usize {
        self.chosen.len()
    }

    fn sample(&self, index: usize) -> Result<Vec<(ValueId, Tensor)>, Error> {
        self.data.feed(self.chosen[index])
    }

    fn failed(&self, source: OptimizeError) -> Error {
        Error::Improve { model: self.model.to_owned(), source: Box::new(source) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_held_back_of_many() {
        for samples in [24, 64, 100, 1000] {
            let split = Split::of(samples);
            assert_eq!(split.held_back.len(), 8.max(samples / 10), "{samples}");
            let mut all = [split.calibrated, split.held_back].concat();
            all.sort_unstable();
            assert_eq!(all, (0..samples).collect::<Vec<_>>());
        }
        assert_eq!(Split::of(23), Split::whole(23));
    }

    #[test]
    fn samples_are_spread() {
        assert_eq!(spread(10, 5), [1, 3, 5, 7, 9]);
        assert_eq!(spread(3, 5), [0, 1, 2]);
        assert!(spread(0, 5).is_empty());
    }
}
