//! Whole applications with consumer groups, as they are: each against `thalweg dev`, and five of them against Apache Kafka too, where
//! one that fails is a wrong application.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "end-to-end tests start processes and read clocks"
)]

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tests_e2e::dev::Dev;
use tests_e2e::oracle::{Kafka, OracleConfig};
use tests_e2e::{clients, lane, process};

/// Runs an application to its end; it judges by itself what it sees.
type Run = fn(&[&str]) -> Result<String>;

const KAFKAJS: Run = |arguments| clients::node("groups.js", arguments);
const KAFKA_PYTHON: Run = |arguments| clients::python("kafka_python_groups.py", arguments);
const KAFKA_PYTHON_2: Run = |arguments| clients::python_2("kafka_python_groups.py", arguments);
const AIOKAFKA: Run = |arguments| clients::python_2("aiokafka_groups.py", arguments);
const CONFLUENT: Run = |arguments| clients::python("confluent_groups.py", arguments);
const FRANZ_GO: Run = |arguments| clients::go("franz", arguments);
const SARAMA: Run = |arguments| clients::go("sarama", arguments);

fn against_dev(application: Run) -> Result<()> {
    let dev = Dev::start()?;
    let scale = lane::scale().to_string();
    println!("{}", application(&["--bootstrap", &dev.bootstrap(), "--scale", &scale])?);
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_kafkajs_service_lives_its_whole_life() -> Result<()> {
    against_dev(KAFKAJS)
}

#[test]
fn kafka_python_workers_share_the_work() -> Result<()> {
    against_dev(KAFKA_PYTHON)
}

#[test]
fn kafka_python_workers_of_the_last_major_version_share_the_work() -> Result<()> {
    against_dev(KAFKA_PYTHON_2)
}

#[test]
fn aiokafka_consumers_of_every_assignor_share_the_work() -> Result<()> {
    against_dev(AIOKAFKA)
}

#[test]
fn confluent_consumers_of_both_protocols_share_the_work() -> Result<()> {
    against_dev(CONFLUENT)
}

#[test]
fn franz_go_consumers_of_both_protocols_share_the_work() -> Result<()> {
    against_dev(FRANZ_GO)
}

#[test]
fn sarama_consumers_of_every_strategy_share_the_work() -> Result<()> {
    against_dev(SARAMA)
}

#[test]
fn a_nestjs_application_of_two_services_counts_every_event() -> Result<()> {
    let dev = Dev::start()?;
    println!("{}", clients::node("nest.js", &["--bootstrap", &dev.bootstrap()])?);
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

/// With its default retries; the process that serves is killed in the middle and started again at once.
#[test]
fn a_kafkajs_service_goes_on_by_itself_over_a_restart() -> Result<()> {
    let mut dev = Dev::start()?;
    let mut command = clients::node_command("restart.js")?;
    command.args(["--bootstrap", &dev.bootstrap(), "--scale", &lane::scale().to_string()]);
    let mut service = command.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(service.stdout.take().context("its output is ours")?).lines();
    if lines.next().transpose()?.as_deref() == Some("steady") {
        dev.restart()?;
    }
    for line in lines {
        println!("{}", line?);
    }
    let status = service.wait()?;
    ensure!(status.success(), "the service ended with {status}");
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

/// One broker serves them all, one after the other, since names are the same whatever serves.
#[test]
fn apache_kafka_satisfies_the_same_applications() -> Result<()> {
    // Its members of the new protocol hear of their share with a heartbeat: every 5 s, if it is not told otherwise.
    let beat = ["group.consumer.min.heartbeat.interval.ms", "group.consumer.heartbeat.interval.ms"];
    let settings = beat.map(|name| (name.to_owned(), "300".to_owned())).into();
    let mut kafka = Kafka::start(&OracleConfig { settings, ..OracleConfig::default() })?;
    let bootstrap = kafka.bootstrap();
    for application in [FRANZ_GO, SARAMA, AIOKAFKA, KAFKA_PYTHON_2, KAFKAJS] {
        println!("{}", application(&["--bootstrap", &bootstrap])?);
    }
    kafka.process()?.expect_running()?;
    let log = std::fs::read_to_string(kafka.process()?.log())?;
    // What it says of every partition that is added to a topic.
    assert_eq!(process::error_lines(&log, &["to exist, but it was missing. Creating"]), Vec::<String>::new());
    Ok(())
}
