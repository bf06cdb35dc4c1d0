//! The judge on trial: each bug that is planted in the coordinators must be found, and soon.
//!
//! Run by `make test` and `make planted`, in a build of its own: `cargo test --workspace` leaves it out, because a workspace that is
//! built with the bugs has them in its services, too (decision 0008).

use std::panic::{self, AssertUnwindSafe};

use base_types::planted::{Bug, choose};
use sim::cluster::{Shape, run};

/// What is planted, and which invariants it may break.
const BUGS: &[(Bug, &[&str])] = &[
    // A commit is answered before it is in the log of enough replicas.
    (Bug::CommitAnsweredBeforeDurable, &["G3", "G4"]),
    // A classic member commits with whatever generation it was once in.
    (Bug::CommitOfAnyGeneration, &["G2"]),
    // A member of the consumer protocol commits in an old epoch what it has given up since.
    (Bug::CommitOfAnyEpoch, &["G2"]),
    // A classic group that loses a member keeps what it had for the dead.
    (Bug::NoRebalanceAfterDeath, &["G7"]),
    // A member of the consumer protocol that is not heard of stays for ever.
    (Bug::SessionsNeverEnd, &["G7"]),
    // Partitions are handed on before their member has given them up, and it goes on committing.
    (Bug::RevocationNotAwaited, &["G1", "G2"]),
    // A new coordinator counts a classic group's generations from the start.
    (Bug::GenerationRestartsAfterLoad, &["G6"]),
    // A new coordinator does not read the last batch of the log.
    (Bug::LoadMissesLastBatch, ANY),
    // A node that leads no more goes on as coordinator.
    (Bug::CoordinatorOutlivesLeadership, ANY),
    // A static member that was replaced is served on.
    (Bug::FencingIgnored, &["G1", "G2"]),
    // Offsets of a classic group expire while its members live.
    (Bug::OffsetsExpireInUse, &["G8"]),
];

const ANY: &[&str] = &["G1", "G2", "G3", "G4", "G6", "G7", "G8"];

/// Each bug is looked for so many times (`PLANTED_ROUNDS`), from other seeds each time.
const ROUNDS: u64 = 1;
const SEEDS_MAX: u64 = 100;

#[expect(clippy::disallowed_methods, reason = "a test asks how long it may be")]
fn rounds() -> u64 {
    std::env::var("PLANTED_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("PLANTED_ROUNDS is a number"))
}

/// How a run with the bug failed, if it did: by the judge's word, or because a core noticed by itself.
fn verdict(bug: Bug, seed: u64) -> Option<String> {
    choose(Some(bug));
    let ended = panic::catch_unwind(AssertUnwindSafe(|| run(seed, Shape::of_groups(), false)));
    choose(None);
    match ended {
        Ok(report) => report.failure.map(|(failure, _)| failure),
        Err(payload) => Some(payload.downcast_ref::<String>().cloned().unwrap_or_default()),
    }
}

#[test]
fn every_planted_bug_is_found_and_named() {
    let (rounds, mut missed) = (rounds(), Vec::new());
    for (at, &(bug, invariants)) in BUGS.iter().enumerate() {
        let mut seeds = Vec::new();
        let mut said = String::new();
        for round in 0..rounds {
            let first = 1 + (at as u64 + round * BUGS.len() as u64) * SEEDS_MAX;
            let found = (first..first + SEEDS_MAX).find_map(|seed| Some((seed, verdict(bug, seed)?)));
            let Some((seed, failure)) = found else { continue };
            if !invariants.iter().any(|id| failure.contains(id)) {
                missed.push(format!("{bug:?} in seed {seed} is found as something else: {failure}"));
            }
            seeds.push(1 + seed - first);
            said = failure;
        }
        seeds.sort_unstable();
        let (median, worst) = (seeds.get(seeds.len() / 2).copied(), seeds.last().copied());
        println!("{bug:?}: median {}, worst {} seeds; as in: {said}", median.unwrap_or(0), worst.unwrap_or(0));
        if (seeds.len() as u64) < rounds {
            missed.push(format!("{bug:?} was found in {} of {rounds} rounds of {SEEDS_MAX} seeds", seeds.len()));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
