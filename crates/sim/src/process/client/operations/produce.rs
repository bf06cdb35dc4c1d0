//! Produce: record batches for partitions.
//!
//! Legal answers, and what each says of a batch whose first attempt it is (R17; `gateway-core/src/api/deviations.md`):
//!
//! | answer | the records |
//! |---|---|
//! | none | are durable at the offset told, with acks=all; may be there, with less |
//! | REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS_AFTER_APPEND, no answer | may be there, or come to be |
//! | any other | are not there and never will be |
//!
//! Of an idempotent batch that was sent before, nothing is certain but its acknowledgement: it is sent again until that comes, and is there once (P1),
//! at the offset told (P2). OUT_OF_ORDER_SEQUENCE_NUMBER is legal only behind a batch that is not settled (P3), and
//! INVALID_PRODUCER_EPOCH never for a producer with one epoch (P4).

use base_types::{ErrorCode, ProducerEpoch, ProducerId, Sequence, Timestamp};
use bytes::Bytes;
use kafka_wire::k00_produce::{PartitionProduceData, TopicProduceData};
use kafka_wire::{KafkaString, ProduceRequest, ProduceResponse};
use record_batch::{BatchBuilder, Compression, Producer};

use super::{Notes, Operation};
use crate::process::client::book::{Sends, Topic};

/// Topics are named by id from here on.
pub const BY_ID: i16 = 13;
pub const ACKS_ALL: i16 = -1;

#[derive(Clone)]
pub struct Produce {
    pub version: i16,
    pub acks: i16,
    pub parts: Vec<Part>,
}

/// One batch for one partition.
#[derive(Clone)]
pub struct Part {
    pub topic: Topic,
    pub partition: i32,
    pub batch: Batch,
}

#[derive(Clone)]
pub struct Batch {
    pub sends: Sends,
    pub records: Bytes,
    /// `None`: not idempotent.
    pub sequence: Option<i32>,
    /// An attempt may have been appended.
    pub may_be_there: bool,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// At this offset, or wherever it was before.
    There(Option<i64>),
    /// This attempt left nothing.
    NotThere(ErrorCode),
    Unknown,
}

/// Values as records with a filler that shows whether bytes were mixed up.
pub fn batch(sends: &Sends, producer: Option<(ProducerId, ProducerEpoch, i32)>, time: Timestamp) -> Bytes {
    let mut batch = BatchBuilder::new(Compression::None);
    if let Some((id, epoch, sequence)) = producer {
        batch = batch.producer(Producer { id, epoch, base_sequence: Sequence(sequence) });
    }
    for value in sends.clone() {
        batch.push(None, Some(&payload(value)), &[], time);
    }
    batch.build().unwrap_or_else(|error| panic!("a client's batch cannot be built: {error:?}"))
}

/// Eight bytes of the value, and up to 63 that follow from it.
fn payload(value: u64) -> Vec<u8> {
    let mixed = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let filler = (0..mixed >> 58).map(|place| (mixed >> (place % 50)) as u8);
    value.to_be_bytes().into_iter().chain(filler).collect()
}

/// The value of a record that is as it was sent.
pub fn value_of(record: &[u8]) -> Option<u64> {
    let value = u64::from_be_bytes(*record.first_chunk()?);
    (payload(value) == record).then_some(value)
}

impl Operation for Produce {
    type Request = ProduceRequest;
    type Outcome = Vec<(Part, Fate)>;

    fn version(&self) -> i16 {
        self.version
    }

    fn request(&self) -> ProduceRequest {
        let by_id = self.version >= BY_ID;
        let topic = |part: &Part| TopicProduceData {
            name: if by_id { KafkaString::default() } else { part.topic.name.as_str().into() },
            topic_id: if by_id { part.topic.id } else { Default::default() },
            partition_data: vec![PartitionProduceData {
                index: part.partition,
                records: Some(part.batch.records.clone()),
            }],
        };
        let topic_data = self.parts.iter().map(topic).collect();
        ProduceRequest { transactional_id: None, acks: self.acks, timeout_ms: 3_000, topic_data }
    }

    /// In the order of the request. Nothing is settled yet: whoever sent it knows whether it sends it again.
    fn answered(self, notes: &mut Notes<'_>, answer: ProduceResponse) -> Vec<(Part, Fate)> {
        let mut answers = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        let mut fates = Vec::new();
        for part in self.parts {
            let told = answers.next().filter(|told| told.index == part.partition);
            let Some(told) = told else {
                notes.book.complain("answer", "Produce is answered without one of its partitions");
                break;
            };
            let fate = fate(notes, told.error_code, told.base_offset);
            fates.push((part, fate));
        }
        fates
    }
}

fn fate(notes: &mut Notes<'_>, code: i16, base_offset: i64) -> Fate {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Fate::There((base_offset >= 0).then_some(base_offset)),
        Some(ErrorCode::DuplicateSequenceNumber) => Fate::There(None),
        Some(ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend) => Fate::Unknown,
        Some(
            code @ (ErrorCode::NotLeaderOrFollower
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::NotEnoughReplicas
            // A nearly full disk.
            | ErrorCode::KafkaStorageError
            // A clock that went wrong.
            | ErrorCode::InvalidTimestamp
            | ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::InvalidProducerEpoch),
        ) => Fate::NotThere(code),
        _ => {
            notes.never("Produce", code);
            Fate::Unknown
        }
    }
}
