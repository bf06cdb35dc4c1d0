//! Members of groups: which group a request is for, and which protocol that group speaks.

use base_types::{ErrorCode, Now};
use peer_api::groups::{
    Caller, ConsumerGroupHeartbeat, GroupResponse, Heartbeat, JoinGroup, JoinRefused, LeaveGroup, Refused, SyncGroup,
};
use peer_api::metadata::Image;

use super::GroupCoordinator;
use crate::classic::ClassicGroup;
use crate::consumer::ConsumerGroup;
use crate::effect::Effects;
use crate::event::RequestKey;
use crate::group::Group;
use crate::records::{ClassicGroupValue, Record};

impl GroupCoordinator {
    pub(super) fn join_group(
        &mut self,
        now: Now,
        image: &Image,
        request: RequestKey,
        caller: &Caller,
        join: JoinGroup,
        effects: &mut Effects,
    ) {
        if let Err(error) = self.check_join(&join) {
            let refused = JoinRefused { error, member_id: join.member_id };
            return self.reply(request, Ok(GroupResponse::JoinGroup(Err(refused))), effects);
        }
        let group_id = join.group_id.clone();
        // An empty group changes its protocol with the first who comes.
        let before = match self.groups.get(&group_id) {
            Some(Group::Classic(_)) => None,
            Some(group @ Group::Consumer(_)) => Some(group.tombstones(&group_id)),
            None => Some(Vec::new()),
        };
        if before.is_some() {
            self.groups.insert(group_id.clone(), Group::Classic(ClassicGroup::new(now)));
        }
        self.decide(now, image, &group_id, effects, |group, turn| {
            let Group::Classic(group) = group else { return };
            let is_new = before.is_some();
            before.into_iter().flatten().for_each(|record| turn.write(record));
            group.join(turn, request, caller, join);
            let is_written = turn.outcome.records.iter().any(|record| matches!(record, Record::Classic { .. }));
            if is_new && !is_written {
                // The group is in the log from its first member on.
                let value = ClassicGroupValue { state_since: turn.now.wall, ..ClassicGroupValue::default() };
                turn.write(Record::Classic { group_id: turn.group_id.to_owned(), value: Some(value) });
            }
        });
    }

    fn check_join(&self, join: &JoinGroup) -> Result<(), ErrorCode> {
        let settings = &self.desk.settings;
        let session_ms = settings.group_session_timeout_ms_min..=settings.group_session_timeout_ms_max;
        if join.group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        if !session_ms.contains(&join.session_timeout_ms) {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        match self.groups.get(&join.group_id) {
            Some(Group::Consumer(group)) if !group.is_empty() => Err(ErrorCode::InconsistentGroupProtocol),
            Some(Group::Consumer(_)) | None if !join.member_id.is_empty() => Err(ErrorCode::UnknownMemberId),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn sync_group(
        &mut self,
        now: Now,
        image: &Image,
        request: RequestKey,
        sync: SyncGroup,
        effects: &mut Effects,
    ) {
        match self.find_classic(&sync.group_id) {
            Ok(()) => {
                let group_id = sync.group_id.clone();
                self.decide(now, image, &group_id, effects, |group, turn| {
                    if let Group::Classic(group) = group {
                        group.sync(turn, request, sync);
                    }
                });
            }
            Err(error) => self.reply(request, Ok(GroupResponse::SyncGroup(Err(error))), effects),
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        now: Now,
        image: &Image,
        request: RequestKey,
        heartbeat: &Heartbeat,
        effects: &mut Effects,
    ) {
        match self.find_classic(&heartbeat.group_id) {
            Ok(()) => {
                self.decide(now, image, &heartbeat.group_id, effects, |group, turn| {
                    if let Group::Classic(group) = group {
                        group.heartbeat(turn, request, heartbeat);
                    }
                });
            }
            Err(error) => self.reply(request, Ok(GroupResponse::Heartbeat(Err(error))), effects),
        }
    }

    pub(super) fn leave_group(
        &mut self,
        now: Now,
        image: &Image,
        request: RequestKey,
        leave: LeaveGroup,
        effects: &mut Effects,
    ) {
        match self.find_classic(&leave.group_id) {
            Ok(()) => {
                let group_id = leave.group_id.clone();
                self.decide(now, image, &group_id, effects, |group, turn| {
                    if let Group::Classic(group) = group {
                        group.leave(turn, request, leave);
                    }
                });
            }
            Err(error) => self.reply(request, Ok(GroupResponse::LeaveGroup(Err(error))), effects),
        }
    }

    /// A member of the classic protocol asks.
    fn find_classic(&self, group_id: &str) -> Result<(), ErrorCode> {
        match self.groups.get(group_id) {
            _ if group_id.is_empty() => Err(ErrorCode::InvalidGroupId),
            Some(Group::Classic(_)) => Ok(()),
            Some(Group::Consumer(_)) | None => Err(ErrorCode::UnknownMemberId),
        }
    }

    pub(super) fn consumer_heartbeat(
        &mut self,
        now: Now,
        image: &Image,
        request: RequestKey,
        caller: &Caller,
        heartbeat: ConsumerGroupHeartbeat,
        effects: &mut Effects,
    ) {
        let group_id = heartbeat.group_id.clone();
        let before = match self.groups.get(&group_id) {
            Some(Group::Consumer(_)) => {
                self.decide(now, image, &group_id, effects, |group, turn| {
                    if let Group::Consumer(group) = group {
                        group.heartbeat(turn, request, caller, heartbeat);
                    }
                });
                return;
            }
            Some(group @ Group::Classic(classic)) if classic.is_idle() => group.tombstones(&group_id),
            Some(Group::Classic(_)) => {
                let message = Some(format!("Group {group_id} is not a consumer group."));
                let refused = Refused { error: ErrorCode::GroupIdNotFound, message };
                return self.reply(request, Ok(GroupResponse::ConsumerGroupHeartbeat(Err(refused))), effects);
            }
            None => Vec::new(),
        };
        // The group comes into being, or changes its protocol, only if the heartbeat is one that writes something.
        let mut group = ConsumerGroup::default();
        let mut turn = self.desk.turn(now, image, &group_id);
        group.heartbeat(&mut turn, request, caller, heartbeat);
        let mut outcome = turn.outcome;
        if !group.is_gone() {
            outcome.records.splice(0..0, before);
            self.groups.insert(group_id.clone(), Group::Consumer(group));
        }
        self.settle(now, &group_id, outcome, effects);
    }
}
