//! What a partition remembers of its idempotent producers (KIP-98): the last five batches of each.
//!
//! The state is derived from the log and is the same on every replica at the same offset (P5). The leader asks
//! [`ProducerState::check`] before it appends; leader and follower alike then [`ProducerState::append`] what was appended.
//!
//! Invariants kept: P1–P4, P8.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use base_types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, planted};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use peer_api::storage::{ActiveProducer, AppendError};
use record_batch::BatchHeader;

/// Kafka keeps as many, hence at most five produce requests in flight for an idempotent client.
const BATCHES_RETAINED: usize = 5;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ProducerState {
    producers: BTreeMap<ProducerId, Producer>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Producer {
    epoch: ProducerEpoch,
    last_timestamp: Timestamp,
    /// Oldest first, never empty.
    batches: VecDeque<Appended>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
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

    /// Whether a batch is numbered by a producer of which nothing is known.
    pub fn is_first_of(&self, batch: &BatchHeader) -> bool {
        batch.has_producer_id() && !self.producers.contains_key(&batch.producer_id)
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
        let retained = if planted!(WindowOfFour) { 4 } else { BATCHES_RETAINED };
        if producer.batches.len() == retained {
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
            if producers.insert(id, Producer { epoch, last_timestamp, batches }).is_some() {
                return Err(DecodeError);
            }
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

#[cfg(test)]
mod tests {
    use base_types::{LeaderEpoch, Random};
    use record_batch::Attributes;

    use super::*;

    fn batch(id: i64, epoch: i16, sequence: i32, records: i32, base_offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset: Offset(base_offset),
            length: 100,
            leader_epoch: LeaderEpoch(1),
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: records - 1,
            base_timestamp: Timestamp(5),
            max_timestamp: Timestamp(base_offset * 10),
            producer_id: ProducerId(id),
            producer_epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
            record_count: records,
        }
    }

    /// Producer 7 in epoch 1 with `batches` of two records each, from offset 0 on.
    fn state(batches: i32) -> ProducerState {
        let mut state = ProducerState::default();
        (0..batches).for_each(|n| state.append(&batch(7, 1, 2 * n, 2, i64::from(2 * n))));
        state
    }

    fn gap(expected: i32, got: i32) -> Result<Verdict, AppendError> {
        Err(AppendError::OutOfOrderSequence { expected: Sequence(expected), got: Sequence(got) })
    }

    fn duplicate(base_offset: i64) -> Result<Verdict, AppendError> {
        Ok(Verdict::Duplicate {
            base_offset: Offset(base_offset),
            next_offset: Offset(base_offset + 2),
            timestamp: Timestamp(base_offset * 10),
        })
    }

    #[test]
    fn the_next_sequence_is_appended_and_a_gap_is_refused() {
        assert_eq!(state(3).check(&batch(7, 1, 6, 1, 0)), Ok(Verdict::Append));
        assert_eq!(state(3).check(&batch(7, 1, 7, 1, 0)), gap(6, 7));
    }

    #[test]
    fn each_of_the_last_five_batches_is_known_again_and_the_sixth_is_not() {
        let state = state(7);
        for n in 2..7 {
            assert_eq!(state.check(&batch(7, 1, 2 * n, 2, 0)), duplicate(i64::from(2 * n)));
        }
        assert_eq!(state.check(&batch(7, 1, 2, 2, 0)), gap(14, 2));
    }

    #[test]
    fn a_batch_cut_otherwise_than_the_first_time_is_no_duplicate() {
        assert_eq!(state(2).check(&batch(7, 1, 2, 1, 0)), gap(4, 2));
        assert_eq!(state(2).check(&batch(7, 1, 3, 2, 0)), gap(4, 3));
    }

    #[test]
    fn a_newer_epoch_begins_at_zero_and_fences_the_older_one() {
        let mut state = state(2);
        assert_eq!(state.check(&batch(7, 2, 4, 1, 0)), gap(0, 4));
        assert_eq!(state.check(&batch(7, 2, 0, 2, 0)), Ok(Verdict::Append), "not the first batch of the old epoch");
        state.append(&batch(7, 2, 0, 2, 4));
        let fenced = AppendError::InvalidProducerEpoch { current: ProducerEpoch(2), got: ProducerEpoch(1) };
        assert_eq!(state.check(&batch(7, 1, 4, 1, 0)), Err(fenced));
        assert_eq!(state.check(&batch(7, 2, 2, 1, 0)), Ok(Verdict::Append));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut state = ProducerState::default();
        state.append(&batch(7, 0, i32::MAX - 1, 3, 0));
        assert_eq!(state.check(&batch(7, 0, 1, 1, 0)), Ok(Verdict::Append));
        assert_eq!(state.check(&batch(7, 0, 0, 1, 0)), gap(1, 0));
        assert!(matches!(state.check(&batch(7, 0, i32::MAX - 1, 3, 0)), Ok(Verdict::Duplicate { .. })));
    }

    #[test]
    fn batches_of_nobody_and_control_batches_leave_no_trace() {
        let mut state = ProducerState::default();
        state.append(&batch(-1, -1, -1, 1, 0));
        state.append(&BatchHeader { attributes: Attributes::default().with_control(true), ..batch(7, 0, -1, 1, 1) });
        assert_eq!(state, ProducerState::default());
        assert_eq!(state.check(&batch(-1, -1, -1, 1, 0)), Ok(Verdict::Append));
    }

    #[test]
    fn producers_do_not_see_each_other() {
        assert_eq!(state(3).check(&batch(8, 0, 0, 1, 0)), Ok(Verdict::Append));
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut state = state(7);
        state.append(&batch(9, 3, i32::MAX, 2, 40));
        assert_eq!(ProducerState::decode(&state.encode()), Ok(state.clone()));
        assert_eq!(ProducerState::decode(&ProducerState::default().encode()), Ok(ProducerState::default()));
        let listed: Vec<_> = state.active().map(|active| (active.producer_id.0, active.last_sequence.0)).collect();
        assert_eq!(listed, [(7, 13), (9, 0)]);
    }

    #[test]
    fn the_layout_stays() {
        let bytes = state(1).encode();
        let expected = [
            &[1, 0, 0, 0, 1][..],
            &7i64.to_be_bytes(),
            &1i16.to_be_bytes(),
            &0i64.to_be_bytes(),
            &[1],
            &0i32.to_be_bytes(),
            &1i32.to_be_bytes(),
            &0i64.to_be_bytes(),
            &2i64.to_be_bytes(),
            &0i64.to_be_bytes(),
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn damaged_bytes_are_refused_or_decode_to_something_and_never_panic() {
        let good = state(6).encode();
        for len in 0..good.len() {
            assert_eq!(ProducerState::decode(&good[..len]), Err(DecodeError), "cut at {len}");
        }
        assert_eq!(ProducerState::decode(&[&good[..], &[0]].concat()), Err(DecodeError), "one byte too many");
        let twice = [&[1, 0, 0, 0, 2], &good[5..], &good[5..]].concat();
        assert_eq!(ProducerState::decode(&twice), Err(DecodeError), "one producer twice");
        let mut random = Random::new(1);
        for _ in 0..10_000 {
            let mut bytes = good.to_vec();
            for _ in 0..random.between(1, 4) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
            }
            let _ = ProducerState::decode(&bytes);
        }
        for (at, byte) in [(0, 2), (23, 0), (23, 6), (1, 0xff)] {
            let mut bytes = good.to_vec();
            bytes[at] = byte;
            assert_eq!(ProducerState::decode(&bytes), Err(DecodeError), "{byte} at {at}");
        }
    }
}
