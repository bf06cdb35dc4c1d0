//! OffsetDelete (47): a group forgets offsets of topics that it does not read any more (KIP-496).
//!
//! Version 0. Topics and partitions that do not exist are answered here; an error of the whole request comes with no topics.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use base_types::{ErrorCode, PartitionIndex};
use kafka_wire::k47_offset_delete::{
    OffsetDeleteRequestTopic, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_wire::{OffsetDeleteRequest, OffsetDeleteResponse};
use peer_api::groups::{GroupRequest, GroupResponse, OffsetDelete, OffsetTopic};

use crate::api::coordination::{self, Told};
use crate::limits::COORDINATOR_ANSWER_MS;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=0;

pub(crate) fn begin(cx: &mut Context<'_>, request: OffsetDeleteRequest) -> Begun {
    let known = request.topics.iter().filter_map(|topic| {
        let known = cx.image.topic_named(&topic.name)?;
        let indexes = topic.partitions.iter().map(|partition| PartitionIndex(partition.partition_index));
        let partitions: Vec<_> = indexes.filter(|index| known.partition(*index).is_some()).collect();
        (!partitions.is_empty()).then(|| OffsetTopic { id: known.id, name: known.name.clone(), partitions })
    });
    let delete = OffsetDelete { group_id: request.group_id.to_string(), topics: known.collect() };
    // A group without a name may have offsets, but nobody deletes them one by one.
    if delete.group_id.is_empty() && !delete.topics.is_empty() {
        return Begun::Answered(refuse(cx, ErrorCode::InvalidGroupId));
    }
    let topics = request.topics;
    coordination::ask(
        cx,
        &request.group_id,
        GroupRequest::OffsetDelete(delete),
        COORDINATOR_ANSWER_MS,
        move |cx, told| answer(cx, topics, told),
    )
}

fn answer(cx: &mut Context<'_>, topics: Vec<OffsetDeleteRequestTopic>, told: Told) -> Answer {
    let deleted = match told {
        Ok(GroupResponse::OffsetDelete(Ok(deleted))) => deleted,
        Ok(GroupResponse::OffsetDelete(Err(code))) | Err(code) => return refuse(cx, code),
        Ok(_) => return refuse(cx, ErrorCode::UnknownServerError),
    };
    let mut verdicts = BTreeMap::new();
    for topic in &deleted {
        verdicts.extend(topic.partitions.iter().map(|gone| ((topic.name.as_str(), gone.partition.0), gone.error)));
    }
    let mut answers = Vec::with_capacity(topics.len());
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let partition_index = partition.partition_index;
            // What was not asked for did not exist.
            let code = verdicts.get(&(topic.name.as_str(), partition_index)).copied();
            let error_code = cx.code(code.unwrap_or(ErrorCode::UnknownTopicOrPartition));
            partitions.push(OffsetDeleteResponsePartition { partition_index, error_code });
        }
        answers.push(OffsetDeleteResponseTopic { name: topic.name, partitions });
    }
    cx.respond(&OffsetDeleteResponse { topics: answers, ..Default::default() })
}

fn refuse(cx: &mut Context<'_>, code: ErrorCode) -> Answer {
    let response = OffsetDeleteResponse { error_code: cx.code(code), ..Default::default() };
    cx.respond(&response)
}

#[cfg(test)]
mod tests {
    use base_types::TopicId;
    use kafka_wire::k47_offset_delete::OffsetDeleteRequestPartition;
    use peer_api::groups::DeletedPartition;

    use super::*;
    use crate::testing::World;

    fn topic(name: &str, indexes: &[i32]) -> OffsetDeleteRequestTopic {
        let partition = |index: &i32| OffsetDeleteRequestPartition { partition_index: *index };
        OffsetDeleteRequestTopic { name: name.into(), partitions: indexes.iter().map(partition).collect() }
    }

    #[test]
    fn what_does_not_exist_is_answered_here() {
        let mut world = World::with_groups(1);
        let id = world.topic("t", &[1, 1]);
        let request =
            OffsetDeleteRequest { group_id: "g".into(), topics: vec![topic("gone", &[0]), topic("t", &[1, 5, 0])] };
        let deleted = |index, error| DeletedPartition { partition: PartitionIndex(index), error };
        let partitions = vec![deleted(1, ErrorCode::None), deleted(0, ErrorCode::GroupSubscribedToTopic)];
        let answer = GroupResponse::OffsetDelete(Ok(vec![OffsetTopic { id, name: "t".into(), partitions }]));
        let (asked, response) = world.coordinate(0, &request, Ok(answer));
        let partitions = vec![PartitionIndex(1), PartitionIndex(0)];
        let topics = vec![OffsetTopic { id, name: "t".into(), partitions }];
        assert_eq!(asked, GroupRequest::OffsetDelete(OffsetDelete { group_id: "g".into(), topics }));
        let told: Vec<_> = response
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|p| (&*topic.name, p.partition_index, p.error_code)))
            .collect();
        assert_eq!((response.error_code, told), (0, vec![("gone", 0, 3), ("t", 1, 0), ("t", 5, 3), ("t", 0, 86)]));
        assert_ne!(id, TopicId::ZERO);
    }

    #[test]
    fn a_group_needs_a_name() {
        let mut world = World::with_groups(1);
        world.topic("t", &[1]);
        let request = OffsetDeleteRequest { group_id: "".into(), topics: vec![topic("t", &[0])] };
        assert_eq!(world.ask::<OffsetDeleteRequest>(0, &request).error_code, 24);
    }

    #[test]
    fn an_error_of_the_whole_comes_alone() {
        let mut world = World::with_groups(1);
        world.topic("t", &[1]);
        let request = OffsetDeleteRequest { group_id: "g".into(), topics: vec![topic("gone", &[0]), topic("t", &[0])] };
        let refused = Ok(GroupResponse::OffsetDelete(Err(ErrorCode::GroupIdNotFound)));
        let (_, response) = world.coordinate(0, &request, refused);
        assert_eq!((response.error_code, response.topics.len()), (69, 0));
    }
}
