//! Models in files, whole and damaged.

use super::*;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models")
}

/// The ONNX files in a folder and the folders in it.
fn onnx_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(onnx_files(&path));
        } else if path.extension().is_some_and(|e| e == "onnx") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Reads every file and its constants; the nodes whose form is not known.
fn read_all(files: &[PathBuf]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files {
        let (graph, found) = read_bytes(fs::read(file).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        read_constants(&graph).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        problems.extend(found.iter().map(|p| format!("{}: {p}", file.display())));
    }
    problems
}

#[test]
fn every_fixture_is_read() {
    let files = onnx_files(&fixtures());
    assert!(files.len() >= 30, "{} fixtures", files.len());
    assert_eq!(read_all(&files), Vec::<String>::new());
}

#[test]
fn every_shared_model_is_read() {
    let Ok(shared) = std::env::var("QUANTIZE_SHARED") else {
        // Past the macros, whose output the test harness hides.
        let _ = writeln!(std::io::stderr(), "skipped: QUANTIZE_SHARED is not set");
        return;
    };
    for folder in ["golden/onnx", "models/onnx"] {
        let files = onnx_files(&Path::new(&shared).join(folder));
        assert!(!files.is_empty(), "{folder} has no models");
        assert_eq!(read_all(&files), Vec::<String>::new());
    }
}

/// Import and constants may fail, but nothing else may happen.
fn survive(bytes: Vec<u8>) -> bool {
    read_bytes(bytes).is_ok_and(|(graph, _)| {
        for (id, _) in graph.values() {
            let _ = graph.constant(id);
        }
        true
    })
}

#[test]
fn every_cut_of_a_file_is_survived() {
    let bytes = fs::read(fixtures().join("tiny_classifier.onnx")).unwrap();
    let whole = (0..=bytes.len()).filter(|end| survive(bytes[..*end].to_vec())).count();
    assert!((1..bytes.len()).contains(&whole), "{whole} cuts are models");
}

#[test]
fn flipped_bits_are_survived() {
    let bytes = fs::read(fixtures().join("tiny_classifier.onnx")).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut flip = |_: u32| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bit = state % (bytes.len() as u64 * 8);
        let mut damaged = bytes.clone();
        damaged[(bit / 8) as usize] ^= 1 << (bit % 8);
        survive(damaged)
    };
    let read = (0..2000).filter(|i| flip(*i)).count();
    assert!((1..2000).contains(&read), "{read} of the damaged files are read");
}
