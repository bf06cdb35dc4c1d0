//! The state of everything, and what may happen to it. Nothing moves unless it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use base_types::{BrokerEpoch, BrokerId, LeaderEpoch, Now, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};
use controller_core::decisions;
use peer_api::controller::{
    AlterPartition, ConfigChange, ConfigChanges, ConfigOperation, IsrChange, Reassign, ReassignedTopic, RegisterBroker,
    Response,
};
use peer_api::metadata::{ConfigResource, Image, Record};
use peer_api::replication::{FromFollower, FromLeader};
use peer_api::storage::{Acks, AppendError, Appended};
use replica_core::{Assignment, Event, Replica, RequestKey, Role};

use crate::judge::Judge;
use crate::metadata::{Answer, Metadata, incarnation, is_active, life_of};
use crate::node::{DURABILITY, MIN_ISR, Node, Slot, is_page_cache, min_isr};
use crate::value::Value;

#[derive(Clone)]
pub struct World {
    /// After how long a follower that has not caught up leaves the ISR.
    pub lag_ms: u64,
    pub metadata: Metadata,
    /// Shared by the states that a search has made of one another, until one of them changes a node.
    pub nodes: BTreeMap<BrokerId, Arc<Node>>,
    /// From follower to leader.
    pub streams: BTreeMap<(BrokerId, BrokerId), Stream>,
    /// In order, by sender, receiver and stream.
    pub letters: BTreeMap<(BrokerId, BrokerId, u64), VecDeque<Message>>,
    /// On their way to the controller.
    pub proposals: Vec<Proposal>,
    /// And its answers on their way back, each behind everything that was committed before it: they share a stream.
    pub answers: Vec<(usize, Answer)>,
    pub requests: BTreeMap<RequestKey, Request>,
    /// What clients are to hear.
    pub replies: Vec<(Request, Result<Appended, AppendError>)>,
    /// Confirmations that were asked for: of whom, of what, and what was committed by then.
    pub confirmations: BTreeMap<RequestKey, (BrokerId, TopicPartition, Offset)>,
    pub judge: Judge,
    /// What happened, for people. `None`: nobody reads it.
    pub trace: Option<Vec<String>>,
    pub last_stream: u64,
    last_request: u64,
}

/// Numbered anew with each connection.
#[derive(Clone, Copy, Hash, Debug)]
pub struct Stream {
    pub id: u64,
    pub open: bool,
    pub broker_epoch: BrokerEpoch,
}

#[derive(Clone, Hash, Debug)]
pub enum Message {
    ToLeader(BrokerEpoch, FromFollower),
    ToFollower(FromLeader),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Proposal {
    pub leader: BrokerId,
    pub life: u64,
    pub broker_epoch: BrokerEpoch,
    pub partition: TopicPartition,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: base_types::PartitionEpoch,
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
}

#[derive(Clone, Copy, Hash, Debug)]
pub struct Request {
    pub key: RequestKey,
    pub node: BrokerId,
    pub acks: Acks,
    pub value: Value,
}

impl World {
    pub fn new(nodes: i32, lag_ms: u64) -> World {
        let metadata = Metadata::new();
        let node = |id: i32| (BrokerId(id), Arc::new(Node::new(BrokerId(id), metadata.committed().clone())));
        World {
            lag_ms,
            nodes: (1..=nodes).map(node).collect(),
            metadata,
            streams: BTreeMap::new(),
            letters: BTreeMap::new(),
            proposals: Vec::new(),
            answers: Vec::new(),
            requests: BTreeMap::new(),
            replies: Vec::new(),
            confirmations: BTreeMap::new(),
            judge: Judge::default(),
            trace: None,
            last_stream: 0,
            last_request: 0,
        }
    }

    pub fn now(&self, id: BrokerId) -> Now {
        let tick = self.nodes[&id].clock;
        Now { tick, wall: Timestamp(tick.0 as i64) }
    }

    pub fn ids(&self) -> Vec<BrokerId> {
        self.nodes.keys().copied().collect()
    }

    pub fn node(&mut self, id: BrokerId) -> &mut Node {
        Arc::make_mut(self.nodes.get_mut(&id).expect("nodes stay"))
    }

    pub fn slot(&mut self, id: BrokerId, partition: TopicPartition) -> Option<&mut Slot> {
        self.node(id).slots.get_mut(&partition).map(Box::as_mut)
    }

    pub fn replica(&self, id: BrokerId, partition: TopicPartition) -> Option<&Replica> {
        self.nodes[&id].replica(partition)
    }

    // The controller's side.

    /// A command is proposed. What it leads to is judged before it is committed: nobody may act on a wrong one.
    fn propose(&mut self, records: &[Record], answer: Option<Answer>) {
        let before = self.metadata.pending().clone();
        let at_once = self.metadata.propose(records, answer);
        self.answers.extend(at_once);
        if self.trace.is_some() {
            records.iter().for_each(|record| self.tell_people_of(record));
        }
        if !records.is_empty() {
            self.judge.check_decision(&before, self.metadata.pending());
            self.judge.check_world(&self.nodes, &self.metadata);
        }
    }

    pub fn commit_one(&mut self) {
        let answers = self.metadata.commit_one();
        self.answers.extend(answers);
        self.judge.check_world(&self.nodes, &self.metadata);
    }

    pub fn fail_over(&mut self) {
        self.metadata.fail_over();
        self.judge.check_world(&self.nodes, &self.metadata);
    }

    /// Replicas are named in order of preference.
    pub fn create_topic(&mut self, number: u8, min_isr: usize, page_cache: bool, partitions: &[Vec<BrokerId>]) {
        let (id, name) = (TopicId([number; 16]), format!("topic-{number}"));
        let mut records = vec![Record::TopicCreated { id, name: name.clone() }];
        let mut set = |config: &str, value: String| {
            let resource = ConfigResource::Topic(name.clone());
            records.push(Record::ConfigChanged { resource, name: config.to_owned(), value: Some(value) });
        };
        set(MIN_ISR, min_isr.to_string());
        if page_cache {
            set(DURABILITY, "page-cache".to_owned());
        }
        for (index, replicas) in partitions.iter().enumerate() {
            let partition = TopicPartition { topic: id, partition: PartitionIndex(index as i32) };
            let Some(state) = decisions::new_partition(self.metadata.pending(), replicas.clone()) else { return };
            // Whoever has lost its disks and has not said so is counted in sync at first. Alone it would never lead again; and where such
            // nodes are as many as the minimum, a sound one that is fenced leaves without being eligible, and nobody would ever lead.
            let is_lost = |member: &&BrokerId| !self.nodes[*member].is_trusted_in(self.metadata.pending());
            if state.isr.iter().filter(is_lost).count() >= min_isr.min(state.isr.len()) {
                return;
            }
            records.push(Record::PartitionChanged { partition, state });
        }
        self.propose(&records, None);
    }

    pub fn delete_topic(&mut self, id: TopicId) {
        if self.metadata.pending().topic(id).is_some() {
            self.propose(&[Record::TopicRemoved { id }], None);
        }
    }

    /// A running node says who it is and what its directory holds.
    pub fn register(&mut self, id: BrokerId) {
        let node = &self.nodes[&id];
        let life = node.life;
        if life_of(self.metadata.pending(), id) == Some(life) {
            // The answer was lost.
            let epoch = self.metadata.pending().broker(id).expect("it is registered").epoch;
            return self.propose(&[], Some(Answer::Registered { broker: id, life, epoch }));
        }
        let request = RegisterBroker {
            broker: id,
            cluster_id: None,
            incarnation: incarnation(life),
            rack: None,
            peer_address: String::new(),
            host: String::new(),
            clean_since: node.stopped_cleanly,
            intact_since: node.directory,
        };
        let epoch = self.metadata.next_broker_epoch();
        let records = decisions::registration(self.metadata.pending(), &request, epoch);
        self.propose(&records, Some(Answer::Registered { broker: id, life, epoch }));
    }

    /// The node is not heard of for too long, whether it lives or not.
    pub fn fence(&mut self, id: BrokerId) {
        let pending = self.metadata.pending();
        if pending.broker(id).is_some_and(|broker| broker.state != peer_api::metadata::BrokerState::Fenced) {
            let records = decisions::fencing(pending, id);
            self.propose(&records, None);
        }
    }

    /// Unfences it, once it has seen its own registration.
    pub fn heartbeat(&mut self, id: BrokerId) {
        let (node, pending) = (&self.nodes[&id], self.metadata.pending());
        let Some(epoch) = node.broker_epoch.filter(|_| node.knows_this_life()) else { return };
        let is_fenced = pending
            .broker(id)
            .is_some_and(|broker| broker.epoch == epoch && broker.state == peer_api::metadata::BrokerState::Fenced);
        if is_fenced {
            let records = decisions::unfencing(pending, id, epoch);
            self.propose(&records, None);
        }
    }

    /// It asks to stop, or stops, once it leads nothing any more.
    pub fn shut_down(&mut self, id: BrokerId) {
        let (node, pending) = (&self.nodes[&id], self.metadata.pending());
        let Some(epoch) = node.broker_epoch.filter(|_| node.acts()) else { return };
        if pending.broker(id).is_none_or(|broker| broker.epoch != epoch) {
            return;
        }
        if is_active(pending, id) {
            let records = decisions::shutting_down(pending, id);
            self.node(id).stopping = true;
            self.propose(&records, None);
        } else if node.stopping && !leads_any(self.metadata.committed(), id) {
            self.note(|| format!("{id} stops cleanly"));
            self.crash(id, usize::MAX, usize::MAX);
            self.node(id).stopped_cleanly = Some(epoch);
        }
    }

    pub fn elect_preferred(&mut self) {
        let records = decisions::preferred_elections(self.metadata.pending());
        self.propose(&records, None);
    }

    /// `None`: back to where the replicas were before the move that is under way.
    pub fn reassign(&mut self, partition: TopicPartition, target: Option<Vec<BrokerId>>) {
        let pending = self.metadata.pending();
        let Some(topic) = pending.topic(partition.topic) else { return };
        let topics =
            vec![ReassignedTopic { name: topic.name.clone(), partitions: vec![(partition.partition.0, target)] }];
        let decision = decisions::reassign(pending, Reassign { topics, allow_replication_factor_change: true });
        self.propose(&decision.records, None);
    }

    pub fn set_min_isr(&mut self, topic: TopicId, min_isr: usize) {
        let pending = self.metadata.pending();
        let Some(topic) = pending.topic(topic) else { return };
        let change = ConfigChange {
            name: MIN_ISR.to_owned(),
            operation: ConfigOperation::Set,
            value: Some(min_isr.to_string()),
        };
        let resource = ConfigResource::Topic(topic.name.clone());
        let changes = ConfigChanges { resource, replace_all: false, changes: vec![change] };
        if let Ok(decision) = decisions::alter_configs(pending, vec![changes], false) {
            self.propose(&decision.records, None);
        }
    }

    /// A proposal arrives, maybe late, maybe not for the first time.
    pub fn decide(&mut self, proposal: &Proposal) {
        let Proposal { leader, life, broker_epoch, partition, leader_epoch, partition_epoch, .. } = *proposal;
        let change = IsrChange { partition, leader_epoch, partition_epoch, isr: proposal.isr.clone() };
        let request = AlterPartition { broker: leader, broker_epoch, changes: vec![change] };
        let pending = self.metadata.pending().clone();
        let Ok(decision) = decisions::alter_partition(&pending, &request) else { return };
        let Response::PartitionsAltered(mut results) = decision.response else { return };
        let Some((_, result)) = results.pop() else { return };
        self.note(|| format!("controller: {leader} proposes {:?} for {partition}: {result:?}", proposal.isr));
        if result.is_ok() {
            self.judge.check_isr_change(&pending, proposal);
        }
        self.propose(&decision.records, Some(Answer::IsrDecided { leader, life, partition, result }));
    }

    pub fn answer(&mut self, (position, answer): (usize, Answer)) {
        let (Answer::Registered { broker: id, life, .. } | Answer::IsrDecided { leader: id, life, .. }) = answer;
        let node = &self.nodes[&id];
        if node.up && node.life == life && node.heard < position {
            self.tell(id, position);
        }
        match answer {
            Answer::Registered { broker, life, epoch } => {
                if self.nodes[&broker].up && self.nodes[&broker].life == life {
                    let node = self.node(broker);
                    node.broker_epoch = Some(epoch);
                    node.directory = Some(epoch);
                    node.stopped_cleanly = None;
                }
            }
            Answer::IsrDecided { leader, life, partition, result } => {
                if self.nodes[&leader].up && self.nodes[&leader].life == life {
                    self.step(leader, partition, Event::IsrDecided(result.map_err(Some)));
                }
            }
        }
    }

    // The nodes' side.

    /// Tells a node what was committed up to `position`.
    pub fn tell(&mut self, id: BrokerId, position: usize) {
        let view = self.metadata.at(position).clone();
        let lag_ms = self.lag_ms;
        let node = self.node(id);
        (node.view, node.heard) = (view, position);
        let heard = self.nodes.values().map(|node| node.heard).min().unwrap_or(position);
        self.metadata.forget_before(heard);
        if !self.nodes[&id].knows_this_life() {
            return;
        }
        let view = self.nodes[&id].view.clone();
        let ours = view.partitions().filter(|(_, state)| state.replicas.contains(&id)).map(|(partition, _)| partition);
        let ours: Vec<TopicPartition> = ours.collect();
        let strangers: Vec<_> = self.nodes[&id].slots.keys().filter(|slot| !ours.contains(slot)).copied().collect();
        for partition in strangers {
            self.release(id, partition);
        }
        for partition in ours {
            let settings = self.nodes[&id].settings(partition, lag_ms);
            let known = self.replica(id, partition).map(|replica| *replica.settings());
            match known {
                None => self.open(id, partition),
                Some(known) if known.min_insync_replicas < settings.min_insync_replicas => {
                    self.step(id, partition, Event::SettingsChanged(settings));
                }
                Some(_) => {}
            }
            if let Some(assignment) = Assignment::in_image(&self.nodes[&id].view, partition) {
                self.step(id, partition, Event::MetadataChanged(assignment));
            }
            if self.replica(id, partition).is_some_and(|replica| *replica.settings() != settings) {
                self.step(id, partition, Event::SettingsChanged(settings));
            }
        }
    }

    fn open(&mut self, id: BrokerId, partition: TopicPartition) {
        let settings = self.nodes[&id].settings(partition, self.lag_ms);
        let page_cache = is_page_cache(&self.nodes[&id].view, partition);
        let node = self.node(id);
        let former = node.former.get(&partition).copied().unwrap_or(node.first_names);
        let slot = node.slots.entry(partition).or_default();
        slot.disk.page_cache = page_cache;
        slot.boot(id, partition, settings, former);
    }

    /// The replica is given away, or its topic is gone, and its data go.
    fn release(&mut self, id: BrokerId, partition: TopicPartition) {
        self.note(|| format!("{id} deletes {partition}"));
        if let Some(replica) = self.replica(id, partition) {
            let (names, assignment) = (replica.names(), Assignment::of_nobody(replica));
            self.step(id, partition, Event::MetadataChanged(assignment));
            self.node(id).former.insert(partition, names);
        }
        if let Some(slot) = self.node(id).slots.remove(&partition) {
            self.judge.disk_gone(id, partition, &slot.disk);
        }
        self.confirmations.retain(|_, (node, of, _)| (*node, *of) != (id, partition));
    }

    pub fn connect(&mut self, follower: BrokerId, leader: BrokerId) {
        let (from, to) = (&self.nodes[&follower], &self.nodes[&leader]);
        let Some(broker_epoch) = from.broker_epoch.filter(|_| from.acts() && to.acts() && follower != leader) else {
            return;
        };
        self.last_stream += 1;
        let stream = Stream { id: self.last_stream, open: true, broker_epoch };
        self.note(|| format!("{follower} connects to {leader}: stream {}", stream.id));
        if self.streams.insert((follower, leader), stream).is_some() {
            self.follower_lost(follower, leader);
        }
        for partition in self.partitions_of(follower) {
            if self.nodes[&follower].follows(partition, leader) {
                self.step(follower, partition, Event::LeaderReachable);
            }
        }
    }

    /// The stream ends; each side may notice now, or only when the next one comes.
    pub fn disconnect(&mut self, follower: BrokerId, leader: BrokerId, follower_notices: bool, leader_notices: bool) {
        let Some(stream) = self.streams.get_mut(&(follower, leader)) else { return };
        stream.open = false;
        let id = stream.id;
        self.note(|| format!("stream {id} of {follower} to {leader} ends"));
        if leader_notices {
            self.follower_lost(follower, leader);
        }
        for partition in if follower_notices { self.partitions_of(follower) } else { Vec::new() } {
            if self.nodes[&follower].follows(partition, leader) {
                self.step(follower, partition, Event::LeaderLost);
            }
        }
    }

    fn follower_lost(&mut self, follower: BrokerId, leader: BrokerId) {
        for partition in self.partitions_of(leader) {
            self.step(leader, partition, Event::FollowerLost { follower });
        }
    }

    pub fn is_late(&self, (from, to, stream): (BrokerId, BrokerId, u64)) -> bool {
        let is = |pair| self.streams.get(&pair).is_some_and(|known| known.open && known.id == stream);
        !is((from, to)) && !is((to, from))
    }

    /// The next letter of that queue arrives, or is lost.
    pub fn deliver(&mut self, queue: (BrokerId, BrokerId, u64), lost: bool) {
        let Some(letters) = self.letters.get_mut(&queue) else { return };
        let Some(message) = letters.pop_front() else { return };
        if letters.is_empty() {
            self.letters.remove(&queue);
        }
        if lost {
            return;
        }
        let (from, to, _) = queue;
        match message {
            Message::ToLeader(broker_epoch, message) => {
                let partition = message.partition();
                self.step(to, partition, Event::FollowerSaid { follower: from, broker_epoch, message });
            }
            Message::ToFollower(message) => {
                let partition = message.partition();
                // The owner drops what a node says that is not our leader.
                if self.nodes[&to].follows(partition, from) {
                    self.step(to, partition, Event::LeaderSaid(message));
                }
            }
        }
    }

    pub fn finish_disk_job(&mut self, id: BrokerId, partition: TopicPartition) -> bool {
        let Some(slot) = self.nodes[&id].slots.get(&partition) else { return false };
        if slot.disk.jobs.is_empty() {
            return false;
        }
        let event = self.slot(id, partition).and_then(|slot| slot.disk.finish_one());
        event.into_iter().for_each(|event| self.step(id, partition, event));
        true
    }

    pub fn append(&mut self, id: BrokerId, leader_epoch: LeaderEpoch, acks: Acks, value: Value, timeout_ms: u64) {
        self.last_request += 1;
        let key = RequestKey(self.last_request);
        let batch = value.batch();
        self.judge.attempted(value, batch.header().crc);
        if self.replica(id, value.partition).is_none() {
            return; // Nobody is there, and the client does not know what became of it.
        }
        self.requests.insert(key, Request { key, node: id, acks, value });
        let deadline = self.nodes[&id].clock.plus_ms(timeout_ms);
        let event = Event::AppendRequested { request: key, acks, deadline, leader_epoch, batch, has_space: true };
        self.step(id, value.partition, event);
    }

    /// A coordinator is about to read.
    pub fn confirm(&mut self, id: BrokerId, partition: TopicPartition, timeout_ms: u64) {
        if self.replica(id, partition).is_none() {
            return;
        }
        self.last_request += 1;
        let request = RequestKey(self.last_request);
        self.confirmations.insert(request, (id, partition, self.judge.committed_end(partition)));
        let deadline = self.nodes[&id].clock.plus_ms(timeout_ms);
        self.step(id, partition, Event::ConfirmationRequested { request, deadline });
    }

    /// A client wants records deleted.
    pub fn trim(&mut self, id: BrokerId, partition: TopicPartition, to: Option<Offset>) {
        self.last_request += 1;
        let (request, deadline) = (RequestKey(self.last_request), self.nodes[&id].clock.plus_ms(1_000));
        self.step(id, partition, Event::TrimRequested { request, deadline, to });
    }

    /// Time passes; every replica whose deadline has come is told, once.
    pub fn advance(&mut self, ms: u64) {
        for id in self.ids() {
            let node = self.node(id);
            node.clock = node.clock.plus_ms(ms);
            if self.nodes[&id].acts() {
                self.tick(id);
            }
        }
    }

    pub fn tick(&mut self, id: BrokerId) {
        for partition in self.partitions_of(id) {
            let due = |world: &World| world.replica(id, partition).and_then(Replica::next_deadline);
            if due(self).is_some_and(|due| due <= self.nodes[&id].clock) {
                self.step(id, partition, Event::Ticked);
                let next = due(self);
                assert!(
                    next.is_none_or(|next| next > self.nodes[&id].clock),
                    "{id}: a deadline does not move: {next:?}"
                );
            }
        }
    }

    /// Power fails on one node. Of what was on its way to each disk, the first `surviving` jobs got there; where the page cache is
    /// trusted, all but the first `kept` batches may go.
    pub fn crash(&mut self, id: BrokerId, surviving: usize, kept: usize) {
        self.note(|| format!("{id} goes down"));
        let judge = &mut self.judge;
        let node = Arc::make_mut(self.nodes.get_mut(&id).expect("nodes stay"));
        (node.up, node.paused, node.stopping, node.broker_epoch) = (false, false, false, None);
        node.former.clear();
        let life = node.life;
        if kept < usize::MAX {
            node.doubted_in = Some(life);
        }
        for (&partition, slot) in &mut node.slots {
            if let Some(replica) = slot.replica.take() {
                slot.disk.high_watermark = replica.high_watermark();
            }
            let surviving = surviving.min(slot.disk.jobs.len());
            let before = slot.disk.clone();
            let lost = slot.disk.crash(surviving, kept);
            // Where the page cache is trusted, the controller cannot know that nothing was lost.
            if lost || (slot.disk.page_cache && kept < usize::MAX) {
                node.lost_in = Some(life);
                judge.disk_gone(id, partition, &before);
            }
            slot.log.clone_from(&slot.disk.log);
        }
        for (&(follower, leader), stream) in &mut self.streams {
            stream.open &= follower != id && leader != id;
        }
        self.letters.retain(|&(_, to, _), _| to != id);
        self.confirmations.retain(|_, (node, _, _)| *node != id);
        self.requests.retain(|_, request| request.node != id);
    }

    /// Its disks are replaced by empty ones.
    pub fn wipe(&mut self, id: BrokerId) {
        self.note(|| format!("{id} gets new disks"));
        let Node { slots, lost_in, directory, stopped_cleanly, life, .. } = self.node(id);
        (*directory, *stopped_cleanly) = (None, None);
        let slots = std::mem::take(slots);
        *lost_in = Some(*life);
        for (partition, slot) in slots {
            self.judge.disk_gone(id, partition, &slot.disk);
        }
    }

    /// It comes up again, with what is on its disks, and has yet to register.
    pub fn start(&mut self, id: BrokerId) {
        self.note(|| format!("{id} comes up"));
        // Where it asks from, whoever answers says all that is committed.
        let (view, heard) = (self.metadata.committed().clone(), self.metadata.committed_at());
        let lag_ms = self.lag_ms;
        let node = self.node(id);
        node.life += 1;
        (node.up, node.view, node.heard) = (true, view, heard);
        let settings: BTreeMap<_, _> =
            node.slots.keys().map(|&partition| (partition, node.settings(partition, lag_ms))).collect();
        for (partition, slot) in &mut node.slots {
            slot.boot(id, *partition, settings[partition], node.first_names);
        }
        let heard = self.nodes.values().map(|node| node.heard).min().unwrap_or(heard);
        self.metadata.forget_before(heard);
    }

    pub fn partitions_of(&self, id: BrokerId) -> Vec<TopicPartition> {
        self.nodes[&id].slots.keys().copied().collect()
    }

    /// Whether a node may lose what it has: with `min.insync.replicas` of two, one of them at a time may (KIP-966), if somebody else
    /// who may be elected has everything.
    pub fn may_lose(&self, id: BrokerId) -> bool {
        let images = [self.metadata.committed(), self.metadata.pending()];
        let others = || self.nodes.values().filter(|node| node.id != id);
        images.into_iter().all(|image| {
            let ours = image.partitions().filter(|(_, state)| state.replicas.contains(&id));
            ours.into_iter().all(|(partition, state)| {
                let has_two = min_isr(image, partition).min(state.replicas.len()) >= 2;
                let one_at_a_time = others().all(|node| node.is_trusted_in(self.metadata.committed()));
                let mut members = state.isr.iter().chain(&state.elr).filter(|&&member| member != id);
                let holds = |member| self.judge.holds(image, &self.nodes[member], partition);
                has_two && one_at_a_time && members.any(holds)
            })
        })
    }

    /// The node that the controller has elected and that knows it.
    pub fn acting_leader(&self, partition: TopicPartition) -> Option<BrokerId> {
        let state = self.metadata.committed().partition(partition)?;
        let replica = self.replica(state.leader?, partition)?;
        let acts = replica.role() == Role::Leader && replica.leader_epoch() == state.leader_epoch;
        state.leader.filter(|_| acts)
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }
}

fn leads_any(image: &Image, id: BrokerId) -> bool {
    image.partitions().any(|(_, state)| state.leader == Some(id))
}
