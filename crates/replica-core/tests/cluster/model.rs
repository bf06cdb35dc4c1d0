//! One partition on a few nodes, all in one thread: replicas, disks, streams and a toy controller. Nothing moves unless it is
//! told to. The scenarios tell it by hand, the properties by seed. After each step everything is checked by [`Oracle`].
#![allow(dead_code, reason = "scenarios and properties use different halves")]

#[path = "batch.rs"]
pub mod batch;
#[path = "controller.rs"]
pub mod controller;
#[path = "disk.rs"]
pub mod disk;
#[path = "oracle.rs"]
pub mod oracle;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base_types::{BrokerEpoch, BrokerId, LeaderEpoch, Now, Offset, Tick, Timestamp, TopicPartition};
use peer_api::metadata::PartitionState;
use peer_api::replication::{FromFollower, FromLeader};
use peer_api::storage::{Acks, AppendError, Appended};
use record_batch::StampedBatch;
use replica_core::{Effect, Effects, Event, Replica, RequestKey, Role, Settings};

use batch::Spec;
use controller::{Controller, Proposal};
use disk::{Disk, Job};
use oracle::Oracle;

#[derive(Debug)]
pub struct Cluster {
    pub now: Now,
    pub settings: Settings,
    pub nodes: BTreeMap<BrokerId, Node>,
    pub controller: Controller,
    pub letters: Vec<Letter>,
    pub proposals: Vec<Proposal>,
    pub streams: BTreeMap<(BrokerId, BrokerId), Stream>,
    pub requests: BTreeMap<RequestKey, Request>,
    pub answers: Vec<(Request, Result<Appended, AppendError>)>,
    /// Confirmations that were asked for: of which node, and what was committed by then.
    pub confirmations: BTreeMap<RequestKey, (BrokerId, Offset)>,
    pub oracle: Oracle,
    /// What happened, for people. `None`: nobody reads it.
    pub trace: Option<Vec<String>>,
    last_stream: u64,
    last_request: u64,
}

#[derive(Debug)]
pub struct Node {
    pub id: BrokerId,
    pub broker_epoch: BrokerEpoch,
    /// Counts starts; a letter to an earlier life is never delivered.
    pub life: u64,
    /// `None`: it is down.
    pub replica: Option<Replica>,
    pub disk: Disk,
    /// The log as the replica has it, what is on its way to the disk included.
    pub view: Vec<StampedBatch>,
    /// How much of [`Controller::said`] it has heard.
    pub heard: usize,
    /// The first word that this life may hear.
    pub registered: usize,
}

/// From a follower's node to a leader's; numbered anew with each connection.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    pub id: u64,
    pub open: bool,
    broker_epoch: BrokerEpoch,
}

#[derive(Clone, Debug)]
pub struct Letter {
    pub from: BrokerId,
    pub to: BrokerId,
    pub stream: u64,
    to_life: u64,
    message: Message,
}

#[derive(Clone, Debug)]
enum Message {
    ToLeader(BrokerEpoch, FromFollower),
    ToFollower(FromLeader),
}

#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub key: RequestKey,
    pub node: BrokerId,
    pub acks: Acks,
    pub spec: Spec,
}

impl Cluster {
    pub fn new(nodes: i32, settings: Settings, isr: &[i32]) -> Cluster {
        let ids: Vec<BrokerId> = (1..=nodes).map(BrokerId).collect();
        let controller = Controller::new(ids.clone(), isr.iter().copied().map(BrokerId).collect());
        let mut cluster = Cluster {
            now: Now { tick: Tick(1_000), wall: Timestamp(1_000) },
            settings,
            nodes: BTreeMap::new(),
            controller,
            letters: Vec::new(),
            proposals: Vec::new(),
            streams: BTreeMap::new(),
            requests: BTreeMap::new(),
            answers: Vec::new(),
            confirmations: BTreeMap::new(),
            oracle: Oracle::default(),
            trace: None,
            last_stream: 0,
            last_request: 0,
        };
        for id in ids {
            let broker_epoch = cluster.controller.registrations[&id];
            let mut node = Node {
                id,
                broker_epoch,
                life: 1,
                replica: None,
                disk: Disk::default(),
                view: Vec::new(),
                heard: cluster.controller.said.len() - 1,
                registered: cluster.controller.said.len() - 1,
            };
            node.boot(settings);
            cluster.nodes.insert(id, node);
        }
        cluster
    }

    pub fn replica(&self, id: BrokerId) -> Option<&Replica> {
        self.nodes[&id].replica.as_ref()
    }

    pub fn ids(&self) -> Vec<BrokerId> {
        self.nodes.keys().copied().collect()
    }

    /// The node that the controller has elected and that knows it.
    pub fn acting_leader(&self) -> Option<BrokerId> {
        let leader = self.controller.state.leader?;
        let replica = self.replica(leader)?;
        let acts = replica.role() == Role::Leader && replica.leader_epoch() == self.controller.state.leader_epoch;
        acts.then_some(leader)
    }

    // What may happen.

    /// Tells a node the next thing that the controller said; with `newest`, only the last.
    pub fn tell(&mut self, id: BrokerId, newest: bool) -> bool {
        let said = self.controller.said.len();
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        if node.replica.is_none() || node.heard >= said {
            return false;
        }
        node.heard = if newest { said } else { node.heard + 1 };
        let assignment = self.controller.said[node.heard - 1].clone();
        self.step(id, Event::MetadataChanged(assignment));
        true
    }

    /// Tells a node once more what it knows, or what it knew before.
    pub fn tell_again(&mut self, id: BrokerId, back: usize) {
        let node = &self.nodes[&id];
        let word = node.heard.saturating_sub(1 + back);
        if node.replica.is_some() && word >= node.registered {
            self.recall(id, word);
        }
    }

    /// A gateway wants records deleted. Its answers are only traced.
    pub fn trim(&mut self, id: BrokerId, request: u64, to: Option<Offset>, timeout_ms: u64) {
        let deadline = self.now.tick.plus_ms(timeout_ms);
        self.step(id, Event::TrimRequested { request: RequestKey(request), deadline, to });
    }

    /// A coordinator is about to read.
    pub fn confirm(&mut self, id: BrokerId, timeout_ms: u64) {
        self.last_request += 1;
        let request = RequestKey(self.last_request);
        self.confirmations.insert(request, (id, self.oracle.committed_end()));
        let deadline = self.now.tick.plus_ms(timeout_ms);
        self.step(id, Event::ConfirmationRequested { request, deadline });
    }

    /// Retention has moved the empty log of a node on.
    pub fn begin(&mut self, id: BrokerId, at: Offset) {
        let settings = self.settings;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.disk.log_start = at;
        node.boot(settings);
    }

    /// An owner breaks its promise: it passes on a word from before this life's registration.
    pub fn recall(&mut self, id: BrokerId, word: usize) {
        let assignment = self.controller.said[word].clone();
        self.step(id, Event::MetadataChanged(assignment));
    }

    pub fn connect(&mut self, follower: BrokerId, leader: BrokerId) {
        if self.replica(follower).is_none() || self.replica(leader).is_none() || follower == leader {
            return;
        }
        self.last_stream += 1;
        let broker_epoch = self.nodes[&follower].broker_epoch;
        let stream = Stream { id: self.last_stream, open: true, broker_epoch };
        if self.streams.insert((follower, leader), stream).is_some() {
            self.step(leader, Event::FollowerLost { follower });
        }
        if self.follows(follower, leader) {
            self.step(follower, Event::LeaderReachable);
        }
    }

    /// The stream ends; each side may notice now, or only when the next one comes.
    pub fn disconnect(&mut self, follower: BrokerId, leader: BrokerId, follower_notices: bool, leader_notices: bool) {
        let Some(stream) = self.streams.get_mut(&(follower, leader)) else { return };
        stream.open = false;
        if leader_notices {
            self.step(leader, Event::FollowerLost { follower });
        }
        if follower_notices && self.follows(follower, leader) {
            self.step(follower, Event::LeaderLost);
        }
    }

    /// Letters that may be delivered next: the first of each direction of each stream.
    pub fn deliverable(&self) -> Vec<usize> {
        let mut seen = std::collections::BTreeSet::new();
        let first = |(index, letter): (usize, &Letter)| seen.insert((letter.stream, letter.from)).then_some(index);
        self.letters.iter().enumerate().filter_map(first).collect()
    }

    pub fn is_late(&self, letter: &Letter) -> bool {
        let streams = [(letter.from, letter.to), (letter.to, letter.from)];
        let of = |pair| self.streams.get(&pair).is_some_and(|stream| stream.open && stream.id == letter.stream);
        !streams.into_iter().any(of)
    }

    pub fn deliver(&mut self, index: usize) {
        let letter = self.letters.remove(index);
        if self.nodes[&letter.to].life != letter.to_life {
            return;
        }
        match letter.message {
            Message::ToLeader(broker_epoch, message) => {
                self.step(letter.to, Event::FollowerSaid { follower: letter.from, broker_epoch, message });
            }
            // The owner drops what a node says that is not our leader.
            Message::ToFollower(message) if self.follows(letter.to, letter.from) => {
                self.step(letter.to, Event::LeaderSaid(message));
            }
            Message::ToFollower(_) => {}
        }
    }

    pub fn lose(&mut self, index: usize) {
        self.letters.remove(index);
    }

    pub fn finish_disk_job(&mut self, id: BrokerId) -> bool {
        let Some(event) = self.nodes.get_mut(&id).and_then(|node| node.disk.finish_one()) else { return false };
        self.step(id, event);
        true
    }

    pub fn append(&mut self, id: BrokerId, leader_epoch: LeaderEpoch, acks: Acks, spec: Spec, timeout_ms: u64) {
        self.last_request += 1;
        let key = RequestKey(self.last_request);
        let request = Request { key, node: id, acks, spec };
        let batch = batch::produced(spec);
        self.oracle.attempted(spec, batch.header().crc);
        self.requests.insert(key, request);
        let deadline = self.now.tick.plus_ms(timeout_ms);
        self.step(id, Event::AppendRequested { request: key, acks, deadline, leader_epoch, batch, has_space: true });
    }

    pub fn limit(&mut self, message_bytes_max: usize) {
        self.settings.message_bytes_max = message_bytes_max;
        self.ids().into_iter().for_each(|id| self.step(id, Event::SettingsChanged(self.settings)));
    }

    /// Time passes; every node whose deadline has come is told, once.
    pub fn advance(&mut self, ms: u64) {
        self.now.tick = self.now.tick.plus_ms(ms);
        self.now.wall = Timestamp(self.now.wall.0 + ms as i64);
        for id in self.ids() {
            let due = self.replica(id).and_then(Replica::next_deadline);
            if due.is_some_and(|due| due <= self.now.tick) {
                self.step(id, Event::Ticked);
                let due = self.replica(id).and_then(Replica::next_deadline);
                assert!(due.is_none_or(|due| due > self.now.tick), "{id}: a deadline does not move: {due:?}");
            }
        }
    }

    pub fn decide(&mut self, index: usize) -> (Proposal, Result<PartitionState, base_types::ErrorCode>) {
        let proposal = self.proposals.remove(index);
        let result = self.controller.decide(&proposal);
        self.oracle.check_cluster(&self.nodes, &self.controller);
        (proposal, result)
    }

    pub fn answer(&mut self, proposal: &Proposal, result: Result<PartitionState, Option<base_types::ErrorCode>>) {
        if self.nodes[&proposal.leader].life == proposal.life {
            self.step(proposal.leader, Event::IsrDecided(result));
        }
    }

    /// Power fails on one node. Of what was on its way to the disk, the first `surviving` jobs got there.
    pub fn crash(&mut self, id: BrokerId, surviving: usize) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Some(replica) = node.replica.take() {
            node.disk.high_watermark = replica.high_watermark();
        }
        node.disk.crash(surviving);
        node.disk.broken = false;
        node.life += 1;
        node.view.clone_from(&node.disk.log);
        for (&(follower, leader), stream) in &mut self.streams {
            stream.open &= follower != id && leader != id;
        }
        self.confirmations.retain(|_, (node, _)| *node != id);
        let unanswered: Vec<RequestKey> =
            self.requests.values().filter(|request| request.node == id).map(|request| request.key).collect();
        for key in unanswered {
            self.requests.remove(&key);
        }
    }

    /// It comes up again, registers, and hears only what the controller says from its registration on.
    pub fn restart(&mut self, id: BrokerId, wiped: bool) {
        let broker_epoch = self.controller.register(id);
        let heard = self.controller.said.len() - 1;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if wiped {
            self.oracle.disk_replaced(id, &node.disk.log);
            node.disk.wipe();
        }
        node.broker_epoch = broker_epoch;
        node.heard = heard;
        node.registered = heard;
        node.boot(self.settings);
        self.oracle.check_cluster(&self.nodes, &self.controller);
    }

    /// Delivers and finishes everything that is under way, without the passing of time.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let live = self.deliverable().into_iter().find(|&index| !self.is_late(&self.letters[index]));
            if let Some(index) = live {
                self.deliver(index);
            } else if !self.ids().into_iter().any(|id| self.finish_disk_job(id)) {
                return;
            }
        }
        panic!("nothing ever settles");
    }

    pub fn elect_uncleanly(&mut self, id: BrokerId) {
        self.controller.elect_uncleanly(id);
        self.oracle.elected_uncleanly(self.controller.state.leader_epoch);
    }

    // What follows from it.

    fn follows(&self, follower: BrokerId, leader: BrokerId) -> bool {
        self.replica(follower).is_some_and(|replica| replica.role() == Role::Follower { leader })
    }

    fn step(&mut self, id: BrokerId, event: Event) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Event::LogChanged { result: Ok(_), .. } = event {
            node.view.clone_from(&node.disk.log);
        }
        if let Event::TrimCompleted { .. } = event {
            let log_start = node.disk.log_start;
            node.view.retain(|batch| batch.header().next_offset() > log_start);
        }
        let Some(replica) = &mut node.replica else { return };
        let (role, high_watermark) = (replica.role(), replica.high_watermark());
        let mut effects = Effects::default();
        replica.step(self.now, event, &mut effects);
        let effects: Vec<Effect> = effects.drain().collect();
        effects.iter().for_each(|effect| self.trace(id, effect));
        // Replies are judged when the oracle knows what the step has committed.
        let (replies, others): (Vec<Effect>, Vec<Effect>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Reply { .. }));
        others.into_iter().for_each(|effect| self.perform(id, role, effect));
        self.oracle.check_step(&self.nodes[&id], self.settings, high_watermark);
        replies.into_iter().for_each(|effect| self.perform(id, role, effect));
        self.oracle.check_cluster(&self.nodes, &self.controller);
    }

    fn perform(&mut self, id: BrokerId, role: Role, effect: Effect) {
        let state = &self.controller.state;
        let is_current = self.replica(id).is_some_and(|replica| replica.leader_epoch() == state.leader_epoch);
        let counts = is_current || state.isr.contains(&id);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        match effect {
            Effect::Write { write, batch } => {
                node.saw_write(&batch);
                node.disk.jobs.push_back(Job::Write { write, batch });
            }
            Effect::Truncate { write, to } => {
                self.oracle.check_cut(role, counts, &node.view, to, None);
                node.disk.jobs.push_back(Job::Truncate { write, to });
            }
            Effect::StartOver { write, at } => {
                self.oracle.check_cut(role, counts, &node.view, Offset::ZERO, Some(at));
                node.disk.jobs.push_back(Job::StartOver { write, at });
            }
            Effect::Trim { write, to } => node.disk.jobs.push_back(Job::Trim { write, to }),
            Effect::Read { read, from, below, bytes_max, .. } => {
                node.disk.jobs.push_back(Job::Read { read, from, below, bytes_max });
            }
            Effect::ToFollower { follower, message } => {
                self.send((follower, id), id, follower, |_| Message::ToFollower(message));
            }
            Effect::ToLeader { leader, message } => {
                self.send((id, leader), id, leader, |broker_epoch| Message::ToLeader(broker_epoch, message));
            }
            Effect::ProposeIsr { leader_epoch, partition_epoch, isr } => {
                let life = node.life;
                self.proposals.push(Proposal { leader: id, life, leader_epoch, partition_epoch, isr });
            }
            Effect::Reply { request, result } => {
                let request = self.requests.remove(&request).expect("one reply to each request");
                self.oracle.check_reply(&request, &result, &self.nodes, self.settings);
                self.answers.push((request, result));
            }
            Effect::Confirmed { request, result } => {
                let (node, committed) = self.confirmations.remove(&request).expect("one answer to each confirmation");
                assert_eq!(node, id, "somebody else answers");
                self.oracle.check_confirmation(committed, &result);
            }
            Effect::HighWatermarkLowered { from, to, .. } => self.oracle.told_lost(id, from, to),
            Effect::HighWatermarkAdvanced | Effect::RoleChanged | Effect::Trimmed { .. } => {}
        }
    }

    fn send(
        &mut self,
        stream: (BrokerId, BrokerId),
        from: BrokerId,
        to: BrokerId,
        message: impl FnOnce(BrokerEpoch) -> Message,
    ) {
        let Some(stream) = self.streams.get(&stream).filter(|stream| stream.open) else { return };
        let to_life = self.nodes[&to].life;
        let message = message(stream.broker_epoch);
        self.letters.push(Letter { from, to, stream: stream.id, to_life, message });
    }

    // For people.

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    pub fn describe(&self, id: BrokerId) -> String {
        let node = &self.nodes[&id];
        let Some(replica) = &node.replica else { return format!("{id} is down, {} on disk", log(&node.disk.log)) };
        let role = match replica.role() {
            Role::Leader => format!("leads, isr {}", list(replica.isr().iter())),
            Role::Follower { leader } => format!("follows {leader}"),
            Role::Idle => "idle".to_owned(),
        };
        let (durable, high_watermark) = (replica.durable_end(), replica.high_watermark());
        format!("{id} e{} {role}; {}, durable {durable}, hw {high_watermark}", replica.leader_epoch(), log(&node.view))
    }

    fn trace(&mut self, id: BrokerId, effect: &Effect) {
        if self.trace.is_none() {
            return;
        }
        let line = match effect {
            Effect::Write { batch, .. } => format!("{id} writes {}", one(batch)),
            Effect::Truncate { to, .. } => format!("{id} truncates to {to}"),
            Effect::StartOver { at, .. } => format!("{id} starts over at {at}"),
            Effect::HighWatermarkLowered { from, to, last_epoch, unclean_since } => {
                format!(
                    "{id} lowers its high watermark from {from} to {to}: e{last_epoch}, unclean since e{unclean_since}"
                )
            }
            Effect::Trim { to, .. } => format!("{id} trims to {to}"),
            Effect::Trimmed { request, result } => match result {
                Ok(low) => format!("{id} answers trim {}: from {low}", request.0),
                Err(error) => format!("{id} answers trim {}: {error:?}", request.0),
            },
            Effect::Confirmed { result, .. } => match result {
                Ok(high_watermark) => format!("{id} is confirmed: all below {high_watermark}"),
                Err(error) => format!("{id} is not confirmed: {error:?}"),
            },
            Effect::Read { from, below, .. } => format!("{id} reads {from}..{below}"),
            Effect::ToFollower { follower, message } => format!("{id} -> {follower} {}", said_by_leader(message)),
            Effect::ToLeader { leader, message } => format!("{id} -> {leader} {}", said_by_follower(message)),
            Effect::ProposeIsr { partition_epoch, isr, .. } => {
                format!("{id} proposes isr {} at p{partition_epoch}", list(isr.iter().map(|(id, _)| id)))
            }
            Effect::Reply { request, result } => {
                let value = self.requests.get(request).map_or(0, |request| request.spec.value);
                match result {
                    Ok(appended) => format!("{id} answers v{value}: at {}", appended.base_offset),
                    Err(error) => format!("{id} answers v{value}: {error:?}"),
                }
            }
            Effect::HighWatermarkAdvanced => {
                format!("{id} high watermark {}", self.replica(id).map_or(Offset::UNKNOWN, Replica::high_watermark))
            }
            Effect::RoleChanged => self.describe(id),
        };
        self.note(|| line);
    }
}

impl Node {
    pub fn boot(&mut self, settings: Settings) {
        self.view.clone_from(&self.disk.log);
        self.replica = Some(Replica::new(self.id, TopicPartition::default(), settings, self.disk.on_disk()));
    }

    /// A write continues the log, or is asked for once more in the same place.
    fn saw_write(&mut self, batch: &StampedBatch) {
        let end = self.view.last().map_or(self.disk.log_start, |last| last.header().next_offset());
        if batch.header().base_offset == end {
            self.view.push(batch.clone());
        } else {
            assert!(self.view.contains(batch), "{}: {} is written in no place", self.id, one(batch));
        }
    }
}

fn one(batch: &StampedBatch) -> String {
    let header = batch.header();
    format!("{}..{} e{}", header.base_offset, header.next_offset(), header.leader_epoch)
}

/// Runs of one epoch: `log e1 0..3 e2 3..5`.
fn log(batches: &[StampedBatch]) -> String {
    let mut text = "log".to_owned();
    let epochs = disk::epochs_of(batches);
    let end = batches.last().map_or(Offset::ZERO, |batch| batch.header().next_offset());
    for (index, (epoch, start)) in epochs.iter().enumerate() {
        let next = epochs.get(index + 1).map_or(end, |&(_, start)| start);
        let _ = write!(text, " e{epoch} {start}..{next}");
    }
    if epochs.is_empty() { "log empty".to_owned() } else { text }
}

fn list<'a>(ids: impl Iterator<Item = &'a BrokerId>) -> String {
    ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
}

fn said_by_leader(message: &FromLeader) -> String {
    match message {
        FromLeader::Push { batches, high_watermark, .. } => {
            let batches: Vec<String> = batches.iter().map(one).collect();
            format!("push {} hw {high_watermark}", batches.join(", "))
        }
        FromLeader::Diverged { epoch, end_offset, .. } => format!("diverged: e{epoch} ends at {end_offset}"),
        FromLeader::StartOver { log_start, .. } => format!("start over at {log_start}"),
        FromLeader::Advanced { high_watermark, log_start, .. } if *log_start > Offset::ZERO => {
            format!("advanced hw {high_watermark} from {log_start}")
        }
        FromLeader::Advanced { high_watermark, .. } => format!("advanced hw {high_watermark}"),
        FromLeader::Confirm { round, .. } => format!("confirm {round}"),
        FromLeader::Refused { leader_epoch, code, .. } => format!("refused e{leader_epoch} {code}"),
    }
}

fn said_by_follower(message: &FromFollower) -> String {
    match message {
        FromFollower::Follow { leader_epoch, log_end, last_epoch, .. } => {
            format!("follow e{leader_epoch} from {log_end} after e{last_epoch}")
        }
        FromFollower::Durable { log_start, log_end, .. } if *log_start > Offset::ZERO => {
            format!("durable {log_start}..{log_end}")
        }
        FromFollower::Durable { log_end, .. } => format!("durable {log_end}"),
        FromFollower::Confirmed { round, .. } => format!("confirmed {round}"),
    }
}
