//! The loop: take up what has come, step the core, act.

mod memory;
mod outlet;
mod reader;
mod traces;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base_types::{BrokerId, Now, Tick, Timestamp};
use bytes::{Buf, Bytes};
use gateway_core::{Config, ConnectionId, Effect, Effects, Event, Gateway, Trace};
use peer_api::controller::{FromController, ToController};
use peer_api::storage::{FromStorage, Request, RequestId, ToStorage, TransportError};
use rpc::{Duplex, Receiver};
use service_kit::trace::Sampler;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::links::{Links, Opening};
use crate::metrics::Metrics;
use memory::{Memory, Share};
use outlet::Outlet;
use traces::Traces;

pub struct Options {
    pub core: Config,
    /// How long requests in flight may take after the shutdown was asked for.
    pub drain: Duration,
    pub patience: Patience,
    /// `socket.request.max.bytes`; at most [`gateway_core::FRAME_SIZE_MAX`].
    pub frame_size_max: usize,
    pub sampler: Sampler,
}

/// How long a connection on which nothing happens is kept.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// `connections.max.idle.ms`: nothing to send, and no whole request came.
    pub idle: Duration,
    /// An answer waits, and the client takes none of it; or others wait for memory that its unfinished frame holds, and it sends
    /// nothing more: it is gone, or might as well be.
    pub stalled: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { idle: Duration::from_secs(600), stalled: Duration::from_secs(60) }
    }
}

/// What the outside may know of a running gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The metadata has been seen, so requests are served.
    pub ready: bool,
    /// A session with the active controller stands.
    pub controller: bool,
}

/// What readers and the acceptor tell the loop.
pub(crate) enum Inbound {
    Accepted(TcpStream),
    Event(Event),
    /// A socket that was full takes bytes again.
    Writable(ConnectionId),
}

/// Serves clients until `shutdown` resolves, the metadata send them elsewhere, and what is in flight is done.
pub async fn serve(
    options: Options,
    listener: TcpListener,
    links: impl Links,
    metrics: Option<Metrics>,
    status: watch::Sender<Status>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let (inbox_tx, inbox) = mpsc::channel(INBOX);
    let accepting = tokio::spawn(accept(listener, inbox_tx.clone()));
    let memory = Memory::new(options.core.memory_max);
    let mut shell = Shell {
        gateway: Gateway::new(options.core),
        effects: Effects::default(),
        links: Box::new(links),
        started: Instant::now(),
        inbox,
        inbox_tx,
        patience: options.patience,
        frame_size_max: options.frame_size_max,
        traces: Traces::new(options.sampler),
        connections: BTreeMap::new(),
        dirty: BTreeSet::new(),
        memory,
        frames_taken: 0,
        last_connection: 0,
        nodes: BTreeMap::new(),
        controller: ControllerSide::Closed,
        events: Vec::new(),
        metrics,
        looked: Instant::now(),
        status,
        draining: false,
    };
    shell.events.push(Event::Ticked);
    let mut shutdown = pin!(shutdown);
    tokio::select! {
        () = &mut shutdown => {}
        () = shell.run(|_| false) => {}
    }
    // Whoever asks where to go must not be told to come here.
    shell.events.push(Event::ShutdownRequested);
    shell.run(Gateway::has_left).await;
    // They hear of it when they produce or fetch next, and move before anything breaks.
    let _ = tokio::time::timeout(options.drain.min(MOVE), shell.run(|gateway| gateway.stats().connections == 0)).await;
    accepting.abort();
    shell.draining = true;
    for connection in shell.connections.values() {
        connection.paused.send_replace(true);
    }
    shell.events.push(Event::Ticked);
    let _ = tokio::time::timeout(options.drain, shell.run(Gateway::is_idle)).await;
}

/// Frames that wait for a turn. Beyond it readers wait, which is what holds senders back.
const INBOX: usize = 1024;
/// Events of one turn; a longer one would keep answers from leaving.
const TURN: usize = 512;
const SLICES_MAX: usize = 64;
/// How long clients have to move. It is more than the pause of their next attempt.
const MOVE: Duration = Duration::from_millis(500);
/// How often the loop looks at what no event tells: counters, and connections on which nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);

async fn accept(listener: TcpListener, inbox: mpsc::Sender<Inbound>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if inbox.send(Inbound::Accepted(stream)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Out of descriptors, mostly: those in use go on, and new ones are tried later.
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

struct Shell {
    gateway: Gateway,
    effects: Effects,
    links: Box<dyn Links>,
    started: Instant,
    inbox: mpsc::Receiver<Inbound>,
    inbox_tx: mpsc::Sender<Inbound>,
    patience: Patience,
    frame_size_max: usize,
    traces: Traces,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Connections with something to write.
    dirty: BTreeSet<ConnectionId>,
    memory: Arc<Memory>,
    /// Bytes of frames taken from the inbox that the core has not been given yet.
    frames_taken: usize,
    last_connection: u64,
    nodes: BTreeMap<BrokerId, Node>,
    controller: ControllerSide,
    /// What came up and the core has not been told yet.
    events: Vec<Event>,
    metrics: Option<Metrics>,
    looked: Instant,
    status: watch::Sender<Status>,
    /// Asked to stop: no reader reads any more, whatever the core says.
    draining: bool,
}

struct Connection {
    stream: Arc<TcpStream>,
    /// Dropping it ends the reader.
    paused: watch::Sender<bool>,
    out: VecDeque<Bytes>,
    /// A task waits for room in the socket.
    blocked: Option<Waiting>,
    /// The core has ended it: it goes when its last bytes have left.
    closing: bool,
    /// When it was last given an answer, or took bytes of one.
    active: Instant,
}

/// Ends with the connection: as long as the task holds the socket, the socket is open.
struct Waiting(tokio::task::AbortHandle);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Node {
    address: Option<String>,
    link: StorageSide,
}

enum StorageSide {
    Closed,
    Opening { opening: Opening<ToStorage, FromStorage>, waiting: VecDeque<(ToStorage, Option<Box<str>>)> },
    Open { outlet: Outlet<ToStorage>, rx: Receiver<FromStorage>, unanswered: BTreeSet<RequestId> },
}

enum ControllerSide {
    Closed,
    Opening(Opening<ToController, FromController>),
    Open { outlet: Outlet<ToController>, rx: Receiver<FromController> },
}

impl Shell {
    async fn run(&mut self, mut done: impl FnMut(&Gateway) -> bool) {
        loop {
            self.turn();
            if done(&self.gateway) && self.dirty.is_empty() {
                return;
            }
            let deadline = self.gateway.next_deadline().map(|tick| self.started + Duration::from_millis(tick.0));
            let mut timer = pin!(async move {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            });
            poll_fn(|cx| {
                self.poll_events(cx);
                if timer.as_mut().poll(cx).is_ready() {
                    self.events.push(Event::Ticked);
                }
                if self.events.is_empty() && self.dirty.is_empty() { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
        }
    }

    /// One turn: every event that is there, then all writing at once.
    fn turn(&mut self) {
        // A socket may take bytes again while nothing else happens.
        while !(self.events.is_empty() && self.dirty.is_empty()) {
            let now = self.now();
            for event in std::mem::take(&mut self.events) {
                self.gateway.step(now, event, &mut self.effects);
                self.act();
            }
            self.write();
            if self.draining && self.inbox.is_empty() {
                self.end_idle();
            }
        }
        self.count_memory();
        let status = Status { ready: self.gateway.is_ready(), controller: self.gateway.has_controller() };
        self.status.send_if_modified(|told| std::mem::replace(told, status) != status);
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            self.end_silent();
            if let Some(metrics) = &mut self.metrics {
                metrics.counted(self.gateway.stats(), self.gateway.image().at().0);
                metrics.receiving(self.memory.outside_core());
                metrics.behind(self.gateway.lag_rounds(), self.gateway.lag());
            }
        }
    }

    /// Squares the account with the core, which is told what is held for it as long as memory is short.
    fn count_memory(&mut self) {
        self.memory.taken_up(std::mem::take(&mut self.frames_taken), self.gateway.memory_used());
        let bytes = if self.memory.is_short() { self.memory.outside_core() } else { 0 };
        if bytes != self.gateway.bytes_receiving() {
            self.events.push(Event::Receiving { bytes });
        }
    }

    /// Ends connections on which nothing has happened for too long.
    fn end_silent(&mut self) {
        let now = Instant::now();
        let silent = |state: &Connection| {
            let patience = if state.out.is_empty() { self.patience.idle } else { self.patience.stalled };
            now.duration_since(state.active) > patience
        };
        let ended: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, state)| silent(state)).map(|(id, _)| *id).collect();
        for connection in ended {
            tracing::debug!(connection = connection.0, "closing a silent connection");
            self.end(connection);
        }
    }

    /// Each client goes as soon as it has its answers, whatever others wait for.
    fn end_idle(&mut self) {
        let idle: Vec<ConnectionId> = self.gateway.idle_connections().collect();
        idle.into_iter().for_each(|connection| self.end(connection));
    }

    fn end(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
        self.traces.forget(connection);
        self.dirty.remove(&connection);
        self.events.push(Event::ConnectionClosed { connection });
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { tick: Tick(self.started.elapsed().as_millis() as u64), wall: Timestamp(wall.as_millis() as i64) }
    }

    // - what comes -

    fn poll_events(&mut self, cx: &mut Context<'_>) {
        self.poll_inbox(cx);
        self.poll_controller(cx);
        for (id, node) in &mut self.nodes {
            node.poll(*id, cx, &mut self.events);
        }
    }

    fn poll_inbox(&mut self, cx: &mut Context<'_>) {
        while self.events.len() < TURN {
            match self.inbox.poll_recv(cx) {
                Poll::Ready(Some(Inbound::Accepted(_))) if self.draining => {}
                Poll::Ready(Some(Inbound::Accepted(stream))) => self.accepted(stream),
                Poll::Ready(Some(Inbound::Event(mut event))) => {
                    match &mut event {
                        Event::FrameReceived { connection, frame, stamp } => {
                            self.frames_taken += frame.len();
                            stamp.trace = self.traces.begin(*connection, frame);
                        }
                        Event::ConnectionClosed { connection } => {
                            self.connections.remove(connection);
                            self.traces.forget(*connection);
                            self.dirty.remove(connection);
                        }
                        _ => {}
                    }
                    self.events.push(event);
                }
                Poll::Ready(Some(Inbound::Writable(connection))) => {
                    if let Some(state) = self.connections.get_mut(&connection) {
                        state.blocked = None;
                        self.dirty.insert(connection);
                    }
                }
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
        // There may be more: come back at once.
        cx.waker().wake_by_ref();
    }

    fn accepted(&mut self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "connection gone before it was served");
            return;
        }
        // As Java prints an address; DescribeGroups shows it.
        let host = stream.peer_addr().map(|address| format!("/{}", address.ip())).unwrap_or_default();
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        let stream = Arc::new(stream);
        let (paused, paused_rx) = watch::channel(false);
        let frames = reader::Frames {
            connection,
            inbox: self.inbox_tx.clone(),
            started: self.started,
            size_max: self.frame_size_max,
            share: Share::new(self.memory.clone()),
            stalled: self.patience.stalled,
        };
        tokio::spawn(reader::read(frames, stream.clone(), paused_rx));
        let state =
            Connection { stream, paused, out: VecDeque::new(), blocked: None, closing: false, active: Instant::now() };
        self.connections.insert(connection, state);
        self.events.push(Event::ConnectionOpened { connection, host });
    }

    fn poll_controller(&mut self, cx: &mut Context<'_>) {
        loop {
            match &mut self.controller {
                ControllerSide::Closed => return,
                ControllerSide::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Pending => return,
                    Poll::Ready(None) => {
                        self.controller = ControllerSide::Closed;
                        self.events.push(Event::ControllerLost);
                    }
                    Poll::Ready(Some(Duplex { tx, rx })) => {
                        self.controller = ControllerSide::Open { outlet: Outlet::new(tx), rx };
                        self.events.push(Event::ControllerConnected);
                    }
                },
                ControllerSide::Open { outlet, rx } => {
                    let mut gone = outlet.poll_flush(cx, |_| {}).is_err();
                    while !gone && self.events.len() < TURN {
                        match rx.poll_recv(cx) {
                            Poll::Ready(Some(message)) => self.events.push(Event::ControllerMessage(message)),
                            Poll::Ready(None) => gone = true,
                            Poll::Pending => return,
                        }
                    }
                    if !gone {
                        cx.waker().wake_by_ref();
                        return;
                    }
                    self.controller = ControllerSide::Closed;
                    self.events.push(Event::ControllerLost);
                }
            }
        }
    }

    // - what is to be done -

    fn act(&mut self) {
        let effects: Vec<Effect> = self.effects.drain().collect();
        for effect in effects {
            match effect {
                Effect::Send { connection, segments, request } => {
                    self.measure(request);
                    if let Some(state) = self.connections.get_mut(&connection) {
                        if state.out.is_empty() {
                            state.active = Instant::now();
                        }
                        state.out.extend(segments);
                        self.dirty.insert(connection);
                    }
                }
                Effect::Complete { connection, request } => {
                    self.measure(request);
                    if let Some(state) = self.connections.get_mut(&connection) {
                        state.active = Instant::now();
                    }
                }
                Effect::Close { connection, reason } => {
                    tracing::debug!(connection = connection.0, ?reason, "closing a connection");
                    self.traces.forget(connection);
                    if let Some(state) = self.connections.get_mut(&connection) {
                        state.closing = true;
                        state.paused.send_replace(true);
                        self.dirty.insert(connection);
                    }
                }
                Effect::PauseReading { connection } => self.pause(connection, true),
                Effect::ResumeReading { connection } => self.pause(connection, false),
                Effect::LocateStorage { node, address } => self.locate(node, address),
                Effect::LeaveStorage { node } => {
                    if let Some(state) = self.nodes.get_mut(&node) {
                        state.leave(node, &mut self.events);
                    }
                }
                Effect::ToStorage { node, message, trace } => self.send_to_storage(node, message, trace),
                Effect::OpenController { active } => {
                    self.controller = ControllerSide::Opening(self.links.controller(active));
                }
                Effect::ToController { message, trace } => {
                    if let ControllerSide::Open { outlet, .. } = &mut self.controller {
                        outlet.push(message, self.traces.asks_controller(trace));
                    }
                }
            }
        }
    }

    fn measure(&mut self, request: gateway_core::RequestInfo) {
        self.traces.end(request.stamp.trace);
        if let Some(metrics) = &mut self.metrics {
            let now = self.started.elapsed().as_micros() as u64;
            metrics.answered(request, Duration::from_micros(now.saturating_sub(request.stamp.received_us)));
        }
    }

    fn pause(&mut self, connection: ConnectionId, paused: bool) {
        if let Some(state) = self.connections.get(&connection) {
            state.paused.send_replace(paused || self.draining);
        }
    }

    fn locate(&mut self, node: BrokerId, address: Option<String>) {
        let state = self.nodes.entry(node).or_insert(Node { address: None, link: StorageSide::Closed });
        state.address = address;
        match (&mut state.link, &state.address) {
            // Clients that another gateway sends here wait for nothing that could have been done before.
            (StorageSide::Closed, Some(address)) => {
                let opening = self.links.storage(node, address);
                state.link = StorageSide::Opening { opening, waiting: VecDeque::new() };
            }
            // A connection to the old place that is still being made is in vain; one that stands will end by itself.
            (StorageSide::Opening { opening, .. }, Some(address)) => *opening = self.links.storage(node, address),
            (StorageSide::Opening { opening, .. }, None) => *opening = Box::pin(std::future::ready(None)),
            (StorageSide::Closed, None) | (StorageSide::Open { .. }, _) => {}
        }
    }

    fn send_to_storage(&mut self, node: BrokerId, message: ToStorage, trace: Trace) {
        let traceparent = match trace {
            Trace(0) => None,
            trace => self.traces.asks_storage(trace, &message.request, self.gateway.image()),
        };
        let state = self.nodes.entry(node).or_insert(Node { address: None, link: StorageSide::Closed });
        match &mut state.link {
            StorageSide::Open { outlet, .. } => outlet.push(message, traceparent),
            StorageSide::Opening { waiting, .. } => waiting.push_back((message, traceparent)),
            StorageSide::Closed => {
                let opening = match &state.address {
                    Some(address) => self.links.storage(node, address),
                    None => Box::pin(std::future::ready(None)),
                };
                state.link = StorageSide::Opening { opening, waiting: VecDeque::from([(message, traceparent)]) };
            }
        }
    }

    // - sockets -

    /// Writes what each connection has, as far as its socket takes it.
    fn write(&mut self) {
        for connection in std::mem::take(&mut self.dirty) {
            let Some(state) = self.connections.get_mut(&connection) else { continue };
            if state.blocked.is_some() {
                continue;
            }
            let (written, result) = write_out(&state.stream, &mut state.out);
            if written > 0 {
                state.active = Instant::now();
                self.events.push(Event::BytesSent { connection, bytes: written });
            }
            match result {
                Ok(()) if state.closing => {
                    self.connections.remove(&connection);
                }
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let (stream, inbox) = (state.stream.clone(), self.inbox_tx.clone());
                    let waiting = tokio::spawn(async move {
                        let _ = stream.writable().await;
                        let _ = inbox.send(Inbound::Writable(connection)).await;
                    });
                    state.blocked = Some(Waiting(waiting.abort_handle()));
                }
                Err(error) => {
                    tracing::debug!(connection = connection.0, %error, "connection broke");
                    self.connections.remove(&connection);
                    self.events.push(Event::ConnectionClosed { connection });
                }
            }
        }
    }
}

fn write_out(stream: &TcpStream, out: &mut VecDeque<Bytes>) -> (usize, io::Result<()>) {
    let mut written = 0;
    while !out.is_empty() {
        let slices: Vec<IoSlice<'_>> = out.iter().take(SLICES_MAX).map(|segment| IoSlice::new(segment)).collect();
        match stream.try_write_vectored(&slices) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                written += count;
                consume(out, count);
            }
            Err(error) => return (written, Err(error)),
        }
    }
    if out.capacity() > SLICES_MAX {
        *out = VecDeque::new();
    }
    (written, Ok(()))
}

fn consume(out: &mut VecDeque<Bytes>, mut count: usize) {
    while let Some(first) = out.front_mut() {
        if first.len() > count {
            first.advance(count);
            return;
        }
        count -= first.len();
        out.pop_front();
    }
}

impl Node {
    fn poll(&mut self, id: BrokerId, cx: &mut Context<'_>, events: &mut Vec<Event>) {
        loop {
            match &mut self.link {
                StorageSide::Closed => return,
                StorageSide::Opening { opening, waiting } => {
                    let Poll::Ready(opened) = opening.as_mut().poll(cx) else { return };
                    let Some(Duplex { tx, rx }) = opened else { return self.leave(id, events) };
                    let waiting = std::mem::take(waiting);
                    let mut outlet = Outlet::new(tx);
                    waiting.into_iter().for_each(|(message, traceparent)| outlet.push(message, traceparent));
                    self.link = StorageSide::Open { outlet, rx, unanswered: BTreeSet::new() };
                }
                StorageSide::Open { outlet, rx, unanswered } => {
                    let mut gone = outlet
                        .poll_flush(cx, |message| {
                            unanswered.extend(answerable(message));
                        })
                        .is_err();
                    while events.len() < TURN {
                        match rx.poll_recv(cx) {
                            Poll::Ready(Some(message)) => {
                                unanswered.remove(&message.id);
                                events.push(Event::StorageResponded { node: id, message });
                            }
                            Poll::Ready(None) => {
                                gone = true;
                                break;
                            }
                            Poll::Pending if gone => break,
                            Poll::Pending => return,
                        }
                    }
                    if !gone {
                        cx.waker().wake_by_ref();
                        return;
                    }
                    return self.leave(id, events);
                }
            }
        }
    }

    /// Ends the stream, and says of everything on it what is certain.
    fn leave(&mut self, id: BrokerId, events: &mut Vec<Event>) {
        match std::mem::replace(&mut self.link, StorageSide::Closed) {
            StorageSide::Closed => {}
            StorageSide::Opening { waiting, .. } => {
                let waiting = waiting.iter().filter_map(|(message, _)| answerable(message));
                fail(id, waiting, TransportError::NotSent, events);
            }
            StorageSide::Open { outlet, unanswered, .. } => {
                tracing::info!(node = id.0, "stream to storage node ended");
                let kept: BTreeSet<RequestId> = outlet.into_kept().filter_map(|message| answerable(&message)).collect();
                let broken = unanswered.into_iter().filter(|id| !kept.contains(id));
                fail(id, broken, TransportError::Broken, events);
                fail(id, kept.iter().copied(), TransportError::NotSent, events);
            }
        }
    }
}

/// The id under which an answer is owed.
fn answerable(message: &ToStorage) -> Option<RequestId> {
    match message.request {
        Request::CancelFetch(_) => None,
        _ => Some(message.id),
    }
}

fn fail(node: BrokerId, ids: impl Iterator<Item = RequestId>, error: TransportError, events: &mut Vec<Event>) {
    let ids: Vec<RequestId> = ids.collect();
    if !ids.is_empty() {
        events.push(Event::StorageFailed { node, ids, error });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_consumed_across_slices() {
        let mut out: VecDeque<Bytes> = ["abc", "de", "fgh"].map(Bytes::from).into();
        consume(&mut out, 4);
        assert_eq!(out, ["e", "fgh"].map(Bytes::from));
        consume(&mut out, 4);
        assert!(out.is_empty());
    }
}
