//! The networks are the published ones, and read.

use super::*;
use quantize_pipeline::Model as Read;

/// Number of weights and biases.
fn parameters(network: &Network) -> usize {
    let constants = (network.model)().constants;
    constants.iter().filter(|constant| !constant.shape.is_empty()).map(|constant| constant.len()).sum()
}

fn nodes(network: &Network, kind: &str) -> usize {
    (network.model)().nodes.iter().filter(|node| node.op_type() == kind).count()
}

#[test]
fn parameters_are_as_many_as_published() {
    // With a bias for each output channel in place of the factor and shift of batch normalization.
    assert_eq!(NETWORKS.each_ref().map(parameters), [25_530_472, 4_221_032, 138_357_544, 14_714_688]);
}

#[test]
fn layers_are_as_many_as_published() {
    assert_eq!(NETWORKS.each_ref().map(|n| nodes(n, "Conv")), [53, 27, 13, 13]);
    assert_eq!(NETWORKS.each_ref().map(|n| nodes(n, "Gemm")), [1, 1, 3, 0]);
    assert_eq!(NETWORKS.each_ref().map(|n| nodes(n, "Add")), [16, 0, 0, 0]);
}

#[test]
fn a_written_network_reads_and_is_the_same_every_time() {
    let network = &NETWORKS[1];
    let folder = tempfile::tempdir().unwrap();
    let path = network.write(folder.path()).unwrap();
    let first = fs::read(&path).unwrap();
    let read = Read::open_onnx(&path).unwrap();
    assert_eq!((read.input_names(), read.output_names()), (vec!["image"], vec!["classifier"]));
    network.write(folder.path()).unwrap();
    assert!(first == fs::read(&path).unwrap());
}
