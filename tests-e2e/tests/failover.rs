//! The important lines of `make failover-bench` in short, with bounds that a loaded machine keeps. The bench has the goals.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "end-to-end tests start processes and read clocks"
)]

use std::time::Duration;

use anyhow::{Context as _, Result};
use tests_e2e::clients;
use tests_e2e::cluster::{Cluster, ClusterSpec, Role};
use tests_e2e::failover::{self, Library, Probe};
use tests_e2e::wait;

/// Five times the goal: other tests run beside this one.
const KILL_GAP_MS_MAX: f64 = 1_500.0;
/// The clients of a gateway that stops wait out their pauses between attempts to connect.
const RESTART_GAP_MS_MAX: f64 = 5_000.0;
/// A Java client looks for new leaders by itself after five minutes (`metadata.max.age.ms`).
const READ_GAP_MS_MAX: f64 = 30_000.0;
const PARTITIONS: i32 = 24;
const WHOLE_BOUND: Duration = Duration::from_secs(60);

#[test]
fn writers_hardly_notice_a_killed_leader_and_planned_restarts() -> Result<()> {
    let mut cluster = Cluster::start(ClusterSpec::default())?;
    let bootstrap = cluster.bootstrap();
    clients::create_topics(&bootstrap, &[&format!("failover:{PARTITIONS}:3:min.insync.replicas=2")])?;
    let mut probes = [Probe::start(Library::Librdkafka, &bootstrap, "failover", PARTITIONS)?];

    let victim = failover::first_leader(&failover::placed(&bootstrap, "failover")?, None)?;
    let reports = failover::strike(&mut probes, || cluster.kill9(Role::Storage, victim))?;
    for report in reports {
        let worst = report.worst();
        println!("kill -9 of a leader: {worst:.0} ms, {} acknowledged, failed: {}", report.acked, report.failed);
        assert!(worst <= KILL_GAP_MS_MAX, "{worst} ms without an acknowledged write");
        assert_eq!(report.failures(), 0, "{}", report.failed);
    }
    cluster.restart(Role::Storage, victim)?;
    cluster.wait_ready(WHOLE_BOUND)?;
    failover::wait_whole(&bootstrap, &["failover"], WHOLE_BOUND)?;

    let reports = failover::strike(&mut probes, || {
        for (role, count) in [(Role::Controller, 3), (Role::Storage, 3), (Role::Gateway, 2)] {
            for number in 1..=count {
                cluster.terminate(role, number)?;
                cluster.restart(role, number)?;
                cluster.wait_ready(WHOLE_BOUND)?;
                failover::wait_whole(&bootstrap, &["failover"], WHOLE_BOUND)?;
            }
        }
        Ok(())
    })?;
    for report in reports {
        let worst = report.worst();
        println!("planned restarts: {worst:.0} ms, {} acknowledged, failed: {}", report.acked, report.failed);
        assert!(worst <= RESTART_GAP_MS_MAX, "{worst} ms without an acknowledged write");
        assert_eq!(report.failures(), 0, "{}", report.failed);
    }
    Ok(())
}

/// While the new leader's storage node has another address than the reader was told when it began to read other partitions from there.
#[test]
fn a_reader_follows_leaders_to_a_node_whose_gateway_came_back() -> Result<()> {
    let config = vec![(Role::Controller, "[timing]\ngateway_return_ms = 0\n")];
    let mut cluster = Cluster::start(ClusterSpec { config, ..ClusterSpec::default() })?;
    let bootstrap = cluster.bootstrap();
    let (first, second) = bootstrap.split_once(',').context("there are two gateways")?;
    clients::create_topics(&bootstrap, &[&format!("failover:{PARTITIONS}:3:min.insync.replicas=2")])?;
    failover::wait_whole(&bootstrap, &["failover"], WHOLE_BOUND)?;
    let ports = failover::ports(&bootstrap)?;
    let (node, _) = ports
        .iter()
        .find(|(_, port)| first.ends_with(&format!(":{port}")))
        .context("the first gateway stands for a node")?;
    let _writer = Probe::start(Library::Librdkafka, &bootstrap, "failover", PARTITIONS)?;
    let mut readers = [Probe::reader(&bootstrap, "failover", PARTITIONS)?];
    readers[0].wait_flowing()?;

    cluster.kill9(Role::Gateway, 1)?;
    wait::until("the other gateway to stand for all", WHOLE_BOUND, || {
        let now = failover::ports(second)?;
        Ok((now.len() == ports.len() && now.values().all(|port| second.ends_with(&format!(":{port}")))).then_some(()))
    })?;
    readers[0].wait_flowing()?;
    cluster.restart(Role::Gateway, 1)?;
    wait::until("the first gateway to be back", WHOLE_BOUND, || Ok((failover::ports(second)? == ports).then_some(())))?;

    let before = failover::placed(&bootstrap, "failover")?;
    let victim = failover::first_leader(&before, Some(u16::try_from(*node)?))?;
    let reports = failover::strike(&mut readers, || cluster.terminate(Role::Storage, victim))?;
    let after = failover::placed(&bootstrap, "failover")?;
    let has_moved =
        |(old, new): (&failover::Placed, &failover::Placed)| old.leader == i64::from(victim) && new.leader == *node;
    assert!(before.iter().zip(&after).any(has_moved), "the case in question: {before:?}, {after:?}");
    let worst = reports[0].worst();
    println!("a leader that moves: {worst:.0} ms without a record");
    assert!(worst <= READ_GAP_MS_MAX, "{worst} ms without a record");
    Ok(())
}
