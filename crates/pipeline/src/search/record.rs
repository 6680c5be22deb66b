//! What a search has found so far, in a file if asked for, from which an interrupted search goes on. Everything a search
//! finds is the same each time, so what is taken from the file changes nothing but the time.

use crate::error::Error;
use quantize_document::{Limits, OutputSet, SourceFile};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What the file says it is.
const FORMAT: &str = "quantize-search";

/// Version of the file format.
const VERSION: u32 = 1;

/// What came of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Verdict {
    /// Whether it meets the target.
    pub(super) met: bool,
    /// Its score, in dB; `None` if it has none.
    pub(super) score_db: Option<f64>,
}

impl Verdict {
    /// Whether its score is higher.
    pub(super) fn is_above(&self, other: &Self) -> bool {
        self.score_db.unwrap_or(f64::NEG_INFINITY) > other.score_db.unwrap_or(f64::NEG_INFINITY)
    }
}

/// What came of giving up a head of the ranking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tried {
    length: usize,
    verdict: Verdict,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Found {
    format: String,
    version: u32,
    /// What is searched, and from where on.
    search: String,
    /// Noise to signal that the model loses without each candidate, as far as it was measured.
    gains: Vec<f64>,
    tried: Vec<Tried>,
}

/// What is known of a search.
#[derive(Debug)]
pub(super) struct Record {
    path: Option<PathBuf>,
    found: Found,
    /// How many plans were known before.
    known: usize,
}

impl Record {
    /// What the file at `path` knows of `search`; nothing, if there is no path or no file.
    ///
    /// # Errors
    /// If the file cannot be read, or is about another search.
    pub(super) fn open(path: Option<&Path>, search: String) -> Result<Self, Error> {
        let nothing = Found { format: FORMAT.into(), version: VERSION, search, gains: Vec::new(), tried: Vec::new() };
        let Some(path) = path.filter(|path| path.exists()) else {
            return Ok(Self { path: path.map(Path::to_owned), found: nothing, known: 0 });
        };
        let source = SourceFile::read(path, &Limits::default())?;
        let refuse = |cause: String| Error::SearchRecord { path: path.to_owned(), cause };
        let found: Found =
            serde_json::from_slice(source.bytes()).map_err(|e| refuse(format!("it is no record of a search: {e}")))?;
        if (found.format.as_str(), found.version) != (FORMAT, VERSION) {
            return Err(refuse(format!(
                "it is `{}` version {}, not `{FORMAT}` {VERSION}",
                found.format, found.version
            )));
        }
        if found.search != nothing.search {
            return Err(refuse("it belongs to another model, other samples, another recipe or another target".into()));
        }
        let known = found.tried.len();
        Ok(Self { path: Some(path.to_owned()), found, known })
    }

    /// Noise to signal that the model loses without each candidate, as far as it was measured.
    pub(super) fn gains(&self) -> &[f64] {
        &self.found.gains
    }

    /// The next candidates' gains.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn add_gains(&mut self, gains: &[f64]) -> Result<(), Error> {
        self.found.gains.extend(gains);
        self.write()
    }

    /// What came of giving up the first `length` entries of the ranking, if that was tried.
    pub(super) fn verdict(&self, length: usize) -> Option<Verdict> {
        self.found.tried.iter().find(|tried| tried.length == length).map(|tried| tried.verdict)
    }

    /// What came of giving up the first `length` entries of the ranking.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn add_verdict(&mut self, length: usize, verdict: Verdict) -> Result<(), Error> {
        self.found.tried.push(Tried { length, verdict });
        self.write()
    }

    /// What it spared the search, in words.
    pub(super) fn remark(&self) -> Option<String> {
        let path = self.path.as_ref().filter(|_| self.known > 0)?;
        Some(format!("search: what came of {} plans was known from {}", self.known, path.display()))
    }

    fn write(&self) -> Result<(), Error> {
        let Some(path) = &self.path else { return Ok(()) };
        let text = serde_json::to_vec_pretty(&self.found)
            .map_err(|e| Error::SearchRecord { path: path.clone(), cause: format!("it cannot be written: {e}") })?;
        let mut outputs = OutputSet::new();
        outputs.add_bytes(path, text);
        outputs.commit()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_search_finds_what_it_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("search.json");
        let open = |search: &str| Record::open(Some(&path), search.into());
        let verdicts = [(4, true, Some(27.300000000000004)), (2, false, None)];
        let mut record = open("a").unwrap();
        record.add_gains(&[0.1 + 0.2, 1e-300]).unwrap();
        record.add_gains(&[-0.5]).unwrap();
        for (length, met, score_db) in verdicts {
            record.add_verdict(length, Verdict { met, score_db }).unwrap();
        }
        assert_eq!(record.remark(), None);
        let again = open("a").unwrap();
        assert_eq!(again.gains(), [0.1 + 0.2, 1e-300, -0.5]);
        for (length, met, score_db) in verdicts {
            assert_eq!(again.verdict(length), Some(Verdict { met, score_db }));
        }
        assert_eq!(again.verdict(3), None);
        assert!(again.remark().is_some_and(|remark| remark.contains("2 plans")));
        assert!(open("b").unwrap_err().to_string().contains("another model"));
        std::fs::write(&path, "{\"format\":").unwrap();
        assert!(open("a").unwrap_err().to_string().contains("no record of a search"));
    }

    #[test]
    fn without_a_path_nothing_is_written() {
        let mut record = Record::open(None, "a".into()).unwrap();
        record.add_gains(&[1.0]).unwrap();
        assert_eq!((record.gains(), record.remark()), (&[1.0][..], None));
    }
}
