//! The background: from the journal's memory to segments, to a durable manifest, to journal files that are used again.

use std::sync::{MutexGuard, PoisonError, atomic::Ordering};

use base_types::TopicPartition;

use super::LogStore;
use crate::{StoreError, manifest::Manifest, replica::Replica};

/// With so few replicas to sync, or one for each MiB of the journal, syncing them now costs less than a longer replay later.
const SYNC_CHEAP: usize = 64;

/// How much of the background work to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlushBudget {
    /// Do it all, whether due or not.
    pub everything: bool,
    /// Stop moving batches to segments after about this much.
    pub bytes_max: u64,
}

impl FlushBudget {
    /// What is due. Cheap when nothing is.
    pub const DUE: FlushBudget = FlushBudget { everything: false, bytes_max: u64::MAX };
    /// All there is.
    pub const EVERYTHING: FlushBudget = FlushBudget { everything: true, bytes_max: u64::MAX };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlushReport {
    /// Moved to segments.
    pub placed_bytes: u64,
    /// Replicas whose segments were synced.
    pub synced_replicas: u64,
    /// Journal files that can be used again.
    pub released_files: u64,
    pub wrote_manifest: bool,
}

impl LogStore {
    /// Whether [`LogStore::flush`] has anything due. Waits for a commit in progress, and for nothing else.
    pub fn is_flush_due(&self) -> bool {
        self.is_placing_due() || self.is_sync_due()
    }

    /// Moves journaled batches to segments in large extents and releases the journal. For a background thread, whenever
    /// [`LogStore::is_flush_due`]; commits go on meanwhile, and help when this falls behind.
    pub fn flush(&self, budget: FlushBudget) -> Result<FlushReport, StoreError> {
        self.poison.check()?;
        let _flushing = self.lock_flushing();
        let mut report = FlushReport::default();
        if budget.everything || self.is_placing_due() {
            report.placed_bytes = self.place_all(budget.bytes_max)?;
        }
        if budget.everything || self.is_sync_due() {
            self.sync_and_release(&mut report, false)?;
        }
        self.tail.evict();
        Ok(report)
    }

    /// Makes one more journal file ready ahead of need. `false` when there is one. For a background thread; commits go on
    /// meanwhile.
    pub fn prepare_journal(&self) -> Result<bool, StoreError> {
        self.poison.check()?;
        let Some(mut filling) = self.lock_journal().begin_filling() else { return Ok(false) };
        let filled = filling.run();
        self.lock_journal().end_filling(filling, filled.is_ok());
        filled.map_err(|error| self.poison.judge(error))?;
        if self.lock_journal().has_unnamed() {
            let _flushing = self.lock_flushing();
            self.write_manifest(false)?;
        }
        Ok(true)
    }

    /// The orderly end: everything in segments, durable, and marked so (S12). The store must not be used afterwards.
    pub fn shutdown(&self) -> Result<(), StoreError> {
        self.poison.check()?;
        let _flushing = self.lock_flushing();
        self.place_all(u64::MAX)?;
        for replica in self.read_replicas().values() {
            let active = replica.state().segments.back().map(|segment| segment.base);
            if let Some(base) = active {
                self.store_index(replica, base);
            }
        }
        self.sync_and_release(&mut FlushReport::default(), true)
    }

    fn is_placing_due(&self) -> bool {
        self.counters.pending_bytes.load(Ordering::Relaxed) >= self.options.pending_bytes_max() / 2
            || self.is_journal_half_full()
    }

    fn is_sync_due(&self) -> bool {
        self.is_journal_worth_releasing()
            || self.is_journal_half_full()
            || self.counters.unjournaled_bytes.load(Ordering::Relaxed) >= self.options.unsynced_bytes_max
    }

    fn is_journal_half_full(&self) -> bool {
        let journal = self.lock_journal();
        journal.live_bytes() * 2 > journal.capacity()
    }

    fn is_journal_worth_releasing(&self) -> bool {
        let bytes = self.lock_journal().unreleased_bytes();
        let cheap = SYNC_CHEAP.max((bytes >> 20) as usize);
        bytes >= self.options.journal_file_bytes / 2 && self.lock_work().unsynced.len() <= cheap
    }

    pub(super) fn lock_flushing(&self) -> MutexGuard<'_, ()> {
        self.flushing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All pending batches, or as many as `bytes_max` allows, to segments. The caller holds `flushing`.
    pub(super) fn place_all(&self, bytes_max: u64) -> Result<u64, StoreError> {
        self.place_those(bytes_max, |_| true)
    }

    /// The same, of the replicas that are wanted.
    pub(super) fn place_those(&self, bytes_max: u64, is_wanted: impl Fn(&Replica) -> bool) -> Result<u64, StoreError> {
        let pending: Vec<TopicPartition> = self.lock_work().pending.iter().copied().collect();
        let mut placed = 0;
        for tp in pending {
            if placed >= bytes_max {
                break;
            }
            let Ok(replica) = self.replica(tp) else {
                self.lock_work().pending.remove(&tp);
                continue;
            };
            if !is_wanted(&replica) {
                continue;
            }
            let mut placing = replica.placing();
            placed += self.place_pending(&replica, &mut placing)?;
            self.store_index_when_due(&replica);
        }
        Ok(placed)
    }

    /// Frees what can be freed of the journal, for a commit that found none.
    pub(super) fn release_journal(&self) -> Result<(), StoreError> {
        let _flushing = self.lock_flushing();
        self.place_all(u64::MAX)?;
        self.sync_and_release(&mut FlushReport::default(), false)
    }

    /// Syncs all segments, writes the manifest, and lets go of the journal files that it no longer needs. The caller holds
    /// `flushing`.
    pub(super) fn sync_and_release(&self, report: &mut FlushReport, clean: bool) -> Result<(), StoreError> {
        let unsynced: Vec<TopicPartition> = self.lock_work().unsynced.iter().copied().collect();
        for tp in unsynced {
            let Ok(replica) = self.replica(tp) else {
                self.lock_work().unsynced.remove(&tp);
                continue;
            };
            let _placing = replica.placing();
            self.sync_replica(&replica)?;
            report.synced_replicas += 1;
        }
        report.released_files += self.write_manifest(clean)? as u64;
        report.wrote_manifest = true;
        Ok(())
    }

    /// Makes what is durable in segments known, and releases journal files. Returns how many.
    pub(super) fn write_manifest(&self, clean: bool) -> Result<usize, StoreError> {
        // Read before any replica is looked at: entries up to here are in the states that follow.
        let published = self.published.load(Ordering::Acquire);
        // The list and the deletions in it must agree with the journal: `delete_replica` holds this lock from its entry to the end.
        let replicas: Vec<_> = self.read_replicas().values().cloned().collect();
        let mut needed = published + 1;
        let mut records = Vec::with_capacity(replicas.len());
        for replica in &replicas {
            let state = replica.state();
            if state.deleted {
                continue;
            }
            let record = state.to_record(replica.tp, published);
            needed = needed.min(record.as_of + 1);
            records.push(record);
        }
        let (replay_from, last_block, journal_files) = {
            let journal = self.lock_journal();
            let files = journal.files().map_err(|error| self.poison.judge(error))?;
            (journal.replay_start(needed), journal.last(), files)
        };
        let incarnation = self.options.incarnation;
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let lives = {
            let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
            let needed = lives.partition_point(|(from, _)| *from <= replay_from.seq).saturating_sub(1);
            lives.drain(..needed);
            lives.clone()
        };
        let manifest = Manifest {
            clean,
            incarnation,
            replay_from,
            generation,
            last_block,
            lives,
            journal_files,
            replicas: records,
        };
        manifest.store(self.vfs.as_ref()).map_err(|error| self.poison.judge(error))?;
        self.counters.manifests.fetch_add(1, Ordering::Relaxed);
        for (replica, record) in replicas.iter().filter(|r| !r.state().deleted).zip(&manifest.replicas) {
            let mut state = replica.state();
            if state.cut == record.cut && record.placed_end > state.told_end {
                state.told_end = record.placed_end;
                state.told_segment = record.segments.last().map(|segment| segment.base).max(state.told_segment);
            }
        }
        let mut journal = self.lock_journal();
        journal.set_named(manifest.journal_files.iter().map(|(number, _)| *number));
        Ok(journal.release(replay_from))
    }
}
