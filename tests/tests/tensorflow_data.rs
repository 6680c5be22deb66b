//! TensorFlow's files: what is not edited is written as it was, and text means the same as binary.
#![allow(clippy::unwrap_used)]

use quantize_document::Limits;
use quantize_tensorflow::{Checkpoint, Container, Encoding};
use quantize_tests::tensorflow::{canonical, files, open};
use quantize_tests::{counted, shared};
use std::fs;

#[test]
fn unedited_graphs_are_the_same_bytes() {
    let Some(shared) = shared() else { return };
    let suffixes = [".pb", ".pbtxt", ".meta"];
    let paths = ["golden/tf", "models/tf"].map(|folder| files(&shared.join(folder), &suffixes)).concat();
    for path in &paths {
        let (document, bytes) = (open(path), fs::read(path).unwrap());
        let written = document.render(document.graph(), document.encoding()).unwrap();
        match document.container() {
            Container::Graph => assert!(written == bytes, "{}", path.display()),
            // The graph in it, as it stands there.
            _ => assert!(bytes.windows(written.len()).any(|part| part == written), "{}", path.display()),
        }
        assert!(!document.graph().nodes().is_empty(), "{}", path.display());
    }
    counted(paths.len(), "graphs");
}

#[test]
fn every_node_encoded_anew_means_the_same() {
    let Some(shared) = shared() else { return };
    let paths = files(&shared.join("golden/tf"), &[".pb", ".meta"]);
    for path in &paths {
        let document = open(path);
        let mut graph = document.graph().clone();
        for node in graph.nodes_mut() {
            node.set_name(node.name().to_owned());
        }
        assert!(!graph.is_unchanged());
        assert_eq!(canonical(&graph), canonical(document.graph()), "{}", path.display());
    }
    counted(paths.len(), "graphs");
}

#[test]
fn texts_read_to_the_same_graph() {
    let Some(shared) = shared() else { return };
    let texts = files(&shared.join("golden/tf"), &[".pbtxt"]);
    for path in &texts {
        let (text, binary) = (open(path), open(&path.with_extension("pb")));
        assert_eq!((text.encoding(), binary.encoding()), (Encoding::Text, Encoding::Binary));
        assert_eq!(canonical(text.graph()), canonical(binary.graph()), "{}", path.display());
    }
    counted(texts.len(), "texts");
}

/// The published checkpoints and how many variables each has.
const CHECKPOINTS: [(&str, u32, usize); 3] =
    [("small_net", 2, 48), ("ckpt_v1", 1, 3), ("saved_model_v1/variables/variables", 2, 3)];

#[test]
fn checkpoints_are_read_exactly() {
    let Some(shared) = shared() else { return };
    let mut count = 0;
    for (name, version, variables) in CHECKPOINTS {
        let checkpoint = Checkpoint::open(&shared.join("golden/tf").join(name), &Limits::default()).unwrap();
        assert_eq!((checkpoint.version(), checkpoint.variables().len()), (version, variables), "{name}");
        for variable in checkpoint.variables() {
            let value = checkpoint.value(&variable.name).unwrap_or_else(|error| panic!("{error}"));
            let dims = value.shape().dims().unwrap();
            assert_eq!((value.dtype(), dims), (variable.dtype, variable.shape), "{}", variable.name);
            count += 1;
        }
    }
    counted(count, "variables");
}

/// What the reference's own freezing made of the variables is what we read.
#[test]
fn variables_are_those_that_were_frozen() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("golden/tf/small_net");
    let checkpoint = Checkpoint::open(&folder, &Limits::default()).unwrap();
    let frozen = open(&folder.join("freezed_graph.pb"));
    let index = frozen.graph().index().unwrap();
    let mut count = 0;
    for variable in checkpoint.variables() {
        let Some(node) = index.node(&variable.name) else { continue };
        let value = checkpoint.value(&variable.name).unwrap().to_tensor().unwrap();
        assert!(node.constant_value().unwrap() == Some(value), "{}", variable.name);
        count += 1;
    }
    counted(count, "frozen variables");
}

/// The same three variables in both versions.
#[test]
fn both_versions_have_the_same_values() {
    let Some(shared) = shared() else { return };
    let open = |name: &str| Checkpoint::open(&shared.join("golden/tf").join(name), &Limits::default()).unwrap();
    let (former, bundle) = (open("ckpt_v1"), open("saved_model_v1/variables/variables"));
    let mut count = 0;
    for variable in former.variables() {
        let values = [&former, &bundle].map(|checkpoint| checkpoint.value(&variable.name).unwrap().to_raw().unwrap());
        assert_eq!(values[0], values[1], "{}", variable.name);
        count += 1;
    }
    counted(count, "variables");
}
