//! One storage node: its disks, its replicas, its view of the metadata. What `storage-core` does around a replica is done here in
//! short: a replica hears only metadata in which this life is registered, and a minimum of replicas in sync that is lowered holds
//! only once the replica knows the state it came with.

use std::collections::BTreeMap;
use std::sync::Arc;

use base_types::{BrokerEpoch, BrokerId, Offset, Tick, TopicPartition};
use peer_api::metadata::{ConfigResource, Image};
use record_batch::StampedBatch;
use replica_core::{Names, Replica, Role, Settings};

use crate::disk::Disk;
use crate::metadata::life_of;

pub const MIN_ISR: &str = "min.insync.replicas";
pub const DURABILITY: &str = "thalweg.durability";

#[derive(Clone, Debug)]
pub struct Node {
    pub id: BrokerId,
    pub clock: Tick,
    /// Counts starts.
    pub life: u64,
    pub up: bool,
    /// It does nothing and hears nothing, and does not know it.
    pub paused: bool,
    pub broker_epoch: Option<BrokerEpoch>,
    pub view: Arc<Image>,
    /// Where the view stands in the log of commands.
    pub heard: usize,
    /// The broker epoch that is written down in the data directory.
    pub directory: Option<BrokerEpoch>,
    /// The one under which the directory was last stopped cleanly.
    pub stopped_cleanly: Option<BrokerEpoch>,
    /// It has asked to stop.
    pub stopping: bool,
    /// Boxed, because a map has room for eleven.
    pub slots: BTreeMap<TopicPartition, Box<Slot>>,
    /// How far the replicas that were dropped in this life had named things.
    pub former: BTreeMap<TopicPartition, Names>,
    /// Where a replica of a new life, or of a new partition, begins to name things.
    pub first_names: Names,
    /// The last life that ended with the loss of something that was durable as promised.
    pub lost_in: Option<u64>,
    /// The last life that ended so that pages which were not written may be gone: what the node had of any topic that is
    /// acknowledged from the page cache counts for nothing to the controller, whether or not the node knew of the topic yet.
    pub doubted_in: Option<u64>,
}

/// One replica and its disk.
#[derive(Clone, Hash, Debug, Default)]
pub struct Slot {
    /// `None`: the node is down.
    pub replica: Option<Replica>,
    pub disk: Disk,
    /// The log as the replica has it, what is on its way to the disk included.
    pub log: Vec<StampedBatch>,
    /// `log` has changed since the judge last scanned it.
    pub unscanned: bool,
}

impl Node {
    pub fn new(id: BrokerId, view: Arc<Image>) -> Node {
        Node {
            id,
            clock: Tick(1_000),
            life: 0,
            up: false,
            paused: false,
            broker_epoch: None,
            view,
            heard: 0,
            directory: None,
            stopped_cleanly: None,
            stopping: false,
            slots: BTreeMap::new(),
            former: BTreeMap::new(),
            first_names: Names::default(),
            lost_in: None,
            doubted_in: None,
        }
    }

    pub fn acts(&self) -> bool {
        self.up && !self.paused
    }

    pub fn replica(&self, partition: TopicPartition) -> Option<&Replica> {
        self.slots.get(&partition)?.replica.as_ref()
    }

    pub fn follows(&self, partition: TopicPartition, leader: BrokerId) -> bool {
        self.replica(partition).is_some_and(|replica| replica.role() == Role::Follower { leader })
    }

    /// Whether the view is from after this life's registration.
    pub fn knows_this_life(&self) -> bool {
        life_of(&self.view, self.id) == Some(self.life)
    }

    /// Whether it is, for the metadata, the node that it is: not one of before a loss.
    pub fn counts_in(&self, image: &Image) -> bool {
        self.is_since(self.lost_in, image)
    }

    /// Whether it will be the same to the controller when it registers again: it lost nothing, nor may have.
    pub fn is_trusted_in(&self, image: &Image) -> bool {
        self.counts_in(image) && self.is_since(self.doubted_in, image)
    }

    fn is_since(&self, ended: Option<u64>, image: &Image) -> bool {
        ended.is_none_or(|ended| life_of(image, self.id).is_some_and(|life| life > ended))
    }

    /// What the metadata say of the partition's topic; `lag_ms` is the same for all.
    pub fn settings(&self, partition: TopicPartition, lag_ms: u64) -> Settings {
        let min_insync_replicas = topic_value(&self.view, partition, MIN_ISR).and_then(|value| value.parse().ok());
        let min_insync_replicas = min_insync_replicas.unwrap_or(1);
        Settings { min_insync_replicas, replica_lag_ms_max: lag_ms, ..Settings::default() }
    }
}

impl Slot {
    pub fn boot(&mut self, id: BrokerId, partition: TopicPartition, settings: Settings, former: Names) {
        self.log.clone_from(&self.disk.log);
        self.unscanned = true;
        let replica = Replica::new(id, partition, settings, self.disk.on_disk());
        self.replica = Some(replica.with_names_after(former));
    }

    /// What was pushed and taken into the log, though no write is asked for while the disk has no space.
    pub fn saw_push(&mut self, batches: &[StampedBatch]) {
        let Some(replica) = &self.replica else { return };
        for batch in batches.iter().filter(|batch| batch.header().next_offset() <= replica.log_end()) {
            if batch.header().base_offset == self.log_end() {
                self.log.push(batch.clone());
                self.unscanned = true;
            }
        }
    }

    /// A write continues the log, or is asked for once more in the same place.
    pub fn saw_write(&mut self, batch: &StampedBatch) {
        if batch.header().base_offset == self.log_end() {
            self.log.push(batch.clone());
            self.unscanned = true;
        } else {
            assert!(self.log.contains(batch), "R10: {} is written in no place", batch.header().base_offset);
        }
    }

    fn log_end(&self) -> Offset {
        self.log.last().map_or(self.disk.log_start, |last| last.header().next_offset())
    }
}

fn topic_value(image: &Image, partition: TopicPartition, name: &str) -> Option<String> {
    let topic = image.topic(partition.topic)?;
    let own = image.config(&ConfigResource::Topic(topic.name.clone()), name);
    own.or_else(|| image.config(&ConfigResource::Cluster, name)).map(str::to_owned)
}

pub fn is_page_cache(image: &Image, partition: TopicPartition) -> bool {
    topic_value(image, partition, DURABILITY).as_deref() == Some("page-cache")
}

pub fn min_isr(image: &Image, partition: TopicPartition) -> usize {
    topic_value(image, partition, MIN_ISR).and_then(|value| value.parse().ok()).unwrap_or(1)
}
