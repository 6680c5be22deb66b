//! 4-bit weights of an encoder: what is written, what it computes, and that a plan carries it.
#![allow(clippy::unwrap_used)]

use prost::Message;
use quantize_pipeline::{
    DataOptions, Form, GroupSize, Model, PreparationOptions, PreprocessOptions, Preset, QuantizeOptions, RecipeOptions,
    Silent, Summary, TargetOptions, Tensor, WeightBits, WeightRounding, quantize_onnx, simulate_onnx,
};
use quantize_proto::onnx::{ModelProto, NodeProto};
use quantize_tests::fixtures;
use quantize_tests::sandbox::Sandbox;
use std::fs;
use std::path::PathBuf;

const ENCODER: &str = "tiny_encoder";

/// Products by constant matrices, and by vectors of the classifier with a bias of their own.
const PRODUCTS: usize = 14;
const BIASED: usize = 2;

fn options(sandbox: &Sandbox, group: GroupSize) -> QuantizeOptions {
    let raw = PreprocessOptions { preset: Some("raw".into()), ..Default::default() };
    QuantizeOptions {
        model: fixtures::model(ENCODER),
        output: sandbox.path("int4.onnx"),
        target: TargetOptions { form: Form::QOperator, weights: WeightBits::Four(group), ..TargetOptions::default() },
        data: Some(DataOptions {
            paths: vec![fixtures::images()],
            sampling: Default::default(),
            preparation: PreparationOptions::Pillow(raw),
        }),
        recipe: RecipeOptions::of(Preset::Balanced),
        threads: 1,
        ..QuantizeOptions::default()
    }
}

/// Nearest codes, made without a sample.
fn nearest(sandbox: &Sandbox, group: GroupSize) -> QuantizeOptions {
    let mut options = QuantizeOptions { data: None, ..options(sandbox, group) };
    options.recipe.correction.rounding = WeightRounding::Nearest;
    options
}

fn quantized(options: &QuantizeOptions) -> (ModelProto, Summary) {
    let summary = quantize_onnx(options, &Silent).unwrap();
    (ModelProto::decode(&*fs::read(&options.output).unwrap()).unwrap(), summary)
}

fn products(model: &ModelProto) -> Vec<&NodeProto> {
    model.graph.as_ref().unwrap().node.iter().filter(|node| node.op_type() == "MatMulNBits").collect()
}

fn size(node: &NodeProto, name: &str) -> i64 {
    node.attribute.iter().find(|attribute| attribute.name() == name).unwrap().i()
}

/// Sentences that are not among the pictures.
fn sentences() -> impl Iterator<Item = Tensor> {
    let word = |pace: usize, place: usize| (40 + (place * place * (2 * pace + 3) + 31 * pace) % 216) as f32;
    (0..16).map(move |pace| Tensor::new([1, 1, 4, 6], (0..24).map(|place| word(pace, place)).collect()).unwrap())
}

#[test]
fn products_read_blocks_of_codes_and_nothing_else_changes() {
    let sandbox = Sandbox::new();
    for group in GroupSize::ALL {
        let (model, summary) = quantized(&nearest(&sandbox, group));
        let found = products(&model);
        assert_eq!(found.len(), PRODUCTS);
        assert_eq!(found.iter().filter(|node| node.input.len() == 6).count(), BIASED, "biases of products stay theirs");
        let graph = model.graph.as_ref().unwrap();
        for node in found {
            let (k, n, block) = (size(node, "K"), size(node, "N"), size(node, "block_size"));
            assert_eq!((node.domain(), size(node, "bits"), block), ("com.microsoft", 4, group.weights() as i64));
            let dims = |slot: usize| &graph.initializer.iter().find(|t| t.name() == node.input[slot]).unwrap().dims;
            let blocks = (k + block - 1) / block;
            assert_eq!(*dims(1), [n, blocks, block / 2]);
            assert_eq!((dims(2), dims(3)), (&vec![n, blocks], &vec![n, (blocks + 1) / 2]));
        }
        let original = ModelProto::decode(&*fixtures::model_bytes(ENCODER)).unwrap();
        let others = |model: &ModelProto| -> Vec<NodeProto> {
            let nodes = model.graph.as_ref().unwrap().node.iter();
            let is_product = |node: &NodeProto| matches!(node.op_type(), "MatMul" | "Gemm" | "MatMulNBits");
            nodes.filter(|node| !is_product(node)).cloned().collect()
        };
        assert_eq!(others(&model), others(&original));
        let storage = summary.weight_storage.unwrap();
        assert_eq!((storage.bits, storage.group), (4, group.weights()));
        assert!(summary.quantized.is_empty() && storage.bits_per_weight > 4.0, "{storage:?}");
    }
}

#[test]
fn the_written_model_computes_what_was_simulated() {
    let sandbox = Sandbox::new();
    // Sums of 32 and 64: groups of 16 are several, those of 128 are short.
    for group in [GroupSize::G16, GroupSize::G32, GroupSize::G128] {
        let options = options(&sandbox, group);
        let _ = quantized(&options);
        let written = Model::open_onnx(&options.output).unwrap();
        let simulation = simulate_onnx(&options, &Silent).unwrap();
        for sample in sentences() {
            let fed = [sample];
            for (a, b) in written.run(&fed).unwrap().into_iter().zip(simulation.run(&fed).unwrap()) {
                let (a, b) = (a.into_vec::<f32>().unwrap(), b.into_vec::<f32>().unwrap());
                assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-4 * (1.0 + b.abs())), "{a:?} {b:?}");
            }
        }
    }
}

/// Mean signal to noise of the sentence's vector, in dB.
fn ratio(path: &PathBuf) -> f64 {
    let (fp32, int4) = (Model::open_onnx(fixtures::model(ENCODER)).unwrap(), Model::open_onnx(path).unwrap());
    let of_sentence = |sample: Tensor| {
        let fed = [sample];
        let sentence = |model: &Model| model.run(&fed).unwrap().swap_remove(0).into_vec::<f32>().unwrap();
        let (exact, found) = (sentence(&fp32), sentence(&int4));
        let noise: f64 = exact.iter().zip(&found).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        10.0 * (exact.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / noise).log10()
    };
    sentences().map(of_sentence).sum::<f64>() / 16.0
}

#[test]
fn codes_that_keep_results_beat_the_nearest() {
    let sandbox = Sandbox::new();
    let plain = nearest(&sandbox, GroupSize::G32);
    let _ = quantized(&plain);
    let before = ratio(&plain.output);
    let better = options(&sandbox, GroupSize::G32);
    let (_, summary) = quantized(&better);
    let after = ratio(&better.output);
    assert!(after > before + 1.0, "{before} {after}");
    assert_eq!(summary.improvement.unwrap().layers, PRODUCTS);
}

#[test]
fn threads_change_nothing_and_a_plan_fed_back_gives_the_same_model() {
    let sandbox = Sandbox::new();
    let first = QuantizeOptions { emit_plan: Some(sandbox.path("plan.json")), ..options(&sandbox, GroupSize::G16) };
    let _ = quantized(&first);
    let bytes = sandbox.read("int4.onnx");
    let _ = quantized(&QuantizeOptions { threads: 3, ..options(&sandbox, GroupSize::G16) });
    assert!(sandbox.read("int4.onnx") == bytes);
    let again = QuantizeOptions {
        plan: Some(sandbox.path("plan.json")),
        data: None,
        output: sandbox.path("again.onnx"),
        ..options(&sandbox, GroupSize::G16)
    };
    let _ = quantized(&again);
    assert!(sandbox.read("again.onnx") == bytes);
    let wider = QuantizeOptions { plan: again.plan, data: None, ..options(&sandbox, GroupSize::G32) };
    let error = quantize_onnx(&wider, &Silent).unwrap_err().to_string();
    assert!(error.contains("blocks of 16 along axis 0"), "{error}");
}

#[test]
fn the_command_says_what_it_did_and_reads_what_it_wrote() {
    let sandbox = Sandbox::with_models(&[ENCODER]);
    let line = format!("onnx {ENCODER}.onnx --weight-bits 4 --group-size 64 --rounding nearest");
    let done = sandbox.quantize(&line).succeeded();
    assert_eq!(done.stdout, format!("{ENCODER}.int4.onnx\n"));
    for part in [
        "int4: weights of 14 nodes (12 MatMul, 2 Gemm), computed in fp32\n",
        " weights in groups of 64, ",
        "fp32: 2 Gather (`words`, `place`): 4-bit weights are those of matrix products\n",
    ] {
        assert!(done.stderr.contains(part), "no `{part}` in: {}", done.stderr);
    }
    let seen = sandbox.quantize(&format!("inspect {ENCODER}.int4.onnx")).succeeded().stdout;
    assert!(seen.contains("14 more have weights stored as codes and compute in fp32\n"), "{seen}");
    assert!(seen.contains("MatMulNBits"), "{seen}");
    let compared = sandbox.quantize(&format!(
        "compare {ENCODER}.onnx {ENCODER}.int4.onnx --calib images --preprocess raw --output-format json"
    ));
    let report: serde_json::Value = serde_json::from_str(&compared.succeeded().stdout).unwrap();
    let db = report["outputs"][0]["sqnr_db"].as_f64().unwrap();
    assert!((8.0..40.0).contains(&db), "{db}");
}

#[test]
fn choices_that_say_nothing_are_refused() {
    let sandbox = Sandbox::with_models(&[ENCODER, "tiny_classifier"]);
    let four = format!("onnx {ENCODER}.onnx --weight-bits 4 --rounding nearest");
    for option in ["--activations s8", "--symmetric-activations", "--quantize-outputs", "--isa generic-x86"] {
        let name = option.split(' ').next().unwrap();
        let parts = ["`--weight-bits 4`", name, "activations stay in fp32"];
        sandbox.quantize(&format!("{four} {option}")).failed(2, &parts);
    }
    sandbox.quantize(&format!("{four} --weights per-tensor")).failed(2, &["each group has a scale of its own"]);
    sandbox.quantize(&format!("{four} --format qdq")).failed(1, &["an operator of their own", "leave out `--format`"]);
    sandbox
        .quantize(&format!("onnx {ENCODER}.onnx --weight-bits 4"))
        .failed(2, &["14 nodes", "`--rounding nearest` needs none"]);
}
