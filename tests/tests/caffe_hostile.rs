//! Damaged Caffe networks, read and run: an error or a result, never a panic.
#![allow(clippy::unwrap_used)]

use quantize_caffe::import;
use quantize_exec::{Program, Session};
use quantize_hostile::Draw;
use quantize_hostile::mutate::{self, Form};
use quantize_ir::Tensor;
use quantize_tests::caffe::{NETWORKS, parse};
use quantize_tests::shared;

/// Reads a network and runs it on an input of `shape`, whatever it says of its input.
fn read_and_run(prototxt: &[u8], caffemodel: &[u8], shape: &[usize]) -> Result<(), String> {
    let document = parse(prototxt, caffemodel).map_err(|error| error.to_string())?;
    let (graph, _) = import(&document).map_err(|error| error.to_string())?;
    let program = Program::compile(&graph, graph.outputs()).map_err(|error| error.to_string())?;
    let input = Tensor::new(shape, vec![0.5f32; shape.iter().product()]).unwrap();
    let fed: Vec<_> = graph.inputs().iter().map(|value| (*value, input.clone())).collect();
    Session::new(&program).run(&fed, &mut ()).map(|_| ()).map_err(|error| error.to_string())
}

#[test]
fn nothing_panics() {
    let Some(shared) = shared() else { return };
    let models = shared.join("models/caffe");
    let mut tried = 0;
    for (name, shape) in [("tiny_mix", [1, 3, 65, 67]), ("tiny_v1", [1, 3, 20, 21]), ("mtcnn_det1", [1, 3, 12, 12])] {
        let Some(network) = NETWORKS.iter().find(|n| n.name == name && models.join(n.prototxt).exists()) else {
            continue;
        };
        let prototxt = std::fs::read(models.join(network.prototxt)).unwrap();
        let caffemodel = std::fs::read(models.join(network.caffemodel)).unwrap();
        read_and_run(&prototxt, &caffemodel, &shape).unwrap();
        let mut draw = Draw::new(prototxt.len() as u64);
        let mut refused = 0;
        for turn in 0..400 {
            let (mut text, mut weights) = (prototxt.clone(), caffemodel.clone());
            match turn % 4 {
                0 => (_, weights) = mutate::flipped(&mut draw, &weights, caffemodel.len()),
                1 => (_, text) = mutate::flipped(&mut draw, &text, prototxt.len()),
                2 => text.truncate(draw.below(prototxt.len())),
                _ => text = mutate::mutated(&mut draw, Form::Text, &text, &prototxt),
            }
            let result = std::panic::catch_unwind(|| read_and_run(&text, &weights, &shape));
            let result = result.unwrap_or_else(|_| panic!("{name} panicked at turn {turn}"));
            refused += usize::from(result.is_err());
            tried += 1;
        }
        assert!(refused >= 100, "only {refused} of {name} were refused");
    }
    assert!(tried > 0, "no network in {}", models.display());
}
