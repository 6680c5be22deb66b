//! `quantize explain`, `quantize completions` and `quantize man`: what they write and how they end.
#![allow(clippy::unwrap_used)]

use quantize_tests::sandbox::{Outcome, Sandbox};
use serde_json::Value;

#[test]
fn a_topic_is_explained() {
    let said = Sandbox::new().quantize("explain zero-point").succeeded();
    assert!(said.stdout.starts_with("The code that stands for the real number 0.\n\n"), "{}", said.stdout);
    assert!(said.stdout.ends_with("\nSee also: scale, symmetric\n"), "{}", said.stdout);
    assert_eq!(said.stderr, "");
    for other in ["Zero-Point", "zero_point"] {
        assert_eq!(Sandbox::new().quantize(&format!("explain {other}")), said, "{other}");
    }
}

#[test]
fn topics_are_listed_and_each_is_there() {
    let sandbox = Sandbox::new();
    let said = sandbox.quantize("explain").succeeded();
    let names: Vec<&str> = said.stdout.lines().take_while(|line| !line.is_empty()).map(first_word).collect();
    let json: Value =
        serde_json::from_str(&sandbox.quantize("explain --output-format json").succeeded().stdout).unwrap();
    let listed: Vec<&str> = json["topics"].as_array().unwrap().iter().map(|t| t["topic"].as_str().unwrap()).collect();
    assert_eq!(listed, names);
    for topic in ["scale", "per-channel", "calibration", "qdq", "sqnr", "integer-share", "exit-codes"] {
        assert!(names.contains(&topic), "{topic}");
    }
    for name in names {
        let said = sandbox.quantize(&format!("explain {name} --output-format json")).succeeded();
        let topic: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(topic["topic"], name);
        assert!(topic["text"].as_str().unwrap().starts_with(topic["summary"].as_str().unwrap()));
        assert!(!topic["related"].as_array().unwrap().is_empty(), "{name}");
    }
}

fn first_word(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

#[test]
fn an_unknown_topic_is_told_the_nearest() {
    let sandbox = Sandbox::new();
    sandbox.quantize("explain skale").failed(2, &["invalid value 'skale'", "a similar value exists: 'scale'"]);
    sandbox.quantize("explain xyz").failed(2, &["possible values: scale, zero-point"]);
}

#[test]
fn shells_learn_every_command() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let said = sandbox.quantize(&format!("completions {shell}")).succeeded();
        for word in ["explain", "emulate", "calib-size"] {
            assert!(said.stdout.contains(word), "{shell}: {word}");
        }
        assert_eq!(said.stderr, "");
    }
    sandbox.quantize("completions tcsh").failed(2, &["possible values: bash"]);
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let sandbox = Sandbox::new();
    let said = sandbox.quantize("man -o pages/man1").succeeded();
    let pages: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(
        pages[..4],
        ["quantize.1", "quantize-onnx.1", "quantize-caffe.1", "quantize-caffe-emulate.1"]
            .map(|p| format!("pages/man1/{p}"))
    );
    for page in &pages {
        let text = String::from_utf8(sandbox.read(page)).unwrap();
        for part in [".TH quantize", ".SH NAME", ".SH SYNOPSIS", ".SH \"EXIT STATUS\""] {
            assert!(text.contains(part), "{page}: no `{part}`");
        }
    }
    let first = String::from_utf8(sandbox.read("pages/man1/quantize.1")).unwrap();
    let to_stdout = Outcome { code: Some(0), stdout: first, stderr: String::new() };
    assert_eq!(sandbox.quantize("man"), to_stdout);
}

#[test]
fn a_manual_that_cannot_be_written_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox.write("taken", "a file");
    sandbox.quantize("man -o taken").failed(1, &["cannot make the folder taken"]);
}
