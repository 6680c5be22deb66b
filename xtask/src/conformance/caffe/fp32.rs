//! Our fp32 executor agrees with OpenCV's reading of the same files.

use super::networks::{self, Network};
use crate::conformance::compare::absolute_difference;
use crate::conformance::context::Context;
use crate::conformance::report::{Report, Verdict};
use crate::error::Result;

/// The largest difference of an output.
const TOLERANCE: f64 = 1e-5;

/// Every network of the shared data.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("fp32", report) else {
        return Ok(());
    };
    for network in networks::find(shared)? {
        let verdict = judge(context, &network).unwrap_or_else(|error| Verdict::Failed(error.to_string()));
        report.record(format!("fp32 {}", network.name), verdict);
    }
    Ok(())
}

fn judge(context: &Context, network: &Network) -> Result<Verdict> {
    let runs = network.reference(context)?;
    let worst = network.difference(&runs, absolute_difference)?;
    let figures = format!("{}, difference {worst:.1e}", runs.describe());
    let unmet = if worst <= TOLERANCE { Vec::new() } else { vec![format!("more than {TOLERANCE:.0e} apart")] };
    Ok(Verdict::of(figures, &unmet))
}
