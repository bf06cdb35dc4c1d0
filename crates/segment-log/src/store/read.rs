//! Reading: from memory by reference where the tail still has it, else from segments with every checksum verified (S3).
//!
//! The checksum of a batch covers neither its base offset nor its leader epoch. For the offset its neighbours vouch, the index, and the
//! known end of the segment; for the epoch the log's list of epochs. Headers on the way to a batch are believed, unless the way
//! ends in a gap: then the batch before the gap is verified, for it may hide the one that was looked for.

use std::sync::{Arc, atomic::Ordering};

use base_types::{LeaderEpoch, Offset, TopicPartition};
use bytes::{Bytes, BytesMut};
use record_batch::{BatchHeader, HEADER_LEN, StampedBatch};
use store_api::VfsFile;

use super::LogStore;
use crate::{
    ReadError, StoreError,
    error::{CorruptBatch, Damage},
    keys::segment_index,
    replica::{Replica, State, TailBatch},
    segment::{
        Segment,
        index::{Index, Place},
        walk::SegmentWalk,
    },
};

/// A reader may meet a truncation this many times before it is told that the offset is out of range.
const CUT_RETRIES: usize = 3;
const READ_BYTES_MIN: usize = 16 << 10;

/// Whole batches, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogRead {
    /// One piece each.
    pub batches: Vec<Bytes>,
    pub bytes: usize,
    /// The offset behind the last batch; where the read began when there is none.
    pub next: Offset,
}

impl LogRead {
    fn new(from: Offset) -> LogRead {
        LogRead { next: from, ..LogRead::default() }
    }

    /// Takes a batch when it may. `false` when the read is complete.
    fn take(&mut self, batch: &TailBatch, below: Offset, bytes_max: usize) -> bool {
        let fits = self.batches.is_empty() || self.bytes + batch.bytes.len() <= bytes_max;
        if batch.next > below || !fits {
            return false;
        }
        self.bytes += batch.bytes.len();
        self.next = batch.next;
        self.batches.push(batch.bytes.clone());
        true
    }
}

impl LogStore {
    /// Whole batches from the one that holds `from` on, all below `below`. The first is there even if it alone is larger than
    /// `bytes_max` (KIP-74). Nothing when `from` is the log end.
    pub fn read(
        &self,
        tp: TopicPartition,
        from: Offset,
        below: Offset,
        bytes_max: usize,
    ) -> Result<LogRead, ReadError> {
        let replica = self.replica(tp).map_err(|_| ReadError::NoReplica(tp))?;
        for _ in 0..CUT_RETRIES {
            let (cached, cut, extent) = {
                let state = replica.state();
                check_range(&state, from)?;
                match read_tail(&state, from, below, bytes_max) {
                    Some(read) => (Some(read), state.cut, None),
                    None => (None, state.cut, find_segment(&state, from)),
                }
            };
            if let Some(read) = cached {
                self.counters.cached_reads.fetch_add(1, Ordering::Relaxed);
                return Ok(read);
            }
            let Some(extent) = extent else { return Ok(LogRead::new(from)) };
            self.counters.disk_reads.fetch_add(1, Ordering::Relaxed);
            let read = self.read_segment(&replica, extent, from, below, bytes_max);
            match read {
                Ok(read) => return Ok(read),
                // A truncation or retention may have come between; then what was read proves nothing.
                Err(error) => {
                    let state = replica.state();
                    let gone = state.deleted || state.cut != cut || state.log_start > from;
                    drop(state);
                    if !gone {
                        return self.noted(&replica, cut, Err(error));
                    }
                }
            }
        }
        let state = replica.state();
        Err(ReadError::OutOfRange { log_start: state.log_start, log_end: state.log_end })
    }

    /// The same where memory has it. Never waits for the disk.
    pub fn read_cached(&self, tp: TopicPartition, from: Offset, below: Offset, bytes_max: usize) -> Option<LogRead> {
        let replica = self.replica(tp).ok()?;
        let state = replica.state();
        check_range(&state, from).ok()?;
        let read = read_tail(&state, from, below, bytes_max)?;
        self.counters.cached_reads.fetch_add(1, Ordering::Relaxed);
        Some(read)
    }

    fn read_segment(
        &self,
        replica: &Replica,
        extent: Extent,
        from: Offset,
        below: Offset,
        bytes_max: usize,
    ) -> Result<LogRead, ReadError> {
        let Extent { segment, len, next_offset, .. } = extent;
        let file = self.open_segment(replica.tp, segment)?;
        let (mut before, mut found) = (None, None);
        for step in self.walk_from(replica, file.as_ref(), segment, len, from)? {
            let (at, header) = step?;
            if header.next_offset() > from {
                found = Some((at, header));
                break;
            }
            before = Some((at, header.size()));
        }
        let mut read = LogRead::new(from);
        let in_gap = found.is_none_or(|(_, first)| first.base_offset > from);
        if let Some((at, size)) = before.filter(|_| in_gap) {
            let mut bytes = BytesMut::zeroed(size);
            let have = file.read_at(at, &mut bytes)?;
            bytes.truncate(have);
            let batch = StampedBatch::from_stored(bytes.freeze()).map_err(Damage::Batch);
            batch.map_err(|damage| CorruptBatch { tp: replica.tp, segment, position: at, damage })?;
        }
        let Some((mut position, first)) = found else {
            let damage = Damage::Misplaced { expected: from, found: next_offset };
            return Err(CorruptBatch { tp: replica.tp, segment, position: len, damage }.into());
        };
        // With the base offset of the batch behind the last one.
        let wanted = bytes_max.max(first.size()).max(READ_BYTES_MIN).saturating_add(HEADER_LEN);
        let wanted = wanted.min((len - position) as usize);
        let mut buffer = BytesMut::zeroed(wanted);
        let have = file.read_at(position, &mut buffer)?;
        buffer.truncate(have);
        let mut rest = buffer.freeze();
        while rest.len() >= HEADER_LEN {
            let damaged = |damage| CorruptBatch { tp: replica.tp, segment, position, damage };
            let header = BatchHeader::parse(&rest).map_err(|error| damaged(Damage::Batch(error.into())))?;
            if header.size() > rest.len() {
                break;
            }
            let batch = rest.split_to(header.size());
            StampedBatch::from_stored(batch.clone()).map_err(|error| damaged(Damage::Batch(error)))?;
            // The checksum does not cover the base offset: its neighbours vouch for it.
            let bound = if position + header.size() as u64 == len { Some(next_offset) } else { base_offset(&rest) };
            if let Some(found) = bound.filter(|bound| *bound < header.next_offset()) {
                return Err(damaged(Damage::Misplaced { expected: header.next_offset(), found }).into());
            }
            let (expected, found) = (State::epoch_at(&extent.epochs, header.base_offset), header.leader_epoch);
            if expected != found {
                return Err(damaged(Damage::Epoch { expected, found }).into());
            }
            if !read.take(&TailBatch::new(&header, 0, batch), below, bytes_max) {
                return Ok(read);
            }
            position += header.size() as u64;
        }
        if read.batches.is_empty() {
            let damage = Damage::Short { wanted: first.size() as u64, have: have as u64 };
            return Err(CorruptBatch { tp: replica.tp, segment, position, damage }.into());
        }
        Ok(read)
    }

    /// Headers of the batches from the one that holds `from` on, below `below`, until `each` says `false`.
    pub(super) fn walk_headers(
        &self,
        replica: &Replica,
        from: Offset,
        below: Offset,
        mut each: impl FnMut(&BatchHeader) -> bool,
    ) -> Result<(), ReadError> {
        let mut next = from;
        while next < below {
            let (in_tail, extent) = {
                let state = replica.state();
                (state.tail.front().is_some_and(|first| first.base <= next), find_segment(&state, next))
            };
            let before = next;
            if in_tail {
                let tail = replica.state().tail.clone();
                for batch in tail.iter().filter(|batch| batch.next > next && batch.base < below) {
                    let damaged = |error| unreachable_damage(replica.tp, batch.base, error);
                    let header = BatchHeader::parse(&batch.bytes).map_err(damaged)?;
                    if !each(&header) {
                        return Ok(());
                    }
                }
                return Ok(());
            } else if let Some(Extent { segment, len, .. }) = extent {
                let file = self.open_segment(replica.tp, segment)?;
                for step in self.walk_from(replica, file.as_ref(), segment, len, next)? {
                    let (_, header) = step?;
                    if header.base_offset >= below {
                        return Ok(());
                    }
                    if header.next_offset() > next {
                        next = header.next_offset();
                        if !each(&header) {
                            return Ok(());
                        }
                    }
                }
                // Offsets may be missing at the end of a segment.
                let following = replica.state().segments.iter().find(|s| s.base > segment).map(|s| s.base);
                next = next.max(following.unwrap_or(next));
            }
            if next == before {
                // Only offsets without batches are left in segments; the tail may begin behind them.
                let first = replica.state().tail.front().map(|batch| batch.base).filter(|base| *base > next);
                match first {
                    Some(first) => next = first,
                    None => return Ok(()),
                }
            }
        }
        Ok(())
    }

    /// Walks a segment from a place at or before the batch that holds `offset`.
    pub(super) fn walk_from<'a>(
        &self,
        replica: &Replica,
        file: &'a dyn VfsFile,
        segment: Offset,
        len: u64,
        offset: Offset,
    ) -> Result<SegmentWalk<'a>, ReadError> {
        let start = self.with_index(replica, file, segment, len, |index| index.floor_offset(segment, offset))?;
        Ok(SegmentWalk::new(file, replica.tp, segment, start, len))
    }

    /// A file that belongs to the log. That it is not there is damage of the log, not of the disk.
    pub(super) fn open_segment(&self, tp: TopicPartition, segment: Offset) -> Result<Arc<dyn VfsFile>, ReadError> {
        self.files.open(tp, segment).map_err(|error| match error.is_not_found() {
            true => CorruptBatch { tp, segment, position: 0, damage: Damage::Missing }.into(),
            false => error.into(),
        })
    }

    /// Asks the index of a segment, which is brought up to date first: from memory, from the store of derived state, and by
    /// walking what neither covers.
    pub(super) fn with_index<R>(
        &self,
        replica: &Replica,
        file: &dyn VfsFile,
        segment: Offset,
        len: u64,
        ask: impl FnOnce(&Index) -> R,
    ) -> Result<R, ReadError> {
        let cut = {
            let state = replica.state();
            if let Some(index) = known(&state, segment).filter(|index| index.covered >= len) {
                return Ok(ask(index));
            }
            state.cut
        };
        let key = segment_index::key(replica.tp, segment);
        let stored = self.kv.get(&key).ok().flatten();
        let mut index = stored.and_then(|value| segment_index::decode(&key, &value, cut, len)).unwrap_or_default();
        if let Some(better) = known(&replica.state(), segment).filter(|known| known.covered > index.covered) {
            index = better.clone();
        }
        if index.covered < len {
            let known_to = Place { position: index.covered, ..Place::start_of(segment) };
            for step in SegmentWalk::new(file, replica.tp, segment, known_to, len) {
                let (_, header) = step?;
                let size = header.size() as u64;
                let interval = self.options.index_interval_bytes;
                index.push(segment, header.base_offset, size, header.max_timestamp, interval);
            }
        }
        let answer = ask(&index);
        let sealed = {
            let mut state = replica.state();
            let unchanged = state.cut == cut;
            let active = state.segments.back().map(|active| active.base);
            match state.segments.iter_mut().find(|found| unchanged && found.base == segment) {
                Some(found) if active == Some(segment) => {
                    if found.index.as_ref().is_none_or(|known| known.covered < index.covered) {
                        found.index = Some(index);
                    }
                    None
                }
                Some(_) => Some(index),
                None => None,
            }
        };
        if let Some(index) = sealed {
            let mut batch = store_api::KvBatch::default();
            let value = segment_index::encode(&key, &index, cut);
            batch.put(key, value);
            let _ = self.kv.write(&batch, store_api::KvDurability::Lazy);
        }
        Ok(answer)
    }

    /// Where segments must be cut so that no batch reaches `to` or beyond: the end of the last batch that is left, and the
    /// last segment with its length. Where nothing is left, an offset at or below the log start.
    pub(super) fn find_cut(
        &self,
        replica: &Replica,
        to: Offset,
    ) -> Result<(Offset, Option<(Offset, u64)>), StoreError> {
        let (found, before) = {
            let state = replica.state();
            let index = state.segments.partition_point(|segment| segment.base < to);
            let at = |i: usize| state.segments.get(i).map(|s| (s.base, s.len, s.next_offset));
            (index.checked_sub(1).and_then(at), index.checked_sub(2).and_then(at))
        };
        let Some((segment, len, _)) = found else { return Ok((Offset::UNKNOWN, None)) };
        let file = self.open_segment(replica.tp, segment).map_err(|error| self.as_store(error))?;
        let near = self.walk_from(replica, file.as_ref(), segment, len, to.plus(-1));
        let mut end = last_below(near.map_err(|error| self.as_store(error))?, to);
        if matches!(end, Ok(None)) {
            // The walk began with the batch that reaches too far; the one before it is wanted.
            end = last_below(SegmentWalk::new(file.as_ref(), replica.tp, segment, Place::start_of(segment), len), to);
        }
        let end = end.map_err(|error| self.as_store(error))?;
        Ok(match (end, before) {
            (Some((end, position)), _) => (end, Some((segment, position))),
            // The first batch of the segment reaches too far: the segment before is the last one, whole.
            (None, Some((base, len, next))) => (next, Some((base, len))),
            (None, None) => (Offset::UNKNOWN, None),
        })
    }

    fn as_store(&self, error: ReadError) -> StoreError {
        match error {
            ReadError::Corrupt(corrupt) => StoreError::Corrupt(corrupt),
            ReadError::Disk(error) => self.poison.judge(error),
            ReadError::NoReplica(tp) => StoreError::NoReplica(tp),
            ReadError::OutOfRange { .. } => unreachable!("segments are walked by position"),
        }
    }
}

/// Where the last batch ends that does not reach beyond `to`: its next offset, and the position behind it.
fn last_below(walk: SegmentWalk<'_>, to: Offset) -> Result<Option<(Offset, u64)>, ReadError> {
    let mut end = None;
    for step in walk {
        let (at, header) = step?;
        if header.next_offset() > to {
            break;
        }
        end = Some((header.next_offset(), at + header.size() as u64));
    }
    Ok(end)
}

fn known(state: &State, segment: Offset) -> Option<&Index> {
    state.segments.iter().rev().find(|found| found.base == segment).and_then(|found| found.index.as_ref())
}

fn check_range(state: &State, from: Offset) -> Result<(), ReadError> {
    let (log_start, log_end) = (state.log_start, state.log_end);
    if state.deleted || from < log_start || from > log_end {
        return Err(ReadError::OutOfRange { log_start, log_end });
    }
    Ok(())
}

/// `None` when the tail does not reach back to `from`.
fn read_tail(state: &State, from: Offset, below: Offset, bytes_max: usize) -> Option<LogRead> {
    let mut read = LogRead::new(from);
    if from >= state.log_end || from >= below {
        return Some(read);
    }
    let reaches = match state.tail.front() {
        // Where no segment reaches beyond `from`, the next batch is in the tail, however far off: offsets may be missing.
        Some(first) => first.base <= from || state.segments.back().is_none_or(|last| last.next_offset <= from),
        None => false,
    };
    if !reaches {
        return None;
    }
    let start = state.tail.partition_point(|batch| batch.next <= from);
    for batch in state.tail.range(start..) {
        if !read.take(batch, below, bytes_max) {
            break;
        }
    }
    Some(read)
}

/// A segment as it is when a read begins.
pub(super) struct Extent {
    pub(super) segment: Offset,
    pub(super) len: u64,
    pub(super) next_offset: Offset,
    /// Of the whole log.
    pub(super) epochs: Vec<(LeaderEpoch, Offset)>,
}

impl Extent {
    pub(super) fn of(state: &State, segment: &Segment) -> Extent {
        let Segment { base, len, next_offset, .. } = *segment;
        Extent { segment: base, len, next_offset, epochs: state.epochs.clone() }
    }
}

/// The segment that holds `from`, or the first one behind it.
fn find_segment(state: &State, from: Offset) -> Option<Extent> {
    let index = state.segments.partition_point(|segment| segment.next_offset <= from);
    state.segments.get(index).map(|segment| Extent::of(state, segment))
}

/// Of the batch that `bytes` begin with.
fn base_offset(bytes: &[u8]) -> Option<Offset> {
    bytes.first_chunk().map(|base| Offset(i64::from_be_bytes(*base)))
}

fn unreachable_damage(tp: TopicPartition, base: Offset, error: record_batch::HeaderError) -> CorruptBatch {
    CorruptBatch { tp, segment: base, position: 0, damage: Damage::Batch(error.into()) }
}
