//! Clients: producers that know what they were promised, and a consumer that remembers what it saw. They speak Kafka's
//! protocol in real bytes to whichever gateway answers.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{ErrorCode, ProducerEpoch, ProducerId, Sequence, Tick, Timestamp};
use bytes::{Bytes, BytesMut};
use kafka_wire::k00_produce::{PartitionProduceData, TopicProduceData};
use kafka_wire::k01_fetch::{FetchPartition, FetchTopic};
use kafka_wire::k19_create_topics::CreatableTopic;
use kafka_wire::{
    CreateTopicsRequest, FetchRequest, InitProducerIdRequest, KafkaString, ProduceRequest, Request, decode_response,
    encode_request,
};
use record_batch::{BatchBuilder, Compression, Producer as BatchProducer, StampedBatch, batches};

use crate::network::{Payload, Purpose, StreamId};
use crate::world::{Context, Input, Process, ProcessId};

const CREATE_VERSION: i16 = 7;
const INIT_VERSION: i16 = 4;
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
const ANSWER_MS_MAX: u64 = 8_000;
const PAUSE_MS: u64 = 100;
pub const TOPIC: &str = "simulated";

/// One record, named by who wrote it and its number among that client's records for that partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Value {
    pub client: i32,
    pub partition: i32,
    pub number: u64,
}

impl Value {
    pub fn to_bytes(self) -> Vec<u8> {
        format!("{} {} {}", self.client, self.partition, self.number).into_bytes()
    }

    pub fn parse(bytes: &[u8]) -> Option<Value> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut words = text.split(' ');
        let client = words.next()?.parse().ok()?;
        let partition = words.next()?.parse().ok()?;
        Some(Value { client, partition, number: words.next()?.parse().ok()? })
    }
}

/// What a producer knows of what it sent.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    /// Acknowledged at this offset.
    pub acknowledged: BTreeMap<Value, i64>,
    /// Refused for certain: must never be seen.
    pub refused: BTreeSet<Value>,
    /// Nobody knows.
    pub unknown: BTreeSet<Value>,
}

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub id: i32,
    pub gateways: i32,
    pub partitions: i32,
    pub replication_factor: i16,
    pub idempotent: bool,
    /// Creates the topic before anything else.
    pub creates: bool,
    /// Sends nothing new after this.
    pub stop_ms: u64,
}

pub struct Producer {
    settings: Settings,
    pub promises: Promises,
    stream: Option<StreamId>,
    gateway: i32,
    correlation: i32,
    asked: Option<Asked>,
    wait_until: Option<Tick>,
    topic_exists: bool,
    producer: Option<(ProducerId, ProducerEpoch)>,
    next: BTreeMap<i32, u64>,
    /// An idempotent batch that must be sent again before anything else of its partition.
    again: Option<(i32, u64, u64)>,
    turn: i32,
    pub answers: u64,
}

struct Asked {
    correlation: i32,
    what: What,
    give_up_at: Tick,
}

#[derive(Clone, Copy)]
enum What {
    Create,
    Init,
    /// Partition, first number, count.
    Produce(i32, u64, u64),
}

impl Producer {
    pub fn new(settings: Settings) -> Producer {
        Producer {
            settings,
            promises: Promises::default(),
            stream: None,
            gateway: settings.id,
            correlation: 0,
            asked: None,
            wait_until: None,
            topic_exists: !settings.creates,
            producer: None,
            next: BTreeMap::new(),
            again: None,
            turn: settings.id,
            answers: 0,
        }
    }

    fn dial(&mut self, context: &mut Context<'_>) {
        self.gateway += 1;
        context.dial(ProcessId::Gateway(1 + self.gateway % self.settings.gateways), Purpose::Kafka, 0, PAUSE_MS);
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        if self.asked.is_some() || self.stream.is_none() || self.wait_until.is_some() {
            return;
        }
        if !self.topic_exists {
            let topic = CreatableTopic {
                name: KafkaString::from_static(TOPIC),
                num_partitions: self.settings.partitions,
                replication_factor: self.settings.replication_factor,
                configs: vec![kafka_wire::k19_create_topics::CreatableTopicConfig {
                    name: KafkaString::from_static("min.insync.replicas"),
                    value: Some(KafkaString::from_static("2")),
                }],
                ..CreatableTopic::default()
            };
            let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, validate_only: false };
            self.ask(context, CREATE_VERSION, &request, What::Create);
        } else if self.settings.idempotent && self.producer.is_none() {
            let request = InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
            self.ask(context, INIT_VERSION, &request, What::Init);
        } else if let Some((partition, first, count)) = self.again.take() {
            self.produce(context, partition, first, count);
        } else if context.now.tick.0 < self.settings.stop_ms {
            self.turn += 1;
            let partition = self.turn % self.settings.partitions;
            let first = *self.next.entry(partition).or_default();
            let count = context.random.between(1, 5);
            self.next.insert(partition, first + count);
            self.produce(context, partition, first, count);
        }
    }

    fn produce(&mut self, context: &mut Context<'_>, partition: i32, first: u64, count: u64) {
        let mut batch = BatchBuilder::new(Compression::None);
        if let Some((id, epoch)) = self.producer {
            batch = batch.producer(BatchProducer { id, epoch, base_sequence: Sequence(first as i32) });
        }
        for value in self.values(partition, first, count) {
            batch.push(None, Some(&value.to_bytes()), &[], Timestamp(context.now.wall.0));
        }
        let Ok(records) = batch.build() else { return };
        let request = ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: 3_000,
            topic_data: vec![TopicProduceData {
                name: KafkaString::from_static(TOPIC),
                partition_data: vec![PartitionProduceData { index: partition, records: Some(records) }],
                ..TopicProduceData::default()
            }],
        };
        self.ask(context, PRODUCE_VERSION, &request, What::Produce(partition, first, count));
    }

    fn values(&self, partition: i32, first: u64, count: u64) -> impl Iterator<Item = Value> + use<> {
        let client = self.settings.id;
        (first..first + count).map(move |number| Value { client, partition, number })
    }

    fn ask<R: Request>(&mut self, context: &mut Context<'_>, version: i16, request: &R, what: What) {
        let Some(stream) = self.stream else { return };
        self.correlation += 1;
        if let Some(frame) = frame(self.correlation, version, request) {
            context.send(stream, Payload::Frame(frame));
        }
        let give_up_at = context.now.tick.plus_ms(ANSWER_MS_MAX);
        self.asked = Some(Asked { correlation: self.correlation, what, give_up_at });
    }

    /// No answer will come.
    fn unanswered(&mut self) {
        if let Some(Asked { what: What::Produce(partition, first, count), .. }) = self.asked.take() {
            self.unsettled(partition, first, count);
        }
    }

    fn unsettled(&mut self, partition: i32, first: u64, count: u64) {
        if self.producer.is_some() {
            self.again = Some((partition, first, count));
        } else {
            let values: Vec<Value> = self.values(partition, first, count).collect();
            self.promises.unknown.extend(values);
        }
    }

    fn answered(&mut self, context: &mut Context<'_>, frame: Bytes) {
        let Some(asked) = self.asked.take() else { return };
        self.answers += 1;
        let pause = match asked.what {
            What::Create => {
                let (_, answer) = decode::<CreateTopicsRequest>(frame, CREATE_VERSION, asked.correlation);
                let code = answer.topics.first().map_or(-1, |topic| topic.error_code);
                self.topic_exists = code == 0 || code == ErrorCode::TopicAlreadyExists.code();
                !self.topic_exists
            }
            What::Init => {
                let (_, answer) = decode::<InitProducerIdRequest>(frame, INIT_VERSION, asked.correlation);
                if answer.error_code == 0 {
                    self.producer = Some((ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch)));
                }
                answer.error_code != 0
            }
            What::Produce(partition, first, count) => {
                let (_, answer) = decode::<ProduceRequest>(frame, PRODUCE_VERSION, asked.correlation);
                let answer = answer.responses.first().and_then(|topic| topic.partition_responses.first());
                let (code, base) = answer.map_or((-1, -1), |answer| (answer.error_code, answer.base_offset));
                self.produced(partition, first, count, code, base)
            }
        };
        if pause {
            self.wait_until = Some(context.now.tick.plus_ms(PAUSE_MS));
        }
    }

    /// `true` when to wait a little before the next attempt.
    fn produced(&mut self, partition: i32, first: u64, count: u64, code: i16, base: i64) -> bool {
        let values: Vec<Value> = self.values(partition, first, count).collect();
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => {
                for (value, offset) in values.into_iter().zip(base..) {
                    self.promises.acknowledged.insert(value, offset);
                }
                return false;
            }
            // What a gateway says when nothing was appended, for certain.
            Some(ErrorCode::NotEnoughReplicas | ErrorCode::UnknownTopicOrPartition) if self.producer.is_none() => {
                self.promises.refused.extend(values);
            }
            _ => self.unsettled(partition, first, count),
        }
        true
    }
}

impl Process for Producer {
    fn handle(&mut self, context: &mut Context<'_>, input: Input) {
        match input {
            Input::Started | Input::DialFailed { .. } => self.dial(context),
            Input::Dialled { stream, .. } => self.stream = Some(stream),
            Input::Received { stream, payload: Payload::Frame(frame) } if self.stream == Some(stream) => {
                self.answered(context, frame);
            }
            Input::Closed { stream } if self.stream == Some(stream) => {
                self.stream = None;
                self.unanswered();
                self.dial(context);
            }
            Input::Ticked => {
                if self.wait_until.is_some_and(|until| until <= context.now.tick) {
                    self.wait_until = None;
                }
                if self.asked.as_ref().is_some_and(|asked| asked.give_up_at <= context.now.tick) {
                    self.unanswered();
                    if let Some(stream) = self.stream.take() {
                        context.close(stream);
                    }
                    self.dial(context);
                }
            }
            _ => {}
        }
        self.go_on(context);
    }

    fn next_deadline(&self) -> Option<Tick> {
        let asked = self.asked.as_ref().map(|asked| asked.give_up_at);
        asked.into_iter().chain(self.wait_until).min()
    }
}

/// Reads all partitions from the beginning, for ever.
pub struct Consumer {
    settings: Settings,
    stream: Option<StreamId>,
    gateway: i32,
    correlation: i32,
    asked_until: Option<Tick>,
    wait_until: Option<Tick>,
    pub positions: BTreeMap<i32, i64>,
    /// What was at each offset.
    pub seen: BTreeMap<(i32, i64), Value>,
    /// The first thing that cannot be right.
    pub complaint: Option<String>,
}

impl Consumer {
    pub fn new(settings: Settings) -> Consumer {
        Consumer {
            settings,
            stream: None,
            gateway: settings.id,
            correlation: 0,
            asked_until: None,
            wait_until: None,
            positions: (0..settings.partitions).map(|partition| (partition, 0)).collect(),
            seen: BTreeMap::new(),
            complaint: None,
        }
    }

    fn dial(&mut self, context: &mut Context<'_>) {
        self.gateway += 1;
        context.dial(ProcessId::Gateway(1 + self.gateway % self.settings.gateways), Purpose::Kafka, 0, PAUSE_MS);
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        let Some(stream) = self.stream.filter(|_| self.asked_until.is_none() && self.wait_until.is_none()) else {
            return;
        };
        let ask = |(&partition, &fetch_offset): (&i32, &i64)| FetchPartition {
            partition,
            fetch_offset,
            partition_max_bytes: 16 << 10,
            ..FetchPartition::default()
        };
        let request = FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 64 << 10,
            topics: vec![FetchTopic {
                topic: KafkaString::from_static(TOPIC),
                partitions: self.positions.iter().map(ask).collect(),
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        };
        self.correlation += 1;
        if let Some(frame) = frame(self.correlation, FETCH_VERSION, &request) {
            context.send(stream, Payload::Frame(frame));
            self.asked_until = Some(context.now.tick.plus_ms(ANSWER_MS_MAX));
        }
    }

    fn fetched(&mut self, context: &mut Context<'_>, frame: Bytes) {
        let (_, answer) = decode::<FetchRequest>(frame, FETCH_VERSION, self.correlation);
        for partition in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            if partition.error_code != 0 {
                self.wait_until = Some(context.now.tick.plus_ms(PAUSE_MS));
                continue;
            }
            let bytes = partition.records.map(kafka_wire::Records::into_contiguous).unwrap_or_default();
            self.take(partition.partition_index, partition.high_watermark, &bytes);
        }
    }

    fn take(&mut self, partition: i32, high_watermark: i64, bytes: &Bytes) {
        let Some(position) = self.positions.get_mut(&partition) else { return };
        let mut complaint = None;
        for (header, range) in batches(bytes).map_while(Result::ok) {
            let batch = StampedBatch::from_stored(bytes.slice(range));
            let records = batch.ok().and_then(|batch| batch.records(1 << 20).ok());
            let Some(records) = records else {
                complaint = Some(format!("partition {partition}: a damaged batch at {}", header.base_offset));
                break;
            };
            for record in records.map_while(Result::ok) {
                let offset = record.offset.0;
                if offset < *position {
                    continue;
                }
                if offset != *position {
                    complaint = Some(format!("R10: partition {partition}: {offset} follows {}", *position - 1));
                }
                if offset >= high_watermark {
                    complaint = Some(format!(
                        "W5: partition {partition}: {offset} served with high watermark {high_watermark}"
                    ));
                }
                *position = offset + 1;
                if let Some(value) = record.value.as_deref().and_then(Value::parse) {
                    self.seen.insert((partition, offset), value);
                }
            }
        }
        self.complaint = self.complaint.take().or(complaint);
    }
}

impl Process for Consumer {
    fn handle(&mut self, context: &mut Context<'_>, input: Input) {
        match input {
            Input::Started | Input::DialFailed { .. } => self.dial(context),
            Input::Dialled { stream, .. } => self.stream = Some(stream),
            Input::Received { stream, payload: Payload::Frame(frame) } if self.stream == Some(stream) => {
                self.asked_until = None;
                self.fetched(context, frame);
            }
            Input::Closed { stream } if self.stream == Some(stream) => {
                self.stream = None;
                self.asked_until = None;
                self.dial(context);
            }
            Input::Ticked => {
                if self.wait_until.is_some_and(|until| until <= context.now.tick) {
                    self.wait_until = None;
                }
                if self.asked_until.is_some_and(|until| until <= context.now.tick) {
                    self.asked_until = None;
                    if let Some(stream) = self.stream.take() {
                        context.close(stream);
                    }
                    self.dial(context);
                }
            }
            _ => {}
        }
        self.go_on(context);
    }

    fn next_deadline(&self) -> Option<Tick> {
        self.asked_until.into_iter().chain(self.wait_until).min()
    }
}

/// A request without its length prefix.
fn frame<R: Request>(correlation: i32, version: i16, request: &R) -> Option<Bytes> {
    let client_id = Some(KafkaString::from_static("sim"));
    let segments = encode_request(correlation, client_id, version, request).ok()?;
    let mut whole = BytesMut::new();
    segments.iter().for_each(|segment| whole.extend_from_slice(segment));
    Some(whole.freeze().slice(4..))
}

/// An answer that cannot be read is a bug of the gateway, which the run must not hide.
fn decode<R: Request>(frame: Bytes, version: i16, correlation: i32) -> (i32, R::Response) {
    match decode_response::<R>(frame, version) {
        Ok((answered, response)) => {
            assert_eq!(answered, correlation, "W1: an answer out of order");
            (answered, response)
        }
        Err(error) => panic!("an answer that is not Kafka's protocol: {error}"),
    }
}
