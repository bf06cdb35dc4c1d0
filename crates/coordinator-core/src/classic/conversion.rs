//! From the classic protocol to the consumer protocol and back (KIP-848).

use base_types::ErrorCode;
use bytes::Bytes;
use peer_api::groups::GroupResponse;

use super::ClassicGroup;
use super::join::refuse;
use crate::consumer::{Leaving, LeavingMember};
use crate::records::{ClassicGroupValue, Record};
use crate::timers::GroupTimer;
use crate::turn::Turn;

impl ClassicGroup {
    /// What goes over to a group of the consumer protocol.
    pub fn leaving(&self) -> Leaving {
        let members = self.to_value().members.into_iter().map(|mut value| {
            let protocols = self.members.get(&value.member_id).map(|member| member.protocols.as_slice());
            let protocols: Vec<(String, Bytes)> = protocols
                .into_iter()
                .flatten()
                .map(|protocol| (protocol.name.clone(), protocol.metadata.clone()))
                .collect();
            // Before its first generation the group has not chosen.
            if self.protocol_name.is_none() {
                value.subscription = protocols.first().map(|(_, metadata)| metadata.clone()).unwrap_or_default();
            }
            LeavingMember { value, protocols }
        });
        Leaving { generation: self.generation, members: members.collect() }
    }

    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Nobody waits for this group any more: who did is told to join again.
    pub fn dissolve(&mut self, turn: &mut Turn<'_>) {
        for (member_id, member) in &mut self.members {
            turn.cancel_timer(GroupTimer::Session { member_id: member_id.clone() });
            if let Some(join) = member.awaiting_join.take() {
                refuse(turn, join, ErrorCode::RebalanceInProgress, member_id);
            }
            if let Some(sync) = member.awaiting_sync.take() {
                turn.reply_at_once(sync, GroupResponse::SyncGroup(Err(ErrorCode::RebalanceInProgress)));
            }
        }
        for member_id in &self.pending_joins {
            turn.cancel_timer(GroupTimer::Pending { member_id: member_id.clone() });
        }
        turn.cancel_timer(GroupTimer::Join);
        turn.cancel_timer(GroupTimer::Sync);
    }

    /// Goes on from a group of the consumer protocol, with a rebalance.
    ///
    /// The rebalance lives in memory only. Should the coordinator die before its end, the members must not take the group for
    /// settled: the log gives it a generation that none of them has been told of or will be told of by this rebalance.
    pub fn going_on(turn: &mut Turn<'_>, value: ClassicGroupValue) -> ClassicGroup {
        let mut group = ClassicGroup::from_value(&value);
        let unheard_of = value.generation.saturating_add(2);
        let value = Some(ClassicGroupValue { generation: unheard_of, ..value });
        turn.write(Record::Classic { group_id: turn.group_id.to_owned(), value });
        group.loaded(turn);
        group.rebalance(turn);
        group
    }
}
