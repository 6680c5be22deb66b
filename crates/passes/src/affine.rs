//! Folding of per-channel affine operators into the convolution or matrix product before them.
//!
//! `BatchNormalization` with stored statistics, and `Mul` and `Add` with one constant for each channel, all compute
//! `y = a[c] * x + b[c]`; after a linear operator with constant weights they are new weights `a[c] * W[c]` and a new
//! bias `a[c] * bias[c] + b[c]` (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
//! Integer-Arithmetic-Only Inference", equation 14). Computed in double precision, rounded once.

use crate::PassError;
use quantize_ir::op::{Binary, FilterLayout, Layout};
use quantize_ir::shape::resolve_axis;
use quantize_ir::{Constant, Graph, GraphError, Node, NodeId, Op, Operand, Patch, PatchEdit, Tensor, ValueId};
use std::sync::Arc;

/// `y = factor[c] * x + offset[c]`.
struct Affine {
    factor: Vec<f64>,
    offset: Vec<f64>,
}

impl Affine {
    /// This one, then `next`.
    fn then(self, next: &Self) -> Self {
        let factors = self.factor.iter().zip(&next.factor);
        Self {
            factor: factors.clone().map(|(first, second)| first * second).collect(),
            offset: self
                .offset
                .iter()
                .zip(next.factor.iter().zip(&next.offset))
                .map(|(offset, (factor, added))| offset * factor + added)
                .collect(),
        }
    }
}

/// The operators that fold into one linear operator: each the only reader of the one before.
struct Followers {
    nodes: Vec<NodeId>,
    affine: Affine,
    outputs: Vec<Option<ValueId>>,
}

/// Folds what reads `id`'s result into `id`: the longest chain of per-channel affine operators of which each is all
/// that reads the one before. `may_vanish` tells whether a node may be folded away.
///
/// # Errors
/// If a constant cannot be read, or a variance is not positive.
pub fn fold_followers(
    graph: &Graph,
    id: NodeId,
    may_vanish: &dyn Fn(NodeId) -> bool,
) -> Result<Option<Patch>, PassError> {
    let Some(linear) = Linear::of(graph, id)? else { return Ok(None) };
    let Some(followers) = linear.followers(graph, may_vanish)? else { return Ok(None) };
    let mut edits: Vec<PatchEdit> = followers.nodes.iter().rev().map(|n| PatchEdit::Remove { node: *n }).collect();
    let inputs = linear.scaled_operands(&followers.affine)?;
    edits.push(PatchEdit::Rewire { node: id, op: linear.op.clone(), inputs, outputs: followers.outputs });
    let names: Vec<String> = followers.nodes.iter().map(|n| format!("`{}`", graph.label(*n))).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    let because = format!("{} {verb} part of `{}`", names.join(", "), graph.label(id));
    Ok(Some(Patch { pass: "fold-affine", because, edits }))
}

/// A linear operator with constant weights.
struct Linear {
    op: Op,
    x: ValueId,
    /// Read only if something folds into it.
    weight: Constant,
    weight_name: String,
    bias: Option<(Arc<Tensor>, String)>,
    label: String,
    result: ValueId,
    axis: usize,
    channels: usize,
    /// Where the channels stand in the result, from the end; `None` if the result's rank decides (channels first).
    trailing: bool,
}

impl Linear {
    fn of(graph: &Graph, id: NodeId) -> Result<Option<Self>, PassError> {
        let Some(node) = graph.node(id) else { return Ok(None) };
        let (axis, trailing) = match &node.op {
            Op::Conv(c) if c.filter == FilterLayout::OutputFirst => (0, c.layout == Layout::ChannelsLast),
            Op::Conv(c) => (-1, c.layout == Layout::ChannelsLast),
            Op::Gemm(g) if g.alpha == 1.0 && g.beta == 1.0 => (if g.trans_b { 0 } else { 1 }, true),
            _ => return Ok(None),
        };
        let (Some(x), Some(w), Some(result)) = (node.input(0), node.input(1), node.output(0)) else {
            return Ok(None);
        };
        let Some(weight) = graph.value(w).constant.clone() else { return Ok(None) };
        let Ok(axis) = resolve_axis(axis, weight.shape().len()) else { return Ok(None) };
        let channels = weight.shape()[axis];
        let bias = match node.input(2) {
            None => None,
            Some(b) => match graph.constant(b)? {
                Some(tensor) if tensor.shape() == [channels] => Some((tensor, graph.value(b).name.clone())),
                _ => return Ok(None),
            },
        };
        let weight_name = graph.value(w).name.clone();
        let label = graph.label(id);
        Ok(Some(Self { op: node.op.clone(), x, weight, weight_name, bias, label, result, axis, channels, trailing }))
    }

    fn followers(&self, graph: &Graph, may_vanish: &dyn Fn(NodeId) -> bool) -> Result<Option<Followers>, PassError> {
        let mut found: Option<Followers> = None;
        let mut result = self.result;
        while let Some((id, slot)) = graph.sole_consumer(result).filter(|(id, _)| may_vanish(*id)) {
            let Some(node) = graph.node(id) else { break };
            let Some(affine) = self.affine_of(graph, id, node, slot)? else { break };
            let outputs = node.outputs.get(..1).map(<[_]>::to_vec).unwrap_or_default();
            let next = outputs.first().copied().flatten();
            found = Some(match found {
                None => Followers { nodes: vec![id], affine, outputs },
                Some(Followers { mut nodes, affine: before, .. }) => {
                    nodes.push(id);
                    Followers { nodes, affine: before.then(&affine), outputs }
                }
            });
            let Some(next) = next else { break };
            result = next;
        }
        Ok(found)
    }

    fn affine_of(&self, graph: &Graph, id: NodeId, node: &Node, slot: usize) -> Result<Option<Affine>, PassError> {
        match &node.op {
            Op::BatchNorm(bn) if slot == 0 && (bn.axis == 1) != self.trailing => {
                self.batch_norm(graph, id, node, bn.epsilon)
            }
            Op::Binary(Binary::Mul) => {
                let factor = self.channel_constant(graph, node.input(1 - slot.min(1)))?;
                Ok(factor.map(|factor| Affine { offset: vec![0.0; factor.len()], factor }))
            }
            Op::Binary(Binary::Add) => {
                let offset = self.channel_constant(graph, node.input(1 - slot.min(1)))?;
                Ok(offset.map(|offset| Affine { factor: vec![1.0; offset.len()], offset }))
            }
            _ => Ok(None),
        }
    }

    fn batch_norm(&self, graph: &Graph, id: NodeId, node: &Node, epsilon: f32) -> Result<Option<Affine>, PassError> {
        let mut parameters = Vec::with_capacity(4);
        for slot in 1..5 {
            let tensor = node.input(slot).map(|v| graph.constant(v)).transpose()?.flatten();
            let Some(tensor) = tensor.filter(|t| t.shape() == [self.channels]) else { return Ok(None) };
            parameters.push(to_f64(&tensor)?);
        }
        let [scale, bias, mean, variance] = parameters.as_slice() else { return Ok(None) };
        let mut affine =
            Affine { factor: Vec::with_capacity(self.channels), offset: Vec::with_capacity(self.channels) };
        for c in 0..self.channels {
            let deviation = variance[c] + f64::from(epsilon);
            if deviation.is_nan() || deviation <= 0.0 {
                let variance = variance[c] as f32;
                return Err(PassError::Variance { node: graph.label(id), channel: c, variance, epsilon });
            }
            let factor = scale[c] / deviation.sqrt();
            affine.factor.push(factor);
            affine.offset.push(bias[c] - mean[c] * factor);
        }
        Ok(Some(affine))
    }

    /// The elements of a constant that has one for each output channel, or one for all.
    fn channel_constant(&self, graph: &Graph, value: Option<ValueId>) -> Result<Option<Vec<f64>>, PassError> {
        let Some(value) = value else { return Ok(None) };
        let Some(tensor) = graph.constant(value)? else { return Ok(None) };
        if tensor.as_slice::<f32>().is_err() {
            return Ok(None);
        }
        let values = to_f64(&tensor)?;
        if values.len() == 1 && tensor.rank() <= self.weight.shape().len() {
            return Ok(Some(vec![values[0]; self.channels]));
        }
        Ok((self.lies_along_channels(tensor.shape())).then_some(values))
    }

    /// Whether a constant of this shape, broadcast to the result, varies along the channel axis only.
    fn lies_along_channels(&self, shape: &[usize]) -> bool {
        let rank = self.weight.shape().len();
        let from_end = if self.trailing { 0 } else { rank.saturating_sub(2) };
        let expected = |i: usize| if i == from_end { self.channels } else { 1 };
        shape.len() > from_end && shape.len() <= rank && shape.iter().rev().enumerate().all(|(i, d)| *d == expected(i))
    }

    fn scaled_operands(&self, affine: &Affine) -> Result<Vec<Operand>, PassError> {
        let weight = self.weight.tensor()?;
        let weight = weight.as_slice::<f32>().map_err(GraphError::from)?;
        let inner: usize = self.weight.shape()[self.axis + 1..].iter().product();
        let channel = |i: usize| (i / inner.max(1)) % self.channels;
        let scaled =
            weight.iter().enumerate().map(|(i, w)| (f64::from(*w) * affine.factor[channel(i)]) as f32).collect();
        let tensor = Tensor::new(self.weight.shape(), scaled).map_err(GraphError::from)?;
        let weight_operand = Operand::Constant { name: self.weight_name.clone(), tensor };
        let old = match &self.bias {
            Some((bias, _)) => to_f64(bias)?,
            None => vec![0.0; self.channels],
        };
        let bias = (0..self.channels).map(|c| (old[c] * affine.factor[c] + affine.offset[c]) as f32).collect();
        let name = self.bias.as_ref().map_or_else(|| format!("{}_bias", self.label), |(_, name)| name.clone());
        let bias_operand = Operand::Constant { name, tensor: Tensor::vector(bias) };
        Ok(vec![Operand::Value(self.x), weight_operand, bias_operand])
    }
}

fn to_f64(tensor: &Tensor) -> Result<Vec<f64>, PassError> {
    Ok(tensor.as_slice::<f32>().map_err(GraphError::from)?.iter().map(|v| f64::from(*v)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Builder;
    use quantize_ir::op::BatchNorm;

    const BN: Op = Op::BatchNorm(BatchNorm { epsilon: 0.0, axis: 1 });

    fn batch_norm(b: &mut Builder, x: ValueId, variance: [f32; 2]) -> ValueId {
        let parameters = [("scale", [2.0, 3.0]), ("bias", [0.5, -0.5]), ("mean", [1.0, 2.0]), ("var", variance)];
        let mut inputs = vec![x];
        inputs.extend(parameters.map(|(name, data)| b.constant(name, &[2], &data)));
        b.node("bn", BN, &inputs)
    }

    fn fold(b: &mut Builder) -> Result<bool, PassError> {
        let patch = fold_followers(&b.graph, b.id("conv"), &|_| true)?;
        let folded = patch.is_some();
        patch.map(|p| b.graph.apply(p)).transpose()?;
        Ok(folded)
    }

    fn elements(b: &Builder, slot: usize) -> Vec<f32> {
        let value = b.graph.node(b.id("conv")).unwrap().input(slot).unwrap();
        b.graph.constant(value).unwrap().unwrap().as_slice::<f32>().unwrap().to_vec()
    }

    #[test]
    fn batch_normalization_folds_into_weight_and_bias() {
        let mut b = Builder::default();
        let x = b.input("x");
        let y = b.conv("conv", x);
        let y = batch_norm(&mut b, y, [4.0, 9.0]);
        b.outputs(&[y]);
        assert_eq!(fold(&mut b), Ok(true));
        assert_eq!(elements(&b, 1), [1.0, 2.0, 3.0, 4.0], "factors are 2/2 and 3/3");
        assert_eq!(elements(&b, 2), [-0.5, -2.5]);
        assert_eq!(b.graph.producer(y).unwrap().0, b.id("conv"));
        assert_eq!(fold(&mut b), Ok(false));
    }

    #[test]
    fn a_variance_that_makes_no_sense_is_named() {
        for variance in [0.0, -1.0, f32::NAN] {
            let mut b = Builder::default();
            let x = b.input("x");
            let y = b.conv("conv", x);
            batch_norm(&mut b, y, [1.0, variance]);
            let error = fold(&mut b).unwrap_err();
            assert!(matches!(error, PassError::Variance { channel: 1, .. }), "{error}");
        }
    }

    #[test]
    fn channel_constants_fold_and_others_do_not() {
        let cases: [(&str, &[usize], bool); 6] = [
            ("per channel", &[2, 1, 1], true),
            ("per channel, full rank", &[1, 2, 1, 1], true),
            ("scalar", &[], true),
            ("along width", &[2], false),
            ("raises the rank", &[1, 1, 2, 1, 1], false),
            ("per element", &[2, 2, 1], false),
        ];
        for (name, shape, folds) in cases {
            for op in [Binary::Add, Binary::Mul] {
                let mut b = Builder::default();
                let x = b.input("x");
                let y = b.conv("conv", x);
                let data = vec![2.0; shape.iter().product()];
                let c = b.constant("c", shape, &data);
                b.node("affine", Op::Binary(op), &[c, y]);
                assert_eq!(fold(&mut b), Ok(folds), "{name} {op:?}");
            }
        }
    }

    #[test]
    fn a_chain_folds_at_once_with_one_rounding() {
        let mut b = Builder::default();
        let x = b.input("x");
        let y = b.conv("conv", x);
        let mut y = batch_norm(&mut b, y, [4.0, 9.0]);
        for (name, op, value) in
            [("mul", Binary::Mul, 1.0 / 3.0), ("add", Binary::Add, 1.0), ("again", Binary::Mul, 3.0)]
        {
            let c = b.constant("c", &[2, 1, 1], &[value; 2]);
            y = b.node(name, Op::Binary(op), &[y, c]);
        }
        b.outputs(&[y]);
        assert_eq!(fold(&mut b), Ok(true));
        assert_eq!(b.graph.nodes().count(), 1);
        assert_eq!(elements(&b, 1), [1.0, 2.0, 3.0, 4.0], "a third in single precision, times three, rounds to one");
        let close = |(found, expected): (f32, f32)| (found - expected).abs() < 1e-6;
        assert!(elements(&b, 2).into_iter().zip([2.5, 0.5]).all(close));
        assert_eq!(b.graph.producer(y).unwrap().0, b.id("conv"));
    }

    #[test]
    fn a_result_with_two_readers_stays() {
        let mut b = Builder::default();
        let x = b.input("x");
        let y = b.conv("conv", x);
        batch_norm(&mut b, y, [1.0, 1.0]);
        b.outputs(&[y]);
        assert_eq!(fold(&mut b), Ok(false));
    }
}
