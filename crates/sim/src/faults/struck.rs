//! How often each kind of fault truly struck: a run in which nothing went wrong proves nothing.

use std::collections::BTreeMap;
use std::fmt;

/// Counts by name. Faults that found nothing to strike (a process that was down already) are not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Struck(BTreeMap<&'static str, u64>);

impl Struck {
    pub fn add(&mut self, kind: &'static str, times: u64) {
        if times > 0 {
            *self.0.entry(kind).or_default() += times;
        }
    }

    pub fn of(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Sums over a range of seeds.
    pub fn merge(&mut self, other: &Struck) {
        other.0.iter().for_each(|(kind, times)| self.add(kind, *times));
    }
}

impl fmt::Display for Struck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(|(kind, times)| format!("{times} {kind}")).collect();
        f.write_str(&words.join(", "))
    }
}
