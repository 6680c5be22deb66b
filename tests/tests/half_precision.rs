//! Models that compute in half precision: quantized, evaluated and compared as the same models in single precision.
#![allow(clippy::unwrap_used)]

use half::f16;
use prost::Message;
use quantize_onnx::decode_tensor_message;
use quantize_proto::onnx::tensor_proto::DataType;
use quantize_proto::onnx::{ModelProto, ValueInfoProto, type_proto};
use quantize_tests::models::{edited, graph};
use quantize_tests::sandbox::{DATA, Sandbox};
use serde_json::Value;

const HALF: i32 = DataType::Float16 as i32;

fn to_half(info: &mut ValueInfoProto) {
    let described = info.r#type.as_mut().and_then(|t| t.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = described
        && tensor.elem_type() == DataType::Float as i32
    {
        tensor.elem_type = Some(HALF);
    }
}

/// The classifier, converted whole as exporters do it.
fn halves(model: &mut ModelProto) {
    let graph = graph(model);
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.data_type() == DataType::Float as i32) {
        let read = decode_tensor_message(&tensor.encode_to_vec()).unwrap();
        let halves = read.as_slice::<f32>().unwrap().iter().flat_map(|v| f16::from_f32(*v).to_le_bytes());
        tensor.raw_data = Some(halves.collect());
        tensor.float_data.clear();
        tensor.data_type = Some(HALF);
    }
    graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info).for_each(to_half);
}

/// A sandbox with the classifier in single and in half precision.
fn both() -> Sandbox {
    let sandbox = Sandbox::with_models(&["tiny_classifier"]);
    sandbox.write("half.onnx", edited("tiny_classifier", halves));
    sandbox
}

fn compared(sandbox: &Sandbox, arguments: &str) -> Value {
    let said = sandbox.quantize(&format!("compare {arguments} {DATA} --output-format json")).succeeded();
    serde_json::from_str(&said.stdout).unwrap()
}

fn ratio(report: &Value) -> f64 {
    report["outputs"][0]["sqnr_db"].as_f64().unwrap()
}

#[test]
fn a_model_in_half_precision_is_quantized_like_the_one_in_single() {
    let sandbox = both();
    let said = sandbox.quantize(&format!("onnx half.onnx {DATA} -o half.int8.onnx")).succeeded();
    assert!(said.stderr.contains("it computes in half precision"), "{}", said.stderr);
    let _ = sandbox.quantize(&format!("onnx tiny_classifier.onnx {DATA} -q -o int8.onnx")).succeeded();
    let (half, single) =
        (compared(&sandbox, "half.onnx half.int8.onnx"), compared(&sandbox, "tiny_classifier.onnx int8.onnx"));
    assert!((ratio(&half) - ratio(&single)).abs() < 2.0, "{} and {} dB", ratio(&half), ratio(&single));
    let rounding = compared(&sandbox, "tiny_classifier.onnx half.onnx");
    assert!((50.0..100.0).contains(&ratio(&rounding)), "{} dB", ratio(&rounding));

    let model = ModelProto::decode(sandbox.read("half.int8.onnx").as_slice()).unwrap();
    let graph = model.graph.unwrap();
    let types = |infos: &[ValueInfoProto]| {
        infos
            .iter()
            .map(|info| match info.r#type.as_ref().unwrap().value.as_ref().unwrap() {
                type_proto::Value::TensorType(tensor) => tensor.elem_type(),
                _ => 0,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!((types(&graph.input), types(&graph.output)), (vec![HALF], vec![HALF]), "its ends keep their type");
    let left = graph.initializer.iter().filter(|tensor| tensor.data_type() == HALF && tensor.dims.len() > 1);
    assert_eq!(left.count(), 0, "weights are codes, and nothing else is left of them");
}

#[test]
fn a_model_of_which_nothing_is_quantized_is_copied() {
    let sandbox = both();
    let _ = sandbox.quantize("onnx half.onnx --skip * -o copy.onnx").succeeded();
    assert_eq!(sandbox.read("copy.onnx"), sandbox.read("half.onnx"));
}

#[test]
fn a_plan_of_it_gives_the_same_model() {
    let sandbox = both();
    let _ = sandbox.quantize(&format!("onnx half.onnx {DATA} -q -o a.onnx --emit-plan plan.json")).succeeded();
    let _ = sandbox.quantize("onnx half.onnx -q --plan plan.json -o b.onnx").succeeded();
    assert_eq!(sandbox.read("a.onnx"), sandbox.read("b.onnx"));
    assert!(ratio(&compared(&sandbox, "half.onnx --plan plan.json")) > 30.0);
}
