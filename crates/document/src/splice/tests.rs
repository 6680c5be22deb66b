//! Tests of the splice writer: identity, edits, agreement with an independent decoder.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use prost::Message as _;
use quantize_proto::onnx::{GraphProto, ModelProto, NodeProto};

use super::*;
use crate::limits::Limits;
use crate::source::SourceFile;
use crate::wire::index_message;

const MODEL_GRAPH: u32 = 7;
const GRAPH_NODE: u32 = 1;
const NODE_NAME: u32 = 3;

fn index(bytes: &[u8]) -> MessageIndex {
    index_message(bytes, 0..bytes.len(), &Limits::default()).unwrap()
}

fn name_field(name: &str) -> Piece<'static> {
    Piece::encoded(encode::bytes_field(NODE_NAME, name.as_bytes()))
}

#[test]
fn edits_land_where_they_were_asked_for() {
    type Make = fn(&mut Splice<'static>) -> Result<(), DocumentError>;
    const BYTES: &[u8] = b"\x08\x01\x10\x02\x18\x03";
    const NEW: &[u8] = b"\x78\x09";
    let cases: [(&str, Make, &[u8]); 8] = [
        ("nothing", |_| Ok(()), BYTES),
        ("replace", |s| s.replace(1, Piece::encoded(NEW)), b"\x08\x01\x78\x09\x18\x03"),
        ("remove first", |s| s.remove(0), b"\x10\x02\x18\x03"),
        ("remove last", |s| s.remove(2), b"\x08\x01\x10\x02"),
        ("before", |s| s.insert_before(0, Piece::encoded(NEW)), b"\x78\x09\x08\x01\x10\x02\x18\x03"),
        ("after", |s| s.insert_after(1, Piece::encoded(NEW)), b"\x08\x01\x10\x02\x78\x09\x18\x03"),
        (
            "append",
            |s| {
                s.append(Piece::encoded(NEW));
                Ok(())
            },
            b"\x08\x01\x10\x02\x18\x03\x78\x09",
        ),
        (
            "the last fate counts, insertions add up",
            |s| {
                s.remove(1)?;
                s.insert_after(1, Piece::encoded(NEW))?;
                s.insert_after(1, Piece::encoded(&b"\x78\x0a"[..]))?;
                s.replace(1, Piece::encoded(&b"\x10\x07"[..]))
            },
            b"\x08\x01\x10\x07\x78\x09\x78\x0a\x18\x03",
        ),
    ];
    for (name, make, expected) in cases {
        let mut splice = Splice::new(BYTES, index(BYTES)).unwrap();
        make(&mut splice).unwrap();
        assert_eq!(splice.to_vec(), expected, "{name}");
        assert_eq!(splice.encoded_len(), expected.len(), "{name}");
        assert_eq!(splice.is_unchanged(), expected == BYTES, "{name}");
    }
}

#[test]
fn wrong_edits_are_refused() {
    let bytes = b"\x08\x01";
    let mut splice = Splice::new(bytes, index(bytes)).unwrap();
    let other = splice.clone();
    assert!(matches!(splice.remove(1), Err(DocumentError::NoSuchField { index: 1, count: 1 })));
    let error = splice.replace_body(0, other).expect_err("a number");
    assert!(matches!(error, DocumentError::NotAMessage { number: 1, offset: 0 }));
    let error = Splice::new(&b""[..], index(bytes)).expect_err("other bytes");
    assert!(matches!(error, DocumentError::ForeignIndex { start: 0, end: 2, length: 0 }));
    assert!(splice.is_unchanged());
}

/// Field 1 holds a message whose length takes three bytes, of which field 2
/// holds one whose tag and length take two bytes each.
const LOOSE: &[u8] = b"\x0a\x88\x80\x00\x92\x00\x82\x00\x08\x01\x18\x05\x20\x07";

#[test]
fn loose_encodings_survive_where_nothing_changes() {
    let limits = Limits::default();
    let root = index(LOOSE);
    let outer = root.child(LOOSE, &root.fields()[0], &limits).unwrap();
    let inner = outer.child(LOOSE, &outer.fields()[0], &limits).unwrap();

    let mut outer_splice = Splice::new(LOOSE, &outer).unwrap();
    outer_splice.replace_body(0, Splice::new(LOOSE, &inner).unwrap()).unwrap();
    assert!(outer_splice.is_unchanged());
    let mut splice = Splice::new(LOOSE, &root).unwrap();
    splice.replace_body(0, outer_splice).unwrap();
    assert_eq!(splice.to_vec(), LOOSE);

    let mut outer_splice = Splice::new(LOOSE, &outer).unwrap();
    outer_splice.remove(1).unwrap();
    splice.replace_body(0, outer_splice).unwrap();
    let expected = b"\x0a\x06\x92\x00\x82\x00\x08\x01\x20\x07";
    assert_eq!(splice.to_vec(), expected, "only the changed length is encoded anew");
}

#[test]
fn a_message_can_be_inserted() {
    let inner_bytes = b"\x08\x01\x10\x02";
    let mut inner = Splice::new(inner_bytes, index(inner_bytes)).unwrap();
    inner.remove(0).unwrap();
    let mut splice = Splice::new(&b""[..], index(b"")).unwrap();
    splice.append(Piece::message(3, inner));
    assert_eq!(splice.to_vec(), b"\x1a\x02\x10\x02");
}

fn any_field() -> impl Strategy<Value = Vec<u8>> {
    let number = 1u32..3000;
    prop_oneof![
        (number.clone(), any::<u64>()).prop_map(|(n, value)| encode::varint_field(n, value)),
        (number.clone(), prop::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(n, bytes)| encode::bytes_field(n, &bytes)),
        (number.clone(), any::<[u8; 8]>()).prop_map(|(n, bytes)| fixed(n, WireType::Fixed64, &bytes)),
        (number, any::<[u8; 4]>()).prop_map(|(n, bytes)| fixed(n, WireType::Fixed32, &bytes)),
    ]
}

fn fixed(number: u32, wire_type: WireType, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::tag(&mut out, number, wire_type);
    out.extend_from_slice(bytes);
    out
}

#[derive(Debug, Clone)]
enum RandomEdit {
    Keep,
    Remove,
    Replace(Vec<u8>),
    Before(Vec<u8>),
    After(Vec<u8>),
}

fn any_edit() -> impl Strategy<Value = RandomEdit> {
    prop_oneof![
        3 => Just(RandomEdit::Keep),
        1 => Just(RandomEdit::Remove),
        1 => any_field().prop_map(RandomEdit::Replace),
        1 => any_field().prop_map(RandomEdit::Before),
        1 => any_field().prop_map(RandomEdit::After),
    ]
}

/// Makes the edit through the splice and returns what it should turn `field` into.
fn apply(splice: &mut Splice<'_>, position: usize, field: &[u8], edit: &RandomEdit) -> Vec<u8> {
    let piece = |bytes: &Vec<u8>| Piece::encoded(bytes.clone());
    match edit {
        RandomEdit::Keep => field.to_vec(),
        RandomEdit::Remove => {
            splice.remove(position).unwrap();
            Vec::new()
        }
        RandomEdit::Replace(new) => {
            splice.replace(position, piece(new)).unwrap();
            new.clone()
        }
        RandomEdit::Before(new) => {
            splice.insert_before(position, piece(new)).unwrap();
            [new, field].concat()
        }
        RandomEdit::After(new) => {
            splice.insert_after(position, piece(new)).unwrap();
            [field, new].concat()
        }
    }
}

proptest! {
    #[test]
    fn unedited_messages_round_trip(fields in prop::collection::vec(any_field(), 0..20)) {
        let bytes = fields.concat();
        let splice = Splice::new(&bytes, index(&bytes)).unwrap();
        prop_assert_eq!(&splice.to_vec(), &bytes);
    }

    #[test]
    fn edits_change_what_they_name_and_nothing_else(
        inner in prop::collection::vec((any_field(), any_edit()), 0..20),
        around in prop::collection::vec(any_field(), 2),
    ) {
        let inner_bytes: Vec<u8> = inner.iter().flat_map(|(field, _)| field.clone()).collect();
        let enclose = |bytes: &[u8]| {
            [around[0].clone(), encode::bytes_field(9, bytes), around[1].clone()].concat()
        };
        let bytes = enclose(&inner_bytes);
        let root = index(&bytes);
        let child = root.child(&bytes, &root.fields()[1], &Limits::default()).unwrap();
        let mut body = Splice::new(&bytes, child).unwrap();
        let expected: Vec<u8> = inner
            .iter()
            .enumerate()
            .flat_map(|(position, (field, edit))| apply(&mut body, position, field, edit))
            .collect();
        prop_assert_eq!(body.to_vec(), expected.clone());

        let mut splice = Splice::new(&bytes, &root).unwrap();
        splice.replace_body(1, body).unwrap();
        let result = splice.to_vec();
        prop_assert_eq!(splice.encoded_len(), result.len());
        prop_assert_eq!(result, enclose(&expected));
    }

    #[test]
    fn renamed_nodes_decode_with_their_new_names(
        names in prop::collection::vec((".{0,200}", prop::option::of(".{0,200}")), 0..20),
    ) {
        let node = |name: &String| NodeProto { name: Some(name.clone()), ..NodeProto::default() };
        let model = |nodes| ModelProto {
            ir_version: Some(8),
            graph: Some(GraphProto { node: nodes, ..GraphProto::default() }),
            ..ModelProto::default()
        };
        let bytes = model(names.iter().map(|(old, _)| node(old)).collect()).encode_to_vec();
        let renamed = rename_nodes(&bytes, |position| names[position].1.clone());
        let expected = names.iter().map(|(old, new)| node(new.as_ref().unwrap_or(old)));
        prop_assert_eq!(ModelProto::decode(&*renamed).unwrap(), model(expected.collect()));
    }
}

/// Gives a new name to each node for which `name` returns one, by position in the main graph.
fn rename_nodes(bytes: &[u8], name: impl Fn(usize) -> Option<String>) -> Vec<u8> {
    let limits = Limits::default();
    let root = index(bytes);
    let mut model = Splice::new(bytes, &root).unwrap();
    for (graph_position, graph_field) in root.with_number(MODEL_GRAPH) {
        let graph_index = root.child(bytes, graph_field, &limits).unwrap();
        let mut graph = Splice::new(bytes, graph_index.clone()).unwrap();
        for (count, (position, field)) in graph_index.with_number(GRAPH_NODE).enumerate() {
            let node_index = graph_index.child(bytes, field, &limits).unwrap();
            let node = rename_node(bytes, node_index, name(count));
            graph.replace_body(position, node).unwrap();
        }
        model.replace_body(graph_position, graph).unwrap();
    }
    model.to_vec()
}

fn rename_node(bytes: &[u8], index: MessageIndex, name: Option<String>) -> Splice<'_> {
    let mut node = Splice::new(bytes, index.clone()).unwrap();
    if let Some(name) = name {
        match index.with_number(NODE_NAME).last() {
            Some((position, _)) => node.replace(position, name_field(&name)).unwrap(),
            None => node.append(name_field(&name)),
        }
    }
    node
}

fn onnx_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            onnx_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "onnx") {
            found.push(path);
        }
    }
}

#[test]
fn real_models_round_trip_and_take_edits() {
    let Some(shared) = env::var_os("QUANTIZE_SHARED") else {
        // Past the macros, whose output the test harness hides.
        let _ = writeln!(std::io::stderr(), "skipped: QUANTIZE_SHARED is not set");
        return;
    };
    let mut files = Vec::new();
    onnx_files(Path::new(&shared), &mut files);
    assert!(!files.is_empty(), "no .onnx file found");
    for path in files {
        let source = SourceFile::read(&path, &Limits::default()).unwrap();
        let bytes = source.bytes();
        assert!(rename_nodes(bytes, |_| None) == bytes, "{} changed", path.display());

        let new_name = |count: usize| count.is_multiple_of(3).then(|| format!("renamed {count}"));
        let renamed = rename_nodes(bytes, new_name);
        let mut expected = ModelProto::decode(bytes).unwrap();
        for (count, node) in expected.graph.iter_mut().flat_map(|g| &mut g.node).enumerate() {
            node.name = new_name(count).or(node.name.take());
        }
        assert!(ModelProto::decode(&*renamed).unwrap() == expected, "{}", path.display());
    }
}

#[test]
fn bytes_that_are_made_while_writing_count_like_any_others() {
    let bytes = [encode::varint_field(1, 8), encode::bytes_field(2, b"old")].concat();
    let index = index_message(&bytes, 0..bytes.len(), &Limits::default()).unwrap();
    let mut splice = Splice::new(&bytes, &index).unwrap();
    let piece = Piece::streamed(vec![0x12, 4], 4, |out| out.write_all(b"made"));
    splice.replace(1, piece).unwrap();
    assert_eq!(splice.to_vec(), b"\x08\x08\x12\x04made");
    assert_eq!(splice.encoded_len(), 8);
    assert_eq!(splice.clone().to_vec(), splice.to_vec());
}
