//! Running a program: feeding, observing, releasing.

use crate::error::ExecError;
use crate::eval::evaluate;
use crate::operands::Operands;
use crate::pool::Pool;
use crate::program::{Program, Slot, Source, Step};
use crate::simulate;
use quantize_ir::{Tensor, ValueId};

/// Is shown every value of a run as soon as it is there: first the fed ones, then each computed one; constants never.
pub trait Observer {
    /// Sees `value`, which holds `tensor` in this run.
    fn observe(&mut self, value: ValueId, tensor: &Tensor);

    /// Whether it looks at `value`; where a value must be converted to be seen, those it does not look at are not.
    fn wants(&self, _value: ValueId) -> bool {
        true
    }
}

/// Looks at nothing.
impl Observer for () {
    fn observe(&mut self, _: ValueId, _: &Tensor) {}

    fn wants(&self, _: ValueId) -> bool {
        false
    }
}

impl<F: FnMut(ValueId, &Tensor)> Observer for F {
    fn observe(&mut self, value: ValueId, tensor: &Tensor) {
        self(value, tensor);
    }
}

/// Runs a program again and again, reusing its buffers. One session belongs to one thread.
#[derive(Debug)]
pub struct Session<'p> {
    program: &'p Program,
    pool: Pool,
}

/// A value while a program runs.
enum Held<'a> {
    Shared(&'a Tensor),
    Owned(Tensor),
}

impl Held<'_> {
    fn tensor(&self) -> &Tensor {
        match self {
            Held::Shared(tensor) => tensor,
            Held::Owned(tensor) => tensor,
        }
    }
}

impl<'p> Session<'p> {
    /// A session without buffers; the first run allocates them.
    pub fn new(program: &'p Program) -> Self {
        Self { program, pool: Pool::default() }
    }

    /// Computes the program's targets, in the order they were asked for. `inputs` gives the values to be fed; those
    /// the targets do not depend on are ignored, and of several for one value the last counts.
    ///
    /// # Errors
    /// [`ExecError::NotFed`] or [`ExecError::NotAnInput`] if the wrong values are fed, [`ExecError::Node`] naming the
    /// node that failed, [`ExecError::Plan`] if a simulated value is not `float32`.
    pub fn run(&mut self, inputs: &[(ValueId, Tensor)], observer: &mut dyn Observer) -> Result<Vec<Tensor>, ExecError> {
        let mut values = self.feed(inputs)?;
        for (slot, held) in self.program.slots.iter().zip(&values) {
            if let (Source::Fed, Some(held)) = (&slot.source, held) {
                observer.observe(slot.value, held.tensor());
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

    fn feed<'a>(&mut self, inputs: &'a [(ValueId, Tensor)]) -> Result<Vec<Option<Held<'a>>>, ExecError>
    where
        'p: 'a,
    {
        let mut values: Vec<Option<Held<'a>>> = self.program.slots.iter().map(constant).collect();
        for (value, tensor) in inputs {
            let Some(at) = self.program.slot_of(*value) else { continue };
            let slot = &self.program.slots[at];
            if !matches!(slot.source, Source::Fed) {
                return Err(ExecError::NotAnInput { name: slot.name.clone() });
            }
            values[at] = Some(match slot.quantizer {
                None => Held::Shared(tensor),
                Some(_) => Held::Owned(quantized(slot, tensor.clone())?),
            });
        }
        let missing = |(slot, held): &(&Slot, &Option<Held<'_>>)| matches!(slot.source, Source::Fed) && held.is_none();
        match self.program.slots.iter().zip(&values).find(missing) {
            Some((slot, _)) => Err(ExecError::NotFed { name: slot.name.clone() }),
            None => Ok(values),
        }
    }

    fn run_step(
        &mut self,
        step: &Step,
        values: &mut [Option<Held<'_>>],
        observer: &mut dyn Observer,
    ) -> Result<(), ExecError> {
        let results = self.evaluate(step, values)?;
        for (slot, result) in step.outputs.iter().zip(results) {
            let Some(at) = *slot else {
                self.pool.give(result);
                continue;
            };
            let slot = &self.program.slots[at];
            let result = quantized(slot, result)?;
            observer.observe(slot.value, &result);
            values[at] = Some(Held::Owned(result));
        }
        for slot in &step.release {
            if let Some(Held::Owned(tensor)) = values[*slot].take() {
                self.pool.give(tensor);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, step: &Step, values: &[Option<Held<'_>>]) -> Result<Vec<Tensor>, ExecError> {
        let operand = |slot: &Option<usize>| slot.and_then(|at| values[at].as_ref()).map(Held::tensor);
        let operands: Vec<Option<&Tensor>> = step.inputs.iter().map(operand).collect();
        let wanted: Vec<bool> = step.outputs.iter().map(Option::is_some).collect();
        let name = |slot: usize| step.inputs.get(slot)?.map(|at| self.program.slots[at].name.clone());
        evaluate(&step.op, &wanted, Operands(&operands), &mut self.pool).map_err(|cause| ExecError::Node {
            node: step.label.clone(),
            op: step.op.name().to_owned(),
            cause: cause.naming(name),
        })
    }

    /// The targets' tensors; what is asked for twice is copied.
    fn collect(&mut self, mut values: Vec<Option<Held<'_>>>) -> Result<Vec<Tensor>, ExecError> {
        let targets = &self.program.targets;
        let one = |(i, at): (usize, &usize)| {
            let again = targets[i + 1..].contains(at);
            let held = if again { values[*at].as_ref().map(|h| h.tensor().clone()) } else { None };
            let taken = held.or_else(|| {
                values[*at].take().map(|h| match h {
                    Held::Owned(tensor) => tensor,
                    Held::Shared(tensor) => tensor.clone(),
                })
            });
            taken.ok_or_else(|| ExecError::NotFed { name: self.program.slots[*at].name.clone() })
        };
        targets.iter().enumerate().map(one).collect()
    }
}

fn constant<'a>(slot: &'a Slot) -> Option<Held<'a>> {
    match &slot.source {
        Source::Constant(tensor) => Some(Held::Shared(tensor)),
        Source::Fed | Source::Computed => None,
    }
}

fn quantized(slot: &Slot, mut tensor: Tensor) -> Result<Tensor, ExecError> {
    if let Some(quantizer) = slot.quantizer {
        simulate::fake_quantize(&mut tensor, quantizer)
            .map_err(|reason| ExecError::Plan { value: slot.name.clone(), reason })?;
    }
    Ok(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Network;
    use quantize_ir::op::{BatchNorm, Binary, MaxPool, Padding, Reshape, Unary, Window};
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
    fn targets_come_in_the_order_asked_for_and_the_observer_sees_each_value_once() {
        let mut net = Network::default();
        let x = net.input("x");
        let c = net.constant("c", vector(&[1.0, 1.0]));
        let a = net.node("a", ADD, &[x, c]);
        let b = net.node("b", RELU, &[a]);
        let program = Program::compile(&net.graph, &[b, x, c, b]).unwrap();
        let mut session = Session::new(&program);
        let mut seen = Vec::new();
        let mut observer = |value: ValueId, tensor: &Tensor| seen.push((value, tensor.clone()));
        let fed = [(x, vector(&[-3.0, 2.0]))];
        let results = session.run(&fed, &mut observer).unwrap();
        assert_eq!(results, [vector(&[0.0, 3.0]), vector(&[-3.0, 2.0]), vector(&[1.0, 1.0]), vector(&[0.0, 3.0])]);
        assert_eq!(seen, [(x, vector(&[-3.0, 2.0])), (a, vector(&[-2.0, 3.0])), (b, vector(&[0.0, 3.0]))]);
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
        let found = Session::new(&program).run(&fed, &mut |_: ValueId, t: &Tensor| seen.push(t.clone())).unwrap();
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
}
