//! Taking single steps of a walk back, to see what each is worth.

use crate::assembled::bias_plan;
use crate::error::OptimizeError;
use crate::layer::{BIAS, WEIGHT};
use crate::walk::Walked;
use quantize_ir::{Graph, NodeId, QuantPlan};

/// One kind of change that a walk makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Codes that keep the layer's result.
    Rounding,
    /// Gains on weight scales.
    Gain,
    /// Shifts of biases.
    Bias,
}

impl Walked {
    /// The graph and the plan without one step, which is then as in `graph` and `plan`, from which the walk started.
    ///
    /// # Errors
    /// If a bias has no codes under the scales it comes back to.
    pub fn without(&self, step: Step, graph: &Graph, plan: &QuantPlan) -> Result<(Graph, QuantPlan), OptimizeError> {
        let mut taken_back = self.plan.clone();
        let biases = if step == Step::Bias { graph } else { &self.graph };
        for (&(node, slot), entry) in taken_back.weights.iter_mut().filter(|((_, slot), _)| *slot == WEIGHT) {
            let Some(before) = plan.weights.get(&(node, slot)) else { continue };
            match step {
                Step::Rounding => entry.codes.clone_from(&before.codes),
                Step::Gain => entry.params.clone_from(&before.params),
                Step::Bias => {}
            }
        }
        let coded: Vec<NodeId> = taken_back.weights.keys().filter(|(_, slot)| *slot == BIAS).map(|(n, _)| *n).collect();
        for node in coded {
            recode(&mut taken_back, biases, node)?;
        }
        Ok((biases.clone(), taken_back))
    }
}

/// Makes the codes of a layer's bias anew, or removes them where there is none.
fn recode(plan: &mut QuantPlan, graph: &Graph, id: NodeId) -> Result<(), OptimizeError> {
    let node = graph.node(id);
    let bias = node.and_then(|n| n.input(BIAS)).map(|v| graph.constant(v)).transpose()?.flatten();
    let scale = node.and_then(|n| n.input(0)).and_then(|x| plan.activations.get(&x)?.params.scale().first().copied());
    let weight = plan.weights.get(&(id, WEIGHT));
    let (Some(bias), Some(scale), Some(weight)) = (bias, scale, weight) else {
        plan.weights.remove(&(id, BIAS));
        return Ok(());
    };
    let entry = bias_plan(&bias, scale, &weight.params).map_err(|e| OptimizeError::layer(&graph.label(id), e))?;
    plan.weights.insert((id, BIAS), entry);
    Ok(())
}
