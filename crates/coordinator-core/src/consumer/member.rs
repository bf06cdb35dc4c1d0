//! One member of a group: what it said of itself, and what it was given.

use std::collections::BTreeSet;

use base_types::TopicPartition;
use peer_api::groups::Caller;

use super::partitions::{self, Owned};
use crate::records::{ClassicMemberMetadata, ConsumerMemberValue, CurrentMemberValue, CurrentTopic};

/// Told by a member that leaves for good.
pub const LEAVE: i32 = -1;
/// Told by a static member that means to come back; and its epoch until then.
pub const LEAVE_TO_RETURN: i32 = -2;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Member {
    pub description: Description,
    pub current: Current,
}

/// What the member said of itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Description {
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub subscribed_names: BTreeSet<String>,
    /// Empty: the member said that it has none.
    pub subscribed_regex: Option<String>,
    pub rebalance_timeout_ms: i32,
    pub server_assignor: Option<String>,
    /// It speaks the classic protocol.
    pub classic: Option<ClassicMemberMetadata>,
}

/// What the member was given.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Current {
    pub epoch: i32,
    /// A member that did not hear of its newest epoch still speaks with this one.
    pub previous_epoch: i32,
    pub state: State,
    pub assigned: Owned,
    /// Taken from it, and not yet given up by it: nobody else may have them (G1).
    pub pending_revocation: Owned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum State {
    /// It has all that it was given in its epoch.
    #[default]
    Stable,
    /// It must give something up before it may move to the next epoch.
    UnrevokedPartitions,
    /// It is in its epoch, but something meant for it is still with others.
    UnreleasedPartitions,
    /// Written by a newer version.
    Unknown,
}

impl State {
    fn number(self) -> i8 {
        match self {
            State::Stable => 0,
            State::UnrevokedPartitions => 1,
            State::UnreleasedPartitions => 2,
            State::Unknown => 127,
        }
    }

    fn numbered(number: i8) -> State {
        match number {
            0 => State::Stable,
            1 => State::UnrevokedPartitions,
            2 => State::UnreleasedPartitions,
            _ => State::Unknown,
        }
    }
}

impl Member {
    pub fn is_classic(&self) -> bool {
        self.description.classic.is_some()
    }

    pub fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.current.state == State::Stable && self.current.epoch == epoch
    }
}

impl Description {
    pub fn regex(&self) -> Option<&str> {
        self.subscribed_regex.as_deref().filter(|regex| !regex.is_empty())
    }

    pub fn called_by(&mut self, caller: &Caller) {
        self.client_id.clone_from(&caller.client_id);
        self.client_host.clone_from(&caller.client_host);
    }

    pub fn to_value(&self) -> ConsumerMemberValue {
        ConsumerMemberValue {
            instance_id: self.instance_id.clone(),
            rack_id: self.rack_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            subscribed_topic_names: self.subscribed_names.iter().cloned().collect(),
            subscribed_topic_regex: self.subscribed_regex.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            server_assignor: self.server_assignor.clone(),
            classic: self.classic.clone(),
        }
    }

    pub fn from_value(value: &ConsumerMemberValue) -> Description {
        Description {
            instance_id: value.instance_id.clone(),
            rack_id: value.rack_id.clone(),
            client_id: value.client_id.clone(),
            client_host: value.client_host.clone(),
            subscribed_names: value.subscribed_topic_names.iter().cloned().collect(),
            subscribed_regex: value.subscribed_topic_regex.clone(),
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            server_assignor: value.server_assignor.clone(),
            classic: value.classic.clone(),
        }
    }
}

impl Current {
    /// Everything that nobody else may have.
    pub fn held(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        self.assigned.keys().chain(self.pending_revocation.keys()).copied()
    }

    pub fn to_value(&self) -> CurrentMemberValue {
        CurrentMemberValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state.number(),
            assigned: to_topics(&self.assigned),
            pending_revocation: to_topics(&self.pending_revocation),
        }
    }

    pub fn from_value(value: &CurrentMemberValue) -> Current {
        Current {
            epoch: value.member_epoch,
            previous_epoch: value.previous_member_epoch,
            state: State::numbered(value.state),
            assigned: from_topics(&value.assigned, value.member_epoch),
            pending_revocation: from_topics(&value.pending_revocation, value.member_epoch),
        }
    }
}

fn to_topics(owned: &Owned) -> Vec<CurrentTopic> {
    partitions::by_topic(owned.keys())
        .into_iter()
        .map(|(topic_id, partitions)| {
            let epoch = |&partition| owned.get(&TopicPartition { topic: topic_id, partition }).copied().unwrap_or(0);
            let assignment_epochs = Some(partitions.iter().map(epoch).collect());
            CurrentTopic { topic_id, partitions, assignment_epochs }
        })
        .collect()
}

/// Records from before Kafka 4.3 have no epochs of partitions: the member's own is the latest it can be.
fn from_topics(topics: &[CurrentTopic], member_epoch: i32) -> Owned {
    let mut owned = Owned::new();
    for topic in topics {
        for (at, &partition) in topic.partitions.iter().enumerate() {
            let epoch = topic.assignment_epochs.as_ref().and_then(|epochs| epochs.get(at)).copied();
            owned.insert(TopicPartition { topic: topic.topic_id, partition }, epoch.unwrap_or(member_epoch));
        }
    }
    owned
}

#[cfg(test)]
mod tests {
    use base_types::{PartitionIndex, TopicId};

    use super::*;

    fn partition(topic: u8, partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicId([topic; 16]), partition: PartitionIndex(partition) }
    }

    #[test]
    fn what_a_member_was_given_survives_the_log() {
        let current = Current {
            epoch: 7,
            previous_epoch: 5,
            state: State::UnreleasedPartitions,
            assigned: [(partition(1, 0), 3), (partition(1, 2), 7), (partition(2, 1), 7)].into(),
            pending_revocation: [(partition(3, 0), 2)].into(),
        };
        assert_eq!(Current::from_value(&current.to_value()), current);
    }

    #[test]
    fn partitions_without_epochs_have_the_member_s() {
        let mut value = Current { epoch: 4, assigned: [(partition(1, 0), 3)].into(), ..Current::default() }.to_value();
        value.assigned[0].assignment_epochs = None;
        assert_eq!(Current::from_value(&value).assigned, [(partition(1, 0), 4)].into());
    }
}
