//! The APIs of Kafka that are served, each in a file of its own.
//!
//! An API is served when [`supported`] names it; ApiVersions says so and nothing else does. A new key that Kafka assigns is a
//! compile error here until somebody decides about it.

pub(crate) mod administration;
pub(crate) mod alteration;
pub(crate) mod coordination;
pub(crate) mod error;
pub(crate) mod internal_topics;
pub(crate) mod k00_produce;
pub(crate) mod k01_fetch;
pub(crate) mod k02_list_offsets;
pub(crate) mod k03_metadata;
pub(crate) mod k08_offset_commit;
pub(crate) mod k09_offset_fetch;
pub(crate) mod k10_find_coordinator;
pub(crate) mod k11_join_group;
pub(crate) mod k12_heartbeat;
pub(crate) mod k13_leave_group;
pub(crate) mod k14_sync_group;
pub(crate) mod k15_describe_groups;
pub(crate) mod k16_list_groups;
pub(crate) mod k18_api_versions;
pub(crate) mod k19_create_topics;
pub(crate) mod k20_delete_topics;
pub(crate) mod k21_delete_records;
pub(crate) mod k22_init_producer_id;
pub(crate) mod k23_offset_for_leader_epoch;
pub(crate) mod k32_describe_configs;
pub(crate) mod k33_alter_configs;
pub(crate) mod k35_describe_log_dirs;
pub(crate) mod k37_create_partitions;
pub(crate) mod k42_delete_groups;
pub(crate) mod k43_elect_leaders;
pub(crate) mod k44_incremental_alter_configs;
pub(crate) mod k45_alter_partition_reassignments;
pub(crate) mod k46_list_partition_reassignments;
pub(crate) mod k47_offset_delete;
pub(crate) mod k55_describe_quorum;
pub(crate) mod k57_update_features;
pub(crate) mod k60_describe_cluster;
pub(crate) mod k61_describe_producers;
pub(crate) mod k64_unregister_broker;
pub(crate) mod k68_consumer_group_heartbeat;
pub(crate) mod k69_consumer_group_describe;
pub(crate) mod k74_list_config_resources;
pub(crate) mod k75_describe_topic_partitions;
pub(crate) mod scatter;

use std::ops::RangeInclusive;

use kafka_wire::{ApiKey, Message, Reader};

use crate::effect::CloseReason;
use crate::operation::{Answer, Begun, Context};

pub(crate) use k00_produce::{
    Produce, Refusals, answered as produce_answered, check_order as check_produce_order, expired as produce_expired,
    send as send_produces,
};
pub(crate) use k22_init_producer_id::ProducerIds;

/// The versions of an API that are served; `None` for an API that is not.
pub(crate) fn supported(key: ApiKey) -> Option<RangeInclusive<i16>> {
    match key {
        ApiKey::Produce => Some(k00_produce::SUPPORTED),
        ApiKey::Fetch => Some(k01_fetch::SUPPORTED),
        ApiKey::ListOffsets => Some(k02_list_offsets::SUPPORTED),
        ApiKey::Metadata => Some(k03_metadata::SUPPORTED),
        ApiKey::OffsetCommit => Some(k08_offset_commit::SUPPORTED),
        ApiKey::OffsetFetch => Some(k09_offset_fetch::SUPPORTED),
        ApiKey::FindCoordinator => Some(k10_find_coordinator::SUPPORTED),
        ApiKey::JoinGroup => Some(k11_join_group::SUPPORTED),
        ApiKey::Heartbeat => Some(k12_heartbeat::SUPPORTED),
        ApiKey::LeaveGroup => Some(k13_leave_group::SUPPORTED),
        ApiKey::SyncGroup => Some(k14_sync_group::SUPPORTED),
        ApiKey::DescribeGroups => Some(k15_describe_groups::SUPPORTED),
        ApiKey::ListGroups => Some(k16_list_groups::SUPPORTED),
        ApiKey::ApiVersions => Some(k18_api_versions::SUPPORTED),
        ApiKey::CreateTopics => Some(k19_create_topics::SUPPORTED),
        ApiKey::DeleteTopics => Some(k20_delete_topics::SUPPORTED),
        ApiKey::DeleteRecords => Some(k21_delete_records::SUPPORTED),
        ApiKey::InitProducerId => Some(k22_init_producer_id::SUPPORTED),
        ApiKey::OffsetForLeaderEpoch => Some(k23_offset_for_leader_epoch::SUPPORTED),
        ApiKey::DescribeConfigs => Some(k32_describe_configs::SUPPORTED),
        ApiKey::AlterConfigs => Some(k33_alter_configs::SUPPORTED),
        ApiKey::DescribeLogDirs => Some(k35_describe_log_dirs::SUPPORTED),
        ApiKey::CreatePartitions => Some(k37_create_partitions::SUPPORTED),
        ApiKey::DeleteGroups => Some(k42_delete_groups::SUPPORTED),
        ApiKey::ElectLeaders => Some(k43_elect_leaders::SUPPORTED),
        ApiKey::IncrementalAlterConfigs => Some(k44_incremental_alter_configs::SUPPORTED),
        ApiKey::AlterPartitionReassignments => Some(k45_alter_partition_reassignments::SUPPORTED),
        ApiKey::ListPartitionReassignments => Some(k46_list_partition_reassignments::SUPPORTED),
        ApiKey::OffsetDelete => Some(k47_offset_delete::SUPPORTED),
        ApiKey::DescribeQuorum => Some(k55_describe_quorum::SUPPORTED),
        ApiKey::UpdateFeatures => Some(k57_update_features::SUPPORTED),
        ApiKey::DescribeCluster => Some(k60_describe_cluster::SUPPORTED),
        ApiKey::DescribeProducers => Some(k61_describe_producers::SUPPORTED),
        ApiKey::UnregisterBroker => Some(k64_unregister_broker::SUPPORTED),
        ApiKey::ConsumerGroupHeartbeat => Some(k68_consumer_group_heartbeat::SUPPORTED),
        ApiKey::ConsumerGroupDescribe => Some(k69_consumer_group_describe::SUPPORTED),
        ApiKey::ListConfigResources => Some(k74_list_config_resources::SUPPORTED),
        ApiKey::DescribeTopicPartitions => Some(k75_describe_topic_partitions::SUPPORTED),
        ApiKey::LeaderAndIsr
        | ApiKey::StopReplica
        | ApiKey::UpdateMetadata
        | ApiKey::ControlledShutdown
        | ApiKey::SaslHandshake
        | ApiKey::AddPartitionsToTxn
        | ApiKey::AddOffsetsToTxn
        | ApiKey::EndTxn
        | ApiKey::WriteTxnMarkers
        | ApiKey::TxnOffsetCommit
        | ApiKey::DescribeAcls
        | ApiKey::CreateAcls
        | ApiKey::DeleteAcls
        | ApiKey::AlterReplicaLogDirs
        | ApiKey::SaslAuthenticate
        | ApiKey::CreateDelegationToken
        | ApiKey::RenewDelegationToken
        | ApiKey::ExpireDelegationToken
        | ApiKey::DescribeDelegationToken
        | ApiKey::DescribeClientQuotas
        | ApiKey::AlterClientQuotas
        | ApiKey::DescribeUserScramCredentials
        | ApiKey::AlterUserScramCredentials
        | ApiKey::Vote
        | ApiKey::BeginQuorumEpoch
        | ApiKey::EndQuorumEpoch
        | ApiKey::AlterPartition
        | ApiKey::Envelope
        | ApiKey::FetchSnapshot
        | ApiKey::BrokerRegistration
        | ApiKey::BrokerHeartbeat
        | ApiKey::DescribeTransactions
        | ApiKey::ListTransactions
        | ApiKey::AllocateProducerIds
        | ApiKey::ControllerRegistration
        | ApiKey::GetTelemetrySubscriptions
        | ApiKey::PushTelemetry
        | ApiKey::AssignReplicasToDirs
        | ApiKey::ShareGroupHeartbeat
        | ApiKey::ShareGroupDescribe
        | ApiKey::ShareFetch
        | ApiKey::ShareAcknowledge
        | ApiKey::AddRaftVoter
        | ApiKey::RemoveRaftVoter
        | ApiKey::UpdateRaftVoter
        | ApiKey::InitializeShareGroupState
        | ApiKey::ReadShareGroupState
        | ApiKey::WriteShareGroupState
        | ApiKey::DeleteShareGroupState
        | ApiKey::ReadShareGroupStateSummary
        | ApiKey::StreamsGroupHeartbeat
        | ApiKey::StreamsGroupDescribe
        | ApiKey::DescribeShareGroupOffsets
        | ApiKey::AlterShareGroupOffsets
        | ApiKey::DeleteShareGroupOffsets
        | ApiKey::StreamsGroupTopologyDescriptionUpdate
        | ApiKey::UnregisterController => None,
    }
}

/// Reads a request and begins it.
///
/// Kafka has no answer to a request for an API or version that it does not serve, or that it cannot read: it closes.
pub(crate) fn begin(cx: &mut Context<'_>, reader: &mut Reader) -> Begun {
    let key = cx.request.info.key;
    if key == ApiKey::ApiVersions {
        return k18_api_versions::begin(cx, reader);
    }
    if !supported(key).is_some_and(|versions| versions.contains(&cx.version())) {
        return Begun::Answered(Answer::Close(CloseReason::NotServed));
    }
    match key {
        ApiKey::Produce => decoded(cx, reader, k00_produce::begin),
        ApiKey::Fetch => decoded(cx, reader, k01_fetch::begin),
        ApiKey::ListOffsets => decoded(cx, reader, k02_list_offsets::begin),
        ApiKey::Metadata => decoded(cx, reader, k03_metadata::begin),
        ApiKey::OffsetCommit => decoded(cx, reader, k08_offset_commit::begin),
        ApiKey::OffsetFetch => decoded(cx, reader, k09_offset_fetch::begin),
        ApiKey::FindCoordinator => decoded(cx, reader, k10_find_coordinator::begin),
        ApiKey::JoinGroup => decoded(cx, reader, k11_join_group::begin),
        ApiKey::Heartbeat => decoded(cx, reader, k12_heartbeat::begin),
        ApiKey::LeaveGroup => decoded(cx, reader, k13_leave_group::begin),
        ApiKey::SyncGroup => decoded(cx, reader, k14_sync_group::begin),
        ApiKey::DescribeGroups => decoded(cx, reader, k15_describe_groups::begin),
        ApiKey::ListGroups => decoded(cx, reader, k16_list_groups::begin),
        ApiKey::CreateTopics => decoded(cx, reader, k19_create_topics::begin),
        ApiKey::DeleteTopics => decoded(cx, reader, k20_delete_topics::begin),
        ApiKey::DeleteRecords => decoded(cx, reader, k21_delete_records::begin),
        ApiKey::InitProducerId => decoded(cx, reader, k22_init_producer_id::begin),
        ApiKey::OffsetForLeaderEpoch => decoded(cx, reader, k23_offset_for_leader_epoch::begin),
        ApiKey::DescribeConfigs => decoded(cx, reader, k32_describe_configs::begin),
        ApiKey::AlterConfigs => decoded(cx, reader, k33_alter_configs::begin),
        ApiKey::DescribeLogDirs => decoded(cx, reader, k35_describe_log_dirs::begin),
        ApiKey::CreatePartitions => decoded(cx, reader, k37_create_partitions::begin),
        ApiKey::DeleteGroups => decoded(cx, reader, k42_delete_groups::begin),
        ApiKey::ElectLeaders => decoded(cx, reader, k43_elect_leaders::begin),
        ApiKey::IncrementalAlterConfigs => decoded(cx, reader, k44_incremental_alter_configs::begin),
        ApiKey::AlterPartitionReassignments => decoded(cx, reader, k45_alter_partition_reassignments::begin),
        ApiKey::ListPartitionReassignments => decoded(cx, reader, k46_list_partition_reassignments::begin),
        ApiKey::OffsetDelete => decoded(cx, reader, k47_offset_delete::begin),
        ApiKey::DescribeQuorum => decoded(cx, reader, k55_describe_quorum::begin),
        ApiKey::UpdateFeatures => decoded(cx, reader, k57_update_features::begin),
        ApiKey::DescribeCluster => decoded(cx, reader, k60_describe_cluster::begin),
        ApiKey::DescribeProducers => decoded(cx, reader, k61_describe_producers::begin),
        ApiKey::UnregisterBroker => decoded(cx, reader, k64_unregister_broker::begin),
        ApiKey::ConsumerGroupHeartbeat => decoded(cx, reader, k68_consumer_group_heartbeat::begin),
        ApiKey::ConsumerGroupDescribe => decoded(cx, reader, k69_consumer_group_describe::begin),
        ApiKey::ListConfigResources => decoded(cx, reader, k74_list_config_resources::begin),
        ApiKey::DescribeTopicPartitions => decoded(cx, reader, k75_describe_topic_partitions::begin),
        // Not served; said above.
        _ => Begun::Answered(Answer::Close(CloseReason::NotServed)),
    }
}

fn decoded<M: Message>(
    cx: &mut Context<'_>,
    reader: &mut Reader,
    begin: impl FnOnce(&mut Context<'_>, M) -> Begun,
) -> Begun {
    match M::decode(reader, cx.version()) {
        Ok(request) => begin(cx, request),
        Err(_) => Begun::Answered(Answer::Close(CloseReason::Malformed)),
    }
}
