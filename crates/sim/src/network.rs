//! Streams between processes, as TCP with the keep-alive of the product's gRPC streams makes them: ordered each way, delayed at
//! random, and never without a message in their middle. A lost segment is sent again, so that it and all behind it are late. Each
//! end learns of the other's death by itself, at another time; until then what was on its way arrives, up to some point. So what
//! was done may be answered to nobody, and words of an old stream may come after those of its successor.

use std::collections::{BTreeMap, VecDeque};

use base_types::Random;
use bytes::Bytes;
use peer_api::controller::{FromController, RaftMessage, ToController};
use peer_api::replication::{FromFollower, FromLeader, Hello};
use peer_api::storage::{FromStorage, ToStorage};

use crate::faults::{Struck, Swarm};
use crate::world::{ProcessId, Time};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StreamId(pub u64);

/// What a stream is opened for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose {
    Gateway,
    Follow(Hello),
    Controller,
    Raft,
    Kafka,
}

/// What travels.
#[derive(Clone, Debug)]
pub enum Payload {
    ToStorage(ToStorage),
    FromStorage(FromStorage),
    ToController(ToController),
    FromController(FromController),
    FromFollower(FromFollower),
    FromLeader(FromLeader),
    Raft(RaftMessage),
    /// A Kafka frame without its length prefix.
    Frame(Bytes),
}

#[derive(Debug)]
struct Stream {
    purpose: Purpose,
    ends: [End; 2],
}

#[derive(Debug)]
struct End {
    process: ProcessId,
    life: u64,
    /// It has not closed the stream, and has not noticed that the other end did.
    is_open: bool,
    /// When the last message to it arrives: the next one does not overtake it.
    arrival: Time,
    /// The stream is broken: what arrives here later is lost.
    lost_after: Option<Time>,
    /// Sent to it over a link that is cut, in order; `None`: the other end closed.
    held: VecDeque<Option<Payload>>,
}

/// Where something that was sent goes.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) to: ProcessId,
    pub(crate) life: u64,
    pub(crate) at: Time,
    pub(crate) stream: StreamId,
    /// `None`: the other end closed.
    pub(crate) payload: Option<Payload>,
}

/// TCP sends a lost segment again after so long, then after twice as long, and so on.
const RETRANSMISSION_MICROS: u64 = 200_000;
/// As `rpc` has it: how long until a silent end is given up.
const KEEPALIVE_MICROS: (u64, u64) = (1_000_000, 2_000_000);
/// As `rpc` has it: how long a dial may take.
pub(crate) const CONNECT_TIMEOUT_MICROS: u64 = 1_000_000;

#[derive(Debug)]
pub struct Network {
    streams: BTreeMap<StreamId, Stream>,
    last: u64,
    /// Since when.
    cuts: BTreeMap<(ProcessId, ProcessId), Time>,
    random: Random,
    delay_micros_max: u64,
    loss_per_mille: u64,
    resets_per_million: u64,
    pub struck: Struck,
}

impl Network {
    pub(crate) fn new(mut random: Random, swarm: &Swarm) -> Network {
        let drawn = random.between(200, 4_000);
        Network {
            streams: BTreeMap::new(),
            last: 0,
            cuts: BTreeMap::new(),
            random,
            delay_micros_max: if swarm.delay_micros_max == 0 { drawn } else { swarm.delay_micros_max },
            loss_per_mille: swarm.loss_per_mille,
            resets_per_million: swarm.resets_per_million,
            struck: Struck::default(),
        }
    }

    /// From now on links are merely slow at times.
    pub(crate) fn calm(&mut self) {
        self.loss_per_mille = 0;
        self.resets_per_million = 0;
    }

    /// Mostly quick, at times slow.
    pub(crate) fn delay(&mut self) -> u64 {
        let max = if self.random.chance(10) { self.delay_micros_max * 20 } else { self.delay_micros_max };
        self.random.between(20, max)
    }

    fn delay_with_loss(&mut self) -> u64 {
        let mut delay = self.delay();
        let mut again = RETRANSMISSION_MICROS;
        while self.loss_per_mille > 0 && again < 16 * RETRANSMISSION_MICROS && self.random.chance(self.loss_per_mille) {
            self.struck.add("lost segment", 1);
            delay += again;
            again *= 2;
        }
        delay
    }

    pub(crate) fn keepalive(&mut self) -> u64 {
        self.random.between(KEEPALIVE_MICROS.0, KEEPALIVE_MICROS.1)
    }

    pub(crate) fn connects(&self, from: ProcessId, to: ProcessId) -> bool {
        !self.cuts.contains_key(&(from, to)) && !self.cuts.contains_key(&(to, from))
    }

    /// Whether either direction has been cut since then.
    pub(crate) fn is_cut_since(&self, a: ProcessId, b: ProcessId, since: Time) -> bool {
        [(a, b), (b, a)].iter().any(|link| self.cuts.get(link).is_some_and(|&at| at <= since))
    }

    pub(crate) fn open(&mut self, purpose: Purpose, from: (ProcessId, u64), to: (ProcessId, u64)) -> StreamId {
        self.last += 1;
        let id = StreamId(self.last);
        let end = |(process, life)| End {
            process,
            life,
            is_open: true,
            arrival: Time(0),
            lost_after: None,
            held: VecDeque::new(),
        };
        self.streams.insert(id, Stream { purpose, ends: [end(from), end(to)] });
        id
    }

    /// Sends to the other end; nothing when it will never get it.
    pub(crate) fn send(
        &mut self,
        stream: StreamId,
        from: ProcessId,
        now: Time,
        payload: Option<Payload>,
    ) -> Option<Delivery> {
        let delay = self.delay_with_loss();
        let ends = &mut self.streams.get_mut(&stream)?.ends;
        let end = usize::from(ends[0].process == from);
        if payload.is_some() && !ends[1 - end].is_open {
            return None;
        }
        let end = &mut ends[end];
        if end.lost_after.is_some() || !end.is_open {
            return None;
        }
        if self.cuts.contains_key(&(from, end.process)) || !end.held.is_empty() {
            end.held.push_back(payload);
            return None;
        }
        end.arrival = now.plus_micros(delay).max(end.arrival);
        Some(Delivery { to: end.process, life: end.life, at: end.arrival, stream, payload })
    }

    /// Whether a message that has just been sent on it resets the stream.
    pub(crate) fn resets(&mut self) -> bool {
        self.resets_per_million > 0 && self.random.below(1_000_000) < self.resets_per_million
    }

    /// Whether what arrives now at that end still does.
    pub(crate) fn arrives(&self, stream: StreamId, at: ProcessId, now: Time) -> bool {
        let end = self.streams.get(&stream).and_then(|stream| stream.ends.iter().find(|end| end.process == at));
        end.is_some_and(|end| end.lost_after.is_none_or(|last| now <= last))
    }

    pub(crate) fn is_open(&self, stream: StreamId, at: ProcessId) -> bool {
        let end = self.streams.get(&stream).and_then(|stream| stream.ends.iter().find(|end| end.process == at));
        end.is_some_and(|end| end.is_open)
    }

    /// That end has no more to do with the stream.
    pub(crate) fn end_closed(&mut self, id: StreamId, at: ProcessId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.ends.iter_mut().filter(|end| end.process == at).for_each(|end| end.is_open = false);
        if stream.ends.iter().all(|end| !end.is_open) {
            self.streams.remove(&id);
        }
    }

    /// Breaks the stream: each end that is open hears what arrives within a moment, and learns of it later.
    pub(crate) fn break_stream(&mut self, id: StreamId, now: Time, is_noticed_at_once: bool) -> Vec<Delivery> {
        // In half of the cases nothing that is on its way arrives.
        let window = if self.random.chance(500) { 0 } else { self.random.below(4 * self.delay_micros_max) };
        let notices = [0, 1].map(|_| if is_noticed_at_once { self.delay() } else { self.keepalive() });
        let Some(stream) = self.streams.get_mut(&id) else { return Vec::new() };
        let mut told = Vec::new();
        for (end, notice) in stream.ends.iter_mut().zip(notices) {
            if end.is_open && end.lost_after.is_none() {
                let last = now.plus_micros(window);
                end.lost_after = Some(last);
                end.held.clear();
                let at = now.plus_micros(notice).max(last).plus_micros(1);
                told.push(Delivery { to: end.process, life: end.life, at, stream: id, payload: None });
            }
        }
        told
    }

    pub(crate) fn streams_of(&self, id: ProcessId) -> Vec<StreamId> {
        let is_end = |stream: &Stream| stream.ends.iter().any(|end| end.process == id && end.is_open);
        self.streams.iter().filter(|(_, stream)| is_end(stream)).map(|(&id, _)| id).collect()
    }

    pub(crate) fn streams_between(&self, a: ProcessId, b: ProcessId) -> Vec<StreamId> {
        let connects = |stream: &Stream| {
            let ends = [stream.ends[0].process, stream.ends[1].process];
            ends == [a, b] || ends == [b, a]
        };
        self.streams.iter().filter(|(_, stream)| connects(stream)).map(|(&id, _)| id).collect()
    }

    /// Kafka's connections have no keep-alive; clients give up by themselves.
    pub(crate) fn has_keepalive(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.purpose != Purpose::Kafka)
    }

    pub(crate) fn ends(&self, id: StreamId) -> Option<[ProcessId; 2]> {
        self.streams.get(&id).map(|stream| [stream.ends[0].process, stream.ends[1].process])
    }

    /// Cuts one direction. What is on its way arrives, what is sent from now on is held.
    pub(crate) fn cut(&mut self, from: ProcessId, to: ProcessId, now: Time) {
        self.cuts.entry((from, to)).or_insert(now);
    }

    /// What was held goes on its way.
    pub(crate) fn mend(&mut self, from: ProcessId, to: ProcessId, now: Time) -> Vec<Delivery> {
        if self.cuts.remove(&(from, to)).is_none() {
            return Vec::new();
        }
        let mut sent = Vec::new();
        for id in self.streams_between(from, to) {
            let delay = self.random.below(RETRANSMISSION_MICROS);
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let Some(end) = stream.ends.iter_mut().find(|end| end.process == to) else { continue };
            for payload in std::mem::take(&mut end.held) {
                end.arrival = now.plus_micros(delay).max(end.arrival);
                sent.push(Delivery { to, life: end.life, at: end.arrival, stream: id, payload });
            }
        }
        sent
    }

    pub(crate) fn cut_links(&self) -> Vec<(ProcessId, ProcessId)> {
        self.cuts.keys().copied().collect()
    }
}
