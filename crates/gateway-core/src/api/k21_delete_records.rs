//! DeleteRecords (21): a partition's log begins later (KIP-107).
//!
//! Versions 0–2. v2: flexible.
//!
//! Answered when every live replica has deleted the records, with where the log begins on all of them ("low watermark").
//! Deviation from Kafka: the records are gone durably when the answer comes; Kafka's log start may go back in a crash.

use std::ops::RangeInclusive;

use base_types::{ErrorCode, Offset, TopicPartition};
use kafka_wire::k21_delete_records::{DeleteRecordsPartitionResult, DeleteRecordsTopic, DeleteRecordsTopicResult};
use kafka_wire::{DeleteRecordsRequest, DeleteRecordsResponse};
use peer_api::config::TopicSettings;
use peer_api::storage::{ReadError, Request, Response, TrimError, TrimPartition, TrimRequest};

use crate::api::scatter::{self, Question};
use crate::limits::{ADMIN_TIMEOUT_MS_MAX, ANSWER_GRACE_MS};
use crate::operation::{Answer, Begun, Context};
use crate::route;

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=2;

pub(crate) fn begin(cx: &mut Context<'_>, request: DeleteRecordsRequest) -> Begun {
    // Kafka's request may give no time at all; then whatever is not done at once is told as timed out.
    let timeout_ms = u64::try_from(request.timeout_ms).unwrap_or(0).min(ADMIN_TIMEOUT_MS_MAX);
    let mut asks = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let leader = scatter::leader(cx, &topic.name, partition.partition_index);
            let ask = leader.and_then(|(id, node)| {
                refusal(cx, &topic.name).map_or(Ok(()), Err)?;
                let to = (partition.offset != -1).then_some(Offset(partition.offset));
                Ok((node, Ask { timeout_ms: timeout_ms as u32, partition: TrimPartition { partition: id, to } }))
            });
            asks.push(ask);
        }
    }
    scatter::ask(cx, Deletion { topics: request.topics }, asks, timeout_ms + ANSWER_GRACE_MS)
}

/// Internal topics are their owners' alone, and what compaction keeps must not be lost.
fn refusal(cx: &Context<'_>, topic: &str) -> Option<ErrorCode> {
    if route::is_internal(topic) {
        return Some(ErrorCode::InvalidTopicException);
    }
    let settings = TopicSettings::of(cx.image, topic);
    (!settings.cleanup_policy.delete).then_some(ErrorCode::PolicyViolation)
}

struct Ask {
    timeout_ms: u32,
    partition: TrimPartition,
}

struct Deletion {
    topics: Vec<DeleteRecordsTopic>,
}

impl Question for Deletion {
    type Ask = Ask;
    type Found = Result<Offset, TrimError>;

    fn request(asks: Vec<Ask>) -> Request {
        let timeout_ms = asks.first().map_or(0, |ask| ask.timeout_ms);
        Request::Trim(TrimRequest { timeout_ms, partitions: asks.into_iter().map(|ask| ask.partition).collect() })
    }

    fn found(response: Response) -> Option<Vec<(TopicPartition, Result<Self::Found, ReadError>)>> {
        match response {
            Response::Trim(found) => Some(found.into_iter().map(|(id, result)| (id, Ok(result))).collect()),
            _ => None,
        }
    }

    fn answer(self, cx: &mut Context<'_>, results: Vec<Result<Self::Found, ErrorCode>>) -> Answer {
        let mut results = results.into_iter();
        let mut response = DeleteRecordsResponse::default();
        for topic in self.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let partition_index = partition.partition_index;
                let result = results.next().unwrap_or(Err(ErrorCode::UnknownServerError));
                let trimmed = result.and_then(|trimmed| trimmed.map_err(code));
                let (low_watermark, error_code) = match trimmed {
                    Ok(low) => (low.0, 0),
                    Err(code) => (-1, cx.code(code)),
                };
                partitions.push(DeleteRecordsPartitionResult { partition_index, low_watermark, error_code });
            }
            response.topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
        }
        cx.respond(&response)
    }
}

fn code(error: TrimError) -> ErrorCode {
    match error {
        TrimError::NotLeader | TrimError::UnknownPartition => ErrorCode::NotLeaderOrFollower,
        TrimError::OutOfRange => ErrorCode::OffsetOutOfRange,
        TrimError::TimedOut => ErrorCode::RequestTimedOut,
        TrimError::StorageFailed => ErrorCode::KafkaStorageError,
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::k21_delete_records::DeleteRecordsPartition;
    use peer_api::metadata::{ConfigResource, Record};

    use super::*;
    use crate::testing::World;

    fn topic(name: &str, partitions: &[(i32, i64)]) -> DeleteRecordsTopic {
        let partition = |&(partition_index, offset)| DeleteRecordsPartition { partition_index, offset };
        DeleteRecordsTopic { name: name.into(), partitions: partitions.iter().map(partition).collect() }
    }

    #[test]
    fn each_leader_is_asked_and_each_partition_answered() {
        for version in SUPPORTED {
            let mut world = World::new(1);
            world.topic("t", &[1, 1]);
            let topics = vec![topic("t", &[(0, 7), (1, -1), (9, 0)]), topic("x", &[(0, 1)])];
            world.send(version, &DeleteRecordsRequest { topics, timeout_ms: 700 });
            let (node, call, request) = world.next_request();
            let Request::Trim(trim) = request else { panic!("{request:?}") };
            assert_eq!(trim.timeout_ms, 700);
            assert_eq!(trim.partitions.iter().map(|asked| asked.to).collect::<Vec<_>>(), [Some(Offset(7)), None]);
            let results = vec![
                (trim.partitions[0].partition, Ok(Offset(8))),
                (trim.partitions[1].partition, Err(TrimError::TimedOut)),
            ];
            world.storage_answers(node, call, Response::Trim(results));
            let (_, response) = world.answer::<DeleteRecordsRequest>(version);
            let told: Vec<_> = (response.topics.iter().flat_map(|topic| &topic.partitions))
                .map(|partition| (partition.low_watermark, partition.error_code))
                .collect();
            assert_eq!(told, [(8, 0), (-1, 7), (-1, 3), (-1, 3)]);
        }
    }

    #[test]
    fn what_is_compacted_only_or_internal_is_refused() {
        let mut world = World::new(1);
        world.topic("kept", &[1]);
        world.topic("__consumer_offsets", &[1]);
        world.change(vec![Record::ConfigChanged {
            resource: ConfigResource::Topic("kept".into()),
            name: "cleanup.policy".into(),
            value: Some("compact".into()),
        }]);
        let topics = vec![topic("kept", &[(0, 1)]), topic("__consumer_offsets", &[(0, 1)])];
        let request = DeleteRecordsRequest { topics, ..Default::default() };
        let response = world.ask::<DeleteRecordsRequest>(2, &request);
        let codes: Vec<i16> = response.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
        assert_eq!(codes, [44, 17]);
    }
}
