//! Nodes, disks, a controller and gateways, and everything between them: queues that deliver in order, whenever they like.

use std::collections::{BTreeMap, VecDeque};

use base_types::{
    BrokerEpoch, BrokerId, Incarnation, LeaderEpoch, Now, Offset, Random, Tick, Timestamp, TopicPartition,
};
use peer_api::controller::{FromController, ToController};
use peer_api::groups::{CoordinatorError, GROUPS_TOPIC};
use peer_api::metadata::{MetadataOffset, PartitionState, Update};
use peer_api::replication::{FromFollower, FromLeader, Hello};
use peer_api::storage::{Acks, FromStorage, Response, ToStorage};
use record_batch::BatchHeader;
use storage_core::{ControllerStream, Effect, Effects, Event, GatewayStream, Identity, PeerStream, StorageNode};

use crate::controller::{Controller, MIN_INSYNC};
use crate::disk::Disk;
use crate::gateways::{Asked, Gateways};

const GATEWAYS: usize = 2;
/// Within so long after the last fault everyone is in every ISR and every request is answered.
const HEALED_WITHIN_MS: u64 = 60_000;

/// That a run found nothing means something only if all of this happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    appended: u64,
    committed: u64,
    indeterminate: u64,
    refused: u64,
    read: u64,
    fetches_without: u64,
    truncated: u64,
    checkpoints: u64,
    no_space: u64,
    crashes: u64,
    stops: u64,
    deleted: u64,
    closed: u64,
    reconnects: u64,
    reopened: u64,
    offsets_committed: u64,
    offsets_fetched: u64,
    coordinators_loading: u64,
    coordinators_lost: u64,
}

pub struct World {
    random: Random,
    now_ms: u64,
    machines: Vec<Machine>,
    controller: Controller,
    gateways: Gateways,
    /// Events that follow from effects, taken up before anything else happens.
    inbox: VecDeque<(usize, u64, Event)>,
    last_stream: u64,
    old_partitions: Vec<(TopicPartition, LeaderEpoch)>,
    pub counts: Counts,
}

struct Machine {
    id: BrokerId,
    /// Counts the lives of the process.
    life: u64,
    node: Option<StorageNode>,
    disk: Disk,
    session: Option<Session>,
    leaders: BTreeMap<BrokerId, Dial>,
    gateways: Vec<(GatewayStream, VecDeque<ToStorage>)>,
}

struct Session {
    stream: ControllerStream,
    told: Option<MetadataOffset>,
    to_node: VecDeque<FromController>,
    to_controller: VecDeque<ToController>,
}

struct Dial {
    address: String,
    broker_epoch: BrokerEpoch,
    stream: Option<PeerStream>,
    to_leader: VecDeque<FromFollower>,
    to_follower: VecDeque<FromLeader>,
}

impl World {
    pub fn new(mut random: Random, nodes: usize) -> World {
        let machine = |id: usize| Machine {
            id: BrokerId(id as i32 + 1),
            life: 0,
            node: None,
            disk: Disk::default(),
            session: None,
            leaders: BTreeMap::new(),
            gateways: Vec::new(),
        };
        let large_per_mille = if random.chance(50) { 400 } else { 0 };
        let mut world = World {
            random,
            now_ms: 1_000,
            machines: (0..nodes).map(machine).collect(),
            controller: Controller::default(),
            gateways: Gateways::new(large_per_mille),
            inbox: VecDeque::new(),
            last_stream: 0,
            old_partitions: Vec::new(),
            counts: Counts::default(),
        };
        (0..nodes).for_each(|n| world.start(n));
        world.controller.make_topic(1, nodes, GROUPS_TOPIC);
        world.gateways.groups_topic = world.controller.image.topic_named(GROUPS_TOPIC).expect("just made").id;
        world.controller.make_topic(2, nodes, "a");
        world
    }

    /// The first of the steps bring everybody up; then there is trouble.
    pub fn run(&mut self, steps: usize) {
        for step in 0..steps {
            match self.random.below(100) {
                0..45 => self.deliver(),
                // Faults are rarer than their ends, or nothing but refusals would come of it.
                45..48 => self.recover(),
                48..65 => self.ask(),
                65..88 => {
                    let n = self.any_machine();
                    for _ in 0..self.random.between(1, 4) {
                        self.work(n);
                    }
                }
                88..98 => {
                    let ms = if self.random.chance(5) { 31_000 } else { self.random.between(1, 60) };
                    self.pass(ms);
                }
                _ if step > steps / 8 => self.trouble(),
                _ => {}
            }
        }
    }

    /// No more faults: everyone comes back, every request is answered, and every promise is looked at again.
    pub fn heal(&mut self) {
        for machine in &mut self.machines {
            machine.disk.full = false;
            machine.disk.failed = false;
        }
        self.controller.raise_rates();
        let end = self.now_ms + HEALED_WITHIN_MS;
        while !self.is_quiet() {
            assert!(self.now_ms < end, "not healed: {}", self.describe());
            for n in 0..self.machines.len() {
                if self.machines[n].node.is_none() {
                    self.start(n);
                }
            }
            let mut talk = 0;
            while self.deliver_any() {
                talk += 1;
                assert!(talk < 10_000, "endless talk: {}", self.describe());
            }
            for n in 0..self.machines.len() {
                while !self.machines[n].disk.is_idle() {
                    self.work(n);
                }
            }
            self.pass(20);
        }
        self.check_logs();
        self.check_offsets();
    }

    fn is_quiet(&self) -> bool {
        let whole = |(partition, state): (TopicPartition, &PartitionState)| {
            let same = |id: &BrokerId| self.disk(*id).crcs(partition).eq(self.disk(state.isr[0]).crcs(partition));
            state.leader.is_some() && state.isr.len() == state.replicas.len() && state.isr.iter().all(same)
        };
        let everyone = self.machines.iter().all(|machine| {
            let view = machine.node.as_ref().map(|node| node.image().at());
            let loads = |node: &StorageNode| node.stats().coordinators.loading > 0;
            let loads = machine.node.as_ref().is_none_or(loads);
            !loads
                && view == Some(self.controller.image.at())
                && machine.disk.is_idle()
                && self.controller.is_active(machine.id)
        });
        everyone && self.gateways.open.is_empty() && self.controller.image.partitions().all(whole)
    }

    fn describe(&self) -> String {
        let replicas = |node: &StorageNode| (node.stats(), node.replica_stats().collect::<Vec<_>>());
        let stats: Vec<_> = self.machines.iter().map(|m| m.node.as_ref().map(replicas)).collect();
        let partitions: Vec<_> = self.controller.image.partitions().collect();
        format!("{:?} open, {partitions:?}, {stats:?}", self.gateways.open)
    }

    /// What was acknowledged is there, and what was refused is not (R2, R17, R18).
    fn check_logs(&self) {
        for (&(partition, offset), &crc) in &self.gateways.committed {
            let Some(state) = self.controller.image.partition(partition) else { continue };
            let leader = &self.machines[state.leader.unwrap().0 as usize - 1];
            assert_eq!(leader.disk.crc_at(partition, offset), Some(crc), "R2: {partition} at {offset}");
        }
        for (partition, state) in self.controller.image.partitions() {
            for (offset, crc) in self.disk(state.isr[0]).crcs(partition) {
                assert!(!self.gateways.never.contains(&crc), "R17: {partition} at {offset}");
                if self.gateways.made_by_coordinators(partition, crc) {
                    continue;
                }
                assert_eq!(self.gateways.made_for.get(&crc), Some(&partition), "R18: {partition} at {offset}");
            }
        }
    }

    /// The coordinators know what every group was promised (G3).
    fn check_offsets(&mut self) {
        let before = self.counts.offsets_fetched;
        let end = self.now_ms + HEALED_WITHIN_MS;
        while self.counts.offsets_fetched < before + 4 {
            assert!(self.now_ms < end, "no offsets: {}", self.describe());
            for n in 0..self.machines.len() {
                if self.machines[n].node.is_none() {
                    self.start(n); // An orderly stop was still on its way.
                }
            }
            self.ask_coordinator();
            for _ in 0..100 {
                self.deliver_any();
                (0..self.machines.len()).for_each(|n| self.work(n));
            }
            self.pass(20);
        }
    }

    fn disk(&self, id: BrokerId) -> &Disk {
        &self.machines[id.0 as usize - 1].disk
    }

    fn any_machine(&mut self) -> usize {
        self.random.below(self.machines.len() as u64) as usize
    }

    fn new_stream(&mut self) -> u64 {
        self.last_stream += 1;
        self.last_stream
    }

    // Lives of machines.

    fn start(&mut self, n: usize) {
        let streams: Vec<u64> = (0..GATEWAYS).map(|_| self.new_stream()).collect();
        let machine = &mut self.machines[n];
        machine.life += 1;
        let mut incarnation = [n as u8; 16];
        incarnation[..8].copy_from_slice(&machine.life.to_be_bytes());
        machine.node = Some(StorageNode::new(Identity {
            broker: machine.id,
            incarnation: Incarnation(incarnation),
            cluster_id: None,
            rack: None,
            peer_address: address(machine.id, machine.life),
            host: String::new(),
            clean_since: None,
            intact_since: machine.disk.broker_epoch,
            statics: BTreeMap::new(),
        }));
        machine.gateways = streams.into_iter().map(|stream| (GatewayStream(stream), VecDeque::new())).collect();
    }

    fn end(&mut self, n: usize) {
        let machine = &mut self.machines[n];
        machine.node = None;
        machine.session = None;
        for (stream, _) in std::mem::take(&mut machine.gateways) {
            self.gateways.lost(stream);
        }
        for leader in std::mem::take(&mut self.machines[n].leaders).into_values() {
            self.follower_lost(leader.stream);
        }
        let id = self.machines[n].id;
        for other in 0..self.machines.len() {
            self.break_link(other, id);
        }
        self.settle();
    }

    fn crash(&mut self, n: usize) {
        if self.machines[n].node.is_some() {
            self.counts.crashes += 1;
            self.machines[n].disk.crash(&mut self.random);
            self.end(n);
        }
    }

    fn lose_session(&mut self, n: usize) {
        if let Some(session) = self.machines[n].session.take() {
            self.tell(n, Event::ControllerLost { stream: session.stream });
        }
        self.settle();
    }

    /// The follower's end of a link learns first, the leader's end soon after.
    fn break_link(&mut self, follower: usize, leader: BrokerId) {
        let Some(dial) = self.machines[follower].leaders.get_mut(&leader) else { return };
        let Some(stream) = dial.stream.take() else { return };
        dial.to_leader.clear();
        dial.to_follower.clear();
        self.tell(follower, Event::LeaderLost { leader });
        self.follower_lost(Some(stream));
    }

    fn follower_lost(&mut self, stream: Option<PeerStream>) {
        let Some(stream) = stream else { return };
        // Only the node that has it knows the stream.
        for n in 0..self.machines.len() {
            self.tell(n, Event::FollowerLost { stream });
        }
    }

    // What happens by itself.

    fn deliver(&mut self) {
        let sources = self.machines.len() as u64 * 4;
        let from = self.random.below(sources) as usize;
        for at in (0..sources as usize).map(|i| (from + i) % sources as usize) {
            if self.deliver_from(at / 4, at % 4) {
                return;
            }
        }
    }

    fn deliver_any(&mut self) -> bool {
        let mut any = false;
        for at in 0..self.machines.len() * 4 {
            any |= self.deliver_from(at / 4, at % 4);
        }
        any
    }

    fn deliver_from(&mut self, n: usize, kind: usize) -> bool {
        if self.machines[n].node.is_none() {
            return false;
        }
        let delivered = match kind {
            0 => self.deliver_to_controller(n),
            1 => self.deliver_from_controller(n),
            2 => self.deliver_between_nodes(n),
            _ => self.deliver_from_gateway(n),
        };
        self.settle();
        delivered
    }

    fn deliver_to_controller(&mut self, n: usize) -> bool {
        if self.machines[n].session.is_none() {
            let stream = ControllerStream(self.new_stream());
            let (to_node, to_controller) = (VecDeque::new(), VecDeque::new());
            self.machines[n].session = Some(Session { stream, told: None, to_node, to_controller });
            self.tell(n, Event::ControllerConnected { stream });
            return true;
        }
        let Some(session) = &mut self.machines[n].session else { return false };
        match session.to_controller.pop_front() {
            None => return false,
            Some(ToController::Hello { follow_from, .. }) => {
                session.told = follow_from;
                session.to_node.push_back(FromController::Welcome { controller: BrokerId(100), term: 1 });
            }
            Some(ToController::Call { id, request }) => {
                let result = self.controller.call(request);
                session.to_node.push_back(FromController::Answer { id, result });
            }
        }
        true
    }

    fn deliver_from_controller(&mut self, n: usize) -> bool {
        let Some(session) = &mut self.machines[n].session else { return false };
        if let Some(told) = session.told
            && let Some(update) = self.controller.update(told, &mut self.random)
        {
            session.told = Some(match &update {
                Update::Snapshot { at, .. } => *at,
                Update::Delta { to, .. } => *to,
            });
            session.to_node.push_back(FromController::Update(update));
        }
        let Some(message) = session.to_node.pop_front() else { return false };
        let stream = session.stream;
        self.tell(n, Event::ControllerSaid { stream, message });
        true
    }

    fn deliver_between_nodes(&mut self, n: usize) -> bool {
        let leaders: Vec<BrokerId> = self.machines[n].leaders.keys().copied().collect();
        let mut any = false;
        for leader in leaders {
            let l = leader.0 as usize - 1;
            let up = self.machines[l].node.is_some();
            let reachable = up.then(|| address(leader, self.machines[l].life));
            let Some(dial) = self.machines[n].leaders.get_mut(&leader) else { continue };
            let Some(stream) = dial.stream else {
                if reachable.as_ref() == Some(&dial.address) {
                    let hello = Hello { follower: BrokerId(n as i32 + 1), broker_epoch: dial.broker_epoch };
                    self.last_stream += 1;
                    let stream = PeerStream(self.last_stream);
                    dial.stream = Some(stream);
                    self.tell(n, Event::LeaderConnected { leader });
                    self.tell(l, Event::FollowerConnected { stream, hello });
                    // Turned away every time it dials, it would never let the time pass.
                    return !any && self.random.chance(900);
                }
                continue;
            };
            if let Some(message) = dial.to_leader.pop_front() {
                self.tell(l, Event::FollowerSaid { stream, message });
                any = true;
            }
            let Some(dial) = self.machines[n].leaders.get_mut(&leader) else { continue };
            if let Some(message) = dial.to_follower.pop_front() {
                self.tell(n, Event::LeaderSaid { leader, message });
                any = true;
            }
        }
        any
    }

    fn deliver_from_gateway(&mut self, n: usize) -> bool {
        let g = self.random.below(GATEWAYS as u64) as usize;
        for g in [g, 1 - g] {
            let (stream, queue) = &mut self.machines[n].gateways[g];
            if let Some(message) = queue.pop_front() {
                let stream = *stream;
                self.tell(n, Event::GatewayAsked { stream, message });
                return true;
            }
        }
        false
    }

    fn work(&mut self, n: usize) {
        let machine = &mut self.machines[n];
        if machine.node.is_some()
            && let Some(event) = machine.disk.work(&mut self.random)
        {
            self.counts.no_space += u64::from(matches!(
                event,
                Event::WriteCompleted { result: Err(storage_core::WriteFailure::NoSpace), .. }
            ));
            self.tell(n, event);
            self.settle();
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        for n in 0..self.machines.len() {
            let due = self.machines[n].node.as_ref().and_then(StorageNode::next_deadline);
            if due.is_some_and(|due| due.0 <= self.now_ms) {
                self.tell(n, Event::Ticked);
                self.settle();
                let next = self.machines[n].node.as_ref().and_then(StorageNode::next_deadline);
                assert!(next.is_none_or(|next| next.0 > self.now_ms), "a busy loop: {next:?} at {}", self.now_ms);
            }
        }
    }

    /// Where the groups are coordinated for all the controller knows, or anywhere.
    fn ask_coordinator(&mut self) {
        let leader = self.groups_partition().and_then(|(_, state)| state.leader);
        let n = match leader {
            Some(leader) if self.random.chance(900) => leader.0 as usize - 1,
            _ => self.any_machine(),
        };
        if self.machines[n].node.is_some() {
            let g = self.random.below(GATEWAYS as u64) as usize;
            let (stream, queue) = &mut self.machines[n].gateways[g];
            queue.push_back(self.gateways.ask_coordinator(*stream, &mut self.random));
        }
    }

    fn groups_partition(&self) -> Option<(TopicPartition, &PartitionState)> {
        self.controller.image.partitions().find(|(partition, _)| partition.topic == self.gateways.groups_topic)
    }

    fn ask(&mut self) {
        if self.random.chance(200) {
            return self.ask_coordinator();
        }
        let mut known: Vec<(TopicPartition, LeaderEpoch)> =
            self.controller.image.partitions().map(|(id, state)| (id, state.leader_epoch)).collect();
        known.extend(self.old_partitions.last());
        let count = self.random.between(1, 2);
        let mut picked = Vec::new();
        for _ in 0..count {
            let (partition, mut epoch) = known[self.random.below(known.len() as u64) as usize];
            if self.random.chance(30) {
                epoch.0 += self.random.below(3) as i32 - 1;
            }
            picked.push((partition, epoch));
        }
        let leader = self.controller.image.partition(picked[0].0).and_then(|state| state.leader);
        let n = match leader {
            Some(leader) if self.random.chance(900) => leader.0 as usize - 1,
            _ => self.any_machine(),
        };
        if self.machines[n].node.is_some() {
            let g = self.random.below(GATEWAYS as u64) as usize;
            let (stream, queue) = &mut self.machines[n].gateways[g];
            queue.push_back(self.gateways.ask(*stream, &picked, &mut self.random));
        }
    }

    // What goes wrong, and what administrators do.

    fn trouble(&mut self) {
        let n = self.any_machine();
        let id = self.machines[n].id;
        match self.random.below(16) {
            0 => self.crash(n),
            1 => {
                self.tell(n, Event::ShutdownRequested);
                self.settle();
            }
            2 => self.lose_session(n),
            3 => self.controller.fence(id),
            4 => {
                if self.controller.image.broker(id).is_some() && self.random.chance(300) {
                    self.controller.forget(id);
                }
            }
            5 => {
                let leader = BrokerId(self.random.between(1, self.machines.len() as u64) as i32);
                self.break_link(n, leader);
                self.settle();
            }
            6 => self.lose_gateway(n),
            7 => self.machines[n].disk.full = true,
            8 => self.machines[n].disk.failed = self.random.chance(300),
            9 => self.change_topics(),
            10 | 11 => {
                if let Some(partition) = self.any_partition() {
                    self.controller.move_leader(partition, &mut self.random);
                }
            }
            12 | 13 => self.controller.throttle(self.machines.len(), &mut self.random),
            _ => {
                if let Some(partition) = self.any_partition() {
                    self.controller.reassign(partition, self.machines.len(), &mut self.random);
                }
            }
        }
    }

    fn recover(&mut self) {
        let n = self.any_machine();
        self.machines[n].disk.full = false;
        if self.machines[n].node.is_none() {
            self.start(n);
        }
    }

    fn lose_gateway(&mut self, n: usize) {
        if self.machines[n].node.is_none() {
            return;
        }
        let g = self.random.below(GATEWAYS as u64) as usize;
        let new = GatewayStream(self.new_stream());
        let (old, _) = std::mem::replace(&mut self.machines[n].gateways[g], (new, VecDeque::new()));
        self.gateways.lost(old);
        self.tell(n, Event::GatewayLost { stream: old });
        self.settle();
    }

    fn change_topics(&mut self) {
        let topics = self.controller.image.topics().map(|topic| (topic.id, topic.name.clone()));
        let topics: Vec<_> = topics.filter(|(id, _)| *id != self.gateways.groups_topic).collect();
        if topics.len() < 2 {
            let name = if topics.iter().any(|(_, name)| name == "a") { "b" } else { "a" };
            let partitions = self.random.between(1, 2) as i32;
            return self.controller.make_topic(partitions, self.machines.len(), name);
        }
        let (id, name) = &topics[self.random.below(2) as usize];
        self.counts.deleted += 1;
        let partitions = self.controller.image.partitions().filter(|(partition, _)| partition.topic == *id);
        self.old_partitions.extend(partitions.map(|(partition, state)| (partition, state.leader_epoch)));
        self.controller.delete_topic(*id);
        if self.random.chance(500) {
            self.controller.make_topic(1, self.machines.len(), name);
        }
    }

    fn any_partition(&mut self) -> Option<TopicPartition> {
        let partitions: Vec<TopicPartition> = self.controller.image.partitions().map(|(id, _)| id).collect();
        let any = self.random.below(partitions.len() as u64) as usize;
        partitions.get(any).copied()
    }

    // Nodes.

    fn tell(&mut self, n: usize, event: Event) {
        self.inbox.push_back((n, self.machines[n].life, event));
    }

    fn settle(&mut self) {
        let mut effects = Effects::default();
        while let Some((n, life, event)) = self.inbox.pop_front() {
            let now = Now { tick: Tick(self.now_ms), wall: Timestamp(1_000_000) };
            let machine = &mut self.machines[n];
            let Some(node) = machine.node.as_mut().filter(|_| machine.life == life) else { continue };
            node.step(now, event, &mut effects);
            node.check_invariants();
            for effect in effects.drain().collect::<Vec<_>>() {
                self.perform(n, effect);
            }
        }
    }

    fn perform(&mut self, n: usize, effect: Effect) {
        match effect {
            Effect::Answer { stream, message } => self.answered(n, stream, message),
            Effect::ToController { stream, message } => {
                if let Some(session) = self.machines[n].session.as_mut().filter(|session| session.stream == stream) {
                    session.to_controller.push_back(message);
                }
            }
            Effect::ReconnectController { stream, .. } => {
                self.counts.reconnects += 1;
                self.machines[n].session.take_if(|session| session.stream == stream);
            }
            Effect::ToFollower { stream, message } => {
                let id = self.machines[n].id;
                let dials = self.machines.iter_mut().filter_map(|machine| machine.leaders.get_mut(&id));
                if let Some(dial) = dials.into_iter().find(|dial| dial.stream == Some(stream)) {
                    dial.to_follower.push_back(message);
                }
            }
            Effect::CloseFollower { stream } => {
                self.counts.closed += 1;
                let id = self.machines[n].id;
                let connected =
                    |machine: &Machine| machine.leaders.get(&id).is_some_and(|dial| dial.stream == Some(stream));
                if let Some(follower) = self.machines.iter().position(connected) {
                    self.break_link(follower, id);
                }
            }
            Effect::ToLeader { leader, message } => {
                let dial = self.machines[n].leaders.get_mut(&leader).expect("no link was asked for");
                assert!(dial.stream.is_some(), "no link is there");
                dial.to_leader.push_back(message);
            }
            Effect::ConnectLeader { leader, address, broker_epoch } => {
                let (to_leader, to_follower) = (VecDeque::new(), VecDeque::new());
                let dial = Dial { address, broker_epoch, stream: None, to_leader, to_follower };
                if let Some(old) = self.machines[n].leaders.insert(leader, dial) {
                    self.follower_lost(old.stream);
                }
            }
            Effect::DisconnectLeader { leader } => {
                let old = self.machines[n].leaders.remove(&leader).expect("no link was asked for");
                self.follower_lost(old.stream);
            }
            Effect::HighWatermarkLowered { partition, .. } => {
                panic!("{partition} gives up what was committed, and no election is unclean here");
            }
            Effect::Stop => {
                self.counts.stops += 1;
                self.machines[n].disk.finish();
                self.inbox.retain(|(to, ..)| *to != n);
                self.end(n);
            }
            effect => {
                self.counts.truncated += u64::from(matches!(effect, Effect::Truncate { .. }));
                self.counts.checkpoints += u64::from(matches!(effect, Effect::Checkpoint { .. }));
                self.counts.reopened += u64::from(
                    matches!(&effect, Effect::OpenReplica { partition, .. } if self.machines[n].disk.holds(*partition)),
                );
                self.machines[n].disk.ask(effect);
            }
        }
    }

    fn answered(&mut self, n: usize, stream: GatewayStream, message: FromStorage) {
        let FromStorage { id, response } = message;
        let asked = self.gateways.answered(stream, id, &response);
        match (asked, response) {
            (Asked::Append { acks, partitions }, Response::Append(response)) => {
                let alone = partitions.len() == 1;
                for ((partition, _, crc), (_, result)) in partitions.into_iter().zip(response.partitions) {
                    match result {
                        Ok(appended) => {
                            self.counts.appended += 1;
                            match acks {
                                Acks::All => self.committed(partition, appended.base_offset, crc),
                                // Beside others it may have waited for them, and have been cut off meanwhile.
                                Acks::Leader if alone => self.durable(n, partition, appended.base_offset, crc),
                                Acks::Leader => {}
                            }
                        }
                        Err(error) if error.is_definite() => self.counts.refused += 1,
                        Err(_) => self.counts.indeterminate += 1,
                    }
                }
            }
            (Asked::Fetch { .. }, Response::Fetch(response)) => {
                for (partition, result) in response.partitions {
                    let Ok(fetched) = result else { continue };
                    self.counts.fetches_without += u64::from(fetched.records.is_empty());
                    let node = self.machines[n].node.as_ref().expect("it answers");
                    let high_watermark = node.replica(partition).expect("it answers").high_watermark();
                    assert!(fetched.diverging.is_none() || fetched.records.is_empty(), "records of another history");
                    for bytes in &fetched.records {
                        let header = BatchHeader::parse(bytes).expect("whole batches");
                        assert!(header.next_offset() <= fetched.high_watermark, "W5: {partition}");
                        assert!(header.next_offset() <= high_watermark, "W5: {partition}");
                        self.gateways.saw(partition, &header);
                        self.counts.read += 1;
                    }
                }
            }
            (Asked::Commit { .. }, Response::Coordinate(result)) => match *result {
                Ok(_) => self.counts.offsets_committed += 1,
                Err(CoordinatorError::Lost) => self.counts.coordinators_lost += 1,
                Err(CoordinatorError::LoadInProgress) => self.counts.coordinators_loading += 1,
                Err(_) => {}
            },
            (Asked::FetchOffset { group, at_least }, Response::Coordinate(result)) => {
                let node = self.machines[n].node.as_ref().expect("it answers");
                let (partition, state) = self.groups_partition().expect("never deleted");
                let here = node.replica(partition).map(|replica| (Some(self.machines[n].id), replica.leader_epoch()));
                // One that has not heard yet that it was deposed may tell what held until then.
                if let (Ok(response), true) = (&*result, here == Some((state.leader, state.leader_epoch))) {
                    self.gateways.offset_fetched(group, at_least, response);
                    self.counts.offsets_fetched += 1;
                }
            }
            _ => {}
        }
    }

    fn durable(&mut self, n: usize, partition: TopicPartition, offset: Offset, crc: u32) {
        if self.is_known(partition) {
            let here = self.machines[n].disk.crc_at(partition, offset);
            assert_eq!(here, Some(crc), "{partition} at {offset} is not here");
        }
    }

    /// At the moment of the answer the batch is durable where it was promised to be (R16).
    fn committed(&mut self, partition: TopicPartition, offset: Offset, crc: u32) {
        self.counts.committed += 1;
        if self.is_known(partition) {
            let holders = self.machines.iter().filter(|m| m.disk.crc_at(partition, offset) == Some(crc)).count();
            assert!(holders >= MIN_INSYNC.min(self.machines.len()), "R16: {partition} at {offset} is on {holders}");
            let before = self.gateways.committed.insert((partition, offset), crc);
            assert!(before.is_none(), "R10: {partition} at {offset} was given twice");
        }
    }

    /// Whoever has heard already that a topic is deleted has deleted it.
    fn is_known(&self, partition: TopicPartition) -> bool {
        self.controller.image.topic(partition.topic).is_some()
    }
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        let (mine, others) = (self.all_mut(), other.all());
        mine.into_iter().zip(others).for_each(|(mine, other)| *mine += other);
    }

    pub fn check_that_everything_happened(&self, nodes: usize) {
        // Only where there are others is there somebody to differ from.
        let alone = nodes == 1;
        for (at, count) in self.all().into_iter().enumerate() {
            assert!(count > 0 || (alone && [6, 12].contains(&at)), "number {at} never happened: {self:?}");
        }
    }

    fn all(&self) -> [u64; 19] {
        let mut copy = *self;
        copy.all_mut().map(|count| *count)
    }

    fn all_mut(&mut self) -> [&mut u64; 19] {
        let Counts {
            appended,
            committed,
            indeterminate,
            refused,
            read,
            fetches_without,
            truncated,
            checkpoints,
            no_space,
            crashes,
            stops,
            deleted,
            closed,
            reconnects,
            reopened,
            offsets_committed,
            offsets_fetched,
            coordinators_loading,
            coordinators_lost,
        } = self;
        [
            appended,
            committed,
            indeterminate,
            refused,
            read,
            fetches_without,
            truncated,
            checkpoints,
            no_space,
            crashes,
            stops,
            deleted,
            closed,
            reconnects,
            reopened,
            offsets_committed,
            offsets_fetched,
            coordinators_loading,
            coordinators_lost,
        ]
    }
}

fn address(id: BrokerId, life: u64) -> String {
    format!("{id}/{life}")
}
