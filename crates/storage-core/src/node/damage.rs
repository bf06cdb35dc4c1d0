//! A replica that the disk found damaged: given up for another copy, when there is one and nobody counts on this one (S2, R13).
//!
//! ```text
//!   ReplicaDamaged ──► named in heartbeats ──► answered: given up, in a new leader epoch ──► the metadata show it ──► SetReplicaAside
//!                            ▲    │                                                                                       │
//!                            └────┘ no other is known to be sound: it stays, and what is damaged is refused               └─► opened, empty
//! ```
//!
//! What the metadata say is not enough: after any election a replica may be one that nobody counts on, while it is the only one in
//! which some record is sound. The data goes only when the controller has said that it may, and in the leader epoch that it named,
//! in which this replica has said nothing: what it reported before, of what it had, cannot bring the empty one into the ISR. Until
//! then it goes on as it is; what is whole is as good as ever. An answer that is lost costs another report and another epoch. Should
//! the process end in between, the damage is found again, as it was the first time.

use base_types::{LeaderEpoch, Now, TopicPartition};
use peer_api::metadata::PartitionState;
use peer_api::storage::ReadError;

use super::{Slot, StorageNode, disk};
use crate::effect::{Effect, Effects};

/// Of either kind, in one heartbeat. Those that nobody can stand in for come last, so that they keep no other from being named.
const NAMED_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Damaged {
    /// The last leader epoch in which it may have said anything.
    said_in: LeaderEpoch,
    /// The controller gives it up in this one.
    goes_in: Option<LeaderEpoch>,
}

impl Slot {
    /// What the disk has is damaged, and still in its place.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.is_some() || self.aside_in.is_some()
    }
}

impl StorageNode {
    pub(super) fn replica_damaged(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) {
        let known = self.image.partition(partition).map_or(LeaderEpoch::UNKNOWN, |state| state.leader_epoch);
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        // One that is being opened says so afterwards; what comes before may be about the one that was set aside.
        if !slot.is_damaged() && !slot.opening {
            slot.damaged = Some(Damaged { said_in: known, goes_in: None });
            self.report(now, effects);
        }
    }

    /// What the next heartbeat names: damaged, with the last epoch in which each may have said anything; not open, because they are being
    /// opened or the disk does not give them; and whether there are more.
    pub(super) fn unsound_replicas(&self) -> (Vec<(TopicPartition, LeaderEpoch)>, Vec<TopicPartition>, bool) {
        let damaged = self.slots.iter().filter_map(|(&partition, slot)| Some((partition, slot.damaged?.said_in)));
        let mut damaged: Vec<_> = damaged.collect();
        let not_open = self.slots.iter().filter(|(_, slot)| slot.replica.is_none());
        let mut not_open: Vec<_> = not_open.map(|(&partition, _)| partition).collect();
        let more = damaged.len().max(not_open.len()) > NAMED_MAX;
        if damaged.len() > NAMED_MAX {
            damaged.sort_by_key(|(partition, _)| !self.others_are_complete(*partition));
            damaged.truncate(NAMED_MAX);
        }
        not_open.truncate(NAMED_MAX);
        (damaged, not_open, more)
    }

    fn others_are_complete(&self, partition: TopicPartition) -> bool {
        let others =
            |state: &PartitionState| state.isr.iter().chain(&state.elr).any(|&member| member != self.me.broker);
        self.image.partition(partition).is_some_and(others)
    }

    /// The controller gives it up: it may go once the metadata show this epoch.
    pub(super) fn given_up(&mut self, partition: TopicPartition, epoch: LeaderEpoch) {
        if let Some(damaged) = self.slots.get_mut(&partition).and_then(|slot| slot.damaged.as_mut()) {
            damaged.goes_in = Some(epoch);
        }
    }

    /// Lets go of a damaged replica if it was given up in the epoch that the metadata name. If not, it goes on in that epoch.
    pub(super) fn set_aside(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) -> bool {
        let Some(Damaged { said_in, goes_in }) = self.slots.get(&partition).and_then(|slot| slot.damaged) else {
            return false;
        };
        let Some(state) = self.image.partition(partition) else { return false };
        let epoch = state.leader_epoch;
        // What is being opened would come back as what it was, and be taken for the one that begins anew.
        let is_open = self.slots.get(&partition).is_some_and(|slot| !slot.opening);
        let may_go =
            self.knows_this_life() && is_open && goes_in == Some(epoch) && epoch > said_in && self.is_spare(state);
        let replica = self.replica(partition);
        let idle =
            replica.map(|replica| replica_core::Event::MetadataChanged(replica_core::Assignment::of_nobody(replica)));
        let Some(slot) = self.slots.get_mut(&partition) else { return false };
        if !may_go {
            slot.damaged = Some(Damaged { said_in: said_in.max(epoch), goes_in });
            return false;
        }
        slot.damaged = None;
        slot.aside_in = Some(epoch);
        slot.opening = true;
        slot.cutting = None;
        slot.checkpoint = None;
        slot.trim = None;
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

    /// It is tried again. Opened as it is, it would speak in this epoch, and cost another.
    pub(super) fn not_set_aside(&mut self, now: Now, partition: TopicPartition) {
        if let Some(slot) = self.slots.get_mut(&partition).filter(|slot| slot.replica.is_none()) {
            slot.opening = false;
            self.schedule(partition, Some(now.tick.plus_ms(disk::REOPEN_MS)));
        }
    }

    /// Whether it has still to go, in the epoch in which it was given up. In a later one it goes on as it is, and is named again.
    pub(super) fn still_goes_aside(&self, partition: TopicPartition) -> bool {
        let Some(epoch) = self.slots.get(&partition).and_then(|slot| slot.aside_in) else { return false };
        let state = self.image.partition(partition);
        state.is_some_and(|state| state.leader_epoch == epoch && self.is_spare(state))
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
            Some(slot) if slot.is_damaged() => ReadError::StorageFailed,
            _ => ReadError::UnknownPartition,
        }
    }
}
