//! Many histories, each of which must hold; and of some of them that a seed is a history.
//!
//! The runs of a test are spread over all cores: a run is one thread's.

use sim::cluster::{Report, Shape, run};
use sim::cores;

const SMALL_SEEDS: u64 = 200;
const WHOLE_SEEDS: u64 = 500;
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

#[test]
fn histories_of_whole_clusters_hold_and_the_same_seed_is_the_same_history() {
    let whole = |seed| run(seed, Shape::whole(seed), false);
    // First, because a failure that does not come again cannot be mended.
    let (mut reports, again) = (cores::all(1..TWICE + 1, whole), cores::all(1..TWICE + 1, whole));
    for (first, second) in reports.iter().zip(&again) {
        assert_eq!(first.trace_hash, second.trace_hash, "seed {} took two ways", first.seed);
        assert_eq!(first.inputs, second.inputs);
    }
    assert!(reports.windows(2).all(|pair| pair[0].trace_hash != pair[1].trace_hash), "two seeds took one way");

    reports.extend(cores::all(TWICE + 1..WHOLE_SEEDS + 1, whole));
    reports.iter().for_each(|report| assert_holds(report, ""));
    let acknowledged: usize = reports.iter().map(|report| report.acknowledged).sum();
    let simulated: u64 = reports.iter().map(|report| report.simulated_ms / 1_000).sum();
    println!("{WHOLE_SEEDS} seeds, {simulated} s of whole clusters, {acknowledged} records acknowledged");
    assert!(acknowledged > 2_000 * WHOLE_SEEDS as usize, "only {acknowledged} records: the runs prove little");
}

#[test]
fn histories_of_small_clusters_with_crashes_pauses_and_partitions_hold() {
    let reports = cores::all(1..SMALL_SEEDS + 1, |seed| run(seed, Shape::default(), false));
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
