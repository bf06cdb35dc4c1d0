//! Members of the classic protocol in a group of the consumer protocol: while a group is moved from one to the other, old
//! clients are served on by their own rules (KIP-848, online migration).
//!
//! ```text
//!  JoinGroup   says what the member wants and owns      = a heartbeat of the consumer protocol
//!  SyncGroup   is told what the member may have           (the answer to it)
//!  Heartbeat   is told to join again whenever there is a new target, something to give up, or something to get
//! ```
//!
//! The member epoch is what such a client takes for the generation. It never leads: the coordinator assigns.

use std::collections::BTreeSet;

use base_types::{ErrorCode, Incarnation, TopicPartition};
use bytes::Bytes;
use peer_api::groups::{
    Caller, GroupResponse, Heartbeat, JoinGroup, JoinRefused, Joined, LeaveGroup, LeavingMember, LeftMember, SyncGroup,
    Synced,
};
use peer_api::metadata::Image;

use super::ConsumerGroup;
use super::embedded::{Assignment, Subscription, TopicPartitions};
use super::heartbeat::Standing;
use super::member::{Member, State};
use super::partitions::{self, Partitions};
use crate::event::RequestKey;
use crate::records::ClassicMemberMetadata;
use crate::timers::GroupTimer;
use crate::turn::Turn;

/// The protocol type of ordinary consumers.
pub const PROTOCOL_TYPE: &str = "consumer";

impl ConsumerGroup {
    pub fn join_classic(&mut self, turn: &mut Turn<'_>, request: RequestKey, caller: &Caller, join: &JoinGroup) {
        let member_id = match join.member_id.as_str() {
            "" => Incarnation(turn.random.uuid()).to_string(),
            member_id => member_id.to_owned(),
        };
        match self.take_join(turn, caller, join, &member_id) {
            Ok(joined) => turn.reply(request, GroupResponse::JoinGroup(Ok(joined))),
            Err(error) => {
                // Only who is to come back with its new id is told one.
                let told = if error == ErrorCode::MemberIdRequired { member_id } else { join.member_id.clone() };
                let refused = JoinRefused { error, member_id: told };
                turn.reply_at_once(request, GroupResponse::JoinGroup(Err(refused)));
            }
        }
    }

    fn take_join(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        join: &JoinGroup,
        member_id: &str,
    ) -> Result<Joined, ErrorCode> {
        if self.members.len() >= turn.settings.consumer_group_size_max && !self.members.contains_key(member_id) {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        if !self.supports(join) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let is_unknown = join.member_id.is_empty();
        if is_unknown && join.group_instance_id.is_none() && join.requires_known_member_id {
            return Err(ErrorCode::MemberIdRequired);
        }
        let first = join.protocols.first().ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let subscription = Subscription::decode(&first.metadata).map_err(|_| ErrorCode::InconsistentGroupProtocol)?;
        let standing = self.classic_standing(join, member_id)?;
        let before = self.before(&standing, member_id);
        let mut description = before.description.clone();
        if join.group_instance_id.is_some() {
            description.instance_id.clone_from(&join.group_instance_id);
        }
        if subscription.rack_id.as_ref().is_some_and(|rack| !rack.is_empty()) {
            description.rack_id.clone_from(&subscription.rack_id);
        }
        description.rebalance_timeout_ms = join.rebalance_timeout_ms;
        description.subscribed_names = subscription.topics.iter().cloned().collect();
        description.subscribed_regex = Some(String::new()).filter(|_| description.subscribed_regex.is_some());
        description.called_by(caller);
        description.classic = Some(ClassicMemberMetadata {
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols.iter().map(|p| (p.name.clone(), p.metadata.clone())).collect(),
        });

        // Nothing is refused from here on.
        if let Standing::Replaces(old_id) = &standing {
            self.replace(turn, old_id, member_id, &before);
        }
        let owned = by_id(&subscription.owned, turn.image);
        self.update_member(turn, member_id, before.description, description, Some(&owned));
        self.begin_session(turn, member_id);
        turn.cancel_timer(GroupTimer::ConsumerJoin { member_id: member_id.to_owned() });
        let until = turn.now.tick.plus_ms(u64::try_from(join.rebalance_timeout_ms).unwrap_or(0));
        turn.set_timer(GroupTimer::ConsumerSync { member_id: member_id.to_owned() }, until);
        Ok(Joined {
            generation_id: self.members.get(member_id).map_or(0, |member| member.current.epoch),
            protocol_type: Some(PROTOCOL_TYPE.to_owned()),
            protocol_name: Some(first.name.clone()),
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        })
    }

    /// All members of the classic protocol have a protocol in common, so that the group can go back.
    fn supports(&self, join: &JoinGroup) -> bool {
        let classic: Vec<&ClassicMemberMetadata> =
            self.members.values().filter_map(|member| member.description.classic.as_ref()).collect();
        let has = |metadata: &ClassicMemberMetadata, name: &str| metadata.protocols.iter().any(|(n, _)| n == name);
        join.protocol_type == PROTOCOL_TYPE
            && join.protocols.iter().any(|protocol| classic.iter().all(|metadata| has(metadata, &protocol.name)))
    }

    fn classic_standing(&self, join: &JoinGroup, member_id: &str) -> Result<Standing, ErrorCode> {
        let Some(instance_id) = &join.group_instance_id else {
            let is_known = self.members.contains_key(member_id);
            return Ok(if is_known { Standing::Known } else { Standing::New });
        };
        match self.static_members.get(instance_id) {
            // A client that has just started takes the place of its old self, whatever that spoke.
            Some(holder) if join.member_id.is_empty() => Ok(Standing::Replaces(holder.clone())),
            None if join.member_id.is_empty() => Ok(Standing::New),
            None => Err(ErrorCode::UnknownMemberId),
            Some(holder) if holder != member_id => Err(ErrorCode::FencedInstanceId),
            Some(_) => Ok(Standing::Known),
        }
    }

    pub fn sync_classic(&mut self, turn: &mut Turn<'_>, request: RequestKey, sync: &SyncGroup) {
        let result = self.take_sync(turn, sync);
        match &result {
            Ok(_) => turn.reply(request, GroupResponse::SyncGroup(result)),
            Err(_) => turn.reply_at_once(request, GroupResponse::SyncGroup(result)),
        }
    }

    fn take_sync(&mut self, turn: &mut Turn<'_>, sync: &SyncGroup) -> Result<Synced, ErrorCode> {
        let member_id = sync.member_id.as_str();
        let member = self.classic(member_id, sync.group_instance_id.as_deref(), sync.generation_id)?;
        let (protocol_name, metadata) = protocol(member).ok_or(ErrorCode::UnknownMemberId)?;
        let is_other_type = sync.protocol_type.as_ref().is_some_and(|name| name != PROTOCOL_TYPE);
        if is_other_type || sync.protocol_name.as_ref().is_some_and(|name| name != protocol_name) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let is_behind = member.current.epoch < self.assignment_epoch();
        if is_behind && member.current.state != State::UnrevokedPartitions {
            self.expect_join(turn, member_id);
            return Err(ErrorCode::RebalanceInProgress);
        }
        // A subscription that was taken can be read.
        let version = Subscription::decode(metadata).map_or(0, |subscription| subscription.version);
        let synced = Synced {
            protocol_type: Some(PROTOCOL_TYPE.to_owned()),
            protocol_name: Some(protocol_name.to_owned()),
            assignment: assignment(member.current.assigned.keys(), turn.image, version),
        };
        turn.cancel_timer(GroupTimer::ConsumerSync { member_id: member_id.to_owned() });
        self.begin_session(turn, member_id);
        Ok(synced)
    }

    pub fn heartbeat_classic(&mut self, turn: &mut Turn<'_>, request: RequestKey, heartbeat: &Heartbeat) {
        let result = self.take_classic_heartbeat(turn, heartbeat);
        turn.reply_at_once(request, GroupResponse::Heartbeat(result));
    }

    fn take_classic_heartbeat(&mut self, turn: &mut Turn<'_>, heartbeat: &Heartbeat) -> Result<(), ErrorCode> {
        let member_id = heartbeat.member_id.as_str();
        let member = self.classic(member_id, heartbeat.group_instance_id.as_deref(), heartbeat.generation_id)?;
        let must_join = member.current.epoch < self.assignment_epoch()
            || member.current.state == State::UnrevokedPartitions
            || (member.current.state == State::UnreleasedPartitions && !self.waits_for_others(member_id, member));
        self.begin_session(turn, member_id);
        if must_join {
            self.expect_join(turn, member_id);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// Something meant for it is still with others, so that joining again would bring nothing.
    fn waits_for_others(&self, member_id: &str, member: &Member) -> bool {
        let target = self.targets.get(member_id).into_iter().flatten();
        target
            .filter(|partition| !member.current.assigned.contains_key(partition))
            .any(|partition| self.is_held_by_other(partition, member_id))
    }

    pub fn leave_classic(&mut self, turn: &mut Turn<'_>, request: RequestKey, leave: LeaveGroup) {
        let mut left = Vec::with_capacity(leave.members.len());
        let mut leaving_ids = BTreeSet::new();
        for leaving in leave.members {
            let error = match self.leaving(&leaving) {
                Ok(member_id) => {
                    leaving_ids.insert(member_id);
                    ErrorCode::None
                }
                Err(error) => error,
            };
            let LeavingMember { member_id, group_instance_id, reason: _ } = leaving;
            left.push(LeftMember { member_id, group_instance_id, error });
        }
        self.fence_all(turn, &leaving_ids);
        turn.reply(request, GroupResponse::LeaveGroup(Ok(left)));
    }

    /// Members of either protocol may be taken out: operators do that by instance id.
    fn leaving(&self, leaving: &LeavingMember) -> Result<String, ErrorCode> {
        let Some(instance_id) = &leaving.group_instance_id else {
            let is_known = self.members.contains_key(&leaving.member_id);
            return if is_known { Ok(leaving.member_id.clone()) } else { Err(ErrorCode::UnknownMemberId) };
        };
        match self.static_members.get(instance_id) {
            None => Err(ErrorCode::UnknownMemberId),
            Some(holder) if leaving.member_id.is_empty() || *holder == leaving.member_id => Ok(holder.clone()),
            Some(_) => Err(ErrorCode::FencedInstanceId),
        }
    }

    /// A member of the classic protocol in this generation.
    fn classic(&self, member_id: &str, instance_id: Option<&str>, generation: i32) -> Result<&Member, ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if holder != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        let member = self.members.get(member_id).filter(|member| member.is_classic());
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        if member.current.epoch == generation { Ok(member) } else { Err(ErrorCode::IllegalGeneration) }
    }

    /// Its rebalance time-out is the time it has to join again, from the first time it is told to.
    fn expect_join(&self, turn: &mut Turn<'_>, member_id: &str) {
        let Some(member) = self.members.get(member_id) else { return };
        let timer = GroupTimer::ConsumerJoin { member_id: member_id.to_owned() };
        let until = turn.now.tick.plus_ms(u64::try_from(member.description.rebalance_timeout_ms).unwrap_or(0));
        turn.set_timer_if_none(timer, until);
    }
}

/// The protocol a classic member was told it speaks.
fn protocol(member: &Member) -> Option<(&str, &Bytes)> {
    let (name, metadata) = member.description.classic.as_ref()?.protocols.first()?;
    Some((name, metadata))
}

/// Topics that are not known, or not any more, cannot be owned.
pub(super) fn by_id(topics: &[TopicPartitions], image: &Image) -> Partitions {
    let known = topics.iter().filter_map(|topic| Some((image.topic_named(&topic.topic)?.id, &topic.partitions)));
    known
        .flat_map(|(topic, partitions)| partitions.iter().map(move |&partition| TopicPartition { topic, partition }))
        .collect()
}

/// As a classic member reads it.
pub(super) fn assignment<'a>(
    partitions: impl Iterator<Item = &'a TopicPartition>,
    image: &Image,
    version: i16,
) -> Bytes {
    let topics = partitions::by_topic(partitions).into_iter().filter_map(|(id, partitions)| {
        let topic = image.topic(id)?.name.clone();
        Some(TopicPartitions { topic, partitions })
    });
    Assignment { partitions: topics.collect(), user_data: Bytes::new() }.encode(version)
}
