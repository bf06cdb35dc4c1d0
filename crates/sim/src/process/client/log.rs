//! Producers that know what they were promised, and a consumer that remembers what it saw.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{ErrorCode, ProducerEpoch, ProducerId, Sequence, Tick, Timestamp};
use bytes::Bytes;
use kafka_wire::k00_produce::{PartitionProduceData, TopicProduceData};
use kafka_wire::k01_fetch::{FetchPartition, FetchTopic};
use kafka_wire::k19_create_topics::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::k44_incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use kafka_wire::{
    CreateTopicsRequest, FetchRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, KafkaString,
    ProduceRequest,
};
use record_batch::{BatchBuilder, Compression, Producer as BatchProducer, StampedBatch, batches};

use super::{Connection, Gateways, News, PAUSE_MS, TOPIC};
use crate::world::{Context, Input, Process};

const CREATE_VERSION: i16 = 7;
const CONFIGURE_VERSION: i16 = 1;
const INIT_VERSION: i16 = 4;
const PRODUCE_VERSION: i16 = 9;
pub(super) const FETCH_VERSION: i16 = 12;
const ANSWER_MS_MAX: u64 = 8_000;

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
    /// Tells the cluster so: topics that do not say otherwise need as many in sync.
    pub min_insync_replicas: Option<u8>,
    /// Between an answer and the next batch.
    pub pace_ms: u64,
    /// Sends nothing new after this.
    pub stop_ms: u64,
}

impl Settings {
    fn connection(&self) -> Connection {
        Connection::new(0, Gateways::Any { count: self.gateways, last: self.id })
    }
}

pub struct Producer {
    settings: Settings,
    pub promises: Promises,
    connection: Connection,
    asked: Option<What>,
    wait_until: Option<Tick>,
    topic_exists: bool,
    is_configured: bool,
    producer: Option<(ProducerId, ProducerEpoch)>,
    next: BTreeMap<i32, u64>,
    /// An idempotent batch that must be sent again before anything else of its partition.
    again: Option<(i32, u64, u64)>,
    turn: i32,
}

#[derive(Clone, Copy)]
enum What {
    Create,
    Configure,
    Init,
    /// Partition, first number, count.
    Produce(i32, u64, u64),
}

impl Producer {
    pub fn new(settings: Settings) -> Producer {
        Producer {
            settings,
            promises: Promises::default(),
            connection: settings.connection(),
            asked: None,
            wait_until: None,
            topic_exists: !settings.creates,
            is_configured: settings.min_insync_replicas.is_none(),
            producer: None,
            next: BTreeMap::new(),
            again: None,
            turn: settings.id,
        }
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        if self.asked.is_some() || !self.connection.is_free() || self.wait_until.is_some() {
            return;
        }
        if !self.topic_exists {
            let request = CreateTopicsRequest { topics: vec![self.topic()], timeout_ms: 5_000, validate_only: false };
            self.asked = Some(What::Create);
            self.connection.ask(context, CREATE_VERSION, &request, ANSWER_MS_MAX);
        } else if !self.is_configured {
            self.asked = Some(What::Configure);
            let request = self.configuration();
            self.connection.ask(context, CONFIGURE_VERSION, &request, ANSWER_MS_MAX);
        } else if self.settings.idempotent && self.producer.is_none() {
            let request = InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
            self.asked = Some(What::Init);
            self.connection.ask(context, INIT_VERSION, &request, ANSWER_MS_MAX);
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

    fn topic(&self) -> CreatableTopic {
        let min_insync_replicas = CreatableTopicConfig {
            name: KafkaString::from_static("min.insync.replicas"),
            value: Some(KafkaString::from_static("2")),
        };
        CreatableTopic {
            name: KafkaString::from_static(TOPIC),
            num_partitions: self.settings.partitions,
            replication_factor: self.settings.replication_factor,
            configs: vec![min_insync_replicas],
            ..CreatableTopic::default()
        }
    }

    fn configuration(&self) -> IncrementalAlterConfigsRequest {
        const OF_BROKERS: i8 = 4;
        let config = AlterableConfig {
            name: KafkaString::from_static("min.insync.replicas"),
            config_operation: 0,
            value: self.settings.min_insync_replicas.map(|count| count.to_string().into()),
        };
        let everyone = AlterConfigsResource {
            resource_type: OF_BROKERS,
            configs: vec![config],
            ..AlterConfigsResource::default()
        };
        IncrementalAlterConfigsRequest { resources: vec![everyone], validate_only: false }
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
        self.asked = Some(What::Produce(partition, first, count));
        self.connection.ask(context, PRODUCE_VERSION, &request, ANSWER_MS_MAX);
    }

    fn values(&self, partition: i32, first: u64, count: u64) -> impl Iterator<Item = Value> + use<> {
        let client = self.settings.id;
        (first..first + count).map(move |number| Value { client, partition, number })
    }

    /// No answer will come.
    fn unanswered(&mut self) {
        if let Some(What::Produce(partition, first, count)) = self.asked.take() {
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
        let pause_ms = match asked {
            What::Create => {
                let answer = self.connection.decode::<CreateTopicsRequest>(frame, CREATE_VERSION);
                let code = answer.topics.first().map_or(-1, |topic| topic.error_code);
                self.topic_exists = code == 0 || code == ErrorCode::TopicAlreadyExists.code();
                if self.topic_exists { 0 } else { PAUSE_MS }
            }
            What::Configure => {
                let answer = self.connection.decode::<IncrementalAlterConfigsRequest>(frame, CONFIGURE_VERSION);
                self.is_configured = answer.responses.iter().all(|resource| resource.error_code == 0);
                if self.is_configured { 0 } else { PAUSE_MS }
            }
            What::Init => {
                let answer = self.connection.decode::<InitProducerIdRequest>(frame, INIT_VERSION);
                if answer.error_code == 0 {
                    self.producer = Some((ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch)));
                }
                if answer.error_code == 0 { 0 } else { PAUSE_MS }
            }
            What::Produce(partition, first, count) => {
                let answer = self.connection.decode::<ProduceRequest>(frame, PRODUCE_VERSION);
                let answer = answer.responses.first().and_then(|topic| topic.partition_responses.first());
                let (code, base) = answer.map_or((-1, -1), |answer| (answer.error_code, answer.base_offset));
                self.produced(partition, first, count, code, base)
            }
        };
        if pause_ms > 0 {
            self.wait_until = Some(context.now.tick.plus_ms(pause_ms));
        }
    }

    /// How long to wait before the next batch, or the next attempt.
    fn produced(&mut self, partition: i32, first: u64, count: u64, code: i16, base: i64) -> u64 {
        let values: Vec<Value> = self.values(partition, first, count).collect();
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => {
                for (value, offset) in values.into_iter().zip(base..) {
                    self.promises.acknowledged.insert(value, offset);
                }
                return self.settings.pace_ms;
            }
            // What a gateway says when nothing was appended, for certain.
            Some(ErrorCode::NotEnoughReplicas | ErrorCode::UnknownTopicOrPartition) if self.producer.is_none() => {
                self.promises.refused.extend(values);
            }
            _ => self.unsettled(partition, first, count),
        }
        PAUSE_MS
    }
}

impl Process for Producer {
    fn handle(&mut self, context: &mut Context<'_>, input: Input) {
        match self.connection.handle(context, &input) {
            News::Nothing => {}
            News::Answered(frame) => self.answered(context, frame),
            News::Unanswered => self.unanswered(),
        }
        self.wait_until.take_if(|until| *until <= context.now.tick);
        self.go_on(context);
    }

    fn next_deadline(&self) -> Option<Tick> {
        self.connection.next_deadline().into_iter().chain(self.wait_until).min()
    }
}

/// Reads all partitions from the beginning, for ever.
pub struct Consumer {
    connection: Connection,
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
            connection: settings.connection(),
            wait_until: None,
            positions: (0..settings.partitions).map(|partition| (partition, 0)).collect(),
            seen: BTreeMap::new(),
            complaint: None,
        }
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        if self.connection.is_free() && self.wait_until.is_none() {
            let request = fetch(self.positions.iter().map(|(&partition, &position)| (partition, position)));
            self.connection.ask(context, FETCH_VERSION, &request, ANSWER_MS_MAX);
        }
    }

    fn fetched(&mut self, context: &mut Context<'_>, frame: Bytes) {
        let answer = self.connection.decode::<FetchRequest>(frame, FETCH_VERSION);
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
        if let News::Answered(frame) = self.connection.handle(context, &input) {
            self.fetched(context, frame);
        }
        self.wait_until.take_if(|until| *until <= context.now.tick);
        self.go_on(context);
    }

    fn next_deadline(&self) -> Option<Tick> {
        self.connection.next_deadline().into_iter().chain(self.wait_until).min()
    }
}

/// What waits for half a second at most, from these offsets on.
pub(super) fn fetch(positions: impl Iterator<Item = (i32, i64)>) -> FetchRequest {
    let ask = |(partition, fetch_offset)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 16 << 10,
        ..FetchPartition::default()
    };
    let topic = FetchTopic {
        topic: KafkaString::from_static(TOPIC),
        partitions: positions.map(ask).collect(),
        ..FetchTopic::default()
    };
    FetchRequest { max_wait_ms: 500, min_bytes: 1, max_bytes: 64 << 10, topics: vec![topic], ..FetchRequest::default() }
}
