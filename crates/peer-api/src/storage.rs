//! What a gateway asks of a storage node.
//!
//! Requests travel on one ordered stream per (gateway, storage node) and are taken up in that order (W1). Each gets exactly
//! one [`Response`] with its [`RequestId`]; answers may overtake each other. An [`Request::Append`] with `acks = 0` on the
//! Kafka side still gets an answer here: the gateway needs to know.

use std::borrow::Cow;

use base_types::{
    BrokerId, ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicPartition,
};
use bytes::Bytes;
use record_batch::ProducedBatch;

use crate::groups::{CoordinatorError, GroupResponse, ToCoordinator};

/// Chosen by the asker, unique per stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RequestId(pub u64);

/// From a gateway to a storage node.
#[derive(Clone, Debug)]
pub struct ToStorage {
    pub id: RequestId,
    pub request: Request,
}

/// And back.
#[derive(Clone, Debug)]
pub struct FromStorage {
    pub id: RequestId,
    pub response: Response,
}

#[derive(Clone, Debug)]
pub enum Request {
    Append(AppendRequest),
    Fetch(FetchRequest),
    /// Answers the named fetch at once with what it has. That fetch still gets its one answer; this request gets none.
    CancelFetch(RequestId),
    ListOffsets(Vec<ListOffsetsPartition>),
    EpochEnds(Vec<EpochEndPartition>),
    DescribeProducers(Vec<TopicPartition>),
    DescribeLogDirs,
    Trim(TrimRequest),
    /// For the coordinator of some groups, which lives where their partition is led. May wait for other members of the group.
    Coordinate(Box<ToCoordinator>),
}

#[derive(Clone, Debug)]
pub enum Response {
    Append(AppendResponse),
    Fetch(FetchResponse),
    ListOffsets(Vec<(TopicPartition, Result<ListedOffset, ReadError>)>),
    EpochEnds(Vec<(TopicPartition, Result<EpochEnd, ReadError>)>),
    DescribeProducers(Vec<(TopicPartition, Result<Vec<ActiveProducer>, ReadError>)>),
    DescribeLogDirs(Vec<LogDir>),
    /// In the order asked: where the log begins on the leader and on every live replica, at the least.
    Trim(Vec<(TopicPartition, Result<Offset, TrimError>)>),
    Coordinate(Box<Result<GroupResponse, CoordinatorError>>),
}

/// How many replicas must hold a batch durably before it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Acks {
    /// `acks` 0 and 1: the leader alone.
    Leader,
    /// `acks` -1: every member of the ISR, and at least `min.insync.replicas` of them (R16).
    All,
}

#[derive(Clone, Debug)]
pub struct AppendRequest {
    pub acks: Acks,
    /// How long to wait for the followers, in milliseconds. When it is over the answer is the indeterminate [`AppendError::TimedOut`].
    pub timeout_ms: u32,
    pub partitions: Vec<AppendPartition>,
}

#[derive(Clone, Debug)]
pub struct AppendPartition {
    pub partition: TopicPartition,
    /// The epoch under which the gateway knows the leader. A leader of another epoch refuses, so that nothing sent on an old
    /// view can overtake what is sent again on the new one (W1).
    pub leader_epoch: LeaderEpoch,
    /// `Err` when the bytes did not survive the way here: every hop checks them again by itself, and the leader answers
    /// [`AppendError::Corrupt`] for this partition alone. A gateway only ever sends `Ok`.
    pub batch: Result<ProducedBatch, Damaged>,
}

/// A batch that was whole when it was sent and is not any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damaged;

#[derive(Clone, Debug)]
pub struct AppendResponse {
    /// In the order asked.
    pub partitions: Vec<(TopicPartition, Result<Appended, AppendError>)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Appended {
    pub base_offset: Offset,
    /// [`Timestamp::NONE`] unless the topic stamps LogAppendTime.
    pub log_append_time: Timestamp,
    pub log_start: Offset,
}

/// Why a batch was not acknowledged. *Definite*: nothing was appended and never will be. *Indeterminate*: it may yet be seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AppendError {
    /// This node does not lead the partition in the epoch named. Definite.
    NotLeader { leader: BrokerId, leader_epoch: LeaderEpoch },
    /// No replica of this partition here. Definite.
    UnknownPartition,
    /// The ISR is smaller than `min.insync.replicas`; nothing was appended. Definite.
    NotEnoughReplicas,
    /// The ISR shrank below `min.insync.replicas` after the append. Indeterminate.
    NotEnoughReplicasAfterAppend,
    /// Not enough replicas confirmed in time. Indeterminate.
    TimedOut,
    /// The leader lost its leadership before the batch was committed. Indeterminate.
    LeaderChanged { leader: BrokerId, leader_epoch: LeaderEpoch },
    /// Neither the next of the producer's sequence nor one of the batches remembered (P3): a gap, or a batch that was appended
    /// too long ago to be known again, which Kafka tells by the same code. Definite for this attempt.
    OutOfOrderSequence { expected: Sequence, got: Sequence },
    /// An older producer epoch (P4). Definite.
    InvalidProducerEpoch { current: ProducerEpoch, got: ProducerEpoch },
    /// Larger than the topic's `max.message.bytes`. Definite.
    MessageTooLarge { size: usize, max: usize },
    /// A timestamp outside the topic's bounds. Definite.
    InvalidTimestamp,
    /// The batch breaks a rule of the topic (for example no key on a compacted one). Definite.
    InvalidRecord(Cow<'static, str>),
    /// The batch was damaged on its way to the storage node. Definite.
    Corrupt,
    /// The disk is nearly full. Definite; retriable, since service resumes by itself.
    NoSpace,
    /// The log directory failed during the write. Indeterminate.
    StorageFailed,
}

impl AppendError {
    /// Whether it is certain that nothing was appended, ever (R17).
    pub fn is_definite(&self) -> bool {
        match self {
            AppendError::NotLeader { .. }
            | AppendError::UnknownPartition
            | AppendError::NotEnoughReplicas
            | AppendError::OutOfOrderSequence { .. }
            | AppendError::InvalidProducerEpoch { .. }
            | AppendError::MessageTooLarge { .. }
            | AppendError::InvalidTimestamp
            | AppendError::InvalidRecord(_)
            | AppendError::Corrupt
            | AppendError::NoSpace => true,
            AppendError::NotEnoughReplicasAfterAppend
            | AppendError::TimedOut
            | AppendError::LeaderChanged { .. }
            | AppendError::StorageFailed => false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Isolation {
    #[default]
    ReadUncommitted,
    ReadCommitted,
}

#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// How long to wait until `bytes_min` are there, in milliseconds.
    pub wait_ms_max: u32,
    pub bytes_min: u32,
    /// Over all partitions. The first batch found is returned even when it is larger (KIP-74).
    pub bytes_max: u32,
    pub isolation: Isolation,
    pub partitions: Vec<FetchPartition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    pub partition: TopicPartition,
    /// The client's view of the epoch; [`LeaderEpoch::UNKNOWN`] when it has none.
    pub leader_epoch: LeaderEpoch,
    pub fetch_offset: Offset,
    /// Epoch of the last record the client has; [`LeaderEpoch::UNKNOWN`] when it does not say (KIP-320).
    pub last_fetched_epoch: LeaderEpoch,
    pub bytes_max: u32,
}

#[derive(Clone, Debug)]
pub struct FetchResponse {
    /// In the order asked.
    pub partitions: Vec<(TopicPartition, Result<Fetched, ReadError>)>,
}

#[derive(Clone, Debug, Default)]
pub struct Fetched {
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start: Offset,
    /// Set when the client's history is not the leader's: the largest common epoch and its end (KIP-320).
    pub diverging: Option<EpochEnd>,
    /// Whole batches, by reference.
    pub records: Vec<Bytes>,
}

impl Fetched {
    pub fn size(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListOffsetsPartition {
    pub partition: TopicPartition,
    pub leader_epoch: LeaderEpoch,
    pub isolation: Isolation,
    pub at: OffsetSpec,
}

/// Which offset is asked for. The numbers are ListOffsets' special timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// -1
    Latest,
    /// -2
    Earliest,
    /// -3 (KIP-734)
    MaxTimestamp,
    /// -4 (KIP-405)
    EarliestLocal,
    /// -5 (KIP-1005)
    LatestTiered,
    /// The first record with at least this timestamp.
    At(Timestamp),
    /// Not Kafka's: the first batch that ends at this offset or behind it, and when its first record was written. What was
    /// deleted is passed over. To know the age of a record without carrying it.
    TimeOf(Offset),
}

/// `offset` is [`Offset::UNKNOWN`] when no record qualifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub leader_epoch: LeaderEpoch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEndPartition {
    pub partition: TopicPartition,
    /// The client's view of the current epoch.
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch whose end is asked for.
    pub leader_epoch: LeaderEpoch,
}

/// The largest epoch not above the one asked for, and the offset after its last record; both unknown when there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    pub epoch: LeaderEpoch,
    pub end_offset: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub last_sequence: Sequence,
    pub last_timestamp: Timestamp,
}

/// Why something could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadError {
    NotLeader {
        leader: BrokerId,
        leader_epoch: LeaderEpoch,
    },
    UnknownPartition,
    /// The client's leader epoch is older than the leader's.
    FencedLeaderEpoch,
    /// The client's leader epoch is newer than the leader's.
    UnknownLeaderEpoch,
    OffsetOutOfRange {
        log_start: Offset,
        high_watermark: Offset,
    },
    /// Newly elected: the high watermark is not yet known to be final.
    OffsetNotAvailable,
    /// The bytes on disk are damaged; the replica goes into quarantine.
    Corrupt,
    StorageFailed,
}

/// Records are to be gone for good (DeleteRecords).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrimRequest {
    /// How long to wait until the live replicas have done it too, in milliseconds.
    pub timeout_ms: u32,
    pub partitions: Vec<TrimPartition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrimPartition {
    pub partition: TopicPartition,
    /// The first record to stay; `None`: everything that is committed goes.
    pub to: Option<Offset>,
}

/// Why it is not certain that the records are gone. To ask again does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimError {
    /// This node does not lead the partition, or not any more.
    NotLeader,
    UnknownPartition,
    /// Negative, or above the high watermark. Nothing was done.
    OutOfRange,
    /// Not every live replica has done it in time.
    TimedOut,
    StorageFailed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDir {
    pub broker: BrokerId,
    pub error: Option<ErrorCode>,
    pub path: String,
    pub bytes_total: u64,
    pub bytes_usable: u64,
    pub replicas: Vec<ReplicaSize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaSize {
    pub partition: TopicPartition,
    pub bytes: u64,
    /// Records the replica lacks against its leader's high watermark; 0 on a leader.
    pub offset_lag: i64,
}

/// The stream to the storage node failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransportError {
    /// The request was never handed to the transport. Definite.
    NotSent,
    /// It was, and no answer came. Indeterminate for an append (W2).
    Broken,
}
