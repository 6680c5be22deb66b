//! TensorFlow's reference data: where it is, and graphs in a form that can be compared.

use quantize_document::Limits;
use quantize_tensorflow::{Encoding, GraphDef, NodeDef, ReadOptions, TensorflowDocument, render};
use std::path::{Path, PathBuf};

/// The files below `folder` whose names end in one of these suffixes, in the order of their paths.
///
/// # Panics
/// If a folder cannot be read.
#[must_use]
pub fn files(folder: &Path, suffixes: &[&str]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let is_wanted = |path: &PathBuf| suffixes.iter().any(|suffix| path.to_string_lossy().ends_with(suffix));
    let (folders, found): (Vec<PathBuf>, Vec<PathBuf>) = paths.into_iter().partition(|path| path.is_dir());
    found.into_iter().filter(is_wanted).chain(folders.iter().flat_map(|folder| files(folder, suffixes))).collect()
}

/// Opens a graph.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn open(path: &Path) -> TensorflowDocument {
    TensorflowDocument::open(path, &Limits::default(), &ReadOptions::default())
        .unwrap_or_else(|error| panic!("{error}"))
}

/// A graph as a text in which order of attributes and spelling of numbers mean nothing.
///
/// # Panics
/// If it has a field without a name.
#[must_use]
pub fn canonical(graph: &GraphDef) -> String {
    let text = render(graph, Encoding::Text).unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(text).expect("a text")
}

/// A node as such a text.
///
/// # Panics
/// As for [`canonical`].
#[must_use]
pub fn canonical_node(node: &NodeDef) -> String {
    canonical(&GraphDef::new(vec![node.clone()]))
}
