//! A replica that the disk found damaged: given up for another copy, when there is one and nobody counts on this one (S2, R13).
//!
//! ```text
//!   ReplicaDamaged ──► named in heartbeats ──► the controller takes it out, under a new leader epoch ──► SetReplicaAside ──► opened, empty
//!                            ▲    │                                                                                            │
//!                            └────┘ nobody else holds what it held: it stays, and what is damaged is refused                   └─► follows
//! ```
//!
//! The data goes aside only when the metadata say that others hold it, and in a leader epoch in which this replica has said nothing:
//! what it reported before, of what it had, cannot bring the empty one into the ISR. Until then it goes on as it is; what is whole is
//! as good as ever. Should the process end in between, the damage is found again, as it was the first time.

use base_types::{LeaderEpoch, Now, TopicPartition};
use peer_api::metadata::PartitionState;
use peer_api::storage::ReadError;

use super::{StorageNode, metadata};
use crate::effect::{Effect, Effects};

/// In one heartbeat. Those that nobody can stand in for come last, so that they keep no other from being named.
const NAMED_MAX: usize = 10_000;

impl StorageNode {
    pub(super) fn replica_damaged(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) {
        let known = self.image.partition(partition).map_or(LeaderEpoch::UNKNOWN, |state| state.leader_epoch);
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        // One that is being opened says so afterwards; what comes before may be about the one that was set aside.
        if slot.damaged.is_none() && !slot.opening {
            slot.damaged = Some(known);
            self.report(now, effects);
        }
    }

    /// What the next heartbeat names.
    pub(super) fn damaged_replicas(&self) -> Vec<(TopicPartition, LeaderEpoch)> {
        let damaged = self.slots.iter().filter_map(|(&partition, slot)| Some((partition, slot.damaged?)));
        let mut damaged: Vec<_> = damaged.collect();
        if damaged.len() > NAMED_MAX {
            damaged.sort_by_key(|(partition, _)| !self.others_are_complete(*partition));
            damaged.truncate(NAMED_MAX);
        }
        damaged
    }

    fn others_are_complete(&self, partition: TopicPartition) -> bool {
        let others =
            |state: &PartitionState| state.isr.iter().chain(&state.elr).any(|&member| member != self.me.broker);
        self.image.partition(partition).is_some_and(others)
    }

    /// Gives a damaged replica up if the metadata allow it. If not, it goes on in the epoch that they name.
    pub(super) fn set_aside(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) -> bool {
        let Some(said_in) = self.slots.get(&partition).and_then(|slot| slot.damaged) else { return false };
        let Some(state) = self.image.partition(partition) else { return false };
        let epoch = state.leader_epoch;
        // What is being opened would come back as what it was, and be taken for the one that begins anew.
        let is_open = self.slots.get(&partition).is_some_and(|slot| !slot.opening);
        let may_go = self.knows_this_life() && is_open && epoch > said_in && self.is_spare(state);
        let replica = self.replica(partition);
        let idle = replica.map(|replica| replica_core::Event::MetadataChanged(metadata::no_assignment(replica)));
        let Some(slot) = self.slots.get_mut(&partition) else { return false };
        if !may_go {
            slot.damaged = Some(said_in.max(epoch));
            return false;
        }
        slot.damaged = None;
        slot.opening = true;
        slot.cutting = None;
        slot.checkpoint = None;
        let settings = slot.settings.clone();
        if let Some(idle) = idle {
            // Whoever waits for it hears of it.
            self.replica_step(now, partition, idle, effects);
        }
        self.schedule(partition, None);
        if let Some(replica) = self.slots.get_mut(&partition).and_then(|slot| slot.replica.take()) {
            self.former.insert(partition, replica.names());
        }
        effects.push(Effect::SetReplicaAside { partition, settings });
        true
    }

    /// Another leads, and in no case is it this replica that does next.
    fn is_spare(&self, state: &PartitionState) -> bool {
        let me = self.me.broker;
        let counts = [&state.isr, &state.elr, &state.last_known_elr].into_iter().any(|members| members.contains(&me));
        state.leader.is_some_and(|leader| leader != me) && !counts
    }

    /// Why there is no open replica.
    pub(super) fn without_replica(&self, partition: TopicPartition) -> ReadError {
        match self.slots.get(&partition) {
            Some(slot) if slot.damaged.is_some() => ReadError::StorageFailed,
            _ => ReadError::UnknownPartition,
        }
    }
}
