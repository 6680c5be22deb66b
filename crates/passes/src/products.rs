//! Which products leave their results real.
//!
//! Rounding a sum costs accuracy, and what reads it between two products (a bias, a softmax, a normalization, a
//! residual) is cheap on reals. So where the recipe prefers it, a product leaves its result real, unless another product
//! reads the codes, at once or through what only moves or bounds them.

use crate::select::activation_operands;
use quantize_ir::{Graph, NodeId, Recipe, Support, ValueId};

/// Results of products that stay real. `order` is a topological order of the nodes, `support` what the target can do
/// with each.
pub(crate) fn products_left_real<'a>(
    graph: &'a Graph,
    order: &'a [NodeId],
    recipe: &'a dyn Recipe,
    support: &'a dyn Fn(NodeId) -> Option<&'a Support>,
) -> impl Iterator<Item = ValueId> + 'a {
    let read = read_as_codes(graph, order, support);
    let product =
        move |id: &&NodeId| support(**id) == Some(&Support::Anchor) && recipe.prefers_real_result(graph, **id);
    let products = order.iter().filter(product).filter_map(|id| graph.node(*id));
    products.flat_map(|node| node.outputs.iter().flatten().copied()).filter(move |v| !read[v.index()])
}

/// For each value whether a product reads its codes. Each node is looked at once, readers before what they read.
fn read_as_codes<'a>(graph: &Graph, order: &[NodeId], support: &dyn Fn(NodeId) -> Option<&'a Support>) -> Vec<bool> {
    let mut read = vec![false; graph.value_count()];
    for id in order.iter().rev() {
        let Some(node) = graph.node(*id) else { continue };
        match support(*id) {
            Some(Support::Anchor) => activation_operands(graph, node).for_each(|v| read[v.index()] = true),
            Some(Support::Carries | Support::Absorbed) if node.outputs.iter().flatten().any(|v| read[v.index()]) => {
                node.input(0).into_iter().for_each(|v| read[v.index()] = true);
            }
            _ => {}
        }
    }
    read
}
