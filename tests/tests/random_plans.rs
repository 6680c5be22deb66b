//! Whatever a plan says: what it does not speak of stands in the output byte for byte.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use prost::Message;
use quantize_document::{Limits, SourceFile};
use quantize_ir::{
    ActivationPlan, DType, Decision, Graph, NodeId, NodePlan, OperandRole, QuantParams, QuantPlan, QuantType, Recipe,
    Tensor, ValueId, WeightPlan,
};
use quantize_onnx::{ActivationCodes, Form, OnnxDocument, OnnxRecipe, Placement, Revision, encode, import};
use quantize_passes::{Preparation, Selection, prepare};
use quantize_proto::onnx::{NodeProto, TensorProto, ValueInfoProto};
use quantize_tests::models::Fields;
use quantize_tests::{counted, fixtures};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Field numbers of a graph's nodes and initializers.
const NODE: u32 = 1;
const INITIALIZER: u32 = 5;
/// Field number of a graph's inputs, among which old files list initializers too.
const INPUT: u32 = 11;
/// Field numbers of a graph's name, documentation and outputs.
const SIGNATURE: [u32; 3] = [2, 10, 12];

/// From this opset on models are written as of their own opset; others are raised to it.
const RAISED_TO: i64 = 13;
/// Operators whose nodes mean the same at every opset up to the one to which models are raised.
const UNCHANGED: [&str; 14] = [
    "Abs",
    "AveragePool",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Exp",
    "Flatten",
    "GlobalAveragePool",
    "MatMul",
    "MaxPool",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Transpose",
];

/// What a case draws: the kind of output, what is skipped, and parameters.
#[derive(Clone, Debug)]
struct Drawn {
    model: prop::sample::Index,
    form: Form,
    codes: ActivationCodes,
    symmetric: bool,
    rounded_results: bool,
    per_tensor: bool,
    /// Whether node `i` stays as it is, over and over.
    skip: Vec<bool>,
    /// Scale and place of the zero point among the codes for group `i`, over and over.
    params: Vec<(f32, f32)>,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    use ActivationCodes::{I8, I16, U8, U16};
    let narrow = (prop::sample::select(vec![Form::Qdq, Form::QOperator]), prop::sample::select(vec![U8, I8]));
    let wide = (Just(Form::Qdq), prop::sample::select(vec![U16, I16]));
    let target = prop_oneof![3 => narrow, 1 => wide];
    let skip = (0.0..0.9f64).prop_flat_map(|share| prop::collection::vec(prop::bool::weighted(share), 1..40));
    let params = prop::collection::vec((1e-4f32..10.0, 0.0f32..=1.0), 1..12);
    (any::<prop::sample::Index>(), target, any::<[bool; 3]>(), skip, params).prop_map(
        |(model, (form, codes), [symmetric, rounded_results, per_tensor], skip, params)| Drawn {
            model,
            form,
            codes,
            symmetric,
            rounded_results,
            per_tensor,
            skip,
            params,
        },
    )
}

impl Drawn {
    fn recipe(&self) -> OnnxRecipe {
        let recipe = OnnxRecipe::new(self.form, self.codes, self.symmetric).unwrap();
        if self.rounded_results { recipe.with_rounded_results() } else { recipe }
    }

    fn skipped(&self, graph: &Graph) -> BTreeSet<NodeId> {
        graph.nodes().zip(self.skip.iter().cycle()).filter(|(_, skip)| **skip).map(|((id, _), _)| id).collect()
    }

    /// Parameters of group `index`.
    fn params(&self, index: usize, recipe: &OnnxRecipe) -> QuantParams {
        let (grids, (scale, place)) = (recipe.grids(), self.params[index % self.params.len()]);
        let qtype = grids.activation;
        let centre = if qtype.is_signed() { 0 } else { qtype.qmax() / 2 + 1 };
        let anywhere = qtype.qmin() + (place * qtype.steps() as f32) as i32;
        let zero_point = if grids.symmetric || qtype.is_symmetric() { centre } else { anywhere };
        QuantParams::per_tensor(qtype, scale, zero_point).unwrap()
    }

    /// A plan that quantizes all of a selection with parameters out of the blue.
    fn plan(&self, graph: &Graph, selection: &Selection, recipe: &OnnxRecipe) -> QuantPlan {
        let decided = selection.decisions.iter().map(|(id, d)| (*id, NodePlan { decision: d.clone() }));
        let mut plan = QuantPlan { nodes: decided.collect(), ..QuantPlan::default() };
        for (index, group) in selection.groups.iter().enumerate() {
            let (params, shares) = (self.params(index, recipe), *group.members.first().unwrap());
            for value in &group.members {
                let params = params.clone();
                plan.activations
                    .insert(*value, ActivationPlan { params, shares, method: "drawn".into(), sqnr_db: None });
            }
        }
        for (id, node) in graph.nodes().filter(|(id, _)| selection.quantizes(*id)) {
            for slot in 0..node.inputs.len() {
                if let Some(entry) = self.constant(graph, id, slot, recipe, &plan) {
                    plan.weights.insert((id, slot), entry);
                }
            }
        }
        plan
    }

    /// The entry of a constant operand; codes are drawn too, but for their bounds.
    fn constant(
        &self,
        graph: &Graph,
        id: NodeId,
        slot: usize,
        recipe: &OnnxRecipe,
        plan: &QuantPlan,
    ) -> Option<WeightPlan> {
        let node = graph.node(id)?;
        let tensor = graph.constant(node.input(slot)?).unwrap()?;
        let (scale, _) = self.params[(id.index() + slot) % self.params.len()];
        let axis = recipe.channel_axis(graph, id, 1).filter(|_| !self.per_tensor);
        let params = match node.op.operand_role(slot) {
            _ if tensor.dtype() != DType::F32 => return None,
            OperandRole::Config => return None,
            OperandRole::Activation => self.params(id.index() + slot, recipe),
            OperandRole::Weight { .. } => match axis {
                Some(axis) => {
                    QuantParams::per_channel(recipe.grids().weight, axis, vec![scale; tensor.shape()[axis]]).unwrap()
                }
                None => QuantParams::per_tensor(recipe.grids().weight, scale, 0).unwrap(),
            },
            OperandRole::Bias => {
                let input = plan.activations.get(&node.input(0)?)?.params.scale()[0];
                let weight = &plan.weights.get(&(id, 1))?.params;
                let scales = weight.scale().iter().map(|s| s * input).collect::<Vec<_>>();
                match weight.axis() {
                    Some(_) => QuantParams::per_channel(QuantType::I32, 0, scales).unwrap(),
                    None => QuantParams::per_tensor(QuantType::I32, scales[0], 0).unwrap(),
                }
            }
        };
        let codes = Arc::new(codes(tensor.shape(), params.qtype()));
        Some(WeightPlan { params, codes, sqnr_db: 0.0 })
    }
}

/// Some codes of a type.
fn codes(shape: &[usize], qtype: QuantType) -> Tensor {
    let len = shape.iter().product::<usize>();
    let code = |i: usize| qtype.qmin() + ((i * 37) as i64 % (qtype.steps() + 1)) as i32;
    let tensor = match quantize_ir::quant::storage(qtype) {
        DType::U8 => Tensor::new(shape, (0..len).map(|i| code(i) as u8).collect::<Vec<_>>()),
        DType::U16 => Tensor::new(shape, (0..len).map(|i| code(i) as u16).collect::<Vec<_>>()),
        DType::I16 => Tensor::new(shape, (0..len).map(|i| code(i) as i16).collect::<Vec<_>>()),
        DType::I32 => Tensor::new(shape, (0..len as i32).collect::<Vec<_>>()),
        _ => Tensor::new(shape, (0..len).map(|i| code(i) as i8).collect::<Vec<_>>()),
    };
    tensor.unwrap()
}

/// A model, what was made of it for a plan, and the plan.
struct Case {
    document: Arc<OnnxDocument>,
    original: Graph,
    graph: Graph,
    plan: QuantPlan,
    opset: i64,
    /// Nodes of the document, in order.
    nodes: Vec<NodeProto>,
}

impl Case {
    fn new(name: &str, drawn: &Drawn) -> Self {
        let source = SourceFile::from_bytes("model.onnx", fixtures::model_bytes(name));
        let document = Arc::new(OnnxDocument::parse(source, &Limits::default()).unwrap());
        let (original, _) = import(&document).unwrap();
        let recipe = drawn.recipe();
        let Preparation { graph, selection, .. } =
            prepare(original.clone(), &recipe, &drawn.skipped(&original)).unwrap();
        let plan = drawn.plan(&graph, &selection, &recipe);
        let opsets = document.header().unwrap().opsets;
        let opset = opsets.iter().find(|(domain, _)| domain == "ai.onnx").map_or(0, |(_, version)| *version);
        let fields = Fields::of(fixtures::model_bytes(name));
        let nodes = fields.in_graph(NODE).map(|bytes| NodeProto::decode(bytes).unwrap()).collect();
        Self { document, original, graph, plan, opset, nodes }
    }

    fn revision(&self, form: Form) -> Revision<'_, '_> {
        let Self { document, original, graph, plan, .. } = self;
        Revision { document, original, graph, plan, form }
    }

    /// Positions of the nodes that nothing in the plan, and no fold before it, has to do with.
    fn untouched_nodes(&self) -> BTreeSet<usize> {
        let mut parts: BTreeMap<usize, Vec<NodeId>> = BTreeMap::new();
        for (id, node) in self.original.nodes() {
            node.origin.documents().iter().for_each(|doc| parts.entry(doc.0 as usize).or_default().push(id));
        }
        let is_untouched = |index: usize| {
            let means_the_same = self.opset >= RAISED_TO || UNCHANGED.contains(&self.nodes[index].op_type());
            means_the_same && parts.get(&index).is_none_or(|ids| ids.iter().all(|id| self.leaves_alone(*id)))
        };
        (0..self.nodes.len()).filter(|index| is_untouched(*index)).collect()
    }

    fn leaves_alone(&self, id: NodeId) -> bool {
        let (Some(before), Some(after)) = (self.original.node(id), self.graph.node(id)) else { return false };
        let stays = self.plan.nodes.get(&id).is_none_or(|node| matches!(node.decision, Decision::Keep(_)));
        let values = || before.inputs.iter().chain(&before.outputs).flatten();
        let own_constants = before.outputs.iter().flatten().filter(|v| self.original.value(**v).constant.is_some());
        stays
            && (&before.op, &before.inputs, &before.outputs) == (&after.op, &after.inputs, &after.outputs)
            && values().all(|value| !self.plan.activations.contains_key(value))
            && own_constants.flat_map(|v| self.readers(*v)).all(|reader| reader != id && self.leaves_alone(reader))
    }

    fn is_constant(&self, name: &str) -> bool {
        self.original.values().any(|(_, value)| value.name == name && value.constant.is_some())
    }

    fn readers(&self, value: ValueId) -> impl Iterator<Item = NodeId> {
        self.original.value(value).consumers().iter().map(|(id, _)| *id)
    }

    /// Names of the initializers whose readers are all left alone.
    fn untouched_initializers(&self) -> BTreeSet<&str> {
        let values = self.original.values().filter(|(_, value)| value.constant.is_some());
        let untouched = values.filter(|(id, _)| self.readers(*id).all(|reader| self.leaves_alone(reader)));
        untouched.map(|(_, value)| value.name.as_str()).collect()
    }
}

/// Whether all of `parts` stand in `whole`, in their order.
fn stand_in<'a>(
    parts: impl Iterator<Item = &'a [u8]>,
    mut whole: impl Iterator<Item = &'a [u8]>,
) -> Result<usize, Vec<u8>> {
    let mut count = 0;
    for part in parts {
        if !whole.any(|message| message == part) {
            return Err(part.to_vec());
        }
        count += 1;
    }
    Ok(count)
}

#[test]
fn what_a_plan_does_not_touch_stands_byte_for_byte_in_the_output() {
    let names = fixtures::model_names();
    let (nodes, initializers, changed) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Config { cases: 512, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&drawn(), |drawn| {
        let name = &names[drawn.model.index(names.len())];
        let case = Case::new(name, &drawn);
        let placement = Placement::default();
        let encoded = encode(&case.revision(drawn.form), &placement);
        let encoded = match encoded {
            // Some old operators have no successor.
            Err(error) if case.opset < RAISED_TO && error.to_string().contains("stands in the way of raising") => {
                return Ok(());
            }
            encoded => encoded.map_err(|error| TestCaseError::fail(format!("{name}: {error}")))?,
        };
        let (before, after) = (Fields::of(fixtures::model_bytes(name)), Fields::of(encoded.to_vec()));

        let untouched = case.untouched_nodes();
        let kept = before.in_graph(NODE).enumerate().filter(|(i, _)| untouched.contains(i)).map(|(_, bytes)| bytes);
        let count = stand_in(kept, after.in_graph(NODE)).map_err(|bytes| lost(name, NodeProto::decode(&*bytes)))?;
        nodes.set(nodes.get() + count);
        changed.set(changed.get() + case.nodes.len() - count);

        let untouched = case.untouched_initializers();
        let named = |bytes: &&[u8]| untouched.contains(TensorProto::decode(*bytes).unwrap().name());
        let count = stand_in(before.in_graph(INITIALIZER).filter(named), after.in_graph(INITIALIZER));
        let count = count.map_err(|bytes| lost(name, TensorProto::decode(&*bytes)))?;
        initializers.set(initializers.get() + count);

        let is_kept = |bytes: &&[u8]| {
            let name = ValueInfoProto::decode(*bytes).unwrap().name.unwrap_or_default();
            untouched.contains(name.as_str()) || !case.is_constant(&name)
        };
        let inputs = stand_in(before.in_graph(INPUT).filter(is_kept), after.in_graph(INPUT));
        inputs.map_err(|bytes| lost(name, ValueInfoProto::decode(&*bytes)))?;
        let inputs = stand_in(after.in_graph(INPUT), before.in_graph(INPUT));
        prop_assert!(inputs.is_ok(), "{name}: an input is new: {inputs:?}");
        for number in SIGNATURE {
            prop_assert!(before.in_graph(number).eq(after.in_graph(number)), "{name}: field {number} of the graph");
        }
        if case.opset >= RAISED_TO {
            let beside = stand_in(before.beside_graph(), after.beside_graph());
            prop_assert!(beside.is_ok(), "{name}: a field beside the graph: {beside:?}");
        }
        if case.plan.is_empty() {
            prop_assert!(encoded.to_vec() == fixtures::model_bytes(name), "{name} was changed by an empty plan");
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    counted(nodes.get(), "nodes that plans did not touch");
    counted(initializers.get(), "initializers that plans did not touch");
    counted(changed.get(), "nodes that plans did touch");
}

fn lost<T: std::fmt::Debug>(model: &str, message: T) -> TestCaseError {
    TestCaseError::fail(format!("{model}: not in the output: {message:?}"))
}
