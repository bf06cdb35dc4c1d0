//! DescribeQuorum (55): the metadata quorum (KIP-595).
//!
//! Versions 0–2. v1: times of the last fetch (KIP-836). v2: error messages, directory ids, addresses (KIP-853).
//!
//! There is one such partition, `__cluster_metadata-0`; every other is `UNKNOWN_TOPIC_OR_PARTITION`. A voter's "last fetch" is when the
//! leader last heard from it.
//!
//! Deviations from Kafka: there are no observers; directory ids are zero.

use std::ops::RangeInclusive;

use base_types::{ErrorCode, Timestamp};
use kafka_wire::k55_describe_quorum::{
    Listener, Node, ReplicaState, RequestTopicData, ResponsePartitionData, ResponseTopicData,
};
use kafka_wire::{DescribeQuorumRequest, DescribeQuorumResponse, KafkaString};
use peer_api::controller::{Error, QuorumInfo, QuorumVoter, Request, Response};

use crate::api::administration::{self, Change, TIMEOUT_MS, message};
use crate::api::error;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=2;

const TOPIC: &str = "__cluster_metadata";

pub(crate) fn begin(cx: &mut Context<'_>, request: DescribeQuorumRequest) -> Begun {
    let is_metadata = matches!(
        &request.topics[..],
        [topic] if topic.topic_name == *TOPIC
            && matches!(&topic.partitions[..], [partition] if partition.partition_index == 0)
    );
    if is_metadata {
        return administration::ask(cx, Quorum, Request::DescribeQuorum, TIMEOUT_MS);
    }
    let topics = request.topics.into_iter().map(|topic| unknown(cx, topic)).collect();
    Begun::Answered(cx.respond(&DescribeQuorumResponse { topics, ..Default::default() }))
}

fn unknown(cx: &mut Context<'_>, topic: RequestTopicData) -> ResponseTopicData {
    let partitions = topic
        .partitions
        .into_iter()
        .map(|partition| ResponsePartitionData {
            partition_index: partition.partition_index,
            error_code: cx.code(ErrorCode::UnknownTopicOrPartition),
            ..Default::default()
        })
        .collect();
    ResponseTopicData { topic_name: topic.topic_name, partitions }
}

struct Quorum;

impl Change for Quorum {
    fn answer(self, cx: &mut Context<'_>, result: Result<Response, Error>) -> Answer {
        let response = match result {
            Ok(Response::Quorum(quorum)) => describe(cx, &quorum),
            Ok(_) => {
                DescribeQuorumResponse { error_code: cx.code(ErrorCode::UnknownServerError), ..Default::default() }
            }
            Err(error) => {
                let (code, text) = error::controller(&error);
                let error_message = if cx.version() >= 2 { message(text) } else { None };
                DescribeQuorumResponse { error_code: cx.code(code), error_message, ..Default::default() }
            }
        };
        cx.respond(&response)
    }
}

fn describe(cx: &Context<'_>, quorum: &QuorumInfo) -> DescribeQuorumResponse {
    let partition = ResponsePartitionData {
        partition_index: 0,
        leader_id: quorum.leader.0,
        leader_epoch: i32::try_from(quorum.leader_epoch).unwrap_or(i32::MAX),
        high_watermark: i64::try_from(quorum.high_watermark.0).unwrap_or(i64::MAX),
        current_voters: quorum.voters.iter().map(|voter| replica(cx.now.wall, quorum, voter)).collect(),
        ..Default::default()
    };
    let topic = ResponseTopicData { topic_name: TOPIC.into(), partitions: vec![partition] };
    let nodes = if cx.version() >= 2 { quorum.voters.iter().map(node).collect() } else { Vec::new() };
    DescribeQuorumResponse { topics: vec![topic], nodes, ..Default::default() }
}

fn replica(now: Timestamp, quorum: &QuorumInfo, voter: &QuorumVoter) -> ReplicaState {
    let is_leader = voter.id == quorum.leader;
    let at = |ms_ago: Option<u64>| match ms_ago {
        _ if is_leader => now.0,
        Some(ms) => now.0.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)),
        None => Timestamp::NONE.0,
    };
    ReplicaState {
        replica_id: voter.id.0,
        log_end_offset: i64::try_from(voter.log_end.0).unwrap_or(i64::MAX),
        last_fetch_timestamp: at(voter.last_fetch_ms_ago),
        last_caught_up_timestamp: at(voter.last_caught_up_ms_ago),
        ..Default::default()
    }
}

fn node(voter: &QuorumVoter) -> Node {
    let (host, port) = voter.address.rsplit_once(':').unwrap_or((&voter.address, "0"));
    let listener =
        Listener { name: KafkaString::from_static("CONTROLLER"), host: host.into(), port: port.parse().unwrap_or(0) };
    Node { node_id: voter.id.0, listeners: vec![listener] }
}

#[cfg(test)]
mod tests {
    use base_types::BrokerId;
    use kafka_wire::k55_describe_quorum::RequestPartitionData;
    use peer_api::metadata::MetadataOffset;

    use super::*;
    use crate::testing::World;

    fn request(topic: &str, partition_index: i32) -> DescribeQuorumRequest {
        let partitions = vec![RequestPartitionData { partition_index }];
        DescribeQuorumRequest { topics: vec![RequestTopicData { topic_name: topic.into(), partitions }] }
    }

    fn voter(id: i32, ms_ago: Option<u64>) -> QuorumVoter {
        QuorumVoter {
            id: BrokerId(id),
            log_end: MetadataOffset(50),
            address: format!("c{id}:9093"),
            last_fetch_ms_ago: ms_ago,
            last_caught_up_ms_ago: ms_ago,
        }
    }

    #[test]
    fn the_quorum_is_told_with_its_voters() {
        for version in SUPPORTED {
            let mut world = World::new(1);
            world.send(version, &request("__cluster_metadata", 0));
            let (id, call) = world.next_call();
            assert_eq!(call, Request::DescribeQuorum);
            let voters = vec![voter(1, None), voter(2, Some(30)), voter(3, None)];
            let quorum =
                QuorumInfo { leader: BrokerId(1), leader_epoch: 4, high_watermark: MetadataOffset(49), voters };
            world.controller_answers(id, Ok(Response::Quorum(quorum)));
            let (_, response) = world.answer::<DescribeQuorumRequest>(version);
            let partition = &response.topics[0].partitions[0];
            assert_eq!((partition.leader_id, partition.leader_epoch, partition.high_watermark), (1, 4, 49));
            let now = world.now as i64 + 1_700_000_000_000;
            let times: Vec<_> = partition.current_voters.iter().map(|voter| voter.last_fetch_timestamp).collect();
            assert_eq!(times, if version >= 1 { [now, now - 30, -1] } else { [-1; 3] });
            let nodes: Vec<_> = response.nodes.iter().map(|node| (node.node_id, node.listeners[0].port)).collect();
            assert_eq!(nodes, if version >= 2 { vec![(1, 9093), (2, 9093), (3, 9093)] } else { vec![] });
        }
    }

    #[test]
    fn another_partition_is_unknown() {
        let mut world = World::new(1);
        for asked in [request("t", 0), request("__cluster_metadata", 1)] {
            let response = world.ask::<DescribeQuorumRequest>(2, &asked);
            assert_eq!((response.error_code, response.topics[0].partitions[0].error_code), (0, 3));
        }
        assert!(world.calls.is_empty());
    }
}
