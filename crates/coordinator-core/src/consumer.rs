//! Groups of the consumer protocol (KIP-848).
//!
//! The contract with the coordinator:
//!
//! - [`ConsumerGroup::apply`] folds one record; loading and live decisions use the same fold.
//! - A decision gets a [`Turn`], folds each record that it writes, and answers through the turn.
//! - A group that has folded away ([`ConsumerGroup::is_gone`]) is dropped by the coordinator.
//! - Offsets are the coordinator's. It asks the group who may commit and fetch, which topics are subscribed to, and which
//!   records make the group go away.

use base_types::{ErrorCode, PartitionIndex, TopicId};
use peer_api::groups::{
    Caller, ConsumerGroupDescription, ConsumerGroupHeartbeat, GroupResponse, GroupState, OffsetCommit, Refused,
};
use peer_api::metadata::Image;

use crate::event::RequestKey;
use crate::records::{ConsumerGroupValue, ConsumerRecord};
use crate::timers::GroupTimer;
use crate::turn::Turn;

#[derive(Debug, Default)]
pub(crate) struct ConsumerGroup {
    value: Option<ConsumerGroupValue>,
}

impl ConsumerGroup {
    pub fn apply(&mut self, record: &ConsumerRecord) {
        if let ConsumerRecord::Group(value) = record {
            self.value = *value;
        }
    }

    /// Nothing of it is in the log any more.
    pub fn is_gone(&self) -> bool {
        self.value.is_none()
    }

    /// The log was read to its end: sessions begin now.
    pub fn loaded(&mut self, _turn: &mut Turn<'_>) {}

    pub fn heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestKey,
        _caller: &Caller,
        _heartbeat: ConsumerGroupHeartbeat,
    ) {
        let refused = Refused { error: ErrorCode::UnsupportedVersion, message: None };
        turn.reply_at_once(request, GroupResponse::ConsumerGroupHeartbeat(Err(refused)));
    }

    pub fn timer_fired(&mut self, _turn: &mut Turn<'_>, _timer: &GroupTimer) {}

    /// The image is another one: topics the group subscribes to may have changed.
    pub fn metadata_changed(&mut self, _turn: &mut Turn<'_>) {}

    /// Whether the member may commit at all. Of single partitions it is asked in [`ConsumerGroup::check_commit_of`].
    pub fn check_commit(&self, commit: &OffsetCommit) -> Result<(), ErrorCode> {
        if commit.member_id.is_empty() { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether the member, whose commit passed [`ConsumerGroup::check_commit`], may commit this partition (a member that lags
    /// behind the group's epoch only what it was assigned by then).
    pub fn check_commit_of(
        &self,
        _commit: &OffsetCommit,
        _topic: TopicId,
        _partition: PartitionIndex,
    ) -> Result<(), ErrorCode> {
        Ok(())
    }

    pub fn check_fetch(&self, member_id: Option<&str>, _member_epoch: i32) -> Result<(), ErrorCode> {
        if member_id.is_none() { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether any member subscribes to the topic: its offsets are then neither deleted on request nor expired.
    pub fn is_subscribed_to(&self, _topic: &str) -> bool {
        false
    }

    /// What must be written for an empty group to go away. Its offsets are not among it.
    pub fn tombstones(&self) -> Vec<ConsumerRecord> {
        vec![ConsumerRecord::Group(None)]
    }

    /// Nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.state() == GroupState::Empty
    }

    pub fn state(&self) -> GroupState {
        GroupState::Empty
    }

    pub fn describe(&self, _image: &Image) -> ConsumerGroupDescription {
        let epoch = self.value.unwrap_or_default().epoch;
        ConsumerGroupDescription {
            state: self.state(),
            group_epoch: epoch,
            assignment_epoch: epoch,
            assignor_name: String::new(),
            members: Vec::new(),
        }
    }
}
