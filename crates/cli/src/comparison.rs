//! `quantize compare`, and its report as text and as JSON.

use crate::args::OutputFormat;
use crate::args::tools::{CompareArgs, CompareHow};
use crate::terminal::{Bar, Failure, note, result};
use quantize_pipeline::{CompareOptions, Comparison, Difference, LayerDifference, OutputDifference, compare};
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::ExitCode;

/// `quantize compare`
pub(crate) fn run(args: &CompareArgs) -> Result<ExitCode, Failure> {
    tell(&args.options().map_err(Failure::Usage)?, &args.how)
}

/// Compares a model with another or with a plan and says what was found.
pub(crate) fn tell(options: &CompareOptions, args: &CompareHow) -> Result<ExitCode, Failure> {
    let comparison = compare(options, &Bar::new(args.quiet))?;
    let layers = match args.worst {
        Some(count) => comparison.worst(count.get()),
        None => comparison.layers.iter().collect(),
    };
    match args.output_format {
        OutputFormat::Text => result(&text(&comparison, &layers))?,
        OutputFormat::Json => result(&json(&comparison, &layers).to_string())?,
    }
    if !args.quiet {
        comparison.warnings.iter().for_each(|w| note(&format!("warning: {w}")));
    }
    Ok(ExitCode::SUCCESS)
}

/// For people.
fn text(comparison: &Comparison, layers: &[&LayerDifference]) -> String {
    let samples = if comparison.samples == 1 { "sample" } else { "samples" };
    let mut out = format!("{} {samples}, {}\n", comparison.samples, comparison.preprocessing);
    for output in &comparison.outputs {
        out += &line_of(output, comparison.samples);
    }
    let (shown, all) = (layers.len(), comparison.layers.len());
    if shown < all {
        let _ = writeln!(out, "the worst {shown} of {all} layers:");
    } else {
        let _ = writeln!(out, "{all} layers:");
    }
    let _ = writeln!(out, "{:>8} {:>9} {:>12}  tensor, node", "dB", "cosine", "largest diff");
    for layer in layers {
        let Difference { cosine, max_abs, .. } = layer.difference;
        let from = layer.node.as_ref().map_or_else(|| layer.op.clone(), |node| format!("{} `{node}`", layer.op));
        let ratio = ratio(&layer.difference);
        let _ = writeln!(out, "{ratio:>8} {cosine:>9.6} {:>12}  `{}`, {from}", magnitude(max_abs), layer.name);
    }
    out.truncate(out.trim_end().len());
    out
}

fn line_of(output: &OutputDifference, samples: usize) -> String {
    let Difference { cosine, max_abs, .. } = output.difference;
    let unit = if output.difference.is_exact() { "" } else { " dB" };
    let ratio = ratio(&output.difference);
    let mut line = format!("output `{}`: {ratio}{unit}, cosine {cosine:.6}, ", output.name);
    let _ = write!(line, "largest difference {}", magnitude(max_abs));
    if let Some(agreeing) = output.agreeing {
        let _ = write!(line, ", same top-1 on {agreeing} of {samples}");
    }
    line.push('\n');
    line
}

/// A ratio in dB with one digit, or that there is no difference.
fn ratio(difference: &Difference) -> String {
    if difference.is_exact() { "exact".to_owned() } else { format!("{:.1}", difference.sqnr_db) }
}

/// A number with four significant digits.
fn magnitude(number: f64) -> String {
    if number == 0.0 || !number.is_finite() {
        return number.to_string();
    }
    let digits = 3 - number.abs().log10().floor() as i32;
    match digits {
        ..0 => format!("{number:.0}"),
        0..=7 => format!("{number:.*}", digits.unsigned_abs() as usize),
        _ => format!("{number:.3e}"),
    }
}

/// The same as one JSON object.
fn json(comparison: &Comparison, layers: &[&LayerDifference]) -> Value {
    let output = |o: &OutputDifference| {
        let mut entry = measures(&o.difference);
        entry["name"] = json!(o.name);
        entry["agreeing"] = json!(o.agreeing);
        entry
    };
    let layer = |l: &&LayerDifference| {
        let mut entry = measures(&l.difference);
        entry["tensor"] = json!(l.name);
        entry["node"] = json!(l.node);
        entry["op"] = json!(l.op);
        entry
    };
    json!({
        "samples": comparison.samples,
        "preprocessing": comparison.preprocessing,
        "outputs": comparison.outputs.iter().map(output).collect::<Vec<_>>(),
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        "warnings": comparison.warnings,
    })
}

fn measures(d: &Difference) -> Value {
    json!({"sqnr_db": d.sqnr_db, "cosine": d.cosine, "max_abs": d.max_abs, "exact": d.is_exact()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_have_four_digits() {
        for (number, text) in [
            (0.0, "0"),
            (0.123456, "0.1235"),
            (12.3456, "12.35"),
            (123_456.0, "123456"),
            (0.001, "0.001000"),
            (1.23456e-7, "1.235e-7"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(magnitude(number), text);
        }
    }
}
