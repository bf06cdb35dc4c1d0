//! Who may commit and fetch offsets of the group, which offsets are in use, and what deletes the group.

use base_types::{ErrorCode, TopicPartition, planted};
use peer_api::groups::OffsetCommit;

use super::ConsumerGroup;
use super::member::Member;
use crate::records::ConsumerRecord;

impl ConsumerGroup {
    /// Whether a commit is by a member, in its epoch or in an earlier one (G2).
    ///
    /// A member that has not heard of its newest epoch may still commit what it was given in an earlier one and has kept since:
    /// nobody else can have had it in between (KIP-1251). One partition of which that is not true fails the whole commit.
    pub fn check_commit(&self, commit: &OffsetCommit) -> Result<(), ErrorCode> {
        // Tools commit to groups without members.
        if commit.generation_or_epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(&commit.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if !member.is_classic() && !commit.knows_member_epochs {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let current = &member.current;
        if commit.generation_or_epoch == current.epoch {
            return Ok(());
        }
        let is_kept = |partition: TopicPartition| {
            let given_in = current.assigned.get(&partition).or_else(|| current.pending_revocation.get(&partition));
            given_in.is_some_and(|given_in| *given_in <= commit.generation_or_epoch)
        };
        let mut partitions = commit.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|of| TopicPartition { topic: topic.id, partition: of.partition })
        });
        let is_older = commit.generation_or_epoch < current.epoch;
        if is_older && (partitions.all(is_kept) || planted!(CommitOfAnyEpoch)) { Ok(()) } else { Err(stale(member)) }
    }

    /// Checked only when the client says who it is.
    pub fn check_fetch(&self, member_id: Option<&str>, member_epoch: i32) -> Result<(), ErrorCode> {
        if member_id.is_none() && member_epoch < 0 {
            return Ok(());
        }
        let member = member_id.and_then(|id| self.members.get(id)).ok_or(ErrorCode::UnknownMemberId)?;
        if member.current.epoch == member_epoch { Ok(()) } else { Err(stale(member)) }
    }

    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.names.contains_key(topic)
            || self.resolved.values().any(|resolved| resolved.topics.iter().any(|name| name == topic))
    }

    /// What makes the log forget the group. It has no members.
    pub fn tombstones(&self) -> Vec<ConsumerRecord> {
        let mut tombstones = Vec::new();
        for member_id in self.members.keys().cloned() {
            tombstones.push(ConsumerRecord::CurrentMember { member_id, value: None });
        }
        for member_id in self.targets.keys().cloned() {
            tombstones.push(ConsumerRecord::TargetMember { member_id, value: None });
        }
        for member_id in self.members.keys().cloned() {
            tombstones.push(ConsumerRecord::Member { member_id, value: None });
        }
        for regex in self.resolved.keys().cloned() {
            tombstones.push(ConsumerRecord::RegularExpression { regex, value: None });
        }
        if self.has_partition_metadata {
            tombstones.push(ConsumerRecord::PartitionMetadata { present: false });
        }
        tombstones.push(ConsumerRecord::TargetAssignment(None));
        tombstones.push(ConsumerRecord::Group(None));
        tombstones
    }
}

/// The same thing in the words of the member's protocol.
fn stale(member: &Member) -> ErrorCode {
    if member.is_classic() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch }
}
