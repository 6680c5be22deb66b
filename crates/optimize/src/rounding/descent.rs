//! Changes of single codes, as long as one lowers the energy of the error.

use super::{REACH, damped};
use faer::Mat;

/// Part of the mean diagonal that is added to it: enough for inputs that are always zero.
const DAMPING: f64 = 0.001;

/// Times each code is looked at.
const SWEEPS: usize = 3;

/// A change has to lower the energy by this part of it.
const WORTH: f64 = 1e-12;

/// Lowers the energy of `codes - targets` under `h`; never raises it, but for the damping.
pub(super) fn polish(h: &Mat<f64>, targets: &Mat<f64>, codes: &mut Mat<f64>, limits: (f64, f64)) {
    let h = damped(h, DAMPING);
    let errors = &*codes - targets;
    let mut slopes = &h * &errors;
    for c in 0..targets.ncols() {
        let energy: f64 = errors.col_as_slice(c).iter().zip(slopes.col_as_slice(c)).map(|(e, g)| e * g).sum();
        let (slopes, codes) = (slopes.col_as_slice_mut(c), codes.col_as_slice_mut(c));
        channel(&h, targets.col_as_slice(c), codes, slopes, WORTH * energy.max(0.0), limits);
    }
}

/// One channel; `slopes` are `H e`.
fn channel(h: &Mat<f64>, targets: &[f64], codes: &mut [f64], slopes: &mut [f64], worth: f64, limits: (f64, f64)) {
    for _ in 0..SWEEPS {
        let mut changed = false;
        for k in 0..codes.len() {
            let curvature = h[(k, k)];
            if curvature <= 0.0 {
                continue;
            }
            let code = (codes[k] - slopes[k] / curvature).round_ties_even().clamp(limits.0, limits.1);
            let step = code - codes[k];
            let gain = step * slopes[k] + 0.5 * step * step * curvature;
            if step == 0.0 || gain >= -worth || (code - targets[k]).abs() > REACH {
                continue;
            }
            codes[k] = code;
            slopes.iter_mut().zip(h.col_as_slice(k)).for_each(|(slope, h)| *slope += step * h);
            changed = true;
        }
        if !changed {
            return;
        }
    }
}
