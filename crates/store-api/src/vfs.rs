//! Files, as the log needs them.
//!
//! Paths are relative to the data directory, with `/` between parts. They are made by the log from ids and numbers, never from
//! anything a client sent.

use std::sync::Arc;

use crate::DiskError;

/// How a file will be used, so that the provider can choose how to open it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileUse {
    /// Appended and read through the page cache.
    Buffered,
    /// Mostly written in whole aligned blocks by [`VfsFile::write_durable`] and [`VfsFile::write_direct`]: direct I/O where the file
    /// system offers it.
    Journal,
}

/// A directory tree on one disk.
///
/// What is promised, and what is not:
/// - what [`VfsFile::write_at`] and [`VfsFile::write_direct`] wrote may be lost, wholly or in part and in any order, until
///   [`VfsFile::sync_data`] returned `Ok`;
/// - what [`VfsFile::write_durable`] wrote is there after a crash, once it returned `Ok`; it makes no promise for other writes;
/// - names made, changed or removed may come back or vanish until [`Vfs::sync_dir`] of their directory returned `Ok` (S7);
/// - a rename inside one directory happens wholly or not at all;
/// - a sector of 512 bytes is old or new, never a mixture;
/// - after a failed sync nothing is known about the data (S6): the caller must give up on this directory.
pub trait Vfs: Send + Sync {
    /// Opens a file that exists.
    fn open(&self, path: &str, file_use: FileUse) -> Result<Arc<dyn VfsFile>, DiskError>;

    /// Opens a file, empty: makes it when it is not there, cuts it to nothing when it is.
    fn create(&self, path: &str, file_use: FileUse) -> Result<Arc<dyn VfsFile>, DiskError>;

    /// Makes one directory; no error when it exists.
    fn create_dir(&self, path: &str) -> Result<(), DiskError>;

    /// Moves a file or directory; replaces a file at the target.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes a file.
    fn remove(&self, path: &str) -> Result<(), DiskError>;

    /// Removes a directory and the files in it.
    fn remove_dir(&self, path: &str) -> Result<(), DiskError>;

    /// Makes the names in a directory durable. The root is `""`.
    fn sync_dir(&self, path: &str) -> Result<(), DiskError>;

    /// Names in a directory, sorted. `NotFound` when there is no such directory.
    fn list(&self, path: &str) -> Result<Vec<String>, DiskError>;

    /// Bytes that may still be written.
    fn free_space(&self) -> Result<u64, DiskError>;
}

/// An open file. Positions are absolute and all methods may be called from several threads.
pub trait VfsFile: Send + Sync {
    /// Fills `into` from `position` on and returns how many bytes there were; fewer only at the end of the file.
    fn read_at(&self, position: u64, into: &mut [u8]) -> Result<usize, DiskError>;

    /// Writes the pieces one after the other from `position` on. All or an error; on an error some of it may be there.
    fn write_at(&self, position: u64, pieces: &[&[u8]]) -> Result<(), DiskError>;

    /// The same, past the page cache when `position`, and the length and the address of each piece, are multiples of
    /// [`crate::BLOCK_BYTES`] and the file was opened for [`FileUse::Journal`].
    fn write_direct(&self, position: u64, pieces: &[&[u8]]) -> Result<(), DiskError>;

    /// Writes the pieces one after the other and makes durable what it wrote. Fastest where [`VfsFile::write_direct`] goes past the
    /// page cache.
    fn write_durable(&self, position: u64, pieces: &[&[u8]]) -> Result<(), DiskError>;

    /// Makes durable all that was written so far, and the size of the file.
    fn sync_data(&self) -> Result<(), DiskError>;

    fn size(&self) -> Result<u64, DiskError>;

    /// Cuts the file, or makes it longer with zeros. Not durable before `sync_data`.
    fn set_size(&self, size: u64) -> Result<(), DiskError>;

    /// Reserves space up to `size`; the file then is at least that long and reads as zeros where nothing was written.
    fn preallocate(&self, size: u64) -> Result<(), DiskError>;

    /// Whether a durable or direct write of aligned memory goes past the page cache.
    fn is_direct(&self) -> bool;
}
