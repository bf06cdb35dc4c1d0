//! Groups of the consumer protocol (KIP-848): the coordinator assigns, members only say what they want and what they own.
//!
//! ```text
//!  a heartbeat ─► members, regular expressions ──► group epoch ──► target assignment ──► what this member may have now
//!                 (what is wanted)                 (it changed)    (of all members)      (reconcile.rs)
//! ```
//!
//! Three epochs. The *group epoch* grows when members, subscriptions or the topics behind them change. The *assignment epoch*
//! is the group epoch for which the target was computed. The *member epoch* is the assignment epoch that a member has reached.
//! A partition goes from one member to another in two heartbeats: the first says that it owns it no more, then the second is
//! given it.
//!
//! The contract with the coordinator:
//!
//! - [`ConsumerGroup::apply`] folds one record; loading and live decisions use the same fold.
//! - A decision gets a [`Turn`](crate::turn::Turn), folds each record that it writes, and answers through the turn.
//! - A group that has folded away ([`ConsumerGroup::is_gone`]) is dropped by the coordinator.
//!
//! What it must not know: the other kind of group, Kafka's request formats, how records are written.
//!
//! Invariants kept: G1 (asserted where a member is given something), G6 (asserted in every decision), G7.
//!
//! Tested beside the pure modules, in `consumer/tests.rs` and, with random schedules, in `tests/consumer_groups.rs`.

pub mod assignor;
mod classic_member;
mod conversion;
mod describe;
mod embedded;
mod heartbeat;
mod member;
mod offsets;
mod partitions;
mod pattern;
mod reconcile;
mod target;

use std::collections::BTreeMap;

use base_types::{Tick, TopicPartition, invariant};
use peer_api::groups::GroupState;
use peer_api::metadata::MetadataOffset;

use crate::records::{ConsumerGroupValue, ConsumerRecord, Record, RegularExpressionValue, TargetAssignmentValue};
use crate::turn::Turn;

pub(crate) use conversion::{Leaving, LeavingMember, Stays};

use member::{Current, Description, LEAVE_TO_RETURN, Member};
use partitions::Partitions;

#[derive(Debug, Default)]
pub(crate) struct ConsumerGroup {
    // - what the log says -
    value: Option<ConsumerGroupValue>,
    target: Option<TargetAssignmentValue>,
    targets: BTreeMap<String, Partitions>,
    members: BTreeMap<String, Member>,
    /// What regular expressions stood for when they were resolved last.
    resolved: BTreeMap<String, RegularExpressionValue>,
    /// Kafka before 4.1 left a record that is not needed any more.
    has_partition_metadata: bool,

    // - what follows from it -
    /// By instance id.
    static_members: BTreeMap<String, String>,
    /// Who must be asked before anybody else gets a partition.
    holders: BTreeMap<TopicPartition, String>,
    /// How many members subscribe to a name, to a regular expression.
    names: BTreeMap<String, usize>,
    regexes: BTreeMap<String, usize>,
    /// Grows when the topics that the group subscribes to may be others.
    subscription_version: u64,

    // - what only this life knows -
    sessions: BTreeMap<String, Tick>,
    /// Members that must give something up, and the epoch that they must leave in time.
    revocations: BTreeMap<String, i32>,
    /// When the group epoch last grew, as far as this life knows.
    changed_at: Tick,
    /// The metadata that the regular expressions were last resolved against, and when that was.
    resolved_at: Option<(MetadataOffset, Tick)>,
    /// The hash of the subscribed topics, as of this metadata and this version of the subscription.
    hashed: Option<(MetadataOffset, u64, i64)>,
}

impl ConsumerGroup {
    /// Tolerant of what a half-compacted log may hold: the last word on a partition wins, and what is not there is not removed.
    pub fn apply(&mut self, record: &ConsumerRecord) {
        match record {
            ConsumerRecord::Group(value) => self.value = *value,
            ConsumerRecord::PartitionMetadata { present } => self.has_partition_metadata = *present,
            ConsumerRecord::Member { member_id, value: Some(value) } => {
                self.describe_member(member_id, Description::from_value(value));
            }
            ConsumerRecord::Member { member_id, value: None } => self.remove_member(member_id),
            ConsumerRecord::TargetAssignment(value) => self.target = *value,
            ConsumerRecord::TargetMember { member_id, value: Some(topics) } => {
                self.targets.insert(member_id.clone(), partitions::from_topics(topics));
            }
            ConsumerRecord::TargetMember { member_id, value: None } => {
                self.targets.remove(member_id);
            }
            ConsumerRecord::CurrentMember { member_id, value: Some(value) } => {
                self.set_current(member_id, Current::from_value(value));
            }
            ConsumerRecord::CurrentMember { member_id, value: None } => {
                if self.members.contains_key(member_id) {
                    self.set_current(member_id, Current::default());
                }
            }
            ConsumerRecord::RegularExpression { regex, value: Some(value) } => {
                self.resolved.insert(regex.clone(), value.clone());
                self.subscription_version += 1;
            }
            ConsumerRecord::RegularExpression { regex, value: None } => {
                self.resolved.remove(regex);
                self.subscription_version += 1;
            }
        }
    }

    /// Nothing of it is in the log any more.
    pub fn is_gone(&self) -> bool {
        self.value.is_none()
            && self.target.is_none()
            && self.targets.is_empty()
            && self.members.is_empty()
            && self.resolved.is_empty()
            && !self.has_partition_metadata
    }

    pub fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch() > self.assignment_epoch() {
            GroupState::Assigning
        } else if self.members.values().all(|member| member.is_reconciled_to(self.assignment_epoch())) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// Nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn epoch(&self) -> i32 {
        self.value.map_or(0, |value| value.epoch)
    }

    pub fn assignment_epoch(&self) -> i32 {
        self.target.map_or(0, |target| target.epoch)
    }

    fn describe_member(&mut self, member_id: &str, description: Description) {
        let member = self.members.entry(member_id.to_owned()).or_default();
        let old = std::mem::replace(&mut member.description, description);
        let new = member.description.clone();
        self.forget_description(member_id, &old);
        for name in new.subscribed_names.iter() {
            self.subscription_version += u64::from(!self.names.contains_key(name));
            *self.names.entry(name.clone()).or_default() += 1;
        }
        if let Some(regex) = new.regex() {
            self.subscription_version += u64::from(!self.regexes.contains_key(regex));
            *self.regexes.entry(regex.to_owned()).or_default() += 1;
        }
        if let Some(instance_id) = new.instance_id {
            self.static_members.insert(instance_id, member_id.to_owned());
        }
    }

    fn forget_description(&mut self, member_id: &str, old: &Description) {
        for name in &old.subscribed_names {
            self.subscription_version += u64::from(take_one(&mut self.names, name));
        }
        if let Some(regex) = old.regex() {
            self.subscription_version += u64::from(take_one(&mut self.regexes, regex));
        }
        if let Some(instance_id) = &old.instance_id
            && self.static_members.get(instance_id).is_some_and(|owner| owner == member_id)
        {
            self.static_members.remove(instance_id);
        }
    }

    fn remove_member(&mut self, member_id: &str) {
        let Some(member) = self.members.remove(member_id) else { return };
        self.forget_description(member_id, &member.description);
        self.release(member_id, &member.current);
        self.sessions.remove(member_id);
        self.revocations.remove(member_id);
    }

    fn set_current(&mut self, member_id: &str, current: Current) {
        let member = self.members.entry(member_id.to_owned()).or_default();
        let old = std::mem::replace(&mut member.current, current);
        let held: Vec<TopicPartition> = member.current.held().collect();
        self.release(member_id, &old);
        for partition in held {
            self.holders.insert(partition, member_id.to_owned());
        }
    }

    fn release(&mut self, member_id: &str, old: &Current) {
        for partition in old.held() {
            if self.holders.get(&partition).is_some_and(|holder| holder == member_id) {
                self.holders.remove(&partition);
            }
        }
    }

    pub fn check_invariants(&self, group_id: &str) {
        let mut held = 0;
        for (member_id, member) in &self.members {
            for partition in member.current.held() {
                held += 1;
                let holder = self.holders.get(&partition);
                invariant!(
                    G1,
                    holder == Some(member_id),
                    "group {group_id}: {partition} of {member_id} is with {holder:?}"
                );
            }
            let epoch = member.current.epoch;
            invariant!(
                G6,
                epoch <= self.assignment_epoch(),
                "group {group_id}: {member_id} is in {epoch}, and the target in {}",
                self.assignment_epoch()
            );
        }
        assert_eq!(held, self.holders.len(), "group {group_id}: what nobody has is held");
        let (group, target) = (self.epoch(), self.assignment_epoch());
        invariant!(G6, target <= group, "group {group_id} is in {group}, and its target in {target}");
        for (instance_id, member_id) in &self.static_members {
            let bearer = self.members.get(member_id).and_then(|member| member.description.instance_id.as_ref());
            assert_eq!(bearer, Some(instance_id), "group {group_id}: {member_id} is not {instance_id}");
        }
    }

    // - what decisions write: folded at once -

    fn write(&mut self, turn: &mut Turn<'_>, record: ConsumerRecord) {
        self.apply(&record);
        turn.write(Record::Consumer { group_id: turn.group_id.to_owned(), record });
    }

    fn write_current(&mut self, turn: &mut Turn<'_>, member_id: &str, current: &Current) {
        for partition in current.held() {
            let holder = self.holders.get(&partition);
            invariant!(
                G1,
                holder.is_none_or(|holder| holder == member_id),
                "{partition} of group {} goes to {member_id} while {holder:?} holds it",
                turn.group_id
            );
        }
        let known = self.members.get(member_id).map_or(0, |member| member.current.epoch);
        invariant!(
            G6,
            current.epoch >= known || current.epoch == LEAVE_TO_RETURN,
            "member {member_id} of group {} goes from epoch {known} to {}",
            turn.group_id,
            current.epoch
        );
        let value = Some(current.to_value());
        self.write(turn, ConsumerRecord::CurrentMember { member_id: member_id.to_owned(), value });
    }

    fn write_description(&mut self, turn: &mut Turn<'_>, member_id: &str, description: &Description) {
        let value = Some(description.to_value());
        self.write(turn, ConsumerRecord::Member { member_id: member_id.to_owned(), value });
    }

    /// In this order, so that whoever reads the log in pieces never sees a member that has nothing but partitions.
    fn write_removal(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        let member_id = member_id.to_owned();
        self.write(turn, ConsumerRecord::CurrentMember { member_id: member_id.clone(), value: None });
        self.write(turn, ConsumerRecord::TargetMember { member_id: member_id.clone(), value: None });
        self.write(turn, ConsumerRecord::Member { member_id, value: None });
    }
}

/// Whether it was the last one.
fn take_one(counts: &mut BTreeMap<String, usize>, key: &str) -> bool {
    match counts.get_mut(key) {
        Some(count) if *count > 1 => {
            *count -= 1;
            false
        }
        _ => counts.remove(key).is_some(),
    }
}
