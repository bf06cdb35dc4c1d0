//! A member of a group, in either protocol: it finds out where to begin in the partitions it has, reads them, and commits how
//! far it is. What it has, and when it must give it up, is its [`Protocol`]'s business.
//!
//! ```text
//!   line   coordinator? ─► membership ─► offsets ─► heartbeats and commits, one question at a time
//!   data   fetches of everything it has, for ever
//! ```
//!
//! It behaves as Kafka's clients do but for one thing: at times it commits once more what it has given up, as a thread that was
//! late would. That must not be taken (G2).

use std::collections::{BTreeMap, BTreeSet};

use base_types::{ErrorCode, Tick};
use bytes::Bytes;
use kafka_wire::k08_offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::k09_offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics};
use kafka_wire::{
    FetchRequest, FindCoordinatorRequest, KafkaString, OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse,
    Request, Uuid,
};
use record_batch::batches;

use super::operations::fetch;
use super::{Connection, Gateways, News, PAUSE_MS, TOPIC};
use crate::checkers::groups::{Asked, CommitId, Fetched, Group, Shared, Verdict, Who};
use crate::world::{Context, Input, Process};

const FIND_VERSION: i16 = 4;
const ANSWER_MS_MAX: u64 = 5_000;
const COMMIT_MS_MIN: u64 = 100;
const COMMIT_MS_MAX: u64 = 400;
/// How often a member says a last word before it gives partitions up, and a late one afterwards; per mille.
const LAST_WORDS: u64 = 800;
const LATE_WORDS: u64 = 300;
/// OffsetFetch of one group has another form up to here.
const ONE_GROUP: i16 = 7;
const BY_ID: i16 = 10;

/// Who a member is.
#[derive(Clone)]
pub struct Card {
    pub who: Who,
    pub group: Group,
    /// A static member's.
    pub instance: Option<String>,
    pub rebalance_ms: i32,
    pub heartbeat_ms: u64,
    pub gateways: i32,
    /// It speaks the consumer protocol.
    pub is_consumer_protocol: bool,
    /// The versions of OffsetCommit and OffsetFetch that it speaks.
    pub commit_version: i16,
    pub fetch_version: i16,
    pub judge: Shared,
}

/// How a member comes to have partitions.
pub trait Protocol {
    /// Generation or epoch, and member id, of a member that may commit.
    fn standing(&self) -> Option<(i32, &str)>;

    /// Whether partitions must be given up before anything else is done.
    fn is_pressing(&self) -> bool;

    /// Asks what is to be asked next.
    fn ask(&mut self, desk: &mut Desk, context: &mut Context<'_>);

    fn answered(&mut self, desk: &mut Desk, context: &mut Context<'_>, frame: Bytes);

    fn unanswered(&mut self);

    /// A commit or a fetch of offsets was refused.
    fn refused(&mut self, desk: &mut Desk, context: &Context<'_>, code: ErrorCode);
}

/// What a member and its protocol work on together.
pub struct Desk {
    pub card: Card,
    pub line: Connection,
    /// What the member has.
    owned: BTreeMap<i32, Work>,
    pub topic: Uuid,
    pub heartbeat_at: Tick,
    wait_until: Option<Tick>,
    late: Option<Late>,
    has_stopped: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Work {
    /// `None` until the offset was fetched.
    position: Option<i64>,
    committed: i64,
}

/// What is committed though it was given up.
struct Late {
    generation: i32,
    member_id: String,
    offsets: BTreeMap<i32, i64>,
}

pub struct Member<P> {
    desk: Desk,
    protocol: P,
    data: Connection,
    question: Option<Question>,
    knows_coordinator: bool,
    /// Before it gives partitions up.
    has_had_last_word: bool,
    commit_at: Tick,
    /// Where the fetch under way reads.
    reading: BTreeMap<i32, i64>,
    data_wait_until: Option<Tick>,
}

enum Question {
    Coordinator,
    Membership,
    Offsets(Asked),
    Commit { id: CommitId, asked: Asked, offsets: BTreeMap<i32, i64>, late: bool },
}

impl Desk {
    pub fn owned(&self) -> BTreeSet<i32> {
        self.owned.keys().copied().collect()
    }

    /// How far it is in what it has.
    pub fn positions(&self) -> BTreeMap<i32, i64> {
        self.owned.iter().filter_map(|(&partition, work)| Some((partition, work.position?))).collect()
    }

    pub fn asks(&self, context: &Context<'_>) -> Asked {
        self.card.judge.borrow_mut().ask(self.card.who.group, context.now.tick)
    }

    pub fn ask<R: Request>(&mut self, context: &mut Context<'_>, version: i16, request: &R) {
        self.line.ask(context, version, request, ANSWER_MS_MAX);
    }

    /// `asked`: what was answered with these partitions.
    pub fn take(&mut self, context: &Context<'_>, partitions: &BTreeSet<i32>, asked: Asked) {
        let new: BTreeSet<i32> = partitions.iter().filter(|of| !self.owned.contains_key(*of)).copied().collect();
        if !new.is_empty() {
            self.card.judge.borrow_mut().takes(self.card.who, &new, asked, context.now.tick);
            self.owned.extend(new.into_iter().map(|partition| (partition, Work::default())));
        }
    }

    pub fn give_up(&mut self, context: &Context<'_>, partitions: &BTreeSet<i32>) {
        self.card.judge.borrow_mut().gives_up(self.card.who, partitions, context.now.tick);
        self.owned.retain(|partition, _| !partitions.contains(partition));
    }

    /// It is in no generation any more and has nothing.
    pub fn is_out(&mut self, context: &Context<'_>, why: &str) {
        self.card.judge.borrow_mut().is_out(self.card.who, context.now.tick, why);
        self.owned.clear();
        self.late = None;
    }

    /// For good: somebody else is what it was.
    pub fn stop(&mut self, context: &Context<'_>, why: &str) {
        self.is_out(context, why);
        self.card.judge.borrow_mut().stops(self.card.who, context.now.tick, why);
        self.has_stopped = true;
    }

    pub fn wait(&mut self, context: &Context<'_>, ms: u64) {
        self.wait_until = Some(context.now.tick.plus_ms(ms));
    }

    /// At times it will commit what it had in an earlier generation and has no more.
    pub fn may_be_late(
        &mut self,
        context: &mut Context<'_>,
        generation: i32,
        member_id: &str,
        had: BTreeMap<i32, i64>,
    ) {
        let lost = had.into_iter().filter(|(partition, _)| !self.owned.contains_key(partition));
        let offsets: BTreeMap<i32, i64> = lost.collect();
        if !offsets.is_empty() && context.random.chance(LATE_WORDS) {
            self.late = Some(Late { generation, member_id: member_id.to_owned(), offsets });
        }
    }

    /// What is to be committed.
    fn news(&self) -> BTreeMap<i32, i64> {
        let news = |(&partition, work): (&i32, &Work)| {
            let position = work.position.filter(|position| *position > work.committed)?;
            Some((partition, position))
        };
        self.owned.iter().filter_map(news).collect()
    }
}

impl<P: Protocol> Member<P> {
    pub fn new(card: Card, protocol: P) -> Member<P> {
        let gateways = Gateways::Any { count: card.gateways, last: card.who.process };
        Member {
            desk: Desk {
                card,
                line: Connection::new(0, gateways),
                owned: BTreeMap::new(),
                topic: Uuid::ZERO,
                heartbeat_at: Tick(0),
                wait_until: None,
                late: None,
                has_stopped: false,
            },
            protocol,
            data: Connection::new(1, gateways),
            question: None,
            knows_coordinator: false,
            has_had_last_word: false,
            commit_at: Tick(0),
            reading: BTreeMap::new(),
            data_wait_until: None,
        }
    }

    fn may_ask(&self) -> bool {
        let desk = &self.desk;
        self.question.is_none() && desk.line.is_free() && desk.wait_until.is_none() && !desk.has_stopped
    }

    fn ask_next(&mut self, context: &mut Context<'_>) {
        let now = context.now.tick;
        if !self.knows_coordinator {
            let coordinator_keys = vec![self.desk.card.group.name.as_str().into()];
            self.question = Some(Question::Coordinator);
            let request = FindCoordinatorRequest { coordinator_keys, ..FindCoordinatorRequest::default() };
            return self.desk.ask(context, FIND_VERSION, &request);
        }
        let Some((generation, member_id)) = self.protocol.standing() else { return self.ask_membership(context) };
        let member_id = member_id.to_owned();
        let news = self.desk.news();
        if self.protocol.is_pressing() {
            let speaks = !self.has_had_last_word && !news.is_empty() && context.random.chance(LAST_WORDS);
            self.has_had_last_word = speaks;
            return if speaks {
                self.commit(context, generation, &member_id, news, false);
            } else {
                self.ask_membership(context);
            };
        }
        if let Some(Late { generation, member_id, offsets }) = self.desk.late.take() {
            return self.commit(context, generation, &member_id, offsets, true);
        }
        if self.desk.owned.values().any(|work| work.position.is_none()) {
            return self.ask_offsets(context, generation, &member_id);
        }
        let commit_is_due = self.commit_at <= now && !news.is_empty();
        let heartbeat_is_due = self.desk.heartbeat_at <= now;
        if commit_is_due && (!heartbeat_is_due || context.random.chance(500)) {
            self.commit(context, generation, &member_id, news, false);
        } else if heartbeat_is_due {
            self.ask_membership(context);
        }
    }

    fn ask_membership(&mut self, context: &mut Context<'_>) {
        self.protocol.ask(&mut self.desk, context);
        self.question = Some(Question::Membership);
    }

    fn ask_offsets(&mut self, context: &mut Context<'_>, generation: i32, member_id: &str) {
        let card = &self.desk.card;
        let checked = card.is_consumer_protocol.then_some((member_id, generation));
        let request = fetch_offsets(card.fetch_version, &card.group, self.desk.topic, checked);
        let version = card.fetch_version;
        self.question = Some(Question::Offsets(self.desk.asks(context)));
        self.desk.ask(context, version, &request);
    }

    fn commit(
        &mut self,
        context: &mut Context<'_>,
        generation: i32,
        member_id: &str,
        offsets: BTreeMap<i32, i64>,
        late: bool,
    ) {
        let (asked, card) = (self.desk.asks(context), &self.desk.card);
        let id = card.judge.borrow_mut().commits(card.who, generation, offsets.clone(), late, context.now.tick);
        let version = card.commit_version;
        let partition = |(&partition_index, &committed_offset): (&i32, &i64)| OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            committed_leader_epoch: -1,
            committed_metadata: Some(id.note().into()),
        };
        let (name, topic_id) = named(version, self.desk.topic);
        // Up to version 4 a commit says how long it is to be kept.
        let retention_time_ms = if card.group.offsets_expire && version <= 4 { 1_000 } else { -1 };
        let request = OffsetCommitRequest {
            group_id: card.group.name.as_str().into(),
            generation_id_or_member_epoch: generation,
            member_id: member_id.into(),
            group_instance_id: card.instance.as_deref().filter(|_| version >= 7).map(Into::into),
            retention_time_ms,
            topics: vec![OffsetCommitRequestTopic {
                name,
                topic_id,
                partitions: offsets.iter().map(partition).collect(),
            }],
        };
        self.question = Some(Question::Commit { id, asked, offsets, late });
        self.desk.ask(context, version, &request);
        self.commit_at = context.now.tick.plus_ms(context.random.between(COMMIT_MS_MIN, COMMIT_MS_MAX));
    }

    fn answered(&mut self, context: &mut Context<'_>, frame: Bytes) {
        match self.question.take() {
            None => {}
            Some(Question::Membership) => self.protocol.answered(&mut self.desk, context, frame),
            Some(Question::Coordinator) => {
                let answer = self.desk.line.decode::<FindCoordinatorRequest>(frame, FIND_VERSION);
                self.knows_coordinator = answer.coordinators.iter().all(|coordinator| coordinator.error_code == 0);
                if !self.knows_coordinator {
                    self.desk.wait(context, PAUSE_MS);
                }
            }
            Some(Question::Offsets(asked)) => {
                let version = self.desk.card.fetch_version;
                let answer = self.desk.line.decode::<OffsetFetchRequest>(frame, version);
                match fetched_offsets(version, answer) {
                    Ok(fetched) => self.offsets_fetched(context, asked, &fetched),
                    Err(code) => self.refused(context, code),
                }
            }
            Some(Question::Commit { id, asked, offsets, late }) => {
                let answer = self.desk.line.decode::<OffsetCommitRequest>(frame, self.desk.card.commit_version);
                let codes = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|of| of.error_code);
                let code = codes.max_by_key(|code| code.abs()).and_then(ErrorCode::from_code);
                let code = code.unwrap_or(ErrorCode::UnknownServerError);
                self.desk.card.judge.borrow_mut().commit_answered(id, asked, verdict(code), context.now.tick);
                if code == ErrorCode::None && !late {
                    for (partition, offset) in offsets {
                        if let Some(work) = self.desk.owned.get_mut(&partition) {
                            work.committed = offset;
                        }
                    }
                } else if code != ErrorCode::None && !late {
                    self.refused(context, code);
                }
            }
        }
    }

    fn offsets_fetched(&mut self, context: &Context<'_>, asked: Asked, fetched: &[Fetched]) {
        let card = &self.desk.card;
        card.judge.borrow_mut().fetches(card.who.group, asked, fetched, context.now.tick);
        for fetched in fetched {
            if let Some(work) = self.desk.owned.get_mut(&fetched.partition).filter(|work| work.position.is_none()) {
                let offset = fetched.offset.max(0);
                *work = Work { position: Some(offset), committed: offset };
            }
        }
    }

    fn refused(&mut self, context: &Context<'_>, code: ErrorCode) {
        self.desk.wait(context, PAUSE_MS / 5);
        self.protocol.refused(&mut self.desk, context, code);
    }

    fn unanswered(&mut self, context: &Context<'_>) {
        match self.question.take() {
            Some(Question::Membership) => self.protocol.unanswered(),
            Some(Question::Commit { id, asked, .. }) => {
                let judge = &self.desk.card.judge;
                judge.borrow_mut().commit_answered(id, asked, Verdict::Unknown, context.now.tick);
            }
            Some(Question::Coordinator | Question::Offsets(_)) | None => {}
        }
    }

    fn read_on(&mut self, context: &mut Context<'_>) {
        let positions = self.desk.positions();
        if self.data.is_free() && self.data_wait_until.is_none() && !positions.is_empty() {
            let request = fetch::by_members(positions.iter().map(|(&partition, &position)| (partition, position)));
            self.reading = positions;
            self.data.ask(context, fetch::MEMBERS_VERSION, &request, ANSWER_MS_MAX);
        }
    }

    /// What it has no more, or reads from elsewhere now, is not looked at.
    fn read(&mut self, context: &Context<'_>, frame: Bytes) {
        let answer = self.data.decode::<FetchRequest>(frame, fetch::MEMBERS_VERSION);
        let reading = std::mem::take(&mut self.reading);
        for answer in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            if answer.error_code != 0 {
                self.data_wait_until = Some(context.now.tick.plus_ms(PAUSE_MS));
                continue;
            }
            let partition = answer.partition_index;
            let Some(work) = self.desk.owned.get_mut(&partition) else { continue };
            let Some(from) = work.position.filter(|position| reading.get(&partition) == Some(position)) else {
                continue;
            };
            let bytes = answer.records.map(kafka_wire::Records::into_contiguous).unwrap_or_default();
            let ends = batches(&bytes).map_while(Result::ok).map(|(header, _)| header.next_offset().0);
            let to = ends.max().unwrap_or(from).max(from);
            work.position = Some(to);
            if to > from {
                self.desk.card.judge.borrow_mut().consumes(self.desk.card.who, partition, from, to);
            }
        }
    }
}

impl<P: Protocol> Process for Member<P> {
    fn handle(&mut self, context: &mut Context<'_>, input: Input) {
        if matches!(input, Input::Started) {
            self.desk.card.judge.borrow_mut().starts(self.desk.card.who, context.now.tick);
        }
        match self.desk.line.handle(context, &input) {
            News::Nothing => {}
            News::Answered(frame) => self.answered(context, frame),
            News::Unanswered => self.unanswered(context),
        }
        if let News::Answered(frame) = self.data.handle(context, &input) {
            self.read(context, frame);
        }
        self.desk.wait_until.take_if(|until| *until <= context.now.tick);
        self.data_wait_until.take_if(|until| *until <= context.now.tick);
        if self.may_ask() {
            self.ask_next(context);
        }
        self.read_on(context);
    }

    fn next_deadline(&self) -> Option<Tick> {
        let mut deadlines =
            vec![self.desk.line.next_deadline(), self.data.next_deadline(), self.desk.wait_until, self.data_wait_until];
        if self.may_ask() {
            deadlines.push(Some(self.desk.heartbeat_at));
            deadlines.push(Some(self.commit_at).filter(|_| !self.desk.news().is_empty()));
        }
        deadlines.into_iter().flatten().min()
    }
}

/// How a version names the topic.
fn named(version: i16, id: Uuid) -> (KafkaString, Uuid) {
    if version >= BY_ID { (KafkaString::default(), id) } else { (KafkaString::from_static(TOPIC), Uuid::ZERO) }
}

/// Of all partitions, in the form of the version. `member`: to be checked.
pub(super) fn fetch_offsets(
    version: i16,
    group: &Group,
    topic: Uuid,
    member: Option<(&str, i32)>,
) -> OffsetFetchRequest {
    let partition_indexes: Vec<i32> = (0..group.partitions).collect();
    let group_id: KafkaString = group.name.as_str().into();
    if version <= ONE_GROUP {
        let topics = vec![OffsetFetchRequestTopic { name: KafkaString::from_static(TOPIC), partition_indexes }];
        return OffsetFetchRequest { group_id, topics: Some(topics), ..OffsetFetchRequest::default() };
    }
    let (name, topic_id) = named(version, topic);
    let group = OffsetFetchRequestGroup {
        group_id,
        member_id: member.map(|(member_id, _)| member_id.into()),
        member_epoch: member.map_or(-1, |(_, epoch)| epoch),
        topics: Some(vec![OffsetFetchRequestTopics { name, topic_id, partition_indexes }]),
    };
    OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() }
}

pub(super) fn fetched_offsets(version: i16, answer: OffsetFetchResponse) -> Result<Vec<Fetched>, ErrorCode> {
    let fetched = |partition, offset, metadata: Option<KafkaString>, code: i16| match code {
        0 => Ok(Fetched { partition, offset, note: metadata.map(|note| note.to_string()).unwrap_or_default() }),
        code => Err(ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)),
    };
    let refused = |code: i16| ErrorCode::from_code(code).filter(|code| *code != ErrorCode::None);
    if version <= ONE_GROUP {
        if let Some(code) = refused(answer.error_code) {
            return Err(code);
        }
        let partitions = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        return partitions
            .map(|of| fetched(of.partition_index, of.committed_offset, of.metadata, of.error_code))
            .collect();
    }
    let Some(group) = answer.groups.into_iter().next() else { return Err(ErrorCode::UnknownServerError) };
    if let Some(code) = refused(group.error_code) {
        return Err(code);
    }
    let partitions = group.topics.into_iter().flat_map(|topic| topic.partitions);
    partitions.map(|of| fetched(of.partition_index, of.committed_offset, of.metadata, of.error_code)).collect()
}

/// What a group says of a commit before it has written anything is for certain; so is what a gateway says that never asked it.
fn verdict(code: ErrorCode) -> Verdict {
    match code {
        ErrorCode::None => Verdict::Acknowledged,
        ErrorCode::IllegalGeneration
        | ErrorCode::UnknownMemberId
        | ErrorCode::RebalanceInProgress
        | ErrorCode::FencedInstanceId
        | ErrorCode::StaleMemberEpoch
        | ErrorCode::GroupIdNotFound
        | ErrorCode::UnknownTopicOrPartition
        | ErrorCode::UnknownTopicId => Verdict::Refused,
        _ => Verdict::Unknown,
    }
}
