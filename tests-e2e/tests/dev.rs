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
use tests_e2e::{lane, place, wait};

/// Kills in `make test`; `make test-long` does 200.
fn rounds() -> u32 {
    20 * lane::scale()
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

/// One line of each client language. What is put in its place: the address, and the folder of the clients where it is another one.
#[test]
fn the_programs_of_the_readme_work_as_printed() -> Result<()> {
    let dev = Dev::start()?;
    let readme = std::fs::read_to_string(place::checkout().join("README.md"))?;
    let section = readme.split("\n## Clients\n").nth(1).context("README.md has a section on clients")?;
    let block =
        section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).context("and lines to run")?;
    let lines: Vec<&str> = block.lines().filter(|line| !line.starts_with('#')).collect();
    let cache = place::cache()?.display().to_string();
    for line in &lines {
        let line = line.replace("127.0.0.1:9092", &dev.bootstrap());
        let line = line.replace("~/.cache/thalweg", &cache).replace("$HOME/.cache/thalweg", &cache);
        let output = Command::new("sh").args(["-c", &line]).current_dir(place::checkout()).output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        let complete = ["order-1", "order-2", "order-3"].iter().all(|order| printed.contains(order));
        ensure!(output.status.success() && complete, "{line}\nprinted {printed}\nand said {said}");
    }
    for program in ["kcat", "confluent.py", "kafka_python.py", "kafkajs.js", "Orders.java", "go run"] {
        ensure!(lines.iter().any(|line| line.contains(program)), "README.md shows no {program}");
    }
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}
