//! Many histories, each of which must hold; and of some of them that a seed is a history.
//!
//! The runs of a test are spread over all cores: a run is one thread's.

use std::iter;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use sim::cluster::{Report, Shape, run};

const SMALL_SEEDS: u64 = 200;
/// All that are known to hold; which ones do not, further up, is said in `docs/reliability.md`.
const WHOLE_SEEDS: u64 = 200;
/// Of these, the first are run twice.
const TWICE: u64 = 50;

/// `arguments`: what the command must be told to run it.
fn assert_holds(report: &Report, arguments: &str) {
    if let Some((failure, lines)) = &report.failure {
        for line in lines {
            println!("{line}");
        }
        panic!("seed {}: {failure}; replay it with: make sim SEED={} ARGS={arguments:?}", report.seed, report.seed);
    }
}

/// Reports in the order of the seeds.
#[expect(clippy::disallowed_methods, reason = "threads take runs, no run takes a thread")]
fn on_all_cores(seeds: RangeInclusive<u64>, work: impl Fn(u64) -> Report + Sync) -> Vec<Report> {
    let next = AtomicU64::new(*seeds.start());
    let take = || {
        let mine = iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| seeds.contains(seed)));
        mine.map(&work).collect::<Vec<_>>()
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut reports: Vec<Report> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a run panics inside, not outside")).collect()
    });
    reports.sort_by_key(|report| report.seed);
    reports
}

#[test]
fn histories_of_whole_clusters_hold_and_the_same_seed_is_the_same_history() {
    let whole = |seed| run(seed, Shape::whole(seed), false);
    // First, because a failure that does not come again cannot be mended.
    let (mut reports, again) = (on_all_cores(1..=TWICE, whole), on_all_cores(1..=TWICE, whole));
    for (first, second) in reports.iter().zip(&again) {
        assert_eq!(first.trace_hash, second.trace_hash, "seed {} took two ways", first.seed);
        assert_eq!(first.inputs, second.inputs);
    }
    assert!(reports.windows(2).all(|pair| pair[0].trace_hash != pair[1].trace_hash), "two seeds took one way");

    reports.extend(on_all_cores(TWICE + 1..=WHOLE_SEEDS, whole));
    reports.iter().for_each(|report| assert_holds(report, ""));
    let acknowledged: usize = reports.iter().map(|report| report.acknowledged).sum();
    let simulated: u64 = reports.iter().map(|report| report.simulated_ms / 1_000).sum();
    println!("{WHOLE_SEEDS} seeds, {simulated} s of whole clusters, {acknowledged} records acknowledged");
    assert!(acknowledged > 2_000 * WHOLE_SEEDS as usize, "only {acknowledged} records: the runs prove little");
}

#[test]
fn histories_of_small_clusters_with_crashes_pauses_and_partitions_hold() {
    let reports = on_all_cores(1..=SMALL_SEEDS, |seed| run(seed, Shape::default(), false));
    reports.iter().for_each(|report| assert_holds(report, "--small"));
    let acknowledged: usize = reports.iter().map(|report| report.acknowledged).sum();
    assert!(acknowledged > 100 * SMALL_SEEDS as usize, "only {acknowledged} records: the runs prove little");
}

#[test]
fn a_history_without_faults_loses_and_doubts_nothing() {
    let mut shape = Shape::default();
    shape.faults = 0;
    let report = run(7, shape, false);
    assert_holds(&report, "--small --faults 0");
    assert_eq!(report.unknown, 0);
}
