use super::*;

fn write(vfs: &MemVfs, path: &str, position: u64, bytes: &[u8]) {
    let file = vfs.open(path, FileUse::Buffered).or_else(|_| vfs.create(path, FileUse::Buffered)).unwrap();
    file.write_at(position, &[bytes]).unwrap();
}

fn synced(vfs: &MemVfs, path: &str) {
    vfs.open(path, FileUse::Buffered).unwrap().sync_data().unwrap();
    vfs.sync_dir("").unwrap();
}

#[test]
fn what_was_synced_survives_every_crash() {
    let vfs = MemVfs::new();
    write(&vfs, "f", 0, b"synced");
    synced(&vfs, "f");
    write(&vfs, "f", 0, b"LATER.");
    let mut random = Random::new(1);
    for &survivors in Survivors::ALL {
        let found = vfs.after_crash(survivors, &mut random).bytes_of("f").unwrap();
        assert!(found == b"synced" || found == b"LATER.", "{survivors:?}: {found:?}");
    }
    assert_eq!(vfs.after_crash(Survivors::Nothing, &mut random).bytes_of("f").unwrap(), b"synced");
    assert_eq!(vfs.after_crash(Survivors::Everything, &mut random).bytes_of("f").unwrap(), b"LATER.");
}

#[test]
fn what_a_kill_leaves_is_there_to_read_and_can_still_be_lost() {
    let vfs = MemVfs::new();
    write(&vfs, "f", 0, b"synced");
    synced(&vfs, "f");
    write(&vfs, "f", 0, b"LATER.");
    vfs.rename("f", "g").unwrap();
    vfs.crash_after(1);
    assert!(vfs.open("g", FileUse::Buffered).unwrap().write_at(0, &[b"L"]).is_err());
    let killed = vfs.after_kill();
    assert_eq!(killed.bytes_of("g").unwrap(), b"LATER.");
    let mut random = Random::new(1);
    assert_eq!(killed.after_crash(Survivors::Nothing, &mut random).bytes_of("f").unwrap(), b"synced");
    synced(&killed, "g");
    assert_eq!(killed.after_crash(Survivors::Nothing, &mut random).bytes_of("g").unwrap(), b"LATER.");
}

#[test]
fn a_durable_write_promises_nothing_for_the_writes_before_it() {
    let vfs = MemVfs::new();
    write(&vfs, "f", 0, &[0; 8192]);
    synced(&vfs, "f");
    write(&vfs, "f", 0, b"lazy");
    vfs.open("f", FileUse::Journal).unwrap().write_durable(4096, &[&[7; 4096]]).unwrap();
    let found = vfs.after_crash(Survivors::Nothing, &mut Random::new(1)).bytes_of("f").unwrap();
    assert_eq!(found[..4], [0; 4]);
    assert_eq!(found[4096..], [7; 4096]);
}

#[test]
fn a_direct_write_is_lost_without_a_sync() {
    let vfs = MemVfs::new();
    write(&vfs, "f", 0, &[0; 4096]);
    synced(&vfs, "f");
    vfs.open("f", FileUse::Journal).unwrap().write_direct(0, &[&[7; 4096]]).unwrap();
    assert_eq!(vfs.after_crash(Survivors::Nothing, &mut Random::new(1)).bytes_of("f").unwrap(), [0; 4096]);
    synced(&vfs, "f");
    assert_eq!(vfs.after_crash(Survivors::Nothing, &mut Random::new(1)).bytes_of("f").unwrap(), [7; 4096]);
}

#[test]
fn names_need_a_sync_of_their_directory() {
    let vfs = MemVfs::new();
    write(&vfs, "a", 0, b"1");
    synced(&vfs, "a");
    vfs.rename("a", "b").unwrap();
    let mut random = Random::new(1);
    assert_eq!(vfs.after_crash(Survivors::Nothing, &mut random).list("").unwrap(), ["a"]);
    assert_eq!(vfs.after_crash(Survivors::NamesOnly, &mut random).list("").unwrap(), ["b"]);
    vfs.sync_dir("").unwrap();
    assert_eq!(vfs.after_crash(Survivors::Nothing, &mut random).list("").unwrap(), ["b"]);
}

#[test]
fn torn_writes_leave_whole_sectors_of_old_or_new() {
    let vfs = MemVfs::new();
    write(&vfs, "f", 0, &[1; 4096]);
    synced(&vfs, "f");
    write(&vfs, "f", 0, &[2; 4096]);
    let mut random = Random::new(5);
    let mut mixed = 0;
    for _ in 0..50 {
        let found = vfs.after_crash(Survivors::TornSubset, &mut random).bytes_of("f").unwrap();
        assert!(found.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        mixed += usize::from(found.contains(&1) && found.contains(&2));
    }
    assert!(mixed > 10);
}

const SECTOR: usize = crate::SECTOR_BYTES;

#[test]
fn a_failed_sync_loses_the_data_and_the_next_one_does_not_notice() {
    let vfs = MemVfs::new();
    write(&vfs, "f", 0, b"old");
    synced(&vfs, "f");
    write(&vfs, "f", 0, b"new");
    let fault =
        DiskFault { operation: DiskOperation::Sync, path: "f".into(), kind: DiskErrorKind::Failed, skip: 0, times: 1 };
    vfs.inject(fault);
    let file = vfs.open("f", FileUse::Buffered).unwrap();
    assert_eq!(file.sync_data().unwrap_err().kind, DiskErrorKind::Failed);
    file.sync_data().unwrap();
    assert_eq!(vfs.bytes_of("f").unwrap(), b"new");
    assert_eq!(vfs.after_crash(Survivors::Everything, &mut Random::new(1)).bytes_of("f").unwrap(), b"old");
}

#[test]
fn the_observer_sees_every_change_half_done_and_a_crash_stops_everything_after() {
    let vfs = MemVfs::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    vfs.observe(Some(Arc::new(move |image: &Image<'_>| log.lock().unwrap().push(image.operation()))));
    write(&vfs, "f", 0, b"1");
    synced(&vfs, "f");
    assert_eq!(
        *seen.lock().unwrap(),
        [DiskOperation::Open, DiskOperation::Write, DiskOperation::Sync, DiskOperation::SyncDirectory]
    );
    vfs.crash_after(1);
    let file = vfs.open("f", FileUse::Buffered).unwrap();
    assert_eq!(file.write_at(0, &[b"2"]).unwrap_err().kind, DiskErrorKind::Crashed);
    assert_eq!(file.sync_data().unwrap_err().kind, DiskErrorKind::Crashed);
    assert!(vfs.is_crashed());
}

#[test]
fn a_full_disk_takes_what_fits_and_has_room_again_after_a_removal() {
    let vfs = MemVfs::new();
    vfs.set_capacity(10);
    write(&vfs, "a", 0, &[1; 8]);
    let file = vfs.create("b", FileUse::Buffered).unwrap();
    assert!(file.write_at(0, &[&[2; 8]]).unwrap_err().is_no_space());
    assert_eq!(vfs.free_space().unwrap(), 0);
    vfs.remove("a").unwrap();
    vfs.sync_dir("").unwrap();
    assert_eq!(vfs.free_space().unwrap(), 8);
}
