//! Whatever the model does is clean; whatever is made wrong is found.
//!
//! `SEEDS=n` takes so many stories. A failure prints its seed and the history.

use std::collections::BTreeMap;

use base_types::Random;
use history_checker::{History, Kind, Verdict, judge};

use crate::corruption::{KINDS, corrupted, has_side_effects};
use crate::model::{Shape, Story};

const SEEDS: u64 = 2_000;

fn seeds() -> u64 {
    std::env::var("SEEDS").map_or(SEEDS, |text| text.parse().expect("a number"))
}

fn story(seed: u64) -> (Story, Random) {
    let mut random = Random::new(seed);
    let shape = Shape::small(&mut random);
    (Story::of(&mut random, shape), random)
}

#[test]
fn every_legal_history_is_clean() {
    let (mut acknowledged, mut records_read, mut informed) = (0, 0, 0);
    for seed in 0..seeds() {
        let (story, _) = story(seed);
        let history = story.history(story.operations.clone());
        let verdict = judge(&history);
        assert!(verdict.is_clean(), "seed {seed}: {}\n{history}", verdict.told(&history));
        acknowledged += verdict.judged.acknowledged;
        records_read += verdict.judged.records_read;
        informed += verdict.information.len();
    }
    println!("{acknowledged} sends acknowledged, {records_read} records read, {informed} findings for information");
    // Histories in which nothing happened prove nothing.
    let seeds = seeds() as usize;
    assert!(acknowledged > 5 * seeds && records_read > 20 * seeds && informed > seeds / 20, "too little has happened");
}

#[test]
fn every_corruption_is_found() {
    let mut found: BTreeMap<Kind, u64> = BTreeMap::new();
    for seed in 0..seeds() {
        let (story, mut random) = story(seed);
        for kind in KINDS {
            let Some(operations) = corrupted(&story, kind, &mut random) else { continue };
            let history = story.history(operations);
            let verdict = judge(&history);
            let kinds: Vec<Kind> = verdict.anomalies.iter().map(|found| found.kind).collect();
            let is_right =
                kinds.contains(&kind) && (has_side_effects(kind) || kinds.iter().all(|found| *found == kind));
            assert!(is_right, "seed {seed}, {kind:?}: {}\n{history}", verdict.told(&history));
            *found.entry(kind).or_default() += 1;
        }
    }
    println!("{found:?}");
    for kind in KINDS {
        assert!(found.get(&kind).is_some_and(|&found| found > seeds() / 50), "{kind:?} was hardly tried: {found:?}");
    }
}

#[test]
fn a_history_that_was_stored_as_text_is_judged_alike() {
    let without_names = |verdict: Verdict| (verdict.judged, verdict.information.len(), verdict.anomalies.len());
    for seed in 0..seeds() / 20 {
        let (story, mut random) = story(seed);
        let operations = corrupted(&story, Kind::Lost, &mut random).unwrap_or_else(|| story.operations.clone());
        let history = story.history(operations);
        let stored: History = history.to_string().parse().expect("what was written");
        assert_eq!(stored.to_string(), history.to_string(), "seed {seed}");
        assert_eq!(without_names(judge(&stored)), without_names(judge(&history)), "seed {seed}");
    }
}
