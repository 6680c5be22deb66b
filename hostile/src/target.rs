//! What a target is: a reader, the valid files its inputs are made from, and what is asked of it.

use crate::error::Result;
use quantize_hostile::mutate::Form;

/// A reader that is tried.
pub(crate) struct Target {
    /// Name on the command line.
    pub(crate) name: &'static str,
    /// What a file consists of.
    pub(crate) form: Form,
    /// The valid files.
    pub(crate) seeds: fn() -> Result<Vec<Seed>>,
    /// Files that are large, deep or costly on purpose.
    pub(crate) bombs: fn() -> Vec<Bomb>,
    /// Whether a file of which only so many bytes are left must be refused.
    pub(crate) refuses_cut: fn(&[u8], usize) -> bool,
    /// Reads a file with the other files that belong to the seed; says why if it is refused.
    pub(crate) read: fn(&Seed, Vec<u8>) -> std::result::Result<(), String>,
}

/// A valid file.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    /// What it is called in messages.
    pub(crate) name: String,
    /// Its content.
    pub(crate) bytes: Vec<u8>,
    /// The files that are read with it and stay as they are.
    pub(crate) companions: Vec<Vec<u8>>,
}

/// A file made to cost much, and what its reader must do with it.
pub(crate) struct Bomb {
    /// What is in it.
    pub(crate) name: &'static str,
    /// Its content.
    pub(crate) bytes: fn() -> Vec<u8>,
    /// What must come of it.
    pub(crate) outcome: Outcome,
}

/// What must come of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is read.
    Read,
    /// It is refused with an error.
    Refused,
    /// Either of them.
    Any,
}
