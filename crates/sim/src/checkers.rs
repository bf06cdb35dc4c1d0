//! What must hold, looked at from outside: across replicas at any moment. What clients saw is judged elsewhere
//! (`process/client/book.rs`, `groups.rs`).

pub mod groups;

use std::collections::BTreeMap;

use base_types::{BrokerId, LeaderEpoch, PartitionIndex, TopicPartition};
use replica_core::Role;

use crate::cluster::Shape;
use crate::process::client::TOPIC;
use crate::process::storage::Storage;
use crate::world::{ProcessId, World};

/// Who led which partition in which epoch, over the whole run (R8).
#[derive(Debug, Default)]
pub struct Epochs {
    leaders: BTreeMap<(TopicPartition, LeaderEpoch), BrokerId>,
}

/// R1 and R8, over all running storage nodes.
pub fn replicas(world: &World, epochs: &mut Epochs) -> Result<(), String> {
    let mut by_partition: BTreeMap<TopicPartition, Vec<(i32, &Storage)>> = BTreeMap::new();
    for id in world.processes() {
        let ProcessId::Storage(number) = id else { continue };
        let Some(storage) = world.process::<Storage>(id) else { continue };
        for stats in storage.core().replica_stats() {
            by_partition.entry(stats.partition).or_default().push((number, storage));
            let Some(replica) = storage.core().replica(stats.partition) else { continue };
            if replica.role() == Role::Leader {
                let known = *epochs.leaders.entry((stats.partition, stats.leader_epoch)).or_insert(BrokerId(number));
                if known != BrokerId(number) {
                    return Err(format!(
                        "R8: {} epoch {} is led by {known} and {number}",
                        stats.partition, stats.leader_epoch
                    ));
                }
            }
        }
    }
    for (partition, holders) in by_partition {
        for (at, &(a, first)) in holders.iter().enumerate() {
            for &(b, second) in &holders[at + 1..] {
                logs_match(partition, (a, first), (b, second))?;
            }
        }
    }
    Ok(())
}

/// R1: two replicas hold the same bytes below the smaller of their high watermarks.
fn logs_match(partition: TopicPartition, a: (i32, &Storage), b: (i32, &Storage)) -> Result<(), String> {
    let bounds = |storage: &Storage| {
        let replica = storage.core().replica(partition)?;
        Some((replica.log_start(), replica.high_watermark().min(replica.durable_end())))
    };
    let (Some((start_a, end_a)), Some((start_b, end_b))) = (bounds(a.1), bounds(b.1)) else { return Ok(()) };
    let (start, end) = (start_a.max(start_b), end_a.min(end_b));
    if start >= end {
        return Ok(());
    }
    let bytes = |storage: &Storage| -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut from = start;
        while from < end {
            let read = storage.log().read(partition, from, end, usize::MAX);
            let read = read.map_err(|error| format!("S2: {partition} cannot be read at {from}: {error}"))?;
            if read.next <= from {
                return Err(format!("S1: {partition} has nothing at {from}, below its high watermark {end}"));
            }
            read.batches.iter().for_each(|piece| bytes.extend_from_slice(piece));
            from = read.next;
        }
        Ok(bytes)
    };
    if bytes(a.1)? == bytes(b.1)? {
        Ok(())
    } else {
        Err(format!("R1: {partition}: nodes {} and {} differ between {start} and {end}", a.0, b.0))
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
