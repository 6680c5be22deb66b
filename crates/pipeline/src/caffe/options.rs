//! What a caller may ask of the Caffe format.

use crate::options::{DataOptions, RecipeOptions};
use quantize_caffe::ReadOptions;
use quantize_caffe::xfdnn::{EntryKinds, FileFormat, TextStyle};
use quantize_numerics::RangeMethod;
use quantize_numerics::xfdnn::{BitWidth, Flavor};
use std::path::PathBuf;

/// A network in its two files.
#[derive(Clone, Debug, PartialEq)]
pub struct CaffeFiles {
    /// The description, a prototxt.
    pub deploy: PathBuf,
    /// The weights, a caffemodel.
    pub weights: PathBuf,
    /// What the caller states of the input.
    pub read: ReadOptions,
}

/// Releases of the original quantizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// 1.1
    V1_1,
    /// 1.2
    V1_2,
    /// 1.3
    V1_3,
}

/// How thresholds are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thresholds {
    /// On the fp32 network; tensors whose codes meet share one.
    Groups,
    /// As the original does: layer by layer on a network that is rounded on the way, for the whole batch at once.
    Sequential,
}

/// The form of the quantization file, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// Generation of the hardware.
    pub flavor: Flavor,
    /// Width of all codes.
    pub bits: BitWidth,
    /// How thresholds are found.
    pub thresholds: Thresholds,
    /// The release whose set of entries is wanted; `None` for all that the hardware takes.
    pub release: Option<Release>,
    /// Whether inner products have entries.
    pub inner_product: bool,
    /// Whether thresholds are raised until every step is a power of two.
    pub power_of_two: bool,
    /// Whether local response normalization has a threshold of its own rather than its input's.
    pub float_lrn: bool,
    /// How lines end.
    pub style: TextStyle,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            flavor: Flavor::V3,
            bits: BitWidth::Eight,
            thresholds: Thresholds::Groups,
            release: None,
            inner_product: true,
            power_of_two: false,
            float_lrn: false,
            style: TextStyle::Plain,
        }
    }
}

impl FileOptions {
    /// Which layers have entries: releases 1.1 and 1.2 knew convolutions only, and hardware of generation v2 neither
    /// adds nor averages by entries unless release 1.3 made the file.
    pub(crate) fn entries(&self) -> EntryKinds {
        let v3 = self.flavor == Flavor::V3;
        let (eltwise, average_pool, scale) = match self.release {
            None => (v3, v3, v3),
            Some(Release::V1_1 | Release::V1_2) => (false, false, false),
            Some(Release::V1_3) => (true, v3, true),
        };
        EntryKinds { inner_product: self.inner_product, eltwise, average_pool, scale }
    }

    /// The form of the numbers.
    pub(crate) fn format(&self) -> FileFormat {
        FileFormat { flavor: self.flavor, bits: self.bits }
    }
}

/// The range method that did best over several networks; see `docs/decisions/0007-thresholds-of-xfdnn.md`. 16 bits
/// have room for outliers.
pub fn default_range(bits: BitWidth) -> RangeMethod {
    match bits {
        BitWidth::Eight => RangeMethod::Percentile(99.998),
        BitWidth::Sixteen => RangeMethod::MinMax,
    }
}

/// A quantization of a Caffe network.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizeCaffeOptions {
    /// The network.
    pub model: CaffeFiles,
    /// The quantization file to write; missing folders on the way to it are made.
    pub output: PathBuf,
    /// Calibration data; may be absent if nothing is quantized.
    pub data: Option<DataOptions>,
    /// How thresholds follow from statistics, and what is skipped.
    pub recipe: RecipeOptions,
    /// The form of the file.
    pub file: FileOptions,
    /// Where to write the network with batch normalization folded, as two files `PREFIX.prototxt` and
    /// `PREFIX.caffemodel`.
    pub emit_merged: Option<PathBuf>,
    /// Where to write the plan, if anywhere.
    pub emit_plan: Option<PathBuf>,
    /// Threads; 0 for one for each core.
    pub threads: usize,
}

/// An emulation of the runtime.
#[derive(Clone, Debug, PartialEq)]
pub struct EmulateOptions {
    /// The network.
    pub model: CaffeFiles,
    /// The quantization file.
    pub quantcfg: PathBuf,
    /// Samples to run.
    pub data: DataOptions,
    /// Samples at most.
    pub limit: Option<usize>,
    /// File of labels, for top-1 and top-5 accuracy.
    pub labels: Option<PathBuf>,
    /// Generation of the hardware; `None` for the one the file's multipliers are made for.
    pub flavor: Option<Flavor>,
    /// Threads; 0 for one for each core.
    pub threads: usize,
}
