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
//! What is damaged is told from what is torn (S2), and costs those their logs that it concerns, and nobody else: a payload of which
//! the head is whole concerns the partitions whose batches are not as they were written; a block of which nothing is known, or a file
//! that is not there, concerns all. Such a log ends where its segments do and takes nothing more until it is set aside for
//! another copy. The journal is copied aside first, since it is used again.
//!
//! What is found may be in the page cache only, where a process that was killed left it. It is synced before anyone is told of
//! it or anything builds on it, since from then on it counts as durable. What the journal says of segments was durable before
//! it was said.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use base_types::{Incarnation, Offset, TopicPartition};
use bytes::{Buf, Bytes, BytesMut};
use record_batch::{BatchHeader, HEADER_LEN, StampedBatch};
use store_api::{FileUse, KvBatch, KvDurability, KvStore, Vfs};

use super::{Counters, FlushReport, LogStore, Work, place::End};
use crate::{
    CorruptBatch, OpenError, StoreError,
    journal::{
        DIRECTORY as JOURNAL, JournalPosition,
        block::Block,
        entry::Entry,
        path as journal_path,
        reader::{JournalReader, Next},
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

/// Copied at a time.
const COPY_BYTES: usize = 1 << 20;

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
    /// The first block of the journal that cannot be read though it was durable, if there is one.
    pub damaged_block: Option<u64>,
    /// It is not known whose entries are lost with it: even replicas that were made there may be missing.
    pub lost_blocks: bool,
    /// The manifest was not there twice, as it should be.
    pub manifest_was_single: bool,
    /// Replicas that are damaged, as far as opening notices.
    pub damaged: Vec<CorruptBatch>,
}

/// What must be known of later blocks before earlier ones are replayed: for each replica the number of the last one.
#[derive(Debug, Default)]
pub(super) struct Later {
    /// That tells of segments, or takes the whole log away. Batches before it are in those segments, which must not be written
    /// again, for they hold more than the journal does; or they are nowhere, like the segments they would be written to.
    settled: BTreeMap<TopicPartition, u64>,
    /// That takes segments away, with an offset: those that begin below. Until it is met, batches that would be written to one
    /// of them wait in memory: its file may be gone, and a truncation says where segments are to be cut that do not hold them.
    removed: BTreeMap<TopicPartition, (u64, Offset)>,
    /// The block behind the last one.
    pub(super) end: u64,
    /// Blocks that were durable and are not as they were written.
    pub(super) damage: Vec<DamagedBlock>,
    /// The last of them should be behind the end.
    ends_early: bool,
}

/// Where a block should be.
#[derive(Clone, Copy, Debug)]
pub(super) struct DamagedBlock {
    pub(super) block: u64,
    pub(super) file: u32,
    pub(super) position: u64,
    /// Nothing of it is known; else its payload only is damaged.
    pub(super) is_lost: bool,
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
pub(super) struct Removed {
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
            Some(loaded) => {
                // A process that was killed may have moved it here and no more. What the one before it needs of the journal is
                // overwritten on the strength of this one (S7).
                vfs.sync_dir("")?;
                report.manifest_was_single = loaded.is_single;
                loaded.manifest
            }
            None => {
                report.is_new = true;
                begin_directory(vfs.as_ref(), &options)?
            }
        };
        report.was_clean = manifest.clean;
        let start = manifest.replay_from;
        let lives: Vec<Incarnation> = manifest.lives.iter().map(|(_, life)| *life).collect();
        // Files that are found will be written to, whoever made them and however far that came.
        vfs.sync_dir(JOURNAL)?;
        let mut reader = JournalReader::open(vfs.as_ref(), start, lives.clone())?;
        let store = LogStore::from_manifest(vfs, kv, options, &manifest)?;
        if !manifest.clean {
            let mut ahead = JournalReader::open(store.vfs.as_ref(), start, lives)?;
            let later = store.look_ahead(&mut ahead, &manifest)?;
            ahead.sync()?;
            report.damaged_block = later.damage.first().map(|damage| damage.block);
            report.lost_blocks = later.damage.iter().any(|damage| damage.is_lost);
            if let Some(block) = report.damaged_block {
                let aside = format!("{JOURNAL}.damaged-{block}");
                let copied = ahead.copy_to(store.vfs.as_ref(), &aside);
                copied.map_err(|source| OpenError::JournalDamaged { block, source })?;
            }
            reader = reader.with_known_end(later.end);
            let mut removed = Removed::default();
            store.replay(&mut reader, &manifest, &later, &mut removed, &mut report)?;
            store.finish_removals(removed)?;
            // A number that was given is not given again, for what the manifest says is as of a number.
            reader.next.seq = reader.next.seq.max(manifest.last_block.seq + 1);
            if !reader.at_file() && reader.next.position > 0 {
                // It vanished. The next block goes elsewhere, and maybe to the beginning of a file of that very name.
                (reader.next.file, reader.next.position) = (0, 0);
            }
        }
        let misfits = store.take_up_journal(&reader, &manifest)?;
        store.take_up_lives(&manifest, &reader);
        store.check_active_segments()?;
        if !manifest.clean {
            store.look_behind(&mut report)?;
        }
        {
            // From here on a crash is a crash, and blocks of this life are known to be ours.
            let _flushing = store.lock_flushing();
            if report.damaged_block.is_some() {
                // The damage is not met again.
                store.place_all(u64::MAX)?;
                store.sync_and_release(&mut FlushReport::default(), false)?;
            } else {
                store.write_manifest(false)?;
            }
        }
        for number in misfits {
            store.vfs.remove(&journal_path(number))?;
        }
        report.damaged = store.damaged();
        report.replicas = store.read_replicas().len() as u64;
        report.stray_directories = store.strays()?;
        Ok((store, report))
    }

    pub(super) fn from_manifest(
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
            generation: AtomicU64::new(manifest.generation),
            lives: Mutex::new(manifest.lives.clone()),
            damage_news: Mutex::default(),
            counters: Counters::default(),
            options,
        })
    }

    pub(super) fn look_ahead(&self, reader: &mut JournalReader, manifest: &Manifest) -> Result<Later, OpenError> {
        let mut later = Later::default();
        loop {
            let JournalPosition { file, position, .. } = reader.next;
            let damaged = |block, is_lost| DamagedBlock { block, file, position, is_lost };
            let block = match reader.next(&self.pool)? {
                None => break,
                Some(Next::Block(block)) => block,
                Some(Next::Lost { first, .. }) => {
                    later.damage.push(damaged(first, true));
                    continue;
                }
            };
            if !block.is_whole {
                later.damage.push(damaged(block.header.seq, false));
            }
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
        later.end = reader.next.seq;
        let last = manifest.last_block;
        let is_whole = later.end > last.seq && reader.has_block(last)? && reader.has_all(&manifest.journal_files);
        if !is_whole {
            let JournalPosition { file, position, seq: block, .. } = reader.next;
            later.damage.push(DamagedBlock { block, file, position, is_lost: true });
            later.ends_early = true;
        }
        Ok(later)
    }

    pub(super) fn replay(
        &self,
        reader: &mut JournalReader,
        manifest: &Manifest,
        later: &Later,
        removed: &mut Removed,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let as_of: BTreeMap<TopicPartition, u64> = manifest.replicas.iter().map(|r| (r.tp, r.as_of)).collect();
        let mut place_at = self.options.pending_bytes_max();
        while let Some(next) = reader.next(&self.pool)? {
            let block = match next {
                Next::Block(block) => block,
                Next::Lost { first, next } => {
                    self.lose_ends(first, |tp| as_of.get(&tp).is_none_or(|as_of| *as_of + 1 < next));
                    continue;
                }
            };
            report.replayed_blocks += 1;
            report.replayed_bytes += block.header.size();
            let seq = block.header.seq;
            self.replay_block(block, &as_of, later, removed)?;
            if self.counters.pending_bytes.load(Ordering::Relaxed) > place_at {
                self.place_those(u64::MAX, |replica| !later.removes_active(replica, seq))?;
                self.tail.evict_all_that_can_go();
                // What waits does not make the others' next pieces smaller.
                let waiting = self.counters.pending_bytes.load(Ordering::Relaxed);
                place_at = waiting + self.options.pending_bytes_max();
            }
        }
        self.tail.evict_all_that_can_go();
        if later.ends_early {
            // The chain should go on, and nothing is left of that.
            self.lose_ends(later.end, |_| true);
        }
        Ok(())
    }

    /// Entries from `block` on are lost, and may have been about any replica that is wanted.
    fn lose_ends(&self, block: u64, is_wanted: impl Fn(TopicPartition) -> bool) {
        let replicas: Vec<Arc<Replica>> = self.read_replicas().values().cloned().collect();
        for replica in replicas.iter().filter(|replica| is_wanted(replica.tp)) {
            self.lose_end(replica, &mut replica.state(), block);
        }
    }

    fn lose_end(&self, replica: &Replica, state: &mut State, block: u64) {
        self.uncount(state);
        state.lose_end(replica.tp, block);
        state.check_invariants();
        self.count(state, replica.tp);
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
        let (seq, size, is_whole) = (block.header.seq, block.header.size(), block.is_whole);
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
            let bytes = if is_whole { Payload::Good(bytes) } else { Payload::Doubtful(bytes) };
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
        bytes: Payload,
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
        if state.hides_end() && !matches!(entry, Entry::Reset { .. } | Entry::Deleted { .. }) {
            return Ok(());
        }
        if let Entry::Batch { base, .. } = entry {
            let bytes = match bytes {
                Payload::Good(bytes) => bytes,
                Payload::Doubtful(bytes) if is_surely(&bytes, base, &state) => bytes,
                Payload::Doubtful(_) => {
                    self.lose_end(&replica, &mut state, seq);
                    return Ok(());
                }
            };
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

    /// Goes on writing where the chain ended. Returns the files that no manifest shall name.
    fn take_up_journal(&self, reader: &JournalReader, manifest: &Manifest) -> Result<Vec<u32>, OpenError> {
        let mut live = reader.passed.clone();
        let started = reader.next.position > 0 || !live.is_empty();
        if started && reader.at_file() {
            live.push((reader.next.file, u64::MAX));
        }
        let misfits = reader.misfits(self.options.journal_file_bytes);
        let unused = reader.numbers().filter(|number| live.iter().all(|(used, _)| used != number));
        let (misfits, spare): (Vec<u32>, Vec<u32>) = unused.partition(|number| misfits.contains(number));
        let limits = (self.options.journal_file_bytes, self.options.journal_files_max());
        let place = (manifest.replay_from, reader.next);
        let last = match reader.last {
            JournalPosition { seq: 0, .. } if reader.has_block(manifest.last_block)? => manifest.last_block,
            last => last,
        };
        let vfs = Arc::clone(&self.vfs);
        let writer = JournalWriter::open(vfs, self.options.incarnation, limits, place, &live, &spare)?;
        *self.lock_journal() = writer.with_last(last);
        self.published.store(reader.next.seq - 1, Ordering::Release);
        Ok(misfits)
    }

    /// From now on this life writes, too.
    fn take_up_lives(&self, manifest: &Manifest, reader: &JournalReader) {
        let mut lives = manifest.lives.clone();
        // What one of a manifest of version 1 does not name was met in the chain.
        let met = reader.lives.iter().filter(|life| manifest.lives.iter().all(|(_, known)| known != *life));
        lives.extend(met.map(|life| (manifest.replay_from.seq, *life)));
        lives.push((reader.next.seq, self.options.incarnation));
        *self.lives.lock().unwrap_or_else(PoisonError::into_inner) = lives;
    }

    /// Where a log goes on, its file must be there. Others are looked at when they are read.
    fn check_active_segments(&self) -> Result<(), OpenError> {
        let replicas: Vec<Arc<Replica>> = self.read_replicas().values().cloned().collect();
        for replica in &replicas {
            let active = replica.state().segments.back().map(|s| End { base: s.base, len: s.len });
            if let Some(active) = active.filter(|active| active.len > 0) {
                self.is_usable(replica, &mut replica.placing(), active)?;
            }
        }
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
            if len > 0 && !self.is_usable(replica, &mut placing, End { base, len })? {
                continue;
            }
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
            // What follows is torn, older than the last cut, or damaged: nobody can tell. It must not be met again.
            if file.size()? != position {
                self.keep_aside(replica.tp, base, file.as_ref(), position)?;
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

    /// Copies what lies behind `position` of a segment, unless it is nothing but zeros, to a directory that no replica owns: behind a
    /// damaged batch there may be good ones (S2). In the copy it lies where it lay, behind a hole.
    fn keep_aside(
        &self,
        tp: TopicPartition,
        base: Offset,
        file: &dyn store_api::VfsFile,
        mut position: u64,
    ) -> Result<(), OpenError> {
        let mut chunk = vec![0; COPY_BYTES];
        let mut made = None;
        loop {
            let have = file.read_at(position, &mut chunk)?;
            let piece = &chunk[..have];
            if have == 0 {
                break;
            }
            if made.is_none() && piece.iter().any(|byte| *byte != 0) {
                let names = self.vfs.list(PARTITIONS)?;
                let free = (0_u64..).map(|n| format!("{tp}.cut-{n}")).find(|name| !names.contains(name));
                let directory = format!("{PARTITIONS}/{}", free.unwrap_or_default());
                self.vfs.create_dir(&directory)?;
                let copy = self.vfs.create(&format!("{directory}/{:020}.log", base.0), FileUse::Buffered)?;
                made = Some((directory, copy));
            }
            if let Some((_, copy)) = &made {
                copy.write_at(position, &[piece])?;
            }
            position += have as u64;
        }
        let Some((directory, copy)) = made else { return Ok(()) };
        copy.sync_data()?;
        self.vfs.sync_dir(&directory)?;
        Ok(self.vfs.sync_dir(PARTITIONS)?)
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
        let checkpoint = self.kv.get(&key);
        let decoded = |value: Option<Vec<u8>>| value.and_then(|value| keys::checkpoint::decode(&key, &value, cut));
        // What cannot be read now may be readable later, and fit a log that has grown meanwhile.
        if checkpoint.map_or(true, |value| decoded(value).is_some_and(|checkpoint| checkpoint.as_of > log_end)) {
            ahead.delete(key);
        }
        let indexes = keys::segment_index::prefix(replica.tp);
        let Ok(stored) = self.kv.scan(&indexes, None, usize::MAX) else {
            ahead.delete_prefix(indexes);
            return self.kv.write(&ahead, KvDurability::Synced).map_err(StoreError::Kv);
        };
        for (key, value) in stored {
            let segment = keys::segment_index::base(&key).and_then(|base| segments.get(&base));
            let fits = segment.is_some_and(|len| keys::segment_index::decode(&key, &value, cut, *len).is_some());
            if !fits {
                ahead.delete(key);
            }
        }
        if ahead.is_empty() {
            return Ok(());
        }
        self.kv.write(&ahead, KvDurability::Synced).map_err(StoreError::Kv)
    }

    pub(super) fn strays(&self) -> Result<Vec<String>, OpenError> {
        let owned: BTreeSet<String> = self.replicas().iter().map(ToString::to_string).collect();
        Ok(self.vfs.list(PARTITIONS)?.into_iter().filter(|name| !owned.contains(name)).collect())
    }
}

/// A batch's bytes in a journal block.
enum Payload {
    /// The block is as it was written.
    Good(Bytes),
    /// Something in its payload is not.
    Doubtful(Bytes),
}

/// Whether the batch is certainly as it was written. Its checksum leaves out the base offset, which the block's table has, and the epoch:
/// one that begins an epoch cannot be told from one whose epoch is damaged.
fn is_surely(bytes: &Bytes, base: Offset, state: &State) -> bool {
    let epoch = state.epochs.last().map(|(epoch, _)| *epoch);
    StampedBatch::from_stored(bytes.clone())
        .is_ok_and(|batch| batch.header().base_offset == base && Some(batch.header().leader_epoch) == epoch)
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
        generation: 1,
        last_block: JournalPosition::NONE,
        lives: vec![(1, options.incarnation)],
        journal_files: Vec::new(),
        replicas: Vec::new(),
    };
    manifest.store(vfs)?;
    Ok(manifest)
}
