//! One partition's log: what is in segments, what is in memory, and how the two join.
//!
//! ```text
//!   log_start        placed_end                  log_end
//!      │  segments …     │  pending                │
//!      ├────────┬────────┼─────────────────────────┤
//!      │ sealed │ active │  journal and tail only  │
//!      └────────┴────────┴─────────────────────────┘
//!                  └──────── tail cache ───────────┘
//! ```
//!
//! Two locks: `placing` is held over I/O on the segments, `state` never over any I/O. Readers take `state` alone.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use base_types::{LeaderEpoch, Offset, Timestamp, TopicPartition, invariant};
use bytes::Bytes;
use record_batch::BatchHeader;

use crate::{
    error::{CorruptBatch, Damage},
    journal::entry::SegmentExtent,
    manifest::ReplicaRecord,
    options::ReplicaOptions,
    segment::Segment,
};

pub(crate) struct Replica {
    pub(crate) tp: TopicPartition,
    placing: Mutex<Placing>,
    state: Mutex<State>,
}

/// Held by whoever writes to the segments.
#[derive(Debug, Default)]
pub(crate) struct Placing {
    /// Whether the directory was made.
    pub(crate) directory_ready: bool,
    /// The bytes of the active segment behind its last whole 4 KiB, so that the next direct write need not read them:
    /// `(base, len, bytes)`.
    pub(crate) ragged_end: Option<(Offset, u64, Bytes)>,
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) options: ReplicaOptions,
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
    /// Everything below is in segments.
    pub(crate) placed_end: Offset,
    pub(crate) segments: VecDeque<Segment>,
    /// Recent batches, in order and without gaps; those from `placed_end` on are nowhere else but in the journal.
    pub(crate) tail: VecDeque<TailBatch>,
    pub(crate) epochs: Vec<(LeaderEpoch, Offset)>,
    /// The journal block of the last entry about this replica.
    pub(crate) last_seq: u64,
    /// The first block whose batches were placed in segments that were not synced since.
    pub(crate) unsynced_seq: Option<u64>,
    pub(crate) cut: u64,
    /// The journal said that batches may be in the active segment that it does not know.
    pub(crate) unjournaled: bool,
    /// Batches of which the journal knows nothing are not synced yet. It only says when to sync.
    pub(crate) unjournaled_bytes: u64,
    /// Where the last batch ends that has no entry of its own in the journal.
    pub(crate) unjournaled_end: Offset,
    /// The manifest or a `Placed` entry tells of segments and epochs up to here.
    pub(crate) told_end: Offset,
    /// The active segment that they name.
    pub(crate) told_segment: Option<Offset>,
    /// The first batch that found no space. What follows it does not continue the log until it is there.
    pub(crate) refused: Option<Offset>,
    pub(crate) deleted: bool,
    /// What was found first that cannot be as it was written. Gone with the log that it is about.
    pub(crate) damage: Option<CorruptBatch>,
}

/// A batch in memory.
#[derive(Clone, Debug)]
pub(crate) struct TailBatch {
    pub(crate) base: Offset,
    pub(crate) next: Offset,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) epoch: LeaderEpoch,
    /// The journal block it is in, or the last one before it.
    pub(crate) seq: u64,
    pub(crate) bytes: Bytes,
}

impl TailBatch {
    pub(crate) fn new(header: &BatchHeader, seq: u64, bytes: Bytes) -> TailBatch {
        TailBatch {
            base: header.base_offset,
            next: header.next_offset(),
            max_timestamp: header.max_timestamp,
            epoch: header.leader_epoch,
            seq,
            bytes,
        }
    }
}

/// How the segments grew by one act of placing. Applied to the state when the act has succeeded.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    pub(crate) grown: Vec<Growth>,
}

#[derive(Debug)]
pub(crate) struct Growth {
    pub(crate) segment: Offset,
    pub(crate) is_new: bool,
    pub(crate) is_synced: bool,
    pub(crate) from: u64,
    /// `(base, next, size, max timestamp)` of the batches, in order.
    pub(crate) batches: Vec<(Offset, Offset, u64, Timestamp)>,
}

impl Replica {
    pub(crate) fn new(tp: TopicPartition, state: State) -> Replica {
        Replica { tp, placing: Mutex::default(), state: Mutex::new(state) }
    }

    pub(crate) fn placing(&self) -> MutexGuard<'_, Placing> {
        self.placing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// An empty log.
    pub(crate) fn empty(options: ReplicaOptions, start: Offset, seq: u64) -> State {
        State {
            options,
            log_start: start,
            log_end: start,
            placed_end: start,
            segments: VecDeque::new(),
            tail: VecDeque::new(),
            epochs: Vec::new(),
            last_seq: seq,
            unsynced_seq: None,
            cut: seq,
            unjournaled: false,
            unjournaled_bytes: 0,
            unjournaled_end: start,
            told_end: start,
            told_segment: None,
            refused: None,
            deleted: false,
            damage: None,
        }
    }

    /// As the manifest knows it.
    pub(crate) fn from_record(record: &ReplicaRecord) -> State {
        State {
            log_start: record.log_start,
            log_end: record.placed_end,
            placed_end: record.placed_end,
            segments: record.segments.iter().copied().map(Segment::durable).collect(),
            epochs: record.epochs.clone(),
            last_seq: record.as_of,
            cut: record.cut,
            unjournaled: record.unjournaled,
            told_end: record.placed_end,
            told_segment: record.segments.last().map(|segment| segment.base),
            damage: (record.lost_block > 0).then_some(CorruptBatch {
                tp: record.tp,
                segment: record.placed_end,
                position: 0,
                damage: Damage::Journal { block: record.lost_block },
            }),
            ..State::empty(record.options, record.log_start, record.as_of)
        }
    }

    /// What is durable in segments, for the manifest. `published` is a block all of whose entries, and those of the blocks
    /// before, had been applied to all replicas when it was read.
    pub(crate) fn to_record(&self, tp: TopicPartition, published: u64) -> ReplicaRecord {
        let first_needed = self.first_needed_seq();
        let as_of = first_needed.map_or(published.max(self.last_seq), |seq| seq - 1);
        let durable = self.segments.iter().take_while(|segment| segment.name_synced);
        let mut segments: Vec<SegmentExtent> = Vec::new();
        for segment in durable {
            segments.push(segment.extent());
            if !segment.is_synced() {
                break;
            }
        }
        let placed_end = match (segments.last(), self.segments.front()) {
            (Some(last), _) => last.next_offset,
            (None, Some(first)) => first.base,
            (None, None) => self.placed_end,
        };
        ReplicaRecord {
            tp,
            options: self.options,
            as_of,
            cut: self.cut,
            unjournaled: self.unjournaled,
            lost_block: match &self.damage {
                Some(CorruptBatch { damage: Damage::Journal { block }, .. }) => *block,
                _ => 0,
            },
            // A start beyond the durable end came with an entry that will be applied again.
            log_start: self.log_start.min(placed_end),
            placed_end,
            epochs: self.epochs.iter().copied().filter(|(_, start)| *start < placed_end).collect(),
            segments,
        }
    }

    /// The first journal block whose batches are not durable in segments.
    pub(crate) fn first_needed_seq(&self) -> Option<u64> {
        self.unsynced_seq.or_else(|| self.first_pending_index().map(|i| self.tail[i].seq))
    }

    pub(crate) fn first_pending_index(&self) -> Option<usize> {
        let index = self.tail.partition_point(|batch| batch.base < self.placed_end);
        (index < self.tail.len()).then_some(index)
    }

    pub(crate) fn pending(&self) -> impl Iterator<Item = &TailBatch> {
        let index = self.first_pending_index().unwrap_or(self.tail.len());
        self.tail.range(index..)
    }

    pub(crate) fn pending_bytes(&self) -> u64 {
        self.pending().map(|batch| batch.bytes.len() as u64).sum()
    }

    pub(crate) fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum::<u64>() + self.pending_bytes()
    }

    /// Whether batches are in segments that neither the journal nor the manifest tells of. A sync alone does not change that.
    pub(crate) fn is_untold(&self) -> bool {
        self.unjournaled_end > self.told_end
    }

    /// The journal lost a part of the log, so that nobody knows where it ends: nothing can be appended or acknowledged.
    pub(crate) fn hides_end(&self) -> bool {
        self.damage.as_ref().is_some_and(|found| found.damage.hides_end())
    }

    /// A block of the journal cannot be read that held, or may have held, a part of this log. What is in segments stays.
    pub(crate) fn lose_end(&mut self, tp: TopicPartition, block: u64) {
        if self.hides_end() {
            return;
        }
        self.tail.clear();
        self.log_end = self.placed_end;
        self.log_start = self.log_start.min(self.log_end);
        while self.epochs.last().is_some_and(|(_, start)| *start >= self.log_end) {
            self.epochs.pop();
        }
        let damage = Damage::Journal { block };
        self.damage = Some(CorruptBatch { tp, segment: self.log_end, position: 0, damage });
    }

    /// The epoch of the batch at `base`, as the log knows it from other places than the batch.
    pub(crate) fn epoch_at(epochs: &[(LeaderEpoch, Offset)], base: Offset) -> LeaderEpoch {
        let begun = epochs.partition_point(|(_, start)| *start <= base);
        begun.checked_sub(1).map_or(LeaderEpoch::UNKNOWN, |i| epochs[i].0)
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.segments.iter().all(Segment::is_synced)
    }

    /// A batch joins the log.
    pub(crate) fn append(&mut self, batch: TailBatch) {
        invariant!(R10, batch.base >= self.log_end, "batch {} behind log end {}", batch.base, self.log_end);
        self.note_epoch(batch.epoch, batch.base);
        self.log_end = batch.next;
        self.last_seq = self.last_seq.max(batch.seq);
        self.tail.push_back(batch);
    }

    /// The epochs with their start in the log as it is: the first may have begun before the log start, and one that ended
    /// there has no place in it.
    pub(crate) fn visible_epochs(&self) -> Vec<(LeaderEpoch, Offset)> {
        let ended = self.epochs.partition_point(|(_, start)| *start <= self.log_start).saturating_sub(1);
        let visible = |(epoch, start): &(LeaderEpoch, Offset)| (*epoch, (*start).max(self.log_start));
        self.epochs[ended..].iter().map(visible).collect()
    }

    pub(crate) fn note_epoch(&mut self, epoch: LeaderEpoch, start: Offset) {
        match self.epochs.last() {
            Some((last, _)) if *last >= epoch => {}
            _ => self.epochs.push((epoch, start)),
        }
    }

    /// Segments have taken in batches up to the end of `placement`.
    pub(crate) fn apply(&mut self, placement: &Placement, interval: u32) {
        for growth in &placement.grown {
            if growth.is_new {
                if let Some(sealed) = self.segments.back_mut() {
                    sealed.index = None;
                }
                self.segments.push_back(Segment::new(growth.segment));
            }
            let Some(active) = self.segments.back_mut() else { continue };
            assert_eq!((active.base, active.len), (growth.segment, growth.from), "placed where the segment ends");
            let (base, covered) = (active.base, active.len);
            let index = active.index.get_or_insert_default();
            for (offset, next, size, max_timestamp) in &growth.batches {
                // An index that has not caught up after a restart is completed when it is first asked.
                if index.covered == active.len {
                    index.push(base, *offset, *size, *max_timestamp, interval);
                }
                active.len += size;
                active.next_offset = *next;
                active.max_timestamp = active.max_timestamp.max(*max_timestamp);
            }
            debug_assert!(active.len >= covered);
            self.placed_end = active.next_offset;
            if growth.is_synced {
                active.synced_len = active.len;
                active.synced_next = active.next_offset;
            }
        }
    }

    /// Everything placed is durable now.
    pub(crate) fn mark_synced(&mut self) {
        for segment in &mut self.segments {
            segment.synced_len = segment.len;
            segment.synced_next = segment.next_offset;
            segment.name_synced = true;
        }
        self.unsynced_seq = None;
        self.unjournaled_bytes = 0;
    }

    /// What a `Placed` entry has to tell so that the journal alone explains the segments: those that changed since it was
    /// last told, grown by `placement`, and the epochs begun since, with those of the batches in `appended`. What is in the
    /// state must be synced, and what is in `placement` too.
    pub(crate) fn news(
        &self,
        placement: &Placement,
        appended: &[TailBatch],
    ) -> (Vec<SegmentExtent>, Vec<(LeaderEpoch, Offset)>) {
        let changed = |segment: &&Segment| {
            segment.next_offset > self.told_end || self.told_segment.is_none_or(|told| segment.base > told)
        };
        let mut segments: Vec<SegmentExtent> = self.segments.iter().filter(changed).map(Segment::extent).collect();
        if let (true, Some(active)) = (segments.is_empty(), self.segments.back()) {
            segments.push(active.extent());
        }
        for growth in &placement.grown {
            if growth.is_new {
                segments.push(Segment::new(growth.segment).extent());
            }
            let Some(last) = segments.last_mut() else { continue };
            for (_, next, size, max_timestamp) in &growth.batches {
                last.len += size;
                last.next_offset = *next;
                last.max_timestamp = last.max_timestamp.max(*max_timestamp);
            }
        }
        let mut epochs: Vec<_> = self.epochs.iter().copied().filter(|(_, start)| *start >= self.told_end).collect();
        let mut latest = self.epochs.last().map(|(epoch, _)| *epoch);
        for batch in appended {
            if latest.is_none_or(|latest| batch.epoch > latest) {
                epochs.push((batch.epoch, batch.base));
                latest = Some(batch.epoch);
            }
        }
        (segments, epochs)
    }

    pub(crate) fn mark_told(&mut self) {
        self.told_end = self.placed_end;
        self.told_segment = self.segments.back().map(|segment| segment.base);
    }

    /// Takes up what a `Placed` entry tells.
    pub(crate) fn apply_placed(&mut self, segments: &[SegmentExtent], epochs: &[(LeaderEpoch, Offset)]) {
        // The manifest may know some of them already: it is stored while commits go on.
        if let Some(first) = segments.first() {
            let known = self.segments.partition_point(|segment| segment.base < first.base);
            self.segments.truncate(known);
        }
        for &extent in segments {
            self.segments.push_back(Segment::durable(extent));
            self.placed_end = extent.next_offset;
        }
        for &(epoch, start) in epochs {
            self.note_epoch(epoch, start);
        }
        if self.placed_end > self.log_end {
            // What lies between was never in the journal.
            self.log_end = self.placed_end;
            self.tail.clear();
        }
        self.unsynced_seq = None;
        self.unjournaled_bytes = 0;
        self.mark_told();
    }

    /// Removes all batches behind `to`, the end of one. `cut` says where the segments end when they are cut too.
    /// Returns the base offsets of the segments that are gone.
    pub(crate) fn truncate(&mut self, to: Offset, cut: Option<(Offset, u64)>, seq: u64) -> Vec<Offset> {
        while self.tail.back().is_some_and(|batch| batch.next > to) {
            self.tail.pop_back();
        }
        while self.epochs.last().is_some_and(|(_, start)| *start >= to) {
            self.epochs.pop();
        }
        let mut gone = Vec::new();
        if self.placed_end > to {
            let (segment, len) = cut.unwrap_or((Offset::UNKNOWN, 0));
            while let Some(last) = self.segments.back() {
                if last.base <= segment && last.base < to {
                    break;
                }
                gone.push(last.base);
                self.segments.pop_back();
            }
            if let Some(last) = self.segments.back_mut() {
                last.len = last.len.min(len);
                last.next_offset = to;
                if last.synced_len >= last.len {
                    last.synced_len = last.len;
                    last.synced_next = to;
                }
                if let Some(index) = &mut last.index {
                    index.truncate(last.len);
                }
                last.index_stored = 0;
            }
            self.placed_end = to;
        }
        if self.is_synced() {
            self.unsynced_seq = None;
        }
        self.log_end = to;
        self.told_end = self.told_end.min(to);
        self.unjournaled_end = self.unjournaled_end.min(to);
        // The entry itself tells which segment is now the last one.
        let last = self.segments.back().map(|segment| segment.base);
        self.told_segment = self.told_segment.and_then(|told| last.map(|last| told.min(last)));
        self.cut = seq;
        self.last_seq = seq;
        self.unjournaled = false;
        gone
    }

    /// Forgets everything; returns the base offsets of the segments.
    pub(crate) fn reset(&mut self, start: Offset, seq: u64) -> Vec<Offset> {
        let gone = self.segments.iter().map(|segment| segment.base).collect();
        *self = State::empty(self.options, start, seq);
        gone
    }

    /// Whether a segment that could go when the log starts at `to` stays only because it is not synced.
    pub(crate) fn is_unsynced_below(&self, to: Offset) -> bool {
        let sealed = self.segments.iter().rev().skip(1);
        sealed.filter(|segment| segment.next_offset <= to).any(|segment| !segment.is_synced())
    }

    /// The first segment that stays when the log starts at `to`, where any goes. The active one stays (S9).
    pub(crate) fn first_segment_kept(&self, to: Offset) -> Option<Offset> {
        let goes = |(i, segment): &(usize, &Segment)| {
            i + 1 < self.segments.len() && segment.next_offset <= to && segment.is_synced()
        };
        let count = self.segments.iter().enumerate().take_while(goes).count();
        (count > 0).then(|| self.segments[count].base)
    }

    /// Moves the log start; returns the base offsets of the segments that are gone.
    pub(crate) fn advance_log_start(&mut self, to: Offset, first_segment: Option<Offset>) -> Vec<Offset> {
        let mut gone = Vec::new();
        while let Some(segment) = self.segments.front().filter(|s| first_segment.is_some_and(|first| s.base < first)) {
            gone.push(segment.base);
            self.segments.pop_front();
        }
        if to <= self.log_start {
            return gone;
        }
        self.log_start = to;
        // Of the epochs that began below, the last one still covers the start.
        let begun = self.epochs.partition_point(|(_, start)| *start <= to);
        if begun > 0 {
            self.epochs.drain(..begun - 1);
        }
        gone
    }

    /// Asserted after every change.
    pub(crate) fn check_invariants(&self) {
        invariant!(S11, self.log_start <= self.log_end, "start {} end {}", self.log_start, self.log_end);
        assert!(self.placed_end <= self.log_end, "placed {} end {}", self.placed_end, self.log_end);
        if let Some(last) = self.segments.back() {
            assert_eq!(last.next_offset, self.placed_end, "segments end where placing ended");
        }
        if let Some(last) = self.tail.back() {
            assert_eq!(last.next, self.log_end, "the tail ends where the log ends");
        } else {
            assert_eq!(self.placed_end, self.log_end, "what is not in the tail is placed");
        }
        let rising = self.segments.iter().zip(self.segments.iter().skip(1)).all(|(a, b)| a.next_offset <= b.base);
        assert!(rising && self.segments.iter().all(|s| s.base <= s.next_offset), "segments follow each other");
        for pair in self.epochs.windows(2) {
            invariant!(R11, pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1, "{pair:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(base: i64, next: i64) -> SegmentExtent {
        let (base, next_offset) = (Offset(base), Offset(next));
        SegmentExtent { base, len: 100, next_offset, max_timestamp: Timestamp(0) }
    }

    fn placed(told: &[&[SegmentExtent]]) -> Vec<(i64, i64)> {
        let mut state = State::empty(ReplicaOptions::default(), Offset::ZERO, 0);
        for segments in told {
            state.apply_placed(segments, &[]);
            state.check_invariants();
        }
        state.segments.iter().map(|segment| (segment.base.0, segment.next_offset.0)).collect()
    }

    #[test]
    fn what_is_told_again_takes_the_place_of_what_was_known() {
        let known = [extent(0, 50), extent(50, 100), extent(100, 120)];
        assert_eq!(placed(&[&known, &[extent(100, 130)]]), [(0, 50), (50, 100), (100, 130)]);
        assert_eq!(placed(&[&known, &[extent(120, 130)]]), [(0, 50), (50, 100), (100, 120), (120, 130)]);
        assert_eq!(placed(&[&known, &[extent(50, 100), extent(100, 130)]]), [(0, 50), (50, 100), (100, 130)]);
        assert_eq!(placed(&[&known, &known]), [(0, 50), (50, 100), (100, 120)]);
    }
}
