//! One thread for each core of the machine, each taking the next of many runs. Results come in the order of the runs.
//!
//! A run is one thread's from its beginning to its end.
#![allow(clippy::disallowed_methods, reason = "threads take runs, no run takes a thread; and time may be up")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Instant;

/// Results that wait for those of earlier runs, for each thread.
const RESULTS_AHEAD: usize = 4;

/// Begins no run after `until`.
pub fn in_order<T: Send>(
    runs: Range<u64>,
    until: Option<Instant>,
    work: impl Fn(u64) -> T + Sync,
    mut each: impl FnMut(u64, T),
) {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(runs.start);
    thread::scope(|scope| {
        let (sender, results) = sync_channel(threads * RESULTS_AHEAD);
        for _ in 0..threads {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while until.is_none_or(|until| Instant::now() < until) {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= runs.end || sender.send((run, work(run))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut expected = runs.start;
        for (run, result) in results {
            early.insert(run, result);
            while let Some(result) = early.remove(&expected) {
                each(expected, result);
                expected += 1;
            }
        }
    });
}

/// All of them.
pub fn all<T: Send>(runs: Range<u64>, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let mut results = Vec::new();
    in_order(runs, None, work, |_, result| results.push(result));
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_is_done_once_and_told_in_order() {
        let mut told = Vec::new();
        in_order(5..205, None, |run| run * run, |run, square| told.push((run, square)));
        assert_eq!(told, (5..205).map(|run| (run, run * run)).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_begun_when_the_time_is_over() {
        let mut told = 0;
        in_order(1..u64::MAX, Some(Instant::now()), |_| (), |_, ()| told += 1);
        assert_eq!(told, 0);
    }
}
