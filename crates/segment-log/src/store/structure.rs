//! Replicas come, go and are cut.
//!
//! Each of these changes is an entry of the journal, durable before anything is done about it. What is done to files afterwards
//! is finished by recovery when power fails in between.

use std::sync::{Arc, MutexGuard, PoisonError, atomic::Ordering};

use base_types::{LeaderEpoch, Offset, TopicPartition, invariant, planted};
use record_batch::BatchHeader;
use store_api::{KvBatch, KvDurability};

use super::LogStore;
use crate::{
    Checkpoint, ReadError, StoreError,
    journal::{
        block::{BlockBuilder, HEADER_BYTES},
        entry::Entry,
        writer::JournalWriter,
    },
    keys,
    options::ReplicaOptions,
    replica::{Placement, Placing, Replica, State},
    segment,
};

/// A replica as found on the disk.
#[derive(Clone, Debug)]
pub struct ReplicaOnDisk {
    pub log_start: Offset,
    /// Where the batch begins that holds the log start; the log start itself where there is none.
    pub first_batch: Offset,
    /// Everything below is durable, or in the page cache for partitions that asked for no more.
    pub log_end: Offset,
    /// Each epoch with the offset of its first batch.
    pub leader_epochs: Vec<(LeaderEpoch, Offset)>,
    pub checkpoint: Option<Checkpoint>,
    /// Headers of the batches from the checkpoint's as-of offset (or the log start) on that carry a producer id: what the core
    /// needs to bring producer state up to the log end.
    pub headers_since_checkpoint: Vec<BatchHeader>,
    pub options: ReplicaOptions,
}

impl LogStore {
    /// What is there about a replica; `None` when there is none.
    pub fn open_replica(&self, tp: TopicPartition) -> Result<Option<ReplicaOnDisk>, ReadError> {
        let Ok(replica) = self.replica(tp) else { return Ok(None) };
        let (log_start, log_end, leader_epochs, options, cut) = {
            let state = replica.state();
            if let Some(found) = state.damage.as_ref().filter(|found| found.damage.hides_end()) {
                return Err(found.clone().into());
            }
            let mut leader_epochs = state.visible_epochs();
            if planted!(EpochsForgottenAtRestart) {
                leader_epochs.drain(..leader_epochs.len().saturating_sub(1));
            }
            (state.log_start, state.log_end, leader_epochs, state.options, state.cut)
        };
        let key = keys::checkpoint::key(tp);
        let found = self.kv.get(&key).ok().flatten();
        let checkpoint = found
            .and_then(|value| keys::checkpoint::decode(&key, &value, cut))
            // S4: derived state never runs ahead of the log. A crash can undo the log's unsynced end but keep the checkpoint.
            .filter(|checkpoint| checkpoint.as_of <= log_end && checkpoint.as_of >= log_start);
        let from = checkpoint.as_ref().map_or(log_start, |checkpoint| checkpoint.as_of);
        let mut headers_since_checkpoint = Vec::new();
        let walked = self.walk_headers(&replica, from, log_end, |header| {
            if header.has_producer_id() {
                headers_since_checkpoint.push(*header);
            }
            true
        });
        self.noted(&replica, cut, walked)?;
        let first_batch = self.first_batch(tp)?;
        Ok(Some(ReplicaOnDisk {
            log_start,
            first_batch,
            log_end,
            leader_epochs,
            checkpoint,
            headers_since_checkpoint,
            options,
        }))
    }

    pub fn create_replica(&self, tp: TopicPartition, options: ReplicaOptions) -> Result<ReplicaOnDisk, StoreError> {
        self.create_replicas(&[(tp, options)])?;
        Ok(ReplicaOnDisk {
            log_start: Offset::ZERO,
            first_batch: Offset::ZERO,
            log_end: Offset::ZERO,
            leader_epochs: Vec::new(),
            checkpoint: None,
            headers_since_checkpoint: Vec::new(),
            options,
        })
    }

    /// Makes many empty replicas with one write, or none.
    pub fn create_replicas(&self, replicas: &[(TopicPartition, ReplicaOptions)]) -> Result<(), StoreError> {
        let mut journal = self.begin_change(replicas.len())?;
        for (tp, _) in replicas {
            if self.replica(*tp).is_ok() {
                return Err(StoreError::ReplicaExists(*tp));
            }
            self.set_strays_aside(*tp, journal.last_seq() + 1)?;
        }
        let entries = replicas.iter().map(|(tp, options)| Entry::Created { tp: *tp, options: *options });
        let seq = self.write_change(&mut journal, entries.collect::<Vec<_>>().as_slice())?;
        let mut all = self.write_replicas();
        for (tp, options) in replicas {
            all.insert(*tp, Arc::new(Replica::new(*tp, State::empty(*options, Offset::ZERO, seq))));
        }
        drop(all);
        self.published.store(seq, Ordering::Release);
        Ok(())
    }

    /// Removes a replica and its data. The caller must have a committed word in hand that says so: the topic is removed, or the
    /// partition's replicas are others (C10).
    pub fn delete_replica(&self, tp: TopicPartition) -> Result<(), StoreError> {
        // Room is made first, since that may need a flush. No manifest may be made between the entry and the end of this.
        drop(self.begin_change(1)?);
        let _flushing = self.lock_flushing();
        let replica = self.replica(tp)?;
        let mut journal = self.begin_change_while_flushing()?;
        let mut placing = replica.placing();
        let seq = self.write_change(&mut journal, &[Entry::Deleted { tp }])?;
        {
            let mut state = replica.state();
            self.forget_accounts(&state, tp);
            state.reset(Offset::ZERO, seq);
            state.deleted = true;
        }
        self.write_replicas().remove(&tp);
        self.published.store(seq, Ordering::Release);
        drop(journal);
        placing.directory_ready = false;
        self.remove_directory(tp)?;
        self.files.close_partition(tp);
        self.forget_derived(tp);
        Ok(())
    }

    /// Removes the batches that reach `to` or beyond and returns the new log end: the end of the last batch that is left, which
    /// is `to` unless a batch straddles it or offsets are missing there. Durable when it returns.
    pub fn truncate(&self, tp: TopicPartition, to: Offset) -> Result<Offset, StoreError> {
        let replica = self.replica(tp)?;
        let mut journal = self.begin_change(1)?;
        let mut placing = replica.placing();
        let (log_start, log_end, placed_end) = {
            let state = replica.state();
            (state.log_start, state.log_end, state.placed_end)
        };
        invariant!(R12, to >= log_start, "truncation of {tp} to {to} below its start {log_start}");
        if to >= log_end {
            replica.state().refused = None;
            return Ok(log_end);
        }
        let (end, cut) = if to >= placed_end {
            let state = replica.state();
            let kept = state.pending().take_while(|batch| batch.next <= to).last();
            (kept.map_or(placed_end, |batch| batch.next), None)
        } else {
            let found = self.find_cut(&replica, to);
            if let Err(StoreError::Corrupt(damage)) = &found {
                self.note_damage(&replica, damage.clone());
            }
            found?
        };
        if end <= log_start {
            self.reset_locked(&replica, journal, &mut placing, log_start)?;
            return Ok(log_start);
        }
        // What is left of batches that the journal knows nothing of must not be lost with what is cut off.
        let mut entries = self.make_known(&replica)?;
        let made_known = !entries.is_empty();
        entries.push(Entry::Truncated { tp, to: end, cut });
        let seq = self.write_change(&mut journal, &entries)?;
        let gone = {
            let mut state = replica.state();
            if made_known {
                state.mark_told();
            }
            self.forget_accounts(&state, tp);
            let gone = state.truncate(end, cut, seq);
            state.refused = None;
            self.restore_accounts(&mut state, tp);
            state.check_invariants();
            gone
        };
        self.published.store(seq, Ordering::Release);
        drop(journal);
        placing.ragged_end = None;
        self.forget_indexes(tp, &gone);
        for base in gone {
            self.files.remove(tp, base).map_err(|error| self.poison.judge(error))?;
        }
        if let Some((base, len)) = cut {
            // For tidiness: the log ends where the journal says, whatever the length of the file.
            let _ = self.files.open(tp, base).and_then(|file| file.set_size(len));
        }
        Ok(end)
    }

    /// Drops everything: an empty log that starts at `start`.
    pub fn reset(&self, tp: TopicPartition, start: Offset) -> Result<(), StoreError> {
        let replica = self.replica(tp)?;
        let journal = self.begin_change(1)?;
        let mut placing = replica.placing();
        self.reset_locked(&replica, journal, &mut placing, start)
    }

    pub(super) fn reset_locked(
        &self,
        replica: &Replica,
        mut journal: MutexGuard<'_, JournalWriter>,
        placing: &mut Placing,
        start: Offset,
    ) -> Result<(), StoreError> {
        let tp = replica.tp;
        let seq = self.write_change(&mut journal, &[Entry::Reset { tp, start }])?;
        let gone = {
            let mut state = replica.state();
            self.forget_accounts(&state, tp);
            state.reset(start, seq)
        };
        self.published.store(seq, Ordering::Release);
        drop(journal);
        placing.ragged_end = None;
        for base in gone {
            self.files.remove(tp, base).map_err(|error| self.poison.judge(error))?;
        }
        self.forget_derived(tp);
        Ok(())
    }

    /// Records below `to` are gone for readers; segments that lie wholly below are removed. The checkpoint that there is of the
    /// replica is durable before: what it was derived from cannot be looked at again.
    pub fn advance_log_start(&self, tp: TopicPartition, to: Offset) -> Result<(), StoreError> {
        let replica = self.replica(tp)?;
        self.sync_checkpoint(tp);
        {
            // Before the journal is locked, for others commit meanwhile. What becomes unsynced after this stays until the next time.
            let _placing = replica.placing();
            if replica.state().is_unsynced_below(to) {
                self.sync_replica(&replica)?;
            }
        }
        let mut journal = self.begin_change(1)?;
        let _placing = replica.placing();
        let (log_start, log_end, unjournaled) = {
            let state = replica.state();
            (state.log_start, state.log_end, state.unjournaled)
        };
        let to = to.min(log_end);
        if to <= log_start {
            return Ok(());
        }
        // Else the start could survive a crash that the batches below it do not (S11).
        let mut entries = self.make_known(&replica)?;
        let made_known = !entries.is_empty();
        if made_known && unjournaled {
            entries.push(Entry::Unjournaled { tp });
        }
        let first_segment = replica.state().first_segment_kept(to);
        entries.push(Entry::LogStart { tp, to, first_segment });
        let seq = self.write_change(&mut journal, &entries)?;
        let gone = {
            let mut state = replica.state();
            if made_known {
                state.mark_told();
            }
            state.last_seq = seq;
            let gone = state.advance_log_start(to, first_segment);
            state.check_invariants();
            gone
        };
        self.published.store(seq, Ordering::Release);
        drop(journal);
        self.forget_indexes(tp, &gone);
        for base in gone {
            self.files.remove(tp, base).map_err(|error| self.poison.judge(error))?;
        }
        Ok(())
    }

    /// Makes durable what was committed with [`crate::Durability::PageCache`] so far. Others commit meanwhile.
    pub fn sync(&self, tp: TopicPartition) -> Result<(), StoreError> {
        self.poison.check()?;
        let replica = self.replica(tp)?;
        let _placing = replica.placing();
        if replica.state().is_synced() {
            return Ok(());
        }
        self.sync_replica(&replica)
    }

    /// Where the batch begins that holds the log start: who is to get the whole log has to begin there.
    pub fn first_batch(&self, tp: TopicPartition) -> Result<Offset, ReadError> {
        let Ok(replica) = self.replica(tp) else { return Err(ReadError::NoReplica(tp)) };
        let (log_start, log_end, cut) = {
            let state = replica.state();
            (state.log_start, state.log_end, state.cut)
        };
        let mut first = log_start;
        let walked = self.walk_headers(&replica, log_start, log_end, |header| {
            first = first.min(header.base_offset);
            false
        });
        self.noted(&replica, cut, walked)?;
        Ok(first)
    }

    /// Keeps what the core derived from the log, for a quicker start. Not synced: after a crash an older one may be found.
    pub fn checkpoint(&self, tp: TopicPartition, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let replica = self.replica(tp)?;
        let cut = {
            let state = replica.state();
            invariant!(S4, checkpoint.as_of <= state.log_end, "as of {}, log end {}", checkpoint.as_of, state.log_end);
            state.cut
        };
        let mut batch = KvBatch::default();
        let key = keys::checkpoint::key(tp);
        let value = keys::checkpoint::encode(&key, checkpoint, cut);
        batch.put(key, value);
        self.kv.write(&batch, KvDurability::Lazy).map_err(StoreError::Kv)
    }

    /// Without room for it, say, the records still go: they are in nobody's way but the disk's.
    fn sync_checkpoint(&self, tp: TopicPartition) {
        let key = keys::checkpoint::key(tp);
        if let Ok(Some(value)) = self.kv.get(&key) {
            let mut batch = KvBatch::default();
            batch.put(key, value);
            drop(self.kv.write(&batch, KvDurability::Synced));
        }
    }

    /// Syncs batches that the journal knows nothing of, if there are any that the manifest does not tell of either, and returns the
    /// entry that does.
    fn make_known(&self, replica: &Replica) -> Result<Vec<Entry>, StoreError> {
        if !replica.state().is_untold() {
            return Ok(Vec::new());
        }
        self.sync_replica(replica)?;
        let (segments, epochs) = replica.state().news(&Placement::default(), &[]);
        Ok(vec![Entry::Placed { tp: replica.tp, segments, epochs }])
    }

    pub(super) fn begin_change(&self, entries: usize) -> Result<MutexGuard<'_, JournalWriter>, StoreError> {
        self.poison.check()?;
        // Entries of truncations are small; `Placed` has room in the slack.
        let bytes = (HEADER_BYTES + 128 * entries + 3000).next_multiple_of(4096) as u64;
        let journal = self.lock_journal_with_room(bytes, bytes)?;
        self.poison.check()?;
        Ok(journal)
    }

    fn begin_change_while_flushing(&self) -> Result<MutexGuard<'_, JournalWriter>, StoreError> {
        let bytes = 4096;
        let mut journal = self.lock_journal();
        match journal.ensure_room(bytes, bytes).map_err(|error| self.poison.judge(error))? {
            true => Ok(journal),
            false => Err(StoreError::NoSpace),
        }
    }

    fn write_change(&self, journal: &mut JournalWriter, entries: &[Entry]) -> Result<u64, StoreError> {
        let mut builder = BlockBuilder::new(self.pool.carve(HEADER_BYTES + 128 * entries.len()));
        for entry in entries {
            builder.entry(entry);
        }
        let (seq, block) = journal.append(builder).map_err(|error| self.poison.judge(error))?;
        self.counters.journal_bytes.fetch_add(block.len() as u64, Ordering::Relaxed);
        Ok(seq)
    }

    /// The replica's part of the counts, before it is cut.
    fn forget_accounts(&self, state: &State, tp: TopicPartition) {
        self.counters.pending_bytes.fetch_sub(state.pending_bytes(), Ordering::Relaxed);
        self.counters.unjournaled_bytes.fetch_sub(state.unjournaled_bytes, Ordering::Relaxed);
        let mut work = self.lock_work();
        work.pending.remove(&tp);
        work.unsynced.remove(&tp);
    }

    /// And after.
    fn restore_accounts(&self, state: &mut State, tp: TopicPartition) {
        let pending = state.pending_bytes();
        self.counters.pending_bytes.fetch_add(pending, Ordering::Relaxed);
        // What is left unsynced of such bytes is not known; it only says when to sync.
        self.counters.unjournaled_bytes.fetch_add(state.unjournaled_bytes, Ordering::Relaxed);
        self.note_work(state, tp, pending > 0);
    }

    /// What is to be done for a replica: batches to place, segments to sync.
    pub(super) fn note_work(&self, state: &State, tp: TopicPartition, is_pending: bool) {
        let mut work = self.lock_work();
        if is_pending {
            work.pending.insert(tp);
        }
        if !state.is_synced() {
            work.unsynced.insert(tp);
        }
    }

    fn forget_indexes(&self, tp: TopicPartition, gone: &[Offset]) {
        let mut batch = KvBatch::default();
        for base in gone {
            batch.delete(keys::segment_index::key(tp, *base));
        }
        if !batch.is_empty() {
            let _ = self.kv.write(&batch, KvDurability::Lazy);
        }
    }

    /// Derived state is of no use any more. Should this be lost, it is recognised by its `cut`.
    fn forget_derived(&self, tp: TopicPartition) {
        let mut batch = KvBatch::default();
        for prefix in keys::partition_prefixes(tp) {
            batch.delete_prefix(prefix);
        }
        let _ = self.kv.write(&batch, KvDurability::Lazy);
    }

    pub(super) fn remove_directory(&self, tp: TopicPartition) -> Result<(), StoreError> {
        let _unsynced = self.directories_unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        match self.vfs.remove_dir(&segment::directory(tp)) {
            Err(error) if !error.is_not_found() => Err(self.poison.judge(error)),
            _ => Ok(()),
        }
    }

    /// A directory that no replica owns is moved aside, never reused and never removed (C10).
    fn set_strays_aside(&self, tp: TopicPartition, seq: u64) -> Result<(), StoreError> {
        let directory = segment::directory(tp);
        match self.vfs.rename(&directory, &format!("{directory}.stray-{seq}")) {
            Err(error) if !error.is_not_found() => Err(self.poison.judge(error)),
            _ => Ok(()),
        }
    }
}
