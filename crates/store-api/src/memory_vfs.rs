//! The model of a [`Vfs`]: a disk in memory that loses power, tears writes, fails and fills up on command.
//!
//! Every change is numbered. Until it is synced it is *pending*: visible to readers, and after a crash there or not as
//! [`Survivors`] decides. A crash can be tried in the middle of every operation: the observer is shown the disk after
//! the operation has begun and before it is complete.

mod content;
mod tree;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base_types::Random;

use self::tree::{Change, Disk, Node, NodeId};
use crate::{DiskError, DiskErrorKind, DiskOperation, FileUse, Vfs, VfsFile};

/// Which pending changes are found after a crash. Random choices come from the generator given with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survivors {
    /// Only what was synced.
    Nothing,
    /// All of it, which just made it. When only the process died, there is [`MemVfs::after_kill`].
    Everything,
    /// Those up to some moment, in the order they were made.
    Prefix,
    /// The same, and of the last write only some sectors.
    TornPrefix,
    /// Any subset, whole.
    Subset,
    /// Any subset of the sectors of any subset.
    TornSubset,
    /// Files grew but what was written to them did not arrive: they end in zeros.
    SizesOnly,
    /// All names, no data.
    NamesOnly,
    /// All data, no names.
    DataOnly,
}

impl Survivors {
    pub const ALL: &[Survivors] = &[
        Survivors::Nothing,
        Survivors::Everything,
        Survivors::Prefix,
        Survivors::TornPrefix,
        Survivors::Subset,
        Survivors::TornSubset,
        Survivors::SizesOnly,
        Survivors::NamesOnly,
        Survivors::DataOnly,
    ];
}

/// A failure to come: the operations of this kind on paths that contain `path` fail `times` times after `skip` have gone well.
#[derive(Clone, Debug)]
pub struct DiskFault {
    pub operation: DiskOperation,
    pub path: String,
    pub kind: DiskErrorKind,
    pub skip: u64,
    pub times: u64,
}

/// Called in the middle of every operation that changes the disk, with the disk as it is then.
pub type Observer = Arc<dyn Fn(&Image<'_>) + Send + Sync>;

/// A disk caught in the middle of an operation.
pub struct Image<'a> {
    disk: &'a Disk,
    operation: DiskOperation,
}

impl Image<'_> {
    /// How many changes were begun before this one.
    pub fn change(&self) -> u64 {
        self.disk.changes
    }

    /// What is being done.
    pub fn operation(&self) -> DiskOperation {
        self.operation
    }

    /// The disk found when power is lost now.
    pub fn after_crash(&self, survivors: Survivors, random: &mut Random) -> MemVfs {
        MemVfs::with(self.disk.after_crash(survivors, random))
    }

    /// The disk found when the process is killed now.
    pub fn after_kill(&self) -> MemVfs {
        MemVfs::with(self.disk.after_kill())
    }
}

/// A disk in memory. Clones share it.
#[derive(Clone)]
pub struct MemVfs {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Mutex<Disk>,
    observer: Mutex<Option<Observer>>,
}

impl Default for MemVfs {
    fn default() -> MemVfs {
        MemVfs::new()
    }
}

impl MemVfs {
    pub fn new() -> MemVfs {
        MemVfs::with(Disk::new())
    }

    fn with(disk: Disk) -> MemVfs {
        MemVfs { shared: Arc::new(Shared { disk: Mutex::new(disk), observer: Mutex::new(None) }) }
    }

    /// The disk found when power is lost now. This one is left as it is.
    pub fn after_crash(&self, survivors: Survivors, random: &mut Random) -> MemVfs {
        MemVfs::with(self.disk().after_crash(survivors, random))
    }

    /// The disk found when the process is killed now: the page cache outlives it, so that all changes are there, and those that
    /// are pending still are. This one is left as it is.
    pub fn after_kill(&self) -> MemVfs {
        MemVfs::with(self.disk().after_kill())
    }

    /// Power is lost when that many more changes were begun: the last one is pending, everything after it fails.
    pub fn crash_after(&self, changes: u64) {
        let mut disk = self.disk();
        disk.crash_at = Some(disk.changes + changes);
    }

    pub fn is_crashed(&self) -> bool {
        self.disk().crashed
    }

    /// How many changes were begun so far.
    pub fn changes(&self) -> u64 {
        self.disk().changes
    }

    pub fn observe(&self, observer: Option<Observer>) {
        *self.shared.observer.lock().unwrap_or_else(PoisonError::into_inner) = observer;
    }

    pub fn inject(&self, fault: DiskFault) {
        self.disk().faults.push(fault);
    }

    pub fn clear_faults(&self) {
        self.disk().faults.clear();
    }

    /// No failure is to come any more, power is not to be lost, and there is room.
    pub fn mend(&self) {
        let mut disk = self.disk();
        disk.faults.clear();
        disk.capacity = u64::MAX;
        if !disk.crashed {
            disk.crash_at = None;
        }
    }

    /// For who looks at the disk from outside: nothing fails meanwhile, and no fault is used up.
    pub fn without_faults<R>(&self, look: impl FnOnce() -> R) -> R {
        let crashed = {
            let mut disk = self.disk();
            disk.is_looked_at = true;
            std::mem::take(&mut disk.crashed)
        };
        let seen = look();
        let mut disk = self.disk();
        disk.is_looked_at = false;
        disk.crashed = crashed;
        seen
    }

    /// How many operations have failed because they were to, or because the disk was full.
    pub fn faults_met(&self) -> u64 {
        self.disk().faults_met
    }

    /// Sets how many bytes fit on the disk.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk().capacity = bytes;
    }

    pub fn used(&self) -> u64 {
        self.disk().used()
    }

    /// Flips bits of one byte that is on the disk, as ageing media do.
    pub fn corrupt(&self, path: &str, position: u64, mask: u8) -> Result<(), DiskError> {
        let mut disk = self.disk();
        let id = disk.find_file(path, DiskOperation::Open)?;
        let file = disk.file_mut(id);
        for content in [&mut file.durable, &mut file.current] {
            let mut byte = [0];
            if content.read(position, &mut byte) == 1 {
                content.write(position, &[byte[0] ^ mask]);
            }
        }
        Ok(())
    }

    /// The bytes of a file as a reader sees them.
    pub fn bytes_of(&self, path: &str) -> Result<Vec<u8>, DiskError> {
        let disk = self.disk();
        let id = disk.find_file(path, DiskOperation::Open)?;
        let content = &disk.file(id).current;
        let mut bytes = vec![0; content.len() as usize];
        content.read(0, &mut bytes);
        Ok(bytes)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.shared.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers a change, and shows the disk to the observer once `begin` has recorded it.
    fn change<R>(
        &self,
        operation: DiskOperation,
        path: &str,
        begin: impl FnOnce(&mut Disk) -> Result<R, DiskError>,
        complete: impl FnOnce(&mut Disk, &R),
    ) -> Result<R, DiskError> {
        let mut disk = self.disk();
        disk.check(operation, path)?;
        disk.changes += 1;
        let begun = begin(&mut disk)?;
        let observer = self.shared.observer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(observer) = observer {
            observer(&Image { disk: &disk, operation });
        }
        if disk.crash_at.is_some_and(|at| disk.changes >= at) {
            disk.crashed = true;
            return Err(DiskError::new(operation, path, DiskErrorKind::Crashed));
        }
        complete(&mut disk, &begun);
        Ok(begun)
    }
}

impl Vfs for MemVfs {
    fn open(&self, path: &str, _file_use: FileUse) -> Result<Arc<dyn VfsFile>, DiskError> {
        let mut disk = self.disk();
        disk.check(DiskOperation::Open, path)?;
        let id = disk.find_file(path, DiskOperation::Open)?;
        Ok(Arc::new(MemFile { vfs: self.clone(), id, path: path.to_owned() }))
    }

    fn create(&self, path: &str, _file_use: FileUse) -> Result<Arc<dyn VfsFile>, DiskError> {
        let id = self.change(
            DiskOperation::Open,
            path,
            |disk| match disk.find(path, DiskOperation::Open) {
                Ok(id) => {
                    disk.find_file(path, DiskOperation::Open)?;
                    disk.record(id, Change::SetSize(0));
                    Ok(id)
                }
                Err(_) => disk.make(path, Node::empty_file(), DiskOperation::Open),
            },
            |_, _| {},
        )?;
        Ok(Arc::new(MemFile { vfs: self.clone(), id, path: path.to_owned() }))
    }

    fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        let operation = DiskOperation::CreateDirectory;
        let make = |disk: &mut Disk| match disk.find(path, operation) {
            Ok(_) => Ok(()),
            Err(_) => disk.make(path, Node::empty_directory(), operation).map(|_| ()),
        };
        self.change(operation, path, make, |_, ()| {})
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.change(DiskOperation::Rename, from, |disk| disk.rename(from, to), |_, ()| {})
    }

    fn remove(&self, path: &str) -> Result<(), DiskError> {
        self.change(DiskOperation::Remove, path, |disk| disk.remove(path), |_, ()| {})
    }

    fn remove_dir(&self, path: &str) -> Result<(), DiskError> {
        for name in self.list(path)? {
            self.remove(&format!("{path}/{name}"))?;
        }
        self.remove(path)
    }

    fn sync_dir(&self, path: &str) -> Result<(), DiskError> {
        let operation = DiskOperation::SyncDirectory;
        self.change(operation, path, |disk| disk.find(path, operation), |disk, id| disk.sync(*id))?;
        Ok(())
    }

    fn list(&self, path: &str) -> Result<Vec<String>, DiskError> {
        let mut disk = self.disk();
        disk.check(DiskOperation::List, path)?;
        disk.list(path)
    }

    fn free_space(&self) -> Result<u64, DiskError> {
        let mut disk = self.disk();
        disk.check(DiskOperation::FreeSpace, "")?;
        Ok(disk.capacity.saturating_sub(disk.used()))
    }
}

struct MemFile {
    vfs: MemVfs,
    id: NodeId,
    path: String,
}

impl MemFile {
    fn write(&self, position: u64, bytes: Vec<u8>, durable: bool) -> Result<(), DiskError> {
        let length = bytes.len();
        self.vfs.change(
            DiskOperation::Write,
            &self.path,
            |disk| {
                disk.alive(self.id, DiskOperation::Write, &self.path)?;
                let room = disk.room(self.id, position, length);
                let (change, fits) = if room < length {
                    // A full disk takes what fits, as a real one does.
                    (Change::Write { position, bytes: bytes[..room].into() }, false)
                } else {
                    (Change::Write { position, bytes: bytes.into() }, true)
                };
                disk.record(self.id, change);
                if fits {
                    Ok(())
                } else {
                    disk.faults_met += 1;
                    Err(DiskError::new(DiskOperation::Write, &self.path, DiskErrorKind::NoSpace))
                }
            },
            |disk, ()| {
                if durable {
                    disk.harden_last(self.id);
                }
            },
        )?;
        Ok(())
    }
}

impl VfsFile for MemFile {
    fn read_at(&self, position: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let mut disk = self.vfs.disk();
        disk.check(DiskOperation::Read, &self.path)?;
        disk.alive(self.id, DiskOperation::Read, &self.path)?;
        Ok(disk.file(self.id).current.read(position, into))
    }

    fn write_at(&self, position: u64, pieces: &[&[u8]]) -> Result<(), DiskError> {
        self.write(position, pieces.concat(), false)
    }

    fn write_direct(&self, position: u64, pieces: &[&[u8]]) -> Result<(), DiskError> {
        self.write(position, pieces.concat(), false)
    }

    fn write_durable(&self, position: u64, pieces: &[&[u8]]) -> Result<(), DiskError> {
        self.write(position, pieces.concat(), true)
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        let alive = |disk: &mut Disk| disk.alive(self.id, DiskOperation::Sync, &self.path);
        let outcome = self.vfs.change(DiskOperation::Sync, &self.path, alive, |disk, ()| disk.sync(self.id));
        if outcome.as_ref().is_err_and(|error| error.kind == DiskErrorKind::Failed) {
            // As the kernel does it: pages whose write failed are marked clean, and the next sync says "fine".
            self.vfs.disk().forget_pending(self.id);
        }
        outcome
    }

    fn size(&self) -> Result<u64, DiskError> {
        let mut disk = self.vfs.disk();
        disk.check(DiskOperation::Open, &self.path)?;
        disk.alive(self.id, DiskOperation::Open, &self.path)?;
        Ok(disk.file(self.id).current.len())
    }

    fn set_size(&self, size: u64) -> Result<(), DiskError> {
        let set = |disk: &mut Disk| {
            disk.alive(self.id, DiskOperation::Resize, &self.path)?;
            disk.record(self.id, Change::SetSize(size));
            Ok(())
        };
        self.vfs.change(DiskOperation::Resize, &self.path, set, |_, ()| {})
    }

    fn preallocate(&self, size: u64) -> Result<(), DiskError> {
        let grow = |disk: &mut Disk| {
            disk.alive(self.id, DiskOperation::Resize, &self.path)?;
            let len = disk.file(self.id).current.len();
            if size <= len {
                return Ok(());
            }
            let wanted = (size - len) as usize;
            if disk.room(self.id, len, wanted) < wanted {
                return Err(DiskError::new(DiskOperation::Resize, &self.path, DiskErrorKind::NoSpace));
            }
            disk.record(self.id, Change::SetSize(size));
            Ok(())
        };
        self.vfs.change(DiskOperation::Resize, &self.path, grow, |_, ()| {})
    }

    fn is_direct(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
