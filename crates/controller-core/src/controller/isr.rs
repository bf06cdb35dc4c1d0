//! AlterPartition: leaders propose, epochs decide (R9, KIP-497, KIP-841, KIP-903).

use std::collections::BTreeSet;

use base_types::{BrokerEpoch, BrokerId, ErrorCode, planted};
use peer_api::controller::{AlterPartition, IsrChange, Refusal, Response};
use peer_api::metadata::{Image, PartitionState, Record};

use super::{Decision, changed, is_eligible, refusal};
use crate::partition_change::Change;

pub fn alter_partition(image: &Image, request: &AlterPartition) -> Result<Decision, Refusal> {
    match image.broker(request.broker) {
        None => return Err(refusal(ErrorCode::BrokerIdNotRegistered, "The given broker ID was not registered.")),
        Some(broker) if broker.epoch != request.broker_epoch => {
            let message =
                format!("Expected broker epoch {}, but got broker epoch {}", broker.epoch, request.broker_epoch);
            return Err(refusal(ErrorCode::StaleBrokerEpoch, message));
        }
        Some(_) => {}
    }
    let mut seen = BTreeSet::new();
    let mut records = Vec::new();
    let mut results = Vec::new();
    for change in &request.changes {
        let partition = change.partition;
        let result = if seen.insert(partition) {
            alter_one(image, request.broker, change)
        } else {
            Err(ErrorCode::InvalidRequest)
        };
        results.push((
            partition,
            result.inspect(|state| records.push(Record::PartitionChanged { partition, state: state.clone() })),
        ));
    }
    Ok(Decision::after(records, Response::PartitionsAltered(results)))
}

/// The state after the change. Its partition epoch is a new one even if nothing else is: a leader that does not know the
/// fate of an earlier proposal proposes what it has, and what still comes late is then refused (KIP-497).
fn alter_one(image: &Image, leader: BrokerId, change: &IsrChange) -> Result<PartitionState, ErrorCode> {
    let topic = image.topic(change.partition.topic).ok_or(ErrorCode::UnknownTopicId)?;
    let old = topic.partition(change.partition.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    // Known only to a newer controller: this one is about to be told that it is no longer active.
    if change.leader_epoch > old.leader_epoch || change.partition_epoch > old.partition_epoch {
        return Err(ErrorCode::NotController);
    }
    if change.leader_epoch < old.leader_epoch {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    if old.leader != Some(leader) {
        return Err(ErrorCode::InvalidRequest);
    }
    if change.partition_epoch < old.partition_epoch && !planted!(PartitionEpochIgnored) {
        return Err(ErrorCode::InvalidUpdateVersion);
    }
    let isr: Vec<BrokerId> = change.isr.iter().map(|(id, _)| *id).collect();
    let once: BTreeSet<&BrokerId> = isr.iter().collect();
    let are_replicas = isr.iter().all(|id| old.replicas.contains(id));
    if once.len() != isr.len() || !are_replicas || !isr.contains(&leader) {
        return Err(ErrorCode::InvalidRequest);
    }
    // KIP-841: nobody fenced or stopping. KIP-903: nobody who has begun another life since.
    let is_current = |(id, epoch): &(BrokerId, BrokerEpoch)| {
        is_eligible(image, *id)
            && image.broker(*id).is_some_and(|broker| broker.epoch == *epoch || planted!(BrokerEpochIgnored))
    };
    if !change.isr.iter().all(is_current) {
        return Err(ErrorCode::IneligibleReplica);
    }
    let change = Change { isr, ..Change::default() };
    let same = || PartitionState { partition_epoch: old.partition_epoch.next(), ..old.clone() };
    Ok(changed(image, &topic.name, old, &change).unwrap_or_else(same))
}
