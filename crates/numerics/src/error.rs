//! The error type shared by every module of this crate.

use crate::QuantType;

/// Why a computation has no defined result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NumericsError {
    /// A range bound is NaN or infinite.
    #[error("range [{lo}, {hi}] is not finite; exclude NaN and infinite values before estimating a range")]
    NonFiniteRange {
        /// Lower bound as given.
        lo: f32,
        /// Upper bound as given.
        hi: f32,
    },
    /// The lower bound of a range lies above its upper bound.
    #[error("range [{lo}, {hi}] is reversed; the lower bound must not exceed the upper bound")]
    ReversedRange {
        /// Lower bound as given.
        lo: f32,
        /// Upper bound as given.
        hi: f32,
    },
    /// A scale is zero, negative, NaN, infinite or so small that its reciprocal overflows.
    #[error("scale {scale} is unusable; it must be positive and finite, and so must its reciprocal")]
    InvalidScale {
        /// The scale as given.
        scale: f32,
    },
    /// A zero point lies outside the codes of its type, or is not zero for a symmetric type.
    #[error("zero point {zero_point} is not valid for {qtype}")]
    InvalidZeroPoint {
        /// The zero point as given.
        zero_point: i32,
        /// The type it was meant for.
        qtype: QuantType,
    },
    /// Weights cannot be stored in a type.
    #[error("weights need a signed type of at most 16 bits, not {qtype}")]
    NotAWeightType {
        /// The type as given.
        qtype: QuantType,
    },
    /// Two slices that must have equal lengths do not.
    #[error("{what}: expected {expected} elements, found {found}")]
    LengthMismatch {
        /// Which slice is wrong.
        what: &'static str,
        /// Required length.
        expected: usize,
        /// Actual length.
        found: usize,
    },
    /// A slice cannot be divided into the given channels.
    #[error("{len} elements cannot be split into {channels} channels of {inner} contiguous elements")]
    InvalidLayout {
        /// Length of the slice.
        len: usize,
        /// Number of channels.
        channels: usize,
        /// Contiguous elements per channel.
        inner: usize,
    },
    /// Statistics with and without channels, or with different channel counts, were combined.
    #[error("statistics of {expected} channels cannot take {found} channels (0 means no channel statistics)")]
    ChannelMismatch {
        /// Channels of the statistics so far.
        expected: usize,
        /// Channels of what was to be added.
        found: usize,
    },
    /// The same image was observed twice, or is present on both sides of a merge.
    #[error("image {image} was already observed; give every image its own id and merge disjoint shards only")]
    DuplicateImage {
        /// Image id.
        image: u64,
    },
    /// There is no finite value to estimate a range from.
    #[error("no finite value was observed; calibrate with at least one image whose activations are finite")]
    EmptyStats,
    /// A percentile outside (0, 100].
    #[error("percentile {percent} is not in (0, 100]")]
    InvalidPercentile {
        /// The percentile as given, in percent.
        percent: f64,
    },
    /// A range method name that is not known.
    #[error(
        "unknown range method `{name}`; use minmax, mean-minmax, percentile, percentile=99.99, mse, kl, aciq, cdf-kl or headroom"
    )]
    UnknownRangeMethod {
        /// The name as given.
        name: String,
    },
    /// A weight is NaN or infinite.
    #[error("weight channel {channel} contains a NaN or infinite value")]
    NonFiniteWeight {
        /// Channel index.
        channel: usize,
    },
    /// A bias is NaN or infinite.
    #[error("bias of channel {channel} is NaN or infinite")]
    NonFiniteBias {
        /// Channel index.
        channel: usize,
    },
    /// No finite weight scale satisfies the constraints of a channel.
    #[error("weight channel {channel} needs a scale above the range of float32 to make its bias fit int32")]
    ScaleOverflow {
        /// Channel index.
        channel: usize,
    },
    /// A bias code does not fit; the weight scale of its channel is too small.
    #[error("bias of channel {channel} needs the code {code:e}, beyond 2^30; raise the weight scale of the channel")]
    BiasOverflow {
        /// Channel index.
        channel: usize,
        /// The code before conversion to an integer.
        code: f64,
    },
    /// A requantization multiplier is not positive and finite.
    #[error("requantization multiplier {multiplier} must be positive, finite and below 2^31")]
    InvalidMultiplier {
        /// The multiplier as given.
        multiplier: f64,
    },
    /// Codes of another width than the hardware has.
    #[error("{bits} bits are not supported; codes have 8 or 16 bits")]
    UnsupportedBitWidth {
        /// The width as given.
        bits: i64,
    },
    /// A clipping threshold is negative, NaN or beyond float32.
    #[error("threshold {threshold} is unusable; it must not be negative and must fit float32")]
    InvalidThreshold {
        /// The threshold as given.
        threshold: f64,
    },
    /// An integer multiplier that the hardware cannot apply.
    #[error(
        "prescale shift {prescale_shift}, scale {scale}, postscale shift {postscale_shift} cannot be applied; \
         the limits are {max_prescale_shift}, ±{max_scale} and {max_postscale_shift}"
    )]
    UnsupportedMultiplier {
        /// Right shift before the multiplication, as given.
        prescale_shift: u32,
        /// Factor as given.
        scale: i32,
        /// Right shift after the multiplication, as given.
        postscale_shift: u32,
        /// Largest right shift before the multiplication.
        max_prescale_shift: u32,
        /// Largest magnitude of the factor.
        max_scale: u32,
        /// Largest right shift after the multiplication.
        max_postscale_shift: u32,
    },
    /// Serialized statistics are truncated or contradict themselves.
    #[error("statistics record is damaged at byte {offset}: {reason}")]
    DamagedRecord {
        /// Byte position in the record.
        offset: usize,
        /// What is wrong there.
        reason: &'static str,
    },
}
