//! What a partition remembers of its idempotent producers (KIP-98): the last five batches of each.
//!
//! The state is derived from the log and is the same on every replica at the same offset (P5). The leader asks
//! [`ProducerState::check`] before it appends; leader and follower alike then [`ProducerState::append`] what was appended.
//!
//! Invariants kept: P1–P4, P8.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use base_types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use peer_api::storage::{ActiveProducer, AppendError};
use record_batch::BatchHeader;

/// Kafka keeps as many, hence at most five produce requests in flight for an idempotent client.
const BATCHES_RETAINED: usize = 5;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerState {
    producers: BTreeMap<ProducerId, Producer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    last_timestamp: Timestamp,
    /// Oldest first, never empty.
    batches: VecDeque<Appended>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Appended {
    base_sequence: Sequence,
    last_sequence: Sequence,
    base_offset: Offset,
    next_offset: Offset,
    timestamp: Timestamp,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Append,
    /// It is in the log already: answer as for the first time (P2).
    Duplicate {
        base_offset: Offset,
        next_offset: Offset,
        timestamp: Timestamp,
    },
}

impl ProducerState {
    pub fn check(&self, batch: &BatchHeader) -> Result<Verdict, AppendError> {
        let Some(producer) = self.producers.get(&batch.producer_id) else {
            // No producer id; or nothing is known of it: it is new, or its records were removed. Kafka takes any sequence then.
            return Ok(Verdict::Append);
        };
        if batch.producer_epoch < producer.epoch {
            return Err(AppendError::InvalidProducerEpoch { current: producer.epoch, got: batch.producer_epoch });
        }
        if batch.producer_epoch > producer.epoch {
            return match batch.base_sequence {
                Sequence(0) => Ok(Verdict::Append),
                got => Err(AppendError::OutOfOrderSequence { expected: Sequence(0), got }),
            };
        }
        let same = |known: &&Appended| {
            known.base_sequence == batch.base_sequence && known.last_sequence == batch.last_sequence()
        };
        if let Some(known) = producer.batches.iter().find(same) {
            return Ok(Verdict::Duplicate {
                base_offset: known.base_offset,
                next_offset: known.next_offset,
                timestamp: known.timestamp,
            });
        }
        match producer.batches.back() {
            Some(last) if last.last_sequence.plus(1) != batch.base_sequence => {
                Err(AppendError::OutOfOrderSequence { expected: last.last_sequence.plus(1), got: batch.base_sequence })
            }
            _ => Ok(Verdict::Append),
        }
    }

    /// Remembers a batch that is now part of the log. Batches without a producer id leave no trace.
    pub fn append(&mut self, batch: &BatchHeader) {
        if !batch.has_producer_id() || batch.attributes.is_control() {
            return;
        }
        let appended = Appended {
            base_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset: batch.base_offset,
            next_offset: batch.next_offset(),
            timestamp: batch.max_timestamp,
        };
        let producer = self.producers.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.producer_epoch,
            last_timestamp: batch.max_timestamp,
            batches: VecDeque::with_capacity(BATCHES_RETAINED),
        });
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_RETAINED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(appended);
        producer.last_timestamp = batch.max_timestamp;
    }

    pub fn active(&self) -> impl Iterator<Item = ActiveProducer> {
        self.producers.iter().map(|(&producer_id, producer)| ActiveProducer {
            producer_id,
            producer_epoch: producer.epoch,
            last_sequence: producer.batches.back().map_or(Sequence::NONE, |last| last.last_sequence),
            last_timestamp: producer.last_timestamp,
        })
    }

    /// Layout, big endian: version u8 = 1, count u32, then for each producer: id i64, epoch i16, last timestamp i64, batches u8,
    /// and for each batch: base sequence i32, last sequence i32, base offset i64, next offset i64, timestamp i64.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(5 + self.producers.len() * (19 + 32));
        out.put_u8(VERSION);
        out.put_u32(self.producers.len() as u32);
        for (id, producer) in &self.producers {
            out.put_i64(id.0);
            out.put_i16(producer.epoch.0);
            out.put_i64(producer.last_timestamp.0);
            out.put_u8(producer.batches.len() as u8);
            for batch in &producer.batches {
                out.put_i32(batch.base_sequence.0);
                out.put_i32(batch.last_sequence.0);
                out.put_i64(batch.base_offset.0);
                out.put_i64(batch.next_offset.0);
                out.put_i64(batch.timestamp.0);
            }
        }
        out.freeze()
    }

    pub fn decode(mut bytes: &[u8]) -> Result<ProducerState, DecodeError> {
        let input = &mut bytes;
        if input.try_get_u8()? != VERSION {
            return Err(DecodeError);
        }
        let mut producers = BTreeMap::new();
        for _ in 0..input.try_get_u32()? {
            let id = ProducerId(input.try_get_i64()?);
            let epoch = ProducerEpoch(input.try_get_i16()?);
            let last_timestamp = Timestamp(input.try_get_i64()?);
            let count = usize::from(input.try_get_u8()?);
            if count == 0 || count > BATCHES_RETAINED {
                return Err(DecodeError);
            }
            let mut batches = VecDeque::with_capacity(count);
            for _ in 0..count {
                batches.push_back(Appended {
                    base_sequence: Sequence(input.try_get_i32()?),
                    last_sequence: Sequence(input.try_get_i32()?),
                    base_offset: Offset(input.try_get_i64()?),
                    next_offset: Offset(input.try_get_i64()?),
                    timestamp: Timestamp(input.try_get_i64()?),
                });
            }
            producers.insert(id, Producer { epoch, last_timestamp, batches });
        }
        if input.has_remaining() { Err(DecodeError) } else { Ok(ProducerState { producers }) }
    }
}

const VERSION: u8 = 1;

/// The bytes are no producer state. It is derived, so whoever meets this rebuilds it from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError;

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a producer state of version 1")
    }
}

impl std::error::Error for DecodeError {}

impl From<bytes::TryGetError> for DecodeError {
    fn from(_: bytes::TryGetError) -> DecodeError {
        DecodeError
    }
}
