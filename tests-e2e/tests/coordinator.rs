//! Groups whose coordinator dies, and members that do.

#![allow(clippy::disallowed_methods, reason = "end-to-end tests start processes and read clocks")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kafka_wire::{FindCoordinatorRequest, decode_response, encode_request};
use rustix::process::Signal;
use tests_e2e::clients::{Client, Codec, Produce};
use tests_e2e::cluster::{Cluster, ClusterSpec, Role};
use tests_e2e::oracle::{Kafka, OracleConfig};
use tests_e2e::record::Record;
use tests_e2e::scenario::faults::{Fault, Outcome};
use tests_e2e::scenario::members::{self, Done, Members, NamedGroup, Task};
use tests_e2e::{clients, process, wait};

const GROUPS: usize = 20;
const PARTITIONS: i32 = 12;
const SESSION: Duration = Duration::from_secs(10);

/// Spread over the load by the scenario.
const RECORDS: usize = 6_000;

/// Of the members; more would only cost memory.
const PROCESSES: usize = 4;

/// Half of the groups speak the classic protocol, with each assignor, and half the new one.
const PROTOCOLS: [&str; 6] = ["range", "consumer", "cooperative-sticky", "consumer-range", "roundrobin", "consumer"];

const CREATION_BOUND: Duration = Duration::from_secs(60);

#[test]
fn groups_go_on_and_lose_no_commit_when_their_coordinator_is_killed() -> Result<()> {
    let mut cluster = Cluster::start(ClusterSpec {
        config: vec![(Role::Storage, "[kafka]\n\"group.initial.rebalance.delay.ms\" = \"0\"")],
        ..ClusterSpec::default()
    })?;
    let bootstrap = cluster.bootstrap();
    clients::create_topics(&bootstrap, &[&format!("load:{PARTITIONS}:3:min.insync.replicas=2")])?;
    let (victim, groups) = groups_of_one_coordinator(&bootstrap, None)?;
    let cluster_cell = RefCell::new(&mut cluster);
    let kill = || cluster_cell.borrow_mut().kill9(Role::Storage, victim);
    let restart = || cluster_cell.borrow_mut().restart(Role::Storage, victim);
    let (outcome, done) = coordinator_dies(&bootstrap, &groups, kill, restart)?;
    println!("thalweg: {}", report(&outcome, &done));
    for group in &done {
        ensure!(group.partition_pause <= SESSION, "group {} did not resume in its session: {group:?}", group.group);
    }
    Ok(())
}

/// Only in the long variant: three JVMs and nothing of ours.
#[test]
fn the_same_beside_apache_kafka() -> Result<()> {
    if std::env::var_os("E2E_FULL").is_none() {
        return Ok(());
    }
    let mut kafka = Kafka::start(&OracleConfig { nodes: 3, ..OracleConfig::default() })?;
    let bootstrap = kafka.bootstrap();
    clients::create_topics(&bootstrap, &[&format!("load:{PARTITIONS}:3:min.insync.replicas=2")])?;
    // Its nodes are controllers as well. To lose both at once would be another test.
    let controller = tests_e2e::scenario::faults::active_controller(&bootstrap)?;
    let (victim, groups) = groups_of_one_coordinator(&bootstrap, Some(controller))?;
    let kafka_cell = RefCell::new(&mut kafka);
    let kill = || kafka_cell.borrow_mut().kill9(victim);
    let restart = || kafka_cell.borrow_mut().restart(victim);
    let (outcome, done) = coordinator_dies(&bootstrap, &groups, kill, restart)?;
    println!("Apache Kafka: {}", report(&outcome, &done));
    Ok(())
}

fn coordinator_dies(
    bootstrap: &str,
    groups: &[NamedGroup],
    kill: impl FnMut() -> Result<()>,
    restart: impl FnMut() -> Result<()>,
) -> Result<(Outcome, Vec<Done>)> {
    let task = Task { bootstrap, topic: "load", partitions: PARTITIONS, session: SESSION };
    let faults = vec![
        Fault { name: "kill the coordinator of every group", after: 0.25, strike: Box::new(kill) },
        Fault { name: "restart it", after: 0.55, strike: Box::new(restart) },
    ];
    members::consume_while_faults_strike(&task, groups, PROCESSES, RECORDS, faults)
}

fn report(outcome: &Outcome, done: &[Done]) -> String {
    let longest = |pause: fn(&Done) -> Duration| done.iter().map(pause).max().unwrap_or_default();
    let refused: BTreeMap<&str, usize> =
        done.iter().filter(|group| group.refused != "{}").fold(BTreeMap::new(), |mut refused, group| {
            *refused.entry(group.refused.as_str()).or_default() += 1;
            refused
        });
    format!(
        "{} groups; the longest pause of a group {:.2?}, of one of its partitions {:.2?}, of the writer {:.2?}; {} records read \
         again, {} assignments, refused commits {refused:?}",
        done.len(),
        longest(|group| group.pause),
        longest(|group| group.partition_pause),
        outcome.longest_gap,
        done.iter().map(|group| group.again).sum::<u64>(),
        done.iter().map(|group| group.assignments).sum::<u64>(),
    )
}

/// Names of groups that one node coordinates, and the node.
fn groups_of_one_coordinator(bootstrap: &str, but: Option<u16>) -> Result<(u16, Vec<NamedGroup>)> {
    const NAMES: usize = 300;
    let names: Vec<String> = (0..NAMES).map(|n| format!("group-{n}")).collect();
    let by_node = wait::until("every group to have a coordinator", CREATION_BOUND, || coordinators(bootstrap, &names))?;
    let eligible = by_node.into_iter().filter(|(node, names)| Some(*node) != but && names.len() >= GROUPS);
    let (node, names) = eligible.max_by_key(|(_, names)| names.len()).context("a node with enough groups")?;
    Ok((node, names.into_iter().take(GROUPS).zip(PROTOCOLS.into_iter().cycle()).collect()))
}

/// `None` until every one has a coordinator: the first question makes the topic.
fn coordinators(bootstrap: &str, names: &[String]) -> Result<Option<BTreeMap<u16, Vec<String>>>> {
    const VERSION: i16 = 4;
    let address = bootstrap.split(',').next().context("an address")?;
    let request = FindCoordinatorRequest {
        coordinator_keys: names.iter().map(|name| name.as_str().into()).collect(),
        ..FindCoordinatorRequest::default()
    };
    let frame = encode_request(1, None, VERSION, &request).map_err(|error| anyhow::anyhow!("{error:?}"))?.concat();
    let mut connection = TcpStream::connect(address)?;
    connection.write_all(&frame)?;
    let mut size = [0; 4];
    connection.read_exact(&mut size)?;
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    connection.read_exact(&mut answer)?;
    let (_, answer) = decode_response::<FindCoordinatorRequest>(answer.into(), VERSION)
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    if answer.coordinators.iter().any(|found| found.error_code != 0) {
        return Ok(None);
    }
    let mut by_node: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for found in answer.coordinators {
        by_node.entry(u16::try_from(found.node_id)?).or_default().push(found.key.to_string());
    }
    Ok(Some(by_node))
}

#[test]
fn a_member_that_vanishes_is_removed_at_its_time_out_and_its_partitions_are_handed_on() -> Result<()> {
    const STORAGE: &str = r#"
        [kafka]
        "group.initial.rebalance.delay.ms" = "0"
        "group.consumer.session.timeout.ms" = "6000"
        "group.consumer.heartbeat.interval.ms" = "1000"
    "#;
    const GATEWAY: &str = r#"
        lag_interval_ms = 1000
        [kafka]
        "offsets.topic.replication.factor" = "1"
    "#;
    let session = Duration::from_secs(6);
    let mut cluster = Cluster::start(ClusterSpec {
        controllers: 1,
        storage_nodes: 1,
        gateways: 1,
        config: vec![(Role::Storage, STORAGE), (Role::Gateway, GATEWAY)],
        ..ClusterSpec::default()
    })?;
    let bootstrap = cluster.bootstrap();
    clients::create_topics(&bootstrap, &["shared:6:1"])?;
    let task = Task { bootstrap: &bootstrap, topic: "shared", partitions: 6, session };
    let groups: Vec<NamedGroup> =
        ["range", "cooperative-sticky", "consumer"].map(|protocol| (format!("of-{protocol}"), protocol)).into();
    let mut others = Members::start(&task, &groups, 2)?;
    let mut one = Members::start(&task, &groups, 1)?;
    shared(&mut [&mut others, &mut one], &groups, 3)?;

    let began = Instant::now();
    process::signal(one.pid(), Signal::STOP)?;
    handed_on(&mut others, &groups, session, began)?;
    // It has no idea, and is told when it wakes.
    process::signal(one.pid(), Signal::CONT)?;
    shared(&mut [&mut others, &mut one], &groups, 3)?;

    let began = Instant::now();
    one.kill9()?;
    handed_on(&mut others, &groups, session, began)?;
    lag_is_told(&cluster, &task, &groups, others)?;
    cluster.wait_ready(Duration::from_secs(10))?;
    assert_eq!(cluster.unexpected_errors(&[]), Vec::<String>::new());
    Ok(())
}

/// Nobody is behind while the members read; when they are gone, each group by what comes then, in records and in seconds.
fn lag_is_told(cluster: &Cluster, task: &Task<'_>, groups: &[NamedGroup], others: Members) -> Result<()> {
    let produce = |texts: std::ops::Range<i32>| -> Result<()> {
        let text = |n: i32| Record { partition: Some(0), ..Record::text("key", &n.to_string()) };
        let records: Vec<Record> = texts.map(text).collect();
        Client::Confluent.produce(&Produce::new(task.bootstrap, task.topic, Codec::None), &records).map(drop)
    };
    produce(0..3)?;
    let mut ends = vec![0; task.partitions as usize];
    ends[0] = 3;
    for done in others.finish(&ends)? {
        ensure!(done.wrong.is_empty() && done.committed[0] == 3, "{done:?}");
    }
    produce(3..5)?;
    let sample = |text: &str, name: &str, group: &str| -> Option<f64> {
        let begins = format!("{name}{{consumergroup=\"{group}\"");
        let found = text.lines().find(|line| line.starts_with(&begins))?;
        found.rsplit_once(' ')?.1.parse().ok()
    };
    wait::until("every group to be behind", Duration::from_secs(20), || {
        let text = cluster.metrics(Role::Gateway, 1)?;
        let is_behind = |(group, _): &NamedGroup| {
            let seconds = sample(&text, "kafka_consumergroup_lag_seconds_max", group);
            sample(&text, "kafka_consumergroup_lag_sum", group) == Some(2.0)
                && seconds.is_some_and(|seconds| (1.0..30.0).contains(&seconds))
                && sample(&text, "thalweg_group_rebalances_total", group).is_some_and(|count| count >= 3.0)
        };
        Ok(groups.iter().all(is_behind).then_some(()))
    })
}

fn shared(processes: &mut [&mut Members], groups: &[NamedGroup], members: usize) -> Result<()> {
    wait::until("every group to share its partitions", Duration::from_secs(40), || {
        for (group, _) in groups {
            let mut owned = Vec::new();
            for process in processes.iter_mut() {
                owned.extend(process.owned(group)?);
            }
            if !members::is_shared(&owned, members, 6) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
}

/// The two who are left get everything: not before the session of the third is over, and soon after.
fn handed_on(left: &mut Members, groups: &[NamedGroup], session: Duration, began: Instant) -> Result<()> {
    // The last heartbeat may have been as long ago as the next was away.
    let early = session - Duration::from_millis(1_500);
    let late = session + Duration::from_secs(6);
    let mut taken: BTreeMap<&str, Duration> = BTreeMap::new();
    wait::until("what the third had to be handed on", late, || {
        for (group, _) in groups.iter().filter(|(group, _)| !taken.contains_key(group.as_str())).collect::<Vec<_>>() {
            if members::is_shared(&left.owned(group)?, 2, 6) {
                taken.insert(group.as_str(), began.elapsed());
            }
        }
        Ok((taken.len() == groups.len()).then_some(()))
    })?;
    println!("handed on after {taken:.1?}");
    ensure!(taken.values().all(|after| *after >= early), "a member was given up too early: {taken:?}");
    Ok(())
}
