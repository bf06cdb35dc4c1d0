//! What storage nodes, gateways and tools ask of the metadata controller.
//!
//! Only the active controller answers; others refuse with [`Error::NotActive`] and name the active one if they know it.
//! An answer to a change carries the metadata position at which the change is visible, so that an asker can wait for its own view.

use bytes::Bytes;

use base_types::{
    BrokerEpoch, BrokerId, ErrorCode, Incarnation, LeaderEpoch, PartitionEpoch, PartitionIndex, ProducerId, TopicId,
    TopicPartition,
};

use crate::metadata::{ConfigResource, MetadataOffset, PartitionState, Update};
use crate::storage::RequestId;

/// What travels from a storage node, gateway or tool to a controller, on one stream per session. The end of the stream is the
/// end of the session: for a storage node, the beginning of its fencing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToController {
    /// The first message on every stream.
    Hello {
        role: Role,
        /// Where the asker's view of the metadata stands; [`FromController::Update`]s follow from there. `None`: no updates wanted.
        follow_from: Option<MetadataOffset>,
    },
    Call {
        id: RequestId,
        request: Request,
    },
}

/// What travels back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromController {
    /// This is the active controller.
    Welcome {
        controller: BrokerId,
        term: u64,
    },
    Answer {
        id: RequestId,
        result: Result<Response, Error>,
    },
    Update(Update),
    /// This controller is not, or no longer, the active one; it closes the stream after saying so.
    NotActive {
        active: Option<ActiveController>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Broker(BrokerId),
    Gateway(BrokerId),
    Tool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveController {
    pub id: BrokerId,
    /// `host:port` of its gRPC listener.
    pub address: String,
}

/// Between controllers: a Raft message, opaque to everyone but `raft-core`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftMessage {
    pub from: BrokerId,
    pub to: BrokerId,
    pub bytes: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    RegisterBroker(RegisterBroker),
    BrokerHeartbeat(BrokerHeartbeat),
    RegisterGateway(RegisterGateway),
    /// `want_shutdown`: it is to be named no more, and stops when the metadata say so.
    GatewayHeartbeat {
        gateway: BrokerId,
        incarnation: Incarnation,
        want_shutdown: bool,
    },
    AlterPartition(AlterPartition),
    CreateTopics {
        topics: Vec<NewTopic>,
        validate_only: bool,
    },
    DeleteTopics(Vec<TopicSelector>),
    CreatePartitions {
        topics: Vec<NewPartitions>,
        validate_only: bool,
    },
    ElectLeaders {
        kind: ElectionKind,
        topics: ElectionTopics,
    },
    Reassign(Reassign),
    UnregisterBroker {
        broker: BrokerId,
    },
    UpdateFeatures {
        updates: Vec<FeatureUpdate>,
        validate_only: bool,
    },
    AlterConfigs {
        changes: Vec<ConfigChanges>,
        validate_only: bool,
    },
    AllocateProducerIds,
    DescribeQuorum,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    BrokerRegistered {
        broker_epoch: BrokerEpoch,
    },
    Heartbeat(HeartbeatAnswer),
    GatewayRegistered,
    PartitionsAltered(Vec<(TopicPartition, Result<PartitionState, ErrorCode>)>),
    TopicsCreated {
        topics: Vec<Result<CreatedTopic, Refusal>>,
        visible_at: MetadataOffset,
    },
    TopicsDeleted {
        topics: Vec<Result<DeletedTopic, Refusal>>,
        visible_at: MetadataOffset,
    },
    PartitionsCreated {
        topics: Vec<Result<(), Refusal>>,
        visible_at: MetadataOffset,
    },
    LeadersElected {
        topics: Vec<TopicOutcomes>,
        visible_at: MetadataOffset,
    },
    Reassigned {
        topics: Vec<TopicOutcomes>,
        visible_at: MetadataOffset,
    },
    BrokerUnregistered {
        visible_at: MetadataOffset,
    },
    FeaturesUpdated {
        visible_at: MetadataOffset,
    },
    ConfigsAltered {
        resources: Vec<Result<(), Refusal>>,
        visible_at: MetadataOffset,
    },
    /// `count` producer ids from `first` on, handed to this asker alone (P7).
    ProducerIds {
        first: ProducerId,
        count: i64,
    },
    Quorum(QuorumInfo),
}

impl Response {
    /// Where the change that this answers can be seen, if it answers one.
    pub fn visible_at_mut(&mut self) -> Option<&mut MetadataOffset> {
        match self {
            Response::TopicsCreated { visible_at, .. }
            | Response::TopicsDeleted { visible_at, .. }
            | Response::PartitionsCreated { visible_at, .. }
            | Response::LeadersElected { visible_at, .. }
            | Response::Reassigned { visible_at, .. }
            | Response::BrokerUnregistered { visible_at }
            | Response::FeaturesUpdated { visible_at }
            | Response::ConfigsAltered { visible_at, .. } => Some(visible_at),
            Response::BrokerRegistered { .. }
            | Response::Heartbeat(_)
            | Response::GatewayRegistered
            | Response::PartitionsAltered(_)
            | Response::ProducerIds { .. }
            | Response::Quorum(_) => None,
        }
    }
}

/// Why there is no answer. Whether a change happened is certain only for [`Error::NotActive`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Definite: this controller is not the active one and did nothing.
    NotActive { active: Option<ActiveController> },
    /// Indeterminate: leadership was lost while the change was being committed.
    LostLeadership,
    /// The request itself is refused as a whole. Definite.
    Refused(Refusal),
    /// Indeterminate: no answer within the deadline, or the connection broke.
    TimedOut,
    /// Definite: no controller could be reached.
    Unreachable,
}

/// A refusal in Kafka's terms; `message` is for people and says cause and next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterBroker {
    pub broker: BrokerId,
    pub cluster_id: Option<String>,
    pub incarnation: Incarnation,
    pub rack: Option<String>,
    /// `host:port` of its gRPC listener, for gateways and other storage nodes.
    pub peer_address: String,
    /// Name of the machine, to pair it with the gateway on the same one.
    pub host: String,
    /// The broker epoch under which this data directory was last stopped cleanly; `None` after a crash (R13, KIP-966).
    pub clean_since: Option<BrokerEpoch>,
    /// The broker epoch this data directory was last registered under, if recovery found everything again that had been
    /// synced; `None` for a new, wiped or damaged directory. A node writes its epoch down, durably, before its first heartbeat
    /// under it. See `docs/decisions/0002-unclean-restarts.md`.
    pub intact_since: Option<BrokerEpoch>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerHeartbeat {
    pub broker: BrokerId,
    pub broker_epoch: BrokerEpoch,
    /// How far the node has applied the metadata; it is unfenced only once it has seen its own registration.
    pub metadata_offset: MetadataOffset,
    /// Asks to hand over leadership before stopping.
    pub want_shutdown: bool,
    /// Replicas here that are damaged, each with the last leader epoch in which it said anything: to be counted on no more, if others hold
    /// what they held. Said again until the answer is that they were given up (R13).
    pub damaged: Vec<(TopicPartition, LeaderEpoch)>,
    /// Replicas here that are not open, for whatever reason: no other is given up for one of these.
    pub not_open: Vec<TopicPartition>,
    /// There are more of these than are named.
    pub more: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    pub fenced: bool,
    /// It leads nothing any more and may stop.
    pub may_shutdown: bool,
    /// Of the replicas that were named damaged, those that nobody counts on from a leader epoch on, because another that is known to be
    /// sound holds what they held: in that epoch they may go. Said before the metadata show the epoch. Whoever does not hear it
    /// names the replica again.
    pub given_up: Vec<(TopicPartition, LeaderEpoch)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterGateway {
    pub gateway: BrokerId,
    pub incarnation: Incarnation,
    /// The address clients are told.
    pub advertised_host: String,
    pub advertised_port: u16,
    pub rack: Option<String>,
    /// Name of the machine, to pair it with the storage node on the same one.
    pub host: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterPartition {
    pub broker: BrokerId,
    pub broker_epoch: BrokerEpoch,
    pub changes: Vec<IsrChange>,
}

/// A leader's proposal for a new ISR. Accepted only if both epochs match exactly (R9) and every member named is alive under the
/// broker epoch named (KIP-903).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrChange {
    pub partition: TopicPartition,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// -1 for the cluster's default.
    pub partitions: i32,
    /// -1 for the cluster's default.
    pub replication_factor: i16,
    /// Explicit placement; empty to let the controller place.
    pub assignments: Vec<(PartitionIndex, Vec<BrokerId>)>,
    pub configs: Vec<(String, Option<String>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    pub name: String,
    pub id: TopicId,
    pub partitions: i32,
    pub replication_factor: i16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    pub name: String,
    pub id: TopicId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicSelector {
    Name(String),
    Id(TopicId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartitions {
    pub name: String,
    /// The new total.
    pub count: i32,
    /// Replicas of each added partition; empty to let the controller place.
    pub assignments: Vec<Vec<BrokerId>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionKind {
    /// Back to the first replica, if it is in sync.
    Preferred,
    /// A leader for partitions that have none, from whatever replica is alive: what was committed may be lost.
    Unclean,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElectionTopics {
    /// Every partition there is; those that need no election are left out of the answer.
    All,
    Named(Vec<(String, Vec<i32>)>),
}

/// What became of each partition, in the order asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicOutcomes {
    pub name: String,
    pub partitions: Vec<(i32, Result<(), Refusal>)>,
}

/// Other replicas for some partitions (KIP-455).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reassign {
    pub topics: Vec<ReassignedTopic>,
    /// Whether a partition may end up with more or fewer replicas than it has (KIP-860).
    pub allow_replication_factor_change: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReassignedTopic {
    pub name: String,
    /// Where the replicas are to be; `None`: back to where they were before the move that is under way.
    pub partitions: Vec<(i32, Option<Vec<BrokerId>>)>,
}

/// A finalized feature's new level (KIP-584).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    pub name: String,
    pub level: i16,
    pub kind: FeatureUpdateKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureUpdateKind {
    Upgrade,
    SafeDowngrade,
    UnsafeDowngrade,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChanges {
    pub resource: ConfigResource,
    /// AlterConfigs replaces all, IncrementalAlterConfigs changes some.
    pub replace_all: bool,
    pub changes: Vec<ConfigChange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    pub name: String,
    pub operation: ConfigOperation,
    pub value: Option<String>,
}

/// IncrementalAlterConfigs' operations (KIP-339).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigOperation {
    Set,
    Delete,
    Append,
    Subtract,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumInfo {
    pub leader: BrokerId,
    pub leader_epoch: i64,
    pub high_watermark: MetadataOffset,
    pub voters: Vec<QuorumVoter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumVoter {
    pub id: BrokerId,
    pub log_end: MetadataOffset,
    /// `host:port` of its gRPC listener.
    pub address: String,
    /// How long ago the leader heard from it and it was caught up, in milliseconds; `None` when never or on the leader itself.
    pub last_fetch_ms_ago: Option<u64>,
    pub last_caught_up_ms_ago: Option<u64>,
}
