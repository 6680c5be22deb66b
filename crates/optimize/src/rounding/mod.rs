//! Codes of weights that keep a layer's result rather than its weights.
//!
//! With columns `x` of a layer's input and an error `e = s (q - z) - w` of one channel's weights, the result's error
//! beyond its mean, which the bias takes up, has the energy `e' H e` with `H` the covariance of the columns; without a
//! bias that of the whole error, with `H` their second moments. Rounding to the
//! nearest code makes every element of `e` small; here `e' H e` is: first greedily, each code answering the errors made
//! so far ([`greedy`]; Frantar et al. 2022, "GPTQ"), then by changing single codes as long as that helps ([`descent`]).
//! What lives here: which columns are looked at, and the way from a layer to its codes.

mod descent;
mod greedy;
mod moments;
mod targets;

use crate::columns::{Geometry, Places, Reader, places};
use crate::layer::Layer;
use crate::live::Held;
use faer::Mat;
use greedy::Factor;
use moments::moments;
use quantize_ir::Quantizers;
use quantize_parallel::{Silent, for_each};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use targets::Targets;

/// Columns of more elements are taken apart, errors of different parts being taken for independent: the work grows with
/// the square of the length.
const LONGEST: usize = 1152;

/// Columns looked at for each of their elements, and at least.
const COLUMNS_PER_ELEMENT: usize = 8;
const FEWEST_COLUMNS: usize = 1024;

/// With fewer columns for each element the covariance is more chance than structure.
const COLUMNS_NEEDED: usize = 2;

/// Output channels that are solved together.
const CHUNK: usize = 64;

/// Codes stay within so many steps of the weight, whatever the columns at hand say.
const REACH: f64 = 1.5;

/// The codes of a layer's weights.
pub(crate) struct Task<'a> {
    pub(crate) geometry: &'a Geometry,
    pub(crate) weights: &'a [f32],
    /// Of each weight, in its order.
    pub(crate) quantizers: &'a Quantizers,
    /// Whether a bias takes up the mean of the result's error.
    pub(crate) centred: bool,
    pub(crate) threads: usize,
}

/// The columns of several samples that are looked at.
struct Sample<'a> {
    /// The samples, and elements from one of their channels to the next.
    inputs: Vec<(&'a Held, usize)>,
    places: Places,
}

impl<'a> Sample<'a> {
    /// Evenly spread columns of `images` for a layer; `None` if an input does not fit.
    fn of(layer: &Layer, geometry: &Geometry, images: &[&'a Held], wanted: usize) -> Option<Self> {
        let readers: Vec<Reader> = images.iter().map(|image| geometry.reader(image.shape())).collect::<Option<_>>()?;
        let rows: usize = readers.iter().map(|reader| reader.rows).sum();
        let step = rows.div_ceil(wanted.max(1)).max(1);
        // Which ones is left to the name, so that neighbouring layers do not look at the same pixels.
        let first = layer.label.bytes().fold(0usize, |h, b| h.wrapping_mul(31).wrapping_add(usize::from(b))) % step;
        let (mut places, mut next) = (Places::default(), first);
        for (input, reader) in readers.iter().enumerate() {
            while next < reader.rows {
                places.add(input, reader, next);
                next += step;
            }
            next -= reader.rows;
        }
        let inputs = images.iter().zip(&readers).map(|(image, reader)| (*image, reader.channel)).collect();
        Some(Self { inputs, places })
    }

    /// Whether sums of products of columns are exact, in any order.
    fn is_exact(&self) -> bool {
        self.inputs.iter().all(|(held, _)| matches!(held, Held::Codes(_)))
    }
}

/// Codes of `task` for these inputs of the samples; `None` where rounding to the nearest code is as good as can be known.
pub(crate) fn round(layer: &Layer, task: &Task<'_>, images: &[&Held]) -> Option<Vec<i32>> {
    let Geometry { groups, inputs, taps, .. } = *task.geometry;
    let part = (LONGEST / taps).clamp(1, inputs);
    let length = part * taps;
    let sample = Sample::of(layer, task.geometry, images, FEWEST_COLUMNS.max(COLUMNS_PER_ELEMENT * length))?;
    if sample.places.len() < COLUMNS_NEEDED * length {
        return None;
    }
    let parts: Vec<(usize, Range<usize>)> =
        (0..groups).flat_map(|g| (0..inputs).step_by(part).map(move |i| (g, i..(i + part).min(inputs)))).collect();
    let codes = Mutex::new(task.quantizers.quantize(task.weights));
    // Either the parts share the threads, or the work on each one does.
    let (outer, inner) = if parts.len() < 2 * task.threads { (1, task.threads) } else { (task.threads, 1) };
    let work = |(): &mut (), index: usize| {
        let (group, inputs) = &parts[index];
        solve_part(task, &sample, (*group, inputs.clone()), inner, &codes);
        Ok::<(), Infallible>(())
    };
    let Ok(_) = for_each(parts.len(), outer, &Silent, || (), work);
    Some(codes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Puts the codes of all output channels of a group for some of its input channels in their places among `codes`: no
/// other part has any of these.
fn solve_part(
    task: &Task<'_>,
    sample: &Sample<'_>,
    (group, inputs): (usize, Range<usize>),
    threads: usize,
    codes: &Mutex<Vec<i32>>,
) {
    let geometry = task.geometry;
    let length = inputs.len() * geometry.taps;
    let h = moments(sample, group * geometry.inputs, inputs.clone(), length, task.centred, threads);
    let factor = Factor::of(&h);
    let work = |(): &mut (), index: usize| {
        let outputs = index * CHUNK..geometry.outputs.min((index + 1) * CHUNK);
        let chunk: Vec<Vec<usize>> = outputs.map(|o| places(geometry, group, o, inputs.clone())).collect();
        let targets = Targets::of(&chunk, task);
        let levels = solve(&h, factor.as_ref(), &targets);
        let code = |at: usize, level: f64| level as i32 + task.quantizers.of(at).zero_point();
        let mut codes = codes.lock().unwrap_or_else(PoisonError::into_inner);
        for (c, places) in chunk.iter().enumerate() {
            places.iter().enumerate().for_each(|(k, at)| codes[*at] = code(*at, levels[(k, c)]));
        }
        Ok::<(), Infallible>(())
    };
    let Ok(_) = for_each(geometry.outputs.div_ceil(CHUNK), threads, &Silent, || (), work);
}

/// Codes for `targets` that make the error's energy under `h` small: never larger than that of the nearest codes.
fn solve(h: &Mat<f64>, factor: Option<&Factor>, targets: &Targets) -> Mat<f64> {
    let nearest = targets.nearest();
    let Some(factor) = factor else { return nearest };
    let mut levels = factor.levels(targets);
    descent::polish(h, targets, &mut levels);
    let (found, plain) = (energies(h, targets, &levels), energies(h, targets, &nearest));
    for c in (0..targets.channels()).filter(|c| found[*c] > plain[*c]) {
        levels.col_as_slice_mut(c).copy_from_slice(nearest.col_as_slice(c));
    }
    levels
}

/// `e' H e` of each channel.
fn energies(h: &Mat<f64>, targets: &Targets, levels: &Mat<f64>) -> Vec<f64> {
    let errors = targets.errors(levels);
    let weighted = h * &errors;
    let dot = |c: usize| errors.col_as_slice(c).iter().zip(weighted.col_as_slice(c)).map(|(e, g)| e * g).sum();
    (0..errors.ncols()).map(dot).collect()
}

/// Adds `damping` times the mean of the diagonal to it; elements that were zero become that, too.
fn damped(h: &Mat<f64>, damping: f64) -> Mat<f64> {
    let length = h.nrows();
    let mean = (0..length).map(|k| h[(k, k)]).sum::<f64>() / length.max(1) as f64;
    let mut damped = h.clone();
    (0..length).for_each(|k| damped[(k, k)] += damping * mean);
    damped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: (f64, f64) = (-127.0, 127.0);

    fn solved(h: &Mat<f64>, targets: &[f64]) -> Vec<f64> {
        solve(h, Factor::of(h).as_ref(), &Targets::alike(&[targets], LIMITS)).col_as_slice(0).to_vec()
    }

    fn energy(h: &Mat<f64>, targets: &[f64], codes: &[f64]) -> f64 {
        energies(h, &Targets::alike(&[targets], LIMITS), &Mat::from_fn(codes.len(), 1, |k, _| codes[k]))[0]
    }

    /// A covariance of `length` inputs made from a few sources, so that inputs are correlated.
    fn mixed(length: usize, seeds: &[f64]) -> Mat<f64> {
        let mix = Mat::from_fn(length, length, |i, j| seeds[(i * length + j) % seeds.len()] + f64::from(i == j) * 0.3);
        &mix * mix.transpose()
    }

    proptest! {
        #[test]
        fn never_worse_than_the_nearest_codes(
            targets in prop::collection::vec(-20f64..20.0, 2..6),
            seeds in prop::collection::vec(-1f64..1.0, 36),
        ) {
            let h = mixed(targets.len(), &seeds);
            let found = energy(&h, &targets, &solved(&h, &targets));
            let near: Vec<f64> = targets.iter().map(|t| t.round_ties_even()).collect();
            prop_assert!(found <= energy(&h, &targets, &near) * (1.0 + 1e-12));
        }

        #[test]
        fn independent_inputs_leave_the_nearest_codes(targets in prop::collection::vec(-200f64..200.0, 1..9)) {
            let h = Mat::from_fn(targets.len(), targets.len(), |i, j| if i == j { 2.0 } else { 0.0 });
            let near: Vec<f64> = targets.iter().map(|t| t.round_ties_even().clamp(LIMITS.0, LIMITS.1)).collect();
            prop_assert_eq!(solved(&h, &targets), near);
        }
    }

    #[test]
    fn on_average_close_to_the_optimum() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f64 / (1u64 << 24) as f64
        };
        let (mut found, mut best) = (0.0, 0.0);
        for _ in 0..200 {
            let targets: Vec<f64> = (0..6).map(|_| 10.0 * random()).collect();
            // Neighbouring inputs are alike, and some are louder than others.
            let loud: Vec<f64> = (0..6).map(|_| 0.2 + random()).collect();
            let alike = 0.9 * random();
            let h = Mat::from_fn(6, 6, |i: usize, j| loud[i] * loud[j] * alike.powi(i.abs_diff(j) as i32));
            found += energy(&h, &targets, &solved(&h, &targets));
            let near: Vec<f64> = targets.iter().map(|t| t.round_ties_even()).collect();
            let neighbour = |n: usize| -> Vec<f64> {
                near.iter().enumerate().map(|(k, q)| q + (n / 3usize.pow(k as u32) % 3) as f64 - 1.0).collect()
            };
            best += (0..729).map(|n| energy(&h, &targets, &neighbour(n))).fold(f64::INFINITY, f64::min);
        }
        assert!(found <= 1.1 * best, "{found} where {best} is possible");
    }

    #[test]
    fn errors_of_equal_inputs_cancel() {
        let h = Mat::from_fn(2, 2, |_, _| 1.0);
        let codes = solved(&h, &[0.4, 0.4]);
        assert!((codes[0] + codes[1] - 0.8).abs() <= 0.5, "{codes:?}");
        assert_ne!(codes, [0.0, 0.0], "both nearest codes lose");
    }

    #[test]
    fn nothing_to_see_leaves_the_nearest_codes() {
        assert_eq!(solved(&Mat::zeros(3, 3), &[0.4, -1.6, 300.0]), [0.0, -2.0, 127.0]);
        assert_eq!(solved(&Mat::from_fn(1, 1, |_, _| 4.0), &[0.6]), [1.0]);
    }
}
