//! Tasks of the project that are no part of what it ships: `cargo xtask <task>`.
//!
//! This file only dispatches; each task is a module of its own.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task talks to the person who started it")]

mod bench;
mod caffe;
mod conformance;
mod error;
mod example;
mod hostile;
mod networks;
mod random;
mod tensorflow;
mod tidy;
mod workspace;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Tasks of the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Check the rules of the source tree: crate edges, module docs, file access, text.
    Tidy,
    /// Compare what `quantize` writes and computes with real runtimes and other tools.
    Conformance {
        /// The suite.
        suite: conformance::Suite,
        /// Run only the checks whose name contains one of these words.
        only: Vec<String>,
    },
    /// Give damaged files to every reader: `cargo xtask hostile --help`.
    #[command(disable_help_flag = true)]
    Hostile {
        /// What the program in `hostile/` takes.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Write GoogLeNet without LRN layers in Caffe's format, with random weights: the network of the example in the
    /// xfDNN quantizer's manual.
    Googlenet {
        /// The folder that the two files go to; it is made if it is not there.
        out_dir: PathBuf,
        /// Write into the folders that the manual's commands name, so that they run with this folder as MLSUITE_ROOT
        /// once there are images in models/data/ilsvrc12/ilsvrc12_img_cal.
        #[arg(long)]
        tree: bool,
    },
    /// Measure `quantize` beside onnxruntime, both on one core in the same run: speed in fp32 and int8, the cost of
    /// calibration, and the whole command. Needs Python, `taskset`, 3 GB of memory, and 10 GB for `command`.
    Bench(bench::BenchArgs),
    /// Answer the requests of `bench`, which starts this for itself.
    #[command(hide = true)]
    BenchWorker(bench::WorkerArgs),
    /// Write the networks of the benchmark as ONNX models with random weights: ResNet-50 v1.5, MobileNetV1, VGG16, and
    /// VGG16's convolutions alone; 730 MB together.
    BenchModels {
        /// The folder that the files go to; it is made if it is not there.
        out_dir: PathBuf,
    },
    /// Write a model whose weights stand in a file beside it and do not fit into memory.
    BigModel {
        /// The folder that the files go to; it is made if it is not there.
        out_dir: PathBuf,
        /// GiB of weights, at least.
        #[arg(long, default_value_t = 3)]
        gigabytes: usize,
    },
    /// Write ResNet-50 as TensorFlow 1.15 would, as a frozen GraphDef of 103 MB with random weights.
    TensorflowResnet {
        /// The folder that the file goes to; it is made if it is not there.
        out_dir: PathBuf,
    },
    /// Make the example of `quantize demo` in Caffe's format from digits.onnx.
    DemoCaffe,
    /// Make the example of `quantize demo` as a TensorFlow graph from digits.onnx.
    DemoTensorflow,
    /// Make the Caffe networks among the fixtures of the test suites.
    CaffeFixtures,
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Tidy => tidy::run(),
        Task::Conformance { suite, only } => conformance::run(suite, &only),
        Task::Hostile { arguments } => hostile::run(&arguments),
        Task::Googlenet { out_dir, tree } => caffe::write_googlenet(&out_dir, tree).map(list),
        Task::Bench(args) => bench::run(&args),
        Task::BenchWorker(args) => bench::run_worker(&args),
        Task::BenchModels { out_dir } => networks::write(&out_dir).map(list),
        Task::BigModel { out_dir, gigabytes } => networks::big::write(&out_dir, gigabytes).map(list),
        Task::TensorflowResnet { out_dir } => tensorflow::write_resnet(&out_dir).map(|path| list(vec![path])),
        Task::DemoCaffe => caffe::write_digits().map(list),
        Task::DemoTensorflow => tensorflow::write_digits().map(|path| list(vec![path])),
        Task::CaffeFixtures => caffe::write_fixtures().map(list),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says which files were written.
fn list(files: Vec<PathBuf>) {
    files.iter().for_each(|file| println!("{}", file.display()));
}
