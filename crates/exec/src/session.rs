//! Running a program: feeding, observing, releasing.

use crate::blocked::{self, Context, Done, Inputs, give_copy};
use crate::codes;
use crate::error::{ExecError, OpError};
use crate::eval::evaluate;
use crate::grid::CodeGrid;
use crate::observe::{Finished, Observer, View};
use crate::operands::Operands;
use crate::ops::ranged;
use crate::pool::Pool;
use crate::program::{Program, Slot, Source, Step};
use crate::ready::Ready;
use crate::simulate;
use crate::value::Value;
use quantize_ir::op::Binary;
use quantize_ir::{Op, Tensor, ValueId};
use quantize_kernels::Isa;
use quantize_kernels::blocked::{Activation, activate};
use quantize_kernels::stats::Counters;
use std::borrow::Cow;
use std::cell::RefCell;

/// Runs a program again and again, reusing its buffers. One session belongs to one thread.
#[derive(Debug)]
pub struct Session<'p> {
    program: &'p Program,
    isa: Isa,
    pool: Pool,
    counters: RefCell<Counters>,
}

impl<'p> Session<'p> {
    /// A session without buffers; the first run allocates them.
    pub fn new(program: &'p Program) -> Self {
        Self { program, isa: Isa::active(), pool: Pool::default(), counters: RefCell::default() }
    }

    /// Computes the program's targets, in the order they were asked for. `inputs` gives the values to be fed; those
    /// the targets do not depend on are ignored, and of several for one value the last counts.
    ///
    /// # Errors
    /// [`ExecError::NotFed`] or [`ExecError::NotAnInput`] if the wrong values are fed, [`ExecError::Node`] naming the
    /// node that failed, [`ExecError::Plan`] if a simulated value is not `float32`.
    pub fn run(&mut self, inputs: &[(ValueId, Tensor)], observer: &mut dyn Observer) -> Result<Vec<Tensor>, ExecError> {
        let mut values = self.feed(inputs)?;
        for (slot, value) in self.program.slots.iter().zip(&values) {
            if let (Source::Fed, Some(value)) = (&slot.source, value) {
                observer.observe(slot.value, &View::new(value, self.isa, &self.counters));
            }
        }
        for step in &self.program.steps {
            self.run_step(step, &mut values, observer)?;
        }
        self.collect(values)
    }

    /// Takes back tensors that [`Session::run`] returned, to reuse their memory.
    pub fn recycle(&mut self, tensors: Vec<Tensor>) {
        tensors.into_iter().for_each(|t| self.pool.give(t));
    }

    fn feed<'a>(&mut self, inputs: &'a [(ValueId, Tensor)]) -> Result<Vec<Option<Value<'a>>>, ExecError>
    where
        'p: 'a,
    {
        let mut values: Vec<Option<Value<'a>>> = self.program.slots.iter().map(constant).collect();
        for (value, tensor) in inputs {
            let Some(at) = self.program.slot_of(*value) else { continue };
            let slot = &self.program.slots[at];
            if !matches!(slot.source, Source::Fed) {
                return Err(ExecError::NotAnInput { name: slot.name.clone() });
            }
            values[at] = Some(match slot.quantizer {
                None => Value::Shared(tensor),
                Some(_) => self.quantized(slot, Value::Shared(tensor))?,
            });
        }
        let missing =
            |(slot, value): &(&Slot, &Option<Value<'_>>)| matches!(slot.source, Source::Fed) && value.is_none();
        match self.program.slots.iter().zip(&values).find(missing) {
            Some((slot, _)) => Err(ExecError::NotFed { name: slot.name.clone() }),
            None => Ok(values),
        }
    }

    fn run_step(
        &mut self,
        step: &Step,
        values: &mut [Option<Value<'_>>],
        observer: &mut dyn Observer,
    ) -> Result<(), ExecError> {
        let loaded = self.load(step, values)?;
        let step = loaded.step.as_ref();
        let name = |slot: usize| step.inputs.get(slot)?.map(|at| self.program.slots[at].name.clone());
        let failed = |cause: OpError| ExecError::Node {
            node: step.label.clone(),
            op: step.op.name().to_owned(),
            cause: cause.naming(name),
        };
        let quantizer = step.outputs.first().and_then(|slot| self.program.slots[(*slot)?].quantizer);
        let grid = quantizer.and_then(CodeGrid::of);
        let (results, done) = evaluate_step(step, values, grid, self.isa, &mut self.pool).map_err(failed)?;
        observer.finished(&done);
        for (slot, result) in step.outputs.iter().zip(results) {
            let Some(at) = *slot else {
                result.release(&mut self.pool);
                continue;
            };
            let slot = &self.program.slots[at];
            let result = self.quantized(slot, result)?;
            if slot.watched {
                observer.observe(slot.value, &View::new(&result, self.isa, &self.counters));
            }
            values[at] = Some(result);
        }
        for slot in &step.release {
            if let Some(value) = values[*slot].take() {
                value.release(&mut self.pool);
            }
        }
        // Not to the pool: what was streamed is not kept.
        loaded.operands.iter().for_each(|slot| values[*slot] = None);
        Ok(())
    }

    /// The step with what it streams, in `values` where that is an operand.
    fn load<'s>(&self, step: &'s Step, values: &mut [Option<Value<'_>>]) -> Result<Loaded<'s>, ExecError> {
        let mut loaded = Loaded { step: Cow::Borrowed(step), operands: Vec::new() };
        let Some(store) = &self.program.store else { return Ok(loaded) };
        loaded.step = store.loaded(step)?;
        for at in step.inputs.iter().chain([&step.addend]).flatten() {
            if let Some(tensor) = store.tensor(&self.program.slots[*at].source)? {
                values[*at] = Some(Value::Plain(tensor));
                loaded.operands.push(*at);
            }
        }
        Ok(loaded)
    }

    /// The value rounded to its grid, if it has one: as codes, if they have 8 bits and an axis of channels.
    fn quantized<'a>(&mut self, slot: &Slot, value: Value<'a>) -> Result<Value<'a>, ExecError> {
        let Some(quantizer) = slot.quantizer else { return Ok(value) };
        let failed = |reason: String| ExecError::Plan { value: slot.name.clone(), reason };
        simulate::rounded(value, quantizer, slot.layout, self.isa, &mut self.pool).map_err(failed)
    }

    /// The targets' tensors; what is asked for twice is copied.
    fn collect(&mut self, mut values: Vec<Option<Value<'_>>>) -> Result<Vec<Tensor>, ExecError> {
        let targets = &self.program.targets;
        let mut tensors = Vec::with_capacity(targets.len());
        for (i, at) in targets.iter().enumerate() {
            let name = &self.program.slots[*at].name;
            let lost = || ExecError::NotFed { name: name.clone() };
            let again = targets[i + 1..].contains(at);
            let value = if again { None } else { values[*at].take() };
            let tensor = match (value, &values[*at]) {
                (Some(Value::Plain(tensor)), _) => tensor,
                (Some(value), _) => self.taken(value, name)?,
                (None, Some(value)) => self.copied(value, name)?,
                (None, None) => return Err(lost()),
            };
            tensors.push(tensor);
        }
        Ok(tensors)
    }

    fn taken(&mut self, value: Value<'_>, name: &str) -> Result<Tensor, ExecError> {
        let tensor = self.copied(&value, name)?;
        value.release(&mut self.pool);
        Ok(tensor)
    }

    fn copied(&mut self, value: &Value<'_>, name: &str) -> Result<Tensor, ExecError> {
        let plain = value.plain(self.isa, &mut self.pool);
        let failed = |cause| ExecError::Node { node: name.to_owned(), op: "result".to_owned(), cause };
        plain.map(Cow::into_owned).map_err(failed)
    }
}

/// A step with what it reads while the program runs.
struct Loaded<'s> {
    step: Cow<'s, Step>,
    /// Slots that were filled for it.
    operands: Vec<usize>,
}

/// The results of a step, the first one on `grid` if the plan says so, and what it did.
fn evaluate_step<'s>(
    step: &'s Step,
    values: &[Option<Value<'_>>],
    grid: Option<CodeGrid>,
    isa: Isa,
    pool: &mut Pool,
) -> Result<(Vec<Value<'static>>, Finished<'s>), OpError> {
    let value = |slot: &Option<usize>| slot.and_then(|at| values[at].as_ref());
    let operands: Vec<Option<&Value<'_>>> = step.inputs.iter().map(value).collect();
    let inputs = Inputs { operands: &operands, addend: value(&step.addend) };
    let on_codes = codes::evaluate(step, inputs, grid, &mut Context { isa, pool })?;
    // What no kernel on codes takes is computed on the reals they stand for.
    let reals = if on_codes.is_some() { Vec::new() } else { reals_of(&operands, isa, pool)? };
    let operands: Vec<Option<&Value<'_>>> =
        operands.iter().enumerate().map(|(i, o)| reals.get(i).and_then(Option::as_ref).or(*o)).collect();
    let inputs = Inputs { operands: &operands, addend: value(&step.addend) };
    let mut finished = Finished { node: &step.label, op: step.op.name(), kernel: "planes", multiply_adds: 0 };
    let done = match on_codes {
        Some(done) => Some(done),
        None => blocked::evaluate(step, inputs, &mut Context { isa, pool })?,
    };
    let Some(Done { value: result, finished: complete, kernel, multiply_adds }) = done else {
        let mut results = on_planes(step, inputs, isa, pool)?.into_iter();
        let first =
            results.next().map(|first| complete_on_planes(step, inputs.addend, first, isa, pool)).transpose()?;
        reals.into_iter().flatten().for_each(|value| value.release(pool));
        return Ok((first.into_iter().chain(results).map(Value::Plain).collect(), finished));
    };
    (finished.kernel, finished.multiply_adds) = (kernel, multiply_adds);
    let addend = value(&step.addend);
    reals.into_iter().flatten().for_each(|value| value.release(pool));
    let result = match result {
        result if complete => return Ok((vec![result], finished)),
        Value::Blocked(mut blocks) if addend.is_none() => {
            activate(isa, step.activation, &mut blocks.data);
            return Ok((vec![Value::Blocked(blocks)], finished));
        }
        other => other,
    };
    let tensor = result.plain(isa, pool)?.into_owned();
    result.release(pool);
    let tensor = complete_on_planes(step, addend, tensor, isa, pool)?;
    Ok((vec![Value::Plain(tensor)], finished))
}

/// The reals of those operands that are codes.
fn reals_of(
    operands: &[Option<&Value<'_>>],
    isa: Isa,
    pool: &mut Pool,
) -> Result<Vec<Option<Value<'static>>>, OpError> {
    let mut reals = Vec::with_capacity(operands.len());
    for operand in operands {
        reals.push(match operand {
            Some(Value::Codes(codes)) if codes.activations.shape.lanes == isa.lanes() => {
                Some(Value::Blocked(codes.reals(isa, pool)?))
            }
            Some(value @ Value::Codes(_)) => Some(Value::Plain(value.plain(isa, pool)?.into_owned())),
            _ => None,
        });
    }
    Ok(reals)
}

/// The results of the step's operator on tensors in memory order.
fn on_planes(step: &Step, inputs: Inputs<'_, '_>, isa: Isa, pool: &mut Pool) -> Result<Vec<Tensor>, OpError> {
    let mut tensors: Vec<Option<Cow<'_, Tensor>>> = Vec::with_capacity(inputs.operands.len());
    for operand in inputs.operands {
        tensors.push(operand.map(|value| value.plain(isa, pool)).transpose()?);
    }
    let operands: Vec<Option<&Tensor>> = tensors.iter().map(Option::as_deref).collect();
    let wanted: Vec<bool> = step.outputs.iter().map(Option::is_some).collect();
    let results = match (&step.op, step.ready.as_deref()) {
        (Op::Ranged(work), Some(Ready::Ranged(packing))) => ranged::evaluate(work, Operands(&operands), Some(packing))?,
        _ => evaluate(&step.op, &wanted, Operands(&operands), pool)?,
    };
    tensors.into_iter().flatten().for_each(|tensor| give_copy(tensor, pool));
    Ok(results)
}

/// Addend and activation of a step, on the result of its operator.
fn complete_on_planes(
    step: &Step,
    addend: Option<&Value<'_>>,
    result: Tensor,
    isa: Isa,
    pool: &mut Pool,
) -> Result<Tensor, OpError> {
    let mut result = result;
    if let Some(addend) = addend {
        let other = addend.plain(isa, pool)?;
        let operands = [Some(&result), Some(&*other)];
        let sum = evaluate(&Op::Binary(Binary::Add), &[true], Operands(&operands), pool)?;
        give_copy(other, pool);
        let sum = sum.into_iter().next().ok_or(OpError::Result { slot: 0, results: 0 })?;
        pool.give(std::mem::replace(&mut result, sum));
    }
    if step.activation != Activation::Identity {
        activate(isa, step.activation, result.as_mut_slice()?);
    }
    Ok(result)
}

fn constant<'a>(slot: &'a Slot) -> Option<Value<'a>> {
    match &slot.source {
        Source::Constant(tensor) => Some(Value::Shared(tensor)),
        Source::Deferred(_) | Source::Fed | Source::Computed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Network;
    use quantize_ir::op::{BatchNorm, Binary, Conv, MaxPool, Padding, Reshape, Unary, Window};
    use quantize_ir::{ActivationPlan, Op, QuantParams, QuantPlan, QuantType, WeightPlan};
    use std::sync::Arc;

    const RELU: Op = Op::Unary(Unary::Relu);
    const ADD: Op = Op::Binary(Binary::Add);

    fn vector(values: &[f32]) -> Tensor {
        Tensor::vector(values.to_vec())
    }

    fn plan_of(value: ValueId, scale: f32, zero_point: i32) -> (ValueId, ActivationPlan) {
        let params = QuantParams::per_tensor(QuantType::U8, scale, zero_point).unwrap();
        (value, ActivationPlan { params, shares: value, method: "minmax".into(), sqnr_db: None })
    }

    #[test]
    fn targets_come_in_the_order_asked_for_and_the_observer_sees_each_once() {
        let mut net = Network::default();
        let x = net.input("x");
        let c = net.constant("c", vector(&[1.0, 1.0]));
        let a = net.node("a", ADD, &[x, c]);
        let b = net.node("b", RELU, &[a]);
        let program = Program::compile(&net.graph, &[b, x, c, b]).unwrap();
        let mut session = Session::new(&program);
        let mut seen = Vec::new();
        let mut observer = |value: ValueId, view: &View<'_>| seen.push((value, view.tensor().unwrap().into_owned()));
        let fed = [(x, vector(&[-3.0, 2.0]))];
        let results = session.run(&fed, &mut observer).unwrap();
        assert_eq!(results, [vector(&[0.0, 3.0]), vector(&[-3.0, 2.0]), vector(&[1.0, 1.0]), vector(&[0.0, 3.0])]);
        assert_eq!(seen, [(x, vector(&[-3.0, 2.0])), (b, vector(&[0.0, 3.0]))]);
        session.recycle(results);
        assert_eq!(session.run(&[(x, vector(&[1.0, 0.0]))], &mut ()).unwrap()[0], vector(&[2.0, 1.0]));
    }

    #[test]
    fn wrong_feeds_are_named() {
        let mut net = Network::default();
        let (x, elsewhere) = (net.input("x"), net.input("elsewhere"));
        let a = net.node("a", RELU, &[x]);
        let program = Program::compile(&net.graph, &[a]).unwrap();
        let mut session = Session::new(&program);
        assert_eq!(session.run(&[], &mut ()), Err(ExecError::NotFed { name: "x".into() }));
        let fed = [(x, vector(&[1.0])), (elsewhere, vector(&[]))];
        assert!(session.run(&fed, &mut ()).is_ok());
        let computed = [(x, vector(&[1.0])), (a, vector(&[1.0]))];
        assert_eq!(session.run(&computed, &mut ()), Err(ExecError::NotAnInput { name: "a".into() }));
    }

    #[test]
    fn failures_name_the_node_and_leave_the_session_usable() {
        let mut net = Network::default();
        let (x, y) = (net.input("x"), net.input("y"));
        let sum = net.node("sum", ADD, &[x, y]);
        let program = Program::compile(&net.graph, &[sum]).unwrap();
        let mut session = Session::new(&program);
        let error = session.run(&[(x, vector(&[1.0, 2.0])), (y, vector(&[0.0; 3]))], &mut ()).unwrap_err();
        assert_eq!(error.to_string(), "node `sum` (Add): shapes [2] and [3] cannot be broadcast together");
        assert!(session.run(&[(x, vector(&[1.0])), (y, vector(&[2.0]))], &mut ()).is_ok());
    }

    #[test]
    fn a_parameter_of_the_wrong_length_is_named() {
        let mut net = Network::default();
        let x = net.input("x");
        let gamma = net.constant("gamma", vector(&[1.0]));
        let others = net.constant("others", vector(&[1.0, 1.0]));
        let norm = Op::BatchNorm(BatchNorm { epsilon: 0.5, axis: 1 });
        let y = net.node("norm", norm, &[x, gamma, others, others, others]);
        let program = Program::compile(&net.graph, &[y]).unwrap();
        let x = (x, Tensor::new([1, 2], vec![0f32; 2]).unwrap());
        let error = Session::new(&program).run(&[x], &mut ()).unwrap_err();
        let expected = "node `norm` (BatchNormalization): operand 1 (`gamma`) has 1 elements for 2 channels";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn results_an_operator_does_not_have_are_an_error() {
        let mut net = Network::default();
        let x = net.input("x");
        let second = net.node_with_results("relu", RELU, &[x], 2)[1];
        let program = Program::compile(&net.graph, &[second]).unwrap();
        let error = Session::new(&program).run(&[(x, vector(&[1.0]))], &mut ()).unwrap_err();
        assert_eq!(error.to_string(), "node `relu` (Relu): result 1 is asked for, the operator has 1");
    }

    #[test]
    fn indices_are_computed_if_someone_wants_them() {
        let mut net = Network::default();
        let x = net.input("x");
        let window =
            Window { strides: vec![], dilations: vec![], padding: Padding::Valid, rounding: Default::default() };
        let pool = MaxPool { kernel: vec![2], window, column_major: false, layout: Default::default() };
        let results = net.node_with_results("pool", Op::MaxPool(pool), &[x], 2);
        let program = Program::compile(&net.graph, &[results[1]]).unwrap();
        let x_data = Tensor::new(vec![1, 1, 4], vec![1f32, 3.0, 2.0, 5.0]).unwrap();
        let found = Session::new(&program).run(&[(x, x_data)], &mut ()).unwrap();
        assert_eq!(found, [Tensor::new(vec![1, 1, 3], vec![1i64, 1, 3]).unwrap()]);
    }

    #[test]
    fn planned_values_are_rounded_to_their_grid() {
        let mut net = Network::default();
        let x = net.input("x");
        let c = net.constant("c", vector(&[0.3, 100.0]));
        let sum = net.node("sum", ADD, &[x, c]);
        let plan = QuantPlan {
            activations: [plan_of(x, 0.5, 2), plan_of(c, 1.0, 0), plan_of(sum, 0.5, 0)].into_iter().collect(),
            ..QuantPlan::default()
        };
        let program = Program::simulate(&net.graph, &[sum, x, c], &plan).unwrap();
        let fed = [(x, vector(&[0.75, -9.0]))];
        let mut seen = Vec::new();
        let found = Session::new(&program)
            .run(&fed, &mut |_: ValueId, t: &View<'_>| seen.push(t.tensor().unwrap().into_owned()))
            .unwrap();
        assert_eq!(found, [vector(&[1.0, 99.0]), vector(&[1.0, -1.0]), vector(&[0.0, 100.0])]);
        assert_eq!(seen, [vector(&[1.0, -1.0]), vector(&[1.0, 99.0])]);
        assert_eq!(fed[0].1, vector(&[0.75, -9.0]));
    }

    #[test]
    fn each_reader_of_a_constant_has_its_own_codes() {
        let mut net = Network::default();
        let x = net.input("x");
        let w = net.constant("w", vector(&[0.3, 0.6]));
        let (a, b) = (net.node("a", ADD, &[x, w]), net.node("b", ADD, &[x, w]));
        let weight = WeightPlan {
            params: QuantParams::per_tensor(QuantType::I8Narrow, 0.25, 0).unwrap(),
            codes: Arc::new(Tensor::vector(vec![1i8, 2])),
            sqnr_db: 0.0,
        };
        let plan = QuantPlan { weights: [((net.producer(a), 1), weight)].into_iter().collect(), ..Default::default() };
        let program = Program::simulate(&net.graph, &[a, b], &plan).unwrap();
        let found = Session::new(&program).run(&[(x, vector(&[0.0, 0.0]))], &mut ()).unwrap();
        assert_eq!(found, [vector(&[0.25, 0.5]), vector(&[0.3, 0.6])]);
    }

    #[test]
    fn a_planned_value_that_is_not_real_is_an_error() {
        let mut net = Network::default();
        let x = net.input("x");
        let a = net.node("a", Op::Identity, &[x]);
        let plan = QuantPlan { activations: [plan_of(a, 1.0, 0)].into_iter().collect(), ..QuantPlan::default() };
        let program = Program::simulate(&net.graph, &[a], &plan).unwrap();
        let error = Session::new(&program).run(&[(x, Tensor::scalar(1i64))], &mut ()).unwrap_err();
        assert!(matches!(error, ExecError::Plan { value, .. } if value == "a"));
    }

    #[test]
    fn a_second_run_gives_the_same_bytes() {
        let mut net = Network::default();
        let x = net.input("x");
        let shape = net.constant("shape", Tensor::vector(vec![2i64, -1]));
        let a = net.node("a", Op::Reshape(Reshape { allow_zero: false }), &[x, shape]);
        let b = net.node("b", Op::Unary(Unary::Sigmoid), &[a]);
        let c = net.node("c", ADD, &[b, a]);
        let program = Program::compile(&net.graph, &[c]).unwrap();
        let fed = [(x, vector(&[0.1, -0.7, 3.0, 1.5]))];
        let mut session = Session::new(&program);
        let first = session.run(&fed, &mut ()).unwrap();
        session.recycle(session_noise());
        assert_eq!(session.run(&fed, &mut ()).unwrap(), first);
    }

    /// Buffers with contents that must not shine through.
    fn session_noise() -> Vec<Tensor> {
        (1..9).map(|n| vector(&vec![f32::NAN; n])).collect()
    }

    #[test]
    fn results_no_network_has_are_refused_before_they_are_allocated() {
        let mut net = Network::default();
        let x = net.input("x");
        let weight = net.constant("w", Tensor::new([1, 1, 3, 3], vec![1f32; 9]).unwrap());
        for pad in [1 << 17, 1 << 40] {
            let window = Window {
                strides: vec![],
                dilations: vec![],
                padding: Padding::Explicit { begin: vec![pad; 2], end: vec![pad; 2] },
                rounding: Default::default(),
            };
            let conv = Conv { window, group: 1, layout: Default::default(), filter: Default::default() };
            let y = net.node("conv", Op::Conv(conv), &[x, weight]);
            let program = Program::compile(&net.graph, &[y]).unwrap();
            let fed = [(x, Tensor::new([1, 1, 4, 4], vec![1f32; 16]).unwrap())];
            let error = Session::new(&program).run(&fed, &mut ()).unwrap_err();
            assert!(matches!(&error, ExecError::Node { node, .. } if node == "conv"), "{error}");
        }
    }
}
