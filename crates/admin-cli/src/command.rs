//! One module for each command.

mod cluster;
mod config;
mod consume;
mod debug;
mod dev;
mod group;
mod partitions;
mod produce;
mod topic;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

pub fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Dev(options) => dev::run(options),
        Command::Topic(command) => topic::run(command),
        Command::Produce(options) => produce::run(&options),
        Command::Consume(options) => consume::run(&options),
        Command::Group(command) => group::run(command),
        Command::Config(command) => config::run(command),
        Command::Partitions(command) => partitions::run(command),
        Command::Cluster(command) => cluster::run(command),
        Command::Debug(command) => debug::run(command),
    }
}
