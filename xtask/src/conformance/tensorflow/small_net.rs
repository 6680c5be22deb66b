//! The steps of the original document on a small network: what every graph that we write computes in TensorFlow, beside
//! what the original tools' graphs compute there.
//!
//! Steps read what those before wrote. Only the one that quantizes by the original's rules starts from the original's
//! optimized graph: ours differs in the last bits of folded weights, and a code of them now and then, so that nothing
//! after it could be held to the same outputs.

use super::graph_run::Request;
use super::steps::{Expected, Folder, Limit, Step, Steps};
use crate::conformance::context::Context;
use crate::conformance::report::Report;
use crate::error::Result;

/// The network's folder in the shared folder.
const NETWORK: &str = "golden/tf/small_net";

const INPUT: &str = "input";
const OUTPUT: &str = "predict";
/// Images that were run at a time when the outputs were recorded: ranges that are found while running depend on it.
const BATCH: usize = 8;
/// Images whose ranges are logged.
const LOGGED: usize = 32;

const FP32: &str = "GOLDEN/output_fp32.npy";
/// Of a probability, between graphs that should compute the same.
const SAME: Limit = Limit::Difference(1e-5);
/// Of a probability, between a graph on codes and fp32; the original's have up to 0.025.
const NEAR: Limit = Limit::Difference(0.03);

/// All steps in an order in which each finds what it reads.
#[rustfmt::skip]
const STEPS: &[Step] = &[
    Step {
        name: "frozen",
        command: &[
            "freeze", "--input_graph", "GOLDEN/original_graph.pbtxt", "--input_checkpoint", "GOLDEN/model.ckpt",
            "--input_binary", "False", "--output_node_names", "predict", "--output_graph", "WORK/frozen.pb",
        ],
        expected: Expected::Like(FP32, SAME),
    },
    Step {
        name: "optimized",
        command: &[
            "transform", "--in_graph=WORK/frozen.pb", "--out_graph=WORK/optimized.pb", "--inputs=input",
            "--outputs=predict", "--transforms=strip_unused_nodes remove_nodes(op=Identity, op=CheckNumerics) \
             fold_constants(ignore_errors=true) fold_batch_norms fold_old_batch_norms",
        ],
        expected: Expected::Like(FP32, SAME),
    },
    Step {
        name: "dynamic",
        command: &[
            "eightbit", "--input=GOLDEN/optimized_graph.pb", "--output=WORK/dynamic.pb", "--output_node_names=predict",
            "--mode=eightbit", "--intel_cpu_eightbitize=True",
        ],
        expected: Expected::Like("GOLDEN/output_tf221_quantized_dynamic_range_graph.npy", SAME),
    },
    Step {
        name: "logged",
        command: &[
            "transform", "--in_graph=WORK/dynamic.pb", "--out_graph=WORK/logged.pb",
            r#"--transforms=insert_logging(op=RequantizationRange, show_name=true, message="__requant_min_max:")"#,
        ],
        expected: Expected::Ranges(Some("GOLDEN/min_max_log.txt")),
    },
    Step {
        name: "frozen_ranges",
        command: &[
            "transform", "--in_graph=WORK/dynamic.pb", "--out_graph=WORK/frozen_ranges.pb",
            r#"--transforms=freeze_requantization_ranges(min_max_log_file="WORK/logged.log")"#,
        ],
        expected: Expected::Like("GOLDEN/output_tf221_freezed_range_graph.npy", SAME),
    },
    Step {
        name: "fused",
        command: &[
            "transform", "--in_graph=WORK/frozen_ranges.pb", "--out_graph=WORK/fused.pb",
            "--transforms=fuse_quantized_conv_and_requantize",
        ],
        expected: Expected::Like("GOLDEN/output_tf221_fused_graph.npy", SAME),
    },
    // TensorFlow 2 computes wrong values of a dynamic graph with a range for each channel, of the original's too.
    Step {
        name: "dynamic_channels",
        command: &[
            "eightbit", "--input=GOLDEN/optimized_graph.pb", "--output=WORK/dynamic_channels.pb",
            "--output_node_names=predict", "--mode=eightbit", "--intel_cpu_eightbitize=True", "--per_channel=True",
        ],
        expected: Expected::LikeGraph("GOLDEN/quantized_dynamic_range_graph_pc.pb", SAME),
    },
    Step {
        name: "plain",
        command: &[
            "eightbit", "--input=WORK/optimized.pb", "--output=WORK/plain.pb", "--output_node_names=predict",
            "--mode=eightbit",
        ],
        expected: Expected::Like(FP32, NEAR),
    },
    Step {
        name: "sound",
        command: &[
            "eightbit", "--input=WORK/optimized.pb", "--output=WORK/sound.pb", "--output_node_names=predict",
            "--mode=eightbit", "--intel_cpu_eightbitize=True", "--rules=sound",
        ],
        expected: Expected::Like(FP32, NEAR),
    },
    Step {
        name: "sound_logged",
        command: &[
            "transform", "--in_graph=WORK/sound.pb", "--out_graph=WORK/sound_logged.pb",
            r#"--transforms=insert_logging(op=RequantizationRange, show_name=true, message="__requant_min_max:")"#,
        ],
        expected: Expected::Ranges(None),
    },
    Step {
        name: "sound_fused",
        command: &[
            "transform", "--in_graph=WORK/sound.pb", "--out_graph=WORK/sound_fused.pb",
            "--transforms=freeze_requantization_ranges(min_max_log_file=\"WORK/sound_logged.log\") \
             fuse_quantized_conv_and_requantize(rules=sound)",
        ],
        expected: Expected::Like(FP32, NEAR),
    },
    Step {
        name: "sound_channels",
        command: &[
            "eightbit", "--input=WORK/optimized.pb", "--output=WORK/sound_channels.pb", "--output_node_names=predict",
            "--mode=eightbit", "--intel_cpu_eightbitize=True", "--rules=sound", "--per_channel=True",
        ],
        expected: Expected::Runs,
    },
    // Its ranges would be wrong, so they are those of the graph with one range for weights, whose nodes have the same names.
    Step {
        name: "sound_channels_fused",
        command: &[
            "transform", "--in_graph=WORK/sound_channels.pb", "--out_graph=WORK/sound_channels_fused.pb",
            "--transforms=freeze_requantization_ranges(min_max_log_file=\"WORK/sound_logged.log\") \
             fuse_quantized_conv_and_requantize(rules=sound)",
        ],
        expected: Expected::Like(FP32, NEAR),
    },
    Step {
        name: "at_once",
        command: &["run", "WORK/frozen.pb", "--calib", "GOLDEN/input.npy", "--quiet", "-o", "WORK/at_once.pb"],
        expected: Expected::Like(FP32, NEAR),
    },
];

/// Every step.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("small-net", report) else {
        return Ok(());
    };
    let golden = shared.join(NETWORK);
    let data = golden.join("input.npy");
    let request = Request { input: INPUT, output: OUTPUT, data: &data, batch: BATCH, limit: None, labels: None };
    let work = context.folder("small-net")?;
    let folders = [Folder { name: "GOLDEN", path: &golden }, Folder { name: "WORK", path: &work }];
    let steps = Steps { context, work: &work, folders: &folders, request, logged: LOGGED };
    for step in STEPS {
        steps.record("small-net", step, report);
    }
    Ok(())
}
