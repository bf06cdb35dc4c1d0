//! A group of either kind, and what is asked of both.

use base_types::{ErrorCode, Timestamp};
use peer_api::groups::{GroupKind, GroupState, ListedGroup, OffsetCommit};

use crate::classic::ClassicGroup;
use crate::consumer::ConsumerGroup;
use crate::records::{ConsumerRecord, Record};
use crate::timers::GroupTimer;
use crate::turn::Turn;

#[derive(Debug)]
pub(crate) enum Group {
    /// Also a group that has offsets and never had members.
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
}

impl Group {
    pub fn loaded(&mut self, turn: &mut Turn<'_>) {
        match self {
            Group::Classic(group) => group.loaded(turn),
            Group::Consumer(group) => group.loaded(turn),
        }
    }

    pub fn timer_fired(&mut self, turn: &mut Turn<'_>, timer: &GroupTimer) {
        match self {
            Group::Classic(group) => group.timer_fired(turn, timer),
            Group::Consumer(group) => group.timer_fired(turn, timer),
        }
    }

    /// A group of the consumer protocol that only members of the classic one are left in goes back, where that is wanted.
    pub fn settle_kind(&mut self, turn: &mut Turn<'_>) {
        let Group::Consumer(group) = &*self else { return };
        if !group.may_go_back(turn.settings) {
            return;
        }
        let mut change = self.tombstones(turn.group_id);
        let value = group.to_classic(turn.now.wall, turn.image);
        change.push(Record::Classic { group_id: turn.group_id.to_owned(), value: Some(value.clone()) });
        // Half of the change must never be found in the log: such a group serves its members on as they are.
        if !turn.has_room_for(&change) {
            return;
        }
        group.dissolve(turn);
        *self = Group::Classic(ClassicGroup::going_on(turn, value));
    }

    pub fn kind(&self) -> GroupKind {
        match self {
            Group::Classic(_) => GroupKind::Classic,
            Group::Consumer(_) => GroupKind::Consumer,
        }
    }

    pub fn state(&self) -> GroupState {
        match self {
            Group::Classic(group) => group.state(),
            Group::Consumer(group) => group.state(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.state() == GroupState::Empty
    }

    /// Whether it may go away by itself once it has no offsets.
    pub fn is_idle(&self) -> bool {
        match self {
            Group::Classic(group) => group.is_idle(),
            Group::Consumer(group) => group.is_empty(),
        }
    }

    pub fn listed(&self, group_id: &str) -> ListedGroup {
        let protocol_type = match self {
            Group::Classic(group) => group.protocol_type().unwrap_or_default(),
            Group::Consumer(_) => "consumer",
        };
        ListedGroup {
            group_id: group_id.to_owned(),
            protocol_type: protocol_type.to_owned(),
            state: self.state(),
            kind: self.kind(),
        }
    }

    /// Whether a commit is by the current generation or epoch (G2).
    pub fn check_commit(&self, commit: &OffsetCommit) -> Result<(), ErrorCode> {
        match self {
            Group::Classic(group) => group.check_commit(commit),
            Group::Consumer(group) => group.check_commit(commit),
        }
    }

    pub fn check_fetch(&self, member_id: Option<&str>, member_epoch: i32) -> Result<(), ErrorCode> {
        match self {
            Group::Classic(_) => Ok(()),
            Group::Consumer(group) => group.check_fetch(member_id, member_epoch),
        }
    }

    /// Whether single offsets may be deleted: where it is known what is in use.
    pub fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        match self {
            Group::Classic(group) if !group.is_empty() && !group.uses_consumer_protocol() => {
                Err(ErrorCode::NonEmptyGroup)
            }
            Group::Classic(_) | Group::Consumer(_) => Ok(()),
        }
    }

    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Group::Classic(group) => group.is_subscribed_to(topic),
            Group::Consumer(group) => group.is_subscribed_to(topic),
        }
    }

    /// Since when an offset of a topic that is not subscribed to counts as unused; `None` while nobody can tell (KIP-211).
    pub fn unused_since(&self, committed_at: Timestamp) -> Option<Timestamp> {
        match self {
            Group::Classic(group) => group.unused_since(committed_at),
            Group::Consumer(_) => Some(committed_at),
        }
    }

    /// What makes the log forget the group.
    pub fn tombstones(&self, group_id: &str) -> Vec<Record> {
        match self {
            Group::Classic(_) => vec![Record::Classic { group_id: group_id.to_owned(), value: None }],
            Group::Consumer(group) => {
                let of_group = |record: ConsumerRecord| Record::Consumer { group_id: group_id.to_owned(), record };
                group.tombstones().into_iter().map(of_group).collect()
            }
        }
    }

    pub fn check_invariants(&self, group_id: &str) {
        match self {
            Group::Classic(group) => group.check_invariants(group_id),
            Group::Consumer(group) => group.check_invariants(group_id),
        }
    }
}
