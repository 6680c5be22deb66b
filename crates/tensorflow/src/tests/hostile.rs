//! Damaged graphs: an error or a graph, never a panic.

use super::{parse, sample};
use crate::{AttrValue, Encoding, render};
use proptest::prelude::*;

/// Reads a file and everything in it.
fn read_all(bytes: &[u8]) {
    let Ok(document) = parse(bytes) else { return };
    let graph = document.graph();
    assert!(document.render(graph, document.encoding()).is_ok());
    for node in graph.nodes() {
        for (_, attr) in node.attrs() {
            if let Ok(AttrValue::Tensor(tensor)) = attr.value() {
                let _ = (tensor.to_tensor(), tensor.to_strings());
            }
        }
    }
    let _ = render(graph, Encoding::Text);
}

#[test]
fn cut_files_are_no_panic() {
    for encoding in [Encoding::Binary, Encoding::Text] {
        let bytes = render(&sample(), encoding).unwrap();
        (0..bytes.len()).for_each(|length| read_all(&bytes[..length]));
    }
}

proptest! {
    #[test]
    fn damaged_files_are_no_panic(at: prop::sample::Index, value: u8, binary: bool) {
        let mut bytes = render(&sample(), if binary { Encoding::Binary } else { Encoding::Text }).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = value;
        read_all(&bytes);
    }
}
