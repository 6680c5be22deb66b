//! TensorFlow graphs on codes against what TensorFlow 2.21 recorded of them: dynamic, with frozen ranges, and fused.
#![allow(clippy::unwrap_used)]

use quantize_pipeline::{Model, Request, Tensor, TensorflowFiles};
use quantize_tests::arrays::npy;
use quantize_tests::{counted, shared};
use std::path::Path;

/// Images that were run at a time when the outputs were recorded: ranges that are found while running depend on it.
const BATCH: usize = 8;

/// Largest difference of a probability.
const TOLERANCE: f32 = 1e-5;

/// The codes that TensorFlow 2.21 computed of the first batch in the fused graph, as 64-bit FNV-1a hashes of their bytes.
const CODES: &[(&str, u64)] = &[
    ("pool1_eightbit_quantize_conv1/Relu", 0x914c_62b5_da26_e571),
    ("pool1_eightbit_quantized", 0x4efd_7843_1301_d0c2),
    ("conv2/Conv2D_eightbit_requantize", 0x1159_0b9f_fc08_2e3e),
    ("res/a/Conv2D_eightbit_requantize", 0x4ba3_1673_0cd1_7eef),
    ("res/b/Conv2D_eightbit_requantize", 0xba29_0c63_1ec7_3ee7),
    ("pw1/bn/batchnorm/mul_1_eightbit_requantize", 0x7f11_a1ca_ac3d_506b),
    ("pool2_eightbit_quantize_pw1/Relu", 0x584d_a2b2_750d_6382),
    ("pool2_eightbit_quantized", 0x2b1f_72eb_d5ab_fb5d),
    ("mix/b1/Conv2D_eightbit_requantize", 0xd8a7_cebb_2f9a_fc9c),
    ("mix/b2a/Conv2D_eightbit_requantize", 0xb1c3_37e4_591e_ba9b),
    ("mix/b2b/Conv2D_eightbit_requantize", 0xd6b9_41d1_322e_e2d5),
    ("mix/pool_eightbit_quantized", 0xcce3_d63b_d218_8861),
    ("mix/b3/Conv2D_eightbit_requantize", 0xb6b0_8e35_6d30_e432),
    ("mix/concat_eightbit_quantized_concatv2", 0x1d7e_628f_6e7f_c35f),
    ("conv3/Conv2D_eightbit_requantize", 0xa969_f12c_40cf_5d3d),
];

fn open(graph: &Path, outputs: &[&str]) -> Model {
    let request = Request { inputs: vec!["input".into()], outputs: outputs.iter().map(|o| (*o).into()).collect() };
    let files = TensorflowFiles { graph: graph.to_owned(), checkpoint: None, request };
    Model::open_tensorflow(&files).unwrap_or_else(|error| panic!("{error}"))
}

/// The images of the network in batches.
fn batches(folder: &Path) -> Vec<Tensor> {
    let input = npy(&folder.join("input.npy"));
    let mut shape = input.shape().to_vec();
    shape[0] = BATCH;
    let len = shape.iter().product();
    input.as_slice::<f32>().unwrap().chunks_exact(len).map(|x| Tensor::new(&shape[..], x.to_vec()).unwrap()).collect()
}

#[test]
fn graphs_on_codes_give_the_recorded_outputs() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("golden/tf/small_net");
    let mut checked = 0;
    for stage in ["quantized_dynamic_range_graph", "freezed_range_graph", "fused_graph"] {
        let expected = npy(&folder.join(format!("output_tf221_{stage}.npy")));
        for extension in ["pb", "pbtxt"] {
            let model = open(&folder.join(stage).with_extension(extension), &["predict"]);
            let mut found = Vec::new();
            for batch in batches(&folder) {
                let outputs = model.run(&[batch]).unwrap_or_else(|error| panic!("{stage}: {error}"));
                found.extend_from_slice(outputs[0].as_slice::<f32>().unwrap());
            }
            let pairs = found.iter().zip(expected.as_slice::<f32>().unwrap());
            let worst = pairs.map(|(found, expected)| (found - expected).abs()).fold(0f32, f32::max);
            println!("{stage}.{extension}: {worst:e}");
            assert_eq!(found.len(), expected.len());
            assert!(worst <= TOLERANCE, "{stage}.{extension}: {worst}");
            checked += found.len();
        }
    }
    counted(checked, "outputs of graphs on codes");
}

#[test]
fn fused_operators_give_the_recorded_codes() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("golden/tf/small_net");
    let names: Vec<&str> = CODES.iter().map(|(name, _)| *name).collect();
    let model = open(&folder.join("fused_graph.pb"), &names);
    let outputs = model.run(&batches(&folder)[..1]).unwrap_or_else(|error| panic!("{error}"));
    let mut bytes = 0;
    for ((name, expected), codes) in CODES.iter().zip(&outputs) {
        let found: Vec<u8> = match codes.as_slice::<u8>() {
            Ok(codes) => codes.to_vec(),
            Err(_) => codes.as_slice::<i8>().unwrap().iter().map(|code| *code as u8).collect(),
        };
        assert_eq!(fnv(&found), *expected, "{name}");
        bytes += found.len();
    }
    counted(bytes, "codes of fused operators");
}

/// Fowler, Noll and Vo's hash, variant 1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
