//! The controller as a whole: which event goes where, and when what is decided becomes known.

mod brokers;
mod configs;
mod damage;
mod elections;
mod features;
mod gateways;
mod isr;
mod leases;
mod proposals;
mod reassignments;
mod sessions;
mod topics;

use std::collections::{BTreeMap, VecDeque};

use base_types::{BrokerId, ErrorCode, Now, Random, Tick, invariant};
use peer_api::config::{Lookup, topic_config};
use peer_api::controller::{
    ActiveController, Error, FromController, QuorumInfo, QuorumVoter, Refusal, Request, Response,
};
use peer_api::metadata::{BrokerState, ConfigResource, Image, MetadataOffset, PartitionState, Record};
use peer_api::storage::RequestId;
use raft_core::{Committed, Consensus, PeerProgress, ReadId, RecoverError, Role, Stored};

use crate::config::Config;
use crate::effect::{Effect, Effects};
use crate::event::{Event, SessionId};
use crate::partition_change::{self, Change, Circumstances};
use crate::records;

pub use brokers::{fencing, preferred_elections, registration, shutting_down, unfencing};
pub use configs::alter_configs;
use damage::Condition;
pub use elections::elect_leaders;
use gateways::Absence;
pub use isr::alter_partition;
use leases::Lease;
use proposals::InFlight;
pub use reassignments::reassign;
use sessions::Session;
pub use topics::new_partition;

/// One metadata controller. See the crate's head for the picture.
#[derive(Debug)]
pub struct Controller {
    config: Config,
    consensus: Consensus,
    raft_effects: raft_core::Effects,
    role: Role,
    /// Leads, and has applied everything its predecessors committed. Only then does it decide anything.
    active: bool,
    /// Every committed entry folded in.
    committed: Image,
    /// On the active controller: every proposed entry folded in.
    pending: Image,
    /// Proposed, not yet committed, by index.
    in_flight: BTreeMap<u64, InFlight>,
    /// Calls without an answer, with their deadlines.
    open_calls: BTreeMap<(SessionId, RequestId), Tick>,
    /// Decided by entries committed in this step; they leave after the updates.
    late_answers: Vec<(SessionId, RequestId, Response)>,
    reads: BTreeMap<ReadId, Read>,
    reads_made: u64,
    sessions: BTreeMap<SessionId, Session>,
    brokers: BTreeMap<BrokerId, Lease>,
    /// What the storage nodes have said of their replicas in this term.
    conditions: BTreeMap<BrokerId, Condition>,
    gateways: BTreeMap<BrokerId, Lease>,
    /// Gateways removed lately.
    absences: BTreeMap<BrokerId, Absence>,
    /// The newest committed entries that held records, for followers a little behind.
    recent: VecDeque<(u64, Vec<Record>)>,
    /// Every entry after this one is in `recent`.
    recent_from: u64,
    ticked_at: Tick,
    rebalance_at: Tick,
    random: Random,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    session: SessionId,
    id: RequestId,
    ready_at: Option<u64>,
}

/// A pause between ticks longer than this is our own, not the nodes'.
const PAUSE_MS: u64 = 500;
/// Producer ids in one block (KIP-730).
const PRODUCER_IDS: i64 = 1000;
/// Leaderships moved back at a time.
const REBALANCE_MAX: usize = 1000;

impl Controller {
    /// Goes on from what the store holds; empty for a new node. A sole voter is active once its first writes are durable.
    pub fn recover(
        config: Config,
        stored: Stored,
        now: Now,
        mut random: Random,
        effects: &mut Effects,
    ) -> Result<Controller, RecoverError> {
        let mut raft_effects = raft_core::Effects::default();
        let consensus_random = random.fork(1);
        let consensus = Consensus::recover(config.consensus(), stored, now.tick, consensus_random, &mut raft_effects)?;
        let mut controller = Controller {
            role: Role { term: 0, leader: None, is_leader: false },
            consensus,
            raft_effects,
            active: false,
            committed: Image::default(),
            pending: Image::default(),
            in_flight: BTreeMap::new(),
            open_calls: BTreeMap::new(),
            late_answers: Vec::new(),
            reads: BTreeMap::new(),
            reads_made: 0,
            sessions: BTreeMap::new(),
            brokers: BTreeMap::new(),
            conditions: BTreeMap::new(),
            gateways: BTreeMap::new(),
            absences: BTreeMap::new(),
            recent: VecDeque::new(),
            recent_from: 0,
            ticked_at: now.tick,
            rebalance_at: now.tick.plus_ms(config.rebalance_ms),
            random: random.fork(2),
            config,
        };
        controller.follow_consensus(now, effects);
        controller.publish(effects);
        Ok(controller)
    }

    /// The only entry point. Deterministic: same state, `now` and `event` give the same effects.
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Effects) {
        match event {
            Event::SessionOpened { session, role, follow_from } => self.open(now, session, role, follow_from, effects),
            Event::SessionClosed { session } => self.close(now, session),
            Event::Called { session, id, request } => self.call(now, session, id, request, effects),
            Event::RaftReceived { bytes } => self.consense(now, raft_core::Event::MessageReceived(bytes)),
            Event::RaftPeerLost { peer } => self.consense(now, raft_core::Event::PeerLost(peer)),
            Event::PersistCompleted { write } => self.consense(now, raft_core::Event::PersistCompleted(write)),
            Event::HandoverRequested => self.hand_over(now),
            Event::Ticked => self.tick(now, effects),
        }
        self.follow_consensus(now, effects);
        self.publish(effects);
    }

    /// When [`Event::Ticked`] is due next.
    pub fn next_deadline(&self) -> Tick {
        let leases = if self.active { self.next_grace_end() } else { None };
        leases.map_or(self.consensus.next_deadline(), |grace| grace.min(self.consensus.next_deadline()))
    }

    pub fn is_active(&self) -> bool {
        self.active
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// What is committed and applied here.
    pub fn image(&self) -> &Image {
        &self.committed
    }

    /// Up to where metadata are known to be committed. A leader applies them here when they are on its own disk, too.
    pub fn committed(&self) -> MetadataOffset {
        MetadataOffset(self.consensus.committed())
    }

    /// How far the logs of the voters have come, as this one knows while it leads.
    pub fn progress(&self) -> Vec<PeerProgress> {
        self.consensus.progress()
    }

    /// What must hold between steps. Walks everything: for tests and the simulator.
    pub fn check_invariants(&self) {
        invariant!(C3, self.committed.at().0 <= self.consensus.committed(), "applied {}", self.committed.at());
        invariant!(C11, self.recent_from <= self.committed.at().0, "recent from {}", self.recent_from);
        for image in [Some(&self.committed), self.active.then_some(&self.pending)].into_iter().flatten() {
            check_image(image);
        }
        if self.active {
            invariant!(C1, self.role.is_leader, "active in term {} and not the leader", self.role.term);
            invariant!(C5, self.rebuilt_pending() == self.pending, "pending is not committed plus what is in flight");
        }
    }

    fn consense(&mut self, now: Now, event: raft_core::Event) {
        self.consensus.step(now.tick, event, &mut self.raft_effects);
    }

    fn call(&mut self, now: Now, session: SessionId, id: RequestId, request: Request, effects: &mut Effects) {
        if !self.sessions.contains_key(&session) {
            return;
        }
        if !self.active {
            let error = Error::NotActive { active: self.known_leader() };
            effects.send(session, FromController::Answer { id, result: Err(error) });
            return;
        }
        self.open_calls.insert((session, id), now.tick.plus_ms(self.config.call_timeout_ms));
        let outcome = match request {
            Request::RegisterBroker(request) => self.register_broker(now, session, request),
            Request::BrokerHeartbeat(request) => self.heartbeat(now, session, request),
            Request::RegisterGateway(request) => self.register_gateway(now, session, request),
            Request::GatewayHeartbeat { gateway, incarnation, want_shutdown } => {
                self.gateway_heartbeat(now, session, gateway, incarnation, want_shutdown)
            }
            Request::AlterPartition(request) => alter_partition(&self.pending, &request),
            Request::CreateTopics { topics, validate_only } => self.create_topics(topics, validate_only),
            Request::DeleteTopics(topics) => self.delete_topics(topics),
            Request::CreatePartitions { topics, validate_only } => self.create_partitions(topics, validate_only),
            Request::ElectLeaders { kind, topics } => Ok(elect_leaders(&self.pending, kind, topics)),
            Request::Reassign(request) => Ok(reassign(&self.pending, request)),
            Request::UnregisterBroker { broker } => self.unregister_broker(broker),
            Request::UpdateFeatures { updates, validate_only } => self.update_features(updates, validate_only),
            Request::AlterConfigs { changes, validate_only } => alter_configs(&self.pending, changes, validate_only),
            Request::AllocateProducerIds => Ok(self.allocate_producer_ids()),
            Request::DescribeQuorum => {
                self.reads_made += 1;
                let read = ReadId(self.reads_made);
                self.reads.insert(read, Read { session, id, ready_at: None });
                self.consense(now, raft_core::Event::ReadIndexRequested(read));
                return;
            }
        };
        match outcome {
            Err(refusal) => self.answer(session, id, Err(Error::Refused(refusal)), effects),
            Ok(Decision { records, response, at_once: true }) if records.is_empty() => {
                self.answer(session, id, Ok(response), effects);
            }
            Ok(Decision { records, response, .. }) => {
                self.propose(now, records, Some((session, id, response)), effects);
            }
        }
    }

    /// To the voter that is furthest along.
    fn hand_over(&mut self, now: Now) {
        let others = self.consensus.progress().into_iter().filter(|peer| peer.id != self.config.id);
        if let Some(best) = others.max_by_key(|peer| (peer.heard_at, peer.log_end)).filter(|_| self.active) {
            self.consensus.transfer_leadership(now.tick, best.id, &mut self.raft_effects);
        }
    }

    fn allocate_producer_ids(&mut self) -> Decision {
        let first = self.pending.next_producer_id();
        let next = base_types::ProducerId(first.0 + PRODUCER_IDS);
        let records = vec![Record::ProducerIdsAllocated { next }];
        Decision::after(records, Response::ProducerIds { first, count: PRODUCER_IDS })
    }

    fn tick(&mut self, now: Now, effects: &mut Effects) {
        let pause = now.tick.ms_since(self.ticked_at);
        self.ticked_at = now.tick;
        self.consense(now, raft_core::Event::Ticked);
        self.follow_consensus(now, effects);
        self.time_out_calls(now, effects);
        if !self.active {
            return;
        }
        if pause > PAUSE_MS {
            self.forgive(pause);
        }
        self.end_leases(now, effects);
        self.end_absences(now, effects);
        if now.tick >= self.rebalance_at {
            self.rebalance_at = now.tick.plus_ms(self.config.rebalance_ms);
            let records = preferred_elections(&self.pending);
            self.propose(now, records, None, effects);
        }
    }

    fn time_out_calls(&mut self, now: Now, effects: &mut Effects) {
        let late: Vec<_> =
            self.open_calls.iter().filter(|(_, deadline)| now.tick >= **deadline).map(|(call, _)| *call).collect();
        for (session, id) in late {
            self.answer(session, id, Err(Error::TimedOut), effects);
        }
    }

    /// Performs what consensus asks for, until it asks for nothing more.
    fn follow_consensus(&mut self, now: Now, effects: &mut Effects) {
        while let Some(effect) = self.raft_effects.pop() {
            match effect {
                raft_core::Effect::Persist(persist) => effects.push(Effect::Persist(persist)),
                raft_core::Effect::Send { to, bytes, after } => effects.push(Effect::SendRaft { to, bytes, after }),
                raft_core::Effect::Committed(entries) => {
                    for entry in entries {
                        self.fold(now, entry, effects);
                    }
                    if self.consensus.bytes_since_snapshot() > self.config.snapshot_log_bytes {
                        let snapshot = records::encode_snapshot(&self.committed);
                        self.consensus.compact(snapshot, &mut self.raft_effects);
                    }
                }
                raft_core::Effect::Installed(installed) => {
                    self.committed = records::decode_snapshot(installed.index, &installed.data);
                    self.recent.clear();
                    self.recent_from = installed.index;
                }
                raft_core::Effect::RoleChanged(role) => self.change_role(role, effects),
                raft_core::Effect::ReadReady { read, index } => {
                    if let Some(read) = self.reads.get_mut(&read) {
                        read.ready_at = Some(index);
                    }
                    self.answer_reads(now, effects);
                }
            }
        }
    }

    fn fold(&mut self, now: Now, entry: Committed, effects: &mut Effects) {
        let records = records::decode_entry(entry.index, &entry.data);
        records.iter().for_each(|record| self.committed.apply(record));
        self.committed.advance(MetadataOffset(entry.index));
        if !records.is_empty() {
            self.recent.push_back((entry.index, records));
            if self.recent.len() as u64 > self.config.entries_kept
                && let Some((index, _)) = self.recent.pop_front()
            {
                self.recent_from = index;
            }
        }
        if self.active {
            self.complete(&entry, effects);
            self.answer_reads(now, effects);
        } else if self.role.is_leader && entry.term == self.role.term {
            self.activate(now, effects);
        }
    }

    /// The first entry of this term is applied, and with it every one before.
    fn activate(&mut self, now: Now, effects: &mut Effects) {
        self.active = true;
        self.pending = self.committed.clone();
        self.in_flight.clear();
        self.rebalance_at = now.tick.plus_ms(self.config.rebalance_ms);
        self.renew_all_leases(now);
        self.welcome_all(effects);
        let mut records = vec![Record::ControllerChanged { controller: self.config.id, term: self.role.term }];
        if self.committed.cluster_id().is_empty() {
            records.push(Record::ClusterNamed { cluster_id: self.config.cluster_id.clone() });
            let features = self.config.features.iter();
            records.extend(features.map(|(name, level)| Record::FeatureChanged { name: name.clone(), level: *level }));
            // Who is in an ELR depends on the minimum, so all must mean the same by it: with ELR it is the cluster's, from the
            // first entry on (KIP-966).
            records.push(Record::ConfigChanged {
                resource: ConfigResource::Cluster,
                name: "min.insync.replicas".to_owned(),
                value: Some("1".to_owned()),
            });
        }
        self.propose(now, records, None, effects);
    }

    fn change_role(&mut self, role: Role, effects: &mut Effects) {
        let led = self.role;
        self.role = role;
        effects.push(Effect::RoleChanged(role));
        if led.is_leader && (!role.is_leader || role.term != led.term) {
            self.publish(effects);
            self.active = false;
            self.in_flight.clear();
            self.reads.clear();
            self.pending = Image::default();
            self.brokers.clear();
            self.conditions.clear();
            self.gateways.clear();
            self.absences.clear();
            let calls: Vec<_> = self.open_calls.keys().copied().collect();
            for (session, id) in calls {
                self.answer(session, id, Err(Error::LostLeadership), effects);
            }
        }
        if !role.is_leader {
            self.dismiss_all(effects);
        }
    }

    fn answer(&mut self, session: SessionId, id: RequestId, result: Result<Response, Error>, effects: &mut Effects) {
        if self.open_calls.remove(&(session, id)).is_some() {
            effects.send(session, FromController::Answer { id, result });
        }
    }

    fn answer_reads(&mut self, now: Now, effects: &mut Effects) {
        let applied = self.committed.at().0;
        let ready: Vec<ReadId> =
            self.reads.iter().filter(|(_, r)| r.ready_at.is_some_and(|at| at <= applied)).map(|(id, _)| *id).collect();
        for read in ready {
            if let Some(read) = self.reads.remove(&read) {
                let quorum = self.describe_quorum(now);
                self.answer(read.session, read.id, Ok(Response::Quorum(quorum)), effects);
            }
        }
    }

    fn describe_quorum(&self, now: Now) -> QuorumInfo {
        let address = |id: BrokerId| {
            self.config.quorum.iter().find(|voter| voter.id == id).map(|v| v.address.clone()).unwrap_or_default()
        };
        let ago = |at: Option<Tick>| at.map(|at| now.tick.ms_since(at));
        let voters = self.consensus.progress().into_iter().map(|peer| QuorumVoter {
            id: peer.id,
            log_end: MetadataOffset(peer.log_end),
            address: address(peer.id),
            last_fetch_ms_ago: ago(peer.heard_at),
            last_caught_up_ms_ago: ago(peer.caught_up_at),
        });
        QuorumInfo {
            leader: self.config.id,
            leader_epoch: self.role.term as i64,
            high_watermark: MetadataOffset(self.consensus.committed()),
            voters: voters.collect(),
        }
    }

    fn known_leader(&self) -> Option<ActiveController> {
        let leader = self.role.leader.filter(|id| *id != self.config.id || self.active)?;
        self.config.quorum.iter().find(|voter| voter.id == leader).cloned()
    }
}

/// The state that follows from `change`, under what `image` says of topic and brokers.
fn changed(image: &Image, topic: &str, old: &PartitionState, change: &Change) -> Option<PartitionState> {
    changed_with(image, topic, old, change, flag(image, topic, "unclean.leader.election.enable"))
}

/// The same where somebody says whether an unclean leader will do.
fn changed_with(
    image: &Image,
    topic: &str,
    old: &PartitionState,
    change: &Change,
    unclean: bool,
) -> Option<PartitionState> {
    let eligible = |id: BrokerId| is_eligible(image, id);
    let now = Circumstances { min_isr: configured_min_isr(image, topic), unclean, eligible: &eligible };
    partition_change::apply(old, change, &now)
}

/// What a request leads to.
#[derive(Debug)]
pub struct Decision {
    pub records: Vec<Record>,
    pub response: Response,
    /// Says nothing about what is still in flight, so nothing need be waited for.
    at_once: bool,
}

impl Decision {
    /// Answered once these and everything decided before are committed.
    fn after(records: Vec<Record>, response: Response) -> Decision {
        Decision { records, response, at_once: false }
    }

    fn at_once(response: Response) -> Decision {
        Decision { records: Vec::new(), response, at_once: true }
    }
}

fn refusal(code: ErrorCode, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into() }
}

fn is_eligible(image: &Image, id: BrokerId) -> bool {
    image.broker(id).is_some_and(|broker| broker.state == BrokerState::Active)
}

fn topic_value(image: &Image, topic: &str, name: &str) -> String {
    topic_config(name).and_then(|definition| Lookup::new(image).topic_value(topic, definition)).unwrap_or_default()
}

fn flag(image: &Image, topic: &str, name: &str) -> bool {
    topic_value(image, topic, name) == "true"
}

fn configured_min_isr(image: &Image, topic: &str) -> usize {
    topic_value(image, topic, "min.insync.replicas").parse().unwrap_or(1)
}

fn check_image(image: &Image) {
    for (partition, state) in image.partitions() {
        state.check_invariants(partition);
        for member in &state.isr {
            let alive = image.broker(*member).is_some_and(|broker| broker.state != BrokerState::Fenced);
            invariant!(R14, alive, "{partition}: {member} is in the ISR {:?} and fenced", state.isr);
        }
        let name = image.topic(partition.topic).map(|topic| topic.name.as_str()).unwrap_or_default();
        let full = state.isr.len() >= configured_min_isr(image, name).clamp(1, state.replicas.len().max(1));
        invariant!(R15, !full || state.elr.is_empty(), "{partition}: ISR {:?} ELR {:?}", state.isr, state.elr);
    }
}
