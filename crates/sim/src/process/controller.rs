//! A metadata controller in the simulator: its core, and a store that loses what was not reported durable.

use std::collections::{BTreeMap, VecDeque};

use base_types::{BrokerId, Random, Tick};
use bytes::Bytes;
use controller_core::{Config, Controller as Core, Effect, Effects, Event, Persist, SessionId, Stored, WriteId};
use peer_api::controller::{ActiveController, RaftMessage, ToController};

use crate::faults::Loss;
use crate::network::{Payload, Purpose, StreamId};
use crate::world::{Context, Exit, Input, Process, ProcessId};

/// Tokens from here on dial the controller with that id.
const PEER_TOKENS: u64 = 1_000;
const DISK_TOKEN: u64 = 1;
const REDIAL_MS: u64 = 50;
/// As the service has it.
const HANDOVER_MS_MAX: u64 = 2_000;

/// What outlives the process.
#[derive(Clone, Debug, Default)]
pub struct Store {
    hard_state: Option<Bytes>,
    snapshot: Option<Bytes>,
    entries: BTreeMap<u64, Bytes>,
    /// Index of the last entry, which may be in the snapshot.
    last: u64,
}

pub struct Controller {
    core: Core,
    store: Store,
    id: i32,
    sessions: BTreeMap<StreamId, bool>,
    peers: BTreeMap<i32, Option<StreamId>>,
    inbound: BTreeMap<StreamId, ProcessId>,
    writes: VecDeque<Persist>,
    busy: bool,
    durable: WriteId,
    /// Messages that wait for a write.
    held: Vec<(WriteId, BrokerId, Bytes)>,
    started: Option<Effects>,
    /// It was asked to stop, and does when it is not active or the time is over.
    stop_at: Option<Tick>,
    /// Everything that the disk does takes so many times longer.
    pub slowness: u64,
}

impl Store {
    pub fn last(&self) -> u64 {
        self.last
    }

    fn apply(&mut self, persist: Persist) {
        if let Some(hard_state) = persist.hard_state {
            self.hard_state = Some(hard_state);
        }
        if let Some(snapshot) = persist.snapshot {
            self.snapshot = Some(snapshot);
        }
        if let Some(below) = persist.remove_below {
            self.entries.retain(|&index, _| index >= below);
        }
        if let Some(from) = persist.remove_from {
            self.entries.retain(|&index, _| index < from);
            self.last = from - 1;
        }
        self.last = persist.entries.last().map_or(self.last, |(index, _)| *index);
        self.entries.extend(persist.entries);
    }
}

impl Controller {
    pub fn start(id: i32, count: i32, store: Store, seed: u64, now: base_types::Now) -> Controller {
        let address = |id| ActiveController { id: BrokerId(id), address: format!("controller:{id}") };
        let quorum = (1..=count).map(address).collect();
        let mut config = Config::new(BrokerId(id), quorum, "simulated-cluster".to_owned());
        config.snapshot_log_bytes = 16 << 10;
        let mut effects = Effects::default();
        let entries = store.entries.iter().map(|(&index, bytes)| (index, bytes.clone())).collect();
        let stored = Stored { hard_state: store.hard_state.clone(), snapshot: store.snapshot.clone(), entries };
        let core = match Core::recover(config, stored, now, Random::new(seed), &mut effects) {
            Ok(core) => core,
            Err(error) => panic!("controller {id} cannot recover: {error:?}"),
        };
        Controller {
            core,
            store,
            id,
            sessions: BTreeMap::new(),
            peers: (1..=count).filter(|&peer| peer != id).map(|peer| (peer, None)).collect(),
            inbound: BTreeMap::new(),
            writes: VecDeque::new(),
            busy: false,
            durable: WriteId(0),
            held: Vec::new(),
            started: Some(effects),
            stop_at: None,
            slowness: 1,
        }
    }

    pub fn id(&self) -> i32 {
        self.id
    }

    pub fn core(&self) -> &Core {
        &self.core
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What is found after power was lost: of the writes under way some of the first, whole.
    pub fn store_after_power_loss(&self, loss: Loss) -> Store {
        let mut store = self.store.clone();
        let kept = Random::new(loss.seed).below(self.writes.len() as u64 + 1) as usize;
        self.writes.iter().take(kept).for_each(|persist| store.apply(persist.clone()));
        store
    }

    fn step(&mut self, context: &mut Context<'_>, event: Event) {
        let mut effects = Effects::default();
        self.core.step(context.now, event, &mut effects);
        self.core.check_invariants();
        self.perform(context, effects);
    }

    fn stop_if_due(&self, context: &mut Context<'_>) {
        if self.stop_at.is_some_and(|stop_at| !self.core.is_active() || stop_at <= context.now.tick) {
            context.exit(Exit::Stopped);
        }
    }

    fn perform(&mut self, context: &mut Context<'_>, mut effects: Effects) {
        while let Some(effect) = effects.pop() {
            match effect {
                Effect::Persist(persist) => self.writes.push_back(persist),
                Effect::SendRaft { to, bytes, after } => match after {
                    Some(write) if write > self.durable => self.held.push((write, to, bytes)),
                    _ => self.send_raft(context, to, bytes),
                },
                Effect::SendSession { session, message } => {
                    context.send(StreamId(session.0), Payload::FromController(message));
                }
                Effect::CloseSession { session } => {
                    self.sessions.remove(&StreamId(session.0));
                    context.close(StreamId(session.0));
                }
                Effect::RoleChanged(_) => {}
            }
        }
        self.work(context);
    }

    /// One write at a time. What is under way when the power goes may be there or not; here it is not.
    fn work(&mut self, context: &mut Context<'_>) {
        if !self.busy && !self.writes.is_empty() {
            self.busy = true;
            let micros = if context.random.chance(20) {
                context.random.between(5_000, 100_000)
            } else {
                context.random.between(100, 1_500)
            };
            context.after(micros * self.slowness, DISK_TOKEN);
        }
    }

    fn send_raft(&mut self, context: &mut Context<'_>, to: BrokerId, bytes: Bytes) {
        if let Some(Some(stream)) = self.peers.get(&to.0) {
            let message = RaftMessage { from: BrokerId(self.id), to, bytes };
            context.send(*stream, Payload::Raft(message));
        }
    }

    fn dial(&self, context: &mut Context<'_>, peer: i32, pause_ms: u64) {
        context.dial(ProcessId::Controller(peer), Purpose::Raft, PEER_TOKENS + peer as u64, pause_ms);
    }
}

impl Process for Controller {
    fn handle(&mut self, context: &mut Context<'_>, input: Input) {
        match input {
            Input::Started => {
                for peer in self.peers.keys().copied().collect::<Vec<_>>() {
                    self.dial(context, peer, 0);
                }
                if let Some(effects) = self.started.take() {
                    self.perform(context, effects);
                }
            }
            Input::Accepted { stream, from, purpose } => match purpose {
                Purpose::Controller => drop(self.sessions.insert(stream, false)),
                Purpose::Raft => drop(self.inbound.insert(stream, from)),
                Purpose::Gateway | Purpose::Follow(_) | Purpose::Kafka => context.close(stream),
            },
            Input::Dialled { stream, token } => {
                self.peers.insert((token - PEER_TOKENS) as i32, Some(stream));
            }
            Input::DialFailed { token } => self.dial(context, (token - PEER_TOKENS) as i32, REDIAL_MS),
            Input::Received { stream, payload } => match payload {
                Payload::ToController(ToController::Hello { role, follow_from }) => {
                    if let Some(greeted) = self.sessions.get_mut(&stream) {
                        *greeted = true;
                        let session = SessionId(stream.0);
                        self.step(context, Event::SessionOpened { session, role, follow_from });
                    }
                }
                Payload::ToController(ToController::Call { id, request }) if self.sessions.contains_key(&stream) => {
                    self.step(context, Event::Called { session: SessionId(stream.0), id, request });
                }
                Payload::Raft(message) => self.step(context, Event::RaftReceived { bytes: message.bytes }),
                _ => {}
            },
            Input::Closed { stream } => {
                if self.sessions.remove(&stream) == Some(true) {
                    self.step(context, Event::SessionClosed { session: SessionId(stream.0) });
                }
                self.inbound.remove(&stream);
                let lost = self.peers.iter().find(|(_, open)| **open == Some(stream)).map(|(&peer, _)| peer);
                if let Some(peer) = lost {
                    self.peers.insert(peer, None);
                    self.dial(context, peer, REDIAL_MS);
                    self.step(context, Event::RaftPeerLost { peer: BrokerId(peer) });
                }
            }
            Input::Done { .. } => {
                self.busy = false;
                if let Some(persist) = self.writes.pop_front() {
                    let write = persist.write;
                    self.store.apply(persist);
                    self.durable = write;
                    let (ready, held) =
                        std::mem::take(&mut self.held).into_iter().partition(|(after, _, _)| *after <= write);
                    self.held = held;
                    let ready: Vec<(WriteId, BrokerId, Bytes)> = ready;
                    for (_, to, bytes) in ready {
                        self.send_raft(context, to, bytes);
                    }
                    self.step(context, Event::PersistCompleted { write });
                }
                self.work(context);
            }
            Input::Ticked => self.step(context, Event::Ticked),
            Input::StopRequested => {
                self.step(context, Event::HandoverRequested);
                self.stop_at = Some(context.now.tick.plus_ms(HANDOVER_MS_MAX));
            }
        }
        self.stop_if_due(context);
    }

    fn next_deadline(&self) -> Option<Tick> {
        Some(self.core.next_deadline())
    }
}
