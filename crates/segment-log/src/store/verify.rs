//! A whole directory looked at, offline, and nothing changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use base_types::{Incarnation, Offset, Timestamp, TopicPartition};
use store_api::{KvStore, Vfs};

use super::{
    LogStore,
    read::Extent,
    recovery::{RecoveryReport, Removed},
    scrub::Verified,
};
use crate::{
    OpenError, ReadError,
    journal::{path as journal_path, reader::JournalReader},
    keys,
    manifest::{Loaded, Manifest},
    options::LogOptions,
    replica::Replica,
    segment,
};

/// Read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// The first offset and the latest timestamp of each batch, by segment and position.
type Batches = BTreeMap<(Offset, u64), (Offset, Timestamp)>;

/// What was looked at, and what is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VerifyReport {
    pub replicas: u64,
    pub journal_blocks: u64,
    pub segments: u64,
    pub batches: u64,
    /// Of segments.
    pub bytes: u64,
    pub findings: Vec<Finding>,
    /// Directories and files that belong to no replica: what was set aside, what was left over.
    pub asides: Vec<String>,
}

/// Something that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Its path below the log's directory, or the key's kind in the store of derived state.
    pub file: String,
    pub position: u64,
    pub what: String,
    /// It is derived from the log, and made anew from it by itself.
    pub is_derived: bool,
}

impl LogStore {
    /// Looks at every file kind of a directory that nobody uses: the manifest and its copy, the journal, every batch of every segment,
    /// and what is derived from them. `Err` when it cannot be said what there should be.
    pub fn verify(vfs: Arc<dyn Vfs>, kv: Arc<dyn KvStore>) -> Result<VerifyReport, OpenError> {
        let mut report = VerifyReport::default();
        let Some(Loaded { manifest, is_single }) = Manifest::load(vfs.as_ref())? else {
            return Err(OpenError::ManifestMissing);
        };
        if is_single {
            let what = "it, or its copy, is missing, damaged or older than the other".to_owned();
            report.findings.push(Finding { file: "manifest".to_owned(), position: 0, what, is_derived: false });
        }
        // Nothing is moved to segments.
        let options = LogOptions { tail_cache_bytes: u64::MAX / 4, ..LogOptions::new(Incarnation([0; 16])) };
        let store = LogStore::from_manifest(vfs, kv, options, &manifest)?;
        if !manifest.clean {
            store.verify_journal(&manifest, &mut report)?;
        }
        let replicas: Vec<Arc<Replica>> = store.read_replicas().values().cloned().collect();
        for replica in &replicas {
            report.replicas += 1;
            store.verify_replica(replica, &mut report);
        }
        report.asides = store.strays()?.into_iter().map(|name| format!("{}/{name}", segment::DIRECTORY)).collect();
        let names = store.vfs.list("")?;
        report.asides.extend(names.into_iter().filter(|name| name.starts_with("journal.damaged-")));
        Ok(report)
    }

    fn verify_journal(&self, manifest: &Manifest, report: &mut VerifyReport) -> Result<(), OpenError> {
        let start = manifest.replay_from;
        let lives: Vec<Incarnation> = manifest.lives.iter().map(|(_, life)| *life).collect();
        let open = || JournalReader::open(self.vfs.as_ref(), start, lives.clone());
        let mut ahead = open()?;
        let later = self.look_ahead(&mut ahead, manifest)?;
        for damage in &later.damage {
            let what = match damage.is_lost {
                true => format!("block {} should be there", damage.block),
                false => format!("the payload of block {} is damaged", damage.block),
            };
            let file = journal_path(damage.file);
            report.findings.push(Finding { file, position: damage.position, what, is_derived: false });
        }
        let mut recovered = RecoveryReport::default();
        let mut reader = open()?.with_known_end(later.end);
        self.replay(&mut reader, manifest, &later, &mut Removed::default(), &mut recovered)?;
        report.journal_blocks = recovered.replayed_blocks;
        Ok(())
    }

    fn verify_replica(&self, replica: &Replica, report: &mut VerifyReport) {
        let tp = replica.tp;
        let (extents, damage, log_end, cut) = {
            let state = replica.state();
            let extents: Vec<Extent> = state.segments.iter().map(|segment| Extent::of(&state, segment)).collect();
            (extents, state.damage.clone(), state.log_end, state.cut)
        };
        if let Some(found) = damage.filter(|found| found.damage.hides_end()) {
            let (file, what) = (segment::directory(tp), found.damage.to_string());
            report.findings.push(Finding { file, position: 0, what, is_derived: false });
        }
        let mut batches = BTreeMap::new();
        let mut unknown = BTreeSet::new();
        for extent in &extents {
            report.segments += 1;
            let (base, mut at) = (extent.segment, Verified { position: 0, expected: extent.segment });
            while at.position < extent.len {
                let each = |position, header: &record_batch::BatchHeader| {
                    report.batches += 1;
                    batches.insert((base, position), (header.base_offset, header.max_timestamp));
                };
                match self.verify_piece(tp, extent, at.position, at.expected, PIECE_BYTES, each) {
                    Ok(next) => {
                        report.bytes += next.position - at.position;
                        at = next;
                    }
                    Err(error) => {
                        let (position, what) = match &error {
                            ReadError::Corrupt(found) => (found.position, found.damage.to_string()),
                            other => (at.position, other.to_string()),
                        };
                        let file = segment::path(tp, base);
                        report.findings.push(Finding { file, position, what, is_derived: false });
                        unknown.insert(base);
                        break;
                    }
                }
            }
        }
        self.verify_derived(tp, cut, log_end, &extents, (&batches, &unknown), report);
    }

    /// `unknown`: the segments of which not all batches are known.
    fn verify_derived(
        &self,
        tp: TopicPartition,
        cut: u64,
        log_end: Offset,
        extents: &[Extent],
        (batches, unknown): (&Batches, &BTreeSet<Offset>),
        report: &mut VerifyReport,
    ) {
        let mut derived = |kind: &str, what: String| {
            let file = format!("{kind} of {tp}");
            report.findings.push(Finding { file, position: 0, what, is_derived: true });
        };
        let key = keys::checkpoint::key(tp);
        match self.kv.get(&key) {
            Ok(None) => {}
            Ok(Some(value)) => match keys::checkpoint::decode(&key, &value, cut) {
                // Of another history: known by its `cut`, and not believed.
                None if keys::is_sealed(&key, &value) => {}
                None => derived("checkpoint", "its checksum does not match".to_owned()),
                Some(kept) if kept.as_of > log_end => {
                    derived("checkpoint", format!("it is as of {}, and the log ends at {log_end}", kept.as_of));
                }
                Some(_) => {}
            },
            Err(error) => derived("checkpoint", error.to_string()),
        }
        for extent in extents.iter().filter(|extent| !unknown.contains(&extent.segment)) {
            let base = extent.segment;
            let kind = format!("index of segment {base}");
            let key = keys::segment_index::key(tp, base);
            let value = match self.kv.get(&key) {
                Ok(Some(value)) => value,
                Ok(None) => continue,
                Err(error) => {
                    derived(&kind, error.to_string());
                    continue;
                }
            };
            let Some(index) = keys::segment_index::decode(&key, &value, cut, extent.len) else {
                if !keys::is_sealed(&key, &value) {
                    derived(&kind, "its checksum does not match".to_owned());
                }
                continue;
            };
            let wrong = index.entries.iter().find(|entry| {
                let there = batches.get(&(base, u64::from(entry.position)));
                there.is_none_or(|(offset, _)| *offset != base.plus(i64::from(entry.relative_offset)))
            });
            if let Some(entry) = wrong {
                derived(&kind, format!("there is no batch of offset +{} at {}", entry.relative_offset, entry.position));
            }
            let covered = batches.range((base, 0)..(base, index.covered));
            let latest = covered.map(|(_, (_, timestamp))| *timestamp).max();
            if latest.is_some_and(|latest| latest > index.max_timestamp) {
                derived(&kind, format!("it knows no timestamp above {}", index.max_timestamp.0));
            }
        }
    }
}
