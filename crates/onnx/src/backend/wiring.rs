//! Which tensor names the written model uses: what each node reads and writes, and which nodes and initializers are
//! left without a reader. Nothing here touches bytes.

use super::integer::{self, CodeNames, Operand};
use crate::frontend::FRONTEND;
use crate::names::Names;
use crate::nbits;
use crate::recipe::Form;
use quantize_ir::op::Unary;
use quantize_ir::{Decision, Graph, Node, NodeId, Op, Origin, QuantPlan, ValueId, WeightPlan};
use std::collections::{BTreeMap, BTreeSet};

/// Operand slot of the weights of a product.
pub(super) const WEIGHT: usize = 1;

/// Names around one quantized activation.
#[derive(Clone, Debug)]
pub(super) struct PairNames {
    /// What its producer writes; `None` if that is the codes.
    pub(super) real: Option<String>,
    pub(super) quantized: CodeNames,
    /// What readers of reals read.
    pub(super) dequantized: String,
    pub(super) quantize_node: String,
    pub(super) dequantize_node: String,
    /// Whether the parameters belong to this activation rather than to the one it shares with.
    pub(super) owns_parameters: bool,
}

/// Names around one quantized constant.
#[derive(Clone, Debug)]
pub(super) struct ConstantNames {
    pub(super) quantized: CodeNames,
    pub(super) dequantized: String,
    pub(super) node: String,
    /// Dimensions of `scale`.
    pub(super) scale_shape: Vec<usize>,
    /// The node and slot before which it is dequantized.
    pub(super) first_reader: (NodeId, usize),
}

/// How one node of the source document appears in the output.
#[derive(Clone, Debug)]
pub(super) struct Wired {
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    /// What keeps onnxruntime from quantizing it, if it needs that.
    pub(super) guard: Option<Guard>,
    /// What makes reals of the entries it looks up in a table of codes, if it does.
    pub(super) lookup: Option<Lookup>,
    /// How it computes on codes, if it does.
    pub(super) integer: Option<Integer>,
    /// Whether it multiplies by blocks of codes.
    pub(super) blocked: bool,
}

/// What stands behind a node that looks up codes: only what was looked up is dequantized. A dequantization of the table
/// before the node would run over all of it, each time.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    /// What looks up scales as the node looks up codes.
    pub(super) op: Op,
    pub(super) indices: String,
    /// Scales of the table.
    pub(super) table: String,
    /// Whether there is one for each entry.
    pub(super) by_entry: bool,
    /// What the node writes.
    pub(super) codes: String,
    /// The same as reals.
    pub(super) cast: String,
    /// The scales that belong to them.
    pub(super) scales: String,
    pub(super) output: String,
    /// Names of the nodes that compute `cast`, `scales` and `output`.
    pub(super) nodes: [String; 3],
}

/// A node on codes.
#[derive(Clone, Debug)]
pub(super) struct Integer {
    pub(super) operands: Vec<Operand>,
    pub(super) results: Vec<Operand>,
    /// Names of the codes of its bounds, for an activation that bounds its operand, and the value they belong to.
    pub(super) bounds: Option<(ValueId, [String; 2])>,
}

/// A node that does nothing but keep onnxruntime from quantizing a float node by itself.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    pub(super) node: String,
    pub(super) input: String,
    pub(super) output: String,
}

/// The names of the written model.
#[derive(Debug)]
pub(super) struct Wiring {
    /// Activations in the order their pairs are emitted.
    pub(super) pairs: BTreeMap<ValueId, PairNames>,
    /// Quantized constants by node and slot; shared constants share their names.
    pub(super) constants: BTreeMap<(NodeId, usize), ConstantNames>,
    /// Constants that passes or the front-end made and a written node reads as they are, with their names.
    pub(super) added: BTreeMap<ValueId, String>,
    /// Names of the results of nodes that passes inserted, and of these nodes.
    inserted: BTreeMap<ValueId, String>,
    inserted_nodes: BTreeMap<NodeId, String>,
    /// Nodes that are written.
    pub(super) nodes: BTreeMap<NodeId, Wired>,
    /// Every name something in the output reads, graph outputs included.
    pub(super) read: BTreeSet<String>,
}

/// What the wiring is made from.
pub(super) struct Request<'a> {
    /// The graph as imported.
    pub(super) original: &'a Graph,
    /// The graph after passes.
    pub(super) graph: &'a Graph,
    pub(super) plan: &'a QuantPlan,
    pub(super) form: Form,
    /// Inputs each node has in the document; further operands were added by the front-end or by a pass.
    pub(super) document_inputs: &'a BTreeMap<NodeId, Vec<String>>,
    /// Nodes that are written anew from their operator, so that operands the front-end added are written too.
    pub(super) reemitted: &'a BTreeSet<NodeId>,
}

impl Wiring {
    /// Names everything.
    pub(super) fn new(request: &Request<'_>, names: &mut Names) -> Self {
        let mut wiring = Self {
            pairs: BTreeMap::new(),
            constants: BTreeMap::new(),
            added: BTreeMap::new(),
            inserted: BTreeMap::new(),
            inserted_nodes: BTreeMap::new(),
            nodes: BTreeMap::new(),
            read: BTreeSet::new(),
        };
        wiring.name_inserted(request, names);
        wiring.name_pairs(request, names);
        wiring.name_constants(request, names);
        for (id, node) in request.graph.nodes() {
            let absorbed = request.plan.nodes.get(&id).map(|n| &n.decision);
            if !matches!(absorbed, Some(Decision::Absorbed { .. })) {
                let wired = wiring.wire(request, id, node, names);
                wiring.nodes.insert(id, wired);
            }
        }
        wiring.drop_unread(request);
        wiring
    }

    /// Whether the codes of an activation are turned into reals: something reads these.
    pub(super) fn dequantizes(&self, dequantized: &str) -> bool {
        self.read.contains(dequantized)
    }

    /// What the document has no name for.
    fn name_inserted(&mut self, request: &Request<'_>, names: &mut Names) {
        for (id, node) in request.graph.nodes().filter(|(id, _)| request.original.node(*id).is_none()) {
            self.inserted_nodes.insert(id, names.fresh(&node.name));
            for value in node.outputs.iter().flatten() {
                self.inserted.insert(*value, names.fresh(&request.graph.value(*value).name));
            }
        }
    }

    /// The name of a node that a pass inserted.
    pub(super) fn node_name<'a>(&'a self, request: &'a Request<'_>, id: NodeId) -> &'a str {
        let own = || request.graph.node(id).map_or("", |node| node.name.as_str());
        self.inserted_nodes.get(&id).map_or_else(own, String::as_str)
    }

    /// The name of a value.
    fn value_name<'a>(&'a self, request: &'a Request<'_>, value: ValueId) -> &'a str {
        self.inserted.get(&value).unwrap_or(&request.graph.value(value).name)
    }

    fn name_pairs(&mut self, request: &Request<'_>, names: &mut Names) {
        let mut parameters: BTreeMap<ValueId, (String, String)> = BTreeMap::new();
        for (value, entry) in &request.plan.activations {
            let root = self.value_name(request, entry.shares).to_owned();
            let owned = !parameters.contains_key(&entry.shares);
            let (scale, zero_point) = parameters
                .entry(entry.shares)
                .or_insert_with(|| {
                    let zero_point = names.fresh(&format!("{root}_zero_point"));
                    (names.fresh(&format!("{root}_scale")), zero_point)
                })
                .clone();
            let name = self.value_name(request, *value).to_owned();
            let output = request.graph.is_output(*value);
            let coded = writes_codes(request, *value);
            let real = match (coded, output) {
                (true, _) => None,
                (false, true) => Some(names.fresh(&format!("{name}_QuantizeLinear_Input"))),
                (false, false) => Some(name.clone()),
            };
            let dequantized =
                if output || coded { name.clone() } else { names.fresh(&format!("{name}_DequantizeLinear_Output")) };
            let codes = if coded { "quantized" } else { "QuantizeLinear_Output" };
            let pair = PairNames {
                real,
                quantized: CodeNames { codes: names.fresh(&format!("{name}_{codes}")), scale, zero_point },
                dequantized,
                quantize_node: names.fresh(&format!("{name}_QuantizeLinear")),
                dequantize_node: names.fresh(&format!("{name}_DequantizeLinear")),
                owns_parameters: owned,
            };
            self.pairs.insert(*value, pair);
        }
    }

    fn name_constants(&mut self, request: &Request<'_>, names: &mut Names) {
        let mut known: BTreeMap<ValueId, Vec<ConstantNames>> = BTreeMap::new();
        for (&(id, slot), entry) in &request.plan.weights {
            let Some(value) = request.graph.node(id).and_then(|n| n.input(slot)) else { continue };
            let same = |at: &(NodeId, usize)| request.plan.weights.get(at) == Some(entry);
            let named = known.entry(value).or_default();
            if let Some(shared) = named.iter().find(|names| same(&names.first_reader)) {
                self.constants.insert((id, slot), shared.clone());
                continue;
            }
            let name = &request.graph.value(value).name;
            let codes = names.fresh(&format!("{name}_quantized"));
            let base = if slot == 2 { format!("{name}_quantized") } else { name.clone() };
            let fresh = ConstantNames {
                quantized: CodeNames {
                    codes,
                    scale: names.fresh(&format!("{base}_scale")),
                    zero_point: names.fresh(&format!("{base}_zero_point")),
                },
                dequantized: names.fresh(&format!("{name}_DequantizeLinear_Output")),
                node: names.fresh(&format!("{name}_DequantizeLinear")),
                scale_shape: scale_shape(request.plan.is_weight_only(id), entry),
                first_reader: (id, slot),
            };
            named.push(fresh.clone());
            self.constants.insert((id, slot), fresh);
        }
    }

    fn wire(&mut self, request: &Request<'_>, id: NodeId, node: &Node, names: &mut Names) -> Wired {
        let integer = computes_on_codes(request, id, node);
        let operands = self.operands(request, id, node, names);
        let result = |v: &Option<ValueId>| v.map_or(Operand::Absent, |v| self.result(request, v, integer));
        let results: Vec<Operand> = node.outputs.iter().map(result).collect();
        if integer {
            return wired_on_codes(node, operands, results, names);
        }
        if is_blocked(request, id) {
            return wired_on_blocks(&operands, &results);
        }
        let inputs: Vec<String> = operands.iter().map(Operand::name).collect();
        let mut outputs: Vec<String> = results.iter().map(Operand::name).collect();
        let guard = self.needs_guard(request, id, node).then(|| {
            let output = outputs.first().cloned().unwrap_or_default();
            let input = names.fresh(&format!("{output}_real"));
            if let Some(first) = outputs.first_mut() {
                first.clone_from(&input);
            }
            Guard { node: names.fresh(&format!("{output}_guard")), input, output }
        });
        let lookup = self.lookup(request, (id, node), &inputs, &mut outputs, names);
        Wired { inputs, outputs, guard, lookup, integer: None, blocked: false }
    }

    /// What stands behind a node whose table holds codes; it gets another output.
    fn lookup(
        &self,
        request: &Request<'_>,
        (id, node): (NodeId, &Node),
        inputs: &[String],
        outputs: &mut [String],
        names: &mut Names,
    ) -> Option<Lookup> {
        let table = self.constants.get(&(id, 0)).filter(|_| request.plan.is_weight_only(id))?;
        let by_entry = request.plan.weights.get(&(id, 0))?.params.axis().is_some();
        let first = outputs.first_mut()?;
        let mut fresh = |part: &str| names.fresh(&format!("{first}_{part}"));
        let (codes, cast, scales) = (fresh("codes"), fresh("unscaled"), fresh("scales"));
        let nodes = [fresh("Cast"), fresh("Gather_scales"), fresh("Mul")];
        let output = std::mem::replace(first, codes.clone());
        let (indices, table) = (inputs.get(1)?.clone(), table.quantized.scale.clone());
        Some(Lookup { op: node.op.clone(), indices, table, by_entry, codes, cast, scales, output, nodes })
    }

    /// What a node reads, in its order.
    fn operands(&mut self, request: &Request<'_>, id: NodeId, node: &Node, names: &mut Names) -> Vec<Operand> {
        let own = request.document_inputs.get(&id).map(Vec::as_slice).unwrap_or_default();
        let in_document = own.len();
        let written = |slot: usize, value: ValueId| {
            slot < in_document || request.reemitted.contains(&id) || !from_frontend(request.graph, value)
        };
        let integer = computes_on_codes(request, id, node);
        let mut operands = Vec::with_capacity(node.inputs.len());
        for (slot, value) in node.inputs.iter().enumerate() {
            match value {
                Some(v) if !written(slot, *v) => {}
                Some(v) if is_capture(request, id, slot, in_document) => {
                    self.read.insert(request.graph.value(*v).name.clone());
                }
                Some(v) => operands.push(self.operand(request, (id, slot), *v, integer, names)),
                None => operands.push(Operand::Absent),
            }
        }
        if !request.reemitted.contains(&id) {
            // Operands that mean nothing to the shared operator are still the node's own.
            operands.extend(own.iter().skip(operands.len()).cloned().map(Operand::Plain));
        } else {
            while operands.last() == Some(&Operand::Absent) {
                operands.pop();
            }
        }
        operands
    }

    fn operand(
        &mut self,
        request: &Request<'_>,
        at: (NodeId, usize),
        value: ValueId,
        integer: bool,
        names: &mut Names,
    ) -> Operand {
        if let Some(constant) = self.constants.get(&at) {
            let codes = integer || request.plan.is_weight_only(at.0);
            return read_as(codes, &constant.quantized, &constant.dequantized);
        }
        if let Some(pair) = self.pairs.get(&value) {
            let unrounded = request.plan.reads_unrounded(request.graph, at.0, value);
            let real = pair.real.as_ref().filter(|_| unrounded).unwrap_or(&pair.dequantized);
            return read_as(integer, &pair.quantized, real);
        }
        let known = request.graph.value(value);
        let synthesized = matches!(known.origin, Some(Origin::Synthesized { .. })) && known.producer().is_none();
        if synthesized {
            let added = self.added.entry(value).or_insert_with(|| names.fresh(&known.name));
            return Operand::Plain(added.clone());
        }
        Operand::Plain(self.value_name(request, value).to_owned())
    }

    /// What a node writes for `value`.
    fn result(&self, request: &Request<'_>, value: ValueId, integer: bool) -> Operand {
        let value = request.plan.materialized(request.graph, value);
        match self.pairs.get(&value) {
            Some(pair) if integer => Operand::Codes(pair.quantized.clone()),
            Some(PairNames { real: Some(real), .. }) => Operand::Plain(real.clone()),
            _ => Operand::Plain(self.value_name(request, value).to_owned()),
        }
    }

    /// onnxruntime quantizes the float weight of a `Conv`, `ConvTranspose` or `Gemm` that stands between a
    /// dequantization and a quantization by itself, with one scale for the whole tensor. It does so after merging
    /// per-channel arithmetic behind the node into it and dropping a bounded activation that the saturation of codes stands
    /// for, so the guard stands right before the quantization.
    fn needs_guard(&self, request: &Request<'_>, id: NodeId, node: &Node) -> bool {
        let quantized = node.output(0).is_some_and(|v| self.pairs.contains_key(&v));
        quantized && self.ends_float_weights(request, id, node)
    }

    /// Whether `node` stays float and is, or may be merged into, a float node with a weight and a quantized operand.
    fn ends_float_weights(&self, request: &Request<'_>, id: NodeId, node: &Node) -> bool {
        let mut at = Some((id, node));
        while let Some((id, node)) = at.filter(|(id, _)| !request.plan.quantizes(*id)) {
            match node.op {
                Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) => {
                    return node.input(0).is_some_and(|v| {
                        self.pairs.contains_key(&v) && !request.plan.reads_unrounded(request.graph, id, v)
                    });
                }
                Op::BatchNorm(_) | Op::Binary(_) | Op::Identity | Op::Clip | Op::Unary(Unary::Relu) => {
                    let real = only_varying(request.graph, node).filter(|v| !self.pairs.contains_key(v));
                    at = real.and_then(|v| request.graph.producer(v));
                }
                _ => return false,
            }
        }
        false
    }

    /// Takes out nodes that had a reader and have none any more, and lists what is read.
    fn drop_unread(&mut self, request: &Request<'_>) {
        let mut readers: BTreeMap<String, usize> = BTreeMap::new();
        let mut count = |name: &str| *readers.entry(name.to_owned()).or_default() += 1;
        request.graph.outputs().iter().for_each(|v| count(&request.graph.value(*v).name));
        self.read.iter().for_each(|name| count(name));
        for wired in self.nodes.values() {
            wired.inputs.iter().filter(|n| !n.is_empty()).for_each(|n| count(n));
            wired.guard.iter().for_each(|g| count(&g.input));
            wired.lookup.iter().flat_map(|l| [&l.codes, &l.table]).for_each(|name| count(name));
        }
        for pair in self.pairs.values() {
            pair.real.iter().for_each(|real| *readers.entry(real.clone()).or_default() += 1);
            if readers.contains_key(&pair.dequantized) {
                *readers.entry(pair.quantized.codes.clone()).or_default() += 1;
            }
        }
        let ids: Vec<NodeId> = self.nodes.keys().rev().copied().collect();
        for id in ids {
            let Some(wired) = self.nodes.get(&id) else { continue };
            let unread = wired.outputs.iter().all(|name| readers.get(name).is_none_or(|n| *n == 0));
            if unread && had_reader(request.original, id) {
                for name in wired.inputs.iter().filter(|n| !n.is_empty()) {
                    if let Some(n) = readers.get_mut(name) {
                        *n -= 1;
                    }
                }
                self.nodes.remove(&id);
            }
        }
        self.read = readers.into_iter().filter(|(_, n)| *n > 0).map(|(name, _)| name).collect();
    }
}

/// Whether a node is written as an operator on integers.
fn computes_on_codes(request: &Request<'_>, id: NodeId, node: &Node) -> bool {
    let coded = node.output(0).is_some_and(|v| {
        let value = request.plan.materialized(request.graph, v);
        request.plan.activations.contains_key(&value)
    });
    request.form == Form::QOperator && request.plan.quantizes(id) && integer::exists(&node.op, !coded)
}

/// Whether what computes `value` writes its codes.
fn writes_codes(request: &Request<'_>, value: ValueId) -> bool {
    let Some((id, node)) = request.graph.producer(value) else { return false };
    match request.plan.nodes.get(&id).map(|n| &n.decision) {
        Some(Decision::Absorbed { into }) => {
            request.graph.node(*into).is_some_and(|node| computes_on_codes(request, *into, node))
        }
        _ => computes_on_codes(request, id, node),
    }
}

/// Dimensions of a constant's scales: none for one scale; one axis, or where entries of the constant are looked up those
/// of the constant, so that a lookup of scales gives what its codes are multiplied with.
fn scale_shape(looked_up: bool, entry: &WeightPlan) -> Vec<usize> {
    let shape = entry.codes.shape().iter().enumerate();
    match entry.params.axis() {
        None => Vec::new(),
        Some(axis) if looked_up => shape.map(|(at, size)| if at == axis { *size } else { 1 }).collect(),
        Some(_) => vec![entry.params.scale().len()],
    }
}

fn wired_on_codes(node: &Node, mut operands: Vec<Operand>, results: Vec<Operand>, names: &mut Names) -> Wired {
    let bounded = node.output(0).filter(|_| integer::is_clipped(&node.op));
    if bounded.is_some() {
        operands.truncate(1);
    }
    let bounds = bounded.zip(results.first()).map(|(value, result)| {
        let name = result.name();
        (value, ["min", "max"].map(|end| names.fresh(&format!("{name}_{end}"))))
    });
    let ends = bounds.iter().flat_map(|(_, ends)| ends).cloned();
    let inputs = operands.iter().chain(results.first()).flat_map(Operand::names).chain(ends).collect();
    let outputs = results.iter().map(Operand::name).collect();
    Wired {
        inputs,
        outputs,
        guard: None,
        lookup: None,
        integer: Some(Integer { operands, results, bounds }),
        blocked: false,
    }
}

/// Whether a node multiplies by blocks of codes.
fn is_blocked(request: &Request<'_>, id: NodeId) -> bool {
    let weight = request.plan.weights.get(&(id, WEIGHT)).filter(|_| request.plan.is_weight_only(id));
    weight.is_some_and(|weight| weight.params.blocks().is_some())
}

/// A product by blocks of codes, with its operands where [`nbits`] has them.
fn wired_on_blocks(operands: &[Operand], results: &[Operand]) -> Wired {
    let name = |slot: usize| operands.get(slot).map_or_else(String::new, Operand::name);
    let mut inputs = vec![name(0)];
    if let Some(weight @ Operand::Codes(_)) = operands.get(WEIGHT) {
        inputs.extend(weight.names());
    }
    if let Some(bias) = operands.get(2).map(Operand::name).filter(|name| !name.is_empty()) {
        inputs.resize(nbits::BIAS, String::new());
        inputs.push(bias);
    }
    let outputs = results.iter().map(Operand::name).collect();
    Wired { inputs, outputs, guard: None, lookup: None, integer: None, blocked: true }
}

/// The operand that is not constant, if there is exactly one: only then can arithmetic be merged into its producer.
fn only_varying(graph: &Graph, node: &Node) -> Option<ValueId> {
    let mut varying = node.inputs.iter().flatten().filter(|v| graph.value(**v).constant.is_none());
    match (varying.next(), varying.next()) {
        (Some(one), None) => Some(*one),
        _ => None,
    }
}

/// What a node on codes, or one on reals, reads of a quantized tensor.
fn read_as(codes: bool, quantized: &CodeNames, dequantized: &str) -> Operand {
    if codes { Operand::Codes(quantized.clone()) } else { Operand::Plain(dequantized.to_owned()) }
}

fn from_frontend(graph: &Graph, value: ValueId) -> bool {
    matches!(&graph.value(value).origin, Some(Origin::Synthesized { pass, .. }) if *pass == FRONTEND)
}

/// Whether the operand is not written as an input but captured by a subgraph of the node.
fn is_capture(request: &Request<'_>, id: NodeId, slot: usize, in_document: usize) -> bool {
    let opaque = request.graph.node(id).is_some_and(|n| matches!(n.op, Op::Opaque(_)));
    opaque && slot >= in_document
}

fn had_reader(original: &Graph, id: NodeId) -> bool {
    let Some(node) = original.node(id) else { return false };
    node.outputs.iter().flatten().any(|v| original.is_output(*v) || !original.value(*v).consumers().is_empty())
}
