//! How long work tells the caller that it advances. Showing it is the caller's business.

/// Receives progress from any thread.
pub trait Progress: Sync {
    /// A stage of `total` steps begins.
    fn begin(&self, stage: &str, total: usize);
    /// One step of the current stage is done.
    fn step(&self);
    /// The current stage is over.
    fn end(&self);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _stage: &str, _total: usize) {}
    fn step(&self) {}
    fn end(&self) {}
}
