//! From one generation to the next.

use base_types::ErrorCode;
use peer_api::groups::GroupResponse;

use super::join::millis;
use super::{ClassicGroup, InitialDelay, State};
use crate::records::Record;
use crate::timers::GroupTimer;
use crate::turn::Turn;

impl ClassicGroup {
    /// Something about the members has changed: a rebalance begins, or goes on.
    pub(super) fn rebalance(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::PreparingRebalance { .. } => self.complete_join_if_all_are_here(turn),
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare_rebalance(turn),
        }
    }

    pub(super) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::CompletingRebalance {
            self.forget_assignments(turn, ErrorCode::RebalanceInProgress);
        }
        self.pending_syncs.clear();
        turn.cancel_timer(GroupTimer::Sync);
        if self.is_empty() {
            let delay_ms = turn.settings.group_initial_rebalance_delay_ms;
            let longest_ms = i32::try_from(self.rebalance_timeout_ms()).unwrap_or(i32::MAX);
            let remaining_ms = longest_ms.saturating_sub(delay_ms).max(0);
            turn.set_timer(GroupTimer::Join, turn.now.tick.plus_ms(millis(delay_ms)));
            let initial = Some(InitialDelay { delay_ms, remaining_ms, member_added: false });
            return self.transition(turn.now, State::PreparingRebalance { initial });
        }
        self.transition(turn.now, State::PreparingRebalance { initial: None });
        if self.all_have_joined() {
            self.complete_join(turn);
        } else {
            turn.set_timer(GroupTimer::Join, turn.now.tick.plus_ms(self.rebalance_timeout_ms()));
        }
    }

    /// The first rebalance waits for its delay, whoever is here.
    pub(super) fn complete_join_if_all_are_here(&mut self, turn: &mut Turn<'_>) {
        if self.state == (State::PreparingRebalance { initial: None }) && self.all_have_joined() {
            self.complete_join(turn);
        }
    }

    pub(super) fn join_time_is_over(&mut self, turn: &mut Turn<'_>) {
        match &mut self.state {
            State::PreparingRebalance { initial: Some(initial) }
                if initial.member_added && initial.remaining_ms != 0 =>
            {
                let delay_ms = turn.settings.group_initial_rebalance_delay_ms.min(initial.remaining_ms);
                initial.remaining_ms = initial.remaining_ms.saturating_sub(initial.delay_ms).max(0);
                initial.delay_ms = delay_ms;
                initial.member_added = false;
                turn.set_timer(GroupTimer::Join, turn.now.tick.plus_ms(millis(delay_ms)));
            }
            State::PreparingRebalance { .. } => self.complete_join(turn),
            State::Empty | State::CompletingRebalance | State::Stable => {}
        }
    }

    fn all_have_joined(&self) -> bool {
        self.pending_joins.is_empty() && self.members.values().all(|member| member.awaiting_join.is_some())
    }

    /// Ends the joining with those who are here. Static members that are not may come back: they stay.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        turn.cancel_timer(GroupTimer::Join);
        let is_gone = |member: &super::Member| member.awaiting_join.is_none() && member.group_instance_id.is_none();
        let gone: Vec<String> =
            self.members.iter().filter(|(_, member)| is_gone(member)).map(|(id, _)| id.clone()).collect();
        for member_id in &gone {
            self.remove(turn, member_id);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members are left and none has come: their sessions decide.
            self.state = State::PreparingRebalance { initial: None };
            turn.set_timer(GroupTimer::Join, turn.now.tick.plus_ms(self.rebalance_timeout_ms()));
            return;
        }
        self.begin_generation(turn);
    }

    /// The leader must be there to assign. `false` when nobody is.
    fn elect_joined_leader(&mut self) -> bool {
        let is_here = |member: &super::Member| member.awaiting_join.is_some();
        if self.leader.as_ref().and_then(|leader| self.members.get(leader)).is_some_and(is_here) {
            return true;
        }
        match self.members.iter().find(|(_, member)| is_here(member)) {
            Some((member_id, _)) => {
                self.leader = Some(member_id.clone());
                true
            }
            None => false,
        }
    }

    fn begin_generation(&mut self, turn: &mut Turn<'_>) {
        self.generation = self.generation.wrapping_add(1).max(0);
        self.pending_syncs.clear();
        if self.members.is_empty() {
            self.protocol_name = None;
            self.subscribed_topics = self.uses_consumer_protocol().then(Default::default);
            self.transition(turn.now, State::Empty);
            return self.write(turn);
        }
        self.protocol_name = self.vote();
        self.subscribed_topics = self.read_subscriptions();
        self.transition(turn.now, State::CompletingRebalance);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in ids {
            let joined = self.joined(&member_id, self.is_leader(&member_id));
            if let Some(member) = self.members.get_mut(&member_id) {
                member.is_new = false;
                if let Some(request) = member.awaiting_join.take() {
                    turn.reply(request, GroupResponse::JoinGroup(Ok(joined)));
                }
            }
            self.extend_session(turn, &member_id);
            self.pending_syncs.insert(member_id);
        }
        turn.set_timer(GroupTimer::Sync, turn.now.tick.plus_ms(self.rebalance_timeout_ms()));
    }

    /// Whoever has joined and did not sync in time is taken for gone.
    pub(super) fn sync_time_is_over(&mut self, turn: &mut Turn<'_>) {
        if !matches!(self.state, State::CompletingRebalance | State::Stable) || self.pending_syncs.is_empty() {
            return;
        }
        for member_id in std::mem::take(&mut self.pending_syncs) {
            self.remove(turn, &member_id);
        }
        self.prepare_rebalance(turn);
    }

    /// What the log is to hold of the group from now on.
    pub(super) fn write(&mut self, turn: &mut Turn<'_>) {
        turn.write(self.record(turn));
    }

    pub(super) fn record(&self, turn: &Turn<'_>) -> Record {
        Record::Classic { group_id: turn.group_id.to_owned(), value: Some(self.to_value()) }
    }
}
