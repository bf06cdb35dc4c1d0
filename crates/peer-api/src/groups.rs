//! What a gateway asks of a group coordinator: consumer groups, their offsets and their administration.
//!
//! ```text
//!  gateway ── ToCoordinator { partition of __consumer_offsets, request } ──► leader of that partition
//!          ◄─────────── Result<GroupResponse, CoordinatorError> ────────────
//! ```
//!
//! A group lives where its partition of `__consumer_offsets` is led; [`coordinator_partition`] says which one that is. One
//! request concerns groups of one partition: the gateway splits requests that name several groups, and asks every partition
//! for [`ListGroups`].
//!
//! The types carry what every served version of Kafka's requests needs and nothing of their formats. What depended on the
//! version of a request is a named fact here (`requires_known_member_id`), not a number.
//!
//! [`CoordinatorError`] stands above the answers: it says that this coordinator did not serve the request at all, so that the
//! gateway can look for another one. Everything inside [`GroupResponse`] is meant for the client.

use base_types::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, TopicId};
use bytes::Bytes;

/// The internal topic that holds groups and their offsets.
pub const GROUPS_TOPIC: &str = "__consumer_offsets";

/// The partition of [`GROUPS_TOPIC`] whose leader coordinates the group: Java's hash of the name, made positive, modulo the
/// number of partitions. Tools that read the topic count on it.
pub fn coordinator_partition(group_id: &str, partitions: i32) -> PartitionIndex {
    let hash = group_id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Java's `Math.abs` leaves the smallest number negative; Kafka makes it 0 instead.
    let positive = hash.checked_abs().unwrap_or(0);
    PartitionIndex(positive.checked_rem(partitions).unwrap_or(0))
}

/// To the coordinator of one partition of [`GROUPS_TOPIC`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToCoordinator {
    pub partition: PartitionIndex,
    pub caller: Caller,
    pub request: GroupRequest,
}

/// Who asks, as DescribeGroups shows it and as new member ids begin.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Caller {
    /// Empty when the client did not name itself.
    pub client_id: String,
    /// As Kafka writes it: a slash and the address.
    pub client_host: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRequest {
    JoinGroup(JoinGroup),
    SyncGroup(SyncGroup),
    Heartbeat(Heartbeat),
    LeaveGroup(LeaveGroup),
    OffsetCommit(OffsetCommit),
    OffsetFetch(OffsetFetch),
    OffsetDelete(OffsetDelete),
    DescribeGroups(DescribeGroups),
    ListGroups(ListGroups),
    DeleteGroups(DeleteGroups),
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeat),
    ConsumerGroupDescribe(ConsumerGroupDescribe),
}

/// Of the same kind as the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupResponse {
    JoinGroup(Result<Joined, JoinRefused>),
    SyncGroup(Result<Synced, ErrorCode>),
    Heartbeat(Result<(), ErrorCode>),
    /// In the order asked.
    LeaveGroup(Result<Vec<LeftMember>, ErrorCode>),
    /// `Err` holds for every partition.
    OffsetCommit(Result<Vec<OffsetTopic<CommittedPartition>>, ErrorCode>),
    /// In the order asked.
    OffsetFetch(Vec<FetchedGroup>),
    OffsetDelete(Result<Vec<OffsetTopic<DeletedPartition>>, ErrorCode>),
    /// In the order asked.
    DescribeGroups(Vec<(String, Result<ClassicGroupDescription, GroupNotFound>)>),
    ListGroups(Vec<ListedGroup>),
    /// In the order asked; [`ErrorCode::None`] when the group is gone.
    DeleteGroups(Vec<(String, ErrorCode)>),
    ConsumerGroupHeartbeat(Result<ConsumerGroupHeartbeatAnswer, Refused>),
    /// In the order asked.
    ConsumerGroupDescribe(Vec<(String, Result<ConsumerGroupDescription, GroupNotFound>)>),
}

/// Why a coordinator did not serve a request. *Definite*: nothing has happened and nothing will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoordinatorError {
    /// This node does not lead the partition. Definite: the gateway may ask the next leader. NOT_COORDINATOR to clients.
    NotCoordinator,
    /// The groups of the partition are being read. Definite: the gateway may ask again. COORDINATOR_LOAD_IN_PROGRESS.
    LoadInProgress,
    /// The partition has fewer replicas in sync than `min.insync.replicas`. Definite. COORDINATOR_NOT_AVAILABLE.
    NotAvailable,
    /// The leadership went away while the answer waited for a write or for other members. What was asked may have happened:
    /// the gateway must not ask again by itself. NOT_COORDINATOR.
    Lost,
    /// The write was not committed in time. It may yet be: the gateway must not ask again. COORDINATOR_NOT_AVAILABLE.
    TimedOut,
    /// The log refused what had to be written, for example because the group's state is larger than a batch may be.
    /// Definite. UNKNOWN_SERVER_ERROR.
    WriteRefused,
}

impl CoordinatorError {
    /// Whether it is certain that nothing has happened and nothing will.
    pub fn is_definite(self) -> bool {
        match self {
            CoordinatorError::NotCoordinator
            | CoordinatorError::LoadInProgress
            | CoordinatorError::NotAvailable
            | CoordinatorError::WriteRefused => true,
            CoordinatorError::Lost | CoordinatorError::TimedOut => false,
        }
    }

    /// What a client is told when the gateway does not absorb it.
    pub fn code(self) -> ErrorCode {
        match self {
            CoordinatorError::NotCoordinator | CoordinatorError::Lost => ErrorCode::NotCoordinator,
            CoordinatorError::LoadInProgress => ErrorCode::CoordinatorLoadInProgress,
            CoordinatorError::NotAvailable | CoordinatorError::TimedOut => ErrorCode::CoordinatorNotAvailable,
            CoordinatorError::WriteRefused => ErrorCode::UnknownServerError,
        }
    }
}

/// An error with the words that go with it, where the answer has room for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub error: ErrorCode,
    pub message: Option<String>,
}

/// The group is not known, or it is of another kind than the request describes. Which answer that is (GROUP_ID_NOT_FOUND, or
/// a group in state Dead) depends on the version of the request and is the gateway's matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupNotFound {
    pub message: String,
}

// - the classic protocol -

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JoinGroup {
    pub group_id: String,
    pub session_timeout_ms: i32,
    /// Version 0 has none: the gateway gives the session time-out.
    pub rebalance_timeout_ms: i32,
    /// Empty when the member has none yet.
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub protocol_type: String,
    /// In order of preference.
    pub protocols: Vec<JoinProtocol>,
    pub reason: Option<String>,
    /// Version 4 and above (KIP-394): a new dynamic member is first only told its id.
    pub requires_known_member_id: bool,
    /// Version 9 and above (KIP-814): a static leader that comes back may be told not to assign.
    pub supports_skip_assignment: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JoinProtocol {
    pub name: String,
    pub metadata: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Joined {
    pub generation_id: i32,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub leader: String,
    pub skip_assignment: bool,
    pub member_id: String,
    /// Empty for everyone but the leader.
    pub members: Vec<JoinedMember>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JoinedMember {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub metadata: Bytes,
}

/// `member_id` goes into the answer: with MEMBER_ID_REQUIRED it is the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    pub error: ErrorCode,
    pub member_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SyncGroup {
    pub group_id: String,
    pub generation_id: i32,
    pub member_id: String,
    pub group_instance_id: Option<String>,
    /// Checked where given (version 5 and above).
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    /// Member ids and what they are assigned; only the leader gives any.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Synced {
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub assignment: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Heartbeat {
    pub group_id: String,
    pub generation_id: i32,
    pub member_id: String,
    pub group_instance_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LeaveGroup {
    pub group_id: String,
    pub members: Vec<LeavingMember>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LeavingMember {
    /// Empty when only the instance id is known.
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftMember {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub error: ErrorCode,
}

// - offsets -

/// A topic with what is asked or said of its partitions.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OffsetTopic<P> {
    /// [`TopicId::ZERO`] when it is not known: the topic does not exist, or the gateway does not know it.
    pub id: TopicId,
    /// Offsets are kept by name, as Kafka keeps them.
    pub name: String,
    pub partitions: Vec<P>,
}

/// The gateway has taken out, and answers by itself, what is not authorised and topics and partitions that do not exist.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OffsetCommit {
    pub group_id: String,
    /// The member's generation or epoch; -1 outside of any group membership.
    pub generation_or_epoch: i32,
    /// Empty outside of any group membership.
    pub member_id: String,
    pub group_instance_id: Option<String>,
    /// Versions 2 to 4: how long to keep the offsets; `None` for the broker's setting.
    pub retention_ms: Option<i64>,
    /// Version 9 and above (KIP-848): STALE_MEMBER_EPOCH means something to the client.
    pub knows_member_epochs: bool,
    pub topics: Vec<OffsetTopic<CommitPartition>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPartition {
    pub partition: PartitionIndex,
    pub offset: Offset,
    /// [`LeaderEpoch::UNKNOWN`] when the client does not say.
    pub leader_epoch: LeaderEpoch,
    pub metadata: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedPartition {
    pub partition: PartitionIndex,
    pub error: ErrorCode,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OffsetFetch {
    pub groups: Vec<FetchGroup>,
    /// Version 7 and above (KIP-447): offsets that a transaction may yet change are UNSTABLE_OFFSET_COMMIT.
    pub require_stable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FetchGroup {
    pub group_id: String,
    /// Version 9 and above: checked where given, together with the epoch.
    pub member_id: Option<String>,
    /// -1 when not given.
    pub member_epoch: i32,
    /// `None`: everything the group has committed.
    pub topics: Option<Vec<OffsetTopic<PartitionIndex>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedGroup {
    pub group_id: String,
    /// Every partition that was asked for and no other.
    pub result: Result<Vec<OffsetTopic<FetchedOffset>>, ErrorCode>,
}

/// `offset` is [`Offset::UNKNOWN`] when nothing is committed, or when there is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    pub partition: PartitionIndex,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    /// Empty when nothing is committed.
    pub metadata: String,
    pub error: ErrorCode,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OffsetDelete {
    pub group_id: String,
    pub topics: Vec<OffsetTopic<PartitionIndex>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletedPartition {
    pub partition: PartitionIndex,
    pub error: ErrorCode,
}

// - administration -

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DescribeGroups {
    pub groups: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicGroupDescription {
    pub state: GroupState,
    /// Grows by one with each rebalance.
    pub generation: i32,
    pub protocol_type: String,
    /// Empty unless the group is stable.
    pub protocol_name: String,
    pub members: Vec<ClassicMemberDescription>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMemberDescription {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// Both empty unless the group is stable.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// Filters are Kafka's words in any case; an empty one lets everything through.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ListGroups {
    pub states: Vec<String>,
    pub types: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    pub group_id: String,
    pub protocol_type: String,
    pub state: GroupState,
    pub kind: GroupKind,
}

/// States of groups of both kinds, by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    Dead,
    /// Consumer groups: the assignment lags behind the group.
    Assigning,
    /// Consumer groups: members lag behind the assignment.
    Reconciling,
}

impl GroupState {
    pub const ALL: &[GroupState] = &[
        GroupState::Empty,
        GroupState::PreparingRebalance,
        GroupState::CompletingRebalance,
        GroupState::Stable,
        GroupState::Dead,
        GroupState::Assigning,
        GroupState::Reconciling,
    ];

    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
            GroupState::Assigning => "Assigning",
            GroupState::Reconciling => "Reconciling",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupKind {
    Classic,
    Consumer,
}

impl GroupKind {
    pub const ALL: &[GroupKind] = &[GroupKind::Classic, GroupKind::Consumer];

    /// As brokers write it; tools show it capitalised.
    pub fn name(self) -> &'static str {
        match self {
            GroupKind::Classic => "classic",
            GroupKind::Consumer => "consumer",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DeleteGroups {
    pub groups: Vec<String>,
}

// - the consumer protocol (KIP-848) -

/// A `None` means "as before", as in Kafka's request.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConsumerGroupHeartbeat {
    pub group_id: String,
    /// Empty when the coordinator is to make one (version 0 only).
    pub member_id: String,
    /// 0 to join, -1 to leave, -2 for a static member that means to come back.
    pub member_epoch: i32,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    /// -1 for "as before".
    pub rebalance_timeout_ms: i32,
    pub subscribed_topic_names: Option<Vec<String>>,
    pub subscribed_topic_regex: Option<String>,
    pub server_assignor: Option<String>,
    /// What the member owns.
    pub topic_partitions: Option<Vec<AssignedTopic>>,
    /// Version 1 and above (KIP-1082): an empty member id is INVALID_REQUEST.
    pub requires_member_id: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AssignedTopic {
    pub topic_id: TopicId,
    pub partitions: Vec<PartitionIndex>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConsumerGroupHeartbeatAnswer {
    pub member_id: Option<String>,
    pub member_epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// `None`: as before.
    pub assignment: Option<Vec<AssignedTopic>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConsumerGroupDescribe {
    pub groups: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupDescription {
    pub state: GroupState,
    pub group_epoch: i32,
    pub assignment_epoch: i32,
    pub assignor_name: String,
    pub members: Vec<ConsumerMemberDescription>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMemberDescription {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub member_epoch: i32,
    pub client_id: String,
    pub client_host: String,
    pub subscribed_topic_names: Vec<String>,
    pub subscribed_topic_regex: Option<String>,
    pub assignment: Vec<DescribedTopic>,
    pub target_assignment: Vec<DescribedTopic>,
    /// The member speaks the classic protocol in a group that is being migrated (KIP-1099).
    pub is_classic: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DescribedTopic {
    pub topic_id: TopicId,
    pub topic_name: String,
    pub partitions: Vec<PartitionIndex>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_coordinated_where_java_s_hash_says() {
        // What `Math.abs("...".hashCode()) % 50` is in Java, 0 where abs has no positive result.
        assert_eq!(coordinator_partition("test", 50), PartitionIndex(48));
        assert_eq!(coordinator_partition("my-group", 50), PartitionIndex(12));
        assert_eq!(coordinator_partition("console-consumer-1", 50), PartitionIndex(24));
        assert_eq!(coordinator_partition("zzzzzz", 50), PartitionIndex(14));
        assert_eq!(coordinator_partition("", 50), PartitionIndex(0));
        assert_eq!(coordinator_partition("polygenelubricants", 50), PartitionIndex(0));
        // Java counts surrogates outside of the basic plane.
        assert_eq!(coordinator_partition("\u{1F600}", 50), PartitionIndex(49));
    }

    #[test]
    fn a_topic_without_partitions_has_no_other_coordinator_than_the_first() {
        assert_eq!(coordinator_partition("test", 0), PartitionIndex(0));
    }
}
