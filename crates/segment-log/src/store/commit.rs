//! Group commit.
//!
//! Each partition of a commit goes one of three ways:
//! - *journal*: its batches are part of one block, written once for all partitions;
//! - *bypass*: it brings so much that writing it twice would cost more than a write of its own: straight to the segment, and
//!   the block says where;
//! - *page cache*: it asked for no more than Kafka's own promise: to the segment, unsynced, and the block says nothing.
//!
//! The block is written last. Until it is durable nothing is published, so a failure before leaves the logs as they were.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard, atomic::Ordering},
};

use base_types::{Offset, TopicPartition, invariant};
use record_batch::StampedBatch;
use store_api::{BLOCK_BYTES, DiskError};

use super::{
    LogStore,
    place::{End, Item, LENT_BYTES_MIN, Way},
};
use crate::{
    StoreError,
    journal::{
        block::{BlockBuilder, HEADER_BYTES},
        entry::{BATCH_ENTRY_BYTES, Entry, GAP_BYTES},
        writer::JournalWriter,
    },
    replica::{Growth, Placement, Placing, Replica, State, TailBatch},
};

/// From this much on a part may be laid out so that it need not be copied on its way to the segment.
const ALIGNED_BYTES_MIN: usize = 64 << 10;

/// Free space is asked for once per this many bytes.
const SPACE_CHECK_BYTES: u64 = 4 << 20;

/// What an acknowledgement will mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Survives power loss when `commit` returns.
    Fsync,
    /// Survives the death of the process.
    PageCache,
}

/// One batch to append.
#[derive(Clone, Debug)]
pub struct LogWrite {
    pub tp: TopicPartition,
    pub batch: StampedBatch,
    pub durability: Durability,
}

/// What a commit did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CommitReport {
    /// The log ends of the partitions written to.
    pub log_ends: Vec<(TopicPartition, Offset)>,
    /// Of batches.
    pub bytes: u64,
    /// Written to the journal for it, padding included.
    pub journal_bytes: u64,
}

/// What one partition brings.
struct Part<'a> {
    replica: Arc<Replica>,
    writes: Vec<&'a LogWrite>,
    bytes: usize,
    route: Route,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Route {
    Journal,
    Bypass,
    PageCache,
}

/// A part that touches its segments, ready for publication.
struct Staged<'a> {
    placing: MutexGuard<'a, Placing>,
    placement: Placement,
    tail: Vec<TailBatch>,
    entries: Vec<Entry>,
    /// Where the active segment ended before, to cut off what was written when the commit comes to nothing.
    before: Option<(Offset, u64)>,
}

impl Part<'_> {
    /// Whether it is worth a gap: it is many bytes, and in batches so large that they can be lent.
    fn has_gap(&self) -> bool {
        self.bytes >= ALIGNED_BYTES_MIN && self.bytes >= self.writes.len() * 2 * LENT_BYTES_MIN
    }

    /// At most a sixteenth of the part.
    fn gap_max(&self) -> usize {
        if self.has_gap() { BLOCK_BYTES } else { 0 }
    }

    /// What is left out before it, at this place of a block, so that it lies in the pages of memory as it will lie in those of its
    /// segment. Never nothing where there may be one, so that the entries have the same size whatever comes out.
    fn gap(&self, at: usize) -> u16 {
        if !self.has_gap() {
            return 0;
        }
        let state = self.replica.state();
        let placed = state.segments.back().map_or(0, |segment| segment.len);
        let in_page = ((placed + state.pending_bytes()) % BLOCK_BYTES as u64) as usize;
        let gap = (in_page + BLOCK_BYTES - at % BLOCK_BYTES) % BLOCK_BYTES;
        if gap == 0 { BLOCK_BYTES as u16 } else { gap as u16 }
    }
}

impl LogStore {
    /// Appends batches of many partitions. On `Ok` those with [`Durability::Fsync`] are durable, the others in the page cache. On
    /// `Err` nothing is appended: certainly so when the error is definite.
    ///
    /// Batches of one partition come in the order of their offsets and continue its log; one commit runs at a time. The
    /// part of a commit that goes through the journal must fit into half of it.
    ///
    /// After [`StoreError::NoSpace`] the batches that were refused come again, or the log is cut. Whatever was sent behind them
    /// meanwhile finds no space either: else it would leave a hole that a restart takes for a log (R10).
    pub fn commit(&self, writes: &[LogWrite]) -> Result<CommitReport, StoreError> {
        self.poison.check()?;
        let parts = self.parts(writes)?;
        let outcome = self.commit_parts(&parts);
        for part in &parts {
            let first = part.writes.first().map(|write| write.batch.header().base_offset);
            let mut state = part.replica.state();
            match &outcome {
                Ok(_) => state.refused = None,
                Err(StoreError::NoSpace) => state.refused = state.refused.or(first).min(first),
                Err(_) => {}
            }
        }
        outcome
    }

    fn commit_parts(&self, parts: &[Part<'_>]) -> Result<CommitReport, StoreError> {
        let bytes: u64 = parts.iter().map(|part| part.bytes as u64).sum();
        self.check_space(bytes)?;
        let mut journal = self.lock_journal_with_room(journal_estimate(parts), self.block_estimate(parts))?;
        self.poison.check()?;
        for part in parts {
            check_continues(part)?;
        }
        let next_seq = journal.last_seq() + 1;
        let mut staged: Vec<Option<Staged<'_>>> = Vec::with_capacity(parts.len());
        for part in parts {
            match self.stage(part, next_seq) {
                Ok(stage) => staged.push(stage),
                Err(error) => {
                    self.undo(parts, &staged);
                    return Err(error);
                }
            }
        }
        let report = match self.write_blocks(&mut journal, parts, &mut staged) {
            Ok(journal_bytes) => CommitReport { log_ends: Vec::new(), bytes, journal_bytes },
            Err(error) => {
                self.undo(parts, &staged);
                return Err(error);
            }
        };
        self.published.store(journal.last_seq(), Ordering::Release);
        drop(staged);
        drop(journal);
        for part in parts.iter().filter(|part| part.route != Route::Journal) {
            self.store_index_when_due(&part.replica);
        }
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        self.counters.journal_bytes.fetch_add(report.journal_bytes, Ordering::Relaxed);
        self.tail.evict();
        let log_ends = parts.iter().map(|part| (part.replica.tp, part.replica.state().log_end)).collect();
        Ok(CommitReport { log_ends, ..report })
    }

    fn parts<'a>(&self, writes: &'a [LogWrite]) -> Result<Vec<Part<'a>>, StoreError> {
        let mut by_partition: BTreeMap<TopicPartition, Vec<&LogWrite>> = BTreeMap::new();
        for write in writes {
            by_partition.entry(write.tp).or_default().push(write);
        }
        let replicas = self.read_replicas();
        let threshold = self.options.bypass_threshold();
        let mut parts = Vec::with_capacity(by_partition.len());
        for (tp, writes) in by_partition {
            let replica = replicas.get(&tp).cloned().ok_or(StoreError::NoReplica(tp))?;
            let bytes = writes.iter().map(|write| write.batch.size()).sum();
            // One durable batch makes the whole part durable: the weaker promise is kept by the stronger.
            let route = match writes.iter().any(|write| write.durability == Durability::Fsync) {
                false => Route::PageCache,
                true if bytes >= threshold => Route::Bypass,
                true => Route::Journal,
            };
            parts.push(Part { replica, writes, bytes, route });
        }
        Ok(parts)
    }

    /// A disk that is nearly full takes nothing more, while there is still room for what must be written (S8).
    fn check_space(&self, bytes: u64) -> Result<(), StoreError> {
        let counter = &self.counters.bytes_since_space_check;
        let since = counter.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if since < SPACE_CHECK_BYTES {
            return Ok(());
        }
        let free = self.vfs.free_space().map_err(|error| self.poison.judge(error))?;
        let owed = self.counters.pending_bytes.load(Ordering::Relaxed) + bytes;
        if free < self.options.reserve_bytes.saturating_add(owed) {
            // Ask again at the next commit.
            counter.store(SPACE_CHECK_BYTES, Ordering::Relaxed);
            return Err(StoreError::NoSpace);
        }
        counter.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// The journal, with room for blocks of that size. Helps the background when it has fallen behind.
    pub(super) fn lock_journal_with_room(
        &self,
        bytes: u64,
        block_max: u64,
    ) -> Result<MutexGuard<'_, JournalWriter>, StoreError> {
        let pending = self.counters.pending_bytes.load(Ordering::Relaxed);
        if pending > 0 && pending + bytes > self.options.pending_bytes_max() {
            let _flushing = self.lock_flushing();
            self.place_all(u64::MAX)?;
        }
        for _ in 0..4 {
            let mut journal = self.lock_journal();
            let has_room = journal.ensure_room(bytes, block_max).map_err(|error| self.poison.judge(error))?;
            let is_named = !journal.has_unnamed();
            if has_room && is_named {
                return Ok(journal);
            }
            drop(journal);
            if has_room {
                let _flushing = self.lock_flushing();
                self.write_manifest(false)?;
            } else {
                self.release_journal()?;
            }
        }
        Err(StoreError::NoSpace)
    }

    fn block_estimate(&self, parts: &[Part<'_>]) -> u64 {
        let special: u64 = parts.iter().map(special_estimate).sum();
        journal_estimate(parts).min(2 * self.options.block_bytes_max() as u64 + special + 4096)
    }

    /// Does what a part needs done to its segments before the block can be written; `None` when that is nothing.
    fn stage<'a>(&self, part: &'a Part<'_>, seq: u64) -> Result<Option<Staged<'a>>, StoreError> {
        let replica = &*part.replica;
        if part.route == Route::Journal && !replica.state().is_untold() {
            return Ok(None);
        }
        let mut placing = replica.placing();
        self.place_pending(replica, &mut placing)?;
        let mut entries = Vec::new();
        if part.route == Route::PageCache {
            let entered = self.enter_unjournaled(replica, &mut placing)?;
            entries.extend(entered);
        } else if !replica.state().is_synced() {
            self.sync_replica(replica)?;
        }
        let before = replica.state().segments.back().map(|segment| (segment.base, segment.len));
        let mut stage = Staged { placing, placement: Placement::default(), tail: Vec::new(), entries, before };
        match part.route {
            Route::Journal => {
                // The batches that the journal knows nothing of are durable now, and it must know, for what follows builds on them.
                let state = replica.state();
                stage.entries.push(placed(replica, &state, &stage.placement, &[]));
            }
            Route::Bypass => {
                let items = items(&part.writes, seq);
                let (placement, tail) = match self.place(replica, &mut stage.placing, &items, Way::DurableAndKept) {
                    Ok(done) => done,
                    Err(error) => {
                        self.cut_off(replica, stage.before);
                        return Err(error);
                    }
                };
                let state = replica.state();
                stage.entries.push(placed(replica, &state, &placement, &tail));
                (stage.placement, stage.tail) = (placement, tail);
            }
            Route::PageCache => {
                // No block tells of these batches: what the replica has taken up of the journal stays what it was.
                let tail = self.copy_out(&part.writes, seq - 1);
                let items: Vec<Item<'_>> =
                    tail.iter().map(|batch| Item { pieces: [&batch.bytes, &[]], batch: batch.clone() }).collect();
                let placed_now =
                    self.place(replica, &mut stage.placing, &items, Way::PageCache).and_then(|(mut placement, _)| {
                        if placement.grown.iter().any(|growth| growth.is_new) {
                            // Recovery looks at the end of one segment only, so the journal must name it.
                            self.sync_growth(replica, &mut placement)?;
                            let state = replica.state();
                            stage.entries.push(placed(replica, &state, &placement, &tail));
                        }
                        Ok(placement)
                    });
                match placed_now {
                    Ok(placement) => stage.placement = placement,
                    Err(error) => {
                        self.cut_off(replica, stage.before);
                        return Err(error);
                    }
                }
                drop(items);
                stage.tail = tail;
            }
        }
        Ok(Some(stage))
    }

    /// Makes sure that recovery will look behind the end of the active segment, and that only what is written from now on is
    /// there to be found.
    fn enter_unjournaled(&self, replica: &Replica, placing: &mut Placing) -> Result<Vec<Entry>, StoreError> {
        {
            let state = replica.state();
            let active = state.segments.back().map(|segment| segment.base);
            if state.unjournaled && active.is_some() && active == state.told_segment {
                return Ok(Vec::new());
            }
        }
        let end = replica.state().segments.back().map(|s| End { base: s.base, len: s.len });
        let is_usable = end.map(|end| self.is_usable(replica, placing, end)).transpose()?.unwrap_or(false);
        if !is_usable {
            let base = replica.state().log_end;
            self.begin_segment(replica, placing, base)?;
            let growth = Growth { segment: base, is_new: true, is_synced: false, from: 0, batches: Vec::new() };
            replica.state().apply(&Placement { grown: vec![growth] }, self.options.index_interval_bytes);
        }
        let active = replica.state().segments.back().map(|segment| (segment.base, segment.len));
        if let Some((base, len)) = active {
            let trim = || {
                let file = self.files.open(replica.tp, base)?;
                file.set_size(len)?;
                file.sync_data()
            };
            trim().map_err(|error| self.poison.judge(error))?;
        }
        self.sync_replica(replica)?;
        let state = replica.state();
        let tp = replica.tp;
        Ok(vec![placed(replica, &state, &Placement::default(), &[]), Entry::Unjournaled { tp }])
    }

    fn sync_growth(&self, replica: &Replica, placement: &mut Placement) -> Result<(), StoreError> {
        self.sync_replica(replica)?;
        for growth in &mut placement.grown {
            let file = self.files.open(replica.tp, growth.segment).map_err(|error| self.poison.judge(error))?;
            file.sync_data().map_err(|error| self.poison.judge(error))?;
            growth.is_synced = true;
        }
        self.sync_names(replica)
    }

    /// Copies batches to memory that only they share.
    fn copy_out(&self, writes: &[&LogWrite], seq: u64) -> Vec<TailBatch> {
        let bytes = writes.iter().map(|write| write.batch.size()).sum();
        let mut slab = self.pool.carve(bytes);
        for write in writes {
            let (head, body) = write.batch.pieces();
            slab.extend_from_slice(head);
            slab.extend_from_slice(body);
        }
        let mut slab = slab.freeze();
        writes.iter().map(|w| TailBatch::new(w.batch.header(), seq, slab.split_to(w.batch.size()))).collect()
    }

    /// Writes the blocks and publishes. Returns the bytes written to the journal.
    fn write_blocks(
        &self,
        journal: &mut JournalWriter,
        parts: &[Part<'_>],
        staged: &mut [Option<Staged<'_>>],
    ) -> Result<u64, StoreError> {
        let prefix: Vec<Entry> =
            staged.iter_mut().flatten().flat_map(|stage| std::mem::take(&mut stage.entries)).collect();
        let told: Vec<bool> =
            parts.iter().map(|part| prefix.iter().any(|e| e.partition() == part.replica.tp)).collect();
        let through_journal: Vec<usize> = (0..parts.len()).filter(|i| parts[*i].route == Route::Journal).collect();
        let mut written = 0;
        let mut tails: Vec<Vec<TailBatch>> = parts.iter().map(|_| Vec::new()).collect();
        let mut blocks = Vec::new();
        let mut rest = through_journal.as_slice();
        let mut head = prefix.as_slice();
        while !rest.is_empty() || !head.is_empty() {
            let mut count = 0;
            let mut bytes = 0;
            for index in rest {
                let size = parts[*index].bytes + parts[*index].gap_max();
                if count > 0 && bytes + size > self.options.block_bytes_max() {
                    break;
                }
                bytes += size;
                count += 1;
            }
            let (now, later) = rest.split_at(count);
            let (seq, size) = match self.write_block(journal, parts, now, head, &mut tails) {
                Ok(done) => done,
                Err(error) if blocks.is_empty() => return Err(self.poison.judge(error)),
                // Half of the commit is durable: neither done nor undone.
                Err(error) => return Err(self.poison.give_up(error)),
            };
            blocks.push((seq, size, now));
            written += size;
            rest = later;
            head = &[];
        }
        let last_seq = journal.last_seq();
        // Before they can be placed, so that the count never falls below zero.
        let pending: u64 = through_journal.iter().map(|index| parts[*index].bytes as u64).sum();
        self.counters.pending_bytes.fetch_add(pending, Ordering::Relaxed);
        for (index, part) in parts.iter().enumerate() {
            let mut state = part.replica.state();
            if let Some(stage) = &mut staged[index] {
                self.publish_staged(part, &mut state, stage, told[index], last_seq);
            }
            for batch in tails[index].drain(..) {
                state.append(batch);
            }
            state.check_invariants();
        }
        self.account(parts, staged, &blocks, last_seq);
        Ok(written)
    }

    fn write_block(
        &self,
        journal: &mut JournalWriter,
        parts: &[Part<'_>],
        now: &[usize],
        head: &[Entry],
        tails: &mut [Vec<TailBatch>],
    ) -> Result<(u64, u64), DiskError> {
        let batches: usize = now.iter().map(|index| parts[*index].writes.len()).sum();
        let gaps = now.iter().filter(|index| parts[**index].has_gap()).count();
        let payload_max: usize = now.iter().map(|index| parts[*index].bytes + parts[*index].gap_max()).sum();
        let head_bytes: usize = head.iter().map(entry_estimate).sum();
        let entry_bytes = batches * BATCH_ENTRY_BYTES + gaps * GAP_BYTES;
        let buffer = self.pool.carve(HEADER_BYTES + head_bytes + entry_bytes + payload_max);
        let mut builder = BlockBuilder::new(buffer);
        for entry in head {
            builder.entry(entry);
        }
        let mut at = builder.payload_start(entry_bytes);
        let mut writes: Vec<(usize, u16, &LogWrite)> = Vec::with_capacity(batches);
        for &index in now {
            let part = &parts[index];
            let mut gap = part.gap(at);
            at += usize::from(gap) + part.bytes;
            // The first of its batches has the gap before it.
            writes.extend(part.writes.iter().map(|write| (index, std::mem::take(&mut gap), *write)));
        }
        for &(_, gap, write) in &writes {
            let base = write.batch.header().base_offset;
            builder.entry(&Entry::Batch { tp: write.tp, base, len: write.batch.size() as u32, gap });
        }
        let mut ranges = Vec::with_capacity(batches);
        for &(_, gap, write) in &writes {
            builder.gap(usize::from(gap));
            ranges.push(builder.batch(&write.batch));
        }
        let (seq, block) = journal.append(builder)?;
        for ((index, _, write), range) in writes.into_iter().zip(ranges) {
            tails[index].push(TailBatch::new(write.batch.header(), seq, block.slice(range)));
        }
        Ok((seq, block.len() as u64))
    }

    fn publish_staged(&self, part: &Part<'_>, state: &mut State, stage: &mut Staged<'_>, told: bool, seq: u64) {
        for batch in stage.tail.drain(..) {
            state.append(batch);
        }
        self.apply(state, &stage.placement);
        match part.route {
            Route::Bypass => {
                self.counters.bypassed_bytes.fetch_add(part.bytes as u64, Ordering::Relaxed);
            }
            Route::PageCache => {
                state.unjournaled = true;
                let synced = !stage.placement.grown.is_empty() && stage.placement.grown.iter().all(|g| g.is_synced);
                if !synced {
                    state.unjournaled_end = state.placed_end;
                    state.unjournaled_bytes += part.bytes as u64;
                    self.counters.unjournaled_bytes.fetch_add(part.bytes as u64, Ordering::Relaxed);
                }
            }
            Route::Journal => {}
        }
        if told {
            state.last_seq = state.last_seq.max(seq);
            if part.route == Route::PageCache {
                // Told up to what was synced when the entry was made: all of it after a new segment, else what was there before.
                let synced = state.segments.back().map_or(state.log_start, |segment| segment.synced_next);
                state.told_end = synced;
                state.told_segment = state.segments.back().map(|segment| segment.base);
            } else {
                state.mark_told();
            }
        }
    }

    /// Tells the background and the tail cache.
    fn account(
        &self,
        parts: &[Part<'_>],
        staged: &[Option<Staged<'_>>],
        blocks: &[(u64, u64, &[usize])],
        last_seq: u64,
    ) {
        let mut work = self.lock_work();
        for (index, part) in parts.iter().enumerate() {
            match part.route {
                Route::Journal => {
                    work.pending.insert(part.replica.tp);
                }
                Route::PageCache => {
                    work.unsynced.insert(part.replica.tp);
                }
                Route::Bypass => {}
            }
            if staged[index].is_some() && part.route != Route::Journal {
                self.tail.add(last_seq, part.bytes as u64, vec![Arc::clone(&part.replica)]);
            }
        }
        drop(work);
        for (seq, size, indexes) in blocks {
            let owners: Vec<Arc<Replica>> = indexes.iter().map(|index| Arc::clone(&parts[*index].replica)).collect();
            if !owners.is_empty() {
                self.tail.add(*seq, *size, owners);
            }
        }
    }

    /// Takes back what was written to segments for a commit that came to nothing, as far as the disk allows.
    fn undo(&self, parts: &[Part<'_>], staged: &[Option<Staged<'_>>]) {
        for (part, stage) in parts.iter().zip(staged) {
            if let Some(stage) = stage.as_ref().filter(|stage| !stage.placement.grown.is_empty()) {
                self.cut_off(&part.replica, stage.before);
            }
        }
    }

    /// Cuts the active segment's file where the log ends, so that recovery cannot take a refused batch for an accepted one.
    fn cut_off(&self, replica: &Replica, before: Option<(Offset, u64)>) {
        if let Some((base, len)) = before {
            let _ = self.files.open(replica.tp, base).and_then(|file| file.set_size(len));
        }
    }
}

fn check_continues(part: &Part<'_>) -> Result<(), StoreError> {
    let state = part.replica.state();
    if state.deleted {
        return Err(StoreError::NoReplica(part.replica.tp));
    }
    let mut end = state.log_end;
    let first = part.writes.first().map(|write| write.batch.header().base_offset);
    if state.refused.is_some_and(|refused| first.is_some_and(|first| first > refused)) {
        return Err(StoreError::NoSpace);
    }
    for write in &part.writes {
        let header = write.batch.header();
        invariant!(R10, header.base_offset >= end, "{}: batch {} at log end {end}", write.tp, header.base_offset);
        end = header.next_offset();
    }
    Ok(())
}

fn placed(replica: &Replica, state: &State, placement: &Placement, appended: &[TailBatch]) -> Entry {
    let (segments, epochs) = state.news(placement, appended);
    Entry::Placed { tp: replica.tp, segments, epochs }
}

fn items<'a>(writes: &[&'a LogWrite], seq: u64) -> Vec<Item<'a>> {
    let item = |write: &&'a LogWrite| {
        let (head, body) = write.batch.pieces();
        Item { pieces: [head, body], batch: TailBatch::new(write.batch.header(), seq, bytes::Bytes::new()) }
    };
    writes.iter().map(item).collect()
}

fn entry_estimate(entry: &Entry) -> usize {
    match entry {
        Entry::Placed { segments, epochs, .. } => 32 + 32 * segments.len() + 12 * epochs.len(),
        _ => 64,
    }
}

/// An upper bound for what the entries of a part that touches its segments take.
fn special_estimate(part: &Part<'_>) -> u64 {
    let state = part.replica.state();
    if part.route == Route::Journal && !state.is_untold() {
        return 0;
    }
    let new_segments = 2 + part.bytes as u64 / u64::from(state.options.segment_bytes.max(1)) + part.writes.len() as u64;
    2 * (96 + 32 * (state.segments.len() as u64 + new_segments)) + 12 * (state.epochs.len() + part.writes.len()) as u64
}

/// An upper bound for what the commit takes in the journal.
fn journal_estimate(parts: &[Part<'_>]) -> u64 {
    let part_bytes = |part: &Part<'_>| match part.route {
        Route::Journal => {
            let entries = (BATCH_ENTRY_BYTES + GAP_BYTES) * part.writes.len();
            (part.bytes + part.gap_max() + entries) as u64 + special_estimate(part)
        }
        Route::Bypass | Route::PageCache => special_estimate(part),
    };
    let bytes: u64 = parts.iter().map(part_bytes).sum();
    // Each block is padded, and there is one per half a block's worth of payload at most.
    (bytes + bytes / 4 + 2 * 4096).next_multiple_of(4096)
}
