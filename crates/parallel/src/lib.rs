//! Independent work shared by threads, and how long work says that it advances.
//!
//! What lives here: the one place where threads start. What does not: anything that knows what the work is.
#![forbid(unsafe_code)]

mod each;
mod progress;

pub use each::for_each;
pub use progress::{Progress, Silent};
