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
    /// Files made, removed or forgotten so far.
    changes: u64,
}

impl SegmentFiles {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, open_max: usize) -> SegmentFiles {
        SegmentFiles { vfs, open_max: open_max.max(1), open: Mutex::default() }
    }

    pub(crate) fn open(&self, tp: TopicPartition, base: Offset) -> Result<Arc<dyn VfsFile>, DiskError> {
        let key = (tp, base);
        loop {
            let changes = {
                let mut open = self.lock();
                open.clock += 1;
                let clock = open.clock;
                if let Some((file, used)) = open.files.get_mut(&key) {
                    *used = clock;
                    return Ok(Arc::clone(file));
                }
                open.changes
            };
            let file = self.vfs.open(&path(tp, base), FileUse::Journal)?;
            // Meanwhile it may have been removed, and another made under its name: then that one is meant.
            let mut open = self.lock();
            if open.changes == changes {
                open.keep(key, &file, self.open_max);
                return Ok(file);
            }
        }
    }

    /// Makes the file, empty. Its name is not durable yet.
    pub(crate) fn create(&self, tp: TopicPartition, base: Offset) -> Result<Arc<dyn VfsFile>, DiskError> {
        let file = self.vfs.create(&path(tp, base), FileUse::Journal)?;
        let mut open = self.lock();
        open.changes += 1;
        open.keep((tp, base), &file, self.open_max);
        Ok(file)
    }

    /// Removes the file; none there is as good.
    pub(crate) fn remove(&self, tp: TopicPartition, base: Offset) -> Result<(), DiskError> {
        let removed = self.vfs.remove(&path(tp, base));
        let mut open = self.lock();
        open.changes += 1;
        open.files.remove(&(tp, base));
        match removed {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn close_partition(&self, tp: TopicPartition) {
        let mut open = self.lock();
        open.changes += 1;
        open.files.retain(|(of, _), _| *of != tp);
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().files.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn keep(&mut self, key: Key, file: &Arc<dyn VfsFile>, open_max: usize) {
        self.clock += 1;
        self.files.insert(key, (Arc::clone(file), self.clock));
        while self.files.len() > open_max {
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
            let Some(oldest) = oldest else { break };
            self.files.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use store_api::MemVfs;

    use super::*;

    type Meanwhile = Box<dyn FnOnce() + Send>;

    /// Something happens between the opening of a file and the return to whoever asked.
    struct Slow {
        vfs: MemVfs,
        meanwhile: Mutex<Option<Meanwhile>>,
    }

    impl Vfs for Slow {
        fn open(&self, path: &str, file_use: FileUse) -> Result<Arc<dyn VfsFile>, DiskError> {
            let file = self.vfs.open(path, file_use);
            let meanwhile = self.meanwhile.lock().unwrap().take();
            if let Some(meanwhile) = meanwhile {
                meanwhile();
            }
            file
        }
        fn create(&self, path: &str, file_use: FileUse) -> Result<Arc<dyn VfsFile>, DiskError> {
            self.vfs.create(path, file_use)
        }
        fn create_dir(&self, path: &str) -> Result<(), DiskError> {
            self.vfs.create_dir(path)
        }
        fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
            self.vfs.rename(from, to)
        }
        fn remove(&self, path: &str) -> Result<(), DiskError> {
            self.vfs.remove(path)
        }
        fn remove_dir(&self, path: &str) -> Result<(), DiskError> {
            self.vfs.remove_dir(path)
        }
        fn sync_dir(&self, path: &str) -> Result<(), DiskError> {
            self.vfs.sync_dir(path)
        }
        fn list(&self, path: &str) -> Result<Vec<String>, DiskError> {
            self.vfs.list(path)
        }
        fn free_space(&self) -> Result<u64, DiskError> {
            self.vfs.free_space()
        }
    }

    #[test]
    fn a_file_that_was_removed_while_it_was_opened_does_not_take_the_place_of_the_next() {
        let tp = TopicPartition { topic: base_types::TopicId([7; 16]), partition: base_types::PartitionIndex(0) };
        let slow = Arc::new(Slow { vfs: MemVfs::new(), meanwhile: Mutex::default() });
        slow.create_dir(super::super::DIRECTORY).unwrap();
        slow.create_dir(&super::super::directory(tp)).unwrap();
        let files = Arc::new(SegmentFiles::new(slow.clone(), 8));
        files.create(tp, Offset(0)).unwrap().write_at(0, &[b"old"]).unwrap();
        files.close_partition(tp);
        let others = files.clone();
        *slow.meanwhile.lock().unwrap() = Some(Box::new(move || {
            others.remove(tp, Offset(0)).unwrap();
            others.create(tp, Offset(0)).unwrap().write_at(0, &[b"next"]).unwrap();
        }));
        assert_eq!(files.open(tp, Offset(0)).unwrap().size().unwrap(), 4);
        assert_eq!(files.open(tp, Offset(0)).unwrap().size().unwrap(), 4);
    }
}
