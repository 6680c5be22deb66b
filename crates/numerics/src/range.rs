//! Activation range estimation from statistics alone: changing the method never needs another calibration run.
//!
//! Turning a range into scale and zero point is [`crate::affine`]'s business.

mod analytic;
mod binned;
mod entropy;
mod headroom;
mod quantile;
mod search;

use std::fmt;
use std::str::FromStr;

use crate::xfdnn::threshold;
use crate::{AffineParams, NumericsError, QuantType, Range, RangeParams, TensorStats, params_from_range};
use binned::Binned;

/// Share of the values that the MSE method may clip on types of at least 7 bits: rare outliers are often useful.
const MAX_CLIP_FRACTION: f64 = 1e-3;

/// Share of all values at an exact extreme from which on it is an atom of the distribution (a saturation value).
const ATOM_FRACTION: f64 = 1e-4;

/// Fewest values beyond a percentile that make it more than interpolation noise.
const MIN_TAIL_VALUES: f64 = 10.0;

/// Finest grid that a histogram of 4096 bins per side can still judge.
const MAX_SEARCH_STEPS: i64 = 1024;

/// How an activation range is chosen.
///
/// Text form: `minmax`, `mean-minmax`, `percentile` (99.999), `percentile=99.99`, `mse`, `kl`, `aciq`, `cdf-kl`,
/// `headroom`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum RangeMethod {
    /// Smallest and largest value.
    MinMax,
    /// Means over images of their smallest and of their largest values.
    MeanMinMax,
    /// The central share of the values, in percent in (0, 100]; what is cut is cut half at either end for signed
    /// tensors, all at the outer end for one-sided ones.
    Percentile(f64),
    /// Least mean squared quantization error.
    Mse,
    /// The threshold of TensorRT's entropy criterion, both ways for values of both signs. It tends to cut off what
    /// saturated activations carry.
    Kl,
    /// The threshold that is best for a Laplace distribution with the mean deviation of the values (ACIQ). Of use with
    /// few bits.
    Aciq,
    /// The clipping threshold t of xfDNN's Kullback–Leibler criterion on cumulative distributions
    /// ([`crate::xfdnn::threshold`]): \[−t, t\] on a symmetric grid, even where t exceeds every value, and the part of
    /// the observed range in \[−t, t\] on others. Grids of 16 bits and more get min-max.
    CdfKl,
    /// Smallest and largest value with room for images that were not seen: for a network's results, which nothing
    /// makes up for once they are cut off.
    Headroom,
}

impl RangeMethod {
    /// Percentile used by the bare word `percentile`.
    pub const DEFAULT_PERCENTILE: f64 = 99.999;
}

impl fmt::Display for RangeMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinMax => f.pad("minmax"),
            Self::MeanMinMax => f.pad("mean-minmax"),
            Self::Kl => f.pad("kl"),
            Self::Aciq => f.pad("aciq"),
            Self::Percentile(Self::DEFAULT_PERCENTILE) => f.pad("percentile"),
            Self::Percentile(percent) => write!(f, "percentile={percent}"),
            Self::Mse => f.pad("mse"),
            Self::CdfKl => f.pad("cdf-kl"),
            Self::Headroom => f.pad("headroom"),
        }
    }
}

impl FromStr for RangeMethod {
    type Err = NumericsError;

    fn from_str(text: &str) -> Result<Self, NumericsError> {
        let unknown = || NumericsError::UnknownRangeMethod { name: text.to_owned() };
        match text.split_once('=') {
            None if text == "minmax" => Ok(Self::MinMax),
            None if text == "mean-minmax" => Ok(Self::MeanMinMax),
            None if text == "kl" => Ok(Self::Kl),
            None if text == "aciq" => Ok(Self::Aciq),
            None if text == "percentile" => Ok(Self::Percentile(Self::DEFAULT_PERCENTILE)),
            None if text == "mse" => Ok(Self::Mse),
            None if text == "cdf-kl" => Ok(Self::CdfKl),
            None if text == "headroom" => Ok(Self::Headroom),
            Some(("percentile", percent)) => {
                let percent = percent.parse().map_err(|_| unknown())?;
                check_percent(percent).map(|()| Self::Percentile(percent))
            }
            _ => Err(unknown()),
        }
    }
}

fn check_percent(percent: f64) -> Result<(), NumericsError> {
    let valid = percent > 0.0 && percent <= 100.0;
    if valid { Ok(()) } else { Err(NumericsError::InvalidPercentile { percent }) }
}

/// What a user should know about an estimated range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RangeNote {
    /// Every finite value is zero.
    ConstantZero,
    /// The producer bounds its output; min-max within the bound was used.
    Bounded,
    /// The smallest value is an atom of the distribution and was kept.
    AtomAtMin,
    /// The largest value is an atom of the distribution and was kept.
    AtomAtMax,
    /// One image does not support a percentile; min-max was used.
    SingleImage,
    /// Too few values lie beyond the percentile; min-max was used.
    TooFewValues,
    /// Clipping gains less than 0.1 % of the error; min-max was kept.
    NoGain,
    /// The grid is finer than the histogram; min-max was used.
    GridTooFine,
    /// Too few values, or none near zero, for a criterion on their distribution; min-max was used.
    CriterionUndefined,
    /// All values lie far from zero, which the range must contain: resolution is lost.
    FarFromZero,
    /// All values have one sign but the grid is symmetric: half of the codes stay unused.
    HalfUnused,
}

impl RangeNote {
    const fn text(self) -> &'static str {
        match self {
            Self::ConstantZero => "every value is zero",
            Self::Bounded => "bounded activation, min-max within the bound",
            Self::AtomAtMin => "many values equal the minimum, which is kept",
            Self::AtomAtMax => "many values equal the maximum, which is kept",
            Self::SingleImage => "one image only, min-max used",
            Self::TooFewValues => "too few values beyond the percentile, min-max used",
            Self::NoGain => "clipping does not pay, min-max kept",
            Self::GridTooFine => "grid finer than the histogram, min-max used",
            Self::CriterionUndefined => "too few values or none near zero, min-max used",
            Self::FarFromZero => "all values are far from zero, resolution is lost",
            Self::HalfUnused => "one-sided values on a symmetric grid, half of the codes are unused",
        }
    }
}

impl fmt::Display for RangeNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

/// A range and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeEstimate {
    /// The range to quantize; zero is added by [`params_from_range`].
    pub range: Range,
    /// Scale and zero point for the range.
    pub params: RangeParams,
    /// Mean squared quantization error over the finite values.
    pub expected_mse: f64,
    /// Share of the finite values outside the range.
    pub clip_fraction: f64,
    /// The method that produced the range in the end.
    pub method_used: RangeMethod,
    /// Remarks, in the order of [`RangeNote`]'s variants or of the decisions taken.
    pub notes: Vec<RangeNote>,
}

/// Estimates the range of an activation tensor for codes of `qtype`, on a symmetric grid if asked for.
///
/// `bound` is the output range of a bounded producer (ReLU6, Clip, Sigmoid, Softmax, Tanh): the range is then min-max
/// within the bound, whatever the method, because clipping a saturation spike destroys it. For other producers the
/// same holds per end at which more than 10⁻⁴ of the values equal the exact extreme, except for the
/// criteria on distributions ([`RangeMethod::Kl`], [`RangeMethod::Aciq`], [`RangeMethod::CdfKl`]).
///
/// # Errors
/// [`NumericsError::EmptyStats`] without finite values, [`NumericsError::InvalidPercentile`], or
/// [`NumericsError::InvalidScale`] if no f32 scale covers the range.
pub fn estimate(
    stats: &TensorStats,
    qtype: QuantType,
    symmetric: bool,
    method: RangeMethod,
    bound: Option<Range>,
) -> Result<RangeEstimate, NumericsError> {
    if let RangeMethod::Percentile(percent) = method {
        check_percent(percent)?;
    }
    let observed = stats.range().ok_or(NumericsError::EmptyStats)?;
    let task = Task { binned: Binned::new(stats), stats, observed, grid: Grid { qtype, symmetric } };
    let mut notes = Vec::new();
    let (range, method_used) = task.choose(method, bound, &mut notes)?;
    notes.extend(task.grid.remarks(observed));
    let params = task.grid.params(range)?;
    let expected_mse = task.binned.mse(&params.params);
    let clip_fraction = task.binned.clip_fraction(task.grid.covered(range), observed);
    Ok(RangeEstimate { range, params, expected_mse, clip_fraction, method_used, notes })
}

/// Mean squared error of quantizing the finite values of `stats` with `params`; 0 without any. Values are taken as
/// uniform within their histogram bin, which is accurate to about 1 % for 8-bit grids.
pub fn expected_mse(stats: &TensorStats, params: &AffineParams) -> f64 {
    Binned::new(stats).mse(params)
}

#[derive(Debug, Clone, Copy)]
struct Grid {
    qtype: QuantType,
    symmetric: bool,
}

impl Grid {
    fn params(self, range: Range) -> Result<RangeParams, NumericsError> {
        params_from_range(range, self.qtype, self.symmetric)
    }

    fn is_symmetric(self) -> bool {
        self.symmetric || self.qtype.is_symmetric()
    }

    /// On a symmetric grid the smaller end reaches as far as the larger one.
    fn covered(self, range: Range) -> Range {
        if self.is_symmetric() { Range::new(-range.abs_max(), range.abs_max()).unwrap_or(range) } else { range }
    }

    fn remarks(self, observed: Range) -> impl Iterator<Item = RangeNote> {
        let (lo, hi) = (observed.lo(), observed.hi());
        let one_sided = (lo >= 0.0) != (hi <= 0.0);
        let remarks = [
            (lo == 0.0 && hi == 0.0, RangeNote::ConstantZero),
            (lo > 0.5 * hi || hi < 0.5 * lo, RangeNote::FarFromZero),
            (self.is_symmetric() && one_sided, RangeNote::HalfUnused),
        ];
        remarks.into_iter().filter(|&(applies, _)| applies).map(|(_, note)| note)
    }
}

/// Which ends of the observed range must be kept.
#[derive(Debug, Clone, Copy)]
struct Pinned {
    lo: bool,
    hi: bool,
}

struct Task<'a> {
    stats: &'a TensorStats,
    binned: Binned,
    observed: Range,
    grid: Grid,
}

impl Task<'_> {
    fn choose(
        &self,
        method: RangeMethod,
        bound: Option<Range>,
        notes: &mut Vec<RangeNote>,
    ) -> Result<(Range, RangeMethod), NumericsError> {
        if let Some(bound) = bound {
            notes.push(RangeNote::Bounded);
            return Ok((self.observed.clamp_to(bound), RangeMethod::MinMax));
        }
        let found = match method {
            RangeMethod::MinMax => return Ok((self.observed, method)),
            RangeMethod::MeanMinMax => return Ok((self.mean_of_images()?, method)),
            RangeMethod::Kl => self.entropy(),
            RangeMethod::Aciq => self.analytic(),
            RangeMethod::Percentile(percent) => self.percentile(percent, self.pinned(notes)),
            RangeMethod::Mse => self.least_mse(self.pinned(notes))?,
            RangeMethod::CdfKl => self.cdf_kl(),
            RangeMethod::Headroom => return Ok((self.with_headroom()?, method)),
        };
        Ok(match found {
            Ok(range) => (range, method),
            Err(note) => {
                notes.push(note);
                (self.observed, RangeMethod::MinMax)
            }
        })
    }

    fn mean_of_images(&self) -> Result<Range, NumericsError> {
        let (mut lo, mut hi, mut images) = (0.0, 0.0, 0.0);
        for (_, range) in self.stats.images() {
            let Some(range) = range else { continue };
            lo += f64::from(range.lo());
            hi += f64::from(range.hi());
            images += 1.0;
        }
        Range::new((lo / images) as f32, (hi / images) as f32)
    }

    /// The range that the threshold of the entropy criterion leaves, or why min-max must do. Nothing is pinned.
    fn entropy(&self) -> Result<Range, RangeNote> {
        let steps = self.grid.qtype.steps();
        let one_sided = self.observed.lo() >= 0.0 || self.observed.hi() <= 0.0;
        let levels = if one_sided && !self.grid.is_symmetric() { steps + 1 } else { steps / 2 + 1 };
        let levels = usize::try_from(levels).unwrap_or(usize::MAX);
        let threshold = entropy::threshold(self.stats, levels).ok_or(RangeNote::GridTooFine)? as f32;
        let clipped = Range::new(-threshold, threshold).map_err(|_| RangeNote::CriterionUndefined)?;
        Ok(self.observed.clamp_to(clipped))
    }

    /// The range for a Laplace distribution, or why min-max must do. Nothing is pinned.
    fn analytic(&self) -> Result<Range, RangeNote> {
        let bits = (self.grid.qtype.steps() as u64 + 1).next_power_of_two().trailing_zeros();
        analytic::range(self.stats, self.observed, bits).ok_or(RangeNote::GridTooFine)
    }

    fn with_headroom(&self) -> Result<Range, NumericsError> {
        if self.grid.is_symmetric() {
            let magnitude = headroom::magnitude(self.stats, self.observed);
            return Range::new(-magnitude, magnitude);
        }
        Ok(headroom::with_headroom(self.stats, self.observed))
    }

    fn pinned(&self, notes: &mut Vec<RangeNote>) -> Pinned {
        let n = self.stats.n_finite() as f64;
        // A single occurrence is no spike, however short the tensor.
        let is_atom = |count: u64| count >= 2 && count as f64 > ATOM_FRACTION * n;
        let ends = self.stats.extremes();
        let pinned = Pinned {
            lo: ends.is_some_and(|ends| is_atom(ends.n_at_min)),
            hi: ends.is_some_and(|ends| is_atom(ends.n_at_max)),
        };
        notes.extend(pinned.lo.then_some(RangeNote::AtomAtMin));
        notes.extend(pinned.hi.then_some(RangeNote::AtomAtMax));
        pinned
    }

    /// The percentile range, or why min-max must do.
    fn percentile(&self, percent: f64, pinned: Pinned) -> Result<Range, RangeNote> {
        if self.stats.images().len() < 2 {
            return Err(RangeNote::SingleImage);
        }
        let tail = (1.0 - percent / 100.0) * self.stats.n_finite() as f64;
        if tail < MIN_TAIL_VALUES {
            return Err(RangeNote::TooFewValues);
        }
        Ok(quantile::central(self.stats, self.observed, tail, pinned))
    }

    /// The range that the threshold of the criterion leaves, or why min-max must do. Nothing is pinned: the criterion
    /// has seen the spikes.
    fn cdf_kl(&self) -> Result<Range, RangeNote> {
        let qtype = self.grid.qtype;
        if threshold::is_too_fine(qtype) {
            return Err(RangeNote::GridTooFine);
        }
        let threshold = threshold::criterion(self.stats, qtype).ok_or(RangeNote::CriterionUndefined)?;
        let threshold = (threshold as f32).min(f32::MAX);
        let clipped = Range::new(-threshold, threshold).map_err(|_| RangeNote::CriterionUndefined)?;
        Ok(if self.grid.is_symmetric() { clipped } else { self.observed.clamp_to(clipped) })
    }

    /// The range of least expected error, or why min-max must do.
    fn least_mse(&self, pinned: Pinned) -> Result<Result<Range, RangeNote>, NumericsError> {
        if self.grid.qtype.steps() > MAX_SEARCH_STEPS {
            return Ok(Err(RangeNote::GridTooFine));
        }
        let full = self.observed.including_zero();
        let baseline = self.binned.mse(&self.grid.params(full)?.params);
        let (range, loss) = search::least_loss(full, self.grid.is_symmetric(), pinned, |range| self.loss(range));
        let accepted = loss < 0.999 * baseline;
        Ok(if accepted { Ok(range) } else { Err(RangeNote::NoGain) })
    }

    /// Expected error of a candidate range; infinite if it clips too much.
    fn loss(&self, range: Range) -> f64 {
        let capped = self.grid.qtype.steps() >= 127;
        if capped && self.binned.clip_fraction(self.grid.covered(range), self.observed) > MAX_CLIP_FRACTION {
            return f64::INFINITY;
        }
        self.grid.params(range).map_or(f64::INFINITY, |found| self.binned.mse(&found.params))
    }
}

#[cfg(test)]
mod tests;
