//! Sends, and sends again.

use std::collections::{BTreeMap, VecDeque};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use base_types::{ErrorCode, ProducerEpoch, ProducerId, Sequence, Timestamp};
use bytes::Bytes;
use kafka_wire::k00_produce::{PartitionProduceData, PartitionProduceResponse, TopicProduceData};
use kafka_wire::{InitProducerIdRequest, KafkaString, ProduceRequest};
use record_batch::{BatchBuilder, Compression, Producer};

use super::{Shared, moment, say};
use crate::random::Random;
use crate::wire::{Gateways, Topic};

const ANSWER_BOUND: Duration = Duration::from_secs(12);
/// An idempotent batch is sent again for so long, then its producer gives up.
const PATIENCE: Duration = Duration::from_secs(30);
const TIMEOUT_MS: i32 = 8_000;
const RECORDS_MAX: u64 = 8;
/// Batches of one partition that are under way together; KIP-98 allows five.
const LINE_MAX: u64 = 3;
/// Old batches that may be sent once more, beyond the five that a partition remembers.
const OLD_MAX: usize = 12;
const VERSION: i16 = 9;
const PAUSE: Duration = Duration::from_millis(50);

/// What one attempt came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Acknowledged {
        base: i64,
    },
    /// It is there, and the partition has forgotten where.
    Duplicate,
    /// For certain nothing was kept of this attempt.
    Refused(ErrorCode),
    Unknown,
}

impl Outcome {
    /// By the gateway's own table, which is more definite than Kafka's: two codes leave it open, every other one says that nothing was
    /// kept of this attempt.
    pub fn of(code: i16, base: i64) -> Outcome {
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => Outcome::Acknowledged { base },
            Some(ErrorCode::DuplicateSequenceNumber) => Outcome::Duplicate,
            None | Some(ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend) => Outcome::Unknown,
            Some(code) => Outcome::Refused(code),
        }
    }
}

/// A batch, and what is known of it.
struct Batch {
    request: ProduceRequest,
    values: Vec<u64>,
    /// An attempt may have been kept.
    ambiguous: bool,
    outcome: Option<Outcome>,
}

/// A batch that was acknowledged, to be sent once more.
struct Old {
    request: ProduceRequest,
    base: i64,
}

struct Identity {
    client: u32,
    /// Who numbers batches, and the next number of each partition; `None` for who does not.
    numbers: Option<(ProducerId, ProducerEpoch, BTreeMap<i32, i32>)>,
}

pub(super) fn run(shared: &Shared, mut random: Random, idempotent: bool) -> Result<()> {
    let mut gateways = Gateways::new(&shared.options.bootstrap, ANSWER_BOUND);
    while !shared.is_stopping() {
        let numbers = if idempotent {
            let Some((id, epoch)) = identify(&mut gateways) else {
                thread::sleep(PAUSE);
                continue;
            };
            Some((id, epoch, BTreeMap::new()))
        } else {
            None
        };
        let mut identity = Identity { client: shared.next_client(), numbers };
        let mut old: BTreeMap<i32, VecDeque<Old>> = BTreeMap::new();
        while !shared.is_stopping() {
            let settled = line(shared, &mut gateways, &mut random, &mut identity, &mut old)?;
            if !settled {
                break;
            }
            thread::sleep(shared.options.pause);
        }
    }
    Ok(())
}

fn identify(gateways: &mut Gateways) -> Option<(ProducerId, ProducerEpoch)> {
    let answer = gateways.ask(4, &InitProducerIdRequest { transactional_id: None, ..Default::default() }).ok()?;
    (answer.error_code == 0).then_some((ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch)))
}

/// Some batches of one partition, one behind the other without waiting. `false` if one of them stayed open, so that this producer's
/// numbers are of no more use.
fn line(
    shared: &Shared,
    gateways: &mut Gateways,
    random: &mut Random,
    identity: &mut Identity,
    old: &mut BTreeMap<i32, VecDeque<Old>>,
) -> Result<bool> {
    let topic = &shared.options.topic;
    let partition = random.below(topic.partitions as u64) as i32;
    let delivery = if identity.numbers.is_some() { "idempotent" } else { "plain" };
    let count = if identity.numbers.is_some() { 1 + random.below(LINE_MAX) } else { 1 };
    let mut batches: Vec<Batch> = Vec::new();
    for _ in 0..count {
        let values: Vec<u64> = (0..1 + random.below(RECORDS_MAX)).map(|_| shared.next_value()).collect();
        let records = records(identity, partition, &values);
        for value in &values {
            say(&format!("send {} {} {} {value} {delivery}", identity.client, moment(), topic.partition(partition)));
        }
        batches.push(Batch { request: request(topic, partition, records), values, ambiguous: false, outcome: None });
    }
    let start = Instant::now();
    loop {
        attempt(shared, gateways, random, identity, &mut batches);
        let is_open = batches.iter().any(|batch| batch.outcome.is_none());
        if !is_open || identity.numbers.is_none() || start.elapsed() > PATIENCE {
            break;
        }
        thread::sleep(PAUSE);
    }
    let mut settled = true;
    for batch in batches {
        let end = moment();
        for (place, value) in batch.values.iter().enumerate() {
            let told = match batch.outcome {
                Some(Outcome::Acknowledged { base }) => format!("acknowledged@{}", base + place as i64),
                Some(Outcome::Duplicate) => "acknowledged".to_owned(),
                _ if batch.ambiguous => "indeterminate".to_owned(),
                _ => "failed".to_owned(),
            };
            say(&format!("sent {value} {end} {told}"));
        }
        match batch.outcome {
            Some(Outcome::Acknowledged { base }) if identity.numbers.is_some() => {
                let old = old.entry(partition).or_default();
                old.push_back(Old { request: batch.request, base });
                if old.len() > OLD_MAX {
                    old.pop_front();
                }
            }
            Some(Outcome::Unknown) | None => settled = false,
            Some(_) => {}
        }
    }
    if random.chance(1, 12)
        && let Some(late) = old.get(&partition).filter(|old| !old.is_empty())
    {
        again(shared, gateways, &late[random.below(late.len() as u64) as usize]);
    }
    Ok(settled || identity.numbers.is_none())
}

fn records(identity: &mut Identity, partition: i32, values: &[u64]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((id, epoch, next)) = &mut identity.numbers {
        let next = next.entry(partition).or_default();
        builder = builder.producer(Producer { id: *id, epoch: *epoch, base_sequence: Sequence(*next) });
        *next += values.len() as i32;
    }
    for value in values {
        builder.push(None, Some(value.to_string().as_bytes()), &[], Timestamp((moment() / 1_000_000).cast_signed()));
    }
    builder.build().expect("a few small records")
}

fn request(topic: &Topic, partition: i32, records: Bytes) -> ProduceRequest {
    ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: TIMEOUT_MS,
        topic_data: vec![TopicProduceData {
            name: KafkaString::from(topic.name.as_str()),
            partition_data: vec![PartitionProduceData { index: partition, records: Some(records) }],
            ..TopicProduceData::default()
        }],
    }
}

/// Sends all that is open, in order, some of it twice, and takes up the answers.
fn attempt(shared: &Shared, gateways: &mut Gateways, random: &mut Random, identity: &Identity, batches: &mut [Batch]) {
    let Ok(connection) = gateways.connection() else { return };
    let mut sent = Vec::new();
    let mut broken = false;
    for (place, batch) in batches.iter_mut().enumerate().filter(|(_, batch)| batch.outcome.is_none()) {
        let copies = if identity.numbers.is_some() && random.chance(1, 8) { 2 } else { 1 };
        for _ in 0..copies {
            // From here on something may have been kept, until an answer says otherwise.
            match connection.send(VERSION, &batch.request) {
                Ok(correlation) => sent.push((place, correlation)),
                Err(_) => {
                    batch.ambiguous = true;
                    broken = true;
                }
            }
        }
    }
    // The batch in front is next in line as long as nothing of this attempt got in before it.
    let front = batches.iter().position(|batch| batch.outcome.is_none());
    for (place, correlation) in sent {
        let answer = if broken { None } else { connection.receive::<ProduceRequest>(VERSION, correlation).ok() };
        let part = answer.and_then(|answer| answer.responses.into_iter().flat_map(|t| t.partition_responses).next());
        let outcome = part.map(|part: PartitionProduceResponse| Outcome::of(part.error_code, part.base_offset));
        broken |= outcome.is_none();
        let batch = &mut batches[place];
        match outcome.unwrap_or(Outcome::Unknown) {
            Outcome::Unknown => batch.ambiguous = true,
            Outcome::Refused(ErrorCode::OutOfOrderSequenceNumber)
                if front == Some(place) && batch.outcome.is_none() =>
            {
                shared.complain(&format!("value {}, next in line, is out of order", batch.values[0]));
                // It will not be better: this producer gives up.
                batch.ambiguous = true;
                batch.outcome = Some(Outcome::Unknown);
            }
            Outcome::Refused(_) => {}
            known => match batch.outcome {
                None => batch.outcome = Some(known),
                Some(before) => agree(shared, batch.values[0], before, known),
            },
        }
    }
    if broken || batches.iter().any(|batch| batch.outcome.is_none()) {
        gateways.turn();
    }
}

fn agree(shared: &Shared, value: u64, before: Outcome, now: Outcome) {
    if let (Outcome::Acknowledged { base: before }, Outcome::Acknowledged { base: now }) = (before, now)
        && before != now
    {
        shared.complain(&format!("value {value} is acknowledged at {before} and, sent once more, at {now}"));
    }
}

/// A batch of long ago comes once more, as from a network that kept it: it must not be taken.
fn again(shared: &Shared, gateways: &mut Gateways, old: &Old) {
    let Ok(answer) = gateways.ask(VERSION, &old.request) else { return };
    for part in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
        if part.error_code == 0 && part.base_offset >= 0 && part.base_offset != old.base {
            shared.complain(&format!(
                "a batch that was acknowledged at {} is acknowledged at {} when it comes again",
                old.base, part.base_offset
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_definite_only_where_the_gateway_says_so() {
        let of = |code: ErrorCode| Outcome::of(code.code(), 7);
        assert_eq!(of(ErrorCode::None), Outcome::Acknowledged { base: 7 });
        assert_eq!(of(ErrorCode::DuplicateSequenceNumber), Outcome::Duplicate);
        assert_eq!(of(ErrorCode::NotEnoughReplicas), Outcome::Refused(ErrorCode::NotEnoughReplicas));
        assert_eq!(of(ErrorCode::RequestTimedOut), Outcome::Unknown);
        assert_eq!(of(ErrorCode::NotEnoughReplicasAfterAppend), Outcome::Unknown);
        assert_eq!(Outcome::of(12_345, 0), Outcome::Unknown);
    }
}
