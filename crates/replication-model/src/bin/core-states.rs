//! `core-states [records=N elections=N fencings=N crashes=N broken_streams=N lags=N held=N]`: every state of replication's cores
//! within those bounds (what is not named is nought), or within each of the full ones. Fails when a rule is broken, and prints a shortest way there.
#![allow(
    clippy::disallowed_methods,
    reason = "failures are reported, not printed by the panic hook; it says how long it took"
)]

use std::panic;
use std::process::ExitCode;
use std::time::Instant;

use replication_model::campaign::threads;
use replication_model::exhaustive::{self, Bounds, Counterexample, FULL};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let all = match parse(&arguments) {
        Ok(all) => all,
        Err(error) => {
            eprintln!(
                "{error}\nusage: core-states [records=N elections=N fencings=N crashes=N broken_streams=N lags=N held=N]"
            );
            return ExitCode::FAILURE;
        }
    };
    // The counterexample says it.
    panic::set_hook(Box::new(|_| {}));
    let (started, threads, mut total) = (Instant::now(), threads(), 0);
    for bounds in &all {
        let begun = Instant::now();
        let outcome = exhaustive::search(bounds, threads);
        let (states, transitions, depth) = (outcome.states, outcome.transitions, outcome.depth);
        println!(
            "{bounds:?}\n  {states} states, {transitions} steps, depth {depth}, {:.1} s",
            begun.elapsed().as_secs_f64()
        );
        println!("  {:?}", outcome.seen);
        total += states;
        if let Some(Counterexample { failure, steps }) = outcome.failure {
            steps.iter().for_each(|line| println!("{line}"));
            eprintln!("{failure}");
            return ExitCode::FAILURE;
        }
    }
    println!("{total} states in {:.1} s on {threads} threads, no rule broken", started.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

fn parse(arguments: &[String]) -> Result<Vec<Bounds>, String> {
    if arguments.is_empty() {
        return Ok(FULL.to_vec());
    }
    let mut bounds = Bounds::NONE;
    for argument in arguments {
        let (name, number) = argument.split_once('=').ok_or_else(|| format!("{argument} says no number"))?;
        let number: u8 = number.parse().map_err(|_| format!("{number} is not a number up to 255"))?;
        match name {
            "records" => bounds.records = number,
            "elections" => bounds.elections = number,
            "fencings" => bounds.fencings = number,
            "crashes" => bounds.crashes = number,
            "broken_streams" => bounds.broken_streams = number,
            "lags" => bounds.lags = number,
            "held" => bounds.held = usize::from(number),
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok(vec![bounds])
}
