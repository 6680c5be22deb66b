//! A graph in TensorFlow: what is asked of it, and what it answers.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::conformance::context::Context;
use crate::error::Result;
use crate::workspace;

/// What a graph is run on, beside the graph itself.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    /// Name of the node that is fed.
    pub(super) input: &'a str,
    /// Name of the node that is wanted.
    pub(super) output: &'a str,
    /// The images, one in each row of an array.
    pub(super) data: &'a Path,
    /// Images that are run at a time.
    pub(super) batch: usize,
    /// Images at most, from the first on.
    pub(super) limit: Option<usize>,
    /// The right class of each image, for top-1 accuracy.
    pub(super) labels: Option<&'a Path>,
}

impl Request<'_> {
    /// The command that runs a graph; its outputs go to `out`, and what the graph logs to the standard error.
    pub(super) fn command(&self, context: &Context, graph: &Path, out: &Path) -> Command {
        let mut script = context.script("tensorflow/run_graph.py");
        script.arg(graph).args(["--input", self.input, "--output", self.output]);
        script.arg("--data").arg(self.data).arg("--batch").arg(self.batch.to_string());
        script.arg("--out").arg(out);
        if let Some(limit) = self.limit {
            script.arg("--limit").arg(limit.to_string());
        }
        if let Some(labels) = self.labels {
            script.arg("--labels").arg(labels);
        }
        script
    }
}

/// What `run_graph.py` prints.
#[derive(Deserialize)]
pub(super) struct GraphRun {
    /// Number of images.
    pub(super) images: usize,
    /// Numbers of nodes by operator.
    ops: BTreeMap<String, usize>,
    /// Whether all outputs are finite.
    pub(super) finite: bool,
    /// How far the outputs are from those they were compared with.
    #[serde(flatten)]
    pub(super) distance: Option<Distance>,
    /// Percent of images with the right class, if labels were given.
    pub(super) top1: Option<f64>,
}

/// How far outputs are from others.
#[derive(Clone, Copy, Deserialize)]
pub(super) struct Distance {
    /// Largest absolute difference.
    pub(super) largest: f64,
    /// Mean over images of the ratio of signal to noise, in dB.
    pub(super) sqnr: f64,
    /// Mean over images of the cosine.
    pub(super) cosine: f64,
    /// Percent of images with the same class.
    pub(super) agreement: f64,
}

impl GraphRun {
    /// Runs a graph; its outputs go to `out`, and are compared with `reference` if there is one.
    ///
    /// # Errors
    ///
    /// If TensorFlow does not load or run the graph, crashes included.
    pub(super) fn of(
        context: &Context,
        graph: &Path,
        request: &Request<'_>,
        out: &Path,
        reference: Option<&Path>,
    ) -> Result<Self> {
        let mut script = request.command(context, graph, out);
        script.args(reference.map(|path| [OsStr::new("--reference"), path.as_os_str()]).into_iter().flatten());
        workspace::json(&mut script)
    }

    /// How many nodes have an operator whose name the filter takes.
    pub(super) fn count(&self, takes: impl Fn(&str) -> bool) -> usize {
        self.ops.iter().filter(|(op, _)| takes(op)).map(|(_, count)| count).sum()
    }

    /// The convolutions: how many compute on codes, and how many on reals.
    pub(super) fn convolutions(&self) -> (usize, usize) {
        let on_codes = self.count(|op| op.starts_with("Quantized") && op.contains("Conv2D"));
        (on_codes, self.count(|op| op == "Conv2D" || op == "DepthwiseConv2dNative"))
    }

    /// The distance; infinite in every respect if nothing was compared or an output is not finite.
    pub(super) fn distance(&self) -> Distance {
        const NONE: Distance =
            Distance { largest: f64::INFINITY, sqnr: f64::NEG_INFINITY, cosine: -1.0, agreement: 0.0 };
        self.distance.filter(|_| self.finite).unwrap_or(NONE)
    }
}
