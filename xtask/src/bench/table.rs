//! The rows of the comparison, as a table in Markdown and as JSON.

use serde::Serialize;
use std::fmt;

/// A figure of ours beside a peer's.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// The network, or the command.
    pub(super) subject: String,
    /// What we did.
    pub(super) ours: String,
    /// What the peer did.
    pub(super) peer: String,
    pub(super) unit: Unit,
    pub(super) our_figure: f64,
    pub(super) peer_figure: f64,
    /// How much better ours is, 1 being equal.
    pub(super) ratio: f64,
    /// What else was measured.
    pub(super) note: String,
}

/// What figures count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Unit {
    #[serde(rename = "images/s")]
    ImagesPerSecond,
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "MB")]
    Megabytes,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::ImagesPerSecond => "images/s",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::Megabytes => "MB",
        }
    }
}

impl Row {
    /// A row without a note.
    pub(super) fn new(subject: &str, [ours, peer]: [&str; 2], unit: Unit, [our_figure, peer_figure]: [f64; 2]) -> Self {
        let ratio = if unit == Unit::ImagesPerSecond { our_figure / peer_figure } else { peer_figure / our_figure };
        let (subject, ours, peer) = (subject.to_owned(), ours.to_owned(), peer.to_owned());
        Self { subject, ours, peer, unit, our_figure, peer_figure, ratio, note: String::new() }
    }

    /// The row with something added to its note.
    pub(super) fn noting(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

/// All rows.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Row>);

impl Table {
    /// Adds a row and prints it, so that a long run shows what it does.
    pub(super) fn push(&mut self, row: Row) {
        println!("{row}");
        self.0.push(row);
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.0
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, ours, peer, our_figure, peer_figure, ratio, note, .. } = self;
        let unit = self.unit.name();
        write!(
            f,
            "| {subject} | {ours} | {our_figure:.2} {unit} | {peer} | {peer_figure:.2} {unit} | {ratio:.2} | {note} |"
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| subject | ours | | peer | | ratio | note |\n|---|---|---|---|---|---|---|")?;
        self.0.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_one_is_better() {
        let row = |unit| Row::new("net", ["fp32", "onnxruntime"], unit, [20.0, 10.0]).ratio;
        assert_eq!((row(Unit::ImagesPerSecond), row(Unit::Seconds)), (2.0, 0.5));
    }

    #[test]
    fn rows_are_lines_of_a_table() {
        let mut table = Table::default();
        table.push(Row::new("net", ["fp32", "onnxruntime"], Unit::Milliseconds, [5.0, 10.0]).noting("80 % of peak"));
        let text = table.to_string();
        assert!(text.ends_with("| net | fp32 | 5.00 ms | onnxruntime | 10.00 ms | 2.00 | 80 % of peak |\n"), "{text}");
    }
}
