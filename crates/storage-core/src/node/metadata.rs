//! What follows from newer metadata: replicas to open, to assign, to delete, and links to keep.
//!
//! Data goes when a topic is removed, and when a partition's replicas are others (C10, R19). What an earlier life of this broker
//! was is decided by metadata from after this life's registration only: an older view may say that we are no replica, and we
//! were one again, with this very data, before that life ended.

use std::collections::BTreeSet;

use base_types::{Now, PartitionIndex, TopicId, TopicPartition};
use peer_api::config::{ReplicationRates, ReplicationThrottles, TimestampType, TopicSettings};
use peer_api::metadata::{ConfigResource, PartitionState, Record, Topic, Update};
use replica_core::{Assignment, Settings};

use super::{Slot, StorageNode};
use crate::effect::{Effect, Effects};

/// What an update may have changed for us.
#[derive(Debug, Default)]
struct Touched {
    partitions: BTreeSet<TopicPartition>,
    /// A broker's registration, and so every partition that it is a replica of.
    brokers: bool,
    /// Names of topics.
    configs: BTreeSet<String>,
    /// A default, and so every topic.
    cluster_configs: bool,
    /// Some broker's own.
    broker_configs: bool,
    deleted: BTreeSet<TopicId>,
}

impl StorageNode {
    pub(super) fn metadata_updated(&mut self, now: Now, update: Update, effects: &mut Effects) {
        let mut touched = Touched::by(&update);
        let news = self.coordinators.news(&self.image, &update);
        let goes_back = matches!(&update, Update::Snapshot { at, .. } if *at < self.image.at());
        if goes_back || !self.image.update(update) {
            // Connect again and ask from where we stand. The view stays a prefix of the log and never goes back (C11).
            return self.reconnect_controller(now, None, effects);
        }
        self.find_groups_topic();
        for topic in &touched.deleted {
            for partition in self.slots_of(*topic) {
                self.release(now, partition, effects);
            }
            self.former.retain(|partition, _| partition.topic != *topic);
        }
        self.refresh_throttles(now, &touched);
        let relaxed = self.refresh_settings(now, &touched, effects);
        touched.partitions.extend(relaxed);
        let everything = touched.brokers || touched.cluster_configs;
        for partition in if everything { self.all_ours() } else { touched.partitions } {
            if self.slots.contains_key(&partition) {
                if !self.released(now, partition, effects) && !self.set_aside(now, partition, effects) {
                    self.assign(now, partition, effects);
                }
            } else if self.is_ours(partition) {
                self.open(partition, effects);
            }
        }
        self.release_strays(effects);
        self.refresh_links(effects);
        self.tell_coordinators(now, news, effects);
    }

    /// Tells a replica what the metadata says of it now. Where they say nothing, it is idle; its data stays until a committed
    /// word deletes it (C10).
    pub(super) fn assign(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) {
        let Some(replica) = self.replica(partition) else { return };
        // Older metadata may name us leader in an epoch whose last records we lost with the power.
        if !self.knows_this_life() {
            return;
        }
        let assignment = Assignment::in_image(&self.image, partition).unwrap_or_else(|| Assignment::of_nobody(replica));
        self.replica_step(now, partition, replica_core::Event::MetadataChanged(assignment), effects);
        self.relax(now, partition, effects);
    }

    /// Whether the view is from after this life's registration.
    pub(super) fn knows_this_life(&self) -> bool {
        self.image.broker(self.me.broker).is_some_and(|known| known.incarnation == self.me.incarnation)
    }

    /// Whether the metadata say that others are this partition's replicas, and not we. Where they say nothing of it, nothing is
    /// known (C10).
    pub(super) fn is_given_away(&self, partition: TopicPartition) -> bool {
        let others = |state: &PartitionState| !state.replicas.contains(&self.me.broker);
        self.knows_this_life() && self.image.partition(partition).is_some_and(others)
    }

    /// Deletes the replica if it is given away. One that is being opened goes when it is open: the disk answers for it once.
    fn released(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) -> bool {
        if !self.is_given_away(partition) {
            return false;
        }
        if self.replica(partition).is_some() {
            self.release(now, partition, effects);
        }
        true
    }

    pub(super) fn release(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) {
        self.drop_slot(now, partition, effects);
        effects.push(Effect::DeleteReplica { partition });
    }

    /// What the data directory held at the start and was given away while this broker was down.
    fn release_strays(&mut self, effects: &mut Effects) {
        if !self.knows_this_life() {
            return;
        }
        let (image, slots, me) = (&self.image, &self.slots, self.me.broker);
        self.strays.retain(|&partition| {
            let Some(state) = image.partition(partition) else { return true };
            if !state.replicas.contains(&me) && !slots.contains_key(&partition) {
                effects.push(Effect::DeleteReplica { partition });
            }
            false
        });
    }

    fn is_ours(&self, partition: TopicPartition) -> bool {
        self.image.partition(partition).is_some_and(|state| state.replicas.contains(&self.me.broker))
    }

    /// What we have, and what we are to have.
    fn all_ours(&self) -> BTreeSet<TopicPartition> {
        let assigned = self.image.partitions().filter(|(_, state)| state.replicas.contains(&self.me.broker));
        assigned.map(|(partition, _)| partition).chain(self.slots.keys().copied()).collect()
    }

    fn slots_of(&self, topic: TopicId) -> Vec<TopicPartition> {
        let place = |index| TopicPartition { topic, partition: PartitionIndex(index) };
        self.slots.range(place(0)..=place(i32::MAX)).map(|(&partition, _)| partition).collect()
    }

    fn open(&mut self, partition: TopicPartition, effects: &mut Effects) {
        let Some(topic) = self.image.topic(partition.topic) else { return };
        let settings = TopicSettings::of(&self.image, &topic.name);
        effects.push(Effect::OpenReplica { partition, settings: settings.clone() });
        self.slots.insert(partition, Slot::new(settings));
        self.strays.remove(&partition);
    }

    /// The replica goes, and whoever waits for it hears of it. What it has still asked for comes back and finds nobody (R18).
    fn drop_slot(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) {
        if let Some(replica) = self.replica(partition) {
            let event = replica_core::Event::MetadataChanged(Assignment::of_nobody(replica));
            self.replica_step(now, partition, event, effects);
        }
        self.schedule(partition, None);
        if let Some(Slot { replica: Some(replica), .. }) = self.slots.remove(&partition) {
            self.former.insert(partition, replica.names());
        }
    }

    fn refresh_throttles(&mut self, now: Now, touched: &Touched) {
        if touched.cluster_configs || touched.broker_configs {
            self.throttles.set_rates(now, ReplicationRates::of(&self.image, self.me.broker));
        }
        if touched.cluster_configs {
            // All is looked at, and what a snapshot leaves out is gone.
            self.throttles.forget_replicas();
        }
        let image = &self.image;
        let named = touched.configs.iter().filter_map(|name| image.topic_named(name));
        let topics: Vec<&Topic> = if touched.cluster_configs { image.topics().collect() } else { named.collect() };
        for topic in topics {
            self.throttles.set_replicas(topic.id, ReplicationThrottles::of(image, &topic.name));
        }
        for topic in &touched.deleted {
            self.throttles.set_replicas(*topic, ReplicationThrottles::default());
        }
        // Whoever has come into the ISR, or is a replica no more, waits no more either.
        self.throttles.look_again();
    }

    /// Passes on settings that have changed. Those of the partitions in the answer hold in full only once [`StorageNode::relax`] says so.
    ///
    /// A minimum of replicas in sync and the state of the partition belong together: a smaller one beside an older ISR would commit
    /// what the next leader may not have. So the greater minimum holds until the replica has taken up the state.
    fn refresh_settings(&mut self, now: Now, touched: &Touched, effects: &mut Effects) -> Vec<TopicPartition> {
        let partitions: Vec<TopicPartition> = if touched.cluster_configs {
            self.slots.keys().copied().collect()
        } else {
            let topics = touched.configs.iter().filter_map(|name| self.image.topic_named(name));
            topics.flat_map(|topic| self.slots_of(topic.id)).collect()
        };
        let mut relaxed = Vec::new();
        for partition in partitions {
            let Some(topic) = self.image.topic(partition.topic) else { continue };
            let settings = TopicSettings::of(&self.image, &topic.name);
            let Some(slot) = self.slots.get_mut(&partition).filter(|slot| slot.settings != settings) else { continue };
            slot.settings = settings.clone();
            let mut of_replica = replica_settings(&settings);
            let before = slot.replica.as_ref().map_or(0, |replica| replica.settings().min_insync_replicas);
            if before > of_replica.min_insync_replicas {
                of_replica.min_insync_replicas = before;
                relaxed.push(partition);
            }
            effects.push(Effect::SettingsChanged { partition, settings });
            self.replica_step(now, partition, replica_core::Event::SettingsChanged(of_replica), effects);
        }
        relaxed
    }

    /// The replica knows the state that its settings came with.
    fn relax(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) {
        let Some(slot) = self.slots.get(&partition) else { return };
        let settings = replica_settings(&slot.settings);
        if slot.replica.as_ref().is_some_and(|replica| *replica.settings() != settings) {
            self.replica_step(now, partition, replica_core::Event::SettingsChanged(settings), effects);
        }
    }
}

impl Touched {
    fn by(update: &Update) -> Touched {
        match update {
            // A snapshot deletes nothing: a topic that is missing from it may be one that we were never told of (C10).
            Update::Snapshot { .. } => Touched { brokers: true, cluster_configs: true, ..Touched::default() },
            Update::Delta { records, .. } => {
                let mut touched = Touched::default();
                records.iter().for_each(|record| touched.add(record));
                touched
            }
        }
    }

    fn add(&mut self, record: &Record) {
        match record {
            Record::PartitionChanged { partition, .. } => {
                self.partitions.insert(*partition);
            }
            Record::BrokerRegistered(_) | Record::BrokerStateChanged { .. } | Record::BrokerUnregistered { .. } => {
                self.brokers = true;
            }
            Record::ConfigChanged { resource: ConfigResource::Topic(name), .. } => {
                self.configs.insert(name.clone());
            }
            Record::ConfigChanged { resource: ConfigResource::Cluster, .. } => self.cluster_configs = true,
            Record::ConfigChanged { resource: ConfigResource::Broker(_), .. } => self.broker_configs = true,
            Record::TopicRemoved { id } => {
                self.deleted.insert(*id);
            }
            // Its configs may have come before it.
            Record::TopicCreated { name, .. } => {
                self.configs.insert(name.clone());
            }
            Record::ClusterNamed { .. }
            | Record::GatewayRegistered(_)
            | Record::GatewayRemoved { .. }
            | Record::ProducerIdsAllocated { .. }
            | Record::FeatureChanged { .. }
            | Record::ControllerChanged { .. }
            | Record::DirectoryConfirmed { .. } => {}
        }
    }
}

impl Slot {
    fn new(settings: TopicSettings) -> Slot {
        Slot {
            settings,
            replica: None,
            scheduled: None,
            opening: true,
            waiters: BTreeSet::new(),
            damaged: None,
            aside_in: None,
            cutting: None,
            bytes_since_checkpoint: 0,
            checkpoint: None,
            trim: None,
        }
    }
}

/// What a replica needs to know of its topic's settings.
pub(super) fn replica_settings(settings: &TopicSettings) -> Settings {
    Settings {
        min_insync_replicas: usize::try_from(settings.min_insync_replicas).unwrap_or(1).max(1),
        message_bytes_max: usize::try_from(settings.max_message_bytes).unwrap_or(0),
        log_append_time: settings.message_timestamp_type == TimestampType::LogAppendTime,
        timestamp_before_ms_max: settings.message_timestamp_before_max_ms,
        timestamp_after_ms_max: settings.message_timestamp_after_max_ms,
        ..Settings::default()
    }
}
