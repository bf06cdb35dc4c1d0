//! The loop: receive, step, perform.

mod disk;
mod peers;
mod sessions;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base_types::{BrokerId, Now, Random, Tick, Timestamp};
use bytes::Bytes;
use controller_core::{Controller, Effect, Effects, Event, RecoverError, SessionId, WriteId};
use peer_api::controller::{FromController, RaftMessage, ToController};
use rpc::Duplex;
use store_api::Vfs;
use tokio::sync::{mpsc, watch};

use crate::config::ControllerConfig;
use crate::metrics::ControllerMetrics;
use crate::quorum_log::{QuorumLog, QuorumLogError};

use disk::{DiskStopped, DiskThread};
use peers::PeerLink;
use sessions::SessionLink;

/// Messages waiting for the loop.
const INBOX_MAX: usize = 1024;
/// Messages waiting for one session; one that does not keep up is closed.
const SESSION_QUEUE_MAX: usize = 1024;
/// Steps between two looks at the clock.
const TURN_MAX: usize = 64;
/// How long a stopping controller waits for another one to take over.
const HANDOVER_MS_MAX: u64 = 1_000;

/// Session between a controller and someone, seen from the controller.
type ServerStream = Duplex<FromController, ToController>;

#[derive(Debug)]
enum Input {
    Stream(ServerStream),
    /// With the trace context that it came with.
    Said {
        session: SessionId,
        message: ToController,
        traceparent: Option<Box<str>>,
    },
    Ended {
        session: SessionId,
    },
    Raft(Bytes),
    PeerLost(BrokerId),
}

/// Why a controller does not start.
#[derive(Debug)]
pub enum OpenError {
    Log(QuorumLogError),
    Recover(RecoverError),
    Thread(std::io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Log(error) => error.fmt(f),
            OpenError::Recover(error) => error.fmt(f),
            OpenError::Thread(error) => write!(f, "the disk thread could not be started: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// A way to the controller. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ControllerHandle {
    inbox: mpsc::Sender<Input>,
    ready: watch::Receiver<bool>,
}

impl ControllerHandle {
    /// A session within the process; the same as `rpc::controller::connect` over the network. `None` when the controller is gone.
    pub async fn connect(&self) -> Option<Duplex<ToController, FromController>> {
        let (client, server) = Duplex::pair(SESSION_QUEUE_MAX);
        self.inbox.send(Input::Stream(server)).await.ok()?;
        Some(client)
    }

    /// Takes a stream from the network; when too much is waiting the stream is dropped, and its owner tries again.
    pub fn accept(&self, stream: Duplex<FromController, ToController>) {
        if self.inbox.try_send(Input::Stream(stream)).is_err() {
            tracing::warn!("a session was refused: the controller is busy");
        }
    }

    /// Reads Raft messages from another controller until the stream ends.
    pub fn accept_raft(&self, stream: Duplex<RaftMessage, RaftMessage>) {
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            let Duplex { tx, mut rx } = stream;
            while let Some(message) = rx.recv().await {
                if inbox.send(Input::Raft(message.bytes)).await.is_err() {
                    break;
                }
            }
            drop(tx);
        });
    }

    /// Waits until an active controller is known.
    pub async fn ready(&mut self) {
        // The task is gone: whoever waits will notice elsewhere.
        let _ = self.ready.wait_for(|ready| *ready).await;
    }

    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }
}

/// Reads the log and prepares a controller; nothing is answered before [`ControllerTask::run`].
pub fn open(
    config: ControllerConfig,
    vfs: Arc<dyn Vfs>,
    metrics: ControllerMetrics,
) -> Result<(ControllerTask, ControllerHandle), OpenError> {
    let (log, stored) = QuorumLog::open(vfs, config.core.id).map_err(OpenError::Log)?;
    let started = Instant::now();
    let mut effects = Effects::default();
    let seed = config.seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    let core = Controller::recover(config.core.clone(), stored, clock(started), Random::new(seed), &mut effects)
        .map_err(OpenError::Recover)?;
    let disk = DiskThread::spawn(log, metrics.clone()).map_err(OpenError::Thread)?;
    let (inbox, inputs) = mpsc::channel(INBOX_MAX);
    let (ready_tx, ready) = watch::channel(false);
    let handle = ControllerHandle { inbox: inbox.clone(), ready };
    let task = ControllerTask {
        config,
        core,
        effects,
        started,
        inbox,
        inputs,
        disk,
        peers: BTreeMap::new(),
        sessions: BTreeMap::new(),
        sessions_made: 0,
        held: VecDeque::new(),
        durable: WriteId(0),
        ready: ready_tx,
        metrics,
    };
    Ok((task, handle))
}

/// Owns the core and everything it acts upon.
#[derive(Debug)]
pub struct ControllerTask {
    config: ControllerConfig,
    core: Controller,
    effects: Effects,
    started: Instant,
    inbox: mpsc::Sender<Input>,
    inputs: mpsc::Receiver<Input>,
    disk: DiskThread,
    peers: BTreeMap<BrokerId, PeerLink>,
    sessions: BTreeMap<SessionId, SessionLink>,
    sessions_made: u64,
    /// Messages that wait for a write.
    held: VecDeque<(WriteId, BrokerId, Bytes)>,
    durable: WriteId,
    ready: watch::Sender<bool>,
    metrics: ControllerMetrics,
}

impl ControllerTask {
    /// Serves until `shutdown` resolves; then hands leadership over, if it can. An error means that the log cannot be written.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        for voter in self.config.core.quorum.iter().filter(|voter| voter.id != self.config.core.id) {
            let link = PeerLink::spawn(self.config.core.id, voter.clone(), self.inbox.clone());
            self.peers.insert(voter.id, link);
        }
        self.perform()?;
        let mut shutdown = std::pin::pin!(shutdown);
        let mut stop_at = None;
        loop {
            let deadline = self.started + Duration::from_millis(self.core.next_deadline().0);
            tokio::select! {
                () = &mut shutdown, if stop_at.is_none() => {
                    stop_at = Some(clock(self.started).tick.plus_ms(HANDOVER_MS_MAX));
                    self.step(Event::HandoverRequested)?;
                }
                durable = self.disk.next_durable() => {
                    let write = durable?;
                    self.release(write);
                    self.step(Event::PersistCompleted { write })?;
                }
                Some(input) = self.inputs.recv() => {
                    self.take(input)?;
                    for _ in 0..TURN_MAX {
                        let Ok(input) = self.inputs.try_recv() else { break };
                        self.take(input)?;
                    }
                }
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
            if clock(self.started).tick >= self.core.next_deadline() {
                self.step(Event::Ticked)?;
            }
            let alone = self.peers.is_empty() || !self.core.is_active();
            if stop_at.is_some_and(|stop_at| alone || clock(self.started).tick >= stop_at) {
                return Ok(());
            }
        }
    }

    fn take(&mut self, input: Input) -> Result<(), DiskStopped> {
        match input {
            Input::Stream(stream) => {
                self.sessions_made += 1;
                let session = SessionId(self.sessions_made);
                self.sessions.insert(session, SessionLink::spawn(session, stream, self.inbox.clone()));
            }
            Input::Said { session, message, traceparent } => {
                let Some(link) = self.sessions.get_mut(&session) else { return Ok(()) };
                match message {
                    ToController::Hello { role, follow_from } if link.greet() => {
                        self.step(Event::SessionOpened { session, role, follow_from })?;
                    }
                    ToController::Call { id, request } if link.has_greeted() => {
                        if let Some(traceparent) = traceparent {
                            link.trace(id, &request, &traceparent);
                        }
                        self.step(Event::Called { session, id, request })?;
                    }
                    ToController::Hello { .. } | ToController::Call { .. } => {
                        tracing::warn!(session = session.0, "a session is closed: it must say hello first, and once");
                        self.close(session)?;
                    }
                }
            }
            Input::Ended { session } => self.close(session)?,
            Input::Raft(bytes) => self.step(Event::RaftReceived { bytes })?,
            Input::PeerLost(peer) => self.step(Event::RaftPeerLost { peer })?,
        }
        Ok(())
    }

    fn close(&mut self, session: SessionId) -> Result<(), DiskStopped> {
        match self.sessions.remove(&session) {
            Some(_) => self.step(Event::SessionClosed { session }),
            None => Ok(()),
        }
    }

    fn release(&mut self, durable: WriteId) {
        self.durable = durable;
        while let Some((_, to, bytes)) = self.held.pop_front_if(|(after, _, _)| *after <= durable) {
            self.send_raft(to, bytes);
        }
    }

    fn send_raft(&self, to: BrokerId, bytes: Bytes) {
        if let Some(peer) = self.peers.get(&to) {
            peer.send(RaftMessage { from: self.config.core.id, to, bytes });
        }
    }

    fn step(&mut self, event: Event) -> Result<(), DiskStopped> {
        self.core.step(clock(self.started), event, &mut self.effects);
        self.perform()
    }

    fn perform(&mut self) -> Result<(), DiskStopped> {
        let mut slow = Vec::new();
        while let Some(effect) = self.effects.pop() {
            match effect {
                Effect::Persist(persist) => self.disk.write(persist)?,
                Effect::SendRaft { to, bytes, after } => match after.filter(|after| *after > self.durable) {
                    Some(after) => self.held.push_back((after, to, bytes)),
                    None => self.send_raft(to, bytes),
                },
                Effect::SendSession { session, message } => {
                    if self.sessions.get_mut(&session).is_some_and(|link| !link.send(message)) {
                        slow.push(session);
                    }
                }
                Effect::CloseSession { session } => drop(self.sessions.remove(&session)),
                Effect::RoleChanged(role) => {
                    self.metrics.role_changed(role);
                    let leader = role.leader.map(|id| id.0);
                    tracing::info!(term = role.term, leader, is_leader = role.is_leader, "the quorum has changed");
                }
            }
        }
        let role = self.core.role();
        let ready = self.core.is_active() || (role.leader.is_some() && !role.is_leader);
        self.ready.send_if_modified(|known| std::mem::replace(known, ready) != ready);
        self.metrics.stepped(self.core.is_active(), self.core.image().at().0, self.sessions.len());
        for session in slow {
            tracing::warn!(session = session.0, "a session is closed: it does not read what it is sent");
            self.close(session)?;
        }
        Ok(())
    }
}

fn clock(started: Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    Now { tick: Tick(started.elapsed().as_millis() as u64), wall: Timestamp(wall) }
}
