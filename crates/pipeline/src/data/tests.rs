//! Tests of samples and runs, fed from arrays.

use super::*;
use quantize_calib::Sampling;
use quantize_ir::{DType, Dim, Value};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// An input of a model: name, type and lengths of its axes, of which 0 is open and called `batch`, 1000 open and called
/// `seq`.
type Input<'a> = (&'a str, DType, &'a [u64]);

fn graph(inputs: &[Input<'_>]) -> Graph {
    let mut graph = Graph::new();
    let dim = |length: &u64| match length {
        0 => Dim::Symbol("batch".into()),
        1000 => Dim::Symbol("seq".into()),
        length => Dim::Known(*length),
    };
    let values = inputs.iter().map(|(name, dtype, dims)| {
        let mut value = Value::named(*name);
        value.dtype = Some(*dtype);
        value.shape = Some(dims.iter().map(dim).collect());
        graph.add_value(value)
    });
    let values = values.collect();
    graph.set_inputs(values);
    graph
}

/// A folder with `.npy` files of `int64` numbers that count from 0: their names and shapes.
fn folder(files: &[(&str, &[usize])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, shape) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, npy(shape)).unwrap();
    }
    folder
}

fn npy(shape: &[usize]) -> Vec<u8> {
    let axes: String = shape.iter().map(|axis| format!("{axis},")).collect();
    let header = format!("{{'descr': '<i8', 'fortran_order': False, 'shape': ({axes})}}");
    let numbers = (0..shape.iter().product::<usize>() as i64).flat_map(i64::to_le_bytes);
    [b"\x93NUMPY\x01\0", &[header.len() as u8, 0][..], header.as_bytes()].concat().into_iter().chain(numbers).collect()
}

fn open(inputs: &[Input<'_>], paths: &[String], sampling: Sampling) -> Result<Data, Error> {
    let preparation = PreparationOptions::Pillow(PreprocessOptions::default());
    let options = DataOptions { paths: paths.iter().map(PathBuf::from).collect(), sampling, preparation };
    Data::open(&options, &graph(inputs), Path::new("m.onnx"))
}

fn whole(inputs: &[Input<'_>], folder: &TempDir) -> Result<Data, Error> {
    open(inputs, &[folder.path().display().to_string()], Sampling::default())
}

/// A path for each input, in the folder.
fn each(inputs: &[Input<'_>], folder: &TempDir) -> Result<Data, Error> {
    let path = |(name, _, _): &Input<'_>| format!("{name}={}", folder.path().join(name).display());
    open(inputs, &inputs.iter().map(path).collect::<Vec<_>>(), Sampling::default())
}

fn numbers(data: &Data, run: usize) -> Vec<(Vec<usize>, Vec<i64>)> {
    let fed = data.feed(run).unwrap().into_iter();
    fed.map(|(_, tensor)| (tensor.shape().to_vec(), tensor.into_vec::<i64>().unwrap())).collect()
}

#[test]
fn rows_of_all_files_are_samples_in_the_order_of_names() {
    let folder = folder(&[("b.npy", &[2, 2]), ("a.npy", &[2])]);
    let data = whole(&[("ids", DType::I64, &[0, 2])], &folder).unwrap();
    assert_eq!((data.runs(), data.samples(), data.batch()), (3, 3, 1));
    assert_eq!([0, 1, 2].map(|n| data.name(n)), ["a.npy", "b.npy[0]", "b.npy[1]"]);
    assert_eq!(numbers(&data, 0), [(vec![1, 2], vec![0, 1])]);
    assert_eq!(numbers(&data, 2), [(vec![1, 2], vec![2, 3])]);
    assert_eq!((data.preparation(), data.assumed().count()), ("arrays as they are".to_owned(), 0));
    assert!(data.possible_ranges().unwrap().is_empty());
}

#[test]
fn a_fixed_batch_takes_as_many_samples_and_copies_of_the_last_ones() {
    let folder = folder(&[("a.npy", &[3, 1]), ("b.npy", &[2, 1])]);
    let data = whole(&[("ids", DType::I32, &[3, 1])], &folder).unwrap();
    assert_eq!((data.runs(), data.samples(), data.batch()), (2, 5, 3));
    assert_eq!((data.samples_of(0), data.samples_of(1), data.samples_of(2)), (0..3, 3..5, 5..5));
    let (_, second) = data.feed(1).unwrap().remove(0);
    assert_eq!(second, Tensor::new([3, 1], vec![0_i32, 1, 0]).unwrap());
    assert_eq!(data.remarks(), ["data: 5 samples in runs of 3, 1 places of the last one filled with copies"]);
}

#[test]
fn samples_are_chosen_alike_from_every_input() {
    let folder = folder(&[("ids/a.npy", &[9, 1]), ("mask/a.npy", &[9, 1])]);
    let inputs: [Input<'_>; 2] = [("ids", DType::I64, &[0, 1]), ("mask", DType::I64, &[0, 1])];
    let paths = ["ids", "mask"].map(|name| format!("{name}={}", folder.path().join(name).display()));
    let data = open(&inputs, &paths, Sampling { indices: vec![7, 2], ..Sampling::default() }).unwrap();
    assert_eq!([0, 1].map(|n| data.name(n)), ["a.npy[2]", "a.npy[7]"]);
    assert_eq!(numbers(&data, 1), [(vec![1, 1], vec![7]), (vec![1, 1], vec![7])]);
    assert_eq!(data.preparation(), "`ids`: arrays as they are; `mask`: arrays as they are");
    let drawn = open(&inputs, &paths, Sampling { size: Some(4), seed: Some(3), ..Sampling::default() }).unwrap();
    assert_eq!((drawn.samples(), drawn.runs()), (4, 4));
    for run in 0..4 {
        let fed = numbers(&drawn, run);
        assert_eq!(fed[0], fed[1]);
    }
}

#[test]
fn inputs_that_do_not_agree_are_refused_with_the_place() {
    let refused = |inputs: &[Input<'_>], files: &[(&str, &[usize])], part: &str| {
        let error = each(inputs, &folder(files)).unwrap_err();
        let text = format!("{error}; {}", error.hint().unwrap());
        assert!(text.contains(part), "{text}");
    };
    let open_pair: [Input<'_>; 2] = [("ids", DType::I64, &[0, 1000]), ("mask", DType::I64, &[0, 1000])];
    refused(
        &open_pair,
        &[("ids/a.npy", &[2, 5]), ("mask/a.npy", &[3, 5])],
        "there are 2 samples for input `ids` and 3 for `mask`",
    );
    refused(
        &open_pair,
        &[("ids/a.npy", &[2, 5]), ("mask/a.npy", &[2, 4])],
        "a.npy[0]: axis `seq` has length 5 in `ids` and 4 in `mask`",
    );
    refused(
        &open_pair,
        &[("ids/a.npy", &[1, 5]), ("ids/b.npy", &[1, 5]), ("mask/b.npy", &[1, 5]), ("mask/c.npy", &[1, 5])],
        "`b` is file 1 of input `ids`, but file 0 of `mask`",
    );
    refused(
        &[("ids", DType::I64, &[2, 1000])],
        &[("ids/a.npy", &[1, 5]), ("ids/b.npy", &[1, 4])],
        "samples a.npy and b.npy have different shapes, but model input `ids` takes 2 at once",
    );
    refused(
        &[("ids", DType::I64, &[2, 5]), ("mask", DType::I64, &[4, 5])],
        &[("ids/a.npy", &[4, 5]), ("mask/a.npy", &[4, 5])],
        "its inputs `ids` and `mask` take 2 and 4 samples at once",
    );
    refused(
        &[("x", DType::F32, &[0, 5])],
        &[("x/a.npy", &[1, 5])],
        "is int64 [1, 5], but model input `x` takes float32 [batch, 5]",
    );
    refused(
        &[("x", DType::I64, &[0, 5])],
        &[("x/a.npy", &[1, 4])],
        "is int64 [1, 4], but model input `x` takes int64 [batch, 5]",
    );
}

#[test]
fn lengths_may_differ_from_run_to_run() {
    let folder = folder(&[("a.npy", &[1, 5]), ("b.npy", &[1, 3])]);
    let data = whole(&[("ids", DType::I64, &[0, 1000])], &folder).unwrap();
    assert_eq!([0, 1].map(|run| numbers(&data, run)[0].0.clone()), [vec![1, 5], vec![1, 3]]);
}

#[test]
fn a_batch_that_only_a_file_decides_is_refused() {
    let folder = folder(&[("a.npy", &[1, 5])]);
    let data = whole(&[("ids", DType::I64, &[1 << 40, 5])], &folder).unwrap();
    let error = data.feed(0).unwrap_err();
    assert!(error.to_string().contains("takes 1099511627776 samples of 5 elements at once"), "{error}");
}

#[test]
fn preprocessing_of_arrays_is_refused() {
    let folder = folder(&[("a.npy", &[1, 5])]);
    let preprocess = PreprocessOptions { mean: Some(vec![1.0]), ..PreprocessOptions::default() };
    let options = DataOptions {
        paths: vec![folder.path().to_owned()],
        sampling: Sampling::default(),
        preparation: PreparationOptions::Pillow(preprocess),
    };
    let error = Data::open(&options, &graph(&[("ids", DType::I64, &[0, 5])]), Path::new("m.onnx")).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("arrays are fed as they are"), "{error}");
}
