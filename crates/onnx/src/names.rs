//! Fresh tensor and node names.

use std::collections::BTreeSet;

/// Every name in use, so that new ones differ from all of them.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeSet<String>);

impl Names {
    /// Starts from the names a model uses.
    pub(crate) fn taken(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    /// `wanted`, or `wanted_1`, `wanted_2`, … if that is taken; takes the name.
    pub(crate) fn fresh(&mut self, wanted: &str) -> String {
        let numbered = |n: u64| if n == 0 { wanted.to_owned() } else { format!("{wanted}_{n}") };
        let mut n = 0;
        while !self.0.insert(numbered(n)) {
            n += 1;
        }
        numbered(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_when_taken() {
        let mut names = Names::taken(["a".to_owned(), "a_1".to_owned()]);
        assert_eq!([names.fresh("a"), names.fresh("a"), names.fresh("b")], ["a_2", "a_3", "b"]);
    }
}
