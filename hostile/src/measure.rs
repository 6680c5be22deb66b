//! One call of a reader: what comes of it, how long it takes and what it allocates.

use crate::ALLOCATED;
use crate::corpus::Input;
use crate::target::{Outcome, Target};
use serde::{Deserialize, Serialize};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Longest time of a call.
const MAX_TIME: Duration = Duration::from_secs(1);

/// Most memory of a call: so many times the file…
const MAX_TIMES: usize = 3;
/// … and so many bytes.
const MAX_BYTES: usize = 64 << 20;

/// What a reader must not do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// It panicked.
    Panic(String),
    /// It took so many seconds.
    Slow(f64),
    /// It held so many bytes at once.
    Large(usize),
    /// It read what it must refuse.
    Read,
    /// It refused what it must read.
    Refused(String),
    /// It ended the process.
    Ended(String),
    /// It did not come back in so many seconds.
    Hung(u64),
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Call {
    /// Why the input was refused, if it was.
    pub(crate) refused: Option<String>,
    /// Processor time.
    pub(crate) time: Duration,
    /// Most bytes that were allocated at once, those of the input among them.
    pub(crate) peak: usize,
    /// What went wrong.
    pub(crate) fault: Option<Fault>,
}

/// Message and place of the last panic.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// Keeps messages of panics for [`call`] instead of printing them.
pub(crate) fn keep_panics() {
    panic::set_hook(Box::new(|info| {
        if let Ok(mut message) = PANIC.lock() {
            *message = info.to_string().replace('\n', " ");
        }
    }));
}

/// Gives an input to the reader of its target.
pub(crate) fn call(target: &Target, input: Input<'_>) -> Call {
    let Input { bytes, seed, outcome, .. } = input;
    let size = bytes.len();
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage().saturating_sub(size);
    let start = now();
    let read = panic::catch_unwind(AssertUnwindSafe(|| (target.read)(seed, bytes)));
    let time = now().saturating_sub(start);
    let peak = ALLOCATED.peak_usage().saturating_sub(before);
    let fault = match &read {
        Err(_) => Some(Fault::Panic(PANIC.lock().map(|message| message.clone()).unwrap_or_default())),
        Ok(Ok(())) if outcome == Outcome::Refused => Some(Fault::Read),
        Ok(Err(cause)) if outcome == Outcome::Read => Some(Fault::Refused(cause.clone())),
        _ if time > MAX_TIME => Some(Fault::Slow(time.as_secs_f64())),
        _ if peak > size * MAX_TIMES + MAX_BYTES => Some(Fault::Large(peak)),
        _ => None,
    };
    let refused = read.ok().and_then(Result::err);
    Call { refused, time, peak, fault }
}

/// Processor time of this thread, or time since the first call where the system does not tell.
fn now() -> Duration {
    thread_time().unwrap_or_else(|| {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    })
}

#[cfg(unix)]
fn thread_time() -> Option<Duration> {
    Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime)).ok()
}

#[cfg(not(unix))]
fn thread_time() -> Option<Duration> {
    None
}
