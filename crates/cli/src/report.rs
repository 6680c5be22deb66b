//! The summary of a quantization as text and as JSON.

use quantize_pipeline::{
    Accuracy, AccuracyDrop, Conversions, Evaluation, Improvement, Kept, ScalingWorth, Summary, TargetOutcome,
    WeightStorage,
};
use serde_json::{Value, json};
use std::fmt::Write;

/// Node names listed for each reason before the rest is counted.
const NAMES: usize = 3;

/// What was done, what stayed in fp32 and why, what it cost, and what to try.
pub(crate) fn text(summary: &Summary, verbose: bool) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    if summary.quantized.is_empty() && summary.weight_only.is_empty() {
        line(format!("nothing was quantized; {}", untouched(summary)));
    } else if let Some(storage) = &summary.weight_storage {
        weight_lines(summary, storage).into_iter().for_each(&mut line);
    } else {
        let total: usize = summary.quantized.iter().map(|(_, n)| n).sum();
        line(format!("int8: {total} nodes ({})", counts(&summary.quantized)));
        if summary.folded > 0 {
            line(format!("      {} nodes folded into them", summary.folded));
        }
        if !summary.weight_only.is_empty() {
            let total: usize = summary.weight_only.iter().map(|(_, n)| n).sum();
            line(format!("      weights only: {total} nodes ({})", counts(&summary.weight_only)));
        }
    }
    let only_exported = summary.exported && summary.quantized.is_empty();
    for kept in summary.kept.iter().filter(|k| (k.notable && !only_exported) || verbose) {
        line(kept_line(kept, verbose));
    }
    if let Some(Conversions { to_codes, to_reals }) = summary.conversions {
        line(format!("conversions: {to_codes} from fp32 to codes, {to_reals} back"));
    }
    summary.bytes_after.map(|after| size_line(summary.bytes_before, after)).into_iter().for_each(&mut line);
    if summary.images > 0 {
        let held_back = summary.improvement.as_ref().filter(|i| i.held_back);
        let held_back = held_back.map_or_else(String::new, |i| format!(" and {} held back", i.judges));
        let Summary { images, preprocessing, range, .. } = summary;
        let ranges = if summary.quantized.is_empty() { String::new() } else { format!("; ranges {range}") };
        line(format!("data: {images} images{held_back}, {preprocessing}{ranges}"));
    }
    let smoothed = summary.smoothing.as_ref().map(|worth| scaling_line("smoothed: input channels", worth));
    let equalized = summary.equalization.as_ref().map(|worth| scaling_line("equalized: channels in front", worth));
    smoothed.into_iter().chain(equalized).for_each(&mut line);
    if let Some(improvement) = &summary.improvement {
        improvement_lines(improvement).into_iter().for_each(&mut line);
    }
    if let Some(outcome) = &summary.target {
        target_lines(outcome).into_iter().for_each(&mut line);
    }
    if let Some(accuracy) = &summary.accuracy {
        accuracy_lines(accuracy).into_iter().for_each(&mut line);
    }
    if !summary.worst.is_empty() {
        line("lowest signal-to-noise ratios of single tensors:".into());
        for w in &summary.worst {
            line(format!("  {:6.1} dB  {} `{}` (node `{}`)", w.sqnr_db, w.kind, w.name, w.node));
        }
    }
    for advice in advice(summary).iter().chain(&summary.hints) {
        line(advice.clone());
    }
    if verbose {
        summary.log.iter().for_each(|entry| line(format!("pass {entry}")));
    }
    for warning in &summary.warnings {
        line(format!("warning: {warning}"));
    }
    out.truncate(out.trim_end().len());
    out
}

/// What became codes where nothing computes on integers.
fn weight_lines(summary: &Summary, storage: &WeightStorage) -> Vec<String> {
    let WeightStorage { bits, group, weights, bits_per_weight } = storage;
    let total: usize = summary.weight_only.iter().map(|(_, n)| n).sum();
    let folded = (summary.folded > 0).then(|| format!("      {} nodes folded into them", summary.folded));
    let first = format!("int{bits}: weights of {total} nodes ({}), computed in fp32", counts(&summary.weight_only));
    let second = format!("      {weights} weights in groups of {group}, {bits_per_weight:.2} bits each with scales");
    [Some(first), folded, Some(second)].into_iter().flatten().collect()
}

/// Numbers of nodes by operator, in one line.
fn counts(operators: &[(String, usize)]) -> String {
    operators.iter().map(|(op, n)| format!("{n} {op}")).collect::<Vec<_>>().join(", ")
}

/// What was written if nothing was quantized.
fn untouched(summary: &Summary) -> &'static str {
    match (summary.exported, summary.bytes_after) {
        (true, _) => "the output is the fp32 model",
        (false, Some(_)) => "the output is a copy of the model",
        (false, None) => "the output has no entries",
    }
}

fn kept_line(kept: &Kept, verbose: bool) -> String {
    let shown = if verbose { kept.nodes.len() } else { NAMES };
    let mut names: Vec<String> = kept.nodes.iter().take(shown).map(|n| format!("`{n}`")).collect();
    if kept.nodes.len() > shown {
        names.push(format!("{} more", kept.nodes.len() - shown));
    }
    format!("fp32: {} {} ({}): {}", kept.nodes.len(), kept.op, names.join(", "), kept.reason)
}

fn size_line(before: u64, after: u64) -> String {
    let share = if before == 0 { 100.0 } else { after as f64 * 100.0 / before as f64 };
    format!("size: {} to {} ({share:.0} %)", bytes(before), bytes(after))
}

/// A number of bytes with its unit.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1000 => format!("{n} bytes"),
        1000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        _ => format!("{:.2} MB", n as f64 / 1e6),
    }
}

/// What scaling channels gained.
fn scaling_line(what: &str, worth: &ScalingWorth) -> String {
    let judges = if worth.held_back { "held-back" } else { "calibration" };
    let kept = if worth.kept { "" } else { ", so it was taken back" };
    format!(
        "{what} of {} layers, {:.1} dB before, {:.1} dB after, on {} {judges} samples{kept}",
        worth.layers, worth.before_db, worth.after_db, worth.judges
    )
}

/// What running the network gained, and what each step of it is worth.
fn improvement_lines(improvement: &Improvement) -> Vec<String> {
    let judges = if improvement.held_back { "held-back" } else { "calibration" };
    let mut lines = vec![format!(
        "corrected: {} layers on {} images, {:.1} dB before, {:.1} dB after, on {} {judges} images",
        improvement.layers, improvement.images, improvement.before_db, improvement.after_db, improvement.judges
    )];
    lines.extend(improvement.steps.iter().map(|worth| {
        let kept = if worth.kept { "" } else { ", so it was taken back" };
        format!("  {:6.1} dB without {}{kept}", worth.without_db, worth.step)
    }));
    lines
}

/// What came of a target, and what to try if it was missed.
fn target_lines(outcome: &TargetOutcome) -> Vec<String> {
    let wanted = [
        outcome.target.sqnr_db.map(|db| format!("{db} dB")),
        outcome.target.agreement.map(|percent| format!("{percent} % agreement")),
        outcome.target.max_drop.map(|points| format!("{points} points of top-1 lost at most")),
    ];
    let wanted = wanted.into_iter().flatten().collect::<Vec<_>>().join(" and ");
    let said = if outcome.met { "met" } else { "missed; the best model found is written" };
    let mut lines = vec![format!("target: {wanted} {said}")];
    if let Some(drop) = &outcome.drop {
        let AccuracyDrop { images, fp32, quantized } = drop;
        let points = drop.points();
        lines.push(format!(
            "  right on {quantized} of {images} labelled images, fp32 on {fp32}: {points:.2} points lost"
        ));
    }
    if !outcome.fallback.is_empty() {
        let names: Vec<String> = outcome.fallback.iter().map(|n| format!("`{n}`")).collect();
        let percent = 100.0 * outcome.integers;
        let (count, names) = (names.len(), names.join(", "));
        lines.push(format!("  {count} nodes back in fp32, {percent:.1} % of the work on integers: {names}"));
    }
    if !outcome.widened.is_empty() {
        let names: Vec<String> = outcome.widened.iter().map(|n| format!("`{n}`")).collect();
        let percent = 100.0 * outcome.integers;
        let (count, names) = (names.len(), names.join(", "));
        lines.push(format!("  {count} activations with 16 bits, {percent:.1} % of the work on 8: {names}"));
    }
    if !outcome.met {
        lines.push("  try: more calibration images, `--preset best`, or a lower target".into());
    }
    lines
}

fn accuracy_lines(accuracy: &Accuracy) -> Vec<String> {
    let describe = |o: &quantize_pipeline::OutputAccuracy| {
        let mut text = format!("accuracy: `{}` {:.1} dB signal to noise", o.name, o.sqnr_db);
        if let Some(agreeing) = o.agreeing {
            let _ = write!(text, ", same top-1 as fp32 on {agreeing} of {} images", accuracy.samples);
        }
        text + if accuracy.held_back { " (simulated, images held back)" } else { " (simulated, calibration images)" }
    };
    accuracy.outputs.iter().map(describe).collect()
}

/// Ratio of an output below which a classifier starts to change its mind.
const POOR_DB: f64 = 15.0;

fn advice(summary: &Summary) -> Vec<String> {
    let poor = summary.accuracy.iter().flat_map(|a| &a.outputs).any(|o| o.sqnr_db < POOR_DB);
    let mut advice = Vec::new();
    if poor {
        if let Some(worst) = summary.worst.first() {
            advice.push(format!("try: `--skip '{}'` keeps the node of the worst tensor in fp32", worst.node));
        }
        if summary.range == "minmax" && !summary.quantized.is_empty() {
            advice.push("try: `--range mse` or `--range percentile` if a few outliers widen the ranges".into());
        }
    }
    advice
}

/// The same as one JSON object.
pub(crate) fn json(summary: &Summary) -> Value {
    let finite = |db: f64| db.is_finite().then_some(db);
    let outputs = |a: &Accuracy| -> Vec<Value> {
        a.outputs
            .iter()
            .map(|o| json!({"name": o.name, "sqnr_db": finite(o.sqnr_db), "agreeing": o.agreeing}))
            .collect()
    };
    let scaling = |s: &ScalingWorth| {
        json!({"layers": s.layers, "judges": s.judges, "held_back": s.held_back, "before_db": finite(s.before_db),
            "after_db": finite(s.after_db), "kept": s.kept})
    };
    json!({
        "written": summary.written,
        "bytes_before": summary.bytes_before,
        "bytes_after": summary.bytes_after,
        "images": summary.images,
        "preprocessing": summary.preprocessing,
        "range": summary.range,
        "quantized": summary.quantized.iter().map(|(op, n)| json!({"op": op, "nodes": n})).collect::<Vec<_>>(),
        "weight_only": summary.weight_only.iter().map(|(op, n)| json!({"op": op, "nodes": n})).collect::<Vec<_>>(),
        "weight_storage": summary.weight_storage.as_ref().map(|s| json!({
            "bits": s.bits, "group": s.group, "weights": s.weights, "bits_per_weight": s.bits_per_weight,
        })),
        "folded": summary.folded,
        "conversions": summary.conversions.map(|c| json!({"to_codes": c.to_codes, "to_reals": c.to_reals})),
        "kept": summary.kept.iter().map(|k| json!({"op": k.op, "reason": k.reason, "nodes": k.nodes})).collect::<Vec<_>>(),
        "worst": summary.worst.iter()
            .map(|w| json!({"tensor": w.name, "kind": w.kind, "node": w.node, "sqnr_db": w.sqnr_db})).collect::<Vec<_>>(),
        "improvement": summary.improvement.as_ref().map(|i| json!({
            "layers": i.layers, "images": i.images, "judges": i.judges, "held_back": i.held_back,
            "before_db": finite(i.before_db), "after_db": finite(i.after_db),
            "steps": i.steps.iter()
                .map(|s| json!({"step": s.step, "without_db": finite(s.without_db), "kept": s.kept})).collect::<Vec<_>>(),
        })),
        "smoothing": summary.smoothing.as_ref().map(scaling),
        "equalization": summary.equalization.as_ref().map(scaling),
        "target": summary.target.as_ref().map(|t| json!({
            "sqnr_db": t.target.sqnr_db, "agreement": t.target.agreement, "max_drop": t.target.max_drop, "met": t.met,
            "drop": t.drop.map(|d| json!({"images": d.images, "fp32": d.fp32, "quantized": d.quantized})),
            "fallback": t.fallback, "widened": t.widened, "integers": t.integers,
        })),
        "accuracy": summary.accuracy.as_ref().map(|a| json!({"samples": a.samples, "outputs": outputs(a)})),
        "hints": summary.hints,
        "warnings": summary.warnings,
    })
}

/// One line for an evaluation.
pub(crate) fn evaluation(e: &Evaluation) -> String {
    let share = |n: usize| n as f64 * 100.0 / e.images.max(1) as f64;
    format!(
        "top-1 {:.2} % ({} of {n}), top-5 {:.2} % ({} of {n})",
        share(e.top1),
        e.top1,
        share(e.top5),
        e.top5,
        n = e.images
    )
}
