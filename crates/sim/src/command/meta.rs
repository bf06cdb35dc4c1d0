//! `sim meta`: a seed is a history, so two runs of it are the same.

use sim::cluster::run;
use sim::cores;

use super::arguments::Arguments;
use super::shapes::{Seeds, Shapes};
use super::{Refusal, panics};

const SEEDS: u64 = 50;

/// Whether all were.
pub fn run_twice(mut arguments: Arguments) -> Result<bool, Refusal> {
    let shapes = Shapes::of(&mut arguments)?;
    let seeds = Seeds::of(&mut arguments, Some(SEEDS))?;
    arguments.end()?;
    panics::silence();
    let (mut count, mut differing) = (0, 0);
    let twice = |seed| [(); 2].map(|()| run(seed, shapes.shape(seed), false).trace_hash);
    cores::in_order(seeds.range(), None, twice, |seed, [first, second]| {
        count += 1;
        if first != second {
            differing += 1;
            println!("seed {seed} took two ways: something in a core is not determined by the seed");
        }
    });
    println!("{count} seeds twice, {differing} of them took two ways");
    Ok(differing == 0)
}
