//! `--preset compat` against what onnxruntime's own tool wrote, on the networks of the shared reference results.
#![allow(clippy::unwrap_used)]

use prost::Message;
use quantize_pipeline::{
    DataOptions, Granularity, PreparationOptions, PreprocessOptions, Preset, QuantizeOptions, RecipeOptions, Sampling,
    Silent, TargetOptions, quantize_onnx,
};
use quantize_proto::onnx::{ModelProto, TensorProto};
use quantize_tests::sandbox::Sandbox;
use quantize_tests::{counted, shared};
use std::collections::BTreeMap;
use std::path::Path;

/// Networks; of the fourth, that tool drops the factors of a `Gemm`, which are folded here.
const NETWORKS: &[&str] = &["cnn_res", "dw_concat", "tiny_conv"];

/// That tool gives what an `AveragePool` computes the range of what it reads, so the bias behind it has another scale;
/// here it has a range of its own.
const BEHIND_A_POOL: &[&str] = &["c4_B_quantized", "c4_B_quantized_scale"];

/// The constants of a model by their names.
fn constants(path: &Path) -> BTreeMap<String, TensorProto> {
    let model = ModelProto::decode(std::fs::read(path).unwrap().as_slice()).unwrap();
    let constants = model.graph.unwrap().initializer;
    constants.into_iter().map(|tensor| (tensor.name().to_owned(), tensor)).collect()
}

fn scales(tensor: &TensorProto) -> Vec<f32> {
    let raw = tensor.raw_data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    tensor.float_data.iter().copied().chain(raw).collect()
}

/// Codes, whatever field they are in.
fn codes(tensor: &TensorProto) -> Vec<u8> {
    tensor.int32_data.iter().map(|q| *q as u8).chain(tensor.raw_data().iter().copied()).collect()
}

fn quantized(network: &Path, weights: Granularity, sandbox: &Sandbox) -> BTreeMap<String, TensorProto> {
    let data = DataOptions {
        paths: vec![network.join("calib.npy")],
        sampling: Sampling::default(),
        preparation: PreparationOptions::Pillow(PreprocessOptions::default()),
    };
    let options = QuantizeOptions {
        model: network.join("fp32_preprocessed.onnx"),
        output: sandbox.path("int8.onnx"),
        data: Some(data),
        recipe: RecipeOptions { weights, ..RecipeOptions::of(Preset::Compat) },
        target: TargetOptions { quantize_results: true, ..TargetOptions::default() },
        ..QuantizeOptions::default()
    };
    quantize_onnx(&options, &Silent).unwrap();
    constants(&sandbox.path("int8.onnx"))
}

#[test]
fn parameters_and_codes_are_those_of_the_original() {
    let Some(shared) = shared() else { return };
    let (mut compared, mut different) = (0, Vec::new());
    for name in NETWORKS {
        for (weights, file) in
            [(Granularity::PerTensor, "qdq_u8s8_pt.onnx"), (Granularity::PerChannel, "qdq_u8s8_pc.onnx")]
        {
            let network = shared.join("golden/onnx").join(name);
            let theirs = constants(&network.join(file));
            let ours = quantized(&network, weights, &Sandbox::new());
            for (tensor, theirs) in theirs.iter().filter(|(name, _)| !BEHIND_A_POOL.contains(&name.as_str())) {
                let Some(ours) = ours.get(tensor) else { continue };
                compared += 1;
                let same = if tensor.ends_with("_scale") {
                    scales(theirs).iter().zip(&scales(ours)).all(|(t, o)| (t - o).abs() <= 1e-6 * t)
                } else {
                    codes(theirs) == codes(ours)
                };
                different.extend((!same).then(|| format!("{name}/{file}: {tensor}")));
            }
        }
    }
    assert_eq!(different, Vec::<String>::new());
    counted(compared, "constants");
}
