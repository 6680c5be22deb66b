//! Numbers that look random and are the same in every run and on every machine.

/// A source of numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// The source that a seed stands for.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.bits() % bound as u64) as usize }
    }

    /// A number that is small more often than large, `1..=most`.
    pub fn few(&mut self, most: usize) -> usize {
        let reach = self.below(most) + 1;
        self.below(reach) + 1
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of the items; `None` if there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// A part of `0..length` of at most `most`; not empty unless `length` is 0.
    pub fn span(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        let start = self.below(length);
        let size = self.few(most.max(1)).min(length - start);
        start..start + size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again() {
        let numbers = |seed| -> Vec<usize> { (1..50).scan(Draw::new(seed), |draw, n| Some(draw.below(n))).collect() };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }

    #[test]
    fn numbers_keep_their_bounds() {
        let mut draw = Draw::new(1);
        for length in 0..40 {
            assert!(draw.below(length) < length.max(1));
            assert!((1..=length + 1).contains(&draw.few(length + 1)));
            let span = draw.span(length, 8);
            assert!(span.end <= length && span.len() <= 8 && span.is_empty() == (length == 0), "{span:?} of {length}");
        }
    }
}
