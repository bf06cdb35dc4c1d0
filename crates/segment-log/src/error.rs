//! What the log answers when it cannot do what was asked.

use std::{fmt, sync::Arc};

use base_types::{LeaderEpoch, Offset, TopicPartition};
use record_batch::BatchError;
use store_api::{DiskError, KvError};

/// Why a change was not made.
#[derive(Clone, Debug)]
pub enum StoreError {
    /// The disk is full. Retriable and definite: nothing was appended.
    NoSpace,
    /// The directory has failed and stays failed for the life of this process (S6). The first reason is kept. Not retriable;
    /// indefinite for the change that met the failure, definite for all later ones.
    Failed(Arc<DiskError>),
    /// There is no such replica here.
    NoReplica(TopicPartition),
    /// There is one already.
    ReplicaExists(TopicPartition),
    /// A stored batch that is needed to make the change is damaged (S2).
    Corrupt(CorruptBatch),
    /// The store of derived state failed. The log itself is not affected.
    Kv(KvError),
}

impl StoreError {
    /// Whether the same call may succeed later in this process.
    pub fn is_retriable(&self) -> bool {
        matches!(self, StoreError::NoSpace | StoreError::Kv(_))
    }

    /// Whether it is certain that the change was not made, now and after a restart.
    pub fn is_definite(&self) -> bool {
        !matches!(self, StoreError::Failed(_))
    }
}

/// Why nothing was read.
#[derive(Clone, Debug)]
pub enum ReadError {
    /// The offset is outside the log.
    OutOfRange { log_start: Offset, log_end: Offset },
    /// There is no such replica here.
    NoReplica(TopicPartition),
    /// A batch below the durable end is damaged: the replica must be given up and fetched anew (S2, S3).
    Corrupt(CorruptBatch),
    /// The disk could not be read.
    Disk(DiskError),
}

/// Bytes on the disk are not the batch that was written there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CorruptBatch {
    pub tp: TopicPartition,
    pub segment: Offset,
    pub position: u64,
    pub damage: Damage,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Damage {
    /// Not a batch, or its checksum does not match.
    Batch(BatchError),
    /// A good batch that does not belong here.
    Misplaced { expected: Offset, found: Offset },
    /// The file ends within the log.
    Short { wanted: u64, have: u64 },
    /// The file is not there.
    Missing,
    /// A good batch, but not of the leader epoch that the log had there.
    Epoch { expected: LeaderEpoch, found: LeaderEpoch },
    /// A block of the journal that held, or may have held, a part of the log cannot be read: where the log ends is not known.
    Journal { block: u64 },
}

impl Damage {
    /// Whether more than what is damaged is lost: where the log ends.
    pub fn hides_end(&self) -> bool {
        matches!(self, Damage::Journal { .. })
    }

    /// One word, for names.
    pub fn word(&self) -> &'static str {
        match self {
            Damage::Batch(_) => "damaged",
            Damage::Misplaced { .. } | Damage::Epoch { .. } => "misplaced",
            Damage::Short { .. } => "short",
            Damage::Missing => "missing",
            Damage::Journal { .. } => "journal",
        }
    }
}

/// Why a data directory cannot be opened. Nothing in it was changed.
#[derive(Clone, Debug)]
pub enum OpenError {
    Disk(DiskError),
    /// The manifest is missing though the directory has data (C10). It is not treated as empty.
    ManifestMissing,
    /// The manifest is damaged.
    ManifestDamaged {
        reason: &'static str,
    },
    /// It was written by a later version.
    VersionUnknown {
        file: &'static str,
        version: u16,
    },
    /// A journal block below the durable end is damaged (S2), and there is no room to set the journal aside before what is left of
    /// it is used.
    JournalDamaged {
        block: u64,
        source: DiskError,
    },
    /// A journal block is whole but says what cannot be.
    JournalImpossible {
        block: u64,
        tp: TopicPartition,
        reason: &'static str,
    },
    /// Applying the journal failed.
    Store(StoreError),
}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> OpenError {
        OpenError::Disk(error)
    }
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> OpenError {
        OpenError::Store(error)
    }
}

impl From<CorruptBatch> for ReadError {
    fn from(corrupt: CorruptBatch) -> ReadError {
        ReadError::Corrupt(corrupt)
    }
}

impl From<DiskError> for ReadError {
    fn from(error: DiskError) -> ReadError {
        ReadError::Disk(error)
    }
}

impl fmt::Display for CorruptBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} segment {} position {}: {}", self.tp, self.segment, self.position, self.damage)
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Batch(error) => write!(f, "{error}"),
            Damage::Misplaced { expected, found } => {
                write!(f, "expected the batch of offset {expected}, found that of {found}")
            }
            Damage::Short { wanted, have } => write!(f, "{wanted} bytes should be there, {have} are"),
            Damage::Missing => f.write_str("the file is not there"),
            Damage::Epoch { expected, found } => {
                write!(f, "expected a batch of leader epoch {expected}, found one of {found}")
            }
            Damage::Journal { block } => {
                write!(f, "block {block} of the journal cannot be read, so it is not known where the log ends")
            }
        }
    }
}

impl std::error::Error for CorruptBatch {}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::NoSpace => f.write_str("the data directory is full"),
            StoreError::Failed(_) => f.write_str("the data directory has failed and stays failed until a restart"),
            StoreError::NoReplica(tp) => write!(f, "there is no replica of {tp} here"),
            StoreError::ReplicaExists(tp) => write!(f, "there is a replica of {tp} here already"),
            StoreError::Corrupt(_) => f.write_str("a stored batch is damaged"),
            StoreError::Kv(_) => f.write_str("derived state could not be written or read"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Failed(error) => Some(&**error),
            StoreError::Corrupt(error) => Some(error),
            StoreError::Kv(error) => Some(error),
            StoreError::NoSpace | StoreError::NoReplica(_) | StoreError::ReplicaExists(_) => None,
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::OutOfRange { log_start, log_end } => {
                write!(f, "the offset is outside the log, which is from {log_start} to {log_end}")
            }
            ReadError::NoReplica(tp) => write!(f, "there is no replica of {tp} here"),
            ReadError::Corrupt(_) => f.write_str("a stored batch is damaged"),
            ReadError::Disk(_) => f.write_str("the disk could not be read"),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadError::Corrupt(error) => Some(error),
            ReadError::Disk(error) => Some(error),
            ReadError::OutOfRange { .. } | ReadError::NoReplica(_) => None,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Disk(_) => f.write_str("the data directory cannot be read or written"),
            OpenError::ManifestMissing => {
                f.write_str("the data directory has data but no manifest; it is not taken for an empty one")
            }
            OpenError::ManifestDamaged { reason } => write!(
                f,
                "the manifest and its copy are damaged ({reason}). Nothing was changed. Where other nodes hold these \
                 replicas, move the data directory aside and start again: they are fetched anew"
            ),
            OpenError::VersionUnknown { file, version } => {
                write!(f, "the {file} has format version {version}, which is newer than this program")
            }
            OpenError::JournalDamaged { block, .. } => write!(
                f,
                "block {block} of the journal is damaged, and the journal cannot be set aside for whoever wants to look at it"
            ),
            OpenError::JournalImpossible { block, tp, reason } => {
                write!(f, "journal block {block} says of partition {tp} what cannot be: {reason}")
            }
            OpenError::Store(_) => f.write_str("the journal could not be applied"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Disk(error) => Some(error),
            OpenError::Store(error) => Some(error),
            OpenError::JournalDamaged { source, .. } => Some(source),
            _ => None,
        }
    }
}
