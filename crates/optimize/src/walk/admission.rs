//! Which samples take part at a stage: as many as fit between two layers.

use super::{Samples, Walker};
use crate::live::{Image, element_bytes};
use crate::route::Stage;
use quantize_exec::{Program, Session, View};
use quantize_ir::{QuantPlan, ValueId};
use quantize_parallel::{Silent, for_each};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Bytes that all samples together may hold between two layers.
const LIVE_BYTES: u64 = 96 << 20;

/// Samples that are walked with even where they do not fit.
const FEWEST_IMAGES: usize = 4;

impl<S: Samples> Walker<'_, S> {
    /// How many samples fit at each stage, by the sizes that the first one's values have.
    pub(super) fn measure_room(&self, stages: &[Stage]) -> Result<Vec<usize>, S::Error> {
        let values: BTreeSet<ValueId> = stages.iter().flat_map(|s| s.before.iter().chain(&s.after)).copied().collect();
        let values: Vec<ValueId> = values.into_iter().collect();
        let program = Program::observe_with(self.reference, &values, &QuantPlan::default(), self.options.constants);
        let program = program.map_err(|e| self.fail(e))?;
        let mut sizes: BTreeMap<ValueId, u64> = BTreeMap::new();
        let mut observer = |value: ValueId, seen: &View<'_>| {
            sizes.insert(value, seen.dims().iter().map(|d| *d as u64).product());
        };
        Session::new(&program).run(&self.samples.sample(0)?, &mut observer).map_err(|e| self.fail(e))?;
        let bytes = |values: &[ValueId]| {
            let each = values.iter().map(|v| {
                let (size, (real, rounded)) =
                    (sizes.get(v).copied().unwrap_or(0), element_bytes(*v, self.reference, &self.walked.plan));
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
    pub(super) fn admit(&mut self, index: usize, stage: &Stage) -> Result<(), S::Error> {
        let (room, present) = (self.room[index], self.images.len());
        self.images.truncate(room);
        // A few more are not worth running the network up to here.
        let worth = room == self.samples.count() || room >= 2 * present;
        if room <= present || !worth {
            return Ok(());
        }
        let (plan, constants) = (&self.walked.plan, self.options.constants);
        let reference = Program::compile_with(self.reference, &stage.before, &QuantPlan::default(), constants);
        let reference = reference.map_err(|e| self.fail(e))?;
        let quantized = Program::segment(&self.walked.graph, &[], &stage.before, plan, constants);
        let quantized = quantized.map_err(|e| self.fail(e))?;
        let init = || (Session::new(&reference), Session::new(&quantized), Vec::new());
        let joined = for_each(room - present, self.options.threads, &Silent, init, |(real, rounded, joined), at| {
            let fed = self.samples.sample(present + at)?;
            let mut image = Image::default();
            let values = real.run(&fed, &mut ()).map_err(|e| self.fail(e))?;
            image.advance_reals(&stage.before, values, &stage.before);
            let values = rounded.run(&fed, &mut ()).map_err(|e| self.fail(e))?;
            image.advance_rounded(&stage.before, values, &stage.before, (&self.walked.graph, plan));
            joined.push((at, image));
            Ok(())
        })?;
        let mut joined: Vec<_> = joined.into_iter().flat_map(|(_, _, joined)| joined).collect();
        joined.sort_by_key(|(at, _)| *at);
        self.images.extend(joined.into_iter().map(|(_, image)| Mutex::new(image)));
        Ok(())
    }
}
