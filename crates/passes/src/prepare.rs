//! The driver: folds what may be folded, selects, and takes back folds that serve no quantized node.

use crate::PassError;
use crate::affine::fold_followers;
use crate::gemm::fold_factors;
use crate::padding::fold_padding;
use crate::select::{Selection, select};
use crate::sum::sum_to_add;
use quantize_ir::{Graph, NodeId, Patch, Recipe, Reversal};
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
pub fn prepare(graph: Graph, recipe: &dyn Recipe, skip: &BTreeSet<NodeId>) -> Result<Preparation, PassError> {
    let mut folding = Folding { graph, recipe, skip, done: Vec::new() };
    let mut kept = skip.clone();
    loop {
        folding.fold(&kept)?;
        let selection = select(&folding.graph, recipe, skip)?;
        let in_vain = |fold: &&Fold| !selection.codes_constants(fold.into);
        let in_vain: Vec<NodeId> = folding.done.iter().filter(in_vain).map(|fold| fold.into).collect();
        if in_vain.is_empty() {
            let log = folding.done.into_iter().map(|fold| fold.entry).collect();
            return Ok(Preparation { graph: folding.graph, selection, log });
        }
        kept.extend(in_vain);
        folding.take_back()?;
    }
}

/// A graph and what has been folded in it, in order.
struct Folding<'a> {
    graph: Graph,
    recipe: &'a dyn Recipe,
    skip: &'a BTreeSet<NodeId>,
    done: Vec<Fold>,
}

/// A patch that was applied.
struct Fold {
    /// The node that computes more now.
    into: NodeId,
    /// What the log says of it.
    entry: String,
    reversal: Reversal,
}

impl Folding<'_> {
    /// Folds into every node but those that are `kept`.
    fn fold(&mut self, kept: &BTreeSet<NodeId>) -> Result<(), PassError> {
        for id in self.graph.topological_order()? {
            if !kept.contains(&id) {
                self.apply(id, sum_to_add(&self.graph, id))?;
                self.apply(id, fold_factors(&self.graph, id)?)?;
                let may_vanish = |id: NodeId| !self.skip.contains(&id) && self.recipe.may_fold(&self.graph, id);
                self.apply(id, fold_followers(&self.graph, id, &may_vanish)?)?;
                if self.recipe.takes_padding(&self.graph, id) {
                    let may_vanish = |id: NodeId| !self.skip.contains(&id);
                    self.apply(id, fold_padding(&self.graph, id, &may_vanish)?)?;
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, into: NodeId, patch: Option<Patch>) -> Result<(), PassError> {
        if let Some(patch) = patch {
            let entry = format!("{}: {}", patch.pass, patch.because);
            self.done.push(Fold { into, entry, reversal: self.graph.apply(patch)? });
        }
        Ok(())
    }

    fn take_back(&mut self) -> Result<(), PassError> {
        while let Some(fold) = self.done.pop() {
            self.graph.revert(fold.reversal)?;
        }
        Ok(())
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
        let prepared = prepare(b.graph.clone(), &Target, &BTreeSet::new()).unwrap();
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
            let prepared = prepare(b.graph.clone(), &Target, &BTreeSet::from([b.id(skip)])).unwrap();
            assert_eq!(prepared.graph.nodes().count(), 3, "{skip}");
        }
    }
}
