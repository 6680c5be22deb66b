//! Folding of `Gemm` factors: `alpha` goes into the weight, `beta` into the bias, and the bias becomes a vector with
//! one element for each output column, the only form integer kernels take.

use crate::PassError;
use quantize_ir::op::Gemm;
use quantize_ir::{Graph, NodeId, Op, Operand, Patch, PatchEdit, Tensor};

/// Folds the factors of `id` if it is a `Gemm` with constant weight and bias that needs it.
///
/// # Errors
/// If a constant cannot be read.
pub fn fold_factors(graph: &Graph, id: NodeId) -> Result<Option<Patch>, PassError> {
    let Some(node) = graph.node(id) else { return Ok(None) };
    let Op::Gemm(gemm) = node.op else { return Ok(None) };
    let (Some(x), Some(w)) = (node.input(0), node.input(1)) else { return Ok(None) };
    let Some(weight) = &graph.value(w).constant else { return Ok(None) };
    let Some(columns) = weight.shape().get(if gemm.trans_b { 0 } else { 1 }).copied() else { return Ok(None) };
    let bias = node.input(2).map(|b| graph.constant(b)).transpose()?.flatten();
    if node.input(2).is_some() && bias.is_none() {
        return Ok(None);
    }
    let plain_bias = bias.as_ref().is_none_or(|b| b.shape() == [columns]);
    if gemm.alpha == 1.0 && gemm.beta == 1.0 && plain_bias {
        return Ok(None);
    }
    let weight_operand = if gemm.alpha == 1.0 {
        Operand::Value(w)
    } else {
        Operand::Constant { name: graph.value(w).name.clone(), tensor: scaled(&*weight.tensor()?, gemm.alpha)? }
    };
    let bias_operand = match (&bias, node.input(2)) {
        (Some(tensor), Some(b)) => {
            let Some(vector) = bias_vector(tensor, columns, gemm.beta)? else { return Ok(None) };
            Operand::Constant { name: graph.value(b).name.clone(), tensor: vector }
        }
        _ => Operand::Absent,
    };
    Ok(Some(Patch {
        pass: "fold-gemm-factors",
        because: format!(
            "alpha {} and beta {} of `{}` fold into its constants",
            gemm.alpha,
            gemm.beta,
            graph.label(id)
        ),
        edits: vec![PatchEdit::Rewire {
            node: id,
            op: Op::Gemm(Gemm { alpha: 1.0, beta: 1.0, ..gemm }),
            inputs: vec![Operand::Value(x), weight_operand, bias_operand],
            outputs: node.outputs.clone(),
        }],
    }))
}

fn scaled(tensor: &Tensor, factor: f32) -> Result<Tensor, PassError> {
    let data = tensor.as_slice::<f32>().map_err(quantize_ir::GraphError::from)?;
    let data = data.iter().map(|v| (f64::from(*v) * f64::from(factor)) as f32).collect();
    Ok(Tensor::new(tensor.shape(), data).map_err(quantize_ir::GraphError::from)?)
}

/// `factor * bias` as a vector of `columns`, unless the bias differs between rows.
fn bias_vector(bias: &Tensor, columns: usize, factor: f32) -> Result<Option<Tensor>, PassError> {
    let same_for_all_rows = bias.shape().iter().rev().skip(1).all(|d| *d == 1);
    if !same_for_all_rows || (bias.len() != columns && bias.len() != 1) {
        return Ok(None);
    }
    let data = bias.as_slice::<f32>().map_err(quantize_ir::GraphError::from)?;
    let vector =
        (0..columns).map(|i| (f64::from(data[if data.len() == 1 { 0 } else { i }]) * f64::from(factor)) as f32);
    Ok(Some(Tensor::vector(vector.collect())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::{Constant, DType, Node, Origin, Value};

    fn gemm_graph(alpha: f32, beta: f32, bias: Tensor) -> (Graph, NodeId) {
        let mut graph = Graph::new();
        let origin = Origin::Synthesized { pass: "test", from: vec![] };
        let x = graph.add_value(Value::named("x"));
        let weight = Tensor::new(vec![2, 3], vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let w = graph.add_constant("w", Constant::owned(weight), DType::F32, origin.clone());
        let b = graph.add_constant("b", Constant::owned(bias), DType::F32, origin.clone());
        let y = graph.add_value(Value::named("y"));
        let op = Op::Gemm(Gemm { alpha, beta, trans_a: false, trans_b: false });
        let inputs = vec![Some(x), Some(w), Some(b)];
        let node = Node { name: "fc".into(), op, inputs, outputs: vec![Some(y)], after: vec![], origin };
        let id = graph.add_node(node).unwrap();
        (graph, id)
    }

    #[test]
    fn factors_move_into_the_constants() {
        let (mut graph, id) = gemm_graph(0.5, 2.0, Tensor::new(vec![1, 1], vec![3f32]).unwrap());
        let patch = fold_factors(&graph, id).unwrap().unwrap();
        graph.apply(patch).unwrap();
        let node = graph.node(id).unwrap();
        assert_eq!(node.op, Op::Gemm(Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false }));
        let weight = graph.constant(node.input(1).unwrap()).unwrap().unwrap();
        assert_eq!(weight.as_slice::<f32>().unwrap(), [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]);
        let bias = graph.constant(node.input(2).unwrap()).unwrap().unwrap();
        assert_eq!((bias.shape(), bias.as_slice::<f32>().unwrap()), (&[3usize][..], &[6.0f32, 6.0, 6.0][..]));
        assert!(fold_factors(&graph, id).unwrap().is_none());
    }

    #[test]
    fn a_bias_that_differs_between_rows_stays() {
        let (graph, id) = gemm_graph(1.0, 2.0, Tensor::new(vec![2, 1], vec![3f32, 4.0]).unwrap());
        assert!(fold_factors(&graph, id).unwrap().is_none());
    }
}
