//! Seeds of the replication cores: `make test` runs these, `sim cores` any number of others.
//!
//! `SEED=n cargo test -p replication-model --release --test seeds -- --nocapture` replays one and prints it; `SEEDS=n` runs so many.
#![allow(clippy::disallowed_methods, reason = "a test reads its seed from the environment")]

use replication_model::{campaign, seeds};

const SEEDS: u64 = 20_000;

/// Beyond them, that once failed: a move was undone without its only sound copy (35884); the judge did not see what a replica with a full
/// disk had (58897); a follower was told to start over and took it for an echo (592823); more was lost than the promise covers (the others).
const REGRESSIONS: [u64; 8] = [24_990, 35_884, 46_522, 58_897, 88_937, 108_826, 455_318, 592_823];

#[test]
fn seeds_that_once_failed_hold() {
    for seed in REGRESSIONS {
        assert_eq!(seeds::run(seed, false).failure, None, "seed {seed}");
    }
}

#[test]
fn whatever_happens_every_rule_holds_and_all_comes_to_rest() {
    if let Some(seed) = number("SEED") {
        let report = seeds::run(seed, true);
        report.trace.iter().for_each(|line| println!("{line}"));
        assert_eq!(report.failure, None, "seed {seed}");
        return;
    }
    let (first, seeds) = (number("FIRST").unwrap_or(1), number("SEEDS").unwrap_or(SEEDS));
    let campaign = campaign::run(first, seeds, campaign::threads());
    println!("{:?} in {:.1} s on {} threads", campaign.seen, campaign.seconds, campaign.threads);
    for report in campaign.failed.iter().take(10) {
        println!("seed {}: {}", report.seed, report.failure.as_deref().unwrap_or_default());
    }
    assert!(campaign.failed.is_empty(), "{} of {seeds} seeds failed", campaign.failed.len());
}

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().expect("a number"))
}
