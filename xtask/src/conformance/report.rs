//! Verdicts of checks: printed as they come, counted, and written as a table.

use std::fmt::Write as _;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is as required; the figures that were measured.
    Passed(String),
    /// Something is not; what, and the figures.
    Failed(String),
    /// Not run; why.
    Skipped(String),
}

impl Verdict {
    /// Failed if there are unmet requirements, else passed.
    pub(crate) fn of(figures: impl Into<String>, unmet: &[String]) -> Self {
        let figures = figures.into();
        match unmet {
            [] => Self::Passed(figures),
            _ => Self::Failed(format!("{}; {figures}", unmet.join("; "))),
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Passed(_) => "ok",
            Self::Failed(_) => "FAILED",
            Self::Skipped(_) => "skipped",
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Passed(text) | Self::Failed(text) | Self::Skipped(text) => text,
        }
    }
}

/// The verdicts of a run, in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<(String, Verdict)>,
}

impl Report {
    /// Prints a verdict and keeps it.
    pub(crate) fn record(&mut self, name: impl Into<String>, verdict: Verdict) {
        let name = name.into();
        println!("{:7} {name}: {}", verdict.word(), verdict.text());
        self.rows.push((name, verdict));
    }

    /// Whether something was run and nothing failed.
    pub(crate) fn is_good(&self) -> bool {
        !self.rows.is_empty() && self.count("FAILED") == 0
    }

    /// `N passed, N failed, N skipped`.
    pub(crate) fn totals(&self) -> String {
        let [passed, failed, skipped] = ["ok", "FAILED", "skipped"].map(|word| self.count(word));
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }

    fn count(&self, word: &str) -> usize {
        self.rows.iter().filter(|(_, verdict)| verdict.word() == word).count()
    }

    /// The verdicts as a table in Markdown, with the totals below.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from("| check | verdict | figures |\n|---|---|---|\n");
        for (name, verdict) in &self.rows {
            let text = verdict.text().replace('|', "\\|").replace('\n', "<br>");
            let _ = writeln!(table, "| {name} | {} | {text} |", verdict.word());
        }
        let _ = writeln!(table, "\n{}", self.totals());
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_counted_and_tabled() {
        let mut report = Report::default();
        assert!(!report.is_good(), "a run without checks shows nothing");
        report.record("a", Verdict::of("1 dB", &[]));
        report.record("b", Verdict::Skipped("no data".into()));
        assert!(report.is_good());
        report.record("c", Verdict::of("2 | 3", &["too few".into(), "too late".into()]));
        assert!(!report.is_good());
        assert_eq!(report.totals(), "1 passed, 1 failed, 1 skipped");
        assert!(report.table().contains("| c | FAILED | too few; too late; 2 \\| 3 |"), "{}", report.table());
    }
}
