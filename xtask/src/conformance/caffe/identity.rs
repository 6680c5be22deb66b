//! Merging that has nothing to merge writes the very same bytes, whatever the network contains.

use std::fs;
use std::path::{Path, PathBuf};

use super::networks::{self, Network};
use crate::conformance::context::Context;
use crate::conformance::report::{Report, Verdict};
use crate::error::{Result, at};
use crate::workspace;

/// `--skip '*'` with `--emit-merged` on every network of the shared data, without calibration data.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("identity", report) else {
        return Ok(());
    };
    let networks = networks::find(shared)?;
    let mut unmet = Vec::new();
    for network in &networks {
        unmet.extend(difference(context, network)?.map(|what| format!("{}: {what}", network.name)));
    }
    let figures = format!("{} networks, {} of them with identical bytes", networks.len(), networks.len() - unmet.len());
    report.record("identity", Verdict::of(figures, &unmet));
    Ok(())
}

/// What is wrong with the copy of one network.
fn difference(context: &Context, network: &Network) -> Result<Option<String>> {
    let copy = context.folder("identity")?.join(&network.name);
    let mut command = network.quantize(context);
    command.args(["--skip", "*", "--emit-merged"]).arg(&copy).arg("-o").arg(with_suffix(&copy, ".json"));
    let done = workspace::any_output(&mut command)?;
    if !done.status.success() {
        return Ok(Some(format!("{}{}", done.status, workspace::last_lines(&done.stderr))));
    }
    for (original, suffix) in [(&network.deploy, ".prototxt"), (&network.weights, ".caffemodel")] {
        let copy = with_suffix(&copy, suffix);
        if fs::read(original).map_err(at(original))? != fs::read(&copy).map_err(at(&copy))? {
            return Ok(Some(format!("the bytes of the {} differ", suffix.trim_start_matches('.'))));
        }
    }
    Ok(None)
}

/// The path with a suffix behind it.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
