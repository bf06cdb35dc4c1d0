//! Open segment files, the least recently used of which is closed: an idle partition holds none.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base_types::{Offset, TopicPartition};
use store_api::{DiskError, FileUse, Vfs, VfsFile};

use super::path;

type Key = (TopicPartition, Offset);

pub(crate) struct SegmentFiles {
    vfs: Arc<dyn Vfs>,
    open_max: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    files: BTreeMap<Key, (Arc<dyn VfsFile>, u64)>,
    clock: u64,
}

impl SegmentFiles {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, open_max: usize) -> SegmentFiles {
        SegmentFiles { vfs, open_max: open_max.max(1), open: Mutex::default() }
    }

    pub(crate) fn open(&self, tp: TopicPartition, base: Offset) -> Result<Arc<dyn VfsFile>, DiskError> {
        let key = (tp, base);
        {
            let mut open = self.lock();
            open.clock += 1;
            let clock = open.clock;
            if let Some((file, used)) = open.files.get_mut(&key) {
                *used = clock;
                return Ok(Arc::clone(file));
            }
        }
        let file = self.vfs.open(&path(tp, base), FileUse::Journal)?;
        Ok(self.keep(key, file))
    }

    /// Makes the file, empty. Its name is not durable yet.
    pub(crate) fn create(&self, tp: TopicPartition, base: Offset) -> Result<Arc<dyn VfsFile>, DiskError> {
        let file = self.vfs.create(&path(tp, base), FileUse::Journal)?;
        Ok(self.keep((tp, base), file))
    }

    /// Removes the file; none there is as good.
    pub(crate) fn remove(&self, tp: TopicPartition, base: Offset) -> Result<(), DiskError> {
        self.lock().files.remove(&(tp, base));
        match self.vfs.remove(&path(tp, base)) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn close_partition(&self, tp: TopicPartition) {
        self.lock().files.retain(|(of, _), _| *of != tp);
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().files.len()
    }

    fn keep(&self, key: Key, file: Arc<dyn VfsFile>) -> Arc<dyn VfsFile> {
        let mut open = self.lock();
        open.clock += 1;
        let clock = open.clock;
        open.files.insert(key, (Arc::clone(&file), clock));
        while open.files.len() > self.open_max {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
            let Some(oldest) = oldest else { break };
            open.files.remove(&oldest);
        }
        file
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
