//! What may be gone for a good reason: below a log start that has moved, and behind a compaction (S10).
//!
//! Tested in `tests/histories/`.

use std::collections::BTreeMap;

use base_types::Offset;

use crate::history::{Action, History, Key, Moment, Partition};

pub struct Deletions {
    /// From when on which offset may be the first, in the order of partitions and moments; offsets do not go back.
    log_starts: Vec<(Partition, Moment, Offset)>,
    /// Of each key of a compacted partition, the last offset at which a record of it may be.
    newest: BTreeMap<(Partition, Key), Offset>,
}

impl Deletions {
    pub fn of(history: &History, newest: BTreeMap<(Partition, Key), Offset>) -> Deletions {
        let mut log_starts = Vec::new();
        for (_, operation) in history.operations() {
            if let Action::Trimmed { partition, to } = operation.action {
                log_starts.push((partition, operation.start, to));
            }
        }
        log_starts.sort_unstable();
        for of_partition in log_starts.chunk_by_mut(|a, b| a.0 == b.0) {
            let mut highest = Offset::ZERO;
            for (_, _, to) in of_partition {
                highest = highest.max(*to);
                *to = highest;
            }
        }
        Deletions { log_starts, newest }
    }

    /// The first offset that must be there for whoever reads until then.
    pub fn log_start(&self, partition: Partition, until: Moment) -> Offset {
        let known = self.log_starts.partition_point(|&(of, from, _)| (of, from) <= (partition, until));
        match self.log_starts[..known].last() {
            Some(&(of, _, to)) if of == partition => to,
            _ => Offset::ZERO,
        }
    }

    /// Another record of the key may lie behind this offset; without an offset, anywhere.
    pub fn is_superseded(&self, partition: Partition, key: Option<Key>, offset: Option<Offset>) -> bool {
        let newest = key.and_then(|key| self.newest.get(&(partition, key)));
        newest.is_some_and(|&newest| offset.is_none_or(|offset| newest > offset))
    }
}
