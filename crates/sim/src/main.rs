//! `sim run [--seed N] [--seeds N] [--first N] [--verbose]`, `sim meta [--seeds N]`.

use std::process::ExitCode;

use sim::cluster::{Report, Shape, run};

#[allow(clippy::disallowed_methods, reason = "the speed of the simulator is measured on the real clock")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| -> Option<u64> {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse().ok()
    };
    let verbose = arguments.iter().any(|argument| argument == "--verbose");
    let first = number("--seed").or(number("--first")).unwrap_or(1);
    let seeds = if number("--seed").is_some() { 1 } else { number("--seeds").unwrap_or(200) };
    let meta = match arguments.first().map(String::as_str) {
        Some("run") => false,
        Some("meta") => true,
        _ => {
            eprintln!("usage: sim run [--seed N | --first N --seeds N] [--verbose] | sim meta [--seeds N]");
            return ExitCode::from(2);
        }
    };
    let started = std::time::Instant::now();
    let mut simulated_ms = 0;
    let mut failed = 0;
    for seed in first..first + seeds {
        let report = run(seed, Shape::default(), verbose);
        simulated_ms += report.simulated_ms;
        failed += u64::from(!judge(&report));
        if meta && run(seed, Shape::default(), verbose).trace_hash != report.trace_hash {
            eprintln!("seed {seed} took two ways: something in a core is not determined by the seed");
            failed += 1;
        }
        if seeds == 1 {
            println!(
                "seed {seed}: {} happenings, {} ms, {} acknowledged, {} unknown, trace {:016x}",
                report.inputs, report.simulated_ms, report.acknowledged, report.unknown, report.trace_hash
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

fn judge(report: &Report) -> bool {
    let Some((failure, lines)) = &report.failure else { return true };
    for line in lines {
        eprintln!("{line}");
    }
    eprintln!("seed {} failed: {failure}", report.seed);
    eprintln!("replay it with: make sim SEED={}", report.seed);
    false
}
