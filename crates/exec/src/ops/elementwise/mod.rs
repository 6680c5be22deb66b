//! Operators that compute each element on its own: functions of one ([`unary`]) or two elements ([`binary`]), folds
//! ([`nary`]), choices ([`clip`], [`prelu`], [`select`]) and conversions ([`cast`]).

mod binary;
mod cast;
mod choose;
mod erf;
mod nary;
mod unary;

pub(crate) use binary::binary;
pub(crate) use cast::{cast, convert};
pub(crate) use choose::{clip, prelu, select};
pub(crate) use nary::nary;
pub(crate) use unary::unary;
