//! Quantization files of the original and of the reference are read and written again byte for byte.
#![allow(clippy::unwrap_used)]

use quantize_caffe::xfdnn::{QuantizationFile, TextStyle};
use quantize_document::{Limits, SourceFile};
use quantize_tests::{counted, files_in, shared};
use std::path::Path;

/// The style a file is in: only Python 2 leaves a space after the comma at the end of a line.
fn style_of(text: &str) -> TextStyle {
    if text.contains(", \n") { TextStyle::Py2 } else { TextStyle::Plain }
}

/// Reads a file, writes it again in its own style, and says which one that is.
fn rewrite(path: &Path) -> TextStyle {
    let text = std::fs::read_to_string(path).unwrap();
    let source = SourceFile::read(path, &Limits::default()).unwrap();
    let file = QuantizationFile::parse(&source).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let style = style_of(&text);
    let written = file.to_text(style).unwrap();
    let differs = text.lines().zip(written.lines()).find(|(before, after)| before != after);
    assert_eq!(differs, None, "{}", path.display());
    assert_eq!(written.len(), text.len(), "{}", path.display());
    style
}

#[test]
fn published_files_are_rewritten_byte_for_byte() {
    let Some(shared) = shared() else { return };
    let files = files_in(&shared.join("golden/xfdnn/json"));
    for path in &files {
        let plain = path.to_string_lossy().contains("resnet50");
        assert_eq!(rewrite(path) == TextStyle::Plain, plain, "{}", path.display());
    }
    counted(files.len(), "published files");
}

/// Those of the default mode are in neither style: they lack the line break at the end of the plain one.
#[test]
fn files_of_the_reference_are_rewritten_byte_for_byte() {
    let Some(shared) = shared() else { return };
    let golden = shared.join("golden/xfdnn");
    let files = [files_in(&golden.join("tiny_mix")), files_in(&golden.join("e2e_open_nsfw"))].concat();
    let of_a_pass = |path: &&std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("faithful_") || name.starts_with("reference_")
    };
    let files: Vec<_> = files.iter().filter(of_a_pass).collect();
    for path in &files {
        let old = path.to_string_lossy().contains("reference_");
        assert_eq!(rewrite(path) == TextStyle::Py2, old, "{}", path.display());
    }
    counted(files.len(), "reference files");
}
