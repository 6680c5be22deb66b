//! Damaged files: an error or a graph, never a panic.

use super::{blob, legacy_blob, parse_with, stored, stored_former};
use crate::{CaffeError, ReadOptions, import};
use proptest::prelude::*;
use quantize_document::{Limits, Problem, SourceFile, TextDocument};
use quantize_ir::Graph;
use std::sync::Arc;

const NET: &str = "name: 'net'
input: 'x' input_dim: 1 input_dim: 2 input_dim: 6 input_dim: 6
layer { name: 'c' type: 'Convolution' bottom: 'x' top: 'c' param { name: 'w' }
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 1 group: 2 dilation: 1 bias_term: true } }
layer { name: 'bn' type: 'BatchNorm' bottom: 'c' top: 'c' batch_norm_param { eps: 1e-5 } }
layer { name: 's' type: 'Scale' bottom: 'c' top: 'c' scale_param { axis: 1 num_axes: 1 bias_term: true } }
layer { name: 'r' type: 'PReLU' bottom: 'c' top: 'c' }
layer { name: 'p' type: 'Pooling' bottom: 'c' top: 'p' pooling_param { pool: MAX kernel_size: 2 stride: 2 pad: 1 } }
layer { name: 'cut' type: 'Slice' bottom: 'p' top: 'a' top: 'b' slice_param { axis: 1 slice_point: 2 } }
layer { name: 'n' type: 'Normalize' bottom: 'a' top: 'n' norm_param { across_spatial: false channel_shared: true } }
layer { name: 'perm' type: 'Permute' bottom: 'n' top: 'perm' permute_param { order: [0, 2, 3, 1] } }
layer { name: 'flat' type: 'Flatten' bottom: 'perm' top: 'flat' flatten_param { axis: 1 end_axis: -1 } }
layer { name: 're' type: 'Reshape' bottom: 'b' top: 're'
  reshape_param { shape { dim: 0 dim: -1 } axis: 0 num_axes: -1 } }
layer { name: 'e' type: 'Eltwise' bottom: 'flat' bottom: 're' top: 'e' eltwise_param { operation: SUM coeff: [1, 2] } }
layer { name: 'fc' type: 'InnerProduct' bottom: 'e' top: 'fc' inner_product_param { num_output: 3 axis: 1 } }
layer { name: 'tile' type: 'Tile' bottom: 'fc' top: 'tile' tile_param { axis: 1 tiles: 2 } }
layer { name: 'red' type: 'Reduction' bottom: 'tile' top: 'red' reduction_param { operation: MEAN axis: 1 coeff: 2 } }
layer { name: 'up' type: 'Deconvolution' bottom: 'x' top: 'up'
  convolution_param { num_output: 1 kernel_size: 2 stride: 2 } }
layer { name: 'crop' type: 'Crop' bottom: 'up' bottom: 'x' top: 'crop' crop_param { axis: 2 offset: 3 } }
";

fn weights() -> Vec<u8> {
    let vector = |n: usize| blob(&[n as u64], &vec![1.0; n]);
    [
        stored("c", &[blob(&[4, 1, 3, 3], &[1.0; 36]), legacy_blob([1, 1, 1, 4], &[0.0; 4])]),
        stored("bn", &[vector(4), vector(4), vector(1)]),
        stored("s", &[vector(4), vector(4)]),
        stored_former("r", &[vector(4)]),
        stored("n", &[vector(1)]),
        stored("fc", &[blob(&[3, 32], &[1.0; 96]), vector(3)]),
        stored("up", &[blob(&[2, 1, 2, 2], &[1.0; 8]), vector(1)]),
    ]
    .concat()
}

fn read(text: &[u8], weights: Vec<u8>) -> Result<(Graph, Vec<Problem>), CaffeError> {
    parse_with(&String::from_utf8_lossy(text), weights, &ReadOptions::default())
        .and_then(|document| import(&Arc::new(document)))
}

#[test]
fn the_undamaged_network_is_understood() {
    let (graph, problems) = read(NET.as_bytes(), weights()).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(graph.outputs().len(), 2);
}

#[test]
fn every_cut_of_the_description_inside_a_block_is_an_error() {
    let source = SourceFile::from_bytes("net.prototxt", NET.as_bytes().to_vec());
    let document = TextDocument::parse(source, &Limits::default()).unwrap();
    let mut inside = 0;
    for field in document.root().fields_named("layer") {
        for length in field.name_span.end..field.span.end {
            inside += 1;
            assert!(read(&NET.as_bytes()[..length], weights()).is_err(), "cut after {length} bytes");
        }
    }
    assert!(inside > 1000);
}

#[test]
fn every_cut_of_the_weights_is_an_error() {
    let whole = weights();
    for length in 0..whole.len() {
        assert!(read(NET.as_bytes(), whole[..length].to_vec()).is_err(), "cut after {length} bytes");
    }
}

/// Numbers that sizes should not be.
const NUMBERS: &[&str] =
    &["0", "-1", "1", "7", "2147483647", "-2147483648", "4294967295", "9e99", "nan", "MAX", "true"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_change_of_bytes_of_the_description_makes_it_panic(
        changes in prop::collection::vec((0..NET.len(), any::<u8>()), 1..6),
    ) {
        let mut text = NET.as_bytes().to_vec();
        changes.into_iter().for_each(|(at, byte)| text[at] = byte);
        let _ = read(&text, weights());
    }

    #[test]
    fn no_number_in_the_description_makes_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(NUMBERS)), 1..4),
    ) {
        let words: Vec<&str> = NET.split_inclusive(' ').collect();
        let numeric = |word: &str| word.trim().trim_end_matches([',', ']']).parse::<f64>().is_ok();
        let places: Vec<usize> = (0..words.len()).filter(|i| numeric(words[*i])).collect();
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        for (index, number) in changes {
            let word = &mut words[places[index.index(places.len())]];
            let digits: String = word.chars().take_while(|c| !matches!(c, ',' | ']' | ' ' | '\n')).collect();
            *word = word.replacen(&digits, number, 1);
        }
        let _ = read(words.concat().as_bytes(), weights());
    }

    #[test]
    fn no_change_of_kinds_and_blobs_makes_it_panic(
        swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
    ) {
        let mut words: Vec<&str> = NET.split(' ').collect();
        let quoted: Vec<usize> = (0..words.len()).filter(|i| words[*i].starts_with('\'')).collect();
        for (a, b) in swaps {
            words.swap(quoted[a.index(quoted.len())], quoted[b.index(quoted.len())]);
        }
        let _ = read(words.join(" ").as_bytes(), weights());
    }

    #[test]
    fn no_change_of_bytes_of_the_weights_makes_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = weights();
        let length = bytes.len();
        changes.into_iter().for_each(|(at, byte)| bytes[at.index(length)] = byte);
        if let Ok((graph, _)) = read(NET.as_bytes(), bytes) {
            for (id, _) in graph.values() {
                let _ = graph.constant(id);
            }
        }
    }
}
