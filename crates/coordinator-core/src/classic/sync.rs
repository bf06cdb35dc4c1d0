//! Syncing: the leader brings the assignments, everyone fetches theirs.

use std::collections::BTreeMap;

use base_types::ErrorCode;
use bytes::Bytes;
use peer_api::groups::{GroupResponse, SyncGroup, Synced};

use super::{ClassicGroup, State};
use crate::event::RequestKey;
use crate::timers::GroupTimer;
use crate::turn::Turn;

impl ClassicGroup {
    pub fn sync(&mut self, turn: &mut Turn<'_>, request: RequestKey, sync: SyncGroup) {
        if let Err(error) = self.check_sync(&sync) {
            return turn.reply_at_once(request, GroupResponse::SyncGroup(Err(error)));
        }
        self.pending_syncs.remove(&sync.member_id);
        if self.pending_syncs.is_empty() {
            turn.cancel_timer(GroupTimer::Sync);
        }
        let Some(member) = self.members.get_mut(&sync.member_id) else { return };
        if self.state == State::Stable {
            let assignment = member.assignment.clone();
            return turn.reply(request, GroupResponse::SyncGroup(Ok(self.synced(assignment))));
        }
        if let Some(superseded) = member.awaiting_sync.replace(request) {
            turn.reply_at_once(superseded, GroupResponse::SyncGroup(Err(ErrorCode::RebalanceInProgress)));
        }
        if self.is_leader(&sync.member_id) {
            self.assign(turn, sync.assignments);
        }
    }

    fn check_sync(&self, sync: &SyncGroup) -> Result<(), ErrorCode> {
        self.check_member(&sync.member_id, sync.group_instance_id.as_deref())?;
        if sync.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |given: &Option<String>, ours: &Option<String>| given.is_some() && given != ours;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol_name, &self.protocol_name) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance { .. } => Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// The generation is complete. Those who wait are answered once it is in the log, so that no member acts on an assignment
    /// of which the next coordinator knows nothing (G1). Who is not named is assigned nothing.
    fn assign(&mut self, turn: &mut Turn<'_>, assignments: Vec<(String, Bytes)>) {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        for (member_id, member) in &mut self.members {
            member.assignment = assignments.remove(member_id).unwrap_or_default();
        }
        if !turn.fits(&self.record(turn)) {
            self.forget_assignments(turn, ErrorCode::UnknownServerError);
            return self.prepare_rebalance(turn);
        }
        self.transition(turn.now, State::Stable);
        self.write(turn);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in ids {
            let Some(member) = self.members.get_mut(&member_id) else { continue };
            let assignment = member.assignment.clone();
            if let Some(request) = member.awaiting_sync.take() {
                turn.reply(request, GroupResponse::SyncGroup(Ok(self.synced(assignment))));
                self.extend_session(turn, &member_id);
            }
        }
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        Synced { protocol_type: self.protocol_type.clone(), protocol_name: self.protocol_name.clone(), assignment }
    }
}
