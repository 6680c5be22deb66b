//! The command `quantize`: arguments in, messages and exit codes out. All work is in `quantize-pipeline`.
//!
//! Written paths go to standard output, one on each line; everything else goes to standard error. Exit codes:
//! 0 done, 1 failed, 2 usage, 3 written but a `--strict` condition broke.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod commands;
mod comparison;
mod demo;
mod emulation;
mod explain;
mod inspection;
mod list;
mod report;
mod shell;
mod statistics;
mod tensorflow;
mod terminal;
mod topics;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Onnx(args) => commands::onnx(&args),
        Command::Caffe(args) => commands::caffe(&args),
        Command::Tf(args) => tensorflow::run(&args),
        Command::Eval(args) => commands::eval(&args),
        Command::Compare(args) => comparison::run(&args),
        Command::Inspect(args) => inspection::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Stats(args) => statistics::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
    };
    outcome.unwrap_or_else(|failure| failure.report())
}
