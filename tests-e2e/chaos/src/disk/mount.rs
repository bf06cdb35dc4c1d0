//! FUSE requests to [`Content`], with the faults in between.
//!
//! The kernel's write-back cache is off: every write of a program is here before its system call returns, as a page that is dirty. What
//! is written through a shared mapping arrives later; nobody under test writes so.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{FallocateFlags, OFlags};

use super::content::{Content, Facts, PAGE_BYTES, Refusal};
use super::{Faults, Shared, lock};

/// Everything that happens here goes through one kernel, which may remember it.
const REMEMBERED: Duration = Duration::from_secs(60);
const NAME_BYTES_MAX: u32 = 255;
/// So that one slow sync does not hold up everybody.
const THREADS: usize = 4;

pub struct Mounted(BackgroundSession);

impl Mounted {
    pub fn new(root: &Path, shared: Arc<Shared>) -> io::Result<Mounted> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("chaos".to_owned()), MountOption::NoAtime];
        config.n_threads = Some(THREADS);
        Ok(Mounted(fuser::spawn_mount(Requests { shared }, root, &config)?))
    }

    pub fn end(self) -> io::Result<()> {
        self.0.umount_and_join()
    }
}

struct Requests {
    shared: Arc<Shared>,
}

impl Requests {
    fn on<T>(&self, act: impl FnOnce(&mut Content) -> Result<T, Refusal>) -> Result<T, Errno> {
        act(&mut lock(&self.shared.content)).map_err(errno)
    }

    /// Takes the time that the disk takes, and says what else is wrong with it.
    fn faults(&self) -> Faults {
        let faults = *lock(&self.shared.faults);
        if !faults.delay.is_zero() {
            lock(&self.shared.struck).slow += 1;
            thread::sleep(faults.delay);
        }
        faults
    }

    fn refuse_when_full(&self) -> Result<(), Errno> {
        if lock(&self.shared.faults).is_full {
            lock(&self.shared.struck).full += 1;
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    fn sync(&self, inode: u64, faults: Faults) -> Result<(), Errno> {
        if faults.sync_fails {
            lock(&self.shared.struck).syncs += 1;
            lock(&self.shared.content).lose_sync(inode);
            return Err(Errno::EIO);
        }
        if faults.forgets_syncs { Ok(()) } else { self.on(|content| content.sync_file(inode)) }
    }

    fn write_and_sync(&self, inode: u64, position: u64, data: &[u8], durable: bool) -> Result<(), Errno> {
        let faults = self.faults();
        self.refuse_when_full()?;
        self.on(|content| content.write(inode, position, data))?;
        if durable { self.sync(inode, faults) } else { Ok(()) }
    }
}

impl Filesystem for Requests {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(self.on(|content| content.lookup(parent.0, name)), reply);
    }

    fn forget(&self, _: &Request, inode: INodeNo, times: u64) {
        lock(&self.shared.content).forget(inode.0, times);
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attributes_of(self.on(|content| content.facts(inode.0)), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let facts = self.on(|content| {
            size.map_or(Ok(()), |size| content.resize(inode.0, size))?;
            content.facts(inode.0)
        });
        attributes_of(facts, reply);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.refuse_when_full().and_then(|()| self.on(|content| content.create(parent.0, name)));
        match made {
            Ok(facts) => {
                reply.created(&REMEMBERED, &attributes(facts), Generation(0), FileHandle(0), FopenFlags::empty())
            }
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let made = self.refuse_when_full();
        entry(made.and_then(|()| self.on(|content| content.make_directory(parent.0, name))), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.on(|content| content.unlink(parent.0, name)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.on(|content| content.remove_directory(parent.0, name)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        // Between directories a cut could leave half of it, which no file system with a journal does; nobody under test asks.
        if parent != new_parent || !flags.is_empty() {
            return reply.error(Errno::EXDEV);
        }
        done(self.on(|content| content.rename(parent.0, name, new_name)), reply);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if self.faults().read_fails {
            lock(&self.shared.struck).reads += 1;
            return reply.error(Errno::EIO);
        }
        match self.on(|content| content.read(inode.0, offset, size as usize)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // The kernel asks for a sync of its own behind such a write, or does not; here it is durable when it is answered.
        let durable = OFlags::from_bits_retain(flags.0.cast_unsigned()).contains(OFlags::DSYNC);
        match self.write_and_sync(inode.0, offset, data, durable) {
            // The kernel sends no more than it can count here.
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        let keep_size = mode.contains(FallocateFlags::KEEP_SIZE);
        let result = if (mode - FallocateFlags::KEEP_SIZE).is_empty() {
            let space = self.refuse_when_full();
            space.and_then(|()| self.on(|content| content.reserve(inode.0, offset, length, keep_size)))
        } else if mode == FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE {
            self.on(|content| content.punch(inode.0, offset, length))
        } else {
            Err(Errno::EOPNOTSUPP)
        };
        done(result, reply);
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let faults = self.faults();
        done(self.sync(inode.0, faults), reply);
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let faults = self.faults();
        if faults.sync_fails {
            lock(&self.shared.struck).syncs += 1;
            return reply.error(Errno::EIO);
        }
        let result = if faults.forgets_syncs { Ok(()) } else { self.on(|content| content.sync_directory(inode.0)) };
        done(result, reply);
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        match self.on(|content| content.list(inode.0)) {
            Ok(names) => {
                for (place, (name, facts)) in names.iter().enumerate().skip(offset as usize) {
                    if reply.add(INodeNo(facts.inode), place as u64 + 1, kind(*facts), name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let content = lock(&self.shared.content);
        let free = if lock(&self.shared.faults).is_full { 0 } else { content.pages_free() };
        let block = PAGE_BYTES as u32;
        reply.statfs(content.pages_max(), free, free, u64::MAX / 2, u64::MAX / 2, block, NAME_BYTES_MAX, block);
    }
}

fn errno(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::Missing => Errno::ENOENT,
        Refusal::Exists => Errno::EEXIST,
        Refusal::NotADirectory => Errno::ENOTDIR,
        Refusal::IsADirectory => Errno::EISDIR,
        Refusal::NotEmpty => Errno::ENOTEMPTY,
        Refusal::NoSpace => Errno::ENOSPC,
    }
}

fn kind(facts: Facts) -> FileType {
    if facts.is_directory { FileType::Directory } else { FileType::RegularFile }
}

fn attributes(facts: Facts) -> FileAttr {
    let now = SystemTime::now();
    FileAttr {
        ino: INodeNo(facts.inode),
        size: facts.size,
        blocks: facts.pages * (PAGE_BYTES as u64 / 512),
        atime: now,
        mtime: now,
        ctime: now,
        crtime: now,
        kind: kind(facts),
        perm: if facts.is_directory { 0o755 } else { 0o644 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: PAGE_BYTES as u32,
        flags: 0,
    }
}

fn entry(facts: Result<Facts, Errno>, reply: ReplyEntry) {
    match facts {
        Ok(facts) => reply.entry(&REMEMBERED, &attributes(facts), Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn attributes_of(facts: Result<Facts, Errno>, reply: ReplyAttr) {
    match facts {
        Ok(facts) => reply.attr(&REMEMBERED, &attributes(facts)),
        Err(error) => reply.error(error),
    }
}

fn done(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}
