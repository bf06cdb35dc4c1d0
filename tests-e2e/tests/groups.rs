//! Whole applications with consumer groups, as they are.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "end-to-end tests start processes and read clocks"
)]

use anyhow::Result;
use tests_e2e::clients;
use tests_e2e::dev::Dev;

#[test]
fn a_kafkajs_service_lives_its_whole_life() -> Result<()> {
    let dev = Dev::start()?;
    println!("{}", clients::node("groups.js", &["--bootstrap", &dev.bootstrap()])?);
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

#[test]
fn kafka_python_workers_share_the_work() -> Result<()> {
    let dev = Dev::start()?;
    println!("{}", clients::python("kafka_python_groups.py", &["--bootstrap", &dev.bootstrap()])?);
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

#[test]
fn confluent_consumers_of_both_protocols_share_the_work() -> Result<()> {
    let dev = Dev::start()?;
    println!("{}", clients::python("confluent_groups.py", &["--bootstrap", &dev.bootstrap()])?);
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_nestjs_application_of_two_services_counts_every_event() -> Result<()> {
    let dev = Dev::start()?;
    println!("{}", clients::node("nest.js", &["--bootstrap", &dev.bootstrap()])?);
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}
