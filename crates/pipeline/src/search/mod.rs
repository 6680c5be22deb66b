//! Meeting a target of accuracy: layers that cost most of it go back to fp32, as few as will do.
//!
//! What is given up is the rounding of a value, and with it the integer arithmetic of all that write or read it: the
//! weights of a lone layer between rounded values cost little once they are corrected. Or its 8 bits are, for 16. Values
//! are ranked by what the quantized model gains without their rounding, for what that costs. If noises add up, each head
//! of that ranking has a cheaper set with the same gain ([`cover`]); the shortest head is found whose set meets the
//! target, from the length on that should do, each time with a whole plan of its own.
//!
//! | module | what lives there |
//! |---|---|
//! | `candidate` | what can be given up, and the plan without it |
//! | `cover` | the cheapest candidates that gain enough |
//! | `record` | what was found, for a search that was interrupted |

mod candidate;
mod cover;
mod record;

use self::candidate::{Candidate, candidates, gain, trial};
use self::cover::{Item, cover};
use self::record::{Record, Verdict};
use crate::accuracy::{Accuracy, Judges, Trial};
use crate::data::Data;
use crate::error::Error;
use crate::labelled::{AccuracyDrop, Labelled};
use crate::options::{AccuracyTarget, Fallback, RecipeOptions};
use crate::settle::{Job, Prepared, Settled, planned, prepared_without};
use crate::unknown::before_softmax;
use crate::work::Shapes;
use quantize_exec::{Program, Session};
use quantize_ir::{Decision, Graph, KeepReason, NodeId, OperandRole, QuantPlan, ValueId};
use quantize_parallel::Progress;
use std::collections::{BTreeMap, BTreeSet};

/// Plans that are judged side by side: each holds its own packed weights.
const SIDE_BY_SIDE: usize = 4;

/// Samples that layers are ranked by.
const RANKING_SAMPLES: usize = 8;

/// At most this share of the multiply-accumulates goes back to fp32.
const LARGEST_FALLBACK: f64 = 0.5;

/// What came of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetOutcome {
    /// What was asked for.
    pub target: AccuracyTarget,
    /// Whether the written model reaches it on the samples that judge.
    pub met: bool,
    /// What it loses on labelled samples, if there is a bound on that.
    pub drop: Option<AccuracyDrop>,
    /// Nodes that went back to fp32 for it.
    pub fallback: Vec<String>,
    /// Activations that got 16 bits for it.
    pub widened: Vec<String>,
    /// Share of the multiply-accumulates of quantized layers with nothing given up around them, 0 to 1.
    pub integers: f64,
}

/// A candidate with what is known of it.
#[derive(Clone, Debug)]
struct Ranked {
    candidate: Candidate,
    /// Noise to signal that the model loses without it.
    gain: f64,
    /// Share of the work around it, and of the values as their conversion costs something, too.
    cost: f64,
}

/// Refuses a target that cannot be looked at.
///
/// # Errors
/// If what the target needs is missing.
pub(crate) fn check(job: &Job<'_>) -> Result<(), Error> {
    let Some(target) = job.options.target else { return Ok(()) };
    let conflict = |first: &str, second: &str, why: &str| {
        Err(Error::Conflict { first: first.into(), second: second.into(), why: why.into() })
    };
    if target.max_drop.is_some() && job.labelled.is_none() {
        let why = "the loss is measured on these alone";
        return conflict("a bound on the loss of accuracy", "no labelled samples", why);
    }
    if target.fallback == Fallback::WideCodes && job.recipe.wide_activation_grid().is_none() {
        let why = "only activations of 8 bits between quantize and dequantize nodes can have more";
        return conflict("`--fallback 16-bit`", "this kind of model", why);
    }
    Ok(())
}

/// Makes a plan that meets the job's target out of one that may not.
///
/// # Errors
/// As [`crate::settle::settle`].
pub(crate) fn meet(job: &Job<'_>, settled: Settled, progress: &dyn Progress) -> Result<Settled, Error> {
    let Some(target) = job.options.target else { return Ok(settled) };
    let mut settled = settled;
    if settled.data.is_none() {
        settled.warnings.push("the target is not looked at: that needs images, which `--calib` gives".into());
        return Ok(settled);
    }
    let labelled = job.labelled.filter(|_| target.max_drop.is_some());
    let labelled = labelled.map(|options| {
        let (model, graph) = (job.model.path(), settled.reference.as_ref().unwrap_or(&settled.graph));
        Labelled::open(options, model, graph, &settled.targets, job.threads, progress)
    });
    let labelled = labelled.transpose()?;
    let (work, ranking) = (BTreeMap::new(), Vec::new());
    let mut search = Search { job, target, labelled, progress, work, ranking, noise: 0.0 };
    search.judged(&mut settled)?;
    if !is_met(&settled) {
        let mut record = Record::open(job.options.search_record.as_deref(), identity(job.options, &settled))?;
        search.work = search.shares_of_work(&settled)?;
        (search.ranking, search.noise) = search.ranked(&settled, &mut record)?;
        settled = search.shortest(settled, &mut record)?;
        settled.log.extend(record.remark());
    }
    Ok(settled)
}

/// What tells searches apart: all that was asked for, and what came of the plan that each begins with, to the last bit.
fn identity(options: &RecipeOptions, start: &Settled) -> String {
    let asked = RecipeOptions { search_record: None, ..options.clone() };
    let Settled { accuracy, outcome, .. } = start;
    let drop = outcome.as_ref().and_then(|outcome| outcome.drop);
    format!("{asked:?} from {accuracy:?} {drop:?} {:?}", score(start))
}

impl AccuracyTarget {
    fn is_met(&self, settled: &Settled, drop: Option<AccuracyDrop>) -> bool {
        let Some(accuracy) = &settled.accuracy else { return false };
        let agreement =
            accuracy.outputs.first().and_then(|o| o.agreeing).map(|n| n as f64 / accuracy.samples.max(1) as f64);
        let agrees = self.agreement.is_none_or(|wanted| agreement.is_some_and(|found| 100.0 * found >= wanted));
        let keeps = self.max_drop.is_none_or(|most| drop.is_some_and(|drop| drop.is_within(most)));
        agrees && keeps && self.sqnr_db.is_none_or(|wanted| score(settled) >= wanted)
    }
}

/// Whether what came of the target is that it is met.
fn is_met(settled: &Settled) -> bool {
    settled.outcome.as_ref().is_some_and(|outcome| outcome.met)
}

/// What came of a plan.
fn verdict(settled: &Settled) -> Verdict {
    Verdict { met: is_met(settled), score_db: Some(score(settled)).filter(|db| db.is_finite()) }
}

/// Signal to noise of the scores, in dB.
fn score(settled: &Settled) -> f64 {
    let shown = settled.accuracy.as_ref().and_then(|a| a.outputs.first()).map(|o| o.sqnr_db);
    settled.improvement.as_ref().map(|i| i.after_db).or(shown).unwrap_or(f64::NEG_INFINITY)
}

struct Search<'a> {
    job: &'a Job<'a>,
    target: AccuracyTarget,
    /// Samples that judge the loss of accuracy, if that is bounded.
    labelled: Option<Labelled<'a>>,
    progress: &'a dyn Progress,
    /// Share of the multiply-accumulates of each quantized layer.
    work: BTreeMap<NodeId, f64>,
    /// What to give up, first what gains most.
    ranking: Vec<Ranked>,
    /// Noise to signal of the model that nothing is given up of.
    noise: f64,
}

impl Search<'_> {
    /// Sees to it that the plan's accuracy is known, and what came of the target.
    fn judged(&self, settled: &mut Settled) -> Result<(), Error> {
        if let (None, Some(data)) = (&settled.accuracy, &settled.data) {
            let judges = settled.judges.clone().unwrap_or_else(|| Judges::first_of(data));
            let reference = settled.reference.as_ref().unwrap_or(&settled.graph);
            let plan = [(&settled.graph, &settled.plan)];
            let found = self.accuracy(reference, &settled.targets, &plan, (data, &judges))?;
            settled.accuracy = found.into_iter().next();
        }
        let Settled { graph, plan, targets, .. } = &*settled;
        let drop = self.labelled.as_ref().map(|labelled| labelled.drop(graph, plan, targets, self.progress));
        let drop = drop.transpose()?;
        let met = self.target.is_met(settled, drop);
        let (target, fallback, widened) = (self.target, Vec::new(), Vec::new());
        settled.outcome = Some(TargetOutcome { target, met, drop, fallback, widened, integers: 1.0 });
        Ok(())
    }

    fn accuracy(
        &self,
        reference: &Graph,
        targets: &[ValueId],
        plans: &[(&Graph, &QuantPlan)],
        (data, judges): (&Data, &Judges),
    ) -> Result<Vec<Accuracy>, Error> {
        let (model, threads, progress) = (self.job.model.path(), self.job.threads, self.progress);
        self.job.runtime.accuracy(&Trial { reference, model, targets, data, judges, threads, progress }, plans)
    }

    /// Candidates by what the model gains without each, for what that costs; and the noise to signal of the model with all
    /// of them.
    fn ranked(&self, settled: &Settled, record: &mut Record) -> Result<(Vec<Ranked>, f64), Error> {
        let Some(data) = &settled.data else { return Ok((Vec::new(), 0.0)) };
        let reference = settled.reference.as_ref().unwrap_or(&settled.graph);
        let targets = before_softmax(reference, &settled.targets);
        let all = settled.judges.clone().unwrap_or_else(|| Judges::first_of(data));
        let runs = all.runs.into_iter().take(RANKING_SAMPLES).collect();
        let judges = Judges { runs, held_back: all.held_back };
        let noise =
            |accuracy: &Accuracy| accuracy.outputs.first().map_or(0.0, |output| 10f64.powf(-output.sqnr_db / 10.0));
        let whole = self.accuracy(reference, &targets, &[(&settled.graph, &settled.plan)], (data, &judges))?;
        let with_all = whole.first().map_or(0.0, noise);
        let (fallback, candidates) = (self.target.fallback, candidates(settled));
        let known = record.gains().len().min(candidates.len());
        for chunk in candidates[known..].chunks(SIDE_BY_SIDE) {
            let trials: Vec<(Graph, QuantPlan)> = chunk.iter().map(|c| trial(fallback, settled, c)).collect();
            let plans: Vec<(&Graph, &QuantPlan)> = trials.iter().map(|(graph, plan)| (graph, plan)).collect();
            let found = self.accuracy(reference, &targets, &plans, (data, &judges))?;
            let gains: Vec<f64> = found.iter().map(|tried| gain(fallback, with_all, noise(tried))).collect();
            record.add_gains(&gains)?;
        }
        // What is given up costs the work around it, and conversions.
        let each = 1.0 / candidates.len().max(1) as f64;
        let ranked = |(candidate, gain): (Candidate, &f64)| {
            let cost = each + self.work_of(&candidate.nodes);
            Ranked { candidate, gain: *gain, cost }
        };
        let mut ranking: Vec<Ranked> = candidates.into_iter().zip(record.gains()).map(ranked).collect();
        let worth = |r: &Ranked| r.gain / r.cost;
        ranking.retain(|r| r.gain > 0.0);
        ranking.sort_by(|a, b| worth(b).total_cmp(&worth(a)).then_with(|| a.candidate.values.cmp(&b.candidate.values)));
        Ok((ranking, with_all))
    }

    /// Share of the multiply-accumulates of quantized layers that `nodes` have.
    fn work_of(&self, nodes: &BTreeSet<NodeId>) -> f64 {
        nodes.iter().filter_map(|id| self.work.get(id)).sum()
    }

    /// What is given up instead of the first `length` entries of the ranking: a set that should gain as much, if it costs
    /// less, though entries may have nodes in common.
    fn given_up(&self, length: usize) -> Candidate {
        let together = |places: &[usize]| Candidate::together(places.iter().map(|at| &self.ranking[*at].candidate));
        let items: Vec<Item> = self.ranking.iter().map(|r| Item { gain: r.gain, cost: r.cost }).collect();
        let wanted = items[..length].iter().map(|item| item.gain).sum();
        let head = together(&(0..length).collect::<Vec<usize>>());
        let covering = together(&cover(&items, wanted));
        if self.work_of(&covering.nodes) < self.work_of(&head.nodes) { covering } else { head }
    }

    /// Each quantized layer's share of their multiply-accumulates.
    fn shares_of_work(&self, settled: &Settled) -> Result<BTreeMap<NodeId, f64>, Error> {
        let Some(data) = &settled.data else { return Ok(BTreeMap::new()) };
        let graph = &settled.graph;
        let is_layer = |id: NodeId| {
            let weighted = |slot: &usize| {
                let role = graph.node(id).map(|n| n.op.operand_role(*slot));
                matches!(role, Some(OperandRole::Weight { .. }))
            };
            settled.plan.weights.range((id, 0)..=(id, usize::MAX)).any(|((_, slot), _)| weighted(slot))
        };
        let layers: Vec<NodeId> = graph.nodes().map(|(id, _)| id).filter(|id| is_layer(*id)).collect();
        let nodes = layers.iter().filter_map(|id| graph.node(*id));
        let values: BTreeSet<ValueId> =
            nodes.flat_map(|n| n.inputs.iter().chain(&n.outputs).flatten()).copied().collect();
        let values: Vec<ValueId> = values.into_iter().filter(|v| graph.value(*v).constant.is_none()).collect();
        let failed = |source| Error::exec(self.job.model.path(), source);
        let program = Program::observe(graph, &values).map_err(failed)?;
        let mut shapes = Shapes::default();
        Session::new(&program).run(&data.feed(0)?, &mut shapes).map_err(failed)?;
        let work = |id: &NodeId| {
            let macs = graph.node(*id).and_then(|node| shapes.multiply_accumulates(graph, node));
            (*id, macs.unwrap_or(0) as f64)
        };
        let work: BTreeMap<NodeId, f64> = layers.iter().map(work).collect();
        let total = work.values().sum::<f64>().max(1.0);
        Ok(work.into_iter().map(|(id, macs)| (id, macs / total)).collect())
    }

    /// The plan that meets the target with the shortest head of the ranking, or its equal, given up; if none does, the
    /// best one.
    fn shortest(&self, whole: Settled, record: &mut Record) -> Result<Settled, Error> {
        let mut best = (0, verdict(&whole));
        // The plan in hand, which is the best one but where the record knew of a better one.
        let mut held = (0, whole);
        let longest = self.longest();
        let (mut missed, mut met) = (0, None);
        let (mut length, mut step) = (self.guess().clamp(1, longest.max(1)), 1);
        while met.unwrap_or(longest + 1) - missed > 1 {
            let known = record.verdict(length);
            let (found, candidate) = match known {
                Some(known) => (known, None),
                None => {
                    let candidate = self.with_fallback(&mut held.1, length)?;
                    let found = verdict(&candidate);
                    record.add_verdict(length, found)?;
                    (found, Some(candidate))
                }
            };
            let better = found.met || (met.is_none() && found.is_above(&best.1));
            if better {
                best = (length, found);
            }
            held = match candidate {
                Some(candidate) if better => (length, candidate),
                Some(candidate) => (held.0, returned(held.1, candidate)),
                None => held,
            };
            if found.met {
                met = Some(length);
            } else {
                missed = length;
            }
            length = match met {
                None => (missed + step).min(longest),
                Some(enough) if missed == 0 => enough.saturating_sub(step).max(1),
                Some(enough) => missed + (enough - missed) / 2,
            };
            step *= 2;
        }
        if held.0 == best.0 { Ok(held.1) } else { self.with_fallback(&mut held.1, best.0) }
    }

    /// The length of the ranking that reaches the ratio asked for if noises add up.
    fn guess(&self) -> usize {
        let Some(wanted) = self.target.sqnr_db else { return 1 };
        shortest_sum(self.noise - 10f64.powf(-wanted / 10.0), self.ranking.iter().map(|r| r.gain))
    }

    /// Entries of the ranking that may be given up at most: something stays on integers, which all of it does with more
    /// bits.
    fn longest(&self) -> usize {
        if self.target.fallback == Fallback::WideCodes {
            return self.ranking.len();
        }
        let fits = |length: &usize| {
            let nodes = self.given_up(*length).nodes;
            self.work_of(&nodes) <= LARGEST_FALLBACK && self.work.keys().any(|layer| !nodes.contains(layer))
        };
        (1..=self.ranking.len()).take_while(fits).last().unwrap_or(0)
    }

    /// A whole plan with the first `length` entries of the ranking, or their equal, given up. Data and statistics are those
    /// of `lender`.
    fn with_fallback(&self, lender: &mut Settled, length: usize) -> Result<Settled, Error> {
        let Candidate { values, nodes } = self.given_up(length);
        let nothing = BTreeSet::new();
        let (kept, widened) = match self.target.fallback {
            Fallback::Real => (&nodes, &nothing),
            Fallback::WideCodes => (&BTreeSet::new(), &values),
        };
        let evidence = lender.evidence.take();
        let ready = match (prepared_without(self.job, kept, &lender.channels)?, evidence) {
            (Prepared::Ready(mut ready), Some(evidence)) => {
                ready.selection.widen(widened);
                planned(self.job, *ready, evidence, lender.data.take(), self.progress)
            }
            (Prepared::Untouched(settled), _) => Ok(*settled),
            (Prepared::Ready(ready), None) => {
                Err(Error::NoData { nodes: ready.selection.decisions.len(), only_weights: false })
            }
        };
        let mut settled = ready?;
        self.judged(&mut settled)?;
        for id in kept {
            if let Some(entry) = settled.plan.nodes.get_mut(id) {
                entry.decision = Decision::Keep(KeepReason::Sensitive);
            }
        }
        let fallback = kept.iter().map(|id| settled.graph.label(*id)).collect();
        let widened = widened.iter().map(|value| settled.graph.value(*value).name.clone()).collect();
        let integers = 1.0 - self.work_of(&nodes);
        settled.outcome = settled.outcome.map(|outcome| TargetOutcome { fallback, widened, integers, ..outcome });
        Ok(settled)
    }
}

/// A plan that lent data and statistics to another one, with both back.
fn returned(lender: Settled, mut borrower: Settled) -> Settled {
    Settled { data: borrower.data.take(), evidence: borrower.evidence.take(), ..lender }
}

/// How many of `gains`, from the first on, have at least this sum; all of them if they have not.
fn shortest_sum(wanted: f64, gains: impl Iterator<Item = f64>) -> usize {
    let mut left = wanted;
    let is_needed = |gain: &f64| {
        let needed = left > 0.0;
        left -= gain;
        needed
    };
    gains.take_while(is_needed).count()
}

#[cfg(test)]
mod tests {
    use super::shortest_sum;

    #[test]
    fn gains_add_up_to_what_is_wanted() {
        let gains = [4.0, 2.0, 1.0];
        let lengths = [-1.0, 0.0, 1.0, 4.0, 4.5, 6.5, 9.0].map(|wanted| shortest_sum(wanted, gains.into_iter()));
        assert_eq!(lengths, [0, 0, 1, 1, 2, 3, 3]);
    }
}
