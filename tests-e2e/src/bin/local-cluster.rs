//! `make cluster` and `make cluster-stop`: the launcher of the tests, with fixed ports and a folder that stays.
#![allow(clippy::disallowed_methods, reason = "a tool: it reads its arguments and ends the process")]

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use tests_e2e::cluster::{self, Cluster, ClusterSpec};
use tests_e2e::place;

const USAGE: &str = "local-cluster start|stop [--folder DIR] [--controllers N] [--storage-nodes N] [--gateways N]";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let verb = arguments.next().context(USAGE)?;
    let mut folder = place::checkout().join(".thalweg/cluster");
    let mut spec = ClusterSpec { fixed_ports: true, ..ClusterSpec::default() };
    while let Some(flag) = arguments.next() {
        let value = arguments.next().context(USAGE)?;
        match flag.as_str() {
            "--folder" => folder = PathBuf::from(value),
            "--controllers" => spec.controllers = value.parse()?,
            "--storage-nodes" => spec.storage_nodes = value.parse()?,
            "--gateways" => spec.gateways = value.parse()?,
            _ => bail!(USAGE),
        }
    }
    match verb.as_str() {
        "start" => start(ClusterSpec { folder: Some(folder), ..spec }),
        "stop" => {
            println!("stopped {} processes", cluster::stop(&folder)?);
            Ok(())
        }
        _ => bail!(USAGE),
    }
}

fn start(spec: ClusterSpec) -> Result<()> {
    let folder = spec.folder.clone().unwrap_or_default();
    if folder.is_dir() {
        // A second start replaces the first; the data stays.
        let stopped = cluster::stop(&folder)?;
        if stopped > 0 {
            println!("a cluster was running: its {stopped} processes are stopped, and it starts again on its data");
        }
    }
    let cluster = Cluster::start(spec)?;
    let bootstrap = cluster.bootstrap();
    println!("bootstrap servers: {bootstrap}");
    println!("controllers:       {}", cluster.controllers());
    println!("/metrics, /health: {}", cluster.http());
    println!("data and logs:     {}", folder.display());
    println!("try:               kcat -L -b {bootstrap}");
    println!("stop:              make cluster-stop");
    cluster.detach()
}
