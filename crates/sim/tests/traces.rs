//! A run that fails is kept, comes again, and becomes small. Planted: an operator who never starts a node again, among faults that are mended.
#![allow(clippy::disallowed_methods, reason = "a test: it starts the command and looks at the files that it writes")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sim::cluster::{Cluster, Report, Shape, replay};
use sim::faults::Fault;
use sim::shrink::{identity, shrink};
use sim::trace::file::TraceFile;
use sim::world::{ProcessId, Time};

const SEED: u64 = 3;
const VICTIM: ProcessId = ProcessId::Storage(1);
const NOTHING: &str = "0000000000000000";

fn play(trace: &TraceFile) -> Report {
    replay(trace.seed, trace.shape, trace.faults.clone(), false)
}

/// With its outcome.
fn planted() -> TraceFile {
    let mut shape = Shape::default();
    shape.heal_ms = 5_000;
    let mut faults = Cluster::faults(SEED, &shape);
    faults.retain(|(_, fault)| *fault != Fault::Restart { process: VICTIM });
    faults.push((Time(6_000_000), Fault::Kill { process: VICTIM }));
    faults.sort_by_key(|&(at, _)| at);
    let trace = TraceFile { commit: "none".to_owned(), seed: SEED, shape, faults, failure: None, hash: 0 };
    let report = play(&trace);
    trace.with_outcome(&report)
}

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("the target directory can be written to");
    folder
}

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().expect("the command starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_failure_that_was_kept_comes_again() {
    let trace = planted();
    assert_eq!(trace.failure.as_deref().map(identity).as_deref(), Some("L"), "{:?}", trace.failure);
    let read: TraceFile = trace.to_string().parse().expect("what was written can be read");
    assert_eq!(read, trace);
    let again = play(&read);
    assert_eq!((again.failure_line(), again.trace_hash), (trace.failure.as_deref(), trace.hash));
}

#[test]
fn what_fails_becomes_as_small_as_its_cause() {
    let trace = planted();
    let small = shrink(trace.clone(), |trace| play(trace).failure_line().map(identity).as_deref() == Some("L"));
    let end = Time(small.shape.trouble_ms * 1000);
    let left: Vec<&Fault> = small.faults.iter().filter(|(at, _)| *at < end).map(|(_, fault)| fault).collect();
    let is_end_of_victim = |fault: &Fault| matches!(fault, Fault::Kill { process } | Fault::PowerLoss { process, .. } if *process == VICTIM);
    assert!(left.len() == 1 && is_end_of_victim(left[0]), "{left:?}");
    assert_eq!(small.shape.clients, 1);
    let nothing_left =
        TraceFile { faults: small.faults.iter().filter(|(at, _)| *at >= end).cloned().collect(), ..small };
    assert_eq!(play(&nothing_left).failure_line(), None);
}

#[test]
fn the_command_replays_looks_and_shrinks_and_says_the_same_each_time() {
    let (folder, trace) = (folder("command"), planted());
    let path = folder.join("planted.trace");
    fs::write(&path, trace.to_string()).expect("the folder can be written to");
    let path = path.to_str().expect("the target directory has a name in letters");

    let (first, second) = (sim(&["replay", path]), sim(&["replay", path]));
    assert!(first.status.success() && said(&first).ends_with("the same failure, the same trace\n"), "{first:?}");
    assert_eq!(said(&first), said(&second));

    let (step, again) = (sim(&["replay", path, "--step", "5000"]), sim(&["replay", path, "--step", "5000"]));
    let told = said(&step);
    assert!(told.contains("after step 5000,") && told.contains("storage-2 simulated-0: "), "{told}");
    assert!(told.contains("what it changed:"));
    assert_eq!(told, said(&again));
    let until = said(&sim(&["replay", path, "--until", "7000"]));
    assert!(until.contains("storage-2: ") && !until.contains("storage-1: "), "{until}");

    let small = folder.join("small.trace");
    let small = small.to_str().expect("as above");
    assert!(sim(&["shrink", path, "--to", small]).status.success());
    let replayed = sim(&["replay", small]);
    assert!(replayed.status.success(), "{replayed:?}");

    let other = folder.join("other.trace");
    fs::write(&other, trace.to_string().replace(&format!("{:016x}", trace.hash), NOTHING)).expect("as above");
    let other = sim(&["replay", other.to_str().expect("as above")]);
    assert_eq!(other.status.code(), Some(1));
    assert!(said(&other).ends_with("the same failure, another trace\n"));
}

#[test]
fn seeds_are_told_in_order_and_alike_on_any_number_of_threads() {
    let folder = folder("run");
    let traces = folder.to_str().expect("the target directory has a name in letters");
    let run = || sim(&["run", "--small", "--first", "20", "--seeds", "6", "--traces", traces]);
    let (first, second) = (run(), run());
    assert_eq!(said(&first), said(&second));
    assert!(said(&first).contains("6 seeds, "), "{first:?}");
}

#[test]
fn what_the_command_cannot_do_it_says_with_the_usage() {
    for (line, why) in [
        ("", "which command?"),
        ("walk", "there is no command `walk`"),
        ("run --seeds many", "--seeds wants a number, and `many` is none"),
        ("run --sedes 3", "what is `--sedes`?"),
        ("run --seed 3 --seeds 4", "--seed is one seed; many are --first and --seeds"),
        ("run --small --groups", "--small and --groups exclude each other"),
        ("replay", "a trace is missing"),
        ("replay a --step 3 --until 4", "--step and --until exclude each other"),
    ] {
        let output = sim(&line.split_whitespace().collect::<Vec<_>>());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{line}: {error}");
        assert!(error.starts_with(&format!("sim: {why}\nusage: ")), "{line}: {error}");
    }
    let missing = sim(&["replay", "there/is/none.trace"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).starts_with("sim: there/is/none.trace: "));
}
