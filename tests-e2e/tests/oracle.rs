//! The scenarios against Apache Kafka itself: one that fails here is a wrong scenario.
#![allow(clippy::disallowed_methods, reason = "real processes")]

use anyhow::Result;
use tests_e2e::clients::{Client, Codec};
use tests_e2e::oracle::{Kafka, OracleConfig, tool};
use tests_e2e::record::Record;
use tests_e2e::scenario::{clients, faults, packages};
use tests_e2e::{clients as kafka_clients, process};

/// How many packages the oracle reads; ours get more.
const PACKAGES: usize = 200;

/// One test, because one broker serves all of it.
#[test]
fn apache_kafka_satisfies_every_scenario() -> Result<()> {
    let mut kafka = Kafka::start(&OracleConfig::default())?;
    let bootstrap = kafka.bootstrap();

    assert!(
        tool("org.apache.kafka.tools.TopicCommand", &["--bootstrap-server", &bootstrap, "--list"])?.trim().is_empty()
    );
    println!("{}", clients::every_client_and_codec(&bootstrap, "codec", 1)?);
    clients::weaker_acknowledgements(&bootstrap, "weaker", 1)?;
    let target = packages::Target { bootstrap: &bootstrap, prefix: "packages", partitions: 2, replicas: 1, config: "" };
    // kcat starts once per section; one codec of it is enough to judge the scenario.
    let passes: Vec<packages::Pass> = packages::passes()
        .into_iter()
        .filter(|pass| pass.client != Client::Kcat || pass.codec == Codec::Zstd)
        .collect();
    println!("{}", packages::through_topics(&target, &passes, PACKAGES)?);

    kafka_clients::create_topics(&bootstrap, &["faults:3:1"])?;
    assert_eq!(faults::leader_of(&bootstrap, "faults", 2)?, 1);
    assert_eq!(faults::active_controller(&bootstrap)?, 1);
    let records: Vec<Record> =
        (0..5_000).map(|n| Record::text(&(n % 50).to_string(), &n.to_string()).header("n", "x")).collect();
    let mut struck = 0;
    let fault = faults::Fault {
        name: "nothing",
        after: 0.5,
        strike: Box::new(|| {
            struck += 1;
            Ok(())
        }),
    };
    let outcome = faults::while_faults_strike(&bootstrap, "faults", Client::Confluent, true, &records, vec![fault])?;
    println!("{outcome:?}");
    assert_eq!((outcome.acknowledged, outcome.refused), (records.len(), 0));
    assert_eq!(struck, 1);

    kafka.process()?.expect_running()?;
    let log = std::fs::read_to_string(kafka.process()?.log())?;
    assert_eq!(process::error_lines(&log, &[]), Vec::<String>::new());
    Ok(())
}
