//! Documents: what is told apart, kept, edited and refused.

use crate::{
    Container, DataType, Encoding, GraphDef, NodeDef, ReadOptions, TensorProto, TensorflowDocument, TensorflowError,
    render,
};
use quantize_document::encode::{bytes_field, varint_field};
use quantize_document::{Limits, SourceFile};
use quantize_ir::Tensor;

mod hostile;

/// An input, a constant with its reader, and a node of an unknown operator with a control input.
pub(crate) fn sample() -> GraphDef {
    let weights = TensorProto::new(DataType::FLOAT, &Tensor::vector(vec![1f32, 2.0, 3.0])).unwrap();
    GraphDef::new(vec![
        NodeDef::new("input", "Placeholder").with_attr("dtype", DataType::FLOAT),
        NodeDef::constant("w", weights),
        NodeDef::new("add", "Add").with_inputs(["input", "w"]).with_attr("T", DataType::FLOAT),
        NodeDef::new("odd", "MyOperator").with_inputs(["add:0", "^input"]).with_attr("strides", vec![1, 2, 2, 1]),
    ])
}

pub(crate) fn parse(bytes: &[u8]) -> Result<TensorflowDocument, TensorflowError> {
    let source = SourceFile::from_bytes("graph.pb", bytes.to_vec());
    TensorflowDocument::parse(source, &Limits::default(), &ReadOptions::default())
}

#[test]
fn binary_and_text_are_the_same_graph() {
    let graph = sample();
    let (binary, text) = (render(&graph, Encoding::Binary).unwrap(), render(&graph, Encoding::Text).unwrap());
    let (from_binary, from_text) = (parse(&binary).unwrap(), parse(&text).unwrap());
    assert_eq!((from_binary.encoding(), from_text.encoding()), (Encoding::Binary, Encoding::Text));
    assert_eq!(from_text.render(from_text.graph(), Encoding::Binary).unwrap(), binary);
    assert_eq!(from_binary.render(from_binary.graph(), Encoding::Text).unwrap(), text);
}

#[test]
fn an_unedited_file_is_its_bytes() {
    // A node, the version, another node, and a field that nobody knows: not what any writer makes.
    let node =
        |name: &[u8]| bytes_field(1, &[bytes_field(2, b"NoOp"), bytes_field(1, name), bytes_field(9, b"?")].concat());
    let odd = [node(b"a"), bytes_field(4, &varint_field(1, 27)), node(b"b"), bytes_field(30, b"kept")].concat();
    let document = parse(&odd).unwrap();
    assert!(document.graph().is_unchanged());
    assert_eq!(document.render(document.graph(), Encoding::Binary).unwrap(), odd);

    let spaced = b"# by hand\nnode { op: 'NoOp', name: 'a' }\n";
    let document = parse(spaced).unwrap();
    assert_eq!(document.render(document.graph(), Encoding::Text).unwrap(), spaced);
}

#[test]
fn an_edit_leaves_other_nodes_as_they_are() {
    let bytes = render(&sample(), Encoding::Binary).unwrap();
    let document = parse(&bytes).unwrap();
    let mut graph = document.graph().clone();
    graph.nodes_mut()[3].set_device("/cpu:0");
    assert!(!graph.is_unchanged());
    let edited = document.render(&graph, Encoding::Binary).unwrap();
    let again = parse(&edited).unwrap();
    assert_eq!(again.graph().nodes()[3].device(), "/cpu:0");
    assert_eq!(again.graph().nodes()[3].ints("strides").unwrap(), Some(vec![1, 2, 2, 1]));
    // The first three nodes are the same bytes.
    let kept = render(&GraphDef::new(sample().nodes()[..3].to_vec()), Encoding::Binary).unwrap();
    assert!(edited.starts_with(&kept));
}

#[test]
fn fields_that_are_not_known_stay_with_an_edited_node() {
    let node = [bytes_field(1, b"a"), bytes_field(2, b"NoOp"), bytes_field(77, b"kept")].concat();
    let document = parse(&[bytes_field(1, &node), bytes_field(2, b"")].concat()).unwrap();
    let mut graph = document.graph().clone();
    graph.nodes_mut()[0].set_name("b");
    let expected = [bytes_field(1, b"b"), bytes_field(2, b"NoOp"), bytes_field(77, b"kept")].concat();
    assert_eq!(graph.to_vec(), [bytes_field(1, &expected), bytes_field(2, b"")].concat());
}

/// A MetaGraph with these tags around a graph of one node.
fn meta_graph(tags: &[&str], node: &str) -> Vec<u8> {
    let info: Vec<u8> = tags.iter().flat_map(|tag| bytes_field(4, tag.as_bytes())).collect();
    let graph = GraphDef::new(vec![NodeDef::new(node, "NoOp")]).to_vec();
    let tensor = |key: &str| [bytes_field(1, key.as_bytes()), bytes_field(2, &bytes_field(1, b"x:0"))].concat();
    let signature = [bytes_field(1, &tensor("images")), bytes_field(2, &tensor("scores"))].concat();
    let signatures = [bytes_field(1, b"serving_default"), bytes_field(2, &signature)].concat();
    [bytes_field(1, &info), bytes_field(2, &graph), bytes_field(5, &signatures)].concat()
}

#[test]
fn graphs_are_found_in_what_they_were_saved_with() {
    let document = parse(&meta_graph(&["train"], "a")).unwrap();
    assert_eq!((document.container(), document.graph().nodes()[0].name()), (Container::MetaGraph, "a"));
    let [signature] = document.signatures() else { panic!("{:?}", document.signatures()) };
    assert_eq!((signature.name.as_str(), signature.inputs[0].tensor.as_str()), ("serving_default", "x:0"));

    let graphs =
        [meta_graph(&["train"], "a"), meta_graph(&["serve"], "b")].map(|graph| bytes_field(2, &graph)).concat();
    let saved = [varint_field(1, 1), graphs].concat();
    let document = parse(&saved).unwrap();
    assert_eq!((document.container(), document.graph().nodes()[0].name()), (Container::SavedModel, "b"));
}

#[test]
fn tags_that_no_graph_has_are_answered_with_those_there_are() {
    let saved = [varint_field(1, 1), bytes_field(2, &meta_graph(&["train", "gpu"], "a"))].concat();
    let error = parse(&saved).unwrap_err();
    assert_eq!(error.to_string(), "graph.pb: there is no graph with the tags {serve}");
    assert_eq!(error.hint().as_deref(), Some("its graphs have the tags {gpu, train}"));
}

#[test]
fn a_folder_is_a_saved_model() {
    let folder = tempfile::tempdir().unwrap();
    let open = || TensorflowDocument::open(folder.path(), &Limits::default(), &ReadOptions::default());
    assert!(open().unwrap_err().to_string().contains("no SavedModel"));
    let saved = [varint_field(1, 1), bytes_field(2, &meta_graph(&["serve"], "a"))].concat();
    std::fs::write(folder.path().join("saved_model.pb"), saved).unwrap();
    let document = open().unwrap();
    assert_eq!(document.variables(), Some(folder.path().join("variables/variables").as_path()));
    assert!(!document.has_objects());
}

#[test]
fn other_files_are_refused() {
    assert_eq!(parse(b"").unwrap_err().to_string(), "graph.pb: the file is empty");
    // The beginning of an ONNX model.
    let onnx = [varint_field(1, 8), bytes_field(2, b"pytorch"), bytes_field(7, b"")].concat();
    assert!(parse(&onnx).unwrap_err().to_string().contains("neither a GraphDef"));
    assert!(parse(b"\x89HDF\r\n\x1a\n").is_err());
    let error = parse(b"node {\n  nmae: 'x'\n}").unwrap_err();
    assert_eq!(error.to_string(), "graph.pb, line 2: NodeDef has no field `nmae`");
}

#[test]
fn two_nodes_of_one_name_and_inputs_from_nowhere_are_named() {
    let twice = GraphDef::new(vec![NodeDef::new("a", "NoOp"), NodeDef::new("a", "NoOp")]);
    assert_eq!(twice.index().unwrap_err().to_string(), "node `a`: there are two of this name");
    let dangling = GraphDef::new(vec![NodeDef::new("a", "Relu").with_inputs(["b:1"])]);
    let error = dangling.index().unwrap().check_inputs().unwrap_err();
    assert_eq!(error.to_string(), "node `a`: its input `b` refers to a node that does not exist");
    let graph = sample();
    let error = graph.index().unwrap().find("imput").unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("did you mean `input`?"));
}

#[test]
fn nodes_of_functions_are_found() {
    let node = bytes_field(3, &[bytes_field(1, b"n"), bytes_field(2, b"Relu")].concat());
    let library = bytes_field(1, &node);
    let document = parse(&[bytes_field(1, &bytes_field(2, b"NoOp")), bytes_field(2, &library)].concat()).unwrap();
    let nodes = document.graph().function_nodes(&Limits::default()).unwrap();
    assert_eq!(nodes.iter().map(NodeDef::op).collect::<Vec<_>>(), ["Relu"]);
}
