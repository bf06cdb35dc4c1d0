//! `thalweg`: the operator's tool.
//!
//! ```text
//!   thalweg dev                          all three services in one process
//!   thalweg topic|produce|consume|...    an ordinary Kafka client of any Kafka-compatible cluster
//!   thalweg group|config|partitions|...  likewise
//!   thalweg debug dump-log               looks at files, without a cluster
//! ```
//!
//! Data goes to standard output, everything said about it to standard error. Exit codes are stable: 0 done, 1 refused or
//! failed, 2 wrong usage, 3 the cluster could not be reached.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a command-line tool: clocks, files and sockets are its business"
)]

mod cli;
mod client;
mod command;
mod failure;
mod output;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match command::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("thalweg: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
