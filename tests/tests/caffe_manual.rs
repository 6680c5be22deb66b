//! The original quantizer's manual: its commands run unchanged, with `quantize caffe` in the place of its script.
#![allow(clippy::unwrap_used)]

use quantize_caffe::xfdnn::{Entry, QuantizationFile};
use quantize_tests::quantcfg::read;
use quantize_tests::sandbox::{Outcome, Sandbox};
use quantize_tests::{binary, counted, files_in, shared};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the manual starts its script.
const SCRIPT: &str = "python $MLSUITE_ROOT/xfdnn/tools/quantize/quantize.pyc";
/// Where its example looks for images.
const IMAGES: &str = "models/data/ilsvrc12/ilsvrc12_img_cal";
/// Where its example writes.
const OUTPUT: &str = "examples/quantize/work/caffe/bvlc_googlenet_without_lrn/\
                      bvlc_googlenet_without_lrn_quantized_int8_deploy.json";
/// Commands of its example: go to a folder, quantize with random images, quantize with given ones, list the results.
const COMMANDS: [&str; 4] = ["cd ", SCRIPT, SCRIPT, "ls "];

/// A command and what the manual shows it to print.
#[derive(Debug)]
struct Step {
    command: String,
    printed: String,
}

/// Blocks between lines of three backticks, without the lines' indentation.
fn blocks(document: &str) -> Vec<String> {
    let lines: Vec<&str> = document.lines().map(str::trim_start).collect();
    let fences = lines.split(|line| line.starts_with("```"));
    fences.skip(1).step_by(2).map(|block| block.join("\n")).collect()
}

/// The commands of a block: what follows `# `, to the end of a line without a backslash.
fn steps(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut continued = false;
    for line in block.lines() {
        match (line.strip_prefix("# "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), printed: String::new() }),
            (None, Some(step)) if continued => step.command.extend(["\n", line]),
            (None, Some(step)) => step.printed.extend([line, "\n"]),
            (None, None) => {}
        }
        continued = line.ends_with('\\');
    }
    steps
}

fn manual(shared: &Path) -> Vec<String> {
    blocks(&std::fs::read_to_string(shared.join("seeds/caffe-xfdnn-quantizer.md")).unwrap())
}

/// Makes the folders of the example, with the network and as many photographs as it takes.
fn suite(shared: &Path) -> Sandbox {
    let sandbox = Sandbox::new();
    let made =
        Command::new(binary::xtask()).arg("googlenet").arg(sandbox.path("suite")).arg("--tree").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let photographs = files_in(&shared.join("images/calib")).into_iter();
    let photographs: Vec<PathBuf> =
        photographs.filter(|p| p.extension().is_some_and(|e| e == "jpg")).take(32).collect();
    assert_eq!(photographs.len(), 32);
    sandbox.copy_files(&format!("suite/{IMAGES}"), &photographs);
    sandbox
}

/// Runs a command of the manual in a shell.
fn run(sandbox: &Sandbox, step: &Step) -> Outcome {
    let command = step.command.replace(SCRIPT, &format!("'{}' caffe", binary::quantize().display()));
    let mut shell = Command::new("sh");
    shell.args(["-ec", &command]).env("MLSUITE_ROOT", sandbox.path("suite")).current_dir(sandbox.path("suite"));
    Outcome::from(shell.output().unwrap()).succeeded()
}

#[test]
fn the_commands_of_the_manual_run_unchanged() {
    let Some(shared) = shared() else { return };
    let sandbox = suite(&shared);
    let steps: Vec<Step> = manual(&shared).iter().flat_map(|block| steps(block)).collect();
    assert_eq!(steps.len(), COMMANDS.len(), "{steps:?}");
    let mut files = Vec::new();
    for (step, start) in steps.iter().zip(COMMANDS) {
        assert!(step.command.starts_with(start), "{step:?}");
        let outcome = run(&sandbox, step);
        if step.printed.is_empty() {
            files.extend(std::fs::read(sandbox.path("suite").join(OUTPUT)).ok());
        } else {
            assert_eq!(outcome.stdout, step.printed, "{step:?}");
        }
    }
    // Both quantizations take all the images there are.
    assert!(files.len() == 2 && files[0] == files[1]);
    check_entries(&shared, &read(&sandbox.path("suite").join(OUTPUT)));
    counted(steps.len(), "commands of the manual");
}

/// Compares names of layers and lengths of lists with the file that was published for this network. That has entries of
/// convolutions only; the default options add the average pooling and the inner product at the end.
fn check_entries(shared: &Path, found: &QuantizationFile) {
    let published = read(&shared.join("golden/xfdnn/json/googlenet_int8_v2.json"));
    let lists = |entry: &Entry| (entry.name.clone(), entry.th_params.as_ref().map(Vec::len), entry.scale.len());
    let mut expected: Vec<_> = published.network.iter().map(lists).collect();
    expected.push(("pool5/7x7_s1".to_owned(), None, 1024));
    expected.push(("loss3/classifier".to_owned(), Some(1000), 1000));
    assert_eq!(found.network.iter().map(lists).collect::<Vec<_>>(), expected);
}

#[test]
fn the_options_of_the_manual_are_in_the_help() {
    let Some(shared) = shared() else { return };
    let help = Sandbox::new().quantize("caffe --help").succeeded().stdout;
    let blocks = manual(&shared);
    let usage = blocks.iter().find(|block| block.starts_with("quantize.pyc [-h]")).unwrap();
    let words = usage.split(|c: char| c.is_whitespace() || "[]".contains(c));
    let options: Vec<&str> = words.filter(|word| word.starts_with("--")).collect();
    assert_eq!(options.len(), 14, "{options:?}");
    for option in &options {
        assert!(help.contains(&format!("{option} <")), "{option}");
    }
    counted(options.len(), "options of the manual");
}
