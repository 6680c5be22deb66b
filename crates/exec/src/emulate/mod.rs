//! Exact execution on integer codes: what a target's runtime computes for an [`IntegerPlan`], bit by bit.
//!
//! Every value of a run is either real or a tensor of codes with the grid they stand for. Codes are held as `f32`
//! integers, which carry 16 bits exactly, so that whatever only moves, joins or cuts off elements runs on the kernels
//! of reals. The arithmetic of single nodes is in [`work`]; the schedule is that of a [`Program`].

mod work;

use crate::error::{ExecError, OpError};
use crate::eval::evaluate;
use crate::observe::{Observer, View};
use crate::operands::Operands;
use crate::pool::Pool;
use crate::program::{Program, Source, Step};
use quantize_ir::op::{RangeRule, Unary};
use quantize_ir::{Graph, IntegerPlan, NodeId, Op, Tensor, ValueId};
use quantize_numerics::xfdnn::SymmetricGrid;
use std::collections::BTreeMap;
use work::{Buffers, Work};

/// A schedule that computes chosen values of a graph as a target's runtime does. It can be shared by any number of
/// threads, each with its own [`Emulator`].
#[derive(Debug)]
pub struct Emulation {
    program: Program,
    /// For each step of the program, its integer work.
    work: Vec<Option<Work>>,
}

impl Emulation {
    /// Compiles what is needed for `targets`.
    ///
    /// # Errors
    /// As [`Program::compile`].
    pub fn compile(graph: &Graph, targets: &[ValueId], plan: &IntegerPlan) -> Result<Self, ExecError> {
        let program = Program::node_by_node(graph, targets)?;
        let work = program.steps.iter().map(|step| plan.nodes.get(&step.node).cloned().map(Work::new)).collect();
        Ok(Self { program, work })
    }
}

/// Runs an emulation again and again, reusing its buffers. One emulator belongs to one thread.
#[derive(Debug)]
pub struct Emulator<'p> {
    emulation: &'p Emulation,
    pool: Pool,
    buffers: Buffers,
    overflows: BTreeMap<NodeId, u64>,
}

/// A value while an emulation runs.
struct Held<'a> {
    tensor: Stored<'a>,
    /// What its codes stand for; `None` for reals.
    grid: Option<SymmetricGrid>,
}

enum Stored<'a> {
    Shared(&'a Tensor),
    Owned(Tensor),
}

impl Held<'_> {
    fn tensor(&self) -> &Tensor {
        match &self.tensor {
            Stored::Shared(tensor) => tensor,
            Stored::Owned(tensor) => tensor,
        }
    }

    /// A copy of its real values.
    fn real(&self) -> Result<Tensor, OpError> {
        let mut copy = self.tensor().clone();
        if let Some(grid) = self.grid {
            copy.as_mut_slice::<f32>()?.iter_mut().for_each(|x| *x = grid.dequantize(*x as i32));
        }
        Ok(copy)
    }
}

/// The values of one run, by slot of the program.
type Values<'a> = Vec<Option<Held<'a>>>;

impl<'p> Emulator<'p> {
    /// An emulator without buffers; the first run allocates them.
    pub fn new(emulation: &'p Emulation) -> Self {
        Self { emulation, pool: Pool::default(), buffers: Buffers::default(), overflows: BTreeMap::new() }
    }

    /// Computes the targets as reals, in the order they were asked for; the observer sees the real values of what it
    /// wants to see.
    ///
    /// # Errors
    /// [`ExecError::NotFed`] if an input is missing, [`ExecError::Node`] naming the node that failed.
    pub fn run(&mut self, inputs: &[(ValueId, Tensor)], observer: &mut dyn Observer) -> Result<Vec<Tensor>, ExecError> {
        let emulation = self.emulation;
        let mut values = feed(&emulation.program, inputs)?;
        for (step, work) in emulation.program.steps.iter().zip(&emulation.work) {
            self.run_step(step, work.as_ref(), &mut values, observer).map_err(|cause| {
                let name = |slot: usize| step.inputs.get(slot)?.map(|at| emulation.program.slots[at].name.clone());
                let (node, op) = (step.label.clone(), step.op.name().to_owned());
                ExecError::Node { node, op, cause: cause.naming(name) }
            })?;
        }
        let target = |at: &usize| {
            let held =
                values[*at].as_ref().ok_or_else(|| ExecError::NotFed { name: name_of(&emulation.program, *at) })?;
            let named = |cause| ExecError::Node { node: name_of(&emulation.program, *at), op: String::new(), cause };
            held.real().map_err(named)
        };
        emulation.program.targets.iter().map(target).collect()
    }

    /// How many sums of 8-bit products of each node left the 24 bits that the hardware's accumulator has, in all runs
    /// so far; nodes without such sums are left out.
    pub fn overflows(&self) -> &BTreeMap<NodeId, u64> {
        &self.overflows
    }

    fn run_step(
        &mut self,
        step: &Step,
        work: Option<&Work>,
        values: &mut Values<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(), OpError> {
        let (results, grid) = match work {
            Some(work) => (vec![self.integer(step, work, values)?], Some(work.output())),
            None => match common_grid(step, values) {
                Some(grid) => (self.on_codes(step, values, grid)?, Some(grid)),
                None => (self.on_reals(step, values)?, None),
            },
        };
        for (slot, result) in step.outputs.iter().zip(results) {
            let Some(at) = *slot else {
                self.pool.give(result);
                continue;
            };
            let held = Held { tensor: Stored::Owned(result), grid };
            let value = self.emulation.program.slots[at].value;
            if observer.wants(value) {
                observer.observe(value, &View::of(&held.real()?));
            }
            values[at] = Some(held);
        }
        for slot in &step.release {
            if let Some(Held { tensor: Stored::Owned(tensor), .. }) = values[*slot].take() {
                self.pool.give(tensor);
            }
        }
        Ok(())
    }

    fn integer(&mut self, step: &Step, work: &Work, values: &Values<'_>) -> Result<Tensor, OpError> {
        let operands: Vec<Option<work::Operand<'_>>> = step
            .inputs
            .iter()
            .map(|slot| slot.and_then(|at| values[at].as_ref()).map(|h| (h.tensor(), h.grid.is_some())))
            .collect();
        let done = work.run(&step.op, &operands, &mut self.pool, &mut self.buffers)?;
        if done.overflows > 0 {
            *self.overflows.entry(step.node).or_default() += done.overflows;
        }
        Ok(done.codes)
    }

    fn on_reals(&mut self, step: &Step, values: &Values<'_>) -> Result<Vec<Tensor>, OpError> {
        let real = |slot: &Option<usize>| match slot.and_then(|at| values[at].as_ref()) {
            Some(held) if held.grid.is_some() => held.real().map(|t| Some(Stored::Owned(t))),
            Some(held) => Ok(Some(Stored::Shared(held.tensor()))),
            None => Ok(None),
        };
        let operands: Vec<Option<Stored<'_>>> = step.inputs.iter().map(real).collect::<Result<_, _>>()?;
        let tensors: Vec<Option<&Tensor>> = operands
            .iter()
            .map(|o| {
                o.as_ref().map(|stored| match stored {
                    Stored::Shared(tensor) => *tensor,
                    Stored::Owned(tensor) => tensor,
                })
            })
            .collect();
        self.evaluate(step, &tensors)
    }

    /// What only moves, joins or cuts off elements, on the codes themselves.
    fn on_codes(&mut self, step: &Step, values: &Values<'_>, grid: SymmetricGrid) -> Result<Vec<Tensor>, OpError> {
        let tensors = step.inputs.iter().map(|slot| slot.and_then(|at| values[at].as_ref()).map(Held::tensor));
        let tensors: Vec<Option<&Tensor>> = tensors.collect();
        if matches!(step.op, Op::Clip) {
            let limits: Vec<Option<Tensor>> = (1..3).map(|slot| code_limit(tensors.get(slot), grid)).collect();
            let clip = [tensors.first().copied().flatten(), limits[0].as_ref(), limits[1].as_ref()];
            return self.evaluate(step, &clip);
        }
        self.evaluate(step, &tensors)
    }

    fn evaluate(&mut self, step: &Step, tensors: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        let wanted: Vec<bool> = step.outputs.iter().map(Option::is_some).collect();
        evaluate(&step.op, &wanted, Operands(tensors), &mut self.pool)
    }
}

fn name_of(program: &Program, slot: usize) -> String {
    program.slots[slot].name.clone()
}

fn feed<'a>(program: &'a Program, inputs: &'a [(ValueId, Tensor)]) -> Result<Values<'a>, ExecError> {
    let real = |tensor| Some(Held { tensor: Stored::Shared(tensor), grid: None });
    let mut values: Values<'a> = Vec::with_capacity(program.slots.len());
    for slot in &program.slots {
        values.push(match &slot.source {
            Source::Constant(tensor) => real(tensor),
            Source::Computed | Source::Deferred(_) => None,
            Source::Fed => match inputs.iter().rfind(|(value, _)| *value == slot.value) {
                Some((_, tensor)) => real(tensor),
                None => return Err(ExecError::NotFed { name: slot.name.clone() }),
            },
        });
    }
    Ok(values)
}

/// The grid of the codes that `step` can work on as they are; `None` if it needs reals.
fn common_grid(step: &Step, values: &Values<'_>) -> Option<SymmetricGrid> {
    let grid = |slot: &Option<usize>| slot.and_then(|at| values[at].as_ref()).and_then(|held| held.grid);
    let first = grid(step.inputs.first()?)?;
    let suits = match &step.op {
        Op::Concat(_) => step.inputs.iter().all(|slot| grid(slot) == Some(first)),
        Op::Unary(Unary::Relu) | Op::Clip => true,
        op => op.range_rule() == RangeRule::SameAsInput,
    };
    suits.then_some(first)
}

/// The code of a limit, as the operand of `Clip` on codes.
fn code_limit(limit: Option<&Option<&Tensor>>, grid: SymmetricGrid) -> Option<Tensor> {
    let limit = *limit?.as_ref()?.as_slice::<f32>().ok()?.first()?;
    Some(Tensor::scalar(grid.weight_code(limit) as f32))
}

#[cfg(test)]
mod tests;
