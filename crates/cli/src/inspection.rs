//! `quantize inspect`, and its report as text and as JSON.

use crate::args::OutputFormat;
use crate::args::tools::InspectArgs;
use crate::report::bytes;
use crate::terminal::{Failure, note, result};
use quantize_pipeline::{Fate, Inspection, NodeDetails, Port, inspect};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

/// Activations listed as the largest.
const LARGEST: usize = 5;
/// Node names listed for each reason before the rest is counted.
const NAMES: usize = 3;

/// Inspects a model and says what was found.
pub(crate) fn run(args: &InspectArgs) -> Result<ExitCode, Failure> {
    let options = args.options().map_err(Failure::Usage)?;
    let inspection = inspect(&options)?;
    match args.output_format {
        OutputFormat::Text => result(&text(&inspection, args.verbose))?,
        OutputFormat::Json => result(&json(&inspection).to_string())?,
    }
    if args.output_format == OutputFormat::Text {
        inspection.remarks.iter().for_each(|remark| note(&format!("note: {remark}")));
    }
    Ok(ExitCode::SUCCESS)
}

/// For people.
fn text(inspection: &Inspection, verbose: bool) -> String {
    let mut out = header(inspection);
    out += &operators(inspection);
    out += &parameters(inspection);
    out += &memory(inspection, verbose);
    out += &integers(inspection, verbose);
    if verbose {
        out += &nodes(inspection);
    }
    out.truncate(out.trim_end().len());
    out
}

fn header(inspection: &Inspection) -> String {
    let mut out = inspection.format.clone();
    for (name, version) in &inspection.opsets {
        let _ = write!(out, ", {name} {version}");
    }
    if !inspection.producer.is_empty() {
        let _ = write!(out, ", written by {}", inspection.producer);
    }
    let _ = writeln!(out, "; {}", bytes(inspection.file_bytes));
    for (kind, ports) in [("input", &inspection.inputs), ("output", &inspection.outputs)] {
        for port in ports {
            let _ = writeln!(out, "{kind:<6} `{}` {}", port.name, port_type(port));
        }
    }
    out
}

fn port_type(port: &Port) -> String {
    let shape = port.shape.as_ref().map(|shape| format!(" [{}]", shape.join(", ")));
    format!("{}{}", port.dtype.unwrap_or("of unknown type"), shape.unwrap_or_default())
}

fn operators(inspection: &Inspection) -> String {
    let total = inspection.macs();
    let shapes: Vec<String> = inspection.counted_for.iter().map(|shape| format!("{shape:?}")).collect();
    let mut out = String::new();
    if !shapes.is_empty() {
        let _ = writeln!(out, "\nfor input {}:", shapes.join(", "));
    }
    let width = inspection.operators.iter().map(|o| o.op.chars().count()).max().unwrap_or(0).max("operator".len());
    let _ = writeln!(out, "{:width$}  nodes        MACs  % MACs  parameters", "operator");
    let mut line = |op: &str, nodes: usize, macs: u64, parameters: u64| {
        let share = if total == 0 { 0.0 } else { 100.0 * macs as f64 / total as f64 };
        let share = if macs == 0 { "-".to_owned() } else { format!("{share:.1}") };
        let (macs, parameters) = (or_dash(macs), or_dash(parameters));
        let _ = writeln!(out, "{op:width$}  {nodes:>5}  {macs:>10}  {share:>6}  {parameters:>10}");
    };
    for o in &inspection.operators {
        line(&o.op, o.nodes, o.macs, o.parameters);
    }
    let parameters = inspection.parameters.iter().map(|p| p.elements).fold(0, u64::saturating_add);
    line("total", inspection.nodes.len(), total, parameters);
    out
}

/// A number, or a dash for none.
fn or_dash(number: u64) -> String {
    if number == 0 { "-".to_owned() } else { rounded(number) }
}

/// A number with its thousands, millions or thousands of millions.
fn rounded(number: u64) -> String {
    let (factor, prefix) = match number {
        0..1_000 => return number.to_string(),
        1_000..1_000_000 => (1e3, "k"),
        1_000_000..1_000_000_000 => (1e6, "M"),
        _ => (1e9, "G"),
    };
    format!("{:.2} {prefix}", number as f64 / factor)
}

fn parameters(inspection: &Inspection) -> String {
    let by_type = inspection.parameters.iter();
    let by_type = by_type.map(|p| format!("{} {} ({})", rounded(p.elements), p.dtype, bytes(p.bytes)));
    let by_type: Vec<String> = by_type.collect();
    format!("\nparameters: {}\n", if by_type.is_empty() { "none".to_owned() } else { by_type.join(", ") })
}

fn memory(inspection: &Inspection, verbose: bool) -> String {
    let memory = &inspection.memory;
    let Some(peak) = &memory.peak else { return "activations: sizes are not known\n".to_owned() };
    let all = memory.activations.iter().map(|a| a.bytes).fold(0, u64::saturating_add);
    let (count, all) = (memory.activations.len(), bytes(all));
    let bound = if memory.unknown == 0 { "at most" } else { "at least" };
    let mut out =
        format!("activations: {} {bound}, at node `{}`; {all} in {count} tensors", bytes(peak.bytes), peak.node);
    let mut listed: Vec<_> = memory.activations.iter().collect();
    if !verbose {
        listed.sort_by_key(|a| std::cmp::Reverse(a.bytes));
        listed.truncate(LARGEST);
        out += ", the largest:";
    }
    out.push('\n');
    for a in listed {
        let until = a.until.as_ref().map_or_else(|| "to the end".to_owned(), |node| format!("until `{node}`"));
        let _ = writeln!(out, "  {:>10}  `{}` {} {:?} {until}", bytes(a.bytes), a.name, a.dtype, a.shape);
    }
    out
}

fn integers(inspection: &Inspection, verbose: bool) -> String {
    let share = match inspection.integer_share() {
        Some(share) => format!("{:.1} % of the MACs", 100.0 * share),
        None if inspection.macs() == 0 && inspection.remarks.is_empty() => "there are no MACs".to_owned(),
        None => "the share of the MACs is not known".to_owned(),
    };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    inspection.nodes.iter().filter(|n| n.fate == Fate::Integers).for_each(|n| *counts.entry(&n.op).or_default() += 1);
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let total: usize = counts.iter().map(|(_, n)| n).sum();
    let ops: Vec<String> = counts.iter().map(|(op, n)| format!("{n} {op}")).collect();
    let ops = if ops.is_empty() { String::new() } else { format!(" ({})", ops.join(", ")) };
    let nodes = inspection.nodes.len();
    let mut out = if inspection.integers.quantized {
        format!("\nquantized already: {total} of {nodes} nodes on integers{ops}; {share}\n")
    } else {
        format!("\ncan be quantized: {total} of {nodes} nodes{ops}; {share}\n")
    };
    if inspection.integers.further > 0 {
        let _ = writeln!(out, "      {} more could be quantized", inspection.integers.further);
    }
    let stored = inspection.nodes.iter().filter(|n| n.fate == Fate::WeightOnly).count();
    if stored > 0 {
        let get = if inspection.integers.quantized { "have" } else { "get" };
        let _ = writeln!(out, "      {stored} more {get} weights stored as codes and compute in fp32");
    }
    if !inspection.integers.has_kernels {
        out += "      the runtime has no integer kernels for these codes and computes such nodes in fp32\n";
    }
    let vanishing = |n: &&NodeDetails| matches!(n.fate, Fate::Folded { .. } | Fate::Absorbed { .. });
    let vanishing = inspection.nodes.iter().filter(vanishing).count();
    if vanishing > 0 {
        let _ = writeln!(out, "      {vanishing} nodes fold into them");
    }
    for (op, reason, names) in kept(inspection) {
        let shown = if verbose { names.len() } else { NAMES };
        let mut listed: Vec<String> = names.iter().take(shown).map(|n| format!("`{n}`")).collect();
        if names.len() > shown {
            listed.push(format!("{} more", names.len() - shown));
        }
        let _ = writeln!(out, "fp32: {} {op} ({}): {reason}", names.len(), listed.join(", "));
    }
    if let Some(refusal) = &inspection.integers.refusal {
        let _ = writeln!(out, "refused: {refusal}");
    }
    out
}

/// Nodes that stay in fp32, by operator and reason.
fn kept(inspection: &Inspection) -> Vec<(&str, &str, Vec<&str>)> {
    let mut groups: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for node in &inspection.nodes {
        if let Fate::Real { reason } = &node.fate {
            groups.entry((&node.op, reason)).or_default().push(&node.label);
        }
    }
    groups.into_iter().map(|((op, reason), names)| (op, reason, names)).collect()
}

fn nodes(inspection: &Inspection) -> String {
    let mut out = "\nnodes:\n".to_owned();
    for (index, node) in inspection.nodes.iter().enumerate() {
        let work = match node.macs {
            Some(0) => String::new(),
            Some(macs) => format!(", {} MACs", rounded(macs)),
            None => ", MACs not known".to_owned(),
        };
        let held =
            if node.parameters == 0 { String::new() } else { format!(", {} parameters", rounded(node.parameters)) };
        let (from, to, fate) = (shapes(&node.inputs), shapes(&node.outputs), fate(&node.fate));
        let _ = writeln!(out, "{:>5} {} `{}` {from} -> {to}{work}{held}: {fate}", index + 1, node.op, node.label);
    }
    out
}

fn shapes(shapes: &[Option<Vec<usize>>]) -> String {
    let shape =
        |shape: &Option<Vec<usize>>| shape.as_ref().map_or_else(|| "?".to_owned(), |shape| format!("{shape:?}"));
    let shapes: Vec<String> = shapes.iter().map(shape).collect();
    if shapes.is_empty() { "()".to_owned() } else { shapes.join(" ") }
}

fn fate(fate: &Fate) -> String {
    match fate {
        Fate::Integers => "integers".to_owned(),
        Fate::WeightOnly => "fp32, its weight stored as codes".to_owned(),
        Fate::Folded { into } => format!("folds into `{into}`"),
        Fate::Absorbed { into } => format!("is the saturation of `{into}`"),
        Fate::Converts => "converts".to_owned(),
        Fate::Constant => "constant".to_owned(),
        Fate::NotReal => "does not compute on real numbers".to_owned(),
        Fate::Real { reason } => format!("fp32, {reason}"),
    }
}

/// The same as one JSON object.
fn json(inspection: &Inspection) -> Value {
    let port = |p: &Port| json!({"name": p.name, "type": p.dtype, "shape": p.shape});
    let opsets = inspection.opsets.iter().map(|(name, version)| json!({"domain": name, "version": version}));
    let memory = &inspection.memory;
    json!({
        "format": inspection.format,
        "opsets": opsets.collect::<Vec<_>>(),
        "producer": inspection.producer,
        "bytes": inspection.file_bytes,
        "inputs": inspection.inputs.iter().map(port).collect::<Vec<_>>(),
        "outputs": inspection.outputs.iter().map(port).collect::<Vec<_>>(),
        "counted_for": inspection.counted_for,
        "operators": inspection.operators.iter()
            .map(|o| json!({"op": o.op, "nodes": o.nodes, "macs": o.macs, "parameters": o.parameters}))
            .collect::<Vec<_>>(),
        "macs": inspection.macs(),
        "parameters": inspection.parameters.iter()
            .map(|p| json!({"type": p.dtype, "elements": p.elements, "bytes": p.bytes})).collect::<Vec<_>>(),
        "memory": {
            "peak": memory.peak.as_ref().map(|peak| json!({"node": peak.node, "bytes": peak.bytes})),
            "unknown": memory.unknown,
            "activations": memory.activations.iter()
                .map(|a| json!({"name": a.name, "type": a.dtype, "shape": a.shape, "bytes": a.bytes, "until": a.until}))
                .collect::<Vec<_>>(),
        },
        "quantized": inspection.integers.quantized,
        "further": inspection.integers.further,
        "integer_kernels": inspection.integers.has_kernels,
        "integer_macs": inspection.integer_macs(),
        "integer_share": inspection.integer_share(),
        "refusal": inspection.integers.refusal,
        "nodes": inspection.nodes.iter().map(node_json).collect::<Vec<_>>(),
        "remarks": inspection.remarks,
    })
}

fn node_json(node: &NodeDetails) -> Value {
    let (kind, into, why) = match &node.fate {
        Fate::Integers => ("integers", None, None),
        Fate::WeightOnly => ("weight_only", None, None),
        Fate::Folded { into } => ("folded", Some(into), None),
        Fate::Absorbed { into } => ("absorbed", Some(into), None),
        Fate::Converts => ("converts", None, None),
        Fate::Constant => ("constant", None, None),
        Fate::NotReal => ("not_real", None, None),
        Fate::Real { reason } => ("fp32", None, Some(reason)),
    };
    json!({
        "node": node.label, "op": node.op, "inputs": node.inputs, "outputs": node.outputs, "macs": node.macs,
        "parameters": node.parameters, "fate": kind, "into": into, "why": why,
    })
}
