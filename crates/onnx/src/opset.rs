//! Raising a model to the opset that per-axis quantization needs.

use crate::document::{OnnxDocument, normal_domain};
use crate::error::OnnxError;
use quantize_document::Location;
use quantize_ir::{Graph, Op};
use quantize_proto::onnx::{GraphProto, NodeProto};

/// The first opset with a scale for each channel.
pub(crate) const TARGET_OPSET: i64 = 13;

/// Standard operators whose nodes, written for an earlier opset, mean something else or nothing at the given one:
/// attributes that became operands, changed defaults, removed operators. From opset 6 to [`TARGET_OPSET`].
const CHANGES: [(&str, i64); 33] = [
    ("Add", 7),
    ("And", 7),
    ("BatchNormalization", 9),
    ("Clip", 11),
    ("Div", 7),
    ("Dropout", 12),
    ("Equal", 7),
    ("GRU", 7),
    ("Gemm", 7),
    ("Greater", 7),
    ("Hardmax", 13),
    ("LSTM", 7),
    ("Less", 7),
    ("LogSoftmax", 13),
    ("Mul", 7),
    ("Or", 7),
    ("PRelu", 7),
    ("Pad", 11),
    ("Pow", 7),
    ("RNN", 7),
    ("ReduceSum", 13),
    ("Resize", 11),
    ("Scan", 9),
    ("Scatter", 11),
    ("Slice", 10),
    ("Softmax", 13),
    ("Split", 13),
    ("Squeeze", 13),
    ("Sub", 7),
    ("TopK", 10),
    ("Unsqueeze", 13),
    ("Upsample", 10),
    ("Xor", 7),
];

/// Document positions of the nodes that have to be written anew when the model is raised to [`TARGET_OPSET`]; none if
/// it is there already.
///
/// # Errors
/// If a node that has to be is not known here, or lies in a nested graph.
pub(crate) fn outdated_nodes(document: &OnnxDocument, original: &Graph) -> Result<Vec<usize>, OnnxError> {
    let opset = document.opset();
    if opset >= TARGET_OPSET {
        return Ok(Vec::new());
    }
    let mut outdated = Vec::new();
    for (id, node) in original.nodes() {
        let Some(index) = document.node_index(node) else { continue };
        let proto = document.node(index)?;
        let nested =
            proto.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)).find_map(|g| changed_in(g, opset));
        if let Some(op) = nested {
            return Err(blocked(document, &original.label(id), &format!("a graph inside it uses `{op}`")));
        }
        if !is_changed(&proto, opset) {
            continue;
        }
        if matches!(node.op, Op::Opaque(_)) {
            return Err(blocked(document, &original.label(id), &format!("it is a `{}`", proto.op_type())));
        }
        outdated.push(index);
    }
    Ok(outdated)
}

fn blocked(document: &OnnxDocument, node: &str, why: &str) -> OnnxError {
    let location = Location::item(document.source().path(), format!("node `{node}`"));
    let cause = format!(
        "stands in the way of raising the model from opset {} to {TARGET_OPSET}, which scales for each channel need: \
         {why}, which changed in between",
        document.opset()
    );
    let hint = Some("export the model with opset 13 or later, or convert it with the ONNX version converter");
    OnnxError::Unsupported { location: Box::new(location), cause, hint }
}

fn is_changed(node: &NodeProto, opset: i64) -> bool {
    let standard = normal_domain(node.domain()).is_empty();
    let changed = CHANGES.iter().any(|(name, since)| *name == node.op_type() && opset < *since);
    standard && (changed || (node.op_type() == "Resize" && has_removed_coordinates(node)))
}

/// Opset 13 took one coordinate mode away from `Resize`.
fn has_removed_coordinates(node: &NodeProto) -> bool {
    let mode = node.attribute.iter().find(|a| a.name() == "coordinate_transformation_mode");
    mode.is_some_and(|a| a.s() == b"tf_half_pixel_for_nn")
}

fn changed_in(graph: &GraphProto, opset: i64) -> Option<String> {
    graph.node.iter().find_map(|node| {
        let inner = node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)).find_map(|g| changed_in(g, opset));
        inner.or_else(|| is_changed(node, opset).then(|| node.op_type().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{ints, model, node, parse, subgraph, text};
    use quantize_ir::op::Opaque;

    /// Outdated nodes of a model, or why it cannot be raised.
    fn outdated(version: i64, nodes: Vec<NodeProto>) -> Result<Vec<usize>, String> {
        let document = parse(&model(version, nodes));
        let (graph, _) = crate::import(&document).map_err(|e| e.to_string())?;
        outdated_nodes(&document, &graph).map_err(|e| e.to_string())
    }

    fn softmax(name: &str) -> NodeProto {
        NodeProto { name: Some(name.into()), ..node("Softmax", &["x"], &["y"], vec![]) }
    }

    #[test]
    fn nodes_whose_definition_changed_are_outdated() {
        let resize = |mode| {
            let mode = text("coordinate_transformation_mode", mode);
            vec![node("Resize", &["x", "", "x"], &["y"], vec![mode])]
        };
        let slice = || vec![node("Slice", &["x"], &["y"], vec![ints("starts", &[0]), ints("ends", &[1])])];
        let relu_softmax = || vec![node("Relu", &["x"], &["r"], vec![]), softmax("s")];
        let cases = [
            ("softmax", 12, relu_softmax(), vec![1]),
            ("broadcasting by an attribute", 6, vec![node("Add", &["x", "x"], &["y"], vec![])], vec![0]),
            ("broadcasting as ever since", 7, vec![node("Add", &["x", "x"], &["y"], vec![])], vec![]),
            ("nothing to raise", 13, relu_softmax(), vec![]),
            ("slice", 9, slice(), vec![0]),
            ("clip", 10, vec![node("Clip", &["x"], &["y"], vec![])], vec![0]),
            ("clip with operands", 11, vec![node("Clip", &["x"], &["y"], vec![])], vec![]),
            ("coordinates that stay", 11, resize("asymmetric"), vec![]),
            ("coordinates that were removed", 11, resize("tf_half_pixel_for_nn"), vec![0]),
        ];
        for (name, version, nodes, expected) in cases {
            assert_eq!(outdated(version, nodes), Ok(expected), "{name}");
        }
    }

    #[test]
    fn nodes_that_cannot_be_written_anew_stand_in_the_way() {
        let top = NodeProto { name: Some("best".into()), ..node("TopK", &["x"], &["y"], vec![]) };
        let branch = GraphProto { node: vec![softmax("inner")], ..Default::default() };
        let choice = node("If", &["x"], &["y"], vec![subgraph("then_branch", branch)]);
        let choice = NodeProto { name: Some("choice".into()), ..choice };
        let cases = [
            (9, top, "node `best`", "it is a `TopK`"),
            (12, choice, "node `choice`", "a graph inside it uses `Softmax`"),
        ];
        for (version, node, place, why) in cases {
            let expected = format!(
                "m.onnx: {place}: stands in the way of raising the model from opset {version} to 13, which scales for \
                 each channel need: {why}, which changed in between"
            );
            assert_eq!(outdated(version, vec![node]), Err(expected));
        }
    }

    #[test]
    fn a_form_that_is_not_known_stands_in_the_way_only_if_it_changed() {
        let broken = node("Conv", &["x"], &["y"], vec![]);
        assert_eq!(outdated(9, vec![broken.clone()]), Ok(vec![]));
        let document = parse(&model(9, vec![broken]));
        let (graph, _) = crate::import(&document).unwrap();
        let conv = Opaque { domain: String::new(), kind: "Conv".into() };
        assert!(graph.nodes().all(|(_, n)| n.op == Op::Opaque(conv.clone())));
    }
}
