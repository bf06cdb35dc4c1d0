//! `thalweg dev` serves every client, and loses nothing when it is killed.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "end-to-end tests start processes and read clocks"
)]

use anyhow::Result;
use tests_e2e::clients;
use tests_e2e::dev::Dev;
use tests_e2e::scenario::{clients as scenario, faults};

/// Kills in `make test`; `make e2e-full` does 200.
fn rounds() -> u32 {
    if std::env::var_os("THALWEG_E2E_FULL").is_some() { 200 } else { 20 }
}

#[test]
fn every_client_and_codec_and_every_acks_works_against_thalweg_dev() -> Result<()> {
    let dev = Dev::start()?;
    scenario::every_client_and_codec(&dev.bootstrap(), "codec", 1)?;
    scenario::weaker_acknowledgements(&dev.bootstrap(), "weaker", 1)?;
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_when_thalweg_dev_is_killed_under_load() -> Result<()> {
    let mut dev = Dev::start()?;
    clients::create_topics(&dev.bootstrap(), &["killed:3:1"])?;
    faults::dev_dies_under_load(&mut dev, "killed", rounds(), 2_000)?;
    Ok(())
}
