//! TensorFlow from file to file: single steps, and models for everything that runs one.

mod calibrate;
mod eightbit;
mod model;
mod quantize;
mod steps;

pub use calibrate::{CalibrateTensorflowJob, RangeLog, calibrate_tensorflow};
pub use eightbit::{EightbitGraph, EightbitJob, eightbit_tensorflow};
pub use model::TensorflowFiles;
pub(crate) use model::TensorflowModel;
pub use quantize::{QuantizeTensorflowOptions, quantize_tensorflow, tensorflow_to_onnx};
pub use steps::{
    FreezeJob, TensorflowSummary, TransformJob, WrittenGraph, freeze_tensorflow, summarize_tensorflow,
    transform_tensorflow,
};
