//! What becomes of the exact sums of a kernel.

use super::addition::{Addition, AdditionVector};
use super::requantize::{Dequantize, FloatVector, Requantize, RequantizeVector};
use crate::error::{KernelError, check_len};
use crate::simd::Simd;

/// The result of a kernel whose sums are exact, in blocks of a vector's lanes.
#[derive(Debug)]
pub enum Output<'a> {
    /// Codes.
    Codes {
        /// From sums to codes.
        requantize: &'a Requantize,
        /// What is added to these codes.
        residual: Option<Residual<'a>>,
        /// The result.
        y: &'a mut [u8],
    },
    /// Real numbers.
    Reals {
        /// From sums to real numbers.
        dequantize: &'a Dequantize,
        /// The result.
        y: &'a mut [f32],
    },
}

/// Codes that are added to the codes of a result.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    /// The addition: `a` are the codes of the result, `b` those that are added.
    pub addition: &'a Addition,
    /// The codes that are added, laid out like the result.
    pub codes: &'a [u8],
}

impl Output<'_> {
    /// Elements of the result.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Codes { y, .. } => y.len(),
            Self::Reals { y, .. } => y.len(),
        }
    }

    /// Checks that parameters are for `channels` output channels, and that what is added is as long as the result.
    pub(crate) fn check(&self, channels: usize) -> Result<(), KernelError> {
        match self {
            Self::Codes { requantize, residual, y } => {
                check_len("requantization", channels, requantize.channels())?;
                residual.map_or(Ok(()), |r| check_len("residual", y.len(), r.codes.len()))
            }
            Self::Reals { dequantize, .. } => check_len("scales", channels, dequantize.channels()),
        }
    }

    /// The same, for the loops of a kernel.
    pub(crate) fn sink(&mut self) -> Sink<'_> {
        match self {
            Self::Codes { requantize, residual, y } => {
                let added = residual.map(|r| (r.addition, r.codes.as_ptr()));
                Sink::Codes { requantize, added, y: y.as_mut_ptr() }
            }
            Self::Reals { dequantize, y } => Sink::Reals { dequantize, y: y.as_mut_ptr() },
        }
    }
}

/// Where vectors of sums go. Its pointers are to the first elements of slices whose lengths [`Output::check`] compared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sink<'a> {
    Codes { requantize: &'a Requantize, added: Option<(&'a Addition, *const u8)>, y: *mut u8 },
    Reals { dequantize: &'a Dequantize, y: *mut f32 },
}

impl Sink<'_> {
    /// Bias of the vector of channels from `channel`: what their sums start with.
    #[inline(always)]
    pub(crate) fn bias<S: Simd>(&self, s: S, channel: usize) -> S::I32 {
        match self {
            Self::Codes { requantize, .. } => requantize.bias(s, channel),
            Self::Reals { dequantize, .. } => dequantize.bias(s, channel),
        }
    }

    /// The parameters, what is added, and the result, if it is codes rounded as floats.
    // A closure would not be compiled for the instruction set.
    #[allow(clippy::manual_map)]
    #[inline(always)]
    pub(super) fn float_codes<S: Simd>(&self, s: S, channel: usize) -> Option<FloatCodes<S>> {
        match *self {
            Self::Codes { requantize, added, y } => match requantize.float_vector(s, channel) {
                Some(requantize) => Some((requantize, vector_of(s, added), y)),
                None => None,
            },
            Self::Reals { .. } => None,
        }
    }

    /// The parameters of the vector of channels from `channel`, loaded once for many pixels.
    #[inline(always)]
    pub(crate) fn vector<S: Simd>(&self, s: S, channel: usize) -> SinkVector<S> {
        match *self {
            Self::Codes { requantize, added, y } => {
                SinkVector::Codes { requantize: requantize.vector(s, channel), added: vector_of(s, added), y }
            }
            Self::Reals { dequantize, y } => SinkVector::Reals { scales: dequantize.scales(s, channel), y },
        }
    }
}

/// For one vector of channels: parameters, the addition and the codes that are added, and the result.
type FloatCodes<S> = (FloatVector<S>, Added<S>, *mut u8);

/// An addition and the codes that are added.
type Added<S> = Option<(AdditionVector<S>, *const u8)>;

// A closure would not be compiled for the instruction set.
#[allow(clippy::manual_map)]
#[inline(always)]
fn vector_of<S: Simd>(s: S, added: Option<(&Addition, *const u8)>) -> Added<S> {
    match added {
        Some((addition, codes)) => Some((addition.vector(s), codes)),
        None => None,
    }
}

/// A [`Sink`] for one vector of channels.
#[derive(Clone, Copy)]
pub(crate) enum SinkVector<S: Simd> {
    Codes { requantize: RequantizeVector<S>, added: Added<S>, y: *mut u8 },
    Reals { scales: S::F32, y: *mut f32 },
}

impl<S: Simd> SinkVector<S> {
    /// Writes what becomes of sums that include the bias to the result, from its element `at` on.
    ///
    /// # Safety
    /// The result, and what is added to it, have `LANES` elements from there on.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn write(&self, s: S, at: usize, sums: S::I32) {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Self::Codes { requantize, added: None, y } => s.store_low_bytes(y.add(at), requantize.codes(s, sums)),
                Self::Codes { requantize, added: Some((addition, codes)), y } => {
                    let sum = addition.codes(s, requantize.codes(s, sums), s.load_u8(codes.add(at)));
                    s.store_low_bytes(y.add(at), sum);
                }
                Self::Reals { scales, y } => s.store(y.add(at), s.mul(s.to_f32(sums), *scales)),
            }
        }
    }
}
