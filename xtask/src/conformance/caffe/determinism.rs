//! The same bytes for any number of threads and any order of the calibration files.

use std::path::{Path, PathBuf};

use super::open_nsfw::{MANY, OpenNsfw};
use crate::conformance::context::Context;
use crate::conformance::files::{THREADS, differing, shuffled_copy};
use crate::conformance::report::{Report, Verdict};
use crate::error::Result;
use crate::workspace;

/// Recipes: name and options.
const RECIPES: &[(&str, &[&str])] = &[("groups", &[]), ("compat", &["--preset", "compat"])];

/// Quantizes open_nsfw by each recipe in each way and compares the files.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("determinism", report) else {
        return Ok(());
    };
    let open_nsfw = OpenNsfw::find(shared)?;
    let images = open_nsfw.calibration(context, MANY)?;
    let shuffled = shuffled_copy(&images, &context.folder("shuffled")?)?;
    for (name, options) in RECIPES {
        let folder = context.folder("determinism")?;
        let quantize = |images: &Path, way: &str, further: &[&str]| -> Result<PathBuf> {
            let output = folder.join(format!("{name}-{way}.json"));
            let mut command = open_nsfw.network.quantize(context);
            command.args(*options).args(further).arg("--calib").arg(images);
            workspace::output(command.args(["--quiet", "-o"]).arg(&output))?;
            Ok(output)
        };
        let mut outputs = Vec::new();
        for threads in THREADS {
            outputs.push(quantize(&images, &format!("threads-{threads}"), &["--threads", threads])?);
        }
        outputs.push(quantize(&shuffled, "shuffled", &[])?);
        let figures = format!("threads {} and files written in another order", THREADS.join(", "));
        report.record(format!("determinism {name}"), Verdict::of(figures, &differing(&outputs)?));
    }
    Ok(())
}
