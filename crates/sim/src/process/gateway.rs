//! A gateway in the simulator.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{BrokerId, Incarnation, Tick};
use bytes::{Bytes, BytesMut};
use gateway_core::{Config, ConnectionId, Effect, Effects, Event, Gateway as Core, Stamp};
use peer_api::controller::ActiveController;
use peer_api::storage::{Request, RequestId, ToStorage, TransportError};

use crate::network::{Payload, Purpose, StreamId};
use crate::world::{Context, Exit, Input, Process, ProcessId};

const CONTROLLER_TOKEN: u64 = 1;
/// Tokens from here on dial the storage node with that id.
const STORAGE_TOKENS: u64 = 1_000;
const REDIAL_MS: u64 = 50;

pub struct Gateway {
    core: Core,
    memory_max: usize,
    controllers: i32,
    next_controller: i32,
    controller: Controller,
    storage: BTreeMap<BrokerId, Link>,
    clients: BTreeSet<StreamId>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Controller {
    None,
    Dialling,
    Open(StreamId),
}

#[derive(Default)]
struct Link {
    stream: Option<StreamId>,
    /// Handed over before the stream was there.
    waiting: Vec<ToStorage>,
    dialling: bool,
    unanswered: BTreeSet<RequestId>,
}

impl Gateway {
    pub fn start(
        id: i32,
        incarnation: Incarnation,
        controllers: i32,
        statics: BTreeMap<String, String>,
        seed: u64,
    ) -> Gateway {
        let config = Config {
            id: BrokerId(id),
            incarnation,
            advertised_host: format!("gateway-{id}"),
            advertised_port: 9092,
            host: format!("host-{id}"),
            statics,
            seed,
            ..Config::default()
        };
        Gateway {
            memory_max: config.memory_max,
            core: Core::new(config),
            controllers,
            next_controller: id,
            controller: Controller::None,
            storage: BTreeMap::new(),
            clients: BTreeSet::new(),
        }
    }

    pub fn memory_max(&self) -> usize {
        self.memory_max
    }

    pub fn core(&self) -> &Core {
        &self.core
    }

    fn step(&mut self, context: &mut Context<'_>, event: Event) {
        let mut effects = Effects::default();
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.core.step(context.now, event, &mut effects);
            self.core.check_invariants();
            let asked: Vec<Effect> = effects.drain().collect();
            for effect in asked {
                events.extend(self.perform(context, effect));
            }
        }
    }

    fn perform(&mut self, context: &mut Context<'_>, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Send { connection, segments, .. } => {
                let mut frame = BytesMut::new();
                segments.iter().for_each(|segment| frame.extend_from_slice(segment));
                let bytes = frame.len();
                context.send(StreamId(connection.0), Payload::Frame(frame.freeze().slice(4..)));
                return Some(Event::BytesSent { connection, bytes });
            }
            Effect::Complete { .. } | Effect::PauseReading { .. } | Effect::ResumeReading { .. } => {}
            Effect::Close { connection, .. } => {
                self.clients.remove(&StreamId(connection.0));
                context.close(StreamId(connection.0));
                return Some(Event::ConnectionClosed { connection });
            }
            Effect::LocateStorage { node, address } => {
                if address.is_none()
                    && let Some(Link { stream: Some(stream), .. }) = self.storage.remove(&node)
                {
                    context.close(stream);
                }
            }
            Effect::LeaveStorage { node } => {
                let open = self.storage.get(&node).is_some_and(|link| link.stream.is_some());
                if let Some(Link { stream: Some(stream), unanswered, .. }) =
                    open.then(|| self.storage.remove(&node)).flatten()
                {
                    context.close(stream);
                    let ids = unanswered.into_iter().collect();
                    return Some(Event::StorageFailed { node, ids, error: TransportError::Broken });
                }
            }
            Effect::ToStorage { node, message, .. } => self.send_to_storage(context, node, message),
            Effect::OpenController { active } => {
                if let Controller::Open(stream) = self.controller {
                    context.close(stream);
                }
                self.dial_controller(context, active.as_ref());
            }
            Effect::ToController { message, .. } => {
                if let Controller::Open(stream) = self.controller {
                    context.send(stream, Payload::ToController(message));
                }
            }
        }
        None
    }

    fn send_to_storage(&mut self, context: &mut Context<'_>, node: BrokerId, message: ToStorage) {
        let link = self.storage.entry(node).or_default();
        if let Some(stream) = link.stream {
            if !matches!(message.request, Request::CancelFetch(_)) {
                link.unanswered.insert(message.id);
            }
            return context.send(stream, Payload::ToStorage(message));
        }
        link.waiting.push(message);
        if !link.dialling {
            link.dialling = true;
            context.dial(ProcessId::Storage(node.0), Purpose::Gateway, STORAGE_TOKENS + node.0 as u64, 0);
        }
    }

    fn dial_controller(&mut self, context: &mut Context<'_>, active: Option<&ActiveController>) {
        let id = match active {
            Some(active) => active.id.0,
            None => {
                self.next_controller += 1;
                1 + self.next_controller % self.controllers
            }
        };
        self.controller = Controller::Dialling;
        context.dial(ProcessId::Controller(id), Purpose::Controller, CONTROLLER_TOKEN, REDIAL_MS);
    }
}

fn asks_for_answer(message: &ToStorage) -> bool {
    !matches!(message.request, Request::CancelFetch(_))
}

impl Process for Gateway {
    fn handle(&mut self, context: &mut Context<'_>, input: Input) {
        match input {
            Input::Started | Input::Ticked => self.step(context, Event::Ticked),
            Input::Accepted { stream, purpose: Purpose::Kafka, .. } => {
                self.clients.insert(stream);
                let host = "/simulated".to_owned();
                self.step(context, Event::ConnectionOpened { connection: ConnectionId(stream.0), host });
            }
            Input::Accepted { stream, .. } => context.close(stream),
            Input::Dialled { stream, token: CONTROLLER_TOKEN } => {
                if self.controller == Controller::Dialling {
                    self.controller = Controller::Open(stream);
                    self.step(context, Event::ControllerConnected);
                } else {
                    context.close(stream);
                }
            }
            Input::DialFailed { token: CONTROLLER_TOKEN } => {
                self.controller = Controller::None;
                self.step(context, Event::ControllerLost);
            }
            Input::Dialled { stream, token } => {
                let node = BrokerId((token - STORAGE_TOKENS) as i32);
                let link = self.storage.entry(node).or_default();
                link.dialling = false;
                link.stream = Some(stream);
                for message in std::mem::take(&mut link.waiting) {
                    if asks_for_answer(&message) {
                        link.unanswered.insert(message.id);
                    }
                    context.send(stream, Payload::ToStorage(message));
                }
            }
            Input::DialFailed { token } => {
                let node = BrokerId((token - STORAGE_TOKENS) as i32);
                let link = self.storage.entry(node).or_default();
                link.dialling = false;
                let waiting = std::mem::take(&mut link.waiting);
                let ids: Vec<RequestId> =
                    waiting.iter().filter(|message| asks_for_answer(message)).map(|message| message.id).collect();
                self.step(context, Event::StorageFailed { node, ids, error: TransportError::NotSent });
            }
            Input::Received { stream, payload } => match payload {
                Payload::Frame(frame) => {
                    let connection = ConnectionId(stream.0);
                    self.step(
                        context,
                        Event::FrameReceived {
                            connection,
                            frame: Bytes::from(frame.to_vec()),
                            stamp: Stamp::default(),
                        },
                    );
                }
                Payload::FromStorage(message) => {
                    let node = self.storage.iter().find(|(_, link)| link.stream == Some(stream)).map(|(&node, _)| node);
                    let Some(node) = node else { return };
                    if let Some(link) = self.storage.get_mut(&node) {
                        link.unanswered.remove(&message.id);
                    }
                    self.step(context, Event::StorageResponded { node, message });
                }
                Payload::FromController(message) if self.controller == Controller::Open(stream) => {
                    self.step(context, Event::ControllerMessage(message));
                }
                _ => {}
            },
            Input::Closed { stream } => {
                if self.clients.remove(&stream) {
                    return self.step(context, Event::ConnectionClosed { connection: ConnectionId(stream.0) });
                }
                if self.controller == Controller::Open(stream) {
                    self.controller = Controller::None;
                    return self.step(context, Event::ControllerLost);
                }
                let node = self.storage.iter().find(|(_, link)| link.stream == Some(stream)).map(|(&node, _)| node);
                if let Some(node) = node
                    && let Some(link) = self.storage.remove(&node)
                {
                    let ids = link.unanswered.into_iter().collect();
                    self.step(context, Event::StorageFailed { node, ids, error: TransportError::Broken });
                }
            }
            Input::Done { .. } => {}
            // What is in flight is answered to nobody: harsher than the service, which waits for it a while.
            Input::StopRequested => context.exit(Exit::Stopped),
        }
    }

    fn next_deadline(&self) -> Option<Tick> {
        self.core.next_deadline()
    }
}
