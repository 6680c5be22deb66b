//! What a target's runtime does on integer codes: the work of single nodes, complete with its constants.
//!
//! Where a [`QuantPlan`](crate::QuantPlan) says what to round to which grid, this says what is then computed, bit by
//! bit. Format crates make it from what they have written; the executor carries it out.

use crate::graph::NodeId;
use quantize_numerics::xfdnn::{BitWidth, Multiplier, Rescaler, SymmetricGrid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The nodes of a graph that run on integer codes; all others run on reals.
///
/// Between the two, codes that only move, join or are cut off at zero stay codes.
#[derive(Clone, Debug, Default)]
pub struct IntegerPlan {
    /// The work of each such node.
    pub nodes: BTreeMap<NodeId, IntegerNode>,
}

/// One node that runs on integer codes.
#[derive(Clone, Debug)]
pub struct IntegerNode {
    /// What real operands are rounded to, towards zero. Operands that are codes already are taken as they are.
    pub input: SymmetricGrid,
    /// What the result's codes stand for.
    pub output: SymmetricGrid,
    /// What is computed.
    pub work: IntegerWork,
}

/// What is computed on integer codes.
#[derive(Clone, Debug)]
pub enum IntegerWork {
    /// Convolution or matrix product: exact sums of products, then a rescaling with bias.
    Product {
        /// Codes of the weight, `[output channels, input channels / group, kernel…]`.
        weight: Arc<[i16]>,
        /// Rescaling of each output channel.
        channels: Vec<Rescaler>,
    },
    /// A factor for each channel: the codes times `factors`, rescaled, plus `offsets` in codes of the result.
    ChannelScale {
        /// Code of each factor.
        factors: Vec<i32>,
        /// Rescaling of each channel.
        channels: Vec<Rescaler>,
        /// Added to the rescaled codes, which saturate.
        offsets: Vec<i32>,
        /// Width the sum saturates to.
        bits: BitWidth,
    },
    /// Sum or maximum of codes, rescaled.
    Eltwise(Rescaler),
    /// Sum over a window times a multiplier for each channel, or one for all.
    AveragePool {
        /// The multipliers, which contain the window's size.
        channels: Vec<Multiplier>,
        /// Width of the codes.
        bits: BitWidth,
    },
}
