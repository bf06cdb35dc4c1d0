//! The command. What is said of runs goes to standard output and is the same whenever the same seeds are run; speed and progress go to standard
//! error. Exit codes: 0 all held (or, of a replay: it came again), 1 something failed, 2 wrong usage.

mod arguments;
mod commit;
mod meta;
mod panics;
mod replay;
mod run;
mod shapes;
mod shrink;
mod traces;

use std::process::ExitCode;

use arguments::Arguments;

const USAGE: &str = "\
usage: sim run    [--seed N | --first N] [--seeds N] [--minutes M] [--small | --groups] [--faults N] [--member-faults N]
                  [--traces FOLDER] [--verbose]
       sim meta   [--seed N | --first N] [--seeds N] [--small | --groups] [--faults N] [--member-faults N]
       sim replay TRACE [--step N | --until MS] [--verbose]
       sim shrink TRACE [--to FILE]

run     each seed once, on all cores, until there were N seeds or M minutes are over; the trace of a seed that fails is kept
meta    each seed twice: both runs must be the same
replay  a trace; --step and --until show the processes after so many steps or milliseconds, and what the last step changed
shrink  a trace, to fewer faults, clients and partitions with which it fails in the same way";

/// Why a command did nothing.
enum Refusal {
    Usage(String),
    Failed(String),
}

pub fn main(words: Vec<String>) -> ExitCode {
    let mut arguments = Arguments::new(words);
    let outcome = match arguments.word().as_deref() {
        Some("run") => run::run(arguments),
        Some("meta") => meta::run_twice(arguments),
        Some("replay") => replay::run(arguments),
        Some("shrink") => shrink::run(arguments),
        Some("help" | "--help") => {
            println!("{USAGE}");
            Ok(true)
        }
        Some(other) => Err(Refusal::Usage(format!("there is no command `{other}`"))),
        None => Err(Refusal::Usage("which command?".to_owned())),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Refusal::Failed(why)) => {
            eprintln!("sim: {why}");
            ExitCode::FAILURE
        }
        Err(Refusal::Usage(why)) => {
            eprintln!("sim: {why}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}
