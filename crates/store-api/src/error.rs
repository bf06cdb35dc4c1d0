//! What can go wrong below the log, told by operation and path.

use std::{fmt, sync::Arc};

/// What was tried.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DiskOperation {
    Open,
    Read,
    Write,
    Sync,
    Resize,
    Rename,
    Remove,
    CreateDirectory,
    SyncDirectory,
    List,
    FreeSpace,
}

/// What a caller can act upon; everything else is `Failed`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DiskErrorKind {
    NotFound,
    AlreadyExists,
    /// The disk is full. Retriable: nothing that was there is lost.
    NoSpace,
    /// Only from [`crate::MemVfs`]: the machine has lost power.
    Crashed,
    Failed,
}

/// A disk operation failed.
#[derive(Clone, Debug)]
pub struct DiskError {
    pub operation: DiskOperation,
    pub path: String,
    pub kind: DiskErrorKind,
    pub source: Option<Arc<std::io::Error>>,
}

impl DiskError {
    pub fn new(operation: DiskOperation, path: &str, kind: DiskErrorKind) -> DiskError {
        DiskError { operation, path: path.to_owned(), kind, source: None }
    }

    pub fn from_io(operation: DiskOperation, path: &str, error: std::io::Error) -> DiskError {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => DiskErrorKind::NotFound,
            std::io::ErrorKind::AlreadyExists => DiskErrorKind::AlreadyExists,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => DiskErrorKind::NoSpace,
            _ => DiskErrorKind::Failed,
        };
        DiskError { operation, path: path.to_owned(), kind, source: Some(Arc::new(error)) }
    }

    pub fn is_not_found(&self) -> bool {
        self.kind == DiskErrorKind::NotFound
    }

    pub fn is_no_space(&self) -> bool {
        self.kind == DiskErrorKind::NoSpace
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.operation {
            DiskOperation::Open => "open",
            DiskOperation::Read => "read",
            DiskOperation::Write => "write",
            DiskOperation::Sync => "sync",
            DiskOperation::Resize => "resize",
            DiskOperation::Rename => "rename",
            DiskOperation::Remove => "remove",
            DiskOperation::CreateDirectory => "create the directory",
            DiskOperation::SyncDirectory => "sync the directory",
            DiskOperation::List => "list",
            DiskOperation::FreeSpace => "ask for the free space of",
        };
        let why = match self.kind {
            DiskErrorKind::NotFound => "it does not exist",
            DiskErrorKind::AlreadyExists => "it exists already",
            DiskErrorKind::NoSpace => "the disk is full",
            DiskErrorKind::Crashed => "the machine has lost power",
            DiskErrorKind::Failed => "the disk reported an error",
        };
        write!(f, "cannot {what} {:?}: {why}", self.path)
    }
}

impl std::error::Error for DiskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|error| error as _)
    }
}

/// The store of derived state failed. What it held can be rebuilt from the log, so this is never a loss.
#[derive(Clone, Debug)]
pub struct KvError {
    pub operation: &'static str,
    pub detail: String,
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store of derived state failed to {}: {}", self.operation, self.detail)
    }
}

impl std::error::Error for KvError {}
