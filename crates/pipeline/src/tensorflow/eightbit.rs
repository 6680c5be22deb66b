//! A graph of single precision becomes one on 8-bit codes.

use super::steps::{WrittenGraph, write};
use crate::error::Error;
use quantize_document::Limits;
use quantize_tensorflow::eightbit::{Covered, EightbitOptions, eightbit};
use quantize_tensorflow::{Encoding, ReadOptions, TensorflowDocument};
use std::path::PathBuf;

/// A graph that is to compute on codes.
#[derive(Clone, Debug)]
pub struct EightbitJob {
    /// The graph, with its variables frozen.
    pub graph: PathBuf,
    /// How.
    pub options: EightbitOptions,
    /// Where the quantized graph goes.
    pub output: PathBuf,
    /// Whether it goes there as text.
    pub as_text: bool,
}

/// A quantized graph that was written.
#[derive(Clone, Debug)]
pub struct EightbitGraph {
    /// The file.
    pub written: WrittenGraph,
    /// What became of nodes that could be quantized.
    pub coverage: Vec<Covered>,
    /// How often reals become codes, and codes reals.
    pub conversions: [usize; 2],
}

/// Writes a graph that computes on codes, or stores constants as such.
///
/// # Errors
/// If a file cannot be read or written, or [`eightbit`] refuses the graph.
pub fn eightbit_tensorflow(job: &EightbitJob) -> Result<EightbitGraph, Error> {
    let document = TensorflowDocument::open(&job.graph, &Limits::default(), &ReadOptions::default())?;
    let done = eightbit(document.graph(), &job.options).map_err(|error| error.in_file(&job.graph))?;
    let bytes = document.render(&done.graph, if job.as_text { Encoding::Text } else { Encoding::Binary })?;
    let (to_codes, to_reals) = done.conversions();
    Ok(EightbitGraph {
        written: WrittenGraph {
            path: write(&job.output, bytes)?,
            nodes: [document.graph().nodes().len(), done.graph.nodes().len()],
            steps: Vec::new(),
            warnings: done.problems.iter().map(ToString::to_string).collect(),
        },
        coverage: done.coverage,
        conversions: [to_codes, to_reals],
    })
}
