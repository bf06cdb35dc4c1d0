//! The log store: what a storage node asks of its disk.
//!
//! Locks, in the order in which they are taken: `flushing`, `journal`, a replica's `placing`, a replica's `state`, `work`. Only
//! `state` is taken by readers, and neither it nor `work` is ever held over I/O.

mod commit;
mod damage;
mod flush;
mod place;
mod read;
mod recovery;
mod scrub;
mod structure;
mod timestamps;
mod verify;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use base_types::{Incarnation, Offset, TopicPartition};
use store_api::{KvStore, Vfs};

pub use self::{
    commit::{CommitReport, Durability, LogWrite},
    flush::{FlushBudget, FlushReport},
    read::LogRead,
    recovery::RecoveryReport,
    scrub::{ScrubCursor, ScrubStep},
    structure::ReplicaOnDisk,
    timestamps::TimestampHit,
    verify::{Finding, VerifyReport},
};
use crate::{
    CorruptBatch, OpenError, StoreError, journal::writer::JournalWriter, manifest::Manifest, options::LogOptions,
    poison::Poison, replica::Replica, segment::files::SegmentFiles, slab::SlabPool, tail::TailCache,
};

/// All replicas of one data directory.
pub struct LogStore {
    vfs: Arc<dyn Vfs>,
    kv: Arc<dyn KvStore>,
    options: LogOptions,
    poison: Poison,
    replicas: RwLock<BTreeMap<TopicPartition, Arc<Replica>>>,
    /// One flush at a time.
    flushing: Mutex<()>,
    journal: Mutex<JournalWriter>,
    /// The last journal block whose entries every replica has taken up.
    published: AtomicU64,
    pool: SlabPool,
    files: SegmentFiles,
    tail: TailCache,
    work: Mutex<Work>,
    /// A directory of a replica was made and its name is not durable.
    directories_unsynced: Mutex<bool>,
    /// Of the manifest that was stored last.
    generation: AtomicU64,
    /// Who wrote the journal that is still needed, and from which block on.
    lives: Mutex<Vec<(u64, Incarnation)>>,
    /// Damage that nobody was told of yet.
    damage_news: Mutex<Vec<CorruptBatch>>,
    counters: Counters,
}

/// What waits for the background.
#[derive(Debug, Default)]
struct Work {
    /// Replicas with batches that are in no segment yet.
    pending: BTreeSet<TopicPartition>,
    /// Replicas with segments that are not synced.
    unsynced: BTreeSet<TopicPartition>,
}

#[derive(Debug, Default)]
struct Counters {
    pending_bytes: AtomicU64,
    unjournaled_bytes: AtomicU64,
    commits: AtomicU64,
    journal_bytes: AtomicU64,
    bypassed_bytes: AtomicU64,
    placed_bytes: AtomicU64,
    cached_reads: AtomicU64,
    disk_reads: AtomicU64,
    bytes_since_space_check: AtomicU64,
    manifests: AtomicU64,
    /// Replicas found damaged.
    damaged: AtomicU64,
}

/// A snapshot of counters and sizes, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogStats {
    pub replicas: u64,
    pub commits: u64,
    /// Written to the journal, padding included.
    pub journal_bytes: u64,
    /// Written straight to segments by large commits.
    pub bypassed_bytes: u64,
    /// Moved from the journal's memory to segments.
    pub placed_bytes: u64,
    /// Waiting for that.
    pub pending_bytes: u64,
    /// Of the journal, still needed.
    pub journal_live_bytes: u64,
    pub journal_capacity_bytes: u64,
    /// Appended with page-cache durability and not synced yet.
    pub unjournaled_bytes: u64,
    pub tail_bytes: u64,
    pub cached_reads: u64,
    pub disk_reads: u64,
    pub open_files: u64,
    pub manifests: u64,
    /// Replicas found damaged since the start, healed ones included.
    pub damaged: u64,
    pub failed: bool,
}

impl LogStore {
    pub fn replicas(&self) -> Vec<TopicPartition> {
        self.read_replicas().keys().copied().collect()
    }

    /// Bytes of the replica's log; 0 when there is none.
    pub fn size(&self, tp: TopicPartition) -> u64 {
        self.replica(tp).map_or(0, |replica| replica.state().size())
    }

    /// First offset and end of the log.
    pub fn bounds(&self, tp: TopicPartition) -> Option<(Offset, Offset)> {
        let replica = self.replica(tp).ok()?;
        let state = replica.state();
        Some((state.log_start, state.log_end))
    }

    /// Whether there is a log already, which [`LogStore::open`] would find.
    pub fn is_there(vfs: &dyn Vfs) -> Result<bool, OpenError> {
        Ok(Manifest::load(vfs)?.is_some())
    }

    /// Why the directory is failed, when it is (S6).
    pub fn failure(&self) -> Option<Arc<store_api::DiskError>> {
        self.poison.reason()
    }

    pub fn stats(&self) -> LogStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (journal_live_bytes, journal_capacity_bytes) = {
            let journal = self.lock_journal();
            (journal.live_bytes(), journal.capacity())
        };
        LogStats {
            replicas: self.read_replicas().len() as u64,
            commits: get(&self.counters.commits),
            journal_bytes: get(&self.counters.journal_bytes),
            bypassed_bytes: get(&self.counters.bypassed_bytes),
            placed_bytes: get(&self.counters.placed_bytes),
            pending_bytes: get(&self.counters.pending_bytes),
            journal_live_bytes,
            journal_capacity_bytes,
            unjournaled_bytes: get(&self.counters.unjournaled_bytes),
            tail_bytes: self.tail.bytes(),
            cached_reads: get(&self.counters.cached_reads),
            disk_reads: get(&self.counters.disk_reads),
            open_files: self.files.count() as u64,
            manifests: get(&self.counters.manifests),
            damaged: get(&self.counters.damaged),
            failed: self.poison.reason().is_some(),
        }
    }

    fn replica(&self, tp: TopicPartition) -> Result<Arc<Replica>, StoreError> {
        self.read_replicas().get(&tp).cloned().ok_or(StoreError::NoReplica(tp))
    }

    fn read_replicas(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<TopicPartition, Arc<Replica>>> {
        self.replicas.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_replicas(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<TopicPartition, Arc<Replica>>> {
        self.replicas.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_journal(&self) -> MutexGuard<'_, JournalWriter> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
