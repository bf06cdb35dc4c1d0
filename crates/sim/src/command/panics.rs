//! One thread for each core, each taking the next seed. Results come in the order of the seeds.
//!
//! A run is one thread's from its beginning to its end. A panic in it is part of its report, so the hook says nothing; where it was is kept for
//! whoever tells of the failure.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Instant;

use super::shapes::Seeds;

/// Results that wait for those of earlier seeds, for each thread.
const RESULTS_AHEAD: usize = 4;

thread_local! {
    static PANICKED_AT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on panics are silent and remembered.
pub fn silence_panics() {
    panic::set_hook(Box::new(|info| {
        PANICKED_AT.set(info.location().map(ToString::to_string));
    }));
}

/// Where this thread panicked since it was asked the last time.
pub fn panicked_at() -> Option<String> {
    PANICKED_AT.take()
}

/// Begins no seed after `until`.
pub fn in_order<T: Send>(
    seeds: &Seeds,
    until: Option<Instant>,
    work: impl Fn(u64) -> T + Sync,
    mut each: impl FnMut(u64, T),
) {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let last = seeds.count.map_or(u64::MAX, |count| seeds.first.saturating_add(count));
    let next = AtomicU64::new(seeds.first);
    thread::scope(|scope| {
        let (sender, results) = sync_channel(threads * RESULTS_AHEAD);
        for _ in 0..threads {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while until.is_none_or(|until| Instant::now() < until) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last || sender.send((seed, work(seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut expected = seeds.first;
        for (seed, result) in results {
            early.insert(seed, result);
            while let Some(result) = early.remove(&expected) {
                each(expected, result);
                expected += 1;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_worked_on_once_and_told_in_order() {
        let seeds = Seeds { first: 5, count: Some(200), is_one: false };
        let mut told = Vec::new();
        in_order(&seeds, None, |seed| seed * seed, |seed, square| told.push((seed, square)));
        assert_eq!(told, (5..205).map(|seed| (seed, seed * seed)).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_begun_when_the_time_is_over() {
        let seeds = Seeds { first: 1, count: None, is_one: false };
        let mut told = 0;
        in_order(&seeds, Some(Instant::now()), |_| (), |_, ()| told += 1);
        assert_eq!(told, 0);
    }
}
