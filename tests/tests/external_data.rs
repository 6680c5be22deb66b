//! Models whose weights stand in files beside them: quantized like any other, in their own folder and in another one,
//! and refused where a reference is not what it should be.
#![allow(clippy::unwrap_used)]

use prost::Message;
use quantize_pipeline::{Model, Tensor};
use quantize_proto::onnx::ModelProto;
use quantize_tests::external::{locations, moved_out, refer};
use quantize_tests::fixtures::model_bytes;
use quantize_tests::models::{edited, graph, initializer};
use quantize_tests::sandbox::{DATA, Sandbox};

/// A folder with `inside/m.onnx`, whose weights stand in `inside/weights.bin`, and `whole.onnx`, which holds them.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let whole = model_bytes("tiny_classifier");
    let (model, data) = moved_out(&whole, "weights.bin");
    sandbox.write("whole.onnx", &whole);
    sandbox.write("inside/m.onnx", model.encode_to_vec());
    sandbox.write("inside/weights.bin", data);
    sandbox.write("outside/note", "");
    sandbox
}

fn quantize(sandbox: &Sandbox, line: &str) -> String {
    sandbox.quantize(&format!("onnx {line} -q")).succeeded().stdout
}

/// What a model makes of a picture of small numbers.
fn output(sandbox: &Sandbox, name: &str) -> Vec<Tensor> {
    let picture = (0..3 * 16 * 16).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
    let picture = Tensor::new([1, 3, 16, 16], picture).unwrap();
    Model::open_onnx(sandbox.path(name)).unwrap().run(&[picture]).unwrap()
}

#[test]
fn where_weights_stand_does_not_change_what_becomes_of_them() {
    let sandbox = sandbox();
    quantize(&sandbox, &format!("whole.onnx -o whole.int8.onnx {DATA}"));
    for to in ["inside/q.onnx", "outside/q.onnx"] {
        let written = quantize(&sandbox, &format!("inside/m.onnx -o {to} {DATA}"));
        assert_eq!(written, format!("{to}\n"), "no weight stayed as it was");
        assert_eq!(sandbox.read(to), sandbox.read("whole.int8.onnx"), "{to}");
    }
}

#[test]
fn weights_that_stay_keep_their_place_in_the_same_folder_and_are_gathered_in_another() {
    let sandbox = sandbox();
    let before = sandbox.read("inside/weights.bin");
    quantize(&sandbox, &format!("whole.onnx -o whole.int8.onnx --skip fc --skip conv1 {DATA}"));
    let expected = output(&sandbox, "whole.int8.onnx");
    let here = quantize(&sandbox, &format!("inside/m.onnx -o inside/q.onnx --skip fc --skip conv1 {DATA}"));
    assert_eq!(
        (here.as_str(), locations(&sandbox.read("inside/q.onnx"))),
        ("inside/q.onnx\n", vec!["weights.bin".into()])
    );
    assert_eq!(output(&sandbox, "inside/q.onnx"), expected);
    let there = quantize(&sandbox, &format!("inside/m.onnx -o outside/q.onnx --skip fc --skip conv1 {DATA}"));
    assert_eq!(there, "outside/q.onnx\noutside/q.onnx.data\n");
    assert_eq!(locations(&sandbox.read("outside/q.onnx")), ["q.onnx.data"]);
    assert_eq!(output(&sandbox, "outside/q.onnx"), expected);
    assert_eq!(sandbox.read("inside/weights.bin"), before);
}

#[test]
fn a_model_that_is_left_alone_keeps_its_bytes_or_moves_whole() {
    let sandbox = sandbox();
    quantize(&sandbox, "inside/m.onnx -o inside/same.onnx --skip *");
    assert_eq!(sandbox.read("inside/same.onnx"), sandbox.read("inside/m.onnx"));
    quantize(&sandbox, "inside/m.onnx -o outside/moved.onnx --skip *");
    assert_eq!(output(&sandbox, "outside/moved.onnx"), output(&sandbox, "whole.onnx"));
    quantize(&sandbox, "outside/moved.onnx -o inside/back.onnx --skip *");
    assert_eq!(output(&sandbox, "inside/back.onnx"), output(&sandbox, "whole.onnx"));
}

#[test]
fn a_data_file_of_something_else_is_never_replaced() {
    let sandbox = sandbox();
    sandbox.write("outside/q.onnx.data", "of another model");
    for round in 0..2 {
        let written = quantize(&sandbox, "inside/m.onnx -o outside/q.onnx --skip *");
        assert_eq!(written, "outside/q.onnx\noutside/q.onnx.1.data\n", "round {round}");
        assert_eq!(locations(&sandbox.read("outside/q.onnx")), ["q.onnx.1.data"]);
    }
    assert_eq!(sandbox.read("outside/q.onnx.data"), b"of another model");
}

#[test]
fn references_that_are_not_what_they_should_be_are_refused() {
    let safe =
        "a model may only refer to regular files in its own folder or below; do not use models of unknown origin";
    let cut = "the file is cut off or belongs to another model; copy it once more";
    let missing = "the files a model refers to must stand beside it; copy them along with the model";
    let size = "1728";
    let cases: [(&str, &str, &str, &str, Option<&str>); 12] = [
        ("/etc/passwd", "0", size, "external data: its location `/etc/passwd` is an absolute path", Some(safe)),
        ("../m.bin", "0", size, "external data: its location `../m.bin` leaves the model's folder by `..`", Some(safe)),
        ("", "0", size, "external data: its location is empty", Some(safe)),
        ("images", "0", size, "external data: its location `images` is a folder, not a regular file", Some(safe)),
        ("gone.bin", "0", size, "external data: cannot read `gone.bin`: ", Some(missing)),
        ("m.bin", "1", size, "external data: `m.bin` has 1728 bytes, none from 1 to 1729", Some(cut)),
        ("m.bin", "1729", "0", "external data: `m.bin` has 1728 bytes, none from 1729 to 1729", Some(cut)),
        ("m.bin", "0", "18446744073709551615", "none from 0 to 18446744073709551615", Some(cut)),
        ("m.bin", "0", "1724", "has dimensions [16, 3, 3, 3] of float32, but 1724 bytes in `m.bin`", None),
        ("m.bin", "-1", size, "has `-1` as the offset of its external data", None),
        ("m.bin", "0", "many", "has `many` as the length of its external data", None),
        ("m.bin", "0", "18446744073709551616", "has `18446744073709551616` as the length of its external data", None),
    ];
    for (location, offset, length, cause, hint) in cases {
        let model = edited("tiny_classifier", |m| refer(initializer(m, "conv1.weight"), location, offset, length));
        let sandbox = Sandbox::new();
        sandbox.write("m.onnx", model);
        sandbox.write("m.bin", vec![0; 1728]);
        for line in ["--skip *", DATA] {
            let outcome = sandbox.quantize(&format!("onnx m.onnx -o out.onnx {line}"));
            outcome.failed(1, &["error: m.onnx: initializer `conv1.weight`: ", cause, hint.unwrap_or("")]);
            assert_eq!(sandbox.files(), ["m.bin", "m.onnx"], "{location}");
        }
    }
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_refused() {
    let sandbox = sandbox();
    std::fs::rename(sandbox.path("inside/weights.bin"), sandbox.path("weights.bin")).unwrap();
    std::os::unix::fs::symlink("../weights.bin", sandbox.path("inside/weights.bin")).unwrap();
    let line = format!("onnx inside/m.onnx -o out.onnx {DATA}");
    sandbox.quantize(&line).failed(1, &["leads out of the model's folder", "put the file itself, not a link to it"]);
    std::fs::remove_file(sandbox.path("inside/weights.bin")).unwrap();
    std::fs::hard_link(sandbox.path("weights.bin"), sandbox.path("inside/weights.bin")).unwrap();
    sandbox.quantize(&line).failed(1, &["has 2 names (hard links)", "make a copy of the file"]);
    std::fs::remove_file(sandbox.path("weights.bin")).unwrap();
    let _ = sandbox.quantize(&line).succeeded();
}

#[test]
fn tensors_of_nodes_are_read_too_and_do_not_move() {
    let sandbox = sandbox();
    let mut model = ModelProto::decode(&*sandbox.read("inside/m.onnx")).unwrap();
    let bias = initializer(&mut model, "fc.bias").clone();
    graph(&mut model).initializer.retain(|tensor| tensor.name() != "fc.bias");
    graph(&mut model).node.insert(0, quantize_tests::external::constant_node("fc.bias", bias));
    sandbox.write("inside/m.onnx", model.encode_to_vec());
    assert_eq!(output(&sandbox, "inside/m.onnx"), output(&sandbox, "whole.onnx"));
    quantize(&sandbox, "inside/m.onnx -o inside/same.onnx --skip *");
    assert_eq!(sandbox.read("inside/same.onnx"), sandbox.read("inside/m.onnx"));
    let moved = sandbox.quantize("onnx inside/m.onnx -o outside/m.onnx --skip *");
    moved.failed(
        1,
        &["attribute `value`", "which an output in another folder cannot refer to", "the folder of the model"],
    );
}

#[test]
fn statistics_belong_to_the_weights_beside_the_model_too() {
    let sandbox = sandbox();
    quantize(&sandbox, &format!("inside/m.onnx -o inside/q.onnx --save-stats stats {DATA}"));
    quantize(&sandbox, &format!("inside/m.onnx -o inside/again.onnx --stats stats {DATA}"));
    assert!(sandbox.read("inside/again.onnx") == sandbox.read("inside/q.onnx"), "another model");
    let mut weights = sandbox.read("inside/weights.bin");
    *weights.last_mut().unwrap() ^= 1;
    sandbox.write("inside/weights.bin", weights);
    let other = sandbox.quantize("onnx inside/m.onnx -o inside/other.onnx --stats stats");
    other.failed(1, &["stats", "model"]);
}
