//! An ordered map for derived state.

use crate::KvError;

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvChange {
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Delete {
        key: Vec<u8>,
    },
    /// Removes every key that starts with `prefix`, which is not empty.
    DeletePrefix {
        prefix: Vec<u8>,
    },
}

/// Changes that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvBatch {
    pub changes: Vec<KvChange>,
}

impl KvBatch {
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.changes.push(KvChange::Put { key: key.into(), value: value.into() });
        self
    }

    pub fn delete(&mut self, key: impl Into<Vec<u8>>) -> &mut Self {
        self.changes.push(KvChange::Delete { key: key.into() });
        self
    }

    pub fn delete_prefix(&mut self, prefix: impl Into<Vec<u8>>) -> &mut Self {
        self.changes.push(KvChange::DeletePrefix { prefix: prefix.into() });
        self
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Whether a write must be there after a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KvDurability {
    /// Durable when the call returns, and with it every write before it.
    Synced,
    /// After a crash a prefix of such writes is there: a later one never without an earlier one.
    Lazy,
}

/// A key and its value.
pub type KvPair = (Vec<u8>, Vec<u8>);

/// Ordered keys and values. Holds only what can be rebuilt from the log (decision 2), so losing it costs time, and what is known of
/// producers whose batches have been deleted.
pub trait KvStore: Send + Sync {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;

    /// Keys that start with `prefix`, in order, at most `limit`; from `after` (exclusive) on when given.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KvPair>, KvError>;

    fn write(&self, batch: &KvBatch, durability: KvDurability) -> Result<(), KvError>;
}

/// The smallest key above every key that starts with `prefix`; `None` when there is none.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}
