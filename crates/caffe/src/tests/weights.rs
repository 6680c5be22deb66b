//! The weights file: blobs in every encoding, and which layer they belong to.

use super::{blob, legacy_blob, packed_varints, parse_with, singles, stored, stored_former};
use crate::{CaffeDocument, CaffeError, ReadOptions, StoredShape};
use quantize_document::encode;
use quantize_ir::Dim;

const NET: &str = "input: 'data' input_dim: [1, 3, 5, 7]
    layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c' }
    layer { name: 'd' type: 'Convolution' bottom: 'c' top: 'd' }";

fn parse(weights: Vec<u8>) -> Result<CaffeDocument, CaffeError> {
    parse_with(NET, weights, &ReadOptions::default())
}

/// Shape and numbers of the first blob of layer `c`.
fn first(weights: Vec<u8>) -> (StoredShape, Result<Vec<f32>, String>) {
    let document = parse(weights).unwrap();
    let index = document.blobs(&document.layers()[0])[0];
    (document.weights().blobs()[index].shape.clone(), document.weights().read(index))
}

fn shape(axes: &[u64]) -> Vec<u8> {
    encode::bytes_field(7, &encode::bytes_field(1, &packed_varints(axes)))
}

fn single(number: f32) -> Vec<u8> {
    [&[5 << 3 | 5], &number.to_le_bytes()[..]].concat()
}

#[test]
fn numbers_are_read_in_every_encoding() {
    let unpacked_shape = encode::bytes_field(7, &[encode::varint_field(1, 1), encode::varint_field(1, 2)].concat());
    let doubles: Vec<u8> = [1.5f64, -2.0].iter().flat_map(|number| number.to_le_bytes()).collect();
    let unpacked_double = [&[8 << 3 | 1], &1.5f64.to_le_bytes()[..], &[8 << 3 | 1], &(-2.0f64).to_le_bytes()].concat();
    let cases = [
        ("packed", blob(&[1, 2], &[1.5, -2.0])),
        ("unpacked", [unpacked_shape, single(1.5), single(-2.0)].concat()),
        ("mixed", [shape(&[1, 2]), single(1.5), encode::bytes_field(5, &singles(&[-2.0]))].concat()),
        ("doubles", [shape(&[1, 2]), encode::bytes_field(8, &doubles)].concat()),
        ("doubles before singles", [blob(&[1, 2], &[7.0, 7.0]), encode::bytes_field(8, &doubles)].concat()),
        ("unpacked doubles", [shape(&[1, 2]), unpacked_double].concat()),
        ("unknown fields", [blob(&[1, 2], &[1.5, -2.0]), encode::varint_field(77, 3)].concat()),
    ];
    for (name, blob) in cases {
        let (shape, numbers) = first(stored("c", &[blob]));
        assert_eq!(shape, StoredShape::Exact(vec![1, 2]), "{name}");
        assert_eq!(numbers, Ok(vec![1.5, -2.0]), "{name}");
    }
    let (shape, numbers) = first(stored_former("c", &[legacy_blob([1, 1, 1, 2], &[1.5, -2.0])]));
    assert_eq!((shape, numbers), (StoredShape::Legacy([1, 1, 1, 2]), Ok(vec![1.5, -2.0])));
}

#[test]
fn blobs_that_do_not_hold_together_say_so() {
    let raw = [shape(&[2]), encode::varint_field(10, 2), encode::bytes_field(12, &[0; 4])].concat();
    let cases = [
        ("too few", blob(&[3], &[1.0]), "its shape [3] needs 3 numbers, it has 1"),
        ("too many", blob(&[1], &[1.0, 2.0]), "its shape [1] needs 1 numbers, it has 2"),
        ("cut", [shape(&[1]), encode::bytes_field(5, &[0; 3])].concat(), "needs 1 numbers, it has 0"),
        ("none", shape(&[4]), "its shape [4] needs 4 numbers, it has 0"),
        ("negative", blob(&[u64::MAX], &[1.0]), "its shape makes no sense"),
        ("too many axes", blob(&[1; 33], &[1.0]), "its shape makes no sense"),
        ("huge", blob(&[1 << 30; 20], &[]), "has too many elements"),
        ("half precision", raw, "half precision"),
    ];
    for (name, blob, expected) in cases {
        let error = first(stored("c", &[blob])).1.unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn layers_are_matched_by_name_alone() {
    let weights = [
        stored("loss", &[blob(&[1], &[9.0])]),
        stored("d", &[blob(&[1], &[2.0]), blob(&[1], &[3.0])]),
        stored("c", &[blob(&[1], &[4.0])]),
        stored("c", &[blob(&[1], &[5.0])]),
    ];
    let document = parse(weights.concat()).unwrap();
    let read = |layer: usize| -> Vec<f32> {
        let blobs = document.blobs(&document.layers()[layer]);
        blobs.into_iter().flat_map(|index| document.weights().read(index).unwrap()).collect()
    };
    assert_eq!(read(0), [5.0], "of two layers of the same name the last counts");
    assert_eq!(read(1), [2.0, 3.0]);
    assert_eq!(document.weights().layer_named("d").map(|layer| (layer.field, layer.blobs.clone())), Some((1, 1..3)));
}

#[test]
fn blobs_are_shared_under_a_name() {
    let net = "input: 'data' input_dim: [1, 3, 5, 7]
        layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c' param { name: 'w' } param { name: 'b' } }
        layer { name: 'd' type: 'Convolution' bottom: 'c' top: 'd' param { name: 'w' } param { lr_mult: 1 } }
        layer { name: 'e' type: 'Convolution' bottom: 'd' top: 'e' param { name: 'w' } param { name: 'b' } }";
    let weights = [
        stored("c", &[blob(&[1], &[1.0]), blob(&[1], &[2.0])]),
        stored("d", &[blob(&[1], &[3.0]), blob(&[1], &[4.0])]),
    ];
    let document = parse_with(net, weights.concat(), &ReadOptions::default()).unwrap();
    let blobs = |layer: usize| document.blobs(&document.layers()[layer]);
    assert_eq!((blobs(0), blobs(1), blobs(2)), (vec![0, 1], vec![0, 3], vec![0, 1]));
}

#[test]
fn two_layers_with_weights_cannot_have_the_same_name() {
    let net = "input: 'data' input_dim: [1, 3, 5, 7]
        layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c' }
        layer { name: 'c' type: 'Convolution' bottom: 'c' top: 'd' }";
    let error = parse_with(net, stored("c", &[blob(&[1], &[1.0])]), &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("line 3: layer `c`: the layer in line 2 has the same name"), "{error}");
    assert!(parse_with(net, stored("x", &[]), &ReadOptions::default()).is_ok(), "without weights they can");
}

#[test]
fn files_of_other_formats_are_named() {
    let oldest = encode::bytes_field(2, &encode::bytes_field(1, b""));
    let cases = [
        (b"\x89HDF\r\n\x1a\nrest".to_vec(), "net.caffemodel: the weights are in HDF5"),
        (oldest, "oldest format (V0)"),
        (Vec::new(), "net.caffemodel: the file has no layers"),
        (b"name: 'net'".to_vec(), "net.caffemodel: at byte 0"),
    ];
    for (bytes, expected) in cases {
        let error = parse(bytes).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
}

#[test]
fn legacy_shapes_have_ones_in_front() {
    let known = |axes: &[u64]| axes.iter().map(|n| Dim::Known(*n)).collect::<Vec<_>>();
    let legacy = StoredShape::Legacy([1, 1, 3, 2]);
    assert!(legacy.fits(&known(&[3, 2])) && legacy.fits(&known(&[1, 3, 2])) && legacy.fits(&known(&[1, 1, 3, 2])));
    assert!(!legacy.fits(&known(&[2])) && !legacy.fits(&known(&[6])) && !legacy.fits(&known(&[1, 1, 1, 3, 2])));
    assert!(legacy.fits(&[Dim::Unknown, Dim::Known(2)]));
    let exact = StoredShape::Exact(vec![1, 2]);
    assert!(exact.fits(&known(&[1, 2])) && !exact.fits(&known(&[2])) && !StoredShape::Broken.fits(&[]));
}

#[test]
fn more_layers_or_blobs_than_any_network_has_are_refused() {
    let layers = |number: u32| encode::bytes_field(number, b"").repeat(131_073);
    let blobs = encode::bytes_field(100, &encode::bytes_field(7, b"").repeat(131_073));
    for (bytes, what) in [(layers(100), "layers"), (layers(2), "layers"), (blobs, "blobs")] {
        let error = parse(bytes).unwrap_err().to_string();
        assert!(error.contains("at byte") && error.contains(&format!("there are more than 131072 {what}")), "{error}");
    }
}
