//! The table of layer types: how each becomes nodes of the shared operator set.
//!
//! Reading ignores unknown parameters and is strict about the values of known ones. How layers are wired is the
//! front-end's business.

mod affine;
mod builder;
mod convolution;
mod eltwise;
mod layout;
mod linear;
mod norm;
mod pooling;
mod reduce;
mod shape;
mod unary;

pub(crate) use builder::{Fault, LayerBuilder};

use std::ops::RangeInclusive;

/// No upper bound on blobs.
const MANY: usize = usize::MAX;

/// One layer type: its name, how many blobs it reads and writes, and how it becomes nodes.
pub(crate) struct Row {
    kind: &'static str,
    bottoms: RangeInclusive<usize>,
    tops: RangeInclusive<usize>,
    read: fn(&mut LayerBuilder<'_>) -> Result<(), Fault>,
}

/// The tables of all rooms.
const TABLES: [&[Row]; 9] = [
    convolution::ROWS,
    pooling::ROWS,
    linear::ROWS,
    norm::ROWS,
    affine::ROWS,
    unary::ROWS,
    eltwise::ROWS,
    layout::ROWS,
    reduce::ROWS,
];

/// Reads a layer; `None` if its type has no shared semantics.
pub(crate) fn read(layer: &mut LayerBuilder<'_>) -> Option<Result<(), Fault>> {
    let row = TABLES.iter().flat_map(|rows| rows.iter()).find(|row| row.kind == layer.kind())?;
    Some(checked(row, layer))
}

fn checked(row: &Row, layer: &mut LayerBuilder<'_>) -> Result<(), Fault> {
    for (what, found, range) in [("reads", layer.bottoms(), &row.bottoms), ("writes", layer.tops(), &row.tops)] {
        if !range.contains(&found) {
            return Err(Fault::form(format!("it {what} {found} blobs")));
        }
    }
    (row.read)(layer)
}
