//! The trace of a run: a hash over everything that any process was told, and the last lines of it for a report.
//! `file.rs`: what is kept of a run, to have it again.

pub mod file;

use std::collections::VecDeque;
use std::fmt::{self, Write};

use crate::world::{Input, ProcessId, Time};

/// Lines kept for a report, unless it is verbose.
const LINES_KEPT: usize = 400;

/// Two runs of one seed must have equal hashes: that is the meta-test.
#[derive(Debug, Default)]
pub struct Trace {
    hash: Fnv,
    pub inputs: u64,
    lines: VecDeque<String>,
    /// Every line is kept, with what every process was told.
    pub verbose: bool,
}

impl Trace {
    pub fn hash(&self) -> u64 {
        self.hash.0
    }

    pub(crate) fn input(&mut self, time: Time, id: ProcessId, input: &Input) {
        self.inputs += 1;
        // Writing into a hasher cannot fail.
        let _ = write!(self.hash, "{} {id:?} {input:?}", time.0);
        if self.verbose {
            self.keep(format!("{:>10} {id:?} {input:?}", time.0));
        }
    }

    pub fn note(&mut self, time: Time, text: fmt::Arguments<'_>) {
        let _ = write!(self.hash, "{} {text}", time.0);
        self.keep(format!("{:>10} {text}", time.0));
    }

    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    fn keep(&mut self, line: String) {
        if self.lines.len() == LINES_KEPT && !self.verbose {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// FNV-1a.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        Ok(())
    }
}
