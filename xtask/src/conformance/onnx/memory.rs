//! Peak memory does not grow with the number of calibration images.

use super::lite0::Lite0;
use crate::conformance::context::Context;
use crate::conformance::files::{Choice, some_photos};
use crate::conformance::report::{Report, Verdict};
use crate::conformance::usage::Usage;
use crate::error::Result;

/// The most memory a calibration may use, in 10⁶ bytes.
const MOST_MB: f64 = 300.0;

/// How much more the larger number of images may use.
const GROWTH: f64 = 0.05;

/// Numbers of images that are compared.
const IMAGES: [usize; 2] = [10, 100];

/// Quantizes Lite0 with few and with many images.
pub(super) fn check(context: &Context, report: &mut Report) -> Result<()> {
    let Some(shared) = context.shared("memory", report) else {
        return Ok(());
    };
    let lite0 = Lite0::prepare(context, shared)?;
    let mut unmet = Vec::new();
    let mut peaks = Vec::new();
    for count in IMAGES {
        let peak = measure(context, &lite0, count)?;
        if peak.status != 0 {
            unmet.push(format!("exit code {} with {count} images: {}", peak.status, peak.stderr));
        }
        if peak.peak_mb > MOST_MB {
            unmet.push(format!("more than {MOST_MB} MB with {count} images"));
        }
        peaks.push(peak);
    }
    let [few, many] = [0, 1].map(|k| peaks.get(k).map_or(f64::NAN, |peak| peak.peak_mb));
    if (many - few).abs() > GROWTH * few {
        unmet.push(format!("the peaks are more than {:.0} % apart", 100.0 * GROWTH));
    }
    let each = peaks.iter().zip(IMAGES);
    let figures = each.map(|(peak, count)| format!("{count} images: {}", peak.describe()));
    report.record("memory", Verdict::of(figures.collect::<Vec<_>>().join(", "), &unmet));
    Ok(())
}

fn measure(context: &Context, lite0: &Lite0, count: usize) -> Result<Usage> {
    let folder = context.folder(&format!("memory-{count}"))?;
    let images = some_photos(&lite0.calib, &folder.join("images"), Choice { first: 0, step: 1, count })?;
    Usage::of(context, &lite0.quantize(context, &images, &folder.join("lite0.onnx")))
}
