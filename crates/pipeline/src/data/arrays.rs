//! Arrays that feed an input as they are: whether they fit it, and loading one sample.
//!
//! The first axis of an array counts samples, as the first axis of the input does; an array without it is one sample.

use crate::error::Error;
use quantize_calib::{ArrayFiles, Outline};
use quantize_ir::{DType, Dim, Graph, Tensor, TensorData, ValueId};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Arrays named in a message before the rest is counted.
const NAMED: usize = 8;

/// The samples of one input.
#[derive(Debug)]
pub(super) struct Arrays {
    files: Arc<ArrayFiles>,
    input: ArrayInput,
    samples: Vec<Place>,
}

/// Where a sample stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    file: usize,
    array: usize,
    /// Its row; `None` if it is the whole array.
    row: Option<usize>,
}

/// The model input that arrays feed.
#[derive(Debug)]
struct ArrayInput {
    name: String,
    /// Type of the elements that are fed; `None` takes any.
    dtype: Option<DType>,
    /// Declared lengths of the axes; `None` takes any number of axes from one on.
    dims: Option<Vec<Dim>>,
}

/// How an array's name says that it feeds an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// It must be called like the input.
    ByName,
    /// If it is alone in its file, its name does not matter.
    OnlyOne,
}

/// Why an array does not fit an input, and what to do about it.
type Misfit = &'static str;

impl Arrays {
    /// The samples that the arrays of `files` hold for `value`.
    ///
    /// # Errors
    /// If a file holds no array for it, or one of another type or shape.
    pub(super) fn of(files: Arc<ArrayFiles>, graph: &Graph, value: ValueId, naming: Naming) -> Result<Self, Error> {
        let input = ArrayInput::of(graph, value);
        let mut samples = Vec::new();
        for file in 0..files.len() {
            let array = input.find(&files, file, naming)?;
            let outline = &files.arrays(file)[array];
            let rows = input.rows(outline).map_err(|cure| input.mismatch(&files, file, outline, cure))?;
            match rows {
                None => samples.push(Place { file, array, row: None }),
                Some(rows) => samples.extend((0..rows).map(|row| Place { file, array, row: Some(row) })),
            }
        }
        Ok(Self { files, input, samples })
    }

    /// Number of samples.
    pub(super) fn len(&self) -> usize {
        self.samples.len()
    }

    /// The files.
    pub(super) fn files(&self) -> &Arc<ArrayFiles> {
        &self.files
    }

    /// What messages call sample `index`: its file, with its row if there are several.
    pub(super) fn name(&self, index: usize) -> String {
        let Some(Place { file, array, row }) = self.samples.get(index) else { return "?".to_owned() };
        let name = self.files.name(*file).unwrap_or("?");
        match (row, self.files.arrays(*file).get(*array).and_then(|outline| outline.shape.first())) {
            (Some(row), Some(2..)) => format!("{name}[{row}]"),
            _ => name.to_owned(),
        }
    }

    /// Lengths of the axes of sample `index` but for the first, which counts samples; with the name of each that the
    /// model names.
    pub(super) fn axes(&self, index: usize) -> Vec<(usize, Option<&str>)> {
        let Some(Place { file, array, row }) = self.samples.get(index) else { return Vec::new() };
        let shape = self.files.arrays(*file).get(*array).map_or(&[][..], |outline| &outline.shape);
        let lengths = if row.is_some() { shape.get(1..).unwrap_or_default() } else { shape };
        let symbol = |axis: usize| match self.input.dims.as_ref().and_then(|dims| dims.get(axis + 1)) {
            Some(Dim::Symbol(name)) => Some(name.as_str()),
            _ => None,
        };
        lengths.iter().enumerate().map(|(axis, length)| (*length, symbol(axis))).collect()
    }

    /// Loads sample `index`; its first axis is 1, unless the input has no axes.
    pub(super) fn sample(&self, index: usize) -> Result<Tensor, Error> {
        let no_sample = || Place { file: self.files.len(), array: 0, row: None };
        let Place { file, array, row } = self.samples.get(index).copied().unwrap_or_else(no_sample);
        let loaded = match row {
            Some(row) => self.files.rows(file, array, row..row + 1)?,
            None => self.files.load(file, array)?,
        };
        let outline = || Outline { name: None, dtype: loaded.dtype(), shape: loaded.shape().to_vec() };
        let unfit = |cure: String| self.input.mismatch_with(self.name(index), &outline(), cure);
        let shape: Vec<usize> = match (row, self.input.is_scalar()) {
            (_, true) => Vec::new(),
            (Some(_), false) => loaded.shape().to_vec(),
            (None, false) => std::iter::once(1).chain(loaded.shape().iter().copied()).collect(),
        };
        let data = converted(loaded.data(), self.input.dtype).map_err(unfit)?;
        Tensor::from_data(shape, data).map_err(|error| unfit(error.to_string()))
    }
}

impl ArrayInput {
    fn of(graph: &Graph, value: ValueId) -> Self {
        let declared = graph.value(value);
        let dtype = declared.dtype.map(|dtype| if dtype.is_half() { DType::F32 } else { dtype });
        Self { name: declared.name.clone(), dtype, dims: declared.shape.clone() }
    }

    fn is_scalar(&self) -> bool {
        self.dims.as_ref().is_some_and(Vec::is_empty)
    }

    /// The array of a file that feeds the input.
    fn find(&self, files: &ArrayFiles, file: usize, naming: Naming) -> Result<usize, Error> {
        let arrays = files.arrays(file);
        let named = arrays.iter().position(|array| array.name.as_deref() == Some(self.name.as_str()));
        let only = (arrays.len() == 1 && naming == Naming::OnlyOne).then_some(0);
        named.or(only).ok_or_else(|| {
            let names: BTreeSet<&str> = arrays.iter().filter_map(|array| array.name.as_deref()).collect();
            let listed: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
            let more = if names.len() > NAMED { ", …" } else { "" };
            let path = files.path(file).unwrap_or(Path::new("")).to_owned();
            let held = if names.is_empty() { "a nameless one".into() } else { format!("{}{more}", listed.join(", ")) };
            Error::NoArray { path, input: self.name.clone(), held }
        })
    }

    /// Number of samples along the first axis of an array; `None` if the array is one sample without that axis.
    fn rows(&self, outline: &Outline) -> Result<Option<usize>, Misfit> {
        if self.dtype.is_some_and(|dtype| !convertible(outline.dtype, dtype)) {
            return Err("save it with the type that the model takes, prepared as the model expects it");
        }
        let shape = outline.shape.as_slice();
        let rank = self.dims.as_ref().map_or(shape.len().max(1), Vec::len);
        let (rows, sample) = match shape {
            [rows, sample @ ..] if shape.len() == rank.max(1) => (Some(*rows), sample),
            _ if shape.len() + 1 == rank || (shape.is_empty() && rank == 0) => (None, shape),
            _ => return Err("its first axis counts samples, the others are those of the input"),
        };
        let dims = self.dims.as_ref().and_then(|dims| dims.get(1..)).unwrap_or_default();
        if dims.iter().zip(sample).any(|(dim, length)| dim.known().is_some_and(|known| known != *length as u64)) {
            return Err("all axes but the first, which counts samples, have the lengths that the model takes");
        }
        match rows {
            Some(0) => Err("an array without samples calibrates nothing"),
            rows => Ok(rows),
        }
    }

    fn mismatch(&self, files: &ArrayFiles, file: usize, outline: &Outline, cure: &str) -> Error {
        let path = files.path(file).unwrap_or(Path::new("")).display().to_string();
        self.mismatch_with(path, outline, cure.to_owned())
    }

    fn mismatch_with(&self, file: String, outline: &Outline, cure: String) -> Error {
        let array = outline.name.as_ref().map_or(String::new(), |name| format!("array `{name}` of "));
        let given = format!("{array}{file} is {} {:?}", outline.dtype, outline.shape);
        Error::SampleArray { given, input: self.name.clone(), taken: self.describe(), cure }
    }

    fn describe(&self) -> String {
        let dtype = self.dtype.map_or("elements of any type", DType::name);
        let dim = |dim: &Dim| match dim {
            Dim::Known(length) => length.to_string(),
            Dim::Symbol(name) => name.clone(),
            Dim::Unknown => "?".to_owned(),
        };
        match &self.dims {
            Some(dims) => format!("{dtype} [{}]", dims.iter().map(dim).collect::<Vec<_>>().join(", ")),
            None => format!("{dtype} of any shape"),
        }
    }
}

fn is_integer(dtype: DType) -> bool {
    use DType::{I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(dtype, I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
}

/// Whether elements of one type can be fed where another is taken: the same, `float64` for `float32`, and integers of
/// another width if every one of them fits.
fn convertible(given: DType, taken: DType) -> bool {
    given == taken || (given, taken) == (DType::F64, DType::F32) || (is_integer(given) && is_integer(taken))
}

/// The same elements in another type.
fn converted(data: &TensorData, taken: Option<DType>) -> Result<TensorData, String> {
    match (data, taken) {
        (data, None) => Ok(data.clone()),
        (data, Some(taken)) if data.dtype() == taken => Ok(data.clone()),
        (TensorData::F64(values), Some(DType::F32)) => Ok(TensorData::F32(values.iter().map(|v| *v as f32).collect())),
        (data, Some(taken)) => narrowed(&integers(data), taken),
    }
}

/// The elements, which are integers.
fn integers(data: &TensorData) -> Vec<i128> {
    fn wide<T: Copy + Into<i128>>(values: &[T]) -> Vec<i128> {
        values.iter().map(|value| (*value).into()).collect()
    }
    match data {
        TensorData::I8(values) => wide(values),
        TensorData::U8(values) => wide(values),
        TensorData::I16(values) => wide(values),
        TensorData::U16(values) => wide(values),
        TensorData::I32(values) => wide(values),
        TensorData::U32(values) => wide(values),
        TensorData::I64(values) => wide(values),
        TensorData::U64(values) => wide(values),
        TensorData::F32(_) | TensorData::F64(_) | TensorData::Bool(_) => Vec::new(),
    }
}

fn narrowed(values: &[i128], taken: DType) -> Result<TensorData, String> {
    fn narrow<T: TryFrom<i128>>(values: &[i128], taken: DType) -> Result<Vec<T>, String> {
        let element = |value: &i128| T::try_from(*value).map_err(|_| format!("it holds {value}, which {taken} cannot"));
        values.iter().map(element).collect()
    }
    Ok(match taken {
        DType::I8 => TensorData::I8(narrow(values, taken)?),
        DType::U8 => TensorData::U8(narrow(values, taken)?),
        DType::I16 => TensorData::I16(narrow(values, taken)?),
        DType::U16 => TensorData::U16(narrow(values, taken)?),
        DType::I32 => TensorData::I32(narrow(values, taken)?),
        DType::U32 => TensorData::U32(narrow(values, taken)?),
        DType::I64 => TensorData::I64(narrow(values, taken)?),
        DType::U64 => TensorData::U64(narrow(values, taken)?),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::Bool => {
            return Err(format!("integers are not fed where {taken} is taken"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn input(dtype: DType, dims: &[Dim]) -> ArrayInput {
        ArrayInput { name: "x".into(), dtype: Some(dtype), dims: Some(dims.to_vec()) }
    }

    fn rows(input: &ArrayInput, dtype: DType, shape: &[usize]) -> Result<Option<usize>, Misfit> {
        input.rows(&Outline { name: None, dtype, shape: shape.to_vec() })
    }

    #[test]
    fn the_first_axis_counts_samples_and_may_be_missing() {
        let batch = [Dim::Symbol("batch".into()), Dim::Known(3), Dim::Unknown];
        let image = input(DType::F32, &batch);
        assert_eq!(rows(&image, DType::F32, &[5, 3, 7]), Ok(Some(5)));
        assert_eq!(rows(&image, DType::F32, &[3, 7]), Ok(None));
        assert!(rows(&image, DType::F32, &[5, 2, 7]).is_err(), "a length that is known");
        assert!(rows(&image, DType::F32, &[0, 3, 7]).is_err(), "no sample");
        assert!(rows(&image, DType::F32, &[7]).is_err() && rows(&image, DType::F32, &[1, 5, 3, 7]).is_err(), "axes");
        let fixed = input(DType::F32, &[Dim::Known(4), Dim::Known(3)]);
        assert_eq!(rows(&fixed, DType::F32, &[10, 3]), Ok(Some(10)), "samples are put together to the model's batch");
        let scalar = input(DType::F32, &[]);
        assert_eq!((rows(&scalar, DType::F32, &[]), rows(&scalar, DType::F32, &[6])), (Ok(None), Ok(Some(6))));
        let any = ArrayInput { name: "x".into(), dtype: None, dims: None };
        assert_eq!((rows(&any, DType::U8, &[2, 5]), rows(&any, DType::U8, &[])), (Ok(Some(2)), Ok(None)));
    }

    #[test]
    fn types_are_kept_but_for_width() {
        assert!(convertible(DType::F64, DType::F32) && convertible(DType::I32, DType::I64));
        assert!(convertible(DType::I64, DType::I32) && convertible(DType::Bool, DType::Bool));
        for (given, taken) in [(DType::U8, DType::F32), (DType::F32, DType::I64), (DType::Bool, DType::I64)] {
            assert!(!convertible(given, taken), "{given} as {taken}");
        }
        let tokens = TensorData::I64(vec![1, 1 << 40]);
        assert!(converted(&tokens, Some(DType::I64)) == Ok(tokens.clone()));
        assert!(converted(&tokens, Some(DType::I32)) == Err("it holds 1099511627776, which int32 cannot".into()));
        assert!(converted(&TensorData::F64(vec![0.1]), Some(DType::F32)) == Ok(TensorData::F32(vec![0.1])));
    }

    proptest! {
        #[test]
        fn integers_of_another_width_are_the_same_integers(values in prop::collection::vec(any::<i32>(), 0..20)) {
            let narrow = TensorData::I32(values.clone());
            let wide = converted(&narrow, Some(DType::I64)).unwrap_or_else(|_| narrow.clone());
            prop_assert!(wide.dtype() == DType::I64 && converted(&wide, Some(DType::I32)) == Ok(narrow));
            let fits = values.iter().all(|value| u16::try_from(*value).is_ok());
            prop_assert_eq!(converted(&wide, Some(DType::U16)).is_ok(), fits);
        }
    }
}
