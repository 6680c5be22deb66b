//! What one core can do at most, measured by a loop of nothing but the instruction in question.

use super::clock::Clock;
use super::workload::Work;
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

/// A loop of nothing but the instruction that a work's operations are, to be repeated between other work.
#[derive(Debug)]
pub struct PeakLoop {
    isa: Isa,
    instruction: Instruction,
    best: f64,
}

impl PeakLoop {
    /// A loop that was not run yet.
    pub fn new(work: Work) -> Self {
        let instruction = match work {
            Work::Fp32 | Work::Calibration => Instruction::MultiplyAdd,
            Work::Int8 => Instruction::ByteDot,
        };
        Self { isa: Isa::active(), instruction, best: 0.0 }
    }

    /// Runs the loop for some milliseconds and keeps the best of all times.
    pub fn repeat(&mut self) {
        let clock = Clock::start();
        let operations = peak(self.isa, self.instruction, ITERATIONS);
        self.best = self.best.max(operations as f64 / clock.lap().cpu);
    }

    /// The peak so far.
    pub fn best(&self) -> Peak {
        Peak { isa: self.isa.name(), operations_per_second: self.best }
    }
}
