//! From the classic protocol to the consumer protocol and back, while the group lives (KIP-848, online migration).
//!
//! ```text
//!   Classic ── a consumer-protocol member joins ──► Consumer, its members on the classic protocol served on
//!   Classic ◄── the last consumer-protocol member is gone ── Consumer
//! ```
//!
//! What members own goes over with them, so that nobody has to give up anything because of the change itself: the target of
//! the new consumer group is what the leader of the classic group had assigned, in the epoch of its generation.
//!
//! Deviation from Kafka: going back always begins a rebalance; Kafka spares it when a static member that comes back in the
//! classic protocol is the last to go over.

use std::collections::BTreeMap;

use base_types::Timestamp;
use peer_api::metadata::Image;

use super::ConsumerGroup;
use super::classic_member::{PROTOCOL_TYPE, assignment, by_id};
use super::embedded::{Assignment, Subscription};
use super::member::{Current, Description, State};
use super::partitions::{self, Partitions};
use crate::event::Settings;
use crate::records::{
    ClassicGroupValue, ClassicMemberMetadata, ClassicMemberValue, ConsumerGroupValue, ConsumerRecord, Record,
    TargetAssignmentValue,
};
use crate::turn::Turn;

/// A group of the classic protocol as it goes over.
pub(crate) struct Leaving {
    pub generation: i32,
    pub members: Vec<LeavingMember>,
}

pub(crate) struct LeavingMember {
    /// `subscription` is of the protocol the group has chosen, or else of the member's first one.
    pub value: ClassicMemberValue,
    pub protocols: Vec<(String, bytes::Bytes)>,
}

/// Why a group cannot go over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stays {
    /// What members say to each other is not what ordinary consumers say.
    Malformed,
    /// The leader's assignor tells members more than their partitions, and it would be lost.
    UserData,
}

/// What each member says, and holds. What it was given last counts first; in the middle of a rebalance, when that may be
/// forgotten already, cooperative members hold on to what they say they own. A leader may have given a partition twice: it
/// goes to the first (G1).
fn holdings(leaving: &Leaving, image: &Image) -> Result<Vec<(Subscription, Partitions)>, Stays> {
    let mut given = Partitions::new();
    let mut all = Vec::with_capacity(leaving.members.len());
    for LeavingMember { value, .. } in &leaving.members {
        let subscription = Subscription::decode(&value.subscription).map_err(|_| Stays::Malformed)?;
        let assignment = Assignment::decode(&value.assignment).map_err(|_| Stays::Malformed)?;
        if !assignment.user_data.is_empty() {
            return Err(Stays::UserData);
        }
        let mut assigned = by_id(&assignment.partitions, image);
        assigned.retain(|partition| given.insert(*partition));
        all.push((subscription, assigned));
    }
    for (subscription, assigned) in &mut all {
        let owned = by_id(&subscription.owned, image);
        assigned.extend(owned.into_iter().filter(|partition| given.insert(*partition)));
    }
    Ok(all)
}

impl ConsumerGroup {
    /// The group that goes on from a classic one, and the records that say so.
    pub fn from_classic(leaving: &Leaving, image: &Image) -> Result<(ConsumerGroup, Vec<ConsumerRecord>), Stays> {
        let mut records = Vec::new();
        let mut rest = Vec::new();
        for (LeavingMember { value, protocols }, (subscription, assigned)) in
            leaving.members.iter().zip(holdings(leaving, image)?)
        {
            let description = Description {
                instance_id: value.group_instance_id.clone(),
                rack_id: subscription.rack_id.filter(|rack| !rack.is_empty()),
                client_id: value.client_id.clone(),
                client_host: value.client_host.clone(),
                subscribed_names: subscription.topics.into_iter().collect(),
                subscribed_regex: None,
                rebalance_timeout_ms: value.rebalance_timeout_ms,
                server_assignor: None,
                classic: Some(ClassicMemberMetadata {
                    session_timeout_ms: value.session_timeout_ms,
                    protocols: protocols.clone(),
                }),
            };
            let current = Current {
                epoch: leaving.generation,
                previous_epoch: leaving.generation,
                state: State::Stable,
                assigned: assigned.iter().map(|&partition| (partition, leaving.generation)).collect(),
                pending_revocation: BTreeMap::new(),
            };
            let member_id = value.member_id.clone();
            let target = Some(partitions::to_topics(&assigned));
            records.push(ConsumerRecord::Member { member_id: member_id.clone(), value: Some(description.to_value()) });
            rest.push(ConsumerRecord::TargetMember { member_id: member_id.clone(), value: target });
            rest.push(ConsumerRecord::CurrentMember { member_id, value: Some(current.to_value()) });
        }
        let mut group = ConsumerGroup::default();
        records.iter().for_each(|record| group.apply(record));
        let metadata_hash = group.hash(image);
        let value = ConsumerGroupValue { epoch: leaving.generation, metadata_hash };
        records.push(ConsumerRecord::Group(Some(value)));
        let target = TargetAssignmentValue { epoch: leaving.generation, ..TargetAssignmentValue::default() };
        rest.push(ConsumerRecord::TargetAssignment(Some(target)));
        records.extend(rest);
        let mut group = ConsumerGroup::default();
        records.iter().for_each(|record| group.apply(record));
        Ok((group, records))
    }

    /// All that is left speaks the classic protocol, and may have its group back.
    pub fn may_go_back(&self, settings: &Settings) -> bool {
        !self.members.is_empty()
            && self.members.values().all(|member| member.is_classic())
            && matches!(settings.consumer_migration_policy.as_str(), "downgrade" | "bidirectional")
            && self.members.len() <= settings.group_size_max
    }

    /// The classic group that goes on from this one. Its members are in the generation that was their epoch, and have what they
    /// hold: nobody is thrown out, and a rebalance gives them the rest.
    pub fn to_classic(&self, now: Timestamp, image: &Image) -> ClassicGroupValue {
        let protocol = self.common_protocol();
        let members: Vec<ClassicMemberValue> = self
            .members
            .iter()
            .filter_map(|(member_id, member)| {
                let classic = member.description.classic.as_ref()?;
                let chosen = classic.protocols.iter().find(|(name, _)| *name == protocol);
                let subscription = chosen.map(|(_, metadata)| metadata.clone()).unwrap_or_default();
                let version = Subscription::decode(&subscription).map_or(0, |subscription| subscription.version);
                Some(ClassicMemberValue {
                    member_id: member_id.clone(),
                    group_instance_id: member.description.instance_id.clone(),
                    client_id: member.description.client_id.clone(),
                    client_host: member.description.client_host.clone(),
                    rebalance_timeout_ms: member.description.rebalance_timeout_ms,
                    session_timeout_ms: classic.session_timeout_ms,
                    subscription,
                    assignment: assignment(member.current.assigned.keys(), image, version),
                })
            })
            .collect();
        ClassicGroupValue {
            protocol_type: PROTOCOL_TYPE.to_owned(),
            generation: self.assignment_epoch(),
            protocol: Some(protocol),
            leader: members.first().map(|member| member.member_id.clone()),
            state_since: now,
            members,
        }
    }

    /// The log forgets the group, and nobody's time runs any more.
    pub fn dissolve(&self, turn: &mut Turn<'_>) {
        self.members.keys().for_each(|member_id| self.cancel_timers(turn, member_id));
        for record in self.tombstones() {
            turn.write(Record::Consumer { group_id: turn.group_id.to_owned(), record });
        }
    }

    /// The first protocol of the first member that all have. Joins see to it that there is one.
    fn common_protocol(&self) -> String {
        let lists: Vec<&ClassicMemberMetadata> =
            self.members.values().filter_map(|member| member.description.classic.as_ref()).collect();
        let all_have = |name: &str| lists.iter().all(|list| list.protocols.iter().any(|(other, _)| other == name));
        let first = lists.first().into_iter().flat_map(|list| &list.protocols);
        first.map(|(name, _)| name.clone()).find(|name| all_have(name)).unwrap_or_default()
    }
}
