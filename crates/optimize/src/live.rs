//! What is kept of a sample between two layers: the values of both branches.

use crate::error::OptimizeError;
use quantize_ir::{Graph, QuantPlan, Tensor, ValueId};
use quantize_numerics::{AffineParams, QuantType};
use std::borrow::Cow;

/// A value of the quantized branch.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    /// On no grid of 8 bits: as it is.
    Reals(Tensor),
    /// Multiples of a scale, a byte each.
    Codes(Codes),
}

/// A tensor on a grid of 8 bits.
#[derive(Clone, Debug)]
pub(crate) struct Codes {
    pub(crate) shape: Vec<usize>,
    /// Codes counted from the smallest of the grid.
    pub(crate) bytes: Vec<u8>,
    grid: AffineParams,
}

impl Codes {
    /// The byte that stands for zero.
    pub(crate) fn zero(&self) -> u8 {
        (self.grid.zero_point() - self.grid.qtype().qmin()) as u8
    }
}

impl Held {
    /// Holds a value that is on the grid the plan gives it, if it gives one; as it is, if some node reads it before it
    /// is rounded.
    fn of(graph: &Graph, value: ValueId, tensor: Tensor, plan: &QuantPlan) -> Self {
        if plan.unrounded_readers(graph, value).next().is_some() {
            return Self::Reals(tensor);
        }
        Self::rounded(value, tensor, plan)
    }

    /// Holds a value on the grid the plan gives it, if it gives one of 8 bits.
    fn rounded(value: ValueId, tensor: Tensor, plan: &QuantPlan) -> Self {
        let grid = plan.activations.get(&value).and_then(|entry| entry.params.affine(0));
        let grid = grid.filter(|g| matches!(g.qtype(), QuantType::U8 | QuantType::I8 | QuantType::I8Narrow));
        let (Some(grid), Ok(values)) = (grid, tensor.as_slice::<f32>()) else { return Self::Reals(tensor) };
        // They are multiples of the scale already: the nearest integer is not far.
        let (inverse, zero) = (grid.scale().recip(), (grid.zero_point() - grid.qtype().qmin()) as f32);
        let bytes = values.iter().map(|x| (x * inverse + zero + 0.5) as u8).collect();
        Self::Codes(Codes { shape: tensor.shape().to_vec(), bytes, grid })
    }

    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Self::Reals(tensor) => tensor.shape(),
            Self::Codes(codes) => &codes.shape,
        }
    }

    fn tensor(&self) -> Result<Tensor, OptimizeError> {
        match self {
            Self::Reals(tensor) => Ok(tensor.clone()),
            Self::Codes(Codes { shape, bytes, grid }) => {
                let (scale, zero) = (grid.scale(), (grid.zero_point() - grid.qtype().qmin()) as f32);
                let values: Vec<f32> = bytes.iter().map(|b| (f32::from(*b) - zero) * scale).collect();
                Ok(Tensor::new(shape.clone(), values)?)
            }
        }
    }
}

/// A sample on its way through the network.
#[derive(Debug, Default)]
pub(crate) struct Image {
    /// Values of the fp32 branch.
    pub(crate) reals: Vec<(ValueId, Tensor)>,
    /// Values of the branch that computes what the plan says.
    pub(crate) rounded: Vec<(ValueId, Held)>,
}

impl Image {
    /// A value of the quantized branch, as nodes on codes read it.
    pub(crate) fn rounded(&self, value: ValueId, plan: &QuantPlan) -> Option<Cow<'_, Held>> {
        let (_, held) = self.rounded.iter().find(|(v, _)| *v == value)?;
        Some(match held {
            Held::Reals(tensor) if plan.activations.contains_key(&value) => {
                Cow::Owned(Held::rounded(value, tensor.clone(), plan))
            }
            held => Cow::Borrowed(held),
        })
    }

    /// The quantized branch's values of `wanted`, as a program is fed them.
    pub(crate) fn fed(&self, wanted: &[ValueId]) -> Result<Vec<(ValueId, Tensor)>, OptimizeError> {
        let held = self.rounded.iter().filter(|(value, _)| wanted.contains(value));
        held.map(|(value, held)| Ok((*value, held.tensor()?))).collect()
    }

    /// Goes on with the fp32 branch: `computed` are the values of `targets`; what is not in `alive` is forgotten.
    pub(crate) fn advance_reals(&mut self, targets: &[ValueId], computed: Vec<Tensor>, alive: &[ValueId]) {
        self.reals.retain(|(value, _)| alive.contains(value));
        self.reals.extend(targets.iter().copied().zip(computed).filter(|(value, _)| alive.contains(value)));
    }

    /// Goes on with the quantized branch.
    pub(crate) fn advance_rounded(
        &mut self,
        targets: &[ValueId],
        computed: Vec<Tensor>,
        alive: &[ValueId],
        (graph, plan): (&Graph, &QuantPlan),
    ) {
        self.rounded.retain(|(value, _)| alive.contains(value));
        let new = targets.iter().copied().zip(computed).filter(|(value, _)| alive.contains(value));
        self.rounded.extend(new.map(|(value, tensor)| (value, Held::of(graph, value, tensor, plan))));
    }
}

/// Bytes that a sample holds of each element of `value`: those of the fp32 branch, then those of the quantized one.
pub(crate) fn element_bytes(value: ValueId, graph: &Graph, plan: &QuantPlan) -> (u64, u64) {
    let real = plan.unrounded_readers(graph, value).next().is_some();
    let narrow = plan
        .activations
        .get(&value)
        .is_some_and(|entry| matches!(entry.params.qtype(), QuantType::U8 | QuantType::I8 | QuantType::I8Narrow));
    (4, if narrow && !real { 1 } else { 4 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::{ActivationPlan, QuantParams};

    #[test]
    fn values_on_a_grid_come_back_as_they_were() {
        let value = quantize_ir::Graph::new().add_value(quantize_ir::Value::named("x"));
        for (qtype, zero) in [(QuantType::U8, 3), (QuantType::I8, -128), (QuantType::I8Narrow, 0), (QuantType::U16, 9)]
        {
            let params = QuantParams::per_tensor(qtype, 0.25, zero).unwrap();
            let grid = params.affine(0).unwrap();
            let entry = ActivationPlan { params, shares: value, method: String::new(), sqnr_db: None };
            let plan = QuantPlan { activations: [(value, entry)].into(), ..QuantPlan::default() };
            let tensor = Tensor::vector([-0.5f32, 0.0, 0.25, 40.0].map(|x| grid.dequantize(grid.quantize(x))).to_vec());
            let held = Held::rounded(value, tensor.clone(), &plan);
            assert_eq!(held.tensor().unwrap(), tensor, "{qtype}");
            assert_eq!(matches!(held, Held::Codes(_)), qtype != QuantType::U16);
        }
    }
}
