//! From statistics to a plan: parameters of activations, then of the constants that depend on them.

use crate::error::Error;
use crate::grouped::{GivenGroups, GroupError, grouped_weight};
use crate::options::{Granularity, InputRange, RecipeOptions};
use crate::plan_file::Given;
use quantize_calib::Statistics;
use quantize_ir::op::RangeRule;
use quantize_ir::op::behaviour::{computed_by, result_bound};
use quantize_ir::shape::resolve_axis;
use quantize_ir::{
    ActivationPlan, DType, Graph, Grids, Node, NodeId, NodePlan, OperandRole, QuantParams, QuantPlan, QuantType,
    Recipe, Tensor, TensorData, ValueId, WeightPlan,
};
use quantize_numerics::measure::{self, sqnr_db, sqnr_db_of};
use quantize_numerics::weights::{
    BiasConstraint, dequantize_weights, per_channel_scales, per_tensor_scale, quantize_weights_as,
};
use quantize_numerics::{
    ChannelLayout, NumericsError, Range, RangeMethod, RangeNote, TensorStats, estimate, params_from_range,
};
use quantize_optimize::{AssembleError, bias_plan};
use quantize_passes::Selection;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Where parameters come from.
#[derive(Clone, Copy)]
pub(crate) enum Parameters<'a> {
    /// Activations from statistics, constants from their values. `bounds` are ranges that all samples stay in, which
    /// stand in for the statistics of the network inputs that they feed.
    Found { statistics: &'a Statistics, bounds: &'a BTreeMap<ValueId, Range> },
    /// A plan that exists.
    Given(&'a Given),
}

/// A plan and what was noticed while making it.
pub(crate) struct Planned {
    pub(crate) plan: QuantPlan,
    pub(crate) remarks: Vec<String>,
}

/// Makes the plan for a selection.
pub(crate) fn make_plan(
    graph: &Graph,
    model: &Path,
    selection: &Selection,
    parameters: Parameters<'_>,
    recipe: &dyn Recipe,
    options: &RecipeOptions,
) -> Result<Planned, Error> {
    let mut planner = Planner {
        graph,
        model,
        selection,
        parameters,
        recipe,
        options,
        planned: Planned { plan: QuantPlan::default(), remarks: Vec::new() },
        overcut: Vec::new(),
    };
    match parameters {
        Parameters::Found { statistics, bounds } => planner.activations(statistics, bounds)?,
        Parameters::Given(given) => planner.planned.plan.activations.clone_from(&given.activations),
    }
    planner.constants()?;
    planner.warn_of_cuts();
    let decisions = selection.decisions.iter();
    planner.planned.plan.nodes = decisions.map(|(id, d)| (*id, NodePlan { decision: d.clone() })).collect();
    Ok(planner.planned)
}

/// Codes of an activation, and whether they are symmetric around zero.
type Grid = (QuantType, bool);

struct Planner<'a> {
    graph: &'a Graph,
    model: &'a Path,
    selection: &'a Selection,
    parameters: Parameters<'a>,
    recipe: &'a dyn Recipe,
    options: &'a RecipeOptions,
    planned: Planned,
    /// Activations that a criterion cuts to a larger error than none would, and how many times larger.
    overcut: Vec<(ValueId, f64)>,
}

/// How a range is called that no statistics decide: the one samples stay in, and an operator's own.
const POSSIBLE: &str = "possible input range";
const OF_OPERATOR: &str = "range of the operator";

/// Ratio of errors from which on a cut is called harmful.
const HARMFUL: f64 = 1.5;

impl Planner<'_> {
    fn name(&self, value: ValueId) -> String {
        self.graph.value(value).name.clone()
    }

    fn activations(&mut self, statistics: &Statistics, bounds: &BTreeMap<ValueId, Range>) -> Result<(), Error> {
        for group in &self.selection.groups {
            let wide = self.recipe.wide_activation_grid().filter(|_| group.is_wide);
            let grid = |value| {
                wide.unwrap_or_else(|| self.recipe.activation_grid(self.graph, value, &self.selection.decisions))
            };
            let grids: Vec<(ValueId, Grid)> = group.voters.iter().map(|v| (*v, grid(*v))).collect();
            let mut entries = BTreeMap::new();
            for (value, grid) in &grids {
                entries.insert(*value, self.activation(*value, *grid, statistics, bounds)?);
            }
            let Some((_, grid)) = grids.first() else { continue };
            let entries = self.united(entries, *grid, statistics)?;
            let Some(speaker) = entries.values().next().cloned() else { continue };
            for value in &group.members {
                let entry = entries.get(value).unwrap_or(&speaker);
                self.planned.plan.activations.insert(*value, entry.clone());
            }
        }
        Ok(())
    }

    /// A criterion that cuts too much is known to; says so once.
    fn warn_of_cuts(&mut self) {
        let Some((worst, ratio)) = self.overcut.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)) else { return };
        let (method, count) = (self.options.range, self.overcut.len());
        let all = self.planned.plan.activations.len();
        self.planned.remarks.push(format!(
            "`--range {method}` makes the error of {count} of {all} activations larger than min-max would, {ratio:.1} \
             times in `{}`: it cuts off what rare large values and saturation carry; `--range mse` never does",
            self.name(worst)
        ));
    }

    /// The voters' entries with parameters that cover the ranges of all of them.
    fn united(
        &self,
        entries: BTreeMap<ValueId, ActivationPlan>,
        (qtype, symmetric): Grid,
        statistics: &Statistics,
    ) -> Result<BTreeMap<ValueId, ActivationPlan>, Error> {
        let Some(speaker) = entries.keys().next().copied().filter(|_| entries.len() > 1) else { return Ok(entries) };
        let ranges = entries.values().filter_map(|e| e.params.range());
        let Some(range) = ranges.reduce(Range::union) else { return Ok(entries) };
        let place = || format!("activation `{}`", self.name(speaker));
        let params = params_from_range(range, qtype, symmetric)
            .map_err(|source| Error::tensor(self.model, place(), None, source))?
            .params;
        let shared = |(value, mut entry): (ValueId, ActivationPlan)| {
            let stats = statistics.get(value);
            entry.sqnr_db = stats.map(|s| sqnr_db_of(s.second_moment(), quantize_numerics::expected_mse(s, &params)));
            entry.params = QuantParams::from(params).with_range(range);
            entry.shares = speaker;
            (value, entry)
        };
        Ok(entries.into_iter().map(shared).collect())
    }

    fn activation(
        &mut self,
        value: ValueId,
        (qtype, symmetric): Grid,
        statistics: &Statistics,
        bounds: &BTreeMap<ValueId, Range>,
    ) -> Result<ActivationPlan, Error> {
        let place = || format!("activation `{}`", self.name(value));
        let failed = |source| Error::tensor(self.model, place(), None, source);
        let empty = TensorStats::new();
        let stats = statistics.get(value).unwrap_or(&empty);
        let bound = bounds.get(&value).map(|range| (*range, POSSIBLE));
        if let Some((range, method)) = bound.or_else(|| Some((self.exact_range(value)?, OF_OPERATOR))) {
            let params = params_from_range(range, qtype, symmetric).map_err(failed)?.params;
            let noise = quantize_numerics::expected_mse(stats, &params);
            let sqnr_db = Some(sqnr_db_of(stats.second_moment(), noise));
            let params = QuantParams::from(params).with_range(range);
            return Ok(ActivationPlan { params, shares: value, method: method.into(), sqnr_db });
        }
        let bound = self.bound(value);
        let found = estimate(stats, qtype, symmetric, self.method(value), bound).map_err(failed)?;
        let sqnr_db = Some(sqnr_db_of(stats.second_moment(), found.expected_mse));
        if matches!(found.method_used, RangeMethod::Kl | RangeMethod::Aciq) {
            let uncut = estimate(stats, qtype, symmetric, RangeMethod::MinMax, bound).map_err(failed)?.expected_mse;
            let ratio = found.expected_mse / uncut.max(f64::MIN_POSITIVE);
            self.overcut.extend((ratio > HARMFUL).then_some((value, ratio)));
        }
        let remarkable = |n: &&RangeNote| matches!(n, RangeNote::FarFromZero | RangeNote::ConstantZero);
        for note in found.notes.iter().filter(remarkable) {
            self.planned.remarks.push(format!("activation `{}`: {note}", self.graph.value(value).name));
        }
        let params = QuantParams::from(found.params.params).with_range(found.range);
        Ok(ActivationPlan { params, shares: value, method: found.method_used.to_string(), sqnr_db })
    }

    /// How the range of `value` follows from its statistics.
    fn method(&self, value: ValueId) -> RangeMethod {
        let is_input = self.graph.inputs().contains(&value);
        if self.options.result_headroom && self.selection.results.contains(&value) {
            RangeMethod::Headroom
        } else if is_input && self.options.input == InputRange::Observed {
            RangeMethod::MinMax
        } else {
            self.options.range
        }
    }

    /// The interval that what computes `value` confines it to.
    fn bound(&self, value: ValueId) -> Option<Range> {
        let (lo, hi) = result_bound(self.graph, computed_by(self.graph, value)?)?;
        Range::new(lo, hi).ok()
    }

    /// The range of `value`, if the operator that computes it decides it alone.
    fn exact_range(&self, value: ValueId) -> Option<Range> {
        let RangeRule::Exactly(lo, hi) = computed_by(self.graph, value)?.op.range_rule() else { return None };
        Range::new(lo, hi).ok()
    }

    fn constants(&mut self) -> Result<(), Error> {
        for (id, node) in self.graph.nodes() {
            if !self.selection.codes_constants(id) {
                continue;
            }
            for (slot, value) in node.inputs.iter().enumerate() {
                let Some(value) = *value else { continue };
                let Some(tensor) = self.graph.constant(value).map_err(|source| self.broken(source))? else { continue };
                let entry = match node.op.operand_role(slot) {
                    _ if tensor.dtype() != DType::F32 => None,
                    OperandRole::Weight { .. } => Some(self.weight(id, node, slot, &tensor)?),
                    OperandRole::Activation => Some(self.constant_activation(id, node, slot, &tensor)?),
                    OperandRole::Bias | OperandRole::Config => None,
                };
                if let Some(entry) = entry {
                    self.planned.plan.weights.insert((id, slot), entry);
                }
            }
            if self.recipe.grids().coded_bias {
                self.bias(id, node)?;
            }
        }
        Ok(())
    }

    /// How messages call the operand in `slot` of a node.
    fn place(&self, id: NodeId, node: &Node, slot: usize) -> String {
        let name = node.input(slot).map_or_else(String::new, |v| self.name(v));
        format!("node `{}`, operand `{name}`", self.graph.label(id))
    }

    fn broken(&self, source: quantize_ir::GraphError) -> Error {
        Error::graph(self.model, source)
    }

    fn weight(&self, id: NodeId, node: &Node, slot: usize, tensor: &Tensor) -> Result<WeightPlan, Error> {
        let label = self.graph.label(id);
        let place = self.place(id, node, slot);
        let failed = |source| Error::tensor(self.model, place.clone(), Some(label.clone()), source);
        let unfit = |source| Error::Params { model: self.model.to_owned(), place: place.clone(), source };
        let values = tensor.as_slice::<f32>().map_err(|e| self.broken(e.into()))?;
        let Grids { weight: qtype, coded_bias, .. } = self.recipe.grids();
        if let Some(blocks) = self.recipe.weight_blocks(self.graph, id, slot) {
            let given = GivenGroups { params: self.given(id, slot), codes: self.given_codes(id, slot) };
            return grouped_weight(tensor, qtype, blocks, given).map_err(|source| match source {
                GroupError::Numbers(source) => failed(source),
                other => Error::Unfit { model: self.model.to_owned(), place: place.clone(), cause: other.to_string() },
            });
        }
        let bias = node.input(2).filter(|_| coded_bias).map(|b| self.graph.constant(b));
        let bias = bias.transpose().map_err(|e| self.broken(e))?.flatten();
        let bias = bias.as_ref().and_then(|b| b.as_slice::<f32>().ok());
        let bias = self.input_scale(node).zip(bias).map(|(input_scale, bias)| BiasConstraint { bias, input_scale });
        let channel_axis = self.recipe.channel_axis(self.graph, id, slot);
        let axis = channel_axis.or_else(|| self.output_axis(node, slot, tensor.rank()));
        let layout = axis.and_then(|a| ChannelLayout::of_shape(tensor.shape(), a));
        let layout = layout.unwrap_or(ChannelLayout::new(1, values.len()));
        let given = self.given(id, slot);
        let per_channel = match given {
            Some(params) => params.axis(),
            None => channel_axis.filter(|_| self.options.weights == Granularity::PerChannel),
        };
        let scales = match (given, per_channel) {
            (Some(params), _) => self.fitting(params, qtype, channel_axis, layout.channels, &place)?,
            (None, Some(_)) => per_channel_scales(values, layout, qtype, bias).map_err(failed)?.scales,
            (None, None) => per_tensor_scale(values, layout, qtype, bias).map_err(failed)?.scales,
        };
        let shape = tensor.shape();
        let chosen = self.given_codes(id, slot).cloned();
        let (codes, sqnr_db) = match quantize_ir::quant::storage(qtype) {
            DType::I8 => {
                let found = quantize_weights_as(values, layout, &scales, qtype, |code| code as i8);
                found.map(|(codes, sqnr_db)| (Tensor::new(shape, codes), sqnr_db))
            }
            _ => {
                let found = quantize_weights_as(values, layout, &scales, qtype, |code| code);
                found.map(|(codes, sqnr_db)| (store(shape, &codes, qtype), sqnr_db))
            }
        }
        .map_err(failed)?;
        let params = match per_channel {
            Some(axis) => QuantParams::per_channel(qtype, axis, scales),
            None => QuantParams::per_tensor(qtype, scales[0], 0),
        };
        let (codes, sqnr_db) = match chosen {
            None => (Arc::new(codes.map_err(|e| self.broken(e.into()))?), sqnr_db),
            Some(codes) => {
                let back = dequantize_weights(&widened(&codes), layout, params.as_ref().map_or(&[], |p| p.scale()));
                let sqnr_db = back.and_then(|back| measure::sqnr_db(values, &back)).map_err(failed)?;
                (codes, sqnr_db)
            }
        };
        Ok(WeightPlan { params: params.map_err(unfit)?, codes, sqnr_db })
    }

    /// The codes that an existing plan gives a weight.
    fn given_codes(&self, id: NodeId, slot: usize) -> Option<&'_ Arc<Tensor>> {
        match self.parameters {
            Parameters::Given(given) => given.codes.get(&(id, slot)),
            Parameters::Found { .. } => None,
        }
    }

    /// What an existing plan says of a constant.
    fn given(&self, id: NodeId, slot: usize) -> Option<&'_ QuantParams> {
        match self.parameters {
            Parameters::Given(given) => given.constants.get(&(id, slot)),
            Parameters::Found { .. } => None,
        }
    }

    /// The scales that a plan gives for a weight, if they fit it.
    fn fitting(
        &self,
        params: &QuantParams,
        qtype: QuantType,
        channel_axis: Option<usize>,
        channels: usize,
        place: &str,
    ) -> Result<Vec<f32>, Error> {
        let unfit = |cause: String| Error::Unfit { model: self.model.to_owned(), place: place.to_owned(), cause };
        if params.qtype() != qtype {
            return Err(unfit(format!("the plan has type {}, weights are {qtype} here", params.qtype())));
        }
        match params.axis() {
            Some(axis) if channel_axis != Some(axis) => {
                Err(unfit(format!("the plan has a scale for each channel of axis {axis}, which the runtime has not")))
            }
            Some(_) if params.scale().len() != channels => {
                Err(unfit(format!("the plan has {} scales for {channels} channels", params.scale().len())))
            }
            _ => Ok(params.scale().to_vec()),
        }
    }

    /// Axis along which the bias runs, whether or not the target takes a scale for each channel.
    fn output_axis(&self, node: &Node, slot: usize, rank: usize) -> Option<usize> {
        match node.op.operand_role(slot) {
            OperandRole::Weight { channel_axis: Some(axis) } => resolve_axis(axis, rank).ok(),
            _ => None,
        }
    }

    /// A constant operand of an elementwise operator: quantized like the activations it meets.
    fn constant_activation(&self, id: NodeId, node: &Node, slot: usize, tensor: &Tensor) -> Result<WeightPlan, Error> {
        let label = self.graph.label(id);
        let place = self.place(id, node, slot);
        let failed = |source| Error::tensor(self.model, place.clone(), Some(label.clone()), source);
        let values = tensor.as_slice::<f32>().map_err(|e| self.broken(e.into()))?;
        let finite = values.iter().all(|v| v.is_finite());
        let not_finite = NumericsError::NonFiniteRange { lo: f32::NAN, hi: f32::NAN };
        let (lo, hi) = values.iter().fold((0f32, 0f32), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
        let range = if finite { Range::new(lo, hi) } else { Err(not_finite) }.map_err(failed)?;
        let Grids { activation: qtype, symmetric, .. } = self.recipe.grids();
        let given = self.given(id, slot).filter(|p| p.qtype() == qtype).and_then(|p| p.affine(0));
        let params = match given {
            Some(params) => params,
            None => params_from_range(range, qtype, symmetric).map_err(failed)?.params,
        };
        let codes: Vec<i32> = values.iter().map(|v| params.quantize(*v)).collect();
        let back: Vec<f32> = codes.iter().map(|q| params.dequantize(*q)).collect();
        let sqnr_db = sqnr_db(values, &back).map_err(failed)?;
        let codes = store(tensor.shape(), &codes, qtype).map_err(|e| self.broken(e.into()))?;
        let params = QuantParams::from(params).with_range(range);
        Ok(WeightPlan { params, codes: Arc::new(codes), sqnr_db })
    }

    fn input_scale(&self, node: &Node) -> Option<f32> {
        let activation = self.planned.plan.activations.get(&node.input(0)?)?;
        activation.params.scale().first().copied()
    }

    fn bias(&mut self, id: NodeId, node: &Node) -> Result<(), Error> {
        let Some(slot) = (0..node.inputs.len()).find(|s| node.op.operand_role(*s) == OperandRole::Bias) else {
            return Ok(());
        };
        let Some(value) = node.input(slot) else { return Ok(()) };
        let (Some(s_x), Some(weight)) = (self.input_scale(node), self.planned.plan.weights.get(&(id, 1))) else {
            return Ok(());
        };
        let Some(tensor) = self.graph.constant(value).map_err(|e| self.broken(e))? else { return Ok(()) };
        let label = self.graph.label(id);
        let place = self.place(id, node, slot);
        let failed = |source| Error::tensor(self.model, place.clone(), Some(label.clone()), source);
        let entry = bias_plan(&tensor, s_x, &weight.params).map_err(|source| match source {
            AssembleError::Numbers(source) => failed(source),
            AssembleError::Params(source) => {
                Error::Params { model: self.model.to_owned(), place: place.clone(), source }
            }
            AssembleError::Tensor(source) => self.broken(source.into()),
        })?;
        self.planned.plan.weights.insert((id, slot), entry);
        Ok(())
    }
}

/// Codes as numbers.
fn widened(codes: &Tensor) -> Vec<i32> {
    match codes.data() {
        TensorData::I8(codes) => codes.iter().map(|q| i32::from(*q)).collect(),
        TensorData::I16(codes) => codes.iter().map(|q| i32::from(*q)).collect(),
        _ => Vec::new(),
    }
}

/// Codes in the element type they are stored in.
fn store(shape: &[usize], codes: &[i32], qtype: QuantType) -> Result<Tensor, quantize_ir::TensorError> {
    match quantize_ir::quant::storage(qtype) {
        DType::U8 => Tensor::new(shape, codes.iter().map(|q| *q as u8).collect::<Vec<_>>()),
        DType::U16 => Tensor::new(shape, codes.iter().map(|q| *q as u16).collect::<Vec<_>>()),
        DType::I16 => Tensor::new(shape, codes.iter().map(|q| *q as i16).collect::<Vec<_>>()),
        DType::I32 => Tensor::new(shape, codes.to_vec()),
        _ => Tensor::new(shape, codes.iter().map(|q| *q as i8).collect::<Vec<_>>()),
    }
}
