//! Everything a storage node can ask for.

use base_types::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicPartition};
use bytes::Bytes;
use peer_api::config::TopicSettings;
use peer_api::controller::{ActiveController, Refusal, ToController};
use peer_api::replication::{FromFollower, FromLeader};
use peer_api::storage::{FromStorage, OffsetSpec};
use record_batch::StampedBatch;
use replica_core::{ReadId, WriteId};

use crate::event::{ControllerStream, FetchKey, FetchPart, GatewayStream, LookupKey, PeerStream};

/// Performed in order. Those that concern one partition's disk (open, write, truncate, start over, trim, checkpoint, set aside, delete) take
/// effect there in the order given; reads may overtake writes.
#[derive(Debug)]
pub enum Effect {
    // To gateways.
    Answer {
        stream: GatewayStream,
        message: FromStorage,
    },

    // To the controller.
    ToController {
        stream: ControllerStream,
        message: ToController,
    },
    /// Leave this stream and connect again: to the active controller if it is known, else to the next one in the list.
    ReconnectController {
        stream: ControllerStream,
        active: Option<ActiveController>,
    },

    // To other storage nodes.
    ToFollower {
        stream: PeerStream,
        message: FromLeader,
    },
    ToLeader {
        leader: BrokerId,
        message: FromFollower,
    },
    CloseFollower {
        stream: PeerStream,
    },
    /// Keep a stream to that node, opened with our registration; replaces one to another address.
    ConnectLeader {
        leader: BrokerId,
        address: String,
        broker_epoch: BrokerEpoch,
    },
    DisconnectLeader {
        leader: BrokerId,
    },

    // To the disk.
    /// Open the replica, making it if it is not there.
    OpenReplica {
        partition: TopicPartition,
        settings: TopicSettings,
    },
    DeleteReplica {
        partition: TopicPartition,
    },
    /// Move what there is of the damaged replica aside, and open an empty one in its place. Answered as `OpenReplica` is, or by
    /// `ReplicaNotSetAside`.
    SetReplicaAside {
        partition: TopicPartition,
        settings: TopicSettings,
    },
    SettingsChanged {
        partition: TopicPartition,
        settings: TopicSettings,
    },
    /// Append to the log. A write that does not continue it, because one before it found no space, finds no space either.
    Write {
        partition: TopicPartition,
        write: WriteId,
        batch: StampedBatch,
    },
    Truncate {
        partition: TopicPartition,
        write: WriteId,
        to: Offset,
    },
    StartOver {
        partition: TopicPartition,
        write: WriteId,
        at: Offset,
    },
    /// What lies below `to` is gone for readers, durably. Answered by `TrimCompleted`.
    Trim {
        partition: TopicPartition,
        write: WriteId,
        to: Offset,
    },
    /// Keep derived state; it holds as of `as_of`, which is durable already (S4).
    Checkpoint {
        partition: TopicPartition,
        as_of: Offset,
        high_watermark: Offset,
        producer_state: Bytes,
    },
    Read {
        partition: TopicPartition,
        read: ReadId,
        from: Offset,
        below: Offset,
        bytes_max: usize,
    },
    /// Read the parts in order until `bytes_max` is reached; at least one batch of the first that has any (KIP-74).
    FetchRead {
        fetch: FetchKey,
        parts: Vec<FetchPart>,
        bytes_max: usize,
    },
    FindTimestamp {
        lookup: LookupKey,
        partition: TopicPartition,
        at: OffsetSpec,
        below: Offset,
    },
    DescribeLogDir {
        lookup: LookupKey,
    },
    /// Write the registration down in the data directory, durably. Answered by `BrokerEpochRemembered`.
    RememberBrokerEpoch {
        broker_epoch: BrokerEpoch,
        cluster_id: Option<String>,
    },

    /// Tell whoever runs this node: the cut that was asked for takes away what was committed from `to` to `from`, because the controller
    /// elected a leader without it. `last_epoch` is that of the replica's last record.
    HighWatermarkLowered {
        partition: TopicPartition,
        from: Offset,
        to: Offset,
        last_epoch: LeaderEpoch,
        unclean_since: LeaderEpoch,
    },

    /// Leadership is handed over and everything is said: the process may stop.
    Stop,
    /// The controllers are of another cluster than the data directory, and will never take it: the process ends with this error.
    RefuseCluster(Refusal),
}

/// The core can only push, the shell only drain.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
}

impl Effects {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.list.drain(..)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
