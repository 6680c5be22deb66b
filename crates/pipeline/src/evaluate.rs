//! Top-1 and top-5 accuracy of a model, fp32 or int8, on labelled images.

use crate::accuracy::class_count;
use crate::data::Data;
use crate::error::Error;
use crate::memory::threads_for;
use crate::model::ModelFiles;
use crate::options::{DataOptions, thread_count};
use crate::unknown::Unknown;
use quantize_exec::{Program, Session};
use quantize_ir::{Graph, Tensor, ValueId};
use quantize_parallel::{Progress, for_each};
use std::path::{Path, PathBuf};

/// An evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluateOptions {
    /// The model.
    pub model: ModelFiles,
    /// Images and their preprocessing.
    pub data: DataOptions,
    /// File of labels, one line for each image.
    pub labels: PathBuf,
    /// Threads; 0 for one for each core.
    pub threads: usize,
}

/// How often a model was right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// Number of images.
    pub images: usize,
    /// Images whose label has the largest score.
    pub top1: usize,
    /// Images whose label is among the five largest scores.
    pub top5: usize,
    /// What was assumed because nothing was said.
    pub warnings: Vec<String>,
}

/// Runs a model over labelled images.
///
/// # Errors
/// If the model, the images or the labels cannot be read, do not fit each other, or the model has no class scores.
pub fn evaluate(options: &EvaluateOptions, progress: &dyn Progress) -> Result<Evaluation, Error> {
    let model = options.model.open()?;
    let data = Data::open(&options.data, model.graph(), model.path())?;
    let labels = data.labels(&options.labels)?;
    let unknown = Unknown::of(model.graph()).map_err(|source| Error::graph(model.path(), source))?;
    let computable = unknown.computable_outputs(model.graph());
    let targets = if computable.is_empty() { model.graph().outputs() } else { &computable };
    let program = model.compile(targets)?;
    let threads = thread_count(options.threads);
    let scorer = Scorer { graph: model.graph(), path: model.path(), targets, program: &program };
    let evaluation = scorer.evaluate(&data, &labels, threads, progress)?;
    Ok(Evaluation { warnings: data.assumed().collect(), ..evaluation })
}

/// A program that computes class scores.
pub(crate) struct Scorer<'a> {
    pub(crate) graph: &'a Graph,
    /// The model's, for messages.
    pub(crate) path: &'a Path,
    /// What the program computes.
    pub(crate) targets: &'a [ValueId],
    pub(crate) program: &'a Program,
}

impl Scorer<'_> {
    /// Runs over labelled samples.
    ///
    /// # Errors
    /// If a sample cannot be read, none of the targets holds class scores, or a label is none of the classes.
    pub(crate) fn evaluate(
        &self,
        data: &Data,
        labels: &[u32],
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Evaluation, Error> {
        progress.begin("evaluating", data.runs());
        let init = || (Session::new(self.program), Evaluation::default());
        let threads = threads_for(&[self.program], threads);
        let states = for_each(data.runs(), threads, progress, init, |(session, evaluation), run| {
            let scores = self.scores(session, data, run)?;
            for (number, values) in data.samples_of(run).zip(scores.values.chunks_exact(scores.classes)) {
                let place = place_of(&scores.output, values, labels[number], &data.name(number))?;
                evaluation.top1 += usize::from(place == 0);
                evaluation.top5 += usize::from(place < 5);
            }
            Ok::<(), Error>(())
        })?;
        progress.end();
        let (top1, top5) = states.iter().fold((0, 0), |(one, five), (_, e)| (one + e.top1, five + e.top5));
        Ok(Evaluation { images: data.samples(), top1, top5, warnings: Vec::new() })
    }

    fn scores(&self, session: &mut Session<'_>, data: &Data, run: usize) -> Result<Scores, Error> {
        let outputs = session.run(&data.feed(run)?, &mut ()).map_err(|source| Error::exec(self.path, source))?;
        let name = |v: &ValueId| self.graph.value(*v).name.clone();
        let vectors = |tensor: &Tensor| {
            let classes = class_count(tensor.shape(), data.batch())?;
            tensor.as_slice::<f32>().ok().map(|values| (classes, values.to_vec()))
        };
        let mut named = self.targets.iter().map(name).zip(&outputs);
        let found = named.find_map(|(output, t)| {
            let (classes, values) = vectors(t)?;
            Some(Scores { output, classes, values })
        });
        found.ok_or_else(|| {
            let shapes = self.targets.iter().map(name).zip(&outputs).map(|(n, t)| format!("`{n}` {:?}", t.shape()));
            Error::NoScores { model: self.path.to_owned(), outputs: shapes.collect() }
        })
    }
}

/// Name and elements of the first output that is a vector of scores for each sample of a run.
struct Scores {
    output: String,
    classes: usize,
    values: Vec<f32>,
}

/// How many scores beat the label's; equal scores beat it if they stand before it.
pub(crate) fn place_of(output: &str, values: &[f32], label: u32, image: &str) -> Result<usize, Error> {
    let index = usize::try_from(label).unwrap_or(usize::MAX);
    let own = *values.get(index).ok_or_else(|| Error::LabelRange {
        image: image.to_owned(),
        label,
        output: output.to_owned(),
        classes: values.len(),
    })?;
    if own.is_nan() {
        return Ok(usize::MAX);
    }
    Ok(values.iter().enumerate().filter(|(i, v)| **v > own || (**v == own && *i < index)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(values: &[f32], label: u32) -> Result<usize, Error> {
        place_of("y", values, label, "image.png")
    }

    #[test]
    fn places_count_what_is_larger() {
        assert_eq!(place(&[0.1, 0.7, 0.2], 1).unwrap(), 0);
        assert_eq!(place(&[0.1, 0.7, 0.2], 0).unwrap(), 2);
        assert_eq!(place(&[0.5, 0.5], 1).unwrap(), 1, "the first of equals wins");
        assert_eq!(place(&[f32::NAN, 0.5], 0).unwrap(), usize::MAX);
        let error = place(&[0.5, 0.5], 2).unwrap_err().to_string();
        assert_eq!(error, "label 2 of image `image.png` is not a class of the model, whose output `y` has 2 scores");
    }
}
