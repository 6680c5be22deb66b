//! Kernels on activations in blocks of channels.
//!
//! Layout: `[batch][channels / lanes, rounded up][height][width][lanes]`, in which `lanes` neighbouring channels of a
//! pixel fill a vector. What the lanes beyond the last channel hold is unspecified; no kernel reads it into another
//! lane. What lives here: loops over such activations, for every instruction set, and the way there and back from
//! planes. What does not: operators, shape rules, threads.

mod activation;
mod border;
mod conv;
mod filter;
mod pack;
mod rows;
mod shape;
mod tile;
mod winograd;

pub use activation::{Activation, activate};
pub use conv::PackedConv;
pub use filter::Filter;
pub use shape::{Blocked, Shape};

pub(crate) use border::Band;
pub(crate) use filter::Units;
pub(crate) use rows::split;
pub(crate) use tile::{Input, NARROW};
