//! What user interfaces ask of a Kafka, with the libraries they are made of: each answer beside Apache Kafka's.
//!
//! Their images cannot be had everywhere, so two small programs ask the same: `clients/java/UserInterfaces.java` what kafbat UI and
//! AKHQ ask, `clients/go/console.go` what Redpanda Console asks. Both leave out what has to differ: addresses, ids, sizes, times.
//! What is answered differently on purpose are the APIs that are not served yet (`gateway-core/src/api/deviations.md`), from which the
//! Console also guesses a version.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "end-to-end tests start processes and read clocks"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use tests_e2e::clients;
use tests_e2e::dev::Dev;
use tests_e2e::oracle::{Kafka, OracleConfig};

/// What a program prints for each question: `# question`, then the lines of its answer.
fn answers(printed: &str) -> BTreeMap<&str, Vec<&str>> {
    let blocks = printed.split("# ").filter(|block| !block.is_empty());
    blocks.filter_map(|block| block.split_once('\n')).map(|(asked, told)| (asked, told.lines().collect())).collect()
}

/// Asks both, and tells every difference but the expected ones: a question, and a part of the one line we answer it with.
fn differences(
    ask: impl Fn(&str) -> Result<String> + Sync,
    ours: &str,
    theirs: &str,
    expected: &[(&str, &str)],
) -> Result<String> {
    let (ours, theirs) = thread::scope(|scope| {
        let theirs = scope.spawn(|| ask(theirs));
        (ask(ours), theirs.join().unwrap_or_else(|_| bail!("asking Apache Kafka panicked")))
    });
    let (ours, theirs) = (ours?, theirs?);
    let (ours, theirs) = (answers(&ours), answers(&theirs));
    let mut told = String::new();
    for question in theirs.keys().chain(ours.keys().filter(|question| !theirs.contains_key(*question))) {
        let (our, their) = (ours.get(question), theirs.get(question));
        let known = expected.iter().find(|(asked, _)| asked == question);
        let as_expected = match (known, our) {
            (Some((_, part)), Some(our)) => our != &theirs[question] && our.iter().any(|line| line.contains(part)),
            _ => our == their,
        };
        if !as_expected {
            writeln!(told, "{question}\n  ours:    {our:#?}\n  Kafka's: {their:#?}")?;
        }
    }
    println!("{} questions, {} answered differently on purpose", theirs.len(), expected.len());
    Ok(told)
}

/// The records' times: some minutes ago, the same for both.
fn began() -> Result<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok((now - Duration::from_secs(600)).as_millis().to_string())
}

#[test]
fn kafbat_ui_and_akhq_are_told_what_kafka_tells_them() -> Result<()> {
    let dev = Dev::start()?;
    let kafka = Kafka::start(&OracleConfig::default())?;
    let began = began()?;
    let ask = |bootstrap: &str| clients::java("UserInterfaces.java", &[bootstrap, &began]);
    let expected = [
        ("describeAcls", "UnsupportedVersionException"),
        ("describeClientQuotas", "UnsupportedVersionException"),
        ("describeUserScramCredentials", "UnsupportedVersionException"),
    ];
    assert_eq!(differences(ask, &dev.bootstrap(), &kafka.bootstrap(), &expected)?, "");
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}

#[test]
fn redpanda_console_is_told_what_kafka_tells_it() -> Result<()> {
    let dev = Dev::start()?;
    let kafka = Kafka::start(&OracleConfig::default())?;
    let began = began()?;
    let ask = |bootstrap: &str| clients::go("console", &["--bootstrap", bootstrap, "--began", &began]);
    let expected = [("version", ""), ("acls", ""), ("quotas", ""), ("users", "")];
    assert_eq!(differences(ask, &dev.bootstrap(), &kafka.bootstrap(), &expected)?, "");
    assert_eq!(dev.unexpected_errors(&[])?, Vec::<String>::new());
    Ok(())
}
