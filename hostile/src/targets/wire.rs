//! The walker of protocol buffers messages: every level of a file that can be taken for messages, and a copy of the
//! file by splicing.

use crate::target::Seed;
use quantize_document::{Limits, MessageIndex, SourceFile, Splice, WireType};

/// Messages that are walked in one file: strings and numbers look like messages too, in nearly any number.
const MAX_MESSAGES: usize = 2000;

/// Indexes everything and copies the file.
pub(super) fn read(_: &Seed, bytes: Vec<u8>) -> Result<(), String> {
    let source = SourceFile::from_bytes("damaged", bytes);
    let limits = Limits::default();
    let index = source.index(&limits).map_err(|error| error.to_string())?;
    let mut left = MAX_MESSAGES;
    walk(source.bytes(), &index, &limits, &mut left);
    let copy = Splice::new(source.bytes(), &index).map_err(|error| error.to_string())?;
    assert_eq!(copy.encoded_len(), source.bytes().len(), "a copy has another length");
    assert!(copy.to_vec() == source.bytes(), "a copy has other bytes");
    Ok(())
}

/// Indexes the messages in a message, and those in them.
fn walk(bytes: &[u8], index: &MessageIndex, limits: &Limits, left: &mut usize) {
    let mut end = index.range().start;
    for field in index.fields() {
        assert_eq!(field.whole().start, end, "a gap between fields");
        end = field.whole().end;
        let payload = field.payload();
        assert!(field.whole().start < payload.start && payload.end <= end, "a payload outside of its field");
        if *left > 0 && field.wire_type() == WireType::LengthDelimited {
            *left -= 1;
            if let Ok(child) = index.child(bytes, field, limits) {
                walk(bytes, &child, limits, left);
            }
        }
    }
    assert_eq!(end, index.range().end, "a gap behind the fields");
}
