//! Wall time and processor time of a piece of work.

use std::time::{Duration, Instant};

/// How long something took, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lap {
    /// By the clock on the wall.
    pub wall: f64,
    /// Time that the process's threads were running, added up; wall time where the system does not tell.
    pub cpu: f64,
}

impl Lap {
    /// Longer than anything.
    pub(crate) const LONGEST: Self = Self { wall: f64::INFINITY, cpu: f64::INFINITY };

    /// The smaller of both times.
    pub(crate) fn shorter(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), cpu: self.cpu.min(other.cpu) }
    }
}

/// A running clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Instant,
    cpu: Option<Duration>,
}

impl Clock {
    /// Starts from zero.
    pub(crate) fn start() -> Self {
        Self { wall: Instant::now(), cpu: process_time() }
    }

    /// Time since the start.
    pub(crate) fn lap(self) -> Lap {
        let cpu = process_time().zip(self.cpu).map(|(now, start)| now.saturating_sub(start).as_secs_f64());
        let wall = self.wall.elapsed().as_secs_f64();
        Lap { wall, cpu: cpu.unwrap_or(wall) }
    }
}

#[cfg(unix)]
fn process_time() -> Option<Duration> {
    Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime)).ok()
}

#[cfg(not(unix))]
fn process_time() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeping_process_uses_wall_time_only() {
        let clock = Clock::start();
        std::thread::sleep(Duration::from_millis(20));
        let lap = clock.lap();
        assert!(lap.wall >= 0.02, "{lap:?}");
        assert!(lap.cpu >= 0.0 && lap.cpu.is_finite(), "{lap:?}");
    }

    #[test]
    fn the_shorter_lap_is_the_smaller_of_each() {
        let (a, b) = (Lap { wall: 1.0, cpu: 4.0 }, Lap { wall: 2.0, cpu: 3.0 });
        assert_eq!(a.shorter(b), Lap { wall: 1.0, cpu: 3.0 });
        assert_eq!(Lap::LONGEST.shorter(a), a);
    }
}
