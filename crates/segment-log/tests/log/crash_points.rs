//! Power is lost in the middle of every change to the disk, and what survives is anything a disk may leave.
//!
//! For each the directory is opened again and must hold what was promised (S1): every acknowledged batch of a partition with
//! fsync durability, of the others a prefix, truncations and resets that were answered, and nothing torn, reordered or
//! resurrected. When only the process dies, nothing at all may be missing, and what is found counts as durable from then on,
//! though it may have come from the page cache: a power loss after that takes nothing of it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use base_types::{Incarnation, Offset, Random, TopicPartition};
use segment_log::{FlushBudget, LogOptions, LogStore};
use store_api::{DiskOperation, Image, MemKv, MemVfs, Survivors};

use crate::{
    support::{Disk, bases, batch, large_options, options, read_all, replica_options, tp, write},
    twin::{Generator, Operation, Twin, TwinLog, epochs_match, note_epochs, perform},
};

/// What the observer compares with.
struct Expected {
    before: Twin,
    during: Twin,
    label: String,
    tried: u64,
    operations: BTreeSet<DiskOperation>,
    /// Of the recoveries, some are themselves crashed, and some go on writing.
    deep_every: u64,
    options: LogOptions,
}

/// The log of one partition as recovery found it must be one that `allowed` may have become.
fn is_allowed(store: &LogStore, tp: TopicPartition, allowed: &TwinLog, least: Offset) -> Result<(), String> {
    let Some((start, end)) = store.bounds(tp) else { return Err("no replica".to_owned()) };
    if start != allowed.log_start {
        return Err(format!("starts at {start}, not {}", allowed.log_start));
    }
    if end < least || end > allowed.log_end {
        return Err(format!("ends at {end}, not within {least}..={}", allowed.log_end));
    }
    let found = read_all(store, tp, start).map_err(|error| format!("{error:?}"))?;
    let expected: Vec<_> = allowed.visible().filter(|batch| batch.header().next_offset() <= end).collect();
    if !found.iter().eq(expected.iter().copied()) {
        let offsets = |batch: &record_batch::StampedBatch| batch.header().base_offset.0;
        let (found, expected): (Vec<_>, Vec<_>) =
            (found.iter().map(offsets).collect(), expected.into_iter().map(offsets).collect());
        return Err(format!("holds {found:?}, not {expected:?}"));
    }
    let opened = store.open_replica(tp).map_err(|error| format!("{error:?}"))?.ok_or("no replica")?;
    let epochs: Vec<_> = allowed.epochs().into_iter().filter(|(_, start)| *start < end).collect();
    if !epochs_match(&opened.leader_epochs, &epochs) {
        return Err(format!("epochs {:?}, not {epochs:?}", opened.leader_epochs));
    }
    if let Some(checkpoint) = opened.checkpoint {
        // Derived state is of this history: the core wrote the offset it was made at.
        assert!(checkpoint.as_of <= end);
        assert_eq!(checkpoint.producer_state[..], checkpoint.as_of.0.to_be_bytes());
    }
    Ok(())
}

fn check(store: &LogStore, before: &Twin, during: &Twin, killed: bool, what: &str) {
    let partitions: BTreeSet<TopicPartition> = before.logs.keys().chain(during.logs.keys()).copied().collect();
    for tp in store.replicas() {
        assert!(partitions.contains(&tp), "{what}: {tp} was never made");
    }
    for tp in partitions {
        let had = before.logs.get(&tp).map_or(Offset::ZERO, |log| log.log_end);
        let verdict = |twin: &Twin| match twin.logs.get(&tp) {
            // Of what is being done when the process dies, any part may be there; of what was done before, all.
            Some(log) if killed => is_allowed(store, tp, log, had.clamp(log.log_start, log.log_end)),
            Some(log) => is_allowed(store, tp, log, log.durable_end),
            None if store.bounds(tp).is_none() => Ok(()),
            None => Err("it should not be there".to_owned()),
        };
        let Err(not_before) = verdict(before) else { continue };
        let Err(not_during) = verdict(during) else { continue };
        panic!("{what}, {tp}: neither as before ({not_before}) nor as during ({not_during})");
    }
}

fn recover(vfs: &MemVfs, kv: MemKv, options: &LogOptions, what: &str) -> LogStore {
    let options = options.clone();
    match LogStore::open(Arc::new(vfs.clone()), Arc::new(kv), options) {
        Ok((store, _)) => store,
        Err(error) => panic!("{what}: cannot be opened: {error:?}"),
    }
}

fn try_crash(image: &Image<'_>, kv: &MemKv, survivors: Survivors, random: &mut Random, expected: &Expected) {
    let what = format!("{} change {} {:?} {survivors:?}", expected.label, image.change(), image.operation());
    let killed = survivors == Survivors::Everything;
    let crashed = |random: &mut Random| if killed { kv.after_kill() } else { kv.after_crash(random) };
    let vfs = if killed { image.after_kill() } else { image.after_crash(survivors, random) };
    let kv_found = crashed(random);
    let options = &expected.options;
    let store = recover(&vfs, kv_found, options, &what);
    check(&store, &expected.before, &expected.during, killed, &what);
    if killed {
        let survivors = Survivors::ALL[random.below(Survivors::ALL.len() as u64) as usize];
        let after = recover(&vfs.after_crash(survivors, random), kv.after_crash(random), options, &what);
        for tp in store.replicas() {
            let (start, end) = store.bounds(tp).unwrap();
            assert_eq!(after.bounds(tp), Some((start, end)), "{what}, then power was lost ({survivors:?}): {tp}");
            assert!(read_all(&after, tp, start).unwrap() == read_all(&store, tp, start).unwrap(), "{what}: {tp}");
        }
    }
    if !random.chance(1000 / expected.deep_every) {
        return;
    }
    // What recovery itself did to the disk may be lost again, and the log must be of use afterwards.
    let again = vfs.after_crash(Survivors::TornSubset, random);
    let reopened = recover(&again, crashed(random), options, &what);
    check(&reopened, &expected.before, &expected.during, false, &format!("{what}, then crashed after recovery"));
    for tp in store.replicas() {
        let (start, end) = store.bounds(tp).unwrap();
        let before = read_all(&store, tp, start).unwrap();
        let next = batch(end, 1000, 1, 50);
        store.commit(&[write(tp, next.clone())]).unwrap_or_else(|error| panic!("{what}: append to {tp}: {error:?}"));
        let after_loss = vfs.after_crash(Survivors::Nothing, random);
        let last = recover(&after_loss, MemKv::new(), options, &what);
        let found = read_all(&last, tp, start).unwrap();
        assert!(!found.is_empty(), "{what}: {tp} from {start}, appended at {end}, now {:?}", last.bounds(tp));
        assert!(found[..found.len() - 1] == before && found[found.len() - 1] == next, "{what}: appended {tp}");
    }
}

/// [`walk_with`] small batches.
fn walk(seed: u64, operations: usize, per_change: usize) -> (u64, BTreeSet<DiskOperation>) {
    walk_with(options, Generator::new(seed), seed, operations, per_change)
}

/// Runs `operations` random operations; at each change of the disk `per_change` kinds of survivors are tried in turn.
fn walk_with(
    options: fn(u8) -> LogOptions,
    mut generator: Generator,
    seed: u64,
    operations: usize,
    per_change: usize,
) -> (u64, BTreeSet<DiskOperation>) {
    let mut disk = Disk::with(options);
    let expected = Arc::new(Mutex::new(Expected {
        before: Twin::default(),
        during: Twin::default(),
        label: String::new(),
        tried: 0,
        operations: BTreeSet::new(),
        deep_every: 40,
        options: options(200),
    }));
    let (mut store, _) = disk.open();
    let mut twin = Twin::default();
    let observer = {
        let (expected, kv) = (Arc::clone(&expected), Arc::clone(&disk.kv));
        let random = Mutex::new(Random::new(seed ^ 0xdead));
        Arc::new(move |image: &Image<'_>| {
            let mut expected = expected.lock().unwrap();
            let mut random = random.lock().unwrap();
            for turn in 0..per_change {
                let kinds = Survivors::ALL.len();
                let survivors = Survivors::ALL[(expected.tried as usize + turn * (kinds / per_change).max(1)) % kinds];
                try_crash(image, &kv, survivors, &mut random, &expected);
            }
            expected.tried += 1;
            expected.operations.insert(image.operation());
        })
    };
    disk.vfs.observe(Some(observer.clone()));
    for step in 0..operations {
        let operation = generator.next(&twin);
        {
            let mut expected = expected.lock().unwrap();
            expected.before = twin.clone();
            expected.during = twin.half_done(&operation);
            expected.label = format!("seed {seed} step {step} {}", crate::twin::describe(&operation));
        }
        perform(&store, &twin, &operation).unwrap();
        twin = twin.after(&operation);
        note_epochs(&mut twin);
        if generator.random.chance(8) {
            let mut expected = expected.lock().unwrap();
            expected.before = twin.clone();
            expected.during = twin.clone();
            expected.label = format!("seed {seed} restart after {step}");
            drop(expected);
            if generator.random.chance(500) {
                store.shutdown().unwrap();
                twin = twin.after(&Operation::FlushEverything);
            }
            drop(store);
            store = disk.open().0;
        }
    }
    disk.vfs.observe(None);
    twin.check_equal(&store);
    let expected = expected.lock().unwrap();
    (expected.tried, expected.operations.clone())
}

#[test]
fn every_acknowledged_record_is_found_after_a_crash_at_any_moment_of_ten_thousand_operations() {
    // Two traces side by side: as many as there are cores at least.
    let halves: Vec<_> = [1, 2].map(|seed| std::thread::spawn(move || walk(seed, 5_000, 2))).into_iter().collect();
    let mut tried = 0;
    for half in halves {
        let (changes, operations) = half.join().unwrap();
        tried += changes;
        // A run that never met some kind of change proves nothing about it.
        for wanted in [
            DiskOperation::Open,
            DiskOperation::Write,
            DiskOperation::Sync,
            DiskOperation::Rename,
            DiskOperation::Remove,
            DiskOperation::SyncDirectory,
        ] {
            assert!(operations.contains(&wanted), "{wanted:?} never happened");
        }
    }
    println!("{tried} changes, each crashed with 2 of {} kinds of survivors", Survivors::ALL.len());
    assert!(tried > 10_000);
}

#[test]
fn large_batches_are_found_after_a_crash_at_any_moment_though_the_journal_has_gaps() {
    let halves: Vec<_> = [1, 2]
        .map(|seed| std::thread::spawn(move || walk_with(large_options, Generator::large(seed), seed, 400, 2)))
        .into_iter()
        .collect();
    let tried: u64 = halves.into_iter().map(|half| half.join().unwrap().0).sum();
    assert!(tried > 1500, "{tried}");
}

#[test]
fn all_kinds_of_survivors_are_tried_at_every_change_of_short_traces() {
    for seed in 10..22 {
        walk(seed, 60, Survivors::ALL.len());
    }
}

/// The process is killed at any change to the disk, the next one goes on writing, and then power is lost.
#[test]
fn what_is_built_on_after_a_kill_does_not_vanish_beneath() {
    const RECORD_BYTES: usize = 1800;
    let mut random = Random::new(9);
    let mut kills = 0;
    let mut losses = 0;
    for point in 0.. {
        let mut disk = Disk::new();
        disk.vfs.crash_after(point);
        let first = LogStore::open(Arc::new(disk.vfs.clone()), disk.kv.clone(), options(1));
        let mut acknowledged = 0;
        if let Ok((store, _)) = &first {
            let mut go = || {
                store.create_replica(tp(0), replica_options())?;
                for offset in 0..50 {
                    store.commit(&[write(tp(0), batch(Offset(offset), 1, 1, RECORD_BYTES))])?;
                    acknowledged = offset + 1;
                    store.flush(FlushBudget { everything: offset % 20 == 19, ..FlushBudget::DUE })?;
                    store.prepare_journal()?;
                }
                Ok::<(), segment_log::StoreError>(())
            };
            // It ends where the process is killed.
            let _ = go();
        }
        if !disk.vfs.is_crashed() {
            break;
        }
        kills += 1;
        disk.vfs = disk.vfs.after_kill();
        let what = format!("killed at {point}");
        let store = recover(&disk.vfs, disk.kv.after_kill(), &options(200), &what);
        if store.bounds(tp(0)).is_none() {
            assert_eq!(acknowledged, 0, "{what}");
            store.create_replica(tp(0), replica_options()).unwrap();
        }
        let (_, found) = store.bounds(tp(0)).unwrap();
        assert!(found.0 >= acknowledged, "{what}");
        // Enough that spare files of the journal are used.
        for offset in found.0..found.0 + 20 {
            store.commit(&[write(tp(0), batch(Offset(offset), 2, 1, RECORD_BYTES))]).unwrap();
            let survivors = Survivors::ALL[random.below(Survivors::ALL.len() as u64) as usize];
            if offset % 10 == 9 {
                let after = recover(&disk.vfs.after_crash(survivors, &mut random), MemKv::new(), &options(200), &what);
                let expected: Vec<i64> = (0..=offset).collect();
                assert_eq!(bases(&after, tp(0)), expected, "{what}, then power was lost ({survivors:?})");
                losses += 1;
            }
        }
    }
    println!("{kills} kills, {losses} losses of power after them");
    assert!(kills > 150, "{kills}");
}

/// A replay that runs short of memory must not write to segments what a later block takes away again.
#[test]
fn a_replay_that_must_make_room_leaves_alone_what_is_cut_later() {
    const ALL_PENDING: u64 = 1 << 20;
    const ALL_PLACED: u64 = 16 << 10;
    type Cut = fn(&LogStore);
    let cuts: [(u64, Cut, &[i64]); 5] = [
        (ALL_PENDING, |store| assert_eq!(store.truncate(tp(0), Offset(3)).unwrap(), Offset(3)), &[0, 1, 2]),
        (ALL_PENDING, |store| assert_eq!(store.truncate(tp(0), Offset(1)).unwrap(), Offset(1)), &[0]),
        (ALL_PLACED, |store| assert_eq!(store.truncate(tp(0), Offset(1)).unwrap(), Offset(1)), &[0]),
        (ALL_PENDING, |store| store.reset(tp(0), Offset(7)).unwrap(), &[]),
        (ALL_PLACED, |store| store.advance_log_start(tp(0), Offset(3)).unwrap(), &[3, 4, 5]),
    ];
    for (tail_cache_bytes, cut, left) in cuts {
        let mut disk = Disk::new();
        let (store, _) = disk.open_with(|options| options.tail_cache_bytes = tail_cache_bytes);
        (0..2).for_each(|i| store.create_replica(tp(i), replica_options()).map(|_| ()).unwrap());
        // Segments of one batch each that the manifest knows.
        (0..2).for_each(|i| store.commit(&[write(tp(0), batch(Offset(i), 1, 1, 2500))]).map(|_| ()).unwrap());
        store.flush(FlushBudget::EVERYTHING).unwrap();
        for offset in 2..6 {
            store.commit(&[write(tp(0), batch(Offset(offset), 1, 1, 1000))]).unwrap();
        }
        // In the journal only, as the manifest has it, and more than the replay has room for.
        for offset in 0..9 {
            store.commit(&[write(tp(1), batch(Offset(offset), 1, 1, 1900))]).unwrap();
        }
        cut(&store);
        drop(store);
        for survivors in [Survivors::Nothing, Survivors::Everything] {
            let vfs = disk.vfs.after_crash(survivors, &mut Random::new(1));
            let store = recover(&vfs, MemKv::new(), &options(200), "cut");
            assert_eq!(bases(&store, tp(0)), left, "{survivors:?}");
            assert_eq!(bases(&store, tp(1)).len(), 9);
        }
    }
}

#[test]
fn the_first_opening_may_be_interrupted_anywhere() {
    let vfs = MemVfs::new();
    let random = Mutex::new(Random::new(1));
    vfs.observe(Some(Arc::new(move |image: &Image<'_>| {
        let mut random = random.lock().unwrap();
        for &survivors in Survivors::ALL {
            let found = image.after_crash(survivors, &mut random);
            let store = recover(&found, MemKv::new(), &options(200), "first opening");
            assert!(store.replicas().is_empty());
        }
    })));
    let mut options = options(1);
    options.incarnation = Incarnation([1; 16]);
    LogStore::open(Arc::new(vfs), Arc::new(MemKv::new()), options).unwrap();
}
