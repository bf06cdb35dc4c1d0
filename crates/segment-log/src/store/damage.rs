//! What was found damaged: remembered, set aside when the caller says so, never deleted and never cut off (S2).
//!
//! A replica with damage goes on serving what is whole. Whether it is given up for another copy is not decided here.

use std::sync::{PoisonError, atomic::Ordering};

use base_types::{Offset, Timestamp, TopicPartition};
use store_api::FileUse;

use super::LogStore;
use crate::{
    ReadError, StoreError,
    error::CorruptBatch,
    replica::{Replica, State},
    segment::{self, DIRECTORY},
};

impl LogStore {
    /// What was found first in this replica that is not as it was written.
    pub fn damage(&self, tp: TopicPartition) -> Option<CorruptBatch> {
        self.replica(tp).ok()?.state().damage.clone()
    }

    /// The damage that was found since this was asked last. Replicas that were damaged before the directory was opened are not in it.
    pub fn take_damage_news(&self) -> Vec<CorruptBatch> {
        std::mem::take(&mut *self.damage_news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every damaged replica, with what was found first.
    pub fn damaged(&self) -> Vec<CorruptBatch> {
        let replicas: Vec<_> = self.read_replicas().values().cloned().collect();
        replicas.iter().filter_map(|replica| replica.state().damage.clone()).collect()
    }

    /// Moves the files of a damaged replica aside, under a name that says when and why, with the cause in words in a file beside them;
    /// the replica is then an empty one that starts at 0. Returns the name; `None`, and nothing done, when the replica is not
    /// damaged. The caller must know that others hold what it held, and that nobody counts on this copy (R13).
    pub fn set_aside(&self, tp: TopicPartition, now: Timestamp) -> Result<Option<String>, StoreError> {
        let replica = self.replica(tp)?;
        let journal = self.begin_change(1)?;
        let mut placing = replica.placing();
        let Some(found) = replica.state().damage.clone() else { return Ok(None) };
        // What only the journal has belongs to it.
        self.place_pending(&replica, &mut placing)?;
        let directory = segment::directory(tp);
        let aside = format!("{directory}.quarantine-{}-{}", now.0, found.damage.word());
        let judge = |error| self.poison.judge(error);
        let segments: Vec<Offset> = replica.state().segments.iter().map(|segment| segment.base).collect();
        self.vfs.create_dir(&directory).map_err(judge)?;
        let cause = self.vfs.create(&format!("{directory}/cause"), FileUse::Buffered).map_err(judge)?;
        cause.write_at(0, &[format!("{found}\n").as_bytes()]).map_err(judge)?;
        cause.sync_data().map_err(judge)?;
        for base in segments {
            // For whoever looks at it later; what cannot be synced is not worth more than that.
            let _ = self.files.open(tp, base).and_then(|file| file.sync_data());
        }
        self.vfs.sync_dir(&directory).map_err(judge)?;
        self.files.close_partition(tp);
        self.vfs.rename(&directory, &aside).map_err(judge)?;
        // Before the journal says that the log is empty: should that be lost, the files are missing, and that is noticed.
        self.vfs.sync_dir(DIRECTORY).map_err(judge)?;
        placing.directory_ready = false;
        self.reset_locked(&replica, journal, &mut placing, Offset::ZERO)?;
        Ok(Some(aside))
    }

    /// Remembers damage that a read has met, unless the log was changed there meanwhile: then what was read proves nothing.
    /// `cut`: of the log when the read began.
    pub(super) fn noted<T>(&self, replica: &Replica, cut: u64, result: Result<T, ReadError>) -> Result<T, ReadError> {
        let Err(ReadError::Corrupt(found)) = result else { return result };
        let is_there = {
            let state = replica.state();
            let holds = |state: &State| state.segments.iter().any(|segment| segment.base == found.segment);
            !state.deleted && state.cut == cut && holds(&state)
        };
        if !is_there {
            let state = replica.state();
            return Err(ReadError::OutOfRange { log_start: state.log_start, log_end: state.log_end });
        }
        self.note_damage(replica, found.clone());
        Err(ReadError::Corrupt(found))
    }

    pub(super) fn note_damage(&self, replica: &Replica, found: CorruptBatch) {
        let mut state = replica.state();
        if state.damage.is_none() {
            state.damage = Some(found.clone());
            self.damage_news.lock().unwrap_or_else(PoisonError::into_inner).push(found);
            self.counters.damaged.fetch_add(1, Ordering::Relaxed);
        }
    }
}
