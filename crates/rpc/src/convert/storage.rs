//! Gateway and storage node.

use base_types::{BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicPartition};
use peer_api::storage::{
    Acks, ActiveProducer, AppendError, AppendPartition, AppendRequest, AppendResponse, Appended, Damaged, EpochEnd,
    EpochEndPartition, FetchPartition, FetchRequest, FetchResponse, Fetched, FromStorage, Isolation,
    ListOffsetsPartition, ListedOffset, LogDir, OffsetSpec, ReadError, ReplicaSize, Request, RequestId, Response,
    ToStorage, TrimError, TrimPartition, TrimRequest,
};
use record_batch::{BatchLimits, ProducedBatch};

use super::{each, from_code, from_partition, groups, narrow, to_partition};
use crate::proto::base::v1 as base;
use crate::proto::storage::v1 as proto;
use crate::wire::{Malformed, Payload, Pieces, Wire};

/// What every batch must be. What a topic asks for beyond that, the gateway has looked at and the core looks at again.
fn limits() -> BatchLimits {
    BatchLimits { max_message_bytes: usize::MAX, ..BatchLimits::default() }
}

impl Wire for ToStorage {
    type Header = proto::ToStorage;

    fn encode(self, traceparent: String, payload: &mut Pieces) -> proto::ToStorage {
        use proto::to_storage::Request as Out;
        let request = match self.request {
            Request::Append(append) => Out::Append(to_append(append, payload)),
            Request::Fetch(fetch) => Out::Fetch(to_fetch(fetch)),
            Request::CancelFetch(RequestId(id)) => Out::CancelFetch(id),
            Request::ListOffsets(partitions) => Out::ListOffsets(proto::ListOffsetsRequest {
                partitions: partitions.into_iter().map(to_list_offsets).collect(),
            }),
            Request::EpochEnds(partitions) => Out::EpochEnds(proto::EpochEndsRequest {
                partitions: partitions
                    .into_iter()
                    .map(|asked| proto::EpochEndPartition {
                        partition: to_partition(asked.partition),
                        current_leader_epoch: asked.current_leader_epoch.0,
                        leader_epoch: asked.leader_epoch.0,
                    })
                    .collect(),
            }),
            Request::DescribeProducers(partitions) => Out::DescribeProducers(proto::DescribeProducersRequest {
                partitions: partitions.into_iter().filter_map(to_partition).collect(),
            }),
            Request::DescribeLogDirs => Out::DescribeLogDirs(base::Empty {}),
            Request::Trim(trim) => Out::Trim(proto::TrimRequest {
                timeout_ms: trim.timeout_ms,
                partitions: trim
                    .partitions
                    .into_iter()
                    .map(|asked| proto::TrimPartition {
                        partition: to_partition(asked.partition),
                        to: asked.to.map(|to| to.0),
                    })
                    .collect(),
            }),
            Request::Coordinate(asked) => Out::Coordinate(groups::to_coordinator(*asked, payload)),
        };
        proto::ToStorage { id: self.id.0, request: Some(request), traceparent, payload: Default::default() }
    }

    fn decode(header: proto::ToStorage, mut payload: Payload) -> Result<(ToStorage, String), Malformed> {
        use proto::to_storage::Request as In;
        let request = match header.request.ok_or(Malformed::Missing("request"))? {
            In::Append(append) => Request::Append(from_append(append, &mut payload)?),
            In::Fetch(fetch) => Request::Fetch(from_fetch(fetch)?),
            In::CancelFetch(id) => Request::CancelFetch(RequestId(id)),
            In::ListOffsets(asked) => Request::ListOffsets(each(asked.partitions, from_list_offsets)?),
            In::EpochEnds(asked) => Request::EpochEnds(each(asked.partitions, |asked| {
                Ok(EpochEndPartition {
                    partition: from_partition(asked.partition)?,
                    current_leader_epoch: LeaderEpoch(asked.current_leader_epoch),
                    leader_epoch: LeaderEpoch(asked.leader_epoch),
                })
            })?),
            In::DescribeProducers(asked) => {
                Request::DescribeProducers(each(asked.partitions, |partition| from_partition(Some(partition)))?)
            }
            In::DescribeLogDirs(base::Empty {}) => Request::DescribeLogDirs,
            In::Trim(trim) => Request::Trim(TrimRequest {
                timeout_ms: trim.timeout_ms,
                partitions: each(trim.partitions, |asked| {
                    Ok(TrimPartition { partition: from_partition(asked.partition)?, to: asked.to.map(Offset) })
                })?,
            }),
            In::Coordinate(asked) => Request::Coordinate(Box::new(groups::from_coordinator(asked, &mut payload)?)),
        };
        payload.finish()?;
        Ok((ToStorage { id: RequestId(header.id), request }, header.traceparent))
    }
}

impl Wire for FromStorage {
    type Header = proto::FromStorage;

    fn encode(self, traceparent: String, payload: &mut Pieces) -> proto::FromStorage {
        use proto::from_storage::Response as Out;
        let response = match self.response {
            Response::Append(append) => Out::Append(proto::AppendResponse {
                partitions: append.partitions.into_iter().map(to_append_result).collect(),
            }),
            Response::Fetch(fetch) => Out::Fetch(proto::FetchResponse {
                partitions: fetch.partitions.into_iter().map(|result| to_fetch_result(result, payload)).collect(),
            }),
            Response::ListOffsets(partitions) => Out::ListOffsets(proto::ListOffsetsResponse {
                partitions: partitions.into_iter().map(to_listed).collect(),
            }),
            Response::EpochEnds(partitions) => Out::EpochEnds(proto::EpochEndsResponse {
                partitions: partitions.into_iter().map(to_epoch_end_result).collect(),
            }),
            Response::DescribeProducers(partitions) => Out::DescribeProducers(proto::DescribeProducersResponse {
                partitions: partitions.into_iter().map(to_producers).collect(),
            }),
            Response::DescribeLogDirs(dirs) => Out::DescribeLogDirs(proto::DescribeLogDirsResponse {
                dirs: dirs.into_iter().map(to_log_dir).collect(),
            }),
            Response::Trim(partitions) => {
                Out::Trim(proto::TrimResponse { partitions: partitions.into_iter().map(to_trimmed).collect() })
            }
            Response::Coordinate(result) => Out::Coordinate(groups::to_result(*result, payload)),
        };
        proto::FromStorage { id: self.id.0, response: Some(response), traceparent, payload: Default::default() }
    }

    fn decode(header: proto::FromStorage, mut payload: Payload) -> Result<(FromStorage, String), Malformed> {
        use proto::from_storage::Response as In;
        let response = match header.response.ok_or(Malformed::Missing("response"))? {
            In::Append(append) => {
                Response::Append(AppendResponse { partitions: each(append.partitions, from_append_result)? })
            }
            In::Fetch(fetch) => Response::Fetch(FetchResponse {
                partitions: each(fetch.partitions, |result| from_fetch_result(result, &mut payload))?,
            }),
            In::ListOffsets(listed) => Response::ListOffsets(each(listed.partitions, from_listed)?),
            In::EpochEnds(ends) => Response::EpochEnds(each(ends.partitions, from_epoch_end_result)?),
            In::DescribeProducers(described) => {
                Response::DescribeProducers(each(described.partitions, from_producers)?)
            }
            In::Trim(trimmed) => Response::Trim(each(trimmed.partitions, from_trimmed)?),
            In::DescribeLogDirs(described) => Response::DescribeLogDirs(each(described.dirs, from_log_dir)?),
            In::Coordinate(result) => Response::Coordinate(Box::new(groups::from_result(result, &mut payload)?)),
        };
        payload.finish()?;
        Ok((FromStorage { id: RequestId(header.id), response }, header.traceparent))
    }
}

fn to_append(append: AppendRequest, payload: &mut Pieces) -> proto::AppendRequest {
    let acks = match append.acks {
        Acks::Leader => proto::Acks::Leader,
        Acks::All => proto::Acks::All,
    };
    let partitions = append
        .partitions
        .into_iter()
        .map(|asked| {
            // Found damaged on this side already: nothing is sent, and no bytes are no batch on the other side either.
            let bytes = asked.batch.map_or_else(|Damaged| Default::default(), |batch| batch.bytes().clone());
            let length = bytes.len() as u32;
            payload.push(bytes);
            proto::AppendPartition {
                partition: to_partition(asked.partition),
                leader_epoch: asked.leader_epoch.0,
                length,
            }
        })
        .collect();
    proto::AppendRequest { acks: acks.into(), timeout_ms: append.timeout_ms, partitions }
}

fn from_append(append: proto::AppendRequest, payload: &mut Payload) -> Result<AppendRequest, Malformed> {
    let acks = match append.acks() {
        proto::Acks::Leader => Acks::Leader,
        proto::Acks::All => Acks::All,
        proto::Acks::Unspecified => {
            return Err(Malformed::Unknown { field: "acks", value: append.acks.into() });
        }
    };
    let limits = limits();
    let partitions = each(append.partitions, |asked| {
        let partition = from_partition(asked.partition)?;
        let batch = ProducedBatch::check(payload.take(asked.length)?, &limits).map_err(|error| {
            tracing::warn!(%partition, %error, "batch was damaged on its way here");
            Damaged
        });
        Ok(AppendPartition { partition, leader_epoch: LeaderEpoch(asked.leader_epoch), batch })
    })?;
    Ok(AppendRequest { acks, timeout_ms: append.timeout_ms, partitions })
}

fn to_append_result((partition, result): (TopicPartition, Result<Appended, AppendError>)) -> proto::AppendResult {
    use proto::append_result::Result as Out;
    let result = match result {
        Ok(appended) => Out::Appended(proto::Appended {
            base_offset: appended.base_offset.0,
            log_append_time: appended.log_append_time.0,
            log_start: appended.log_start.0,
        }),
        Err(error) => Out::Error(to_append_error(error)),
    };
    proto::AppendResult { partition: to_partition(partition), result: Some(result) }
}

fn from_append_result(
    result: proto::AppendResult,
) -> Result<(TopicPartition, Result<Appended, AppendError>), Malformed> {
    use proto::append_result::Result as In;
    let partition = from_partition(result.partition)?;
    Ok(match result.result.ok_or(Malformed::Missing("append result"))? {
        In::Appended(appended) => (
            partition,
            Ok(Appended {
                base_offset: Offset(appended.base_offset),
                log_append_time: Timestamp(appended.log_append_time),
                log_start: Offset(appended.log_start),
            }),
        ),
        In::Error(error) => (partition, Err(from_append_error(error)?)),
    })
}

fn to_append_error(error: AppendError) -> proto::AppendError {
    use proto::append_error::Kind;
    let mut out = proto::AppendError::default();
    let kind = match error {
        AppendError::NotLeader { leader, leader_epoch } => {
            (out.leader, out.leader_epoch) = (leader.0, leader_epoch.0);
            Kind::NotLeader
        }
        AppendError::UnknownPartition => Kind::UnknownPartition,
        AppendError::NotEnoughReplicas => Kind::NotEnoughReplicas,
        AppendError::NotEnoughReplicasAfterAppend => Kind::NotEnoughReplicasAfterAppend,
        AppendError::TimedOut => Kind::TimedOut,
        AppendError::LeaderChanged { leader, leader_epoch } => {
            (out.leader, out.leader_epoch) = (leader.0, leader_epoch.0);
            Kind::LeaderChanged
        }
        AppendError::OutOfOrderSequence { expected, got } => {
            (out.expected, out.got) = (expected.0.into(), got.0.into());
            Kind::OutOfOrderSequence
        }
        AppendError::InvalidProducerEpoch { current, got } => {
            (out.expected, out.got) = (current.0.into(), got.0.into());
            Kind::InvalidProducerEpoch
        }
        AppendError::MessageTooLarge { size, max } => {
            (out.expected, out.got) = (max as i64, size as i64);
            Kind::MessageTooLarge
        }
        AppendError::InvalidTimestamp => Kind::InvalidTimestamp,
        AppendError::InvalidRecord(reason) => {
            out.reason = reason.into_owned();
            Kind::InvalidRecord
        }
        AppendError::Corrupt => Kind::Corrupt,
        AppendError::NoSpace => Kind::NoSpace,
        AppendError::StorageFailed => Kind::StorageFailed,
    };
    out.set_kind(kind);
    out
}

fn from_append_error(error: proto::AppendError) -> Result<AppendError, Malformed> {
    use proto::append_error::Kind;
    let (leader, leader_epoch) = (BrokerId(error.leader), LeaderEpoch(error.leader_epoch));
    Ok(match error.kind() {
        Kind::NotLeader => AppendError::NotLeader { leader, leader_epoch },
        Kind::UnknownPartition => AppendError::UnknownPartition,
        Kind::NotEnoughReplicas => AppendError::NotEnoughReplicas,
        Kind::NotEnoughReplicasAfterAppend => AppendError::NotEnoughReplicasAfterAppend,
        Kind::TimedOut => AppendError::TimedOut,
        Kind::LeaderChanged => AppendError::LeaderChanged { leader, leader_epoch },
        Kind::OutOfOrderSequence => AppendError::OutOfOrderSequence {
            expected: Sequence(narrow(error.expected, "expected sequence")?),
            got: Sequence(narrow(error.got, "sequence")?),
        },
        Kind::InvalidProducerEpoch => AppendError::InvalidProducerEpoch {
            current: ProducerEpoch(narrow(error.expected, "current producer epoch")?),
            got: ProducerEpoch(narrow(error.got, "producer epoch")?),
        },
        Kind::MessageTooLarge => AppendError::MessageTooLarge {
            size: narrow(error.got, "size of a batch")?,
            max: narrow(error.expected, "largest batch")?,
        },
        Kind::InvalidTimestamp => AppendError::InvalidTimestamp,
        Kind::InvalidRecord => AppendError::InvalidRecord(error.reason.into()),
        Kind::Corrupt => AppendError::Corrupt,
        Kind::NoSpace => AppendError::NoSpace,
        Kind::StorageFailed => AppendError::StorageFailed,
        Kind::Unspecified => return Err(Malformed::Unknown { field: "append error", value: error.kind.into() }),
    })
}

fn to_isolation(isolation: Isolation) -> i32 {
    match isolation {
        Isolation::ReadUncommitted => proto::Isolation::ReadUncommitted.into(),
        Isolation::ReadCommitted => proto::Isolation::ReadCommitted.into(),
    }
}

fn from_isolation(isolation: i32) -> Result<Isolation, Malformed> {
    match proto::Isolation::try_from(isolation) {
        Ok(proto::Isolation::ReadUncommitted) => Ok(Isolation::ReadUncommitted),
        Ok(proto::Isolation::ReadCommitted) => Ok(Isolation::ReadCommitted),
        Ok(proto::Isolation::Unspecified) | Err(_) => {
            Err(Malformed::Unknown { field: "isolation", value: isolation.into() })
        }
    }
}

fn to_fetch(fetch: FetchRequest) -> proto::FetchRequest {
    proto::FetchRequest {
        wait_ms_max: fetch.wait_ms_max,
        bytes_min: fetch.bytes_min,
        bytes_max: fetch.bytes_max,
        isolation: to_isolation(fetch.isolation),
        partitions: fetch
            .partitions
            .into_iter()
            .map(|asked| proto::FetchPartition {
                partition: to_partition(asked.partition),
                leader_epoch: asked.leader_epoch.0,
                fetch_offset: asked.fetch_offset.0,
                last_fetched_epoch: asked.last_fetched_epoch.0,
                bytes_max: asked.bytes_max,
            })
            .collect(),
    }
}

fn from_fetch(fetch: proto::FetchRequest) -> Result<FetchRequest, Malformed> {
    Ok(FetchRequest {
        wait_ms_max: fetch.wait_ms_max,
        bytes_min: fetch.bytes_min,
        bytes_max: fetch.bytes_max,
        isolation: from_isolation(fetch.isolation)?,
        partitions: each(fetch.partitions, |asked| {
            Ok(FetchPartition {
                partition: from_partition(asked.partition)?,
                leader_epoch: LeaderEpoch(asked.leader_epoch),
                fetch_offset: Offset(asked.fetch_offset),
                last_fetched_epoch: LeaderEpoch(asked.last_fetched_epoch),
                bytes_max: asked.bytes_max,
            })
        })?,
    })
}

fn to_fetch_result(
    (partition, result): (TopicPartition, Result<Fetched, ReadError>),
    payload: &mut Pieces,
) -> proto::FetchResult {
    use proto::fetch_result::Result as Out;
    let result = match result {
        Ok(fetched) => {
            let lengths = fetched.records.iter().map(|piece| piece.len() as u32).collect();
            fetched.records.into_iter().for_each(|piece| payload.push(piece));
            Out::Fetched(proto::Fetched {
                high_watermark: fetched.high_watermark.0,
                last_stable_offset: fetched.last_stable_offset.0,
                log_start: fetched.log_start.0,
                diverging: fetched.diverging.map(to_epoch_end),
                lengths,
            })
        }
        Err(error) => Out::Error(to_read_error(error)),
    };
    proto::FetchResult { partition: to_partition(partition), result: Some(result) }
}

fn from_fetch_result(
    result: proto::FetchResult,
    payload: &mut Payload,
) -> Result<(TopicPartition, Result<Fetched, ReadError>), Malformed> {
    use proto::fetch_result::Result as In;
    let partition = from_partition(result.partition)?;
    Ok(match result.result.ok_or(Malformed::Missing("fetch result"))? {
        In::Fetched(fetched) => (
            partition,
            Ok(Fetched {
                high_watermark: Offset(fetched.high_watermark),
                last_stable_offset: Offset(fetched.last_stable_offset),
                log_start: Offset(fetched.log_start),
                diverging: fetched.diverging.map(from_epoch_end),
                records: each(fetched.lengths, |length| payload.take(length))?,
            }),
        ),
        In::Error(error) => (partition, Err(from_read_error(error)?)),
    })
}

fn to_read_error(error: ReadError) -> proto::ReadError {
    use proto::read_error::Kind;
    let mut out = proto::ReadError::default();
    let kind = match error {
        ReadError::NotLeader { leader, leader_epoch } => {
            (out.leader, out.leader_epoch) = (leader.0, leader_epoch.0);
            Kind::NotLeader
        }
        ReadError::UnknownPartition => Kind::UnknownPartition,
        ReadError::FencedLeaderEpoch => Kind::FencedLeaderEpoch,
        ReadError::UnknownLeaderEpoch => Kind::UnknownLeaderEpoch,
        ReadError::OffsetOutOfRange { log_start, high_watermark } => {
            (out.log_start, out.high_watermark) = (log_start.0, high_watermark.0);
            Kind::OffsetOutOfRange
        }
        ReadError::OffsetNotAvailable => Kind::OffsetNotAvailable,
        ReadError::Corrupt => Kind::Corrupt,
        ReadError::StorageFailed => Kind::StorageFailed,
    };
    out.set_kind(kind);
    out
}

fn from_read_error(error: proto::ReadError) -> Result<ReadError, Malformed> {
    use proto::read_error::Kind;
    Ok(match error.kind() {
        Kind::NotLeader => {
            ReadError::NotLeader { leader: BrokerId(error.leader), leader_epoch: LeaderEpoch(error.leader_epoch) }
        }
        Kind::UnknownPartition => ReadError::UnknownPartition,
        Kind::FencedLeaderEpoch => ReadError::FencedLeaderEpoch,
        Kind::UnknownLeaderEpoch => ReadError::UnknownLeaderEpoch,
        Kind::OffsetOutOfRange => ReadError::OffsetOutOfRange {
            log_start: Offset(error.log_start),
            high_watermark: Offset(error.high_watermark),
        },
        Kind::OffsetNotAvailable => ReadError::OffsetNotAvailable,
        Kind::Corrupt => ReadError::Corrupt,
        Kind::StorageFailed => ReadError::StorageFailed,
        Kind::Unspecified => return Err(Malformed::Unknown { field: "read error", value: error.kind.into() }),
    })
}

fn to_list_offsets(asked: ListOffsetsPartition) -> proto::ListOffsetsPartition {
    use proto::list_offsets_partition::At;
    let at = match asked.at {
        OffsetSpec::Latest => At::Special(-1),
        OffsetSpec::Earliest => At::Special(-2),
        OffsetSpec::MaxTimestamp => At::Special(-3),
        OffsetSpec::EarliestLocal => At::Special(-4),
        OffsetSpec::LatestTiered => At::Special(-5),
        OffsetSpec::At(timestamp) => At::Timestamp(timestamp.0),
        OffsetSpec::TimeOf(offset) => At::TimeOf(offset.0),
    };
    proto::ListOffsetsPartition {
        partition: to_partition(asked.partition),
        leader_epoch: asked.leader_epoch.0,
        isolation: to_isolation(asked.isolation),
        at: Some(at),
    }
}

fn from_list_offsets(asked: proto::ListOffsetsPartition) -> Result<ListOffsetsPartition, Malformed> {
    use proto::list_offsets_partition::At;
    Ok(ListOffsetsPartition {
        partition: from_partition(asked.partition)?,
        leader_epoch: LeaderEpoch(asked.leader_epoch),
        isolation: from_isolation(asked.isolation)?,
        at: match asked.at.ok_or(Malformed::Missing("offset asked for"))? {
            At::Special(-1) => OffsetSpec::Latest,
            At::Special(-2) => OffsetSpec::Earliest,
            At::Special(-3) => OffsetSpec::MaxTimestamp,
            At::Special(-4) => OffsetSpec::EarliestLocal,
            At::Special(-5) => OffsetSpec::LatestTiered,
            At::Special(value) => {
                return Err(Malformed::Unknown { field: "offset asked for", value: value.into() });
            }
            At::Timestamp(timestamp) => OffsetSpec::At(Timestamp(timestamp)),
            At::TimeOf(offset) => OffsetSpec::TimeOf(Offset(offset)),
        },
    })
}

fn to_listed((partition, result): (TopicPartition, Result<ListedOffset, ReadError>)) -> proto::ListOffsetsResult {
    use proto::list_offsets_result::Result as Out;
    let result = match result {
        Ok(listed) => Out::Offset(proto::ListedOffset {
            offset: listed.offset.0,
            timestamp: listed.timestamp.0,
            leader_epoch: listed.leader_epoch.0,
        }),
        Err(error) => Out::Error(to_read_error(error)),
    };
    proto::ListOffsetsResult { partition: to_partition(partition), result: Some(result) }
}

fn from_listed(
    result: proto::ListOffsetsResult,
) -> Result<(TopicPartition, Result<ListedOffset, ReadError>), Malformed> {
    use proto::list_offsets_result::Result as In;
    let partition = from_partition(result.partition)?;
    Ok(match result.result.ok_or(Malformed::Missing("listed offset"))? {
        In::Offset(listed) => (
            partition,
            Ok(ListedOffset {
                offset: Offset(listed.offset),
                timestamp: Timestamp(listed.timestamp),
                leader_epoch: LeaderEpoch(listed.leader_epoch),
            }),
        ),
        In::Error(error) => (partition, Err(from_read_error(error)?)),
    })
}

fn to_epoch_end(end: EpochEnd) -> proto::EpochEnd {
    proto::EpochEnd { epoch: end.epoch.0, end_offset: end.end_offset.0 }
}

fn from_epoch_end(end: proto::EpochEnd) -> EpochEnd {
    EpochEnd { epoch: LeaderEpoch(end.epoch), end_offset: Offset(end.end_offset) }
}

fn to_epoch_end_result((partition, result): (TopicPartition, Result<EpochEnd, ReadError>)) -> proto::EpochEndResult {
    use proto::epoch_end_result::Result as Out;
    let result = match result {
        Ok(end) => Out::End(to_epoch_end(end)),
        Err(error) => Out::Error(to_read_error(error)),
    };
    proto::EpochEndResult { partition: to_partition(partition), result: Some(result) }
}

fn from_epoch_end_result(
    result: proto::EpochEndResult,
) -> Result<(TopicPartition, Result<EpochEnd, ReadError>), Malformed> {
    use proto::epoch_end_result::Result as In;
    let partition = from_partition(result.partition)?;
    Ok(match result.result.ok_or(Malformed::Missing("end of an epoch"))? {
        In::End(end) => (partition, Ok(from_epoch_end(end))),
        In::Error(error) => (partition, Err(from_read_error(error)?)),
    })
}

fn to_producers(
    (partition, result): (TopicPartition, Result<Vec<ActiveProducer>, ReadError>),
) -> proto::DescribeProducersResult {
    use proto::describe_producers_result::Result as Out;
    let result = match result {
        Ok(producers) => Out::Producers(proto::ActiveProducers {
            producers: producers
                .into_iter()
                .map(|producer| proto::ActiveProducer {
                    producer_id: producer.producer_id.0,
                    producer_epoch: producer.producer_epoch.0.into(),
                    last_sequence: producer.last_sequence.0,
                    last_timestamp: producer.last_timestamp.0,
                })
                .collect(),
        }),
        Err(error) => Out::Error(to_read_error(error)),
    };
    proto::DescribeProducersResult { partition: to_partition(partition), result: Some(result) }
}

fn from_producers(
    result: proto::DescribeProducersResult,
) -> Result<(TopicPartition, Result<Vec<ActiveProducer>, ReadError>), Malformed> {
    use proto::describe_producers_result::Result as In;
    let partition = from_partition(result.partition)?;
    Ok(match result.result.ok_or(Malformed::Missing("producers"))? {
        In::Producers(producers) => {
            let producers = each(producers.producers, |producer| {
                Ok(ActiveProducer {
                    producer_id: ProducerId(producer.producer_id),
                    producer_epoch: ProducerEpoch(narrow(producer.producer_epoch, "producer epoch")?),
                    last_sequence: Sequence(producer.last_sequence),
                    last_timestamp: Timestamp(producer.last_timestamp),
                })
            })?;
            (partition, Ok(producers))
        }
        In::Error(error) => (partition, Err(from_read_error(error)?)),
    })
}

fn to_trimmed((partition, result): (TopicPartition, Result<Offset, TrimError>)) -> proto::TrimResult {
    use proto::trim_result::{Error, Result as Out};
    let result = match result {
        Ok(log_start) => Out::LogStart(log_start.0),
        Err(error) => Out::Error(i32::from(match error {
            TrimError::NotLeader => Error::NotLeader,
            TrimError::UnknownPartition => Error::UnknownPartition,
            TrimError::OutOfRange => Error::OutOfRange,
            TrimError::TimedOut => Error::TimedOut,
            TrimError::StorageFailed => Error::StorageFailed,
        })),
    };
    proto::TrimResult { partition: to_partition(partition), result: Some(result) }
}

fn from_trimmed(result: proto::TrimResult) -> Result<(TopicPartition, Result<Offset, TrimError>), Malformed> {
    use proto::trim_result::{Error, Result as In};
    let partition = from_partition(result.partition)?;
    let unknown = |value: i32| Malformed::Unknown { field: "trim error", value: value.into() };
    Ok(match result.result.ok_or(Malformed::Missing("log start"))? {
        In::LogStart(log_start) => (partition, Ok(Offset(log_start))),
        In::Error(error) => {
            let error = match Error::try_from(error).map_err(|_| unknown(error))? {
                Error::NotLeader => TrimError::NotLeader,
                Error::UnknownPartition => TrimError::UnknownPartition,
                Error::OutOfRange => TrimError::OutOfRange,
                Error::TimedOut => TrimError::TimedOut,
                Error::StorageFailed => TrimError::StorageFailed,
                Error::Unspecified => return Err(unknown(error)),
            };
            (partition, Err(error))
        }
    })
}

fn to_log_dir(dir: LogDir) -> proto::LogDir {
    proto::LogDir {
        broker: dir.broker.0,
        error: dir.error.map(|error| error.code().into()),
        path: dir.path,
        bytes_total: dir.bytes_total,
        bytes_usable: dir.bytes_usable,
        replicas: dir
            .replicas
            .into_iter()
            .map(|replica| proto::ReplicaSize {
                partition: to_partition(replica.partition),
                bytes: replica.bytes,
                offset_lag: replica.offset_lag,
            })
            .collect(),
    }
}

fn from_log_dir(dir: proto::LogDir) -> Result<LogDir, Malformed> {
    Ok(LogDir {
        broker: BrokerId(dir.broker),
        error: dir.error.map(from_code).transpose()?,
        path: dir.path,
        bytes_total: dir.bytes_total,
        bytes_usable: dir.bytes_usable,
        replicas: each(dir.replicas, |replica| {
            Ok(ReplicaSize {
                partition: from_partition(replica.partition)?,
                bytes: replica.bytes,
                offset_lag: replica.offset_lag,
            })
        })?,
    })
}
