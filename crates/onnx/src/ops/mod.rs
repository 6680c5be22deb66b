//! The table of operators: how each is read at its opset into the shared operator set, and how it is written.
//!
//! Reading is tolerant of unknown attributes and strict about the values of known ones. What older opsets keep in
//! attributes and the shared set takes as operands becomes an added operand. Which nodes exist and how they are wired
//! is the front-end's business.

mod elementwise;
mod layout;
mod linear;
mod lower;
mod meta;
mod norm;
mod quantize;
mod reader;
mod reduce;
mod resize;
mod window;
mod write;

pub(crate) use lower::{Lowered, Operands, Step, lower};
pub(crate) use meta::constant_value;
pub(crate) use reader::{Known, MAX_READ_ELEMENTS, NodeReader, Read, ReadError};
pub use write::emit;
pub(crate) use write::{check, first_opset};

use std::ops::RangeInclusive;

/// No upper bound on operands or results.
const MANY: usize = usize::MAX;

/// One operator: its name, what a node of that name needs and how it is read.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Operands of the shared operator: at least, which may not be left out, and at most.
    pub(crate) operands: RangeInclusive<usize>,
    /// Results at most; one at least is asked for.
    pub(crate) results: usize,
    pub(crate) read: fn(&NodeReader<'_>) -> Result<Read, ReadError>,
}

/// The tables of all rooms.
const TABLES: [&[Row]; 9] = [
    window::ROWS,
    elementwise::ROWS,
    linear::ROWS,
    norm::ROWS,
    layout::ROWS,
    resize::ROWS,
    reduce::ROWS,
    meta::ROWS,
    quantize::ROWS,
];

/// Reads a node of the standard domain; `None` if the operator has no shared semantics.
pub(crate) fn read(node: &NodeReader<'_>) -> Option<Result<Read, ReadError>> {
    let row = TABLES.iter().flat_map(|rows| rows.iter()).find(|row| row.name == node.op_type())?;
    Some(checked(row, node))
}

fn checked(row: &Row, node: &NodeReader<'_>) -> Result<Read, ReadError> {
    let read = (row.read)(node)?;
    if let Some(slot) = (0..*row.operands.start()).find(|slot| !read.fills(*slot, node)) {
        return Err(ReadError::Operand(slot));
    }
    let (operands, results) = (read.operands.unwrap_or(MANY).min(node.input_count()), node.output_count());
    if operands > *row.operands.end() {
        return Err(ReadError::TooMany { found: operands, most: *row.operands.end(), what: "operands" });
    }
    if results > row.results {
        return Err(ReadError::TooMany { found: results, most: row.results, what: "results" });
    }
    if results == 0 { Err(ReadError::Form("none of its results is asked for")) } else { Ok(read) }
}

#[cfg(test)]
pub(crate) mod tests;
