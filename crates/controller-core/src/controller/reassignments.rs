//! Moves of replicas on request (KIP-455). Kafka's rules, codes and texts; `partition_change` knows when a move is complete.

use std::collections::BTreeMap;

use base_types::{BrokerId, ErrorCode, PartitionIndex, TopicPartition};
use peer_api::controller::{Reassign, Refusal, Response, TopicOutcomes};
use peer_api::metadata::{Image, MetadataOffset, PartitionState, Record, Topic};

use super::topics::check_assignment;
use super::{Decision, changed, configured_min_isr, flag, refusal};
use crate::partition_change::{Change, Replicas};

pub fn reassign(image: &Image, request: Reassign) -> Decision {
    // A partition that is named twice is decided on what was decided first.
    let mut decided: BTreeMap<TopicPartition, PartitionState> = BTreeMap::new();
    let mut records = Vec::new();
    let mut topics = Vec::new();
    for topic in request.topics {
        let mut partitions = Vec::new();
        for (index, target) in topic.partitions {
            let found = find(image, &topic.name, index);
            let result = found.and_then(|(named, partition, old)| {
                let old = decided.get(&partition).unwrap_or(old);
                let state = match &target {
                    Some(target) => move_towards(image, named, old, target, request.allow_replication_factor_change),
                    None => cancel_move(image, named, index, old),
                };
                Ok((partition, state?))
            });
            partitions.push((
                index,
                result.map(|(partition, state)| {
                    if let Some(state) = state {
                        records.push(Record::PartitionChanged { partition, state: state.clone() });
                        decided.insert(partition, state);
                    }
                }),
            ));
        }
        topics.push(TopicOutcomes { name: topic.name, partitions });
    }
    Decision::after(records, Response::Reassigned { topics, visible_at: MetadataOffset(0) })
}

fn find<'a>(
    image: &'a Image,
    name: &str,
    index: i32,
) -> Result<(&'a Topic, TopicPartition, &'a PartitionState), Refusal> {
    let unknown = |text: String| refusal(ErrorCode::UnknownTopicOrPartition, text);
    let topic = image.topic_named(name);
    let topic = topic.ok_or_else(|| unknown(format!("Unable to find a topic named {name}.")))?;
    let partition = TopicPartition { topic: topic.id, partition: PartitionIndex(index) };
    let state = topic.partition(partition.partition);
    let state = state.ok_or_else(|| unknown(format!("Unable to find partition {name}:{index}.")))?;
    Ok((topic, partition, state))
}

/// `None` when the replicas are what they are to be.
fn move_towards(
    image: &Image,
    topic: &Topic,
    old: &PartitionState,
    target: &[BrokerId],
    other_factor: bool,
) -> Result<Option<PartitionState>, Refusal> {
    check_assignment(image, target, None)?;
    let staying = Replicas::of(old).moved().all.len();
    if !other_factor && staying != target.len() {
        let text = format!("The replication factor is changed from {staying} to {}", target.len());
        return Err(refusal(ErrorCode::InvalidReplicationFactor, text));
    }
    let replicas = Some(Replicas::of(old).towards(target));
    Ok(changed(image, &topic.name, old, &Change { isr: old.isr.clone(), replicas, ..Change::default() }))
}

fn cancel_move(
    image: &Image,
    topic: &Topic,
    index: i32,
    old: &PartitionState,
) -> Result<Option<PartitionState>, Refusal> {
    if !old.is_moving() {
        let text = "No partition reassignment is in progress.";
        return Err(refusal(ErrorCode::NoReassignmentInProgress, text));
    }
    let replicas = Replicas::of(old).reverted();
    let isr: Vec<BrokerId> = old.isr.iter().filter(|id| replicas.all.contains(id)).copied().collect();
    let why = if isr.is_empty() {
        // Only the new replicas are in sync: without them, what was committed since may be lost.
        Some("it would require an unclean leader election")
    } else if leaves_too_few(image, topic, old, &replicas) {
        Some("fewer replicas than min.insync.replicas would be left that have all that is committed")
    } else {
        None
    };
    if let Some(why) = why.filter(|_| !flag(image, &topic.name, "unclean.leader.election.enable")) {
        let text = format!("Unable to revert partition assignment for {}:{index} because {why}.", topic.name);
        return Err(refusal(ErrorCode::InvalidReplicaAssignment, text));
    }
    let change = Change { isr, replicas: Some(replicas), ..Change::default() };
    Ok(changed(image, &topic.name, old, &change))
}

/// Whether the replicas that go are needed: what was committed is on every member of ISR and ELR, and as many of them as
/// `min.insync.replicas` says, less one, may lose it (KIP-966). Kafka undoes the move.
fn leaves_too_few(image: &Image, topic: &Topic, old: &PartitionState, replicas: &Replicas) -> bool {
    let members = old.isr.iter().chain(&old.elr);
    let (stay, go): (Vec<BrokerId>, Vec<BrokerId>) = members.copied().partition(|id| replicas.all.contains(id));
    let min_isr = configured_min_isr(image, &topic.name).min(replicas.all.len());
    !go.is_empty() && stay.len() < min_isr
}
