//! Reproducible random values for tests.

/// Next uniform value in [0, 1) of a splitmix64 generator.
pub(crate) fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Standard normal value (Box–Muller).
pub(crate) fn normal(state: &mut u64) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(state)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(state)).cos()
}

/// `n` values of `draw`, as f32.
pub(crate) fn sample(seed: u64, n: usize, draw: impl Fn(&mut u64) -> f64) -> Vec<f32> {
    let mut state = seed;
    (0..n).map(|_| draw(&mut state) as f32).collect()
}

/// Exponential value of mean 1.
pub(crate) fn exponential(state: &mut u64) -> f64 {
    -(1.0 - uniform(state)).ln()
}

/// Student-t value with 3 degrees of freedom.
pub(crate) fn student_t3(state: &mut u64) -> f64 {
    let chi2: f64 = (0..3).map(|_| normal(state).powi(2)).sum();
    normal(state) / (chi2 / 3.0).sqrt()
}

/// Standard normal clipped to [0, 1]: a spike at either end.
pub(crate) fn spiked(state: &mut u64) -> f64 {
    normal(state).clamp(0.0, 1.0)
}
