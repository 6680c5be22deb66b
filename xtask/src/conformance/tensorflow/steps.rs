//! Steps of `quantize tf` that write a graph each, and the judgement of what the graph does in TensorFlow.

mod log;

use std::fs;
use std::path::{Path, PathBuf};

use super::graph_run::{Distance, GraphRun, Request};
use crate::conformance::context::Context;
use crate::conformance::report::{Report, Verdict};
use crate::error::{Result, at};
use crate::workspace;

/// A step that writes a graph.
pub(super) struct Step {
    /// Its name, and that of the graph `WORK/NAME.pb`.
    pub(super) name: &'static str,
    /// The command after `quantize tf`, in which names of folders stand for them. What it prints goes to `WORK/NAME.txt`.
    pub(super) command: &'static [&'static str],
    /// What the graph should do.
    pub(super) expected: Expected,
}

/// What a graph should do. Files are spelled as in commands.
#[derive(Clone, Copy)]
pub(super) enum Expected {
    /// Give the outputs in this array.
    Like(&'static str, Limit),
    /// Give the outputs that another graph gives.
    LikeGraph(&'static str, Limit),
    /// Load, run and give finite outputs, whatever they are.
    Runs,
    /// Log ranges, which go to `WORK/NAME.log`: those of another log, if there is one to compare with.
    Ranges(Option<&'static str>),
}

/// How far outputs may be from others.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    /// The largest absolute difference.
    Difference(f64),
    /// The least cosine, and the least ratio of signal to noise in dB.
    Cosine(f64, f64),
}

impl Limit {
    /// What is beyond the limit.
    fn unmet(self, distance: &Distance) -> Vec<String> {
        match self {
            Self::Difference(most) if distance.largest > most => vec![format!("more than {most:.0e} apart")],
            Self::Cosine(cosine, _) if distance.cosine < cosine => vec![format!("cosine below {cosine}")],
            Self::Cosine(_, sqnr) if distance.sqnr < sqnr => vec![format!("less than {sqnr} dB")],
            _ => Vec::new(),
        }
    }
}

/// A folder, and the name that stands for it in commands.
#[derive(Clone, Copy)]
pub(super) struct Folder<'a> {
    /// Its name.
    pub(super) name: &'static str,
    /// Where it is.
    pub(super) path: &'a Path,
}

/// What the steps of a network have in common.
pub(super) struct Steps<'a> {
    /// The program and the runtime.
    pub(super) context: &'a Context,
    /// Where graphs are written.
    pub(super) work: &'a Path,
    /// The folders that commands name.
    pub(super) folders: &'a [Folder<'a>],
    /// What every graph is run on.
    pub(super) request: Request<'a>,
    /// Images whose ranges are logged, one at a time.
    pub(super) logged: usize,
}

impl Steps<'_> {
    /// Carries out a step and records what becomes of its graph.
    pub(super) fn record(&self, network: &str, step: &Step, report: &mut Report) {
        let verdict = self.judge(step).unwrap_or_else(|error| Verdict::Failed(error.to_string()));
        report.record(format!("{network} {}", step.name), verdict);
    }

    fn judge(&self, step: &Step) -> Result<Verdict> {
        let words = step.command.iter().map(|word| self.spelled(word));
        let done = workspace::output(self.context.quantize().arg("tf").args(words))?;
        let graph = self.work.join(format!("{}.pb", step.name));
        let printed = graph.with_extension("txt");
        fs::write(&printed, &done.stdout).map_err(at(&printed))?;
        match step.expected {
            Expected::Like(outputs, limit) => self.compare(&graph, &self.path(outputs), limit),
            Expected::LikeGraph(other, limit) => {
                let reference = graph.with_extension("reference.npy");
                GraphRun::of(self.context, &self.path(other), &self.request, &reference, None)?;
                self.compare(&graph, &reference, limit)
            }
            Expected::Runs => {
                let run = GraphRun::of(self.context, &graph, &self.request, &graph.with_extension("npy"), None)?;
                let unmet = if run.finite { Vec::new() } else { vec!["outputs are not finite".into()] };
                Ok(Verdict::of(describe(&run), &unmet))
            }
            Expected::Ranges(golden) => {
                let request = Request { batch: 1, limit: Some(self.logged), ..self.request };
                let golden = golden.map(|file| self.path(file));
                log::judge(self.context, &graph, &request, self.logged, golden.as_deref())
            }
        }
    }

    /// A word of a command with the folders in it.
    fn spelled(&self, word: &str) -> String {
        let put_in = |word: String, folder: &Folder<'_>| word.replace(folder.name, &folder.path.to_string_lossy());
        self.folders.iter().fold(word.to_owned(), put_in)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.spelled(file).into()
    }

    fn compare(&self, graph: &Path, reference: &Path, limit: Limit) -> Result<Verdict> {
        let run = GraphRun::of(self.context, graph, &self.request, &graph.with_extension("npy"), Some(reference))?;
        let distance = run.distance();
        let figures = format!(
            "difference {:.1e}, {:.1} dB, cosine {:.6}, agreement {:.1} %; {}",
            distance.largest,
            distance.sqnr,
            distance.cosine,
            distance.agreement,
            describe(&run)
        );
        Ok(Verdict::of(figures, &limit.unmet(&distance)))
    }
}

fn describe(run: &GraphRun) -> String {
    let (codes, reals) = run.convolutions();
    format!("{} images; convolutions: {codes} on codes, {reals} on reals", run.images)
}
