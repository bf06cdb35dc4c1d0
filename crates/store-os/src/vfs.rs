//! Files on the machine's disk.

mod file;

use std::{
    fmt, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{FlockOperation, Mode, OFlags};
use store_api::{BLOCK_BYTES, DiskError, DiskOperation, FileUse, Vfs, VfsFile};

use self::file::OsFile;

const LOCK: &str = "lock";
const PROBE: &str = "probe";

/// Whether writes may go past the page cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DirectIo {
    /// Where a trial write shows that it works.
    #[default]
    Auto,
    Never,
}

/// A data directory, locked while this lives.
#[derive(Debug)]
pub struct OsVfs {
    root: PathBuf,
    direct: bool,
    /// Held for its lock, which the kernel lets go when the process ends, however it ends.
    _lock: OwnedFd,
}

/// Why a data directory cannot be used.
#[derive(Debug)]
pub enum OpenDirectoryError {
    /// Another process has it.
    InUse {
        root: PathBuf,
    },
    Disk {
        root: PathBuf,
        source: io::Error,
    },
}

impl fmt::Display for OpenDirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenDirectoryError::InUse { root } => {
                write!(f, "the data directory {} is in use by another process", root.display())
            }
            OpenDirectoryError::Disk { root, .. } => write!(f, "cannot use the data directory {}", root.display()),
        }
    }
}

impl std::error::Error for OpenDirectoryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenDirectoryError::InUse { .. } => None,
            OpenDirectoryError::Disk { source, .. } => Some(source),
        }
    }
}

impl OsVfs {
    /// Opens the directory, making it when it is not there.
    pub fn open(root: &Path, direct_io: DirectIo) -> Result<OsVfs, OpenDirectoryError> {
        let disk = |source: io::Error| OpenDirectoryError::Disk { root: root.to_owned(), source };
        make(root, sync_names).map_err(disk)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o640);
        let lock = rustix::fs::open(root.join(LOCK), flags, mode).map_err(|error| disk(error.into()))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(OpenDirectoryError::InUse { root: root.to_owned() }),
            Err(error) => return Err(disk(error.into())),
        }
        let direct = direct_io == DirectIo::Auto && probe_direct(root);
        Ok(OsVfs { root: root.to_owned(), direct, _lock: lock })
    }

    /// Whether writes go past the page cache, where the log wants that.
    pub fn uses_direct_io(&self) -> bool {
        self.direct
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn open_with(&self, path: &str, file_use: FileUse, extra: OFlags) -> Result<Arc<dyn VfsFile>, DiskError> {
        let full = self.path(path);
        let flags = OFlags::RDWR | OFlags::CLOEXEC | extra;
        let buffered = rustix::fs::open(&full, flags, Mode::from_raw_mode(0o640))
            .map_err(|error| DiskError::from_io(DiskOperation::Open, path, error.into()))?;
        let direct = self.direct && file_use == FileUse::Journal;
        Ok(Arc::new(OsFile::new(path.to_owned(), full, buffered, direct)))
    }
}

/// Makes the directory; its name and those above it are durable when this returns.
///
/// The lock file is made only after that, so where it stands they were made durable once, and a start costs nothing. Its own name need
/// not be durable: when a crash takes it, or comes between directory and lock, the names are synced again. Who copies a data directory,
/// lock and all, makes the copy durable.
fn make(root: &Path, sync_names: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    std::fs::create_dir_all(root)?;
    if root.join(LOCK).try_exists()? { Ok(()) } else { sync_names(root) }
}

/// Makes the names of the directory and of those above it durable, up to the file system's own root: any of them may just have been
/// made, and one that is lost takes everything below it along. Those of others need it no more than they let us.
fn sync_names(root: &Path) -> io::Result<()> {
    let root = std::path::absolute(root)?;
    let device = rustix::fs::stat(&root)?.st_dev;
    for directory in root.ancestors().skip(1) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match rustix::fs::open(directory, flags, Mode::empty()) {
            Err(rustix::io::Errno::ACCESS) => return Ok(()),
            opened => opened?,
        };
        if rustix::fs::fstat(&opened)?.st_dev != device {
            return Ok(());
        }
        rustix::fs::fsync(&opened)?;
    }
    Ok(())
}

/// Tries what the journal will do.
fn probe_direct(root: &Path) -> bool {
    let path = root.join(PROBE);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::DIRECT | OFlags::DSYNC;
    let Ok(fd) = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o640)) else { return false };
    let memory = vec![0_u8; 2 * BLOCK_BYTES];
    let start = memory.as_ptr().align_offset(BLOCK_BYTES);
    let written = rustix::io::pwrite(&fd, &memory[start..start + BLOCK_BYTES], 0);
    let _ = std::fs::remove_file(&path);
    written.is_ok_and(|written| written == BLOCK_BYTES)
}

fn outcome(operation: DiskOperation, path: &str, result: io::Result<()>) -> Result<(), DiskError> {
    result.map_err(|error| DiskError::from_io(operation, path, error))
}

impl Vfs for OsVfs {
    fn open(&self, path: &str, file_use: FileUse) -> Result<Arc<dyn VfsFile>, DiskError> {
        self.open_with(path, file_use, OFlags::empty())
    }

    fn create(&self, path: &str, file_use: FileUse) -> Result<Arc<dyn VfsFile>, DiskError> {
        self.open_with(path, file_use, OFlags::CREATE | OFlags::TRUNC)
    }

    fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        match std::fs::create_dir(self.path(path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => outcome(DiskOperation::CreateDirectory, path, result),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        outcome(DiskOperation::Rename, from, std::fs::rename(self.path(from), self.path(to)))
    }

    fn remove(&self, path: &str) -> Result<(), DiskError> {
        outcome(DiskOperation::Remove, path, std::fs::remove_file(self.path(path)))
    }

    fn remove_dir(&self, path: &str) -> Result<(), DiskError> {
        outcome(DiskOperation::Remove, path, std::fs::remove_dir_all(self.path(path)))
    }

    fn sync_dir(&self, path: &str) -> Result<(), DiskError> {
        let sync = || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::open(self.path(path), flags, Mode::empty())?;
            rustix::fs::fsync(&directory)
        };
        outcome(DiskOperation::SyncDirectory, path, sync().map_err(io::Error::from))
    }

    fn list(&self, path: &str) -> Result<Vec<String>, DiskError> {
        let failed = |error| DiskError::from_io(DiskOperation::List, path, error);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path(path)).map_err(failed)? {
            // All our names are ASCII; others are not ours.
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string()
                && !(path.is_empty() && name == LOCK)
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn free_space(&self) -> Result<u64, DiskError> {
        let found = rustix::fs::statvfs(&self.root)
            .map_err(|error| DiskError::from_io(DiskOperation::FreeSpace, "", error.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_durable_until_the_lock_says_that_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a/b");
        let is_synced = || {
            let mut synced = false;
            let sync = |asked: &Path| {
                assert!(asked.is_dir(), "only what is there can be synced");
                synced = true;
                Ok(())
            };
            make(&root, sync).unwrap();
            synced
        };
        assert!(is_synced(), "it was made");
        assert!(is_synced(), "a crash came before the lock");
        let failed = make(&root, |_| Err(io::ErrorKind::Other.into()));
        assert!(failed.is_err() && !root.join(LOCK).exists(), "no lock without durable names");
        drop(OsVfs::open(&root, DirectIo::Never).unwrap());
        assert!(!is_synced(), "the lock came after the names");
        std::fs::remove_file(root.join(LOCK)).unwrap();
        assert!(is_synced(), "a crash took the lock's own name");
    }
}
