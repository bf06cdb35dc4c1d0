//! House rules as programs: everything in the Makefile that is more than one call of cargo.
//!
//! It must build on a machine that has nothing but the Rust toolchain, because `setup` is what installs the rest: three small
//! dependencies, none of them ours, no build script.
//!
//! ```text
//! cargo xtask setup run|test      Debian packages, then pinned clients and the oracle into the cache folder
//! cargo xtask test [e2e]          set-up, cheap rules, build, every test
//! cargo xtask check [--quick]     the rules; without --quick also clippy and cargo-deny
//! cargo xtask layers              who may depend on whom          (docs/ARCHITECTURE.md)
//! cargo xtask tidy                what a machine can judge         (docs/STYLE.md)
//! cargo xtask codegen [--check]   the Kafka codec from its schemas
//! cargo xtask cluster start|stop  a local cluster of real processes
//! ```
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a tool: it reads files and starts programs")]

mod check;
mod codegen;
mod command;
mod layers;
mod setup;
mod tidy;
mod workspace;

use anyhow::{Result, bail};

fn main() {
    if let Err(error) = dispatch() {
        eprintln!("xtask: {error:#}");
        std::process::exit(1);
    }
}

fn dispatch() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = match arguments.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => bail!("which task? setup, test, check, layers, tidy, codegen or cluster"),
    };
    match task {
        "setup" => setup::run(rest),
        "test" => check::test(rest),
        "check" => check::check(rest),
        "layers" => layers::run(),
        "tidy" => tidy::run(),
        // Each task reads its own arguments: `codegen::run(&[String])` stays as it is.
        "codegen" => codegen::run(rest),
        "cluster" => check::cluster(rest),
        unknown => {
            bail!("there is no task `{unknown}`; there are setup, test, check, layers, tidy, codegen and cluster")
        }
    }
}
