//! What the disk says, and what is kept on it beside the log.

use std::collections::BTreeSet;

use base_types::{Now, Tick, TopicPartition};
use record_batch::StampedBatch;
use replica_core::{OnDisk, Replica, WriteFailure, WriteId};

use super::{Slot, StorageNode};
use crate::effect::{Effect, Effects};

/// Derived state is kept anew after so many bytes, so that rebuilding it after a crash reads at most as much.
const CHECKPOINT_BYTES: usize = 16 << 20;
/// How long producers are held off after the disk said that it is full, and how long until the write is tried again.
const FULL_DISK_PAUSE_MS: u64 = 500;

/// Writes that found the disk full and wait to be tried again.
#[derive(Debug, Default)]
pub(super) struct Stall {
    writes: Vec<(TopicPartition, WriteId)>,
    until: Option<Tick>,
}

impl Stall {
    pub(super) fn is_short(&self) -> bool {
        self.until.is_some()
    }

    pub(super) fn next_deadline(&self) -> Option<Tick> {
        self.until
    }
}

impl StorageNode {
    pub(super) fn replica_opened(
        &mut self,
        now: Now,
        partition: TopicPartition,
        on_disk: OnDisk,
        effects: &mut Effects,
    ) {
        let settings = match self.slots.get_mut(&partition) {
            Some(Slot { settings, replica: None, .. }) => settings.clone(),
            _ => return,
        };
        let replica = Replica::new(self.me.broker, partition, super::metadata::replica_settings(&settings), on_disk);
        if let Some(slot) = self.slots.get_mut(&partition) {
            slot.replica = Some(replica);
        }
        self.assign(now, partition, effects);
    }

    /// The partition stays without a replica here: requests are answered with "not here", and the controller is not told
    /// anything false.
    pub(super) fn replica_open_failed(&mut self, partition: TopicPartition) {
        self.slots.remove(&partition);
    }

    pub(super) fn write(
        &mut self,
        partition: TopicPartition,
        write: WriteId,
        batch: StampedBatch,
        effects: &mut Effects,
    ) {
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        slot.bytes_since_checkpoint += batch.size();
        effects.push(Effect::Write { partition, write, batch });
        if slot.bytes_since_checkpoint >= CHECKPOINT_BYTES {
            self.checkpoint(partition, effects);
        }
    }

    pub(super) fn write_completed(
        &mut self,
        now: Now,
        partition: TopicPartition,
        write: WriteId,
        result: Result<(), WriteFailure>,
        effects: &mut Effects,
    ) {
        if result == Err(WriteFailure::NoSpace) {
            self.stall.writes.push((partition, write));
            self.stall.until = Some(now.tick.plus_ms(FULL_DISK_PAUSE_MS));
            return;
        }
        self.replica_step(now, partition, replica_core::Event::WriteCompleted { write, result }, effects);
    }

    pub(super) fn release_stalled_writes(&mut self, now: Now, effects: &mut Effects) {
        if self.stall.until.is_none_or(|until| until > now.tick) {
            return;
        }
        self.stall.until = None;
        for (partition, write) in std::mem::take(&mut self.stall.writes) {
            let result = Err(WriteFailure::NoSpace);
            self.replica_step(now, partition, replica_core::Event::WriteCompleted { write, result }, effects);
        }
    }

    pub(super) fn checkpoint_all(&mut self, effects: &mut Effects) {
        let open: BTreeSet<TopicPartition> = self.open_replicas().map(|(partition, _)| partition).collect();
        for partition in open {
            self.checkpoint(partition, effects);
        }
    }

    /// The writes before it in the same queue make `as_of` durable before the checkpoint is kept.
    fn checkpoint(&mut self, partition: TopicPartition, effects: &mut Effects) {
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        let Some(replica) = &slot.replica else { return };
        slot.bytes_since_checkpoint = 0;
        effects.push(Effect::Checkpoint {
            partition,
            as_of: replica.log_end(),
            high_watermark: replica.high_watermark(),
            producer_state: replica.producers().encode(),
        });
    }
}
