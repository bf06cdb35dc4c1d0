//! What follows from newer metadata: replicas to open, to assign, to delete, and links to keep.

use std::collections::BTreeSet;

use base_types::{BrokerEpoch, BrokerId, Now, TopicPartition};
use peer_api::config::{TimestampType, TopicSettings};
use peer_api::metadata::{BrokerState, ConfigResource, Record, Update};
use replica_core::{Assignment, Settings};

use super::{Slot, StorageNode};
use crate::effect::{Effect, Effects};

/// What an update may have changed for us.
#[derive(Debug, Default)]
struct Touched {
    partitions: BTreeSet<TopicPartition>,
    brokers: bool,
    configs: bool,
    deleted: Vec<TopicPartition>,
}

impl StorageNode {
    pub(super) fn metadata_updated(&mut self, now: Now, update: Update, effects: &mut Effects) {
        let touched = match &update {
            Update::Snapshot { .. } => None,
            Update::Delta { records, .. } => Some(self.touched_by(records)),
        };
        if !self.image.update(update) {
            // A gap: connect again and ask from where we stand. The view stays a prefix of the log (C11).
            if let Some(stream) = self.session.stream() {
                effects.push(Effect::ReconnectController { stream, active: None });
                self.controller_lost(now, stream, effects);
            }
            return;
        }
        let everything = || -> BTreeSet<TopicPartition> { self.image.partitions().map(|(id, _)| id).collect() };
        let (partitions, deleted, configs) = match touched {
            // A snapshot deletes nothing: a topic that is missing from it may be one we were never told of (C10).
            None => (everything(), Vec::new(), true),
            Some(touched) if touched.brokers || touched.configs => (everything(), touched.deleted, touched.configs),
            Some(touched) => (touched.partitions, touched.deleted, false),
        };
        for partition in deleted {
            if self.slots.remove(&partition).is_some() {
                effects.push(Effect::DeleteReplica { partition });
            }
        }
        for partition in partitions {
            let Some(state) = self.image.partition(partition) else { continue };
            if !state.replicas.contains(&self.me.broker) {
                continue;
            }
            if configs {
                self.refresh_settings(now, partition, effects);
            }
            if self.slots.contains_key(&partition) {
                self.assign(now, partition, effects);
            } else {
                self.open(partition, effects);
            }
        }
        self.refresh_links(effects);
    }

    /// Tells a replica what the metadata says of it now.
    pub(super) fn assign(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) {
        let Some(state) = self.image.partition(partition) else { return };
        let epoch_of = |&id: &BrokerId| -> Option<(BrokerId, BrokerEpoch)> {
            let broker = self.image.broker(id)?;
            (broker.state == BrokerState::Active).then_some((id, broker.epoch))
        };
        let assignment = Assignment {
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            leader: state.leader,
            replicas: state.replicas.clone(),
            isr: state.isr.clone(),
            broker_epochs: state.replicas.iter().filter_map(epoch_of).collect(),
        };
        self.replica_step(now, partition, replica_core::Event::MetadataChanged(assignment), effects);
    }

    fn open(&mut self, partition: TopicPartition, effects: &mut Effects) {
        let Some(topic) = self.image.topic(partition.topic) else { return };
        let settings = TopicSettings::of(&self.image, &topic.name);
        effects.push(Effect::OpenReplica { partition, settings: settings.clone() });
        let slot =
            Slot { settings, replica: None, scheduled: None, waiters: BTreeSet::new(), bytes_since_checkpoint: 0 };
        self.slots.insert(partition, slot);
    }

    fn refresh_settings(&mut self, now: Now, partition: TopicPartition, effects: &mut Effects) {
        let Some(topic) = self.image.topic(partition.topic) else { return };
        let settings = TopicSettings::of(&self.image, &topic.name);
        let Some(slot) = self.slots.get_mut(&partition) else { return };
        if slot.settings == settings {
            return;
        }
        slot.settings = settings.clone();
        let event = replica_core::Event::SettingsChanged(replica_settings(&settings));
        effects.push(Effect::SettingsChanged { partition, settings });
        self.replica_step(now, partition, event, effects);
    }

    fn touched_by(&self, records: &[Record]) -> Touched {
        let mut touched = Touched::default();
        for record in records {
            match record {
                Record::PartitionChanged { partition, .. } => {
                    touched.partitions.insert(*partition);
                }
                Record::BrokerRegistered(_) | Record::BrokerStateChanged { .. } | Record::BrokerUnregistered { .. } => {
                    touched.brokers = true;
                }
                Record::ConfigChanged { resource: ConfigResource::Topic(_) | ConfigResource::Cluster, .. } => {
                    touched.configs = true;
                }
                Record::TopicRemoved { id } => {
                    let of_topic = self.slots.keys().filter(|partition| partition.topic == *id);
                    touched.deleted.extend(of_topic.copied());
                }
                _ => {}
            }
        }
        touched
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
        compacted: settings.cleanup_policy.compact,
        ..Settings::default()
    }
}
