//! An open file: one handle through the page cache, and past it one for durable writes and one for others.

use std::{
    io::{self, IoSlice},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::OnceLock,
};

use rustix::fs::{FallocateFlags, Mode, OFlags};
use store_api::{BLOCK_BYTES, DiskError, DiskOperation, VfsFile};

/// What one `pwritev` takes.
const PIECES_MAX: usize = 1024;

pub(super) struct OsFile {
    path: String,
    full: PathBuf,
    buffered: OwnedFd,
    /// Whether to go past the page cache.
    wants_direct: bool,
    /// `O_DIRECT`, opened by the first write that can use it. Readers never need it.
    direct: OnceLock<Option<OwnedFd>>,
    /// The same with `O_DSYNC`. Not every file system heeds the wish of a single write.
    durable: OnceLock<Option<OwnedFd>>,
}

impl OsFile {
    pub(super) fn new(path: String, full: PathBuf, buffered: OwnedFd, wants_direct: bool) -> OsFile {
        OsFile { path, full, buffered, wants_direct, direct: OnceLock::new(), durable: OnceLock::new() }
    }

    fn failed(&self, operation: DiskOperation) -> impl FnOnce(rustix::io::Errno) -> DiskError {
        move |error| DiskError::from_io(operation, &self.path, error.into())
    }

    /// A way past the page cache, where all of a write can take it.
    fn direct_for(&self, position: u64, pieces: &[&[u8]], durable: bool) -> Option<&OwnedFd> {
        let is_aligned =
            |piece: &&[u8]| piece.len().is_multiple_of(BLOCK_BYTES) && piece.as_ptr().align_offset(BLOCK_BYTES) == 0;
        let aligned = position.is_multiple_of(BLOCK_BYTES as u64) && pieces.iter().all(is_aligned);
        if aligned { self.direct(durable) } else { None }
    }

    fn direct(&self, durable: bool) -> Option<&OwnedFd> {
        let (way, extra) = if durable { (&self.durable, OFlags::DSYNC) } else { (&self.direct, OFlags::empty()) };
        let open = || {
            let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC | extra;
            rustix::fs::open(&self.full, flags, Mode::empty()).ok()
        };
        if self.wants_direct { way.get_or_init(open).as_ref() } else { None }
    }

    fn write_all(&self, fd: &OwnedFd, mut position: u64, mut bytes: &[u8]) -> Result<(), DiskError> {
        while !bytes.is_empty() {
            match rustix::io::pwrite(fd, bytes, position) {
                Ok(0) => {
                    let error = io::Error::from(io::ErrorKind::WriteZero);
                    return Err(DiskError::from_io(DiskOperation::Write, &self.path, error));
                }
                Ok(written) => {
                    bytes = &bytes[written..];
                    position += written as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.failed(DiskOperation::Write)(error)),
            }
        }
        Ok(())
    }

    fn write_pieces(&self, fd: &OwnedFd, mut position: u64, pieces: &[&[u8]]) -> Result<(), DiskError> {
        let pieces: Vec<&[u8]> = pieces.iter().copied().filter(|piece| !piece.is_empty()).collect();
        for group in pieces.chunks(PIECES_MAX) {
            let slices: Vec<IoSlice<'_>> = group.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut written = loop {
                match rustix::io::pwritev(fd, &slices, position) {
                    Ok(written) => break written,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(self.failed(DiskOperation::Write)(error)),
                }
            };
            // A short write is rare: what is left goes piece by piece.
            for piece in group {
                let skip = written.min(piece.len());
                written -= skip;
                if skip < piece.len() {
                    self.write_all(fd, position + skip as u64, &piece[skip..])?;
                }
                position += piece.len() as u64;
            }
        }
        Ok(())
    }
}

impl VfsFile for OsFile {
    fn read_at(&self, position: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let mut done = 0;
        while done < into.len() {
            match rustix::io::pread(&self.buffered, &mut into[done..], position + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.failed(DiskOperation::Read)(error)),
            }
        }
        Ok(done)
    }

    fn write_at(&self, position: u64, pieces: &[&[u8]]) -> Result<(), DiskError> {
        self.write_pieces(&self.buffered, position, pieces)
    }

    fn write_direct(&self, position: u64, pieces: &[&[u8]]) -> Result<(), DiskError> {
        let fd = self.direct_for(position, pieces, false).unwrap_or(&self.buffered);
        self.write_pieces(fd, position, pieces)
    }

    fn write_durable(&self, position: u64, pieces: &[&[u8]]) -> Result<(), DiskError> {
        match self.direct_for(position, pieces, true) {
            Some(direct) => self.write_pieces(direct, position, pieces),
            None => {
                self.write_pieces(&self.buffered, position, pieces)?;
                self.sync_data()
            }
        }
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        rustix::fs::fdatasync(&self.buffered).map_err(self.failed(DiskOperation::Sync))
    }

    fn size(&self) -> Result<u64, DiskError> {
        let found = rustix::fs::fstat(&self.buffered).map_err(self.failed(DiskOperation::Open))?;
        Ok(found.st_size as u64)
    }

    fn set_size(&self, size: u64) -> Result<(), DiskError> {
        rustix::fs::ftruncate(&self.buffered, size).map_err(self.failed(DiskOperation::Resize))
    }

    fn preallocate(&self, size: u64) -> Result<(), DiskError> {
        match rustix::fs::fallocate(&self.buffered, FallocateFlags::empty(), 0, size) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                if self.size()? < size {
                    self.set_size(size)
                } else {
                    Ok(())
                }
            }
            result => result.map_err(self.failed(DiskOperation::Resize)),
        }
    }

    fn is_direct(&self) -> bool {
        self.direct(true).is_some()
    }
}
