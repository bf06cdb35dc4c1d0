//! A disk of our own for a process under test: a file system in our memory, mounted through FUSE, that loses what was not synced when its
//! power is cut, and fails, fills up or is slow on command.
//!
//! ```text
//!   storage-node ──system calls──► kernel ──/dev/fuse──► mount.rs ──► content.rs      what is there, what is durable
//!                                                           │
//!                    the test ──► Disk: faults, cut, wipe ──┘
//! ```
//!
//! FUSE and no preloaded library, because part of a storage node's system calls do not go through libc (rustix makes them itself), and
//! those of RocksDB do: beneath the system call nobody can be missed.

pub mod content;
mod mount;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};

use self::content::{Content, Cut};
use self::mount::Mounted;
use crate::random::Random;

/// What the disk does to programs besides its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Syncs, and writes that are to be durable by themselves, fail with EIO, and what they were to sync is never synced.
    pub sync_fails: bool,
    /// Reads fail with EIO.
    pub read_fails: bool,
    /// Nothing can be written, not even where space was reserved: as on a file system that never writes in place.
    pub is_full: bool,
    /// Each read, write and sync takes this much longer.
    pub delay: Duration,
    /// It says that it has synced, and has not. No disk that Thalweg promises anything on: for the test of the test.
    pub forgets_syncs: bool,
}

/// How often a fault met somebody. A fault that met nobody has tested nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Struck {
    pub syncs: u64,
    pub reads: u64,
    pub full: u64,
    pub slow: u64,
}

/// A disk and where it is mounted; dropping it unmounts it.
pub struct Disk {
    root: PathBuf,
    bytes_max: u64,
    shared: Arc<Shared>,
    mounted: Option<Mounted>,
}

struct Shared {
    content: Mutex<Content>,
    faults: Mutex<Faults>,
    struck: Mutex<Struck>,
}

impl Disk {
    /// An empty disk, mounted at `root`, which is made. Needs root and `/dev/fuse`.
    pub fn mount(root: &Path, bytes_max: u64) -> Result<Disk> {
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        let shared = Arc::new(Shared {
            content: Mutex::new(Content::new(bytes_max)),
            faults: Mutex::default(),
            struck: Mutex::default(),
        });
        let mut disk = Disk { root: root.to_owned(), bytes_max, shared, mounted: None };
        disk.attach()?;
        Ok(disk)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn set(&self, faults: Faults) {
        *lock(&self.shared.faults) = faults;
    }

    pub fn struck(&self) -> Struck {
        *lock(&self.shared.struck)
    }

    /// The power goes and comes back. Whoever used the disk must be dead.
    pub fn cut_power(&mut self, cut: Cut, random: &mut Random) -> Result<()> {
        self.detach()?;
        lock(&self.shared.content).cut(cut, random);
        self.attach()
    }

    /// Another, empty disk in its place.
    pub fn replace(&mut self) -> Result<()> {
        self.detach()?;
        *lock(&self.shared.content) = Content::new(self.bytes_max);
        self.attach()
    }

    fn attach(&mut self) -> Result<()> {
        let mounted = Mounted::new(&self.root, Arc::clone(&self.shared));
        self.mounted = Some(mounted.with_context(|| format!("cannot mount a disk at {}", self.root.display()))?);
        Ok(())
    }

    /// The kernel's caches go with the mount.
    fn detach(&mut self) -> Result<()> {
        let Some(mounted) = self.mounted.take() else { return Ok(()) };
        mounted.end().with_context(|| format!("cannot unmount {}", self.root.display()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the mount ends with our mount namespace at the latest.
        let _ = self.detach();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
