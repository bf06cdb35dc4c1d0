//! A controller that is right, and nothing more: one life, no log, elections from the ISR alone.

use std::collections::BTreeMap;

use base_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, PartitionIndex, Random, TopicId, TopicPartition};
use peer_api::controller::{
    BrokerHeartbeat, Error, HeartbeatAnswer, IsrChange, Refusal, RegisterBroker, Request, Response,
};
use peer_api::metadata::{Broker, BrokerState, ConfigResource, Image, MetadataOffset, PartitionState, Record, Update};

pub const MIN_INSYNC: usize = 2;

#[derive(Default)]
pub struct Controller {
    pub image: Image,
    /// What was committed, one entry for each offset from 1 on.
    log: Vec<Vec<Record>>,
    /// Where each registration stands in it.
    registered_at: BTreeMap<BrokerEpoch, MetadataOffset>,
    topics_made: u8,
}

fn refused(code: ErrorCode) -> Result<Response, Error> {
    Err(Error::Refused(Refusal { code, message: String::new() }))
}

impl Controller {
    pub fn commit(&mut self, records: Vec<Record>) {
        records.iter().for_each(|record| self.image.apply(record));
        self.log.push(records);
        self.image.advance(MetadataOffset(self.log.len() as u64));
    }

    /// What follows on `from`; now and then a snapshot does as well.
    pub fn update(&self, from: MetadataOffset, random: &mut Random) -> Option<Update> {
        let to = self.image.at();
        if from == to {
            return None;
        }
        if random.chance(50) {
            return Some(Update::Snapshot { at: to, records: self.image.to_records() });
        }
        let to = MetadataOffset(random.between(from.0 + 1, to.0));
        let records = self.log[from.0 as usize..to.0 as usize].concat();
        Some(Update::Delta { from, to, records })
    }

    pub fn make_topic(&mut self, partitions: i32, nodes: usize, name: &str) {
        self.topics_made += 1;
        let id = TopicId([self.topics_made; 16]);
        let min_insync = Record::ConfigChanged {
            resource: ConfigResource::Topic(name.to_owned()),
            name: "min.insync.replicas".to_owned(),
            value: Some(MIN_INSYNC.to_string()),
        };
        let mut records = vec![Record::TopicCreated { id, name: name.to_owned() }, min_insync];
        for index in 0..partitions {
            let replicas: Vec<BrokerId> = (0..nodes).map(|n| BrokerId((n as i32 + index) % nodes as i32 + 1)).collect();
            let alive: Vec<BrokerId> = replicas.iter().copied().filter(|id| self.is_active(*id)).collect();
            let isr = if alive.is_empty() { replicas[..1].to_vec() } else { alive.clone() };
            let leader = alive.first().copied();
            let state = PartitionState { replicas, isr, leader, ..PartitionState::default() };
            let partition = TopicPartition { topic: id, partition: PartitionIndex(index) };
            records.push(Record::PartitionChanged { partition, state });
        }
        self.commit(records);
    }

    pub fn delete_topic(&mut self, id: TopicId) {
        self.commit(vec![Record::TopicRemoved { id }]);
    }

    /// Sets or takes away one part of a throttle of replication.
    pub fn throttle(&mut self, nodes: usize, random: &mut Random) {
        let side = if random.chance(500) { "leader" } else { "follower" };
        let (resource, kind, values) = if random.chance(600) {
            let broker = random.below(nodes as u64 + 1) as i32;
            let resource = if broker == 0 { ConfigResource::Cluster } else { ConfigResource::Broker(BrokerId(broker)) };
            (resource, "rate", [None, Some("0"), Some("2000"), Some("200000")])
        } else {
            let topics: Vec<&str> = self.image.topics().map(|topic| topic.name.as_str()).collect();
            let topic = topics[random.below(topics.len() as u64) as usize];
            (ConfigResource::Topic(topic.to_owned()), "replicas", [None, Some("*"), Some("*"), Some("0:1,0:2,1:3")])
        };
        let name = format!("{side}.replication.throttled.{kind}");
        let value = values[random.below(values.len() as u64) as usize].map(str::to_owned);
        self.commit(vec![Record::ConfigChanged { resource, name, value }]);
    }

    /// Every rate that is set becomes one that lets everything through in time.
    pub fn raise_rates(&mut self) {
        let mut raised = Vec::new();
        for resource in self.image.config_resources() {
            for (name, _) in self.image.configs(resource).filter(|(name, _)| name.ends_with("throttled.rate")) {
                let (name, value) = (name.to_owned(), Some("10000000".to_owned()));
                raised.push(Record::ConfigChanged { resource: resource.clone(), name, value });
            }
        }
        self.commit(raised);
    }

    pub fn is_active(&self, id: BrokerId) -> bool {
        self.image.broker(id).is_some_and(|broker| broker.state == BrokerState::Active)
    }

    /// Another leader from the ISR, if there is one.
    pub fn move_leader(&mut self, partition: TopicPartition, random: &mut Random) {
        let Some(mut state) = self.image.partition(partition).cloned() else { return };
        let active: Vec<BrokerId> = state.isr.iter().copied().filter(|id| self.is_active(*id)).collect();
        if active.is_empty() {
            return;
        }
        state.leader = Some(active[random.below(active.len() as u64) as usize]);
        self.commit(vec![changed(partition, state, true)]);
    }

    /// Takes a replica away, or gives the partition back to all.
    pub fn reassign(&mut self, partition: TopicPartition, nodes: usize, random: &mut Random) {
        let Some(mut state) = self.image.partition(partition).cloned() else { return };
        if state.replicas.len() < nodes {
            let all = (1..=nodes as i32).map(BrokerId);
            state.replicas.extend(all.filter(|id| !state.replicas.contains(id)).collect::<Vec<_>>());
            return self.commit(vec![changed(partition, state, false)]);
        }
        let gone = state.replicas[random.below(state.replicas.len() as u64) as usize];
        let stays = state.isr.iter().filter(|id| **id != gone && self.is_active(**id)).count();
        if stays < MIN_INSYNC {
            return; // R19
        }
        state.replicas.retain(|id| *id != gone);
        state.isr.retain(|id| *id != gone);
        let led = state.leader == Some(gone);
        if led {
            state.leader = state.isr.iter().copied().find(|id| self.is_active(*id));
        }
        // Another epoch even under the same leader, as in Kafka: a replica that hears only of its return would not open again.
        self.commit(vec![changed(partition, state, true)]);
    }

    /// Out of every ISR, and new leaders for what it led.
    pub fn fence(&mut self, id: BrokerId) {
        if let Some(broker) = self.image.broker(id).filter(|broker| broker.state != BrokerState::Fenced) {
            let (broker_epoch, state) = (broker.epoch, BrokerState::Fenced);
            self.leave(id, Record::BrokerStateChanged { broker: id, broker_epoch, state });
        }
    }

    pub fn forget(&mut self, id: BrokerId) {
        self.fence(id);
        self.commit(vec![Record::BrokerUnregistered { broker: id }]);
    }

    pub fn call(&mut self, request: Request) -> Result<Response, Error> {
        match request {
            Request::RegisterBroker(request) => Ok(self.register(request)),
            Request::BrokerHeartbeat(request) => self.heartbeat(&request),
            Request::AlterPartition(request) => {
                if self.image.broker(request.broker).is_none_or(|broker| broker.epoch != request.broker_epoch) {
                    return refused(ErrorCode::StaleBrokerEpoch);
                }
                let alter = |change: IsrChange| (change.partition, self.alter(request.broker, &change));
                Ok(Response::PartitionsAltered(request.changes.into_iter().map(alter).collect()))
            }
            other => panic!("no node asks for this: {other:?}"),
        }
    }

    fn register(&mut self, request: RegisterBroker) -> Response {
        let known = self.image.broker(request.broker);
        if let Some(known) = known.filter(|known| known.incarnation == request.incarnation) {
            return Response::BrokerRegistered { broker_epoch: known.epoch };
        }
        let broker_epoch = BrokerEpoch(self.log.len() as i64 + 1);
        let broker = Broker {
            id: request.broker,
            epoch: broker_epoch,
            incarnation: request.incarnation,
            rack: None,
            peer_address: request.peer_address,
            host: request.host,
            state: BrokerState::Fenced,
        };
        self.leave(request.broker, Record::BrokerRegistered(broker));
        self.registered_at.insert(broker_epoch, self.image.at());
        Response::BrokerRegistered { broker_epoch }
    }

    fn heartbeat(&mut self, request: &BrokerHeartbeat) -> Result<Response, Error> {
        let id = request.broker;
        let Some(broker) = self.image.broker(id).cloned() else { return refused(ErrorCode::BrokerIdNotRegistered) };
        if broker.epoch != request.broker_epoch {
            return refused(ErrorCode::StaleBrokerEpoch);
        }
        let broker_epoch = broker.epoch;
        if request.want_shutdown {
            if broker.state == BrokerState::Active {
                let state = BrokerState::ShuttingDown;
                self.leave(id, Record::BrokerStateChanged { broker: id, broker_epoch, state });
            }
            let leads = self.image.partitions().any(|(_, state)| state.leader == Some(id));
            return Ok(Response::Heartbeat(HeartbeatAnswer { may_shutdown: !leads, ..HeartbeatAnswer::default() }));
        }
        let caught_up = self.registered_at.get(&broker_epoch).is_some_and(|at| request.metadata_offset >= *at);
        if broker.state == BrokerState::Fenced && caught_up {
            let state = BrokerState::Active;
            self.commit(vec![Record::BrokerStateChanged { broker: id, broker_epoch, state }]);
            let mut records = Vec::new();
            for (partition, old) in self.image.partitions() {
                if old.leader.is_none() && old.isr.contains(&id) {
                    let state = PartitionState { leader: Some(id), isr: vec![id], ..old.clone() };
                    records.push(changed(partition, state, true));
                }
            }
            self.commit(records);
        }
        let fenced = !self.is_active(id);
        Ok(Response::Heartbeat(HeartbeatAnswer { fenced, ..HeartbeatAnswer::default() }))
    }

    fn alter(&mut self, broker: BrokerId, change: &IsrChange) -> Result<PartitionState, ErrorCode> {
        let state = self.image.partition(change.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if state.leader != Some(broker) || state.leader_epoch != change.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if state.partition_epoch != change.partition_epoch {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        let eligible = |(id, epoch): &(BrokerId, BrokerEpoch)| {
            let active = self.image.broker(*id).filter(|broker| broker.state == BrokerState::Active);
            state.replicas.contains(id) && active.is_some_and(|broker| broker.epoch == *epoch)
        };
        if !change.isr.iter().all(eligible) || !change.isr.iter().any(|(id, _)| *id == broker) {
            return Err(ErrorCode::IneligibleReplica);
        }
        let isr = change.isr.iter().map(|(id, _)| *id).collect();
        let state = PartitionState { isr, ..state.clone() };
        self.commit(vec![changed(change.partition, state, false)]);
        Ok(self.image.partition(change.partition).expect("just changed").clone())
    }

    fn leave(&mut self, id: BrokerId, record: Record) {
        let mut records = vec![record];
        for (partition, old) in self.image.partitions() {
            if !old.isr.contains(&id) {
                continue;
            }
            let isr: Vec<BrokerId> = old.isr.iter().copied().filter(|member| *member != id).collect();
            let led = old.leader == Some(id);
            let mut state = PartitionState { isr, ..old.clone() };
            if state.isr.is_empty() {
                // The last one stays a member, so that nobody who has less is elected.
                state.isr = vec![id];
                state.leader = None;
            } else if led {
                state.leader = state.isr.iter().copied().find(|id| self.is_active(*id));
                if state.leader.is_none() {
                    state.isr.push(id);
                }
            }
            records.push(changed(partition, state, led));
        }
        self.commit(records);
    }
}

fn changed(partition: TopicPartition, mut state: PartitionState, elected: bool) -> Record {
    state.partition_epoch = state.partition_epoch.next();
    if elected {
        state.leader_epoch = LeaderEpoch(state.leader_epoch.0 + 1);
    }
    Record::PartitionChanged { partition, state }
}
