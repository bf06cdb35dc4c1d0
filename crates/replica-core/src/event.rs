//! Everything that can happen to a replica.

use base_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionEpoch, Tick, TopicPartition};
use bytes::Bytes;
use peer_api::metadata::{BrokerState, Image, PartitionState};
use peer_api::replication::{FromFollower, FromLeader};
use peer_api::storage::Acks;
use record_batch::{BatchHeader, ProducedBatch};

use crate::replica::Replica;

/// Names a write, so that its completion can be told from others. Writes of one replica complete in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WriteId(pub u64);

/// Names a read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ReadId(pub u64);

/// The last names of writes and reads that were given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Names {
    pub write: WriteId,
    pub read: ReadId,
}

/// Names an append request; chosen by the owner of the replica, given back in the reply.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RequestKey(pub u64);

#[derive(Clone, Debug)]
pub enum Event {
    /// The controller's newest word on this partition. Older words than the last one are ignored (R8, R9).
    ///
    /// Assumes: the owner passes on only metadata in which this life of the broker is registered. An older word may still name
    /// it leader of an epoch in which an earlier life gave out offsets that were lost with its unwritten tail (R10).
    MetadataChanged(Assignment),
    SettingsChanged(Settings),
    /// A gateway wants `batch` appended under `leader_epoch`. Without `has_space` the node knows that its disk takes nothing now.
    AppendRequested {
        request: RequestKey,
        acks: Acks,
        deadline: Tick,
        leader_epoch: LeaderEpoch,
        batch: ProducedBatch,
        has_space: bool,
    },
    /// A [`crate::Effect::Write`] is durable, as its durability class demands, or has failed. Writes complete in order.
    WriteCompleted {
        write: WriteId,
        result: Result<(), WriteFailure>,
    },
    /// Records are to be deleted from the front, up to `to`; `None`: everything that is committed.
    TrimRequested {
        request: RequestKey,
        deadline: Tick,
        to: Option<Offset>,
    },
    /// Somebody is about to read what follows from the log and must miss nothing that was committed before now.
    ConfirmationRequested {
        request: RequestKey,
        deadline: Tick,
    },
    /// A [`crate::Effect::Trim`] is durable, and the batch that holds the log start begins there; or it has failed.
    TrimCompleted {
        write: WriteId,
        result: Result<Offset, WriteFailure>,
    },
    /// A [`crate::Effect::Truncate`] or [`crate::Effect::StartOver`] is durable, and this is what the disk holds now; or it has failed.
    LogChanged {
        write: WriteId,
        result: Result<OnDisk, WriteFailure>,
    },
    /// A [`crate::Effect::Read`] is done. `None`: it failed.
    ReadCompleted {
        read: ReadId,
        batches: Option<Vec<Bytes>>,
    },
    /// `broker_epoch` is the follower's registration, as its stream's opening named it.
    FollowerSaid {
        follower: BrokerId,
        broker_epoch: BrokerEpoch,
        message: FromFollower,
    },
    /// The stream from that follower's node ended.
    FollowerLost {
        follower: BrokerId,
    },
    LeaderSaid(FromLeader),
    /// A stream to the leader's node is there: the follower may open.
    LeaderReachable,
    LeaderLost,
    /// The controller's answer to [`crate::Effect::ProposeIsr`]; `Err(None)` when it is not known what became of it. Answers may
    /// be lost, and may come late.
    IsrDecided(Result<PartitionState, Option<ErrorCode>>),
    /// A deadline given by [`crate::Replica::next_deadline`] has passed.
    Ticked,
}

/// What the controller says of this partition, seen from this broker.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Assignment {
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub leader: Option<BrokerId>,
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    /// Registration epochs of the live replicas, for ISR proposals (KIP-903). Brokers that are fenced or shutting down are left out.
    pub broker_epochs: Vec<(BrokerId, BrokerEpoch)>,
    /// The leader epoch that the last unclean election began. A log that ends in an older one may lose what was committed (R12).
    pub unclean_since: Option<LeaderEpoch>,
}

impl Assignment {
    /// Nobody leads the partition, and this broker has no part in it.
    pub fn of_nobody(replica: &Replica) -> Assignment {
        Assignment {
            leader_epoch: replica.leader_epoch(),
            partition_epoch: replica.partition_epoch(),
            leader: None,
            replicas: Vec::new(),
            isr: Vec::new(),
            broker_epochs: Vec::new(),
            unclean_since: None,
        }
    }

    /// What a view of the metadata says. `None`: it knows no such partition.
    pub fn in_image(image: &Image, partition: TopicPartition) -> Option<Assignment> {
        let state = image.partition(partition)?;
        let epoch_of = |&id: &BrokerId| -> Option<(BrokerId, BrokerEpoch)> {
            let broker = image.broker(id)?;
            (broker.state == BrokerState::Active).then_some((id, broker.epoch))
        };
        Some(Assignment {
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            leader: state.leader,
            replicas: state.replicas.clone(),
            isr: state.isr.clone(),
            broker_epochs: state.replicas.iter().filter_map(epoch_of).collect(),
            unclean_since: state.unclean_since,
        })
    }
}

/// What this broker is to the partition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    Leader,
    Follower {
        leader: BrokerId,
    },
    /// Nobody leads, or the controller has not spoken yet.
    Idle,
}

/// The topic's settings that a replica acts on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Settings {
    pub min_insync_replicas: usize,
    pub message_bytes_max: usize,
    /// Stamp the broker's time on each batch instead of keeping the producer's.
    pub log_append_time: bool,
    pub timestamp_before_ms_max: i64,
    pub timestamp_after_ms_max: i64,
    /// A follower that has not caught up for so long leaves the ISR (`replica.lag.time.max.ms`).
    pub replica_lag_ms_max: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            min_insync_replicas: 1,
            message_bytes_max: 1_048_588,
            log_append_time: false,
            timestamp_before_ms_max: i64::MAX,
            timestamp_after_ms_max: 3_600_000,
            replica_lag_ms_max: 30_000,
        }
    }
}

/// What the disk holds for this replica: its truth, and derived state as of some offset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OnDisk {
    pub log_start: Offset,
    /// Where the batch begins that holds the log start; the log start itself where there is none.
    pub first_batch: Offset,
    /// All of it is durable.
    pub log_end: Offset,
    /// Leader epochs with their first offsets, both strictly increasing (R11).
    pub leader_epochs: Vec<(LeaderEpoch, Offset)>,
    /// The last checkpointed high watermark; the log start when there is none.
    pub high_watermark: Offset,
    /// Producer state as [`crate::ProducerState::encode`] wrote it, and the headers of the batches after it. The owner has made
    /// sure that it decodes, and rebuilds it from the log where it does not: absence is not what damage means (S5).
    pub producer_state: Option<Bytes>,
    pub headers_since: Vec<BatchHeader>,
}

/// Why a write did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFailure {
    /// The disk is full: nothing was written, and the same bytes may be tried again.
    NoSpace,
    /// The directory has failed and takes no more writes in the life of this process (S6).
    Failed,
    /// What the disk holds of this replica is damaged, and its log cannot be changed (S2). Others are not concerned.
    Corrupt,
}
