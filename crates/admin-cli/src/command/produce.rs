//! `thalweg produce`.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base_types::{ErrorCode, ProducerEpoch, ProducerId, Sequence, Timestamp};
use kafka_wire::k00_produce::{PartitionProduceData, TopicProduceData};
use kafka_wire::k03_metadata::MetadataResponseTopic;
use kafka_wire::{InitProducerIdRequest, KafkaString, MetadataResponse, ProduceRequest};
use record_batch::{BatchBuilder, Compression, Producer};
use serde::Deserialize;

use crate::cli::{Codec, Produce};
use crate::client::Client;
use crate::failure::Failure;

const PRODUCE_VERSION: i16 = 9;
const TIMEOUT_MS: i32 = 30_000;
const RETRY_FOR: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// One line of JSON input.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: Option<String>,
    value: Option<String>,
    #[serde(default)]
    headers: Vec<(String, Option<String>)>,
    partition: Option<i32>,
    timestamp: Option<i64>,
}

/// Sends in order, one batch a partition at a time, idempotently unless `acks` is 0: what is sent again is never doubled.
struct Sender<'a> {
    client: Client,
    metadata: MetadataResponse,
    topic: MetadataResponseTopic,
    options: &'a Produce,
    producer: Option<(ProducerId, ProducerEpoch)>,
    sequences: BTreeMap<i32, Sequence>,
    next_keyless: usize,
    sent: u64,
}

pub fn run(options: &Produce) -> Result<(), Failure> {
    let mut sender = Sender::open(options)?;
    let mut lines = std::io::stdin().lock().lines();
    loop {
        let mut pending: BTreeMap<i32, Vec<Line>> = BTreeMap::new();
        let mut count = 0;
        while count < options.batch_records {
            let Some(line) = lines.next() else { break };
            let line = sender.parse(&line.map_err(Failure::io("reading standard input"))?)?;
            let partition = sender.partition(&line)?;
            pending.entry(partition).or_default().push(line);
            count += 1;
        }
        if count == 0 {
            eprintln!("{} records sent", sender.sent);
            return Ok(());
        }
        for (partition, lines) in pending {
            sender.send(partition, &lines)?;
        }
    }
}

impl Sender<'_> {
    fn open(options: &Produce) -> Result<Sender<'_>, Failure> {
        let mut client = Client::connect(&options.target.bootstrap)?;
        // Creates the topic where the cluster allows it; its partitions may take a moment.
        drop(client.metadata(Some(&[&options.topic]), true)?);
        let (metadata, topic) = retry(|| client.topic(&options.topic))?;
        let producer = if options.acks == 0 {
            None
        } else {
            let request = InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
            let answer = client.call(4, &request)?;
            Failure::check("getting a producer id", answer.error_code, None)?;
            Some((ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch)))
        };
        let sequences = BTreeMap::new();
        Ok(Sender { client, metadata, topic, options, producer, sequences, next_keyless: 0, sent: 0 })
    }

    fn parse(&self, line: &str) -> Result<Line, Failure> {
        if self.options.json {
            return serde_json::from_str(line).map_err(|error| Failure::Usage(format!("bad line: {error}: {line}")));
        }
        let (key, value) = match &self.options.key_delimiter {
            Some(delimiter) => {
                let split = line.split_once(delimiter.as_str());
                let missing = || Failure::Usage(format!("no `{delimiter}` between key and value: {line}"));
                let (key, value) = split.ok_or_else(missing)?;
                (Some(key.to_owned()), value)
            }
            None => (None, line),
        };
        Ok(Line { key, value: Some(value.to_owned()), ..Line::default() })
    }

    /// By the line's own word, the option, Kafka's hash of the key, or in turn.
    fn partition(&mut self, line: &Line) -> Result<i32, Failure> {
        let count = self.topic.partitions.len();
        if let Some(partition) = line.partition.or(self.options.partition) {
            let known = usize::try_from(partition).is_ok_and(|partition| partition < count);
            return if known {
                Ok(partition)
            } else {
                Err(Failure::Usage(format!("the topic has no partition {partition}, only 0 to {}", count - 1)))
            };
        }
        let place = match &line.key {
            Some(key) => (murmur2(key.as_bytes()) & 0x7fff_ffff) as usize % count,
            None => {
                self.next_keyless += 1;
                self.next_keyless % count
            }
        };
        Ok(place as i32)
    }

    fn send(&mut self, partition: i32, lines: &[Line]) -> Result<(), Failure> {
        let sequence = *self.sequences.entry(partition).or_insert(Sequence(0));
        let mut batch = BatchBuilder::new(codec(self.options.compression));
        if let Some((id, epoch)) = self.producer {
            batch = batch.producer(Producer { id, epoch, base_sequence: sequence });
        }
        for line in lines {
            let common = self.options.header.iter().map(|(name, value)| (name.as_str(), Some(value.as_bytes())));
            let own = line.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref().map(str::as_bytes)));
            let headers: Vec<(&str, Option<&[u8]>)> = common.chain(own).collect();
            let timestamp = line.timestamp.map_or_else(wall_clock, Timestamp);
            let bytes = |text: &Option<String>| text.as_ref().map(|text| text.as_bytes().to_vec());
            batch.push(bytes(&line.key).as_deref(), bytes(&line.value).as_deref(), &headers, timestamp);
        }
        let records = batch.build().map_err(|error| Failure::Failed(format!("building a batch: {error:?}")))?;
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.options.acks,
            timeout_ms: TIMEOUT_MS,
            topic_data: vec![TopicProduceData {
                name: KafkaString::from(self.options.topic.clone()),
                partition_data: vec![PartitionProduceData { index: partition, records: Some(records) }],
                ..TopicProduceData::default()
            }],
        };
        self.deliver(partition, &request)?;
        self.sequences.insert(partition, sequence.plus(lines.len() as i32));
        self.sent += lines.len() as u64;
        Ok(())
    }

    fn deliver(&mut self, partition: i32, request: &ProduceRequest) -> Result<(), Failure> {
        let what = format!("producing to partition {partition}");
        let started = Instant::now();
        loop {
            let failure = match self.attempt(partition, request, &what) {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let again = match &failure {
                Failure::Refused { code, .. } => ErrorCode::from_code(*code).is_some_and(ErrorCode::is_retriable),
                Failure::Unreachable { .. } => true,
                _ => false,
            };
            if !again || self.producer.is_none() || started.elapsed() > RETRY_FOR {
                return Err(failure);
            }
            std::thread::sleep(RETRY_PAUSE);
            if let Ok(client) = Client::connect(&self.options.target.bootstrap) {
                self.client = client;
            }
            if let Ok((metadata, topic)) = self.client.topic(&self.options.topic) {
                (self.metadata, self.topic) = (metadata, topic);
            }
        }
    }

    fn attempt(&mut self, partition: i32, request: &ProduceRequest, what: &str) -> Result<(), Failure> {
        let known = self.topic.partitions.iter().find(|known| known.partition_index == partition);
        let leader = known.map_or(-1, |known| known.leader_id);
        if self.options.acks == 0 {
            return self.client.send_broker(&self.metadata, leader, PRODUCE_VERSION, request);
        }
        let response = self.client.call_broker(&self.metadata, leader, PRODUCE_VERSION, request)?;
        for answer in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
            Failure::check(what, answer.error_code, answer.error_message.as_deref())?;
        }
        Ok(())
    }
}

fn retry<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let started = Instant::now();
    loop {
        match attempt() {
            Err(Failure::Refused { code, .. })
                if ErrorCode::from_code(code).is_some_and(ErrorCode::is_retriable) && started.elapsed() < RETRY_FOR =>
            {
                std::thread::sleep(RETRY_PAUSE);
            }
            settled => return settled,
        }
    }
}

fn codec(codec: Codec) -> Compression {
    match codec {
        Codec::None => Compression::None,
        Codec::Gzip => Compression::Gzip,
        Codec::Snappy => Compression::Snappy,
        Codec::Lz4 => Compression::Lz4,
        Codec::Zstd => Compression::Zstd,
    }
}

fn wall_clock() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64)
}

/// MurmurHash2 with the seed of Kafka's default partitioner, so that keys land where every other client puts them.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut word = chunk.iter().rev().fold(0u32, |word, &byte| word << 8 | u32::from(byte)).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0u32, |word, &byte| word << 8 | u32::from(byte));
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::murmur2;

    #[test]
    fn keys_hash_as_in_kafkas_own_partitioner() {
        // The values of UtilsTest.testMurmur2 in Apache Kafka.
        let cases: [(&[u8], i32); 5] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"abc", 479_470_107),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key) as i32, hash, "{}", String::from_utf8_lossy(key));
        }
    }
}
