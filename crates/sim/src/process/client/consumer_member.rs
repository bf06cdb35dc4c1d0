//! The consumer protocol (KIP-848): the coordinator assigns, and a member says with each heartbeat what it has.

use std::collections::{BTreeMap, BTreeSet};

use base_types::ErrorCode;
use bytes::Bytes;
use kafka_wire::k68_consumer_group_heartbeat::RequestTopicPartitions;
use kafka_wire::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, KafkaString};

use super::member::{Desk, Protocol};
use super::{PAUSE_MS, TOPIC};
use crate::checkers::groups::Asked;
use crate::world::Context;

const VERSION: i16 = 1;
const LEAVE: i32 = -1;
const LEAVE_TO_RETURN: i32 = -2;
/// In a thousand heartbeats.
const LEAVES: u64 = 8;
const AWAY_MS_MAX: u64 = 2_000;

#[derive(Default)]
pub struct ConsumerMember {
    /// Made by the member itself (KIP-1082), in each life another.
    member_id: String,
    /// 0: it is in no group, and means to join.
    epoch: i32,
    /// What it was told to give up, and has not yet.
    revoking: BTreeSet<i32>,
    /// Given up in this epoch; the coordinator is to hear of it.
    given_up: Option<(i32, BTreeMap<i32, i64>)>,
    /// The last answer is missing.
    says_all: bool,
    asked: Option<Question>,
}

enum Question {
    Join(Asked),
    Heartbeat(Asked),
    Leave,
}

impl ConsumerMember {
    fn heartbeat(&mut self, desk: &mut Desk, context: &mut Context<'_>, epoch: i32) {
        let is_full = epoch == 0 || self.says_all;
        let says_what_it_has = is_full || self.given_up.is_some() || context.random.chance(500);
        let card = &desk.card;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: card.group.name.as_str().into(),
            member_id: self.member_id.as_str().into(),
            member_epoch: epoch,
            instance_id: card.instance.as_deref().map(Into::into),
            rebalance_timeout_ms: if is_full { card.rebalance_ms } else { -1 },
            subscribed_topic_names: is_full.then(|| vec![KafkaString::from_static(TOPIC)]),
            topic_partitions: (epoch >= 0 && says_what_it_has).then(|| has(desk)),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        desk.ask(context, VERSION, &request);
    }

    fn leave(&mut self, desk: &mut Desk, context: &mut Context<'_>) {
        let epoch = if desk.card.instance.is_some() { LEAVE_TO_RETURN } else { LEAVE };
        if epoch == LEAVE {
            desk.card.judge.borrow_mut().leaves(desk.card.who, context.now.tick);
        }
        desk.is_out(context, "it leaves");
        self.asked = Some(Question::Leave);
        self.heartbeat(desk, context, epoch);
        self.forget();
        self.member_id.clear();
    }

    fn welcomed(
        &mut self,
        desk: &mut Desk,
        context: &mut Context<'_>,
        (asked, joins): (Asked, bool),
        answer: ConsumerGroupHeartbeatResponse,
    ) {
        let (who, judge) = (desk.card.who, desk.card.judge.clone());
        judge.borrow_mut().heartbeat_answered(
            who,
            &self.member_id,
            answer.member_epoch,
            asked,
            joins,
            context.now.tick,
        );
        judge.borrow_mut().lives(who, asked);
        self.epoch = answer.member_epoch;
        let interval_ms = u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0);
        desk.heartbeat_at = context.now.tick.plus_ms(interval_ms.max(PAUSE_MS / 2));
        if let Some((epoch, had)) = self.given_up.take().filter(|(epoch, _)| *epoch < self.epoch) {
            desk.may_be_late(context, epoch, &self.member_id, had);
        }
        let Some(assignment) = answer.assignment else { return };
        let mut assigned = BTreeSet::new();
        for topic in assignment.topic_partitions {
            desk.topic = topic.topic_id;
            assigned.extend(topic.partitions);
        }
        self.revoking = desk.owned().difference(&assigned).copied().collect();
        desk.take(context, &assigned, asked);
        // What is new is told soon.
        desk.heartbeat_at = desk.heartbeat_at.min(context.now.tick.plus_ms(PAUSE_MS));
    }

    /// It is in the group no more and joins again.
    fn forget(&mut self) {
        (self.epoch, self.given_up) = (0, None);
        self.revoking.clear();
    }
}

impl Protocol for ConsumerMember {
    fn standing(&self) -> Option<(i32, &str)> {
        (self.epoch > 0).then_some((self.epoch, self.member_id.as_str()))
    }

    fn is_pressing(&self) -> bool {
        !self.revoking.is_empty()
    }

    fn ask(&mut self, desk: &mut Desk, context: &mut Context<'_>) {
        desk.heartbeat_at = context.now.tick.plus_ms(desk.card.heartbeat_ms);
        if self.member_id.is_empty() {
            let digits = context.random.uuid().map(|byte| format!("{byte:02x}"));
            self.member_id = digits.concat();
        }
        if self.epoch == 0 {
            self.asked = Some(Question::Join(desk.asks(context)));
            return self.heartbeat(desk, context, 0);
        }
        if self.revoking.is_empty() && context.random.chance(LEAVES) {
            return self.leave(desk, context);
        }
        let revoking = std::mem::take(&mut self.revoking);
        if !revoking.is_empty() {
            let mut had = desk.positions();
            had.retain(|partition, _| revoking.contains(partition));
            self.given_up = Some((self.epoch, had));
            desk.give_up(context, &revoking);
        }
        self.asked = Some(Question::Heartbeat(desk.asks(context)));
        self.heartbeat(desk, context, self.epoch);
    }

    fn answered(&mut self, desk: &mut Desk, context: &mut Context<'_>, frame: Bytes) {
        let answer = desk.line.decode::<ConsumerGroupHeartbeatRequest>(frame, VERSION);
        self.says_all = answer.error_code != 0;
        let code = ErrorCode::from_code(answer.error_code).unwrap_or(ErrorCode::UnknownServerError);
        match self.asked.take() {
            None => {}
            Some(Question::Leave) => {
                let away_ms = context.random.between(PAUSE_MS, AWAY_MS_MAX);
                desk.wait(context, away_ms);
            }
            Some(Question::Join(asked)) if code == ErrorCode::None => {
                self.welcomed(desk, context, (asked, true), answer);
            }
            Some(Question::Heartbeat(asked)) if code == ErrorCode::None => {
                self.welcomed(desk, context, (asked, false), answer);
            }
            Some(Question::Join(_) | Question::Heartbeat(_)) => {
                desk.wait(context, PAUSE_MS);
                self.refused(desk, context, code);
            }
        }
    }

    /// The answer that is missing may have told of another epoch and other partitions.
    fn unanswered(&mut self) {
        self.asked = None;
        self.says_all = true;
    }

    fn refused(&mut self, desk: &mut Desk, context: &Context<'_>, code: ErrorCode) {
        match code {
            ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch | ErrorCode::GroupIdNotFound => {
                self.forget();
                desk.is_out(context, code.name());
            }
            ErrorCode::FencedInstanceId => desk.stop(context, "it is fenced"),
            // The next heartbeat tells the epoch.
            ErrorCode::StaleMemberEpoch => desk.heartbeat_at = context.now.tick,
            _ => {}
        }
    }
}

fn has(desk: &Desk) -> Vec<RequestTopicPartitions> {
    let partitions: Vec<i32> = desk.owned().into_iter().collect();
    if partitions.is_empty() {
        return Vec::new();
    }
    vec![RequestTopicPartitions { topic_id: desk.topic, partitions }]
}
