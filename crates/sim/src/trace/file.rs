//! A run that is kept: what it was, and what came of it. One line for each thing, so that it can be read, mailed and shortened by hand.
//!
//! ```text
//! sim trace 1
//! commit f453a55d1c2b
//! seed 7
//! shape controllers=3 storage_nodes=5 ...
//! outcome R2: 1 anomalies in 3210 operations: ...      or `outcome held`
//! hash 0f1e2d3c4b5a6978
//! 12000000 power-loss storage-2 torn-prefix 77         from here on the faults: microseconds, and what goes wrong
//! ```
//!
//! Seed, shape and faults are the run; commit, outcome and hash say what to expect of it.

use std::fmt;
use std::str::FromStr;

use crate::cluster::{Report, Shape};
use crate::faults::{self, List};

/// The first line; another form has another number.
const VERSION: &str = "sim trace 1";
const HELD: &str = "held";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceFile {
    /// Of the code that it was recorded with.
    pub commit: String,
    pub seed: u64,
    pub shape: Shape,
    pub faults: List,
    /// The first line of the failure; `None`: it held.
    pub failure: Option<String>,
    pub hash: u64,
}

impl TraceFile {
    /// What came of this run.
    pub fn with_outcome(self, report: &Report) -> TraceFile {
        TraceFile { failure: report.failure_line().map(str::to_owned), hash: report.trace_hash, ..self }
    }
}

impl fmt::Display for TraceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceFile { commit, seed, shape, faults, failure, hash } = self;
        writeln!(f, "{VERSION}\ncommit {commit}\nseed {seed}\nshape {shape}")?;
        writeln!(f, "outcome {}\nhash {hash:016x}", failure.as_deref().unwrap_or(HELD))?;
        f.write_str(&faults::to_lines(faults))
    }
}

impl FromStr for TraceFile {
    type Err = String;

    /// The error names the line.
    fn from_str(text: &str) -> Result<TraceFile, String> {
        let mut lines = Lines { rest: text };
        let first = lines.take();
        if first != VERSION {
            return Err(format!("the first line is `{first}`, and should be `{VERSION}`"));
        }
        let commit = lines.named("commit")?.to_owned();
        let seed = lines.named("seed")?.parse().map_err(|_| "the seed is not a number".to_owned())?;
        let shape = lines.named("shape")?.parse()?;
        let outcome = lines.named("outcome")?;
        let hash = lines.named("hash")?;
        let hash = u64::from_str_radix(hash, 16).map_err(|_| format!("the hash is not one: `{hash}`"))?;
        let failure = (outcome != HELD).then(|| outcome.to_owned());
        Ok(TraceFile { commit, seed, shape, faults: faults::parse_lines(lines.rest)?, failure, hash })
    }
}

struct Lines<'a> {
    rest: &'a str,
}

impl<'a> Lines<'a> {
    fn take(&mut self) -> &'a str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        line
    }

    fn named(&mut self, name: &str) -> Result<&'a str, String> {
        let line = self.take();
        let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
        value.ok_or_else(|| format!("`{line}` stands where `{name} ...` is expected"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;

    fn file() -> TraceFile {
        let shape = Shape::default();
        let faults = Cluster::faults(7, &shape);
        let failure = Some("R2: something: else".to_owned());
        TraceFile { commit: "f453a55".to_owned(), seed: 7, shape, faults, failure, hash: 0xfe }
    }

    #[test]
    fn a_trace_is_read_back_as_it_was_written() {
        let held = TraceFile { failure: None, faults: Vec::new(), ..file() };
        for file in [file(), held] {
            assert_eq!(file.to_string().parse(), Ok(file));
        }
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_line() {
        let good = file().to_string();
        let refused = |from: &str, to: &str| good.replace(from, to).parse::<TraceFile>().unwrap_err();
        assert!(refused("sim trace 1", "sim trace 9").contains("`sim trace 9`"));
        assert!(refused("commit", "comet").contains("`comet f453a55`"));
        assert!(refused("seed 7", "seed seven").contains("seed"));
        assert!(refused("hash 00", "hash xx").contains("xx"));
        assert!(refused(" clients=", " klients=").contains("klients"));
        assert!(refused(" heal\n", " heel\n").contains("heel"));
        assert!("".parse::<TraceFile>().is_err());
    }
}
