//! Lossless documents: a model file is indexed, edited by splicing and written
//! back so that every byte nobody asked to change stays as it was.
//!
//! | module | what lives there |
//! |---|---|
//! | [`source`] | reading a whole file, or a part of one, into memory |
//! | [`external`] | parts that stand in files beside the document |
//! | [`wire`] | where the fields of a protocol buffers message are |
//! | [`splice`] | edits over a message, streamed out |
//! | [`encode`] | encoding single fields |
//! | [`text`] | the text format: its tree and edits of it |
//! | [`output`] | writing one or several files, all or none of them |
//! | [`limits`] | how much of anything is accepted from a file |
//! | [`error`] | what can go wrong |
//!
//! What the fields mean is the business of the format crates.
//!
//! ```
//! use quantize_document::{Limits, Piece, Splice, encode, index_message};
//!
//! let bytes = [encode::varint_field(1, 8), encode::bytes_field(2, b"old")].concat();
//! let index = index_message(&bytes, 0..bytes.len(), &Limits::default())?;
//! let mut splice = Splice::new(&bytes, &index)?;
//! splice.replace(1, Piece::encoded(encode::bytes_field(2, b"new")))?;
//! assert_eq!(splice.to_vec(), b"\x08\x08\x12\x03new");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod encode;
pub mod error;
pub mod external;
pub mod limits;
pub mod output;
pub mod place;
pub mod source;
pub mod splice;
pub mod text;
pub mod wire;

pub use error::{DocumentError, ErrorKind};
pub use external::{ExternalError, ExternalPart, ExternalRange, same_folder};
pub use limits::{LimitExceeded, Limits};
pub use output::{OutputSet, Place};
pub use place::{Location, Problem};
pub use source::{SourceFile, read_range};
pub use splice::{Piece, Splice};
pub use text::{TextDocument, TextSplice};
pub use wire::{Field, MessageIndex, WireError, WireType, index_message};
