//! Disks that fail, fill up and rot.

use base_types::{Offset, Random};
use segment_log::{FlushBudget, LogStore, OpenError, StoreError};
use store_api::{DiskErrorKind, DiskFault, DiskOperation, MemKv, Survivors, Vfs};

use crate::support::{ALL, Disk, bases, batch, lazy, options, read_all, replica_options, tp, write};

fn fault(operation: DiskOperation, path: &str, kind: DiskErrorKind) -> DiskFault {
    DiskFault { operation, path: path.to_owned(), kind, skip: 0, times: 1 }
}

fn one_replica(disk: &mut Disk) -> LogStore {
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    store.commit(&[write(tp(0), batch(Offset(0), 1, 1, 10))]).unwrap();
    store
}

#[test]
fn a_failed_sync_fails_the_directory_until_a_restart_and_reads_go_on() {
    // (what fails, what meets it)
    type Meets = fn(&LogStore) -> Result<(), StoreError>;
    let journal: Meets = |store| store.commit(&[write(tp(0), batch(Offset(1), 1, 1, 10))]).map(|_| ());
    let bypass: Meets = |store| store.commit(&[write(tp(0), batch(Offset(1), 1, 1, 3000))]).map(|_| ());
    let page_cache: Meets = |store| store.commit(&[lazy(tp(0), batch(Offset(1), 1, 1, 10))]).map(|_| ());
    let flush: Meets = |store| store.flush(FlushBudget::EVERYTHING).map(|_| ());
    let truncate: Meets = |store| store.truncate(tp(0), Offset(0)).map(|_| ());
    // Enough to go past the page cache.
    let extent: Meets = |store| {
        store.commit(&[write(tp(0), batch(Offset(1), 1, 1, 1500))])?;
        store.flush(FlushBudget::EVERYTHING).map(|_| ())
    };
    let cases: [(DiskOperation, &str, Meets); 10] = [
        (DiskOperation::Write, "journal/", journal),
        (DiskOperation::Write, "partitions/", bypass),
        (DiskOperation::SyncDirectory, "partitions/", bypass),
        (DiskOperation::Sync, "partitions/", page_cache),
        (DiskOperation::Sync, "partitions/", flush),
        (DiskOperation::Write, "partitions/", extent),
        (DiskOperation::Sync, "partitions/", extent),
        (DiskOperation::Sync, "manifest", flush),
        (DiskOperation::Rename, "manifest", flush),
        (DiskOperation::Write, "journal/", truncate),
    ];
    for (operation, path, meets) in cases {
        let mut disk = Disk::new();
        let store = one_replica(&mut disk);
        disk.vfs.inject(fault(operation, path, DiskErrorKind::Failed));
        let error = meets(&store).unwrap_err();
        assert!(matches!(error, StoreError::Failed(_)), "{operation:?} {path}: {error:?}");
        assert!(!error.is_definite() && !error.is_retriable());
        // The disk is well again, the directory is not (S6): no later call says yes.
        for later in [journal, bypass, page_cache, flush, truncate] {
            assert!(matches!(later(&store), Err(StoreError::Failed(_))), "{operation:?} {path}");
        }
        assert!(store.shutdown().is_err() && store.stats().failed && store.failure().is_some());
        assert_eq!(store.read(tp(0), Offset(0), ALL, 100).unwrap().batches.len(), 1);
        drop(store);
        let (store, report) = disk.open();
        assert!(!report.was_clean);
        assert_eq!(bases(&store, tp(0))[0], 0, "{operation:?} {path}: what was acknowledged is there");
    }
}

#[test]
fn a_full_disk_refuses_and_goes_on_by_itself() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    store.create_replica(tp(1), replica_options()).unwrap();
    disk.vfs.set_capacity(disk.vfs.used() + (150 << 10));
    let mut ends = [0_i64; 2];
    let mut refused = 0;
    for round in 0..400_i64 {
        let which = (round % 2) as usize;
        let next = batch(Offset(ends[which]), 1, 1, if round % 5 == 0 { 2600 } else { 700 });
        let one = if which == 0 { write(tp(0), next) } else { lazy(tp(1), next) };
        match store.commit(&[one]) {
            Ok(_) => ends[which] += 1,
            Err(error) => {
                assert!(matches!(error, StoreError::NoSpace), "{error:?}");
                assert!(error.is_retriable() && error.is_definite());
                refused += 1;
            }
        }
        for (i, end) in ends.iter().enumerate() {
            // Nothing refused is in the log, everything accepted is, and it can be read.
            assert_eq!(store.bounds(tp(i as i32)).unwrap().1, Offset(*end));
        }
        if round == 300 {
            assert!(refused > 20, "the disk never became full");
            // Retention makes room.
            store.advance_log_start(tp(0), Offset(ends[0] - 2)).unwrap();
            store.advance_log_start(tp(1), Offset(ends[1] - 2)).unwrap();
            disk.vfs.sync_dir(&format!("partitions/{}", tp(0))).unwrap();
            disk.vfs.sync_dir(&format!("partitions/{}", tp(1))).unwrap();
            refused = 0;
        }
    }
    assert!(refused < 90, "{refused} of 99 were refused after there was room again");
    for i in 0..2 {
        let (start, end) = store.bounds(tp(i)).unwrap();
        assert_eq!(read_all(&store, tp(i), start).unwrap().len() as i64, end.since(start));
    }
    drop(store);
    disk.vfs.set_capacity(u64::MAX);
    let (store, _) = disk.open();
    for (i, end) in ends.iter().enumerate() {
        assert_eq!(
            store.bounds(tp(i as i32)).unwrap().1,
            Offset(*end),
            "refused batches stay away after a restart too"
        );
    }
}

/// Batches of which only the manifest would tell are synced, and there is no room for the manifest.
fn synced_and_not_told(disk: &mut Disk) -> LogStore {
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    for i in 0..3 {
        store.commit(&[lazy(tp(0), batch(Offset(i), 1, 1, 10))]).unwrap();
    }
    disk.vfs.inject(fault(DiskOperation::Write, "manifest", DiskErrorKind::NoSpace));
    assert!(matches!(store.flush(FlushBudget::EVERYTHING), Err(StoreError::NoSpace)));
    store
}

#[test]
fn what_is_synced_is_not_yet_known_to_recovery() {
    let after_kill = |mut disk: Disk, store: LogStore| {
        drop(store);
        disk.vfs = disk.vfs.after_kill();
        disk.open().0
    };
    // (what builds on it, what there is then)
    type BuildsOn = fn(&LogStore);
    let cases: [(BuildsOn, &[i64]); 4] = [
        (|store| drop(store.commit(&[write(tp(0), batch(Offset(3), 1, 1, 10))]).unwrap()), &[0, 1, 2, 3]),
        (|store| drop(store.commit(&[write(tp(0), batch(Offset(3), 1, 1, 3000))]).unwrap()), &[0, 1, 2, 3]),
        (|store| store.advance_log_start(tp(0), Offset(2)).unwrap(), &[2]),
        (|store| assert_eq!(store.truncate(tp(0), Offset(1)).unwrap(), Offset(1)), &[0]),
    ];
    for (builds_on, expected) in cases {
        let mut disk = Disk::new();
        let store = synced_and_not_told(&mut disk);
        builds_on(&store);
        let store = after_kill(disk, store);
        let (start, _) = store.bounds(tp(0)).unwrap();
        assert_eq!(bases(&store, tp(0)), expected, "from {start}");
    }
}

#[test]
fn the_reserve_is_not_for_appending() {
    let mut disk = Disk::new();
    let (store, _) = disk.open_with(|options| options.reserve_bytes = 20 << 20);
    store.create_replica(tp(0), replica_options()).unwrap();
    disk.vfs.set_capacity(disk.vfs.used() + (10 << 20));
    let big = batch(Offset(0), 1, 1, 5 << 20);
    assert!(matches!(store.commit(&[write(tp(0), big.clone())]), Err(StoreError::NoSpace)));
    store.truncate(tp(0), Offset(0)).unwrap();
    store.shutdown().unwrap();
    disk.vfs.set_capacity(u64::MAX);
}

#[test]
fn damage_in_the_journal_below_its_end_is_never_taken_for_its_end() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    for i in 0..6 {
        store.commit(&[write(tp(0), batch(Offset(i), 1, 1, 10))]).unwrap();
    }
    drop(store);
    let image = |disk: &Disk| disk.vfs.after_crash(Survivors::Everything, &mut Random::new(1));
    let open = |vfs| LogStore::open(std::sync::Arc::new(vfs), std::sync::Arc::new(MemKv::new()), options(9));
    for block in 0..7_u64 {
        for byte in [0, 9, 30, 63, 64, 80] {
            let vfs = image(&disk);
            vfs.corrupt("journal/00000001", block * 4096 + byte, 4).unwrap();
            match open(vfs) {
                // The last block: power may have been lost while it was written, and nothing proves otherwise.
                Ok((store, _)) => {
                    assert_eq!(block, 6, "byte {byte}");
                    assert_eq!(store.bounds(tp(0)), Some((Offset(0), Offset(5))));
                }
                Err(OpenError::JournalDamaged { position, missing_block, .. }) => {
                    assert!(block < 6);
                    assert_eq!((position, missing_block), (block * 4096, block + 1));
                }
                Err(other) => panic!("block {block} byte {byte}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_record_that_looks_like_a_journal_block_proves_nothing() {
    // A client copies a block of the journal into a record, at a place where blocks begin, with a number to come.
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    store.commit(&[write(tp(0), batch(Offset(0), 1, 1, 10))]).unwrap();
    let before = disk.vfs.after_crash(Survivors::Everything, &mut Random::new(1));
    // The same position in another life: everything right but the incarnation.
    disk.life = 76;
    let (other, _) = disk.open();
    for i in 1..5 {
        other.commit(&[write(tp(0), batch(Offset(i), 1, 1, 10))]).unwrap();
    }
    let forged = disk.vfs.bytes_of("journal/00000001").unwrap()[4 * 4096..5 * 4096].to_vec();
    let file = store_api::Vfs::open(&before, "journal/00000001", store_api::FileUse::Buffered).unwrap();
    file.write_at(3 * 4096, &[&forged]).unwrap();
    let (found, _) =
        LogStore::open(std::sync::Arc::new(before), std::sync::Arc::new(MemKv::new()), options(9)).unwrap();
    assert_eq!(found.bounds(tp(0)), Some((Offset(0), Offset(1))));
}

#[test]
fn a_directory_without_its_manifest_is_not_taken_for_an_empty_one() {
    let mut disk = Disk::new();
    drop(one_replica(&mut disk));
    store_api::Vfs::remove(&disk.vfs, "manifest").unwrap();
    let opened = LogStore::open(std::sync::Arc::new(disk.vfs.clone()), disk.kv.clone(), options(9));
    assert!(matches!(opened.err(), Some(OpenError::ManifestMissing)));
}

#[test]
fn the_store_of_derived_state_may_fail_or_vanish() {
    let mut disk = Disk::new();
    let store = one_replica(&mut disk);
    disk.kv.set_failing(true);
    for i in 1..200 {
        store.commit(&[write(tp(0), batch(Offset(i), 1, 1, 100))]).unwrap();
    }
    store.flush(FlushBudget::EVERYTHING).unwrap();
    assert_eq!(bases(&store, tp(0)).len(), 200);
    store.truncate(tp(0), Offset(100)).unwrap();
    store.shutdown().unwrap();
    drop(store);
    disk.kv = std::sync::Arc::new(MemKv::new());
    let (store, _) = disk.open();
    assert_eq!(bases(&store, tp(0)).len(), 100);
}

#[test]
fn a_refused_page_cache_batch_is_not_found_by_recovery() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    store.commit(&[lazy(tp(0), batch(Offset(0), 1, 1, 10))]).unwrap();
    // There is room for the first of two batches: a full disk takes what fits.
    let first = batch(Offset(1), 1, 1, 100);
    disk.vfs.set_capacity(disk.vfs.used() + first.size() as u64 + 10);
    let both = [lazy(tp(0), first), lazy(tp(0), batch(Offset(2), 1, 1, 100))];
    assert!(matches!(store.commit(&both), Err(StoreError::NoSpace)));
    drop(store);
    disk.vfs.set_capacity(u64::MAX);
    let (store, _) = disk.open();
    assert_eq!(bases(&store, tp(0)), [0], "a definite error means that the record is never visible (R17)");
}
