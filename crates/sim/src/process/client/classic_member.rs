//! The classic protocol, as an eager consumer speaks it: everyone gives up everything, joins, one of them assigns, everyone syncs.

use std::collections::{BTreeMap, BTreeSet};

use base_types::ErrorCode;
use bytes::Bytes;
use kafka_wire::consumer_protocol_assignment::{ConsumerProtocolAssignment, TopicPartition};
use kafka_wire::consumer_protocol_subscription::ConsumerProtocolSubscription;
use kafka_wire::k11_join_group::{JoinGroupRequestProtocol, JoinGroupResponse, JoinGroupResponseMember};
use kafka_wire::k13_leave_group::MemberIdentity;
use kafka_wire::k14_sync_group::SyncGroupRequestAssignment;
use kafka_wire::{
    HeartbeatRequest, JoinGroupRequest, KafkaString, LeaveGroupRequest, Reader, SyncGroupRequest, Writer,
};

use super::member::{Desk, Protocol};
use super::{PAUSE_MS, TOPIC};
use crate::checkers::groups::Asked;
use crate::world::Context;

/// What a JoinGroup may take beyond the rebalance time-out, as in Kafka's consumer.
const JOIN_GRACE_MS: u64 = 5_000;
const ANSWER_MS_MAX: u64 = 5_000;
/// In a thousand heartbeats of a dynamic member.
const LEAVES: u64 = 8;
const AWAY_MS_MAX: u64 = 2_000;
const PROTOCOL: &str = "range";

/// The versions that a client speaks.
#[derive(Clone, Copy, Debug)]
pub struct Versions {
    pub join: i16,
    pub sync: i16,
    pub heartbeat: i16,
    pub leave: i16,
}

pub struct ClassicMember {
    versions: Versions,
    member_id: String,
    generation: i32,
    stage: Stage,
    /// The group rebalances: it must give up what it has and join again.
    must_join: bool,
    /// What it had in the generation before.
    before: Option<(i32, BTreeMap<i32, i64>)>,
    asked: Option<Question>,
}

enum Stage {
    Out,
    /// A leader knows everyone.
    Joined(Vec<JoinGroupResponseMember>),
    In,
}

enum Question {
    Join(Asked),
    Sync(Asked),
    Heartbeat(Asked),
    Leave,
}

impl ClassicMember {
    pub fn new(versions: Versions) -> ClassicMember {
        ClassicMember {
            versions,
            member_id: String::new(),
            generation: -1,
            stage: Stage::Out,
            must_join: false,
            before: None,
            asked: None,
        }
    }

    fn join(&mut self, desk: &mut Desk, context: &mut Context<'_>) {
        if let Stage::In = self.stage {
            self.before = Some((self.generation, desk.positions()));
            desk.is_out(context, "the group rebalances");
        }
        (self.stage, self.must_join) = (Stage::Out, false);
        if self.member_id.is_empty() {
            desk.card.judge.borrow_mut().enters(desk.card.who);
        }
        self.asked = Some(Question::Join(desk.asks(context)));
        let card = &desk.card;
        let request = JoinGroupRequest {
            group_id: card.group.name.as_str().into(),
            session_timeout_ms: card.group.session_ms as i32,
            rebalance_timeout_ms: card.rebalance_ms,
            member_id: self.member_id.as_str().into(),
            group_instance_id: card.instance.as_deref().map(Into::into),
            protocol_type: KafkaString::from_static("consumer"),
            protocols: vec![JoinGroupRequestProtocol {
                name: KafkaString::from_static(PROTOCOL),
                metadata: subscription(),
            }],
            ..JoinGroupRequest::default()
        };
        let answer_ms_max = card.rebalance_ms as u64 + JOIN_GRACE_MS;
        desk.line.ask(context, self.versions.join, &request, answer_ms_max);
    }

    fn sync(&mut self, desk: &mut Desk, context: &mut Context<'_>, members: &[JoinGroupResponseMember]) {
        self.asked = Some(Question::Sync(desk.asks(context)));
        let names_protocol = self.versions.sync >= 5;
        let name = |name: &'static str| names_protocol.then(|| KafkaString::from_static(name));
        let request = SyncGroupRequest {
            group_id: desk.card.group.name.as_str().into(),
            generation_id: self.generation,
            member_id: self.member_id.as_str().into(),
            group_instance_id: desk.card.instance.as_deref().map(Into::into),
            protocol_type: name("consumer"),
            protocol_name: name(PROTOCOL),
            assignments: self.assign(members, desk.card.group.partitions),
        };
        // It waits for the leader, who may have died: until the group's rebalance time-out.
        let answer_ms_max = desk.card.rebalance_ms as u64 + JOIN_GRACE_MS;
        desk.line.ask(context, self.versions.sync, &request, answer_ms_max);
    }

    /// One after the other; in each generation to others, so that partitions move.
    fn assign(&self, members: &[JoinGroupResponseMember], partitions: i32) -> Vec<SyncGroupRequestAssignment> {
        let mut members: Vec<&JoinGroupResponseMember> = members.iter().collect();
        members.sort_by_key(|member| (member.group_instance_id.clone(), member.member_id.clone()));
        let count = members.len() as i32;
        let of =
            |index: i32| (0..partitions).filter(|partition| (partition + self.generation) % count == index).collect();
        let assignment = |(index, member): (usize, &&JoinGroupResponseMember)| SyncGroupRequestAssignment {
            member_id: member.member_id.clone(),
            assignment: assignment(of(index as i32)),
        };
        members.iter().enumerate().map(assignment).collect()
    }

    fn heartbeat(&mut self, desk: &mut Desk, context: &mut Context<'_>) {
        desk.heartbeat_at = context.now.tick.plus_ms(desk.card.heartbeat_ms);
        self.asked = Some(Question::Heartbeat(desk.asks(context)));
        let request = HeartbeatRequest {
            group_id: desk.card.group.name.as_str().into(),
            generation_id: self.generation,
            member_id: self.member_id.as_str().into(),
            group_instance_id: desk.card.instance.as_deref().map(Into::into),
        };
        desk.line.ask(context, self.versions.heartbeat, &request, ANSWER_MS_MAX);
    }

    fn leave(&mut self, desk: &mut Desk, context: &mut Context<'_>) {
        desk.card.judge.borrow_mut().leaves(desk.card.who, context.now.tick);
        desk.is_out(context, "it leaves");
        self.asked = Some(Question::Leave);
        let member_id: KafkaString = self.member_id.as_str().into();
        let mut request =
            LeaveGroupRequest { group_id: desk.card.group.name.as_str().into(), ..LeaveGroupRequest::default() };
        if self.versions.leave >= 3 {
            request.members = vec![MemberIdentity { member_id, ..MemberIdentity::default() }];
        } else {
            request.member_id = member_id;
        }
        desk.line.ask(context, self.versions.leave, &request, ANSWER_MS_MAX);
        self.forget();
    }

    fn joined(&mut self, desk: &mut Desk, context: &mut Context<'_>, asked: Asked, answer: JoinGroupResponse) {
        match ErrorCode::from_code(answer.error_code) {
            Some(ErrorCode::None) => {
                self.member_id = answer.member_id.to_string();
                self.generation = answer.generation_id;
                self.stage = Stage::Joined(answer.members);
                let judge = &desk.card.judge;
                judge.borrow_mut().joined(desk.card.who, self.generation, asked, context.now.tick);
            }
            Some(ErrorCode::MemberIdRequired) => self.member_id = answer.member_id.to_string(),
            Some(code) => {
                desk.wait(context, PAUSE_MS);
                self.refused(desk, context, code);
            }
            None => desk.wait(context, PAUSE_MS),
        }
    }

    fn synced(&mut self, desk: &mut Desk, context: &mut Context<'_>, asked: Asked, code: i16, assigned: Bytes) {
        self.stage = Stage::Out;
        if code != 0 {
            let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
            return self.refused(desk, context, code);
        }
        let partitions = partitions_of(assigned);
        self.stage = Stage::In;
        desk.heartbeat_at = context.now.tick.plus_ms(desk.card.heartbeat_ms);
        let key = desk.card.instance.clone().unwrap_or_else(|| self.member_id.clone());
        let judge = desk.card.judge.clone();
        judge.borrow_mut().synced(desk.card.who, &key, self.generation, asked, &partitions, context.now.tick);
        desk.take(context, &partitions, asked);
        if let Some((generation, had)) = self.before.take().filter(|(generation, _)| *generation < self.generation) {
            desk.may_be_late(context, generation, &self.member_id, had);
        }
    }

    fn forget(&mut self) {
        self.member_id.clear();
        (self.stage, self.must_join, self.before) = (Stage::Out, false, None);
    }
}

impl Protocol for ClassicMember {
    fn standing(&self) -> Option<(i32, &str)> {
        matches!(self.stage, Stage::In).then_some((self.generation, self.member_id.as_str()))
    }

    fn is_pressing(&self) -> bool {
        self.must_join
    }

    fn ask(&mut self, desk: &mut Desk, context: &mut Context<'_>) {
        match std::mem::replace(&mut self.stage, Stage::Out) {
            Stage::Out => self.join(desk, context),
            Stage::Joined(members) => self.sync(desk, context, &members),
            Stage::In => {
                self.stage = Stage::In;
                if self.must_join {
                    self.join(desk, context);
                } else if desk.card.instance.is_none() && context.random.chance(LEAVES) {
                    self.leave(desk, context);
                } else {
                    self.heartbeat(desk, context);
                }
            }
        }
    }

    fn answered(&mut self, desk: &mut Desk, context: &mut Context<'_>, frame: Bytes) {
        match self.asked.take() {
            None => {}
            Some(Question::Join(asked)) => {
                let answer = desk.line.decode::<JoinGroupRequest>(frame, self.versions.join);
                self.joined(desk, context, asked, answer);
            }
            Some(Question::Sync(asked)) => {
                let answer = desk.line.decode::<SyncGroupRequest>(frame, self.versions.sync);
                self.synced(desk, context, asked, answer.error_code, answer.assignment);
            }
            Some(Question::Heartbeat(asked)) => {
                let answer = desk.line.decode::<HeartbeatRequest>(frame, self.versions.heartbeat);
                match ErrorCode::from_code(answer.error_code) {
                    Some(ErrorCode::None) => desk.card.judge.borrow_mut().lives(desk.card.who, asked),
                    Some(code) => self.refused(desk, context, code),
                    None => {}
                }
            }
            Some(Question::Leave) => {
                let away_ms = context.random.between(PAUSE_MS, AWAY_MS_MAX);
                desk.wait(context, away_ms);
            }
        }
    }

    fn unanswered(&mut self) {
        self.asked = None;
    }

    fn refused(&mut self, desk: &mut Desk, context: &Context<'_>, code: ErrorCode) {
        match code {
            ErrorCode::UnknownMemberId => {
                self.forget();
                desk.is_out(context, "it is unknown");
            }
            ErrorCode::IllegalGeneration => {
                self.stage = Stage::Out;
                desk.is_out(context, "its generation is over");
            }
            ErrorCode::RebalanceInProgress => self.must_join = matches!(self.stage, Stage::In),
            ErrorCode::FencedInstanceId => desk.stop(context, "it is fenced"),
            _ => {}
        }
    }
}

fn subscription() -> Bytes {
    const VERSION: i16 = 1;
    let subscription =
        ConsumerProtocolSubscription { topics: vec![KafkaString::from_static(TOPIC)], ..Default::default() };
    versioned(VERSION, |writer| subscription.encode(writer, VERSION))
}

fn assignment(partitions: Vec<i32>) -> Bytes {
    const VERSION: i16 = 1;
    let topic = TopicPartition { topic: KafkaString::from_static(TOPIC), partitions };
    let assignment = ConsumerProtocolAssignment { assigned_partitions: vec![topic], user_data: None };
    versioned(VERSION, |writer| assignment.encode(writer, VERSION))
}

fn versioned(version: i16, body: impl FnOnce(&mut Writer) -> Result<(), kafka_wire::EncodeError>) -> Bytes {
    let mut writer = Writer::with_capacity(64);
    writer.i16(version);
    match body(&mut writer) {
        Ok(()) => writer.finish().concat().into(),
        Err(error) => panic!("a member cannot say what it means: {error}"),
    }
}

/// Who is not assigned anything is told nothing.
fn partitions_of(assigned: Bytes) -> BTreeSet<i32> {
    if assigned.is_empty() {
        return BTreeSet::new();
    }
    let mut reader = Reader::new(assigned);
    let read = reader.i16().and_then(|version| ConsumerProtocolAssignment::decode(&mut reader, version));
    match read {
        Ok(assignment) => assignment.assigned_partitions.into_iter().flat_map(|topic| topic.partitions).collect(),
        Err(error) => panic!("a member cannot read its assignment: {error}"),
    }
}
