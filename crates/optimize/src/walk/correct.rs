//! Gains and biases of a layer, from the moments of its result.

use super::{LayerChange, Samples, Walker};
use crate::assembled::bias_plan;
use crate::correction::{GainRule, gains, shifts};
use crate::error::OptimizeError;
use crate::layer::{BIAS, Bias, Layer, WEIGHT, set_bias};
use crate::moments::Moments;
use quantize_ir::{Blocks, QuantError, QuantParams, Spread, Tensor};
use quantize_numerics::weights::MAX_BIAS_CODE;

impl<S: Samples> Walker<'_, S> {
    /// Gives a layer its gains and its biases.
    pub(super) fn correct(
        &mut self,
        layer: &Layer,
        codes: usize,
        images: &[Moments],
    ) -> Result<LayerChange, OptimizeError> {
        let total = Moments::total(images);
        let entry = self.walked.plan.weights.get(&(layer.node, WEIGHT));
        let params = entry
            .map(|entry| entry.params.clone())
            .ok_or_else(|| OptimizeError::layer(&layer.label, "it has no codes"))?;
        let rule = self.gain_rule(layer, &params);
        let biases = self.biases(layer)?;
        let answer = |gains: Vec<f64>| {
            let moves = self.moves_bias(layer);
            let shifts = if moves { shifts(images, &total, &gains, &biases) } else { vec![0.0; layer.channels] };
            (gains, shifts)
        };
        let with = answer(gains(&total, rule, self.moves_bias(layer)));
        let (mut gains, mut shifts) = quieter(&total, &biases, with, answer(vec![1.0; layer.channels]));
        let scale = self.input_scale(layer);
        self.keep_representable(&params, scale, &biases, &mut gains, &mut shifts);
        self.apply(layer, &params, scale, &biases, &gains, &shifts)?;
        let decibel = |noise: f64| 10.0 * (total.0.iter().map(|p| p.signal()).sum::<f64>() / noise).log10();
        let noise = |of: &dyn Fn(usize) -> (f64, f64)| {
            total.0.iter().enumerate().map(|(c, p)| p.noise(of(c).0, biases[c], of(c).1)).sum::<f64>()
        };
        let (spread, shared) = total.0.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.spread(), sum.1 + p.shared()));
        Ok(LayerChange {
            node: layer.label.clone(),
            images: images.len(),
            codes,
            slope: if spread > 0.0 { shared / spread } else { 1.0 },
            gains: gains.iter().fold((f64::INFINITY, 0.0), |(lo, hi), g| (g.min(lo), g.max(hi))),
            before_db: decibel(noise(&|_| (1.0, 0.0))),
            after_db: decibel(noise(&|c| (gains[c], shifts[c]))),
        })
    }

    /// Whether the layer gets a bias that takes up the mean of its result's error.
    pub(super) fn moves_bias(&self, layer: &Layer) -> bool {
        self.options.steps.bias && layer.bias != Bias::None
    }

    /// Where a function that bends follows, moments are those of values that are cut off anyway. The last layer has few
    /// positions for each channel; and a scale for the whole tensor cannot turn single channels.
    fn gain_rule(&self, layer: &Layer, params: &QuantParams) -> GainRule {
        match (self.options.steps.gain, layer.bent, params.spread()) {
            (false, ..) | (_, true, _) => GainRule::None,
            (true, false, Spread::Channels { .. } | Spread::Blocks(_)) => GainRule::PerChannel,
            (true, false, Spread::Tensor) if self.options.steps.rounding => GainRule::Pooled,
            (true, false, Spread::Tensor) => GainRule::None,
        }
    }

    fn biases(&self, layer: &Layer) -> Result<Vec<f64>, OptimizeError> {
        let Bias::Given(value) = layer.bias else { return Ok(vec![0.0; layer.channels]) };
        let Some(bias) = self.reference.constant(value)? else { return Ok(vec![0.0; layer.channels]) };
        Ok(bias.as_slice::<f32>()?.iter().map(|b| f64::from(*b)).collect())
    }

    fn input_scale(&self, layer: &Layer) -> Option<f32> {
        let entry = self.walked.plan.activations.get(&layer.input).filter(|_| self.options.coded_bias)?;
        entry.params.scale().first().copied()
    }

    /// Leaves channels as they were whose bias would need too large a code.
    fn keep_representable(
        &self,
        params: &QuantParams,
        input_scale: Option<f32>,
        biases: &[f64],
        gains: &mut [f64],
        shifts: &mut [f64],
    ) {
        let Some(input_scale) = input_scale else { return };
        let scales = params.scale();
        for (c, bias) in biases.iter().enumerate() {
            let scale = scales[if scales.len() == 1 { 0 } else { c }];
            if !is_representable(bias + shifts[c], input_scale, f64::from(scale) * gains[c]) {
                shifts[c] = 0.0;
                if scales.len() > 1 {
                    gains[c] = 1.0;
                }
            }
        }
    }

    fn apply(
        &mut self,
        layer: &Layer,
        params: &QuantParams,
        input_scale: Option<f32>,
        biases: &[f64],
        gains: &[f64],
        shifts: &[f64],
    ) -> Result<(), OptimizeError> {
        let gain_of = |scale: usize| gains.get(channel_of(params, layer.channels, scale)).copied().unwrap_or(1.0);
        let scales = params.scale().iter().enumerate().map(|(i, s)| (f64::from(*s) * gain_of(i)) as f32).collect();
        let params = params.with_scale(scales).map_err(|e: QuantError| OptimizeError::layer(&layer.label, e))?;
        if let Some(entry) = self.walked.plan.weights.get_mut(&(layer.node, WEIGHT)) {
            entry.params = params.clone();
        }
        let bias: Vec<f32> = biases.iter().zip(shifts).map(|(b, d)| (b + d) as f32).collect();
        let moved = shifts.iter().any(|d| *d != 0.0);
        if moved {
            set_bias(&mut self.walked.graph, layer.node, bias.clone())?;
        }
        if let Some(scale) = input_scale.filter(|_| moved || matches!(layer.bias, Bias::Given(_))) {
            let entry =
                bias_plan(&Tensor::vector(bias), scale, &params).map_err(|e| OptimizeError::layer(&layer.label, e))?;
            self.walked.plan.weights.insert((layer.node, BIAS), entry);
        }
        Ok(())
    }
}

/// Whether a bias, stored in single precision as its scale is, has a code that is not too large.
fn is_representable(bias: f64, input_scale: f32, scale: f64) -> bool {
    let code = f64::from(bias as f32) / (f64::from(input_scale) * f64::from(scale as f32));
    code.abs() <= f64::from(MAX_BIAS_CODE)
}

/// Gains are given up where noise is more than this times what it is without them: 0.1 dB, as for whole steps. The
/// amplitude that a layer loses adds up with what others lose, noise does not.
const WORTH: f64 = 1.023_292_992_280_754;

/// Gains and shifts of a layer.
type Answer = (Vec<f64>, Vec<f64>);

/// An answer with gains, unless the layer's result has clearly less noise by the one `without`: a gain also makes the noise larger
/// that comes from the layers before, and where that is large it costs more than the amplitude it gives back.
fn quieter(total: &Moments, biases: &[f64], with: Answer, without: Answer) -> Answer {
    let noise = |(gains, shifts): &Answer| {
        total.0.iter().enumerate().map(|(c, p)| p.noise(gains[c], biases[c], shifts[c])).sum::<f64>()
    };
    if noise(&with) > WORTH * noise(&without) { without } else { with }
}

/// The output channel that scale number `scale` belongs to.
fn channel_of(params: &QuantParams, channels: usize, scale: usize) -> usize {
    match params.spread() {
        Spread::Tensor => 0,
        Spread::Channels { .. } => scale,
        // Of a matrix, whose other axis is that of the channels.
        Spread::Blocks(Blocks { axis: 0, .. }) => scale % channels.max(1),
        Spread::Blocks(_) => scale / (params.scale().len() / channels.max(1)).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::ChannelAxis;

    /// A channel whose quantized result has nine tenths of the amplitude, and noise beside it.
    fn shrunk(noise: f32) -> Moments {
        let y: Vec<f32> = (0..1000).map(|i| ((i * 37 % 101) as f32 - 50.0) / 29.0).collect();
        let q: Vec<f32> =
            y.iter().enumerate().map(|(i, y)| 0.9 * y + noise * ((i * 7919 % 997) as f32 / 498.0 - 1.0)).collect();
        Moments::of(&y, &q, &[1, 1, 1000], ChannelAxis::Second).unwrap()
    }

    #[test]
    fn codes_of_biases_are_judged_as_they_will_be_stored() {
        let (input_scale, scale) = (2f32.powi(-15), 2f32.powi(-15));
        let bound = f64::from(MAX_BIAS_CODE) * f64::from(input_scale) * f64::from(scale);
        assert!(is_representable(bound, input_scale, f64::from(scale)));
        assert!(is_representable(-bound, input_scale, f64::from(scale)));
        // In double precision the code would be just small enough: the scale is rounded down, or the bias up.
        assert!(!is_representable(bound * (1.0 + 1e-8), input_scale, f64::from(scale) * (1.0 + 1.2e-8 - 6e-8)));
        assert!(!is_representable(bound * (1.0 + 7e-8), input_scale, f64::from(scale) * (1.0 + 5.5e-8)));
        assert!(!is_representable(f64::NAN, input_scale, f64::from(scale)));
        assert!(!is_representable(bound, input_scale, 0.0));
    }

    #[test]
    fn gains_are_taken_where_the_result_has_less_noise_with_them() {
        let answers = || ((vec![1.0 / 0.9], vec![0.0]), (vec![1.0], vec![0.0]));
        for (noise, taken) in [(0.0, true), (0.1, true), (1.0, false)] {
            let (with, without) = answers();
            let chosen = quieter(&shrunk(noise), &[0.0], with.clone(), without);
            assert_eq!(chosen == with, taken, "noise {noise}");
        }
    }
}
