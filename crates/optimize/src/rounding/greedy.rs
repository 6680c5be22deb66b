//! One code after the other, each answering the errors of those before it.
//!
//! `H = R R'` with `R` upper triangular in the order of the codes turns the energy into a sum of squares, of which the
//! i-th, `R_ii e_i + sum of R_ji e_j over j < i`, is made small by the choice of the i-th code. That is the choice of
//! Frantar et al. 2022, "GPTQ", whose factor of the inverse of H is the inverse of R'.

use super::targets::Targets;
use super::{REACH, damped};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par, Side};

/// Part of the mean diagonal that is added to it.
const DAMPING: f64 = 0.01;

/// How often ten times more damping is tried where a covariance cannot be factored.
const ATTEMPTS: i32 = 4;

/// Codes that are chosen before the rest hears of their errors.
const BLOCK: usize = 64;

/// The factor of a covariance, with the order of codes it is for: those of the loudest inputs first.
#[derive(Debug)]
pub(super) struct Factor {
    /// Places in a column, last code first.
    order: Vec<usize>,
    /// Lower triangular: `R` with both axes turned around.
    lower: Mat<f64>,
}

impl Factor {
    /// `None` for a covariance of nothing, or one that cannot be factored.
    pub(super) fn of(h: &Mat<f64>) -> Option<Self> {
        let mut order: Vec<usize> = (0..h.nrows()).collect();
        order.sort_by(|a, b| h[(*a, *a)].total_cmp(&h[(*b, *b)]).then(b.cmp(a)));
        if h.nrows() == 0 || !(0..h.nrows()).any(|k| h[(k, k)] > 0.0) {
            return None;
        }
        (0..ATTEMPTS).find_map(|attempt| {
            let damped = damped(h, DAMPING * 10f64.powi(attempt));
            let ordered = Mat::from_fn(h.nrows(), h.ncols(), |i, j| damped[(order[i], order[j])]);
            let lower = ordered.llt(Side::Lower).ok()?.L().to_owned();
            Some(Self { order: order.clone(), lower })
        })
    }

    /// Codes for `targets`, one channel to a column.
    pub(super) fn levels(&self, targets: &Targets) -> Mat<f64> {
        let (length, channels) = (targets.length(), targets.channels());
        let mut levels = Mat::zeros(length, channels);
        let mut errors = Mat::<f64>::zeros(length, channels);
        // What the errors so far add to each square, in the order of the factor.
        let mut added = Mat::<f64>::zeros(length, channels);
        for end in (1..=length).rev().step_by(BLOCK) {
            let start = end.saturating_sub(BLOCK);
            for c in 0..channels {
                let (errors, added) = (errors.col_as_slice_mut(c), added.col_as_slice(c));
                for a in (start..end).rev() {
                    let below = &self.lower.col_as_slice(a)[a..end];
                    let near: f64 = below[1..].iter().zip(&errors[a + 1..end]).map(|(l, e)| l * e).sum();
                    let target = targets.at(self.order[a], c);
                    let answer = (added[a] + near) / (below[0] * target.step);
                    let level = target.near(target.value - answer.clamp(-REACH, REACH));
                    levels[(self.order[a], c)] = level;
                    errors[a] = target.error(level);
                }
            }
            let rest = self.lower.get(start..end, ..start).transpose();
            matmul(added.get_mut(..start, ..), Accum::Add, rest, errors.get(start..end, ..), 1.0, Par::Seq);
        }
        levels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_change_the_choice() {
        let length = 2 * BLOCK + 9;
        let mix = Mat::from_fn(length, length, |i, j| ((i * 31 + j * 17) % 23) as f64 / 23.0 - 0.4);
        let h = &mix * mix.transpose();
        let column = |c: usize| -> Vec<f64> { (0..length).map(|k| ((k * 13 + c * 7) % 29) as f64 / 3.0).collect() };
        let columns = [column(0), column(1), column(2)];
        let factor = Factor::of(&h).unwrap();
        let found = factor.levels(&Targets::alike(&[&columns[0], &columns[1], &columns[2]], (-127.0, 127.0)));
        for c in 0..3 {
            let mut errors = vec![0.0; length];
            for a in (0..length).rev() {
                let added: f64 = (a + 1..length).map(|b| factor.lower[(b, a)] * errors[b]).sum();
                let target = columns[c][factor.order[a]];
                let wanted = (target - added / factor.lower[(a, a)]).clamp(target - REACH, target + REACH);
                let code = wanted.round_ties_even();
                errors[a] = code - target;
                assert_eq!(found[(factor.order[a], c)], code, "{a} {c}");
            }
        }
    }
}
