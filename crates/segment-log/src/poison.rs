//! After a failed sync nothing is known about what the disk holds, so the directory is given up until a restart (S6).

use std::sync::{Arc, OnceLock};

use store_api::{DiskError, DiskOperation};

use crate::StoreError;

/// Set once, by the first failure.
#[derive(Debug, Default)]
pub(crate) struct Poison {
    reason: OnceLock<Arc<DiskError>>,
}

impl Poison {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.reason.get() {
            Some(reason) => Err(StoreError::Failed(Arc::clone(reason))),
            None => Ok(()),
        }
    }

    pub(crate) fn reason(&self) -> Option<Arc<DiskError>> {
        self.reason.get().cloned()
    }

    /// What a failed write means to the caller. A full disk is no failure, unless it was met by a sync: then pages that were
    /// already acknowledged to the writer may be gone.
    pub(crate) fn judge(&self, error: DiskError) -> StoreError {
        let by_sync = matches!(error.operation, DiskOperation::Sync | DiskOperation::SyncDirectory);
        if error.is_no_space() && !by_sync {
            return StoreError::NoSpace;
        }
        self.give_up(error)
    }

    pub(crate) fn give_up(&self, error: DiskError) -> StoreError {
        StoreError::Failed(Arc::clone(self.reason.get_or_init(|| Arc::new(error))))
    }
}

#[cfg(test)]
mod tests {
    use store_api::DiskErrorKind;

    use super::*;

    #[test]
    fn the_first_reason_wins_and_a_full_disk_is_none() {
        let poison = Poison::default();
        let error = |path: &str, kind| DiskError::new(DiskOperation::Write, path, kind);
        assert!(matches!(poison.judge(error("a", DiskErrorKind::NoSpace)), StoreError::NoSpace));
        assert!(poison.check().is_ok());
        for operation in [DiskOperation::Sync, DiskOperation::SyncDirectory] {
            let met_by_sync = Poison::default();
            met_by_sync.judge(DiskError::new(operation, "a", DiskErrorKind::NoSpace));
            assert!(met_by_sync.check().is_err(), "{operation:?}");
        }
        poison.judge(error("b", DiskErrorKind::Failed));
        poison.judge(error("c", DiskErrorKind::Failed));
        assert_eq!(poison.reason().map(|reason| reason.path.clone()).as_deref(), Some("b"));
        assert!(matches!(poison.check(), Err(StoreError::Failed(_))));
    }
}
