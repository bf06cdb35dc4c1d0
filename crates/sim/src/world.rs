//! The world: virtual time, a queue of what happens next, processes that live and die, and the network between them.
//!
//! Everything that happens is an entry of one queue, ordered by time and then by the order in which it was put there. One
//! seeded generator for each concern decides delays and faults. So a seed is a whole history.

use std::collections::BTreeMap;

use base_types::{Now, Random, Tick, Timestamp};

use crate::network::{Network, Payload, Purpose, StreamId};
use crate::trace::Trace;

/// Virtual microseconds since the world began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    pub fn plus_micros(self, micros: u64) -> Time {
        Time(self.0 + micros)
    }

    pub fn plus_ms(self, ms: u64) -> Time {
        Time(self.0 + 1000 * ms)
    }

    pub fn ms(self) -> u64 {
        self.0 / 1000
    }
}

/// A machine with one process on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ProcessId {
    Controller(i32),
    Storage(i32),
    Gateway(i32),
    Client(i32),
    /// Of a group.
    Member(i32),
}

impl std::fmt::Display for ProcessId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ProcessId::Controller(id) => write!(f, "controller-{id}"),
            ProcessId::Storage(id) => write!(f, "storage-{id}"),
            ProcessId::Gateway(id) => write!(f, "gateway-{id}"),
            ProcessId::Client(id) => write!(f, "client-{id}"),
            ProcessId::Member(id) => write!(f, "member-{id}"),
        }
    }
}

impl std::str::FromStr for ProcessId {
    type Err = ();

    fn from_str(text: &str) -> Result<ProcessId, ()> {
        let (kind, id) = text.split_once('-').ok_or(())?;
        let id = id.parse().map_err(|_| ())?;
        match kind {
            "controller" => Ok(ProcessId::Controller(id)),
            "storage" => Ok(ProcessId::Storage(id)),
            "gateway" => Ok(ProcessId::Gateway(id)),
            "client" => Ok(ProcessId::Client(id)),
            "member" => Ok(ProcessId::Member(id)),
            _ => Err(()),
        }
    }
}

/// What a process is told.
#[derive(Debug)]
pub enum Input {
    /// It has just started, on whatever its disk held.
    Started,
    /// Somebody opened a stream to it.
    Accepted {
        stream: StreamId,
        from: ProcessId,
        purpose: Purpose,
    },
    /// The stream it dialled is there.
    Dialled {
        stream: StreamId,
        token: u64,
    },
    DialFailed {
        token: u64,
    },
    Received {
        stream: StreamId,
        payload: Payload,
    },
    Closed {
        stream: StreamId,
    },
    /// Work that it asked for is done.
    Done {
        token: u64,
    },
    /// A deadline of its own has passed.
    Ticked,
}

/// A process as the world sees it: told one thing at a time, asking through [`Context`].
pub trait Process {
    fn handle(&mut self, context: &mut Context<'_>, input: Input);
    fn next_deadline(&self) -> Option<Tick>;
}

/// What a process may do.
pub struct Context<'a> {
    pub now: Now,
    pub me: ProcessId,
    life: u64,
    time: Time,
    queue: &'a mut Queue,
    network: &'a mut Network,
    pub random: &'a mut Random,
}

#[derive(Debug)]
enum Happening {
    Tell {
        to: ProcessId,
        life: u64,
        input: Input,
    },
    /// A deadline may be due; stale ones find nothing to do.
    Wake {
        process: ProcessId,
        life: u64,
    },
    Dial {
        from: ProcessId,
        life: u64,
        to: ProcessId,
        purpose: Purpose,
        token: u64,
    },
    Fault(crate::faults::Fault),
}

#[derive(Debug, Default)]
struct Queue {
    happenings: BTreeMap<(Time, u64), Happening>,
    sequence: u64,
}

impl Queue {
    fn put(&mut self, at: Time, happening: Happening) {
        self.sequence += 1;
        self.happenings.insert((at, self.sequence), happening);
    }
}

pub struct World {
    time: Time,
    queue: Queue,
    pub network: Network,
    alive: BTreeMap<ProcessId, Alive>,
    lives: u64,
    /// Processes that are stopped as by SIGSTOP, and what waits for them.
    paused: BTreeMap<ProcessId, Vec<Input>>,
    random: Random,
    pub trace: Trace,
    faults: Vec<crate::faults::Fault>,
}

struct Alive {
    life: u64,
    process: Box<dyn AnyProcess>,
    woken_at: Option<Time>,
}

/// A process that can be looked into by the checkers.
pub trait AnyProcess: Process {
    fn as_any(&self) -> &dyn std::any::Any;
    fn as_any_mut(&mut self) -> &mut dyn std::any::Any;
}

impl<P: Process + 'static> AnyProcess for P {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }
}

/// The wall clock shows this at time zero.
const EPOCH_MS: i64 = 1_700_000_000_000;

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        World {
            time: Time(0),
            queue: Queue::default(),
            network: Network::new(random.fork(1)),
            alive: BTreeMap::new(),
            lives: 0,
            paused: BTreeMap::new(),
            random: random.fork(2),
            trace: Trace::default(),
            faults: Vec::new(),
        }
    }

    pub fn time(&self) -> Time {
        self.time
    }

    pub fn is_alive(&self, id: ProcessId) -> bool {
        self.alive.contains_key(&id)
    }

    pub fn processes(&self) -> impl Iterator<Item = ProcessId> + '_ {
        self.alive.keys().copied()
    }

    pub fn process<P: 'static>(&self, id: ProcessId) -> Option<&P> {
        self.alive.get(&id)?.process.as_any().downcast_ref()
    }

    pub fn start<P: Process + 'static>(&mut self, id: ProcessId, process: P) {
        self.lives += 1;
        self.alive.insert(id, Alive { life: self.lives, process: Box::new(process), woken_at: None });
        self.queue.put(self.time, Happening::Tell { to: id, life: self.lives, input: Input::Started });
    }

    /// The process is gone, as by SIGKILL; its streams break.
    pub fn kill(&mut self, id: ProcessId) {
        self.alive.remove(&id);
        self.paused.remove(&id);
        for (stream, other) in self.network.close_all_of(id) {
            self.tell_closed(other, stream);
        }
    }

    /// Whether it was there to be paused.
    pub fn pause(&mut self, id: ProcessId) -> bool {
        let is_alive = self.alive.contains_key(&id);
        if is_alive {
            self.paused.entry(id).or_default();
        }
        is_alive
    }

    pub fn resume(&mut self, id: ProcessId) {
        let Some(waiting) = self.paused.remove(&id) else { return };
        let Some(life) = self.alive.get(&id).map(|alive| alive.life) else { return };
        for input in waiting {
            self.queue.put(self.time, Happening::Tell { to: id, life, input });
        }
        self.queue.put(self.time, Happening::Wake { process: id, life });
    }

    /// Messages between the two no longer arrive, from `from` to `to`; streams between them break after a while.
    pub fn cut(&mut self, from: ProcessId, to: ProcessId) {
        for (stream, a, b) in self.network.cut(from, to) {
            self.tell_closed(a, stream);
            self.tell_closed(b, stream);
        }
    }

    pub fn heal(&mut self) {
        self.network.heal();
    }

    pub fn schedule(&mut self, at: Time, fault: crate::faults::Fault) {
        self.queue.put(at, Happening::Fault(fault));
    }

    /// Faults that came due; whoever owns the cluster carries them out.
    pub fn take_faults(&mut self) -> Vec<crate::faults::Fault> {
        std::mem::take(&mut self.faults)
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<Time> {
        self.queue.happenings.first_key_value().map(|(&(at, _), _)| at)
    }

    /// Lets the next thing happen. `false` when nothing is left, or nothing before `until`.
    pub fn step(&mut self, until: Time) -> bool {
        let Some((&(at, _), _)) = self.queue.happenings.first_key_value() else { return false };
        if at > until {
            self.time = until;
            return false;
        }
        let Some((_, happening)) = self.queue.happenings.pop_first() else { return false };
        self.time = at;
        match happening {
            Happening::Tell { to, life, input } => self.tell(to, life, input),
            Happening::Wake { process, life } => self.wake(process, life),
            Happening::Dial { from, life, to, purpose, token } => self.dial(from, life, to, purpose, token),
            Happening::Fault(fault) => {
                self.trace.note(self.time, format_args!("{fault}"));
                self.faults.push(fault);
            }
        }
        true
    }

    fn dial(&mut self, from: ProcessId, life: u64, to: ProcessId, purpose: Purpose, token: u64) {
        let reachable =
            self.alive.contains_key(&to) && self.network.connects(from, to) && !self.paused.contains_key(&to);
        let at = self.time.plus_micros(self.network.delay());
        if !reachable {
            return self.queue.put(at, Happening::Tell { to: from, life, input: Input::DialFailed { token } });
        }
        let Some(other) = self.alive.get(&to).map(|alive| alive.life) else { return };
        let stream = self.network.open((from, life), (to, other));
        let accepted = Input::Accepted { stream, from, purpose };
        self.queue.put(at, Happening::Tell { to, life: other, input: accepted });
        self.queue.put(at, Happening::Tell { to: from, life, input: Input::Dialled { stream, token } });
    }

    fn tell_closed(&mut self, id: ProcessId, stream: StreamId) {
        if let Some(alive) = self.alive.get(&id) {
            let at = self.time.plus_micros(self.network.notice_delay());
            self.queue.put(at, Happening::Tell { to: id, life: alive.life, input: Input::Closed { stream } });
        }
    }

    fn wake(&mut self, id: ProcessId, life: u64) {
        let now = self.now();
        let Some(alive) = self.alive.get_mut(&id).filter(|alive| alive.life == life) else { return };
        if self.paused.contains_key(&id) {
            return;
        }
        alive.woken_at = None;
        match alive.process.next_deadline() {
            Some(due) if due <= now.tick => self.tell(id, life, Input::Ticked),
            Some(due) => self.wake_at(id, due),
            None => {}
        }
    }

    fn wake_at(&mut self, id: ProcessId, due: Tick) {
        let at = Time(due.0 * 1000).max(self.time);
        let Some(alive) = self.alive.get_mut(&id) else { return };
        if alive.woken_at.is_none_or(|woken| woken > at) {
            alive.woken_at = Some(at);
            self.queue.put(at, Happening::Wake { process: id, life: alive.life });
        }
    }

    fn now(&self) -> Now {
        Now { tick: Tick(self.time.ms()), wall: Timestamp(EPOCH_MS + self.time.ms() as i64) }
    }

    fn tell(&mut self, id: ProcessId, life: u64, input: Input) {
        let now = self.now();
        let Some(alive) = self.alive.get_mut(&id).filter(|alive| alive.life == life) else { return };
        if let Some(waiting) = self.paused.get_mut(&id) {
            return waiting.push(input);
        }
        if let Input::Received { stream, .. } = &input
            && !self.network.is_open(*stream)
        {
            return;
        }
        self.trace.input(self.time, id, &input);
        let mut context = Context {
            now,
            me: id,
            life,
            time: self.time,
            queue: &mut self.queue,
            network: &mut self.network,
            random: &mut self.random,
        };
        alive.process.handle(&mut context, input);
        if let Some(due) = alive.process.next_deadline() {
            self.wake_at(id, due);
        }
    }
}

impl Context<'_> {
    /// In order on its stream; lost with it.
    pub fn send(&mut self, stream: StreamId, payload: Payload) {
        let Some((to, life, at)) = self.network.route(stream, self.me, self.time) else { return };
        self.queue.put(at, Happening::Tell { to, life, input: Input::Received { stream, payload } });
    }

    /// Answered by `Dialled` or `DialFailed`.
    pub fn dial(&mut self, to: ProcessId, purpose: Purpose, token: u64, pause_ms: u64) {
        let at = self.time.plus_ms(pause_ms).plus_micros(self.network.delay());
        self.queue.put(at, Happening::Dial { from: self.me, life: self.life, to, purpose, token });
    }

    /// The other side learns of it.
    pub fn close(&mut self, stream: StreamId) {
        if let Some((other, life)) = self.network.close(stream, self.me) {
            let at = self.time.plus_micros(self.network.delay());
            self.queue.put(at, Happening::Tell { to: other, life, input: Input::Closed { stream } });
        }
    }

    /// Tells this process `Done` after so long, unless it dies before.
    pub fn after(&mut self, micros: u64, token: u64) {
        let at = self.time.plus_micros(micros);
        self.queue.put(at, Happening::Tell { to: self.me, life: self.life, input: Input::Done { token } });
    }
}
