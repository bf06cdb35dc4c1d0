//! `sim`: runs seeds, keeps the traces of those that fail, replays them and makes them smaller. See `command.rs`.

#![allow(clippy::disallowed_methods, reason = "a tool: it has threads, a clock and files, which what it runs has not")]

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main(std::env::args().skip(1).collect())
}
