//! The loss of top-1 accuracy on labelled samples. These serve nothing but the bound on that loss: neither statistics nor
//! corrections, nor the ranking of what goes back to fp32, see them.

use crate::data::Data;
use crate::error::Error;
use crate::evaluate::Scorer;
use crate::memory::constants_of;
use crate::options::LabelledOptions;
use quantize_exec::Program;
use quantize_ir::{Graph, QuantPlan, ValueId};
use quantize_parallel::Progress;
use std::path::Path;

/// How often two models are right on the same labelled samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccuracyDrop {
    /// Number of samples.
    pub images: usize,
    /// Samples whose label has the largest score in fp32.
    pub fp32: usize,
    /// The same for the quantized model.
    pub quantized: usize,
}

impl AccuracyDrop {
    /// Points of percent that are lost; negative if the quantized model is right more often.
    pub fn points(&self) -> f64 {
        100.0 * (self.fp32 as f64 - self.quantized as f64) / self.images.max(1) as f64
    }

    /// Whether no more than these points are lost.
    pub(crate) fn is_within(&self, points: f64) -> bool {
        self.points() <= points
    }
}

/// Labelled samples, and how often fp32 is right on them.
pub(crate) struct Labelled<'a> {
    model: &'a Path,
    data: Data,
    labels: Vec<u32>,
    threads: usize,
    fp32: usize,
}

impl<'a> Labelled<'a> {
    /// Opens the samples and runs the fp32 model, which is `graph`, over them.
    ///
    /// # Errors
    /// If samples or labels cannot be read or do not fit the model or each other, or the model has no class scores.
    pub(crate) fn open(
        options: &LabelledOptions,
        model: &'a Path,
        graph: &Graph,
        targets: &[ValueId],
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let data = Data::open(&options.data, graph, model)?;
        let labels = data.labels(&options.labels)?;
        let mut labelled = Self { model, data, labels, threads, fp32: 0 };
        labelled.fp32 = labelled.right(graph, &QuantPlan::default(), targets, progress)?;
        Ok(labelled)
    }

    /// What the simulation of a plan loses.
    ///
    /// # Errors
    /// If it cannot be run.
    pub(crate) fn drop(
        &self,
        graph: &Graph,
        plan: &QuantPlan,
        targets: &[ValueId],
        progress: &dyn Progress,
    ) -> Result<AccuracyDrop, Error> {
        let quantized = self.right(graph, plan, targets, progress)?;
        Ok(AccuracyDrop { images: self.data.samples(), fp32: self.fp32, quantized })
    }

    /// On how many samples the label has the largest score.
    fn right(
        &self,
        graph: &Graph,
        plan: &QuantPlan,
        targets: &[ValueId],
        progress: &dyn Progress,
    ) -> Result<usize, Error> {
        let program = Program::compile_with(graph, targets, plan, constants_of(graph));
        let program = program.map_err(|source| Error::exec(self.model, source))?;
        let scorer = Scorer { graph, path: self.model, targets, program: &program };
        Ok(scorer.evaluate(&self.data, &self.labels, self.threads, progress)?.top1)
    }
}

#[cfg(test)]
mod tests {
    use super::AccuracyDrop;

    #[test]
    fn points_are_of_percent() {
        let drop = |quantized| AccuracyDrop { images: 400, fp32: 349, quantized }.points();
        assert!(AccuracyDrop { images: 400, fp32: 349, quantized: 347 }.is_within(0.5));
        assert!(!AccuracyDrop { images: 400, fp32: 349, quantized: 346 }.is_within(0.5));
        assert_eq!((drop(347), drop(349), drop(351)), (0.5, 0.0, -0.5));
        assert_eq!(AccuracyDrop { images: 0, fp32: 0, quantized: 0 }.points(), 0.0);
    }
}
