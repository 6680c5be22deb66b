//! `quantize completions` and `quantize man`: what shells and `man` know about the command, made from its definition.

use crate::args::Cli;
use crate::args::tools::{CompletionsArgs, ManArgs};
use crate::terminal::{Failure, result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use quantize_pipeline::OutputSet;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// What each exit code means, as `quantize explain exit-codes` has it.
const EXIT_STATUS: [(&str, &str); 4] = [
    ("0", "Done; what was asked for is written."),
    ("1", "Failed: nothing was written, an older output is untouched."),
    ("2", "Wrong usage: the command line has to change."),
    ("3", "Written, but --strict was given and there was a warning."),
];

/// Writes a shell's completion script.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "quantize", &mut script);
    result(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the manual: its first page to standard output, or all pages to a folder.
pub(crate) fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    let mut pages = Vec::new();
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    add_pages(&command, &mut pages).map_err(|e| Failure::Io("cannot make the manual".into(), e))?;
    let Some(folder) = &args.output else {
        let text = pages.first().map(|(_, page)| String::from_utf8_lossy(page)).unwrap_or_default();
        result(text.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    };
    let cannot = |e| Failure::Io(format!("cannot make the folder {}", folder.display()), e);
    std::fs::create_dir_all(folder).map_err(cannot)?;
    let mut outputs = OutputSet::new();
    let written: Vec<PathBuf> = pages.iter().map(|(name, _)| folder.join(name)).collect();
    for ((_, page), path) in pages.into_iter().zip(&written) {
        outputs.add_bytes(path, page);
    }
    outputs.commit().map_err(quantize_pipeline::Error::from)?;
    written.iter().try_for_each(|path| result(&path.display().to_string()))?;
    Ok(ExitCode::SUCCESS)
}

/// The page of a command and those of the commands below it, with their file names.
fn add_pages(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let man = Man::new(command.clone()).manual("quantize manual").source(version(command));
    pages.push((man.get_filename(), page(&man)?));
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).try_for_each(|sub| add_pages(sub, pages))
}

fn version(command: &Command) -> String {
    format!("quantize {}", command.get_version().unwrap_or(env!("CARGO_PKG_VERSION")))
}

fn page(man: &Man) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render(&mut page)?;
    page.extend(exit_status().to_roff().into_bytes());
    Ok(page)
}

fn exit_status() -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_STATUS {
        section.control("TP", []);
        section.text([bold(code)]);
        section.text([roman(meaning)]);
    }
    section
}
