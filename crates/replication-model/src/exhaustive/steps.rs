//! What may happen in a state, and what comes of it.
//!
//! What is on its way comes by a [`Channel`]: letters of a stream, jobs of a disk, news of the metadata, proposals, timers. Before anything new
//! happens every channel runs dry, in one fixed order, but for those that are held back: at each thing that comes, it may be
//! held back, and its channel with it, until it is let go at any later moment. [`Bounds::held`] says how many channels are held
//! back at a time. So what is bounded is not how late things are, nor how often, but how many of them are late at once.
//!
//! Some things come at once always: the metadata quorum commits (what a fail-over forgets is the seeds'), a node that comes up is
//! registered, a follower connects, and a replica that does not lead hears of an ISR, which it makes nothing of. The controller's answers
//! to proposals are left out, for they come behind the metadata that say the same.

use std::collections::BTreeSet;

use base_types::{BrokerId, LeaderEpoch, PartitionIndex, Tick, TopicId, TopicPartition};
use peer_api::metadata::BrokerState;
use peer_api::storage::Acks;
use replica_core::{Replica, Role};

use super::fingerprint::{CLOCK, NAMES, STREAMS};
use crate::metadata::life_of;
use crate::value::Value;
use crate::world::{Proposal, World};

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Batches of one record, with `acks=all`.
    pub records: u8,
    /// Leader epochs after the first.
    pub elections: u8,
    /// Nodes fenced while they live, or after they have crashed.
    pub fencings: u8,
    /// Of what was not synced, any part may be lost; or the disk, where the promise allows it.
    pub crashes: u8,
    /// Streams that end while both sides live; their letters come late or never.
    pub broken_streams: u8,
    /// Members of the ISR that leave it because they lag.
    pub lags: u8,
    /// Channels that are held back at a time.
    pub held: usize,
}

impl Bounds {
    pub const NONE: Bounds =
        Bounds { records: 0, elections: 0, fencings: 0, crashes: 0, broken_streams: 0, lags: 0, held: 0 };
}

/// How much has happened.
#[derive(Clone, Copy, Default, Hash, Debug)]
pub struct Spent {
    records: u8,
    fencings: u8,
    crashes: u8,
    broken_streams: u8,
    lags: u8,
}

#[derive(Clone)]
pub struct State {
    pub world: World,
    pub spent: Spent,
    /// None of them is empty.
    pub held: BTreeSet<Channel>,
}

type Queue = (BrokerId, BrokerId, u64);

/// What things come by in order. Whatever is not held back comes before anything new happens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Channel {
    Letters(Queue),
    Disk(BrokerId),
    /// What the controller has decided, on its way to that node.
    News(BrokerId),
    /// From leaders to the controller.
    Proposals,
    /// What a replica does after a while: a leader tells the high watermark, a follower asks again.
    Timer(BrokerId),
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    // Forced, one or the other, while something is on its way in a channel that is not held back.
    Move(Channel),
    Hold(Channel),
    // What is new.
    /// A channel that is held back moves on.
    Release(Channel),
    /// What is held back of a stream that has ended never comes.
    Lose(Queue),
    /// A node that lags behind the metadata is told the newest state, and none between.
    TellNewest(BrokerId),
    Append(BrokerId),
    LongTimer(BrokerId),
    Fence(BrokerId),
    Unfence(BrokerId),
    Crash {
        id: BrokerId,
        surviving: usize,
    },
    CrashAndWipe(BrokerId),
    Start(BrokerId),
    BreakStream {
        follower: BrokerId,
        leader: BrokerId,
    },
}

/// Far longer than all other timers together.
pub const LAG_MS: u64 = 1_000_000_000;
pub const PARTITION: TopicPartition = TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex(0) };
const MIN_ISR: usize = 2;
/// Timers up to this come by themselves.
const SOON_MS: u64 = 20;
/// After one step all comes to rest in fewer.
const MOVES_MAX: usize = 10_000;

impl Channel {
    fn describe(&self) -> String {
        match self {
            Channel::Letters((from, to, _)) => format!("what {from} says to {to}"),
            Channel::Disk(id) => format!("the disk of {id}"),
            Channel::News(id) => format!("the metadata for {id}"),
            Channel::Proposals => "what leaders propose".to_owned(),
            Channel::Timer(id) => format!("the timer of {id}"),
        }
    }
}

impl Step {
    pub fn describe(&self) -> String {
        match self {
            Step::Move(channel) => format!("{} moves on", channel.describe()),
            Step::Hold(channel) => format!("{} is held back", channel.describe()),
            Step::Release(channel) => format!("{} is held back no longer", channel.describe()),
            Step::Lose((from, to, _)) => format!("what {from} said to {to} is lost"),
            Step::TellNewest(id) => format!("{id} hears the newest metadata"),
            Step::Append(id) => format!("a client appends a record at {id}"),
            Step::LongTimer(id) => format!("{id} has waited for long"),
            Step::Fence(id) => format!("{id} is fenced"),
            Step::Unfence(id) => format!("{id} is unfenced"),
            Step::Crash { id, surviving } => format!("{id} crashes; of its disk's jobs {surviving} were done"),
            Step::CrashAndWipe(id) => format!("{id} crashes and its disk is lost"),
            Step::Start(id) => format!("{id} starts and registers"),
            Step::BreakStream { follower, leader } => {
                format!("the stream of {follower} to {leader} breaks, and {follower} connects anew")
            }
        }
    }
}

impl State {
    /// Three replicas in sync, the first of them leading, with nothing in their logs.
    pub fn first(bounds: &Bounds) -> State {
        let mut world = World::new(3, LAG_MS);
        world.last_stream = STREAMS;
        let ids = world.ids();
        for &id in &ids {
            let node = world.node(id);
            (node.clock, node.first_names) = (CLOCK, NAMES);
            start(&mut world, id);
            world.heartbeat(id);
        }
        world.create_topic(1, MIN_ISR, false, &[ids]);
        let mut state = State { world, spent: Spent::default(), held: BTreeSet::new() };
        state.settle();
        while let Some(channel) = state.next_channel() {
            state.take(Step::Move(channel), bounds);
        }
        state
    }

    /// What may happen, in an order that depends on the state alone.
    pub fn steps(&self, bounds: &Bounds) -> Vec<Step> {
        if let Some(channel) = self.next_channel() {
            let may_hold = (self.held.len() < bounds.held).then_some(Step::Hold(channel));
            return [Step::Move(channel)].into_iter().chain(may_hold).collect();
        }
        let (world, spent) = (&self.world, &self.spent);
        let mut steps = Vec::new();
        for &channel in &self.held {
            steps.push(Step::Release(channel));
            match channel {
                Channel::Letters(queue) if world.is_late(queue) => steps.push(Step::Lose(queue)),
                Channel::News(id) if world.nodes[&id].heard + 1 < world.metadata.committed_at() => {
                    steps.push(Step::TellNewest(id));
                }
                _ => {}
            }
        }
        for id in world.ids() {
            self.steps_of_node(id, bounds, &mut steps);
        }
        if spent.broken_streams < bounds.broken_streams {
            let open = world.streams.iter().filter(|(_, stream)| stream.open);
            steps.extend(open.map(|(&(follower, leader), _)| Step::BreakStream { follower, leader }));
        }
        steps
    }

    fn steps_of_node(&self, id: BrokerId, bounds: &Bounds, steps: &mut Vec<Step>) {
        let (world, spent, node) = (&self.world, &self.spent, &self.world.nodes[&id]);
        let state = world.metadata.committed().broker(id).map(|broker| broker.state);
        if state == Some(BrokerState::Active) && spent.fencings < bounds.fencings {
            steps.push(Step::Fence(id));
        }
        if !node.up {
            steps.push(Step::Start(id));
            return;
        }
        if state == Some(BrokerState::Fenced) && node.knows_this_life() {
            steps.push(Step::Unfence(id));
        }
        let Some(slot) = node.slots.get(&PARTITION) else { return };
        if spent.crashes < bounds.crashes {
            steps.extend((0..=slot.disk.jobs.len()).map(|surviving| Step::Crash { id, surviving }));
            if world.may_lose(id) {
                steps.push(Step::CrashAndWipe(id));
            }
        }
        let Some(replica) = slot.replica.as_ref().filter(|replica| replica.role() == Role::Leader) else { return };
        if spent.records < bounds.records {
            steps.push(Step::Append(id));
        }
        if let Some(due) = replica.next_deadline().filter(|due| *due != Tick(u64::MAX))
            && due > node.clock.plus_ms(SOON_MS)
            && (spent.lags < bounds.lags || !is_far(node.clock, due))
        {
            steps.push(Step::LongTimer(id));
        }
    }

    /// Where the next thing comes by, of those channels that are not held back.
    fn next_channel(&self) -> Option<Channel> {
        let ids = || self.world.nodes.keys().copied();
        let letters = self.world.letters.keys().copied().map(Channel::Letters);
        let of_nodes = [Channel::Disk, Channel::News].into_iter().flat_map(|of| ids().map(of));
        let all = letters.chain(of_nodes).chain([Channel::Proposals]).chain(ids().map(Channel::Timer));
        all.into_iter().find(|channel| !self.held.contains(channel) && self.has_something(*channel))
    }

    fn has_something(&self, channel: Channel) -> bool {
        let world = &self.world;
        match channel {
            Channel::Letters(queue) => world.letters.contains_key(&queue),
            Channel::Disk(id) => {
                let node = &world.nodes[&id];
                node.up && node.slots.get(&PARTITION).is_some_and(|slot| !slot.disk.jobs.is_empty())
            }
            Channel::News(id) => world.nodes[&id].up && world.nodes[&id].heard < world.metadata.committed_at(),
            Channel::Proposals => !world.proposals.is_empty(),
            Channel::Timer(id) => self.is_due_soon(id),
        }
    }

    /// A follower tires of waiting when no answer is on its way, and asks again when it would be heard: what it asks before is
    /// refused, and changes nothing but when it asks next.
    fn is_due_soon(&self, id: BrokerId) -> bool {
        let world = &self.world;
        let Some(replica) = world.replica(id, PARTITION) else { return false };
        let Some(due) = replica.next_deadline() else { return false };
        match replica.role() {
            Role::Follower { leader } => {
                let listens = world.replica(leader, PARTITION).is_some_and(|leader| {
                    leader.role() == Role::Leader && leader.leader_epoch() == replica.leader_epoch()
                });
                let is_open = world.streams.get(&(id, leader)).is_some_and(|stream| stream.open);
                let between = |queue: &Queue| [(queue.0, queue.1), (queue.1, queue.0)].contains(&(id, leader));
                let waits = world.letters.keys().any(|queue| between(queue) && !world.is_late(*queue));
                listens && is_open && !waits && world.nodes[&id].slots[&PARTITION].disk.jobs.is_empty()
            }
            Role::Leader | Role::Idle => due <= world.nodes[&id].clock.plus_ms(SOON_MS),
        }
    }

    /// `false`: it leads beyond the bounds.
    pub fn take(&mut self, step: Step, bounds: &Bounds) -> bool {
        let world = &mut self.world;
        match step {
            Step::Move(channel) => self.take_from(channel),
            Step::Hold(channel) => {
                self.held.insert(channel);
            }
            Step::Release(channel) => {
                self.held.remove(&channel);
                self.take_from(channel);
            }
            Step::Lose(queue) => {
                world.letters.remove(&queue);
            }
            Step::TellNewest(id) => world.tell(id, world.metadata.committed_at()),
            Step::Append(id) => {
                self.spent.records += 1;
                let number = u32::from(self.spent.records);
                let value = Value { partition: PARTITION, number, records: 1, producer: None };
                let epoch = world.replica(id, PARTITION).map_or(LeaderEpoch::UNKNOWN, Replica::leader_epoch);
                world.append(id, epoch, Acks::All, value, u64::MAX);
            }
            Step::LongTimer(id) => self.wait(id),
            Step::Fence(id) => {
                self.spent.fencings += 1;
                world.fence(id);
            }
            Step::Unfence(id) => world.heartbeat(id),
            Step::Crash { id, surviving } => {
                self.spent.crashes += 1;
                world.crash(id, surviving, usize::MAX);
            }
            Step::CrashAndWipe(id) => {
                self.spent.crashes += 1;
                world.crash(id, 0, usize::MAX);
                world.wipe(id);
            }
            Step::Start(id) => start(world, id),
            Step::BreakStream { follower, leader } => {
                self.spent.broken_streams += 1;
                world.connect(follower, leader);
            }
        }
        self.settle();
        // Without a choice nothing is worth a state of its own.
        let mut moves = 0;
        while let Some(channel) = self.next_channel().filter(|_| self.held.len() >= bounds.held) {
            self.take_from(channel);
            self.settle();
            moves += 1;
            assert!(moves < MOVES_MAX, "liveness: nothing ever settles");
        }
        let epoch = self.world.metadata.committed().partition(PARTITION).map_or(0, |state| state.leader_epoch.0);
        epoch <= i32::from(bounds.elections)
    }

    fn take_from(&mut self, channel: Channel) {
        let world = &mut self.world;
        match channel {
            Channel::Letters(queue) => world.deliver(queue, false),
            Channel::Disk(id) => {
                world.finish_disk_job(id, PARTITION);
            }
            Channel::News(id) => world.tell(id, world.nodes[&id].heard + 1),
            Channel::Proposals => {
                let proposal = world.proposals.remove(0);
                world.decide(&proposal);
            }
            Channel::Timer(id) => self.wait(id),
        }
    }

    /// Until the next deadline of the node.
    fn wait(&mut self, id: BrokerId) {
        let world = &mut self.world;
        let Some(due) = world.replica(id, PARTITION).and_then(Replica::next_deadline) else { return };
        let clock = world.nodes[&id].clock;
        let is_far = is_far(clock, due);
        // Whoever lags since about the same time is late together: which of them was first does not show in a fingerprint.
        world.node(id).clock = if is_far { due.plus_ms(LAG_MS / 10) } else { due.max(clock) };
        self.spent.lags += u8::from(is_far);
        world.tick(id);
    }

    /// What happens at once, because nothing would be learned from its coming later.
    fn settle(&mut self) {
        let world = &mut self.world;
        let ids = world.ids();
        loop {
            while world.metadata.in_flight() > 0 {
                world.commit_one();
            }
            // What a leader is told in answer it hears in the metadata before.
            world.answers.clear();
            world.replies.clear();
            if let Some((id, position)) = ids.iter().find_map(|&id| irrelevant_news(world, id)) {
                world.tell(id, position);
            } else if let Some((follower, leader)) = ids.iter().find_map(|&id| unconnected(world, id)) {
                world.connect(follower, leader);
            } else {
                break;
            }
        }
        // A proposal that is repeated says nothing new.
        let mut known: Vec<Proposal> = Vec::new();
        for proposal in std::mem::take(&mut world.proposals) {
            if !known.contains(&proposal) {
                known.push(proposal);
            }
        }
        world.proposals = known;
        let mut held = std::mem::take(&mut self.held);
        held.retain(|channel| self.has_something(*channel));
        self.held = held;
    }
}

/// The next command that is news to a node but not to its replica, which does not lead: another ISR, another broker's state.
fn irrelevant_news(world: &World, id: BrokerId) -> Option<(BrokerId, usize)> {
    let node = &world.nodes[&id];
    if !node.up || node.heard == world.metadata.committed_at() || !node.knows_this_life() {
        return None;
    }
    let news = world.metadata.at(node.heard + 1);
    let (old, new) = (node.view.partition(PARTITION)?, news.partition(PARTITION)?);
    let leads =
        old.leader == Some(id) || world.replica(id, PARTITION).is_some_and(|replica| replica.role() == Role::Leader);
    let is_same = (old.leader, old.leader_epoch) == (new.leader, new.leader_epoch);
    (!leads && is_same && life_of(news, id) == Some(node.life)).then_some((id, node.heard + 1))
}

/// A follower that has no stream to a leader that it could have one to.
fn unconnected(world: &World, id: BrokerId) -> Option<(BrokerId, BrokerId)> {
    let Role::Follower { leader } = world.replica(id, PARTITION)?.role() else { return None };
    let is_open = world.streams.get(&(id, leader)).is_some_and(|stream| stream.open);
    let may_connect = world.nodes[&leader].up && world.nodes[&id].broker_epoch.is_some();
    (!is_open && may_connect).then_some((id, leader))
}

fn is_far(clock: Tick, due: Tick) -> bool {
    due.ms_since(clock) > LAG_MS / 10
}

/// It comes up and is registered, and hears so.
fn start(world: &mut World, id: BrokerId) {
    world.start(id);
    world.register(id);
    while world.metadata.in_flight() > 0 {
        world.commit_one();
    }
    std::mem::take(&mut world.answers).into_iter().for_each(|answer| world.answer(answer));
}
