//! Who may commit and fetch offsets of the group, which offsets are in use, and what deletes the group.

use base_types::{ErrorCode, PartitionIndex, TopicId, TopicPartition};
use peer_api::groups::OffsetCommit;

use super::ConsumerGroup;
use super::member::Member;
use crate::records::ConsumerRecord;

impl ConsumerGroup {
    /// Whether a commit is by a member, in its epoch or in an earlier one (G2). With an earlier one each partition is judged by
    /// [`ConsumerGroup::check_commit_of`].
    pub fn check_commit(&self, commit: &OffsetCommit) -> Result<(), ErrorCode> {
        // Tools commit to groups without members.
        if commit.generation_or_epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(&commit.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if !member.is_classic() && !commit.knows_member_epochs {
            return Err(ErrorCode::UnsupportedVersion);
        }
        if commit.generation_or_epoch > member.current.epoch { Err(stale(member)) } else { Ok(()) }
    }

    /// A member that has not heard of its newest epoch may still commit what it was given in an earlier one and has kept since:
    /// nobody else can have had it in between (KIP-1251).
    pub fn check_commit_of(
        &self,
        commit: &OffsetCommit,
        topic: TopicId,
        partition: PartitionIndex,
    ) -> Result<(), ErrorCode> {
        let Some(member) = self.members.get(&commit.member_id) else { return Ok(()) };
        if commit.generation_or_epoch == member.current.epoch {
            return Ok(());
        }
        let partition = TopicPartition { topic, partition };
        let held = [&member.current.assigned, &member.current.pending_revocation];
        let given_in = held.into_iter().find_map(|held| held.get(&partition));
        match given_in {
            Some(&given_in) if given_in <= commit.generation_or_epoch => Ok(()),
            _ => Err(stale(member)),
        }
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
