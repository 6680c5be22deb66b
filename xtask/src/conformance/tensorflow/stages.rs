//! The steps of the original document on a small network: what every graph that we write computes in TensorFlow, beside
//! what the original tools' graphs compute there.
//!
//! Steps read what those before wrote. Only the one that quantizes by the original's rules starts from the original's
//! optimized graph: ours differs in the last bits of folded weights, and a code of them now and then, so that nothing
//! after it could be held to the same outputs.

mod log;

use std::path::{Path, PathBuf};

use super::graph_run::{GraphRun, Request};
use crate::conformance::context::Context;
use crate::conformance::report::{Report, Verdict};
use crate::error::Result;
use crate::workspace;

/// The network's folder in the shared folder.
const NETWORK: &str = "golden/tf/small_net";

const INPUT: &str = "input";
const OUTPUT: &str = "predict";
/// Images that were run at a time when the outputs were recorded: ranges that are found while running depend on it.
const BATCH: usize = 8;

/// A graph that a step writes.
struct Stage {
    /// Its name, and the file's.
    name: &'static str,
    /// The step and its flags. `GOLDEN` stands for the network's folder, `WORK` for the folder that is written to.
    command: &'static [&'static str],
    expected: Expected,
}

/// What a graph should do.
#[derive(Clone, Copy)]
enum Expected {
    /// Give the outputs in this array of the network's folder, but for this difference of a probability.
    Outputs(&'static str, f64),
    /// Give the outputs that this graph in the network's folder gives in this run, likewise.
    OutputsOf(&'static str, f64),
    /// Load, run and give finite outputs, whatever they are.
    Runs,
    /// Log ranges, written to a file named like the graph's: those of the original's log, if there is one to compare with.
    Ranges(Option<&'static str>),
}

const FP32: &str = "output_fp32.npy";
/// Largest difference of a probability between graphs that should compute the same.
const SAME: f64 = 1e-5;
/// Largest difference of a graph on codes from fp32; the original's have up to 0.025.
const NEAR: f64 = 0.03;

/// All steps in an order in which each finds what it reads.
#[rustfmt::skip]
const STAGES: &[Stage] = &[
    Stage {
        name: "frozen",
        command: &[
            "freeze", "--input_graph", "GOLDEN/original_graph.pbtxt", "--input_checkpoint", "GOLDEN/model.ckpt",
            "--input_binary", "False", "--output_node_names", "predict", "--output_graph", "WORK/frozen.pb",
        ],
        expected: Expected::Outputs(FP32, SAME),
    },
    Stage {
        name: "optimized",
        command: &[
            "transform", "--in_graph=WORK/frozen.pb", "--out_graph=WORK/optimized.pb", "--inputs=input",
            "--outputs=predict", "--transforms=strip_unused_nodes remove_nodes(op=Identity, op=CheckNumerics) \
             fold_constants(ignore_errors=true) fold_batch_norms fold_old_batch_norms",
        ],
        expected: Expected::Outputs(FP32, SAME),
    },
    Stage {
        name: "dynamic",
        command: &[
            "eightbit", "--input=GOLDEN/optimized_graph.pb", "--output=WORK/dynamic.pb", "--output_node_names=predict",
            "--mode=eightbit", "--intel_cpu_eightbitize=True",
        ],
        expected: Expected::Outputs("output_tf221_quantized_dynamic_range_graph.npy", SAME),
    },
    Stage {
        name: "logged",
        command: &[
            "transform", "--in_graph=WORK/dynamic.pb", "--out_graph=WORK/logged.pb",
            r#"--transforms=insert_logging(op=RequantizationRange, show_name=true, message="__requant_min_max:")"#,
        ],
        expected: Expected::Ranges(Some("min_max_log.txt")),
    },
    Stage {
        name: "frozen_ranges",
        command: &[
            "transform", "--in_graph=WORK/dynamic.pb", "--out_graph=WORK/frozen_ranges.pb",
            r#"--transforms=freeze_requantization_ranges(min_max_log_file="WORK/logged.log")"#,
        ],
        expected: Expected::Outputs("output_tf221_freezed_range_graph.npy", SAME),
    },
    Stage {
        name: "fused",
        command: &[
            "transform", "--in_graph=WORK/frozen_ranges.pb", "--out_graph=WORK/fused.pb",
            "--transforms=fuse_quantized_conv_and_requantize",
        ],
        expected: Expected::Outputs("output_tf221_fused_graph.npy", SAME),
    },
    // TensorFlow 2 computes wrong values of a dynamic graph with a range for each channel, of the original's too.
    Stage {
        name: "dynamic_channels",
        command: &[
            "eightbit", "--input=GOLDEN/optimized_graph.pb", "--output=WORK/dynamic_channels.pb",
            "--output_node_names=predict", "--mode=eightbit", "--intel_cpu_eightbitize=True", "--per_channel=True",
        ],
        expected: Expected::OutputsOf("quantized_dynamic_range_graph_pc.pb", SAME),
    },
    Stage {
        name: "plain",
        command: &[
            "eightbit", "--input=WORK/optimized.pb", "--output=WORK/plain.pb", "--output_node_names=predict",
            "--mode=eightbit",
        ],
        expected: Expected::Outputs(FP32, NEAR),
    },
    Stage {
        name: "sound",
        command: &[
            "eightbit", "--input=WORK/optimized.pb", "--output=WORK/sound.pb", "--output_node_names=predict",
            "--mode=eightbit", "--intel_cpu_eightbitize=True", "--rules=sound",
        ],
        expected: Expected::Outputs(FP32, NEAR),
    },
    Stage {
        name: "sound_logged",
        command: &[
            "transform", "--in_graph=WORK/sound.pb", "--out_graph=WORK/sound_logged.pb",
            r#"--transforms=insert_logging(op=RequantizationRange, show_name=true, message="__requant_min_max:")"#,
        ],
        expected: Expected::Ranges(None),
    },
    Stage {
        name: "sound_fused",
        command: &[
            "transform", "--in_graph=WORK/sound.pb", "--out_graph=WORK/sound_fused.pb",
            "--transforms=freeze_requantization_ranges(min_max_log_file=\"WORK/sound_logged.log\") \
             fuse_quantized_conv_and_requantize(rules=sound)",
        ],
        expected: Expected::Outputs(FP32, NEAR),
    },
    Stage {
        name: "sound_channels",
        command: &[
            "eightbit", "--input=WORK/optimized.pb", "--output=WORK/sound_channels.pb", "--output_node_names=predict",
            "--mode=eightbit", "--intel_cpu_eightbitize=True", "--rules=sound", "--per_channel=True",
        ],
        expected: Expected::Runs,
    },
    // Its ranges would be wrong, so they are those of the graph with one range for weights, whose nodes have the same names.
    Stage {
        name: "sound_channels_fused",
        command: &[
            "transform", "--in_graph=WORK/sound_channels.pb", "--out_graph=WORK/sound_channels_fused.pb",
            "--transforms=freeze_requantization_ranges(min_max_log_file=\"WORK/sound_logged.log\") \
             fuse_quantized_conv_and_requantize(rules=sound)",
        ],
        expected: Expected::Outputs(FP32, NEAR),
    },
    Stage {
        name: "at_once",
        command: &["run", "WORK/frozen.pb", "--calib", "GOLDEN/input.npy", "--quiet", "-o", "WORK/at_once.pb"],
        expected: Expected::Outputs(FP32, NEAR),
    },
];

/// Every step.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("stages", report) else {
        return Ok(());
    };
    let golden = shared.join(NETWORK);
    let data = golden.join("input.npy");
    let network = Network { context, golden, data, work: context.folder("stages")? };
    for stage in STAGES {
        let verdict = network.judge(stage).unwrap_or_else(|error| Verdict::Failed(error.to_string()));
        report.record(format!("stage {}", stage.name), verdict);
    }
    Ok(())
}

/// The small network.
struct Network<'a> {
    context: &'a Context,
    golden: PathBuf,
    /// Its images.
    data: PathBuf,
    work: PathBuf,
}

impl Network<'_> {
    fn judge(&self, stage: &Stage) -> Result<Verdict> {
        let folders = [("GOLDEN", &self.golden), ("WORK", &self.work)];
        let spelled = |word: &&str| {
            folders.iter().fold((*word).to_owned(), |word, (name, path)| word.replace(name, &path.to_string_lossy()))
        };
        workspace::output(self.context.quantize().arg("tf").args(stage.command.iter().map(spelled)))?;
        let graph = self.work.join(format!("{}.pb", stage.name));
        match stage.expected {
            Expected::Outputs(recorded, most) => self.compare(&graph, &self.golden.join(recorded), most),
            Expected::Runs => self.compare(&graph, &self.golden.join(FP32), f64::MAX),
            Expected::OutputsOf(other, most) => {
                let reference = self.work.join(other).with_extension("npy");
                GraphRun::of(self.context, &self.golden.join(other), &self.request(), &reference, None)?;
                self.compare(&graph, &reference, most)
            }
            Expected::Ranges(golden) => {
                let request = Request { batch: 1, limit: Some(log::IMAGES), ..self.request() };
                log::judge(self.context, &graph, &request, golden.map(|file| self.golden.join(file)).as_deref())
            }
        }
    }

    fn request(&self) -> Request<'_> {
        Request { input: INPUT, output: OUTPUT, data: &self.data, batch: BATCH, limit: None, labels: None }
    }

    fn compare(&self, graph: &Path, reference: &Path, most: f64) -> Result<Verdict> {
        let run = GraphRun::of(self.context, graph, &self.request(), &graph.with_extension("npy"), Some(reference))?;
        let distance = run.distance();
        let (codes, reals) = run.convolutions();
        let figures = format!(
            "difference {:.1e}, agreement {:.1} % on {} images; convolutions: {codes} on codes, {reals} on reals",
            distance.largest, distance.agreement, run.images
        );
        let unmet = if distance.largest <= most { Vec::new() } else { vec![format!("more than {most:.0e} apart")] };
        Ok(Verdict::of(figures, &unmet))
    }
}
