//! Logs of ranges, from samples: of a graph that prints them, or of one in single precision that is still to be quantized.

use super::model::{TensorflowFiles, TensorflowModel};
use super::steps::write;
use crate::data::Data;
use crate::error::Error;
use crate::memory::threads_for;
use crate::model::Model;
use crate::options::{DataOptions, thread_count};
use quantize_exec::Session;
use quantize_ir::Tensor;
use quantize_parallel::{Progress, for_each};
use quantize_tensorflow::eightbit::EightbitOptions;
use quantize_tensorflow::{
    FutureRange, Print, Request, TensorflowError, future_ranges, import, likely_outputs, node_name, prints,
};
use std::path::PathBuf;

/// A log to write.
#[derive(Clone, Debug)]
pub struct CalibrateTensorflowJob {
    /// The graph, with nodes that print or of single precision.
    pub model: TensorflowFiles,
    /// Samples and their preprocessing.
    pub data: DataOptions,
    /// What will be quantized of a graph of single precision; its outputs are the model's.
    pub eightbit: EightbitOptions,
    /// Threads; 0 for one for each core.
    pub threads: usize,
    /// Where the log goes.
    pub output: PathBuf,
}

/// A log that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeLog {
    /// The file.
    pub path: PathBuf,
    /// Whether the graph printed it; else it has the ranges that its codes will need.
    pub is_printed: bool,
    /// Nodes with lines in it.
    pub nodes: usize,
    /// Number of lines.
    pub lines: usize,
    /// Number of samples.
    pub samples: usize,
    /// What was assumed because nothing was said.
    pub warnings: Vec<String>,
}

/// Where the lines come from.
enum Sources {
    Printed(Vec<Print>),
    Future(Vec<FutureRange>),
}

/// Runs a graph over samples and writes the log of the ranges it takes, in the order of the samples.
///
/// # Errors
/// If the graph or a sample cannot be read or run, the log cannot be written, or nothing in the graph has a range to log.
pub fn calibrate_tensorflow(job: &CalibrateTensorflowJob, progress: &dyn Progress) -> Result<RangeLog, Error> {
    let opened = TensorflowModel::open(&job.model)?;
    let path = job.model.graph.as_path();
    let named = |error: TensorflowError| error.in_file(path);
    let sources = Sources::of(&opened, job).map_err(named)?;
    let request = Request { inputs: job.model.request.inputs.clone(), outputs: sources.tensors() };
    let (graph, noticed) = import(&opened.graph, &request).map_err(named)?;
    let problems = noticed.iter().map(ToString::to_string).collect();
    let model = Model::new(path, graph, problems, opened.model.file_bytes());
    let data = Data::open(&job.data, model.graph(), path)?;
    let lines = lines(&model, &sources, &data, job.threads, progress)?;
    let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    Ok(RangeLog {
        path: write(&job.output, text.into_bytes())?,
        is_printed: matches!(sources, Sources::Printed(_)),
        nodes: sources.len(),
        lines: lines.len(),
        samples: data.samples(),
        warnings: data.assumed().collect(),
    })
}

/// The lines of all samples in their order.
fn lines(
    model: &Model,
    sources: &Sources,
    data: &Data,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<String>, Error> {
    let program = model.compile(model.graph().outputs())?;
    let threads = threads_for(&[&program], thread_count(threads));
    progress.begin("calibrating", data.runs());
    let init = || (Session::new(&program), Vec::new());
    let states = for_each(data.runs(), threads, progress, init, |(session, lines), run| {
        let outputs = session.run(&data.feed(run)?, &mut ()).map_err(|source| Error::exec(model.path(), source))?;
        lines.push((run, sources.lines(run, &outputs)));
        Ok::<(), Error>(())
    })?;
    progress.end();
    let mut runs: Vec<(usize, Vec<String>)> = states.into_iter().flat_map(|(_, lines)| lines).collect();
    runs.sort_by_key(|(run, _)| *run);
    Ok(runs.into_iter().flat_map(|(_, lines)| lines).collect())
}

impl Sources {
    fn of(opened: &TensorflowModel, job: &CalibrateTensorflowJob) -> Result<Self, TensorflowError> {
        let outputs: Vec<String> =
            job.model.request.outputs.iter().map(|output| node_name(output).to_owned()).collect();
        let printed = prints(&opened.graph, &outputs)?;
        if !printed.is_empty() {
            return Ok(Self::Printed(printed));
        }
        let outputs = if outputs.is_empty() { likely_outputs(&opened.graph)? } else { outputs };
        let future = future_ranges(&opened.graph, &EightbitOptions { outputs, ..job.eightbit.clone() })?;
        Ok(Self::Future(future))
    }

    fn len(&self) -> usize {
        match self {
            Self::Printed(prints) => prints.len(),
            Self::Future(ranges) => ranges.len(),
        }
    }

    /// The tensors that lines are made of, one source after the other.
    fn tensors(&self) -> Vec<String> {
        match self {
            Self::Printed(prints) => prints.iter().flat_map(|print| print.tensors.iter().cloned()).collect(),
            Self::Future(ranges) => ranges.iter().map(|range| range.tensor.clone()).collect(),
        }
    }

    /// The lines of a run, from the tensors in their order.
    fn lines(&self, run: usize, tensors: &[Tensor]) -> Vec<String> {
        match self {
            Self::Printed(prints) => {
                let mut rest = tensors.iter();
                let lines = prints.iter().map(|print| {
                    let own: Vec<&Tensor> = rest.by_ref().take(print.tensors.len()).collect();
                    print.first.is_none_or(|first| run < first).then(|| print.line(&own))
                });
                lines.flatten().collect()
            }
            Self::Future(ranges) => {
                let elements = |tensor: &Tensor| tensor.as_slice::<f32>().map(<[f32]>::to_vec).unwrap_or_default();
                ranges.iter().zip(tensors).map(|(range, tensor)| range.line(&elements(tensor))).collect()
            }
        }
    }
}
