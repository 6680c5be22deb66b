//! Work on independent samples by several threads, with a result that does not depend on their number.

use crate::Progress;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Runs `work` once for each index below `count` and returns each thread's state, in thread order.
///
/// Indices are handed out one by one in ascending order, so which thread gets which is left to chance: states must
/// merge to the same whole for every split. After an error no new index is started; of several errors the one of the
/// smallest index is returned, which is the same for any number of threads.
///
/// # Errors
/// What `work` returns.
pub fn for_each<S: Send, E: Send>(
    count: usize,
    threads: usize,
    progress: &dyn Progress,
    init: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<(), E> + Sync,
) -> Result<Vec<S>, E> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let run = || {
        let mut state = init();
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            if let Err(error) = work(&mut state, index) {
                failed.store(true, Ordering::Relaxed);
                return Err((index, error));
            }
            progress.step();
        }
        Ok(state)
    };
    let outcomes: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.clamp(1, count.max(1))).map(|_| scope.spawn(run)).collect();
        workers.into_iter().map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut states = Vec::with_capacity(outcomes.len());
    let mut first: Option<(usize, E)> = None;
    for outcome in outcomes {
        match outcome {
            Ok(state) => states.push(state),
            Err(error) if first.as_ref().is_none_or(|f| error.0 < f.0) => first = Some(error),
            Err(_) => {}
        }
    }
    first.map_or(Ok(states), |(_, error)| Err(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silent;

    #[test]
    fn every_index_is_worked_on_once() {
        for threads in [0, 1, 2, 7, 100] {
            let states = for_each(20, threads, &Silent, Vec::new, |s: &mut Vec<usize>, i| {
                s.push(i);
                Ok::<(), ()>(())
            });
            let mut all: Vec<usize> = states.unwrap().into_iter().flatten().collect();
            all.sort_unstable();
            assert_eq!(all, (0..20).collect::<Vec<_>>(), "{threads} threads");
        }
    }

    #[test]
    fn the_first_failing_index_is_reported_for_any_number_of_threads() {
        for threads in [1, 2, 7] {
            let failed = for_each(50, threads, &Silent, || (), |(), i| if i % 10 == 7 { Err(i) } else { Ok(()) });
            assert_eq!(failed.err(), Some(7), "{threads} threads");
        }
    }
}
