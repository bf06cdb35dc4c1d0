//! Questions about a log: offsets by time, ends of epochs, producers, sizes.

use std::collections::BTreeMap;

use base_types::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use peer_api::storage::{
    EpochEndPartition, ListOffsetsPartition, ListedOffset, LogDir, OffsetSpec, ReadError, ReplicaSize, RequestId,
    Response,
};
use replica_core::Role;

use super::{StorageNode, answer};
use crate::effect::{Effect, Effects};
use crate::event::{GatewayStream, LookupKey, ReadFailure, TimestampHit};

#[derive(Debug, Default)]
pub(super) struct Lookups {
    /// ListOffsets requests of which some part is with the disk.
    lists: BTreeMap<u64, List>,
    /// What each look-up on the disk is for.
    on_disk: BTreeMap<LookupKey, Purpose>,
    last: u64,
}

#[derive(Debug)]
struct List {
    stream: GatewayStream,
    id: RequestId,
    results: Vec<(TopicPartition, Option<Result<ListedOffset, ReadError>>)>,
}

#[derive(Debug)]
enum Purpose {
    List { list: u64, place: usize },
    LogDirs { stream: GatewayStream, id: RequestId },
}

impl Lookups {
    /// What is with the disk comes back and finds nobody.
    pub(super) fn forget(&mut self, gone: GatewayStream) {
        self.lists.retain(|_, list| list.stream != gone);
        self.on_disk.retain(|_, purpose| !matches!(purpose, Purpose::LogDirs { stream, .. } if *stream == gone));
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl StorageNode {
    pub(super) fn list_offsets(
        &mut self,
        stream: GatewayStream,
        id: RequestId,
        partitions: &[ListOffsetsPartition],
        effects: &mut Effects,
    ) {
        let list = self.lookups.next();
        let mut results = Vec::with_capacity(partitions.len());
        for (place, ask) in partitions.iter().enumerate() {
            results.push((ask.partition, self.list_offset(list, place, ask, effects)));
        }
        self.lookups.lists.insert(list, List { stream, id, results });
        self.answer_list_when_complete(list, effects);
    }

    pub(super) fn epoch_ends(
        &mut self,
        stream: GatewayStream,
        id: RequestId,
        partitions: &[EpochEndPartition],
        effects: &mut Effects,
    ) {
        let end = |ask: &EpochEndPartition| {
            let replica = self.replica(ask.partition).ok_or(ReadError::UnknownPartition);
            (ask.partition, replica.and_then(|replica| replica.epoch_end(ask)))
        };
        let ends = partitions.iter().map(end).collect();
        effects.push(answer(stream, id, Response::EpochEnds(ends)));
    }

    pub(super) fn describe_producers(
        &mut self,
        stream: GatewayStream,
        id: RequestId,
        partitions: &[TopicPartition],
        effects: &mut Effects,
    ) {
        let describe = |&partition: &TopicPartition| {
            let replica = self.replica(partition).ok_or(ReadError::UnknownPartition);
            (partition, replica.and_then(|replica| replica.active_producers()))
        };
        let producers = partitions.iter().map(describe).collect();
        effects.push(answer(stream, id, Response::DescribeProducers(producers)));
    }

    pub(super) fn describe_log_dirs(&mut self, stream: GatewayStream, id: RequestId, effects: &mut Effects) {
        let lookup = LookupKey(self.lookups.next());
        self.lookups.on_disk.insert(lookup, Purpose::LogDirs { stream, id });
        effects.push(Effect::DescribeLogDir { lookup });
    }

    pub(super) fn timestamp_found(
        &mut self,
        lookup: LookupKey,
        hit: Result<Option<TimestampHit>, ReadFailure>,
        effects: &mut Effects,
    ) {
        let Some(Purpose::List { list, place }) = self.lookups.on_disk.remove(&lookup) else { return };
        let result = match hit {
            Ok(Some(hit)) => {
                Ok(ListedOffset { offset: hit.offset, timestamp: hit.timestamp, leader_epoch: hit.leader_epoch })
            }
            Ok(None) => Ok(NOWHERE),
            Err(ReadFailure::Corrupt) => Err(ReadError::Corrupt),
            Err(ReadFailure::OutOfRange) => Err(ReadError::OffsetNotAvailable),
            Err(ReadFailure::Failed) => Err(ReadError::StorageFailed),
        };
        if let Some(list) = self.lookups.lists.get_mut(&list)
            && let Some((_, slot)) = list.results.get_mut(place)
        {
            *slot = Some(result);
        }
        self.answer_list_when_complete(list, effects);
    }

    pub(super) fn log_dir_described(&mut self, lookup: LookupKey, mut log_dir: LogDir, effects: &mut Effects) {
        let Some(Purpose::LogDirs { stream, id }) = self.lookups.on_disk.remove(&lookup) else { return };
        for size in &mut log_dir.replicas {
            *size = ReplicaSize { offset_lag: self.offset_lag(size.partition), ..*size };
        }
        effects.push(answer(stream, id, Response::DescribeLogDirs(vec![log_dir])));
    }

    /// What a follower lacks against the high watermark it was told.
    fn offset_lag(&self, partition: TopicPartition) -> i64 {
        match self.replica(partition) {
            Some(replica) if replica.role() != Role::Leader => {
                replica.high_watermark().since(replica.durable_end()).max(0)
            }
            _ => 0,
        }
    }

    /// `None` when the disk has to be asked.
    fn list_offset(
        &mut self,
        list: u64,
        place: usize,
        ask: &ListOffsetsPartition,
        effects: &mut Effects,
    ) -> Option<Result<ListedOffset, ReadError>> {
        let Some(replica) = self.replica(ask.partition) else { return Some(Err(ReadError::UnknownPartition)) };
        let at_edge = |edge: Result<(Offset, LeaderEpoch), ReadError>| {
            let listed = |(offset, leader_epoch)| ListedOffset { offset, timestamp: Timestamp::NONE, leader_epoch };
            Some(edge.map(listed))
        };
        match ask.at {
            OffsetSpec::Latest => at_edge(replica.latest_offset(ask)),
            OffsetSpec::Earliest | OffsetSpec::EarliestLocal => at_edge(replica.earliest_offset(ask)),
            OffsetSpec::LatestTiered => Some(replica.require_leader(ask.leader_epoch).map(|()| NOWHERE)),
            OffsetSpec::MaxTimestamp | OffsetSpec::At(_) => {
                // "No record so late" would be false while the high watermark is not known to be final.
                let below = match replica.latest_offset(ask) {
                    Err(error) => return Some(Err(error)),
                    Ok((latest, _)) => latest,
                };
                let lookup = LookupKey(self.lookups.next());
                self.lookups.on_disk.insert(lookup, Purpose::List { list, place });
                effects.push(Effect::FindTimestamp { lookup, partition: ask.partition, at: ask.at, below });
                None
            }
        }
    }

    fn answer_list_when_complete(&mut self, list: u64, effects: &mut Effects) {
        let complete =
            self.lookups.lists.get(&list).is_some_and(|list| list.results.iter().all(|(_, result)| result.is_some()));
        if complete && let Some(done) = self.lookups.lists.remove(&list) {
            let results =
                done.results.into_iter().filter_map(|(partition, result)| Some((partition, result?))).collect();
            effects.push(answer(done.stream, done.id, Response::ListOffsets(results)));
        }
    }
}

/// No record qualifies.
const NOWHERE: ListedOffset =
    ListedOffset { offset: Offset::UNKNOWN, timestamp: Timestamp::NONE, leader_epoch: LeaderEpoch::UNKNOWN };
