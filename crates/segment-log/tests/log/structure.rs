//! Replicas that come, go and are cut; restarts; many partitions.

use base_types::{LeaderEpoch, Offset};
use segment_log::{FlushBudget, ReplicaOptions, StoreError};
use store_api::{Survivors, Vfs};

use crate::support::{Disk, bases, batch, lazy, replica_options, tp, write};

#[test]
fn one_commit_serves_many_partitions_with_one_block() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    let all: Vec<_> = (0..64).map(|i| (tp(i), replica_options())).collect();
    store.create_replicas(&all).unwrap();
    let before = disk.vfs.changes();
    let writes: Vec<_> = (0..64).map(|i| write(tp(i), batch(Offset(0), 1, 1, 60))).collect();
    let report = store.commit(&writes).unwrap();
    assert_eq!(disk.vfs.changes(), before + 1, "one write and nothing else");
    assert_eq!(report.log_ends.len(), 64);
    assert!(report.journal_bytes < report.bytes * 2);
    drop(store);
    let found = disk.vfs.after_crash(Survivors::Nothing, &mut base_types::Random::new(1));
    disk.vfs = found;
    let (store, recovery) = disk.open();
    assert_eq!((recovery.replayed_blocks, recovery.replicas), (2, 64));
    assert!((0..64).all(|i| bases(&store, tp(i)) == [0]));
}

#[test]
fn what_was_in_the_page_cache_only_is_durable_when_it_was_synced() {
    for synced in [false, true] {
        let mut disk = Disk::new();
        let (store, _) = disk.open();
        store.create_replica(tp(0), replica_options()).unwrap();
        for i in 0..20 {
            store.commit(&[lazy(tp(0), batch(Offset(i), 1, 1, 100))]).unwrap();
        }
        if synced {
            store.sync(tp(0)).unwrap();
        }
        drop(store);
        disk.vfs = disk.vfs.after_crash(Survivors::Nothing, &mut base_types::Random::new(1));
        let (store, _) = disk.open();
        assert_eq!(bases(&store, tp(0)).len() == 20, synced);
    }
}

#[test]
fn a_truncated_end_does_not_come_back() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    for i in 0..50 {
        store.commit(&[write(tp(0), batch(Offset(i), 1, 1, 100))]).unwrap();
    }
    assert_eq!(store.truncate(tp(0), Offset(20)).unwrap(), Offset(20));
    store.commit(&[write(tp(0), batch(Offset(20), 2, 1, 10))]).unwrap();
    for survivors in Survivors::ALL {
        let mut again = Disk {
            vfs: disk.vfs.after_crash(*survivors, &mut base_types::Random::new(3)),
            kv: disk.kv.clone(),
            life: 50,
            ..Disk::new()
        };
        let (store, _) = again.open();
        assert_eq!(bases(&store, tp(0)), (0..=20).collect::<Vec<_>>());
        let epochs = store.open_replica(tp(0)).unwrap().unwrap().leader_epochs;
        assert_eq!(epochs, [(LeaderEpoch(1), Offset(0)), (LeaderEpoch(2), Offset(20))]);
    }
}

#[test]
fn a_log_start_frees_segments_that_were_not_synced_yet() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    // Commits help when much is pending, and no flush syncs.
    for i in 0..10 {
        store.commit(&[write(tp(0), batch(Offset(i), 1, 1, 1500))]).unwrap();
    }
    assert!(store.stats().placed_bytes > 9 * 1500);
    let segments = || disk.vfs.list(&format!("partitions/{}", tp(0))).unwrap().len();
    assert_eq!(segments(), 5);
    store.advance_log_start(tp(0), Offset(7)).unwrap();
    assert_eq!(segments(), 2);
    drop(store);
    disk.vfs = disk.vfs.after_crash(Survivors::Nothing, &mut base_types::Random::new(1));
    let (store, _) = disk.open();
    assert_eq!(bases(&store, tp(0)), [7, 8, 9]);
}

#[test]
fn segments_that_the_manifest_does_not_know_are_told_of_once_after_a_truncation() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    let commit = |offsets: std::ops::Range<i64>, bytes| {
        for i in offsets {
            store.commit(&[write(tp(0), batch(Offset(i), 1, 1, bytes))]).unwrap();
        }
    };
    commit(0..4, 1500);
    store.flush(FlushBudget::EVERYTHING).unwrap();
    // More segments, and no manifest.
    commit(4..14, 1500);
    assert_eq!(store.truncate(tp(0), Offset(11)).unwrap(), Offset(11));
    // Past the journal, which tells of all that is new.
    commit(11..13, 3000);
    let size = store.size(tp(0));
    drop(store);
    disk.vfs = disk.vfs.after_kill();
    let (store, _) = disk.open();
    assert_eq!(store.size(tp(0)), size);
    assert_eq!(bases(&store, tp(0)), (0..13).collect::<Vec<_>>());
}

/// R11: what was trimmed leaves no epoch that begins where the next one does.
#[test]
fn an_epoch_of_which_no_record_is_left_is_gone_once_the_next_one_begins() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    store.commit(&[write(tp(0), batch(Offset(0), 1, 4, 100))]).unwrap();
    store.advance_log_start(tp(0), Offset(4)).unwrap();
    let epochs = |store: &segment_log::LogStore| store.open_replica(tp(0)).unwrap().unwrap().leader_epochs;
    assert_eq!(epochs(&store), [(LeaderEpoch(1), Offset(4))], "an empty log knows what it ended with");
    store.commit(&[write(tp(0), batch(Offset(4), 2, 1, 10))]).unwrap();
    assert_eq!(epochs(&store), [(LeaderEpoch(2), Offset(4))]);
    drop(store);
    let (store, _) = disk.open();
    assert_eq!(epochs(&store), [(LeaderEpoch(2), Offset(4))]);
}

#[test]
fn an_orderly_stop_is_known_and_its_mark_is_gone_at_once() {
    let mut disk = Disk::new();
    let (store, report) = disk.open();
    assert!(report.is_new && !report.was_clean);
    store.create_replica(tp(0), replica_options()).unwrap();
    store.commit(&[write(tp(0), batch(Offset(0), 1, 1, 10)), write(tp(0), batch(Offset(1), 1, 1, 10))]).unwrap();
    store.shutdown().unwrap();
    drop(store);
    let (store, report) = disk.open();
    assert!(report.was_clean && report.replayed_blocks == 0);
    drop(store);
    let (store, report) = disk.open();
    assert!(!report.was_clean, "S12");
    assert_eq!(bases(&store, tp(0)), [0, 1]);
}

#[test]
fn the_journal_is_a_ring_and_a_replay_is_bounded() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), ReplicaOptions { segment_bytes: 1 << 20 }).unwrap();
    for i in 0..2_000 {
        store.commit(&[write(tp(0), batch(Offset(i), 1, 1, 300))]).unwrap();
        if store.is_flush_due() {
            store.flush(FlushBudget::DUE).unwrap();
            assert!(!store.is_flush_due(), "what was due is done, else a background thread would spin");
        }
    }
    let files = disk.vfs.list("journal").unwrap();
    assert!(files.len() <= 3, "{files:?}");
    assert!(store.stats().journal_live_bytes <= 192 << 10);
    drop(store);
    let (store, report) = disk.open();
    assert!(report.replayed_bytes <= 192 << 10, "{report:?}");
    assert_eq!(store.bounds(tp(0)).unwrap().1, Offset(2_000));
}

#[test]
fn page_cache_batches_survive_the_process_and_the_rest_of_the_journal_does_not_know_them() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    store.commit(&[lazy(tp(0), batch(Offset(0), 1, 1, 10))]).unwrap();
    let (changes, written) = (disk.vfs.changes(), store.stats().journal_bytes);
    for i in 1..10 {
        store.commit(&[lazy(tp(0), batch(Offset(i), 1, 1, 10))]).unwrap();
    }
    assert_eq!((disk.vfs.changes(), store.stats().journal_bytes), (changes + 9, written), "one plain write each");
    drop(store);
    let (store, report) = disk.open();
    assert!(report.scanned_bytes > 0);
    assert_eq!(bases(&store, tp(0)), (0..10).collect::<Vec<_>>());
}

#[test]
fn replicas_are_unique_and_their_directories_are_never_mistaken() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    disk.vfs.create_dir(&format!("partitions/{}", tp(1))).unwrap();
    disk.vfs.create(&format!("partitions/{}/precious", tp(1)), store_api::FileUse::Buffered).unwrap();
    store.create_replica(tp(0), replica_options()).unwrap();
    let again = store.create_replica(tp(0), replica_options());
    assert!(matches!(again, Err(StoreError::ReplicaExists(found)) if found == tp(0)));
    assert!(matches!(store.delete_replica(tp(7)), Err(StoreError::NoReplica(_))));
    store.create_replica(tp(1), replica_options()).unwrap();
    store.commit(&[write(tp(1), batch(Offset(0), 1, 1, 3000))]).unwrap();
    drop(store);
    let (store, report) = disk.open();
    let [stray] = report.stray_directories.as_slice() else { panic!("{report:?}") };
    assert_eq!(disk.vfs.list(&format!("partitions/{stray}")).unwrap(), ["precious"], "moved aside, not removed");
    store.delete_replica(tp(1)).unwrap();
    assert_eq!(store.replicas(), [tp(0)]);
}

#[test]
fn an_idle_partition_holds_no_file() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    let all: Vec<_> = (0..40).map(|i| (tp(i), replica_options())).collect();
    store.create_replicas(&all).unwrap();
    assert_eq!(store.stats().open_files, 0);
    assert!(disk.vfs.list("partitions").unwrap().is_empty(), "no directory before there is something to put into it");
    for i in 0..40 {
        store.commit(&[write(tp(i), batch(Offset(0), 1, 1, 10))]).unwrap();
    }
    store.flush(FlushBudget::EVERYTHING).unwrap();
    assert!(store.stats().open_files <= 3);
}

#[test]
fn a_replay_does_not_write_over_what_a_later_block_tells_of() {
    // In this life the journal's batches are placed bit by bit, and behind them a large batch goes straight to the segment. A replay
    // that places the former anew, in other portions, must leave the latter alone.
    for portions in 1..12_i64 {
        for large in [2_500, 6_000] {
            let mut disk = Disk::new();
            let (store, _) = disk.open();
            store.create_replica(tp(0), ReplicaOptions { segment_bytes: 16 << 10 }).unwrap();
            let mut end = 0;
            for _ in 0..portions {
                for _ in 0..4 {
                    store.commit(&[write(tp(0), batch(Offset(end), 1, 1, 1200))]).unwrap();
                    end += 1;
                }
                store.commit(&[write(tp(0), batch(Offset(end), 1, 1, large))]).unwrap();
                end += 1;
            }
            store.commit(&[write(tp(0), batch(Offset(end), 1, 1, 500))]).unwrap();
            drop(store);
            for survivors in [Survivors::Nothing, Survivors::Everything] {
                let vfs = disk.vfs.after_crash(survivors, &mut base_types::Random::new(1));
                let mut again = Disk { vfs, kv: disk.kv.clone(), life: 60, ..Disk::new() };
                let (store, _) = again.open_with(|options| options.tail_cache_bytes = 4 << 10);
                assert_eq!(bases(&store, tp(0)), (0..=end).collect::<Vec<_>>());
            }
        }
    }
}
