//! Weights in groups that each have a scale and a zero point: their entry in a plan, found anew or as a plan gives it.

use quantize_ir::{Blocks, QuantError, QuantParams, QuantType, ScaleIndex, Spread, Tensor, TensorError, WeightPlan};
use quantize_numerics::NumericsError;
use quantize_numerics::groups::least_error_params;
use quantize_numerics::measure::sqnr_db;
use std::sync::Arc;

/// Why there is no entry.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum GroupError {
    /// The weights cannot be quantized.
    #[error(transparent)]
    Numbers(#[from] NumericsError),
    /// Parameters that cannot be used.
    #[error(transparent)]
    Params(#[from] QuantError),
    /// The weights are not real numbers.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A plan gives parameters for something else.
    #[error("the plan has type {qtype} for {spread}, the weights are {wanted} in {blocks}")]
    Misfit {
        /// Type in the plan.
        qtype: QuantType,
        /// What shares a scale in the plan.
        spread: Spread,
        /// Type of the weights.
        wanted: QuantType,
        /// What shares a scale.
        blocks: Spread,
    },
    /// A plan gives another number of scales.
    #[error("the plan has {found} scales for {wanted} groups")]
    Count {
        /// Scales in the plan.
        found: usize,
        /// Groups of the weights.
        wanted: usize,
    },
}

/// What a plan that exists says of a weight.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GivenGroups<'a> {
    pub(crate) params: Option<&'a QuantParams>,
    pub(crate) codes: Option<&'a Arc<Tensor>>,
}

/// The entry of `weight`: parameters of least squared error for each of `blocks` with the nearest codes, unless a plan
/// gives others.
///
/// # Errors
/// If a weight is no number, or the plan does not fit.
pub(crate) fn grouped_weight(
    weight: &Tensor,
    qtype: QuantType,
    blocks: Blocks,
    given: GivenGroups<'_>,
) -> Result<WeightPlan, GroupError> {
    let (values, spread) = (weight.as_slice::<f32>()?, Spread::Blocks(blocks));
    let params = match given.params {
        None => least_error(weight.shape(), values, qtype, blocks)?,
        Some(params) if (params.qtype(), params.spread()) == (qtype, spread) => params.clone(),
        Some(params) => {
            let (found, wanted) = (params.qtype(), qtype);
            return Err(GroupError::Misfit { qtype: found, spread: params.spread(), wanted, blocks: spread });
        }
    };
    let groups = ScaleIndex::of(spread, weight.shape()).map_or(0, ScaleIndex::scales);
    let misfit = || GroupError::Count { found: params.scale().len(), wanted: groups };
    let quantizers = params.quantizers(weight.shape()).ok_or_else(misfit)?;
    let codes = match given.codes {
        Some(codes) => Arc::clone(codes),
        None => {
            let codes = quantizers.quantize(values).into_iter().map(|q| q as u8).collect::<Vec<_>>();
            Arc::new(Tensor::new(weight.shape(), codes)?)
        }
    };
    let wide: Vec<i32> = codes.as_slice::<u8>()?.iter().map(|q| i32::from(*q)).collect();
    let sqnr_db = sqnr_db(values, &quantizers.dequantize(&wide))?;
    Ok(WeightPlan { params, codes, sqnr_db })
}

/// Parameters of least squared error.
fn least_error(shape: &[usize], values: &[f32], qtype: QuantType, blocks: Blocks) -> Result<QuantParams, GroupError> {
    let (mut scale, mut zero_point) = (Vec::new(), Vec::new());
    for group in groups(shape, values, blocks) {
        let params = least_error_params(&group, qtype)?;
        scale.push(params.scale());
        zero_point.push(params.zero_point());
    }
    Ok(QuantParams::blocked(qtype, blocks, scale, zero_point)?)
}

/// The weights of each group, in the order of their scales.
fn groups(shape: &[usize], values: &[f32], blocks: Blocks) -> impl Iterator<Item = Vec<f32>> {
    let length = shape.get(blocks.axis).copied().unwrap_or(1).max(1);
    let inner: usize = shape.iter().skip(blocks.axis + 1).product::<usize>().max(1);
    values.chunks(length * inner).flat_map(move |outer| {
        (0..length).step_by(blocks.size.max(1)).flat_map(move |start| {
            (0..inner).map(move |at| {
                let column = outer.iter().skip(start * inner + at).step_by(inner);
                column.take(blocks.size.min(length - start)).copied().collect()
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(shape: [usize; 2]) -> Tensor {
        let values = (0..shape[0] * shape[1]).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
        Tensor::new(shape, values).unwrap()
    }

    #[test]
    fn groups_are_ordered_as_scales_are() {
        for (shape, axis) in [([5, 3], 0), ([3, 5], 1), ([2, 4], 1)] {
            let weight = weight(shape);
            let blocks = Blocks { axis, size: 2 };
            let index = ScaleIndex::of(Spread::Blocks(blocks), &shape).unwrap();
            let mut expected = vec![Vec::new(); index.scales()];
            let values = weight.as_slice::<f32>().unwrap();
            values.iter().enumerate().for_each(|(i, w)| expected[index.scale_of(i)].push(*w));
            assert_eq!(groups(&shape, values, blocks).collect::<Vec<_>>(), expected, "{shape:?}");
        }
    }

    #[test]
    fn both_orders_of_axes_are_the_same_weights() {
        let plain = weight([40, 3]);
        let values = plain.as_slice::<f32>().unwrap();
        let turned: Vec<f32> = (0..120).map(|i| values[i % 40 * 3 + i / 40]).collect();
        let entry = |weight: &Tensor, axis| {
            grouped_weight(weight, QuantType::U4, Blocks { axis, size: 16 }, GivenGroups::default()).unwrap()
        };
        let (a, b) = (entry(&plain, 0), entry(&Tensor::new([3, 40], turned).unwrap(), 1));
        assert_eq!(a.params.scale().len(), 9);
        assert!((a.sqnr_db - b.sqnr_db).abs() < 1e-9 && a.sqnr_db > 18.0, "{} {}", a.sqnr_db, b.sqnr_db);
        assert_eq!(a.params.scale()[1], b.params.scale()[3], "second column, first group");
    }

    #[test]
    fn what_a_plan_gives_has_to_fit() {
        let weight = weight([40, 3]);
        let blocks = Blocks { axis: 0, size: 16 };
        let found = grouped_weight(&weight, QuantType::U4, blocks, GivenGroups::default()).unwrap();
        let again = GivenGroups { params: Some(&found.params), codes: Some(&found.codes) };
        assert_eq!(grouped_weight(&weight, QuantType::U4, blocks, again), Ok(found.clone()));
        let wider = grouped_weight(&weight, QuantType::U4, Blocks { size: 32, ..blocks }, again).unwrap_err();
        assert_eq!(
            wider.to_string(),
            "the plan has type uint4 for blocks of 16 along axis 0, the weights are uint4 in blocks of 32 along axis 0"
        );
        let short = QuantParams::blocked(QuantType::U4, blocks, vec![1.0], vec![0]).unwrap();
        let short = GivenGroups { params: Some(&short), codes: None };
        let error = grouped_weight(&weight, QuantType::U4, blocks, short).unwrap_err();
        assert_eq!(error, GroupError::Count { found: 1, wanted: 9 });
    }
}
