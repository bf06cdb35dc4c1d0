//! `thalweg dev` serves every client, and loses nothing when it is killed.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "end-to-end tests start processes and read clocks"
)]

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_e2e::clients;
use tests_e2e::dev::Dev;
use tests_e2e::scenario::{clients as scenario, faults};
use tests_e2e::wait;

/// Kills in `make test`; `make e2e-full` does 200.
fn rounds() -> u32 {
    if std::env::var_os("E2E_FULL").is_some() { 200 } else { 20 }
}

#[test]
fn every_client_and_codec_and_every_acks_works_against_thalweg_dev() -> Result<()> {
    let dev = Dev::start()?;
    scenario::every_client_and_codec(&dev.bootstrap(), "codec", 1)?;
    scenario::weaker_acknowledgements(&dev.bootstrap(), "weaker", 1)?;
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_when_thalweg_dev_is_killed_under_load() -> Result<()> {
    let mut dev = Dev::start()?;
    clients::create_topics(&dev.bootstrap(), &["killed:3:1"])?;
    faults::dev_dies_under_load(&mut dev, "killed", rounds(), 2_000)?;
    Ok(())
}

/// In an empty folder, with a Python that has nothing installed: a newcomer's.
#[test]
fn the_lines_that_thalweg_dev_prints_work_as_printed() -> Result<()> {
    let mut dev = Dev::start_with(&["--topic", "orders:3"])?;
    let log = dev.process().log().to_owned();
    let lines = wait::until("three lines to try", Duration::from_secs(30), || {
        let printed = std::fs::read_to_string(&log)?;
        let lines = printed.lines().skip_while(|line| *line != "Try it:").skip(1).take(3);
        let lines: Vec<String> = lines.map(|line| line.trim().to_owned()).collect();
        Ok((lines.len() == 3).then_some(lines))
    })?;
    let folder = tempfile::tempdir()?;
    let venv = folder.path().join("venv");
    ensure!(Command::new("python3").args(["-m", "venv"]).arg(&venv).status()?.success(), "no venv");
    let path = std::env::var("PATH").context("PATH")?;
    let path = format!("{}:{path}", venv.join("bin").display());
    for (line, expected) in lines.iter().zip(["hello", "RecordMetadata(topic='orders'", "baseOffset"]) {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).env("PATH", &path).env_remove("NODE_PATH").env_remove("PYTHONPATH");
        let output = shell.current_dir(folder.path()).output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && printed.contains(expected), "{line}\nprinted {printed}\nand said {said}");
    }
    Ok(())
}
