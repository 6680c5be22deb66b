//! First and second moments of a layer's result in both branches, for each output channel.

use crate::layer::ChannelAxis;
use quantize_numerics::ChannelLayout;

/// Sums over the positions of one channel: `y` of the fp32 branch, `q` of the quantized one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pair {
    pub(crate) count: f64,
    y: f64,
    q: f64,
    yy: f64,
    yq: f64,
    qq: f64,
}

impl Pair {
    fn of(y: &[f32], q: &[f32]) -> Self {
        // Independent sums let the compiler use vectors, in an order that is always the same.
        const LANES: usize = 8;
        let mut lanes = [[0f64; LANES]; 5];
        let (wide_y, wide_q) = (y.chunks_exact(LANES), q.chunks_exact(LANES));
        let rest = wide_y.remainder().iter().zip(wide_q.remainder());
        let mut sum = rest.fold(Self { count: y.len() as f64, ..Self::default() }, |sum, (y, q)| sum.with(*y, *q));
        for (y, q) in wide_y.zip(wide_q) {
            for i in 0..LANES {
                let (y, q) = (f64::from(y[i]), f64::from(q[i]));
                lanes[0][i] += y;
                lanes[1][i] += q;
                lanes[2][i] += y * y;
                lanes[3][i] += y * q;
                lanes[4][i] += q * q;
            }
        }
        let [y, q, yy, yq, qq] = lanes.map(|lane| lane.iter().sum::<f64>());
        sum.y += y;
        sum.q += q;
        sum.yy += yy;
        sum.yq += yq;
        sum.qq += qq;
        sum
    }

    fn with(self, y: f32, q: f32) -> Self {
        let (y, q) = (f64::from(y), f64::from(q));
        Self {
            count: self.count,
            y: self.y + y,
            q: self.q + q,
            yy: self.yy + y * y,
            yq: self.yq + y * q,
            qq: self.qq + q * q,
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.y += other.y;
        self.q += other.q;
        self.yy += other.yy;
        self.yq += other.yq;
        self.qq += other.qq;
    }

    /// Means of both branches.
    pub(crate) fn means(&self) -> (f64, f64) {
        (self.y / self.count.max(1.0), self.q / self.count.max(1.0))
    }

    /// Variance of the fp32 branch, times the number of positions.
    pub(crate) fn spread(&self) -> f64 {
        (self.yy - self.y * self.means().0).max(0.0)
    }

    /// Covariance of both branches, times the number of positions.
    pub(crate) fn shared(&self) -> f64 {
        self.yq - self.y * self.means().1
    }

    /// The same sums about zero instead of the means: what counts where no bias takes up a mean.
    pub(crate) fn about_zero(&self) -> Self {
        Self { y: 0.0, q: 0.0, ..*self }
    }

    /// Energy of the difference between the branches once the quantized one is `gain * (q - pivot) + pivot + shift`.
    pub(crate) fn noise(&self, gain: f64, pivot: f64, shift: f64) -> f64 {
        let offset = pivot - gain * pivot + shift;
        let square = gain * gain * self.qq + 2.0 * gain * offset * self.q + offset * offset * self.count;
        let cross = gain * self.yq + offset * self.y;
        (self.yy - 2.0 * cross + square).max(0.0)
    }

    /// Energy of the fp32 branch.
    pub(crate) fn signal(&self) -> f64 {
        self.yy
    }
}

/// An entry for each output channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Moments(pub(crate) Vec<Pair>);

impl Moments {
    /// The moments of two results of one layer, equal in shape.
    pub(crate) fn of(y: &[f32], q: &[f32], shape: &[usize], axis: ChannelAxis) -> Option<Self> {
        let axis = match axis {
            ChannelAxis::Second => 1,
            ChannelAxis::Last => shape.len().checked_sub(1)?,
        };
        let layout = ChannelLayout::of_shape(shape, axis)?;
        layout.check(y.len()).ok()?;
        layout.check(q.len()).ok()?;
        let mut pairs = vec![Pair::default(); layout.channels];
        for ((channel, y), (_, q)) in layout.runs(y).zip(layout.runs(q)) {
            if layout.inner == 1 {
                pairs[channel] = Pair { count: pairs[channel].count + 1.0, ..pairs[channel].with(y[0], q[0]) };
            } else {
                pairs[channel].add(&Pair::of(y, q));
            }
        }
        Some(Self(pairs))
    }

    /// The moments of all images, added up in the order of the images.
    pub(crate) fn total(images: &[Self]) -> Self {
        let mut total = images.first().cloned().unwrap_or_default();
        for image in images.iter().skip(1) {
            total.0.iter_mut().zip(&image.0).for_each(|(sum, pair)| sum.add(pair));
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
    }

    proptest! {
        #[test]
        fn moments_are_those_of_the_definition(values in prop::collection::vec((-4f32..4.0, -4f32..4.0), 1..60)) {
            let (y, q): (Vec<f32>, Vec<f32>) = values.iter().copied().unzip();
            let pair = Pair::of(&y, &q);
            let n = y.len() as f64;
            let mean = |v: &[f32]| v.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
            let (my, mq) = (mean(&y), mean(&q));
            let shared: f64 = values.iter().map(|(y, q)| (f64::from(*y) - my) * (f64::from(*q) - mq)).sum();
            let spread: f64 = y.iter().map(|y| (f64::from(*y) - my).powi(2)).sum();
            prop_assert!(close(pair.shared(), shared) && close(pair.spread(), spread));
            let (gain, pivot, shift) = (1.25, 0.5, -0.25);
            let noise: f64 = values
                .iter()
                .map(|(y, q)| (f64::from(*y) - (gain * (f64::from(*q) - pivot) + pivot + shift)).powi(2))
                .sum();
            prop_assert!(close(pair.noise(gain, pivot, shift), noise));
        }
    }

    #[test]
    fn channels_stand_second_or_last() {
        let y = [1f32, 2.0, 3.0, 4.0];
        let means = |axis| {
            let moments = Moments::of(&y, &y, &[1, 2, 2], axis).unwrap();
            moments.0.iter().map(|p| p.means().0).collect::<Vec<_>>()
        };
        assert_eq!(means(ChannelAxis::Second), [1.5, 3.5]);
        assert_eq!(means(ChannelAxis::Last), [2.0, 3.0]);
        assert!(Moments::of(&y, &y[..3], &[1, 2, 2], ChannelAxis::Last).is_none());
    }
}
