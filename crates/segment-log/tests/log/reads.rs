//! What readers get.

use std::sync::Arc;

use base_types::{LeaderEpoch, Offset, Random, Timestamp};
use record_batch::{BatchBuilder, Compression, Producer, StampedBatch};
use segment_log::{Checkpoint, FlushBudget, ReadError, ReplicaOptions, TimestampHit};
use store_api::Survivors;

use crate::support::{ALL, Disk, bases, batch, batch_with, lazy, producer, read_all, replica_options, tp, write};

/// Batches of three records each at 0, 3, 6, …
fn filled(disk: &mut Disk, batches: i64) -> segment_log::LogStore {
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    for i in 0..batches {
        store.commit(&[write(tp(0), batch(Offset(i * 3), 1, 3, 40))]).unwrap();
    }
    store
}

fn read_bases(store: &segment_log::LogStore, from: i64, below: Offset, bytes_max: usize) -> Vec<i64> {
    let read = store.read(tp(0), Offset(from), below, bytes_max).unwrap();
    let base = |bytes: &bytes::Bytes| StampedBatch::from_stored(bytes.clone()).unwrap().header().base_offset.0;
    assert_eq!(read.bytes, read.batches.iter().map(bytes::Bytes::len).sum::<usize>());
    read.batches.iter().map(base).collect()
}

#[test]
fn a_read_gives_whole_batches_from_the_one_that_holds_the_offset() {
    let mut disk = Disk::new();
    let store = filled(&mut disk, 20);
    let size = batch(Offset(0), 1, 3, 40).size();
    for cold in [false, true] {
        if cold {
            store.flush(FlushBudget::EVERYTHING).unwrap();
        }
        assert_eq!(read_bases(&store, 0, ALL, size * 2), [0, 3]);
        assert_eq!(read_bases(&store, 4, ALL, size * 2), [3, 6], "in the middle of a batch");
        assert_eq!(read_bases(&store, 4, ALL, 1), [3], "larger than asked for, but the first");
        assert_eq!(read_bases(&store, 4, ALL, size * 2 - 1), [3]);
        assert_eq!(read_bases(&store, 3, Offset(9), 1 << 20), [3, 6], "below the bound");
        assert_eq!(read_bases(&store, 3, Offset(8), 1 << 20), [3], "whole batches below the bound");
        assert!(read_bases(&store, 3, Offset(4), 1 << 20).is_empty());
        assert!(read_bases(&store, 60, ALL, 1 << 20).is_empty(), "at the log end");
        let range = store.read(tp(0), Offset(61), ALL, 1);
        assert!(matches!(range, Err(ReadError::OutOfRange { log_start: Offset(0), log_end: Offset(60) })));
    }
}

#[test]
fn the_tail_is_read_without_the_disk_and_the_rest_from_it() {
    let mut disk = Disk::new();
    let store = filled(&mut disk, 300);
    store.flush(FlushBudget::EVERYTHING).unwrap();
    assert!(store.read_cached(tp(0), Offset(0), ALL, 100).is_none(), "evicted");
    let cached = store.read_cached(tp(0), Offset(897), ALL, 100).unwrap();
    assert_eq!(cached.next, Offset(900));
    assert!(store.stats().tail_bytes <= 32 << 10);
    assert_eq!(bases(&store, tp(0)), (0..300).map(|i| i * 3).collect::<Vec<_>>());
    assert!(store.stats().disk_reads > 0 && store.stats().open_files <= 3);
    assert!(matches!(store.read(tp(1), Offset(0), ALL, 1), Err(ReadError::NoReplica(_))));
}

#[test]
fn damage_on_the_disk_is_reported_and_never_served() {
    let mut disk = Disk::new();
    drop({
        let store = filled(&mut disk, 30);
        store.shutdown().unwrap();
        store
    });
    let path = format!("partitions/{}/{:020}.log", tp(0), 0);
    let size = batch(Offset(0), 1, 3, 40).size() as u64;
    let whole = disk.vfs.bytes_of(&path).unwrap();
    for position in (0..size * 3).step_by(5) {
        disk.vfs.corrupt(&path, position, 0x10).unwrap();
        let (store, _) = disk.open();
        let good = StampedBatch::from_stored(bytes::Bytes::copy_from_slice(&whole[..size as usize])).unwrap();
        match read_all(&store, tp(0), Offset(0)) {
            Err(ReadError::Corrupt(corrupt)) => assert_eq!((corrupt.tp, corrupt.segment), (tp(0), Offset(0))),
            // Base offset and leader epoch are outside the checksum, as Kafka has it; the epoch alone can pass unnoticed.
            Ok(found) => {
                assert!((12..16).contains(&(position % size)), "byte {position}");
                assert!(found.len() == 30 && found[0].size() == good.size());
            }
            Err(other) => panic!("byte {position}: {other:?}"),
        }
        assert_eq!(store.bounds(tp(0)), Some((Offset(0), Offset(90))), "never truncated");
        drop(store);
        disk.vfs.corrupt(&path, position, 0x10).unwrap();
    }
}

#[test]
fn a_record_is_found_by_its_time_inside_every_kind_of_batch() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    for (i, compression) in Compression::ALL.into_iter().cycle().take(60).enumerate() {
        let base = Offset(i as i64 * 5);
        store.commit(&[write(tp(0), batch_with(base, 1, 5, 30, compression, Producer::NONE))]).unwrap();
    }
    for round in 0..3 {
        match round {
            1 => drop(store.flush(FlushBudget::EVERYTHING).unwrap()),
            2 => store.advance_log_start(tp(0), Offset(12)).unwrap(),
            _ => {}
        }
        let start = if round == 2 { 12 } else { 0 };
        for time in 0..300 {
            let hit = store.find_timestamp(tp(0), Timestamp(time), ALL).unwrap().unwrap();
            let offset = time.max(start);
            let expected =
                TimestampHit { offset: Offset(offset), timestamp: Timestamp(offset), leader_epoch: LeaderEpoch(1) };
            assert_eq!(hit, expected);
        }
        assert_eq!(store.find_timestamp(tp(0), Timestamp(300), ALL).unwrap(), None);
        assert_eq!(store.find_timestamp(tp(0), Timestamp(50), Offset(50)).unwrap(), None, "below the bound");
        let newest = store.find_max_timestamp(tp(0), ALL).unwrap().unwrap();
        assert_eq!((newest.offset, newest.timestamp), (Offset(299), Timestamp(299)));
        let bounded = store.find_max_timestamp(tp(0), Offset(100)).unwrap().unwrap();
        assert_eq!(bounded.offset, Offset(99));
    }
}

#[test]
fn time_that_goes_back_does_not_hide_records() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    let mut times = Vec::new();
    for i in 0..200_i64 {
        let time = (i * 37) % 101;
        times.push(time);
        let mut builder = BatchBuilder::new(Compression::None).base_offset(Offset(i)).leader_epoch(LeaderEpoch(0));
        builder.push(None, Some(&[1; 60]), &[], Timestamp(time));
        store.commit(&[write(tp(0), StampedBatch::from_stored(builder.build().unwrap()).unwrap())]).unwrap();
    }
    store.flush(FlushBudget::EVERYTHING).unwrap();
    for time in 0..=101 {
        let expected = times.iter().position(|found| *found >= time).map(|i| Offset(i as i64));
        let hit = store.find_timestamp(tp(0), Timestamp(time), ALL).unwrap();
        assert_eq!(hit.map(|hit| hit.offset), expected, "time {time}");
    }
}

#[test]
fn what_producer_state_needs_is_told_from_the_checkpoint_on() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    for i in 0..40_i64 {
        let producer = if i % 2 == 0 { producer(7, i as i32) } else { Producer::NONE };
        store.commit(&[write(tp(0), batch_with(Offset(i), 1, 1, 100, Compression::None, producer))]).unwrap();
    }
    let told = |store: &segment_log::LogStore| -> Vec<i64> {
        let opened = store.open_replica(tp(0)).unwrap().unwrap();
        opened.headers_since_checkpoint.iter().map(|header| header.base_offset.0).collect()
    };
    assert_eq!(told(&store), (0..40).step_by(2).collect::<Vec<_>>());
    let checkpoint = Checkpoint {
        as_of: Offset(31),
        high_watermark: Offset(30),
        producer_state: bytes::Bytes::from_static(b"producers"),
    };
    store.checkpoint(tp(0), &checkpoint).unwrap();
    store.shutdown().unwrap();
    drop(store);
    let (store, _) = disk.open();
    let opened = store.open_replica(tp(0)).unwrap().unwrap();
    assert_eq!(opened.checkpoint, Some(checkpoint));
    assert_eq!(told(&store), [32, 34, 36, 38]);
    // A truncation makes another history, in which the checkpoint has no place (S4).
    store.truncate(tp(0), Offset(20)).unwrap();
    store.commit(&(20..40).map(|i| write(tp(0), batch(Offset(i), 2, 1, 10))).collect::<Vec<_>>()).unwrap();
    assert_eq!(store.open_replica(tp(0)).unwrap().unwrap().checkpoint, None);
    assert_eq!(told(&store), (0..20).step_by(2).collect::<Vec<_>>());
}

#[test]
fn what_was_derived_from_records_that_went_survives_a_loss_of_power() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), replica_options()).unwrap();
    for i in 0..4 {
        store.commit(&[write(tp(0), batch(Offset(i), 1, 1, 100))]).unwrap();
    }
    let producer_state = bytes::Bytes::from_static(b"producers");
    let checkpoint = Checkpoint { as_of: Offset(4), high_watermark: Offset(4), producer_state };
    store.checkpoint(tp(0), &checkpoint).unwrap();
    store.advance_log_start(tp(0), Offset(3)).unwrap();
    drop(store);
    for seed in 0..20 {
        let random = &mut Random::new(seed);
        let (vfs, kv) = (disk.vfs.after_crash(Survivors::Nothing, random), Arc::new(disk.kv.after_crash(random)));
        let (store, _) = Disk { vfs, kv, ..disk }.open();
        assert_eq!(store.open_replica(tp(0)).unwrap().unwrap().checkpoint, Some(checkpoint.clone()));
    }
}

#[test]
fn what_was_derived_from_lost_records_never_fits_those_that_follow() {
    let mut disk = Disk::new();
    let (store, _) = disk.open();
    store.create_replica(tp(0), ReplicaOptions { segment_bytes: 64 << 20 }).unwrap();
    store.commit(&[lazy(tp(0), batch(Offset(0), 1, 1, 100))]).unwrap();
    store.flush(FlushBudget::EVERYTHING).unwrap();
    for i in 1..40 {
        store.commit(&[lazy(tp(0), batch(Offset(i), 1, 1, 100))]).unwrap();
    }
    // As told to the reader of the whole segment, and to the core.
    store.find_timestamp(tp(0), Timestamp(39), ALL).unwrap().unwrap();
    let producer_state = bytes::Bytes::from_static(b"of lost records");
    let checkpoint = Checkpoint { as_of: Offset(30), high_watermark: Offset(30), producer_state };
    store.checkpoint(tp(0), &checkpoint).unwrap();
    drop(store);
    disk.vfs = disk.vfs.after_crash(Survivors::Nothing, &mut Random::new(1));
    let (store, _) = disk.open();
    let (_, end) = store.bounds(tp(0)).unwrap();
    assert!(end < Offset(30), "{end}");
    for i in end.0..60 {
        store.commit(&[write(tp(0), batch(Offset(i), 2, 1, 333))]).unwrap();
    }
    store.flush(FlushBudget::EVERYTHING).unwrap();
    drop(store);
    let (store, _) = disk.open();
    assert_eq!(store.open_replica(tp(0)).unwrap().unwrap().checkpoint, None);
    assert_eq!(bases(&store, tp(0)), (0..60).collect::<Vec<_>>());
    for i in 0..60 {
        let hit = store.find_timestamp(tp(0), Timestamp(i), ALL).unwrap();
        assert_eq!(hit.map(|hit| hit.offset), Some(Offset(i)));
    }
}
