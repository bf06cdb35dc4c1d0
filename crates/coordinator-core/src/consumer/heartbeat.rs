//! What a heartbeat does: joining, living, leaving; and what happens to members that are not heard of.

use std::collections::BTreeSet;

use base_types::{ErrorCode, Incarnation, planted};
use peer_api::groups::{Caller, ConsumerGroupHeartbeat, ConsumerGroupHeartbeatAnswer, GroupResponse, Refused};

use super::ConsumerGroup;
use super::member::{Current, Description, LEAVE, LEAVE_TO_RETURN, Member, State};
use super::partitions::{self, Owned, Partitions};
use super::pattern::Pattern;
use super::reconcile::Step;
use super::target::offered;
use crate::event::{RequestKey, Settings};
use crate::records::ConsumerRecord;
use crate::timers::GroupTimer;
use crate::turn::Turn;

/// While a group settles, members are asked to come back soon: a partition changes hands only with heartbeats, and what waits
/// for the next regular one waits for seconds. The more members, the longer, so that all together come 500 times a second at
/// most.
const SETTLING_MS: u64 = 5_000;
const SETTLING_INTERVAL_MS_MIN: i32 = 200;
const SETTLING_INTERVAL_MS_PER_MEMBER: i32 = 2;

/// What the member is to the group before this heartbeat.
pub(super) enum Standing {
    New,
    Known,
    /// It takes the place of the static member of this id.
    Replaces(String),
}

impl ConsumerGroup {
    pub fn heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestKey,
        caller: &Caller,
        heartbeat: ConsumerGroupHeartbeat,
    ) {
        match self.heard(turn, caller, heartbeat) {
            Ok(answer) => turn.reply(request, GroupResponse::ConsumerGroupHeartbeat(Ok(answer))),
            Err(refused) => turn.reply_at_once(request, GroupResponse::ConsumerGroupHeartbeat(Err(refused))),
        }
    }

    /// The log was read to its end: sessions begin now, and whoever had to give something up has its time again.
    pub fn loaded(&mut self, turn: &mut Turn<'_>) {
        self.changed_at = turn.now.tick;
        let members: Vec<String> = self.members.keys().cloned().collect();
        for member_id in members {
            self.begin_session(turn, &member_id);
            self.watch_revocation(turn, &member_id);
        }
    }

    pub fn timer_fired(&mut self, turn: &mut Turn<'_>, timer: &GroupTimer) {
        match timer {
            GroupTimer::ConsumerSession { member_id } => {
                let Some(&deadline) = self.sessions.get(member_id) else { return };
                if deadline > turn.now.tick {
                    turn.set_timer(timer.clone(), deadline);
                } else if !planted!(SessionsNeverEnd) {
                    self.fence(turn, member_id);
                }
            }
            GroupTimer::ConsumerRebalance { member_id } => {
                let epoch = self.revocations.remove(member_id);
                let is_late = self.members.get(member_id).is_some_and(|member| Some(member.current.epoch) == epoch);
                if is_late {
                    self.fence(turn, member_id);
                }
            }
            // A member that has gone over to the consumer protocol has no such timers any more.
            GroupTimer::ConsumerJoin { member_id } | GroupTimer::ConsumerSync { member_id } => {
                self.fence(turn, member_id);
            }
            GroupTimer::Session { .. } | GroupTimer::Pending { .. } | GroupTimer::Join | GroupTimer::Sync => {}
        }
    }

    fn heard(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        heartbeat: ConsumerGroupHeartbeat,
    ) -> Result<ConsumerGroupHeartbeatAnswer, Refused> {
        validate(&heartbeat, turn.settings)?;
        if heartbeat.member_epoch < 0 {
            return self.leave(turn, &heartbeat);
        }
        let is_joining = heartbeat.member_epoch == 0;
        if self.is_gone() && !is_joining {
            return Err(refused(ErrorCode::GroupIdNotFound, format!("group {} does not exist", turn.group_id)));
        }
        let is_full = self.members.len() >= turn.settings.consumer_group_size_max;
        if is_full && !self.members.contains_key(&heartbeat.member_id) {
            let size = turn.settings.consumer_group_size_max;
            return Err(refused(ErrorCode::GroupMaxSizeReached, format!("the group has {size} members already")));
        }
        let member_id = match heartbeat.member_id.as_str() {
            "" => Incarnation(turn.random.uuid()).to_string(),
            member_id => member_id.to_owned(),
        };
        let owned = heartbeat.topic_partitions.as_deref().map(partitions::from_topics);
        let standing = self.standing(&heartbeat, &member_id, owned.as_ref())?;
        let before = self.before(&standing, &member_id);
        let mut description = before.description.clone();
        update(&mut description, &heartbeat);
        description.called_by(caller);
        self.check_regex(&before.description, &description)?;
        if before.current.state == State::Unknown && owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return Err(fenced("the state of the member is not known"));
        }

        // Nothing is refused from here on.
        if let Standing::Replaces(old_id) = &standing {
            self.replace(turn, old_id, &member_id, &before);
        }
        let is_full_request = heartbeat.rebalance_timeout_ms != -1
            && (heartbeat.subscribed_topic_names.is_some() || heartbeat.subscribed_topic_regex.is_some())
            && owned.is_some();
        let had = before.current.assigned.clone();
        self.update_member(turn, &member_id, before.description, description, owned.as_ref());
        self.cancel_classic_timers(turn, &member_id);
        self.begin_session(turn, &member_id);
        let current = self.members.get(&member_id).map(|member| member.current.clone()).unwrap_or_default();
        let has_other = !current.assigned.keys().eq(had.keys());
        Ok(ConsumerGroupHeartbeatAnswer {
            heartbeat_interval_ms: self.heartbeat_interval_ms(turn, &current),
            member_id: Some(member_id),
            member_epoch: current.epoch,
            assignment: (is_joining || is_full_request || has_other)
                .then(|| partitions::to_topics(current.assigned.keys())),
        })
    }

    /// The group takes up what the member now says of itself, and gives it what it may have.
    pub(super) fn update_member(
        &mut self,
        turn: &mut Turn<'_>,
        member_id: &str,
        before: Description,
        description: Description,
        owned: Option<&Partitions>,
    ) {
        let is_new = !self.members.contains_key(member_id);
        if is_new || before != description {
            self.write_description(turn, member_id, &description);
        }
        let has_resubscribed = before.subscribed_names != description.subscribed_names
            || before.subscribed_regex != description.subscribed_regex;
        self.refresh(turn, has_resubscribed);
        self.assign(turn);
        self.reconcile(turn, member_id, has_resubscribed, owned);
    }

    fn standing(
        &self,
        heartbeat: &ConsumerGroupHeartbeat,
        member_id: &str,
        owned: Option<&Partitions>,
    ) -> Result<Standing, Refused> {
        let is_joining = heartbeat.member_epoch == 0;
        let Some(instance_id) = &heartbeat.instance_id else {
            return match self.members.get(member_id) {
                Some(member) => check_epoch(member, heartbeat.member_epoch, owned).map(|()| Standing::Known),
                None if is_joining => Ok(Standing::New),
                None => Err(unknown_member(member_id)),
            };
        };
        let holder = self.static_members.get(instance_id).and_then(|id| self.members.get_key_value(id));
        match holder {
            None if is_joining => Ok(Standing::New),
            None => Err(refused(ErrorCode::UnknownMemberId, format!("instance id {instance_id} is not known"))),
            Some((holder_id, member)) if is_joining => {
                let is_released = member.current.epoch == LEAVE_TO_RETURN || member.is_classic();
                if is_released {
                    return Ok(Standing::Replaces(holder_id.clone()));
                }
                // Deviation from Kafka: Kafka refuses the very member that holds the instance id, too, so that a client which
                // lost the answer to its first heartbeat, or was fenced, can come back only after its session has ended.
                if holder_id == member_id {
                    return Ok(Standing::Known);
                }
                let message = format!("instance id {instance_id} is in use by member {holder_id}");
                Err(refused(ErrorCode::UnreleasedInstanceId, message))
            }
            Some((holder_id, _)) if holder_id != member_id => {
                let message = format!("instance id {instance_id} belongs to member {holder_id} now");
                Err(refused(ErrorCode::FencedInstanceId, message))
            }
            Some((_, member)) => check_epoch(member, heartbeat.member_epoch, owned).map(|()| Standing::Known),
        }
    }

    pub(super) fn before(&self, standing: &Standing, member_id: &str) -> Member {
        let known = |id: &str| self.members.get(id).cloned().unwrap_or_default();
        match standing {
            Standing::New => Member::default(),
            Standing::Known => known(member_id),
            // The new one begins where the old one stopped, but for the epoch.
            Standing::Replaces(old_id) => {
                let old = known(old_id);
                let current = Current { epoch: 0, previous_epoch: 0, ..old.current };
                Member { description: old.description, current }
            }
        }
    }

    /// A regular expression that others use already was checked when they came.
    fn check_regex(&self, before: &Description, after: &Description) -> Result<(), Refused> {
        let Some(regex) = after.regex().filter(|regex| before.regex() != Some(regex)) else { return Ok(()) };
        if self.regexes.contains_key(regex) {
            return Ok(());
        }
        Pattern::new(regex).map(|_| ()).map_err(|error| {
            let message = format!("the regular expression {regex} of the subscription is not valid: {error}");
            refused(ErrorCode::InvalidRegularExpression, message)
        })
    }

    pub(super) fn replace(&mut self, turn: &mut Turn<'_>, old_id: &str, new_id: &str, new: &Member) {
        let target = self.targets.get(old_id).cloned().unwrap_or_default();
        self.forget(turn, old_id);
        self.write_description(turn, new_id, &new.description);
        let value = Some(partitions::to_topics(&target));
        self.write(turn, ConsumerRecord::TargetMember { member_id: new_id.to_owned(), value });
        self.write_current(turn, new_id, &new.current);
    }

    /// One step towards the target, if there is one to take.
    fn reconcile(
        &mut self,
        turn: &mut Turn<'_>,
        member_id: &str,
        subscription_changed: bool,
        owned: Option<&Partitions>,
    ) {
        let Some(member) = self.members.get(member_id) else { return };
        if !subscription_changed && member.is_reconciled_to(self.assignment_epoch()) {
            return;
        }
        let nothing = Partitions::new();
        let step = Step {
            target_epoch: self.assignment_epoch(),
            target: self.targets.get(member_id).unwrap_or(&nothing),
            subscribed: &self.subscribed_topics(&member.description, turn.image),
            subscription_changed,
            owned,
            is_held_by_other: &|partition| self.is_held_by_other(partition, member_id),
        };
        // A member that a step would fence was refused before anything was written.
        let Ok(next) = step.take(&member.current) else { return };
        if next != member.current {
            self.write_current(turn, member_id, &next);
            self.watch_revocation(turn, member_id);
        }
    }

    fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        heartbeat: &ConsumerGroupHeartbeat,
    ) -> Result<ConsumerGroupHeartbeatAnswer, Refused> {
        if self.is_gone() {
            return Err(refused(ErrorCode::GroupIdNotFound, format!("group {} does not exist", turn.group_id)));
        }
        let member_id = heartbeat.member_id.as_str();
        let known = match &heartbeat.instance_id {
            Some(instance_id) => {
                let holder = self.static_members.get(instance_id);
                let Some(holder) = holder else {
                    let message = format!("instance id {instance_id} is not known");
                    return Err(refused(ErrorCode::UnknownMemberId, message));
                };
                if holder != member_id {
                    let message = format!("instance id {instance_id} belongs to member {holder} now");
                    return Err(refused(ErrorCode::FencedInstanceId, message));
                }
                self.members.get(holder)
            }
            None => self.members.get(member_id),
        };
        let Some(member) = known else { return Err(unknown_member(member_id)) };
        if heartbeat.member_epoch == LEAVE_TO_RETURN && heartbeat.instance_id.is_some() {
            let released =
                Current { epoch: LEAVE_TO_RETURN, pending_revocation: Owned::new(), ..member.current.clone() };
            self.write_current(turn, member_id, &released);
        } else {
            self.fence(turn, member_id);
        }
        Ok(ConsumerGroupHeartbeatAnswer {
            member_id: Some(member_id.to_owned()),
            member_epoch: heartbeat.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        })
    }

    /// The member is put out, and what it held is free.
    pub(super) fn fence(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        self.fence_all(turn, &BTreeSet::from([member_id.to_owned()]));
    }

    pub(super) fn fence_all(&mut self, turn: &mut Turn<'_>, member_ids: &BTreeSet<String>) {
        let known: Vec<&String> = member_ids.iter().filter(|id| self.members.contains_key(*id)).collect();
        if known.is_empty() {
            return;
        }
        known.into_iter().for_each(|member_id| self.forget(turn, member_id));
        self.refresh(turn, true);
    }

    /// With its timers.
    fn forget(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        self.cancel_timers(turn, member_id);
        self.write_removal(turn, member_id);
    }

    pub(super) fn cancel_timers(&self, turn: &mut Turn<'_>, member_id: &str) {
        turn.cancel_timer(GroupTimer::ConsumerSession { member_id: member_id.to_owned() });
        turn.cancel_timer(GroupTimer::ConsumerRebalance { member_id: member_id.to_owned() });
        self.cancel_classic_timers(turn, member_id);
    }

    fn cancel_classic_timers(&self, turn: &mut Turn<'_>, member_id: &str) {
        turn.cancel_timer(GroupTimer::ConsumerJoin { member_id: member_id.to_owned() });
        turn.cancel_timer(GroupTimer::ConsumerSync { member_id: member_id.to_owned() });
    }

    pub(super) fn begin_session(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        let classic = self.members.get(member_id).and_then(|member| member.description.classic.as_ref());
        let length_ms = classic.map_or(turn.settings.consumer_session_timeout_ms, |classic| classic.session_timeout_ms);
        let deadline = turn.now.tick.plus_ms(u64::try_from(length_ms).unwrap_or(0));
        // A timer that runs already looks at the deadline when it fires, unless that is too late.
        if self.sessions.insert(member_id.to_owned(), deadline).is_none_or(|before| deadline < before) {
            turn.set_timer(GroupTimer::ConsumerSession { member_id: member_id.to_owned() }, deadline);
        }
    }

    /// A member that must give something up has its rebalance time-out for it, from each change of what that is.
    fn watch_revocation(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        let Some(member) = self.members.get(member_id) else { return };
        let timer = GroupTimer::ConsumerRebalance { member_id: member_id.to_owned() };
        // A member of the classic protocol joins again when it has, and has its time for that.
        if member.current.state == State::UnrevokedPartitions && !member.is_classic() {
            let length = u64::try_from(member.description.rebalance_timeout_ms).unwrap_or(0);
            self.revocations.insert(member_id.to_owned(), member.current.epoch);
            turn.set_timer(timer, turn.now.tick.plus_ms(length));
        } else if self.revocations.remove(member_id).is_some() {
            turn.cancel_timer(timer);
        }
    }

    fn heartbeat_interval_ms(&self, turn: &Turn<'_>, current: &Current) -> i32 {
        let regular = turn.settings.consumer_heartbeat_interval_ms;
        let is_settled = current.state == State::Stable && current.epoch == self.epoch();
        if is_settled && turn.now.tick.ms_since(self.changed_at) >= SETTLING_MS {
            return regular;
        }
        let members = i32::try_from(self.members.len()).unwrap_or(i32::MAX);
        let soon = members.saturating_mul(SETTLING_INTERVAL_MS_PER_MEMBER).max(SETTLING_INTERVAL_MS_MIN);
        regular.min(soon)
    }
}

/// What can be judged without the group.
fn validate(heartbeat: &ConsumerGroupHeartbeat, settings: &Settings) -> Result<(), Refused> {
    let invalid = |message: &str| Err(refused(ErrorCode::InvalidRequest, message.to_owned()));
    let is_blank = |text: &str| text.trim().is_empty();
    let needs_id = heartbeat.requires_member_id || heartbeat.member_epoch > 0 || heartbeat.member_epoch == LEAVE;
    if needs_id && is_blank(&heartbeat.member_id) {
        return invalid("the member id is empty");
    }
    if is_blank(&heartbeat.group_id) {
        return invalid("the group id is empty");
    }
    if heartbeat.instance_id.as_deref().is_some_and(is_blank) {
        return invalid("the instance id is empty");
    }
    if heartbeat.rack_id.as_deref().is_some_and(is_blank) {
        return invalid("the rack id is empty");
    }
    if heartbeat.member_epoch == 0 {
        if heartbeat.rebalance_timeout_ms == -1 {
            return invalid("a member that joins must say its rebalance time-out");
        }
        if heartbeat.topic_partitions.as_ref().is_none_or(|topics| !topics.is_empty()) {
            return invalid("a member that joins must own no partitions and say so");
        }
        if heartbeat.subscribed_topic_names.is_none() && heartbeat.subscribed_topic_regex.is_none() {
            return invalid("a member that joins must say what it subscribes to");
        }
    } else if heartbeat.member_epoch == LEAVE_TO_RETURN && heartbeat.instance_id.is_none() {
        return invalid("only a member with an instance id may leave to return");
    } else if heartbeat.member_epoch < LEAVE_TO_RETURN {
        return invalid("there is no such member epoch");
    }
    match &heartbeat.server_assignor {
        Some(name) if !offered(settings).any(|assignor| assignor.name() == name) => {
            let offered: Vec<&str> = offered(settings).map(|assignor| assignor.name()).collect();
            let message = format!("assignor {name} is not offered, only {}", offered.join(", "));
            Err(refused(ErrorCode::UnsupportedAssignor, message))
        }
        _ => Ok(()),
    }
}

/// A member may be one epoch behind when the answer that told it of the newest was lost: it then owns nothing that it was not
/// given. Epoch 0 is always taken: the member begins anew.
fn check_epoch(member: &Member, epoch: i32, owned: Option<&Partitions>) -> Result<(), Refused> {
    let current = &member.current;
    let is_one_behind = epoch == current.previous_epoch
        && owned.is_some_and(|owned| owned.iter().all(|partition| current.assigned.contains_key(partition)));
    if epoch == 0 || epoch == current.epoch || (epoch < current.epoch && is_one_behind) {
        return Ok(());
    }
    Err(fenced(&format!("the member is in epoch {}, not {epoch}", current.epoch)))
}

fn update(description: &mut Description, heartbeat: &ConsumerGroupHeartbeat) {
    if heartbeat.instance_id.is_some() {
        description.instance_id.clone_from(&heartbeat.instance_id);
    }
    if heartbeat.rack_id.is_some() {
        description.rack_id.clone_from(&heartbeat.rack_id);
    }
    if heartbeat.rebalance_timeout_ms != -1 {
        description.rebalance_timeout_ms = heartbeat.rebalance_timeout_ms;
    }
    if heartbeat.server_assignor.is_some() {
        description.server_assignor.clone_from(&heartbeat.server_assignor);
    }
    if let Some(names) = &heartbeat.subscribed_topic_names {
        description.subscribed_names = names.iter().cloned().collect();
    }
    if heartbeat.subscribed_topic_regex.is_some() {
        description.subscribed_regex.clone_from(&heartbeat.subscribed_topic_regex);
    }
    description.classic = None;
}

fn refused(error: ErrorCode, message: String) -> Refused {
    Refused { error, message: Some(message) }
}

fn fenced(reason: &str) -> Refused {
    let message = format!("{reason}: it must give up its partitions and join again");
    refused(ErrorCode::FencedMemberEpoch, message)
}

fn unknown_member(member_id: &str) -> Refused {
    refused(ErrorCode::UnknownMemberId, format!("{member_id} is no member of the group"))
}
