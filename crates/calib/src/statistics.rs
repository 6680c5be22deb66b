//! Statistics of many tensors over many images.
//!
//! A collector belongs to one thread; collectors merge to the same whole for every split of the images. [`file`] is
//! their form outside of a run. Running the model happens elsewhere.

mod error;
mod file;

pub use error::StatisticsError;
pub use file::{Fingerprint, Fingerprinting, Provenance, Record, StatisticsFile, fingerprint};

use quantize_ir::ValueId;
use quantize_numerics::stats::Values;
use quantize_numerics::{NumericsError, TensorStats};
use std::collections::BTreeMap;

/// Statistics of the observed values, by value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    tensors: BTreeMap<ValueId, Record>,
}

impl Statistics {
    /// No image yet, for these values.
    pub fn of(values: impl IntoIterator<Item = ValueId>) -> Self {
        Self { tensors: values.into_iter().map(|v| (v, Record::default())).collect() }
    }

    /// Adds what `image` produced in `value`; values that are not collected are ignored.
    ///
    /// # Errors
    /// If the value was seen for this image before.
    pub fn observe<V: Values + ?Sized>(&mut self, image: u64, value: ValueId, seen: &V) -> Result<(), NumericsError> {
        let Some(observed) = self.tensors.get_mut(&value) else { return Ok(()) };
        let not_finite = |s: &TensorStats| s.n_nan() + s.n_inf();
        let before = not_finite(&observed.stats);
        observed.stats.observe_values(image, seen)?;
        if not_finite(&observed.stats) > before {
            observed.first_not_finite = earliest(observed.first_not_finite, Some(image));
        }
        Ok(())
    }

    /// Adds what another collector saw of other images.
    ///
    /// # Errors
    /// If both saw the same image.
    pub fn merge(&mut self, other: &Self) -> Result<(), NumericsError> {
        for (value, theirs) in &other.tensors {
            let ours = self.tensors.entry(*value).or_default();
            ours.stats.merge(&theirs.stats)?;
            ours.first_not_finite = earliest(ours.first_not_finite, theirs.first_not_finite);
        }
        Ok(())
    }

    /// The records of all collected values.
    pub fn records(&self) -> impl Iterator<Item = (ValueId, &Record)> {
        self.tensors.iter().map(|(value, record)| (*value, record))
    }

    /// Takes over a record as it is.
    pub fn insert(&mut self, value: ValueId, record: Record) {
        self.tensors.insert(value, record);
    }

    /// Statistics of `value`, if it is collected.
    pub fn get(&self, value: ValueId) -> Option<&TensorStats> {
        self.tensors.get(&value).map(|o| &o.stats)
    }

    /// Values in which some image produced NaN or an infinity, how often, and the first such image.
    pub fn not_finite(&self) -> impl Iterator<Item = (ValueId, u64, u64)> + '_ {
        self.tensors.iter().filter_map(|(v, o)| Some((*v, o.stats.n_nan() + o.stats.n_inf(), o.first_not_finite?)))
    }
}

fn earliest(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantize_ir::{Graph, Value};

    #[test]
    fn collectors_merge_to_the_same_whole_for_every_split() {
        let mut graph = Graph::new();
        let value = graph.add_value(Value::named("x"));
        let image = |i: u64| [i as f32, -0.5, if i == 3 { f32::NAN } else { 0.0 }];
        let collect = |images: &[u64]| {
            let mut s = Statistics::of([value]);
            images.iter().for_each(|i| s.observe(*i, value, &image(*i)[..]).unwrap());
            s
        };
        let whole = collect(&[0, 1, 2, 3, 4, 5]);
        for (left, right) in [(vec![5, 1], vec![3, 0, 4, 2]), (vec![], vec![4, 3, 2, 1, 0, 5])] {
            let mut merged = collect(&left);
            merged.merge(&collect(&right)).unwrap();
            assert_eq!(merged, whole);
        }
        assert_eq!(whole.not_finite().collect::<Vec<_>>(), vec![(value, 1, 3)]);
    }
}
