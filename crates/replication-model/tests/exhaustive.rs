//! Every state within small bounds. `make core-states` has larger ones.
#![allow(clippy::disallowed_methods, reason = "a test says how long it took")]

use std::time::Instant;

use replication_model::campaign::threads;
use replication_model::exhaustive::{self, SMALL};
use replication_model::seeds::Seen;

#[test]
fn whatever_may_happen_within_small_bounds_every_rule_holds() {
    let mut seen = Seen::default();
    for bounds in &SMALL {
        let started = Instant::now();
        let outcome = exhaustive::search(bounds, threads());
        let (states, transitions, depth) = (outcome.states, outcome.transitions, outcome.depth);
        println!(
            "{bounds:?}: {states} states, {transitions} steps, depth {depth}, {:.1} s",
            started.elapsed().as_secs_f64()
        );
        if let Some(counterexample) = outcome.failure {
            counterexample.steps.iter().for_each(|line| println!("{line}"));
            panic!("{}", counterexample.failure);
        }
        seen.add(&outcome.seen);
    }
    println!("{seen:?}");
    // A search in which nothing happened proves nothing.
    let Seen { acknowledged, committed, cuts, elections, isr_changes, eligible, disks_gone, .. } = seen;
    let all = [acknowledged, committed, cuts, elections, isr_changes, eligible, disks_gone];
    assert!(all.into_iter().all(|count| count > 50), "too little has happened");
}
