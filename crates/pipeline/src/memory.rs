//! How much of a model is in memory at once: whether its constants stay, and how many threads may hold some of them.

use quantize_exec::{Constants, Program};
use quantize_ir::Graph;

/// Constants of models stay in memory while these run, up to this many bytes of `f32`. More are read from the model's
/// files whenever a layer needs them.
const RESIDENT_BYTES: u64 = 1 << 30;

/// Bytes of constants that all threads together may have read at a time.
const STREAMED_BYTES: u64 = 400 << 20;

/// Copies of a layer's constants while they are packed: as read, in the order they are packed in, packed.
const COPIES: u64 = 3;

/// Where the constants of `graph` are while programs of it run.
pub(crate) fn constants_of(graph: &Graph) -> Constants {
    Constants::within(graph, RESIDENT_BYTES)
}

/// Threads that may run `programs` side by side in each thread, `wanted` at most.
pub(crate) fn threads_for(programs: &[&Program], wanted: usize) -> usize {
    let largest = programs.iter().map(|program| program.streamed_bytes()).max().unwrap_or(0);
    match STREAMED_BYTES.checked_div(COPIES * largest) {
        None => wanted,
        Some(fit) => wanted.min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1),
    }
}
