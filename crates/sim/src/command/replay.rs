//! `sim replay`: a trace once more, to its end or up to a moment.

use std::path::PathBuf;

use sim::cluster::{Cluster, replay};
use sim::shrink::identity;
use sim::state::{self, State};
use sim::trace::file::TraceFile;
use sim::world::Time;

use super::arguments::Arguments;
use super::{Refusal, commit, panics, run, traces};

/// Where to stop and look.
#[derive(Clone, Copy)]
enum Moment {
    Step(u64),
    Ms(u64),
}

/// Whether the same came of it.
pub fn run(mut arguments: Arguments) -> Result<bool, Refusal> {
    let path = PathBuf::from(arguments.required("a trace")?);
    let moment = match (arguments.number("--step")?, arguments.number("--until")?) {
        (Some(_), Some(_)) => return Err(Refusal::Usage("--step and --until exclude each other".to_owned())),
        (Some(step), None) => Some(Moment::Step(step)),
        (None, Some(ms)) => Some(Moment::Ms(ms)),
        (None, None) => None,
    };
    let verbose = arguments.flag("--verbose");
    arguments.end()?;
    let trace = traces::read(&path)?;
    let here = commit::of_checkout();
    if here != trace.commit {
        println!("recorded at commit {}, replayed at {here}", trace.commit);
    }
    match moment {
        Some(moment) => look(&trace, moment),
        None => Ok(to_the_end(&trace, verbose)),
    }
}

fn to_the_end(trace: &TraceFile, verbose: bool) -> bool {
    panics::silence();
    let report = replay(trace.seed, trace.shape, trace.faults.clone(), verbose);
    if let Some((failure, lines)) = &report.failure {
        lines.iter().for_each(|line| println!("{line}"));
        println!("{failure}");
    }
    if let Some(place) = panics::place() {
        println!("it panicked at {place}");
    }
    run::tell(&report);
    let is_same_hash = report.trace_hash == trace.hash;
    let hash = if is_same_hash { "the same trace" } else { "another trace" };
    let came = report.failure_line().map(identity);
    let is_same = came == trace.failure.as_deref().map(identity);
    match (&trace.failure, is_same) {
        (Some(_), true) => println!("the same failure, {hash}"),
        (None, true) => println!("it holds as before, {hash}"),
        (Some(failure), false) => println!("not the same: it was `{failure}`, {hash}"),
        (None, false) => println!("not the same: it held, {hash}"),
    }
    is_same && is_same_hash
}

fn look(trace: &TraceFile, moment: Moment) -> Result<bool, Refusal> {
    let mut cluster = Cluster::with_faults(trace.seed, trace.shape, trace.faults.clone());
    cluster.world.trace.verbose = true;
    let is_before = |cluster: &Cluster| match moment {
        Moment::Step(step) => cluster.world.trace.inputs + 1 < step,
        Moment::Ms(ms) => cluster.world.next_at().is_some_and(|at| at < Time(1000 * ms)),
    };
    let failed = |why: String| Refusal::Failed(format!("it ended before: {why}"));
    while is_before(&cluster) {
        if !cluster.advance().map_err(failed)? {
            return Err(failed("everything held".to_owned()));
        }
    }
    let before = state::of(&cluster.world);
    let steps = cluster.world.trace.inputs;
    let mut goes_on = true;
    // What happens may be that somebody is woken for nothing; a step is that somebody is told something.
    while goes_on && cluster.world.trace.inputs == steps {
        goes_on = cluster.advance().map_err(failed)?;
    }
    tell(&cluster, &before);
    Ok(true)
}

fn tell(cluster: &Cluster, before: &State) {
    let after = state::of(&cluster.world);
    println!("after step {}, at {} µs:", cluster.world.trace.inputs, cluster.world.time().0);
    after.iter().for_each(|(name, state)| println!("  {name}: {state}"));
    println!("the step:");
    if let Some(line) = cluster.world.trace.lines().last() {
        println!("  {line}");
    }
    println!("what it changed:");
    state::difference(before, &after).iter().for_each(|line| println!("  {line}"));
}
