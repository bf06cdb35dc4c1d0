//! Members of groups: which group a request is for, and which protocol that group speaks.

use base_types::{ErrorCode, Now};
use peer_api::groups::{
    Caller, ConsumerGroupHeartbeat, GroupResponse, Heartbeat, JoinGroup, JoinRefused, LeaveGroup, LeavingMember,
    LeftMember, Refused, SyncGroup,
};
use peer_api::metadata::Image;

use super::GroupCoordinator;
use crate::classic::ClassicGroup;
use crate::consumer::{ConsumerGroup, Stays};
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
        if matches!(self.groups.get(&group_id), Some(Group::Consumer(group)) if !group.is_empty()) {
            self.decide(now, image, &group_id, effects, |group, turn| {
                if let Group::Consumer(group) = group {
                    group.join_classic(turn, request, caller, &join);
                }
            });
            return;
        }
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
            Some(Group::Consumer(group)) if !group.is_empty() => Ok(()),
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
        match self.find(&sync.group_id) {
            Ok(()) => {
                let group_id = sync.group_id.clone();
                self.decide(now, image, &group_id, effects, |group, turn| match group {
                    Group::Classic(group) => group.sync(turn, request, sync),
                    Group::Consumer(group) => group.sync_classic(turn, request, &sync),
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
        match self.find(&heartbeat.group_id) {
            Ok(()) => {
                self.decide(now, image, &heartbeat.group_id, effects, |group, turn| match group {
                    Group::Classic(group) => group.heartbeat(turn, request, heartbeat),
                    Group::Consumer(group) => group.heartbeat_classic(turn, request, heartbeat),
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
        match self.find(&leave.group_id) {
            Ok(()) => {
                let group_id = leave.group_id.clone();
                self.decide(now, image, &group_id, effects, |group, turn| match group {
                    Group::Classic(group) => group.leave(turn, request, leave),
                    Group::Consumer(group) => group.leave_classic(turn, request, leave),
                });
            }
            // Of a group that is not there everyone is told so by itself.
            Err(ErrorCode::UnknownMemberId) => {
                let unknown = |member: LeavingMember| LeftMember {
                    member_id: member.member_id,
                    group_instance_id: member.group_instance_id,
                    error: ErrorCode::UnknownMemberId,
                };
                let left = leave.members.into_iter().map(unknown).collect();
                self.reply(request, Ok(GroupResponse::LeaveGroup(Ok(left))), effects);
            }
            Err(error) => self.reply(request, Ok(GroupResponse::LeaveGroup(Err(error))), effects),
        }
    }

    /// A member of the classic protocol asks. Groups of either kind may have such members.
    fn find(&self, group_id: &str) -> Result<(), ErrorCode> {
        match self.groups.get(group_id) {
            _ if group_id.is_empty() => Err(ErrorCode::InvalidGroupId),
            Some(_) => Ok(()),
            None => Err(ErrorCode::UnknownMemberId),
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
        if let Some(Group::Consumer(_)) = self.groups.get(&group_id) {
            self.decide(now, image, &group_id, effects, |group, turn| {
                if let Group::Consumer(group) = group {
                    group.heartbeat(turn, request, caller, heartbeat);
                }
            });
            return;
        }
        let (mut group, before) = match self.new_consumer_group(image, &heartbeat) {
            Ok(begun) => begun,
            Err(refused) => {
                return self.reply(request, Ok(GroupResponse::ConsumerGroupHeartbeat(Err(refused))), effects);
            }
        };
        // The group comes into being, or changes its protocol, only if the heartbeat is one that writes something.
        let mut turn = self.desk.turn(now, image, &group_id);
        group.heartbeat(&mut turn, request, caller, heartbeat);
        if !turn.outcome.records.is_empty() {
            turn.outcome.records.splice(0..0, before);
            group.loaded(&mut turn);
            if let Some(Group::Classic(mut old)) = self.groups.insert(group_id.clone(), Group::Consumer(group)) {
                old.dissolve(&mut turn);
            }
        }
        let outcome = turn.outcome;
        self.settle(now, &group_id, outcome, effects);
    }

    /// What a member of the consumer protocol comes to where there is no such group yet, and the records that are written
    /// before its own: a group of the classic protocol that is empty makes room, and one of ordinary consumers goes over.
    fn new_consumer_group(
        &self,
        image: &Image,
        heartbeat: &ConsumerGroupHeartbeat,
    ) -> Result<(ConsumerGroup, Vec<Record>), Refused> {
        let group_id = &heartbeat.group_id;
        let Some(group @ Group::Classic(classic)) = self.groups.get(group_id) else {
            return Ok((ConsumerGroup::default(), Vec::new()));
        };
        let mut before = group.tombstones(group_id);
        if classic.is_idle() {
            return Ok((ConsumerGroup::default(), before));
        }
        let settings = &self.desk.settings;
        let stays = |reason: &str| {
            let message = Some(format!("group {group_id} stays with the classic protocol: {reason}"));
            Err(Refused { error: ErrorCode::GroupIdNotFound, message })
        };
        if heartbeat.member_epoch != 0 {
            return stays("only a member that joins can take it over");
        }
        if !matches!(settings.consumer_migration_policy.as_str(), "upgrade" | "bidirectional") {
            return stays("group.consumer.migration.policy does not allow it");
        }
        if !classic.uses_consumer_protocol() {
            return stays("its members are no ordinary consumers");
        }
        if classic.size() > settings.consumer_group_size_max {
            return stays("it has more members than a group of the consumer protocol may have");
        }
        match ConsumerGroup::from_classic(&classic.leaving(), image) {
            Ok((group, records)) => {
                let of_group = |record| Record::Consumer { group_id: group_id.clone(), record };
                before.extend(records.into_iter().map(of_group));
                // Half of the change must never be found in the log.
                if !settings.one_batch_holds(&before) {
                    return stays("what it is takes more than one batch of the log");
                }
                Ok((group, before))
            }
            Err(Stays::Malformed) => stays("what its members say of themselves cannot be read"),
            Err(Stays::UserData) => stays("its assignor tells members more than their partitions"),
        }
    }
}
