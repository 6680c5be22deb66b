//! What the driver asks of an engine: one line of JSON for each request, and one for its answer.

use serde::{Deserialize, Serialize};

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// Which input is it? Answer: an [`Input`]. Asked of our side only.
    Input,
    /// This is the input. Answer: null. Asked of the peer only.
    Feed(Input),
    /// Run once. Answer: the processor time of one image, in seconds.
    Time(Job),
    /// What does the network compute? Answer: the numbers of each output.
    Outputs(Job),
    /// Operations of one image, and the peak of the processor in operations a second, measured now; the best so far
    /// counts. Answer: a [`Limits`]. Asked of our side only.
    Limits(Job),
}

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Job {
    Fp32,
    /// The quantized model: our simulation, the peer's integer kernels.
    Int8,
    /// Our fp32 run with statistics.
    Calibration,
    /// A calibrator of the peer.
    MinMax,
    /// A calibrator of the peer.
    Percentile,
    /// A calibrator of the peer.
    Entropy,
}

/// A tensor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Input {
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<f32>,
}

/// What a job consists of, and what the processor could do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Limits {
    pub(super) operations: u64,
    pub(super) peak: f64,
}
