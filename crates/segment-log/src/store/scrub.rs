//! Reads what nobody asks for, so that damage is found while other copies are whole.
//!
//! The caller decides how fast. A step reads a piece of one segment; a round goes through all of them once, in order.

use std::ops::Bound;

use base_types::{Offset, TopicPartition};
use bytes::BytesMut;
use record_batch::{BatchHeader, HeaderError, StampedBatch};
use store_api::DiskError;

use super::{LogStore, read::Extent};
use crate::{
    ReadError,
    error::{CorruptBatch, Damage},
    replica::State,
    segment::Segment,
};

/// Where a round is. The default is the beginning of one.
#[derive(Clone, Debug, Default)]
pub struct ScrubCursor {
    at: Option<At>,
}

#[derive(Clone, Copy, Debug)]
struct At {
    tp: TopicPartition,
    segment: Offset,
    position: u64,
    expected: Offset,
}

/// What a step did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScrubStep {
    /// Read and verified.
    pub bytes: u64,
    /// Newly found; the rest of this replica is passed over.
    pub found: Option<CorruptBatch>,
    /// Everything was read once. The next step begins anew.
    pub is_round_over: bool,
}

/// A piece of a segment that was verified.
pub(super) struct Verified {
    pub(super) position: u64,
    pub(super) expected: Offset,
}

impl LogStore {
    /// Verifies about `bytes_max` bytes more: at least one batch. Replicas that are known to be damaged are passed over. What is in
    /// memory and in the journal only is not read: it is verified when it is needed.
    pub fn scrub(&self, cursor: &mut ScrubCursor, bytes_max: usize) -> Result<ScrubStep, DiskError> {
        loop {
            let Some(at) = self.scrub_target(cursor.at) else {
                *cursor = ScrubCursor::default();
                return Ok(ScrubStep { is_round_over: true, ..ScrubStep::default() });
            };
            cursor.at = Some(at);
            let Ok(replica) = self.replica(at.tp) else { continue };
            let (extent, cut) = {
                let state = replica.state();
                let segment = state.segments.iter().find(|segment| segment.base == at.segment);
                (segment.map(|segment| Extent::of(&state, segment)), state.cut)
            };
            // Cut or deleted meanwhile, or read to its end.
            let Some(extent) = extent.filter(|extent| extent.len > at.position) else {
                cursor.at = Some(At { position: u64::MAX, ..at });
                continue;
            };
            let result = self.verify_piece(at.tp, &extent, at.position, at.expected, bytes_max, |_, _| {});
            match self.noted(&replica, cut, result) {
                Ok(Verified { position, expected }) => {
                    cursor.at = Some(At { position, expected, ..at });
                    return Ok(ScrubStep { bytes: position - at.position, ..ScrubStep::default() });
                }
                Err(ReadError::Corrupt(found)) => return Ok(ScrubStep { found: Some(found), ..ScrubStep::default() }),
                // Not damage: a disk that fails for a moment would cost every replica it holds. The next step goes on behind this segment.
                Err(ReadError::Disk(error)) => {
                    cursor.at = Some(At { position: u64::MAX, ..at });
                    return Err(error);
                }
                Err(ReadError::OutOfRange { .. } | ReadError::NoReplica(_)) => {
                    cursor.at = Some(At { position: u64::MAX, ..at });
                }
            }
        }
    }

    /// Where to go on: in the same segment, else the next one of the replica, else the next replica that has one and is whole.
    fn scrub_target(&self, at: Option<At>) -> Option<At> {
        let start = |tp, segment| At { tp, segment, position: 0, expected: segment };
        if let Some(at) = at
            && let Ok(replica) = self.replica(at.tp)
        {
            let state = replica.state();
            let next = |segment: &&Segment| {
                segment.base > at.segment || segment.base == at.segment && segment.len > at.position
            };
            match state.segments.iter().filter(|_| state.damage.is_none()).find(next) {
                Some(segment) if segment.base == at.segment => return Some(at),
                Some(segment) => return Some(start(at.tp, segment.base)),
                None => {}
            }
        }
        let from = at.map_or(Bound::Unbounded, |at| Bound::Excluded(at.tp));
        let replicas = self.read_replicas();
        replicas.range((from, Bound::Unbounded)).find_map(|(tp, replica)| {
            let state = replica.state();
            let first = state.segments.iter().find(|segment| segment.len > 0 && state.damage.is_none());
            first.map(|segment| start(*tp, segment.base))
        })
    }

    /// Verifies whole batches from `position` on, where the next base offset is at least `expected`: about `bytes_max` bytes, one batch at
    /// the least. Shows each with its position.
    pub(super) fn verify_piece(
        &self,
        tp: TopicPartition,
        extent: &Extent,
        position: u64,
        expected: Offset,
        bytes_max: usize,
        mut each: impl FnMut(u64, &BatchHeader),
    ) -> Result<Verified, ReadError> {
        let file = self.open_segment(tp, extent.segment)?;
        let damaged = |position, damage| CorruptBatch { tp, segment: extent.segment, position, damage };
        let mut done = Verified { position, expected };
        let mut wanted = bytes_max;
        loop {
            let left = extent.len - done.position;
            let mut buffer = BytesMut::zeroed((wanted as u64).min(left) as usize);
            let have = file.read_at(done.position, &mut buffer)?;
            if have < buffer.len() {
                let damage = Damage::Short { wanted: extent.len, have: done.position + have as u64 };
                return Err(damaged(done.position, damage).into());
            }
            let mut rest = buffer.freeze();
            while !rest.is_empty() {
                let at = done.position;
                let header = match BatchHeader::parse(&rest) {
                    Ok(header) if header.size() as u64 > extent.len - at => {
                        let damage = Damage::Short { wanted: header.size() as u64, have: extent.len - at };
                        return Err(damaged(at, damage).into());
                    }
                    Ok(header) if header.size() > rest.len() => {
                        wanted = header.size();
                        break;
                    }
                    Ok(header) => header,
                    Err(HeaderError::Incomplete { .. }) if rest.len() as u64 != extent.len - at => break,
                    Err(error) => return Err(damaged(at, Damage::Batch(error.into())).into()),
                };
                let found = header.base_offset;
                if found < done.expected {
                    return Err(damaged(at, Damage::Misplaced { expected: done.expected, found }).into());
                }
                let batch = StampedBatch::from_stored(rest.split_to(header.size()));
                batch.map_err(|error| damaged(at, Damage::Batch(error)))?;
                let (epoch, found) = (State::epoch_at(&extent.epochs, header.base_offset), header.leader_epoch);
                if epoch != found {
                    return Err(damaged(at, Damage::Epoch { expected: epoch, found }).into());
                }
                done.position += header.size() as u64;
                done.expected = header.next_offset();
                if done.position == extent.len && done.expected > extent.next_offset {
                    let (expected, found) = (extent.next_offset, done.expected);
                    return Err(damaged(at, Damage::Misplaced { expected, found }).into());
                }
                each(at, &header);
            }
            if done.position > position {
                return Ok(done);
            }
            wanted = wanted.max(1 << 10);
        }
    }
}
