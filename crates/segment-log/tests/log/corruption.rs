//! A directory is damaged in one place, in every kind of file and in every way that ageing media, broken controllers and people manage,
//! and opened, read and scrubbed (S2, S3).
//!
//! Each damage must be *detected* – the replica says so, or the whole directory does – or *harmless*: everything reads as it was
//! written. Never is a byte served that is not what was appended, nothing is deleted, and replicas that the damage does not concern go
//! on. One thing cannot be told from an interrupted write: damage of the very last block of the journal. It may cost what that block
//! held, as a power loss would, and is counted apart. Nor can the newest file of the journal be told from an older version of
//! itself, as far as no manifest was written since: that is left out.
//!
//! `THALWEG_CORRUPTIONS=10000` makes it longer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use base_types::{Offset, Random, Timestamp, TopicPartition};
use record_batch::StampedBatch;
use segment_log::{Checkpoint, FlushBudget, LogStore, OpenError, ReadError, ScrubCursor};
use store_api::{FileUse, KvBatch, KvDurability, KvStore, MemKv, MemVfs, Survivors, Vfs};

use crate::support::{ALL, Disk, batch, lazy, options, replica_options, tp, write};

const PARTITIONS: i32 = 4;

/// A directory with a history, what its logs hold, and every file as it was some time before.
struct Trace {
    disk: Disk,
    logs: BTreeMap<TopicPartition, Vec<StampedBatch>>,
    /// Path to an older version.
    older: BTreeMap<String, Vec<u8>>,
    /// What the last block of the journal holds: the end of one log without it.
    without_last: (TopicPartition, Offset),
    /// The journal's file that this block is in.
    newest: String,
}

fn files(vfs: &MemVfs) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        for name in vfs.list(&directory).unwrap() {
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            match vfs.bytes_of(&path) {
                Ok(bytes) => drop(found.insert(path, bytes)),
                Err(_) => directories.push(path),
            }
        }
    }
    found
}

/// Rolled segments, bypassed batches, page-cache batches, a truncation, several lives and rounds of the journal.
fn trace(seed: u64) -> Trace {
    let mut random = Random::new(seed);
    let mut disk = Disk::new();
    let mut logs: BTreeMap<TopicPartition, Vec<StampedBatch>> = BTreeMap::new();
    let mut older = BTreeMap::new();
    let mut without_last = (tp(0), Offset(0));
    let mut newest = String::new();
    for life in 0..4 {
        let (store, report) = disk.open();
        assert!(report.damaged.is_empty() && report.damaged_block.is_none(), "{report:?}");
        if life == 0 {
            let made: Vec<_> = (0..PARTITIONS).map(|i| (tp(i), replica_options())).collect();
            store.create_replicas(&made).unwrap();
        }
        for step in 0..60 {
            let which = tp(random.below(PARTITIONS as u64) as i32);
            let log = logs.entry(which).or_default();
            let end = log.last().map_or(Offset(0), |last| last.header().next_offset());
            let epoch = life * 2 + i32::from(step > 30);
            let bytes = if random.chance(100) { 2_600 } else { random.between(1, 400) as usize };
            let next = batch(end, epoch, random.between(1, 4) as i64, bytes);
            // One partition asks for no more than the page cache.
            let lasts = which != tp(3);
            store.commit(&[if lasts { write(which, next.clone()) } else { lazy(which, next.clone()) }]).unwrap();
            without_last = (which, end);
            log.push(next);
            if step == 20 && life == 2 {
                let cut = log.len() / 2;
                let to = log[cut].header().base_offset;
                assert_eq!(store.truncate(which, to).unwrap(), to);
                log.truncate(cut);
            }
            if step == 40 && life == 1 {
                store.flush(FlushBudget::EVERYTHING).unwrap();
                older = files(&disk.vfs);
            }
            if random.chance(60) {
                store.flush(FlushBudget::EVERYTHING).unwrap();
            }
            if random.chance(100) {
                let as_of = store.bounds(which).unwrap().1;
                let producer_state = bytes::Bytes::copy_from_slice(&as_of.0.to_be_bytes());
                store.checkpoint(which, &Checkpoint { as_of, high_watermark: as_of, producer_state }).unwrap();
            }
        }
        if life == 3 {
            // The last block is one that is known: a small batch of a partition with fsync.
            let log = logs.entry(tp(0)).or_default();
            let end = log.last().map_or(Offset(0), |last| last.header().next_offset());
            let next = batch(end, 7, 1, 20);
            let before = files(&disk.vfs);
            store.commit(&[write(tp(0), next.clone())]).unwrap();
            log.push(next);
            without_last = (tp(0), end);
            let after = files(&disk.vfs);
            newest = after.into_iter().find(|(path, bytes)| before.get(path) != Some(bytes)).unwrap().0;
        }
        if life == 2 && seed.is_multiple_of(2) {
            store.shutdown().unwrap();
        }
        drop(store);
        disk.vfs = disk.vfs.after_kill();
    }
    Trace { disk, logs, older, without_last, newest }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    FlippedBit,
    FlippedByte,
    Truncated,
    ZeroedBlock,
    SwappedBlocks,
    SwappedWithAnother,
    Removed,
    Replaced,
}

const HARMS: [Harm; 8] = [
    Harm::FlippedBit,
    Harm::FlippedByte,
    Harm::Truncated,
    Harm::ZeroedBlock,
    Harm::SwappedBlocks,
    Harm::SwappedWithAnother,
    Harm::Removed,
    Harm::Replaced,
];

fn store_file(vfs: &MemVfs, path: &str, bytes: &[u8]) {
    vfs.create(path, FileUse::Buffered).unwrap().write_at(0, &[bytes]).unwrap();
}

fn block_of(bytes: &[u8], random: &mut Random) -> std::ops::Range<usize> {
    let size = [512, 4096][random.below(2) as usize];
    let count = bytes.len().div_ceil(size) as u64;
    let start = random.below(count) as usize * size;
    start..(start + size).min(bytes.len())
}

/// Harms one file. `None` when that changes nothing.
fn harm(trace: &Trace, vfs: &MemVfs, path: &str, harm: Harm, random: &mut Random) -> Option<()> {
    let before = vfs.bytes_of(path).unwrap();
    if before.is_empty() && harm != Harm::Removed {
        return None;
    }
    let mut after = before.clone();
    // Where something was written: most of a journal file is empty.
    let used = before.iter().rposition(|byte| *byte != 0).map_or(before.len(), |last| last + 1);
    let place = |random: &mut Random| random.below(used as u64) as usize;
    match harm {
        Harm::FlippedBit => {
            let at = place(random);
            after[at] ^= 1 << random.below(8);
        }
        Harm::FlippedByte => {
            let at = place(random);
            after[at] = after[at].wrapping_add(random.between(1, 255) as u8);
        }
        Harm::Truncated => after.truncate(place(random)),
        Harm::ZeroedBlock => {
            let range = block_of(&before[..used], random);
            after[range].fill(0);
        }
        Harm::SwappedBlocks => {
            let (a, b) = (block_of(&before[..used], random), block_of(&before[..used], random));
            if a.len() != b.len() {
                return None;
            }
            after[a.clone()].copy_from_slice(&before[b.clone()]);
            after[b].copy_from_slice(&before[a]);
        }
        Harm::SwappedWithAnother => {
            let others: Vec<String> = files(vfs).into_keys().filter(|other| other != path).collect();
            let other = vfs.bytes_of(&others[random.below(others.len() as u64) as usize]).unwrap();
            if other.is_empty() {
                return None;
            }
            // One file at a time: what came from here stays there.
            let (a, b) = (block_of(&before[..used], random), block_of(&other, random));
            let len = a.len().min(b.len());
            after[a.start..a.start + len].copy_from_slice(&other[b.start..b.start + len]);
        }
        Harm::Removed => {
            vfs.remove(path).unwrap();
            return Some(());
        }
        Harm::Replaced if path == trace.newest => return None,
        Harm::Replaced => after.clone_from(trace.older.get(path)?),
    }
    (after != before).then(|| store_file(vfs, path, &after))
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Harmless,
    /// Some replicas say that they are damaged.
    Replicas,
    /// The directory does not open, and nothing in it was changed.
    Refused,
    /// The end of one log is missing, as after an interrupted write.
    LastBlock,
}

/// Reads until the end or damage: what is read must be what was written.
fn read_until_damage(
    store: &LogStore,
    tp: TopicPartition,
    wanted: &[StampedBatch],
    random: &mut Random,
    what: &str,
) -> bool {
    let (mut next, end) = store.bounds(tp).unwrap();
    let mut is_whole = true;
    while next < end {
        match store.read(tp, next, ALL, random.between(1, 3_000) as usize) {
            Ok(read) => {
                assert!(!read.batches.is_empty() && read.next > next, "{what}: {tp}: nothing at {next} of {end}");
                for piece in read.batches {
                    let found = StampedBatch::from_stored(piece).unwrap();
                    let base = found.header().base_offset;
                    let holds = |batch: &&StampedBatch| batch.header().next_offset() > next;
                    let expected = wanted.iter().find(holds);
                    assert!(
                        expected == Some(&found),
                        "{what}: {tp}: not what was written at {next}, but that of {base}"
                    );
                    next = found.header().next_offset();
                }
            }
            Err(ReadError::Corrupt(_)) => {
                is_whole = false;
                // Behind it there may be more.
                let following = wanted.iter().map(|batch| batch.header().next_offset()).find(|offset| *offset > next);
                next = following.unwrap_or(end);
            }
            Err(error) => panic!("{what}: {tp} at {next}: {error:?}"),
        }
    }
    is_whole
}

/// Every segment that was there is there, or aside, and no shorter. Of the one that was harmed the bytes may be others: what was not told of
/// yet is written again from the journal.
fn nothing_is_deleted(before: &BTreeMap<String, Vec<u8>>, vfs: &MemVfs, harmed: &str, what: &str) {
    let after = files(vfs);
    for (path, bytes) in before.iter().filter(|(path, _)| path.starts_with("partitions/")) {
        let name = path.rsplit('/').next().unwrap();
        let bytes = bytes.trim_zeros();
        let is_kept = |(other, kept): (&String, &Vec<u8>)| {
            other.ends_with(name) && kept.len() >= bytes.len() && (path == harmed || kept.starts_with(bytes))
        };
        assert!(after.iter().any(is_kept), "{what}: {path} is gone");
    }
}

trait TrimZeros {
    fn trim_zeros(&self) -> &[u8];
}

impl TrimZeros for Vec<u8> {
    /// A segment may be cut where it ends for the log.
    fn trim_zeros(&self) -> &[u8] {
        &self[..self.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]
    }
}

fn try_one(trace: &Trace, vfs: &MemVfs, kv: MemKv, random: &mut Random, harmed: &str, what: &str) -> Outcome {
    let before = files(vfs);
    let opened = LogStore::open(Arc::new(vfs.clone()), Arc::new(kv), options(200));
    let (store, report) = match opened {
        Ok(opened) => opened,
        Err(OpenError::ManifestDamaged { .. } | OpenError::ManifestMissing) => {
            assert!(before == files(vfs), "{what}: refused, and changed something");
            return Outcome::Refused;
        }
        Err(other) => panic!("{what}: {other:?}"),
    };
    let mut damaged = BTreeSet::new();
    let mut is_last_block = false;
    for (tp, wanted) in &trace.logs {
        assert!(store.bounds(*tp).is_some(), "{what}: {tp} is gone");
        let is_whole = read_until_damage(&store, *tp, wanted, random, what);
        let end = wanted.last().unwrap().header().next_offset();
        let found_end = store.bounds(*tp).unwrap().1;
        let hides_end = store.open_replica(*tp).is_err();
        if !is_whole || hides_end {
            assert!(store.damage(*tp).is_some(), "{what}: {tp} is damaged and does not say so");
            damaged.insert(*tp);
        } else if found_end != end {
            // Only what the last block held, or an unsynced end of a partition that asked for no more.
            let unpromised = *tp == crate::support::tp(3);
            assert!(
                (*tp, found_end) == trace.without_last || unpromised || store.damage(*tp).is_some(),
                "{what}: {tp} ends at {found_end}, not {end}: {report:?}"
            );
            is_last_block = true;
        }
    }
    let mut cursor = ScrubCursor::default();
    loop {
        let step = store.scrub(&mut cursor, 700).unwrap();
        damaged.extend(step.found.map(|found| found.tp));
        if step.is_round_over {
            break;
        }
    }
    let told: BTreeSet<TopicPartition> = store.damaged().iter().map(|found| found.tp).collect();
    assert!(damaged.is_subset(&told), "{what}: {damaged:?}, and told are {told:?}");
    nothing_is_deleted(&before, vfs, harmed, what);
    // The others take more, and the damaged ones begin anew when they are told to; both survive a restart.
    let mut ends = BTreeMap::new();
    for tp in trace.logs.keys() {
        if told.contains(tp) {
            let aside = store.set_aside(*tp, Timestamp(5)).unwrap();
            assert!(aside.is_some(), "{what}");
        }
        let end = store.bounds(*tp).unwrap().1;
        store.commit(&[write(*tp, batch(end, 50, 1, 30))]).unwrap_or_else(|error| panic!("{what}: {tp}: {error:?}"));
        ends.insert(*tp, end.plus(1));
    }
    store.flush(FlushBudget::EVERYTHING).unwrap();
    nothing_is_deleted(&before, vfs, harmed, &format!("{what}, set aside"));
    drop(store);
    let again = LogStore::open(Arc::new(vfs.after_kill()), Arc::new(MemKv::new()), options(201));
    let (again, report) = again.unwrap_or_else(|error| panic!("{what}, again: {error:?}"));
    assert!(report.damaged.is_empty() && report.damaged_block.is_none(), "{what}, again: {report:?}");
    for (tp, end) in ends {
        assert_eq!(again.bounds(tp).unwrap().1, end, "{what}, again: {tp}");
    }
    match () {
        () if !told.is_empty() => Outcome::Replicas,
        () if is_last_block => Outcome::LastBlock,
        () => Outcome::Harmless,
    }
}

fn kind_of(path: &str) -> &'static str {
    match path.split('/').next().unwrap() {
        "journal" => "journal",
        "partitions" => "segment",
        "manifest" => "manifest",
        "manifest.copy" => "manifest copy",
        _ => "other",
    }
}

fn corruptions() -> u64 {
    std::env::var("THALWEG_CORRUPTIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(2_000)
}

#[test]
fn every_damage_is_detected_or_harmless() {
    let mut random = Random::new(11);
    let mut counts: BTreeMap<(&str, Harm, Outcome), u64> = BTreeMap::new();
    let mut tried = 0;
    let mut traces: Vec<Trace> = Vec::new();
    while tried < corruptions() {
        if traces.len() < 6 {
            traces.push(trace(traces.len() as u64));
        }
        let trace = &traces[random.below(traces.len() as u64) as usize];
        let vfs = trace.disk.vfs.after_crash(Survivors::Everything, &mut random);
        let mut by_kind: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for path in files(&vfs).into_keys() {
            by_kind.entry(kind_of(&path)).or_default().push(path);
        }
        // Kinds in turn, however few files a kind has.
        let kinds: Vec<&str> = by_kind.keys().copied().collect();
        let kind = kinds[random.below(kinds.len() as u64) as usize];
        let path = &by_kind[kind][random.below(by_kind[kind].len() as u64) as usize];
        let how = HARMS[random.below(HARMS.len() as u64) as usize];
        if harm(trace, &vfs, path, how, &mut random).is_none() {
            continue;
        }
        let what = format!("corruption {tried}: {how:?} of {path}");
        let kv = trace.disk.kv.after_kill();
        let outcome = try_one(trace, &vfs, kv, &mut random, path, &what);
        *counts.entry((kind, how, outcome)).or_default() += 1;
        tried += 1;
    }
    for ((kind, how, outcome), count) in &counts {
        println!("{kind:14} {how:18?} {outcome:10?} {count}");
    }
    // A walk that harms nothing, or never finds anything, proves nothing.
    let sum = |wanted: &dyn Fn(&(&str, Harm, Outcome)) -> bool| -> u64 {
        counts.iter().filter(|(key, _)| wanted(key)).map(|(_, count)| count).sum()
    };
    assert!(sum(&|key| key.2 == Outcome::Replicas) > tried / 5, "{counts:?}");
    for how in HARMS {
        assert!(sum(&|key| key.1 == how) > 0, "{how:?} was never done");
    }
    assert!(sum(&|key| key.0 == "segment" && key.2 == Outcome::Harmless) > 0);
    assert_eq!(sum(&|key| key.0.starts_with("manifest") && key.2 != Outcome::Harmless), 0, "there are two of them");
}

/// Of the store of derived state any byte may be wrong: it is made anew, and serves nothing wrong.
#[test]
fn damaged_derived_state_is_made_anew() {
    let mut random = Random::new(3);
    let trace = trace(1);
    let entries = trace.disk.kv.scan(&[], None, usize::MAX).unwrap();
    assert!(entries.len() > 8, "{}", entries.len());
    for round in 0..150 {
        let (key, value) = &entries[random.below(entries.len() as u64) as usize];
        let mut harmed = value.clone();
        let at = random.below(harmed.len() as u64) as usize;
        match random.below(3) {
            0 => harmed[at] ^= 1 << random.below(8),
            1 => harmed.truncate(at),
            _ => harmed.clone_from(&entries[random.below(entries.len() as u64) as usize].1),
        }
        let kv = trace.disk.kv.after_kill();
        let mut change = KvBatch::default();
        change.put(key.clone(), harmed);
        kv.write(&change, KvDurability::Synced).unwrap();
        let vfs = trace.disk.vfs.after_crash(Survivors::Everything, &mut random);
        let what = format!("round {round}");
        assert_eq!(try_one(&trace, &vfs, kv, &mut random, "", &what), Outcome::Harmless, "{what}");
    }
}
