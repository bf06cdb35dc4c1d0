//! Something dies in the middle of a produce, and nothing acknowledged is lost.
//!
//! The caller says what dies; it is called once per fault, when that share of the records has been acknowledged.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::clients::{self, Client, Codec, Produce};
use crate::cluster::{Cluster, Role};
use crate::dev::Dev;
use crate::history::{self, Promise};
use crate::oracle;
use crate::record::{Ack, Record};

/// Without any answer for this long the cluster has not come back.
const SILENCE_BOUND: Duration = Duration::from_secs(60);

/// How long the load lasts in the middle of which faults strike.
const LOAD: Duration = Duration::from_secs(25);

/// How long answers that were given before a kill may take to reach us.
const LAST_ANSWERS: Duration = Duration::from_millis(300);

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
    // Fed without waiting for answers and for long enough, so that records are in flight whenever a fault strikes.
    let over = if faults.is_empty() { Duration::ZERO } else { LOAD };
    producer.feed_over(over, records.iter().map(Record::to_json))?;

    let mut acks: Vec<Ack> = Vec::new();
    let mut outcome = Outcome { acknowledged: 0, refused: 0, longest_gap: Duration::ZERO, longest_gap_at: 0 };
    let mut last: Option<Instant> = None;
    loop {
        let answer = match producer.answers.recv_timeout(SILENCE_BOUND) {
            Ok(answer) => answer?,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(timeout) => {
                bail!("{} of {} acknowledged, then nothing for {SILENCE_BOUND:?}: {timeout}", acks.len(), records.len())
            }
        };
        match answer.outcome {
            Ok(ack) => {
                let gap = last.map_or(Duration::ZERO, |last| answer.at - last);
                if gap > outcome.longest_gap {
                    outcome.longest_gap = gap;
                    outcome.longest_gap_at = acks.len();
                }
                last = Some(answer.at);
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

/// `kill -9` of the node that leads partition 0, of the active controller and of the first gateway, one after the other, each restarted a
/// while later. The topic exists, with a replica on every storage node.
pub fn each_service_dies(cluster: &mut Cluster, topic: &str, idempotent: bool, records: &[Record]) -> Result<Outcome> {
    let bootstrap = cluster.bootstrap();
    let cluster = RefCell::new(cluster);
    let victim = RefCell::new(None);
    let kill = |role: Role, number: u16| {
        *victim.borrow_mut() = Some((role, number));
        cluster.borrow_mut().kill9(role, number)
    };
    let revive = || match victim.borrow_mut().take() {
        Some((role, number)) => cluster.borrow_mut().restart(role, number),
        None => bail!("nothing was killed"),
    };
    let faults = vec![
        fault("kill the leading storage node", 0.15, || kill(Role::Storage, leader_of(&bootstrap, topic, 0)?)),
        fault("restart it", 0.35, revive),
        fault("kill the active controller", 0.45, || kill(Role::Controller, active_controller(&bootstrap)?)),
        fault("restart it", 0.60, revive),
        fault("kill a gateway", 0.70, || kill(Role::Gateway, 1)),
        fault("restart it", 0.85, revive),
    ];
    while_faults_strike(&bootstrap, topic, Client::Confluent, idempotent, records, faults)
}

fn fault<'a>(name: &'a str, after: f64, strike: impl FnMut() -> Result<()> + 'a) -> Fault<'a> {
    Fault { name, after, strike: Box::new(strike) }
}

/// `kill -9` of `thalweg dev` in the middle of a load, `rounds` times on the same data; every acknowledged record is there each time.
/// The topic exists.
pub fn dev_dies_under_load(dev: &mut Dev, topic: &str, rounds: u32, records_per_round: usize) -> Result<()> {
    let bootstrap = dev.bootstrap();
    let mut sent: Vec<Record> = Vec::new();
    let mut acks: Vec<Ack> = Vec::new();
    for round in 0..rounds {
        let key = |n: usize| format!("{}", n % 10);
        let records: Vec<Record> =
            (0..records_per_round).map(|n| Record::text(&key(n), &format!("{round}-{n}"))).collect();
        let mut producer = Client::Confluent.start_producer(&Produce::new(&bootstrap, topic, Codec::Lz4))?;
        producer.feed(records.iter().map(Record::to_json))?;
        // A different point of the load each round.
        let enough = 1 + records_per_round * (round as usize % 7) / 10;
        let mut answered = 0;
        while answered < enough {
            let answer = producer
                .answers
                .recv_timeout(SILENCE_BOUND)
                .with_context(|| format!("round {round}, {answered} answers"))?;
            if let Ok(ack) = answer?.outcome {
                acks.push(Ack { n: ack.n + sent.len(), ..ack });
                answered += 1;
            }
        }
        dev.kill9()?;
        // What was acknowledged before the kill may still be on its way to us.
        while let Ok(answer) = producer.answers.recv_timeout(LAST_ANSWERS) {
            if let Ok(ack) = answer?.outcome {
                acks.push(Ack { n: ack.n + sent.len(), ..ack });
            }
        }
        drop(producer);
        sent.extend(records);
        dev.restart()?;
        let seen = Client::Confluent.consume(&bootstrap, topic, &[]).with_context(|| format!("after round {round}"))?;
        history::judge(&sent, &acks, &seen, Promise::AtLeastOnce, true)
            .with_context(|| format!("after round {round}"))?;
    }
    Ok(())
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
