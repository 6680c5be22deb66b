//! Damage to valid files, the same in every run: what the hostile-input suites and the task `hostile` feed to readers.
//!
//! | module | what lives there |
//! |---|---|
//! | [`draw`] | numbers that look random and follow from a seed |
//! | [`mutate`] | damage: to bytes, to the fields of protocol buffers messages, to the tokens of texts |
//!
//! Which readers are tried and what they must not do is the business of the program in this package.
#![forbid(unsafe_code)]

pub mod draw;
pub mod mutate;

pub use draw::Draw;
