//! Changes of single codes, as long as one lowers the energy of the error.

use super::targets::{Target, Targets};
use super::{REACH, damped};
use faer::Mat;

/// Part of the mean diagonal that is added to it: enough for inputs that are always zero.
const DAMPING: f64 = 0.001;

/// Times each code is looked at.
const SWEEPS: usize = 3;

/// A change has to lower the energy by this part of it.
const WORTH: f64 = 1e-12;

/// Lowers the energy of the errors of `levels` under `h`; never raises it, but for the damping.
pub(super) fn polish(h: &Mat<f64>, targets: &Targets, levels: &mut Mat<f64>) {
    let h = damped(h, DAMPING);
    let errors = targets.errors(levels);
    let mut slopes = &h * &errors;
    for c in 0..targets.channels() {
        let energy: f64 = errors.col_as_slice(c).iter().zip(slopes.col_as_slice(c)).map(|(e, g)| e * g).sum();
        let (slopes, levels) = (slopes.col_as_slice_mut(c), levels.col_as_slice_mut(c));
        channel(&h, targets.channel(c), levels, slopes, WORTH * energy.max(0.0));
    }
}

/// One channel; `slopes` are `H e`.
fn channel(h: &Mat<f64>, targets: &[Target], levels: &mut [f64], slopes: &mut [f64], worth: f64) {
    for _ in 0..SWEEPS {
        let mut changed = false;
        for (k, target) in targets.iter().enumerate() {
            let curvature = h[(k, k)];
            if curvature <= 0.0 {
                continue;
            }
            let level = target.near(levels[k] - slopes[k] / (curvature * target.step));
            let change = target.step * (level - levels[k]);
            let gain = change * slopes[k] + 0.5 * change * change * curvature;
            if change == 0.0 || gain >= -worth || (level - target.value).abs() > REACH {
                continue;
            }
            levels[k] = level;
            slopes.iter_mut().zip(h.col_as_slice(k)).for_each(|(slope, h)| *slope += change * h);
            changed = true;
        }
        if !changed {
            return;
        }
    }
}
