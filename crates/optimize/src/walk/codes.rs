//! Codes of a layer's weights that keep its result.

use super::{Samples, Walker};
use crate::columns::{Geometry, fits};
use crate::error::OptimizeError;
use crate::layer::{Layer, WEIGHT};
use crate::live::{Held, Image};
use crate::rounding::{Task, round};
use quantize_ir::quant::storage;
use quantize_ir::{DType, Element, Quantizers, Tensor, TensorError, WeightPlan};
use quantize_numerics::NumericsError;
use quantize_numerics::measure::SqnrAccumulator;
use std::borrow::Cow;
use std::sync::{Arc, PoisonError};

impl<S: Samples> Walker<'_, S> {
    /// Gives a layer codes that keep its result; the number of those that are not the nearest.
    pub(super) fn round(&mut self, layer: &Layer) -> Result<usize, S::Error> {
        let weight = self.reference.constant(layer.weight).map_err(|e| self.fail(e))?;
        let key = (layer.node, WEIGHT);
        let (Some(weight), Some(entry)) = (weight, self.walked.plan.weights.get(&key)) else { return Ok(0) };
        let Some(geometry) = Geometry::of(&layer.op, weight.shape()).filter(|g| fits(g, &weight)) else { return Ok(0) };
        let Some(quantizers) = entry.params.quantizers(weight.shape()) else { return Ok(0) };
        let values = weight.as_slice::<f32>().map_err(|e| self.fail(e))?;
        let (centred, threads) = (self.moves_bias(layer), self.options.threads);
        let task = Task { geometry: &geometry, weights: values, quantizers: &quantizers, centred, threads };
        let images: Vec<&Image> =
            self.images.iter_mut().map(|i| &*i.get_mut().unwrap_or_else(PoisonError::into_inner)).collect();
        let plan = &self.walked.plan;
        let inputs: Vec<Cow<'_, Held>> = images.iter().filter_map(|image| image.rounded(layer.input, plan)).collect();
        let inputs: Vec<&Held> = inputs.iter().map(AsRef::as_ref).collect();
        let Some(codes) = round(layer, &task, &inputs) else { return Ok(0) };
        let sqnr_db = sqnr_db(values, &codes, &quantizers);
        let sqnr_db = sqnr_db.map_err(|e| self.fail(OptimizeError::numbers(&layer.label)(e)))?;
        let stored = stored(weight.shape(), &codes, storage(entry.params.qtype())).map_err(|e| self.fail(e))?;
        let changed = differences(&entry.codes, &stored);
        let entry = WeightPlan { params: entry.params.clone(), codes: Arc::new(stored), sqnr_db };
        self.walked.plan.weights.insert(key, entry);
        Ok(changed)
    }
}

/// Signal to noise of the reals that codes stand for, a few of which are made at a time: layers may be large.
fn sqnr_db(values: &[f32], codes: &[i32], quantizers: &Quantizers) -> Result<f64, NumericsError> {
    const FEW: usize = 1 << 14;
    let mut sums = SqnrAccumulator::new();
    for (part, (values, codes)) in values.chunks(FEW).zip(codes.chunks(FEW)).enumerate() {
        let real = |(i, code): (usize, &i32)| quantizers.of(part * FEW + i).dequantize(*code);
        sums.add(values, &codes.iter().enumerate().map(real).collect::<Vec<f32>>())?;
    }
    Ok(sums.db())
}

fn stored(shape: &[usize], codes: &[i32], dtype: DType) -> Result<Tensor, TensorError> {
    match dtype {
        DType::I16 => Tensor::new(shape, codes.iter().map(|q| *q as i16).collect::<Vec<_>>()),
        DType::U8 => Tensor::new(shape, codes.iter().map(|q| *q as u8).collect::<Vec<_>>()),
        _ => Tensor::new(shape, codes.iter().map(|q| *q as i8).collect::<Vec<_>>()),
    }
}

fn differences(before: &Tensor, after: &Tensor) -> usize {
    fn count<T: Element + PartialEq>(before: &Tensor, after: &Tensor) -> Option<usize> {
        let (before, after) = (before.as_slice::<T>().ok()?, after.as_slice::<T>().ok()?);
        Some(before.iter().zip(after).filter(|(b, a)| b != a).count())
    }
    let found = count::<i8>(before, after).or_else(|| count::<u8>(before, after));
    found.or_else(|| count::<i16>(before, after)).unwrap_or(0)
}
