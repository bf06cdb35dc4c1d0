//! Staying, leaving, and being taken for gone.

use base_types::{ErrorCode, planted};
use peer_api::groups::{GroupResponse, Heartbeat, LeaveGroup, LeavingMember, LeftMember};

use super::join::millis;
use super::{ClassicGroup, State};
use crate::event::RequestKey;
use crate::timers::GroupTimer;
use crate::turn::Turn;

impl ClassicGroup {
    pub fn heartbeat(&mut self, turn: &mut Turn<'_>, request: RequestKey, heartbeat: &Heartbeat) {
        let checked = self.check_member(&heartbeat.member_id, heartbeat.group_instance_id.as_deref());
        let result = match (checked, self.state) {
            (Err(error), _) => Err(error),
            (Ok(()), _) if heartbeat.generation_id != self.generation => Err(ErrorCode::IllegalGeneration),
            (Ok(()), State::Empty) => Err(ErrorCode::UnknownMemberId),
            (Ok(()), State::PreparingRebalance { .. }) => {
                self.extend_session(turn, &heartbeat.member_id);
                Err(ErrorCode::RebalanceInProgress)
            }
            // Members may begin to heartbeat between join and sync.
            (Ok(()), State::CompletingRebalance | State::Stable) => {
                self.extend_session(turn, &heartbeat.member_id);
                Ok(())
            }
        };
        turn.reply_at_once(request, GroupResponse::Heartbeat(result));
    }

    pub fn leave(&mut self, turn: &mut Turn<'_>, request: RequestKey, leave: LeaveGroup) {
        let mut left = Vec::with_capacity(leave.members.len());
        for leaving in leave.members {
            let error = self.leave_one(turn, &leaving).err().unwrap_or(ErrorCode::None);
            let LeavingMember { member_id, group_instance_id, reason: _ } = leaving;
            left.push(LeftMember { member_id, group_instance_id, error });
        }
        let any_left = left.iter().any(|member| member.error == ErrorCode::None);
        if any_left && !self.is_empty() {
            self.rebalance(turn);
        }
        turn.reply(request, GroupResponse::LeaveGroup(Ok(left)));
    }

    fn leave_one(&mut self, turn: &mut Turn<'_>, leaving: &LeavingMember) -> Result<(), ErrorCode> {
        let instance = leaving.group_instance_id.as_deref();
        if leaving.member_id.is_empty() {
            // An operator removes a static member by the id that people know.
            let bearer = instance.and_then(|instance| self.static_members.get(instance)).cloned();
            let member_id = bearer.ok_or(ErrorCode::UnknownMemberId)?;
            self.remove(turn, &member_id);
            return Ok(());
        }
        if !self.pending_joins.contains(&leaving.member_id) {
            self.check_member(&leaving.member_id, instance)?;
        }
        self.remove(turn, &leaving.member_id);
        Ok(())
    }

    pub fn timer_fired(&mut self, turn: &mut Turn<'_>, timer: &GroupTimer) {
        match timer {
            GroupTimer::Session { member_id } => self.session_timer_fired(turn, member_id),
            GroupTimer::Pending { member_id } => {
                if self.pending_joins.remove(member_id) {
                    self.complete_join_if_all_are_here(turn);
                }
            }
            GroupTimer::Join => self.join_time_is_over(turn),
            GroupTimer::Sync => self.sync_time_is_over(turn),
            GroupTimer::ConsumerSession { .. }
            | GroupTimer::ConsumerRebalance { .. }
            | GroupTimer::ConsumerJoin { .. }
            | GroupTimer::ConsumerSync { .. } => {}
        }
    }

    fn session_timer_fired(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.timer = None;
        if turn.now.tick < member.session_end {
            member.timer = Some(member.session_end);
            return turn.set_timer(GroupTimer::Session { member_id: member_id.to_owned() }, member.session_end);
        }
        // Who waits for others lives: it is given a new session when its answer comes. A new member may wait for ever, though,
        // because nobody can tell whether it is still there.
        if !member.is_new && (member.awaiting_join.is_some() || member.awaiting_sync.is_some()) {
            return;
        }
        self.remove(turn, member_id);
        match self.state {
            State::Stable if planted!(NoRebalanceAfterDeath) && !self.members.is_empty() => {}
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(turn),
            State::PreparingRebalance { .. } => self.complete_join_if_all_are_here(turn),
            State::Empty => {}
        }
    }

    /// The member was heard of.
    pub(super) fn extend_session(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        if let Some(session_ms) = self.members.get(member_id).map(|member| member.session_timeout_ms) {
            self.extend_session_by(turn, member_id, session_ms);
        }
    }

    /// A later end needs no other timer: the one that is set looks again when it fires.
    pub(super) fn extend_session_by(&mut self, turn: &mut Turn<'_>, member_id: &str, session_ms: i32) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.session_end = turn.now.tick.plus_ms(millis(session_ms));
        if member.timer.is_none_or(|at| at > member.session_end) {
            member.timer = Some(member.session_end);
            turn.set_timer(GroupTimer::Session { member_id: member_id.to_owned() }, member.session_end);
        }
    }
}
