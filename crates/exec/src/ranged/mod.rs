//! Exact execution of a graph on codes that travel with their ranges: what TensorFlow's kernels compute.
//!
//! Codes are tensors of 8- or 32-bit integers, their ranges tensors of their own. [`work`] says what a node computes,
//! [`convolution`] and [`pool`] are the larger ones; nodes without work on codes are evaluated on reals.

mod convolution;
mod pool;
mod work;

use crate::error::{ExecError, OpError};
use crate::fold::evaluate_node;
use convolution::Buffers;
use quantize_ir::{Graph, GraphError, NodeId, Op, RangedPlan, RangedWork, Tensor, ValueId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A graph on codes, ready to run. It can be shared by any number of threads.
#[derive(Debug)]
pub struct RangedProgram<'g> {
    graph: &'g Graph,
    plan: &'g RangedPlan,
    /// Nodes in order, each with the values that nobody reads after it.
    steps: Vec<(NodeId, Vec<ValueId>)>,
    constants: HashMap<ValueId, Arc<Tensor>>,
    targets: Vec<ValueId>,
}

/// Hears what nodes of work [`RangedWork::Report`] show.
pub type Listener<'l> = dyn FnMut(NodeId, &[&Tensor]) + 'l;

impl<'g> RangedProgram<'g> {
    /// Orders what is needed for `targets`.
    ///
    /// # Errors
    /// [`ExecError::Opaque`] if a node is needed that neither the executor knows nor the plan, [`ExecError::Graph`] if the
    /// graph has a cycle or a constant cannot be read.
    pub fn new(graph: &'g Graph, plan: &'g RangedPlan, targets: &[ValueId]) -> Result<Self, ExecError> {
        let needed = needed(graph, targets);
        let order: Vec<NodeId> = graph.topological_order()?.into_iter().filter(|id| needed.contains(id)).collect();
        let unknown = |id: &&NodeId| {
            let is_opaque = matches!(graph.node(**id).map(|node| &node.op), Some(Op::Opaque(_)));
            is_opaque && !plan.nodes.contains_key(*id)
        };
        let kind = |id: &NodeId| (graph.label(*id), graph.node(*id).map_or("", |node| node.op.name()).to_owned());
        let opaque: Vec<(String, String)> = order.iter().filter(unknown).map(kind).collect();
        if !opaque.is_empty() {
            return Err(ExecError::Opaque { nodes: opaque });
        }
        let mut last = HashMap::new();
        let mut constants = HashMap::new();
        for (step, id) in order.iter().enumerate() {
            for value in graph.node(*id).into_iter().flat_map(|node| node.inputs.iter().chain(&node.outputs)).flatten()
            {
                last.insert(*value, step);
                if let Some(constant) = graph.constant(*value)? {
                    constants.insert(*value, constant);
                }
            }
        }
        for target in targets {
            last.remove(target);
            if let Some(constant) = graph.constant(*target)? {
                constants.insert(*target, constant);
            }
        }
        let mut steps: Vec<(NodeId, Vec<ValueId>)> = order.into_iter().map(|id| (id, Vec::new())).collect();
        let mut released: Vec<(ValueId, usize)> = last.into_iter().collect();
        released.sort_unstable();
        for (value, step) in released {
            steps[step].1.push(value);
        }
        Ok(Self { graph, plan, steps, constants, targets: targets.to_vec() })
    }

    /// Computes the targets from what is fed. The listener hears reports in the order of execution.
    ///
    /// # Errors
    /// [`ExecError::NotFed`] if an input is missing, [`ExecError::Node`] naming the node that failed.
    pub fn run(&self, fed: &[(ValueId, Tensor)], listener: &mut Listener<'_>) -> Result<Vec<Tensor>, ExecError> {
        let mut values: HashMap<ValueId, Arc<Tensor>> = self.constants.clone();
        values.extend(fed.iter().map(|(value, tensor)| (*value, Arc::new(tensor.clone()))));
        let mut buffers = Buffers::default();
        for (id, released) in &self.steps {
            self.step(*id, &mut values, &mut buffers, listener)?;
            for value in released {
                values.remove(value);
            }
        }
        let target = |value: &ValueId| {
            let held = values.get(value).map(|tensor| (**tensor).clone());
            held.ok_or_else(|| ExecError::NotFed { name: self.graph.value(*value).name.clone() })
        };
        self.targets.iter().map(target).collect()
    }

    fn step(
        &self,
        id: NodeId,
        values: &mut HashMap<ValueId, Arc<Tensor>>,
        buffers: &mut Buffers,
        listener: &mut Listener<'_>,
    ) -> Result<(), ExecError> {
        let node = self.graph.node(id).ok_or(GraphError::Stale { pass: "execution" })?;
        let mut operands = Vec::with_capacity(node.inputs.len());
        for input in &node.inputs {
            operands.push(match input {
                Some(value) => Some(
                    values
                        .get(value)
                        .cloned()
                        .ok_or_else(|| ExecError::NotFed { name: self.graph.value(*value).name.clone() })?,
                ),
                None => None,
            });
        }
        let tensors: Vec<Option<&Tensor>> = operands.iter().map(Option::as_deref).collect();
        let results = match self.plan.nodes.get(&id) {
            None => evaluate_node(self.graph, id, &tensors)?,
            Some(work) => {
                let all: Option<Vec<&Tensor>> = tensors.iter().copied().collect();
                let done = match all {
                    Some(all) => self.carry_out(id, work, &all, buffers, listener),
                    None => Err(OpError::Missing { slot: tensors.iter().position(Option::is_none).unwrap_or(0) }),
                };
                let op = node.op.name().to_owned();
                done.map_err(|cause| ExecError::Node { node: self.graph.label(id), op, cause })?
            }
        };
        for (value, result) in node.outputs.iter().zip(results) {
            if let Some(value) = value {
                values.insert(*value, Arc::new(result));
            }
        }
        Ok(())
    }

    fn carry_out(
        &self,
        id: NodeId,
        work: &RangedWork,
        operands: &[&Tensor],
        buffers: &mut Buffers,
        listener: &mut Listener<'_>,
    ) -> Result<Vec<Tensor>, OpError> {
        if *work == RangedWork::Report {
            let [first, shown @ ..] = operands else { return Err(OpError::Missing { slot: 0 }) };
            listener(id, shown);
            return Ok(vec![(*first).clone()]);
        }
        work::run(work, operands, buffers)
    }
}

/// The nodes that are needed for some values.
fn needed(graph: &Graph, targets: &[ValueId]) -> HashSet<NodeId> {
    let mut needed = HashSet::new();
    let mut open: Vec<ValueId> = targets.to_vec();
    while let Some(value) = open.pop() {
        let Some((id, node)) = graph.producer(value) else { continue };
        if needed.insert(id) {
            open.extend(node.inputs.iter().flatten());
        }
    }
    needed
}

#[cfg(test)]
mod tests;
