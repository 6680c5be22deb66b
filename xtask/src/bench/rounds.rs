//! Taking turns: each competitor once in every round, the shortest time of each.

use crate::error::Result;

/// Runs `compete(k)` for each `k` below `N`, in turn, a first time that does not count and then `rounds` times, and
/// returns the smallest result of each.
///
/// # Errors
///
/// As `compete`.
pub(super) fn best_of<const N: usize>(
    rounds: usize,
    mut compete: impl FnMut(usize) -> Result<f64>,
) -> Result<[f64; N]> {
    let mut best = [f64::INFINITY; N];
    for round in 0..=rounds {
        for (competitor, best) in best.iter_mut().enumerate() {
            let figure = compete(competitor)?;
            if round > 0 {
                *best = best.min(figure);
            }
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_does_not_count_and_turns_alternate() {
        let mut turns = Vec::new();
        let mut figures = [1.0, 2.0, 30.0, 20.0, 10.0, 40.0].into_iter();
        let best = best_of(2, |competitor| {
            turns.push(competitor);
            Ok(figures.next().unwrap())
        });
        assert_eq!((best.unwrap(), turns), ([10.0, 20.0], vec![0, 1, 0, 1, 0, 1]));
    }
}
