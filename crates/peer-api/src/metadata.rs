//! The cluster's metadata: records, and the image they fold into.
//!
//! ```text
//!  controller's Raft log ── Record, Record, Record ──► Image::apply      (controller, storage nodes and gateways alike)
//! ```
//!
//! The controller decides and writes records; everyone folds. A view is always a prefix of the committed log (C11), and the
//! fold is deterministic (C5): ordered maps, no clock, no randomness.
//!
//! Invariants kept: R8 and R9 (epochs only grow), R15 (ELR and ISR), asserted in [`Image::apply`].

pub mod codec;

use std::collections::BTreeMap;
use std::fmt;

use base_types::{
    BrokerEpoch, BrokerId, Incarnation, LeaderEpoch, PartitionEpoch, PartitionIndex, ProducerId, TopicId,
    TopicPartition, invariant,
};

/// Position in the metadata log: the Raft index of the last entry folded in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MetadataOffset(pub u64);

impl fmt::Display for MetadataOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the controller sends to those who follow the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Forget everything and fold these: the image at `at`.
    Snapshot { at: MetadataOffset, records: Vec<Record> },
    /// Fold these after `from`; the view is then at `to`.
    Delta { from: MetadataOffset, to: MetadataOffset, records: Vec<Record> },
}

/// One change. What is stored is what is said: each record carries the new state whole, so that folding needs no decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    ClusterNamed {
        cluster_id: String,
    },
    BrokerRegistered(Broker),
    BrokerStateChanged {
        broker: BrokerId,
        broker_epoch: BrokerEpoch,
        state: BrokerState,
    },
    BrokerUnregistered {
        broker: BrokerId,
    },
    GatewayRegistered(Gateway),
    GatewayRemoved {
        gateway: BrokerId,
    },
    TopicCreated {
        id: TopicId,
        name: String,
    },
    TopicRemoved {
        id: TopicId,
    },
    PartitionChanged {
        partition: TopicPartition,
        state: PartitionState,
    },
    ConfigChanged {
        resource: ConfigResource,
        name: String,
        value: Option<String>,
    },
    ProducerIdsAllocated {
        next: ProducerId,
    },
    FeatureChanged {
        name: String,
        level: i16,
    },
    /// Which controller is active; clients see it as the controller id.
    ControllerChanged {
        controller: BrokerId,
        term: u64,
    },
    /// The broker's data directory is known to bear this epoch: it was unfenced under it, and it writes the epoch down before
    /// it asks for that. A later registration that names another epoch comes from another directory (R13).
    DirectoryConfirmed {
        broker: BrokerId,
        broker_epoch: BrokerEpoch,
    },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Broker {
    pub id: BrokerId,
    pub epoch: BrokerEpoch,
    pub incarnation: Incarnation,
    pub rack: Option<String>,
    pub peer_address: String,
    pub host: String,
    pub state: BrokerState,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BrokerState {
    /// Registered, and not trusted with anything (R14).
    Fenced,
    Active,
    /// Wants to stop: it leads nothing new and joins no ISR.
    ShuttingDown,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Gateway {
    pub id: BrokerId,
    pub incarnation: Incarnation,
    pub advertised_host: String,
    pub advertised_port: u16,
    pub rack: Option<String>,
    pub host: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct PartitionState {
    /// The first is the preferred leader.
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    /// Eligible leader replicas (KIP-966): out of the ISR, known to hold everything below the high watermark.
    pub elr: Vec<BrokerId>,
    pub last_known_elr: Vec<BrokerId>,
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    /// Replicas that a move brings. They count as replicas already.
    pub adding: Vec<BrokerId>,
    /// Replicas that go when the move is complete.
    pub removing: Vec<BrokerId>,
    /// The leader epoch that the last unclean election began: its leader was in neither ISR nor ELR, so the history before it may
    /// lack what was committed (compare KIP-704). `None`: there was no such election.
    pub unclean_since: Option<LeaderEpoch>,
}

/// What a config belongs to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConfigResource {
    /// All brokers: Kafka's broker resource with an empty name.
    Cluster,
    Broker(BrokerId),
    Topic(String),
}

/// The metadata at one position. Equal positions mean equal images (C5).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Image {
    at: MetadataOffset,
    cluster_id: String,
    controller: Option<BrokerId>,
    controller_term: u64,
    brokers: BTreeMap<BrokerId, Broker>,
    directories: BTreeMap<BrokerId, BrokerEpoch>,
    gateways: BTreeMap<BrokerId, Gateway>,
    topics: BTreeMap<TopicId, Topic>,
    topic_ids: BTreeMap<String, TopicId>,
    configs: BTreeMap<ConfigResource, BTreeMap<String, String>>,
    features: BTreeMap<String, i16>,
    next_producer_id: ProducerId,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Topic {
    pub id: TopicId,
    pub name: String,
    /// Dense from 0.
    pub partitions: Vec<PartitionState>,
}

impl Image {
    pub fn at(&self) -> MetadataOffset {
        self.at
    }

    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    pub fn controller(&self) -> Option<BrokerId> {
        self.controller
    }

    pub fn controller_term(&self) -> u64 {
        self.controller_term
    }

    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values()
    }

    pub fn broker(&self, id: BrokerId) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// The epoch the broker's data directory is known to bear; `None` when it was never unfenced.
    pub fn directory_epoch(&self, id: BrokerId) -> Option<BrokerEpoch> {
        self.directories.get(&id).copied()
    }

    pub fn gateways(&self) -> impl Iterator<Item = &Gateway> {
        self.gateways.values()
    }

    pub fn gateway(&self, id: BrokerId) -> Option<&Gateway> {
        self.gateways.get(&id)
    }

    /// In order of id.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// In order of name, as Kafka lists them.
    pub fn topics_by_name(&self) -> impl Iterator<Item = &Topic> {
        self.topic_ids.values().filter_map(|id| self.topics.get(id))
    }

    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    pub fn topic_named(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    pub fn partition(&self, partition: TopicPartition) -> Option<&PartitionState> {
        self.topics.get(&partition.topic)?.partition(partition.partition)
    }

    /// Every partition, in order of topic id and index.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &PartitionState)> {
        self.topics.values().flat_map(|topic| {
            topic.partitions.iter().enumerate().map(|(index, state)| {
                (TopicPartition { topic: topic.id, partition: PartitionIndex(index as i32) }, state)
            })
        })
    }

    /// What was set on this very resource; defaults and inheritance are in [`crate::config`].
    pub fn configs(&self, resource: &ConfigResource) -> impl Iterator<Item = (&str, &str)> {
        self.configs.get(resource).into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn config(&self, resource: &ConfigResource, name: &str) -> Option<&str> {
        self.configs.get(resource)?.get(name).map(String::as_str)
    }

    /// Every resource that has a config set.
    pub fn config_resources(&self) -> impl Iterator<Item = &ConfigResource> {
        self.configs.keys()
    }

    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features.iter().map(|(name, level)| (name.as_str(), *level))
    }

    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// Folds an update from the controller. `false` when it does not continue this view: the follower then asks for a snapshot.
    #[must_use]
    pub fn update(&mut self, update: Update) -> bool {
        match update {
            Update::Snapshot { at, records } => {
                *self = Image::default();
                records.iter().for_each(|record| self.apply(record));
                self.at = at;
                true
            }
            Update::Delta { from, to, records } => {
                if from != self.at {
                    return false;
                }
                records.iter().for_each(|record| self.apply(record));
                self.at = to;
                true
            }
        }
    }

    /// Moves the position without a change: an entry of the log that held no record.
    pub fn advance(&mut self, to: MetadataOffset) {
        invariant!(C3, to >= self.at, "from {} to {to}", self.at);
        self.at = to;
    }

    /// Folds one record. The position is moved by the caller, once per log entry.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::ClusterNamed { cluster_id } => self.cluster_id.clone_from(cluster_id),
            Record::BrokerRegistered(broker) => {
                if let Some(old) = self.brokers.get(&broker.id) {
                    invariant!(
                        R14,
                        broker.epoch > old.epoch,
                        "broker {} registers {} after {}",
                        broker.id,
                        broker.epoch,
                        old.epoch
                    );
                }
                self.brokers.insert(broker.id, broker.clone());
            }
            Record::BrokerStateChanged { broker, broker_epoch, state } => {
                if let Some(known) = self.brokers.get_mut(broker)
                    && known.epoch == *broker_epoch
                {
                    known.state = *state;
                }
            }
            // What is known of its directory stays known: should the id come back with another one, it has lost what it had (R13).
            Record::BrokerUnregistered { broker } => {
                self.brokers.remove(broker);
            }
            Record::DirectoryConfirmed { broker, broker_epoch } => {
                self.directories.insert(*broker, *broker_epoch);
            }
            Record::GatewayRegistered(gateway) => {
                self.gateways.insert(gateway.id, gateway.clone());
            }
            Record::GatewayRemoved { gateway } => {
                self.gateways.remove(gateway);
            }
            Record::TopicCreated { id, name } => {
                let topic = Topic { id: *id, name: name.clone(), partitions: Vec::new() };
                self.topics.insert(*id, topic);
                self.topic_ids.insert(name.clone(), *id);
            }
            Record::TopicRemoved { id } => {
                if let Some(topic) = self.topics.remove(id) {
                    self.topic_ids.remove(&topic.name);
                    self.configs.remove(&ConfigResource::Topic(topic.name));
                }
            }
            Record::PartitionChanged { partition, state } => self.apply_partition(*partition, state),
            Record::ConfigChanged { resource, name, value } => self.apply_config(resource, name, value.as_deref()),
            Record::ProducerIdsAllocated { next } => {
                invariant!(P7, *next > self.next_producer_id, "next {next} after {}", self.next_producer_id);
                self.next_producer_id = *next;
            }
            Record::FeatureChanged { name, level } => {
                self.features.insert(name.clone(), *level);
            }
            Record::ControllerChanged { controller, term } => {
                invariant!(C1, *term >= self.controller_term, "term {term} after {}", self.controller_term);
                self.controller = Some(*controller);
                self.controller_term = *term;
            }
        }
    }

    /// The records that make this image from nothing: a snapshot (C6).
    pub fn to_records(&self) -> Vec<Record> {
        let mut records = vec![Record::ClusterNamed { cluster_id: self.cluster_id.clone() }];
        if let Some(controller) = self.controller {
            records.push(Record::ControllerChanged { controller, term: self.controller_term });
        }
        records.extend(
            self.features.iter().map(|(name, level)| Record::FeatureChanged { name: name.clone(), level: *level }),
        );
        if self.next_producer_id != ProducerId::default() {
            records.push(Record::ProducerIdsAllocated { next: self.next_producer_id });
        }
        records.extend(self.brokers.values().cloned().map(Record::BrokerRegistered));
        records.extend(
            self.directories
                .iter()
                .map(|(broker, epoch)| Record::DirectoryConfirmed { broker: *broker, broker_epoch: *epoch }),
        );
        records.extend(self.gateways.values().cloned().map(Record::GatewayRegistered));
        for topic in self.topics.values() {
            records.push(Record::TopicCreated { id: topic.id, name: topic.name.clone() });
            records.extend(topic.partitions.iter().enumerate().map(|(index, state)| Record::PartitionChanged {
                partition: TopicPartition { topic: topic.id, partition: PartitionIndex(index as i32) },
                state: state.clone(),
            }));
        }
        for (resource, configs) in &self.configs {
            records.extend(configs.iter().map(|(name, value)| Record::ConfigChanged {
                resource: resource.clone(),
                name: name.clone(),
                value: Some(value.clone()),
            }));
        }
        records
    }

    fn apply_partition(&mut self, partition: TopicPartition, state: &PartitionState) {
        state.check_invariants(partition);
        let Some(topic) = self.topics.get_mut(&partition.topic) else { return };
        let index = partition.partition.0 as usize;
        if let Some(old) = topic.partitions.get_mut(index) {
            invariant!(
                R9,
                state.partition_epoch > old.partition_epoch,
                "{partition}: {} after {}",
                state.partition_epoch,
                old.partition_epoch
            );
            invariant!(
                R8,
                state.leader_epoch >= old.leader_epoch,
                "{partition}: {} after {}",
                state.leader_epoch,
                old.leader_epoch
            );
            invariant!(
                R8,
                state.leader_epoch > old.leader_epoch || state.leader == old.leader || state.leader.is_none(),
                "{partition}: leader {:?} after {:?} in one epoch",
                state.leader,
                old.leader
            );
            invariant!(
                R12,
                state.unclean_since >= old.unclean_since,
                "{partition}: unclean since {:?} after {:?}",
                state.unclean_since,
                old.unclean_since
            );
            old.clone_from(state);
        } else if index == topic.partitions.len() {
            topic.partitions.push(state.clone());
        }
    }

    fn apply_config(&mut self, resource: &ConfigResource, name: &str, value: Option<&str>) {
        match value {
            Some(value) => {
                self.configs.entry(resource.clone()).or_default().insert(name.to_owned(), value.to_owned());
            }
            None => {
                if let Some(configs) = self.configs.get_mut(resource) {
                    configs.remove(name);
                    if configs.is_empty() {
                        self.configs.remove(resource);
                    }
                }
            }
        }
    }
}

impl Topic {
    pub fn partition(&self, index: PartitionIndex) -> Option<&PartitionState> {
        self.partitions.get(usize::try_from(index.0).ok()?)
    }
}

impl PartitionState {
    /// Whether replicas are being moved.
    pub fn is_moving(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    pub fn check_invariants(&self, partition: TopicPartition) {
        invariant!(
            R15,
            self.isr.iter().all(|id| !self.elr.contains(id)),
            "{partition}: ISR {:?} ELR {:?}",
            self.isr,
            self.elr
        );
        invariant!(
            R15,
            self.isr.iter().chain(&self.elr).all(|id| self.replicas.contains(id)),
            "{partition}: ISR {:?} ELR {:?} replicas {:?}",
            self.isr,
            self.elr,
            self.replicas
        );
        invariant!(
            R19,
            self.adding.iter().chain(&self.removing).all(|id| self.replicas.contains(id))
                && self.adding.iter().all(|id| !self.removing.contains(id)),
            "{partition}: adding {:?} removing {:?} replicas {:?}",
            self.adding,
            self.removing,
            self.replicas
        );
        invariant!(
            R12,
            self.unclean_since <= Some(self.leader_epoch),
            "{partition}: unclean since {:?} in epoch {}",
            self.unclean_since,
            self.leader_epoch
        );
        if let Some(leader) = self.leader {
            invariant!(R3, self.isr.contains(&leader), "{partition}: leader {leader} not in ISR {:?}", self.isr);
        }
    }
}
