//! `sim run [--groups] [--seed N | --first N --seeds N] [--faults N] [--member-faults N] [--verbose]`, `sim meta` likewise, each
//! seed twice.

use std::process::ExitCode;

use sim::cluster::{Report, Shape, run};

#[allow(clippy::disallowed_methods, reason = "the speed of the simulator is measured on the real clock")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| -> Option<u64> {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse().ok()
    };
    let with_groups = arguments.iter().any(|argument| argument == "--groups");
    let mut shape = if with_groups { Shape::of_groups() } else { Shape::default() };
    shape.faults = number("--faults").unwrap_or(shape.faults);
    shape.member_faults = number("--member-faults").unwrap_or(shape.member_faults);
    let verbose = arguments.iter().any(|argument| argument == "--verbose");
    let first = number("--seed").or(number("--first")).unwrap_or(1);
    let seeds = if number("--seed").is_some() { 1 } else { number("--seeds").unwrap_or(200) };
    let meta = match arguments.first().map(String::as_str) {
        Some("run") => false,
        Some("meta") => true,
        _ => {
            let which = "[--seed N | --first N --seeds N] [--faults N] [--member-faults N]";
            eprintln!("usage: sim run|meta [--groups] {which} [--verbose]");
            return ExitCode::from(2);
        }
    };
    let started = std::time::Instant::now();
    let mut simulated_ms = 0;
    let mut failed = 0;
    for seed in first..first + seeds {
        let report = run(seed, shape, verbose);
        simulated_ms += report.simulated_ms;
        failed += u64::from(!judge(&report, with_groups));
        if meta && run(seed, shape, verbose).trace_hash != report.trace_hash {
            eprintln!("seed {seed} took two ways: something in a core is not determined by the seed");
            failed += 1;
        }
        if seeds == 1 {
            println!(
                "seed {seed}: {} happenings, {} ms, {} acknowledged, {} unknown, {} commits, {} generations, trace {:016x}",
                report.inputs,
                report.simulated_ms,
                report.acknowledged,
                report.unknown,
                report.commits,
                report.generations,
                report.trace_hash
            );
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds in {seconds:.1} s, {:.1} a second, {:.0} times real time, {failed} failed",
        seeds as f64 / seconds,
        simulated_ms as f64 / 1000.0 / seconds
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn judge(report: &Report, with_groups: bool) -> bool {
    let Some((failure, lines)) = &report.failure else { return true };
    for line in lines {
        eprintln!("{line}");
    }
    eprintln!("seed {} failed: {failure}", report.seed);
    let arguments = if with_groups { " ARGS=--groups" } else { "" };
    eprintln!("replay it with: make sim SEED={}{arguments}", report.seed);
    false
}
