//! What a run shows to those who watch it.

use crate::error::OpError;
use crate::pool::Pool;
use crate::value::{Activations, Codes, Value};
use quantize_ir::{Tensor, ValueId};
use quantize_kernels::Isa;
use quantize_kernels::stats::{self, Counters};
use quantize_numerics::histogram::BINS;
use quantize_numerics::stats::{Summary, Values};
use quantize_numerics::{DyadicHistogram, Range};
use std::borrow::Cow;
use std::cell::RefCell;

/// Is shown the values of a run that were asked for, each as soon as it is there: fed ones first, then computed ones;
/// constants never. What is computed on the way to them is not shown, and need not be in memory at any time.
pub trait Observer {
    /// Sees `value`, which holds `seen` in this run.
    fn observe(&mut self, value: ValueId, seen: &View<'_>);

    /// Whether it looks at `value`; where a value must be converted to be seen, those it does not look at are not.
    fn wants(&self, _value: ValueId) -> bool {
        true
    }

    /// Hears that a step is done.
    fn finished(&mut self, _step: &Finished<'_>) {}
}

/// A step that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished<'a> {
    /// The node whose operator ran first in it, as messages name it.
    pub node: &'a str,
    /// Its operator.
    pub op: &'a str,
    /// How it was computed.
    pub kernel: &'static str,
    /// Products that were added up.
    pub multiply_adds: u64,
}

/// Looks at nothing.
impl Observer for () {
    fn observe(&mut self, _: ValueId, _: &View<'_>) {}

    fn wants(&self, _: ValueId) -> bool {
        false
    }
}

impl<F: FnMut(ValueId, &View<'_>)> Observer for F {
    fn observe(&mut self, value: ValueId, seen: &View<'_>) {
        self(value, seen);
    }
}

/// A value as it is in memory, for as long as it is looked at.
#[derive(Debug)]
pub struct View<'a> {
    held: Held<'a>,
    isa: Isa,
    /// Working memory of statistics, kept from value to value.
    counters: Option<&'a RefCell<Counters>>,
}

#[derive(Debug)]
enum Held<'a> {
    Plain(&'a Tensor),
    Blocked(&'a Activations<f32>),
    Codes(&'a Codes),
}

impl<'a> View<'a> {
    /// A tensor in memory order.
    pub fn of(tensor: &'a Tensor) -> Self {
        Self { held: Held::Plain(tensor), isa: Isa::active(), counters: None }
    }

    pub(crate) fn new(value: &'a Value<'_>, isa: Isa, counters: &'a RefCell<Counters>) -> Self {
        let held = match value {
            Value::Shared(tensor) => Held::Plain(tensor),
            Value::Plain(tensor) => Held::Plain(tensor),
            Value::Blocked(blocks) => Held::Blocked(blocks),
            Value::Codes(codes) => Held::Codes(codes),
        };
        Self { held, isa, counters: Some(counters) }
    }

    /// Dimensions of the tensor.
    pub fn dims(&self) -> Cow<'_, [usize]> {
        match self.held {
            Held::Plain(tensor) => Cow::Borrowed(tensor.shape()),
            Held::Blocked(blocks) => Cow::Owned(blocks.dims()),
            Held::Codes(codes) => Cow::Owned(codes.activations.dims()),
        }
    }

    /// The tensor in memory order: itself, or a copy out of its blocks.
    ///
    /// # Errors
    /// If the copy cannot be made.
    pub fn tensor(&self) -> Result<Cow<'a, Tensor>, OpError> {
        match self.held {
            Held::Plain(tensor) => Ok(Cow::Borrowed(tensor)),
            Held::Blocked(blocks) => blocks.tensor(self.isa, &mut Pool::default()).map(Cow::Owned),
            Held::Codes(codes) => {
                let mut pool = Pool::default();
                codes.reals(self.isa, &mut pool)?.tensor(self.isa, &mut pool).map(Cow::Owned)
            }
        }
    }

    /// Its elements for statistics, counted by the fastest kernels; `None` if they are not `float32`
    /// or have been rounded to codes.
    pub fn values(&self) -> Option<Elements<'a>> {
        let values = match self.held {
            Held::Plain(tensor) => stats::Values::Plain(tensor.as_slice().ok()?),
            Held::Blocked(blocks) => stats::Values::Blocked(blocks.view()),
            Held::Codes(_) => return None,
        };
        Some(Elements { values, isa: self.isa, counters: self.counters })
    }
}

/// The elements of a value, as statistics take them.
#[derive(Debug)]
pub struct Elements<'a> {
    values: stats::Values<'a>,
    isa: Isa,
    counters: Option<&'a RefCell<Counters>>,
}

impl Elements<'_> {
    /// What `count` finds with the working memory of the session, or with its own where there is none to borrow.
    fn with_counters<R>(&self, count: impl FnOnce(&mut Counters) -> R) -> R {
        match self.counters.and_then(|counters| counters.try_borrow_mut().ok()) {
            Some(mut counters) => count(&mut counters),
            None => count(&mut Counters::default()),
        }
    }
}

impl Values for Elements<'_> {
    fn len(&self) -> u64 {
        self.values.len() as u64
    }

    fn summary(&self) -> Summary {
        summary_of(&stats::summarize(self.isa, self.values))
    }

    fn survey(&self, histogram: &mut DyadicHistogram) -> Summary {
        self.with_counters(|counters| {
            let found = stats::survey(self.isa, self.values, histogram.exponent(), counters);
            if let Some(counts) = found.exponent.and_then(|exponent| histogram.counts_at(exponent)) {
                counters.add_to(self.isa, counts);
            }
            summary_of(&found.summary)
        })
    }

    fn count_equal(&self, value: f32) -> u64 {
        stats::count_equal(self.isa, self.values, value)
    }

    fn count_bins(&self, exponent: i16, counts: &mut [u64; BINS]) {
        self.with_counters(|counters| stats::count_bins(self.isa, self.values, exponent, counts, counters));
    }
}

fn summary_of(found: &stats::Summary) -> Summary {
    let range = found.range.and_then(|(lo, hi)| Range::new(lo, hi).ok());
    Summary { n_nan: found.nan, n_inf: found.infinite, n_zero: found.zeros, range }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::op::Layout;
    use quantize_numerics::TensorStats;

    #[test]
    fn statistics_of_blocks_are_those_of_the_tensor() {
        let isa = Isa::active();
        let data: Vec<f32> =
            (0..2 * 21 * 50 * 40).map(|i| ((i * 7919 % 1013) as f32 - 400.0).max(-100.0) * 0.01).collect();
        let tensor = Tensor::new([2, 21, 50, 40], data).unwrap();
        let mut pool = Pool::default();
        let blocks = Activations::of(&tensor, Layout::ChannelsFirst, isa.lanes(), isa, &mut pool).unwrap().unwrap();
        let value = Value::Blocked(blocks);
        let counters = RefCell::default();
        let view = View::new(&value, isa, &counters);
        let (mut expected, mut plain, mut blocked) = (TensorStats::new(), TensorStats::new(), TensorStats::new());
        expected.observe(3, None, tensor.as_slice().unwrap()).unwrap();
        plain.observe_values(3, &View::of(&tensor).values().unwrap()).unwrap();
        blocked.observe_values(3, &view.values().unwrap()).unwrap();
        assert_eq!((&plain, &blocked), (&expected, &expected));
        assert_eq!((view.dims(), view.tensor().unwrap()), (Cow::Borrowed(tensor.shape()), Cow::Borrowed(&tensor)));
    }
}
