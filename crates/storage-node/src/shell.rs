//! The loop: receive, step, perform.

mod outbox;
mod streams;
mod traces;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use base_types::{BrokerId, Now, Tick, Timestamp};
use peer_api::replication::{FromFollower, FromLeader, Hello};
use peer_api::storage::{FromStorage, ToStorage};
use rpc::Duplex;
use storage_core::{ControllerStream, Effect, Effects, Event, GatewayStream, Identity, PeerStream, StorageNode};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::dial::{Choice, Dial};
use crate::directory::Directory;
use crate::disk::Disk;
use crate::metrics::Metrics;

use outbox::Outbox;
use traces::Traces;

/// Room for events that the shell has not taken up; senders wait beyond it.
const INBOX_CAPACITY: usize = 4096;
/// Events taken up in one turn, so that answers leave even under endless load.
const TURN_EVENTS: usize = 1024;

/// What reaches the shell.
pub(crate) enum Input {
    Event(Event),
    Events(Vec<Event>),
    /// With the trace context that it came with.
    Traced(Event, Box<str>),
    Gateway(Duplex<FromStorage, ToStorage>),
    Follower(Hello, Duplex<FromLeader, FromFollower>),
    /// A stream that the shell dialled is there.
    Controller(ControllerStream, rpc::Sender<peer_api::controller::ToController>),
    ControllerLost(ControllerStream),
    Leader(BrokerId, u64, rpc::Sender<FromFollower>),
    LeaderLost(BrokerId, u64),
    StopNow,
    Stats(oneshot::Sender<(storage_core::Stats, Vec<storage_core::ReplicaStats>)>),
}

/// Reaches a running shell.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Input>,
}

/// A running shell.
pub struct Started {
    pub handle: Handle,
    /// Ends when the node has stopped: orderly after [`Handle::shut_down`], or for the reason given.
    pub task: JoinHandle<anyhow::Result<()>>,
}

impl Handle {
    /// A gateway within this process.
    pub async fn connect_gateway(&self) -> Duplex<ToStorage, FromStorage> {
        let (near, far) = Duplex::pair(1024);
        // A shell that is gone drops the stream, which is how the other side learns of it.
        drop(self.inbox.send(Input::Gateway(far)).await);
        near
    }

    /// A stream from a gateway. Must be called within a tokio runtime.
    pub fn accept_gateway(&self, stream: Duplex<FromStorage, ToStorage>) {
        self.accept(Input::Gateway(stream));
    }

    /// A stream from a follower's node. Must be called within a tokio runtime.
    pub fn accept_follower(&self, hello: Hello, stream: Duplex<FromLeader, FromFollower>) {
        self.accept(Input::Follower(hello, stream));
    }

    fn accept(&self, input: Input) {
        let inbox = self.inbox.clone();
        tokio::spawn(async move { drop(inbox.send(input).await) });
    }

    /// Hands over leadership, flushes and stops. The task's end says that it is done.
    pub async fn shut_down(&self) {
        drop(self.inbox.send(Input::Event(Event::ShutdownRequested)).await);
    }

    /// Stops without handing over; what is written is still flushed.
    pub async fn stop_now(&self) {
        drop(self.inbox.send(Input::StopNow).await);
    }

    pub async fn stats(&self) -> Option<(storage_core::Stats, Vec<storage_core::ReplicaStats>)> {
        let (sender, receiver) = oneshot::channel();
        self.inbox.send(Input::Stats(sender)).await.ok()?;
        receiver.await.ok()
    }
}

/// Starts the shell on the current thread's local set.
pub fn start(identity: Identity, directory: Directory, dial: Rc<dyn Dial>, metrics: Metrics) -> Started {
    let (inbox, events) = mpsc::channel(INBOX_CAPACITY);
    let handle = Handle { inbox: inbox.clone() };
    let partitions = directory.log().replicas();
    let shell = Shell {
        core: StorageNode::new(identity),
        disk: Disk::start(directory, inbox.clone(), metrics.clone()),
        dial,
        metrics,
        inbox,
        started: tokio::time::Instant::now(),
        gateways: BTreeMap::new(),
        followers: BTreeMap::new(),
        leaders: BTreeMap::new(),
        controller: None,
        traces: Traces::default(),
        ready: VecDeque::from([Event::ReplicasFound { partitions }]),
        next_stream: 0,
        stopping: false,
        refused: None,
    };
    Started { handle, task: tokio::task::spawn_local(shell.run(events)) }
}

struct Shell {
    core: StorageNode,
    disk: Disk,
    dial: Rc<dyn Dial>,
    metrics: Metrics,
    inbox: mpsc::Sender<Input>,
    started: tokio::time::Instant,
    gateways: BTreeMap<GatewayStream, Outbox<FromStorage>>,
    followers: BTreeMap<PeerStream, Outbox<FromLeader>>,
    leaders: BTreeMap<BrokerId, LeaderLink>,
    controller: Option<(ControllerStream, Outbox<peer_api::controller::ToController>)>,
    traces: Traces,
    /// Completions that came without waiting, taken up within the turn.
    ready: VecDeque<Event>,
    next_stream: u64,
    stopping: bool,
    /// Why this cluster does not take the node.
    refused: Option<String>,
}

/// The task keeps dialling until it is aborted.
struct LeaderLink {
    generation: u64,
    outbox: Option<Outbox<FromFollower>>,
    task: JoinHandle<()>,
}

impl Shell {
    async fn run(mut self, mut events: mpsc::Receiver<Input>) -> anyhow::Result<()> {
        self.dial_controller(Choice::Next, Duration::ZERO);
        let mut effects = Effects::default();
        let mut batch = Vec::with_capacity(TURN_EVENTS);
        while !self.stopping {
            let due = self.core.next_deadline().map(|tick| self.started + Duration::from_millis(tick.0));
            tokio::select! {
                biased;
                count = events.recv_many(&mut batch, TURN_EVENTS) => {
                    if count == 0 {
                        break;
                    }
                }
                () = sleep_until(due) => {
                    let now = self.now();
                    self.step(now, Event::Ticked, &mut effects);
                }
            }
            let now = self.now();
            for input in batch.drain(..) {
                self.take_up(now, input, &mut effects);
            }
            self.disk.submit();
            self.metrics.core(&self.core, now.tick);
        }
        // The disk's threads finish what was begun, and would wait for room in a queue that nobody reads any more.
        drop(events);
        self.disk.stop().await?;
        match self.refused {
            None => Ok(()),
            Some(why) => anyhow::bail!(
                "the data directory belongs to another cluster than the controllers: {why}. Check controllers and data_dir"
            ),
        }
    }

    fn take_up(&mut self, now: Now, input: Input, effects: &mut Effects) {
        match input {
            Input::Event(event) => {
                match event {
                    Event::GatewayLost { stream } => {
                        self.gateways.remove(&stream);
                        self.traces.gateway_lost(stream);
                    }
                    Event::FollowerLost { stream } => drop(self.followers.remove(&stream)),
                    _ => {}
                }
                self.step(now, event, effects);
            }
            Input::Events(events) => events.into_iter().for_each(|event| self.step(now, event, effects)),
            Input::Traced(event, traceparent) => {
                self.traces.begin(&event, &traceparent, self.core.image());
                self.step(now, event, effects);
                self.traces.stepped();
            }
            Input::Gateway(stream) => self.gateway_connected(stream),
            Input::Follower(hello, stream) => self.follower_connected(now, hello, stream, effects),
            Input::Controller(stream, sender) => {
                self.controller = Some((stream, Outbox::new(sender)));
                self.step(now, Event::ControllerConnected { stream }, effects);
            }
            Input::ControllerLost(stream) => {
                if self.controller.as_ref().is_some_and(|(current, _)| *current == stream) {
                    self.controller = None;
                    self.step(now, Event::ControllerLost { stream }, effects);
                    self.dial_controller(Choice::Again, streams::AGAIN_PAUSE);
                }
            }
            Input::Leader(leader, generation, sender) => {
                if let Some(link) = self.leaders.get_mut(&leader).filter(|link| link.generation == generation) {
                    link.outbox = Some(Outbox::new(sender));
                    self.step(now, Event::LeaderConnected { leader }, effects);
                }
            }
            Input::LeaderLost(leader, generation) => {
                if let Some(link) = self.leaders.get_mut(&leader).filter(|link| link.generation == generation) {
                    link.outbox = None;
                    self.traces.leader_lost(leader);
                    self.step(now, Event::LeaderLost { leader }, effects);
                }
            }
            Input::StopNow => self.stopping = true,
            Input::Stats(sender) => {
                // An asker that went away needs no answer.
                drop(sender.send((self.core.stats(), self.core.replica_stats().collect())));
            }
        }
    }

    fn step(&mut self, now: Now, event: Event, effects: &mut Effects) {
        self.ready.push_back(event);
        while let Some(event) = self.ready.pop_front() {
            self.core.step(now, event, effects);
            // The list is taken out so that performing may add completions to `ready`.
            let asked: Vec<Effect> = effects.drain().collect();
            for effect in asked {
                self.perform(effect);
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Answer { stream, message } => {
                self.traces.answered(stream, message.id);
                if let Some(outbox) = self.gateways.get(&stream) {
                    outbox.send(message);
                }
            }
            Effect::ToController { stream, message } => {
                if let Some((_, outbox)) = self.controller.as_ref().filter(|(current, _)| *current == stream) {
                    outbox.send(message);
                }
            }
            Effect::ReconnectController { stream, active } => {
                if self.controller.as_ref().is_some_and(|(current, _)| *current == stream) {
                    self.controller = None;
                    let choice = active.map_or(Choice::Next, Choice::Named);
                    self.dial_controller(choice, streams::REDIAL_PAUSE);
                }
            }
            Effect::ToFollower { stream, message } => {
                if let Some(outbox) = self.followers.get(&stream) {
                    outbox.send_traced(self.traces.pushes(&message), message);
                }
            }
            Effect::CloseFollower { stream } => {
                self.followers.remove(&stream);
            }
            Effect::ToLeader { leader, message } => {
                self.traces.acknowledges(leader, &message);
                if let Some(outbox) = self.leaders.get(&leader).and_then(|link| link.outbox.as_ref()) {
                    outbox.send(message);
                }
            }
            Effect::ConnectLeader { leader, address, broker_epoch } => {
                self.dial_leader(leader, address, broker_epoch);
            }
            Effect::DisconnectLeader { leader } => {
                self.traces.leader_lost(leader);
                if let Some(link) = self.leaders.remove(&leader) {
                    link.task.abort();
                }
            }
            Effect::HighWatermarkLowered { partition, from, to, last_epoch, unclean_since } => {
                self.metrics.unclean_truncation();
                tracing::error!(
                    %partition, %from, %to, %last_epoch, %unclean_since,
                    "committed records are lost: the log is cut below its high watermark, as an unclean election demands"
                );
            }
            Effect::Stop => self.stopping = true,
            Effect::RefuseCluster(refusal) => {
                self.stopping = true;
                self.refused = Some(refusal.message);
            }
            effect => {
                if let Effect::Write { partition, batch, .. } = &effect {
                    self.traces.wrote(*partition, batch.header().base_offset);
                }
                self.ready.extend(self.disk.perform(effect));
            }
        }
    }

    fn now(&self) -> Now {
        Now { tick: Tick(self.started.elapsed().as_millis() as u64), wall: wall_clock() }
    }
}

pub(crate) fn wall_clock() -> Timestamp {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(since_1970.as_millis() as i64)
}

async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
