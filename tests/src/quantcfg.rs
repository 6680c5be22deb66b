//! Quantization files of xfDNN, read and compared entry by entry.

use quantize_caffe::xfdnn::{Entry, QuantizationFile};
use quantize_document::{Limits, SourceFile};
use std::collections::BTreeMap;
use std::path::Path;

/// The file at `path`.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn read(path: &Path) -> QuantizationFile {
    let source = SourceFile::read(path, &Limits::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    QuantizationFile::parse(&source).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Names of the entries, in order.
#[must_use]
pub fn names(file: &QuantizationFile) -> Vec<&str> {
    file.network.iter().map(|entry| entry.name.as_str()).collect()
}

/// How far two numbers are apart, as a part of the expected one; 0 if both are 0.
#[must_use]
pub fn deviation(found: f64, expected: f64) -> f64 {
    if found == expected { 0.0 } else { (found - expected).abs() / expected.abs() }
}

/// The larger deviation of the two activation thresholds of each entry, by the name of its layer.
///
/// # Panics
/// If the entries are not of the same layers.
#[must_use]
pub fn activation_deviations(found: &QuantizationFile, expected: &QuantizationFile) -> BTreeMap<String, f64> {
    assert_eq!(names(found), names(expected));
    let apart = |(f, e): (&Entry, &Entry)| {
        let worst = deviation(f.th_layer_in, e.th_layer_in).max(deviation(f.th_layer_out, e.th_layer_out));
        (e.name.clone(), worst)
    };
    found.network.iter().zip(&expected.network).map(apart).collect()
}

/// The largest deviation of a weight threshold, and how many there are.
///
/// # Panics
/// If the entries do not have the same numbers of channels.
#[must_use]
pub fn weight_deviation(found: &QuantizationFile, expected: &QuantizationFile) -> (f64, usize) {
    let (mut worst, mut channels) = (0f64, 0);
    for (f, e) in found.network.iter().zip(&expected.network) {
        let (f, e) = (f.th_params.as_deref().unwrap_or_default(), e.th_params.as_deref().unwrap_or_default());
        assert_eq!(f.len(), e.len());
        worst = f.iter().zip(e).map(|(f, e)| deviation(*f, *e)).fold(worst, f64::max);
        channels += f.len();
    }
    (worst, channels)
}
