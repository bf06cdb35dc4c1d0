//! `sim shrink`: a trace that fails, made smaller.

use std::path::PathBuf;

use sim::cluster::replay;
use sim::shrink::{identity, shrink};
use sim::trace::file::TraceFile;

use super::arguments::Arguments;
use super::{Refusal, commit, panics, traces};

pub fn run(mut arguments: Arguments) -> Result<bool, Refusal> {
    let path = PathBuf::from(arguments.required("a trace")?);
    let to = arguments.option::<PathBuf>("--to", "a file")?;
    arguments.end()?;
    let to = to.unwrap_or_else(|| path.with_extension("small.trace"));
    panics::silence();
    let trace = traces::read(&path)?;
    let play = |trace: &TraceFile| replay(trace.seed, trace.shape, trace.faults.clone(), false);
    let report = play(&trace);
    let Some(failure) = report.failure_line().map(identity) else {
        return Err(Refusal::Failed("it does not fail here, so there is nothing to make smaller".to_owned()));
    };
    let mut runs = 0;
    let small = shrink(trace.clone(), |candidate| {
        runs += 1;
        eprintln!("run {runs}: {} faults, {} clients", candidate.faults.len(), candidate.shape.clients);
        play(candidate).failure_line().map(identity).as_ref() == Some(&failure)
    });
    let small = TraceFile { commit: commit::of_checkout(), ..small.clone() }.with_outcome(&play(&small));
    traces::write(&to, &small)?;
    println!("{} faults of {}, in {runs} runs: {}", small.faults.len(), trace.faults.len(), failure);
    println!("{small}");
    println!("replay: make replay TRACE={}", to.display());
    Ok(true)
}
