//! The log on real files and the real RocksDB, against the same dumb twin as on the models.

#![allow(clippy::disallowed_methods, reason = "tests on real files")]

#[path = "../../segment-log/tests/log/support.rs"]
#[allow(dead_code)]
mod support;
#[path = "../../segment-log/tests/log/twin.rs"]
#[allow(dead_code)]
mod twin;

use std::{path::Path, sync::Arc};

use segment_log::{LogStore, RecoveryReport};
use store_os::{DirectIo, OsVfs, RocksKv};
use twin::{Generator, Twin, note_epochs, perform};

fn open(root: &Path, direct: DirectIo, life: u8) -> (LogStore, RecoveryReport) {
    let vfs = OsVfs::open(root, direct).unwrap();
    let kv = RocksKv::open(&root.join("derived")).unwrap().kv;
    LogStore::open(Arc::new(vfs), Arc::new(kv), support::options(life)).unwrap()
}

fn live(direct: DirectIo, seed: u64) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let root = directory.path().join("data");
    let (mut store, report) = open(&root, direct, 0);
    assert!(report.is_new);
    let (mut twin, mut generator) = (Twin::default(), Generator::new(seed));
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
            (store, report) = open(&root, direct, step as u8);
            assert_eq!(report.was_clean, clean);
            twin.check_equal(&store);
        }
    }
}

#[test]
fn the_log_equals_its_twin_on_real_files_with_direct_io() {
    live(DirectIo::Auto, 1);
}

#[test]
fn the_log_equals_its_twin_on_real_files_through_the_page_cache() {
    live(DirectIo::Never, 2);
}
