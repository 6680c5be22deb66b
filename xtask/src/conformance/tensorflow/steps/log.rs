//! Ranges that a graph logs as TensorFlow runs it, in the form that the original's transforms read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::conformance::context::Context;
use crate::conformance::report::Verdict;
use crate::conformance::tensorflow::graph_run::Request;
use crate::error::{Result, at};
use crate::workspace;

/// What stands between the name of a node and its range.
const MARK: &str = "__print__;__requant_min_max:";

/// Largest difference of an end of a range.
const TOLERANCE: f64 = 1e-3;

/// Least and greatest value of each node, an entry for each image.
type Ranges = BTreeMap<String, Vec<(f64, f64)>>;

/// Runs a graph that logs ranges of so many images, puts what it logs into a file beside it, and compares that with another log.
///
/// # Errors
///
/// If TensorFlow does not run the graph or a file cannot be read or written.
pub(super) fn judge(
    context: &Context,
    graph: &Path,
    request: &Request<'_>,
    images: usize,
    golden: Option<&Path>,
) -> Result<Verdict> {
    let run = workspace::output(&mut request.command(context, graph, &graph.with_extension("npy")))?;
    let log = graph.with_extension("log");
    fs::write(&log, &run.stderr).map_err(at(&log))?;
    let ours = ranges(&String::from_utf8_lossy(&run.stderr));
    let figures = format!("ranges of {} nodes, {images} images", ours.len());
    let complete = !ours.is_empty() && ours.values().all(|ranges| ranges.len() == images);
    let mut unmet: Vec<String> =
        (!complete).then(|| "not a range of each node for each image".into()).into_iter().collect();
    let Some(golden) = golden else { return Ok(Verdict::of(figures, &unmet)) };

    let theirs = ranges(&fs::read_to_string(golden).map_err(at(golden))?);
    let worst = difference(&ours, &theirs);
    unmet.extend((worst > TOLERANCE).then(|| format!("more than {TOLERANCE:.0e} from the original's log")));
    Ok(Verdict::of(format!("{figures}, difference {worst:.1e}"), &unmet))
}

/// The ranges in a log; other lines are passed over.
fn ranges(log: &str) -> Ranges {
    let mut ranges = Ranges::new();
    for line in log.lines() {
        let Some((name, range)) = line.split_once(MARK) else { continue };
        let ends = range.trim_end().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.split_once("]["));
        if let Some((Ok(least), Ok(greatest))) = ends.map(|(least, greatest)| (least.parse(), greatest.parse())) {
            ranges.entry(name.trim_start_matches(';').to_owned()).or_default().push((least, greatest));
        }
    }
    ranges
}

/// The largest difference of an end of a range; infinite if nodes or numbers of ranges differ.
fn difference(ours: &Ranges, theirs: &Ranges) -> f64 {
    let is_paired =
        |name: &String, ranges: &[(f64, f64)]| theirs.get(name).is_some_and(|other| other.len() == ranges.len());
    if ours.len() != theirs.len() || !ours.iter().all(|(name, ranges)| is_paired(name, ranges)) {
        return f64::INFINITY;
    }
    let pairs = ours.values().flatten().zip(theirs.values().flatten());
    pairs.map(|(a, b)| (a.0 - b.0).abs().max((a.1 - b.1).abs())).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_among_other_lines() {
        let log = "W0000 a warning\n;a/conv__print__;__requant_min_max:[-0.5][2]\n;b__print__;__requant_min_max:[0][1e-3]\n\
                   ;a/conv__print__;__requant_min_max:[0][3]\n;b__print__;__requant_min_max:[0]\n";
        let found = ranges(log);
        assert_eq!(found.get("a/conv"), Some(&vec![(-0.5, 2.0), (0.0, 3.0)]));
        assert_eq!(found.get("b"), Some(&vec![(0.0, 1e-3)]));
    }

    #[test]
    fn differences_never_hide_anything() {
        let log = |entries: &[(&str, f64)]| {
            let mut ranges = Ranges::new();
            entries.iter().for_each(|(name, end)| ranges.entry((*name).to_owned()).or_default().push((0.0, *end)));
            ranges
        };
        let ours = log(&[("a", 1.0), ("a", 2.0), ("b", 3.0)]);
        let cases = [
            (log(&[("a", 1.0), ("a", 2.0), ("b", 3.0)]), 0.0),
            (log(&[("a", 1.0), ("a", 2.5), ("b", 3.0)]), 0.5),
            (log(&[("a", 1.0), ("b", 3.0)]), f64::INFINITY),
            (log(&[("a", 1.0), ("a", 2.0)]), f64::INFINITY),
            (log(&[("a", 1.0), ("a", 2.0), ("c", 3.0)]), f64::INFINITY),
        ];
        for (theirs, expected) in cases {
            assert!((difference(&ours, &theirs) - expected).abs() < 1e-12 || difference(&ours, &theirs) == expected);
        }
    }
}
