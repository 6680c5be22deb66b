//! Moments of a histogram over arbitrary intervals, from prefix sums.

use crate::histogram::BINS_PER_SIDE;
use crate::{AffineParams, Range, TensorStats};

/// Mass, first and second moment.
type Moments = [f64; 3];

/// A histogram as a piecewise uniform density plus atoms at zero and at the extremes, in units of the bin width: edges are integers
/// then, and the prefix sums lose next to nothing to rounding.
pub(super) struct Binned {
    width: f64,
    /// Lower edge of the first occupied bin.
    first: f64,
    counts: Vec<f64>,
    /// Moments below every edge; one more than `counts`.
    prefix: Vec<Moments>,
    /// The exact extremes, which the bins do not count; they may be saturation spikes.
    atoms: Vec<Atom>,
    /// Finite values, zeros included.
    n: f64,
}

/// A value that occurs `count` times.
struct Atom {
    value: f32,
    count: f64,
}

impl Binned {
    pub(super) fn new(stats: &TensorStats) -> Self {
        let histogram = stats.histogram();
        let mut occupied = histogram.occupied();
        let first = occupied.next().map_or(0, |(bin, _)| bin);
        let last = occupied.next_back().map_or(first, |(bin, _)| bin);
        let index = |bin: i32| (bin + BINS_PER_SIDE as i32) as usize;
        let counts = histogram.counts().get(index(first)..=index(last)).unwrap_or_default();
        let mut counts: Vec<f64> = counts.iter().map(|&count| count as f64).collect();
        let atoms = atoms(stats);
        for Atom { value, count } in &atoms {
            let end = if *value < 0.0 { counts.first_mut() } else { counts.last_mut() };
            end.into_iter().for_each(|bin| *bin = (*bin - count).max(0.0));
        }
        let prefix = prefix_sums(&counts, f64::from(first));
        let n = stats.n_finite() as f64;
        Self { width: histogram.width(), first: f64::from(first), counts, prefix, atoms, n }
    }

    /// Moments of the mass below `edge`; a bin that contains it is split in proportion.
    fn below(&self, edge: f64) -> Moments {
        let offset = edge - self.first;
        if offset <= 0.0 {
            return [0.0; 3];
        }
        let index = (offset as usize).min(self.counts.len());
        let mut moments = self.prefix[index];
        if let Some(count) = self.counts.get(index) {
            let part = uniform_moments(*count, self.first + index as f64, offset - index as f64);
            (0..3).for_each(|order| moments[order] += part[order]);
        }
        moments
    }

    fn end(&self) -> f64 {
        self.first + self.counts.len() as f64
    }

    /// Mean squared error of quantizing with `params`. Zeros are exact and only enlarge the count.
    ///
    /// Per code with real value r the error is Σx² − 2rΣx + r²Σ1 over the interval that rounds to r.
    pub(super) fn mse(&self, params: &AffineParams) -> f64 {
        if self.counts.is_empty() {
            return 0.0;
        }
        let step = f64::from(params.scale()) / self.width;
        let qtype = params.qtype();
        let lowest = f64::from(qtype.qmin()) - f64::from(params.zero_point());
        let highest = f64::from(qtype.qmax()) - f64::from(params.zero_point());
        let mut level = (self.first / step).round().clamp(lowest, highest);
        let last = (self.end() / step).round().clamp(lowest, highest);
        let (mut sum, mut left) = (0.0, [0.0; 3]);
        while level <= last {
            let right = if level == last { self.below(self.end()) } else { self.below((level + 0.5) * step) };
            let real = level * step;
            sum += (right[2] - left[2]) - 2.0 * real * (right[1] - left[1]) + real * real * (right[0] - left[0]);
            left = right;
            level += 1.0;
        }
        let atoms: f64 = self.atoms.iter().map(|atom| atom.squared_error(params)).sum();
        (sum.max(0.0) * self.width * self.width + atoms) / self.n
    }

    /// Share of the finite values outside `range`, given the range of all of them.
    pub(super) fn clip_fraction(&self, range: Range, observed: Range) -> f64 {
        let mut clipped = 0.0;
        // Zeros are not in the bins, but outside a range that a bound moved away from zero they are not clipped:
        // every grid represents zero.
        if range.lo() > observed.lo() {
            clipped += self.below(f64::from(range.lo().min(0.0)) / self.width)[0];
        }
        if range.hi() < observed.hi() {
            clipped += self.below(self.end())[0] - self.below(f64::from(range.hi().max(0.0)) / self.width)[0];
        }
        let outside = |atom: &&Atom| atom.value < range.lo().min(0.0) || atom.value > range.hi().max(0.0);
        clipped += self.atoms.iter().filter(outside).map(|atom| atom.count).sum::<f64>();
        if self.n == 0.0 { 0.0 } else { clipped / self.n }
    }
}

impl Atom {
    fn squared_error(&self, params: &AffineParams) -> f64 {
        let error = f64::from(self.value) - f64::from(params.dequantize(params.quantize(self.value)));
        self.count * error * error
    }
}

/// The minimum if it is negative and the maximum if it is positive; they lie in the outermost bins. Any other extreme,
/// such as the minimum of a positive tensor, stays in its bin.
fn atoms(stats: &TensorStats) -> Vec<Atom> {
    let Some(ends) = stats.extremes() else { return Vec::new() };
    let lo = Atom { value: ends.range.lo(), count: ends.n_at_min as f64 };
    let hi = Atom { value: ends.range.hi(), count: ends.n_at_max as f64 };
    let outer = [(lo.value < 0.0, lo), (hi.value > 0.0, hi)];
    outer.into_iter().filter(|(is_outer, _)| *is_outer).map(|(_, atom)| atom).collect()
}

fn prefix_sums(counts: &[f64], first: f64) -> Vec<Moments> {
    let mut prefix = Vec::with_capacity(counts.len() + 1);
    let mut sums = [0.0; 3];
    prefix.push(sums);
    for (index, &count) in counts.iter().enumerate() {
        let bin = uniform_moments(count, first + index as f64, 1.0);
        (0..3).for_each(|order| sums[order] += bin[order]);
        prefix.push(sums);
    }
    prefix
}

/// Moments of `count` values spread over [edge, edge + 1), restricted to the first `part` of the bin.
fn uniform_moments(count: f64, edge: f64, part: f64) -> Moments {
    let mass = count * part;
    let second = edge * edge + edge * part + part * part / 3.0;
    [mass, mass * (edge + 0.5 * part), mass * second]
}
