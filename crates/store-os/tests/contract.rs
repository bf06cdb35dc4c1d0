//! The real providers keep the promises that the models define.

#![allow(clippy::disallowed_methods, reason = "tests on real files")]

use std::cell::RefCell;

use store_api::contract;
use store_os::{DirectIo, OpenDirectoryError, OsVfs, RocksKv};

fn fresh(directories: &RefCell<Vec<tempfile::TempDir>>) -> std::path::PathBuf {
    // Beside the build, since a temporary file system may know neither direct I/O nor durability.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("data");
    directories.borrow_mut().push(directory);
    path
}

#[test]
fn real_files_keep_the_contract_with_direct_io() {
    let directories = RefCell::default();
    contract::vfs::run(|| OsVfs::open(&fresh(&directories), DirectIo::Auto).unwrap());
}

#[test]
fn real_files_keep_the_contract_through_the_page_cache() {
    let directories = RefCell::default();
    contract::vfs::run(|| OsVfs::open(&fresh(&directories), DirectIo::Never).unwrap());
}

#[test]
fn rocksdb_keeps_the_contract() {
    let directories = RefCell::default();
    contract::kv::run(|| RocksKv::open(&fresh(&directories)).unwrap().kv);
}

#[test]
fn a_data_directory_belongs_to_one_process() {
    let directories = RefCell::default();
    let root = fresh(&directories);
    let first = OsVfs::open(&root, DirectIo::Auto).unwrap();
    // Locks belong to open files, so a second open in this process is refused as one elsewhere would be.
    assert!(matches!(OsVfs::open(&root, DirectIo::Auto), Err(OpenDirectoryError::InUse { .. })));
    drop(first);
    OsVfs::open(&root, DirectIo::Auto).unwrap();
}

#[test]
fn a_damaged_store_of_derived_state_is_begun_anew() {
    use store_api::{KvBatch, KvDurability, KvStore};
    let directories = RefCell::default();
    let root = fresh(&directories);
    let mut batch = KvBatch::default();
    batch.put("key", "value");
    RocksKv::open(&root).unwrap().kv.write(&batch, KvDurability::Synced).unwrap();
    for entry in std::fs::read_dir(&root).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("MANIFEST") {
            std::fs::write(entry.path(), b"rubbish that is no manifest").unwrap();
        }
    }
    let opened = RocksKv::open(&root).unwrap();
    assert!(opened.was_rebuilt);
    assert_eq!(opened.kv.get(b"key").unwrap(), None);
}
