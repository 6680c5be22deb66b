//! Which candidates to give up: gains add up, and so do costs; wanted is enough gain for the least cost. That is the
//! knapsack problem, solved by dynamic programming over parts of the gain.

/// What giving something up gains, and what it costs; both positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) gain: f64,
    pub(super) cost: f64,
}

/// Equal parts of the gain wanted in which gains are counted, rounded down.
const PARTS: usize = 1 << 14;

/// Places of items with the gain `wanted` together, in ascending order: a set of the least cost, but for what rounding
/// gains down to [`PARTS`] loses. All places if there is not so much to gain.
pub(super) fn cover(items: &[Item], wanted: f64) -> Vec<usize> {
    if wanted <= 0.0 {
        return Vec::new();
    }
    let parts: Vec<usize> = items.iter().map(|item| (item.gain / wanted * PARTS as f64) as usize).collect();
    // The least cost of at least so many parts, from the items so far; and whether the last of these is among them.
    let mut least = vec![f64::INFINITY; PARTS + 1];
    least[0] = 0.0;
    let mut taken: Vec<Vec<bool>> = Vec::with_capacity(items.len());
    for (item, parts) in items.iter().zip(&parts) {
        let mut takes = vec![false; PARTS + 1];
        for gained in (1..=PARTS).rev() {
            let cost = least[gained.saturating_sub(*parts)] + item.cost;
            if cost < least[gained] {
                (least[gained], takes[gained]) = (cost, true);
            }
        }
        taken.push(takes);
    }
    if least[PARTS].is_infinite() {
        return (0..items.len()).collect();
    }
    let mut left = PARTS;
    let mut places: Vec<usize> = (0..items.len())
        .rev()
        .filter(|at| {
            let takes = taken[*at][left];
            left -= if takes { left.min(parts[*at]) } else { 0 };
            takes
        })
        .collect();
    places.reverse();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random() -> impl FnMut() -> f64 {
        let mut state = 11u64;
        move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f64 / (1u64 << 24) as f64
        }
    }

    /// The least cost of a set of items that gains `wanted`.
    fn least(items: &[Item], wanted: f64) -> f64 {
        let of = |set: u32, value: fn(&Item) -> f64| -> f64 {
            items.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1).map(|(_, item)| value(item)).sum()
        };
        let sets = (0..1u32 << items.len()).filter(|set| of(*set, |i| i.gain) >= wanted);
        sets.map(|set| of(set, |i| i.cost)).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn close_to_the_cheapest_set_there_is() {
        let mut random = random();
        for round in 0..60 {
            // Noises differ by orders of magnitude, as those of layers do.
            let items: Vec<Item> = (0..15)
                .map(|_| Item { gain: 10f64.powf(-2.0 * random()), cost: 0.02 + 10f64.powf(-1.5 * random()) })
                .collect();
            let wanted = (0.1 + 0.8 * random()) * items.iter().map(|i| i.gain).sum::<f64>();
            let chosen = cover(&items, wanted);
            assert!(chosen.iter().map(|i| items[*i].gain).sum::<f64>() >= wanted * (1.0 - 1e-12));
            let ratio = chosen.iter().map(|i| items[*i].cost).sum::<f64>() / least(&items, wanted);
            assert!(ratio <= 1.05, "round {round}: {ratio} times the cost");
        }
    }

    #[test]
    fn what_cannot_be_gained_takes_everything() {
        let items = [Item { gain: 2.0, cost: 1.0 }, Item { gain: 1.0, cost: 1.0 }];
        assert_eq!(cover(&items, 3.5), [0, 1]);
        assert_eq!(cover(&items, 1.0), [0]);
        assert!(cover(&items, 0.0).is_empty());
        assert!(cover(&[], 1.0).is_empty());
    }

    #[test]
    fn a_large_item_is_not_taken_beside_small_ones_that_it_makes_needless() {
        let items = [Item { gain: 1.0, cost: 0.1 }, Item { gain: 5.0, cost: 1.0 }, Item { gain: 0.5, cost: 0.2 }];
        assert_eq!(cover(&items, 4.0), [1]);
        assert_eq!(cover(&items, 1.2), [0, 2]);
    }
}
