//! The log on real files and the real RocksDB, against the same dumb twin as on the models.

#![allow(clippy::disallowed_methods, reason = "tests on real files")]

#[path = "../../segment-log/tests/log/support.rs"]
#[allow(dead_code)]
mod support;
#[path = "../../segment-log/tests/log/twin.rs"]
#[allow(dead_code)]
mod twin;

use std::{path::Path, sync::Arc};

use segment_log::{LogOptions, LogStore, RecoveryReport};
use store_os::{DirectIo, OsVfs, RocksKv};
use twin::{Generator, Twin, note_epochs, perform};

fn open(root: &Path, direct: DirectIo, options: LogOptions) -> (LogStore, RecoveryReport) {
    let vfs = OsVfs::open(root, direct).unwrap();
    let kv = RocksKv::open(&root.join("derived")).unwrap().kv;
    LogStore::open(Arc::new(vfs), Arc::new(kv), options).unwrap()
}

fn live(direct: DirectIo, options: fn(u8) -> LogOptions, mut generator: Generator) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let root = directory.path().join("data");
    let (mut store, report) = open(&root, direct, options(0));
    assert!(report.is_new);
    let mut twin = Twin::default();
    for step in 1..=200_u32 {
        let operation = generator.next(&twin);
        perform(&store, &twin, &operation).unwrap();
        twin = twin.after(&operation);
        note_epochs(&mut twin);
        if step % 25 == 0 {
            let clean = step % 50 == 0;
            if clean {
                store.shutdown().unwrap();
            }
            drop(store);
            let report;
            (store, report) = open(&root, direct, options(step as u8));
            assert_eq!(report.was_clean, clean);
            twin.check_equal(&store);
        }
    }
}

#[test]
fn the_log_equals_its_twin_on_real_files_with_direct_io() {
    live(DirectIo::Auto, support::options, Generator::new(1));
}

#[test]
fn the_log_equals_its_twin_on_real_files_through_the_page_cache() {
    live(DirectIo::Never, support::options, Generator::new(2));
}

#[test]
fn the_log_equals_its_twin_when_large_batches_are_written_from_where_the_journal_has_them() {
    live(DirectIo::Auto, support::large_options, Generator::large(3));
    live(DirectIo::Never, support::large_options, Generator::large(4));
}
