//! Errors of the kernels: slices and sizes that do not belong together.

/// Why a kernel refused its operands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A slice has another length than the sizes say.
    #[error("{what}: expected {expected} elements, found {found}")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Length the sizes ask for.
        expected: usize,
        /// Length of the slice.
        found: usize,
    },
    /// A product or sum of sizes does not fit the machine.
    #[error("{0} is too large")]
    TooLarge(&'static str),
    /// A number of groups does not divide a number of channels.
    #[error("{channels} channels cannot be split into {group} groups")]
    Group {
        /// Channels.
        channels: usize,
        /// Groups.
        group: usize,
    },
    /// A kernel size, stride, dilation or exponent is zero.
    #[error("{0} must be positive")]
    Zero(&'static str),
    /// Two matrices cannot be multiplied, or their product does not fit the destination.
    #[error("cannot multiply {a:?} by {b:?} into {c:?}")]
    Product {
        /// Rows and columns of the left operand.
        a: (usize, usize),
        /// Rows and columns of the right operand.
        b: (usize, usize),
        /// Rows and columns of the destination.
        c: (usize, usize),
    },
    /// Weights were packed for 64-bit sums, because 32 bits may overflow.
    #[error("sums of these weights and codes up to {largest_input} may overflow 32 bits")]
    Overflow {
        /// Largest magnitude of an input code the weights were packed for.
        largest_input: u16,
    },
    /// An input code is larger than the weights were packed for.
    #[error("input codes reach {found} in magnitude, the weights were packed for {largest}")]
    Input {
        /// Largest magnitude of an input code.
        found: u16,
        /// Largest magnitude the weights were packed for.
        largest: u16,
    },
    /// A multiplier of a requantization, or a ratio of scales, is negative, NaN, or not below 2³¹.
    #[error("the multiplier of channel {channel} is not in 0..2^31")]
    Multiplier {
        /// Output channel, or operand of an addition.
        channel: usize,
    },
    /// Weights were packed for a convolution of other sizes.
    #[error("the weights were packed for other sizes")]
    Packing,
}

/// Checks the length of a slice.
pub(crate) fn check_len(what: &'static str, expected: usize, found: usize) -> Result<(), KernelError> {
    if expected == found { Ok(()) } else { Err(KernelError::Length { what, expected, found }) }
}
