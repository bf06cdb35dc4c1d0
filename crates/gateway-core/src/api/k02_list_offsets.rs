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

use base_types::{ErrorCode, LeaderEpoch, Offset, Timestamp, TopicPartition};
use kafka_wire::k02_list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsTopic, ListOffsetsTopicResponse,
};
use kafka_wire::{ListOffsetsRequest, ListOffsetsResponse};
use peer_api::storage::{
    Isolation, ListOffsetsPartition, ListedOffset, OffsetSpec, ReadError, Request, Response,
};

use crate::api::scatter::{self, Question};
use crate::limits::READ_TIMEOUT_MS;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 1..=11;

pub(crate) fn begin(cx: &mut Context<'_>, request: ListOffsetsRequest) -> Begun {
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

    fn found(response: Response) -> Option<Vec<(TopicPartition, Result<ListedOffset, ReadError>)>> {
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
