//! What the disk says, and what is kept on it beside the log.

use base_types::{Now, Offset, TopicPartition};
use bytes::Bytes;
use record_batch::StampedBatch;
use replica_core::{OnDisk, Replica, WriteFailure, WriteId};

use super::{StorageNode, metadata};
use crate::effect::{Effect, Effects};

/// Derived state is kept anew after so many bytes, so that rebuilding it after a crash reads at most as much.
const CHECKPOINT_BYTES: usize = 16 << 20;
/// How long producers are held off after the disk said that it is full. Replicas try their writes again more often than that.
const FULL_DISK_PAUSE_MS: u64 = 500;
/// How soon a replica that could not be opened is tried again.
pub(super) const REOPEN_MS: u64 = 5_000;

/// What was derived from the log below `as_of`, which is not all durable yet.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) as_of: Offset,
    pub(super) producer_state: Bytes,
}

impl StorageNode {
    pub(super) fn replica_opened(
        &mut self,
        now: Now,
        partition: TopicPartition,
        on_disk: OnDisk,
        effects: &mut Effects,
    ) {
        if self.is_given_away(partition) && self.slots.get(&partition).is_some_and(|slot| slot.replica.is_none()) {
            return self.release(now, partition, effects);
        }
        // The topic may have been deleted meanwhile: the deletion is on its way to the disk, after the opening.
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        slot.opening = false;
        slot.aside_in = None;
        if slot.replica.is_some() {
            return;
        }
        let settings = metadata::replica_settings(&slot.settings);
        let names = self.former.remove(&partition).unwrap_or_default();
        slot.replica = Some(Replica::new(self.me.broker, partition, settings, on_disk).with_names_after(names));
        self.schedule(partition, None);
        self.assign(now, partition, effects);
        self.link_to_leader_of(partition, effects);
    }

    /// Until it succeeds, the partition is without a replica here and requests are answered so. A full disk passes by itself.
    pub(super) fn replica_open_failed(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(&partition).filter(|slot| slot.replica.is_none()) else { return };
        slot.opening = false;
        slot.aside_in = None;
        if self.is_given_away(partition) {
            return self.release(now, partition, effects);
        }
        self.schedule(partition, Some(now.tick.plus_ms(REOPEN_MS)));
    }

    pub(super) fn reopen(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) {
        if self.is_given_away(partition) {
            return self.release(now, partition, effects);
        }
        let still_goes = self.still_goes_aside(partition);
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.opening = true;
            if still_goes {
                effects.push(Effect::SetReplicaAside { partition, settings: slot.settings.clone() });
                return;
            }
            slot.aside_in = None;
            effects.push(Effect::OpenReplica { partition, settings: slot.settings.clone() });
        }
    }

    pub(super) fn write(
        &mut self,
        partition: TopicPartition,
        write: WriteId,
        batch: StampedBatch,
        effects: &mut Effects,
    ) {
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        let Some(replica) = &slot.replica else { return };
        slot.bytes_since_checkpoint += batch.size();
        if slot.bytes_since_checkpoint >= CHECKPOINT_BYTES && slot.checkpoint.is_none() {
            slot.bytes_since_checkpoint = 0;
            let producer_state = replica.producers().encode();
            slot.checkpoint = Some(Checkpoint { as_of: replica.log_end(), producer_state });
        }
        effects.push(Effect::Write { partition, write, batch });
    }

    pub(super) fn write_completed(
        &mut self,
        now: Now,
        partition: TopicPartition,
        write: WriteId,
        result: Result<(), WriteFailure>,
        effects: &mut Effects,
    ) {
        self.replica_step(now, partition, replica_core::Event::WriteCompleted { write, result }, effects);
        match result {
            Ok(()) => self.keep_checkpoint(partition, effects),
            // Whatever is given to a full disk now waits in memory, so nothing more is let in, wherever it is for (S8).
            Err(WriteFailure::NoSpace) => {
                self.disk_full_until = now.tick.plus_ms(FULL_DISK_PAUSE_MS);
                self.coordinators.touch_all();
                self.trim_waits_no_more(partition, effects);
            }
            // There is one directory. Without it the node can only hand over what it leads, and be restarted (S6).
            Err(WriteFailure::Failed) => self.shutdown_requested(now, effects),
            // The others of this node are as they were.
            Err(WriteFailure::Corrupt) => {}
        }
    }

    /// The disk was asked for a cut. What was derived from the log that ends here is not kept (S4). A trim hardly ever waits then,
    /// because a follower opens when nothing is under way; one that does goes behind the cut, which begins where it would or later.
    pub(super) fn cut(&mut self, partition: TopicPartition, write: WriteId) {
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.cutting = Some(write);
            slot.checkpoint = None;
        }
    }

    pub(super) fn log_changed(
        &mut self,
        now: Now,
        partition: TopicPartition,
        write: WriteId,
        result: Result<OnDisk, WriteFailure>,
        effects: &mut Effects,
    ) {
        if result.is_ok()
            && let Some(slot) = self.slots.get_mut(&partition)
        {
            slot.cutting.take_if(|asked| *asked == write);
        }
        let is_lost = result == Err(WriteFailure::Failed);
        self.replica_step(now, partition, replica_core::Event::LogChanged { write, result }, effects);
        if is_lost {
            self.shutdown_requested(now, effects);
        }
    }

    /// Keeps what can be kept of every replica: for one with writes under way, or whose log is being cut, what was kept last.
    pub(super) fn checkpoint_all(&mut self, effects: &mut Effects) {
        let mut settled = Vec::new();
        for (&partition, slot) in &mut self.slots {
            let Some(replica) = &slot.replica else { continue };
            if replica.durable_end() == replica.log_end() && slot.cutting.is_none() {
                let producer_state = replica.producers().encode();
                slot.checkpoint = Some(Checkpoint { as_of: replica.log_end(), producer_state });
                settled.push(partition);
            }
        }
        for partition in settled {
            self.keep_checkpoint(partition, effects);
        }
    }

    /// Has the checkpoint kept if everything that it was derived from is durable (S4).
    pub(super) fn keep_checkpoint(&mut self, partition: TopicPartition, effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        let Some(replica) = &slot.replica else { return };
        let durable_end = replica.durable_end();
        if let Some(Checkpoint { as_of, producer_state }) = slot.checkpoint.take_if(|kept| kept.as_of <= durable_end) {
            let high_watermark = replica.high_watermark().min(durable_end);
            effects.push(Effect::Checkpoint { partition, as_of, high_watermark, producer_state });
        }
        if slot.checkpoint.is_none() {
            self.trim_waits_no_more(partition, effects);
        }
    }
}
