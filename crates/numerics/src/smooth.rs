//! Moving the spread of a product's input channels into its weights (SmoothQuant: Xiao et al. 2023, "Accurate and
//! Efficient Post-Training Quantization for Large Language Models", equation 4).
//!
//! A product `x W` equals `(x / t) (t W)` for any factors `t`, one for each input channel. Activations have one scale
//! for all channels, so a channel much larger than the rest costs all of them their codes; weights have a scale for
//! each output, which bears unequal rows better. `t_j = max|x_j|^a / max|W_j|^(1 - a)` divides the spread between the
//! two. The paper fixes `a`; here it is the one that makes the noise of the products least, as it follows from the
//! steps of the grids.
//!
//! What lives here: the formula and the choice. What does not: where the factors go in a graph.

use crate::ChannelLayout;

/// Shares of the spread that activations give away, of which the best is taken.
const SHARES: [f64; 7] = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// Factors stay within these bounds, so that neither side can leave the normal numbers.
const LEAST: f64 = 1e-5;
const LARGEST: f64 = 1e5;

/// Steps of the grid of a weight, from zero to the largest magnitude.
const WEIGHT_STEPS: f64 = 127.0;

/// What is known of one input channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputChannel {
    /// Smallest value, at most 0.
    pub lo: f64,
    /// Largest value, at least 0.
    pub hi: f64,
    /// Mean of the squares.
    pub mean_square: f64,
}

impl InputChannel {
    fn largest(&self) -> f64 {
        self.hi.max(-self.lo)
    }
}

/// The weights of one of the products that read the channels.
#[derive(Debug, Clone, Copy)]
pub struct ProductWeights<'a> {
    /// All finite.
    pub values: &'a [f32],
    /// Where the input channels lie in them. Elements that differ in nothing but the channel belong to one output.
    pub inputs: ChannelLayout,
}

/// The grids around a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductGrids {
    /// Codes of an activation less one, such as 255.
    pub steps: u32,
    /// Whether activation grids are symmetric around zero.
    pub symmetric: bool,
    /// Whether weights have a scale for each output.
    pub per_output: bool,
}

/// Factors, and what they are for.
#[derive(Debug, Clone, PartialEq)]
pub struct Smoothing {
    /// What each input channel is divided by, and the weights that read it multiplied; normal and positive.
    pub factors: Vec<f32>,
    /// Expected noise of the products without them over that with them, in dB.
    pub gain_db: f64,
}

/// The factors that make the expected noise of `products` least; `None` if none make it less, or if a shape does not
/// fit, a value is not finite, or there is nothing to scale.
pub fn smoothing(channels: &[InputChannel], products: &[ProductWeights<'_>], grids: ProductGrids) -> Option<Smoothing> {
    let fits = |p: &ProductWeights<'_>| p.inputs.channels == channels.len() && p.inputs.check(p.values.len()).is_ok();
    let known = |c: &InputChannel| [c.lo, c.hi, c.mean_square].iter().all(|v| v.is_finite());
    let finite = |p: &ProductWeights<'_>| p.values.iter().all(|v| v.is_finite());
    if products.is_empty() || !products.iter().all(|p| fits(p) && finite(p)) || !channels.iter().all(known) {
        return None;
    }
    let largest = largest_weights(channels.len(), products);
    let without = expected_noise(channels, &vec![1.0; channels.len()], products, grids);
    let candidates = SHARES.iter().map(|share| {
        let factors = factors(channels, &largest, *share);
        (expected_noise(channels, &factors, products, grids), factors)
    });
    let (noise, factors) = candidates.min_by(|a, b| a.0.total_cmp(&b.0))?;
    // Equal factors change nothing, but for the last bits.
    let improves = noise > 0.0 && noise < without * (1.0 - 1e-9);
    improves.then(|| Smoothing {
        factors: factors.iter().map(|t| *t as f32).collect(),
        gain_db: 10.0 * (without / noise).log10(),
    })
}

/// The largest magnitude among the weights that read each channel, over all products.
fn largest_weights(channels: usize, products: &[ProductWeights<'_>]) -> Vec<f64> {
    let mut largest = vec![0f64; channels];
    for product in products {
        for (channel, run) in product.inputs.runs(product.values) {
            let found = run.iter().fold(0f32, |most, w| most.max(w.abs()));
            largest[channel] = largest[channel].max(f64::from(found));
        }
    }
    largest
}

/// The formula of the paper; 1 for channels that are always zero or never read.
fn factors(channels: &[InputChannel], largest_weights: &[f64], share: f64) -> Vec<f64> {
    let factor = |(channel, weight): (&InputChannel, &f64)| {
        let x = channel.largest();
        if x == 0.0 || *weight == 0.0 {
            return 1.0;
        }
        (x.powf(share) / weight.powf(1.0 - share)).clamp(LEAST, LARGEST)
    };
    channels.iter().zip(largest_weights).map(factor).collect()
}

/// Mean square error of all outputs of the products together, from rounding uniformly on both grids.
fn expected_noise(
    channels: &[InputChannel],
    factors: &[f64],
    products: &[ProductWeights<'_>],
    grids: ProductGrids,
) -> f64 {
    let scaled = channels.iter().zip(factors);
    let (lo, hi) = scaled.fold((0f64, 0f64), |(lo, hi), (c, t)| (lo.min(c.lo / t), hi.max(c.hi / t)));
    let extent = if grids.symmetric { 2.0 * hi.max(-lo) } else { hi - lo };
    let input_noise = (extent / f64::from(grids.steps.max(1))).powi(2) / 12.0;
    let energy: f64 = channels.iter().zip(factors).map(|(c, t)| c.mean_square / (t * t)).sum();
    let of_product = |product: &ProductWeights<'_>| {
        let (squares, largest) = scaled_weights(product, factors);
        let steps = largest.iter().map(|w| (w / WEIGHT_STEPS).powi(2) / 12.0);
        let weight_noise = match grids.per_output {
            true => steps.sum::<f64>(),
            false => steps.fold(0.0, f64::max) * largest.len() as f64,
        };
        input_noise * squares + weight_noise * energy
    };
    products.iter().map(of_product).sum()
}

/// Of the weights times the factors: the sum of their squares, and the largest magnitude for each output.
fn scaled_weights(product: &ProductWeights<'_>, factors: &[f64]) -> (f64, Vec<f64>) {
    let inner = product.inputs.inner;
    let outputs = product.values.len() / factors.len().max(1);
    let (mut squares, mut largest) = (0.0, vec![0f64; outputs]);
    for (run, (channel, weights)) in product.inputs.runs(product.values).enumerate() {
        let first = run / factors.len() * inner;
        for (w, most) in weights.iter().zip(&mut largest[first..]) {
            let w = f64::from(*w) * factors[channel];
            squares += w * w;
            *most = most.max(w.abs());
        }
    }
    (squares, largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRIDS: ProductGrids = ProductGrids { steps: 255, symmetric: false, per_output: true };

    fn channel(largest: f64) -> InputChannel {
        InputChannel { lo: -largest, hi: largest, mean_square: largest * largest / 3.0 }
    }

    /// Two outputs; weights by output, then by input.
    fn by_output(values: &[f32]) -> ProductWeights<'_> {
        ProductWeights { values, inputs: ChannelLayout::new(values.len() / 2, 1) }
    }

    #[test]
    fn an_outlier_gives_way_to_the_weights() {
        let channels = [channel(1.0), channel(64.0), channel(1.0)];
        let weights = [0.5, 0.5, 0.5, -0.5, -0.5, -0.5];
        let found = smoothing(&channels, &[by_output(&weights)], GRIDS).unwrap();
        let spread = found.factors[1] / found.factors[0];
        assert!((8.0..64.0).contains(&spread), "{found:?}");
        assert!(found.gain_db > 3.0, "{found:?}");
    }

    #[test]
    fn the_order_of_axes_makes_no_difference() {
        let channels = [channel(3.0), channel(20.0), channel(0.5)];
        let by_output_first = [0.1, 0.2, -0.3, 0.4, 0.5, 0.6];
        let by_input_first = [0.1, 0.4, 0.2, 0.5, -0.3, 0.6];
        let inputs_first = ProductWeights { values: &by_input_first, inputs: ChannelLayout::new(3, 2) };
        let a = smoothing(&channels, &[by_output(&by_output_first)], GRIDS).unwrap();
        let b = smoothing(&channels, &[inputs_first], GRIDS).unwrap();
        assert_eq!(a.factors, b.factors);
        assert!((a.gain_db - b.gain_db).abs() < 1e-9);
    }

    #[test]
    fn even_channels_are_left_alone() {
        let channels = [channel(1.0), channel(1.0)];
        assert_eq!(smoothing(&channels, &[by_output(&[1.0; 4])], GRIDS), None);
    }

    #[test]
    fn dead_channels_keep_their_scale() {
        let channels = [channel(0.0), channel(40.0), channel(1.0), channel(1.0)];
        let weights = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0];
        let found = smoothing(&channels, &[by_output(&weights)], GRIDS).unwrap();
        assert_eq!((found.factors[0], found.factors[2]), (1.0, 1.0));
    }

    #[test]
    fn what_is_not_finite_or_does_not_fit_is_left_alone() {
        let channels = [channel(1.0), channel(40.0)];
        assert_eq!(smoothing(&channels, &[by_output(&[1.0, f32::NAN, 1.0, 1.0])], GRIDS), None);
        assert_eq!(smoothing(&channels, &[by_output(&[1.0; 6])], GRIDS), None);
        assert_eq!(smoothing(&[channel(f64::INFINITY), channel(1.0)], &[by_output(&[1.0; 4])], GRIDS), None);
        assert_eq!(smoothing(&[], &[], GRIDS), None);
    }

    proptest! {
        #[test]
        fn the_expected_noise_is_that_of_brute_force(
            largest in prop::collection::vec(0.1f64..50.0, 4),
            weights in prop::collection::vec(-1f32..1.0, 8),
            per_output: bool,
        ) {
            let channels: Vec<InputChannel> = largest.iter().map(|v| channel(*v)).collect();
            let grids = ProductGrids { per_output, ..GRIDS };
            let t = factors(&channels, &largest_weights(4, &[by_output(&weights)]), 0.5);
            let x_step = channels.iter().zip(&t).map(|(c, t)| 2.0 * c.hi / t).fold(0.0, f64::max) / 255.0;
            let w = |o: usize, j: usize| f64::from(weights[4 * o + j]) * t[j];
            let most = |o: usize| (0..4).map(|j| w(o, j).abs()).fold(0.0, f64::max);
            let mut noise = 0.0;
            for o in 0..2 {
                let w_step = if per_output { most(o) } else { most(0).max(most(1)) } / 127.0;
                for j in 0..4 {
                    noise += x_step.powi(2) / 12.0 * w(o, j).powi(2);
                    noise += w_step.powi(2) / 12.0 * channels[j].mean_square / t[j].powi(2);
                }
            }
            let found = expected_noise(&channels, &t, &[by_output(&weights)], grids);
            prop_assert!((found - noise).abs() <= 1e-9 * noise, "{} {}", found, noise);
        }

        #[test]
        fn factors_are_usable_whatever_comes(
            largest in prop::collection::vec(prop_oneof![Just(0.0), 1e-30f64..1e30], 3),
            weights in prop::collection::vec(prop_oneof![Just(0f32), -1e20f32..1e20, -1e-20f32..1e-20], 6),
        ) {
            let channels: Vec<InputChannel> = largest.iter().map(|v| channel(*v)).collect();
            if let Some(found) = smoothing(&channels, &[by_output(&weights)], GRIDS) {
                prop_assert!(found.factors.iter().all(|t| t.is_normal() && *t > 0.0));
                prop_assert!(found.gain_db > 0.0);
            }
        }
    }
}
