//! The text format of graphs: read to the bytes of the wire format, and printed from them, by the table in
//! [`crate::schema`]. A graph is thus one thing, however it was written.

mod print;
mod read;
#[cfg(test)]
mod tests;

pub(crate) use print::print;
pub(crate) use read::encode;
