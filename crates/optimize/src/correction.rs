//! What answers rounding without touching codes: a gain on a channel's weight scale, and a shift of its bias
//! (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2, for
//! the shift; the gain is the slope of the fp32 result over the quantized one).

use crate::moments::{Moments, Pair};

/// Gains stay within these: more is no rounding effect.
const GAIN_LIMITS: (f64, f64) = (0.8, 1.25);

/// Positions of a channel from which on it has a gain of its own.
const ENOUGH: f64 = 512.0;

/// Variances below are those of a constant.
const CONSTANT: f64 = 1e-12;

/// A shift is at most this many standard deviations of the result.
const LARGEST_SHIFT: f64 = 4.0;

/// How a layer's gains are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GainRule {
    /// All are 1.
    None,
    /// One for all channels.
    Pooled,
    /// One for each channel with enough positions, the pooled one for the rest.
    PerChannel,
}

/// The factor of each channel's weight scale, `Var(y) / Cov(y, q)`: with it the fp32 result grows as fast as the
/// quantized one. Where no bias is `centred` on the mean afterwards, moments are about zero: a gain moves the mean, too.
pub(crate) fn gains(moments: &Moments, rule: GainRule, centred: bool) -> Vec<f64> {
    let about = |pair: &Pair| if centred { *pair } else { pair.about_zero() };
    let moments: Vec<Pair> = moments.0.iter().map(about).collect();
    let pooled = match rule {
        GainRule::None => 1.0,
        GainRule::Pooled | GainRule::PerChannel => {
            let sum = |of: fn(&Pair) -> f64| moments.iter().map(of).sum::<f64>();
            gain(sum(Pair::spread), sum(Pair::shared), sum(|p| p.count)).unwrap_or(1.0)
        }
    };
    let own = |pair: &Pair| match rule {
        GainRule::PerChannel if pair.count >= ENOUGH => gain(pair.spread(), pair.shared(), pair.count).unwrap_or(1.0),
        _ => pooled,
    };
    moments.iter().map(own).collect()
}

/// A slope within limits; `None` where there is nothing to measure it on.
fn gain(spread: f64, shared: f64, count: f64) -> Option<f64> {
    let varies = |sum: f64| sum / count.max(1.0) > CONSTANT;
    let measured = (varies(spread) && varies(shared)).then(|| spread / shared)?;
    Some(measured.clamp(GAIN_LIMITS.0, GAIN_LIMITS.1))
}

/// The shift of each channel's bias after its gain: the mean difference of the branches, less what may be chance.
/// `images` holds the moments of each image, `biases` the biases so far, around which a gain turns.
///
/// The estimate's variance is that of the images' mean differences over their number; an estimate `d` of variance `v`
/// becomes `d * (1 - v / d^2)`, and nothing if `v` exceeds `d^2` (James and Stein's positive part).
pub(crate) fn shifts(images: &[Moments], total: &Moments, gains: &[f64], biases: &[f64]) -> Vec<f64> {
    let difference = |pair: &Pair, c: usize| {
        let (y, q) = pair.means();
        y - (gains[c] * (q - biases[c]) + biases[c])
    };
    let shift = |(c, pair): (usize, &Pair)| {
        let deviation = (pair.spread() / pair.count.max(1.0)).sqrt();
        if deviation == 0.0 || pair.count == 0.0 {
            return 0.0;
        }
        let found = difference(pair, c);
        let chance = standard_error(images.iter().map(|image| difference(&image.0[c], c))).powi(2);
        let kept = if found == 0.0 { 0.0 } else { (1.0 - chance / (found * found)).max(0.0) };
        (found * kept).clamp(-LARGEST_SHIFT * deviation, LARGEST_SHIFT * deviation)
    };
    total.0.iter().enumerate().map(shift).collect()
}

/// Standard error of the mean of independent values; 0 for fewer than two, of which nothing is known.
pub(crate) fn standard_error(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    if count < 2.0 {
        return 0.0;
    }
    let mean = values.clone().sum::<f64>() / count;
    (values.map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0) / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::ChannelAxis;

    /// A channel of `n` positions; the quantized branch is `slope * y + offset` with a small ripple.
    fn image(n: usize, slope: f32, offset: f32) -> Moments {
        let y: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 40.0) / 25.0).collect();
        let q: Vec<f32> = y.iter().map(|y| slope * y + offset).collect();
        Moments::of(&y, &q, &[1, 1, n], ChannelAxis::Second).unwrap()
    }

    #[test]
    fn nothing_is_corrected_where_nothing_is_lost() {
        let exact = image(1000, 1.0, 0.0);
        for rule in [GainRule::None, GainRule::Pooled, GainRule::PerChannel] {
            assert!((gains(&exact, rule, true)[0] - 1.0).abs() < 1e-6);
        }
        assert!(shifts(&[exact.clone(), exact.clone()], &exact, &[1.0], &[0.0])[0].abs() < 1e-12);
    }

    #[test]
    fn a_lost_amplitude_comes_back() {
        let weak = image(1000, 0.9, 0.0);
        assert!((gains(&weak, GainRule::PerChannel, true)[0] - 1.0 / 0.9).abs() < 1e-4);
        assert_eq!(gains(&weak, GainRule::None, true), [1.0]);
    }

    #[test]
    fn without_a_bias_a_gain_does_not_move_the_mean() {
        // A small amplitude lost beside a large mean that is right.
        let y: Vec<f32> = (0..1000).map(|i| 50.0 + (i * 37 % 101) as f32 / 25.0).collect();
        let q: Vec<f32> = y.iter().map(|y| 52.0 + 0.9 * (y - 52.0)).collect();
        let moments = Moments::of(&y, &q, &[1, 1, 1000], ChannelAxis::Second).unwrap();
        let noise = |gain: f64| moments.0[0].noise(gain, 0.0, 0.0);
        let (about_mean, about_zero) =
            (gains(&moments, GainRule::PerChannel, true), gains(&moments, GainRule::PerChannel, false));
        assert!((about_mean[0] - 1.0 / 0.9).abs() < 1e-3 && (about_zero[0] - 1.0).abs() < 1e-3);
        assert!(noise(about_zero[0]) < 0.01 * noise(about_mean[0]));
    }

    #[test]
    fn few_positions_share_a_gain_and_constants_have_none() {
        let mut moments = image(100, 0.9, 0.0);
        moments.0.push(image(100, 1.1, 0.0).0[0]);
        let found = gains(&moments, GainRule::PerChannel, true);
        assert!(found[0] == found[1] && (found[0] - 1.0).abs() < 1e-3);
        let constant = Moments::of(&[2.0; 600], &[1.0; 600], &[1, 1, 600], ChannelAxis::Second).unwrap();
        assert_eq!(gains(&constant, GainRule::PerChannel, true), [1.0]);
        assert_eq!(shifts(std::slice::from_ref(&constant), &constant, &[1.0], &[0.0]), [0.0]);
    }

    #[test]
    fn gains_stay_within_limits() {
        assert_eq!(gains(&image(1000, 0.1, 0.0), GainRule::PerChannel, true), [1.25]);
        assert_eq!(gains(&image(1000, 9.0, 0.0), GainRule::PerChannel, true), [0.8]);
        assert_eq!(gains(&image(1000, -1.0, 0.0), GainRule::PerChannel, true), [1.0]);
    }

    #[test]
    fn a_shift_meets_the_mean_after_the_gain() {
        let images = [image(1000, 0.9, 0.25), image(1000, 0.9, 0.25)];
        let total = Moments::total(&images);
        let gains = gains(&total, GainRule::PerChannel, true);
        let shift = shifts(&images, &total, &gains, &[0.5])[0];
        let (y, q) = total.0[0].means();
        assert!((gains[0] * (q - 0.5) + 0.5 + shift - y).abs() < 1e-9);
        let before = total.0[0].noise(1.0, 0.5, 0.0);
        assert!(total.0[0].noise(gains[0], 0.5, shift) < 1e-6 * before);
    }

    #[test]
    fn what_may_be_chance_is_not_corrected() {
        let images = [image(100, 1.0, 0.5), image(100, 1.0, -0.5)];
        assert_eq!(shifts(&images, &Moments::total(&images), &[1.0], &[0.0]), [0.0]);
    }
}
