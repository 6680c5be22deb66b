//! From files to model inputs: which samples are taken, and loading what one run is fed.
//!
//! A sample is one entry along the first axis of every input. A run takes as many as the model's batch, or one if that
//! is open. What lives here: samples, runs, and that the inputs agree; [`naming`] says which path feeds which input, and
//! [`images`] and [`arrays`] are what can stand there.

mod arrays;
mod images;
mod naming;

use crate::error::Error;
use crate::options::{DataOptions, PreparationOptions, PreprocessOptions};
use arrays::{Arrays, Naming};
use images::Images;
use naming::{Assignment, several_inputs};
use quantize_calib::{ArrayFiles, CalibError, DataSet, ImageFolder, Labels, Limits};
use quantize_ir::{Graph, Tensor, ValueId};
use quantize_numerics::Range;
use std::collections::BTreeMap;
use std::ops;
use std::path::Path;
use std::sync::Arc;

/// Names of left-out files listed before the rest is counted.
const NAMED: usize = 3;

/// Elements up to which a batch is put together; what a model declares must not decide how much memory is asked for.
const MAX_ELEMENTS: usize = 1 << 28;

/// Samples with everything needed to turn them into model inputs.
#[derive(Debug)]
pub(crate) struct Data {
    /// At least one, in the model's order.
    feeds: Vec<Feed>,
    /// Positions of the samples that are taken, at least one.
    taken: Vec<usize>,
    /// Samples of one run.
    batch: usize,
}

/// An input and what feeds it.
#[derive(Debug)]
struct Feed {
    value: ValueId,
    name: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Images(Box<Images>),
    Arrays(Arrays),
}

impl Data {
    /// Opens the data and checks, as far as that can be done without reading all of it, that it fits the inputs of
    /// `graph`.
    ///
    /// # Errors
    /// If a path cannot be read, an input is left without data, or they do not fit each other.
    pub(crate) fn open(options: &DataOptions, graph: &Graph, model: &Path) -> Result<Self, Error> {
        let opening = Opening { graph, model, preparation: &options.preparation };
        let feeds = match Assignment::of(&options.paths, graph, model)? {
            Assignment::Whole(path) => opening.whole(&path)?,
            Assignment::Each(each) => each.iter().map(|(v, path)| opening.one(*v, path)).collect::<Result<_, _>>()?,
        };
        refuse_idle_preprocessing(&feeds, &options.preparation)?;
        let agreement = Agreement { graph, model, feeds: &feeds };
        let batch = agreement.batch()?;
        let samples = agreement.samples()?;
        let taken = options.sampling.positions(samples).map_err(CalibError::from)?;
        agreement.shapes(&taken, batch)?;
        Ok(Self { feeds, taken, batch })
    }

    /// Number of runs.
    pub(crate) fn runs(&self) -> usize {
        self.taken.len().div_ceil(self.batch)
    }

    /// Number of samples.
    pub(crate) fn samples(&self) -> usize {
        self.taken.len()
    }

    /// Samples of run `run`, by number from 0. The last run may have fewer than the others; it is filled up with copies
    /// of its own.
    pub(crate) fn samples_of(&self, run: usize) -> ops::Range<usize> {
        let begin = run.saturating_mul(self.batch).min(self.taken.len());
        begin..begin.saturating_add(self.batch).min(self.taken.len())
    }

    /// What messages call sample `number`, and labels name it: its file, with its row if there are several.
    pub(crate) fn name(&self, number: usize) -> String {
        let position = self.taken.get(number).copied();
        position.and_then(|at| Some(self.feeds.first()?.source.name(at))).unwrap_or_else(|| "?".to_owned())
    }

    /// The labels of all samples, from a file.
    pub(crate) fn labels(&self, path: &Path) -> Result<Vec<u32>, Error> {
        let names: Vec<String> = (0..self.samples()).map(|number| self.name(number)).collect();
        Ok(Labels::read(path)?.of(names.iter().map(String::as_str))?)
    }

    /// Samples of one run, copies included: the length of the inputs' first axes.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// What run `run` is fed.
    pub(crate) fn feed(&self, run: usize) -> Result<Vec<(ValueId, Tensor)>, Error> {
        let numbers = self.samples_of(run);
        let positions = self.taken.get(numbers).unwrap_or_default();
        self.feeds.iter().map(|feed| Ok((feed.value, feed.batch(positions, self.batch)?))).collect()
    }

    /// How samples become model inputs, in words.
    pub(crate) fn preparation(&self) -> String {
        match self.feeds.as_slice() {
            [only] => only.source.preparation(),
            several => {
                let each = several.iter().map(|feed| format!("`{}`: {}", feed.name, feed.source.preparation()));
                each.collect::<Vec<_>>().join("; ")
            }
        }
    }

    /// The range that any sample stays in, for each input for which it is known.
    pub(crate) fn possible_ranges(&self) -> Result<BTreeMap<ValueId, Range>, Error> {
        let range = |feed: &Feed| match &feed.source {
            Source::Images(images) => Ok(images.possible_range()?.map(|range| (feed.value, range))),
            Source::Arrays(_) => Ok(None),
        };
        self.feeds.iter().filter_map(|feed| range(feed).transpose()).collect()
    }

    /// What was assumed because nothing was said, for warnings.
    pub(crate) fn assumed(&self) -> impl Iterator<Item = String> {
        self.feeds.iter().filter_map(|feed| match &feed.source {
            Source::Images(images) => images.assumed().map(str::to_owned),
            Source::Arrays(_) => None,
        })
    }

    /// What was left out and what was filled up, for a log.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<String> = self.feeds.iter().filter_map(|feed| feed.source.left_out()).collect();
        remarks.dedup();
        let (samples, batch) = (self.taken.len(), self.batch);
        let copies = self.runs() * batch - samples;
        remarks.extend((copies > 0).then(|| {
            format!("data: {samples} samples in runs of {batch}, {copies} places of the last one filled with copies")
        }));
        remarks
    }
}

impl Feed {
    /// The samples at these positions, at least one, along the first axis, with copies of them up to `batch`.
    fn batch(&self, positions: &[usize], batch: usize) -> Result<Tensor, Error> {
        let mut each = positions.iter().copied().cycle().take(batch);
        let first = each.next().unwrap_or_default();
        let mut whole = self.source.sample(first)?;
        if whole.len().checked_mul(batch).is_none_or(|elements| elements > MAX_ELEMENTS) {
            let input = self.name.clone();
            return Err(Error::BatchTooLarge { input, batch, elements: whole.len() });
        }
        for position in each {
            let sample = self.source.sample(position)?;
            whole.append_rows(&sample).map_err(|_| self.unequal(first, position, batch))?;
        }
        Ok(whole)
    }

    /// The error that two samples of one run have different shapes.
    fn unequal(&self, first: usize, other: usize, batch: usize) -> Error {
        let (first, other) = (self.source.name(first), self.source.name(other));
        Error::UnequalSamples { input: self.name.clone(), batch, first, other }
    }
}

impl Source {
    fn len(&self) -> usize {
        match self {
            Self::Images(images) => images.folder().len(),
            Self::Arrays(arrays) => arrays.len(),
        }
    }

    fn name(&self, position: usize) -> String {
        match self {
            Self::Images(images) => images.folder().name(position).unwrap_or("?").to_owned(),
            Self::Arrays(arrays) => arrays.name(position),
        }
    }

    fn sample(&self, position: usize) -> Result<Tensor, Error> {
        match self {
            Self::Images(images) => images.sample(position),
            Self::Arrays(arrays) => arrays.sample(position),
        }
    }

    fn preparation(&self) -> String {
        match self {
            Self::Images(images) => images.preparation().to_string(),
            Self::Arrays(_) => "arrays as they are".to_owned(),
        }
    }

    /// Names of the files without suffix.
    fn stems(&self) -> Vec<&str> {
        let files: Vec<&str> = match self {
            Self::Images(images) => images.folder().names().collect(),
            Self::Arrays(arrays) => {
                let files = arrays.files();
                (0..files.len()).filter_map(|file| files.name(file)).collect()
            }
        };
        files.into_iter().map(|name| name.rsplit_once('.').map_or(name, |(stem, _)| stem)).collect()
    }

    /// What of the folder is no sample, in words.
    fn left_out(&self) -> Option<String> {
        match self {
            Self::Images(images) => left_out(images.folder().left_out()),
            Self::Arrays(arrays) => left_out(arrays.files().left_out()),
        }
    }
}

fn left_out<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> Option<String> {
    let count = names.len();
    let listed: Vec<String> = names.take(NAMED).map(|n| format!("`{n}`")).collect();
    let rest = if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() };
    (count > 0).then(|| format!("data: not samples, left out: {}{rest}", listed.join(", ")))
}

/// Options that would change nothing are not passed over in silence.
fn refuse_idle_preprocessing(feeds: &[Feed], options: &PreparationOptions) -> Result<(), Error> {
    let idle = feeds.iter().all(|feed| matches!(feed.source, Source::Arrays(_)));
    match options {
        PreparationOptions::Pillow(given) if idle && *given != PreprocessOptions::default() => Err(Error::Conflict {
            first: "preprocessing options".into(),
            second: "arrays".into(),
            why: "arrays are fed as they are".into(),
        }),
        _ => Ok(()),
    }
}

/// Opens what feeds the inputs of a model.
struct Opening<'a> {
    graph: &'a Graph,
    model: &'a Path,
    preparation: &'a PreparationOptions,
}

impl Opening<'_> {
    /// One path for all inputs.
    fn whole(&self, path: &Path) -> Result<Vec<Feed>, Error> {
        match (self.data_set(path)?, self.graph.inputs()) {
            (_, []) => Err(Error::Input {
                model: self.model.to_owned(),
                cause: "it has no inputs".into(),
                cure: "a model without inputs has nothing to calibrate".into(),
            }),
            (DataSet::Images(folder), [only]) => Ok(vec![self.images(*only, folder)?]),
            (DataSet::Arrays(files), [only]) => Ok(vec![self.arrays(*only, Arc::new(files), Naming::OnlyOne)?]),
            (DataSet::Images(_), _) => Err(several_inputs(self.graph, self.model, path, "images")),
            (DataSet::Arrays(files), _) if files.arrays(0).iter().any(|array| array.name.is_none()) => {
                Err(several_inputs(self.graph, self.model, path, "arrays without names"))
            }
            (DataSet::Arrays(files), inputs) => {
                let files = Arc::new(files);
                inputs.iter().map(|value| self.arrays(*value, Arc::clone(&files), Naming::ByName)).collect()
            }
        }
    }

    /// The path of one input.
    fn one(&self, value: ValueId, path: &Path) -> Result<Feed, Error> {
        match self.data_set(path)? {
            DataSet::Images(folder) => self.images(value, folder),
            DataSet::Arrays(files) => self.arrays(value, Arc::new(files), Naming::OnlyOne),
        }
    }

    /// Caffe's tools take arrays for images that are yet to be prepared.
    fn data_set(&self, path: &Path) -> Result<DataSet, Error> {
        Ok(match self.preparation {
            PreparationOptions::Pillow(_) => {
                DataSet::open(path, Limits::default(), quantize_onnx::decode_tensor_message)?
            }
            PreparationOptions::Caffe(_) => DataSet::Images(ImageFolder::open_with_arrays(path, Limits::default())?),
        })
    }

    fn feed(&self, value: ValueId, source: Source) -> Feed {
        Feed { value, name: self.graph.value(value).name.clone(), source }
    }

    fn images(&self, value: ValueId, folder: ImageFolder) -> Result<Feed, Error> {
        let images = Images::of(folder, self.preparation, self.graph, self.model, value)?;
        Ok(self.feed(value, Source::Images(Box::new(images))))
    }

    fn arrays(&self, value: ValueId, files: Arc<ArrayFiles>, naming: Naming) -> Result<Feed, Error> {
        Ok(self.feed(value, Source::Arrays(Arrays::of(files, self.graph, value, naming)?)))
    }
}

/// Whether what feeds the inputs of a model agrees.
struct Agreement<'a> {
    graph: &'a Graph,
    model: &'a Path,
    feeds: &'a [Feed],
}

impl Agreement<'_> {
    fn refuse(&self, cause: String, cure: &str) -> Error {
        Error::Input { model: self.model.to_owned(), cause, cure: cure.to_owned() }
    }

    /// Samples of one run: the length of the inputs' first axes, or 1 where all leave it open.
    fn batch(&self) -> Result<usize, Error> {
        let mut fixed: Option<(&Feed, usize)> = None;
        for feed in self.feeds {
            let first = self.graph.value(feed.value).shape.as_deref().map(<[_]>::first);
            let length = match first {
                Some(None) => Some(1),
                first => first.flatten().and_then(|dim| usize::try_from(dim.known()?).ok()).filter(|n| *n > 0),
            };
            let Some(length) = length else { continue };
            match fixed {
                Some((other, before)) if before != length => {
                    let (a, b) = (&other.name, &feed.name);
                    let cause = format!("its inputs `{a}` and `{b}` take {before} and {length} samples at once");
                    return Err(self.refuse(cause, "export the model with the same batch, or an open one, everywhere"));
                }
                _ => fixed = Some((feed, length)),
            }
        }
        Ok(fixed.map_or(1, |(_, length)| length))
    }

    /// Number of samples, which all inputs have in common.
    fn samples(&self) -> Result<usize, Error> {
        let Some((first, rest)) = self.feeds.split_first() else { return Ok(0) };
        for other in rest {
            let (a, b) = (first.source.len(), other.source.len());
            if a != b {
                let cause = format!("there are {a} samples for input `{}` and {b} for `{}`", first.name, other.name);
                return Err(self.refuse(cause, "each input needs as many samples as the others, in the same order"));
            }
            self.order(first, other)?;
        }
        Ok(first.source.len())
    }

    /// Files of the same name stand at the same place.
    fn order(&self, first: &Feed, other: &Feed) -> Result<(), Error> {
        let places: BTreeMap<&str, usize> = first.source.stems().into_iter().zip(0..).collect();
        for (place, stem) in other.source.stems().into_iter().enumerate() {
            match places.get(stem) {
                Some(before) if *before != place => {
                    let (a, b) = (&first.name, &other.name);
                    let cause = format!("`{stem}` is file {before} of input `{a}`, but file {place} of `{b}`");
                    let cure =
                        "files are paired in the order of their names, from 0; add or remove what has no partner";
                    return Err(self.refuse(cause, cure));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Of arrays, samples that run together have the same shape, and axes that the model calls the same the same length.
    fn shapes(&self, taken: &[usize], batch: usize) -> Result<(), Error> {
        for run in taken.chunks(batch) {
            let mut lengths: BTreeMap<&str, (usize, &Feed)> = BTreeMap::new();
            for feed in self.feeds {
                let Source::Arrays(arrays) = &feed.source else { continue };
                let Some((first, others)) = run.split_first() else { continue };
                let axes = arrays.axes(*first);
                if let Some(other) = others.iter().find(|other| arrays.axes(**other) != axes) {
                    return Err(feed.unequal(*first, *other, batch));
                }
                for (length, symbol) in axes {
                    let Some(symbol) = symbol else { continue };
                    let (before, other) = *lengths.entry(symbol).or_insert((length, feed));
                    if before != length {
                        let (sample, a, b) = (feed.source.name(*first), &other.name, &feed.name);
                        let cause =
                            format!("{sample}: axis `{symbol}` has length {before} in `{a}` and {length} in `{b}`");
                        return Err(
                            self.refuse(cause, "what the model calls by one name has one length in each sample")
                        );
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
