//! Cross-layer equalization: factors between layers that follow each other, so that the channels of each weight become
//! alike and one scale serves them all (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
//! Correction", section 4.1).
//!
//! Between two layers with nothing but a positively homogeneous function, channel `c` of the first one's result may be
//! divided by `t_c` and the second one's weights for it multiplied. With `r1` and `r2` the largest magnitudes of both
//! weights for the channel, `t = sqrt(r1 / r2)` makes both `sqrt(r1 r2)`. A layer between two others takes part in two
//! such links, so links are visited in turn until nothing changes: a coordinate descent that converges.
//!
//! What lives here: the factors. What does not: which layers are linked, and the weights themselves.

/// Sweeps over all links, at most.
const MOST_SWEEPS: usize = 20;

/// A sweep that changes no factor by more than this, as the logarithm of a ratio, is the last.
const SETTLED: f64 = 1e-6;

/// Factors stay within these bounds, each time and altogether.
const LEAST: f64 = 1e-2;
const LARGEST: f64 = 1e2;

/// Channels smaller than this, relative to the largest of the layer, are dead and keep their scale.
const DEAD: f64 = 1e-8;

/// The largest magnitudes in a layer's weight, over all positions of its kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerExtents {
    /// Groups of channels that have nothing to do with each other; at least 1.
    pub groups: usize,
    /// Output channels, a multiple of the groups.
    pub outputs: usize,
    /// Input channels of one group.
    pub inputs: usize,
    /// One for each output channel and each input channel of its group, by output.
    pub largest: Vec<f64>,
}

impl LayerExtents {
    /// Whether the numbers fit together.
    fn is_consistent(&self) -> bool {
        self.groups > 0
            && self.outputs.is_multiple_of(self.groups)
            && self.outputs.checked_mul(self.inputs) == Some(self.largest.len())
            && self.largest.iter().all(|w| w.is_finite() && *w >= 0.0)
    }

    /// The largest magnitude for each output channel.
    fn by_output(&self) -> Vec<f64> {
        self.largest.chunks(self.inputs.max(1)).map(|row| row.iter().copied().fold(0.0, f64::max)).collect()
    }

    /// The largest magnitude for each input channel, groups one after another.
    fn by_input(&self) -> Vec<f64> {
        let mut found = vec![0f64; self.groups * self.inputs];
        let rows = (self.outputs / self.groups).max(1);
        for (output, row) in self.largest.chunks(self.inputs.max(1)).enumerate() {
            let first = output / rows * self.inputs;
            found[first..].iter_mut().zip(row).for_each(|(most, w)| *most = most.max(*w));
        }
        found
    }

    fn divide_outputs(&mut self, factors: &[f64]) {
        for (row, factor) in self.largest.chunks_mut(self.inputs.max(1)).zip(factors) {
            row.iter_mut().for_each(|w| *w /= factor);
        }
    }

    fn multiply_inputs(&mut self, factors: &[f64]) {
        let rows = (self.outputs / self.groups).max(1);
        for (output, row) in self.largest.chunks_mut(self.inputs.max(1)).enumerate() {
            let first = output / rows * self.inputs;
            row.iter_mut().zip(&factors[first..]).for_each(|(w, factor)| *w *= factor);
        }
    }
}

/// Two layers between which channels may be scaled: positions in the list of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The layer that computes the channels.
    pub first: usize,
    /// The layer that reads them.
    pub second: usize,
}

/// For each link, what each channel between its layers is divided by; normal and positive. A link whose layers do not
/// fit each other has no factors.
pub fn equalizing(layers: &[LayerExtents], links: &[Link]) -> Vec<Vec<f32>> {
    let mut layers = layers.to_vec();
    let fits = |link: &Link| {
        let (Some(first), Some(second)) = (layers.get(link.first), layers.get(link.second)) else { return false };
        let both = first.is_consistent() && second.is_consistent();
        both && link.first != link.second && first.outputs == second.groups * second.inputs
    };
    let mut factors: Vec<Vec<f64>> =
        links.iter().map(|link| vec![1.0; if fits(link) { layers[link.first].outputs } else { 0 }]).collect();
    for _ in 0..MOST_SWEEPS {
        let mut largest_change = 0f64;
        for (link, factors) in links.iter().zip(&mut factors).filter(|(_, factors)| !factors.is_empty()) {
            let steps = steps(&layers[link.first].by_output(), &layers[link.second].by_input(), factors);
            layers[link.first].divide_outputs(&steps);
            layers[link.second].multiply_inputs(&steps);
            factors.iter_mut().zip(&steps).for_each(|(factor, step)| *factor *= step);
            largest_change = steps.iter().fold(largest_change, |most, step| most.max(step.ln().abs()));
        }
        if largest_change < SETTLED {
            break;
        }
    }
    factors.into_iter().map(|each| each.into_iter().map(|t| t as f32).collect()).collect()
}

/// What to change the factors of one link by.
fn steps(outputs: &[f64], inputs: &[f64], so_far: &[f64]) -> Vec<f64> {
    let largest = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
    let (dead_output, dead_input) = (DEAD * largest(outputs), DEAD * largest(inputs));
    let step = |((r1, r2), factor): ((&f64, &f64), &f64)| {
        if *r1 <= dead_output || *r2 <= dead_input {
            return 1.0;
        }
        let wanted = (r1 / r2).sqrt().clamp(LEAST, LARGEST);
        (factor * wanted).clamp(LEAST, LARGEST) / factor
    };
    outputs.iter().zip(inputs).zip(so_far).map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dense(outputs: usize, inputs: usize, largest: Vec<f64>) -> LayerExtents {
        LayerExtents { groups: 1, outputs, inputs, largest }
    }

    fn depthwise(largest: Vec<f64>) -> LayerExtents {
        LayerExtents { groups: largest.len(), outputs: largest.len(), inputs: 1, largest }
    }

    const LINK: Link = Link { first: 0, second: 1 };

    /// The layers with their factors.
    fn scaled(layers: &[LayerExtents], links: &[Link]) -> Vec<LayerExtents> {
        let mut layers = layers.to_vec();
        for (link, factors) in links.iter().zip(equalizing(&layers.clone(), links)) {
            let factors: Vec<f64> = factors.into_iter().map(f64::from).collect();
            layers[link.first].divide_outputs(&factors);
            layers[link.second].multiply_inputs(&factors);
        }
        layers
    }

    #[test]
    fn both_sides_of_a_channel_become_equal() {
        let layers = [dense(2, 1, vec![8.0, 0.5]), dense(1, 2, vec![2.0, 2.0])];
        assert_eq!(equalizing(&layers, &[LINK]), [[2.0f32, 0.5]]);
        let scaled = scaled(&layers, &[LINK]);
        assert_eq!(scaled[0].by_output(), scaled[1].by_input());
    }

    #[test]
    fn dead_channels_keep_their_scale_and_factors_are_bounded() {
        let layers = [dense(4, 1, vec![0.0, 1e-30, 1.0, 1e6]), dense(1, 4, vec![1.0, 1.0, 0.0, 1e-3])];
        assert_eq!(equalizing(&layers, &[LINK]), [[1.0f32, 1.0, 1.0, 100.0]]);
    }

    #[test]
    fn layers_that_do_not_fit_have_no_factors() {
        let layers = [dense(2, 1, vec![1.0; 2]), dense(1, 3, vec![1.0; 3]), dense(1, 2, vec![1.0, f64::NAN])];
        for second in [1, 2, 9, 0] {
            assert_eq!(equalizing(&layers, &[Link { first: 0, second }]), [[0f32; 0]; 1]);
        }
    }

    #[test]
    fn a_depthwise_layer_is_linked_on_both_sides() {
        let layers = [
            dense(3, 2, vec![9.0, 1.0, 0.1, 0.2, 1.0, 1.0]),
            depthwise(vec![0.01, 4.0, 1.0]),
            dense(2, 3, vec![1.0, 0.1, 5.0, 2.0, 0.3, 0.4]),
        ];
        let links = [LINK, Link { first: 1, second: 2 }];
        let scaled = scaled(&layers, &links);
        for (first, second) in [(0, 1), (1, 2)] {
            for (r1, r2) in scaled[first].by_output().iter().zip(scaled[second].by_input()) {
                assert!((r1 / r2).ln().abs() < 0.02, "{scaled:?}");
            }
        }
    }

    proptest! {
        /// Factors found a second time are 1, and what was made uneven between two layers is made even again.
        #[test]
        fn equalizing_is_idempotent_and_undoes_what_was_planted(
            first in prop::collection::vec(0.1f64..1.0, 8),
            second in prop::collection::vec(0.1f64..1.0, 8),
            planted in prop::collection::vec(-3f64..3.0, 4),
        ) {
            let mut uneven = [dense(4, 2, first), dense(2, 4, second)];
            let even = scaled(&uneven, &[LINK]);
            let planted: Vec<f64> = planted.into_iter().map(f64::exp2).collect();
            uneven[0].divide_outputs(&planted);
            uneven[1].multiply_inputs(&planted);
            let again = scaled(&uneven, &[LINK]);
            for (a, b) in even.iter().zip(&again).flat_map(|(a, b)| a.largest.iter().zip(&b.largest)) {
                prop_assert!((a / b).ln().abs() < 0.01, "{} {}", a, b);
            }
            for factor in equalizing(&again, &[LINK]).concat() {
                prop_assert!((factor - 1.0).abs() < 0.01, "{}", factor);
            }
        }
    }
}
