//! ConsumerGroupHeartbeat (68): everything a member of a group of the new protocol says and hears (KIP-848).
//!
//! Versions 0–1. v1: regular expressions are resolved by the server (trap 52), and members make their own ids (KIP-1082).
//!
//! Refused with `UNSUPPORTED_VERSION` while the cluster's `group.version` is 0.

use std::ops::RangeInclusive;

use base_types::{ErrorCode, PartitionIndex, TopicId};
use kafka_wire::k68_consumer_group_heartbeat::{Assignment, RequestTopicPartitions, ResponseTopicPartitions};
use kafka_wire::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, KafkaString, Uuid};
use peer_api::groups::{AssignedTopic, ConsumerGroupHeartbeat, GroupRequest, GroupResponse, Refused};

use crate::api::coordination::{self, Told};
use crate::limits::COORDINATOR_ANSWER_MS;
use crate::operation::{Answer, Begun, Context};
use crate::route;

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=1;

pub(crate) fn begin(cx: &mut Context<'_>, request: ConsumerGroupHeartbeatRequest) -> Begun {
    if !route::serves_consumer_groups(cx.image) {
        return Begun::Answered(refuse(cx, ErrorCode::UnsupportedVersion, None));
    }
    let text = |text: Option<KafkaString>| text.map(|text| text.to_string());
    let heartbeat = ConsumerGroupHeartbeat {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        member_epoch: request.member_epoch,
        instance_id: text(request.instance_id),
        rack_id: text(request.rack_id),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        subscribed_topic_names: request
            .subscribed_topic_names
            .map(|names| names.iter().map(ToString::to_string).collect()),
        subscribed_topic_regex: text(request.subscribed_topic_regex),
        server_assignor: text(request.server_assignor),
        topic_partitions: request.topic_partitions.map(|topics| topics.into_iter().map(owned).collect()),
        requires_member_id: cx.version() >= 1,
    };
    coordination::ask(
        cx,
        &request.group_id,
        GroupRequest::ConsumerGroupHeartbeat(heartbeat),
        COORDINATOR_ANSWER_MS,
        answer,
    )
}

fn owned(topic: RequestTopicPartitions) -> AssignedTopic {
    let partitions = topic.partitions.into_iter().map(PartitionIndex).collect();
    AssignedTopic { topic_id: TopicId(topic.topic_id.0), partitions }
}

fn answer(cx: &mut Context<'_>, told: Told) -> Answer {
    match told {
        Ok(GroupResponse::ConsumerGroupHeartbeat(Ok(answer))) => cx.respond(&ConsumerGroupHeartbeatResponse {
            error_message: None,
            member_id: answer.member_id.map(Into::into),
            member_epoch: answer.member_epoch,
            heartbeat_interval_ms: answer.heartbeat_interval_ms,
            assignment: answer
                .assignment
                .map(|topics| Assignment { topic_partitions: topics.into_iter().map(assigned).collect() }),
            ..Default::default()
        }),
        Ok(GroupResponse::ConsumerGroupHeartbeat(Err(Refused { error, message }))) => refuse(cx, error, message),
        Ok(_) => refuse(cx, ErrorCode::UnknownServerError, None),
        Err(code) => refuse(cx, code, None),
    }
}

fn assigned(topic: AssignedTopic) -> ResponseTopicPartitions {
    let partitions = topic.partitions.into_iter().map(|index| index.0).collect();
    ResponseTopicPartitions { topic_id: Uuid(topic.topic_id.0), partitions }
}

fn refuse(cx: &mut Context<'_>, code: ErrorCode, message: Option<String>) -> Answer {
    let response = ConsumerGroupHeartbeatResponse {
        error_code: cx.code(code),
        error_message: message.map(Into::into),
        member_id: None,
        assignment: None,
        ..Default::default()
    };
    cx.respond(&response)
}

#[cfg(test)]
mod tests {
    use peer_api::groups::{ConsumerGroupHeartbeatAnswer, CoordinatorError};
    use peer_api::metadata::Record;

    use super::*;
    use crate::testing::World;

    fn request(version: i16) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: "m".into(),
            member_epoch: 2,
            instance_id: Some("i".into()),
            rack_id: Some("r".into()),
            rebalance_timeout_ms: 1_000,
            subscribed_topic_names: Some(vec!["t".into()]),
            subscribed_topic_regex: (version >= 1).then(|| "t.*".into()),
            server_assignor: Some("uniform".into()),
            topic_partitions: Some(vec![RequestTopicPartitions { topic_id: Uuid([4; 16]), partitions: vec![2, 0] }]),
        }
    }

    /// Trap 52: the expression goes to the coordinator as it is.
    #[test]
    fn every_version_says_and_hears_everything() {
        for version in SUPPORTED {
            let mut world = World::with_groups(1);
            let told = |assignment| {
                Ok(GroupResponse::ConsumerGroupHeartbeat(Ok(ConsumerGroupHeartbeatAnswer {
                    member_id: Some("m".into()),
                    member_epoch: 3,
                    heartbeat_interval_ms: 5_000,
                    assignment,
                })))
            };
            let partitions = vec![PartitionIndex(2), PartitionIndex(0)];
            let topics = vec![AssignedTopic { topic_id: TopicId([4; 16]), partitions }];
            let (asked, response) = world.coordinate(version, &request(version), told(Some(topics.clone())));
            let expected = ConsumerGroupHeartbeat {
                group_id: "g".into(),
                member_id: "m".into(),
                member_epoch: 2,
                instance_id: Some("i".into()),
                rack_id: Some("r".into()),
                rebalance_timeout_ms: 1_000,
                subscribed_topic_names: Some(vec!["t".into()]),
                subscribed_topic_regex: (version >= 1).then(|| "t.*".into()),
                server_assignor: Some("uniform".into()),
                topic_partitions: Some(topics),
                requires_member_id: version >= 1,
            };
            assert_eq!(asked, GroupRequest::ConsumerGroupHeartbeat(expected));
            assert_eq!((response.error_code, response.member_epoch, response.heartbeat_interval_ms), (0, 3, 5_000));
            assert_eq!(response.member_id.as_deref(), Some("m"));
            assert_eq!(response.assignment.unwrap().topic_partitions[0].partitions, [2, 0]);
            // "As before" and "nothing" are not the same.
            assert_eq!(world.coordinate(version, &request(version), told(None)).1.assignment, None);
            let nothing = world.coordinate(version, &request(version), told(Some(Vec::new()))).1.assignment;
            assert_eq!(nothing, Some(Assignment::default()));
        }
    }

    #[test]
    fn a_refusal_comes_with_words() {
        let mut world = World::with_groups(1);
        let refused = Refused { error: ErrorCode::FencedMemberEpoch, message: Some("old".into()) };
        let refused = Ok(GroupResponse::ConsumerGroupHeartbeat(Err(refused)));
        let (_, response) = world.coordinate(1, &request(1), refused);
        assert_eq!((response.error_code, response.error_message.as_deref()), (110, Some("old")));
        assert_eq!((response.member_id, response.assignment), (None, None));
        let (_, response) = world.coordinate(1, &request(1), Err(CoordinatorError::Lost));
        assert_eq!((response.error_code, response.error_message), (16, None));
    }

    #[test]
    fn a_cluster_that_has_not_agreed_on_it_does_not_serve_it() {
        let mut world = World::with_groups(1);
        world.change(vec![Record::FeatureChanged { name: "group.version".into(), level: 0 }]);
        assert_eq!(world.ask::<ConsumerGroupHeartbeatRequest>(1, &request(1)).error_code, 35);
    }
}
