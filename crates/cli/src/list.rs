//! Lists of numbers as people write them: `8,8,8`, `[8, 8, 8]`, `(8,8,8)`, `104., 117., 123.`.

use std::fmt::Display;
use std::str::FromStr;

/// A list of numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct List<T>(Vec<T>);

impl<T: Clone> List<T> {
    /// The numbers.
    pub(crate) fn into_vec(self) -> Vec<T> {
        self.0
    }

    /// Exactly `N` numbers; `option` is named in the message.
    ///
    /// # Errors
    /// If there are more or fewer.
    pub(crate) fn exactly<const N: usize>(&self, option: &str) -> Result<[T; N], String> {
        let found = self.0.len();
        self.0.clone().try_into().map_err(|_| format!("{option} takes {N} numbers, found {found}"))
    }
}

impl<T: FromStr<Err: Display>> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let pairs = [('[', ']'), ('(', ')')];
        let inner = pairs.iter().find_map(|(open, close)| text.strip_prefix(*open)?.strip_suffix(*close));
        let inner = inner.unwrap_or(text).trim_end().trim_end_matches(',');
        let number = |piece: &str| piece.trim().parse().map_err(|e| format!("`{}`: {e}", piece.trim()));
        inner.split(',').map(number).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_people_write_them() {
        for text in ["8,8,8", "[8, 8, 8]", "(8,8,8)", " 8 , 8,8 ", "[8,8,8,]"] {
            assert_eq!(text.parse::<List<u32>>(), Ok(List(vec![8; 3])), "{text}");
        }
        assert_eq!("104., 117.,-1e2".parse::<List<f64>>(), Ok(List(vec![104.0, 117.0, -100.0])));
        for text in ["", "8,,8", "[8", "a", "8;8"] {
            assert!(text.parse::<List<u32>>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_wrong_number_of_numbers_is_named() {
        let list: List<u32> = "1,2".parse().unwrap();
        assert_eq!(list.exactly::<3>("--dims").unwrap_err(), "--dims takes 3 numbers, found 2");
        assert_eq!(list.exactly::<2>("--dims"), Ok([1, 2]));
    }
}
