//! The driver: folds what may be folded, selects, and takes back folds that serve no quantized node.

use crate::PassError;
use crate::affine::fold_followers;
use crate::gemm::fold_factors;
use crate::select::{Selection, select};
use crate::sum::sum_to_add;
use quantize_ir::{Graph, NodeId, Recipe};
use std::collections::BTreeSet;

/// A graph ready for calibration.
#[derive(Clone, Debug)]
pub struct Preparation {
    /// The graph after folding.
    pub graph: Graph,
    /// What will be quantized in it.
    pub selection: Selection,
    /// What was folded and why, in order, for the log.
    pub log: Vec<String>,
}

/// Prepares `graph` for a target: folds into the nodes that will be quantized, and only there, so that whatever stays
/// as it is stays exactly as it was. Nodes in `skip` neither fold nor vanish.
///
/// # Errors
/// If the graph has a cycle, a constant cannot be read, or a batch normalization makes no sense.
pub fn prepare(graph: &Graph, recipe: &dyn Recipe, skip: &BTreeSet<NodeId>) -> Result<Preparation, PassError> {
    let mut kept: BTreeSet<NodeId> = skip.clone();
    loop {
        let mut prepared = Preparation { graph: graph.clone(), selection: Selection::default(), log: Vec::new() };
        let may_vanish = |id: NodeId| !skip.contains(&id) && recipe.may_fold(graph, id);
        let folded_into = prepared.fold(&kept, &may_vanish)?;
        prepared.selection = select(&prepared.graph, recipe, skip)?;
        let in_vain: Vec<NodeId> =
            folded_into.into_iter().filter(|id| !prepared.selection.codes_constants(*id)).collect();
        if in_vain.is_empty() {
            return Ok(prepared);
        }
        kept.extend(in_vain);
    }
}

impl Preparation {
    fn fold(&mut self, kept: &BTreeSet<NodeId>, may_vanish: &dyn Fn(NodeId) -> bool) -> Result<Vec<NodeId>, PassError> {
        let mut folded_into = Vec::new();
        for id in self.graph.topological_order()? {
            if kept.contains(&id) {
                continue;
            }
            let changed = self.apply(sum_to_add(&self.graph, id))?
                | self.apply(fold_factors(&self.graph, id)?)?
                | self.apply(fold_followers(&self.graph, id, may_vanish)?)?;
            if changed {
                folded_into.push(id);
            }
        }
        Ok(folded_into)
    }

    fn apply(&mut self, patch: Option<quantize_ir::Patch>) -> Result<bool, PassError> {
        let Some(patch) = patch else { return Ok(false) };
        self.log.push(format!("{}: {}", patch.pass, patch.because));
        self.graph.apply(patch)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Builder, Target};
    use quantize_ir::op::{Binary, Unary};
    use quantize_ir::{Op, ValueId};

    fn scaled(b: &mut Builder, name: &str, x: ValueId) -> ValueId {
        let conv = b.conv(name, x);
        let c = b.constant("c", &[2, 1, 1], &[2.0, 4.0]);
        b.node(&format!("{name}_scale"), Op::Binary(Binary::Mul), &[conv, c])
    }

    #[test]
    fn folds_that_serve_no_quantized_node_are_taken_back() {
        let mut b = Builder::default();
        let x = b.input("x");
        let a = scaled(&mut b, "inner", x);
        let a = b.node("exp", Op::Unary(Unary::Exp), &[a]);
        let y = scaled(&mut b, "last", a);
        b.outputs(&[y]);
        let prepared = prepare(&b.graph, &Target, &BTreeSet::new()).unwrap();
        let left: Vec<&str> = prepared.graph.nodes().map(|(_, n)| n.name.as_str()).collect();
        assert_eq!(left, ["inner", "exp", "last", "last_scale"]);
        assert_eq!(prepared.log, ["fold-affine: `inner_scale` is part of `inner`"]);
    }

    #[test]
    fn skipped_nodes_neither_fold_nor_vanish() {
        for skip in ["inner", "inner_scale"] {
            let mut b = Builder::default();
            let x = b.input("x");
            let a = scaled(&mut b, "inner", x);
            let y = b.node("exp", Op::Unary(Unary::Exp), &[a]);
            b.outputs(&[y]);
            let prepared = prepare(&b.graph, &Target, &BTreeSet::from([b.id(skip)])).unwrap();
            assert_eq!(prepared.graph.nodes().count(), 3, "{skip}");
        }
    }
}
