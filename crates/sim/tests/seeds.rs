//! The meta-test first: a seed is a history. Then many histories, each of which must hold.

use sim::cluster::{Report, Shape, run};

const SEEDS: u64 = 200;

fn assert_holds(report: &Report) {
    if let Some((failure, lines)) = &report.failure {
        for line in lines {
            println!("{line}");
        }
        panic!("seed {}: {failure}; replay it with: make sim SEED={}", report.seed, report.seed);
    }
}

#[test]
fn the_same_seed_takes_the_same_way_and_another_takes_another() {
    let hashes: Vec<u64> = (1..=4)
        .map(|seed| {
            let (first, second) = (run(seed, Shape::default(), false), run(seed, Shape::default(), false));
            assert_eq!(first.trace_hash, second.trace_hash, "seed {seed} took two ways");
            assert_eq!(first.inputs, second.inputs);
            first.trace_hash
        })
        .collect();
    assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]), "{hashes:x?}");
}

#[test]
fn two_hundred_histories_with_crashes_pauses_and_partitions_hold() {
    let reports: Vec<Report> = (1..=SEEDS).map(|seed| run(seed, Shape::default(), false)).collect();
    reports.iter().for_each(assert_holds);
    let acknowledged: usize = reports.iter().map(|report| report.acknowledged).sum();
    assert!(
        acknowledged > 100 * SEEDS as usize,
        "only {acknowledged} records were acknowledged: the runs prove little"
    );
}

#[test]
fn a_history_without_faults_loses_and_doubts_nothing() {
    let mut shape = Shape::default();
    shape.faults = 0;
    let report = run(7, shape, false);
    assert_holds(&report);
    assert_eq!(report.unknown, 0);
}
