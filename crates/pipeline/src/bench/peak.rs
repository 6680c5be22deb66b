//! What one core can do at most, measured by a loop of nothing but the instruction in question.

use super::clock::Clock;
use quantize_kernels::{Isa, Peak as Instruction, peak};

/// Repetitions of the instruction on its independent sums: a few milliseconds of a fast core.
const ITERATIONS: u64 = 500_000;

/// The most operations a second of one core.
#[derive(Clone, Debug, PartialEq)]
pub struct Peak {
    /// The instruction set, as `QUANTIZE_ISA` calls it.
    pub isa: &'static str,
    /// Operations a second; a multiplication and an addition are two.
    pub operations_per_second: f64,
}

/// The loop, to be repeated between other work.
pub(crate) struct PeakLoop {
    isa: Isa,
    instruction: Instruction,
    best: f64,
}

impl PeakLoop {
    pub(crate) fn new(instruction: Instruction) -> Self {
        Self { isa: Isa::active(), instruction, best: 0.0 }
    }

    /// Runs the loop once and keeps the best of all times.
    pub(crate) fn repeat(&mut self) {
        let clock = Clock::start();
        let operations = peak(self.isa, self.instruction, ITERATIONS);
        self.best = self.best.max(operations as f64 / clock.lap().cpu);
    }

    pub(crate) fn best(&self) -> Peak {
        Peak { isa: self.isa.name(), operations_per_second: self.best }
    }
}
