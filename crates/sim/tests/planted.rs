//! The judges on trial: each planted bug must be found, and soon. Those of the coordinators by runs of groups, those beneath by whole clusters.
//!
//! Run by `make test` and `make planted`, in a build of its own: `cargo test --workspace` leaves it out, because a workspace that is
//! built with the bugs has them in its services, too (decision 0008).

use std::panic::{self, AssertUnwindSafe};

use base_types::planted::{Bug, choose};
use sim::cluster::{Shape, run};
use sim::cores;

/// What is planted, and which invariants it may break.
type Planted = (Bug, &'static [&'static str]);

const COORDINATORS: &[Planted] = &[
    // A commit is answered before it is in the log of enough replicas.
    (Bug::CommitAnsweredBeforeDurable, &["G3", "G4"]),
    // A classic member commits with whatever generation it was once in.
    (Bug::CommitOfAnyGeneration, &["G2"]),
    // A member of the consumer protocol commits in an old epoch what it has given up since.
    (Bug::CommitOfAnyEpoch, &["G2"]),
    // A classic group that loses a member keeps what it had for the dead.
    (Bug::NoRebalanceAfterDeath, &["G1", "G7"]),
    // A member of the consumer protocol that is not heard of stays for ever.
    (Bug::SessionsNeverEnd, &["G7"]),
    // Partitions are handed on before their member has given them up, and it goes on committing.
    (Bug::RevocationNotAwaited, &["G1", "G2"]),
    // A new coordinator counts a classic group's generations from the start, and so there are two of one number.
    (Bug::GenerationRestartsAfterLoad, &["G1", "G6"]),
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

const WHOLE: &[Planted] = &[
    // A voter confirms entries of the metadata log before they are on its disk.
    (Bug::EntriesConfirmedBeforeDurable, &["C2", "C4", "C5"]),
    // A gateway sends again what nobody may send twice.
    (Bug::UnknownSentAgain, &["P1", "W1", "R10"]),
    // acks=all is answered when the leader alone has the batch. What is lost so may be missing in the middle of a producer's numbers.
    (Bug::AllAnsweredAtAppend, &["R2", "R10", "P3"]),
    // The journal is written and not synced.
    (Bug::JournalNotSynced, &["S1"]),
    // A torn block at the end of the journal is taken for a whole one. What is read of it may be in nobody's way but the reader's.
    (Bug::BlockCrcIgnored, &["S1", "S2", "R1", "L"]),
    // A commit that met a failing disk is answered as if it had not.
    (Bug::FailedWriteIgnored, &["S1", "S2", "R16"]),
    // A restart knows the last leader epoch of a log only. A follower may then cut all that it has.
    (Bug::EpochsForgottenAtRestart, &["R1", "R3", "R11", "R12", "P5"]),
];

/// Each bug is looked for so many times (`PLANTED_ROUNDS`), from other seeds each time.
const ROUNDS: u64 = 1;
const SEEDS_MAX: u64 = 100;

#[expect(clippy::disallowed_methods, reason = "a test asks how long it may be")]
fn rounds() -> u64 {
    std::env::var("PLANTED_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("PLANTED_ROUNDS is a number"))
}

/// How a run with the bug failed, if it did: by the judge's word, or because a core noticed by itself.
fn verdict(bug: Bug, seed: u64, shape: Shape) -> Option<String> {
    choose(Some(bug));
    let ended = panic::catch_unwind(AssertUnwindSafe(|| run(seed, shape, false)));
    choose(None);
    match ended {
        Ok(report) => report.failure.map(|(failure, _)| failure),
        Err(payload) => Some(payload.downcast_ref::<String>().cloned().unwrap_or_default()),
    }
}

/// What is wrong with the judges, as far as this bug, the `at`th, shows.
fn look_for(at: u64, (bug, invariants): Planted, shape: fn(u64) -> Shape) -> Vec<String> {
    let (rounds, mut missed) = (rounds(), Vec::new());
    let mut seeds = Vec::new();
    let mut said = String::new();
    for round in 0..rounds {
        let first = 1 + (at + round * 100) * SEEDS_MAX;
        let found = (first..first + SEEDS_MAX).find_map(|seed| Some((seed, verdict(bug, seed, shape(seed))?)));
        let Some((seed, failure)) = found else { continue };
        let failure = failure.lines().next().unwrap_or_default().to_owned();
        let names =
            |id: &&str| failure.starts_with(&format!("{id}:")) || failure.starts_with(&format!("invariant {id} "));
        if !invariants.iter().any(names) {
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
    missed
}

/// A run is one thread's, and so is the choice of its bug; so the bugs are spread over all cores.
fn assert_found(bugs: &[Planted], shape: fn(u64) -> Shape) {
    let missed = cores::all(0..bugs.len() as u64, |at| look_for(at, bugs[at as usize], shape)).concat();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn every_bug_in_the_coordinators_is_found_and_named() {
    assert_found(COORDINATORS, |_| Shape::of_groups());
}

#[test]
fn every_bug_beneath_is_found_by_whole_clusters_and_named() {
    assert_found(WHOLE, Shape::whole);
}
