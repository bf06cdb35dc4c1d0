//! ListOffsets (2): offsets by time, or by meaning.
//!
//! Versions 1–11. v2: isolation level. v4: leader epochs (KIP-320). v6: flexible. v7: −3, the record with the largest timestamp
//! (KIP-734). v8: −4, the earliest on local disk (KIP-405). v9: −5, the last in tiered storage (KIP-1005). v10: time-out
//! (KIP-1075). v11: −6, the earliest not yet uploaded (KIP-1023).
//!
//! A timestamp finds the first record that is not older. A special timestamp that the version does not know is
//! `UNSUPPORTED_VERSION` for its partition; a partition asked for twice is `INVALID_REQUEST`. Nothing is tiered, so −5 and −6 find
//! nothing. Deviation from Kafka: none known.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use base_types::{ErrorCode, LeaderEpoch, Offset, Timestamp};
use kafka_wire::k02_list_offsets::{ListOffsetsPartitionResponse, ListOffsetsTopic, ListOffsetsTopicResponse};
use kafka_wire::{ListOffsetsRequest, ListOffsetsResponse};
use peer_api::storage::{Isolation, ListOffsetsPartition, ListedOffset, OffsetSpec, Request, Response};

use crate::api::scatter::{self, FoundByPartition, Question};
use crate::limits::READ_TIMEOUT_MS;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 1..=11;

pub(crate) fn begin(cx: &mut Context<'_>, mut request: ListOffsetsRequest) -> Begun {
    let isolation = if request.isolation_level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let name = (topic.name.clone(), partition.partition_index);
            if !seen.insert(name.clone()) {
                twice.insert(name);
            }
        }
    }
    // It is told once that it was asked for twice.
    let mut told = BTreeSet::new();
    for topic in &mut request.topics {
        topic.partitions.retain(|partition| {
            let name = (topic.name.clone(), partition.partition_index);
            !twice.contains(&name) || told.insert(name)
        });
    }
    request.topics.retain(|topic| !topic.partitions.is_empty());
    let mut asks = Vec::new();
    for topic in &request.topics {
        for asked in &topic.partitions {
            asks.push((|| {
                if twice.contains(&(topic.name.clone(), asked.partition_index)) {
                    return Err(ErrorCode::InvalidRequest);
                }
                let at = spec(cx.version(), asked.timestamp).ok_or(ErrorCode::UnsupportedVersion)?;
                let (partition, node) = scatter::leader(cx, &topic.name, asked.partition_index)?;
                let leader_epoch = LeaderEpoch(asked.current_leader_epoch);
                Ok((node, ListOffsetsPartition { partition, leader_epoch, isolation, at }))
            })());
        }
    }
    let timeout_ms = u64::try_from(request.timeout_ms).ok().filter(|ms| *ms > 0).unwrap_or(READ_TIMEOUT_MS);
    scatter::ask(cx, Offsets { topics: request.topics }, asks, timeout_ms.min(READ_TIMEOUT_MS))
}

fn spec(version: i16, timestamp: i64) -> Option<OffsetSpec> {
    match timestamp {
        -1 => Some(OffsetSpec::Latest),
        -2 => Some(OffsetSpec::Earliest),
        -3 if version >= 7 => Some(OffsetSpec::MaxTimestamp),
        -4 if version >= 8 => Some(OffsetSpec::EarliestLocal),
        -5 if version >= 9 => Some(OffsetSpec::LatestTiered),
        // Nothing is uploaded: as little is found as for the last one that is.
        -6 if version >= 11 => Some(OffsetSpec::LatestTiered),
        0.. => Some(OffsetSpec::At(Timestamp(timestamp))),
        _ => None,
    }
}

struct Offsets {
    topics: Vec<ListOffsetsTopic>,
}

impl Question for Offsets {
    type Ask = ListOffsetsPartition;
    type Found = ListedOffset;

    fn request(asks: Vec<ListOffsetsPartition>) -> Request {
        Request::ListOffsets(asks)
    }

    fn found(response: Response) -> Option<FoundByPartition<ListedOffset>> {
        match response {
            Response::ListOffsets(found) => Some(found),
            _ => None,
        }
    }

    fn answer(self, cx: &mut Context<'_>, results: Vec<Result<ListedOffset, ErrorCode>>) -> Answer {
        let mut results = results.into_iter();
        let mut response = ListOffsetsResponse::default();
        for topic in self.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for asked in topic.partitions {
                let mut answer =
                    ListOffsetsPartitionResponse { partition_index: asked.partition_index, ..Default::default() };
                match results.next().unwrap_or(Err(ErrorCode::UnknownServerError)) {
                    Ok(found) => {
                        answer.offset = found.offset.0;
                        answer.timestamp = found.timestamp.0;
                        if cx.version() >= 4 {
                            answer.leader_epoch = found.leader_epoch.0;
                        }
                    }
                    Err(code) => {
                        answer.error_code = cx.code(code);
                        answer.offset = Offset::UNKNOWN.0;
                        answer.timestamp = Timestamp::NONE.0;
                    }
                }
                partitions.push(answer);
            }
            response.topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
        }
        cx.respond(&response)
    }
}

#[cfg(test)]
mod tests {
    use base_types::BrokerId;
    use kafka_wire::k02_list_offsets::ListOffsetsPartition as WirePartition;
    use peer_api::storage::TransportError;

    use super::*;
    use crate::testing::World;

    fn request(asks: &[(i32, i64)]) -> ListOffsetsRequest {
        let partitions = asks
            .iter()
            .map(|&(partition_index, timestamp)| WirePartition { partition_index, timestamp, current_leader_epoch: 5 })
            .collect();
        let topics = vec![ListOffsetsTopic { name: "t".into(), partitions }];
        ListOffsetsRequest { replica_id: -1, topics, ..Default::default() }
    }

    fn codes(response: &ListOffsetsResponse) -> Vec<i16> {
        response.topics[0].partitions.iter().map(|partition| partition.error_code).collect()
    }

    fn specs(world: &mut World) -> (BrokerId, peer_api::storage::RequestId, Vec<ListOffsetsPartition>) {
        match world.next_request() {
            (node, id, Request::ListOffsets(asks)) => (node, id, asks),
            other => panic!("{other:?}"),
        }
    }

    /// Trap 28.
    #[test]
    fn special_timestamps_are_known_from_their_version_on() {
        let since = [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11)];
        for version in SUPPORTED {
            for (timestamp, from) in since {
                assert_eq!(spec(version, timestamp).is_some(), version >= from, "{timestamp} in {version}");
            }
            assert_eq!(spec(version, -7), None);
            assert_eq!(spec(version, 0), Some(OffsetSpec::At(Timestamp(0))));
        }
    }

    /// Trap 66.
    #[test]
    fn errors_are_per_partition() {
        let mut world = World::new(2);
        world.topic("t", &[1, 2, 1]);
        world.send(5, &request(&[(0, -1), (9, -1), (1, 77), (2, -9)]));
        let (first, first_call, first_asks) = specs(&mut world);
        let (second, second_call, second_asks) = specs(&mut world);
        assert_eq!((first_asks.len(), second_asks[0].at), (1, OffsetSpec::At(Timestamp(77))));
        assert_eq!(second_asks[0].leader_epoch, LeaderEpoch(5));
        world.storage_fails(second, second_call, TransportError::Broken);
        let found = ListedOffset { offset: Offset(9), timestamp: Timestamp::NONE, leader_epoch: LeaderEpoch(4) };
        let response = Response::ListOffsets(vec![(first_asks[0].partition, Ok(found))]);
        world.storage_answers(first, first_call, response);
        let (_, response) = world.answer::<ListOffsetsRequest>(5);
        assert_eq!(codes(&response), [0, 3, 6, 35]);
        let partition = &response.topics[0].partitions[0];
        assert_eq!((partition.offset, partition.timestamp, partition.leader_epoch), (9, -1, 4));
        assert_eq!(response.topics[0].partitions[1].offset, -1);
    }

    #[test]
    fn a_partition_asked_for_twice_is_refused_once() {
        let mut world = World::new(1);
        world.topic("t", &[1]);
        assert_eq!(codes(&world.ask::<ListOffsetsRequest>(4, &request(&[(0, -1), (0, -2)]))), [42]);
        let mut twice = request(&[(0, -1)]);
        twice.topics.extend(request(&[(0, -1)]).topics);
        let response = world.ask::<ListOffsetsRequest>(4, &twice);
        assert_eq!((response.topics.len(), codes(&response)), (1, vec![42]));
    }

    #[test]
    fn a_node_that_says_nothing_is_not_waited_for_for_ever() {
        let mut world = World::new(1);
        world.topic("t", &[1]);
        world.send(1, &request(&[(0, -1)]));
        world.pass(READ_TIMEOUT_MS);
        assert_eq!(codes(&world.answer::<ListOffsetsRequest>(1).1), [6]);
    }
}
