//! Questions to group coordinators: found by the group's partition of `__consumer_offsets`, asked, and asked again where that
//! is harmless.
//!
//! ```text
//!            leader known          Ok, refused by the group, unknown outcome
//!   open ───────────────► asked ─────────────────────────────────────────────► done
//!    ▲ └── time is up ───────┼──────────────────────────────────────────────────▲
//!    └── definite: not the coordinator, still loading, never sent ──┘
//! ```
//!
//! Any gateway serves any group. A coordinator that moves or loads is waited for, since nothing has happened then; the client
//! hears of it only when that takes too long. What may have happened is never asked again (W2), unless it only reads.

use std::collections::BTreeMap;

use base_types::{BrokerId, ErrorCode, LeaderEpoch, PartitionIndex, Tick};
use peer_api::groups::{
    CoordinatorError, GROUPS_TOPIC, GroupRequest, GroupResponse, ToCoordinator, coordinator_partition,
};
use peer_api::metadata::Image;
use peer_api::storage::{Request, RequestId, Response, TransportError};

use crate::effect::CloseReason;
use crate::limits::{ANSWER_GRACE_MS, COORDINATOR_RETRY_MS_MAX, GROUPS_PER_REQUEST_MAX, RETRY_BACKOFF_MS};
use crate::operation::{Answer, Begun, Context, Operation, Progress};

/// One question to one coordinator.
pub(crate) struct Ask {
    pub place: Place,
    pub request: GroupRequest,
}

/// Which coordinator.
pub(crate) enum Place {
    OfGroup(String),
    Partition(PartitionIndex),
}

impl Place {
    fn partition(&self, partitions: usize) -> PartitionIndex {
        match self {
            Place::OfGroup(group_id) => coordinator_partition(group_id, i32::try_from(partitions).unwrap_or(i32::MAX)),
            Place::Partition(index) => *index,
        }
    }
}

pub(crate) type Told = Result<GroupResponse, ErrorCode>;

struct Coordination<F> {
    parts: Vec<Part>,
    /// Which part a call is of, so that an answer is one step however many parts there are.
    calls: BTreeMap<RequestId, usize>,
    /// How many parts are not done.
    undone: usize,
    /// Not after the moment at which the next part wants to go on.
    wake: Option<Tick>,
    /// Nothing is asked again from then on.
    retry_until: Tick,
    /// How long a coordinator may take to answer.
    answer_ms: u64,
    finish: Option<F>,
}

struct Part {
    ask: Ask,
    state: State,
}

enum State {
    /// To be asked; `code` says why it has not been, or not with success.
    Open {
        code: ErrorCode,
        retry_at: Tick,
        refused: Option<Leader>,
    },
    Asked {
        call: RequestId,
        leader: Leader,
        until: Tick,
        code: ErrorCode,
    },
    Done(Told),
}

/// Who coordinates, and in which epoch.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Leader {
    node: BrokerId,
    epoch: LeaderEpoch,
}

/// Why a request that names so many groups is not begun: neither asking for them nor answering is worth the memory.
pub(crate) fn refuse_too_many(groups: usize) -> Option<Begun> {
    (groups > GROUPS_PER_REQUEST_MAX).then_some(Begun::Answered(Answer::Close(CloseReason::TooMany)))
}

/// Asks; the answers are in the order of the questions.
pub(crate) fn ask_each(
    cx: &mut Context<'_>,
    asks: Vec<Ask>,
    answer_ms: u64,
    finish: impl FnOnce(&mut Context<'_>, Vec<Told>) -> Answer + Send + 'static,
) -> Begun {
    let open = || State::Open { code: ErrorCode::NotCoordinator, retry_at: cx.now.tick, refused: None };
    let parts: Vec<Part> = asks.into_iter().map(|ask| Part { ask, state: open() }).collect();
    let coordination = Coordination {
        undone: parts.len(),
        parts,
        calls: BTreeMap::new(),
        wake: None,
        retry_until: cx.now.tick.plus_ms(COORDINATOR_RETRY_MS_MAX),
        answer_ms,
        finish: Some(finish),
    };
    Begun::settle(coordination, cx)
}

/// The same for a request that names one group.
pub(crate) fn ask(
    cx: &mut Context<'_>,
    group_id: &str,
    request: GroupRequest,
    answer_ms: u64,
    finish: impl FnOnce(&mut Context<'_>, Told) -> Answer + Send + 'static,
) -> Begun {
    let asks = vec![Ask { place: Place::OfGroup(group_id.to_owned()), request }];
    ask_each(cx, asks, answer_ms, |cx, told| {
        let only = told.into_iter().next();
        finish(cx, only.unwrap_or(Err(ErrorCode::UnknownServerError)))
    })
}

impl<F> Coordination<F>
where
    F: FnOnce(&mut Context<'_>, Vec<Told>) -> Answer + Send + 'static,
{
    /// Lets all parts take notice of something.
    fn change_all(&mut self, cx: &mut Context<'_>, change: impl Fn(&mut Part, &Context<'_>)) -> Progress {
        self.wake = None;
        for place in 0..self.parts.len() {
            self.change(cx, place, &change);
        }
        self.finish_when_done(cx)
    }

    /// The part takes notice, and goes on if it can.
    fn change(&mut self, cx: &mut Context<'_>, place: usize, change: impl FnOnce(&mut Part, &Context<'_>)) {
        let (retry_until, answer_ms) = (self.retry_until, self.answer_ms);
        let Some(part) = self.parts.get_mut(place).filter(|part| !matches!(part.state, State::Done(_))) else { return };
        change(part, cx);
        part.go_on(cx, retry_until, answer_ms);
        match part.state {
            State::Done(_) => self.undone -= 1,
            State::Asked { call, .. } => _ = self.calls.insert(call, place),
            State::Open { .. } => {}
        }
        if let Some(tick) = part.state.wakes_at(retry_until)
            && self.wake.is_none_or(|wake| tick < wake)
        {
            self.wake = Some(tick);
            cx.wake_at(tick);
        }
    }

    fn finish_when_done(&mut self, cx: &mut Context<'_>) -> Progress {
        if self.undone == 0 { self.finish(cx) } else { Progress::Pending }
    }

    fn finish(&mut self, cx: &mut Context<'_>) -> Progress {
        let told = std::mem::take(&mut self.parts).into_iter().map(|part| match part.state {
            State::Done(told) => told,
            State::Open { code, .. } | State::Asked { code, .. } => Err(code),
        });
        match self.finish.take() {
            Some(finish) => finish(cx, told.collect()).into(),
            None => Progress::Pending,
        }
    }
}

impl<F> Operation for Coordination<F>
where
    F: FnOnce(&mut Context<'_>, Vec<Told>) -> Answer + Send + 'static,
{
    fn begin(&mut self, cx: &mut Context<'_>) -> Progress {
        self.change_all(cx, |_, _| {})
    }

    fn storage_answered(
        &mut self,
        cx: &mut Context<'_>,
        call: RequestId,
        result: Result<Response, TransportError>,
    ) -> Progress {
        if let Some(place) = self.calls.remove(&call) {
            self.change(cx, place, |part, cx| part.answered(cx.now.tick, result));
        }
        self.finish_when_done(cx)
    }

    fn metadata_changed(&mut self, cx: &mut Context<'_>) -> Progress {
        self.change_all(cx, Part::metadata_changed)
    }

    fn woken(&mut self, cx: &mut Context<'_>) -> Progress {
        self.change_all(cx, |_, _| {})
    }
}

impl Part {
    /// Asks if it can be asked, and ends what has waited long enough.
    fn go_on(&mut self, cx: &mut Context<'_>, retry_until: Tick, answer_ms: u64) {
        match self.state {
            State::Open { retry_at, .. } if retry_at <= cx.now.tick && cx.now.tick < retry_until => {
                self.attempt(cx, retry_until, answer_ms);
            }
            State::Open { code, .. } if retry_until <= cx.now.tick => self.state = State::Done(Err(code)),
            State::Asked { until, code, .. } if until <= cx.now.tick => self.state = State::Done(Err(code)),
            State::Open { .. } | State::Asked { .. } | State::Done(_) => {}
        }
    }

    fn attempt(&mut self, cx: &mut Context<'_>, retry_until: Tick, answer_ms: u64) {
        let Some((partition, leader)) = self.ask.leader(cx.image) else {
            // News of the metadata will say when there is one.
            self.state = State::Open { code: ErrorCode::NotCoordinator, retry_at: retry_until, refused: None };
            return;
        };
        let caller = cx.request.caller.as_ref().clone();
        let request = ToCoordinator { partition, caller, request: self.ask.request.clone() };
        let call = cx.ask_storage(leader.node, Request::Coordinate(Box::new(request)));
        let until = cx.now.tick.plus_ms(answer_ms);
        self.state = State::Asked { call, leader, until, code: ErrorCode::CoordinatorNotAvailable };
    }

    fn answered(&mut self, now: Tick, result: Result<Response, TransportError>) {
        let State::Asked { leader, .. } = self.state else { return };
        let again = |code| State::Open { code, retry_at: now.plus_ms(RETRY_BACKOFF_MS), refused: Some(leader) };
        self.state = match result {
            Ok(Response::Coordinate(answer)) => match *answer {
                Ok(response) => State::Done(Ok(response)),
                Err(error) => match error {
                    CoordinatorError::NotCoordinator | CoordinatorError::LoadInProgress => again(error.code()),
                    CoordinatorError::Lost if self.ask.only_reads() => again(error.code()),
                    CoordinatorError::NotAvailable
                    | CoordinatorError::Lost
                    | CoordinatorError::TimedOut
                    | CoordinatorError::WriteRefused => State::Done(Err(error.code())),
                },
            },
            Ok(_) => State::Done(Err(ErrorCode::UnknownServerError)),
            Err(TransportError::NotSent) => again(ErrorCode::NotCoordinator),
            Err(TransportError::Broken) if self.ask.only_reads() => again(ErrorCode::NotCoordinator),
            Err(TransportError::Broken) => State::Done(Err(ErrorCode::NotCoordinator)),
        };
    }

    fn metadata_changed(&mut self, cx: &Context<'_>) {
        let leader = self.ask.leader(cx.image).map(|(_, leader)| leader);
        match &mut self.state {
            State::Open { retry_at, refused, .. } if leader.is_some() && leader != *refused => *retry_at = cx.now.tick,
            // Whoever was asked has lost the group, and says so unless it cannot. What waits for other members may wait for
            // minutes, so that is not waited for.
            State::Asked { leader: asked, until, code, .. } if leader.is_some_and(|leader| leader != *asked) => {
                *until = (*until).min(cx.now.tick.plus_ms(ANSWER_GRACE_MS));
                *code = ErrorCode::NotCoordinator;
            }
            State::Open { .. } | State::Asked { .. } | State::Done(_) => {}
        }
    }
}

impl Ask {
    fn leader(&self, image: &Image) -> Option<(PartitionIndex, Leader)> {
        let topic = image.topic_named(GROUPS_TOPIC)?;
        let index = self.place.partition(topic.partitions.len());
        let state = topic.partition(index)?;
        Some((index, Leader { node: state.leader?, epoch: state.leader_epoch }))
    }

    fn only_reads(&self) -> bool {
        match self.request {
            GroupRequest::OffsetFetch(_)
            | GroupRequest::DescribeGroups(_)
            | GroupRequest::ListGroups(_)
            | GroupRequest::ConsumerGroupDescribe(_) => true,
            GroupRequest::JoinGroup(_)
            | GroupRequest::SyncGroup(_)
            | GroupRequest::Heartbeat(_)
            | GroupRequest::LeaveGroup(_)
            | GroupRequest::OffsetCommit(_)
            | GroupRequest::OffsetDelete(_)
            | GroupRequest::DeleteGroups(_)
            | GroupRequest::ConsumerGroupHeartbeat(_) => false,
        }
    }
}

impl State {
    fn wakes_at(&self, retry_until: Tick) -> Option<Tick> {
        match self {
            State::Open { retry_at, .. } => Some((*retry_at).min(retry_until)),
            State::Asked { until, .. } => Some(*until),
            State::Done(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use base_types::{Incarnation, TopicId};
    use kafka_wire::{
        HeartbeatRequest, JoinGroupRequest, ListGroupsRequest, OffsetFetchRequest, SyncGroupRequest, k09_offset_fetch,
    };
    use peer_api::groups::{Caller, FetchedGroup, JoinRefused, Synced};
    use peer_api::metadata::{Gateway, Record};

    use super::*;
    use crate::testing::World;
    use crate::{ConnectionId, Event};

    const BEAT: Result<GroupResponse, CoordinatorError> = Ok(GroupResponse::Heartbeat(Ok(())));

    fn heartbeat(group_id: &str) -> HeartbeatRequest {
        HeartbeatRequest { group_id: group_id.into(), generation_id: 1, member_id: "m".into(), group_instance_id: None }
    }

    fn join() -> JoinGroupRequest {
        let (session_timeout_ms, rebalance_timeout_ms) = (10_000, 60_000);
        JoinGroupRequest { group_id: "g".into(), session_timeout_ms, rebalance_timeout_ms, ..Default::default() }
    }

    fn fetch() -> OffsetFetchRequest {
        let group = k09_offset_fetch::OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: Some(Vec::new()),
            ..Default::default()
        };
        OffsetFetchRequest { groups: vec![group], ..Default::default() }
    }

    fn groups(world: &mut World, leaders: &[i32]) -> TopicId {
        world.topic(GROUPS_TOPIC, leaders)
    }

    #[test]
    fn a_group_is_asked_for_at_the_leader_of_its_partition_in_the_name_of_the_client() {
        let mut world = World::new(2);
        let mut leaders = vec![1; 50];
        leaders[48] = 2;
        groups(&mut world, &leaders);
        world.send(4, &heartbeat("test"));
        let (node, id, question) = world.next_question();
        assert_eq!((node, question.partition), (BrokerId(2), PartitionIndex(48)));
        let caller = Caller { client_id: "test".into(), client_host: "/10.0.0.1".into() };
        assert_eq!(question.caller, caller);
        world.coordinator_answers(node, id, BEAT);
        assert_eq!(world.answer::<HeartbeatRequest>(4).1.error_code, 0);
    }

    #[test]
    fn a_coordinator_that_moves_is_followed_and_the_client_hears_nothing() {
        let mut world = World::new(2);
        let topic = groups(&mut world, &[1]);
        world.send(4, &heartbeat("g"));
        let (node, id, _) = world.next_question();
        world.coordinator_answers(node, id, Err(CoordinatorError::NotCoordinator));
        assert!(world.is_silent() && world.to_storage.is_empty());
        world.lead(topic, 0, Some(2), 6);
        let (node, id, _) = world.next_question();
        assert_eq!(node, BrokerId(2));
        // It may be behind our view.
        world.coordinator_answers(node, id, Err(CoordinatorError::NotCoordinator));
        world.pass(RETRY_BACKOFF_MS - 1);
        assert!(world.to_storage.is_empty());
        world.pass(1);
        let (node, id, _) = world.next_question();
        world.coordinator_answers(node, id, BEAT);
        assert_eq!(world.answer::<HeartbeatRequest>(4).1.error_code, 0);
    }

    #[test]
    fn patience_with_a_coordinator_has_an_end() {
        for (error, code) in [(CoordinatorError::NotCoordinator, 16), (CoordinatorError::LoadInProgress, 14)] {
            let mut world = World::with_groups(1);
            world.send(9, &join());
            let until = world.now + COORDINATOR_RETRY_MS_MAX;
            while world.now < until {
                assert!(world.is_silent());
                let (node, id, _) = world.next_question();
                world.coordinator_answers(node, id, Err(error));
                world.pass(RETRY_BACKOFF_MS);
            }
            assert_eq!(world.answer::<JoinGroupRequest>(9).1.error_code, code);
            assert!(world.to_storage.is_empty());
        }
    }

    #[test]
    fn a_group_without_a_leader_waits_for_one_and_not_for_ever() {
        let mut world = World::new(2);
        let topic = groups(&mut world, &[1]);
        world.lead(topic, 0, None, 6);
        world.send(4, &heartbeat("g"));
        world.pass(COORDINATOR_RETRY_MS_MAX - 1);
        assert!(world.is_silent() && world.to_storage.is_empty());
        world.lead(topic, 0, Some(2), 7);
        let (node, id, _) = world.next_question();
        world.coordinator_answers(node, id, BEAT);
        assert_eq!(world.answer::<HeartbeatRequest>(4).1.error_code, 0);
        world.lead(topic, 0, None, 8);
        world.send(4, &heartbeat("g"));
        world.pass(COORDINATOR_RETRY_MS_MAX);
        assert_eq!(world.answer::<HeartbeatRequest>(4).1.error_code, 16);
    }

    /// W2.
    #[test]
    fn what_may_have_happened_is_told_and_never_asked_again() {
        let told = [
            (CoordinatorError::Lost, 16),
            (CoordinatorError::TimedOut, 15),
            (CoordinatorError::NotAvailable, 15),
            (CoordinatorError::WriteRefused, -1),
        ];
        let mut world = World::with_groups(1);
        for (error, code) in told {
            let (_, response) = world.coordinate(4, &heartbeat("g"), Err(error));
            assert_eq!(response.error_code, code, "{error:?}");
        }
        world.send(4, &heartbeat("g"));
        let (node, id, _) = world.next_question();
        world.storage_fails(node, id, TransportError::Broken);
        assert_eq!(world.answer::<HeartbeatRequest>(4).1.error_code, 16);
        world.pass(COORDINATOR_RETRY_MS_MAX);
        assert!(world.to_storage.is_empty());
    }

    #[test]
    fn what_was_never_sent_and_what_only_reads_is_asked_again() {
        let mut world = World::with_groups(1);
        world.send(4, &heartbeat("g"));
        let (node, id, _) = world.next_question();
        world.storage_fails(node, id, TransportError::NotSent);
        world.pass(RETRY_BACKOFF_MS);
        let (node, id, _) = world.next_question();
        world.coordinator_answers(node, id, BEAT);
        assert_eq!(world.answer::<HeartbeatRequest>(4).1.error_code, 0);

        world.send(8, &fetch());
        let (node, id, _) = world.next_question();
        world.storage_fails(node, id, TransportError::Broken);
        world.pass(RETRY_BACKOFF_MS);
        let (node, id, _) = world.next_question();
        world.coordinator_answers(node, id, Err(CoordinatorError::Lost));
        world.pass(RETRY_BACKOFF_MS);
        let (node, id, _) = world.next_question();
        let fetched = FetchedGroup { group_id: "g".into(), result: Ok(Vec::new()) };
        world.coordinator_answers(node, id, Ok(GroupResponse::OffsetFetch(vec![fetched])));
        assert_eq!(world.answer::<OffsetFetchRequest>(8).1.groups[0].error_code, 0);
    }

    /// Trap 50: members are not left waiting when their coordinator has moved.
    #[test]
    fn a_long_wait_ends_soon_after_the_leader_moved() {
        let mut world = World::new(2);
        let topic = groups(&mut world, &[1]);
        world.send(9, &join());
        world.next_question();
        world.pass(30_000);
        assert!(world.is_silent());
        world.lead(topic, 0, Some(2), 6);
        world.pass(ANSWER_GRACE_MS - 1);
        assert!(world.is_silent());
        world.pass(1);
        assert_eq!(world.answer::<JoinGroupRequest>(9).1.error_code, 16);
        assert!(world.to_storage.is_empty());
    }

    #[test]
    fn a_coordinator_that_never_answers_is_not_waited_for_for_ever() {
        let mut world = World::with_groups(1);
        world.send(9, &join());
        world.pass(60_000 + crate::limits::JOIN_GRACE_MS - 1);
        assert!(world.is_silent());
        world.pass(1);
        assert_eq!(world.answer::<JoinGroupRequest>(9).1.error_code, 15);
        world.send(4, &SyncGroupRequest { group_id: "g".into(), ..Default::default() });
        world.pass(crate::limits::SYNC_WAIT_MS_MAX);
        assert_eq!(world.answer::<SyncGroupRequest>(4).1.error_code, 15);
    }

    #[test]
    fn who_waits_for_a_group_holds_up_nobody_else() {
        let mut world = World::with_groups(1);
        let other = ConnectionId(2);
        world.step(Event::ConnectionOpened { connection: other, host: "/10.0.0.2".into() });
        world.send(9, &join());
        let (node, joining, _) = world.next_question();
        world.send_on(other, 4, &heartbeat("g"));
        let (_, beating, question) = world.next_question();
        assert_eq!(question.caller.client_host, "/10.0.0.2");
        // On its own connection the next request waits, as in Kafka.
        world.send(4, &SyncGroupRequest { group_id: "g".into(), ..Default::default() });
        assert!(world.to_storage.is_empty());
        world.coordinator_answers(node, beating, BEAT);
        assert_eq!(world.sent[0].0, other);
        world.answer::<HeartbeatRequest>(4);
        let refused = JoinRefused { error: ErrorCode::MemberIdRequired, member_id: "test-1".into() };
        world.coordinator_answers(node, joining, Ok(GroupResponse::JoinGroup(Err(refused))));
        assert_eq!(&*world.answer::<JoinGroupRequest>(9).1.member_id, "test-1");
        let (node, syncing, _) = world.next_question();
        world.coordinator_answers(node, syncing, Ok(GroupResponse::SyncGroup(Ok(Synced::default()))));
        assert_eq!(world.answer::<SyncGroupRequest>(4).1.error_code, 0);
    }

    #[test]
    fn a_client_that_goes_away_is_asked_for_no_more() {
        let mut world = World::with_groups(1);
        world.send(9, &join());
        let (node, id, _) = world.next_question();
        world.step(Event::ConnectionClosed { connection: crate::testing::C });
        world.coordinator_answers(node, id, Err(CoordinatorError::NotCoordinator));
        world.pass(COORDINATOR_RETRY_MS_MAX);
        assert!(world.to_storage.is_empty() && world.is_silent());
    }

    /// Decision 9: each group is listed by the gateway that stands for its coordinator.
    #[test]
    fn a_gateway_lists_the_groups_of_the_nodes_it_stands_for() {
        let gateway = |id: i32, host: &str| {
            Record::GatewayRegistered(Gateway {
                id: BrokerId(id),
                incarnation: Incarnation::ZERO,
                advertised_host: "g".into(),
                advertised_port: 9092,
                rack: None,
                host: host.into(),
            })
        };
        let mut world = World::new(2);
        assert_eq!(world.ask::<ListGroupsRequest>(5, &ListGroupsRequest::default()).error_code, 0);
        groups(&mut world, &[1, 2, 1]);
        world.change(vec![gateway(100, "host2"), gateway(101, "host1")]);
        world.send(5, &ListGroupsRequest::default());
        let (node, _, question) = world.next_question();
        assert_eq!((node, question.partition), (BrokerId(2), PartitionIndex(1)));
        assert!(world.to_storage.is_empty());
    }
}
