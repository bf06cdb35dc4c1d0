//! Opening a data directory: the manifest, then the journal from where it says, and nothing else.
//!
//! ```text
//!   manifest ── clean? ── yes ─► ready
//!       │ no
//!       ▼
//!   journal blocks, each entry applied unless the manifest has it already ─► chain ends ─► torn, or damaged? (S2)
//!       │
//!       ▼
//!   partitions with page-cache durability: the bytes behind the known end of one segment, while they are good batches
//! ```
//!
//! The work is bounded by the size of the journal and of what may be unsynced, whatever the size of the data. A crash during
//! recovery changes nothing: it writes to segments only what the journal holds, and a manifest at the very end.
//!
//! What is found may be in the page cache only, where a process that was killed left it. It is synced before anyone is told of
//! it or anything builds on it, since from then on it counts as durable. What the journal says of segments was durable before
//! it was said.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use base_types::{Offset, TopicPartition};
use bytes::{Buf, Bytes, BytesMut};
use record_batch::{BatchHeader, HEADER_LEN, StampedBatch};
use store_api::{KvBatch, KvDurability, KvStore, Vfs};

use super::{Counters, LogStore, Work};
use crate::{
    OpenError, StoreError,
    journal::{
        DIRECTORY as JOURNAL, JournalPosition, block::Block, entry::Entry, path as journal_path, reader::JournalReader,
        writer::JournalWriter,
    },
    keys,
    manifest::Manifest,
    options::LogOptions,
    poison::Poison,
    replica::{Growth, Placement, Replica, State, TailBatch},
    segment::{DIRECTORY as PARTITIONS, files::SegmentFiles},
    slab::SlabPool,
    tail::TailCache,
};

/// What opening found and did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// There was nothing.
    pub is_new: bool,
    /// The last stop was orderly (S12).
    pub was_clean: bool,
    pub replayed_blocks: u64,
    pub replayed_bytes: u64,
    /// Of page-cache durability, found behind what the journal knew.
    pub scanned_bytes: u64,
    pub replicas: u64,
    /// Directories that belong to no replica. They are left alone (C10).
    pub stray_directories: Vec<String>,
}

/// What must be known of later blocks before earlier ones are replayed: for each replica the number of the last one.
#[derive(Debug, Default)]
struct Later {
    /// That tells of segments, or takes the whole log away. Batches before it are in those segments, which must not be written
    /// again, for they hold more than the journal does; or they are nowhere, like the segments they would be written to.
    settled: BTreeMap<TopicPartition, u64>,
    /// That takes segments away, with an offset: those that begin below. Until it is met, batches that would be written to one
    /// of them wait in memory: its file may be gone, and a truncation says where segments are to be cut that do not hold them.
    removed: BTreeMap<TopicPartition, (u64, Offset)>,
}

impl Later {
    fn removes(&mut self, tp: TopicPartition, seq: u64, below: Offset) {
        let (last, most) = self.removed.entry(tp).or_insert((seq, below));
        (*last, *most) = (seq, below.max(*most));
    }

    /// Whether a block behind `seq` takes the segment away that the next batch would be written to.
    fn removes_active(&self, replica: &Replica, seq: u64) -> bool {
        let Some((last, below)) = self.removed.get(&replica.tp) else { return false };
        *last > seq && replica.state().segments.back().is_none_or(|active| active.base < *below)
    }
}

/// What replayed entries took away, to be removed from the disk when the replay is over.
#[derive(Debug, Default)]
struct Removed {
    replicas: BTreeSet<TopicPartition>,
    segments: BTreeSet<(TopicPartition, Offset)>,
}

impl LogStore {
    /// Opens the data directory, or begins one in an empty directory.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        kv: Arc<dyn KvStore>,
        options: LogOptions,
    ) -> Result<(LogStore, RecoveryReport), OpenError> {
        let mut report = RecoveryReport::default();
        let manifest = match Manifest::load(vfs.as_ref())? {
            Some(manifest) => manifest,
            None => {
                report.is_new = true;
                begin_directory(vfs.as_ref(), &options)?
            }
        };
        report.was_clean = manifest.clean;
        let start = manifest.replay_from;
        // Files that are found will be written to, whoever made them and however far that came.
        vfs.sync_dir(JOURNAL)?;
        let mut reader = JournalReader::open(vfs.as_ref(), start, manifest.incarnation)?;
        let store = LogStore::from_manifest(vfs, kv, options, &manifest)?;
        if !manifest.clean {
            let mut ahead = JournalReader::open(store.vfs.as_ref(), start, manifest.incarnation)?;
            let later = store.look_ahead(&mut ahead)?;
            ahead.sync()?;
            reader = reader.with_known_end();
            store.replay(&mut reader, &manifest, &later, &mut report)?;
        }
        store.take_up_journal(&reader, start)?;
        if !manifest.clean {
            store.look_behind(&mut report)?;
        }
        if manifest.clean || report.scanned_bytes > 0 {
            // From here on a crash is a crash.
            let _flushing = store.lock_flushing();
            store.write_manifest(false)?;
        }
        report.replicas = store.read_replicas().len() as u64;
        report.stray_directories = store.strays()?;
        Ok((store, report))
    }

    fn from_manifest(
        vfs: Arc<dyn Vfs>,
        kv: Arc<dyn KvStore>,
        options: LogOptions,
        manifest: &Manifest,
    ) -> Result<LogStore, OpenError> {
        let replicas: BTreeMap<TopicPartition, Arc<Replica>> = manifest
            .replicas
            .iter()
            .map(|record| (record.tp, Arc::new(Replica::new(record.tp, State::from_record(record)))))
            .collect();
        let start = manifest.replay_from;
        let limits = (options.journal_file_bytes, options.journal_files_max());
        let journal = JournalWriter::open(Arc::clone(&vfs), options.incarnation, limits, (start, start), &[], &[])?;
        Ok(LogStore {
            pool: SlabPool::new(options.tail_cache_bytes),
            files: SegmentFiles::new(Arc::clone(&vfs), options.open_files_max),
            tail: TailCache::new(options.tail_cache_bytes),
            vfs,
            kv,
            poison: Poison::default(),
            replicas: RwLock::new(replicas),
            flushing: Mutex::new(()),
            journal: Mutex::new(journal),
            published: AtomicU64::new(start.seq - 1),
            work: Mutex::new(Work::default()),
            directories_unsynced: Mutex::new(true),
            counters: Counters::default(),
            options,
        })
    }

    fn look_ahead(&self, reader: &mut JournalReader) -> Result<Later, OpenError> {
        let mut later = Later::default();
        while let Some(block) = reader.next_block(&self.pool)? {
            for entry in block.entries {
                match entry {
                    Entry::Placed { tp, .. } | Entry::Reset { tp, .. } | Entry::Deleted { tp } => {
                        later.settled.insert(tp, block.header.seq);
                    }
                    Entry::Truncated { tp, .. } => later.removes(tp, block.header.seq, Offset(i64::MAX)),
                    Entry::LogStart { tp, first_segment: Some(first), .. } => {
                        later.removes(tp, block.header.seq, first);
                    }
                    _ => {}
                }
            }
        }
        Ok(later)
    }

    fn replay(
        &self,
        reader: &mut JournalReader,
        manifest: &Manifest,
        later: &Later,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let as_of: BTreeMap<TopicPartition, u64> = manifest.replicas.iter().map(|r| (r.tp, r.as_of)).collect();
        let mut removed = Removed::default();
        let mut place_at = self.options.pending_bytes_max();
        while let Some(block) = reader.next_block(&self.pool)? {
            report.replayed_blocks += 1;
            report.replayed_bytes += block.header.size();
            let seq = block.header.seq;
            self.replay_block(block, &as_of, later, &mut removed)?;
            if self.counters.pending_bytes.load(Ordering::Relaxed) > place_at {
                self.place_those(u64::MAX, |replica| !later.removes_active(replica, seq))?;
                self.tail.evict_all_that_can_go();
                // What waits does not make the others' next pieces smaller.
                let waiting = self.counters.pending_bytes.load(Ordering::Relaxed);
                place_at = waiting + self.options.pending_bytes_max();
            }
        }
        self.tail.evict_all_that_can_go();
        self.finish_removals(removed)
    }

    /// Only now is it known which files a later entry did not make anew under the same name.
    fn finish_removals(&self, removed: Removed) -> Result<(), OpenError> {
        for tp in removed.replicas {
            if self.replica(tp).is_err() {
                self.files.close_partition(tp);
                self.remove_directory(tp)?;
            }
        }
        for (tp, base) in removed.segments {
            let Ok(replica) = self.replica(tp) else { continue };
            let is_used = replica.state().segments.iter().any(|segment| segment.base == base);
            if !is_used {
                self.files.remove(tp, base)?;
            }
        }
        Ok(())
    }

    fn replay_block(
        &self,
        block: Block,
        as_of: &BTreeMap<TopicPartition, u64>,
        later: &Later,
        removed: &mut Removed,
    ) -> Result<(), OpenError> {
        let (seq, size) = (block.header.seq, block.header.size());
        let mut payload = block.payload;
        let mut owners = BTreeSet::new();
        for entry in block.entries {
            let tp = entry.partition();
            let bytes = match entry {
                Entry::Batch { len, gap, .. } => {
                    payload.advance(usize::from(gap));
                    payload.split_to(len as usize)
                }
                _ => Bytes::new(),
            };
            if as_of.get(&tp).is_some_and(|as_of| seq <= *as_of) {
                continue;
            }
            if let Entry::Batch { .. } = entry {
                owners.insert(tp);
            }
            let is_settled = later.settled.get(&tp).is_some_and(|settled| seq < *settled);
            self.replay_entry(seq, entry, bytes, is_settled, removed)?;
        }
        let owners: Vec<Arc<Replica>> = owners.into_iter().filter_map(|tp| self.replica(tp).ok()).collect();
        if !owners.is_empty() {
            self.tail.add(seq, size, owners);
        }
        self.published.store(seq, Ordering::Release);
        Ok(())
    }

    fn replay_entry(
        &self,
        seq: u64,
        entry: Entry,
        bytes: Bytes,
        is_settled: bool,
        removed: &mut Removed,
    ) -> Result<(), OpenError> {
        let tp = entry.partition();
        let impossible = |reason| OpenError::JournalImpossible { block: seq, tp, reason };
        if let Entry::Created { options, .. } = entry {
            let state = State::empty(options, Offset::ZERO, seq);
            self.write_replicas().insert(tp, Arc::new(Replica::new(tp, state)));
            return Ok(());
        }
        // An entry about a replica that was deleted later, and whose deletion the manifest already knows.
        let Ok(replica) = self.replica(tp) else { return Ok(()) };
        let mut state = replica.state();
        if let Entry::Batch { base, .. } = entry {
            let header = BatchHeader::parse(&bytes).map_err(|_| impossible("a batch that is none"))?;
            if header.size() != bytes.len() || header.base_offset != base || base < state.log_end {
                return Err(impossible("a batch that does not continue the log"));
            }
            // Of use for its offsets only, until the block is met that settles it.
            let bytes = if is_settled { Bytes::new() } else { bytes };
            // There may be as many as the journal has room for: they are counted one by one.
            self.counters.pending_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.note_work(&state, tp, !bytes.is_empty());
            state.append(TailBatch::new(&header, seq, bytes));
            state.check_invariants();
            return Ok(());
        }
        self.uncount(&state);
        let mut gone = Vec::new();
        match entry {
            Entry::Placed { segments, epochs, .. } => {
                let end = segments.last().map(|segment| segment.next_offset);
                if end.is_some_and(|end| end < state.placed_end) {
                    return Err(impossible("segments that end before where they ended"));
                }
                state.apply_placed(&segments, &epochs);
                state.tail.clear();
            }
            Entry::Truncated { to, cut, .. } => {
                if to > state.log_end || to < state.log_start {
                    return Err(impossible("a truncation outside the log"));
                }
                gone = state.truncate(to, cut, seq);
            }
            Entry::Reset { start, .. } => gone = state.reset(start, seq),
            Entry::LogStart { to, first_segment, .. } => {
                if to > state.log_end {
                    return Err(impossible("a log start behind the log"));
                }
                gone = state.advance_log_start(to, first_segment);
            }
            Entry::Deleted { .. } => {
                drop(state);
                self.write_replicas().remove(&tp);
                self.lock_work().pending.remove(&tp);
                removed.replicas.insert(tp);
                return Ok(());
            }
            Entry::Unjournaled { .. } => state.unjournaled = true,
            Entry::Batch { .. } | Entry::Created { .. } => {}
        }
        state.last_seq = state.last_seq.max(seq);
        state.check_invariants();
        self.count(&state, tp);
        drop(state);
        removed.segments.extend(gone.into_iter().map(|base| (tp, base)));
        Ok(())
    }

    fn uncount(&self, state: &State) {
        self.counters.pending_bytes.fetch_sub(state.pending_bytes(), Ordering::Relaxed);
    }

    fn count(&self, state: &State, tp: TopicPartition) {
        let pending = state.pending_bytes();
        self.counters.pending_bytes.fetch_add(pending, Ordering::Relaxed);
        if pending == 0 {
            self.lock_work().pending.remove(&tp);
        }
        self.note_work(state, tp, pending > 0);
    }

    /// Goes on writing where the chain ended.
    fn take_up_journal(&self, reader: &JournalReader, start: JournalPosition) -> Result<(), OpenError> {
        let mut live = reader.passed.clone();
        let started = reader.next.position > 0 || !live.is_empty();
        if started && reader.at_file() {
            live.push((reader.next.file, u64::MAX));
        }
        let misfits = reader.misfits(self.options.journal_file_bytes);
        let mut spare = Vec::new();
        for number in reader.numbers().filter(|number| live.iter().all(|(used, _)| used != number)) {
            if misfits.contains(&number) {
                self.vfs.remove(&journal_path(number))?;
            } else {
                spare.push(number);
            }
        }
        let limits = (self.options.journal_file_bytes, self.options.journal_files_max());
        let place = (start, reader.next);
        let vfs = Arc::clone(&self.vfs);
        *self.lock_journal() = JournalWriter::open(vfs, self.options.incarnation, limits, place, &live, &spare)?;
        self.published.store(reader.next.seq - 1, Ordering::Release);
        Ok(())
    }

    /// Finds the batches of page-cache durability that the journal does not know: good ones, in order, behind the known end of
    /// the active segment.
    fn look_behind(&self, report: &mut RecoveryReport) -> Result<(), OpenError> {
        let replicas: Vec<Arc<Replica>> =
            self.read_replicas().values().filter(|replica| replica.state().unjournaled).cloned().collect();
        for replica in &replicas {
            let mut placing = replica.placing();
            let active = |state: &State| state.segments.back().map(|segment| segment.base);
            let before = active(&replica.state());
            self.place_pending(replica, &mut placing)?;
            let (after, len, mut end) = {
                let state = replica.state();
                (active(&state), state.segments.back().map_or(0, |segment| segment.len), state.log_end)
            };
            let Some(base) = after.filter(|after| Some(*after) == before) else { continue };
            let file = match self.files.open(replica.tp, base) {
                Ok(file) => file,
                Err(error) if error.is_not_found() && len == 0 => continue,
                Err(error) => return Err(error.into()),
            };
            let mut growth = Growth { segment: base, is_new: false, is_synced: false, from: len, batches: Vec::new() };
            let mut tail = Vec::new();
            let mut position = len;
            while let Some(batch) = good_batch(file.as_ref(), position, end)? {
                let header = *batch.header();
                end = header.next_offset();
                position += batch.size() as u64;
                growth.batches.push((header.base_offset, end, batch.size() as u64, header.max_timestamp));
                tail.push(TailBatch::new(&header, self.published.load(Ordering::Relaxed), batch.to_bytes()));
            }
            // What follows is torn, or older than the last cut. It must not be met again.
            if file.size()? != position {
                file.set_size(position)?;
            }
            // Also when nothing was cut off now: a process that was killed may have done that and no more.
            file.sync_data()?;
            if position > len {
                report.scanned_bytes += position - len;
                let mut state = replica.state();
                for batch in tail {
                    state.append(batch);
                }
                state.apply(&Placement { grown: vec![growth] }, self.options.index_interval_bytes);
                state.unjournaled_end = state.placed_end;
                // Memory of recovery's own; read again from the segment when someone asks.
                state.tail.clear();
                state.check_invariants();
            }
            self.sync_replica(replica)?;
        }
        for replica in &replicas {
            self.forget_what_is_ahead(replica)?;
        }
        Ok(())
    }

    /// Derived state may have survived the batches it was made from. It must not wait until others have their offsets, for it
    /// would fit those too (S4).
    fn forget_what_is_ahead(&self, replica: &Replica) -> Result<(), StoreError> {
        let (cut, log_end, segments) = {
            let state = replica.state();
            let segments: BTreeMap<Offset, u64> = state.segments.iter().map(|s| (s.base, s.len)).collect();
            (state.cut, state.log_end, segments)
        };
        let mut ahead = KvBatch::default();
        let key = keys::checkpoint::key(replica.tp);
        let checkpoint = self.kv.get(&key).map_err(StoreError::Kv)?;
        let checkpoint = checkpoint.and_then(|value| keys::checkpoint::decode(&value, cut));
        if checkpoint.is_some_and(|checkpoint| checkpoint.as_of > log_end) {
            ahead.delete(key);
        }
        let indexes = keys::segment_index::prefix(replica.tp);
        for (key, value) in self.kv.scan(&indexes, None, usize::MAX).map_err(StoreError::Kv)? {
            let segment = keys::segment_index::base(&key).and_then(|base| segments.get(&base));
            let fits = segment.is_some_and(|len| keys::segment_index::decode(&value, cut, *len).is_some());
            if !fits {
                ahead.delete(key);
            }
        }
        if ahead.is_empty() {
            return Ok(());
        }
        self.kv.write(&ahead, KvDurability::Synced).map_err(StoreError::Kv)
    }

    fn strays(&self) -> Result<Vec<String>, OpenError> {
        let owned: BTreeSet<String> = self.replicas().iter().map(ToString::to_string).collect();
        Ok(self.vfs.list(PARTITIONS)?.into_iter().filter(|name| !owned.contains(name)).collect())
    }
}

/// The batch at `position` when it is whole, undamaged and continues the log at `end`.
fn good_batch(file: &dyn store_api::VfsFile, position: u64, end: Offset) -> Result<Option<StampedBatch>, StoreError> {
    let failed = |error| StoreError::Failed(Arc::new(error));
    let mut head = [0; HEADER_LEN];
    if file.read_at(position, &mut head).map_err(failed)? < HEADER_LEN {
        return Ok(None);
    }
    let Ok(header) = BatchHeader::parse(&head) else { return Ok(None) };
    let size = file.size().map_err(failed)?;
    if header.base_offset < end || position + header.size() as u64 > size {
        return Ok(None);
    }
    let mut bytes = BytesMut::zeroed(header.size());
    let have = file.read_at(position, &mut bytes).map_err(failed)?;
    Ok((have == bytes.len()).then(|| StampedBatch::from_stored(bytes.freeze()).ok()).flatten())
}

/// Makes the tree of an empty directory. One that has data but no manifest is not empty (C10).
fn begin_directory(vfs: &dyn Vfs, options: &LogOptions) -> Result<Manifest, OpenError> {
    for directory in [JOURNAL, PARTITIONS] {
        match vfs.list(directory) {
            Ok(names) if !names.is_empty() => return Err(OpenError::ManifestMissing),
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => vfs.create_dir(directory)?,
        }
    }
    // A manifest without them would be one whose data is missing.
    vfs.sync_dir("")?;
    let manifest = Manifest {
        clean: false,
        incarnation: options.incarnation,
        replay_from: JournalPosition::START,
        replicas: Vec::new(),
    };
    manifest.store(vfs)?;
    Ok(manifest)
}
