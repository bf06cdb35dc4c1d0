//! Gateway and group coordinator: what [`super::storage`] carries between them.

use base_types::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, TopicId};
use bytes::Bytes;
use peer_api::groups::*;

use super::{each, from_code, from_uuid, to_uuid};
use crate::proto::base::v1 as base;
use crate::proto::groups::v1 as proto;
use crate::wire::{Malformed, Payload, Pieces};

pub(super) fn to_coordinator(asked: ToCoordinator, payload: &mut Pieces) -> proto::ToCoordinator {
    use proto::to_coordinator::Request as Out;
    let request = match asked.request {
        GroupRequest::JoinGroup(join) => Out::JoinGroup(to_join(join, payload)),
        GroupRequest::SyncGroup(sync) => Out::SyncGroup(to_sync(sync, payload)),
        GroupRequest::Heartbeat(heartbeat) => Out::Heartbeat(proto::Heartbeat {
            group_id: heartbeat.group_id,
            generation_id: heartbeat.generation_id,
            member_id: heartbeat.member_id,
            group_instance_id: heartbeat.group_instance_id,
        }),
        GroupRequest::LeaveGroup(leave) => Out::LeaveGroup(proto::LeaveGroup {
            group_id: leave.group_id,
            members: all(leave.members, |member| proto::LeavingMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                reason: member.reason,
            }),
        }),
        GroupRequest::OffsetCommit(commit) => Out::OffsetCommit(to_commit(commit)),
        GroupRequest::OffsetFetch(fetch) => Out::OffsetFetch(proto::OffsetFetch {
            groups: all(fetch.groups, |group| proto::FetchGroup {
                group_id: group.group_id,
                member_id: group.member_id,
                member_epoch: group.member_epoch,
                topics: group.topics.map(|topics| proto::NamedTopics { topics: all(topics, to_named_topic) }),
            }),
            require_stable: fetch.require_stable,
        }),
        GroupRequest::OffsetDelete(delete) => Out::OffsetDelete(proto::OffsetDelete {
            group_id: delete.group_id,
            topics: all(delete.topics, to_named_topic),
        }),
        GroupRequest::DescribeGroups(describe) => {
            Out::DescribeGroups(proto::DescribeGroups { groups: describe.groups })
        }
        GroupRequest::ListGroups(list) => Out::ListGroups(proto::ListGroups { states: list.states, types: list.types }),
        GroupRequest::DeleteGroups(delete) => Out::DeleteGroups(proto::DeleteGroups { groups: delete.groups }),
        GroupRequest::ConsumerGroupHeartbeat(heartbeat) => {
            Out::ConsumerGroupHeartbeat(to_consumer_heartbeat(heartbeat))
        }
        GroupRequest::ConsumerGroupDescribe(describe) => {
            Out::ConsumerGroupDescribe(proto::ConsumerGroupDescribe { groups: describe.groups })
        }
    };
    proto::ToCoordinator {
        partition: asked.partition.0,
        client_id: asked.caller.client_id,
        client_host: asked.caller.client_host,
        request: Some(request),
    }
}

pub(super) fn from_coordinator(asked: proto::ToCoordinator, payload: &mut Payload) -> Result<ToCoordinator, Malformed> {
    use proto::to_coordinator::Request as In;
    let request = match asked.request.ok_or(Malformed::Missing("group request"))? {
        In::JoinGroup(join) => GroupRequest::JoinGroup(from_join(join, payload)?),
        In::SyncGroup(sync) => GroupRequest::SyncGroup(from_sync(sync, payload)?),
        In::Heartbeat(heartbeat) => GroupRequest::Heartbeat(Heartbeat {
            group_id: heartbeat.group_id,
            generation_id: heartbeat.generation_id,
            member_id: heartbeat.member_id,
            group_instance_id: heartbeat.group_instance_id,
        }),
        In::LeaveGroup(leave) => GroupRequest::LeaveGroup(LeaveGroup {
            group_id: leave.group_id,
            members: all(leave.members, |member| LeavingMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                reason: member.reason,
            }),
        }),
        In::OffsetCommit(commit) => GroupRequest::OffsetCommit(from_commit(commit)?),
        In::OffsetFetch(fetch) => GroupRequest::OffsetFetch(OffsetFetch {
            groups: each(fetch.groups, |group| {
                Ok(FetchGroup {
                    group_id: group.group_id,
                    member_id: group.member_id,
                    member_epoch: group.member_epoch,
                    topics: group.topics.map(|named| each(named.topics, from_named_topic)).transpose()?,
                })
            })?,
            require_stable: fetch.require_stable,
        }),
        In::OffsetDelete(delete) => GroupRequest::OffsetDelete(OffsetDelete {
            group_id: delete.group_id,
            topics: each(delete.topics, from_named_topic)?,
        }),
        In::DescribeGroups(describe) => GroupRequest::DescribeGroups(DescribeGroups { groups: describe.groups }),
        In::ListGroups(list) => GroupRequest::ListGroups(ListGroups { states: list.states, types: list.types }),
        In::DeleteGroups(delete) => GroupRequest::DeleteGroups(DeleteGroups { groups: delete.groups }),
        In::ConsumerGroupHeartbeat(heartbeat) => {
            GroupRequest::ConsumerGroupHeartbeat(from_consumer_heartbeat(heartbeat)?)
        }
        In::ConsumerGroupDescribe(describe) => {
            GroupRequest::ConsumerGroupDescribe(ConsumerGroupDescribe { groups: describe.groups })
        }
    };
    let caller = Caller { client_id: asked.client_id, client_host: asked.client_host };
    Ok(ToCoordinator { partition: PartitionIndex(asked.partition), caller, request })
}

pub(super) fn to_result(
    result: Result<GroupResponse, CoordinatorError>,
    payload: &mut Pieces,
) -> proto::FromCoordinator {
    use proto::from_coordinator::Result as Out;
    let result = match result {
        Err(error) => Out::Error(to_coordinator_error(error).into()),
        Ok(response) => to_response(response, payload),
    };
    proto::FromCoordinator { result: Some(result) }
}

fn to_response(response: GroupResponse, payload: &mut Pieces) -> proto::from_coordinator::Result {
    use proto::from_coordinator::Result as Out;
    match response {
        GroupResponse::JoinGroup(result) => Out::JoinGroup(to_join_result(result, payload)),
        GroupResponse::SyncGroup(result) => {
            use proto::sync_group_response::Result as Sync;
            let result = result.map_or_else(
                |error| Sync::Error(to_code(error)),
                |synced| {
                    Sync::Synced(proto::Synced {
                        protocol_type: synced.protocol_type,
                        protocol_name: synced.protocol_name,
                        assignment_length: push(synced.assignment, payload),
                    })
                },
            );
            Out::SyncGroup(proto::SyncGroupResponse { result: Some(result) })
        }
        GroupResponse::Heartbeat(result) => {
            use proto::heartbeat_response::Result as Beat;
            let result = result.map_or_else(|error| Beat::Error(to_code(error)), |()| Beat::Heard(base::Empty {}));
            Out::Heartbeat(proto::HeartbeatResponse { result: Some(result) })
        }
        GroupResponse::LeaveGroup(result) => {
            use proto::leave_group_response::Result as Leave;
            let left = |member: LeftMember| proto::LeftMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                error: to_code(member.error),
            };
            let result = result.map_or_else(
                |error| Leave::Error(to_code(error)),
                |members| Leave::Members(proto::LeftMembers { members: all(members, left) }),
            );
            Out::LeaveGroup(proto::LeaveGroupResponse { result: Some(result) })
        }
        GroupResponse::OffsetCommit(result) => {
            use proto::offset_commit_response::Result as Commit;
            let settled = |committed: CommittedPartition| (committed.partition, committed.error);
            let result = result.map_or_else(
                |error| Commit::Error(to_code(error)),
                |topics| Commit::Topics(to_settled_topics(topics, settled)),
            );
            Out::OffsetCommit(proto::OffsetCommitResponse { result: Some(result) })
        }
        GroupResponse::OffsetFetch(groups) => {
            Out::OffsetFetch(proto::OffsetFetchResponse { groups: all(groups, to_fetched_group) })
        }
        GroupResponse::OffsetDelete(result) => {
            use proto::offset_delete_response::Result as Delete;
            let settled = |deleted: DeletedPartition| (deleted.partition, deleted.error);
            let result = result.map_or_else(
                |error| Delete::Error(to_code(error)),
                |topics| Delete::Topics(to_settled_topics(topics, settled)),
            );
            Out::OffsetDelete(proto::OffsetDeleteResponse { result: Some(result) })
        }
        GroupResponse::DescribeGroups(groups) => {
            let groups = all(groups, |(group_id, result)| to_described_classic(group_id, result, payload));
            Out::DescribeGroups(proto::DescribeGroupsResponse { groups })
        }
        GroupResponse::ListGroups(groups) => Out::ListGroups(proto::ListGroupsResponse {
            groups: all(groups, |group| proto::ListedGroup {
                group_id: group.group_id,
                protocol_type: group.protocol_type,
                state: to_state(group.state).into(),
                kind: to_kind(group.kind).into(),
            }),
        }),
        GroupResponse::DeleteGroups(groups) => Out::DeleteGroups(proto::DeleteGroupsResponse {
            groups: all(groups, |(group_id, error)| proto::DeletedGroup { group_id, error: to_code(error) }),
        }),
        GroupResponse::ConsumerGroupHeartbeat(result) => {
            use proto::consumer_group_heartbeat_response::Result as Beat;
            let result = result.map_or_else(
                |refused| Beat::Refused(proto::Refused { error: to_code(refused.error), message: refused.message }),
                |answer| {
                    Beat::Answer(proto::ConsumerGroupHeartbeatAnswer {
                        member_id: answer.member_id,
                        member_epoch: answer.member_epoch,
                        heartbeat_interval_ms: answer.heartbeat_interval_ms,
                        assignment: answer.assignment.map(to_assigned_topics),
                    })
                },
            );
            Out::ConsumerGroupHeartbeat(proto::ConsumerGroupHeartbeatResponse { result: Some(result) })
        }
        GroupResponse::ConsumerGroupDescribe(groups) => {
            let groups = all(groups, |(group_id, result)| to_described_consumer(group_id, result));
            Out::ConsumerGroupDescribe(proto::ConsumerGroupDescribeResponse { groups })
        }
    }
}

pub(super) fn from_result(
    answer: proto::FromCoordinator,
    payload: &mut Payload,
) -> Result<Result<GroupResponse, CoordinatorError>, Malformed> {
    use proto::from_coordinator::Result as In;
    Ok(Ok(match answer.result.ok_or(Malformed::Missing("coordinator's answer"))? {
        In::Error(error) => return from_coordinator_error(error).map(Err),
        In::JoinGroup(join) => GroupResponse::JoinGroup(from_join_result(join, payload)?),
        In::SyncGroup(sync) => {
            use proto::sync_group_response::Result as Sync;
            GroupResponse::SyncGroup(match sync.result.ok_or(Malformed::Missing("sync result"))? {
                Sync::Error(error) => Err(from_code(error)?),
                Sync::Synced(synced) => Ok(Synced {
                    protocol_type: synced.protocol_type,
                    protocol_name: synced.protocol_name,
                    assignment: take(synced.assignment_length, payload)?,
                }),
            })
        }
        In::Heartbeat(heartbeat) => {
            use proto::heartbeat_response::Result as Beat;
            GroupResponse::Heartbeat(match heartbeat.result.ok_or(Malformed::Missing("heartbeat result"))? {
                Beat::Error(error) => Err(from_code(error)?),
                Beat::Heard(base::Empty {}) => Ok(()),
            })
        }
        In::LeaveGroup(leave) => {
            use proto::leave_group_response::Result as Leave;
            let left = |member: proto::LeftMember| {
                Ok(LeftMember {
                    member_id: member.member_id,
                    group_instance_id: member.group_instance_id,
                    error: from_code(member.error)?,
                })
            };
            GroupResponse::LeaveGroup(match leave.result.ok_or(Malformed::Missing("leave result"))? {
                Leave::Error(error) => Err(from_code(error)?),
                Leave::Members(left_members) => Ok(each(left_members.members, left)?),
            })
        }
        In::OffsetCommit(commit) => {
            use proto::offset_commit_response::Result as Commit;
            let settled = |(partition, error)| CommittedPartition { partition, error };
            GroupResponse::OffsetCommit(match commit.result.ok_or(Malformed::Missing("commit result"))? {
                Commit::Error(error) => Err(from_code(error)?),
                Commit::Topics(topics) => Ok(from_settled_topics(topics, settled)?),
            })
        }
        In::OffsetFetch(fetch) => GroupResponse::OffsetFetch(each(fetch.groups, from_fetched_group)?),
        In::OffsetDelete(delete) => {
            use proto::offset_delete_response::Result as Delete;
            let settled = |(partition, error)| DeletedPartition { partition, error };
            GroupResponse::OffsetDelete(match delete.result.ok_or(Malformed::Missing("delete result"))? {
                Delete::Error(error) => Err(from_code(error)?),
                Delete::Topics(topics) => Ok(from_settled_topics(topics, settled)?),
            })
        }
        In::DescribeGroups(described) => {
            GroupResponse::DescribeGroups(each(described.groups, |group| from_described_classic(group, payload))?)
        }
        In::ListGroups(listed) => GroupResponse::ListGroups(each(listed.groups, |group| {
            Ok(ListedGroup {
                group_id: group.group_id,
                protocol_type: group.protocol_type,
                state: from_state(group.state)?,
                kind: from_kind(group.kind)?,
            })
        })?),
        In::DeleteGroups(deleted) => {
            let group = |group: proto::DeletedGroup| Ok((group.group_id, from_code(group.error)?));
            GroupResponse::DeleteGroups(each(deleted.groups, group)?)
        }
        In::ConsumerGroupHeartbeat(heartbeat) => {
            use proto::consumer_group_heartbeat_response::Result as Beat;
            let result = heartbeat.result.ok_or(Malformed::Missing("consumer heartbeat result"))?;
            GroupResponse::ConsumerGroupHeartbeat(match result {
                Beat::Refused(refused) => Err(Refused { error: from_code(refused.error)?, message: refused.message }),
                Beat::Answer(answer) => Ok(ConsumerGroupHeartbeatAnswer {
                    member_id: answer.member_id,
                    member_epoch: answer.member_epoch,
                    heartbeat_interval_ms: answer.heartbeat_interval_ms,
                    assignment: answer.assignment.map(from_assigned_topics).transpose()?,
                }),
            })
        }
        In::ConsumerGroupDescribe(described) => {
            GroupResponse::ConsumerGroupDescribe(each(described.groups, from_described_consumer)?)
        }
    }))
}

fn to_coordinator_error(error: CoordinatorError) -> proto::CoordinatorError {
    match error {
        CoordinatorError::NotCoordinator => proto::CoordinatorError::NotCoordinator,
        CoordinatorError::LoadInProgress => proto::CoordinatorError::LoadInProgress,
        CoordinatorError::NotAvailable => proto::CoordinatorError::NotAvailable,
        CoordinatorError::Lost => proto::CoordinatorError::Lost,
        CoordinatorError::TimedOut => proto::CoordinatorError::TimedOut,
        CoordinatorError::WriteRefused => proto::CoordinatorError::WriteRefused,
    }
}

fn from_coordinator_error(error: i32) -> Result<CoordinatorError, Malformed> {
    match proto::CoordinatorError::try_from(error) {
        Ok(proto::CoordinatorError::NotCoordinator) => Ok(CoordinatorError::NotCoordinator),
        Ok(proto::CoordinatorError::LoadInProgress) => Ok(CoordinatorError::LoadInProgress),
        Ok(proto::CoordinatorError::NotAvailable) => Ok(CoordinatorError::NotAvailable),
        Ok(proto::CoordinatorError::Lost) => Ok(CoordinatorError::Lost),
        Ok(proto::CoordinatorError::TimedOut) => Ok(CoordinatorError::TimedOut),
        Ok(proto::CoordinatorError::WriteRefused) => Ok(CoordinatorError::WriteRefused),
        Ok(proto::CoordinatorError::Unspecified) | Err(_) => {
            Err(Malformed::Unknown { field: "coordinator error", value: error.into() })
        }
    }
}

// - the classic protocol -

fn to_join(join: JoinGroup, payload: &mut Pieces) -> proto::JoinGroup {
    proto::JoinGroup {
        group_id: join.group_id,
        session_timeout_ms: join.session_timeout_ms,
        rebalance_timeout_ms: join.rebalance_timeout_ms,
        member_id: join.member_id,
        group_instance_id: join.group_instance_id,
        protocol_type: join.protocol_type,
        protocols: all(join.protocols, |protocol| proto::JoinProtocol {
            name: protocol.name,
            metadata_length: push(protocol.metadata, payload),
        }),
        reason: join.reason,
        requires_known_member_id: join.requires_known_member_id,
        supports_skip_assignment: join.supports_skip_assignment,
    }
}

fn from_join(join: proto::JoinGroup, payload: &mut Payload) -> Result<JoinGroup, Malformed> {
    Ok(JoinGroup {
        group_id: join.group_id,
        session_timeout_ms: join.session_timeout_ms,
        rebalance_timeout_ms: join.rebalance_timeout_ms,
        member_id: join.member_id,
        group_instance_id: join.group_instance_id,
        protocol_type: join.protocol_type,
        protocols: each(join.protocols, |protocol| {
            Ok(JoinProtocol { name: protocol.name, metadata: take(protocol.metadata_length, payload)? })
        })?,
        reason: join.reason,
        requires_known_member_id: join.requires_known_member_id,
        supports_skip_assignment: join.supports_skip_assignment,
    })
}

fn to_join_result(result: Result<Joined, JoinRefused>, payload: &mut Pieces) -> proto::JoinGroupResponse {
    use proto::join_group_response::Result as Out;
    let result = match result {
        Ok(joined) => Out::Joined(proto::Joined {
            generation_id: joined.generation_id,
            protocol_type: joined.protocol_type,
            protocol_name: joined.protocol_name,
            leader: joined.leader,
            skip_assignment: joined.skip_assignment,
            member_id: joined.member_id,
            members: all(joined.members, |member| proto::JoinedMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                metadata_length: push(member.metadata, payload),
            }),
        }),
        Err(refused) => {
            Out::Refused(proto::JoinRefused { error: to_code(refused.error), member_id: refused.member_id })
        }
    };
    proto::JoinGroupResponse { result: Some(result) }
}

fn from_join_result(
    join: proto::JoinGroupResponse,
    payload: &mut Payload,
) -> Result<Result<Joined, JoinRefused>, Malformed> {
    use proto::join_group_response::Result as In;
    Ok(match join.result.ok_or(Malformed::Missing("join result"))? {
        In::Joined(joined) => Ok(Joined {
            generation_id: joined.generation_id,
            protocol_type: joined.protocol_type,
            protocol_name: joined.protocol_name,
            leader: joined.leader,
            skip_assignment: joined.skip_assignment,
            member_id: joined.member_id,
            members: each(joined.members, |member| {
                Ok(JoinedMember {
                    member_id: member.member_id,
                    group_instance_id: member.group_instance_id,
                    metadata: take(member.metadata_length, payload)?,
                })
            })?,
        }),
        In::Refused(refused) => Err(JoinRefused { error: from_code(refused.error)?, member_id: refused.member_id }),
    })
}

fn to_sync(sync: SyncGroup, payload: &mut Pieces) -> proto::SyncGroup {
    proto::SyncGroup {
        group_id: sync.group_id,
        generation_id: sync.generation_id,
        member_id: sync.member_id,
        group_instance_id: sync.group_instance_id,
        protocol_type: sync.protocol_type,
        protocol_name: sync.protocol_name,
        assignments: all(sync.assignments, |(member_id, assignment)| proto::MemberAssignment {
            member_id,
            assignment_length: push(assignment, payload),
        }),
    }
}

fn from_sync(sync: proto::SyncGroup, payload: &mut Payload) -> Result<SyncGroup, Malformed> {
    Ok(SyncGroup {
        group_id: sync.group_id,
        generation_id: sync.generation_id,
        member_id: sync.member_id,
        group_instance_id: sync.group_instance_id,
        protocol_type: sync.protocol_type,
        protocol_name: sync.protocol_name,
        assignments: each(sync.assignments, |member| Ok((member.member_id, take(member.assignment_length, payload)?)))?,
    })
}

// - offsets -

fn to_commit(commit: OffsetCommit) -> proto::OffsetCommit {
    let partition = |committed: CommitPartition| proto::CommitPartition {
        partition: committed.partition.0,
        offset: committed.offset.0,
        leader_epoch: committed.leader_epoch.0,
        metadata: committed.metadata,
    };
    proto::OffsetCommit {
        group_id: commit.group_id,
        generation_or_epoch: commit.generation_or_epoch,
        member_id: commit.member_id,
        group_instance_id: commit.group_instance_id,
        retention_ms: commit.retention_ms,
        knows_member_epochs: commit.knows_member_epochs,
        topics: all(commit.topics, |topic| proto::CommitTopic {
            id: to_uuid(topic.id.0),
            name: topic.name,
            partitions: all(topic.partitions, partition),
        }),
    }
}

fn from_commit(commit: proto::OffsetCommit) -> Result<OffsetCommit, Malformed> {
    let partition = |committed: proto::CommitPartition| CommitPartition {
        partition: PartitionIndex(committed.partition),
        offset: Offset(committed.offset),
        leader_epoch: LeaderEpoch(committed.leader_epoch),
        metadata: committed.metadata,
    };
    Ok(OffsetCommit {
        group_id: commit.group_id,
        generation_or_epoch: commit.generation_or_epoch,
        member_id: commit.member_id,
        group_instance_id: commit.group_instance_id,
        retention_ms: commit.retention_ms,
        knows_member_epochs: commit.knows_member_epochs,
        topics: each(commit.topics, |topic| {
            Ok(OffsetTopic {
                id: from_topic_id(topic.id)?,
                name: topic.name,
                partitions: all(topic.partitions, partition),
            })
        })?,
    })
}

/// Partitions with nothing but an error each.
fn to_settled_topics<P>(
    topics: Vec<OffsetTopic<P>>,
    settled: impl Fn(P) -> (PartitionIndex, ErrorCode),
) -> proto::SettledTopics {
    let partition = |partition| {
        let (partition, error) = settled(partition);
        proto::SettledPartition { partition: partition.0, error: to_code(error) }
    };
    let topic = |topic: OffsetTopic<P>| proto::SettledTopic {
        id: to_uuid(topic.id.0),
        name: topic.name,
        partitions: all(topic.partitions, partition),
    };
    proto::SettledTopics { topics: all(topics, topic) }
}

fn from_settled_topics<P>(
    settled: proto::SettledTopics,
    make: impl Fn((PartitionIndex, ErrorCode)) -> P,
) -> Result<Vec<OffsetTopic<P>>, Malformed> {
    each(settled.topics, |topic| {
        let partitions =
            each(topic.partitions, |settled| Ok(make((PartitionIndex(settled.partition), from_code(settled.error)?))))?;
        Ok(OffsetTopic { id: from_topic_id(topic.id)?, name: topic.name, partitions })
    })
}

fn to_named_topic(topic: OffsetTopic<PartitionIndex>) -> proto::NamedTopic {
    proto::NamedTopic { id: to_uuid(topic.id.0), name: topic.name, partitions: to_indexes(topic.partitions) }
}

fn from_named_topic(topic: proto::NamedTopic) -> Result<OffsetTopic<PartitionIndex>, Malformed> {
    Ok(OffsetTopic { id: from_topic_id(topic.id)?, name: topic.name, partitions: from_indexes(topic.partitions) })
}

fn to_fetched_group(group: FetchedGroup) -> proto::FetchedGroup {
    use proto::fetched_group::Result as Out;
    let offset = |fetched: FetchedOffset| proto::FetchedOffset {
        partition: fetched.partition.0,
        offset: fetched.offset.0,
        leader_epoch: fetched.leader_epoch.0,
        metadata: fetched.metadata,
        error: to_code(fetched.error),
    };
    let topic = |topic: OffsetTopic<FetchedOffset>| proto::FetchedTopic {
        id: to_uuid(topic.id.0),
        name: topic.name,
        partitions: all(topic.partitions, offset),
    };
    let result = match group.result {
        Ok(topics) => Out::Topics(proto::FetchedTopics { topics: all(topics, topic) }),
        Err(error) => Out::Error(to_code(error)),
    };
    proto::FetchedGroup { group_id: group.group_id, result: Some(result) }
}

fn from_fetched_group(group: proto::FetchedGroup) -> Result<FetchedGroup, Malformed> {
    use proto::fetched_group::Result as In;
    let offset = |fetched: proto::FetchedOffset| {
        Ok(FetchedOffset {
            partition: PartitionIndex(fetched.partition),
            offset: Offset(fetched.offset),
            leader_epoch: LeaderEpoch(fetched.leader_epoch),
            metadata: fetched.metadata,
            error: from_code(fetched.error)?,
        })
    };
    let topic = |topic: proto::FetchedTopic| {
        let partitions = each(topic.partitions, offset)?;
        Ok(OffsetTopic { id: from_topic_id(topic.id)?, name: topic.name, partitions })
    };
    let result = match group.result.ok_or(Malformed::Missing("fetched offsets"))? {
        In::Topics(fetched) => Ok(each(fetched.topics, topic)?),
        In::Error(error) => Err(from_code(error)?),
    };
    Ok(FetchedGroup { group_id: group.group_id, result })
}

// - administration -

fn to_described_classic(
    group_id: String,
    result: Result<ClassicGroupDescription, GroupNotFound>,
    payload: &mut Pieces,
) -> proto::DescribedClassicGroup {
    use proto::described_classic_group::Result as Out;
    let result = match result {
        Ok(group) => Out::Group(proto::ClassicGroup {
            state: to_state(group.state).into(),
            generation: group.generation,
            protocol_type: group.protocol_type,
            protocol_name: group.protocol_name,
            members: all(group.members, |member| proto::ClassicMember {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                metadata_length: push(member.metadata, payload),
                assignment_length: push(member.assignment, payload),
            }),
        }),
        Err(GroupNotFound { message }) => Out::NotFound(proto::GroupNotFound { message }),
    };
    proto::DescribedClassicGroup { group_id, result: Some(result) }
}

fn from_described_classic(
    described: proto::DescribedClassicGroup,
    payload: &mut Payload,
) -> Result<(String, Result<ClassicGroupDescription, GroupNotFound>), Malformed> {
    use proto::described_classic_group::Result as In;
    let result = match described.result.ok_or(Malformed::Missing("description of a group"))? {
        In::Group(group) => Ok(ClassicGroupDescription {
            state: from_state(group.state)?,
            generation: group.generation,
            protocol_type: group.protocol_type,
            protocol_name: group.protocol_name,
            members: each(group.members, |member| {
                Ok(ClassicMemberDescription {
                    member_id: member.member_id,
                    group_instance_id: member.group_instance_id,
                    client_id: member.client_id,
                    client_host: member.client_host,
                    metadata: take(member.metadata_length, payload)?,
                    assignment: take(member.assignment_length, payload)?,
                })
            })?,
        }),
        In::NotFound(proto::GroupNotFound { message }) => Err(GroupNotFound { message }),
    };
    Ok((described.group_id, result))
}

fn to_state(state: GroupState) -> proto::GroupState {
    match state {
        GroupState::Empty => proto::GroupState::Empty,
        GroupState::PreparingRebalance => proto::GroupState::PreparingRebalance,
        GroupState::CompletingRebalance => proto::GroupState::CompletingRebalance,
        GroupState::Stable => proto::GroupState::Stable,
        GroupState::Dead => proto::GroupState::Dead,
        GroupState::Assigning => proto::GroupState::Assigning,
        GroupState::Reconciling => proto::GroupState::Reconciling,
    }
}

fn from_state(state: i32) -> Result<GroupState, Malformed> {
    match proto::GroupState::try_from(state) {
        Ok(proto::GroupState::Empty) => Ok(GroupState::Empty),
        Ok(proto::GroupState::PreparingRebalance) => Ok(GroupState::PreparingRebalance),
        Ok(proto::GroupState::CompletingRebalance) => Ok(GroupState::CompletingRebalance),
        Ok(proto::GroupState::Stable) => Ok(GroupState::Stable),
        Ok(proto::GroupState::Dead) => Ok(GroupState::Dead),
        Ok(proto::GroupState::Assigning) => Ok(GroupState::Assigning),
        Ok(proto::GroupState::Reconciling) => Ok(GroupState::Reconciling),
        Ok(proto::GroupState::Unspecified) | Err(_) => {
            Err(Malformed::Unknown { field: "state of a group", value: state.into() })
        }
    }
}

fn to_kind(kind: GroupKind) -> proto::GroupKind {
    match kind {
        GroupKind::Classic => proto::GroupKind::Classic,
        GroupKind::Consumer => proto::GroupKind::Consumer,
    }
}

fn from_kind(kind: i32) -> Result<GroupKind, Malformed> {
    match proto::GroupKind::try_from(kind) {
        Ok(proto::GroupKind::Classic) => Ok(GroupKind::Classic),
        Ok(proto::GroupKind::Consumer) => Ok(GroupKind::Consumer),
        Ok(proto::GroupKind::Unspecified) | Err(_) => {
            Err(Malformed::Unknown { field: "kind of a group", value: kind.into() })
        }
    }
}

// - the consumer protocol -

fn to_consumer_heartbeat(heartbeat: ConsumerGroupHeartbeat) -> proto::ConsumerGroupHeartbeat {
    proto::ConsumerGroupHeartbeat {
        group_id: heartbeat.group_id,
        member_id: heartbeat.member_id,
        member_epoch: heartbeat.member_epoch,
        instance_id: heartbeat.instance_id,
        rack_id: heartbeat.rack_id,
        rebalance_timeout_ms: heartbeat.rebalance_timeout_ms,
        subscribed_topic_names: heartbeat.subscribed_topic_names.map(|names| proto::Names { names }),
        subscribed_topic_regex: heartbeat.subscribed_topic_regex,
        server_assignor: heartbeat.server_assignor,
        topic_partitions: heartbeat.topic_partitions.map(to_assigned_topics),
        requires_member_id: heartbeat.requires_member_id,
    }
}

fn from_consumer_heartbeat(heartbeat: proto::ConsumerGroupHeartbeat) -> Result<ConsumerGroupHeartbeat, Malformed> {
    Ok(ConsumerGroupHeartbeat {
        group_id: heartbeat.group_id,
        member_id: heartbeat.member_id,
        member_epoch: heartbeat.member_epoch,
        instance_id: heartbeat.instance_id,
        rack_id: heartbeat.rack_id,
        rebalance_timeout_ms: heartbeat.rebalance_timeout_ms,
        subscribed_topic_names: heartbeat.subscribed_topic_names.map(|subscribed| subscribed.names),
        subscribed_topic_regex: heartbeat.subscribed_topic_regex,
        server_assignor: heartbeat.server_assignor,
        topic_partitions: heartbeat.topic_partitions.map(from_assigned_topics).transpose()?,
        requires_member_id: heartbeat.requires_member_id,
    })
}

fn to_assigned_topics(topics: Vec<AssignedTopic>) -> proto::AssignedTopics {
    let topic = |topic: AssignedTopic| proto::AssignedTopic {
        id: to_uuid(topic.topic_id.0),
        partitions: to_indexes(topic.partitions),
    };
    proto::AssignedTopics { topics: all(topics, topic) }
}

fn from_assigned_topics(assigned: proto::AssignedTopics) -> Result<Vec<AssignedTopic>, Malformed> {
    each(assigned.topics, |topic| {
        Ok(AssignedTopic { topic_id: from_topic_id(topic.id)?, partitions: from_indexes(topic.partitions) })
    })
}

fn to_described_consumer(
    group_id: String,
    result: Result<ConsumerGroupDescription, GroupNotFound>,
) -> proto::DescribedConsumerGroup {
    use proto::described_consumer_group::Result as Out;
    let member = |member: ConsumerMemberDescription| proto::ConsumerMember {
        member_id: member.member_id,
        instance_id: member.instance_id,
        rack_id: member.rack_id,
        member_epoch: member.member_epoch,
        client_id: member.client_id,
        client_host: member.client_host,
        subscribed_topic_names: member.subscribed_topic_names,
        subscribed_topic_regex: member.subscribed_topic_regex,
        assignment: all(member.assignment, to_described_topic),
        target_assignment: all(member.target_assignment, to_described_topic),
        is_classic: member.is_classic,
    };
    let result = match result {
        Ok(group) => Out::Group(proto::ConsumerGroup {
            state: to_state(group.state).into(),
            group_epoch: group.group_epoch,
            assignment_epoch: group.assignment_epoch,
            assignor_name: group.assignor_name,
            members: all(group.members, member),
        }),
        Err(GroupNotFound { message }) => Out::NotFound(proto::GroupNotFound { message }),
    };
    proto::DescribedConsumerGroup { group_id, result: Some(result) }
}

fn from_described_consumer(
    described: proto::DescribedConsumerGroup,
) -> Result<(String, Result<ConsumerGroupDescription, GroupNotFound>), Malformed> {
    use proto::described_consumer_group::Result as In;
    let member = |member: proto::ConsumerMember| {
        Ok(ConsumerMemberDescription {
            member_id: member.member_id,
            instance_id: member.instance_id,
            rack_id: member.rack_id,
            member_epoch: member.member_epoch,
            client_id: member.client_id,
            client_host: member.client_host,
            subscribed_topic_names: member.subscribed_topic_names,
            subscribed_topic_regex: member.subscribed_topic_regex,
            assignment: each(member.assignment, from_described_topic)?,
            target_assignment: each(member.target_assignment, from_described_topic)?,
            is_classic: member.is_classic,
        })
    };
    let result = match described.result.ok_or(Malformed::Missing("description of a group"))? {
        In::Group(group) => Ok(ConsumerGroupDescription {
            state: from_state(group.state)?,
            group_epoch: group.group_epoch,
            assignment_epoch: group.assignment_epoch,
            assignor_name: group.assignor_name,
            members: each(group.members, member)?,
        }),
        In::NotFound(proto::GroupNotFound { message }) => Err(GroupNotFound { message }),
    };
    Ok((described.group_id, result))
}

fn to_described_topic(topic: DescribedTopic) -> proto::NamedTopic {
    let DescribedTopic { topic_id, topic_name, partitions } = topic;
    proto::NamedTopic { id: to_uuid(topic_id.0), name: topic_name, partitions: to_indexes(partitions) }
}

fn from_described_topic(topic: proto::NamedTopic) -> Result<DescribedTopic, Malformed> {
    let partitions = from_indexes(topic.partitions);
    Ok(DescribedTopic { topic_id: from_topic_id(topic.id)?, topic_name: topic.name, partitions })
}

// - what many of them have -

fn all<T, U>(items: Vec<T>, convert: impl FnMut(T) -> U) -> Vec<U> {
    items.into_iter().map(convert).collect()
}

fn to_code(error: ErrorCode) -> i32 {
    error.code().into()
}

fn to_indexes(partitions: Vec<PartitionIndex>) -> Vec<i32> {
    all(partitions, |partition| partition.0)
}

fn from_indexes(partitions: Vec<i32>) -> Vec<PartitionIndex> {
    all(partitions, PartitionIndex)
}

fn from_topic_id(id: Option<base::Uuid>) -> Result<TopicId, Malformed> {
    from_uuid(id, "topic id").map(TopicId)
}

/// Into the payload; its length goes into the header.
fn push(bytes: Bytes, payload: &mut Pieces) -> u32 {
    let length = bytes.len() as u32;
    payload.push(bytes);
    length
}

/// A copy, because groups keep it for as long as a member stays, and a reference would keep all that was received with it.
fn take(length: u32, payload: &mut Payload) -> Result<Bytes, Malformed> {
    Ok(Bytes::copy_from_slice(&payload.take(length)?))
}
