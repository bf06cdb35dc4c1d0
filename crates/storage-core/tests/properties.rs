//! Random runs of one or three whole nodes in one thread, with a toy controller, toy disks and random gateways, against what
//! must hold for every reader and writer. A failing run prints its seed; `SEED=n cargo test -p storage-core --test properties`
//! runs that one alone.

#[path = "properties/controller.rs"]
mod controller;
#[path = "properties/disk.rs"]
mod disk;
#[path = "properties/gateways.rs"]
mod gateways;
#[path = "properties/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use base_types::Random;
use world::World;

fn run(seeds: std::ops::Range<u64>, nodes: usize, steps: usize) {
    let seeds = match option_env_seed() {
        Some(seed) => seed..seed + 1,
        None => seeds,
    };
    let mut totals = world::Counts::default();
    for seed in seeds {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(Random::new(seed), nodes);
            world.run(steps);
            world.heal();
            world.counts
        }));
        match outcome {
            Ok(counts) => totals.add(&counts),
            Err(panic) => {
                eprintln!("failed with seed {seed}, {nodes} nodes, {steps} steps");
                resume_unwind(panic);
            }
        }
    }
    println!("{totals:?}");
    if option_env_seed().is_none() {
        totals.check_that_everything_happened(nodes);
    }
}

#[allow(clippy::disallowed_methods, reason = "a seed to run again comes from whoever debugs")]
fn option_env_seed() -> Option<u64> {
    std::env::var("SEED").ok()?.parse().ok()
}

#[test]
fn one_node_keeps_every_promise() {
    run(0..1_000, 1, 400);
}

#[test]
fn three_nodes_keep_every_promise() {
    run(0..1_500, 3, 800);
}
