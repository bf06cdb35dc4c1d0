//! Replicas that move between real processes, asked for with Apache Kafka's own tool, while a producer sends.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "end-to-end tests start processes and read clocks"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tests_e2e::clients::{self, Client};
use tests_e2e::cluster::{Cluster, ClusterSpec, Role};
use tests_e2e::oracle::tool;
use tests_e2e::scenario::faults::{Fault, while_faults_strike};
use tests_e2e::scenario::packages;
use tests_e2e::wait;

const REASSIGN: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";
const MOVED_WITHIN: Duration = Duration::from_secs(60);

/// Where each partition of the topic is to be.
type Target = [[i32; 2]; 3];

struct Mover<'a> {
    bootstrap: &'a str,
    folder: &'a Path,
}

impl Mover<'_> {
    fn run(&self, target: &Target, verb: &[&str]) -> Result<String> {
        let one =
            |(index, replicas): (usize, &[i32; 2])| json!({"topic": "moved", "partition": index, "replicas": replicas});
        let partitions: Vec<Value> = target.iter().enumerate().map(one).collect();
        let file = self.folder.join("moves.json");
        std::fs::write(&file, json!({"version": 1, "partitions": partitions}).to_string())?;
        let file = file.display().to_string();
        let arguments = ["--bootstrap-server", self.bootstrap, "--reassignment-json-file", &file];
        tool(REASSIGN, &[&arguments[..], verb].concat())
    }

    fn begin(&self, target: &Target) -> Result<()> {
        let printed = self.run(target, &["--execute", "--throttle", "100000000"])?;
        if !printed.contains("Successfully started partition reassignments for moved-0,moved-1,moved-2") {
            bail!("{printed}");
        }
        Ok(())
    }

    fn finish(&self, target: &Target) -> Result<()> {
        wait::until("the moves to be complete", MOVED_WITHIN, || {
            let printed = self.run(target, &["--verify"])?;
            let done = (0..3).all(|index| printed.contains(&format!("partition moved-{index} is completed.")));
            Ok(done.then_some(()))
        })
    }
}

fn fault<'a>(name: &'a str, after: f64, strike: impl FnMut() -> Result<()> + 'a) -> Fault<'a> {
    Fault { name, after, strike: Box::new(strike) }
}

/// Which partitions of the topic each node has on its disk.
fn on_disk(bootstrap: &str) -> Result<Vec<BTreeSet<String>>> {
    let printed = tool(LOG_DIRS, &["--bootstrap-server", bootstrap, "--describe", "--topic-list", "moved"])?;
    let line = printed.lines().find(|line| line.starts_with('{')).context("no JSON")?;
    let described: Value = serde_json::from_str(line)?;
    let mut nodes = vec![BTreeSet::new(); 3];
    for broker in described["brokers"].as_array().context("no brokers")? {
        let id = broker["broker"].as_u64().context("no id")? as usize;
        for dir in broker["logDirs"].as_array().into_iter().flatten() {
            // A gateway that stands for several nodes tells of all of them, each time.
            let path = dir["logDir"].as_str().unwrap_or_default();
            if path.starts_with("node-") && !path.starts_with(&format!("node-{id}:")) {
                continue;
            }
            let partitions = dir["partitions"].as_array().into_iter().flatten();
            nodes[id - 1].extend(partitions.filter_map(|one| one["partition"].as_str().map(str::to_owned)));
        }
    }
    Ok(nodes)
}

#[test]
fn replicas_move_under_load_and_nothing_is_lost_though_a_node_dies_in_the_middle() -> Result<()> {
    let cluster = std::cell::RefCell::new(Cluster::start(ClusterSpec::default())?);
    let bootstrap = cluster.borrow().bootstrap();
    clients::create_topics(&bootstrap, &["moved:3:2:min.insync.replicas=1"])?;
    let folder = tempfile::tempdir()?;
    let mover = Mover { bootstrap: &bootstrap, folder: folder.path() };
    let there: Target = [[1, 2], [2, 3], [3, 1]];
    let elsewhere: Target = [[3, 1], [1, 2], [2, 3]];
    mover.begin(&there)?;
    mover.finish(&there)?;
    let records = packages::records(packages::limit().min(20_000))?;
    let faults = vec![
        fault("a move away", 0.1, || mover.begin(&elsewhere).and_then(|()| mover.finish(&elsewhere))),
        // Replicas that were deleted come back.
        fault("a move back", 0.3, || mover.begin(&there).and_then(|()| mover.finish(&there))),
        fault("a move in the middle of which a node dies", 0.5, || {
            mover.begin(&elsewhere)?;
            cluster.borrow_mut().kill9(Role::Storage, 3)?;
            cluster.borrow_mut().restart(Role::Storage, 3)?;
            mover.finish(&elsewhere)
        }),
        fault("a move that is undone", 0.8, || {
            mover.begin(&there)?;
            // What is complete already cannot be undone, which the tool says, and ends with an error.
            drop(mover.run(&there, &["--cancel"]));
            mover.begin(&there)?;
            mover.finish(&there)
        }),
    ];
    let outcome = while_faults_strike(&bootstrap, "moved", Client::Confluent, true, &records, faults)?;
    println!("{outcome:?}");
    let expected: Vec<BTreeSet<String>> = (1..=3)
        .map(|node| {
            (0..3).filter(|index| there[*index].contains(&node)).map(|index| format!("moved-{index}")).collect()
        })
        .collect();
    wait::until("data of former replicas to be deleted", MOVED_WITHIN, || {
        Ok((on_disk(&bootstrap)? == expected).then_some(()))
    })
    .with_context(|| format!("on the disks: {:?}", on_disk(&bootstrap)))?;
    Ok(())
}
