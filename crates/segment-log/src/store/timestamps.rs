//! Offsets by time.
//!
//! Batches are found by the max timestamp in their headers, records by reading the one batch that matters.

use base_types::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use record_batch::{BatchHeader, HEADER_LEN, Records, TimestampType};

use super::LogStore;
use crate::{ReadError, replica::Replica, segment::index::Index};

/// What a batch may become when its records are read here. The largest batch a broker takes by default is 1 MiB.
const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// A record found by its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimestampHit {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub leader_epoch: LeaderEpoch,
}

impl LogStore {
    /// The first record below `below` whose timestamp is `timestamp` or later.
    pub fn find_timestamp(
        &self,
        tp: TopicPartition,
        timestamp: Timestamp,
        below: Offset,
    ) -> Result<Option<TimestampHit>, ReadError> {
        let replica = self.replica(tp).map_err(|_| ReadError::NoReplica(tp))?;
        let cut = replica.state().cut;
        self.noted(&replica, cut, self.find_timestamp_in(&replica, timestamp, below))
    }

    fn find_timestamp_in(
        &self,
        replica: &Replica,
        timestamp: Timestamp,
        below: Offset,
    ) -> Result<Option<TimestampHit>, ReadError> {
        let tp = replica.tp;
        let (log_start, log_end) = {
            let state = replica.state();
            (state.log_start, state.log_end)
        };
        let below = below.min(log_end);
        let mut from = self.first_candidate(replica, timestamp, log_start)?;
        while from < below {
            let mut found: Option<BatchHeader> = None;
            self.walk_headers(replica, from, below, |header| {
                if header.max_timestamp >= timestamp {
                    found = Some(*header);
                }
                found.is_none()
            })?;
            let Some(header) = found else { return Ok(None) };
            let hit = self.record_at(tp, &header, log_start, below, |time| time >= timestamp)?;
            if hit.is_some() {
                return Ok(hit);
            }
            from = header.next_offset();
        }
        Ok(None)
    }

    /// The record below `below` with the largest timestamp; the first of several (KIP-734).
    pub fn find_max_timestamp(&self, tp: TopicPartition, below: Offset) -> Result<Option<TimestampHit>, ReadError> {
        let replica = self.replica(tp).map_err(|_| ReadError::NoReplica(tp))?;
        let (log_start, log_end, cut) = {
            let state = replica.state();
            (state.log_start, state.log_end, state.cut)
        };
        let below = below.min(log_end);
        let mut best: Option<BatchHeader> = None;
        let walked = self.walk_headers(&replica, log_start, below, |header| {
            let in_range = header.next_offset() <= below;
            if in_range && best.is_none_or(|best| header.max_timestamp > best.max_timestamp) {
                best = Some(*header);
            }
            true
        });
        self.noted(&replica, cut, walked)?;
        match best {
            Some(header) => self.record_at(tp, &header, log_start, below, |time| time >= header.max_timestamp),
            None => Ok(None),
        }
    }

    /// An offset at or before the first batch with such a timestamp, by segments and their indexes.
    fn first_candidate(&self, replica: &Replica, timestamp: Timestamp, log_start: Offset) -> Result<Offset, ReadError> {
        let found = {
            let state = replica.state();
            let late = state.segments.iter().find(|segment| segment.max_timestamp >= timestamp);
            match late {
                Some(segment) => (segment.base, segment.len),
                // None of the segments: only what is pending can.
                None => return Ok(state.placed_end.max(log_start)),
            }
        };
        let (segment, len) = found;
        let file = self.open_segment(replica.tp, segment)?;
        let floor = |index: &Index| index.floor_timestamp(segment, timestamp);
        let at = self.with_index(replica, file.as_ref(), segment, len, floor)?;
        let mut walk = crate::segment::walk::SegmentWalk::new(file.as_ref(), replica.tp, segment, at, len);
        let first = walk.next().transpose()?.map_or(segment, |(_, header)| header.base_offset);
        Ok(first.max(log_start))
    }

    /// The first record of a batch whose time is as wanted and whose offset is within bounds.
    fn record_at(
        &self,
        tp: TopicPartition,
        header: &BatchHeader,
        log_start: Offset,
        below: Offset,
        wanted: impl Fn(Timestamp) -> bool,
    ) -> Result<Option<TimestampHit>, ReadError> {
        let hit = |offset, timestamp| TimestampHit { offset, timestamp, leader_epoch: header.leader_epoch };
        let first = header.base_offset.max(log_start);
        if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
            return Ok(wanted(header.max_timestamp).then(|| hit(first, header.max_timestamp)));
        }
        let read = self.read(tp, first, Offset(i64::MAX), 0)?;
        let Some(batch) = read.batches.first() else { return Ok(None) };
        let Ok(records) = Records::read(header, batch.slice(HEADER_LEN.min(batch.len())..), DECOMPRESSED_BYTES_MAX)
        else {
            // Header-only validation lets unreadable records in. The batch is as near as anyone can get.
            return Ok(wanted(header.max_timestamp).then(|| hit(first, header.max_timestamp)));
        };
        let within = |offset: Offset| offset >= log_start && offset < below;
        let found = records
            .map_while(Result::ok)
            .find(|record| within(record.offset) && wanted(record.timestamp))
            .map(|record| hit(record.offset, record.timestamp));
        Ok(found)
    }
}
