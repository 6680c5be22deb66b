//! The facade: everything from files to files in one place, with one error type and progress.
//!
//! One function for each job of the command line: [`quantize_onnx()`], [`quantize_caffe()`], [`caffe_to_onnx`],
//! [`emulate_caffe`], [`evaluate`], [`compare()`], [`inspect()`] and [`bench()`]; [`Model`] runs a model as it is.
//! The steps are those of `docs/architecture.md`: open, import, fold, select, calibrate, plan, write, verify. What
//! lives here is their order and what a caller sees of them; the steps themselves live in the crates below. Nothing
//! here parses arguments or prints.
#![forbid(unsafe_code)]

mod accuracy;
mod bench;
mod caffe;
mod calibrate;
mod channels;
mod compare;
mod data;
mod error;
mod evaluate;
mod evidence;
mod grouped;
mod improve;
mod inspect;
mod labelled;
mod memory;
mod model;
mod onnx;
mod options;
mod plan_file;
mod planning;
mod search;
mod selection;
mod settle;
mod summary;
mod synthetic;
mod tensorflow;
mod unknown;
mod work;

pub use accuracy::{Accuracy, OutputAccuracy};
pub use bench::{
    BenchModel, BenchOptions, BenchReport, Lap, LayerTime, Peak, PeakLoop, Work, Workload, Workspace, bench,
};
pub use caffe::{
    CaffeFiles, EmulateOptions, EmulatedLayer, EmulatedOutput, EmulationReport, FileOptions, QuantizeCaffeOptions,
    Release, Thresholds, caffe_to_onnx, default_range, emulate_caffe, quantize_caffe,
};
pub use channels::ScalingWorth;
pub use compare::{CompareOptions, Comparison, Difference, LayerDifference, Other, OutputDifference, compare};
pub use error::Error;
pub use evaluate::{EvaluateOptions, Evaluation, evaluate};
pub use evidence::{MergeOptions, StatisticsSummary, describe_statistics, merge_statistics};
pub use improve::{Improvement, StepWorth};
pub use inspect::{
    Activation, Fate, InspectOptions, Inspection, Integers, Memory, NodeDetails, Operator, ParameterType,
    Peak as MemoryPeak, Port, inspect,
};
pub use labelled::AccuracyDrop;
pub use model::{Model, ModelFiles};
pub use onnx::{Simulation, check_plan, gather_onnx, quantize_onnx, simulate_onnx};
pub use options::{
    AccuracyTarget, BiasCorrection, Correction, DataOptions, Fallback, Granularity, InputRange, LabelledOptions,
    PreparationOptions, PreprocessOptions, Preset, Processor, QuantizeOptions, RecipeOptions, Shard, TargetOptions,
    TransformerOptions, WeightBits, WeightRounding,
};
pub use search::TargetOutcome;
pub use summary::{Conversions, Kept, Summary, WeightStorage, WorstTensor};
pub use tensorflow::{
    CalibrateTensorflowJob, EightbitGraph, EightbitJob, FreezeJob, QuantizeTensorflowOptions, RangeLog,
    TensorflowFiles, TensorflowSummary, TransformJob, WrittenGraph, calibrate_tensorflow, eightbit_tensorflow,
    freeze_tensorflow, quantize_tensorflow, summarize_tensorflow, tensorflow_to_onnx, transform_tensorflow,
};

pub use quantize_caffe::ReadOptions;
pub use quantize_caffe::xfdnn::TextStyle;
pub use quantize_calib::{CalibError, Channels, DecodedImage, Interpolation, Layout, PRESETS, Sampling, Size};
pub use quantize_document::OutputSet;
pub use quantize_ir::{Tensor, TensorError};
pub use quantize_numerics::RangeMethod;
pub use quantize_numerics::xfdnn::{BitWidth, Flavor};
pub use quantize_onnx::{ActivationCodes, Form, GroupSize};
pub use quantize_parallel::{Progress, Silent};
pub use quantize_tensorflow::eightbit::{Covered, EightbitOptions, Mode as EightbitMode, Rules as EightbitRules};
pub use quantize_tensorflow::{Fed, FreezeOptions, GraphSummary, Request, SignedSum, TensorflowRecipe, node_names};
