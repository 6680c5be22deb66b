//! ResNet-50 with random weights, with all that graphs of TensorFlow 1.15 and later have: explicit padding,
//! `FusedBatchNormV3`, `AddV2`. Through the steps of the original document, from a checkpoint that TensorFlow writes, with
//! ranges that TensorFlow logs; and at once.

mod coverage;

use coverage::Table;

use super::graph_run::{GraphRun, Request};
use super::photos::Photos;
use super::steps::{Expected, Folder, Limit, Step, Steps};
use crate::conformance::context::Context;
use crate::conformance::report::{Report, Verdict};
use crate::error::Result;
use crate::tensorflow::{INPUT, OUTPUT, write_resnet};
use crate::workspace;

/// Photos that every graph is run on, and whose ranges are logged.
const PHOTOS: usize = 8;

const FP32: &str = "WORK/fp32.npy";
/// Between graphs that should compute the same.
const SAME: Limit = Limit::Difference(1e-4);
/// Between a graph on codes and fp32. Scores of different photos have cosines of 0.98 to 0.998 with each other, so that
/// the ratio of signal to noise says more.
const NEAR: Limit = Limit::Cosine(0.99, 20.0);

/// All steps in an order in which each finds what it reads.
#[rustfmt::skip]
const STEPS: &[Step] = &[
    Step {
        name: "frozen",
        command: &[
            "freeze", "--input_graph", "WORK/variables.pbtxt", "--input_checkpoint", "WORK/model.ckpt",
            "--input_binary", "False", "--output_node_names", "logits", "--output_graph", "WORK/frozen.pb",
        ],
        expected: Expected::Like(FP32, SAME),
    },
    Step {
        name: "optimized",
        command: &[
            "transform", "--in_graph=WORK/frozen.pb", "--out_graph=WORK/optimized.pb", "--inputs=input",
            "--outputs=logits", "--transforms=strip_unused_nodes remove_nodes(op=Identity, op=CheckNumerics) \
             fold_constants(ignore_errors=true) fold_batch_norms fold_old_batch_norms",
        ],
        expected: Expected::Like(FP32, SAME),
    },
    Step {
        name: "original",
        command: &[
            "eightbit", "--input=WORK/optimized.pb", "--output=WORK/original.pb", "--output_node_names=logits",
            "--mode=eightbit", "--intel_cpu_eightbitize=True", "--rules=original", "--output-format=json",
        ],
        expected: Expected::Like(FP32, NEAR),
    },
    Step {
        name: "original_logged",
        command: &[
            "transform", "--in_graph=WORK/original.pb", "--out_graph=WORK/original_logged.pb",
            r#"--transforms=insert_logging(op=RequantizationRange, show_name=true, message="__requant_min_max:")"#,
        ],
        expected: Expected::Ranges(None),
    },
    Step {
        name: "original_frozen_ranges",
        command: &[
            "transform", "--in_graph=WORK/original.pb", "--out_graph=WORK/original_frozen_ranges.pb",
            r#"--transforms=freeze_requantization_ranges(min_max_log_file="WORK/original_logged.log")"#,
        ],
        expected: Expected::Like(FP32, NEAR),
    },
    Step {
        name: "original_fused",
        command: &[
            "transform", "--in_graph=WORK/original_frozen_ranges.pb", "--out_graph=WORK/original_fused.pb",
            "--transforms=fuse_quantized_conv_and_requantize(rules=original)",
        ],
        expected: Expected::Like(FP32, NEAR),
    },
    Step {
        name: "sound",
        command: &[
            "eightbit", "--input=WORK/optimized.pb", "--output=WORK/sound.pb", "--output_node_names=logits",
            "--mode=eightbit", "--intel_cpu_eightbitize=True", "--rules=sound", "--output-format=json",
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
        name: "sound_frozen_ranges",
        command: &[
            "transform", "--in_graph=WORK/sound.pb", "--out_graph=WORK/sound_frozen_ranges.pb",
            r#"--transforms=freeze_requantization_ranges(min_max_log_file="WORK/sound_logged.log")"#,
        ],
        expected: Expected::Like(FP32, NEAR),
    },
    Step {
        name: "sound_fused",
        command: &[
            "transform", "--in_graph=WORK/sound_frozen_ranges.pb", "--out_graph=WORK/sound_fused.pb",
            "--transforms=fuse_quantized_conv_and_requantize(rules=sound)",
        ],
        expected: Expected::Like(FP32, NEAR),
    },
    Step {
        name: "at_once",
        command: &[
            "WORK/resnet50.pb", "--inputs", "input", "--outputs", "logits", "--preprocess", "tf", "--calib", "CALIB",
            "--calib-size", "16", "--output-format", "json", "-o", "WORK/at_once.pb",
        ],
        expected: Expected::Like(FP32, NEAR),
    },
    Step {
        name: "real_sums",
        command: &[
            "WORK/resnet50.pb", "--inputs", "input", "--outputs", "logits", "--preprocess", "tf", "--calib", "CALIB",
            "--calib-size", "16", "--residual-sum", "fp32", "-o", "WORK/real_sums.pb",
        ],
        expected: Expected::Like(FP32, NEAR),
    },
    Step {
        name: "signed_sums",
        command: &[
            "WORK/resnet50.pb", "--inputs", "input", "--outputs", "logits", "--preprocess", "tf", "--calib", "CALIB",
            "--calib-size", "16", "--signed-sum", "sum7bit", "-o", "WORK/signed_sums.pb",
        ],
        expected: Expected::Like(FP32, NEAR),
    },
    Step {
        name: "product",
        command: &[
            "WORK/resnet50.pb", "--inputs", "input", "--outputs", "logits", "--preprocess", "tf", "--calib", "CALIB",
            "--calib-size", "16", "--matmul", "int8", "-o", "WORK/product.pb",
        ],
        expected: Expected::Like(FP32, NEAR),
    },
];

/// Steps that print what became of each operator.
const TABLES: &[(&str, Table)] = &[("original", Table::Eightbit), ("sound", Table::Eightbit), ("at_once", Table::Run)];

/// Every step, and what is said of the convolutions.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("resnet", report) else {
        return Ok(());
    };
    let photos = Photos::prepare(context, shared)?;
    let calib = shared.join("images/calib");
    let work = context.folder("resnet")?;
    let request =
        Request { input: INPUT, output: OUTPUT, data: &photos.data, batch: 1, limit: Some(PHOTOS), labels: None };
    let folders = [Folder { name: "CALIB", path: &calib }, Folder { name: "WORK", path: &work }];

    let graph = write_resnet(&work)?;
    GraphRun::of(context, &graph, &request, &work.join("fp32.npy"), None)?;
    let mut script = context.script("tensorflow/with_variables.py");
    script.arg(&graph).arg("--out").arg(work.join("variables.pbtxt")).arg("--checkpoint").arg(work.join("model.ckpt"));
    workspace::output(&mut script)?;

    let steps = Steps { context, work: &work, folders: &folders, request, logged: PHOTOS };
    for step in STEPS {
        steps.record("resnet", step, report);
    }
    for (name, table) in TABLES {
        let judged = coverage::judge(&work.join(format!("{name}.txt")), *table);
        let verdict = judged.unwrap_or_else(|error| Verdict::Failed(error.to_string()));
        report.record(format!("resnet {name} table"), verdict);
    }
    Ok(())
}
