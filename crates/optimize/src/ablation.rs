//! Taking single steps of a walk back, to see what each is worth. What a walk measured with a step is taken back with it;
//! how layers would answer other codes only another walk can tell.

use crate::assembled::bias_plan;
use crate::error::OptimizeError;
use crate::layer::{BIAS, WEIGHT, set_bias};
use crate::walk::Walked;
use quantize_ir::{Graph, NodeId, QuantPlan};

/// One kind of change that a walk makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
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
        let biases = match step {
            Step::Bias => graph.clone(),
            Step::Gain => self.with_ungained_biases()?,
        };
        for (&(node, slot), entry) in taken_back.weights.iter_mut().filter(|((_, slot), _)| *slot == WEIGHT) {
            let Some(before) = plan.weights.get(&(node, slot)) else { continue };
            if step == Step::Gain {
                entry.params.clone_from(&before.params);
            }
        }
        let coded: Vec<NodeId> = taken_back.weights.keys().filter(|(_, slot)| *slot == BIAS).map(|(n, _)| *n).collect();
        for node in coded {
            recode(&mut taken_back, &biases, node)?;
        }
        Ok((biases, taken_back))
    }

    fn with_ungained_biases(&self) -> Result<Graph, OptimizeError> {
        let mut graph = self.graph.clone();
        for (node, bias) in &self.ungained {
            set_bias(&mut graph, *node, bias.clone())?;
        }
        Ok(graph)
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
