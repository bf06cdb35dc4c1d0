//! The gateway and its one way in.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{BrokerId, Incarnation, Now, Random, Tick, invariant};
use bytes::Bytes;
use kafka_wire::{ApiKey, Reader, decode_request_header};
use peer_api::controller::RegisterGateway;
use peer_api::groups::Caller;
use peer_api::metadata::{BrokerState, Image};
use peer_api::storage::{Response, TransportError};

use crate::api;
use crate::calls::{Calls, Timers};
use crate::connection::{Connection, Frame, Slot, Work};
use crate::controller_link::{ControllerLink, Heard};
use crate::effect::{CloseReason, Effect, Effects, RequestInfo};
use crate::event::{ConnectionId, Event};
use crate::lag::{self, GroupLag, Lag, Ways};
use crate::limits::{END_MS, FETCH_BYTES_MAX, FETCH_BYTES_MIN, FRAME_SIZE_MAX, FRAME_SIZE_MIN, MOVE_MS};
use crate::operation::{Answer, Begun, Context, OperationId, Progress, Request};
use crate::session::Sessions;
use crate::stats::Stats;

/// Who this gateway is and how much it may hold.
#[derive(Clone, Debug)]
pub struct Config {
    pub id: BrokerId,
    /// This life of the process, made at random by the shell.
    pub incarnation: Incarnation,
    /// The address clients are told.
    pub advertised_host: String,
    pub advertised_port: u16,
    pub rack: Option<String>,
    /// Name of the machine, to pair it with the storage node on the same one.
    pub host: String,
    /// For ids of fetch sessions; nothing secret.
    pub seed: u64,
    /// Bytes of requests and of answers that may be held at once, over all connections (W7); those that the shell is still
    /// receiving count as well.
    pub memory_max: usize,
    pub heartbeat_ms: u64,
    /// How often groups are asked how far they are behind; 0: never.
    pub lag_interval_ms: u64,
    /// Broker configs that differ from Kafka's defaults, by Kafka's names.
    pub statics: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            id: BrokerId(0),
            incarnation: Incarnation::ZERO,
            advertised_host: "localhost".to_owned(),
            advertised_port: 9092,
            rack: None,
            host: String::new(),
            seed: 0,
            memory_max: 512 * 1024 * 1024,
            heartbeat_ms: 1_000,
            lag_interval_ms: 0,
            statics: BTreeMap::new(),
        }
    }
}

/// A gateway: a function of what happened to it.
pub struct Gateway {
    image: Image,
    connections: BTreeMap<ConnectionId, Connection>,
    /// The connection of every request in flight.
    operations: BTreeMap<OperationId, ConnectionId>,
    /// Where storage nodes were last said to be.
    located: BTreeMap<BrokerId, String>,
    /// Storage nodes that were last said to be fenced.
    fenced: BTreeSet<BrokerId>,
    /// Connections whose stale produces wait for news or for their next attempt.
    stale: BTreeMap<ConnectionId, Tick>,
    /// Connections whose clients were told to go elsewhere, and when they end if nothing is in flight then.
    moving: BTreeMap<ConnectionId, Tick>,
    /// Connections that are not read because memory is short.
    starved: BTreeSet<ConnectionId>,
    last_operation: u64,
    bytes_held: usize,
    bytes_unsent: usize,
    /// Of frames that the shell has not delivered yet, while that matters.
    bytes_receiving: usize,
    lag: Lag,
    shared: Shared,
}

/// What handlers change besides their own request.
pub(crate) struct Shared {
    pub config: Config,
    pub calls: Calls,
    pub timers: Timers,
    pub controller: ControllerLink,
    pub sessions: Sessions,
    pub producer_ids: api::ProducerIds,
    pub stats: Stats,
    /// What a fetch may ask for, as far as memory allows.
    pub fetch_bytes_max: usize,
}

impl Gateway {
    pub fn new(config: Config) -> Gateway {
        let registration = RegisterGateway {
            gateway: config.id,
            incarnation: config.incarnation,
            advertised_host: config.advertised_host.clone(),
            advertised_port: config.advertised_port,
            rack: config.rack.clone(),
            host: config.host.clone(),
        };
        Gateway {
            image: Image::default(),
            connections: BTreeMap::new(),
            operations: BTreeMap::new(),
            located: BTreeMap::new(),
            fenced: BTreeSet::new(),
            stale: BTreeMap::new(),
            moving: BTreeMap::new(),
            starved: BTreeSet::new(),
            last_operation: 0,
            bytes_held: 0,
            bytes_unsent: 0,
            bytes_receiving: 0,
            lag: Lag::new(config.lag_interval_ms),
            shared: Shared {
                calls: Calls::default(),
                timers: Timers::default(),
                controller: ControllerLink::new(registration, config.heartbeat_ms),
                sessions: Sessions::new(Random::new(config.seed)),
                producer_ids: api::ProducerIds::default(),
                stats: Stats::default(),
                fetch_bytes_max: FETCH_BYTES_MAX,
                config,
            },
        }
    }

    /// The only entry point. Deterministic: same state, `now` and `event` give the same effects. A shell begins with
    /// [`Event::Ticked`].
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Effects) {
        match event {
            Event::ConnectionOpened { connection, host } => {
                self.connections.insert(connection, Connection::from(host));
            }
            Event::FrameReceived { connection, frame, stamp } => {
                if let Some(state) = self.connections.get_mut(&connection) {
                    self.bytes_held += frame.len();
                    self.shared.stats.bytes_in += frame.len() as u64 + 4;
                    state.push(Frame { bytes: frame, stamp });
                    self.pump(now, connection, effects);
                    self.hold_back(connection, effects);
                }
            }
            Event::BytesSent { connection, bytes } => {
                if let Some(state) = self.connections.get_mut(&connection) {
                    let bytes = bytes.min(state.unsent_bytes);
                    state.unsent_bytes -= bytes;
                    self.bytes_unsent -= bytes;
                    self.pump(now, connection, effects);
                    self.hold_back(connection, effects);
                }
            }
            Event::Receiving { bytes } => self.bytes_receiving = bytes,
            Event::ConnectionClosed { connection } => self.drop_connection(now, connection, effects),
            Event::StorageResponded { node, message } => {
                if let Some(operation) = self.shared.calls.answered(node, message.id) {
                    self.storage_answered(now, operation, message.id, Ok(message.response), effects);
                }
            }
            Event::StorageFailed { node, ids, error } => {
                for id in ids {
                    if let Some(operation) = self.shared.calls.answered(node, id) {
                        self.storage_answered(now, operation, id, Err(error), effects);
                    }
                }
            }
            Event::ControllerConnected => self.shared.controller.connected(now.tick, &self.image, effects),
            Event::ControllerMessage(message) => {
                let heard = self.shared.controller.message(now.tick, message, &mut self.image, effects);
                self.heard(now, heard, effects);
            }
            Event::ControllerLost => {
                let answers = self.shared.controller.lost(now.tick);
                self.heard(now, Heard { answers, metadata_changed: false }, effects);
            }
            Event::ShutdownRequested => self.shared.controller.leave(now.tick, effects),
            Event::Ticked => {}
        }
        self.shared.controller.weigh_leaving(now.tick, &self.image);
        self.ring(now, effects);
        self.feed(effects);
        self.check_cheaply();
    }

    /// When [`Event::Ticked`] is due, if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Tick> {
        let retry = self.stale.values().min().copied();
        let lag = self.lag.next_deadline().filter(|_| self.is_ready());
        let moving = self.moving.values().min().copied();
        [Some(self.shared.controller.next_deadline()), self.shared.timers.next(), retry, lag, moving]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether the metadata has been seen. Until then requests other than ApiVersions wait.
    pub fn is_ready(&self) -> bool {
        self.image.at().0 > 0
    }

    /// Whether a session with the active controller stands.
    pub fn has_controller(&self) -> bool {
        self.shared.controller.is_active()
    }

    /// After [`Event::ShutdownRequested`]: whether the metadata send clients elsewhere. Then connections may end.
    pub fn has_left(&self) -> bool {
        self.shared.controller.has_left()
    }

    /// Whether nothing is in flight: what a shell that stops waits for.
    pub fn is_idle(&self) -> bool {
        self.connections.values().all(Connection::is_idle)
    }

    /// Connections on which nothing is in flight.
    pub fn idle_connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.connections.iter().filter(|(_, connection)| connection.is_idle()).map(|(id, _)| *id)
    }

    /// The groups of the storage nodes that this gateway stands for, as the last round of questions found them.
    pub fn lag(&self) -> &[GroupLag] {
        self.lag.groups()
    }

    /// How many rounds there were.
    pub fn lag_rounds(&self) -> u64 {
        self.lag.rounds()
    }

    /// Bytes of requests not answered and of answers not taken.
    pub fn memory_used(&self) -> usize {
        self.bytes_held + self.bytes_unsent
    }

    /// As last told with [`Event::Receiving`].
    pub fn bytes_receiving(&self) -> usize {
        self.bytes_receiving
    }

    pub fn image(&self) -> &Image {
        &self.image
    }

    pub fn stats(&self) -> Stats {
        Stats {
            connections: self.connections.len(),
            bytes_held: self.bytes_held,
            bytes_unsent: self.bytes_unsent,
            fetch_sessions: self.shared.sessions.len(),
            fetch_session_partitions: self.shared.sessions.partitions(),
            fetch_sessions_evicted: self.shared.sessions.evicted(),
            storage_calls: self.shared.calls.len(),
            controller_calls: self.shared.controller.calls(),
            controller_sessions: self.shared.controller.sessions(),
            ..self.shared.stats.clone()
        }
    }

    /// Side-effect free and not cheap: for the simulator and tests, after any step.
    pub fn check_invariants(&self) {
        let held: usize = self.connections.values().map(Connection::held_bytes).sum();
        invariant!(W7, held == self.bytes_held, "{held} held, {} counted", self.bytes_held);
        let unsent: usize = self.connections.values().map(|connection| connection.unsent_bytes).sum();
        invariant!(W7, unsent == self.bytes_unsent, "{unsent} unsent, {} counted", self.bytes_unsent);
        let mut in_flight = 0;
        for (id, connection) in &self.connections {
            in_flight += connection.slots.len();
            let numbers: Vec<_> = connection.slots.iter().map(|slot| slot.operation).collect();
            invariant!(W1, numbers.is_sorted(), "connection {}: {numbers:?}", id.0);
            let waiting = connection.slots.iter().filter(|slot| matches!(slot.work, Work::Waiting(_))).count();
            invariant!(
                W1,
                waiting == 0 || connection.slots.len() == 1,
                "connection {}: {waiting} of {} requests in flight are no produces",
                id.0,
                connection.slots.len()
            );
            api::check_produce_order(connection);
            if connection.backlog.len() > crate::limits::BACKLOG_MAX {
                invariant!(W7, connection.paused, "connection {} sends and sends", id.0);
            }
        }
        invariant!(W1, in_flight == self.operations.len(), "{in_flight} in flight, {}", self.operations.len());
        self.shared.sessions.check_invariants();
    }

    fn check_cheaply(&self) {
        invariant!(W7, self.bytes_held == 0 || !self.connections.is_empty(), "{} held for nobody", self.bytes_held);
    }

    // - one connection -

    /// Begins and answers whatever can be.
    fn pump(&mut self, now: Now, connection: ConnectionId, effects: &mut Effects) {
        loop {
            self.send_produces(now, connection, effects);
            self.answer(now, connection, effects);
            let ready = self.is_ready();
            let Some(state) = self.connections.get_mut(&connection) else { return };
            let Some(frame) = state.backlog.front() else { return };
            let key = leading_key(&frame.bytes);
            if !ready && !matches!(key, None | Some(ApiKey::ApiVersions)) {
                return;
            }
            if !state.may_begin(key == Some(ApiKey::Produce)) {
                return;
            }
            let Some(frame) = state.pop() else { return };
            self.begin(now, connection, frame, effects);
        }
    }

    fn begin(&mut self, now: Now, connection: ConnectionId, frame: Frame, effects: &mut Effects) {
        let frame_size = frame.bytes.len();
        if !(FRAME_SIZE_MIN..=FRAME_SIZE_MAX).contains(&frame_size) {
            self.bytes_held -= frame_size;
            return self.close(now, connection, CloseReason::Malformed, effects);
        }
        let mut reader = Reader::new(frame.bytes);
        let header = decode_request_header(&mut reader);
        let Some((header, key)) =
            header.ok().and_then(|h| ApiKey::try_from(h.request_api_key).ok().map(|key| (h, key)))
        else {
            self.bytes_held -= frame_size;
            return self.close(now, connection, CloseReason::Malformed, effects);
        };
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let caller = state.caller(header.client_id.as_deref().unwrap_or_default());
        *self.shared.stats.requests.entry(key).or_default() += 1;
        self.last_operation += 1;
        let operation = OperationId(self.last_operation);
        let request = Request {
            info: RequestInfo { key, version: header.request_api_version, stamp: frame.stamp },
            correlation_id: header.correlation_id,
            caller,
        };
        let waiting = self.bytes_in_all().min(self.shared.config.memory_max);
        self.shared.fetch_bytes_max = (self.shared.config.memory_max - waiting).clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX);
        let mut cx =
            Context { now, request: request.clone(), operation, image: &self.image, shared: &mut self.shared, effects };
        let work = match api::begin(&mut cx, &mut reader) {
            Begun::Answered(answer) => {
                self.shared.timers.clear(operation);
                self.shared.controller.forget(operation);
                Work::Done(answer)
            }
            Begun::Waiting(waiting) => Work::Waiting(waiting),
            Begun::Produce(produce) => Work::Produce(produce),
        };
        if matches!(key, ApiKey::Produce | ApiKey::Fetch) && self.has_left() {
            let is_informed = self.connections.get(&connection).is_some_and(|state| state.is_informed);
            let ms = if is_informed { END_MS } else { MOVE_MS };
            self.moving.entry(connection).or_insert_with(|| now.tick.plus_ms(ms));
        }
        self.operations.insert(operation, connection);
        if let Some(state) = self.connections.get_mut(&connection) {
            state.begin(Slot { operation, request, frame_size, work });
        }
    }

    /// Sends the answers that are ready, in order (W1).
    fn answer(&mut self, now: Now, connection: ConnectionId, effects: &mut Effects) {
        while let Some(state) = self.connections.get_mut(&connection) {
            let settled = match state.slots.front() {
                None => return,
                Some(slot) => match &slot.work {
                    Work::Done(_) => true,
                    Work::Produce(produce) => produce.is_settled(),
                    Work::Waiting(_) | Work::Busy => false,
                },
            };
            if !settled {
                return;
            }
            let Some(slot) = state.end_first() else { return };
            self.bytes_held -= slot.frame_size;
            self.operations.remove(&slot.operation);
            self.shared.timers.clear(slot.operation);
            let answer = match slot.work {
                Work::Done(answer) => answer,
                Work::Produce(produce) => {
                    let mut cx = Context {
                        now,
                        request: slot.request.clone(),
                        operation: slot.operation,
                        image: &self.image,
                        shared: &mut self.shared,
                        effects,
                    };
                    produce.answer(&mut cx, &mut state.refusals)
                }
                Work::Waiting(_) | Work::Busy => return,
            };
            match answer {
                Answer::Respond(segments) => {
                    let bytes: usize = segments.iter().map(Bytes::len).sum();
                    if let Some(state) = self.connections.get_mut(&connection) {
                        state.unsent_bytes += bytes;
                    }
                    self.bytes_unsent += bytes;
                    self.shared.stats.bytes_out += bytes as u64;
                    effects.push(Effect::Send { connection, segments, request: slot.request.info });
                    if slot.request.info.key == ApiKey::Metadata && self.has_left() {
                        self.inform(now, &slot.request.caller);
                    }
                }
                Answer::Silent => effects.push(Effect::Complete { connection, request: slot.request.info }),
                Answer::Close(reason) => return self.close(now, connection, reason, effects),
            }
        }
    }

    /// Lets the produces of a connection go to storage, as far as order allows.
    fn send_produces(&mut self, now: Now, connection: ConnectionId, effects: &mut Effects) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let mut cx = Context {
            now,
            request: Request {
                info: RequestInfo { key: ApiKey::Produce, version: 0, stamp: Default::default() },
                correlation_id: 0,
                caller: Default::default(),
            },
            operation: OperationId(0),
            image: &self.image,
            shared: &mut self.shared,
            effects,
        };
        api::send_produces(&mut cx, state);
        match state.retry_at {
            Some(tick) => self.stale.insert(connection, tick),
            None => self.stale.remove(&connection),
        };
    }

    fn close(&mut self, now: Now, connection: ConnectionId, reason: CloseReason, effects: &mut Effects) {
        *self.shared.stats.closes.entry(reason).or_default() += 1;
        effects.push(Effect::Close { connection, reason });
        self.drop_connection(now, connection, effects);
    }

    fn drop_connection(&mut self, now: Now, connection: ConnectionId, effects: &mut Effects) {
        let Some(state) = self.connections.remove(&connection) else { return };
        self.stale.remove(&connection);
        self.moving.remove(&connection);
        self.starved.remove(&connection);
        self.bytes_held -= state.held_bytes();
        self.bytes_unsent -= state.unsent_bytes;
        for slot in state.slots {
            self.operations.remove(&slot.operation);
            self.shared.timers.clear(slot.operation);
            self.shared.controller.forget(slot.operation);
            if let Work::Waiting(mut operation) = slot.work {
                operation.abandoned(&mut Context {
                    now,
                    request: slot.request,
                    operation: slot.operation,
                    image: &self.image,
                    shared: &mut self.shared,
                    effects,
                });
            }
        }
    }

    // - memory -

    fn bytes_in_all(&self) -> usize {
        self.memory_used() + self.bytes_receiving
    }

    fn hold_back(&mut self, connection: ConnectionId, effects: &mut Effects) {
        let short = self.bytes_in_all() > self.shared.config.memory_max;
        let Some(state) = self.connections.get_mut(&connection) else { return };
        // Whoever holds nothing may always send one request, or the short memory would never be told what to free. That may be the
        // rest of one that the shell has in part, and then it is what others wait for.
        if state.held_bytes() + state.unsent_bytes == 0 {
            self.starved.remove(&connection);
        } else if short {
            self.starved.insert(connection);
        }
        let pause = state.is_flooded() || self.starved.contains(&connection);
        if pause != state.paused {
            state.paused = pause;
            effects.push(if pause {
                Effect::PauseReading { connection }
            } else {
                Effect::ResumeReading { connection }
            });
        }
    }

    /// Memory is no longer short: those who were held back for it may go on.
    fn feed(&mut self, effects: &mut Effects) {
        if self.starved.is_empty() || self.bytes_in_all() > self.shared.config.memory_max / 4 * 3 {
            return;
        }
        for connection in std::mem::take(&mut self.starved) {
            self.hold_back(connection, effects);
        }
    }

    // - operations -

    /// Lets `tell` speak to an operation that is still in flight, and goes on with its connection if that ended it.
    fn tell(
        &mut self,
        now: Now,
        operation: OperationId,
        effects: &mut Effects,
        tell: impl FnOnce(&mut dyn crate::operation::Operation, &mut Context<'_>) -> Progress,
    ) {
        let Some(&connection) = self.operations.get(&operation) else { return };
        let Some(slot) = self.connections.get_mut(&connection).and_then(|state| state.slot(operation)) else { return };
        let request = slot.request.clone();
        let mut waiting = match std::mem::replace(&mut slot.work, Work::Busy) {
            Work::Waiting(waiting) => waiting,
            other => {
                slot.work = other;
                return;
            }
        };
        let mut cx = Context { now, request, operation, image: &self.image, shared: &mut self.shared, effects };
        slot.work = match tell(&mut *waiting, &mut cx) {
            Progress::Pending => Work::Waiting(waiting),
            Progress::Done(answer) => {
                self.shared.timers.clear(operation);
                self.shared.controller.forget(operation);
                Work::Done(answer)
            }
        };
        if matches!(slot.work, Work::Done(_)) {
            self.pump(now, connection, effects);
            self.hold_back(connection, effects);
        }
    }

    fn storage_answered(
        &mut self,
        now: Now,
        operation: OperationId,
        call: peer_api::storage::RequestId,
        result: Result<Response, TransportError>,
        effects: &mut Effects,
    ) {
        if operation == lag::OPERATION {
            let (lag, mut ways) = self.lag_and_ways(now, effects);
            return lag.answered(&mut ways, call, result);
        }
        let Some(&connection) = self.operations.get(&operation) else { return };
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let Some(index) = state.slots.iter().position(|slot| slot.operation == operation) else { return };
        if !state.slots.get(index).is_some_and(|slot| matches!(slot.work, Work::Produce(_))) {
            return self.tell(now, operation, effects, |waiting, cx| waiting.storage_answered(cx, call, result));
        }
        api::produce_answered(now.tick, state, index, call, result, &mut self.shared.stats);
        self.pump(now, connection, effects);
        self.hold_back(connection, effects);
    }

    fn heard(&mut self, now: Now, heard: Heard, effects: &mut Effects) {
        if heard.metadata_changed {
            self.locate(effects);
            self.leave_fenced(effects);
        }
        for (operation, result) in heard.answers {
            self.tell(now, operation, effects, |waiting, cx| waiting.controller_answered(cx, result));
        }
        if heard.metadata_changed {
            let waiting: Vec<OperationId> = self.operations.keys().copied().collect();
            for operation in waiting {
                self.tell(now, operation, effects, |waiting, cx| waiting.metadata_changed(cx));
            }
            let busy = |state: &Connection| !state.slots.is_empty() || !state.backlog.is_empty();
            let connections: Vec<ConnectionId> =
                self.connections.iter().filter(|(_, state)| busy(state)).map(|(id, _)| *id).collect();
            for connection in connections {
                self.pump(now, connection, effects);
                self.hold_back(connection, effects);
            }
        }
    }

    /// Tells the shell where storage nodes are, as far as that changed.
    fn locate(&mut self, effects: &mut Effects) {
        let gone: Vec<BrokerId> = self.located.keys().copied().filter(|id| self.image.broker(*id).is_none()).collect();
        for node in gone {
            self.located.remove(&node);
            effects.push(Effect::LocateStorage { node, address: None });
        }
        for broker in self.image.brokers() {
            if self.located.get(&broker.id) != Some(&broker.peer_address) {
                self.located.insert(broker.id, broker.peer_address.clone());
                effects.push(Effect::LocateStorage { node: broker.id, address: Some(broker.peer_address.clone()) });
            }
        }
    }

    /// Leaves the storage nodes that were fenced just now. Their partitions have other leaders, and whatever they still owe is not worth
    /// waiting for: no time-out of a client is as short as the controller's. Says again where those are that are back, so that a stream
    /// is there before it is needed.
    fn leave_fenced(&mut self, effects: &mut Effects) {
        let fenced = self.image.brokers().filter(|broker| broker.state == BrokerState::Fenced).map(|broker| broker.id);
        let fenced: BTreeSet<BrokerId> = fenced.collect();
        for node in fenced.difference(&self.fenced) {
            effects.push(Effect::LeaveStorage { node: *node });
        }
        for node in self.fenced.difference(&fenced) {
            if let Some(address) = self.located.get(node) {
                effects.push(Effect::LocateStorage { node: *node, address: Some(address.clone()) });
            }
        }
        self.fenced = fenced;
    }

    fn lag_and_ways<'a>(&'a mut self, now: Now, effects: &'a mut Effects) -> (&'a mut Lag, Ways<'a>) {
        let ways = Ways {
            now,
            gateway: self.shared.controller.gateway(),
            image: &self.image,
            calls: &mut self.shared.calls,
            effects,
        };
        (&mut self.lag, ways)
    }

    fn ring(&mut self, now: Now, effects: &mut Effects) {
        if self.is_ready() {
            let (lag, mut ways) = self.lag_and_ways(now, effects);
            lag.ticked(&mut ways);
        }
        let answers = self.shared.controller.ticked(now.tick, effects);
        if !answers.is_empty() {
            self.heard(now, Heard { answers, metadata_changed: false }, effects);
        }
        while let Some(operation) = self.shared.timers.pop_due(now.tick) {
            let Some(&connection) = self.operations.get(&operation) else { continue };
            let Some(state) = self.connections.get_mut(&connection) else { continue };
            let produce = state
                .slots
                .iter()
                .position(|slot| slot.operation == operation && matches!(slot.work, Work::Produce(_)));
            match produce {
                None => self.tell(now, operation, effects, |waiting, cx| waiting.woken(cx)),
                Some(index) => {
                    api::produce_expired(now.tick, state, index, &self.image, &mut self.shared);
                    self.pump(now, connection, effects);
                    self.hold_back(connection, effects);
                }
            }
        }
        let due: Vec<ConnectionId> =
            self.stale.iter().filter(|(_, tick)| **tick <= now.tick).map(|(id, _)| *id).collect();
        for connection in due {
            self.pump(now, connection, effects);
            self.hold_back(connection, effects);
        }
        let due: Vec<ConnectionId> =
            self.moving.iter().filter(|(_, tick)| **tick <= now.tick).map(|(id, _)| *id).collect();
        for connection in due {
            if self.connections.get(&connection).is_some_and(|state| !state.is_idle()) {
                self.moving.insert(connection, now.tick.plus_ms(END_MS));
            } else {
                self.close(now, connection, CloseReason::GatewayStopped, effects);
            }
        }
    }

    /// The client knows where to go, on all its connections.
    fn inform(&mut self, now: Now, caller: &Caller) {
        for (connection, state) in self.connections.iter_mut().filter(|(_, state)| state.is_of(caller)) {
            state.is_informed = true;
            if let Some(end_at) = self.moving.get_mut(connection) {
                *end_at = (*end_at).min(now.tick.plus_ms(END_MS));
            }
        }
    }
}

/// The API that a frame claims to be for. `None` when it is too short or unknown; it will be refused when it begins.
fn leading_key(frame: &[u8]) -> Option<ApiKey> {
    frame.first_chunk().and_then(|key| ApiKey::try_from(i16::from_be_bytes(*key)).ok())
}

#[cfg(test)]
mod tests;
