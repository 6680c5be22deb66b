//! What of a plan reaches the xfDNN runtime, and the runtime, emulated, as the judge of plans.

use super::CaffeModel;
use super::options::FileOptions;
use crate::accuracy::{Accuracy, Runtime, Trial, compare};
use crate::error::Error;
use quantize_caffe::xfdnn::{
    QuantizationFile, WeightThresholds, XfdnnRecipe, integer_plan, quantization_file, with_planned_weights,
};
use quantize_exec::{Emulation, Emulator, Program};
use quantize_ir::{Graph, QuantPlan};
use std::path::Path;

/// A plan in the form that the runtime gets it.
pub(super) struct Carried {
    /// The network whose weights the runtime rounds.
    pub(super) graph: Graph,
    /// The quantization file.
    pub(super) file: QuantizationFile,
}

/// The runtime, emulated.
pub(super) struct Emulated<'a> {
    pub(super) caffe: &'a CaffeModel,
    pub(super) recipe: &'a XfdnnRecipe,
    pub(super) file: &'a FileOptions,
    /// The quantization file's, for messages.
    pub(super) path: &'a Path,
}

impl Emulated<'_> {
    /// What reaches the runtime of a plan for `graph`: with planned thresholds also codes and scales of weights.
    pub(super) fn carried(&self, graph: &Graph, plan: &QuantPlan, weights: WeightThresholds) -> Result<Carried, Error> {
        let (format, power_of_two) = (self.file.format(), self.file.power_of_two);
        let file = quantization_file(self.recipe, graph, plan, weights, format, power_of_two)?;
        let graph = match weights {
            WeightThresholds::Largest => graph.clone(),
            WeightThresholds::Planned => with_planned_weights(self.recipe, graph, plan)?,
        };
        Ok(Carried { graph, file })
    }

    /// What each of them loses against fp32.
    pub(super) fn emulated(&self, trial: &Trial<'_>, carried: &[Carried]) -> Result<Vec<Accuracy>, Error> {
        let failed = |source| Error::exec(trial.model, source);
        let fp32 = Program::compile(trial.reference, trial.targets).map_err(failed)?;
        let emulation = |Carried { graph, file }: &Carried| {
            let document = &self.caffe.document;
            let integers = integer_plan(document, graph, file, self.file.flavor, self.path.to_owned())?;
            Emulation::compile(graph, trial.targets, &integers).map_err(failed)
        };
        let emulations: Vec<Emulation> = carried.iter().map(emulation).collect::<Result<_, Error>>()?;
        compare(trial, &fp32, || emulations.iter().map(Emulator::new).collect())
    }
}

impl Runtime for Emulated<'_> {
    fn accuracy(&self, trial: &Trial<'_>, quantized: &[(&Graph, &QuantPlan)]) -> Result<Vec<Accuracy>, Error> {
        let carried = quantized.iter().map(|(graph, plan)| self.carried(graph, plan, WeightThresholds::Planned));
        self.emulated(trial, &carried.collect::<Result<Vec<_>, _>>()?)
    }
}
