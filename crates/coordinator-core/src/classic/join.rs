//! Joining.

use base_types::ErrorCode;
use bytes::Bytes;
use peer_api::groups::{Caller, GroupResponse, JoinGroup, JoinRefused, Joined};

use super::{ClassicGroup, Member, State};
use crate::event::RequestKey;
use crate::timers::GroupTimer;
use crate::turn::Turn;

/// How long a new member may wait for its first join to complete. It does not know its id yet and cannot heartbeat, and if it has
/// given up it comes back under another one.
const NEW_MEMBER_JOIN_MS: i32 = 300_000;

/// Ids are kept with 16-bit lengths; a client or instance id as long as that leaves no room for what is added to it.
const NAME_BYTES_MAX: usize = 32_000;

impl ClassicGroup {
    pub fn join(&mut self, turn: &mut Turn<'_>, request: RequestKey, caller: &Caller, join: JoinGroup) {
        if !self.has_room_for(turn, &join.member_id) {
            self.remove(turn, &join.member_id);
            return refuse(turn, request, ErrorCode::GroupMaxSizeReached, "");
        }
        if !self.supports(&join.protocol_type, &join.protocols) {
            return refuse(turn, request, ErrorCode::InconsistentGroupProtocol, &join.member_id);
        }
        if join.member_id.is_empty() {
            self.join_as_new(turn, request, caller, join);
        } else {
            self.join_again(turn, request, caller, join);
        }
    }

    fn has_room_for(&self, turn: &Turn<'_>, member_id: &str) -> bool {
        let size_max = turn.settings.group_size_max;
        match self.state {
            State::Empty => true,
            // Who waits already is counted: the limit may have been lowered, and then the last ones to join again have to go.
            State::PreparingRebalance { .. } => {
                let waits = self.members.get(member_id).is_some_and(|member| member.awaiting_join.is_some());
                waits || self.members.values().filter(|member| member.awaiting_join.is_some()).count() < size_max
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(member_id) || self.members.len() < size_max
            }
        }
    }

    fn join_as_new(&mut self, turn: &mut Turn<'_>, request: RequestKey, caller: &Caller, join: JoinGroup) {
        let name = join.group_instance_id.as_ref().unwrap_or(&caller.client_id);
        let member_id = format!("{}-{}", shortened(name, NAME_BYTES_MAX), uuid_text(turn.random.uuid()));
        match &join.group_instance_id {
            Some(instance) => match self.static_members.get(instance).cloned() {
                Some(old_id) => self.join_in_place_of(turn, request, &old_id, member_id, join),
                None => self.add(turn, request, caller, member_id, join),
            },
            None if join.requires_known_member_id => {
                self.pending_joins.insert(member_id.clone());
                let until = turn.now.tick.plus_ms(millis(join.session_timeout_ms));
                turn.set_timer(GroupTimer::Pending { member_id: member_id.clone() }, until);
                refuse(turn, request, ErrorCode::MemberIdRequired, &member_id);
            }
            None => self.add(turn, request, caller, member_id, join),
        }
    }

    fn join_again(&mut self, turn: &mut Turn<'_>, request: RequestKey, caller: &Caller, join: JoinGroup) {
        let member_id = join.member_id.clone();
        if self.pending_joins.contains(&member_id) && join.group_instance_id.is_none() {
            turn.cancel_timer(GroupTimer::Pending { member_id: member_id.clone() });
            return self.add(turn, request, caller, member_id, join);
        }
        if let Err(error) = self.check_member(&member_id, join.group_instance_id.as_deref()) {
            return refuse(turn, request, error, &member_id);
        }
        let is_leader = self.is_leader(&member_id);
        let unchanged = self.members.get(&member_id).is_some_and(|member| member.protocols == join.protocols);
        let as_it_is = match self.state {
            State::PreparingRebalance { .. } => false,
            // Its answer may have been lost.
            State::CompletingRebalance => unchanged,
            // A leader that joins again wants to assign anew: what has changed may lie outside of its subscription.
            State::Stable => unchanged && !is_leader,
            State::Empty => return refuse(turn, request, ErrorCode::UnknownMemberId, &member_id),
        };
        if as_it_is {
            let joined = self.joined(&member_id, is_leader);
            return turn.reply(request, GroupResponse::JoinGroup(Ok(joined)));
        }
        self.update(turn, request, &member_id, &join);
        self.rebalance(turn);
    }

    fn add(&mut self, turn: &mut Turn<'_>, request: RequestKey, caller: &Caller, member_id: String, join: JoinGroup) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type);
        }
        if let State::PreparingRebalance { initial: Some(initial) } = &mut self.state {
            initial.member_added = true;
        }
        let member = Member {
            group_instance_id: join.group_instance_id,
            client_id: caller.client_id.clone(),
            client_host: caller.client_host.clone(),
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols,
            is_new: true,
            awaiting_join: Some(request),
            ..Member::default()
        };
        self.insert(member_id.clone(), member);
        self.extend_session_by(turn, &member_id, NEW_MEMBER_JOIN_MS);
        self.rebalance(turn);
    }

    /// A static member has started anew: it takes over what its old self had, and its old self is fenced (KIP-345).
    fn join_in_place_of(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestKey,
        old_id: &str,
        member_id: String,
        join: JoinGroup,
    ) {
        let leader_before = self.leader.clone();
        let was_leader = self.is_leader(old_id);
        let awaited_sync = self.pending_syncs.contains(old_id);
        let Some(mut member) = self.take(old_id) else { return };
        turn.cancel_timer(GroupTimer::Session { member_id: old_id.to_owned() });
        if let Some(join) = member.awaiting_join.take() {
            refuse(turn, join, ErrorCode::FencedInstanceId, old_id);
        }
        if let Some(sync) = member.awaiting_sync.take() {
            turn.reply_at_once(sync, GroupResponse::SyncGroup(Err(ErrorCode::FencedInstanceId)));
        }
        member.timer = None;
        self.insert(member_id.clone(), member);
        if was_leader {
            self.leader = Some(member_id.clone());
        }
        if awaited_sync {
            self.pending_syncs.insert(member_id.clone());
        }
        self.extend_session(turn, &member_id);
        self.update(turn, request, &member_id, &join);

        match self.state {
            State::Stable if self.vote() == self.protocol_name && turn.fits(&self.record(turn)) => {
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.awaiting_join = None;
                }
                self.subscribed_topics = self.read_subscriptions();
                self.write(turn);
                let is_leader = self.is_leader(&member_id);
                let mut joined = self.joined(&member_id, is_leader && join.supports_skip_assignment);
                if join.supports_skip_assignment {
                    joined.skip_assignment = is_leader;
                } else {
                    // Told of its old self, an old client does not take itself for the leader and does not assign.
                    joined.leader = leader_before.unwrap_or_default();
                }
                turn.reply(request, GroupResponse::JoinGroup(Ok(joined)));
            }
            // The leader may have been given the old id already, and would assign to it.
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(turn),
            State::PreparingRebalance { .. } | State::Empty => self.complete_join_if_all_are_here(turn),
        }
    }

    /// Takes over what the member says now; it waits for the next generation.
    fn update(&mut self, turn: &mut Turn<'_>, request: RequestKey, member_id: &str, join: &JoinGroup) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        let protocols = std::mem::replace(&mut member.protocols, join.protocols.clone());
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        let superseded = member.awaiting_join.replace(request);
        self.count_protocols(&protocols, false);
        self.count_protocols(&join.protocols, true);
        if let Some(superseded) = superseded {
            refuse(turn, superseded, ErrorCode::RebalanceInProgress, member_id);
        }
    }

    /// What a member is told of the generation; the leader is told of everyone.
    pub(super) fn joined(&self, member_id: &str, with_members: bool) -> Joined {
        Joined {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: if with_members { self.joined_members() } else { Vec::new() },
        }
    }

    /// Takes the member out for good: its timers end, and what it waits for is answered.
    pub(super) fn remove(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        if self.pending_joins.contains(member_id) {
            turn.cancel_timer(GroupTimer::Pending { member_id: member_id.to_owned() });
        }
        let Some(member) = self.take(member_id) else { return };
        turn.cancel_timer(GroupTimer::Session { member_id: member_id.to_owned() });
        if let Some(join) = member.awaiting_join {
            refuse(turn, join, ErrorCode::UnknownMemberId, "");
        }
        if let Some(sync) = member.awaiting_sync {
            turn.reply_at_once(sync, GroupResponse::SyncGroup(Err(ErrorCode::UnknownMemberId)));
        }
    }

    /// Nothing of an old generation is assigned in the next one. Whoever waits is told the error.
    pub(super) fn forget_assignments(&mut self, turn: &mut Turn<'_>, error: ErrorCode) {
        let mut waiting = Vec::new();
        for (member_id, member) in &mut self.members {
            member.assignment = Bytes::new();
            if let Some(sync) = member.awaiting_sync.take() {
                waiting.push((sync, member_id.clone()));
            }
        }
        for (sync, member_id) in waiting {
            self.extend_session(turn, &member_id);
            turn.reply_at_once(sync, GroupResponse::SyncGroup(Err(error)));
        }
    }
}

pub(super) fn refuse(turn: &mut Turn<'_>, request: RequestKey, error: ErrorCode, member_id: &str) {
    let refused = JoinRefused { error, member_id: member_id.to_owned() };
    turn.reply_at_once(request, GroupResponse::JoinGroup(Err(refused)));
}

pub(super) fn millis(ms: i32) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}

/// The longest beginning of `text` of at most `bytes_max` bytes.
fn shortened(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// As Java writes random UUIDs: version 4, in five groups of hexadecimal digits.
fn uuid_text(mut bytes: [u8; 16]) -> String {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 0x0f] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_ids_end_as_java_s_random_uuids_look() {
        assert_eq!(uuid_text([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid_text([0x01; 16]), "01010101-0101-4101-8101-010101010101");
    }

    #[test]
    fn long_client_ids_are_cut_between_characters() {
        assert_eq!(shortened("abc", 2), "ab");
        assert_eq!(shortened("a\u{e4}", 2), "a");
        assert_eq!(shortened("abc", 9), "abc");
    }
}
