//! The plan as a JSON document that people read and edit.
//!
//! The structs here are the file format; everything else uses [`quantize_ir::QuantPlan`]. Integer codes are part of the
//! file only where they are not the nearest ones, which follow from the parameters and the model; biases only where they
//! are not the model's. Scale and zero point decide; ranges, methods, ratios and
//! reasons are for the reader.

mod read;
mod write;

pub(crate) use read::{Given, Prescription};
pub(crate) use write::bytes;

use serde::{Deserialize, Serialize};

/// What the file says it is.
const FORMAT: &str = "quantize-plan";

/// Version of the file format.
const VERSION: u32 = 1;

/// Operand slot of a bias.
const BIAS: usize = 2;

/// Decisions.
const QUANTIZE: &str = "quantize";
const ABSORBED: &str = "absorbed";
const WEIGHT_ONLY: &str = "weight-only";
const KEEP: &str = "keep";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    format: String,
    version: u32,
    model: String,
    range: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scaled_channels: Vec<ScaledEntry>,
    activations: Vec<ActivationEntry>,
    constants: Vec<ConstantEntry>,
    /// Biases that stay real and are not the model's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    biases: Vec<BiasEntry>,
    nodes: Vec<NodeEntry>,
}

/// A tensor whose channels are divided before the layers that read it, and the weights of these multiplied.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScaledEntry {
    tensor: String,
    readers: Vec<String>,
    /// The node whose constants are divided; without one a node of its own divides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<String>,
    factors: Vec<f32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActivationEntry {
    tensor: String,
    #[serde(rename = "type")]
    qtype: String,
    scale: f32,
    zero_point: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range: Option<[f32; 2]>,
    #[serde(default)]
    method: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shares_with: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sqnr_db: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConstantEntry {
    node: String,
    operand: usize,
    #[serde(default)]
    tensor: String,
    #[serde(rename = "type")]
    qtype: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    axis: Option<usize>,
    /// Weights of a group along the axis, where each has a scale; otherwise each index along it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<usize>,
    scale: Vec<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zero_point: Option<i32>,
    /// Of groups, one for each scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zero_points: Option<Vec<i32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sqnr_db: Option<f64>,
    /// What a bias is instead of the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<Vec<f32>>,
    /// Codes in the order of the weights, little-endian, two of 4 bits to a byte, as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    codes: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BiasEntry {
    node: String,
    values: Vec<f32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    node: String,
    #[serde(default)]
    op: String,
    decision: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}
