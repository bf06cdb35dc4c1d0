//! The judge on trial: each bug that is planted in `replica-core` and `controller-core` must be found, and soon.
//!
//! The search of all states is on trial with some of them too.
//!
//! Run by `make test` and `make planted`, in a build of its own (decision 0008).

use std::panic;
use std::sync::Mutex;

use base_types::planted::{Bug, choose};
use replication_model::exhaustive::{self, Bounds, SMALL};
use replication_model::seeds;

/// What is planted.
const BUGS: &[Bug] = &[
    // A new follower cuts its log at its high watermark, which lags (before KIP-101).
    Bug::TruncatesToHighWatermark,
    // Who has the high watermark joins the ISR, though it lacks what the leader began its epoch with.
    Bug::JoinsBehindEpochStart,
    // Replicas that may have joined by now are not waited for (KIP-497).
    Bug::HighWatermarkOverCommittedIsr,
    // Records are committed while fewer replicas than the minimum are in sync.
    Bug::HighWatermarkBelowMinIsr,
    // A follower reports what it has in memory.
    Bug::FollowerReportsMemory,
    // The controller's answer to an older proposal takes the ISR back.
    Bug::LateIsrAnswerTaken,
    // A new leader tells the end of the log before it knows it.
    Bug::EndToldBeforeEpochStart,
    // Consumers read what is not committed.
    Bug::ReadsBeyondHighWatermark,
    // Four batches of a producer are known again, where clients have five in flight.
    Bug::WindowOfFour,
    // The log is cut and what was known of producers is not.
    Bug::ProducersOutliveTruncation,
    // A node is fenced and stays in the ISR.
    Bug::FencedStaysInIsr,
    // Those who were eligible stay so when the ISR is large enough to go on without them (KIP-966).
    Bug::ElrNotCleared,
    // Who has lost its disk stays eligible.
    Bug::LostStaysEligible,
    // A replica joins the ISR under the registration of before its crash (KIP-903).
    Bug::BrokerEpochIgnored,
    // A proposal on an older state is taken up.
    Bug::PartitionEpochIgnored,
    // Replicas go before those that come are in sync.
    Bug::MoveDropsReplicasEarly,
    // Another leader leads in the same epoch.
    Bug::LeaderEpochKept,
];

const SEEDS_MAX: u64 = 5_000;
const MEDIAN_MAX: u64 = 1_000;

#[test]
fn every_planted_bug_is_found() {
    let quiet = Quiet::new();
    let (mut needed, mut missed) = (Vec::new(), Vec::new());
    for &bug in BUGS {
        choose(Some(bug));
        let found = (1..=SEEDS_MAX).find_map(|seed| Some((seed, seeds::run(seed, false).failure?)));
        choose(None);
        match found {
            Some((seeds, failure)) => {
                println!("{bug:?}: {seeds} seeds; {}", failure.lines().next().unwrap_or_default());
                needed.push(seeds);
            }
            None => {
                println!("{bug:?}: not found");
                missed.push(bug);
            }
        }
    }
    needed.sort_unstable();
    let (median, worst) = (needed.get(needed.len() / 2).copied(), needed.last().copied());
    println!("{} of {} found: median {median:?}, worst {worst:?} seeds", needed.len(), BUGS.len());
    drop(quiet);
    assert!(missed.is_empty(), "not found in {SEEDS_MAX} seeds: {missed:?}");
    assert!(median.is_some_and(|median| median <= MEDIAN_MAX), "median {median:?}");
}

/// And by the search of all states, within these bounds. Each needs something of its own: an interleaving, a crash, a lost disk.
const SEARCHED: &[(Bug, Bounds)] = &[
    (Bug::TruncatesToHighWatermark, SMALL[0]),
    (Bug::JoinsBehindEpochStart, SMALL[1]),
    (Bug::HighWatermarkOverCommittedIsr, SMALL[0]),
    (Bug::HighWatermarkBelowMinIsr, SMALL[0]),
    (Bug::FollowerReportsMemory, SMALL[0]),
    (Bug::EndToldBeforeEpochStart, SMALL[0]),
    (Bug::PartitionEpochIgnored, SMALL[0]),
    // A leader believes what a follower said before its crash: one that the seeds do not find.
    (Bug::EarlierLifeBelieved, SMALL[1]),
];

#[test]
fn the_search_finds_a_shortest_way_to_each_of_these() {
    let quiet = Quiet::new();
    let mut missed = Vec::new();
    for &(bug, bounds) in SEARCHED {
        choose(Some(bug));
        let outcome = exhaustive::search(&bounds, 1);
        choose(None);
        let states = outcome.states;
        match outcome.failure {
            Some(counterexample) => {
                println!("{bug:?}: {states} states; {}", counterexample.failure.lines().next().unwrap_or_default());
                counterexample.steps.iter().for_each(|line| println!("  {line}"));
            }
            None => {
                println!("{bug:?}: not in any of {states} states");
                missed.push(bug);
            }
        }
    }
    drop(quiet);
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Panics are what is looked for, and nobody wants to read them. One test at a time: the hook is the process's.
struct Quiet {
    _turn: std::sync::MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Quiet {
    fn new() -> Quiet {
        let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        panic::set_hook(Box::new(|_| {}));
        Quiet { _turn: turn }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = panic::take_hook();
        }
    }
}
