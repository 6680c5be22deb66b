//! Statistics as a file: what was seen, of which model, on which samples. Files of parts of a data set merge to the
//! bytes of the whole.
//!
//! Little-endian. A magic number and a version, the origin (digest of the model, preparation in words, number of
//! samples of the whole data set), the samples seen, bounds of inputs, a record for each tensor in the order of names,
//! and the SHA-256 of everything before. Reading and writing of files happens elsewhere.

use super::error::{Difference, StatisticsError};
use quantize_numerics::{Range, TensorStats};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

const MAGIC: &[u8; 8] = b"\x89QSTATS\n";
const VERSION: u32 = 1;
const DIGEST_BYTES: usize = 32;

/// The SHA-256 of some bytes.
pub type Fingerprint = [u8; DIGEST_BYTES];

/// The fingerprint of some bytes.
pub fn fingerprint(bytes: &[u8]) -> Fingerprint {
    Sha256::digest(bytes).into()
}

/// The fingerprint of bytes that come piece by piece; the pieces make no difference.
#[derive(Clone, Debug, Default)]
pub struct Fingerprinting(Sha256);

impl Fingerprinting {
    /// Takes the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The fingerprint of all of them.
    pub fn finish(self) -> Fingerprint {
        self.0.finalize().into()
    }
}

/// What statistics must have in common to be about the same thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Fingerprint of the model, what stands in files beside it included.
    pub model: Fingerprint,
    /// How samples became model inputs, in words.
    pub preparation: String,
    /// Number of samples of the whole data set, whatever share of them was seen.
    pub samples: u64,
}

/// What is known about one tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Its values.
    pub stats: TensorStats,
    /// Number of the first sample for which it held NaN or an infinity.
    pub first_not_finite: Option<u64>,
}

/// Statistics of the tensors of a model over all samples of a data set, or over a share of them.
#[derive(Clone, Debug, PartialEq)]
pub struct StatisticsFile {
    /// What they are about.
    pub provenance: Provenance,
    /// Samples seen: number in the whole data set, and name.
    pub seen: BTreeMap<u64, String>,
    /// Ranges that any sample stays in, by name of the network input.
    pub bounds: BTreeMap<String, Range>,
    /// Observed tensors by name.
    pub tensors: BTreeMap<String, Record>,
}

impl StatisticsFile {
    /// Number of samples that are still missing.
    pub fn missing(&self) -> u64 {
        self.provenance.samples.saturating_sub(self.seen.len() as u64)
    }

    /// Adds what another share saw. Nothing changes on an error.
    ///
    /// # Errors
    /// If the two are not about the same model and data, or have seen the same sample.
    pub fn merge(&mut self, other: &Self) -> Result<(), StatisticsError> {
        self.check_same(other)?;
        if let Some(name) = other.seen.iter().find_map(|(number, name)| self.seen.contains_key(number).then_some(name))
        {
            return Err(StatisticsError::SampleTwice { sample: name.clone() });
        }
        let mut merged = self.tensors.clone();
        for (name, theirs) in &other.tensors {
            let ours = merged.entry(name.clone()).or_default();
            let failed = |source| StatisticsError::Record { tensor: name.clone(), source };
            ours.stats.merge(&theirs.stats).map_err(failed)?;
            ours.first_not_finite = ours.first_not_finite.into_iter().chain(theirs.first_not_finite).min();
        }
        self.tensors = merged;
        self.seen.extend(other.seen.iter().map(|(number, name)| (*number, name.clone())));
        Ok(())
    }

    fn check_same(&self, other: &Self) -> Result<(), StatisticsError> {
        let (ours, theirs) = (&self.provenance, &other.provenance);
        let differs = if ours.model != theirs.model {
            Difference::Model
        } else if ours.preparation != theirs.preparation {
            let (first, second) = (ours.preparation.clone(), theirs.preparation.clone());
            Difference::Preparation { first, second }
        } else if ours.samples != theirs.samples || self.bounds != other.bounds {
            Difference::Data { first: ours.samples, second: theirs.samples }
        } else if self.tensors.keys().ne(other.tensors.keys()) {
            Difference::Tensors
        } else {
            return Ok(());
        };
        Err(StatisticsError::Different(differs))
    }

    /// The bytes of the file; equal statistics have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = [MAGIC.as_slice(), &VERSION.to_le_bytes(), &self.provenance.model].concat();
        put_text(&mut out, &self.provenance.preparation);
        put_count(&mut out, self.provenance.samples);
        put_count(&mut out, self.seen.len() as u64);
        for (number, name) in &self.seen {
            put_count(&mut out, *number);
            put_text(&mut out, name);
        }
        put_count(&mut out, self.bounds.len() as u64);
        for (name, range) in &self.bounds {
            put_text(&mut out, name);
            out.extend([range.lo(), range.hi()].iter().flat_map(|end| end.to_le_bytes()));
        }
        put_count(&mut out, self.tensors.len() as u64);
        for (name, record) in &self.tensors {
            put_text(&mut out, name);
            put_count(&mut out, record.first_not_finite.map_or(0, |number| number.saturating_add(1)));
            let mut stats = Vec::new();
            record.stats.encode(&mut stats);
            put_bytes(&mut out, &stats);
        }
        let digest = fingerprint(&out);
        out.extend(digest);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are not such a file, or of another version, or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, StatisticsError> {
        if !bytes.starts_with(MAGIC) {
            return Err(StatisticsError::NotStatistics);
        }
        let mut reader = Reader { bytes, offset: MAGIC.len() };
        let version = u32::from_le_bytes(reader.array()?);
        if version != VERSION {
            return Err(StatisticsError::Version { found: version, known: VERSION });
        }
        let content = bytes.len().checked_sub(DIGEST_BYTES).and_then(|end| bytes.split_at_checked(end));
        let (content, digest) =
            content.ok_or(StatisticsError::Damaged { offset: bytes.len(), what: "it is too short" })?;
        if fingerprint(content) != digest {
            return Err(StatisticsError::Damaged { offset: content.len(), what: "its checksum does not match" });
        }
        reader.bytes = content;
        let file = reader.file()?;
        if reader.offset != content.len() {
            return Err(reader.damaged("there are bytes behind the last record"));
        }
        // Another spelling of the same numbers, such as -0.0, would make equal statistics differ in their bytes.
        if file.encode() != bytes {
            return Err(reader.damaged("its numbers are not written as they should be"));
        }
        Ok(file)
    }
}

fn put_count(out: &mut Vec<u8>, count: u64) {
    out.extend(count.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Reads a file front to back; nothing is taken for granted, and no more is kept than the file holds.
struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn damaged(&self, what: &'static str) -> StatisticsError {
        StatisticsError::Damaged { offset: self.offset, what }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], StatisticsError> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let taken = rest.get(..count).ok_or_else(|| self.damaged("it ends too early"))?;
        self.offset += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StatisticsError> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| self.damaged("it ends too early"))
    }

    fn count(&mut self) -> Result<u64, StatisticsError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], StatisticsError> {
        let count = usize::try_from(self.count()?).map_err(|_| self.damaged("a length is impossible"))?;
        self.take(count)
    }

    fn text(&mut self) -> Result<String, StatisticsError> {
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.damaged("a name is not UTF-8"))?;
        Ok(text.to_owned())
    }

    /// As many entries as the count before them says, keys ascending.
    fn entries<K: Ord, V>(
        &mut self,
        read: impl Fn(&mut Self) -> Result<(K, V), StatisticsError>,
    ) -> Result<BTreeMap<K, V>, StatisticsError> {
        let mut entries = BTreeMap::new();
        for _ in 0..self.count()? {
            let (key, value) = read(self)?;
            if entries.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(self.damaged("entries are out of order"));
            }
            entries.insert(key, value);
        }
        Ok(entries)
    }

    fn file(&mut self) -> Result<StatisticsFile, StatisticsError> {
        let provenance = Provenance { model: self.array()?, preparation: self.text()?, samples: self.count()? };
        let seen = self.entries(|reader| Ok((reader.count()?, reader.text()?)))?;
        if seen.last_key_value().is_some_and(|(last, _)| *last >= provenance.samples) {
            return Err(self.damaged("a sample is not of the data set"));
        }
        let bounds = self.entries(|reader| Ok((reader.text()?, reader.range()?)))?;
        let tensors = self.entries(Self::tensor)?;
        Ok(StatisticsFile { provenance, seen, bounds, tensors })
    }

    fn range(&mut self) -> Result<Range, StatisticsError> {
        let (lo, hi) = (f32::from_le_bytes(self.array()?), f32::from_le_bytes(self.array()?));
        Range::new(lo, hi).map_err(|_| self.damaged("a range is impossible"))
    }

    fn tensor(&mut self) -> Result<(String, Record), StatisticsError> {
        let tensor = self.text()?;
        let first_not_finite = self.count()?.checked_sub(1);
        let stats = TensorStats::decode(self.bytes()?);
        let stats = stats.map_err(|source| StatisticsError::Record { tensor: tensor.clone(), source })?;
        Ok((tensor, Record { stats, first_not_finite }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The statistics of samples with these numbers, of ten.
    fn share(numbers: impl IntoIterator<Item = u64>) -> StatisticsFile {
        let provenance = Provenance { model: fingerprint(b"model"), preparation: "raw".into(), samples: 10 };
        let bounds = BTreeMap::from([("x".to_owned(), Range::new(-1.0, 2.0).unwrap())]);
        let mut file = StatisticsFile { provenance, seen: BTreeMap::new(), bounds, tensors: BTreeMap::new() };
        let tensors = ["a", "b"].map(|name| (name.to_owned(), Record::default()));
        file.tensors.extend(tensors);
        for number in numbers {
            file.seen.insert(number, format!("{number}.jpg"));
            for (name, record) in &mut file.tensors {
                let bad = name == "b" && number > 4;
                let values = [number as f32, 0.5, -3e-9, if bad { f32::NAN } else { 0.0 }];
                record.stats.observe(number, None, &values).unwrap();
                record.first_not_finite = record.first_not_finite.or(bad.then_some(number));
            }
        }
        file
    }

    #[test]
    fn what_was_written_is_read() {
        let file = share([0, 3, 7]);
        let bytes = file.encode();
        assert_eq!(StatisticsFile::decode(&bytes), Ok(file.clone()));
        assert_eq!((file.missing(), share(0..10).missing()), (7, 0));
    }

    #[test]
    fn shares_merge_to_the_whole_in_any_order() {
        let whole = share(0..10).encode();
        for parts in [[vec![9, 1], vec![0, 2, 3], vec![4, 5, 6, 7, 8]], [vec![], (0..9).collect(), vec![9]]] {
            for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]] {
                let mut merged = share([]);
                order.iter().for_each(|part: &usize| merged.merge(&share(parts[*part].clone())).unwrap());
                assert!(merged.encode() == whole, "{parts:?} in the order {order:?}");
            }
        }
    }

    #[test]
    fn what_does_not_belong_together_does_not_merge() {
        let change = |change: fn(&mut StatisticsFile)| {
            let mut other = share([5]);
            change(&mut other);
            let mut file = share([1]);
            let error = file.merge(&other).unwrap_err();
            assert_eq!(file, share([1]), "{error}");
            error.to_string()
        };
        assert!(change(|f| f.provenance.model = fingerprint(b"other")).contains("model"));
        assert!(change(|f| f.provenance.preparation = "other".into()).contains("other"));
        assert!(change(|f| f.provenance.samples = 11).contains("11"));
        assert!(change(|f| f.tensors.clear()).contains("tensors"));
        assert!(change(|f| f.seen.extend(share([1]).seen)).contains("1.jpg"));
    }

    #[test]
    fn files_that_are_cut_or_changed_are_refused() {
        let bytes = share([0, 5]).encode();
        for end in 0..bytes.len() {
            assert!(StatisticsFile::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(StatisticsFile::decode(&changed).is_err(), "changed at {at}");
        }
        assert_eq!(StatisticsFile::decode(b"something else"), Err(StatisticsError::NotStatistics));
    }

    proptest! {
        /// With a right checksum, damage reaches the reader behind it.
        #[test]
        fn damage_behind_a_right_checksum_is_an_error_or_a_file(at in 12usize..400, byte: u8) {
            let mut bytes = share([0, 5]).encode();
            bytes.truncate(bytes.len() - DIGEST_BYTES);
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            let digest = fingerprint(&bytes);
            bytes.extend(digest);
            if let Ok(file) = StatisticsFile::decode(&bytes) {
                prop_assert_eq!(file.encode(), bytes);
            }
        }
    }
}
