//! What nobody asked to change stays byte for byte as it was.
#![allow(clippy::unwrap_used)]

use quantize_tests::fixtures;
use quantize_tests::models::Fields;
use quantize_tests::sandbox::{DATA, Sandbox};
use std::collections::BTreeSet;

/// Field numbers of a graph's nodes and initializers.
const NODE: u32 = 1;
const INITIALIZER: u32 = 5;
/// Field numbers of a graph's name, inputs and outputs.
const SIGNATURE: [u32; 3] = [2, 11, 12];

#[test]
fn a_plan_that_quantizes_nothing_copies_every_model() {
    for name in fixtures::model_names() {
        let sandbox = Sandbox::with_models(&[&name]);
        let outcome = sandbox.quantize(&format!("onnx {name}.onnx --skip * -o copy.onnx")).succeeded();
        assert_eq!(outcome.stdout, "copy.onnx\n", "{name}");
        assert!(outcome.stderr.starts_with("nothing was quantized; the output is a copy of the model\n"), "{name}");
        assert!(sandbox.read("copy.onnx") == fixtures::model_bytes(&name), "{name} was changed");
    }
}

#[test]
fn a_model_of_unknown_operators_is_copied_too() {
    let sandbox = Sandbox::new();
    let bytes = quantize_tests::models::edited("tiny_classifier", |model| {
        for node in &mut quantize_tests::models::graph(model).node {
            node.domain = Some("com.example".into());
        }
    });
    sandbox.write("alien.onnx", &bytes);
    let _ = sandbox.quantize("onnx alien.onnx --skip * -o copy.onnx").succeeded();
    assert!(sandbox.read("copy.onnx") == bytes);
}

#[test]
fn untouched_messages_stand_byte_for_byte_in_the_output() {
    let sandbox = Sandbox::with_models(&["tiny_classifier"]);
    let line = format!("onnx tiny_classifier.onnx {DATA} --skip conv2 --skip bn4 -o int8.onnx");
    let _ = sandbox.quantize(&line).succeeded();
    let before = Fields::of(fixtures::model_bytes("tiny_classifier"));
    let after = Fields::of(sandbox.read("int8.onnx"));

    // `conv2` reads a quantized value now; whatever stands between it and `fc` is as it was.
    assert_eq!(surviving(&before, &after, NODE), ["bn4", "relu2", "pool", "flatten"]);
    let weights = ["conv2.weight", "bn4.gamma", "bn4.beta", "bn4.mean", "bn4.var"];
    assert_eq!(surviving(&before, &after, INITIALIZER), weights);
    for number in SIGNATURE {
        assert!(before.in_graph(number).eq(after.in_graph(number)), "field {number} of the graph");
    }
    let (before, after): (Vec<_>, Vec<_>) = (before.beside_graph().collect(), after.beside_graph().collect());
    assert_eq!(after[..before.len()], before, "fields beside the graph");
    let [note] = &after[before.len()..] else { panic!("one note is added for the runtime: {after:?}") };
    assert!(note.windows(10).any(|part| part == b"onnx.infer"), "{note:?}");
}

/// Names of the messages in these fields that stand in both files, byte for byte.
fn surviving(before: &Fields, after: &Fields, number: u32) -> Vec<String> {
    let after: BTreeSet<&[u8]> = after.in_graph(number).collect();
    before.in_graph(number).filter(|message| after.contains(message)).map(|message| name(message, number)).collect()
}

fn name(message: &[u8], number: u32) -> String {
    use prost::Message;
    use quantize_proto::onnx::{NodeProto, TensorProto};
    match number {
        NODE => NodeProto::decode(message).unwrap().name().to_owned(),
        _ => TensorProto::decode(message).unwrap().name().to_owned(),
    }
}
