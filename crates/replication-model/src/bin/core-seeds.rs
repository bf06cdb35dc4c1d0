//! `core-seeds [--seeds N] [--first N] [--verbose]`, `core-seeds --seed N [--verbose]`: many short runs of the replication cores on
//! every core of the machine, or one of them again. Fails when one does, and says how to replay it.
#![allow(clippy::disallowed_methods, reason = "failures are reported, not printed by the panic hook")]

use std::panic;
use std::process::ExitCode;

use replication_model::campaign::{self, Campaign};
use replication_model::seeds::{self, Report};

const SEEDS: u64 = 100_000;

#[derive(Default)]
struct Arguments {
    seed: Option<u64>,
    first: Option<u64>,
    seeds: Option<u64>,
    verbose: bool,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\nusage: core-seeds [--seeds N] [--first N] [--seed N] [--verbose]");
            return ExitCode::FAILURE;
        }
    };
    // The reports say it.
    panic::set_hook(Box::new(|_| {}));
    if let Some(seed) = arguments.seed {
        return tell(&[seeds::run(seed, arguments.verbose)]);
    }
    let (first, seeds) = (arguments.first.unwrap_or(1), arguments.seeds.unwrap_or(SEEDS));
    let Campaign { seen, mut failed, seconds, threads, .. } = campaign::run(first, seeds, campaign::threads());
    println!("{seen:?}");
    let per_second = seeds as f64 / seconds;
    println!("{seeds} seeds in {seconds:.1} s, {per_second:.0} a second on {threads} threads, {} failed", failed.len());
    if let Some(report) = failed.first_mut().filter(|_| arguments.verbose) {
        report.trace = seeds::run(report.seed, true).trace;
    }
    tell(&failed)
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let (mut parsed, mut arguments) = (Arguments::default(), arguments);
    while let Some(argument) = arguments.next() {
        let place = match argument.as_str() {
            "--seed" => &mut parsed.seed,
            "--first" => &mut parsed.first,
            "--seeds" => &mut parsed.seeds,
            "--verbose" => {
                parsed.verbose = true;
                continue;
            }
            _ => return Err(format!("{argument} is not known")),
        };
        let number = arguments.next().and_then(|number| number.parse().ok());
        *place = Some(number.ok_or_else(|| format!("{argument} needs a number"))?);
    }
    Ok(parsed)
}

fn tell(reports: &[Report]) -> ExitCode {
    for report in reports {
        report.trace.iter().for_each(|line| println!("{line}"));
        match &report.failure {
            Some(failure) => {
                eprintln!("seed {} failed: {failure}", report.seed);
                eprintln!("replay it with: make core-seeds ARGS=\"--seed {} --verbose\"", report.seed);
            }
            None => println!("seed {} passed", report.seed),
        }
    }
    if reports.iter().any(|report| report.failure.is_some()) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
