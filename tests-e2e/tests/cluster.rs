//! A cluster of real processes: real input through every client, and each service killed in the middle.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "end-to-end tests start processes and read clocks"
)]

use std::time::Duration;

use anyhow::Result;
use tests_e2e::clients;
use tests_e2e::cluster::{Cluster, ClusterSpec};
use tests_e2e::scenario::{faults, packages};

/// The longest time without an acknowledged write when something dies.
const GAP_MAX: Duration = Duration::from_secs(3);

#[test]
fn real_input_goes_through_a_replicated_topic_with_every_client() -> Result<()> {
    let cluster = Cluster::start(ClusterSpec::default())?;
    let target = packages::Target {
        bootstrap: &cluster.bootstrap(),
        prefix: "packages",
        partitions: 12,
        replicas: 3,
        config: "min.insync.replicas=2",
    };
    println!("{}", packages::through_topics(&target, &packages::passes(), packages::limit())?);
    assert_eq!(cluster.unexpected_errors(&[]), Vec::<String>::new());
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_when_a_service_dies_in_the_middle() -> Result<()> {
    let mut cluster = Cluster::start(ClusterSpec::default())?;
    clients::create_topics(&cluster.bootstrap(), &["faults:12:3:min.insync.replicas=2"])?;
    let records = packages::records(packages::limit())?;
    let outcome = faults::each_service_dies(&mut cluster, "faults", true, &records)?;
    println!("{outcome:?}");
    assert!(outcome.longest_gap <= GAP_MAX, "{:?} without an acknowledged write", outcome.longest_gap);
    Ok(())
}
