//! Steps of one process's wall clock, by a library of our own (`clock.c`) that is preloaded into it.
//!
//! Ours instead of libfaketime: it is small enough to read, it leaves the monotonic clock and the waits alone, and it counts who was
//! deceived, so that a step that met nobody is seen.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const SOURCE: &str = include_str!("clock.c");
/// The offset in nanoseconds, then the count.
const SHARED_BYTES: u64 = 16;

/// The compiled library.
pub struct ClockLibrary {
    path: PathBuf,
}

/// The clock of one process, also over its restarts.
pub struct Clock {
    file: File,
    path: PathBuf,
}

impl ClockLibrary {
    /// Needs a C compiler.
    pub fn compile(folder: &Path) -> Result<ClockLibrary> {
        let source = folder.join("clock.c");
        let path = folder.join("libclock.so");
        fs::write(&source, SOURCE)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-o"]).arg(&path).arg(&source).arg("-ldl");
        let output = compiler.output().context("cannot start cc")?;
        if !output.status.success() {
            bail!("cc does not compile clock.c: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(ClockLibrary { path })
    }

    /// Has the process that `command` starts use `clock`.
    pub fn preload(&self, command: &mut Command, clock: &Clock) {
        command.env("LD_PRELOAD", &self.path).env("CHAOS_CLOCK", &clock.path);
    }
}

impl Clock {
    pub fn new(path: &Path) -> Result<Clock> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(SHARED_BYTES)?;
        Ok(Clock { file, path: path.to_owned() })
    }

    /// How far it is ahead from now on; below zero: behind.
    pub fn set(&self, seconds: i64) -> Result<()> {
        let nanoseconds = seconds.checked_mul(1_000_000_000).context("no such time")?;
        Ok(self.file.write_all_at(&nanoseconds.to_ne_bytes(), 0)?)
    }

    /// How often somebody was told a wrong time.
    pub fn asked(&self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, 8)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}
