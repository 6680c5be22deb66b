//! What `quantize caffe` feeds a net: the choice of images and their preprocessing, against reference data.
#![allow(clippy::unwrap_used)]

use quantize_calib::{Array, ImageFolder, Limits, Sampling, Size, Transformer, choose};
use quantize_tests::skipped;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Mean difference between two JPEG decoders, in units of 8-bit levels.
const MEAN: f64 = 0.3;
/// Largest difference of all but [`STRAY`] of the values.
const LARGEST: f64 = 2.0;
/// Part of the values that may differ by more than [`LARGEST`]: at sharp edges of colour, decoders that interpolate
/// the coarser colour planes differently are up to [`LARGEST_STRAY`] levels apart before anything is resized.
const STRAY: f64 = 1e-3;
const LARGEST_STRAY: f64 = 4.0;

/// The shared folder; says that the test is skipped if there is none.
fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("QUANTIZE_SHARED").map(PathBuf::from);
    if folder.is_none() {
        skipped("QUANTIZE_SHARED is not set");
    }
    folder
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn array(path: &Path) -> Array {
    Array::parse(path.display().to_string(), &fs::read(path).unwrap(), Limits::default()).unwrap()
}

fn position(folder: &ImageFolder, name: &str) -> usize {
    folder.names().position(|known| known == name).unwrap()
}

/// The numbers of `key=value` within the name of a case of the sampling vectors.
fn numbers(case: &str, key: &str) -> Option<Vec<usize>> {
    let (_, rest) = case.split_once(&format!("{key}="))?;
    let list = rest.split(',').map_while(|number| number.parse().ok());
    Some(list.collect())
}

#[test]
fn a_seed_selects_the_files_of_the_original() {
    let Some(shared) = shared() else { return };
    let vectors = json(&shared.join("golden/xfdnn/vectors/calibration_sampling.json"));
    let mut compared = 0;
    for (case, expected) in vectors.as_object().unwrap() {
        let (Some(files), Some(size), Some(seed)) = (numbers(case, "n"), numbers(case, "size"), numbers(case, "seed"))
        else {
            continue;
        };
        let expected: Vec<usize> = serde_json::from_value(expected.clone()).unwrap();
        let indices = numbers(case, "indices").unwrap_or_default();
        let seed = u32::try_from(seed[0]).unwrap();
        assert_eq!(choose(files[0], size[0], seed, &indices).unwrap(), expected, "{case}");
        if indices.is_empty() {
            let sampling = Sampling { size: Some(size[0]), seed: Some(seed), indices };
            assert_eq!(sampling.positions(files[0]).unwrap(), expected, "{case}");
        }
        compared += 1;
    }
    assert_eq!(compared, 7);
}

/// How far two lists of values are apart.
#[derive(Debug)]
struct Difference {
    largest: f64,
    mean: f64,
    /// Part of the values that differ by more than [`LARGEST`].
    stray: f64,
}

impl Difference {
    fn of(found: &[f32], expected: &[f64]) -> Self {
        assert_eq!(found.len(), expected.len());
        let all = || found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs());
        let part = |sum: f64| sum / found.len() as f64;
        let stray = all().filter(|difference| *difference > LARGEST).count();
        Self { largest: all().fold(0.0, f64::max), mean: part(all().sum()), stray: part(stray as f64) }
    }

    fn is_that_of_decoders(&self) -> bool {
        self.largest <= LARGEST_STRAY && self.mean <= MEAN && self.stray <= STRAY
    }
}

/// Compares preprocessed images with the planes of an array [N, 3, 224, 224] and returns how many there were.
fn compare_inputs(folder: &Path, names: &[&str], inputs: &Array) -> usize {
    let folder = ImageFolder::open(folder, Limits::default()).unwrap();
    let transformer = Transformer::new(3, Size::square(224));
    assert_eq!(inputs.shape(), [names.len(), 3, 224, 224]);
    for (name, expected) in names.iter().zip(inputs.data().chunks_exact(3 * 224 * 224)) {
        let sample = transformer.apply(&folder.load(position(&folder, name)).unwrap()).unwrap();
        assert_eq!(sample.dims, [1, 3, 224, 224]);
        let difference = Difference::of(&sample.data, expected);
        assert!(difference.is_that_of_decoders(), "{name}: {difference:?}");
    }
    names.len()
}

#[test]
fn preprocessed_images_are_those_of_the_reference() {
    let Some(shared) = shared() else { return };
    let golden = shared.join("golden/xfdnn");
    let calib = ["0000_n01440764.jpg", "0200_n02097474.jpg", "0400_n02669723.jpg", "0600_n03532672.jpg"];
    let four = array(&golden.join("e2e_open_nsfw/input4.npy"));
    let one = array(&golden.join("fp32/open_nsfw_input_0.npy"));
    let compared = compare_inputs(&shared.join("images/calib"), &calib, &four)
        + compare_inputs(&shared.join("images/val"), &["0001_n01443537.jpg"], &one);
    assert_eq!(compared, 5);
}

/// The position that a key like `[1,100,57]` names in an input [3, 224, 224].
fn probe_position(key: &str) -> usize {
    let axes: Vec<usize> = key.trim_matches(['[', ']']).split(',').map(|axis| axis.parse().unwrap()).collect();
    (axes[0] * 224 + axes[1]) * 224 + axes[2]
}

#[test]
fn statistics_and_probes_of_preprocessed_images_are_those_of_the_reference() {
    let Some(shared) = shared() else { return };
    let reference = json(&shared.join("golden/xfdnn/fp32/open_nsfw_fp32.json"));
    let folder = ImageFolder::open(shared.join("images/val"), Limits::default()).unwrap();
    let transformer = Transformer::new(3, Size::square(224));
    let (mut images, mut probes) = (0, 0);
    for image in reference["images"].as_array().unwrap() {
        let name = image["file"].as_str().unwrap();
        let data = transformer.apply(&folder.load(position(&folder, name)).unwrap()).unwrap().data;
        let values = || data.iter().copied().map(f64::from);
        let mean = |sum: f64| sum / data.len() as f64;
        let found = [
            ("input_mean", mean(values().sum()), MEAN),
            ("input_abs_mean", mean(values().map(f64::abs).sum()), MEAN),
            ("input_min", values().fold(f64::INFINITY, f64::min), LARGEST),
            ("input_max", values().fold(f64::NEG_INFINITY, f64::max), LARGEST),
        ];
        for (key, found, tolerance) in found {
            let expected = image[key].as_f64().unwrap();
            assert!((found - expected).abs() <= tolerance, "{name}: {key} is {found}, expected {expected}");
        }
        for (key, expected) in image["probe"].as_object().unwrap() {
            let (found, expected) = (f64::from(data[probe_position(key)]), expected.as_f64().unwrap());
            assert!((found - expected).abs() <= LARGEST, "{name}: {found} at {key}, expected {expected}");
            probes += 1;
        }
        images += 1;
    }
    assert_eq!((images, probes), (10, 30));
}
