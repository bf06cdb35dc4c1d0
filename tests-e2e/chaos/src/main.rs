//! `chaos run`, `chaos power-loss`, `chaos judge`, and `chaos client`, which the first two start.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a tool: files, clocks and processes")]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use chaos::client;
use chaos::power_loss::{self, Sabotage};
use chaos::run;
use chaos::schedule::Kind;
use chaos::wire::Topic;
use clap::{Parser, Subcommand};
use history_checker::{History, judge};

/// Real processes under faults, judged by what their clients saw.
#[derive(Parser)]
#[command(name = "chaos")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Faults of every kind for so many minutes, and longer if not every kind has met somebody then
    Run {
        #[arg(long, default_value_t = 5)]
        minutes: u64,
        /// Decides what happens when, and to whom
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Nothing but these, e.g. KillLeader,Pause
        #[arg(long, value_delimiter = ',', value_parser = kind)]
        only: Vec<Kind>,
        /// A lost disk takes all others but one with it, so that records must be lost
        #[arg(long)]
        sabotage: bool,
    },
    /// The power of one node, a minority or all goes again and again
    PowerLoss {
        #[arg(long, default_value_t = 10)]
        cycles: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Breaks what the promise rests on, so that records must be lost
        #[arg(long, value_enum, default_value_t = Sabotage::None)]
        sabotage: Sabotage,
    },
    /// Judges a history that a run has kept
    Judge { history: PathBuf },
    /// A client, on behalf of a run
    #[command(hide = true)]
    Client {
        #[arg(long)]
        bootstrap: String,
        #[arg(long)]
        topic: String,
        #[arg(long)]
        partitions: i32,
        #[arg(long)]
        first: u32,
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        pause: f64,
    },
}

fn kind(text: &str) -> Result<Kind, String> {
    let found = Kind::ALL.into_iter().find(|kind| format!("{kind:?}") == text);
    found.ok_or_else(|| format!("the kinds are {:?}", Kind::ALL))
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<bool> {
    match command {
        Command::Run { minutes, seed, only, sabotage } => {
            chaos::enter()?;
            let folder = folder("run", seed)?;
            let well = run::run(run::Options { minutes, seed, only, sabotage, folder: folder.clone() })?;
            clear(&folder, well)
        }
        Command::PowerLoss { cycles, seed, sabotage } => {
            chaos::enter()?;
            let folder = folder("power-loss", seed)?;
            let well = power_loss::run(&power_loss::Options { cycles, seed, sabotage, folder: folder.clone() })?;
            clear(&folder, well)
        }
        Command::Judge { history } => {
            let text = fs::read_to_string(&history).with_context(|| format!("cannot read {}", history.display()))?;
            let history: History = text.parse()?;
            let verdict = judge(&history);
            print!("{}", verdict.told(&history));
            Ok(verdict.is_clean())
        }
        Command::Client { bootstrap, topic, partitions, first, seed, pause } => {
            let topic = Topic { name: topic, partitions };
            client::run(client::Options { bootstrap, topic, first, seed, pause: Duration::from_secs_f64(pause) })
        }
    }
}

/// An empty folder of this name.
fn folder(what: &str, seed: u64) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("thalweg-chaos-{what}-{seed}"));
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn clear(folder: &PathBuf, well: bool) -> Result<bool> {
    if well {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(well)
}
