//! Directories written by every released format stay openable for ever.
//!
//! `UPDATE=1` writes the fixture of the current version, which is done once, when a version is new.

use std::{path::PathBuf, sync::Arc};

use base_types::Offset;
use segment_log::{Checkpoint, FlushBudget, LogOptions, LogStore, ReplicaOptions};
use store_api::{FileUse, MemKv, MemVfs, Vfs};

use crate::support::{bases, batch, lazy, options, tp, write};

const FILES: [&str; 6] =
    ["manifest", "manifest.copy", "journal/00000001", "partitions/0", "partitions/1", "partitions/2"];
const CURRENT: &str = "v3";

fn directory(version: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(version)
}

/// As the directory of version 1 was written.
fn small(life: u8) -> LogOptions {
    LogOptions { journal_file_bytes: 96 << 10, ..options(life) }
}

/// As that of version 2 was: a batch of 64 KiB goes through the journal, with a gap before it.
fn large(life: u8) -> LogOptions {
    LogOptions { journal_file_bytes: 288 << 10, bypass_bytes: 68 << 10, tail_cache_bytes: 256 << 10, ..options(life) }
}

/// Every kind of entry, batches in segments, in the journal, and in neither's knowledge.
fn write_all(vfs: &MemVfs) {
    let (store, _) = LogStore::open(Arc::new(vfs.clone()), Arc::new(MemKv::new()), large(1)).unwrap();
    let replica_options = ReplicaOptions { segment_bytes: 256 << 10 };
    for i in 0..3 {
        store.create_replica(tp(i), replica_options).unwrap();
        store.commit(&[write(tp(i), batch(Offset(0), 1, 2, 20)), write(tp(i), batch(Offset(2), 2, 2, 20))]).unwrap();
    }
    let state = bytes::Bytes::from_static(b"state");
    store
        .checkpoint(tp(0), &Checkpoint { as_of: Offset(4), high_watermark: Offset(4), producer_state: state })
        .unwrap();
    store.flush(FlushBudget::EVERYTHING).unwrap();
    store.commit(&[write(tp(0), batch(Offset(4), 3, 1, 69 << 10))]).unwrap();
    store.commit(&[write(tp(0), batch(Offset(5), 3, 1, 65 << 10)), write(tp(1), batch(Offset(4), 3, 1, 20))]).unwrap();
    store.truncate(tp(1), Offset(2)).unwrap();
    store.commit(&[write(tp(1), batch(Offset(2), 4, 3, 20))]).unwrap();
    store.advance_log_start(tp(1), Offset(2)).unwrap();
    store.create_replica(tp(3), replica_options).unwrap();
    store.reset(tp(3), Offset(100)).unwrap();
    store.create_replica(tp(4), replica_options).unwrap();
    store.delete_replica(tp(4)).unwrap();
    store.commit(&[lazy(tp(2), batch(Offset(4), 2, 1, 30))]).unwrap();
    store.commit(&[lazy(tp(2), batch(Offset(5), 2, 1, 30))]).unwrap();
}

fn disk_path(name: &str) -> String {
    match name.strip_prefix("partitions/") {
        Some(index) => format!("partitions/{}/{:020}.log", tp(index.parse().unwrap()), 0),
        None => name.to_owned(),
    }
}

fn stored(version: &str, name: &str) -> Vec<u8> {
    std::fs::read(directory(version).join(name)).unwrap()
}

fn disk(version: &str) -> MemVfs {
    let vfs = MemVfs::new();
    vfs.create_dir("journal").unwrap();
    vfs.create_dir("partitions").unwrap();
    for i in 0..3 {
        vfs.create_dir(&format!("partitions/{}", tp(i))).unwrap();
    }
    // There was no copy of the manifest before version 3.
    for name in FILES.into_iter().filter(|name| directory(version).join(name).exists()) {
        vfs.create(&disk_path(name), FileUse::Buffered).unwrap().write_at(0, &[&stored(version, name)]).unwrap();
    }
    vfs
}

/// It holds what was written; what comes behind is of today, and both survive deaths, flushes and the journal's next rounds.
fn opens(version: &str, options: fn(u8) -> LogOptions, of_first: &[i64]) {
    let vfs = disk(version);
    let open = |life: u8| LogStore::open(Arc::new(vfs.clone()), Arc::new(MemKv::new()), options(life)).unwrap();
    let check = |store: &LogStore, of_second: &[i64]| {
        assert_eq!(store.replicas(), [tp(0), tp(1), tp(2), tp(3)]);
        assert_eq!(bases(store, tp(0)), of_first);
        assert_eq!(bases(store, tp(1)), of_second);
        assert_eq!(bases(store, tp(2)), [0, 2, 4, 5]);
        assert_eq!(store.bounds(tp(1)).unwrap().0, Offset(2));
        assert_eq!(store.bounds(tp(3)), Some((Offset(100), Offset(100))));
    };
    let (store, report) = open(2);
    assert!(!report.was_clean && report.replayed_blocks > 0 && report.scanned_bytes > 0, "{report:?}");
    check(&store, &[2]);
    store.commit(&[write(tp(1), batch(Offset(5), 5, 1, 20))]).unwrap();
    drop(store);
    let (store, report) = open(3);
    assert!(report.replayed_blocks > 1, "a block of today behind those of then: {report:?}");
    check(&store, &[2, 5]);
    store.flush(FlushBudget::EVERYTHING).unwrap();
    check(&store, &[2, 5]);
    let mut of_second = vec![2, 5];
    for offset in 6..166 {
        store.flush(FlushBudget::DUE).unwrap();
        store.commit(&[write(tp(1), batch(Offset(offset), 5, 1, 1000))]).unwrap();
        of_second.push(offset);
    }
    drop(store);
    let (store, report) = open(4);
    assert!(!report.was_clean && report.replayed_blocks > 0, "{report:?}");
    check(&store, &of_second);
}

#[test]
fn a_directory_of_version_1_opens() {
    opens("v1", small, &[0, 2, 4]);
}

#[test]
fn a_directory_of_version_2_opens() {
    opens("v2", large, &[0, 2, 4, 5]);
}

#[test]
fn a_directory_of_version_3_opens() {
    opens("v3", large, &[0, 2, 4, 5]);
}

/// So that a change of format cannot go unnoticed.
#[test]
fn the_writer_of_today_writes_the_very_same_as_the_fixture_of_the_current_version() {
    let vfs = MemVfs::new();
    write_all(&vfs);
    for name in FILES {
        let written = vfs.bytes_of(&disk_path(name)).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            let to = directory(CURRENT).join(name);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(to, &written).unwrap();
        }
        assert!(stored(CURRENT, name) == written, "{name} is written differently now");
    }
}
