//! Replicas that move between real processes, asked for with Apache Kafka's own tool, while a producer sends.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "end-to-end tests start processes and read clocks"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tests_e2e::clients::{self, Client, Codec, Produce};
use tests_e2e::cluster::{Cluster, ClusterSpec, Role};
use tests_e2e::oracle::tool;
use tests_e2e::record::Record;
use tests_e2e::scenario::faults::{Fault, while_faults_strike};
use tests_e2e::scenario::packages;
use tests_e2e::wait;

const REASSIGN: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";
const MOVED_WITHIN: Duration = Duration::from_secs(60);

/// Where each partition of the topic is to be.
type Target = [[i32; 2]; 3];

struct Mover<'a> {
    bootstrap: &'a str,
    folder: &'a Path,
    topic: &'a str,
}

impl Mover<'_> {
    fn run<const REPLICAS: usize>(&self, target: &[[i32; REPLICAS]], verb: &[&str]) -> Result<String> {
        let one = |(index, replicas): (usize, &[i32; REPLICAS])| json!({"topic": self.topic, "partition": index, "replicas": &replicas[..]});
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
    let mover = Mover { bootstrap: &bootstrap, folder: folder.path(), topic: "moved" };
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
    a_move_takes_as_long_as_its_throttle_says(&bootstrap, folder.path())
}

/// A partition on one node gets two more replicas, and its leader may send half a megabyte a second to both of them together.
fn a_move_takes_as_long_as_its_throttle_says(bootstrap: &str, folder: &Path) -> Result<()> {
    const RATE: usize = 500_000;
    const BYTES: usize = 60 * 50_000;
    /// Of the leader's budget: a second that was saved up, and one read. Nothing else can make it faster.
    const BEYOND: usize = RATE + (1 << 20);
    clients::create_topics(bootstrap, &["slow:1:1"])?;
    let records: Vec<Record> = (0..60).map(|n| Record::text(&n.to_string(), &"x".repeat(50_000))).collect();
    Client::Confluent.produce(&Produce::new(bootstrap, "slow", Codec::None), &records)?;
    let mover = Mover { bootstrap, folder, topic: "slow" };
    let target = [[1, 2, 3]];
    let start = Instant::now();
    let printed = mover.run(&target, &["--execute", "--throttle", &RATE.to_string()])?;
    if !printed.contains("Successfully started partition reassignment for slow-0") {
        bail!("{printed}");
    }
    let executed = start.elapsed();
    wait::until("three replicas in sync", MOVED_WITHIN, || {
        let listed = String::from_utf8(clients::kcat(&["-b", bootstrap, "-L", "-t", "slow"], None)?)?;
        let in_sync = listed.lines().find_map(|line| Some(line.split_once("isrs: ")?.1.split(',').count()));
        Ok((in_sync == Some(3)).then_some(()))
    })?;
    let moved = start.elapsed();
    let least = Duration::from_secs_f64((2 * BYTES - BEYOND) as f64 / RATE as f64);
    println!("a throttled move took {moved:?}, {executed:?} of it to ask for; it may take {least:?}");
    if moved < least {
        bail!("{} bytes at {RATE} bytes a second took {moved:?}", 2 * BYTES);
    }
    let printed = mover.run(&target, &["--verify"])?;
    if !printed.contains("partition slow-0 is completed.") {
        bail!("{printed}");
    }
    for entity in ["brokers", "topics"] {
        let set = tool(CONFIGS, &["--bootstrap-server", bootstrap, "--describe", "--entity-type", entity])?;
        if !set.contains("configs for") || set.contains("throttled") {
            bail!("{entity} are still throttled: {set}");
        }
    }
    Ok(())
}
