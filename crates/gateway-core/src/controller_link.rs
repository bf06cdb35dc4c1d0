//! The session with the active controller: greeting, registration, heartbeats, calls, and the stream of metadata.
//!
//! ```text
//!  Down ──OpenController──► Opening ──connected: Hello──► Greeting ──Welcome: Register──► Active
//!   ▲                          │                             │ NotActive                    │ NotActive
//!   └──────────── lost ────────┴─────────────────────────────┴──────────────────────────────┘
//! ```
//!
//! A call that was never sent waits for the next session; it is forgotten when its request has been answered. One that was
//! sent into a session which then broke is indeterminate and is never sent twice.

use std::collections::{BTreeMap, VecDeque};

use base_types::{BrokerId, Incarnation, Tick};
use peer_api::controller::{
    ActiveController, Error, FromController, RegisterGateway, Request, Response, Role, ToController,
};
use peer_api::metadata::{Image, MetadataOffset, Update};
use peer_api::storage::RequestId;

use crate::effect::{Effect, Effects};
use crate::event::Trace;
use crate::limits::{CONTROLLER_RETRY_MS, CONTROLLER_WELCOME_MS, LEAVE_MS};
use crate::operation::OperationId;

pub(crate) struct ControllerLink {
    state: State,
    last_id: u64,
    queued: VecDeque<(RequestId, Asker, Request)>,
    sent: BTreeMap<RequestId, (Asker, Request)>,
    registration: RegisterGateway,
    heartbeat_ms: u64,
    /// The next session must begin with the whole image, because the last one did not continue ours.
    start_over: bool,
    /// This gateway stops: it asks to be named no more, until then at the latest, and registers no more.
    leave_by: Option<Tick>,
    /// It stopped asking. For good: what was refused once must not be overtaken by what is taken.
    left: bool,
    /// When a hint was last followed without a pause.
    followed_at: Option<Tick>,
    sessions: u64,
}

#[derive(Debug)]
enum State {
    Down { retry_at: Tick, active: Option<ActiveController> },
    Opening { until: Tick },
    Greeting { until: Tick },
    Active { heartbeat_at: Tick },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// With the trace that it belongs to.
    Operation(OperationId, Trace),
    Registration,
    Heartbeat,
}

/// What a message of the controller means for the rest of the gateway.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub answers: Vec<(OperationId, Result<Response, Error>)>,
    pub metadata_changed: bool,
}

impl ControllerLink {
    pub fn new(registration: RegisterGateway, heartbeat_ms: u64) -> ControllerLink {
        ControllerLink {
            state: State::Down { retry_at: Tick(0), active: None },
            last_id: 0,
            queued: VecDeque::new(),
            sent: BTreeMap::new(),
            registration,
            heartbeat_ms,
            start_over: false,
            leave_by: None,
            left: false,
            followed_at: None,
            sessions: 0,
        }
    }

    pub fn gateway(&self) -> BrokerId {
        self.registration.gateway
    }

    pub fn advertised(&self) -> (&str, u16) {
        (&self.registration.advertised_host, self.registration.advertised_port)
    }

    fn incarnation(&self) -> Incarnation {
        self.registration.incarnation
    }

    pub fn is_active(&self) -> bool {
        matches!(self.state, State::Active { .. })
    }

    /// Asks the controller to name this gateway no more.
    pub fn leave(&mut self, now: Tick, effects: &mut Effects) {
        self.leave_by = Some(now.plus_ms(LEAVE_MS));
        if self.is_active() {
            self.beat(effects);
        }
    }

    /// After every step: whether clients are sent elsewhere by now, or there is nobody to ask for it, or that took too long.
    pub fn weigh_leaving(&mut self, now: Tick, image: &Image) {
        let named = image.gateway(self.gateway()).is_some_and(|known| known.incarnation == self.incarnation());
        self.left |= self.leave_by.is_some_and(|by| !named || !self.is_active() || by <= now);
    }

    pub fn has_left(&self) -> bool {
        self.left
    }

    pub fn calls(&self) -> usize {
        self.queued.len() + self.sent.len()
    }

    pub fn sessions(&self) -> u64 {
        self.sessions
    }

    pub fn next_deadline(&self) -> Tick {
        let next = match self.state {
            State::Down { retry_at, .. } => retry_at,
            State::Opening { until } | State::Greeting { until } => until,
            State::Active { heartbeat_at } => heartbeat_at,
        };
        self.leave_by.filter(|_| !self.left).map_or(next, |by| by.min(next))
    }

    pub fn ask(&mut self, (operation, trace): (OperationId, Trace), request: Request, effects: &mut Effects) {
        self.call(Asker::Operation(operation, trace), request, effects);
    }

    /// The request has been answered; a call of it that was not sent must not be any more.
    pub fn forget(&mut self, operation: OperationId) {
        self.queued.retain(|(_, asker, _)| !matches!(asker, Asker::Operation(of, _) if *of == operation));
    }

    pub fn connected(&mut self, now: Tick, image: &Image, effects: &mut Effects) {
        if !matches!(self.state, State::Opening { .. }) {
            return;
        }
        let follow_from = if std::mem::take(&mut self.start_over) { MetadataOffset::default() } else { image.at() };
        let hello = ToController::Hello { role: Role::Gateway(self.gateway()), follow_from: Some(follow_from) };
        effects.push(Effect::ToController { message: hello, trace: Trace::default() });
        self.state = State::Greeting { until: now.plus_ms(CONTROLLER_WELCOME_MS) };
    }

    pub fn message(&mut self, now: Tick, message: FromController, image: &mut Image, effects: &mut Effects) -> Heard {
        let mut heard = Heard::default();
        match message {
            FromController::Welcome { .. } => self.welcomed(now, effects),
            FromController::Update(update) => match self.fold(update, image) {
                Folded::Changed => heard.metadata_changed = true,
                Folded::Old => {}
                Folded::Gap => {
                    self.start_over = true;
                    heard.answers = self.down(now, None);
                }
            },
            FromController::Answer { id, result } => {
                let Some((asker, request)) = self.sent.remove(&id) else { return heard };
                match (asker, result) {
                    // Definite: it did nothing. The stream is about to end with the name of another.
                    (_, Err(Error::NotActive { .. })) => self.queued.push_back((id, asker, request)),
                    (Asker::Operation(operation, _), result) => heard.answers.push((operation, result)),
                    (Asker::Heartbeat, Err(Error::Refused(_))) if self.leave_by.is_none() => self.register(effects),
                    (Asker::Registration | Asker::Heartbeat, _) => {}
                }
            }
            FromController::NotActive { active } => heard.answers = self.down(now, active),
        }
        heard
    }

    /// The session is gone. Returns the answers that will not come any more.
    pub fn lost(&mut self, now: Tick) -> Vec<(OperationId, Result<Response, Error>)> {
        self.down(now, None)
    }

    pub fn ticked(&mut self, now: Tick, effects: &mut Effects) -> Vec<(OperationId, Result<Response, Error>)> {
        let mut answers = Vec::new();
        match &mut self.state {
            State::Down { retry_at, active } if *retry_at <= now => {
                effects.push(Effect::OpenController { active: active.take() });
                self.sessions += 1;
                self.state = State::Opening { until: now.plus_ms(CONTROLLER_WELCOME_MS) };
            }
            State::Opening { until } | State::Greeting { until } if *until <= now => {
                answers = self.down(now, None);
            }
            State::Active { heartbeat_at } if *heartbeat_at <= now => {
                *heartbeat_at = now.plus_ms(self.heartbeat_ms);
                self.beat(effects);
            }
            _ => {}
        }
        answers
    }

    fn welcomed(&mut self, now: Tick, effects: &mut Effects) {
        if !matches!(self.state, State::Greeting { .. }) {
            return;
        }
        self.state = State::Active { heartbeat_at: now.plus_ms(self.heartbeat_ms) };
        if self.leave_by.is_some() {
            self.beat(effects)
        } else {
            self.register(effects)
        }
        for (id, asker, request) in std::mem::take(&mut self.queued) {
            self.send(id, asker, request, effects);
        }
    }

    fn register(&mut self, effects: &mut Effects) {
        let request = Request::RegisterGateway(self.registration.clone());
        self.call(Asker::Registration, request, effects);
    }

    fn beat(&mut self, effects: &mut Effects) {
        let (gateway, incarnation, want_shutdown) = (self.gateway(), self.incarnation(), self.leave_by.is_some());
        self.call(Asker::Heartbeat, Request::GatewayHeartbeat { gateway, incarnation, want_shutdown }, effects);
    }

    fn call(&mut self, asker: Asker, request: Request, effects: &mut Effects) {
        self.last_id += 1;
        let id = RequestId(self.last_id);
        if self.is_active() {
            self.send(id, asker, request, effects);
        } else {
            self.queued.push_back((id, asker, request));
        }
    }

    fn send(&mut self, id: RequestId, asker: Asker, request: Request, effects: &mut Effects) {
        let trace = match asker {
            Asker::Operation(_, trace) => trace,
            Asker::Registration | Asker::Heartbeat => Trace::default(),
        };
        effects.push(Effect::ToController { message: ToController::Call { id, request: request.clone() }, trace });
        self.sent.insert(id, (asker, request));
    }

    fn down(&mut self, now: Tick, active: Option<ActiveController>) -> Vec<(OperationId, Result<Response, Error>)> {
        // A hint is followed at once, but only once per period: two controllers that name each other must not spin us.
        let spun = self.followed_at.is_some_and(|at| now.ms_since(at) < CONTROLLER_RETRY_MS);
        let follow = active.is_some() && !spun;
        if follow {
            self.followed_at = Some(now);
        }
        let pause = if follow { 0 } else { CONTROLLER_RETRY_MS };
        self.state = State::Down { retry_at: now.plus_ms(pause), active };
        self.queued.retain(|(_, asker, _)| matches!(asker, Asker::Operation(..)));
        std::mem::take(&mut self.sent)
            .into_values()
            .filter_map(|(asker, _)| match asker {
                Asker::Operation(operation, _) => Some((operation, Err(Error::TimedOut))),
                Asker::Registration | Asker::Heartbeat => None,
            })
            .collect()
    }

    /// Invariant: W4, the view never goes back, whichever controller speaks.
    fn fold(&mut self, update: Update, image: &mut Image) -> Folded {
        match &update {
            Update::Snapshot { at, .. } if *at < image.at() => return Folded::Old,
            Update::Delta { to, .. } if *to <= image.at() => return Folded::Old,
            _ => {}
        }
        if image.update(update) { Folded::Changed } else { Folded::Gap }
    }
}

enum Folded {
    Changed,
    Old,
    Gap,
}

#[cfg(test)]
mod tests {
    use base_types::ErrorCode;
    use peer_api::controller::Refusal;
    use peer_api::metadata::Record;

    use super::*;

    fn link() -> ControllerLink {
        let registration = RegisterGateway {
            gateway: BrokerId(9),
            incarnation: Incarnation([7; 16]),
            advertised_host: "gateway".into(),
            advertised_port: 9092,
            rack: None,
            host: "machine".into(),
        };
        ControllerLink::new(registration, 1000)
    }

    fn said(effects: &mut Effects) -> Vec<String> {
        effects
            .drain()
            .map(|effect| match effect {
                Effect::OpenController { active } => format!("open {:?}", active.map(|active| active.id.0)),
                Effect::ToController { message: ToController::Hello { follow_from, .. }, .. } => {
                    format!("hello from {}", follow_from.unwrap().0)
                }
                Effect::ToController { message: ToController::Call { id, request }, .. } => {
                    let request = format!("{request:?}");
                    format!("call {} {}", id.0, request.split([' ', '(']).next().unwrap())
                }
                other => format!("{other:?}"),
            })
            .collect()
    }

    /// Since tick 0, and it has said who it is.
    fn in_session() -> (ControllerLink, Image, Effects) {
        let (mut link, mut image, mut effects) = (link(), Image::default(), Effects::default());
        link.ticked(Tick(0), &mut effects);
        link.connected(Tick(0), &image, &mut effects);
        link.message(Tick(0), welcome(), &mut image, &mut effects);
        (link, image, effects)
    }

    fn welcome() -> FromController {
        FromController::Welcome { controller: BrokerId(1), term: 3 }
    }

    #[test]
    fn a_session_is_opened_greeted_registered_and_kept_alive() {
        let (mut link, mut image, mut effects) = (link(), Image::default(), Effects::default());
        link.ticked(Tick(0), &mut effects);
        link.connected(Tick(1), &image, &mut effects);
        assert_eq!(said(&mut effects), ["open None", "hello from 0"]);
        link.ask((OperationId(5), Trace::default()), Request::AllocateProducerIds, &mut effects);
        assert!(effects.is_empty());
        link.message(Tick(2), welcome(), &mut image, &mut effects);
        assert_eq!(said(&mut effects), ["call 2 RegisterGateway", "call 1 AllocateProducerIds"]);
        link.ticked(Tick(1001), &mut effects);
        assert!(effects.is_empty());
        link.ticked(Tick(1002), &mut effects);
        assert_eq!(said(&mut effects), ["call 3 GatewayHeartbeat"]);
        // A controller that does not know us hears our name again.
        let refusal = Refusal { code: ErrorCode::BrokerIdNotRegistered, message: String::new() };
        let answer = FromController::Answer { id: RequestId(3), result: Err(Error::Refused(refusal)) };
        link.message(Tick(1003), answer, &mut image, &mut effects);
        assert_eq!(said(&mut effects), ["call 4 RegisterGateway"]);
    }

    /// That gateway, in the metadata.
    fn named() -> Record {
        Record::GatewayRegistered(peer_api::metadata::Gateway {
            id: BrokerId(9),
            incarnation: Incarnation([7; 16]),
            advertised_host: "gateway".into(),
            advertised_port: 9092,
            rack: None,
            host: "machine".into(),
        })
    }

    #[test]
    fn who_leaves_asks_for_it_and_registers_no_more() {
        let (mut link, mut image, mut effects) = (link(), Image::default(), Effects::default());
        let delta = |from, record| {
            let (from, to) = (MetadataOffset(from), MetadataOffset(from + 1));
            FromController::Update(Update::Delta { from, to, records: vec![record] })
        };
        link.ticked(Tick(0), &mut effects);
        link.connected(Tick(0), &image, &mut effects);
        link.message(Tick(0), welcome(), &mut image, &mut effects);
        link.message(Tick(0), delta(0, named()), &mut image, &mut effects);
        link.weigh_leaving(Tick(5), &image);
        assert!(!link.has_left(), "nobody asked for it");
        said(&mut effects);
        link.leave(Tick(5), &mut effects);
        let asked = |effects: &mut Effects| {
            effects.drain().any(|effect| match effect {
                Effect::ToController { message: ToController::Call { request, .. }, .. } => match request {
                    Request::GatewayHeartbeat { want_shutdown, .. } => want_shutdown,
                    other => panic!("{other:?}"),
                },
                _ => false,
            })
        };
        assert!(asked(&mut effects));
        link.weigh_leaving(Tick(6), &image);
        assert!(!link.has_left());
        link.message(Tick(111), delta(1, Record::GatewayRemoved { gateway: BrokerId(9) }), &mut image, &mut effects);
        link.weigh_leaving(Tick(111), &image);
        assert!(link.has_left());
        // What it asked once more is refused, which is no reason to come back.
        let refusal = Refusal { code: ErrorCode::BrokerIdNotRegistered, message: String::new() };
        let answer = FromController::Answer { id: RequestId(2), result: Err(Error::Refused(refusal)) };
        link.message(Tick(112), answer, &mut image, &mut effects);
        assert!(effects.is_empty());
    }

    /// There is nobody to wait for. A controller that comes then, and still names it, does not take that back.
    #[test]
    fn who_leaves_without_a_controller_has_left() {
        let (mut link, mut image, mut effects) = in_session();
        let _ = image.update(Update::Delta { from: MetadataOffset(0), to: MetadataOffset(1), records: vec![named()] });
        link.leave(Tick(5), &mut effects);
        link.lost(Tick(10));
        link.weigh_leaving(Tick(10), &image);
        assert!(link.has_left());
        link.ticked(Tick(110), &mut effects);
        link.connected(Tick(110), &image, &mut effects);
        said(&mut effects);
        link.message(Tick(110), welcome(), &mut image, &mut effects);
        assert_eq!(said(&mut effects), ["call 3 GatewayHeartbeat"]);
        link.weigh_leaving(Tick(110), &image);
        assert!(link.has_left());
    }

    #[test]
    fn who_leaves_waits_no_longer_than_it_may() {
        let (mut link, mut image, mut effects) = in_session();
        let _ = image.update(Update::Delta { from: MetadataOffset(0), to: MetadataOffset(1), records: vec![named()] });
        link.leave(Tick(5), &mut effects);
        assert!(link.next_deadline() <= Tick(5 + LEAVE_MS));
        link.weigh_leaving(Tick(4 + LEAVE_MS), &image);
        assert!(!link.has_left());
        link.weigh_leaving(Tick(5 + LEAVE_MS), &image);
        assert!(link.has_left());
    }

    #[test]
    fn a_call_sent_into_a_broken_session_is_indeterminate_and_never_sent_again() {
        let (mut link, mut image, mut effects) = in_session();
        link.ask((OperationId(5), Trace::default()), Request::AllocateProducerIds, &mut effects);
        assert_eq!(link.lost(Tick(10)), [(OperationId(5), Err(Error::TimedOut))]);
        link.ask((OperationId(6), Trace::default()), Request::DescribeQuorum, &mut effects);
        said(&mut effects);
        link.ticked(Tick(109), &mut effects);
        assert!(effects.is_empty());
        link.ticked(Tick(110), &mut effects);
        link.connected(Tick(110), &image, &mut effects);
        link.message(Tick(110), welcome(), &mut image, &mut effects);
        let said = said(&mut effects);
        assert_eq!(said[2..], ["call 4 RegisterGateway", "call 3 DescribeQuorum"]);
    }

    #[test]
    fn a_call_refused_by_an_inactive_controller_goes_to_the_one_it_names() {
        let (mut link, mut image, mut effects) = in_session();
        link.ask((OperationId(5), Trace::default()), Request::AllocateProducerIds, &mut effects);
        let active = Some(ActiveController { id: BrokerId(3), address: "c3:9".into() });
        let refused = FromController::Answer { id: RequestId(2), result: Err(Error::NotActive { active: None }) };
        assert!(link.message(Tick(5), refused, &mut image, &mut effects).answers.is_empty());
        link.message(Tick(5), FromController::NotActive { active }, &mut image, &mut effects);
        said(&mut effects);
        link.ticked(Tick(5), &mut effects);
        link.connected(Tick(6), &image, &mut effects);
        link.message(Tick(6), welcome(), &mut image, &mut effects);
        let said = said(&mut effects);
        assert_eq!(said, ["open Some(3)", "hello from 0", "call 3 RegisterGateway", "call 2 AllocateProducerIds"]);
    }

    #[test]
    fn the_view_never_goes_back_and_a_gap_asks_for_the_whole() {
        let (mut link, mut image, mut effects) = in_session();
        let named = |id: &str| vec![Record::ClusterNamed { cluster_id: id.into() }];
        let snapshot = |at, id| FromController::Update(Update::Snapshot { at: MetadataOffset(at), records: named(id) });
        let delta = |from, to, id| {
            FromController::Update(Update::Delta {
                from: MetadataOffset(from),
                to: MetadataOffset(to),
                records: named(id),
            })
        };
        assert!(link.message(Tick(0), snapshot(10, "ten"), &mut image, &mut effects).metadata_changed);
        assert!(!link.message(Tick(0), snapshot(8, "eight"), &mut image, &mut effects).metadata_changed);
        assert!(!link.message(Tick(0), delta(8, 9, "nine"), &mut image, &mut effects).metadata_changed);
        assert_eq!((image.at().0, image.cluster_id()), (10, "ten"));
        assert!(!link.message(Tick(0), delta(12, 13, "gap"), &mut image, &mut effects).metadata_changed);
        said(&mut effects);
        link.ticked(Tick(100), &mut effects);
        link.connected(Tick(100), &image, &mut effects);
        assert_eq!(said(&mut effects), ["open None", "hello from 0"]);
        assert_eq!(image.at().0, 10);
    }
}
