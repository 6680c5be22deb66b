//! Kernels on activations in blocks of channels.
//!
//! Layout: `[batch][channels / lanes, rounded up][height][width][lanes]`, in which `lanes` neighbouring channels of a
//! pixel fill a vector. What the lanes beyond the last channel hold is unspecified; no kernel reads it into another
//! lane. What lives here: loops over such activations, for every instruction set, and the way there and back from
//! planes. What does not: operators, shape rules, threads.

mod activation;
mod arithmetic;
mod border;
mod concat;
mod conv;
mod depthwise;
mod elementwise;
mod filter;
mod layout;
mod pack;
mod pool;
mod resize;
mod rows;
mod shape;
mod tile;
mod winograd;

pub use activation::{Activation, activate};
pub use arithmetic::Arithmetic;
pub use concat::{concat_channels, slice_channels};
pub use conv::{MatrixOrder, MatrixPacker, PackedConv};
pub use depthwise::PackedDepthwise;
pub use elementwise::{affine_channels, combine, combine_channels, combine_in_place, combine_scalar};
pub use filter::Filter;
pub use layout::{from_channels_last, to_blocked, to_channels_last, to_planes};
pub use pool::{average_pool, global_average_pool, global_max_pool, max_pool};
pub use resize::upsample_nearest;
pub use shape::{Blocked, Shape};

pub(crate) use border::{Band, LARGEST};
pub(crate) use filter::Units;
pub(crate) use pool::{Reach, check_pixels, check_windows, reaches};
pub(crate) use rows::split;
pub(crate) use tile::{Input, NARROW};
