//! The trace of a run: a hash over everything that any process was told, and the last lines of it for a report.
//! `file.rs`: what is kept of a run, to have it again.

pub mod file;

use std::collections::VecDeque;
use std::fmt::{self, Write};

use crate::network::Payload;
use crate::world::{Input, ProcessId, Time};

/// Lines kept for a report, unless it is verbose.
const LINES_KEPT: usize = 400;

/// Two runs of one seed must have equal hashes: that is the meta-test.
#[derive(Debug, Default)]
pub struct Trace {
    hash: Hash,
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
        let _ = match input {
            // Bytes are many, and slow to write down.
            Input::Received { stream, payload: Payload::Frame(frame) } => {
                self.hash.bytes(frame);
                write!(self.hash, "{} {id:?} {stream:?}", time.0)
            }
            input => write!(self.hash, "{} {id:?} {input:?}", time.0),
        };
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

/// Quick rather than strong: nobody means to find two histories with the same hash.
#[derive(Debug, Default)]
struct Hash(u64);

impl Hash {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        let rest = rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        self.word(rest ^ (bytes.len() as u64) << 56);
    }
}

impl Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}
