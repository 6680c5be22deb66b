//! Class labels of a data set, read from a text file of one image a line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::CalibError;
use crate::listing::{is_image_name, read_bounded};

const MAX_FILE_BYTES: u64 = 1 << 28;
const NAMED_IN_ERRORS: usize = 3;

/// Class numbers by image file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    path: PathBuf,
    by_name: BTreeMap<String, u32>,
}

impl Labels {
    /// Reads lines of `name,label` or `name label`; the first line says which. A header is skipped, further columns,
    /// empty lines, a byte order mark and folders in front of names are ignored. In the comma form a name may be quoted.
    ///
    /// # Errors
    /// [`CalibError::Io`], [`CalibError::FileTooLarge`], [`CalibError::LabelLine`] (no label, a label that is not a
    /// non-negative integer, two different labels for a name, text that is not UTF-8) or [`CalibError::NoLabels`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, CalibError> {
        let path = path.as_ref();
        let bytes = read_bounded(path, MAX_FILE_BYTES)?;
        Self::parse(path, &bytes)
    }

    /// Number of labelled names.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "labels without a label cannot be read")]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Label of an image file name without folder.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The label of each sample of these names, in their order. Labels without a sample are ignored.
    ///
    /// # Errors
    /// [`CalibError::Unlabelled`] if any sample has none.
    pub fn of<'n>(&self, names: impl Iterator<Item = &'n str> + Clone) -> Result<Vec<u32>, CalibError> {
        let missing: Vec<&str> = names.clone().filter(|name| self.get(name).is_none()).collect();
        if missing.is_empty() {
            return Ok(names.filter_map(|name| self.get(name)).collect());
        }
        Err(CalibError::Unlabelled {
            path: self.path.clone(),
            missing: missing.len(),
            samples: names.count(),
            first: missing.iter().take(NAMED_IN_ERRORS).map(|name| (*name).to_owned()).collect(),
        })
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, CalibError> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let mut labels = Self { path: path.to_owned(), by_name: BTreeMap::new() };
        let mut separator = None;
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let failed = |cause| CalibError::LabelLine { path: path.to_owned(), line: index + 1, cause };
            let line = std::str::from_utf8(line).map_err(|_| failed("the line is not UTF-8".to_owned()))?.trim();
            if line.is_empty() {
                continue;
            }
            let is_first = separator.is_none();
            let (name, label) = separator.get_or_insert_with(|| Separator::of(line)).split(line);
            if is_first && is_header(&name, label) {
                continue;
            }
            labels.insert(&name, label).map_err(failed)?;
        }
        if labels.by_name.is_empty() {
            return Err(CalibError::NoLabels { path: labels.path });
        }
        Ok(labels)
    }

    fn insert(&mut self, name: &str, label: &str) -> Result<(), String> {
        let name = without_folder(name);
        if name.is_empty() {
            return Err("the file name is empty".to_owned());
        }
        let label = label.parse().map_err(|_| format!("label {label:?} of {name} is not a non-negative integer"))?;
        let first = *self.by_name.entry(name.to_owned()).or_insert(label);
        if first == label { Ok(()) } else { Err(format!("{name} has label {label} here and {first} above")) }
    }
}

#[derive(Clone, Copy)]
enum Separator {
    Comma,
    Blank,
}

impl Separator {
    fn of(line: &str) -> Self {
        if line.contains(',') { Self::Comma } else { Self::Blank }
    }

    /// The first two fields; the second is empty if there is none.
    fn split(self, line: &str) -> (String, &str) {
        match self {
            Self::Comma => {
                let (name, rest) = first_csv_field(line);
                (name, rest.split(',').next().unwrap_or_default().trim())
            }
            Self::Blank => {
                let mut fields = line.split_whitespace();
                (fields.next().unwrap_or_default().to_owned(), fields.next().unwrap_or_default())
            }
        }
    }
}

/// The first field and what follows its comma; within quotes a comma is text and a doubled quote stands for one.
fn first_csv_field(line: &str) -> (String, &str) {
    let mut quoted = false;
    let end = line.find(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    let (field, rest) = end.map_or((line, ""), |end| (&line[..end], &line[end + 1..]));
    let field = field.trim();
    let inner = field.strip_prefix('"').and_then(|field| field.strip_suffix('"'));
    (inner.map_or_else(|| field.to_owned(), |inner| inner.replace("\"\"", "\"")), rest)
}

/// A first line that labels an image is data, whatever its label looks like, so that a bad label is not skipped.
fn is_header(name: &str, label: &str) -> bool {
    label.parse::<f64>().is_err() && !is_image_name(Path::new(name))
}

fn without_folder(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Result<Labels, CalibError> {
        Labels::parse(Path::new("labels.csv"), text)
    }

    #[test]
    fn spellings_of_the_same_labels() {
        let cases: &[(&str, &[u8])] = &[
            ("commas", b"a b.jpg,3\nc.png,0\n"),
            ("header", b"file,class\na b.jpg,3\nc.png,0"),
            ("further columns", b"file,class,name\na b.jpg,3,\"tench, fish\"\nc.png,0,\n"),
            ("byte order mark and carriage returns", b"\xEF\xBB\xBFfile,class\r\na b.jpg,3\r\n\r\nc.png,0\r\n"),
            ("quotes", b"\"a b.jpg\",3\n \"c.png\" , 0\n"),
            ("folders", b"val/a b.jpg,3\nval\\x\\c.png,0\n"),
            ("repeated", b"a b.jpg,3\nc.png,0\na b.jpg,3\n"),
        ];
        for (name, text) in cases {
            let labels = parse(text).unwrap();
            assert_eq!((labels.len(), labels.get("a b.jpg"), labels.get("c.png")), (2, Some(3), Some(0)), "{name}");
        }
    }

    #[test]
    fn blanks_separate_where_no_comma_does() {
        let labels = parse(b"name label\na.jpg\t17 tench\nb.jpg   4294967295\n").unwrap();
        assert_eq!((labels.len(), labels.get("a.jpg"), labels.get("b.jpg")), (2, Some(17), Some(u32::MAX)));
    }

    #[test]
    fn a_quoted_name_may_hold_commas_and_quotes() {
        let labels = parse(b"\"a,\"\"b\"\".jpg\",5\n").unwrap();
        assert_eq!(labels.get("a,\"b\".jpg"), Some(5));
    }

    #[test]
    fn bad_lines_are_errors_with_their_number() {
        let cases: &[(&str, &[u8], &str)] = &[
            ("word", b"file,class\na.jpg,cat\n", "labels.csv:2: label \"cat\" of a.jpg is not a non-negative integer"),
            (
                "word in the first line",
                b"a.jpg,cat\n",
                "labels.csv:1: label \"cat\" of a.jpg is not a non-negative integer",
            ),
            ("negative", b"a.jpg,-1\n", "labels.csv:1: label \"-1\" of a.jpg is not a non-negative integer"),
            ("fraction", b"a.jpg,1.5\n", "labels.csv:1: label \"1.5\" of a.jpg is not a non-negative integer"),
            (
                "too large",
                b"a.jpg,4294967296",
                "labels.csv:1: label \"4294967296\" of a.jpg is not a non-negative integer",
            ),
            ("no label", b"a.jpg,1\nb.jpg\n", "labels.csv:2: label \"\" of b.jpg is not a non-negative integer"),
            ("no name", b"a.jpg,1\n,2\n", "labels.csv:2: the file name is empty"),
            ("conflict", b"a.jpg,1\nb.jpg,2\na.jpg,2\n", "labels.csv:3: a.jpg has label 2 here and 1 above"),
            ("not UTF-8", b"a.jpg,1\n\xFF.jpg,2\n", "labels.csv:2: the line is not UTF-8"),
            ("empty", b"\n", "label file labels.csv holds no label"),
            ("only a header", b"file,class\n", "label file labels.csv holds no label"),
        ];
        for (name, text, message) in cases {
            let error = parse(text).unwrap_err();
            assert_eq!(error.to_string(), *message, "{name}");
            assert!(error.hint().is_some(), "{name}");
        }
    }

    #[test]
    fn every_image_needs_a_label() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("labels.csv");
        let names = || ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"].into_iter();
        std::fs::write(&file, "e.jpg,4\nb.jpg,1\nc.jpg,2\na.jpg,0\nd.jpg,3\nunused.jpg,9\n").unwrap();
        assert_eq!(Labels::read(&file).unwrap().of(names()).unwrap(), [0, 1, 2, 3, 4]);
        std::fs::write(&file, "b.jpg,1\n").unwrap();
        let error = Labels::read(&file).unwrap().of(names()).unwrap_err().to_string();
        assert!(error.starts_with("4 of 5 samples have no label in "), "{error}");
        assert!(error.ends_with("labels.csv, first a.jpg, c.jpg, d.jpg"), "{error}");
    }
}
