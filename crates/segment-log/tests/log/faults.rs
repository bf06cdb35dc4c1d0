//! Disks that fail, fill up and rot.

use base_types::{Offset, Random, Timestamp};
use segment_log::{FlushBudget, LogStore, OpenError, ReadError, ScrubCursor, StoreError};
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

/// Found by the simulator: a follower was sent batches while its disk filled up and had room again. Those behind the refused ones
/// were taken, the log had a hole, and after a restart nobody knew of it.
#[test]
fn what_comes_behind_a_refused_batch_is_refused_until_that_one_is_there() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    store.create_replica(tp(1), replica_options()).unwrap();
    let one = |base: i64| write(tp(0), batch(Offset(base), 1, 1, 10));
    store.commit(&[one(0)]).unwrap();
    // The write of the block itself finds no space, once.
    disk.vfs.inject(fault(DiskOperation::Write, "journal", DiskErrorKind::NoSpace));
    assert!(matches!(store.commit(&[one(1)]), Err(StoreError::NoSpace)));
    disk.vfs.clear_faults();
    assert!(matches!(store.commit(&[one(2)]), Err(StoreError::NoSpace)), "it does not continue the log");
    assert_eq!(store.bounds(tp(0)).unwrap().1, Offset(1));
    store.commit(&[write(tp(1), batch(Offset(0), 1, 1, 10))]).unwrap();
    // They come again, in order; compaction may leave gaps, and a log that was made anew knows nothing of it.
    store.commit(&[one(1)]).unwrap();
    store.commit(&[one(2), one(5)]).unwrap();
    disk.vfs.inject(fault(DiskOperation::Write, "journal", DiskErrorKind::NoSpace));
    assert!(matches!(store.commit(&[one(6)]), Err(StoreError::NoSpace)));
    disk.vfs.clear_faults();
    // A log that is cut where it ends already has nothing to wait for either: whom it follows now has compacted what was refused.
    store.truncate(tp(0), Offset(6)).unwrap();
    store.commit(&[one(8)]).unwrap();
    disk.vfs.inject(fault(DiskOperation::Write, "journal", DiskErrorKind::NoSpace));
    assert!(matches!(store.commit(&[one(9)]), Err(StoreError::NoSpace)));
    disk.vfs.clear_faults();
    store.reset(tp(0), Offset(20)).unwrap();
    store.commit(&[one(20)]).unwrap();
    drop(store);
    let (store, _) = disk.open();
    assert_eq!(bases(&store, tp(0)), [20]);
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

/// Seven blocks: the making of two replicas, and three batches of each in turn.
fn seven_blocks() -> Disk {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replicas(&[(tp(0), replica_options()), (tp(1), replica_options())]).unwrap();
    for i in 0..6 {
        store.commit(&[write(tp(i % 2), batch(Offset(i64::from(i / 2)), 1, 1, 10))]).unwrap();
    }
    disk
}

#[test]
fn damage_in_the_journal_below_its_end_is_never_taken_for_its_end() {
    let disk = seven_blocks();
    let image = |disk: &Disk| disk.vfs.after_crash(Survivors::Everything, &mut Random::new(1));
    let open = |vfs: &store_api::MemVfs| {
        LogStore::open(std::sync::Arc::new(vfs.clone()), std::sync::Arc::new(MemKv::new()), options(9)).unwrap()
    };
    for block in 0..7_u64 {
        // In the header, the table, and the payload, which the making of replicas has none of.
        for byte in [0, 9, 30, 52, 63, 70, 140] {
            let what = format!("block {block} byte {byte}");
            if block == 0 && byte == 140 {
                continue;
            }
            let vfs = image(&disk);
            vfs.corrupt("journal/00000001", block * 4096 + byte, 4).unwrap();
            let (store, report) = open(&vfs);
            // The last block: power may have been lost while it was written, and nothing proves otherwise.
            if block == 6 {
                assert!(report.damaged_block.is_none() && report.damaged.is_empty(), "{what}: {report:?}");
                assert_eq!(store.bounds(tp(1)), Some((Offset(0), Offset(2))));
                assert_eq!(bases(&store, tp(0)), [0, 1, 2]);
                continue;
            }
            assert_eq!(report.damaged_block, Some(block + 1), "{what}");
            // Bytes 52 to 63 are outside the head's checksum: all the rest is known then, and the batch itself is good, unless it begins
            // an epoch.
            let owner = ((block + 1) % 2) as i32;
            let damaged: Vec<_> = report.damaged.iter().map(|found| found.tp).collect();
            let is_head_known = byte >= 52 && byte != 70;
            let expected = match (block, byte) {
                (0, _) if is_head_known => vec![],
                (0, _) => vec![],
                (3.., 52 | 63) => vec![],
                _ if is_head_known => vec![tp(owner)],
                _ => vec![tp(0), tp(1)],
            };
            assert_eq!(damaged, expected, "{what}");
            assert_eq!(report.lost_blocks, !is_head_known, "{what}");
            for replica in store.replicas() {
                if expected.contains(&replica) {
                    let refused = store.open_replica(replica).map(drop);
                    assert!(matches!(refused, Err(ReadError::Corrupt(_))), "{what}: {refused:?}");
                } else {
                    assert_eq!(bases(&store, replica), [0, 1, 2], "{what}: {replica}");
                }
            }
            // What there was is kept, and a restart knows as much as this life.
            let aside = format!("journal.damaged-{}/00000001", block + 1);
            assert_eq!(vfs.bytes_of(&aside).unwrap()[..7 * 4096].len(), 7 * 4096);
            drop(store);
            let (again, second) = open(&vfs);
            assert_eq!(second.damaged, report.damaged, "{what}");
            assert!(second.damaged_block.is_none(), "{what}: {second:?}");
            for replica in damaged {
                let moved = again.set_aside(replica, Timestamp(77)).unwrap().unwrap();
                assert_eq!(moved, format!("partitions/{replica}.quarantine-77-journal"));
                assert_eq!(again.open_replica(replica).unwrap().unwrap().log_end, Offset(0));
                again.commit(&[write(replica, batch(Offset(0), 2, 1, 10))]).unwrap();
            }
        }
    }
}

#[test]
fn the_last_block_of_a_life_is_missed_when_another_life_has_written_behind_it() {
    let mut disk = seven_blocks();
    disk.vfs = disk.vfs.after_kill();
    let (store, _) = disk.open();
    store.commit(&[write(tp(0), batch(Offset(3), 1, 1, 10))]).unwrap();
    drop(store);
    disk.vfs.corrupt("journal/00000001", 6 * 4096 + 9, 4).unwrap();
    let (store, report) = disk.open();
    assert_eq!(report.damaged_block, Some(7));
    assert!(store.open_replica(tp(0)).is_err() && store.open_replica(tp(1)).is_err());
}

#[test]
fn a_journal_that_is_older_or_shorter_than_the_manifest_says_has_lost_blocks() {
    type Harm = fn(&Disk, Vec<u8>);
    let harms: [Harm; 3] = [
        |disk, old| {
            let file = store_api::Vfs::create(&disk.vfs, "journal/00000001", store_api::FileUse::Buffered).unwrap();
            file.write_at(0, &[&old]).unwrap();
        },
        |disk, _| store_api::Vfs::remove(&disk.vfs, "journal/00000001").unwrap(),
        |disk, _| {
            let file = store_api::Vfs::open(&disk.vfs, "journal/00000001", store_api::FileUse::Buffered).unwrap();
            file.set_size(5000).unwrap();
        },
    ];
    for harm in harms {
        let mut disk = seven_blocks();
        let old = disk.vfs.bytes_of("journal/00000001").unwrap();
        let (store, _) = disk.open();
        store.commit(&[write(tp(0), batch(Offset(3), 1, 1, 10))]).unwrap();
        store.flush(FlushBudget::EVERYTHING).unwrap();
        store.commit(&[write(tp(0), batch(Offset(4), 1, 1, 10))]).unwrap();
        drop(store);
        harm(&disk, old);
        let (store, report) = disk.open();
        assert!(report.lost_blocks, "{report:?}");
        assert!(store.open_replica(tp(0)).is_err());
        // Block numbers go on behind those that are lost.
        store.set_aside(tp(0), Timestamp(1)).unwrap().unwrap();
        store.commit(&[write(tp(0), batch(Offset(0), 2, 1, 10))]).unwrap();
        drop(store);
        let (store, report) = disk.open();
        assert!(!report.lost_blocks, "{report:?}");
        assert_eq!(bases(&store, tp(0)), [0]);
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
    store_api::Vfs::remove(&disk.vfs, "manifest.copy").unwrap();
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

/// Forty batches of four records in segments, nothing in memory, nothing in the journal.
fn at_rest() -> Disk {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replicas(&[(tp(0), replica_options()), (tp(1), replica_options())]).unwrap();
    for i in 0..40 {
        for replica in [tp(0), tp(1)] {
            store.commit(&[write(replica, batch(Offset(4 * i), 1 + i as i32 / 20, 4, 60))]).unwrap();
        }
    }
    store.shutdown().unwrap();
    disk
}

fn segments(disk: &Disk, replica: base_types::TopicPartition) -> Vec<String> {
    let directory = format!("partitions/{replica}");
    disk.vfs.list(&directory).unwrap().into_iter().map(|name| format!("{directory}/{name}")).collect()
}

/// What no checksum covers, and what a walk by header believes.
#[test]
fn a_damaged_header_never_hides_a_batch_and_is_never_served() {
    // (what, where in the header, which bits)
    let harms = [
        ("base offset, lower", 7, 4),
        ("base offset, much higher", 5, 1),
        ("leader epoch", 15, 2),
        ("last offset delta", 26, 3),
        ("last offset delta, higher", 26, 64),
        ("length", 11, 32),
        ("length, higher", 10, 2),
        ("CRC", 18, 1),
        ("magic", 16, 1),
    ];
    for (what, at, mask) in harms {
        let mut found = 0;
        for number in 0..40_usize {
            let mut disk = at_rest();
            let of = |path: &String| {
                let bytes = disk.vfs.bytes_of(path).unwrap();
                let starts = record_batch::batches(&bytes).map_while(Result::ok).map(|(_, range)| range.start as u64);
                starts.map(|start| (path.clone(), start)).collect::<Vec<_>>()
            };
            let all: Vec<(String, u64)> = segments(&disk, tp(0)).iter().flat_map(of).collect();
            assert_eq!(all.len(), 40);
            let (path, position) = &all[number];
            disk.vfs.corrupt(path, position + at, mask).unwrap();
            let (store, _) = disk.open();
            for offset in 0..160 {
                for bytes_max in [1, 500, 5000] {
                    match store.read(tp(0), Offset(offset), ALL, bytes_max) {
                        Ok(read) => {
                            let first = record_batch::StampedBatch::from_stored(read.batches[0].clone()).unwrap();
                            let base = Offset(offset / 4 * 4);
                            assert_eq!(first.header().base_offset, base, "{what} of batch {number}, at {offset}");
                            assert_eq!(first.header().leader_epoch.0, 1 + offset as i32 / 80, "{what} of {number}");
                        }
                        Err(ReadError::Corrupt(_)) => found += 1,
                        Err(error) => panic!("{what} of batch {number}, at {offset}: {error:?}"),
                    }
                }
            }
            assert!(store.damage(tp(0)).is_some(), "{what} of batch {number}");
            assert!(store.read(tp(1), Offset(0), ALL, 10).is_ok() && store.damage(tp(1)).is_none());
        }
        assert!(found >= 40, "{what}: {found}");
    }
}

#[test]
fn a_segment_that_is_gone_or_short_holds_up_nobody_else() {
    type Harm = fn(&Disk, &str);
    let harms: [Harm; 2] = [
        |disk, path| disk.vfs.remove(path).unwrap(),
        |disk, path| {
            let file = disk.vfs.open(path, store_api::FileUse::Buffered).unwrap();
            file.set_size(100).unwrap();
        },
    ];
    for harm in harms {
        let mut disk = at_rest();
        harm(&disk, segments(&disk, tp(0)).last().unwrap());
        let (store, report) = disk.open();
        assert_eq!(report.damaged.len(), 1, "where the log goes on is looked at");
        // More than the journal has room for: nothing may wait for the damaged file.
        for i in 40..400 {
            for replica in [tp(0), tp(1)] {
                store.commit(&[write(replica, batch(Offset(4 * i), 3, 4, 60))]).unwrap();
            }
            if store.is_flush_due() {
                store.flush(FlushBudget::DUE).unwrap();
            }
        }
        store.flush(FlushBudget::EVERYTHING).unwrap();
        drop(store);
        let (store, report) = disk.open();
        assert_eq!(bases(&store, tp(1)).len(), 400);
        assert!(report.damaged.is_empty(), "the damaged segment is not the last one any more");
        assert!(matches!(store.read(tp(0), Offset(156), ALL, 10), Err(ReadError::Corrupt(_))));
        let read = store.read(tp(0), Offset(160), ALL, 10).unwrap();
        let first = record_batch::StampedBatch::from_stored(read.batches[0].clone()).unwrap();
        assert_eq!(first.header().base_offset, Offset(160), "what came later is whole");
        assert_eq!(store.take_damage_news().len(), 1);
        assert!(store.take_damage_news().is_empty());
    }
}

#[test]
fn a_look_from_outside_finds_what_is_wrong_and_changes_nothing() {
    let verify = |disk: &Disk| LogStore::verify(std::sync::Arc::new(disk.vfs.clone()), disk.kv.clone()).unwrap();
    let mut disk = at_rest();
    let report = verify(&disk);
    assert_eq!((report.replicas, report.batches, report.findings.len()), (2, 80, 0), "{report:?}");
    let path = segments(&disk, tp(0)).remove(1);
    disk.vfs.corrupt(&path, 200, 1).unwrap();
    disk.vfs.corrupt("manifest.copy", 20, 1).unwrap();
    let report = verify(&disk);
    let files: Vec<&str> = report.findings.iter().map(|finding| finding.file.as_str()).collect();
    assert_eq!(files, ["manifest", path.as_str()]);
    // And in the journal.
    let (store, _) = disk.open();
    for i in 40..44 {
        store.commit(&[write(tp(1), batch(Offset(4 * i), 3, 4, 60))]).unwrap();
    }
    drop(store);
    let changes = disk.vfs.changes();
    let before = verify(&disk);
    assert_eq!((before.findings.len(), before.journal_blocks), (1, 4), "{before:?}");
    // The first of the four blocks.
    let mut blocks: Vec<(u64, String, usize)> = Vec::new();
    for name in disk.vfs.list("journal").unwrap() {
        let path = format!("journal/{name}");
        let bytes = disk.vfs.bytes_of(&path).unwrap();
        for (index, block) in bytes.chunks(4096).enumerate().filter(|(_, block)| block.starts_with(b"TwJ1")) {
            blocks.push((u64::from_be_bytes(*block[8..].first_chunk().unwrap()), path.clone(), index));
        }
    }
    blocks.sort_unstable();
    let (number, path, index) = &blocks[blocks.len() - 4];
    disk.vfs.corrupt(path, *index as u64 * 4096 + 10, 1).unwrap();
    let after = verify(&disk);
    let what = format!("block {number} should be there");
    assert!(after.findings.iter().any(|finding| finding.what == what), "{after:?}");
    assert_eq!(disk.vfs.changes(), changes, "nothing was written");
}

/// One that did not would keep the damage behind the first bad sector from being found for ever.
#[test]
fn the_scrub_goes_on_behind_what_the_disk_cannot_read() {
    let mut disk = Disk::new();
    let store = one_replica(&mut disk);
    store.create_replica(tp(1), replica_options()).unwrap();
    store.commit(&[write(tp(1), batch(Offset(0), 1, 1, 10))]).unwrap();
    store.flush(FlushBudget::EVERYTHING).unwrap();
    drop(store);
    let (store, _) = disk.open();
    let unreadable = fault(DiskOperation::Read, &segment_of(&disk, tp(0)), DiskErrorKind::Failed);
    disk.vfs.inject(DiskFault { times: u64::MAX, ..unreadable });
    let mut cursor = ScrubCursor::default();
    store.scrub(&mut cursor, 1 << 20).unwrap_err();
    assert!(store.damage(tp(0)).is_none(), "it may pass");
    assert!(store.scrub(&mut cursor, 1 << 20).unwrap().bytes > 0, "the other replica is read");
    assert!(store.scrub(&mut cursor, 1 << 20).unwrap().is_round_over);
}

fn segment_of(disk: &Disk, tp: base_types::TopicPartition) -> String {
    let files = disk.vfs.list("partitions").unwrap();
    let folder = files.iter().find(|name| name.contains(&tp.partition.to_string())).unwrap();
    format!("partitions/{folder}/")
}
