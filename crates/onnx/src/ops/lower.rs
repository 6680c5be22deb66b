//! Shared operators that ONNX says in several nodes, or in another form: each as steps that [`super::emit`] can write.
//!
//! Channels-last layouts become transpositions, weights with their outputs last are turned around, convolutions that
//! round up get explicit padding, softmax over several axes is flattened, responses within a channel are normalized by
//! a mean over windows. Pools are not among them: rounding up drops a window that starts beyond the input, and counted
//! padding ends where the padding does, in onnxruntime as here. What to do with the steps is the caller's business.

use crate::names::Names;
use quantize_ir::op::{
    AveragePool, BatchNorm, Binary, Conv, ConvTranspose, DepthToSpace, FilterLayout, Flatten, Layout, LpPool, Lrn,
    LrnRegion, MaxPool, Padding, Reshape, Rounding, ShapeOf, Softmax, SpaceToDepth, Transpose, Window,
};
use quantize_ir::shape::{resolve_axis, resolve_window};
use quantize_ir::{Op, Shape, Tensor, TensorData};
use std::sync::Arc;

/// One node to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) op: Op,
    /// What it does for the node it belongs to; empty for the step that keeps the node's name.
    pub(crate) part: &'static str,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
}

/// What stands for one node: steps in order, and the constants they read besides the node's own.
#[derive(Debug, Default)]
pub(crate) struct Lowered {
    pub(crate) steps: Vec<Step>,
    pub(crate) constants: Vec<(String, Tensor)>,
}

/// What is known of a node's operands before it runs.
pub(crate) trait Operands {
    /// Number of dimensions of operand `slot`.
    fn rank(&self, slot: usize) -> Option<usize>;
    /// Dimensions of operand `slot`.
    fn shape(&self, slot: usize) -> Option<Shape>;
    /// Elements of operand `slot`, if it is a constant that can be read.
    fn constant(&self, slot: usize) -> Option<Arc<Tensor>>;
}

const NEEDS_RANK: &str = "the number of dimensions of its operand is not known";
const NEEDS_SIZES: &str = "it keeps a last partial window, and the sizes of its operand are not known";
const INDICES_LAST: &str = "it gives indices with channels last, which ONNX cannot";

/// The steps that stand for a node of `op` with these operands and results, an absent one being empty.
///
/// # Errors
/// If ONNX cannot say it, or only with sizes that are not known.
pub(crate) fn lower(
    op: &Op,
    inputs: Vec<String>,
    outputs: Vec<String>,
    known: &dyn Operands,
    names: &mut Names,
) -> Result<Lowered, String> {
    let mut site = Site { known, names, inputs, outputs, lowered: Lowered::default() };
    match op {
        Op::Conv(c) => site.conv(c)?,
        Op::ConvTranspose(c) => site.conv_transpose(c)?,
        Op::Lrn(l) if l.region == LrnRegion::Within => site.lrn_within(*l)?,
        Op::Softmax(s) if s.flatten => site.flattened_softmax(*s),
        Op::Identity => site.identity(),
        op => match channels_first(op, site.known.rank(0))? {
            Some((first, axis, rank)) => site.transposed(first, axis, rank)?,
            None => site.main(op.clone()),
        },
    }
    Ok(site.lowered)
}

/// The channels-first form of an operator with channels last, where its channels stand, and its rank; `None` if the
/// operator can be written as it is. Below rank 3 both layouts are the same.
fn channels_first(op: &Op, rank: Option<usize>) -> Result<Option<(Op, usize, usize)>, String> {
    let first = Layout::ChannelsFirst;
    let last = |layout, rank: usize, op| Ok((layout == Layout::ChannelsLast).then_some((op, rank - 1, rank)));
    match op {
        Op::MaxPool(p) => last(p.layout, p.kernel.len() + 2, Op::MaxPool(MaxPool { layout: first, ..p.clone() })),
        Op::AveragePool(p) => {
            last(p.layout, p.kernel.len() + 2, Op::AveragePool(AveragePool { layout: first, ..p.clone() }))
        }
        Op::LpPool(p) => last(p.layout, p.kernel.len() + 2, Op::LpPool(LpPool { layout: first, ..p.clone() })),
        Op::DepthToSpace(d) => last(d.layout, 4, Op::DepthToSpace(DepthToSpace { layout: first, ..*d })),
        Op::SpaceToDepth(d) => last(d.layout, 4, Op::SpaceToDepth(SpaceToDepth { layout: first, ..*d })),
        Op::BatchNorm(b) if b.axis != 1 => {
            let rank = rank.ok_or(NEEDS_RANK)?;
            let axis = resolve_axis(b.axis, rank).map_err(|e| e.to_string())?;
            Ok(Some((Op::BatchNorm(BatchNorm { axis: 1, ..*b }), axis, rank)))
        }
        _ => Ok(None),
    }
}

/// A node being lowered.
struct Site<'a> {
    known: &'a dyn Operands,
    names: &'a mut Names,
    inputs: Vec<String>,
    outputs: Vec<String>,
    lowered: Lowered,
}

impl Site<'_> {
    fn operand(&self, slot: usize) -> String {
        self.inputs.get(slot).cloned().unwrap_or_default()
    }

    fn result(&self) -> String {
        self.outputs.first().cloned().unwrap_or_default()
    }

    fn fresh(&mut self, part: &str) -> String {
        let wanted = format!("{}_{part}", self.result());
        self.names.fresh(&wanted)
    }

    /// A step with a result of its own, whose name is returned.
    fn step(&mut self, part: &'static str, op: Op, inputs: &[&str]) -> String {
        let result = self.fresh(part);
        let inputs = inputs.iter().map(|name| (*name).to_owned()).collect();
        self.lowered.steps.push(Step { op, part, inputs, outputs: vec![result.clone()] });
        result
    }

    /// The step that keeps the node's name, with the node's operands and results as they are by now.
    fn main(&mut self, op: Op) {
        let (inputs, outputs) = (self.inputs.clone(), self.outputs.clone());
        self.lowered.steps.push(Step { op, part: "", inputs, outputs });
    }

    fn constant(&mut self, part: &str, tensor: Tensor) -> String {
        let name = self.fresh(part);
        self.lowered.constants.push((name.clone(), tensor));
        name
    }

    /// Operand `slot` with its axes permuted: a constant at once, anything else by a step.
    fn permute_operand(&mut self, slot: usize, part: &'static str, perm: Vec<usize>) {
        let permuted = match self.known.constant(slot).and_then(|tensor| permuted(&tensor, &perm)) {
            Some(tensor) => self.constant(part, tensor),
            None => {
                let operand = self.operand(slot);
                self.step(part, Op::Transpose(Transpose { perm }), &[&operand])
            }
        };
        if let Some(operand) = self.inputs.get_mut(slot) {
            *operand = permuted;
        }
    }

    /// `op` on the operand with axis `axis` moved to place 1, and its result moved back.
    fn transposed(&mut self, op: Op, axis: usize, rank: usize) -> Result<(), String> {
        if axis == 1 {
            self.main(op);
            return Ok(());
        }
        if self.outputs.iter().skip(1).any(|name| !name.is_empty()) {
            return Err(INDICES_LAST.into());
        }
        if rank < 2 {
            return Err("it has no batch axis before its channels".into());
        }
        let mut perm: Vec<usize> = (0..rank).filter(|i| *i != axis).collect();
        perm.insert(1, axis);
        let back = inverse(&perm);
        self.permute_operand(0, "channels_first", perm);
        let wanted = self.result();
        let result = self.fresh("channels_first_result");
        self.outputs = vec![result.clone()];
        self.main(op);
        let back = Op::Transpose(Transpose { perm: back });
        self.lowered.steps.push(Step { op: back, part: "channels_last", inputs: vec![result], outputs: vec![wanted] });
        Ok(())
    }

    fn laid_out(&mut self, op: Op, layout: Layout) -> Result<(), String> {
        if layout == Layout::ChannelsFirst {
            self.main(op);
            return Ok(());
        }
        let rank = self.known.rank(0).or_else(|| self.known.rank(1)).ok_or(NEEDS_RANK)?;
        if rank < 3 {
            self.main(op);
            return Ok(());
        }
        self.transposed(op, rank - 1, rank)
    }

    fn conv(&mut self, c: &Conv) -> Result<(), String> {
        let window = self.rounding_down(c)?;
        self.output_first(c.filter)?;
        let (layout, filter) = (Layout::ChannelsFirst, FilterLayout::OutputFirst);
        self.laid_out(Op::Conv(Conv { window, group: c.group, layout, filter }), c.layout)
    }

    /// Transposed convolutions have no partial windows, so rounding says nothing about them.
    fn conv_transpose(&mut self, c: &ConvTranspose) -> Result<(), String> {
        self.output_first(c.filter)?;
        let first = ConvTranspose {
            window: Window { rounding: Rounding::Floor, ..c.window.clone() },
            layout: Layout::ChannelsFirst,
            filter: FilterLayout::OutputFirst,
            ..c.clone()
        };
        self.laid_out(Op::ConvTranspose(first.into()), c.layout)
    }

    fn output_first(&mut self, filter: FilterLayout) -> Result<(), String> {
        if filter == FilterLayout::OutputFirst {
            return Ok(());
        }
        match self.known.rank(1).or_else(|| self.known.rank(0)).ok_or(NEEDS_RANK)? {
            0 | 1 => {}
            rank => {
                let perm = [rank - 1, rank - 2].into_iter().chain(0..rank - 2).collect();
                self.permute_operand(1, "output_first", perm);
            }
        }
        Ok(())
    }

    /// The window of a convolution in a form that rounds down: a last partial window becomes padding at the end.
    fn rounding_down(&self, c: &Conv) -> Result<Window, String> {
        let floor = Window { rounding: Rounding::Floor, ..c.window.clone() };
        if c.window.rounding == Rounding::Floor || matches!(c.window.padding, Padding::SameUpper | Padding::SameLower) {
            return Ok(floor);
        }
        let sizes = self.sizes(0).ok_or(NEEDS_SIZES)?;
        let weight = self.sizes(1).ok_or("its weight has no known shape")?;
        let spatial = match (c.layout, sizes.as_slice()) {
            (Layout::ChannelsFirst, [_, _, spatial @ ..]) | (Layout::ChannelsLast, [_, spatial @ .., _]) => spatial,
            _ => return Err(NEEDS_RANK.into()),
        };
        let kernel = match (c.filter, weight.as_slice()) {
            (FilterLayout::OutputFirst, [_, _, kernel @ ..]) => kernel.to_vec(),
            (FilterLayout::OutputLast, [kernel @ .., _, _]) => kernel.to_vec(),
            _ => return Err(NEEDS_RANK.into()),
        };
        let axes = resolve_window(&c.window, &kernel, spatial).map_err(|e| e.to_string())?;
        let end = axes.iter().zip(spatial).map(|(axis, input)| {
            let last = axis.output.saturating_sub(1).saturating_mul(axis.stride);
            let extent = axis.kernel.saturating_sub(1).saturating_mul(axis.dilation).saturating_add(1);
            last.saturating_add(extent).saturating_sub(input.saturating_add(axis.pad_begin))
        });
        let padding = Padding::Explicit { begin: axes.iter().map(|a| a.pad_begin).collect(), end: end.collect() };
        Ok(Window { padding, ..floor })
    }

    /// The dimensions of operand `slot`, those of the batch, if not known, as 0.
    fn sizes(&self, slot: usize) -> Option<Vec<usize>> {
        let shape = self.known.shape(slot)?;
        let size = |(axis, dim): (usize, &quantize_ir::Dim)| match dim.known() {
            Some(n) => usize::try_from(n).ok(),
            None => (axis == 0).then_some(0),
        };
        shape.iter().enumerate().map(size).collect()
    }

    /// `x / (bias + alpha * mean) ^ beta`; a mean that counts its padding divides by a whole window everywhere.
    fn lrn_within(&mut self, l: Lrn) -> Result<(), String> {
        let rank = self.known.rank(0).filter(|rank| *rank >= 2).ok_or(NEEDS_RANK)?;
        let x = self.operand(0);
        let square = self.step("square", Op::Binary(Binary::Mul), &[&x, &x]);
        let mean = match mean_window(l.size, rank - 2) {
            Some(pool) => self.step("mean", Op::AveragePool(pool), &[&square]),
            None => square,
        };
        let [alpha, beta, bias] = [("alpha", l.alpha), ("beta", l.beta), ("bias", l.bias)]
            .map(|(part, value)| self.constant(part, Tensor::scalar(value)));
        let scaled = self.step("scaled", Op::Binary(Binary::Mul), &[&mean, &alpha]);
        let base = self.step("base", Op::Binary(Binary::Add), &[&scaled, &bias]);
        let divisor = self.step("divisor", Op::Binary(Binary::Pow), &[&base, &beta]);
        self.inputs = vec![x, divisor];
        self.main(Op::Binary(Binary::Div));
        Ok(())
    }

    /// Before opset 13 softmax ran over all axes from `axis` on together. Flattening, and giving the shape back,
    /// says the same for operands of any rank.
    fn flattened_softmax(&mut self, s: Softmax) {
        let (x, wanted) = (self.operand(0), self.result());
        let shape = self.step("shape", Op::Shape(ShapeOf { start: 0, end: None }), &[&x]);
        let flat = self.step("flat", Op::Flatten(Flatten { axis: s.axis }), &[&x]);
        let result = self.fresh("flat_result");
        (self.inputs, self.outputs) = (vec![flat], vec![result.clone()]);
        self.main(Op::Softmax(Softmax { axis: -1, flatten: false, log: s.log }));
        let op = Op::Reshape(Reshape { allow_zero: false });
        self.lowered.steps.push(Step { op, part: "unflat", inputs: vec![result, shape], outputs: vec![wanted] });
    }

    /// What else dropout has among its operands means nothing when a model is used.
    fn identity(&mut self) {
        self.inputs.truncate(1);
        self.main(Op::Identity);
    }
}

/// The mean over `size` elements around each along `axes` spatial axes; `None` if that is the element itself.
fn mean_window(size: usize, axes: usize) -> Option<AveragePool> {
    let padding = Padding::Explicit { begin: vec![size.saturating_sub(1) / 2; axes], end: vec![size / 2; axes] };
    let window = Window { strides: Vec::new(), dilations: Vec::new(), padding, rounding: Rounding::Floor };
    let pool = AveragePool { kernel: vec![size; axes], window, count_include_pad: true, layout: Layout::ChannelsFirst };
    (axes > 0).then_some(pool)
}

fn inverse(perm: &[usize]) -> Vec<usize> {
    (0..perm.len()).filter_map(|i| perm.iter().position(|p| *p == i)).collect()
}

/// A constant with its axes permuted; `None` if `perm` does not fit it.
fn permuted(tensor: &Tensor, perm: &[usize]) -> Option<Tensor> {
    let order = source_order(tensor.shape(), perm)?;
    fn take<T: Copy>(data: &[T], order: &[usize]) -> Option<Vec<T>> {
        order.iter().map(|at| data.get(*at).copied()).collect()
    }
    let data = match tensor.data() {
        TensorData::F32(v) => TensorData::F32(take(v, &order)?),
        TensorData::F64(v) => TensorData::F64(take(v, &order)?),
        TensorData::I8(v) => TensorData::I8(take(v, &order)?),
        TensorData::U8(v) => TensorData::U8(take(v, &order)?),
        _ => return None,
    };
    let shape: Vec<usize> = perm.iter().filter_map(|axis| tensor.shape().get(*axis).copied()).collect();
    Tensor::from_data(shape, data).ok()
}

/// Where each element of a permuted tensor stands in the original of shape `shape`.
fn source_order(shape: &[usize], perm: &[usize]) -> Option<Vec<usize>> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        *strides.get_mut(axis - 1)? = strides.get(axis)? * shape.get(axis)?;
    }
    if perm.len() != shape.len() {
        return None;
    }
    let mut order = vec![0];
    for axis in perm {
        let (size, stride) = (*shape.get(*axis)?, *strides.get(*axis)?);
        order = order.iter().flat_map(|base| (0..size).map(move |i| base + i * stride)).collect();
    }
    Some(order)
}
