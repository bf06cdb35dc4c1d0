//! Streams between processes: ordered each way, delayed at random, broken by deaths and partitions. As TCP with keep-alive,
//! a stream never loses a message in its middle: it arrives whole and in order, or the stream is gone.

use std::collections::{BTreeMap, BTreeSet};

use base_types::Random;
use bytes::Bytes;
use peer_api::controller::{FromController, RaftMessage, ToController};
use peer_api::replication::{FromFollower, FromLeader, Hello};
use peer_api::storage::{FromStorage, ToStorage};

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
    /// The two ends with their lives.
    ends: [(ProcessId, u64); 2],
    /// When the last message of each end arrives: the next one does not overtake it.
    arrivals: [Time; 2],
}

#[derive(Debug)]
pub struct Network {
    streams: BTreeMap<StreamId, Stream>,
    last: u64,
    cuts: BTreeSet<(ProcessId, ProcessId)>,
    random: Random,
    delay_micros_max: u64,
}

impl Network {
    pub(crate) fn new(mut random: Random) -> Network {
        let delay_micros_max = random.between(200, 4_000);
        Network { streams: BTreeMap::new(), last: 0, cuts: BTreeSet::new(), random, delay_micros_max }
    }

    /// Mostly quick, at times slow.
    pub(crate) fn delay(&mut self) -> u64 {
        let max = if self.random.chance(10) { self.delay_micros_max * 20 } else { self.delay_micros_max };
        self.random.between(20, max)
    }

    /// How long until an end notices that the other is gone: a closed socket at once, a silent one after keep-alive.
    pub(crate) fn notice_delay(&mut self) -> u64 {
        if self.random.chance(700) { self.delay() } else { self.random.between(1_000, 2_000_000) }
    }

    pub(crate) fn connects(&self, from: ProcessId, to: ProcessId) -> bool {
        !self.cuts.contains(&(from, to)) && !self.cuts.contains(&(to, from))
    }

    pub(crate) fn open(&mut self, from: (ProcessId, u64), to: (ProcessId, u64)) -> StreamId {
        self.last += 1;
        let id = StreamId(self.last);
        self.streams.insert(id, Stream { ends: [from, to], arrivals: [Time(0); 2] });
        id
    }

    pub(crate) fn is_open(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    /// Where a message of `from` goes and when it arrives; nowhere when the stream is gone.
    pub(crate) fn route(&mut self, stream: StreamId, from: ProcessId, now: Time) -> Option<(ProcessId, u64, Time)> {
        let delay = self.delay();
        let stream = self.streams.get_mut(&stream)?;
        let end = usize::from(stream.ends[0].0 != from);
        let at = now.plus_micros(delay).max(stream.arrivals[end]);
        stream.arrivals[end] = at;
        let (to, life) = stream.ends[1 - end];
        Some((to, life, at))
    }

    /// Closes the stream; the other end is to be told.
    pub(crate) fn close(&mut self, stream: StreamId, me: ProcessId) -> Option<(ProcessId, u64)> {
        let stream = self.streams.remove(&stream)?;
        stream.ends.into_iter().find(|(end, _)| *end != me)
    }

    /// Breaks all streams of a process; returns them with their other ends.
    pub(crate) fn close_all_of(&mut self, id: ProcessId) -> Vec<(StreamId, ProcessId)> {
        let mut closed = Vec::new();
        self.streams.retain(|&stream, Stream { ends, .. }| {
            let [(a, _), (b, _)] = *ends;
            if a == id || b == id {
                closed.push((stream, if a == id { b } else { a }));
            }
            a != id && b != id
        });
        closed
    }

    /// Cuts one direction. A stream needs both, so it breaks.
    pub(crate) fn cut(&mut self, from: ProcessId, to: ProcessId) -> Vec<(StreamId, ProcessId, ProcessId)> {
        self.cuts.insert((from, to));
        let mut broken = Vec::new();
        self.streams.retain(|&stream, Stream { ends, .. }| {
            let [(a, _), (b, _)] = *ends;
            let cut = (a, b) == (from, to) || (a, b) == (to, from);
            if cut {
                broken.push((stream, a, b));
            }
            !cut
        });
        broken
    }

    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
    }
}
