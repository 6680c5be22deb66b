//! TensorFlow graphs in fp32 against the outputs that TensorFlow recorded.
#![allow(clippy::unwrap_used)]

use quantize_pipeline::{Model, Request, Tensor, TensorflowFiles};
use quantize_tests::arrays::npy;
use quantize_tests::{counted, shared};

/// Largest difference of a probability.
const TOLERANCE: f32 = 1e-4;

#[test]
fn every_form_of_the_small_network_gives_the_recorded_outputs() {
    let Some(shared) = shared() else { return };
    let golden = shared.join("golden/tf/small_net");
    let (input, expected) = (npy(&golden.join("input.npy")), npy(&golden.join("output_fp32.npy")));
    let mut checked = 0;
    for stage in ["original_graph", "freezed_graph", "optimized_graph"] {
        for extension in ["pb", "pbtxt"] {
            let files = TensorflowFiles {
                graph: golden.join(stage).with_extension(extension),
                checkpoint: (stage == "original_graph").then(|| golden.join("model.ckpt")),
                request: Request { inputs: vec!["input".into()], outputs: vec!["predict:0".into()] },
            };
            let model = Model::open_tensorflow(&files).unwrap();
            assert_eq!(model.output_names(), ["predict"], "{stage}.{extension}");
            let outputs = model.run(std::slice::from_ref(&input)).unwrap();
            let found: &Tensor = &outputs[0];
            assert_eq!(found.shape(), expected.shape());
            let values = found.as_slice::<f32>().unwrap().iter().zip(expected.as_slice::<f32>().unwrap());
            let worst = values.map(|(found, expected)| (found - expected).abs()).fold(0f32, f32::max);
            assert!(worst <= TOLERANCE, "{stage}.{extension}: {worst}");
            checked += found.len();
        }
    }
    counted(checked, "outputs of graphs in fp32");
}
