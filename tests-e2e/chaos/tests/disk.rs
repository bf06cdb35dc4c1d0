//! The mounted disk, with the system calls that services make: what was synced survives a cut, what was not does not, and faults are met.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test on real files")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use chaos::disk::content::Cut;
use chaos::disk::{Disk, Faults};
use chaos::random::Random;
use rustix::fs::{FallocateFlags, OFlags};

const BYTES_MAX: u64 = 64 << 20;

/// `None` where FUSE cannot be mounted: said, because then nothing is tested here.
fn mounted(folder: &Path) -> Option<Disk> {
    match Disk::mount(&folder.join("disk"), BYTES_MAX) {
        Ok(disk) => Some(disk),
        Err(error) => {
            println!("mechanism absent, NOT tested: {error:#}");
            None
        }
    }
}

fn cut(disk: &mut Disk, cut: Cut) {
    disk.cut_power(cut, &mut Random::new(1)).expect("cut and mounted again");
}

fn sync_directory(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

#[test]
fn synced_writes_survive_and_others_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut disk) = mounted(folder.path()) else { return };
    let path = disk.root().join("log");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"synced").unwrap();
    file.sync_data().unwrap();
    sync_directory(disk.root());
    file.write_all(b" and not").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"synced and not");
    drop(file);
    cut(&mut disk, Cut::Lost);
    assert_eq!(fs::read(&path).unwrap(), b"synced");
    fs::write(disk.root().join("unnamed"), b"x").unwrap();
    cut(&mut disk, Cut::Lost);
    assert!(!disk.root().join("unnamed").exists());
}

#[test]
fn a_durable_write_past_the_page_cache_survives_without_a_sync() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut disk) = mounted(folder.path()) else { return };
    let path = disk.root().join("journal");
    let file = File::create(&path).unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
    file.sync_all().unwrap();
    sync_directory(disk.root());
    let flags = OFlags::DIRECT | OFlags::DSYNC;
    let durable = OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(&path).unwrap();
    let direct = OpenOptions::new().write(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(&path).unwrap();
    let memory = vec![7_u8; 3 * 4096];
    let start = memory.as_ptr().align_offset(4096);
    let page = &memory[start..start + 4096];
    durable.write_all_at(page, 8192).unwrap();
    direct.write_all_at(page, 0).unwrap();
    drop((file, durable, direct));
    cut(&mut disk, Cut::Lost);
    let read = fs::read(&path).unwrap();
    assert_eq!((read.len(), read[8192], read[0]), (1 << 20, 7, 0));
}

#[test]
fn renames_directories_and_large_files_are_as_on_any_disk() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = mounted(folder.path()) else { return };
    let deep = disk.root().join("a/b");
    fs::create_dir_all(&deep).unwrap();
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| n as u8).collect();
    fs::write(deep.join("new"), &bytes).unwrap();
    fs::rename(deep.join("new"), deep.join("file")).unwrap();
    assert_eq!(fs::read(deep.join("file")).unwrap(), bytes);
    let names: Vec<_> = fs::read_dir(&deep).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["file"]);
    OpenOptions::new().write(true).open(deep.join("file")).unwrap().set_len(10).unwrap();
    assert_eq!(fs::read(deep.join("file")).unwrap(), bytes[..10]);
    fs::remove_dir_all(disk.root().join("a")).unwrap();
    assert_eq!(fs::read_dir(disk.root()).unwrap().count(), 0);
}

#[test]
fn faults_are_met_and_counted_and_go_away() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = mounted(folder.path()) else { return };
    let path = disk.root().join("log");
    let mut file = File::create(&path).unwrap();
    file.write_all(&[1; 10_000]).unwrap();
    disk.set(Faults { sync_fails: true, ..Faults::default() });
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    disk.set(Faults { is_full: true, ..Faults::default() });
    assert_eq!(file.write_all(&[1; 10_000]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(rustix::fs::statvfs(disk.root()).unwrap().f_bavail, 0);
    disk.set(Faults { read_fails: true, ..Faults::default() });
    let mut direct = OpenOptions::new();
    let mut direct = direct.read(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(&path).unwrap();
    assert_eq!(direct.read(&mut [0; 4096]).unwrap_err().raw_os_error(), Some(5));
    disk.set(Faults { delay: Duration::from_millis(1), ..Faults::default() });
    file.sync_data().unwrap();
    let struck = disk.struck();
    assert!(struck.syncs > 0 && struck.full > 0 && struck.reads > 0 && struck.slow > 0, "{struck:?}");
    disk.set(Faults::default());
    file.write_all(&[1; 10_000]).unwrap();
    file.sync_data().unwrap();
}
