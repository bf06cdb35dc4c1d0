//! Many seeds, on as many threads as there are. Each run is one thread's alone.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a campaign uses threads and the real clock")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::seeds::{self, Report, Seen};

/// What a campaign has met.
#[derive(Debug, Default)]
pub struct Campaign {
    pub seeds: u64,
    pub seen: Seen,
    pub failed: Vec<Report>,
    pub seconds: f64,
    pub threads: usize,
}

/// Runs the seeds from `first` on, each whether or not another failed.
pub fn run(first: u64, seeds: u64, threads: usize) -> Campaign {
    let (started, next) = (Instant::now(), AtomicU64::new(first));
    let work = || {
        let (mut seen, mut failed) = (Seen::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return (seen, failed);
            }
            let report = seeds::run(seed, false);
            seen.add(&report.seen);
            if report.failure.is_some() {
                failed.push(report);
            }
        }
    };
    let mut campaign = Campaign { seeds, threads, ..Campaign::default() };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (seen, failed) = worker.join().expect("failures of seeds are caught");
            campaign.seen.add(&seen);
            campaign.failed.extend(failed);
        }
    });
    campaign.failed.sort_by_key(|report| report.seed);
    campaign.seconds = started.elapsed().as_secs_f64();
    campaign
}

/// One for each core of the machine.
pub fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
