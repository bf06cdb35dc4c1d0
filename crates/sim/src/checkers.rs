//! What must hold, looked at from outside: across replicas at any moment. What clients saw is judged elsewhere
//! (`process/client/book.rs`, `groups.rs`).

pub mod controller;
pub mod gateway;
pub mod groups;
pub mod liveness;
pub mod producers;
pub mod replication;
pub mod storage;

use std::collections::BTreeMap;

use base_types::{Offset, PartitionIndex, TopicPartition};
use peer_api::metadata::{ConfigResource, Image};
use record_batch::{BatchHeader, batches};

use crate::cluster::Shape;
use crate::process::client::TOPIC;
use crate::process::controller::Controller;
use crate::process::gateway::Gateway;
use crate::process::storage::Storage;
use crate::world::{ProcessId, World};
use controller::Controllers;
use replication::{Log, Replica, Replication};
use storage::Disks;

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub struct Memory {
    pub replication: Replication,
    pub controllers: Controllers,
    pub disks: Disks,
}

impl Memory {
    /// All that can be seen from outside, at one moment.
    pub fn check(&mut self, world: &World) -> Result<(), String> {
        self.look(world)?;
        let image = self.controllers.newest();
        let replicas = replicas(world, image);
        self.replication.check(&replicas, image)?;
        for replica in &replicas {
            self.disks.begins(replica.node, replica.partition, replica.log_start)?;
        }
        if let Some(image) = image {
            for (node, storage) in nodes(world) {
                let life = world.life(node).unwrap_or(0);
                self.disks.holds(
                    storage.core().broker(),
                    life,
                    storage.log().replicas().into_iter().collect(),
                    image,
                )?;
            }
        }
        producers::check(producer_states(world))
    }

    /// What a process knows is not lost with it, when this is called before it ends.
    pub fn look(&mut self, world: &World) -> Result<(), String> {
        self.check_metadata(world)?;
        for (_, storage) in nodes(world) {
            let held = storage.log().replicas().into_iter().collect();
            self.replication.holds(storage.core().broker(), &held);
        }
        let image = self.controllers.newest();
        let least = |partition| image.map_or(1, |image| min_insync_replicas(image, partition));
        self.replication.note(&replicas(world, image), least);
        Ok(())
    }

    fn check_metadata(&mut self, world: &World) -> Result<(), String> {
        self.check_controllers(world)?;
        for id in world.processes() {
            let life = world.life(id).unwrap_or(0);
            if let Some(storage) = world.process::<Storage>(id) {
                self.controllers.viewed(id, life, storage.core().image())?;
            } else if let Some(gateway) = world.process::<Gateway>(id) {
                self.controllers.viewed(id, life, gateway.core().image())?;
                gateway::memory(id, gateway.core().memory_used(), gateway.memory_max())?;
            }
        }
        Ok(())
    }

    fn check_controllers(&mut self, world: &World) -> Result<(), String> {
        for controller in controllers(world) {
            let role = controller.core().role();
            self.controllers.votes(role.term);
            if role.is_leader {
                self.controllers.leads(role.term, controller.id())?;
            }
        }
        for controller in controllers(world).filter(|controller| controller.core().is_active()) {
            let core = controller.core();
            for peer in core.progress() {
                // One that is down is looked at when it is back.
                let Some(voter) = controllers(world).find(|voter| voter.id() == peer.id.0) else { continue };
                self.controllers.confirmed(core.role().term, peer.id, peer.log_end, voter.store().last())?;
            }
            self.controllers.decides(core.role().term, controller.id(), core.committed())?;
        }
        for controller in controllers(world) {
            self.controllers.applied(controller.id(), controller.core().image())?;
        }
        Ok(())
    }
}

fn controllers(world: &World) -> impl Iterator<Item = &Controller> {
    world.processes().filter_map(|id| world.process::<Controller>(id))
}

fn nodes(world: &World) -> impl Iterator<Item = (ProcessId, &Storage)> {
    world.processes().filter_map(|id| Some((id, world.process::<Storage>(id)?)))
}

fn replicas<'w>(world: &'w World, image: Option<&Image>) -> Vec<Replica<'w>> {
    let of_node = |(id, storage): (ProcessId, &'w Storage)| {
        let core = storage.core();
        let is_in_office =
            image.is_some_and(|image| replication::is_in_office(image, core.broker(), core.broker_epoch()));
        let life = world.life(id).unwrap_or(0);
        core.replica_stats().filter_map(move |stats| {
            let replica = core.replica(stats.partition)?;
            // What the disk has already let go of the core may not have heard of.
            let (start, end) = storage.bounds(stats.partition).unwrap_or((stats.log_start, stats.durable_end));
            Some(Replica {
                node: core.broker(),
                life,
                partition: stats.partition,
                leads: stats.leads,
                leader_epoch: stats.leader_epoch,
                log_start: stats.log_start.max(start),
                log_end: stats.log_end,
                durable_end: stats.durable_end.min(end),
                high_watermark: stats.high_watermark,
                maximal_isr: replica.maximal_isr(),
                is_in_office,
                log: storage,
            })
        })
    };
    nodes(world).flat_map(of_node).collect()
}

fn producer_states(world: &World) -> impl Iterator<Item = producers::State> {
    nodes(world).flat_map(|(_, storage)| {
        let core = storage.core();
        core.replica_stats()
            .filter(|stats| stats.durable_end == stats.log_end && stats.log_start == Offset::ZERO)
            .filter_map(|stats| {
                let replica = core.replica(stats.partition)?;
                Some(producers::State {
                    node: core.broker(),
                    partition: stats.partition,
                    log_end: stats.log_end,
                    last_epoch: replica.epochs().latest(),
                    encoded: replica.producers().encode(),
                })
            })
    })
}

/// As the topic or the cluster has it, and no more than there are replicas.
pub fn min_insync_replicas(image: &Image, partition: TopicPartition) -> usize {
    const NAME: &str = "min.insync.replicas";
    let Some(topic) = image.topic(partition.topic) else { return 1 };
    let of_topic = image.config(&ConfigResource::Topic(topic.name.clone()), NAME);
    let configured = of_topic.or_else(|| image.config(&ConfigResource::Cluster, NAME));
    let replicas = image.partition(partition).map_or(1, |state| state.replicas.len());
    configured.and_then(|count| count.parse().ok()).unwrap_or(1).clamp(1, replicas.max(1))
}

impl Log for Storage {
    fn headers(&self, from: Offset, below: Offset, partition: TopicPartition) -> Result<Vec<BatchHeader>, String> {
        self.disk().vfs.without_faults(|| {
            let mut headers = Vec::new();
            let mut next = from;
            while next < below {
                let read = self.log().read(partition, next, below, usize::MAX);
                let read = read.map_err(|error| format!("S2: nothing can be read at {next}: {error}"))?;
                if read.next <= next {
                    break;
                }
                next = read.next;
                for piece in &read.batches {
                    headers.extend(batches(piece).map_while(Result::ok).map(|(header, _)| header));
                }
            }
            Ok(headers)
        })
    }
}

/// L: after the trouble every partition has a leader with a full ISR. Where the logs end.
pub fn healed(world: &World, shape: Shape) -> Result<BTreeMap<i32, i64>, String> {
    let mut led = BTreeMap::new();
    for id in world.processes() {
        let Some(storage) = world.process::<Storage>(id) else { continue };
        for stats in storage.core().replica_stats().filter(|stats| stats.leads) {
            let Some(replica) = storage.core().replica(stats.partition) else { continue };
            let named = storage.core().image().topic(stats.partition.topic).is_some_and(|topic| topic.name == TOPIC);
            let newest = led.get(&stats.partition.partition).is_none_or(|&(epoch, _, _)| stats.leader_epoch > epoch);
            if named && newest {
                let end = replica.high_watermark();
                led.insert(stats.partition.partition, (stats.leader_epoch, end, replica.isr().len()));
            }
        }
    }
    for partition in 0..shape.partitions() {
        let Some(&(_, _, isr)) = led.get(&PartitionIndex(partition)) else {
            return Err(format!("L: partition {partition} has no leader after the trouble is over"));
        };
        if isr < 3 {
            return Err(format!("L: partition {partition} has {isr} in sync after the trouble is over"));
        }
    }
    Ok(led.into_iter().map(|(partition, (_, end, _))| (partition.0, end.0)).collect())
}
