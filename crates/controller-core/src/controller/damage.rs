//! Damaged replicas: which go, because another that is known to be sound holds what they held (S2, R13).
//!
//! Known is what the nodes say in their heartbeats. It is kept in memory: a new controller, and a node's new life, are heard before
//! anything goes that they could have saved.

use std::collections::BTreeSet;

use base_types::{BrokerId, LeaderEpoch, TopicPartition};
use peer_api::controller::BrokerHeartbeat;
use peer_api::metadata::PartitionState;

use super::{Controller, REBALANCE_MAX, changed, is_eligible};
use crate::partition_change::Change;

/// What is known of the replicas of one storage node.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// Its present life has said something.
    is_heard: bool,
    /// By its last word.
    damaged: BTreeSet<TopicPartition>,
    /// By the last word of an earlier life. The present one meets the damage when it reads there.
    doubted: BTreeSet<TopicPartition>,
    /// By its last word. What is in such a one nobody has seen.
    not_open: BTreeSet<TopicPartition>,
    /// It named not all of them: any may be one.
    more: bool,
    /// Nor did an earlier life.
    doubts_all: bool,
}

impl Condition {
    pub(super) fn begin_life(&mut self) {
        self.is_heard = false;
        self.doubted.append(&mut self.damaged);
        self.doubts_all |= self.more;
    }

    pub(super) fn hear(&mut self, heartbeat: &BrokerHeartbeat) {
        self.is_heard = true;
        self.damaged = heartbeat.damaged.iter().map(|(partition, _)| *partition).collect();
        self.doubted.retain(|partition| !self.damaged.contains(partition));
        self.not_open = heartbeat.not_open.iter().copied().collect();
        self.more = heartbeat.more;
    }

    /// As far as the node knows.
    fn is_sound(&self, partition: TopicPartition) -> bool {
        let unsound = [&self.damaged, &self.doubted, &self.not_open];
        self.is_heard
            && !self.more
            && !self.doubts_all
            && !unsound.into_iter().any(|unsound| unsound.contains(&partition))
    }
}

impl Controller {
    /// Damaged replicas are in neither leadership, ISR nor ELR, if another that can lead holds all that they held and is sound (R13).
    /// The leader epoch grows, so that what such a replica has reported to the leader brings it back into no ISR. The only copy
    /// stays what it is: nobody has more.
    pub(super) fn without_damaged(
        &self,
        id: BrokerId,
        damaged: &[(TopicPartition, LeaderEpoch)],
    ) -> Vec<(TopicPartition, PartitionState)> {
        let image = &self.pending;
        let mut without = Vec::new();
        for &(partition, said_in) in damaged {
            let Some(topic) = image.topic(partition.topic) else { continue };
            let Some(old) = topic.partition(partition.partition) else { continue };
            // A later epoch: it will be asked for again.
            if !old.replicas.contains(&id) || old.leader_epoch != said_in || without.len() == REBALANCE_MAX {
                continue;
            }
            let isr: Vec<BrokerId> = old.isr.iter().copied().filter(|member| *member != id).collect();
            let is_last = isr.is_empty() && !old.isr.is_empty();
            // It alone has what it acknowledged alone (acks=1). While it can be read, a member of the ELR comes back into the ISR first.
            if is_last && !self.is_shut(id, partition) {
                continue;
            }
            let complete = if isr.is_empty() { &old.elr } else { &isr };
            let can_stand_in =
                |&other: &BrokerId| other != id && is_eligible(image, other) && self.is_sound(other, partition);
            if !complete.iter().any(can_stand_in) {
                continue;
            }
            let change = Change { isr, lost: Some(id), wiped: true, new_epoch: true, ..Change::default() };
            without.extend(changed(image, &topic.name, old, &change).map(|state| (partition, state)));
        }
        without
    }

    fn is_shut(&self, id: BrokerId, partition: TopicPartition) -> bool {
        self.conditions.get(&id).is_some_and(|condition| condition.not_open.contains(&partition))
    }

    fn is_sound(&self, id: BrokerId, partition: TopicPartition) -> bool {
        self.conditions.get(&id).is_some_and(|condition| condition.is_sound(partition))
    }
}
