//! Which nodes one operator on codes takes the place of: a convolution or matrix product with its bias, a sum with
//! another tensor, and `Relu`. Only what nobody else reads is taken in.

use super::sign::non_negative;
use super::{EightbitOptions, Rules};
use crate::dtype::DataType;
use crate::error::TensorflowError;
use crate::graph::{GraphDef, GraphIndex};
use crate::node::{Input, NodeDef, Port};
use crate::reach::is_named;
use quantize_ir::Tensor;
use std::collections::HashSet;

/// What is added to each channel.
#[derive(Clone, Debug)]
pub(super) enum Bias {
    /// A constant, as an input.
    Of(String),
    /// Nothing, so that an operator with a bias can be used.
    Zero,
}

/// Nodes that one operator takes the place of.
#[derive(Debug)]
pub(super) struct Group<'g> {
    pub(super) linear: &'g NodeDef,
    pub(super) weights: &'g NodeDef,
    /// Its weights' elements.
    pub(super) values: Tensor,
    /// What it reads.
    pub(super) input: String,
    /// Whether what it reads may be negative.
    pub(super) is_signed: bool,
    /// Zeros around each image before it: top, bottom, left, right.
    pub(super) pads: Option<[i64; 4]>,
    pub(super) bias: Option<Bias>,
    /// A tensor that is added.
    pub(super) summand: Option<String>,
    /// `Relu` or `Relu6`.
    pub(super) relu: Option<&'g str>,
    /// The node whose name the result has.
    pub(super) last: &'g NodeDef,
    /// Nodes that go.
    pub(super) absorbed: Vec<usize>,
}

/// Looks for groups.
pub(super) struct Finder<'g, 'o> {
    pub(super) index: &'o GraphIndex<'g>,
    options: &'o EightbitOptions,
    readers: Vec<Vec<(usize, Port)>>,
    /// Positions in the order of execution, by position in the graph.
    ranks: Vec<usize>,
    signs: Vec<bool>,
    taken: HashSet<usize>,
}

impl<'g, 'o> Finder<'g, 'o> {
    pub(super) fn new(
        graph: &'g GraphDef,
        index: &'o GraphIndex<'g>,
        order: &[usize],
        options: &'o EightbitOptions,
    ) -> Result<Self, TensorflowError> {
        let mut ranks = vec![0; graph.nodes().len()];
        for (rank, at) in order.iter().enumerate() {
            ranks.iter_mut().skip(*at).take(1).for_each(|place| *place = rank);
        }
        let signs = non_negative(graph, index, order, options.rules)?;
        Ok(Self { index, options, readers: index.consumers()?, ranks, signs, taken: HashSet::new() })
    }

    /// Whether a tensor is never negative.
    pub(super) fn is_non_negative(&self, input: Input<'_>) -> bool {
        let sign = self.index.position(input.node).and_then(|at| self.signs.get(at));
        input.port == Port::Data(0) && sign.copied().unwrap_or(false)
    }

    /// Why what a node reads is not known to be never negative.
    pub(super) fn doubt(&self, input: Input<'_>) -> String {
        let op = self.index.node(input.node).map_or("nothing", NodeDef::op);
        format!("what it reads, `{}` ({op}), may be negative", input.node)
    }

    /// The one node that reads a node, if it reads its first output and nobody else, nor the user, does.
    fn sole_reader(&self, node: &NodeDef) -> Option<(usize, &'g NodeDef)> {
        let at = self.index.position(node.name())?;
        let [(reader, Port::Data(0))] = self.readers.get(at)?.as_slice() else { return None };
        (!is_named(&self.options.outputs, node)).then_some(())?;
        Some((*reader, self.index.at(*reader)?))
    }

    /// The group of a convolution or matrix product, or why it has to stay.
    ///
    /// # Errors
    /// If an attribute is of the wrong type, or weights cannot be read.
    pub(super) fn group(&mut self, linear: &'g NodeDef) -> Result<Result<Group<'g>, String>, TensorflowError> {
        if let Some(reason) = self.options.exclusion(linear) {
            return Ok(Err(reason));
        }
        let inputs: Vec<Input<'g>> = linear.data_inputs().collect();
        let [input, weights] = inputs.as_slice() else { return Ok(Err("it has not two inputs".into())) };
        if let Some(reason) = unsuitable(linear)? {
            return Ok(Err(reason));
        }
        let weights = match self.index.node(weights.node) {
            Some(node) if node.op() == "Const" => node,
            _ => return Ok(Err("its weights are no constant".into())),
        };
        let Some(values) = weights.constant_value()?.filter(|values| values.as_slice::<f32>().is_ok()) else {
            return Ok(Err("its weights are not of single precision".into()));
        };
        let rank = if linear.op() == "MatMul" { 2 } else { 4 };
        if values.rank() != rank || values.is_empty() {
            return Ok(Err(format!("its weights have the shape {:?}", values.shape())));
        }
        if let Some(other) = self.other_kind(weights, linear.op()) {
            return Ok(Err(format!("its weights are read by `{other}` too")));
        }
        let (input, pads) = self.padded(linear, *input)?;
        let Some(pads) = pads else { return Ok(Err("its explicit padding is not one of height and width".into())) };
        let is_signed = !self.is_non_negative(input);
        if is_signed && !(self.options.signed_input_convs && linear.op() == "Conv2D") {
            return Ok(Err(self.doubt(input)));
        }
        let mut group = Group {
            linear,
            weights,
            values,
            input: input.to_string(),
            is_signed,
            pads: (pads != [0; 4]).then_some(pads),
            bias: None,
            summand: None,
            relu: None,
            last: linear,
            absorbed: Vec::new(),
        };
        self.extend(&mut group)?;
        Ok(self.settled(group))
    }

    /// Takes in what follows.
    fn extend(&mut self, group: &mut Group<'g>) -> Result<(), TensorflowError> {
        let is_sound = self.options.rules == Rules::Sound;
        let Some((at, first)) = self.sole_reader(group.linear) else { return Ok(()) };
        if let Some(bias) = self.bias(first, group)? {
            self.absorb(group, (at, first));
            group.bias = Some(Bias::Of(bias));
        } else if is_sound && is_relu(first) {
            group.bias = Some(Bias::Zero);
        } else {
            return Ok(());
        }
        let Some((at, next)) = self.sole_reader(group.last) else { return Ok(()) };
        if is_relu(next) {
            self.absorb(group, (at, next));
            group.relu = Some(next.op());
            return Ok(());
        }
        let may_sum = group.linear.op() == "Conv2D" && (is_sound || first.op() == "BiasAdd");
        let Some(summand) = self.summand(next, group).filter(|_| may_sum) else { return Ok(()) };
        let Some((relu_at, relu)) = self.sole_reader(next).filter(|(_, relu)| is_relu(relu)) else { return Ok(()) };
        if !self.is_non_negative(summand) || self.taken.contains(&at) || !self.is_free(summand, group) {
            return Ok(());
        }
        group.summand = Some(summand.to_string());
        self.absorb(group, (at, next));
        self.absorb(group, (relu_at, relu));
        group.relu = Some(relu.op());
        Ok(())
    }

    fn absorb(&mut self, group: &mut Group<'g>, (at, node): (usize, &'g NodeDef)) {
        // The node before the last one goes, the last one lends its name.
        group.absorbed.extend(self.index.position(group.last.name()));
        group.last = node;
        self.taken.insert(at);
    }

    /// A group in its final form, or why its operator does not exist.
    fn settled(&self, mut group: Group<'g>) -> Result<Group<'g>, String> {
        let is_sound = self.options.rules == Rules::Sound;
        match group.linear.op() {
            "MatMul" if group.bias.is_none() => return Err("it has no bias".into()),
            "DepthwiseConv2dNative" if is_sound && group.relu.is_none() => {
                return Err("there is no operator for a depthwise convolution without Relu that writes codes".into());
            }
            _ if is_sound && group.bias.is_none() => group.bias = Some(Bias::Zero),
            _ => {}
        }
        Ok(group)
    }

    /// The constant that `node` adds to each channel of the group's result.
    fn bias(&self, node: &'g NodeDef, group: &Group<'g>) -> Result<Option<String>, TensorflowError> {
        let is_sound = self.options.rules == Rules::Sound;
        let is_nhwc = node.text("data_format")?.is_none_or(|format| format == "NHWC");
        if !(is_nhwc && (node.op() == "BiasAdd" || node.op() == "Add" || (is_sound && node.op() == "AddV2"))) {
            return Ok(None);
        }
        let inputs: Vec<Input<'_>> = node.data_inputs().collect();
        let [first, second] = inputs.as_slice() else { return Ok(None) };
        let bias = match first.node == group.last.name() {
            true => second,
            false if is_sound => first,
            false => return Ok(None),
        };
        let Some(value) = self.index.node(bias.node).map(NodeDef::constant_value).transpose()?.flatten() else {
            return Ok(None);
        };
        let fits = value.rank() == 1 && value.as_slice::<f32>().is_ok() && Some(value.len()) == channels(group);
        Ok(fits.then(|| bias.to_string()))
    }

    /// What `node` adds to the group's result, if it is a sum of two.
    fn summand(&self, node: &'g NodeDef, group: &Group<'g>) -> Option<Input<'g>> {
        let is_sum =
            matches!(node.op(), "Add" | "AddN") || (self.options.rules == Rules::Sound && node.op() == "AddV2");
        let inputs: Vec<Input<'g>> = node.data_inputs().collect();
        let [first, second] = inputs.as_slice() else { return None };
        let other = if first.node == group.last.name() { second } else { first };
        is_sum.then_some(*other)
    }

    /// Whether nobody reads a summand when its sum is computed: kernels write the sum in its place, and fail if they may
    /// not. Whoever else reads it must come before the sum.
    fn is_free(&self, summand: Input<'_>, group: &Group<'_>) -> bool {
        let Some(at) = self.index.position(summand.node) else { return false };
        let Some(node) = self.index.at(at) else { return false };
        if node.op() == "Const" || is_named(&self.options.outputs, node) {
            return false;
        }
        let before = self.before(group.linear, at);
        let sum = self.index.position(group.last.name());
        let readers = self.readers.get(at).into_iter().flatten().map(|(reader, _)| *reader);
        let is_sum = |reader: usize| {
            sum.is_some_and(|sum| self.readers.get(sum).is_some_and(|r| r.iter().any(|(at, _)| *at == reader)))
        };
        readers.into_iter().all(|reader| before.contains(&reader) || is_sum(reader))
    }

    /// What must run before `node`, as far as it runs after the node at `start`; `node` itself is in it.
    fn before(&self, node: &NodeDef, start: usize) -> HashSet<usize> {
        let rank = |at: usize| self.ranks.get(at).copied().unwrap_or(0);
        let mut found = HashSet::new();
        let mut open: Vec<usize> = self.index.position(node.name()).into_iter().collect();
        while let Some(at) = open.pop() {
            if rank(at) > rank(start) && found.insert(at) {
                let inputs = self.index.at(at).into_iter().flat_map(NodeDef::refs);
                open.extend(inputs.filter_map(|input| self.index.position(input.node)));
            }
        }
        found
    }

    /// A reader of weights whose operator is another, so that it needs other codes or none.
    fn other_kind(&self, weights: &NodeDef, op: &str) -> Option<&'g str> {
        let at = self.index.position(weights.name())?;
        let readers = self.readers.get(at)?.iter().filter_map(|(reader, _)| self.index.at(*reader));
        let mut others = readers
            .filter(|reader| matches!(reader.op(), "Conv2D" | "DepthwiseConv2dNative" | "MatMul") && reader.op() != op);
        others.next().map(NodeDef::name)
    }

    /// What a convolution reads, and the zeros around it that the operator itself can add; no zeros that it cannot say.
    fn padded(&self, conv: &'g NodeDef, input: Input<'g>) -> Result<(Input<'g>, Option<[i64; 4]>), TensorflowError> {
        let padding = conv.text("padding")?.unwrap_or_default();
        if padding == "EXPLICIT" {
            let own = conv.ints("explicit_paddings")?.unwrap_or_default();
            return Ok((input, spatial(&own).filter(|_| self.options.rules == Rules::Sound)));
        }
        let none = Ok((input, Some([0; 4])));
        if self.options.rules != Rules::Sound || padding != "VALID" || input.port != Port::Data(0) {
            return none;
        }
        let Some(pad) = self.index.node(input.node).filter(|node| node.op() == "Pad") else { return none };
        let inputs: Vec<Input<'g>> = pad.data_inputs().collect();
        let [source, amounts] = inputs.as_slice() else { return none };
        let amounts = self.index.node(amounts.node).map(NodeDef::constant_value).transpose()?.flatten();
        match amounts.and_then(|amounts| amounts.to_i64_vec().ok()).and_then(|amounts| spatial(&amounts)) {
            Some(pads) => Ok((*source, Some(pads))),
            None => none,
        }
    }
}

/// Why an operator's attributes make it unsuitable.
fn unsuitable(linear: &NodeDef) -> Result<Option<String>, TensorflowError> {
    if linear.dtype("T")?.is_some_and(|dtype| dtype != DataType::FLOAT) {
        return Ok(Some("it does not compute in single precision".into()));
    }
    if let Some(format) = linear.text("data_format")?.filter(|format| format != "NHWC") {
        return Ok(Some(format!("its data format is {format}")));
    }
    if linear.bool("transpose_a")? == Some(true) {
        return Ok(Some("its first operand is transposed".into()));
    }
    Ok(None)
}

/// The amounts of height and width in a list of pairs for all four axes, if there are no others.
fn spatial(amounts: &[i64]) -> Option<[i64; 4]> {
    match amounts {
        [0, 0, top, bottom, left, right, 0, 0] if [top, bottom, left, right].iter().all(|amount| **amount >= 0) => {
            Some([*top, *bottom, *left, *right])
        }
        _ => None,
    }
}

/// Output channels of a group.
pub(super) fn channels(group: &Group<'_>) -> Option<usize> {
    let shape = group.values.shape();
    match (group.linear.op(), shape) {
        ("MatMul", [rows, columns]) => {
            let is_transposed = group.linear.bool("transpose_b").ok().flatten() == Some(true);
            Some(if is_transposed { *rows } else { *columns })
        }
        (op, shape) => crate::transform::batch_norm::channels(op, shape),
    }
}

fn is_relu(node: &NodeDef) -> bool {
    matches!(node.op(), "Relu" | "Relu6")
}
