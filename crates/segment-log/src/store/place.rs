//! Writing batches into segments. Whoever does it holds the replica's `placing` lock.

use std::sync::{PoisonError, atomic::Ordering};

use base_types::Offset;
use bytes::{BufMut, Bytes};
use store_api::{BLOCK_BYTES, VfsFile};

use super::LogStore;
use crate::{
    CorruptBatch, Damage, StoreError,
    keys::segment_index,
    replica::{Growth, Placement, Placing, Replica, TailBatch},
    segment::{self, DIRECTORY, Segment},
};

/// A direct write is built up to this size at a time.
const EXTENT_BYTES_MAX: usize = 4 << 20;

/// The index of an active segment is stored again when it covers this much more.
const INDEX_STORE_BYTES: u64 = 16 << 20;

/// A batch on its way into a segment.
pub(super) struct Item<'a> {
    /// Its bytes, in one or two pieces.
    pub(super) pieces: [&'a [u8]; 2],
    pub(super) batch: TailBatch,
}

impl Item<'_> {
    fn size(&self) -> u64 {
        (self.pieces[0].len() + self.pieces[1].len()) as u64
    }
}

/// How bytes get into a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    PageCache,
    /// Past the page cache.
    Direct,
    /// The same, durable at once, and what is written is kept in memory for readers.
    DurableAndKept,
}

/// Pieces that are written from where they lie are at least this large: each is a request of its own to the disk's driver.
pub(super) const LENT_BYTES_MIN: usize = 16 << 10;

/// The part of `bytes` that consists of whole pages in memory and in the file alike: how many bytes come before it, and how many it
/// has; none when that is not worth it. `position`: where in the file `bytes` begin, give or take whole pages.
fn lendable(bytes: &[u8], position: usize) -> (usize, usize) {
    let head = position.next_multiple_of(BLOCK_BYTES) - position;
    let whole = bytes.len().saturating_sub(head) / BLOCK_BYTES * BLOCK_BYTES;
    let fits = bytes.as_ptr().align_offset(BLOCK_BYTES) == head;
    if fits && whole >= LENT_BYTES_MIN { (head, whole) } else { (0, 0) }
}

/// Where the active segment ends.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) base: Offset,
    pub(super) len: u64,
}

impl LogStore {
    /// Moves all pending batches of a replica into its segments: large extents past the page cache, which costs a fraction of
    /// the CPU, small ones through it. They are synced before the journal lets go of them: a sync for each extent would cost more than
    /// its write. Returns how many bytes.
    pub(super) fn place_pending(&self, replica: &Replica, placing: &mut Placing) -> Result<u64, StoreError> {
        let pending: Vec<TailBatch> = replica.state().pending().cloned().collect();
        let Some(first) = pending.first() else { return Ok(0) };
        let first_seq = first.seq;
        let items: Vec<Item<'_>> =
            pending.iter().map(|batch| Item { pieces: [&batch.bytes, &[]], batch: batch.clone() }).collect();
        let bytes = items.iter().map(Item::size).sum::<u64>();
        // A direct write ends in zeros. During recovery there may be batches behind that only a look will find.
        let is_direct = bytes >= self.options.direct_bytes_min() && !replica.state().unjournaled;
        let way = if is_direct { Way::Direct } else { Way::PageCache };
        let (placement, _) = self.place(replica, placing, &items, way)?;
        {
            let mut state = replica.state();
            self.apply(&mut state, &placement);
            // Under the replica's lock: a commit that appends more tells of it after it has published.
            let mut work = self.lock_work();
            state.unsynced_seq.get_or_insert(first_seq);
            work.unsynced.insert(replica.tp);
            if state.first_pending_index().is_none() {
                work.pending.remove(&replica.tp);
            }
            state.check_invariants();
        }
        self.counters.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.counters.placed_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Writes batches behind the placed end, closing and beginning segments as needed. Nothing is published: the caller applies
    /// the placement. With `Way::DurableAndKept` the written bytes are durable (names of new segments included), everything placed before
    /// must be synced, and the batches come back with memory of their own.
    pub(super) fn place(
        &self,
        replica: &Replica,
        placing: &mut Placing,
        items: &[Item<'_>],
        way: Way,
    ) -> Result<(Placement, Vec<TailBatch>), StoreError> {
        let (is_direct, durable_and_kept) = (way != Way::PageCache, way == Way::DurableAndKept);
        let (mut end, segment_bytes) = {
            let state = replica.state();
            let end = |s: &Segment| End { base: s.base, len: s.len };
            (state.segments.back().map(end), u64::from(state.options.segment_bytes))
        };
        if let Some(active) = end.filter(|_| !items.is_empty())
            && !self.is_usable(replica, placing, active)?
        {
            end = None;
        }
        let mut placement = Placement::default();
        let mut kept = Vec::new();
        let mut rest = items;
        while let Some(first) = rest.first() {
            let full = |end: &End| {
                let span = first.batch.next.since(end.base);
                end.len > 0 && (end.len + first.size() > segment_bytes || span > i64::from(i32::MAX))
            };
            let current = match end {
                Some(end) if !full(&end) => end,
                previous => {
                    if let Some(previous) = previous {
                        self.store_index(replica, previous.base);
                    }
                    self.begin_segment(replica, placing, first.batch.base)?;
                    placement.grown.push(Growth {
                        segment: first.batch.base,
                        is_new: true,
                        is_synced: false,
                        from: 0,
                        batches: Vec::new(),
                    });
                    End { base: first.batch.base, len: 0 }
                }
            };
            let mut len = current.len;
            let mut count = 0;
            for item in rest {
                let span = item.batch.next.since(current.base);
                let fits = len + item.size() <= segment_bytes && span <= i64::from(i32::MAX);
                if count > 0 && !fits || is_direct && len - current.len >= EXTENT_BYTES_MAX as u64 {
                    break;
                }
                len += item.size();
                count += 1;
            }
            let (now, later) = rest.split_at(count);
            let file = self.files.open(replica.tp, current.base).map_err(|error| self.poison.judge(error))?;
            if is_direct {
                let block = self.write_extent(replica, placing, file.as_ref(), current, now, durable_and_kept)?;
                if durable_and_kept {
                    let mut rest = block;
                    let own = |item: &Item<'_>| TailBatch {
                        bytes: rest.split_to(item.size() as usize),
                        ..item.batch.clone()
                    };
                    kept.extend(now.iter().map(own));
                }
            } else {
                let pieces: Vec<&[u8]> = now.iter().flat_map(|item| item.pieces).collect();
                placing.ragged_end = None;
                file.write_at(current.len, &pieces).map_err(|error| self.poison.judge(error))?;
            }
            let batches =
                now.iter().map(|item| (item.batch.base, item.batch.next, item.size(), item.batch.max_timestamp));
            match placement.grown.last_mut().filter(|growth| growth.segment == current.base) {
                Some(growth) => growth.batches.extend(batches),
                None => placement.grown.push(Growth {
                    segment: current.base,
                    is_new: false,
                    is_synced: false,
                    from: current.len,
                    batches: batches.collect(),
                }),
            }
            end = Some(End { len, ..current });
            rest = later;
        }
        if durable_and_kept {
            if placement.grown.iter().any(|growth| growth.is_new) {
                self.sync_names(replica)?;
            }
            for growth in &mut placement.grown {
                growth.is_synced = true;
            }
        }
        Ok((placement, kept))
    }

    /// Whether the active segment reaches to where it ends for the log. One that does not is damaged: it stays as it is, what comes
    /// goes into another file, and the journal is not held up by it.
    pub(super) fn is_usable(
        &self,
        replica: &Replica,
        placing: &mut Placing,
        End { base, len }: End,
    ) -> Result<bool, StoreError> {
        let tp = replica.tp;
        let damage = match self.files.open(tp, base) {
            Ok(file) => match file.size().map_err(|error| self.poison.judge(error))? {
                have if have < len => Damage::Short { wanted: len, have },
                _ => return Ok(true),
            },
            Err(error) if error.is_not_found() && len == 0 => {
                return self.begin_segment(replica, placing, base).map(|()| true);
            }
            Err(error) if error.is_not_found() => Damage::Missing,
            Err(error) => return Err(self.poison.judge(error)),
        };
        self.note_damage(replica, CorruptBatch { tp, segment: base, position: 0, damage });
        Ok(false)
    }

    /// Publishes a placement that is durable or whose durability the caller keeps track of.
    pub(super) fn apply(&self, state: &mut crate::replica::State, placement: &Placement) {
        state.apply(placement, self.options.index_interval_bytes);
        if placement.grown.iter().all(|growth| growth.is_synced) {
            let new: Vec<Offset> = placement.grown.iter().filter(|g| g.is_new).map(|g| g.segment).collect();
            for segment in state.segments.iter_mut().filter(|segment| new.contains(&segment.base)) {
                segment.name_synced = true;
            }
        }
    }

    /// Makes an empty segment file, and the directory when it is the first.
    pub(super) fn begin_segment(
        &self,
        replica: &Replica,
        placing: &mut Placing,
        base: Offset,
    ) -> Result<(), StoreError> {
        if !placing.directory_ready {
            let mut unsynced = self.directories_unsynced.lock().unwrap_or_else(PoisonError::into_inner);
            self.vfs.create_dir(&segment::directory(replica.tp)).map_err(|error| self.poison.judge(error))?;
            *unsynced = true;
            placing.directory_ready = true;
        }
        placing.ragged_end = None;
        self.files.create(replica.tp, base).map_err(|error| self.poison.judge(error))?;
        Ok(())
    }

    /// Makes the names of a replica's segments durable.
    pub(super) fn sync_names(&self, replica: &Replica) -> Result<(), StoreError> {
        let sync = || {
            self.vfs.sync_dir(&segment::directory(replica.tp))?;
            let mut unsynced = self.directories_unsynced.lock().unwrap_or_else(PoisonError::into_inner);
            if *unsynced {
                self.vfs.sync_dir(DIRECTORY)?;
                *unsynced = false;
            }
            Ok(())
        };
        sync().map_err(|error| self.poison.judge(error))
    }

    /// Makes all that is placed durable.
    pub(super) fn sync_replica(&self, replica: &Replica) -> Result<(), StoreError> {
        let (dirty, names): (Vec<Offset>, bool) = {
            let state = replica.state();
            let dirty = state.segments.iter().filter(|s| s.synced_len != s.len).map(|s| s.base).collect();
            (dirty, state.segments.iter().any(|segment| !segment.name_synced))
        };
        for base in dirty {
            let file = self.files.open(replica.tp, base).map_err(|error| self.poison.judge(error))?;
            file.sync_data().map_err(|error| self.poison.judge(error))?;
        }
        if names {
            self.sync_names(replica)?;
        }
        let mut state = replica.state();
        self.counters.unjournaled_bytes.fetch_sub(state.unjournaled_bytes, Ordering::Relaxed);
        state.mark_synced();
        self.lock_work().unsynced.remove(&replica.tp);
        Ok(())
    }

    /// One extent: whole blocks past the page cache. The ragged end of the segment is written again in front of it, which
    /// does no harm when power fails, since those bytes are the same before and after.
    ///
    /// Returns the items' bytes where they are to be kept. Assumes: a sector is old or new, never a mixture.
    fn write_extent(
        &self,
        replica: &Replica,
        placing: &mut Placing,
        file: &dyn VfsFile,
        end: End,
        items: &[Item<'_>],
        durable_and_kept: bool,
    ) -> Result<Bytes, StoreError> {
        let ragged = (end.len % BLOCK_BYTES as u64) as usize;
        let start = end.len - ragged as u64;
        let bytes = items.iter().map(Item::size).sum::<u64>() as usize;
        let size = ragged + bytes;
        let mut block = if durable_and_kept { self.pool.carve(size) } else { self.pool.carve_passing(size) };
        match placing.ragged_end.take() {
            Some((base, len, bytes)) if base == end.base && len == end.len => block.extend_from_slice(&bytes),
            _ => {
                block.resize(ragged, 0);
                let have = file.read_at(start, &mut block).map_err(|error| self.poison.judge(error))?;
                if have < ragged {
                    let damage = Damage::Short { wanted: ragged as u64, have: have as u64 };
                    let tp = replica.tp;
                    return Err(StoreError::Corrupt(CorruptBatch { tp, segment: end.base, position: start, damage }));
                }
            }
        }
        // What lies in memory as it will lie in the file is written from where it is; `block` holds the rest.
        let mut lent: Vec<(usize, &[u8])> = Vec::new();
        for bytes in items.iter().flat_map(|item| item.pieces) {
            let (head, whole) = if durable_and_kept { (0, 0) } else { lendable(bytes, block.len()) };
            if whole == 0 {
                block.extend_from_slice(bytes);
                continue;
            }
            block.extend_from_slice(&bytes[..head]);
            lent.push((block.len(), &bytes[head..head + whole]));
            block.extend_from_slice(&bytes[head + whole..]);
        }
        let used = block.len();
        block.put_bytes(0, used.next_multiple_of(BLOCK_BYTES) - used);
        let block = block.freeze();
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(2 * lent.len() + 1);
        let mut from = 0;
        for (before, whole) in lent {
            pieces.extend([&block[from..before], whole]);
            from = before;
        }
        pieces.push(&block[from..]);
        let written =
            if durable_and_kept { file.write_durable(start, &pieces) } else { file.write_direct(start, &pieces) };
        written.map_err(|error| self.poison.judge(error))?;
        let len = end.len + bytes as u64;
        let keep = (len % BLOCK_BYTES as u64) as usize;
        // A copy, so that 4 KiB at most are held and not the whole extent.
        placing.ragged_end = Some((end.base, len, Bytes::copy_from_slice(&block[used - keep..used])));
        Ok(block.slice(ragged..used))
    }

    /// So that after a restart little has to be walked.
    pub(super) fn store_index_when_due(&self, replica: &Replica) {
        let active = {
            let state = replica.state();
            let due = |s: &&Segment| s.len >= s.index_stored.saturating_add(INDEX_STORE_BYTES);
            state.segments.back().filter(due).map(|segment| segment.base)
        };
        if let Some(base) = active {
            self.store_index(replica, base);
        }
    }

    /// Keeps the index of the active segment where it is found after a restart. Derived state: failure is no harm.
    pub(super) fn store_index(&self, replica: &Replica, base: Offset) {
        let key = segment_index::key(replica.tp, base);
        let value = {
            let mut state = replica.state();
            let cut = state.cut;
            let Some(segment) = state.segments.iter_mut().rev().find(|segment| segment.base == base) else { return };
            let Some(index) = segment.index.as_ref().filter(|index| index.covered == segment.len) else { return };
            let value = segment_index::encode(&key, index, cut);
            segment.index_stored = segment.len;
            value
        };
        let mut batch = store_api::KvBatch::default();
        batch.put(key, value);
        let _ = self.kv.write(&batch, store_api::KvDurability::Lazy);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base_types::{Incarnation, LeaderEpoch, PartitionIndex, Random, Timestamp, TopicId, TopicPartition};
    use record_batch::{BatchBuilder, Compression, StampedBatch};
    use store_api::{MemKv, MemVfs};

    use super::*;
    use crate::{Durability, FlushBudget, LogOptions, LogWrite, ReplicaOptions};

    #[test]
    fn whole_pages_that_lie_alike_in_memory_and_file_are_lent() {
        let memory = vec![0; 12 * BLOCK_BYTES];
        let page = memory.as_ptr().align_offset(BLOCK_BYTES);
        for skip in [0, 1, BLOCK_BYTES - 1] {
            let bytes = &memory[page + skip..page + 10 * BLOCK_BYTES + 1];
            let (head, whole) = if skip == 0 { (0, 10) } else { (BLOCK_BYTES - skip, 9) };
            for position in [skip, skip + 7 * BLOCK_BYTES] {
                assert_eq!(lendable(bytes, position), (head, whole * BLOCK_BYTES));
                assert_eq!(lendable(bytes, position + 1), (0, 0), "one byte further in its page");
                assert_eq!(lendable(&bytes[..head + LENT_BYTES_MIN], position), (head, LENT_BYTES_MIN));
                assert_eq!(lendable(&bytes[..head + LENT_BYTES_MIN - 1], position), (0, 0), "too few pages");
            }
        }
    }

    fn write(partition: i32, base: Offset, bytes: usize) -> LogWrite {
        let mut builder = BatchBuilder::new(Compression::None).base_offset(base).leader_epoch(LeaderEpoch(1));
        builder.push(None, Some(&vec![7; bytes]), &[], Timestamp(1));
        let batch = StampedBatch::from_stored(builder.build().unwrap()).unwrap();
        LogWrite { tp: tp(partition), batch, durability: Durability::Fsync }
    }

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicId([7; 16]), partition: PartitionIndex(partition) }
    }

    #[test]
    fn large_batches_of_the_journal_lie_as_they_will_in_their_segment_and_gaps_are_a_sixteenth_at_most() {
        let mut random = Random::new(5);
        let options = LogOptions { journal_file_bytes: 16 << 20, ..LogOptions::new(Incarnation([1; 16])) };
        let (store, _) = LogStore::open(Arc::new(MemVfs::new()), Arc::new(MemKv::new()), options).unwrap();
        (0..3).for_each(|i| store.create_replica(tp(i), ReplicaOptions::default()).map(|_| ()).unwrap());
        let mut lent = 0;
        for round in 0..60 {
            let mut writes = Vec::new();
            for partition in 0..3 {
                let (_, mut end) = store.bounds(tp(partition)).unwrap();
                // Partition 2 has small batches, many of them in some rounds: no gap is worth it.
                let (count, least, most) = match partition {
                    2 => (random.between(1, 100), 0, 2000),
                    _ => (random.between(1, 3), 64 << 10, 200 << 10),
                };
                for _ in 0..count {
                    writes.push(write(partition, end, random.between(least, most) as usize));
                    end = end.plus(1);
                }
            }
            let report = store.commit(&writes).unwrap();
            let table = writes.len() as u64 * 35;
            assert!(report.journal_bytes <= report.bytes + report.bytes / 16 + table + 2 * BLOCK_BYTES as u64);
            for partition in 0..3 {
                let state = store.replica(tp(partition)).unwrap();
                let state = state.state();
                let mut position = state.segments.back().map_or(0, |segment| segment.len) as usize;
                for batch in state.pending() {
                    let is_lent = lendable(&batch.bytes, position).1 > 0;
                    assert_eq!(is_lent, partition != 2, "round {round}: {} bytes at {position}", batch.bytes.len());
                    lent += u64::from(is_lent);
                    position += batch.bytes.len();
                }
            }
            if random.chance(200) {
                store.flush(FlushBudget::EVERYTHING).unwrap();
            }
        }
        assert!(lent > 200, "{lent}");
    }
}
