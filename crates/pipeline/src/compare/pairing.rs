//! Which values of two models correspond.
//!
//! Values of the same name do. Where a value is quantized, what counts is what its readers read: the dequantized value
//! behind it, whatever that is called. If the real one is gone, this or its codes are found under the names that quantizers
//! derive.

use crate::error::Error;
use crate::model::Model;
use crate::unknown::Unknown;
use quantize_ir::{DType, Graph, Node, Op, QuantPlan, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What quantizers append to the name of a value to call it dequantized.
const DEQUANTIZED: &str = "_DequantizeLinear_Output";

/// What they append to call its codes, where an operator on codes computes them.
const CODES: &str = "_quantized";

/// Two values that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    /// The reference's value that gives the pair its name and place.
    pub(super) name: ValueId,
    /// What is looked at in the reference.
    pub(super) a: ValueId,
    /// What is looked at in the other model.
    pub(super) b: ValueId,
    /// Whether both are outputs; otherwise they stand between layers.
    pub(super) is_output: bool,
}

/// All pairs of two models.
#[derive(Debug)]
pub(super) struct Pairing {
    /// Outputs, then values between layers in the order the reference computes them.
    pub(super) pairs: Vec<Pair>,
    inputs: BTreeMap<ValueId, ValueId>,
    /// Outputs that cannot be computed in one of the models or are not real.
    left_out: Vec<String>,
}

impl Pairing {
    /// Finds the values in common.
    ///
    /// # Errors
    /// If the models' inputs have different names, they have no output in common, or a graph has a cycle.
    pub(super) fn of(reference: &Model, other: &Model) -> Result<Self, Error> {
        let first = Named::of(reference.graph(), reference.path())?;
        let second = Named::of(other.graph(), other.path())?;
        let inputs = inputs(reference, other, &second)?;
        let mut pairs = Vec::new();
        let mut left_out = Vec::new();
        for output in reference.graph().outputs() {
            let name = &reference.graph().value(*output).name;
            let same = second.by_name.get(name.as_str()).filter(|value| other.graph().is_output(**value));
            match same.filter(|value| first.is_real(*output) && second.is_real(**value)) {
                Some(value) => pairs.push(Pair { name: *output, a: *output, b: *value, is_output: true }),
                None => left_out.push(name.clone()),
            }
        }
        if pairs.is_empty() {
            if left_out.iter().any(|name| other.output_names().contains(&name.as_str())) {
                // Operators that cannot be executed are the likeliest cause, and compiling names them.
                [reference, other].into_iter().try_for_each(|m| m.compile(m.graph().outputs()).map(|_| ()))?;
            }
            let names = |model: &Model| model.output_names().join("`, `");
            let cause = format!("their outputs are `{}` and `{}`", names(reference), names(other));
            return Err(unlike(reference.path(), other.path(), cause));
        }
        pairs.extend(layers(reference, &first, &second)?);
        Ok(Self { pairs, inputs, left_out })
    }

    /// Pairs the values of a model with what they are in the same graph after folding, where they keep their handles.
    /// What vanishes into a saturation by the plan is no value any more.
    ///
    /// # Errors
    /// If a graph has a cycle, or operators that cannot be executed stand before all real outputs.
    pub(super) fn of_folded(reference: &Model, folded: &Graph, plan: &QuantPlan) -> Result<Self, Error> {
        let (graph, path) = (reference.graph(), reference.path());
        let (first, second) = (Named::of(graph, path)?, Named::of(folded, path)?);
        let is_there = |value: ValueId| folded.producer(value).is_some() || folded.inputs().contains(&value);
        let is_left = |value: ValueId| is_there(value) && plan.materialized(folded, value) == value;
        let is_common = |value: &ValueId| first.is_real(*value) && second.is_real(*value) && is_left(*value);
        let pair = |is_output: bool| move |value: ValueId| Pair { name: value, a: value, b: value, is_output };
        let (outputs, left_out): (Vec<ValueId>, Vec<ValueId>) = graph.outputs().iter().partition(|v| is_common(v));
        if outputs.is_empty() {
            reference.compile(graph.outputs())?;
        }
        let mut pairs: Vec<Pair> = outputs.into_iter().map(pair(true)).collect();
        pairs.extend(in_order(reference)?.filter(is_common).map(pair(false)));
        let left_out = left_out.iter().map(|value| graph.value(*value).name.clone()).collect();
        Ok(Self { pairs, inputs: BTreeMap::new(), left_out })
    }

    /// The other model's input that corresponds to `input` of the reference.
    pub(super) fn input(&self, input: ValueId) -> ValueId {
        self.inputs.get(&input).copied().unwrap_or(input)
    }

    /// What was not compared.
    pub(super) fn remark(&self) -> Option<String> {
        let names = self.left_out.join("`, `");
        (!self.left_out.is_empty())
            .then(|| format!("not compared, because not real and computed in both: outputs `{names}`"))
    }
}

/// The error that two models cannot be compared.
pub(super) fn unlike(reference: &Path, other: &Path, cause: String) -> Error {
    Error::Unlike { first: reference.to_owned(), second: other.to_owned(), cause }
}

/// Inputs by name.
fn inputs(reference: &Model, other: &Model, second: &Named<'_>) -> Result<BTreeMap<ValueId, ValueId>, Error> {
    let is_input = |value: &&ValueId| other.graph().inputs().contains(value);
    let same = |input: &ValueId| {
        let name = reference.graph().value(*input).name.as_str();
        second.by_name.get(name).filter(is_input).map(|value| (*input, *value))
    };
    let found: BTreeMap<ValueId, ValueId> = reference.graph().inputs().iter().filter_map(same).collect();
    if found.len() == reference.graph().inputs().len() && found.len() == other.graph().inputs().len() {
        return Ok(found);
    }
    let names = |model: &Model| model.input_names().join("`, `");
    Err(unlike(
        reference.path(),
        other.path(),
        format!("their inputs are `{}` and `{}`", names(reference), names(other)),
    ))
}

fn layers(reference: &Model, first: &Named<'_>, second: &Named<'_>) -> Result<Vec<Pair>, Error> {
    let graph = reference.graph();
    let (mut seen_a, mut seen_b) = (BTreeSet::new(), BTreeSet::new());
    let mut pairs = Vec::new();
    for name in in_order(reference)? {
        let text = graph.value(name).name.as_str();
        let (Some(a), Some(b)) = (first.read_as(text), second.read_as(text)) else { continue };
        if first.is_real(a) && second.is_real(b) && seen_a.insert(a) && seen_b.insert(b) {
            pairs.push(Pair { name, a, b, is_output: false });
        }
    }
    Ok(pairs)
}

/// Inputs of a model, then what its nodes compute, in the order they do.
fn in_order(model: &Model) -> Result<impl Iterator<Item = ValueId> + '_, Error> {
    let graph = model.graph();
    let order = graph.topological_order().map_err(|source| Error::graph(model.path(), source))?;
    let computed = order.into_iter().filter_map(|id| graph.node(id)).flat_map(|node| node.outputs.iter().flatten());
    Ok(graph.inputs().iter().chain(computed).copied())
}

/// A graph whose values can be found by name.
struct Named<'g> {
    graph: &'g Graph,
    by_name: BTreeMap<&'g str, ValueId>,
    unknown: Unknown,
}

impl<'g> Named<'g> {
    fn of(graph: &'g Graph, model: &Path) -> Result<Self, Error> {
        let by_name = graph.values().map(|(id, value)| (value.name.as_str(), id)).collect();
        let unknown = Unknown::of(graph).map_err(|source| Error::graph(model, source))?;
        Ok(Self { graph, by_name, unknown })
    }

    /// Whether a value is computed, and real numbers of 32 bits at most.
    fn is_real(&self, value: ValueId) -> bool {
        let real = |dtype: DType| dtype == DType::F32 || dtype.is_half();
        let known = self.graph.value(value);
        known.constant.is_none() && known.dtype.is_none_or(real) && self.unknown.computes(value)
    }

    /// What readers of the value `name` read.
    fn read_as(&self, name: &str) -> Option<ValueId> {
        let derived = |suffix: &str| self.by_name.get(format!("{name}{suffix}").as_str()).copied();
        match self.by_name.get(name) {
            Some(value) => Some(self.behind_pair(*value).unwrap_or(*value)),
            None => derived(DEQUANTIZED).or_else(|| self.dequantized(derived(CODES)?)),
        }
    }

    /// The value behind the pair that quantizes `value`.
    fn behind_pair(&self, value: ValueId) -> Option<ValueId> {
        self.dequantized(self.reader(value, |op| matches!(op, Op::Quantize(_)))?.output(0)?)
    }

    /// The value that `codes` stand for.
    fn dequantized(&self, codes: ValueId) -> Option<ValueId> {
        self.reader(codes, |op| matches!(op, Op::Dequantize(_)))?.output(0)
    }

    /// The first node of a kind whose first operand is `value`.
    fn reader(&self, value: ValueId, is: impl Fn(&Op) -> bool) -> Option<&'g Node> {
        let nodes = self.graph.value(value).consumers().iter().filter(|(_, slot)| *slot == 0);
        nodes.filter_map(|(id, _)| self.graph.node(*id)).find(|node| is(&node.op))
    }
}
