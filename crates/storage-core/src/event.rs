//! Everything that can happen to a storage node.

use base_types::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, Timestamp, TopicPartition};
use bytes::Bytes;
use peer_api::controller::FromController;
use peer_api::replication::{FromFollower, FromLeader, Hello};
use peer_api::storage::{LogDir, ToStorage};
use replica_core::{OnDisk, ReadId, WriteFailure, WriteId};

/// One stream from a gateway.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GatewayStream(pub u64);

/// One stream from a follower's node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerStream(pub u64);

/// One stream to a controller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ControllerStream(pub u64);

/// Names a read for a consumer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FetchKey(pub u64);

/// Names a look-up on the disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LookupKey(pub u64);

#[derive(Clone, Debug)]
pub enum Event {
    // From gateways.
    GatewayAsked {
        stream: GatewayStream,
        message: ToStorage,
    },
    GatewayLost {
        stream: GatewayStream,
    },

    // From the controller.
    ControllerConnected {
        stream: ControllerStream,
    },
    ControllerSaid {
        stream: ControllerStream,
        message: FromController,
    },
    ControllerLost {
        stream: ControllerStream,
    },

    // From other storage nodes: those that follow us, and those that we follow.
    FollowerConnected {
        stream: PeerStream,
        hello: Hello,
    },
    FollowerSaid {
        stream: PeerStream,
        message: FromFollower,
    },
    FollowerLost {
        stream: PeerStream,
    },
    LeaderConnected {
        leader: BrokerId,
    },
    LeaderSaid {
        leader: BrokerId,
        message: FromLeader,
    },
    LeaderLost {
        leader: BrokerId,
    },

    // From the disk.
    /// What the data directory held when it was opened. Said once, before anything else.
    ReplicasFound {
        partitions: Vec<TopicPartition>,
    },
    ReplicaOpened {
        partition: TopicPartition,
        on_disk: OnDisk,
    },
    /// The replica cannot be opened now. It is tried again.
    ReplicaOpenFailed {
        partition: TopicPartition,
    },
    /// The damaged replica could not be moved aside, as on a full disk. It is where it was.
    ReplicaNotSetAside {
        partition: TopicPartition,
    },
    /// The replica is not as it was written. What is whole can still be read; if it could not be opened, that was said before.
    ReplicaDamaged {
        partition: TopicPartition,
    },
    WriteCompleted {
        partition: TopicPartition,
        write: WriteId,
        result: Result<(), WriteFailure>,
    },
    LogChanged {
        partition: TopicPartition,
        write: WriteId,
        result: Result<OnDisk, WriteFailure>,
    },
    /// With where the batch begins that holds the log start.
    TrimCompleted {
        partition: TopicPartition,
        write: WriteId,
        result: Result<Offset, WriteFailure>,
    },
    ReadCompleted {
        partition: TopicPartition,
        read: ReadId,
        batches: Option<Vec<Bytes>>,
    },
    /// In the order of the parts asked for; shorter when the byte limit was reached before the last.
    FetchRead {
        fetch: FetchKey,
        parts: Vec<Result<Vec<Bytes>, ReadFailure>>,
    },
    TimestampFound {
        lookup: LookupKey,
        hit: Result<Option<TimestampHit>, ReadFailure>,
    },
    LogDirDescribed {
        lookup: LookupKey,
        log_dir: LogDir,
    },
    /// The data directory bears this registration, durably; or it could not be written down.
    BrokerEpochRemembered {
        broker_epoch: BrokerEpoch,
        result: Result<(), WriteFailure>,
    },

    /// Hand over leadership and stop. Said again, it changes nothing.
    ShutdownRequested,
    /// A deadline given by `next_deadline` has passed.
    Ticked,
}

/// A range that a fetch may read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchPart {
    pub partition: TopicPartition,
    pub from: Offset,
    pub below: Offset,
    pub bytes_max: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimestampHit {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub leader_epoch: LeaderEpoch,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadFailure {
    /// The range is not there (any more).
    OutOfRange,
    Corrupt,
    Failed,
}
