//! The meta-test first: a seed is a history. Then many histories, each of which must hold.

use sim::checkers;
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
    let report = run(7, Shape { faults: 0, ..Shape::default() }, false);
    assert_holds(&report);
    assert_eq!(report.unknown, 0);
}

/// The judge itself: a history that was tampered with is not let through.
#[test]
fn the_checkers_see_a_lost_a_doubled_and_a_reordered_record() {
    use sim::process::client::log::{Promises, Value};
    use std::collections::BTreeMap;

    let value = |number| Value { client: 1, partition: 0, number };
    let mut promises = Promises::default();
    promises.acknowledged.insert(value(0), 0);
    promises.acknowledged.insert(value(1), 1);
    let judge = |seen: &[(i64, u64)]| {
        let seen: BTreeMap<(i32, i64), Value> =
            seen.iter().map(|&(offset, number)| ((0, offset), value(number))).collect();
        checkers::judge(&seen, std::slice::from_ref(&promises))
    };
    assert_eq!(judge(&[(0, 0), (1, 1)]), Ok(()));
    assert!(judge(&[(0, 0)]).unwrap_err().starts_with("R2"));
    assert!(judge(&[(0, 0), (1, 1), (2, 1)]).unwrap_err().starts_with("P1"));
    assert!(judge(&[(0, 0), (1, 1), (2, 5), (3, 4)]).unwrap_err().starts_with("W1"));
    let mut refused = promises.clone();
    refused.refused.insert(value(9));
    let seen = BTreeMap::from([((0, 0), value(0)), ((0, 1), value(1)), ((0, 2), value(9))]);
    assert!(checkers::judge(&seen, &[refused]).unwrap_err().starts_with("R17"));
}
