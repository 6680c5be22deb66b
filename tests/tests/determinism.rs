//! The same bytes for any number of threads and any order of the files.
#![allow(clippy::unwrap_used)]

use quantize_tests::sandbox::{DATA, Sandbox};

const MODELS: &[&str] = &["tiny_classifier", "tiny_detector"];

/// The model and the plan that a run with these options writes.
fn written(model: &str, options: &str) -> (Vec<u8>, Vec<u8>) {
    let sandbox = Sandbox::with_models(&[model]);
    let line = format!("onnx {model}.onnx {DATA} --range mse {options} -o int8.onnx --emit-plan plan.json");
    let _ = sandbox.quantize(&line).succeeded();
    (sandbox.read("int8.onnx"), sandbox.read("plan.json"))
}

#[test]
fn threads_do_not_matter() {
    for model in MODELS {
        let (bytes, plan) = written(model, "--threads 1");
        for threads in [2, 7, 0] {
            let other = written(model, &format!("--threads {threads}"));
            assert!((&bytes, &plan) == (&other.0, &other.1), "{model} with {threads} threads");
        }
    }
}

/// Files are listed in the order in which they were made, or by a hash, depending on the file system.
#[test]
fn the_order_of_the_files_does_not_matter() {
    let orders: [&[&str]; 3] = [
        &["sky", "foliage", "stripes", "disc"],
        &["disc", "stripes", "foliage", "sky"],
        &["stripes", "sky", "disc", "foliage"],
    ];
    let written = orders.map(|kinds| {
        let sandbox = Sandbox::with_models(&["tiny_classifier"]);
        for kind in kinds {
            sandbox.copy_images("mixed", |name| name.starts_with(kind));
        }
        let data = DATA.replace("images", "mixed");
        let _ = sandbox
            .quantize(&format!("onnx tiny_classifier.onnx {data} -o int8.onnx --emit-plan plan.json"))
            .succeeded();
        (sandbox.read("int8.onnx"), sandbox.read("plan.json"))
    });
    assert!(written.iter().all(|w| *w == written[0]));
}

/// What an image is called, and so when it is read, does not matter either.
#[test]
fn the_order_of_the_images_does_not_matter() {
    let outputs = ["a", "z"].map(|first| {
        let sandbox = Sandbox::with_models(&["tiny_classifier"]);
        for index in 0..3 {
            let image = sandbox.read(&format!("images/sky_{index}.png"));
            let position = if first == "a" { index } else { 2 - index };
            sandbox.write(&format!("renamed/{position}.png"), image);
        }
        let data = DATA.replace("images", "renamed");
        let _ = sandbox.quantize(&format!("onnx tiny_classifier.onnx {data} -o int8.onnx")).succeeded();
        sandbox.read("int8.onnx")
    });
    assert!(outputs[0] == outputs[1]);
}
