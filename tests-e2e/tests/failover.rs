//! The important lines of `make failover-bench` in short, with bounds that a loaded machine keeps. The bench has the goals.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "end-to-end tests start processes and read clocks"
)]

use std::time::Duration;

use anyhow::Result;
use tests_e2e::clients;
use tests_e2e::cluster::{Cluster, ClusterSpec, Role};
use tests_e2e::failover::{self, Library, Probe};

/// Five times the goal: other tests run beside this one.
const KILL_GAP_MS_MAX: f64 = 1_500.0;
/// The clients of a gateway that stops wait out their pauses between attempts to connect.
const RESTART_GAP_MS_MAX: f64 = 5_000.0;
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
