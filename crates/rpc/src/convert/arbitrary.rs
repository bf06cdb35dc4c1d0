//! Messages made at random, every kind of each.

use base_types::{
    BrokerEpoch, BrokerId, ErrorCode, Incarnation, LeaderEpoch, Offset, PartitionEpoch, PartitionIndex, ProducerEpoch,
    ProducerId, Random, Sequence, Timestamp, TopicId, TopicPartition,
};
use bytes::Bytes;
use peer_api::controller::*;
use peer_api::groups::{self, *};
use peer_api::metadata::{
    Broker, BrokerState, ConfigResource, Gateway, MetadataOffset, PartitionState, Record, Update,
};
use peer_api::replication::{FromFollower, FromLeader};
use peer_api::storage::{self, *};
use record_batch::{BatchBuilder, BatchLimits, Compression, ProducedBatch, StampedBatch};

/// A type that has several kinds of values, each of which can be made at random.
pub(crate) trait Arbitrary: Sized {
    const KINDS: u64;
    fn arbitrary(kind: u64, random: &mut Source) -> Self;
}

pub(crate) struct Source(pub(crate) Random);

impl Source {
    pub(crate) fn new(seed: u64) -> Source {
        Source(Random::new(seed))
    }

    fn coin(&mut self) -> bool {
        self.0.chance(500)
    }

    /// Any number, with a liking for the edges.
    fn int<N: TryFrom<i128> + Copy>(&mut self, min: N, max: N) -> N
    where
        i128: From<N>,
    {
        let (min, max) = (i128::from(min), i128::from(max));
        let number = match self.0.below(8) {
            0 => min,
            1 => max,
            2 => 0,
            3 => -1,
            4 => self.0.below(1000) as i128,
            _ => min + self.0.next_u64() as i128 % (max - min + 1),
        };
        N::try_from(number.clamp(min, max)).unwrap_or_else(|_| unreachable!("clamped"))
    }

    fn i16(&mut self) -> i16 {
        self.int(i16::MIN, i16::MAX)
    }

    fn i32(&mut self) -> i32 {
        self.int(i32::MIN, i32::MAX)
    }

    fn u32(&mut self) -> u32 {
        self.int(0, u32::MAX)
    }

    fn i64(&mut self) -> i64 {
        self.int(i64::MIN, i64::MAX)
    }

    fn u64(&mut self) -> u64 {
        self.int(0, u64::MAX)
    }

    fn u16(&mut self) -> u16 {
        self.int(0, u16::MAX)
    }

    fn uuid(&mut self) -> [u8; 16] {
        self.0.uuid()
    }

    fn text(&mut self) -> String {
        (0..self.0.below(12)).map(|_| ['a', 'Z', '0', '.', 'é', '水', '\0'][self.0.below(7) as usize]).collect()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Source) -> T) -> Option<T> {
        self.coin().then(|| make(self))
    }

    fn many<T>(&mut self, mut make: impl FnMut(&mut Source) -> T) -> Vec<T> {
        (0..self.0.below(5)).map(|_| make(self)).collect()
    }

    fn partition(&mut self) -> TopicPartition {
        TopicPartition { topic: TopicId(self.uuid()), partition: PartitionIndex(self.i32()) }
    }

    fn epoch(&mut self) -> LeaderEpoch {
        LeaderEpoch(self.i32())
    }

    fn offset(&mut self) -> Offset {
        Offset(self.i64())
    }

    fn broker(&mut self) -> BrokerId {
        BrokerId(self.i32())
    }

    fn brokers(&mut self) -> Vec<BrokerId> {
        self.many(Source::broker)
    }

    fn metadata_offset(&mut self) -> MetadataOffset {
        MetadataOffset(self.u64())
    }

    fn code(&mut self) -> ErrorCode {
        ErrorCode::ALL[self.0.below(ErrorCode::ALL.len() as u64) as usize]
    }

    /// Of any size around the ones at which pieces stop being copied and frames end.
    pub(crate) fn piece(&mut self) -> Bytes {
        let size = match self.0.below(6) {
            0 => 0,
            1 => self.0.between(16 * 1024 - 1, 16 * 1024 + 1),
            2 => self.0.between(32 * 1024 - 200, 32 * 1024 + 1),
            _ => self.0.below(300),
        };
        let start = self.0.next_u64() as u8;
        (0..size).map(|i| start.wrapping_add(i as u8)).collect()
    }

    pub(crate) fn produced(&mut self) -> ProducedBatch {
        let value = self.piece();
        let mut batch = BatchBuilder::new(Compression::None);
        for i in 0..=self.0.below(3) {
            batch.push(Some(b"key"), Some(&value), &[("header", None)], Timestamp(1_700_000_000_000 + i as i64));
        }
        let bytes = batch.build().expect("a batch of a few records can be built");
        let limits = BatchLimits { max_message_bytes: usize::MAX, ..BatchLimits::default() };
        ProducedBatch::check(bytes, &limits).expect("a batch just built is whole")
    }

    pub(crate) fn stamped(&mut self) -> StampedBatch {
        let stamped = StampedBatch::stamp(&self.produced(), Offset(self.0.below(1 << 40) as i64), LeaderEpoch(3));
        if self.coin() {
            return stamped;
        }
        StampedBatch::from_stored(stamped.to_bytes()).expect("a batch just stamped is whole")
    }

    fn isolation(&mut self) -> Isolation {
        if self.coin() { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
    }

    fn append_error(&mut self) -> AppendError {
        let (leader, leader_epoch) = (self.broker(), self.epoch());
        match self.0.below(14) {
            0 => AppendError::NotLeader { leader, leader_epoch },
            1 => AppendError::UnknownPartition,
            2 => AppendError::NotEnoughReplicas,
            3 => AppendError::NotEnoughReplicasAfterAppend,
            4 => AppendError::TimedOut,
            5 => AppendError::LeaderChanged { leader, leader_epoch },
            6 => AppendError::OutOfOrderSequence { expected: Sequence(self.i32()), got: Sequence(self.i32()) },
            7 => {
                AppendError::InvalidProducerEpoch { current: ProducerEpoch(self.i16()), got: ProducerEpoch(self.i16()) }
            }
            8 => AppendError::MessageTooLarge { size: self.u32() as usize, max: self.u32() as usize },
            9 => AppendError::InvalidTimestamp,
            10 => AppendError::InvalidRecord(self.text().into()),
            11 => AppendError::Corrupt,
            12 => AppendError::NoSpace,
            _ => AppendError::StorageFailed,
        }
    }

    fn read_error(&mut self) -> ReadError {
        match self.0.below(8) {
            0 => ReadError::NotLeader { leader: self.broker(), leader_epoch: self.epoch() },
            1 => ReadError::UnknownPartition,
            2 => ReadError::FencedLeaderEpoch,
            3 => ReadError::UnknownLeaderEpoch,
            4 => ReadError::OffsetOutOfRange { log_start: self.offset(), high_watermark: self.offset() },
            5 => ReadError::OffsetNotAvailable,
            6 => ReadError::Corrupt,
            _ => ReadError::StorageFailed,
        }
    }

    fn read<T>(&mut self, make: impl FnOnce(&mut Source) -> T) -> (TopicPartition, Result<T, ReadError>) {
        (self.partition(), if self.coin() { Ok(make(self)) } else { Err(self.read_error()) })
    }

    fn epoch_end(&mut self) -> EpochEnd {
        EpochEnd { epoch: self.epoch(), end_offset: self.offset() }
    }

    fn active(&mut self) -> Option<ActiveController> {
        self.maybe(|r| ActiveController { id: r.broker(), address: r.text() })
    }

    fn refusal(&mut self) -> Refusal {
        Refusal { code: self.code(), message: self.text() }
    }

    fn topic_outcomes(&mut self) -> TopicOutcomes {
        TopicOutcomes { name: self.text(), partitions: self.many(|r| (r.i32(), r.or_refusal(|_| ()))) }
    }

    fn or_refusal<T>(&mut self, make: impl FnOnce(&mut Source) -> T) -> Result<T, Refusal> {
        if self.coin() { Ok(make(self)) } else { Err(self.refusal()) }
    }

    fn partition_state(&mut self) -> PartitionState {
        PartitionState {
            replicas: self.brokers(),
            isr: self.brokers(),
            elr: self.brokers(),
            last_known_elr: self.brokers(),
            leader: self.maybe(Source::broker),
            leader_epoch: self.epoch(),
            partition_epoch: PartitionEpoch(self.i32()),
            adding: self.brokers(),
            removing: self.brokers(),
            unclean_since: self.maybe(Source::epoch),
        }
    }

    fn resource(&mut self) -> ConfigResource {
        match self.0.below(3) {
            0 => ConfigResource::Cluster,
            1 => ConfigResource::Broker(self.broker()),
            _ => ConfigResource::Topic(self.text()),
        }
    }

    /// The codec has tests of its own; here it matters that records get through.
    fn record(&mut self) -> Record {
        match self.0.below(4) {
            0 => Record::BrokerRegistered(Broker {
                id: self.broker(),
                epoch: BrokerEpoch(self.i64()),
                incarnation: Incarnation(self.uuid()),
                rack: self.maybe(Source::text),
                peer_address: self.text(),
                host: self.text(),
                state: BrokerState::Active,
            }),
            1 => Record::GatewayRegistered(Gateway {
                id: self.broker(),
                incarnation: Incarnation(self.uuid()),
                advertised_host: self.text(),
                advertised_port: self.u16(),
                rack: self.maybe(Source::text),
                host: self.text(),
            }),
            2 => {
                let partition = TopicPartition { partition: PartitionIndex(7), ..self.partition() };
                Record::PartitionChanged { partition, state: self.partition_state() }
            }
            _ => Record::TopicCreated { id: TopicId(self.uuid()), name: self.text() },
        }
    }
}

/// Requests to coordinators, and their answers.
const GROUP_KINDS: u64 = 12;

impl Source {
    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.below(all.len() as u64) as usize]
    }

    fn or_code<T>(&mut self, make: impl FnOnce(&mut Source) -> T) -> Result<T, ErrorCode> {
        if self.coin() { Ok(make(self)) } else { Err(self.code()) }
    }

    fn or_not_found<T>(&mut self, make: impl FnOnce(&mut Source) -> T) -> (String, Result<T, GroupNotFound>) {
        let group_id = self.text();
        (group_id, if self.coin() { Ok(make(self)) } else { Err(GroupNotFound { message: self.text() }) })
    }

    fn index(&mut self) -> PartitionIndex {
        PartitionIndex(self.i32())
    }

    fn topics<P>(&mut self, mut partition: impl FnMut(&mut Source) -> P) -> Vec<OffsetTopic<P>> {
        self.many(|r| OffsetTopic { id: TopicId(r.uuid()), name: r.text(), partitions: r.many(&mut partition) })
    }

    fn assigned(&mut self) -> Vec<AssignedTopic> {
        self.many(|r| AssignedTopic { topic_id: TopicId(r.uuid()), partitions: r.many(Source::index) })
    }

    fn described(&mut self) -> Vec<DescribedTopic> {
        self.many(|r| DescribedTopic {
            topic_id: TopicId(r.uuid()),
            topic_name: r.text(),
            partitions: r.many(Source::index),
        })
    }

    fn coordinator_error(&mut self) -> CoordinatorError {
        self.one_of(&[
            CoordinatorError::NotCoordinator,
            CoordinatorError::LoadInProgress,
            CoordinatorError::NotAvailable,
            CoordinatorError::Lost,
            CoordinatorError::TimedOut,
            CoordinatorError::WriteRefused,
        ])
    }

    fn group_request(&mut self, kind: u64) -> GroupRequest {
        let r = self;
        match kind {
            0 => GroupRequest::JoinGroup(JoinGroup {
                group_id: r.text(),
                session_timeout_ms: r.i32(),
                rebalance_timeout_ms: r.i32(),
                member_id: r.text(),
                group_instance_id: r.maybe(Source::text),
                protocol_type: r.text(),
                protocols: r.many(|r| JoinProtocol { name: r.text(), metadata: r.piece() }),
                reason: r.maybe(Source::text),
                requires_known_member_id: r.coin(),
                supports_skip_assignment: r.coin(),
            }),
            1 => GroupRequest::SyncGroup(SyncGroup {
                group_id: r.text(),
                generation_id: r.i32(),
                member_id: r.text(),
                group_instance_id: r.maybe(Source::text),
                protocol_type: r.maybe(Source::text),
                protocol_name: r.maybe(Source::text),
                assignments: r.many(|r| (r.text(), r.piece())),
            }),
            2 => GroupRequest::Heartbeat(groups::Heartbeat {
                group_id: r.text(),
                generation_id: r.i32(),
                member_id: r.text(),
                group_instance_id: r.maybe(Source::text),
            }),
            3 => GroupRequest::LeaveGroup(LeaveGroup {
                group_id: r.text(),
                members: r.many(|r| LeavingMember {
                    member_id: r.text(),
                    group_instance_id: r.maybe(Source::text),
                    reason: r.maybe(Source::text),
                }),
            }),
            4 => GroupRequest::OffsetCommit(OffsetCommit {
                group_id: r.text(),
                generation_or_epoch: r.i32(),
                member_id: r.text(),
                group_instance_id: r.maybe(Source::text),
                retention_ms: r.maybe(Source::i64),
                knows_member_epochs: r.coin(),
                topics: r.topics(|r| CommitPartition {
                    partition: r.index(),
                    offset: r.offset(),
                    leader_epoch: r.epoch(),
                    metadata: r.maybe(Source::text),
                }),
            }),
            5 => GroupRequest::OffsetFetch(OffsetFetch {
                groups: r.many(|r| FetchGroup {
                    group_id: r.text(),
                    member_id: r.maybe(Source::text),
                    member_epoch: r.i32(),
                    topics: r.maybe(|r| r.topics(Source::index)),
                }),
                require_stable: r.coin(),
            }),
            6 => GroupRequest::OffsetDelete(OffsetDelete { group_id: r.text(), topics: r.topics(Source::index) }),
            7 => GroupRequest::DescribeGroups(DescribeGroups { groups: r.many(Source::text) }),
            8 => GroupRequest::ListGroups(ListGroups { states: r.many(Source::text), types: r.many(Source::text) }),
            9 => GroupRequest::DeleteGroups(DeleteGroups { groups: r.many(Source::text) }),
            10 => GroupRequest::ConsumerGroupHeartbeat(ConsumerGroupHeartbeat {
                group_id: r.text(),
                member_id: r.text(),
                member_epoch: r.i32(),
                instance_id: r.maybe(Source::text),
                rack_id: r.maybe(Source::text),
                rebalance_timeout_ms: r.i32(),
                subscribed_topic_names: r.maybe(|r| r.many(Source::text)),
                subscribed_topic_regex: r.maybe(Source::text),
                server_assignor: r.maybe(Source::text),
                topic_partitions: r.maybe(Source::assigned),
                requires_member_id: r.coin(),
            }),
            _ => GroupRequest::ConsumerGroupDescribe(ConsumerGroupDescribe { groups: r.many(Source::text) }),
        }
    }

    fn group_response(&mut self, kind: u64) -> GroupResponse {
        let r = self;
        match kind {
            0 => GroupResponse::JoinGroup(if r.coin() {
                Ok(Joined {
                    generation_id: r.i32(),
                    protocol_type: r.maybe(Source::text),
                    protocol_name: r.maybe(Source::text),
                    leader: r.text(),
                    skip_assignment: r.coin(),
                    member_id: r.text(),
                    members: r.many(|r| JoinedMember {
                        member_id: r.text(),
                        group_instance_id: r.maybe(Source::text),
                        metadata: r.piece(),
                    }),
                })
            } else {
                Err(JoinRefused { error: r.code(), member_id: r.text() })
            }),
            1 => GroupResponse::SyncGroup(r.or_code(|r| Synced {
                protocol_type: r.maybe(Source::text),
                protocol_name: r.maybe(Source::text),
                assignment: r.piece(),
            })),
            2 => GroupResponse::Heartbeat(r.or_code(|_| ())),
            3 => GroupResponse::LeaveGroup(r.or_code(|r| {
                r.many(|r| LeftMember {
                    member_id: r.text(),
                    group_instance_id: r.maybe(Source::text),
                    error: r.code(),
                })
            })),
            4 => GroupResponse::OffsetCommit(
                r.or_code(|r| r.topics(|r| CommittedPartition { partition: r.index(), error: r.code() })),
            ),
            5 => GroupResponse::OffsetFetch(r.many(|r| FetchedGroup {
                group_id: r.text(),
                result: r.or_code(|r| {
                    r.topics(|r| FetchedOffset {
                        partition: r.index(),
                        offset: r.offset(),
                        leader_epoch: r.epoch(),
                        metadata: r.text(),
                        error: r.code(),
                    })
                }),
            })),
            6 => GroupResponse::OffsetDelete(
                r.or_code(|r| r.topics(|r| DeletedPartition { partition: r.index(), error: r.code() })),
            ),
            7 => GroupResponse::DescribeGroups(r.many(|r| {
                r.or_not_found(|r| ClassicGroupDescription {
                    state: r.one_of(GroupState::ALL),
                    generation: r.i32(),
                    protocol_type: r.text(),
                    protocol_name: r.text(),
                    members: r.many(|r| ClassicMemberDescription {
                        member_id: r.text(),
                        group_instance_id: r.maybe(Source::text),
                        client_id: r.text(),
                        client_host: r.text(),
                        metadata: r.piece(),
                        assignment: r.piece(),
                    }),
                })
            })),
            8 => GroupResponse::ListGroups(r.many(|r| ListedGroup {
                group_id: r.text(),
                protocol_type: r.text(),
                state: r.one_of(GroupState::ALL),
                kind: r.one_of(GroupKind::ALL),
            })),
            9 => GroupResponse::DeleteGroups(r.many(|r| (r.text(), r.code()))),
            10 => GroupResponse::ConsumerGroupHeartbeat(if r.coin() {
                Ok(ConsumerGroupHeartbeatAnswer {
                    member_id: r.maybe(Source::text),
                    member_epoch: r.i32(),
                    heartbeat_interval_ms: r.i32(),
                    assignment: r.maybe(Source::assigned),
                })
            } else {
                Err(Refused { error: r.code(), message: r.maybe(Source::text) })
            }),
            _ => GroupResponse::ConsumerGroupDescribe(r.many(|r| {
                r.or_not_found(|r| ConsumerGroupDescription {
                    state: r.one_of(GroupState::ALL),
                    group_epoch: r.i32(),
                    assignment_epoch: r.i32(),
                    assignor_name: r.text(),
                    members: r.many(|r| ConsumerMemberDescription {
                        member_id: r.text(),
                        instance_id: r.maybe(Source::text),
                        rack_id: r.maybe(Source::text),
                        member_epoch: r.i32(),
                        client_id: r.text(),
                        client_host: r.text(),
                        subscribed_topic_names: r.many(Source::text),
                        subscribed_topic_regex: r.maybe(Source::text),
                        assignment: r.described(),
                        target_assignment: r.described(),
                        is_classic: r.coin(),
                    }),
                })
            })),
        }
    }
}

impl Arbitrary for ToStorage {
    const KINDS: u64 = 8 + GROUP_KINDS;

    fn arbitrary(kind: u64, r: &mut Source) -> ToStorage {
        let request = match kind {
            0 => storage::Request::Append(AppendRequest {
                acks: if r.coin() { Acks::All } else { Acks::Leader },
                timeout_ms: r.u32(),
                partitions: r.many(|r| AppendPartition {
                    partition: r.partition(),
                    leader_epoch: r.epoch(),
                    batch: if r.0.chance(900) { Ok(r.produced()) } else { Err(Damaged) },
                }),
            }),
            1 => storage::Request::Fetch(FetchRequest {
                wait_ms_max: r.u32(),
                bytes_min: r.u32(),
                bytes_max: r.u32(),
                isolation: r.isolation(),
                partitions: r.many(|r| FetchPartition {
                    partition: r.partition(),
                    leader_epoch: r.epoch(),
                    fetch_offset: r.offset(),
                    last_fetched_epoch: r.epoch(),
                    bytes_max: r.u32(),
                }),
            }),
            2 => storage::Request::CancelFetch(RequestId(r.u64())),
            3 => storage::Request::ListOffsets(r.many(|r| ListOffsetsPartition {
                partition: r.partition(),
                leader_epoch: r.epoch(),
                isolation: r.isolation(),
                at: match r.0.below(7) {
                    0 => OffsetSpec::Latest,
                    1 => OffsetSpec::Earliest,
                    2 => OffsetSpec::MaxTimestamp,
                    3 => OffsetSpec::EarliestLocal,
                    4 => OffsetSpec::LatestTiered,
                    5 => OffsetSpec::TimeOf(r.offset()),
                    _ => OffsetSpec::At(Timestamp(r.i64())),
                },
            })),
            4 => storage::Request::EpochEnds(r.many(|r| EpochEndPartition {
                partition: r.partition(),
                current_leader_epoch: r.epoch(),
                leader_epoch: r.epoch(),
            })),
            5 => storage::Request::DescribeProducers(r.many(Source::partition)),
            6 => storage::Request::DescribeLogDirs,
            7 => storage::Request::Trim(TrimRequest {
                timeout_ms: r.u32(),
                partitions: r.many(|r| TrimPartition { partition: r.partition(), to: r.maybe(Source::offset) }),
            }),
            kind => storage::Request::Coordinate(Box::new(ToCoordinator {
                partition: PartitionIndex(r.i32()),
                caller: Caller { client_id: r.text(), client_host: r.text() },
                request: r.group_request(kind - 8),
            })),
        };
        ToStorage { id: RequestId(r.u64()), request }
    }
}

impl Arbitrary for FromStorage {
    const KINDS: u64 = 8 + GROUP_KINDS;

    fn arbitrary(kind: u64, r: &mut Source) -> FromStorage {
        let response = match kind {
            0 => storage::Response::Append(AppendResponse {
                partitions: r.many(|r| {
                    let appended = Appended {
                        base_offset: r.offset(),
                        log_append_time: Timestamp(r.i64()),
                        log_start: r.offset(),
                    };
                    (r.partition(), if r.coin() { Ok(appended) } else { Err(r.append_error()) })
                }),
            }),
            1 => storage::Response::Fetch(FetchResponse {
                partitions: r.many(|r| {
                    r.read(|r| Fetched {
                        high_watermark: r.offset(),
                        last_stable_offset: r.offset(),
                        log_start: r.offset(),
                        diverging: r.maybe(Source::epoch_end),
                        records: r.many(Source::piece),
                    })
                }),
            }),
            2 => storage::Response::ListOffsets(r.many(|r| {
                r.read(|r| ListedOffset { offset: r.offset(), timestamp: Timestamp(r.i64()), leader_epoch: r.epoch() })
            })),
            3 => storage::Response::EpochEnds(r.many(|r| r.read(Source::epoch_end))),
            4 => storage::Response::DescribeProducers(r.many(|r| {
                r.read(|r| {
                    r.many(|r| ActiveProducer {
                        producer_id: ProducerId(r.i64()),
                        producer_epoch: ProducerEpoch(r.i16()),
                        last_sequence: Sequence(r.i32()),
                        last_timestamp: Timestamp(r.i64()),
                    })
                })
            })),
            5 => storage::Response::DescribeLogDirs(r.many(|r| LogDir {
                broker: r.broker(),
                error: r.maybe(Source::code),
                path: r.text(),
                bytes_total: r.u64(),
                bytes_usable: r.u64(),
                replicas: r.many(|r| ReplicaSize { partition: r.partition(), bytes: r.u64(), offset_lag: r.i64() }),
            })),
            6 => storage::Response::Trim(r.many(|r| {
                let errors = [
                    TrimError::NotLeader,
                    TrimError::UnknownPartition,
                    TrimError::OutOfRange,
                    TrimError::TimedOut,
                    TrimError::StorageFailed,
                ];
                let error = errors[r.0.below(errors.len() as u64) as usize];
                (r.partition(), if r.coin() { Ok(r.offset()) } else { Err(error) })
            })),
            7 => storage::Response::Coordinate(Box::new(Err(r.coordinator_error()))),
            kind => storage::Response::Coordinate(Box::new(Ok(r.group_response(kind - 8)))),
        };
        FromStorage { id: RequestId(r.u64()), response }
    }
}

impl Arbitrary for FromFollower {
    const KINDS: u64 = 3;

    fn arbitrary(kind: u64, r: &mut Source) -> FromFollower {
        let (partition, leader_epoch, log_end) = (r.partition(), r.epoch(), r.offset());
        match kind {
            0 => {
                let (log_start, last_epoch) = (r.offset(), r.epoch());
                FromFollower::Follow { partition, leader_epoch, log_start, log_end, last_epoch }
            }
            1 => FromFollower::Durable { partition, leader_epoch, log_start: r.offset(), log_end },
            _ => FromFollower::Confirmed { partition, leader_epoch, round: r.u64() },
        }
    }
}

impl Arbitrary for FromLeader {
    const KINDS: u64 = 6;

    fn arbitrary(kind: u64, r: &mut Source) -> FromLeader {
        let (partition, leader_epoch) = (r.partition(), r.epoch());
        match kind {
            0 => FromLeader::Push {
                partition,
                leader_epoch,
                base_offset: r.offset(),
                batches: r.many(Source::stamped),
                high_watermark: r.offset(),
                log_start: r.offset(),
            },
            1 => FromLeader::Diverged { partition, leader_epoch, epoch: r.epoch(), end_offset: r.offset() },
            2 => FromLeader::StartOver { partition, leader_epoch, log_start: r.offset() },
            3 => FromLeader::Advanced { partition, leader_epoch, high_watermark: r.offset(), log_start: r.offset() },
            4 => FromLeader::Confirm { partition, leader_epoch, round: r.u64() },
            _ => FromLeader::Refused { partition, leader_epoch, code: r.code() },
        }
    }
}

impl Arbitrary for RaftMessage {
    const KINDS: u64 = 1;

    fn arbitrary(_kind: u64, r: &mut Source) -> RaftMessage {
        RaftMessage { from: r.broker(), to: r.broker(), bytes: r.piece() }
    }
}

impl Arbitrary for ToController {
    const KINDS: u64 = 16;

    fn arbitrary(kind: u64, r: &mut Source) -> ToController {
        use peer_api::controller::Request;
        let incarnation = Incarnation(r.uuid());
        let request = match kind {
            0 => {
                let role = match r.0.below(3) {
                    0 => Role::Broker(r.broker()),
                    1 => Role::Gateway(r.broker()),
                    _ => Role::Tool,
                };
                return ToController::Hello { role, follow_from: r.maybe(Source::metadata_offset) };
            }
            1 => Request::RegisterBroker(RegisterBroker {
                broker: r.broker(),
                cluster_id: r.maybe(Source::text),
                incarnation,
                rack: r.maybe(Source::text),
                peer_address: r.text(),
                host: r.text(),
                clean_since: r.maybe(|r| BrokerEpoch(r.i64())),
                intact_since: r.maybe(|r| BrokerEpoch(r.i64())),
            }),
            2 => Request::BrokerHeartbeat(BrokerHeartbeat {
                broker: r.broker(),
                broker_epoch: BrokerEpoch(r.i64()),
                metadata_offset: r.metadata_offset(),
                want_shutdown: r.coin(),
                damaged: r.many(|r| (r.partition(), r.epoch())),
                not_open: r.many(|r| r.partition()),
                more: r.coin(),
            }),
            3 => Request::RegisterGateway(RegisterGateway {
                gateway: r.broker(),
                incarnation,
                advertised_host: r.text(),
                advertised_port: r.u16(),
                rack: r.maybe(Source::text),
                host: r.text(),
            }),
            4 => Request::GatewayHeartbeat { gateway: r.broker(), incarnation, want_shutdown: r.coin() },
            5 => Request::AlterPartition(AlterPartition {
                broker: r.broker(),
                broker_epoch: BrokerEpoch(r.i64()),
                changes: r.many(|r| IsrChange {
                    partition: r.partition(),
                    leader_epoch: r.epoch(),
                    partition_epoch: PartitionEpoch(r.i32()),
                    isr: r.many(|r| (r.broker(), BrokerEpoch(r.i64()))),
                }),
            }),
            6 => Request::CreateTopics {
                topics: r.many(|r| NewTopic {
                    name: r.text(),
                    partitions: r.i32(),
                    replication_factor: r.i16(),
                    assignments: r.many(|r| (PartitionIndex(r.i32()), r.brokers())),
                    configs: r.many(|r| (r.text(), r.maybe(Source::text))),
                }),
                validate_only: r.coin(),
            },
            7 => Request::DeleteTopics(r.many(|r| match r.coin() {
                true => TopicSelector::Name(r.text()),
                false => TopicSelector::Id(TopicId(r.uuid())),
            })),
            8 => Request::CreatePartitions {
                topics: r.many(|r| NewPartitions {
                    name: r.text(),
                    count: r.i32(),
                    assignments: r.many(Source::brokers),
                }),
                validate_only: r.coin(),
            },
            9 => Request::AlterConfigs {
                changes: r.many(|r| ConfigChanges {
                    resource: r.resource(),
                    replace_all: r.coin(),
                    changes: r.many(|r| ConfigChange {
                        name: r.text(),
                        operation: match r.0.below(4) {
                            0 => ConfigOperation::Set,
                            1 => ConfigOperation::Delete,
                            2 => ConfigOperation::Append,
                            _ => ConfigOperation::Subtract,
                        },
                        value: r.maybe(Source::text),
                    }),
                }),
                validate_only: r.coin(),
            },
            10 => Request::AllocateProducerIds,
            11 => Request::ElectLeaders {
                kind: if r.coin() { ElectionKind::Preferred } else { ElectionKind::Unclean },
                topics: match r.coin() {
                    true => ElectionTopics::All,
                    false => ElectionTopics::Named(r.many(|r| (r.text(), r.many(Source::i32)))),
                },
            },
            12 => Request::Reassign(Reassign {
                topics: r.many(|r| ReassignedTopic {
                    name: r.text(),
                    partitions: r.many(|r| (r.i32(), r.maybe(Source::brokers))),
                }),
                allow_replication_factor_change: r.coin(),
            }),
            13 => Request::UnregisterBroker { broker: r.broker() },
            14 => Request::UpdateFeatures {
                updates: r.many(|r| FeatureUpdate {
                    name: r.text(),
                    level: r.i16(),
                    kind: match r.0.below(3) {
                        0 => FeatureUpdateKind::Upgrade,
                        1 => FeatureUpdateKind::SafeDowngrade,
                        _ => FeatureUpdateKind::UnsafeDowngrade,
                    },
                }),
                validate_only: r.coin(),
            },
            _ => Request::DescribeQuorum,
        };
        ToController::Call { id: RequestId(r.u64()), request }
    }
}

impl Arbitrary for FromController {
    const KINDS: u64 = 23;

    fn arbitrary(kind: u64, r: &mut Source) -> FromController {
        use peer_api::controller::Response;
        let visible_at = r.metadata_offset();
        let result = match kind {
            0 => return FromController::Welcome { controller: r.broker(), term: r.u64() },
            1 => return FromController::NotActive { active: r.active() },
            2 => {
                return FromController::Update(Update::Snapshot { at: visible_at, records: r.many(Source::record) });
            }
            3 => {
                let (from, records) = (r.metadata_offset(), r.many(Source::record));
                return FromController::Update(Update::Delta { from, to: visible_at, records });
            }
            4 => Err(Error::NotActive { active: r.active() }),
            5 => Err(Error::LostLeadership),
            6 => Err(Error::Refused(r.refusal())),
            7 => Err(Error::TimedOut),
            8 => Err(Error::Unreachable),
            9 => Ok(Response::BrokerRegistered { broker_epoch: BrokerEpoch(r.i64()) }),
            10 => Ok(Response::Heartbeat(HeartbeatAnswer {
                fenced: r.coin(),
                may_shutdown: r.coin(),
                given_up: r.many(|r| (r.partition(), r.epoch())),
            })),
            11 => Ok(Response::GatewayRegistered),
            12 => Ok(Response::PartitionsAltered(
                r.many(|r| (r.partition(), if r.coin() { Ok(r.partition_state()) } else { Err(r.code()) })),
            )),
            13 => Ok(Response::TopicsCreated {
                topics: r.many(|r| {
                    r.or_refusal(|r| CreatedTopic {
                        name: r.text(),
                        id: TopicId(r.uuid()),
                        partitions: r.i32(),
                        replication_factor: r.i16(),
                    })
                }),
                visible_at,
            }),
            14 => Ok(Response::TopicsDeleted {
                topics: r.many(|r| r.or_refusal(|r| DeletedTopic { name: r.text(), id: TopicId(r.uuid()) })),
                visible_at,
            }),
            15 => Ok(Response::PartitionsCreated { topics: r.many(|r| r.or_refusal(|_| ())), visible_at }),
            16 => Ok(Response::ConfigsAltered { resources: r.many(|r| r.or_refusal(|_| ())), visible_at }),
            18 => Ok(Response::LeadersElected { topics: r.many(Source::topic_outcomes), visible_at }),
            19 => Ok(Response::Reassigned { topics: r.many(Source::topic_outcomes), visible_at }),
            20 => Ok(Response::BrokerUnregistered { visible_at }),
            21 => Ok(Response::FeaturesUpdated { visible_at }),
            17 => Ok(Response::ProducerIds { first: ProducerId(r.i64()), count: r.i64() }),
            _ => Ok(Response::Quorum(QuorumInfo {
                leader: r.broker(),
                leader_epoch: r.i64(),
                high_watermark: r.metadata_offset(),
                voters: r.many(|r| QuorumVoter {
                    id: r.broker(),
                    log_end: r.metadata_offset(),
                    address: r.text(),
                    last_fetch_ms_ago: r.maybe(Source::u64),
                    last_caught_up_ms_ago: r.maybe(Source::u64),
                }),
            })),
        };
        FromController::Answer { id: RequestId(r.u64()), result }
    }
}
