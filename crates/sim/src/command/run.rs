//! `sim run`: many seeds, each once.

use std::time::{Duration, Instant};

use sim::cluster::{Cluster, Report, Shape, replay};
use sim::cores;
use sim::faults::{List, Struck};
use sim::trace::file::TraceFile;

use super::arguments::Arguments;
use super::shapes::{Seeds, Shapes};
use super::{Refusal, commit, panics, traces};

const SEEDS: u64 = 200;
/// How often a long run says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(30);

struct Ran {
    shape: Shape,
    faults: List,
    report: Report,
    panicked_at: Option<String>,
}

#[derive(Default)]
struct Sum {
    seeds: u64,
    failed: u64,
    simulated_ms: u64,
    acknowledged: usize,
    read: usize,
    struck: Struck,
}

/// Whether all held.
pub fn run(mut arguments: Arguments) -> Result<bool, Refusal> {
    let shapes = Shapes::of(&mut arguments)?;
    let minutes = arguments.number("--minutes")?;
    let seeds = Seeds::of(&mut arguments, minutes.is_none().then_some(SEEDS))?;
    let folder = traces::folder(&mut arguments)?;
    let verbose = arguments.flag("--verbose");
    arguments.end()?;
    panics::silence();
    let started = Instant::now();
    let until = minutes.map(|minutes| started + Duration::from_secs(60 * minutes));
    let work = |seed| {
        let shape = shapes.shape(seed);
        let faults = Cluster::faults(seed, &shape);
        let report = replay(seed, shape, faults.clone(), verbose);
        Ran { shape, faults, report, panicked_at: panics::place() }
    };
    let (mut sum, mut refused) = (Sum::default(), None);
    let mut told_at = started;
    cores::in_order(seeds.range(), until, work, |seed, ran| {
        sum.add(&ran.report);
        if told_at.elapsed() >= TELL_EVERY {
            told_at = Instant::now();
            eprintln!(
                "{:.0} s: {} seeds, the last {seed}, {} failed",
                started.elapsed().as_secs_f64(),
                sum.seeds,
                sum.failed
            );
        }
        if seeds.is_one {
            tell(&ran.report);
        }
        if ran.report.failure.is_some() {
            let path = folder.join(format!("{}-{seed}.trace", shapes.name()));
            let trace = TraceFile {
                commit: commit::of_checkout(),
                seed,
                shape: ran.shape,
                faults: ran.faults.clone(),
                failure: None,
                hash: 0,
            };
            let trace = trace.with_outcome(&ran.report);
            tell_failure(&ran, &trace, seeds.is_one, &shapes.options());
            match traces::write(&path, &trace) {
                Ok(()) => println!("  its trace:   make replay TRACE={}", path.display()),
                Err(refusal) => drop(refused.get_or_insert(refusal)),
            }
        }
    });
    sum.tell(started.elapsed());
    refused.map_or(Ok(sum.failed == 0), Err)
}

pub fn tell(report: &Report) {
    println!(
        "seed {}: {} steps, {} ms, {} acknowledged, {} unknown, {} read, {} commits, {} generations, trace {:016x}",
        report.seed,
        report.inputs,
        report.simulated_ms,
        report.acknowledged,
        report.unknown,
        report.read,
        report.commits,
        report.generations,
        report.trace_hash
    );
}

/// Of one seed all that is known, of one of many what it takes to have it again.
fn tell_failure(ran: &Ran, trace: &TraceFile, is_one: bool, options: &str) {
    let Some((failure, lines)) = &ran.report.failure else { return };
    if is_one {
        lines.iter().for_each(|line| println!("{line}"));
        println!("{failure}");
    }
    println!("seed {} failed: {}", trace.seed, trace.failure.as_deref().unwrap_or_default());
    if let Some(place) = &ran.panicked_at {
        println!("  it panicked: {place}");
    }
    println!("  commit:      {}", trace.commit);
    let options = if options.is_empty() { String::new() } else { format!(" ARGS=\"{options}\"") };
    println!("  replay:      make sim SEED={}{options}", trace.seed);
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.failed += u64::from(report.failure.is_some());
        self.simulated_ms += report.simulated_ms;
        self.acknowledged += report.acknowledged;
        self.read += report.read;
        self.struck.merge(&report.struck);
    }

    fn tell(&self, took: Duration) {
        let Sum { seeds, failed, simulated_ms, acknowledged, read, struck } = self;
        println!("{seeds} seeds, {failed} failed, {acknowledged} records acknowledged, {read} read");
        println!("struck: {struck}");
        let seconds = took.as_secs_f64();
        let (speed, times) = (*seeds as f64 / seconds, *simulated_ms as f64 / 1000.0 / seconds);
        eprintln!("{seconds:.1} s, {speed:.1} seeds a second, {times:.0} times real time, on all cores");
    }
}
