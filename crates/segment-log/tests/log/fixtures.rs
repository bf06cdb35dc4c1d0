//! Directories written by every released format stay openable for ever.
//!
//! `UPDATE=1` writes the fixture of the current version, which is done once, when a version is new.

use std::{path::PathBuf, sync::Arc};

use base_types::{Incarnation, Offset};
use segment_log::{Checkpoint, FlushBudget, LogOptions, LogStore};
use store_api::{FileUse, MemKv, MemVfs, Vfs};

use crate::support::{bases, batch, lazy, options, replica_options, tp, write};

const FILES: [&str; 5] = ["manifest", "journal/00000001", "partitions/0", "partitions/1", "partitions/2"];

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1")
}

fn small() -> LogOptions {
    LogOptions { journal_file_bytes: 96 << 10, ..options(1) }
}

/// Every kind of entry, batches in segments, in the journal, and in neither's knowledge.
fn write_all(vfs: &MemVfs) {
    let (store, _) = LogStore::open(Arc::new(vfs.clone()), Arc::new(MemKv::new()), small()).unwrap();
    for i in 0..3 {
        store.create_replica(tp(i), replica_options()).unwrap();
        store.commit(&[write(tp(i), batch(Offset(0), 1, 2, 20)), write(tp(i), batch(Offset(2), 2, 2, 20))]).unwrap();
    }
    let state = bytes::Bytes::from_static(b"state");
    store
        .checkpoint(tp(0), &Checkpoint { as_of: Offset(4), high_watermark: Offset(4), producer_state: state })
        .unwrap();
    store.flush(FlushBudget::EVERYTHING).unwrap();
    store.commit(&[write(tp(0), batch(Offset(4), 3, 1, 2500))]).unwrap();
    store.truncate(tp(1), Offset(2)).unwrap();
    store.commit(&[write(tp(1), batch(Offset(2), 4, 3, 20))]).unwrap();
    store.advance_log_start(tp(1), Offset(2)).unwrap();
    store.create_replica(tp(3), replica_options()).unwrap();
    store.reset(tp(3), Offset(100)).unwrap();
    store.create_replica(tp(4), replica_options()).unwrap();
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

#[test]
fn a_directory_of_version_1_opens() {
    let written = MemVfs::new();
    write_all(&written);
    if std::env::var_os("UPDATE").is_some() {
        for name in FILES {
            let to = directory().join(name);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(to, written.bytes_of(&disk_path(name)).unwrap()).unwrap();
        }
    }
    let vfs = MemVfs::new();
    vfs.create_dir("journal").unwrap();
    vfs.create_dir("partitions").unwrap();
    for i in 0..3 {
        vfs.create_dir(&format!("partitions/{}", tp(i))).unwrap();
    }
    for name in FILES {
        let stored = std::fs::read(directory().join(name)).unwrap();
        vfs.create(&disk_path(name), FileUse::Buffered).unwrap().write_at(0, &[&stored]).unwrap();
        // The writer of today writes the very same, so a change of format cannot go unnoticed.
        assert!(stored == written.bytes_of(&disk_path(name)).unwrap(), "{name} is written differently now");
    }
    let options = LogOptions { incarnation: Incarnation([2; 16]), ..small() };
    let (store, report) = LogStore::open(Arc::new(vfs), Arc::new(MemKv::new()), options).unwrap();
    assert!(!report.was_clean && report.replayed_blocks > 0 && report.scanned_bytes > 0, "{report:?}");
    assert_eq!(store.replicas(), [tp(0), tp(1), tp(2), tp(3)]);
    assert_eq!(bases(&store, tp(0)), [0, 2, 4]);
    assert_eq!(bases(&store, tp(1)), [2]);
    assert_eq!(bases(&store, tp(2)), [0, 2, 4, 5]);
    assert_eq!(store.bounds(tp(1)), Some((Offset(2), Offset(5))));
    assert_eq!(store.bounds(tp(3)), Some((Offset(100), Offset(100))));
}
