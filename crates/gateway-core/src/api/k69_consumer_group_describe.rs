//! ConsumerGroupDescribe (69): state and members of groups of the new protocol (KIP-848).
//!
//! Versions 0–1. v1: whether a member speaks the classic protocol (KIP-1099).
//!
//! A group that is not there, or is a classic one, is `GROUP_ID_NOT_FOUND`; tools then ask DescribeGroups.

use std::ops::RangeInclusive;

use base_types::ErrorCode;
use kafka_wire::k69_consumer_group_describe::{Assignment, DescribedGroup, Member, TopicPartitions};
use kafka_wire::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, KafkaString, Uuid};
use peer_api::groups::{
    ConsumerGroupDescribe, ConsumerGroupDescription, ConsumerMemberDescription, DescribedTopic, GroupRequest,
    GroupResponse,
};

use crate::api::coordination::{self, Ask, Place, Told};
use crate::api::k15_describe_groups::GROUP_OPERATIONS;
use crate::limits::COORDINATOR_ANSWER_MS;
use crate::operation::{Answer, Begun, Context};
use crate::route;

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=1;

const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

pub(crate) fn begin(cx: &mut Context<'_>, request: ConsumerGroupDescribeRequest) -> Begun {
    if let Some(refused) = coordination::refuse_too_many(request.group_ids.len()) {
        return refused;
    }
    let operations = request.include_authorized_operations;
    if !route::serves_consumer_groups(cx.image) {
        let told = request.group_ids.iter().map(|_| Err(ErrorCode::UnsupportedVersion)).collect();
        return Begun::Answered(answer(cx, request.group_ids, told, operations));
    }
    let asks = request.group_ids.iter().map(|group_id| Ask {
        place: Place::OfGroup(group_id.to_string()),
        request: GroupRequest::ConsumerGroupDescribe(ConsumerGroupDescribe { groups: vec![group_id.to_string()] }),
    });
    coordination::ask_each(cx, asks.collect(), COORDINATOR_ANSWER_MS, move |cx, told| {
        answer(cx, request.group_ids, told, operations)
    })
}

fn answer(cx: &mut Context<'_>, group_ids: Vec<KafkaString>, told: Vec<Told>, operations: bool) -> Answer {
    let mut groups = Vec::with_capacity(group_ids.len());
    for (group_id, told) in group_ids.into_iter().zip(told) {
        let told = if group_id.is_empty() { Err(ErrorCode::InvalidGroupId) } else { told };
        let group = describe(cx, told);
        let authorized_operations = if operations && group.error_code == 0 { GROUP_OPERATIONS } else { i32::MIN };
        groups.push(DescribedGroup { group_id, authorized_operations, ..group });
    }
    cx.respond(&ConsumerGroupDescribeResponse { groups, ..Default::default() })
}

fn describe(cx: &mut Context<'_>, told: Told) -> DescribedGroup {
    let (code, error_message) = match told {
        Ok(GroupResponse::ConsumerGroupDescribe(groups)) => match groups.into_iter().next() {
            Some((_, Ok(group))) => return found(cx.version(), group),
            Some((_, Err(missing))) => (ErrorCode::GroupIdNotFound, Some(missing.message.into())),
            None => (ErrorCode::UnknownServerError, None),
        },
        Ok(_) => (ErrorCode::UnknownServerError, None),
        Err(code) => (code, None),
    };
    DescribedGroup { error_code: cx.code(code), error_message, ..Default::default() }
}

fn found(version: i16, group: ConsumerGroupDescription) -> DescribedGroup {
    DescribedGroup {
        error_message: None,
        group_state: KafkaString::from_static(group.state.name()),
        group_epoch: group.group_epoch,
        assignment_epoch: group.assignment_epoch,
        assignor_name: group.assignor_name.into(),
        members: group.members.into_iter().map(|found| member(version, found)).collect(),
        ..Default::default()
    }
}

fn member(version: i16, member: ConsumerMemberDescription) -> Member {
    let member_type = if member.is_classic { CLASSIC_MEMBER } else { CONSUMER_MEMBER };
    Member {
        member_id: member.member_id.into(),
        instance_id: member.instance_id.map(Into::into),
        rack_id: member.rack_id.map(Into::into),
        member_epoch: member.member_epoch,
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        subscribed_topic_names: member.subscribed_topic_names.into_iter().map(Into::into).collect(),
        subscribed_topic_regex: member.subscribed_topic_regex.map(Into::into),
        assignment: assignment(member.assignment),
        target_assignment: assignment(member.target_assignment),
        member_type: if version >= 1 { member_type } else { -1 },
    }
}

fn assignment(topics: Vec<DescribedTopic>) -> Assignment {
    let topic = |topic: DescribedTopic| TopicPartitions {
        topic_id: Uuid(topic.topic_id.0),
        topic_name: topic.topic_name.into(),
        partitions: topic.partitions.into_iter().map(|index| index.0).collect(),
    };
    Assignment { topic_partitions: topics.into_iter().map(topic).collect() }
}

#[cfg(test)]
mod tests {
    use base_types::{PartitionIndex, TopicId};
    use peer_api::groups::{CoordinatorError, GroupNotFound, GroupState};
    use peer_api::metadata::Record;

    use super::*;
    use crate::testing::World;

    fn group() -> ConsumerGroupDescription {
        let topics = |index| {
            vec![DescribedTopic {
                topic_id: TopicId([4; 16]),
                topic_name: "t".into(),
                partitions: vec![PartitionIndex(index)],
            }]
        };
        let member = |is_classic| ConsumerMemberDescription {
            member_id: "m".into(),
            instance_id: None,
            rack_id: Some("r".into()),
            member_epoch: 5,
            client_id: "c".into(),
            client_host: "/1.2.3.4".into(),
            subscribed_topic_names: vec!["t".into()],
            subscribed_topic_regex: Some("t.*".into()),
            assignment: topics(0),
            target_assignment: topics(1),
            is_classic,
        };
        ConsumerGroupDescription {
            state: GroupState::Reconciling,
            group_epoch: 6,
            assignment_epoch: 5,
            assignor_name: "uniform".into(),
            members: vec![member(false), member(true)],
        }
    }

    fn request(group_ids: &[&str]) -> ConsumerGroupDescribeRequest {
        let group_ids = group_ids.iter().map(|group_id| (*group_id).into()).collect();
        ConsumerGroupDescribeRequest { group_ids, include_authorized_operations: true }
    }

    #[test]
    fn every_version_describes() {
        for version in SUPPORTED {
            let mut world = World::with_groups(1);
            let found = Ok(GroupResponse::ConsumerGroupDescribe(vec![("g".into(), Ok(group()))]));
            let (_, response) = world.coordinate(version, &request(&["g"]), found);
            let told = &response.groups[0];
            assert_eq!((told.error_code, &*told.group_id, &*told.group_state), (0, "g", "Reconciling"));
            assert_eq!((told.group_epoch, told.assignment_epoch, &*told.assignor_name), (6, 5, "uniform"));
            assert_eq!(told.authorized_operations, GROUP_OPERATIONS);
            let member = &told.members[0];
            assert_eq!((&*member.member_id, member.member_epoch, member.rack_id.as_deref()), ("m", 5, Some("r")));
            assert_eq!(member.assignment.topic_partitions[0].partitions, [0]);
            assert_eq!(member.target_assignment.topic_partitions[0].partitions, [1]);
            assert_eq!(&*member.assignment.topic_partitions[0].topic_name, "t");
            assert_eq!(member.subscribed_topic_regex.as_deref(), Some("t.*"));
            let types: Vec<i8> = told.members.iter().map(|member| member.member_type).collect();
            assert_eq!(types, if version >= 1 { [1, 0] } else { [-1, -1] });
        }
    }

    #[test]
    fn each_group_has_its_own_error() {
        let mut world = World::with_groups(1);
        world.send(1, &request(&["", "a", "b"]));
        let questions = [world.next_question(), world.next_question(), world.next_question()];
        let missing = GroupNotFound { message: "no such group".into() };
        let missing = Ok(GroupResponse::ConsumerGroupDescribe(vec![("a".into(), Err(missing))]));
        world.coordinator_answers(questions[0].0, questions[0].1, missing.clone());
        world.coordinator_answers(questions[1].0, questions[1].1, missing);
        world.coordinator_answers(questions[2].0, questions[2].1, Err(CoordinatorError::NotAvailable));
        let (_, response) = world.answer::<ConsumerGroupDescribeRequest>(1);
        let codes: Vec<i16> = response.groups.iter().map(|group| group.error_code).collect();
        assert_eq!(codes, [24, 69, 15]);
        assert_eq!(response.groups[1].error_message.as_deref(), Some("no such group"));
        world.change(vec![Record::FeatureChanged { name: "group.version".into(), level: 0 }]);
        assert_eq!(world.ask::<ConsumerGroupDescribeRequest>(1, &request(&["a"])).groups[0].error_code, 35);
    }
}
