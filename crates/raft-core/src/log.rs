//! The log in memory, as raft-rs wants to read it. What is durable of it is the owner's business.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) hard_state: HardState,
    pub(crate) conf_state: ConfState,
    /// The newest one; entries below it may still be kept for followers that are only a little behind.
    pub(crate) snapshot: Snapshot,
    /// Index and term of the entry before the first kept one.
    base: (u64, u64),
    entries: VecDeque<Entry>,
    /// Payload bytes of the entries above the snapshot.
    bytes_since_snapshot: u64,
}

impl Log {
    pub(crate) fn new(hard_state: HardState, conf_state: ConfState, snapshot: Snapshot, base: (u64, u64)) -> Log {
        Log { hard_state, conf_state, snapshot, base, entries: VecDeque::new(), bytes_since_snapshot: 0 }
    }

    pub(crate) fn first(&self) -> u64 {
        self.base.0 + 1
    }

    pub(crate) fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    pub(crate) fn bytes_since_snapshot(&self) -> u64 {
        self.bytes_since_snapshot
    }

    /// Appends, after removing whatever the first of them contradicts. True when something was removed.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> bool {
        let Some(first) = entries.first() else { return false };
        let replaces = first.index <= self.last();
        if replaces {
            self.entries.truncate((first.index - self.first()) as usize);
        }
        self.bytes_since_snapshot += entries.iter().map(|entry| entry.data.len() as u64 + 32).sum::<u64>();
        self.entries.extend(entries.iter().cloned());
        replaces
    }

    /// Replaces the log by a leader's snapshot.
    pub(crate) fn install(&mut self, snapshot: Snapshot) {
        let meta = snapshot.get_metadata();
        self.base = (meta.index, meta.term);
        self.conf_state = meta.get_conf_state().clone();
        self.entries.clear();
        self.bytes_since_snapshot = 0;
        self.snapshot = snapshot;
    }

    /// Takes a snapshot of our own and forgets the entries below `keep_from`.
    pub(crate) fn compact(&mut self, snapshot: Snapshot, keep_from: u64) {
        let keep_from = keep_from.min(snapshot.get_metadata().index + 1);
        if keep_from > self.first() {
            let before = keep_from - 1;
            let term = self.entries[(before - self.first()) as usize].term;
            self.entries.drain(..(keep_from - self.first()) as usize);
            self.base = (before, term);
        }
        self.bytes_since_snapshot = 0;
        self.snapshot = snapshot;
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        let offset = self.first();
        let range = (low - offset) as usize..(high - offset) as usize;
        let mut entries: Vec<Entry> = self.entries.range(range).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        if index < self.base.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        match self.entries.get((index - self.first()) as usize) {
            Some(entry) => Ok(entry.term),
            None => Err(raft::Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        if self.snapshot.is_empty() || self.snapshot.get_metadata().index < request_index {
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(self.snapshot.clone())
    }
}
