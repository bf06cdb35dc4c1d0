//! The world: virtual time, a queue of what happens next, processes that live and die, and the network between them.
//!
//! Everything that happens is an entry of one queue, ordered by time and then by the order in which it was put there. One
//! seeded generator for each concern decides delays and faults. So a seed is a whole history.

use std::collections::BTreeMap;

use base_types::{Now, Random, Tick, Timestamp};

use crate::faults::Swarm;
use crate::network::{CONNECT_TIMEOUT_MICROS, Delivery, Network, Payload, Purpose, StreamId};
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
    /// As by SIGTERM.
    StopRequested,
}

/// How a process ended by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It stopped, in order or because it could not go on.
    Stopped,
    /// Its disk reached the change at which power was to be lost.
    PowerLost,
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
    exits: &'a mut Vec<(ProcessId, Exit)>,
    pub random: &'a mut Random,
}

#[derive(Debug)]
enum Happening {
    Tell {
        to: ProcessId,
        life: u64,
        input: Input,
        /// Its stream may break before, and then it does not.
        has_arrived: bool,
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
    /// If the stream's ends have not heard each other since then, they give it up.
    Silence {
        stream: StreamId,
        since: Time,
    },
    Fault(crate::faults::Fault),
}

/// A machine's clock. It outlives its processes, but for the ticks, which each counts from its own start.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// The ticks showed `micros` at `at`, and have run at `per_mille` thousandths of their speed since.
    at: Time,
    micros: u64,
    per_mille: u64,
    wall_ahead_ms: i64,
}

impl Clock {
    fn micros(&self, time: Time) -> u64 {
        self.micros + (time.0 - self.at.0) * self.per_mille / 1000
    }

    /// When the ticks will show `tick`.
    fn when(&self, tick: Tick) -> Time {
        let wanted = (tick.0 * 1000).saturating_sub(self.micros);
        self.at.plus_micros((wanted * 1000).div_ceil(self.per_mille))
    }
}

#[derive(Debug, Default)]
struct Queue {
    /// Boxed, because a map moves what it holds, and messages are large.
    happenings: BTreeMap<(Time, u64), Box<Happening>>,
    sequence: u64,
}

impl Queue {
    fn put(&mut self, at: Time, happening: Happening) {
        self.sequence += 1;
        self.happenings.insert((at, self.sequence), Box::new(happening));
    }

    fn deliver(&mut self, deliveries: impl IntoIterator<Item = Delivery>) {
        for Delivery { to, life, at, stream, payload } in deliveries {
            let (input, has_arrived) = match payload {
                Some(payload) => (Input::Received { stream, payload }, false),
                None => (Input::Closed { stream }, true),
            };
            self.put(at, Happening::Tell { to, life, input, has_arrived });
        }
    }
}

pub struct World {
    time: Time,
    queue: Queue,
    pub network: Network,
    alive: BTreeMap<ProcessId, Alive>,
    lives: u64,
    /// Processes that are stopped as by SIGSTOP, since when, and what waits for them.
    paused: BTreeMap<ProcessId, (Time, Vec<Input>)>,
    clocks: BTreeMap<ProcessId, Clock>,
    exits: Vec<(ProcessId, Exit)>,
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
    pub fn new(seed: u64, swarm: &Swarm) -> World {
        let mut random = Random::new(seed);
        World {
            time: Time(0),
            queue: Queue::default(),
            network: Network::new(random.fork(1), swarm),
            alive: BTreeMap::new(),
            lives: 0,
            paused: BTreeMap::new(),
            clocks: BTreeMap::new(),
            exits: Vec::new(),
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

    /// Counts up over all processes with every start.
    pub fn life(&self, id: ProcessId) -> Option<u64> {
        self.alive.get(&id).map(|alive| alive.life)
    }

    pub fn processes(&self) -> impl Iterator<Item = ProcessId> + '_ {
        self.alive.keys().copied()
    }

    pub fn process<P: 'static>(&self, id: ProcessId) -> Option<&P> {
        self.alive.get(&id)?.process.as_any().downcast_ref()
    }

    pub fn process_mut<P: 'static>(&mut self, id: ProcessId) -> Option<&mut P> {
        self.alive.get_mut(&id)?.process.as_any_mut().downcast_mut()
    }

    pub fn start<P: Process + 'static>(&mut self, id: ProcessId, process: P) {
        self.lives += 1;
        // Judges compare the clocks of clients; those of servers each begin with their process.
        if matches!(id, ProcessId::Controller(_) | ProcessId::Storage(_) | ProcessId::Gateway(_)) {
            let time = self.time;
            let clock = self.clock_mut(id);
            (clock.at, clock.micros) = (time, 0);
        }
        self.alive.insert(id, Alive { life: self.lives, process: Box::new(process), woken_at: None });
        self.tell_at(self.time, id, self.lives, Input::Started);
    }

    /// The process is gone. Its streams break: what it had sent arrives in part, and unless its machine went with it the others
    /// notice soon.
    pub fn kill(&mut self, id: ProcessId, is_noticed_at_once: bool) {
        self.alive.remove(&id);
        self.paused.remove(&id);
        for stream in self.network.streams_of(id) {
            self.network.end_closed(stream, id);
            self.break_stream(stream, is_noticed_at_once);
        }
    }

    /// Whether it was there to be paused.
    pub fn pause(&mut self, id: ProcessId) -> bool {
        if !self.alive.contains_key(&id) || self.paused.contains_key(&id) {
            return false;
        }
        self.paused.insert(id, (self.time, Vec::new()));
        for stream in self.network.streams_of(id) {
            self.expect_silence(stream);
        }
        true
    }

    pub fn resume(&mut self, id: ProcessId) {
        let Some((_, waiting)) = self.paused.remove(&id) else { return };
        let Some(life) = self.alive.get(&id).map(|alive| alive.life) else { return };
        for input in waiting {
            self.queue.put(self.time, Happening::Tell { to: id, life, input, has_arrived: true });
        }
        self.queue.put(self.time, Happening::Wake { process: id, life });
    }

    /// Has the process look again at what it was given from outside.
    pub fn rouse(&mut self, id: ProcessId) {
        if let Some(life) = self.alive.get(&id).map(|alive| alive.life) {
            self.tell_at(self.time, id, life, Input::Ticked);
        }
    }

    pub fn request_stop(&mut self, id: ProcessId) -> bool {
        let Some(life) = self.alive.get(&id).map(|alive| alive.life) else { return false };
        self.tell_at(self.time, id, life, Input::StopRequested);
        true
    }

    /// What one sends no longer reaches the other; both give up the streams between them if it takes long.
    pub fn cut(&mut self, from: ProcessId, to: ProcessId) {
        self.network.cut(from, to, self.time);
        for stream in self.network.streams_between(from, to) {
            self.expect_silence(stream);
        }
    }

    pub fn mend(&mut self, from: ProcessId, to: ProcessId) {
        let deliveries = self.network.mend(from, to, self.time);
        self.queue.deliver(deliveries);
    }

    /// All cuts are mended.
    pub fn heal(&mut self) {
        for (from, to) in self.network.cut_links() {
            self.mend(from, to);
        }
    }

    /// Links are well, too.
    pub fn calm(&mut self) {
        self.network.calm();
    }

    /// Whether there was a stream to reset.
    pub fn reset(&mut self, a: ProcessId, b: ProcessId) -> bool {
        let streams = self.network.streams_between(a, b);
        streams.iter().for_each(|&stream| self.break_stream(stream, true));
        !streams.is_empty()
    }

    /// Moves the wall clock.
    pub fn jump(&mut self, id: ProcessId, ms: i64) {
        self.clock_mut(id).wall_ahead_ms += ms;
    }

    pub fn drift(&mut self, id: ProcessId, per_mille: u64) {
        let time = self.time;
        let clock = self.clock_mut(id);
        (clock.micros, clock.at, clock.per_mille) = (clock.micros(time), time, per_mille);
        if let Some(life) = self.alive.get(&id).map(|alive| alive.life) {
            self.queue.put(time, Happening::Wake { process: id, life });
        }
    }

    fn break_stream(&mut self, stream: StreamId, is_noticed_at_once: bool) {
        let deliveries = self.network.break_stream(stream, self.time, is_noticed_at_once);
        self.queue.deliver(deliveries);
    }

    fn expect_silence(&mut self, stream: StreamId) {
        if self.network.has_keepalive(stream) {
            let at = self.time.plus_micros(self.network.keepalive());
            self.queue.put(at, Happening::Silence { stream, since: self.time });
        }
    }

    fn silence(&mut self, stream: StreamId, since: Time) {
        let Some([a, b]) = self.network.ends(stream) else { return };
        let is_paused = |id| self.paused.get(&id).is_some_and(|(at, _)| *at <= since);
        if is_paused(a) || is_paused(b) || self.network.is_cut_since(a, b, since) {
            self.break_stream(stream, true);
        }
    }

    fn clock_mut(&mut self, id: ProcessId) -> &mut Clock {
        self.clocks.entry(id).or_insert(Clock { at: Time(0), micros: 0, per_mille: 1000, wall_ahead_ms: 0 })
    }

    fn tell_at(&mut self, at: Time, to: ProcessId, life: u64, input: Input) {
        self.queue.put(at, Happening::Tell { to, life, input, has_arrived: true });
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

    /// Processes that ended by themselves; whoever owns the cluster buries them.
    pub fn take_exits(&mut self) -> Vec<(ProcessId, Exit)> {
        std::mem::take(&mut self.exits)
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
        match *happening {
            Happening::Tell { to, life, input, has_arrived } => self.tell(to, life, input, has_arrived),
            Happening::Wake { process, life } => self.wake(process, life),
            Happening::Dial { from, life, to, purpose, token } => self.dial(from, life, to, purpose, token),
            Happening::Silence { stream, since } => self.silence(stream, since),
            Happening::Fault(fault) => {
                self.trace.note(self.time, format_args!("{fault}"));
                self.faults.push(fault);
            }
        }
        true
    }

    fn dial(&mut self, from: ProcessId, life: u64, to: ProcessId, purpose: Purpose, token: u64) {
        let at = self.time.plus_micros(self.network.delay());
        let is_silent = !self.network.connects(from, to) || self.paused.contains_key(&to);
        let other = self.alive.get(&to).map(|alive| alive.life).filter(|_| !is_silent);
        let Some(other) = other else {
            // Nobody listens there, which is known at once, or nobody answers.
            let at = if is_silent { self.time.plus_micros(CONNECT_TIMEOUT_MICROS) } else { at };
            return self.tell_at(at, from, life, Input::DialFailed { token });
        };
        let stream = self.network.open(purpose, (from, life), (to, other));
        self.tell_at(at, to, other, Input::Accepted { stream, from, purpose });
        self.tell_at(at, from, life, Input::Dialled { stream, token });
    }

    fn wake(&mut self, id: ProcessId, life: u64) {
        let now = self.now(id);
        let Some(alive) = self.alive.get_mut(&id).filter(|alive| alive.life == life) else { return };
        if self.paused.contains_key(&id) {
            return;
        }
        alive.woken_at = None;
        match alive.process.next_deadline() {
            Some(due) if due <= now.tick => self.tell(id, life, Input::Ticked, true),
            Some(due) => self.wake_at(id, due),
            None => {}
        }
    }

    fn wake_at(&mut self, id: ProcessId, due: Tick) {
        let at = self.clocks.get(&id).map_or(Time(due.0 * 1000), |clock| clock.when(due)).max(self.time);
        let Some(alive) = self.alive.get_mut(&id) else { return };
        if alive.woken_at.is_none_or(|woken| woken > at) {
            alive.woken_at = Some(at);
            self.queue.put(at, Happening::Wake { process: id, life: alive.life });
        }
    }

    fn now(&self, id: ProcessId) -> Now {
        let wall = EPOCH_MS + self.time.ms() as i64;
        match self.clocks.get(&id) {
            Some(clock) => {
                let tick = Tick(clock.micros(self.time) / 1000);
                Now { tick, wall: Timestamp(wall + clock.wall_ahead_ms) }
            }
            None => Now { tick: Tick(self.time.ms()), wall: Timestamp(wall) },
        }
    }

    fn tell(&mut self, id: ProcessId, life: u64, input: Input, has_arrived: bool) {
        let now = self.now(id);
        let Some(alive) = self.alive.get_mut(&id).filter(|alive| alive.life == life) else { return };
        if let Input::Received { stream, .. } = &input
            && !has_arrived
            && !self.network.arrives(*stream, id, self.time)
        {
            return;
        }
        if let Some((_, waiting)) = self.paused.get_mut(&id) {
            return waiting.push(input);
        }
        match &input {
            Input::Received { stream, .. } if !self.network.is_open(*stream, id) => return,
            Input::Closed { stream } if !self.network.is_open(*stream, id) => return,
            Input::Closed { stream } => self.network.end_closed(*stream, id),
            _ => {}
        }
        self.trace.input(self.time, id, &input);
        let mut context = Context {
            now,
            me: id,
            life,
            time: self.time,
            queue: &mut self.queue,
            network: &mut self.network,
            exits: &mut self.exits,
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
        let sent = self.network.send(stream, self.me, self.time, Some(payload));
        self.queue.deliver(sent);
        if self.network.resets() {
            self.network.struck.add("reset on send", 1);
            let told = self.network.break_stream(stream, self.time, true);
            self.queue.deliver(told);
        }
    }

    /// Answered by `Dialled` or `DialFailed`.
    pub fn dial(&mut self, to: ProcessId, purpose: Purpose, token: u64, pause_ms: u64) {
        let at = self.time.plus_ms(pause_ms).plus_micros(self.network.delay());
        self.queue.put(at, Happening::Dial { from: self.me, life: self.life, to, purpose, token });
    }

    /// The other side learns of it.
    pub fn close(&mut self, stream: StreamId) {
        let told = self.network.send(stream, self.me, self.time, None);
        self.queue.deliver(told);
        self.network.end_closed(stream, self.me);
    }

    /// Tells this process `Done` after so long, unless it dies before.
    pub fn after(&mut self, micros: u64, token: u64) {
        let input = Input::Done { token };
        let tell = Happening::Tell { to: self.me, life: self.life, input, has_arrived: true };
        self.queue.put(self.time.plus_micros(micros), tell);
    }

    /// The process ends now; what it is told after this finds nobody.
    pub fn exit(&mut self, exit: Exit) {
        self.exits.push((self.me, exit));
    }
}
