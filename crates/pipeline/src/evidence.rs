//! What calibration knows: statistics of the observed values and what they were taken from, gathered here and now, or
//! read from a file that earlier runs filled.

use crate::calibrate::calibrate;
use crate::data::Data;
use crate::error::Error;
use crate::improve::Split;
use crate::options::Shard;
use quantize_calib::{Fingerprint, Provenance, Record, Statistics, StatisticsError, StatisticsFile};
use quantize_document::{Limits, SourceFile};
use quantize_ir::{Graph, ValueId};
use quantize_numerics::Range;
use quantize_parallel::Progress;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Statistics, and what they are about.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// Of the observed values.
    pub(crate) statistics: Statistics,
    /// The range that every sample stays in, for each network input for which it is known.
    pub(crate) bounds: BTreeMap<ValueId, Range>,
    /// How samples became model inputs, in words.
    pub(crate) preparation: String,
    /// Samples seen: number among those that are calibrated with, and name.
    seen: BTreeMap<u64, String>,
    /// Samples that are calibrated with, all shards together.
    samples: u64,
}

impl Evidence {
    /// Runs the model over the samples of one share of the data.
    pub(crate) fn gather(
        graph: &Graph,
        model: &Path,
        observed: &BTreeSet<ValueId>,
        data: &Data,
        split: &Split,
        shard: Shard,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let (numbered, samples) = numbered(data, &split.calibrated);
        let runs: Vec<_> = shard.positions(numbered.len()).map(|at| numbered[at]).collect();
        let statistics = if observed.is_empty() {
            Statistics::default()
        } else {
            calibrate(graph, model, observed, data, &runs, threads, progress)?
        };
        Self::seen(data, statistics, &runs, samples)
    }

    /// Nothing, for a plan that needs no samples.
    pub(crate) fn none() -> Self {
        let (statistics, bounds) = (Statistics::default(), BTreeMap::new());
        Self { statistics, bounds, preparation: String::new(), seen: BTreeMap::new(), samples: 0 }
    }

    /// All samples of the data, without statistics of its own.
    pub(crate) fn of(data: &Data) -> Result<Self, Error> {
        let (runs, samples) = numbered(data, &(0..data.runs()).collect::<Vec<_>>());
        Self::seen(data, Statistics::default(), &runs, samples)
    }

    fn seen(data: &Data, statistics: Statistics, runs: &[(u64, usize)], samples: u64) -> Result<Self, Error> {
        let named = |(first, run): &(u64, usize)| (*first..).zip(data.samples_of(*run).map(|number| data.name(number)));
        Ok(Self {
            statistics,
            bounds: data.possible_ranges()?,
            preparation: data.preparation(),
            seen: runs.iter().flat_map(named).collect(),
            samples,
        })
    }

    /// Reads the statistics of a model's values from a file.
    ///
    /// # Errors
    /// If the file cannot be read, is about another model or only a part of the data, or lacks an observed value.
    pub(crate) fn read(
        path: &Path,
        graph: &Graph,
        model: Fingerprint,
        observed: &BTreeSet<ValueId>,
    ) -> Result<Self, Error> {
        let refuse =
            |cause: String, cure: &str| Error::Statistics { path: path.to_owned(), cause, cure: Some(cure.to_owned()) };
        let mut file = read_file(path)?;
        if file.provenance.model != model {
            return Err(refuse(
                "it holds statistics of another model".into(),
                "calibrate this model with `--calib DIR --save-stats FILE`",
            ));
        }
        if file.missing() > 0 {
            let (missing, samples) = (file.missing(), file.provenance.samples);
            let cure = "merge it with the files of the other shards: `quantize stats merge A B … -o ALL`";
            return Err(refuse(format!("{missing} of {samples} samples are missing"), cure));
        }
        let mut statistics = Statistics::default();
        for value in observed {
            let name = &graph.value(*value).name;
            let record = file.tensors.remove(name).ok_or_else(|| {
                let cure = "save statistics with the same `--skip`, `--format` and activation options";
                refuse(format!("it has no statistics of tensor `{name}`"), cure)
            })?;
            statistics.insert(*value, record);
        }
        let bound = |value: &ValueId| Some((*value, *file.bounds.get(&graph.value(*value).name)?));
        let bounds = graph.inputs().iter().filter_map(bound).collect();
        let Provenance { preparation, samples, .. } = file.provenance;
        Ok(Self { statistics, bounds, preparation, seen: file.seen, samples })
    }

    /// The file that holds it.
    pub(crate) fn to_file(&self, graph: &Graph, model: Fingerprint) -> StatisticsFile {
        let name = |value: ValueId| graph.value(value).name.clone();
        let tensors = self.statistics.records().map(|(value, record): (_, &Record)| (name(value), record.clone()));
        StatisticsFile {
            provenance: Provenance { model, preparation: self.preparation.clone(), samples: self.samples },
            seen: self.seen.clone(),
            bounds: self.bounds.iter().map(|(value, range)| (name(*value), *range)).collect(),
            tensors: tensors.collect(),
        }
    }

    /// Number of samples seen.
    pub(crate) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Name of a sample, for messages.
    pub(crate) fn name(&self, number: u64) -> &str {
        self.seen.get(&number).map_or("?", String::as_str)
    }
}

/// Runs with the number of their first sample, counted over these runs alone, and how many samples they have together.
fn numbered(data: &Data, runs: &[usize]) -> (Vec<(u64, usize)>, u64) {
    let mut samples = 0;
    let number = |run: &usize| {
        let first = samples;
        samples += data.samples_of(*run).len() as u64;
        (first, *run)
    };
    (runs.iter().map(number).collect(), samples)
}

/// Reads a file of statistics.
pub(crate) fn read_file(path: &Path) -> Result<StatisticsFile, Error> {
    let source = SourceFile::read(path, &Limits::default())?;
    StatisticsFile::decode(source.bytes()).map_err(|source| failed(path, source))
}

/// A file that cannot be used.
pub(crate) fn failed(path: &Path, source: StatisticsError) -> Error {
    let cure = source.hint().map(str::to_owned);
    Error::Statistics { path: path.to_owned(), cause: source.to_string(), cure }
}

/// Merges files of statistics into one.
#[derive(Clone, Debug, PartialEq)]
pub struct MergeOptions {
    /// The files, in any order.
    pub inputs: Vec<PathBuf>,
    /// The file to write.
    pub output: PathBuf,
}

/// What a file of statistics holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatisticsSummary {
    /// The file.
    pub path: PathBuf,
    /// Samples seen.
    pub seen: usize,
    /// Samples of the whole data set.
    pub samples: u64,
    /// Tensors observed.
    pub tensors: usize,
    /// How samples became model inputs, in words.
    pub preparation: String,
}

impl StatisticsSummary {
    pub(crate) fn of(path: &Path, file: &StatisticsFile) -> Self {
        Self {
            path: path.to_owned(),
            seen: file.seen.len(),
            samples: file.provenance.samples,
            tensors: file.tensors.len(),
            preparation: file.provenance.preparation.clone(),
        }
    }
}

/// Merges the statistics of shards; the result has the same bytes for every split and order.
///
/// # Errors
/// If a file cannot be read, or the files are not shards of one calibration.
pub fn merge_statistics(options: &MergeOptions) -> Result<StatisticsSummary, Error> {
    let mut merged: Option<StatisticsFile> = None;
    for path in &options.inputs {
        let file = read_file(path)?;
        match &mut merged {
            None => merged = Some(file),
            Some(merged) => merged.merge(&file).map_err(|source| failed(path, source))?,
        }
    }
    let merged = merged.ok_or_else(|| Error::Statistics {
        path: options.output.clone(),
        cause: "there are no files to merge".into(),
        cure: None,
    })?;
    let mut outputs = quantize_document::OutputSet::new();
    outputs.add_bytes(&options.output, merged.encode());
    outputs.commit()?;
    Ok(StatisticsSummary::of(&options.output, &merged))
}

/// What a file of statistics holds.
///
/// # Errors
/// If it cannot be read.
pub fn describe_statistics(path: &Path) -> Result<StatisticsSummary, Error> {
    Ok(StatisticsSummary::of(path, &read_file(path)?))
}
