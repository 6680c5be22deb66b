//! The command lines of the tools around a model and around the command itself.

use super::{DataArgs, OutputFormat, PreprocessArgs, TargetArgs};
use crate::list::List;
use crate::topics::TOPICS;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap_complete::Shell;
use quantize_pipeline::{
    CaffeFiles, CompareOptions, InspectOptions, ModelFiles, Other, PreparationOptions, ReadOptions, TargetOptions,
};
use std::num::NonZeroUsize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The model, ONNX, fp32 or quantized; or a Caffe network's description (prototxt).
    model: PathBuf,
    /// A Caffe network's weights (caffemodel).
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Shape of an input that leaves extents open, e.g. input=1,3,224,224; may be repeated.
    #[arg(long, value_name = "NAME=N,N,…", value_parser = parse_shape)]
    shape: Vec<(String, Vec<usize>)>,
    #[command(flatten)]
    target: TargetArgs,
    /// Leave nodes in fp32: a node name or a pattern with `*` and `?`; may be repeated.
    #[arg(long, value_name = "NAME", help_heading = "Target")]
    skip: Vec<String>,
    /// One line for each node and each activation.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Form of the result on standard output.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output_format: OutputFormat,
}

impl InspectArgs {
    /// The job these arguments describe.
    ///
    /// # Errors
    /// If the model is a Caffe network without weights.
    pub(crate) fn options(&self) -> Result<InspectOptions, String> {
        let of_caffe = self.model.extension().is_some_and(|extension| extension == "prototxt");
        let model = match &self.weights {
            Some(weights) => {
                let read = ReadOptions::default();
                ModelFiles::Caffe(CaffeFiles { deploy: self.model.clone(), weights: weights.clone(), read })
            }
            None if of_caffe => {
                let name = self.model.display();
                return Err(format!("`{name}` describes a Caffe network; give its weights with --weights FILE"));
            }
            None => ModelFiles::Onnx(self.model.clone()),
        };
        let (skip, shapes) = (self.skip.clone(), self.shape.clone());
        Ok(InspectOptions { model, target: self.target.options(), skip, shapes })
    }
}

/// `NAME=N,N,…`; the name may contain `=`, as everything before the last one.
fn parse_shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, extents) = text.rsplit_once('=').ok_or("expected a name and extents, such as input=1,3,224,224")?;
    Ok((name.to_owned(), extents.parse::<List<usize>>()?.into_vec()))
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The model that is right by definition, usually fp32; ONNX.
    reference: PathBuf,
    /// The model to compare with it, such as its int8 form.
    #[arg(required_unless_present = "plan")]
    other: Option<PathBuf>,
    /// Compare with what this plan makes of the model, in simulation, instead of with another model.
    #[arg(long, value_name = "FILE", conflicts_with = "other")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    pub(crate) how: CompareHow,
}

/// How two models of any format are compared.
#[derive(Debug, Args)]
pub(crate) struct CompareHow {
    /// List the N layers with the lowest ratio of signal to noise, worst first, instead of all in order.
    #[arg(long, value_name = "N")]
    pub(crate) worst: Option<NonZeroUsize>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    /// Threads, one image each [default: one for each core]; the result does not depend on it.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Show no progress and no warnings.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Form of the result on standard output.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output_format: OutputFormat,
}

impl CompareArgs {
    /// The job these arguments describe.
    ///
    /// # Errors
    /// If there are no samples, or nothing to compare with.
    pub(crate) fn options(&self) -> Result<CompareOptions, String> {
        let onnx = |path: &PathBuf| ModelFiles::Onnx(path.clone());
        let target = self.target.options();
        let other = match (&self.other, &self.plan) {
            (_, Some(plan)) => Other::Plan { plan: plan.clone(), target },
            (Some(_), None) if target != TargetOptions::default() => {
                return Err(
                    "`--format`, `--activations` and the like say what a plan is for; give it with --plan".into()
                );
            }
            (Some(other), None) => Other::Model(onnx(other)),
            (None, None) => return Err("give a second model, or a plan with --plan FILE".into()),
        };
        self.how.options(onnx(&self.reference), other)
    }
}

impl CompareHow {
    /// The comparison of a model with another or a plan.
    ///
    /// # Errors
    /// If there are no samples.
    pub(crate) fn options(&self, reference: ModelFiles, other: Other) -> Result<CompareOptions, String> {
        let data = self.data.options(PreparationOptions::Pillow(self.preprocess.options()));
        let data = data.ok_or("two models are compared on samples; give them with --calib DIR")?;
        Ok(CompareOptions { reference, other, data, threads: self.threads })
    }
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// What to explain; without one, all topics are listed.
    #[arg(value_parser = topic_names(), ignore_case = true, hide_possible_values = true)]
    pub(crate) topic: Option<String>,
    /// Form of the result on standard output.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output_format: OutputFormat,
}

/// Topics with their other words, so that shells complete them and a wrong one is told the nearest.
fn topic_names() -> PossibleValuesParser {
    let names = TOPICS.iter().map(|t| PossibleValue::new(t.name).aliases(t.aliases.iter().copied()).help(t.summary()));
    PossibleValuesParser::new(names.collect::<Vec<_>>())
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell that will read the script.
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder to write a page for each command to, instead of the first page to standard output.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_a_name() {
        assert_eq!(parse_shape("a=b=1,3,8,8"), Ok(("a=b".to_owned(), vec![1, 3, 8, 8])));
        for bad in ["", "x", "1,3,8,8", "x=", "x=1,-1", "x=a"] {
            assert!(parse_shape(bad).is_err(), "{bad}");
        }
    }
}
