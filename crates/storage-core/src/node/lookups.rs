//! Questions about a log: offsets by time, ends of epochs, producers, sizes.

use std::collections::BTreeMap;

use base_types::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use bytes::Bytes;
use peer_api::storage::{
    EpochEndPartition, ListOffsetsPartition, ListedOffset, LogDir, OffsetSpec, ReadError, ReplicaSize, RequestId,
    Response,
};
use record_batch::{BatchHeader, TimestampType};
use replica_core::{RequestKey, Role};

use super::gathering::{Gathered, Gathering};
use super::{StorageNode, answer};
use crate::effect::{Effect, Effects};
use crate::event::{FetchKey, FetchPart, GatewayStream, LookupKey, ReadFailure, TimestampHit};

#[derive(Debug, Default)]
pub(super) struct Lookups {
    /// ListOffsets requests of which some part is with the disk.
    lists: Gathering<Result<ListedOffset, ReadError>>,
    /// What each look-up on the disk is for.
    on_disk: BTreeMap<LookupKey, Purpose>,
    /// Batches that are read for their time, and the partition of a list that wants it.
    reads: BTreeMap<FetchKey, RequestKey>,
    last: u64,
}

#[derive(Debug)]
enum Purpose {
    List(RequestKey),
    LogDirs { stream: GatewayStream, id: RequestId },
}

impl Lookups {
    /// What is with the disk comes back and finds nobody.
    pub(super) fn forget(&mut self, gone: GatewayStream) {
        self.lists.forget(gone);
        self.on_disk.retain(|_, purpose| !matches!(purpose, Purpose::LogDirs { stream, .. } if *stream == gone));
    }

    pub(super) fn is_reading(&self, key: FetchKey) -> bool {
        self.reads.contains_key(&key)
    }

    fn new_key(&mut self) -> LookupKey {
        self.last += 1;
        LookupKey(self.last)
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
        let asked = partitions.iter().map(|ask| ask.partition);
        let keys = match self.lookups.lists.begin(stream, id, asked, Err(ReadError::UnknownPartition)) {
            Ok(keys) => keys,
            Err(refused) => return effects.push(listed(refused)),
        };
        for (key, ask) in keys.zip(partitions) {
            if let Some(result) = self.list_offset(key, ask, effects) {
                self.list_settled(key, result, effects);
            }
        }
    }

    pub(super) fn epoch_ends(
        &mut self,
        stream: GatewayStream,
        id: RequestId,
        partitions: &[EpochEndPartition],
        effects: &mut Effects,
    ) {
        let end = |ask: &EpochEndPartition| {
            let replica = self.replica(ask.partition).ok_or_else(|| self.without_replica(ask.partition));
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
            let replica = self.replica(partition).ok_or_else(|| self.without_replica(partition));
            (partition, replica.and_then(|replica| replica.active_producers()))
        };
        let producers = partitions.iter().map(describe).collect();
        effects.push(answer(stream, id, Response::DescribeProducers(producers)));
    }

    pub(super) fn describe_log_dirs(&mut self, stream: GatewayStream, id: RequestId, effects: &mut Effects) {
        let lookup = self.lookups.new_key();
        self.lookups.on_disk.insert(lookup, Purpose::LogDirs { stream, id });
        effects.push(Effect::DescribeLogDir { lookup });
    }

    pub(super) fn timestamp_found(
        &mut self,
        lookup: LookupKey,
        hit: Result<Option<TimestampHit>, ReadFailure>,
        effects: &mut Effects,
    ) {
        let Some(Purpose::List(key)) = self.lookups.on_disk.remove(&lookup) else { return };
        let result = match hit {
            Ok(Some(hit)) => {
                Ok(ListedOffset { offset: hit.offset, timestamp: hit.timestamp, leader_epoch: hit.leader_epoch })
            }
            Ok(None) => Ok(NOWHERE),
            Err(failure) => Err(unanswered(failure)),
        };
        self.list_settled(key, result, effects);
    }

    /// The batch at an offset was read for its time.
    pub(super) fn time_read(
        &mut self,
        fetch: FetchKey,
        parts: &[Result<Vec<Bytes>, ReadFailure>],
        effects: &mut Effects,
    ) {
        let Some(key) = self.lookups.reads.remove(&fetch) else { return };
        let result = match parts.first() {
            Some(Ok(batches)) => batches.first().map_or(Ok(NOWHERE), time_of),
            Some(Err(failure)) => Err(unanswered(*failure)),
            None => Ok(NOWHERE),
        };
        self.list_settled(key, result, effects);
    }

    fn list_settled(&mut self, key: RequestKey, result: Result<ListedOffset, ReadError>, effects: &mut Effects) {
        if let Some(gathered) = self.lookups.lists.settle(key, result) {
            effects.push(listed(gathered));
        }
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
        key: RequestKey,
        ask: &ListOffsetsPartition,
        effects: &mut Effects,
    ) -> Option<Result<ListedOffset, ReadError>> {
        let Some(replica) = self.replica(ask.partition) else { return Some(Err(self.without_replica(ask.partition))) };
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
                let lookup = self.lookups.new_key();
                self.lookups.on_disk.insert(lookup, Purpose::List(key));
                effects.push(Effect::FindTimestamp { lookup, partition: ask.partition, at: ask.at, below });
                None
            }
            OffsetSpec::TimeOf(offset) => {
                let edges = replica.earliest_offset(ask).and_then(|(earliest, _)| {
                    replica.latest_offset(ask).map(|(latest, _)| (offset.max(earliest), latest))
                });
                match edges {
                    Err(error) => Some(Err(error)),
                    Ok((from, below)) if from >= below => Some(Ok(NOWHERE)),
                    Ok((from, below)) => {
                        let fetch = self.fetches.new_key();
                        self.lookups.reads.insert(fetch, key);
                        // One batch, however large it is.
                        let part = FetchPart { partition: ask.partition, from, below, bytes_max: 1 };
                        effects.push(Effect::FetchRead { fetch, parts: vec![part], bytes_max: 1 });
                        None
                    }
                }
            }
        }
    }
}

fn listed(gathered: Gathered<Result<ListedOffset, ReadError>>) -> Effect {
    answer(gathered.stream, gathered.id, Response::ListOffsets(gathered.results))
}

/// Of the records in a batch only the first is looked at, and not decompressed: the others are hardly younger.
fn time_of(batch: &Bytes) -> Result<ListedOffset, ReadError> {
    let header = BatchHeader::parse(batch).map_err(|_| ReadError::Corrupt)?;
    let is_stamped = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
    // What stands in the place of the first time is then something else (KIP-534), or the producer's.
    let timestamp =
        if is_stamped || header.attributes.has_delete_horizon() { header.max_timestamp } else { header.base_timestamp };
    Ok(ListedOffset { offset: header.base_offset, timestamp, leader_epoch: header.leader_epoch })
}

fn unanswered(failure: ReadFailure) -> ReadError {
    match failure {
        ReadFailure::Corrupt => ReadError::Corrupt,
        ReadFailure::OutOfRange => ReadError::OffsetNotAvailable,
        ReadFailure::Failed => ReadError::StorageFailed,
    }
}

/// No record qualifies.
const NOWHERE: ListedOffset =
    ListedOffset { offset: Offset::UNKNOWN, timestamp: Timestamp::NONE, leader_epoch: LeaderEpoch::UNKNOWN };

#[cfg(test)]
mod tests {
    use record_batch::{BatchBuilder, Compression};

    use super::*;

    #[test]
    fn a_record_is_as_old_as_the_first_of_its_batch_unless_the_broker_gave_the_times() {
        let builder = || {
            let first = BatchBuilder::new(Compression::None).record(None, Some(b"a"), &[], Timestamp(5));
            first.record(None, Some(b"b"), &[], Timestamp(9))
        };
        let created = builder().build().expect("a batch");
        assert_eq!(time_of(&created).map(|listed| listed.timestamp), Ok(Timestamp(5)));
        let mut header = BatchHeader::parse(&created).expect("a header");
        header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        let stamped = Bytes::copy_from_slice(&header.to_bytes());
        assert_eq!(time_of(&stamped).map(|listed| listed.timestamp), Ok(Timestamp(9)));
        assert_eq!(time_of(&Bytes::new()).map(|_| ()), Err(ReadError::Corrupt));
    }
}
