//! The lanes: which rules and tests run together, cheapest first.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{codegen, command, layers, setup, tidy, workspace};

/// The rules. `--quick` leaves out what needs the whole workspace compiled.
pub fn check(arguments: &[String]) -> Result<()> {
    let quick = match arguments {
        [] => false,
        [flag] if flag == "--quick" => true,
        _ => bail!("`check` knows only --quick"),
    };
    command::run(&mut cargo(&["fmt", "--all", "--check"]))?;
    layers::run()?;
    tidy::run()?;
    codegen::run(&["--check".to_owned()])?;
    if quick {
        return Ok(());
    }
    setup::run(&["run".to_owned()])?;
    command::run(&mut cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    if !command::succeeds(&mut cargo(&["deny", "--version"])) {
        println!("check: cargo-deny is not installed (`cargo install --locked cargo-deny`), deny.toml was NOT checked");
        return Ok(());
    }
    command::run(&mut cargo(&["deny", "--workspace", "check"]))
}

/// Everything, or only the end-to-end tests.
pub fn test(arguments: &[String]) -> Result<()> {
    let packages: &[&str] = match arguments {
        [] => &["--workspace"],
        [which] if which == "e2e" => &["--package", "tests-e2e"],
        _ => bail!("`test` knows only `e2e`"),
    };
    setup::for_tests()?;
    if arguments.is_empty() {
        check(&["--quick".to_owned()])?;
    }
    // The end-to-end tests start the real binaries, which cargo builds only for their own package's tests.
    command::run(&mut cargo(&["build", "--release", "--workspace", "--bins"]))?;
    command::run(cargo(&["test", "--release", "--no-fail-fast"]).args(packages))?;
    if arguments.is_empty() {
        // Real processes under every kind of fault, and without power. Before the next build puts other programs in their place.
        command::run(built("chaos")?.args(["run", "--minutes", "5", "--seed", "1"]))?;
        command::run(built("chaos")?.args(["power-loss", "--cycles", "10", "--seed", "1"]))?;
        // A build of its own: what is planted there must not be in the services. Of the workspace, so that dependencies have the
        // features that they have in the tests.
        let planted = ["--workspace", "--features", "sim/planted,replication-model/planted", "--test", "planted"];
        command::run(cargo(&["test", "--release"]).args(planted))?;
    }
    Ok(())
}

/// A local cluster of real processes; the launcher is the one the end-to-end tests use.
pub fn cluster(arguments: &[String]) -> Result<()> {
    if arguments.first().is_some_and(|verb| verb == "start") {
        // The whole workspace, so that dependencies have the features they have in the tests: RocksDB is compiled once.
        command::run(&mut cargo(&["build", "--release", "--workspace", "--bins"]))?;
    }
    let launcher = ["run", "--release", "--quiet", "--package", "tests-e2e", "--bin", "local-cluster", "--"];
    command::run(cargo(&launcher).args(arguments))
}

/// A program of the workspace: it lies where this one does.
fn built(name: &str) -> Result<Command> {
    let mut program = Command::new(std::env::current_exe().context("xtask has no path")?.with_file_name(name));
    program.current_dir(workspace::root());
    Ok(program)
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = command::cargo();
    cargo.current_dir(workspace::root()).args(arguments);
    cargo
}
