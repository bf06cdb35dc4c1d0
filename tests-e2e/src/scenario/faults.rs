//! Something dies in the middle of a produce, and nothing acknowledged is lost.
//!
//! The caller says what dies; it is called once per fault, when that share of the records has been acknowledged.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::clients::{self, Client, Codec, Produce};
use crate::history::{self, Promise};
use crate::oracle;
use crate::record::{Ack, Record};

/// Without any answer for this long the cluster has not come back.
const SILENCE_BOUND: Duration = Duration::from_secs(60);

/// Something to do when `after` of the records (0 to 1) have been acknowledged.
pub struct Fault<'a> {
    pub name: &'a str,
    pub after: f64,
    pub strike: Box<dyn FnMut() -> Result<()> + 'a>,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub acknowledged: usize,
    pub refused: usize,
    /// The longest time between two acknowledgements, and how many were there before it.
    pub longest_gap: Duration,
    pub longest_gap_at: usize,
}

/// Sends `records` while the faults strike, then reads all of it back with every exact reader and compares.
pub fn while_faults_strike(
    bootstrap: &str,
    topic: &str,
    client: Client,
    idempotent: bool,
    records: &[Record],
    mut faults: Vec<Fault<'_>>,
) -> Result<Outcome> {
    let job = Produce { idempotent, ..Produce::new(bootstrap, topic, Codec::Lz4) };
    let mut producer = client.start_producer(&job)?;
    // Fed without waiting for answers, so that records are in flight whenever a fault strikes.
    producer.feed(records.iter().map(Record::to_json))?;

    let mut acks: Vec<Ack> = Vec::new();
    let mut outcome = Outcome { acknowledged: 0, refused: 0, longest_gap: Duration::ZERO, longest_gap_at: 0 };
    let mut last = None;
    loop {
        let answer = match producer.answers.recv_timeout(SILENCE_BOUND) {
            Ok(answer) => answer?,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(timeout) => {
                bail!("{} of {} acknowledged, then nothing for {SILENCE_BOUND:?}: {timeout}", acks.len(), records.len())
            }
        };
        let now = Instant::now();
        match answer {
            Ok(ack) => {
                let gap = last.map_or(Duration::ZERO, |last| now - last);
                if gap > outcome.longest_gap {
                    outcome.longest_gap = gap;
                    outcome.longest_gap_at = acks.len();
                }
                last = Some(now);
                acks.push(ack);
            }
            Err(_) => outcome.refused += 1,
        }
        let share = acks.len() as f64 / records.len() as f64;
        if faults.first().is_some_and(|fault| share >= fault.after) {
            let mut fault = faults.remove(0);
            (fault.strike)().with_context(|| format!("while doing: {}", fault.name))?;
        }
    }
    if let Some(fault) = faults.first() {
        bail!("the producer ended before `{}` could strike", fault.name);
    }
    // Refused records make it end with an error; that is part of the outcome, not of the test.
    let ended = producer.finish();
    if outcome.refused == 0 {
        ended?;
    }
    outcome.acknowledged = acks.len();

    let promise = if idempotent { Promise::ExactlyOnce } else { Promise::AtLeastOnce };
    for reader in [Client::Confluent, Client::KafkaPython] {
        let seen = reader.consume(bootstrap, topic, &[]).with_context(|| format!("{reader:?} reading {topic}"))?;
        history::judge(records, &acks, &seen, promise, true).with_context(|| format!("{topic}, read by {reader:?}"))?;
    }
    Ok(outcome)
}

/// The leader of a partition, as the cluster tells its clients.
pub fn leader_of(bootstrap: &str, topic: &str, partition: i32) -> Result<u16> {
    let answer = clients::kcat(&["-L", "-J", "-b", bootstrap, "-t", topic], None)?;
    let answer: Value = serde_json::from_slice(&answer).context("kcat -L -J prints JSON")?;
    let partitions = answer.pointer("/topics/0/partitions").and_then(Value::as_array);
    let wanted = |entry: &&Value| entry.get("partition").and_then(Value::as_i64) == Some(i64::from(partition));
    let leader = partitions.into_iter().flatten().find(wanted).and_then(|entry| entry.get("leader")?.as_u64());
    leader
        .and_then(|leader| u16::try_from(leader).ok())
        .with_context(|| format!("no leader of {topic}-{partition} in {answer}"))
}

/// The node that leads the metadata quorum.
pub fn active_controller(bootstrap: &str) -> Result<u16> {
    let status = oracle::tool(
        "org.apache.kafka.tools.MetadataQuorumCommand",
        &["--bootstrap-server", bootstrap, "describe", "--status"],
    )?;
    let leader = status.lines().find_map(|line| line.strip_prefix("LeaderId:"));
    leader.with_context(|| format!("no LeaderId in:\n{status}"))?.trim().parse().context("the LeaderId is a number")
}
