//! What the whole command uses: processor time and memory.

use super::open_nsfw::{MANY, OpenNsfw};
use crate::conformance::context::Context;
use crate::conformance::report::{Report, Verdict};
use crate::conformance::usage::Usage;
use crate::error::Result;

/// The most processor time, in seconds.
const MOST_CPU_SECONDS: f64 = 4.0;

/// The most memory, in 10⁶ bytes.
const MOST_MB: f64 = 300.0;

/// open_nsfw by the default recipe.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("command", report) else {
        return Ok(());
    };
    let open_nsfw = OpenNsfw::find(shared)?;
    let mut command = open_nsfw.network.quantize(context);
    command.arg("--calib").arg(open_nsfw.calibration(context, MANY)?);
    command.arg("-o").arg(context.folder("command")?.join("open_nsfw.json"));
    let usage = Usage::of(context, &command)?;
    let unmet: Vec<String> = [
        (usage.status != 0).then(|| format!("exit code {}: {}", usage.status, usage.stderr)),
        (usage.cpu_seconds > MOST_CPU_SECONDS).then(|| format!("more than {MOST_CPU_SECONDS} s of processor time")),
        (usage.peak_mb > MOST_MB).then(|| format!("more than {MOST_MB} MB")),
    ]
    .into_iter()
    .flatten()
    .collect();
    report.record("command", Verdict::of(format!("{} photos: {}", MANY.count, usage.describe()), &unmet));
    Ok(())
}
