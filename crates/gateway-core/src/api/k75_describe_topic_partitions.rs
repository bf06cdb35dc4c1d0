//! DescribeTopicPartitions (75): metadata of topics page by page, with eligible leader replicas (KIP-966).
//!
//! Version 0.
//!
//! Topics come in order of name. A page holds at most as many partitions as asked for, and never more than 2000; a cursor says
//! where the next begins. Deviation from Kafka: none known.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use base_types::{BrokerId, ErrorCode};
use kafka_wire::k75_describe_topic_partitions::{
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, ResponseCursor,
};
use kafka_wire::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, KafkaString, Uuid};
use peer_api::metadata::{PartitionState, Topic};

use crate::api::k03_metadata::{TOPIC_OPERATIONS, ids, is_valid_name, offline};
use crate::operation::{Begun, Context};
use crate::route;

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=0;

/// `max.request.partition.size.limit`
const PARTITIONS_MAX: usize = 2000;

pub(crate) fn begin(cx: &mut Context<'_>, request: DescribeTopicPartitionsRequest) -> Begun {
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).min(PARTITIONS_MAX);
    let first = request.cursor.as_ref().map(|cursor| (&cursor.topic_name, usize::try_from(cursor.partition_index)));
    let asked: BTreeSet<KafkaString> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    if limit == 0 || matches!(first, Some((_, Err(_)))) {
        let topics = asked.iter().map(|name| refused(cx, name, ErrorCode::InvalidRequest)).collect();
        return Begun::Answered(cx.respond(&DescribeTopicPartitionsResponse { topics, ..Default::default() }));
    }
    let names: Vec<KafkaString> = if asked.is_empty() {
        cx.image.topics_by_name().map(|topic| KafkaString::from(&topic.name)).collect()
    } else {
        asked.into_iter().collect()
    };
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut left = limit;
    let image = cx.image;
    for name in names {
        let from = match first {
            Some((topic, _)) if name < *topic => continue,
            Some((topic, Ok(index))) if name == *topic => index,
            _ => 0,
        };
        let Some(topic) = image.topic_named(&name) else {
            let code = if is_valid_name(&name) {
                ErrorCode::UnknownTopicOrPartition
            } else {
                ErrorCode::InvalidTopicException
            };
            response.topics.push(refused(cx, &name, code));
            continue;
        };
        if left == 0 {
            response.next_cursor = Some(ResponseCursor { topic_name: name, partition_index: 0 });
            break;
        }
        let until = from.saturating_add(left).min(topic.partitions.len());
        response.topics.push(describe(cx, topic, from, until));
        left -= until.saturating_sub(from);
        if until < topic.partitions.len() {
            response.next_cursor = Some(ResponseCursor { topic_name: name, partition_index: until as i32 });
            break;
        }
    }
    Begun::Answered(cx.respond(&response))
}

fn refused(cx: &mut Context<'_>, name: &KafkaString, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: cx.code(code),
        name: Some(name.clone()),
        topic_authorized_operations: i32::MIN,
        ..Default::default()
    }
}

fn describe(cx: &mut Context<'_>, topic: &Topic, from: usize, until: usize) -> DescribeTopicPartitionsResponseTopic {
    let page = topic.partitions.iter().enumerate().take(until).skip(from);
    DescribeTopicPartitionsResponseTopic {
        error_code: 0,
        name: Some((&topic.name).into()),
        topic_id: Uuid(topic.id.0),
        is_internal: route::is_internal(&topic.name),
        partitions: page.map(|(index, state)| partition(cx, index as i32, state)).collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
    }
}

fn partition(
    cx: &mut Context<'_>,
    partition_index: i32,
    state: &PartitionState,
) -> DescribeTopicPartitionsResponsePartition {
    let code = if state.leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable };
    DescribeTopicPartitionsResponsePartition {
        error_code: cx.code(code),
        partition_index,
        leader_id: state.leader.unwrap_or(BrokerId::NONE).0,
        leader_epoch: state.leader_epoch.0,
        replica_nodes: ids(&state.replicas),
        isr_nodes: ids(&state.isr),
        eligible_leader_replicas: Some(ids(&state.elr)),
        last_known_elr: Some(ids(&state.last_known_elr)),
        offline_replicas: offline(cx.image, state),
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::k75_describe_topic_partitions::{RequestCursor, TopicRequest};

    use super::*;
    use crate::testing::World;

    fn request(names: &[&str], limit: i32, cursor: Option<(&str, i32)>) -> DescribeTopicPartitionsRequest {
        DescribeTopicPartitionsRequest {
            topics: names.iter().map(|name| TopicRequest { name: (*name).into() }).collect(),
            response_partition_limit: limit,
            cursor: cursor.map(|(name, partition_index)| RequestCursor { topic_name: name.into(), partition_index }),
        }
    }

    type Page = (Vec<(String, i16, Vec<i32>)>, Option<(String, i32)>);

    fn page(world: &mut World, request: &DescribeTopicPartitionsRequest) -> Page {
        let response = world.ask::<DescribeTopicPartitionsRequest>(0, request);
        let topics = response
            .topics
            .iter()
            .map(|topic| {
                let indexes = topic.partitions.iter().map(|partition| partition.partition_index).collect();
                (topic.name.as_ref().unwrap().to_string(), topic.error_code, indexes)
            })
            .collect();
        (topics, response.next_cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index)))
    }

    #[test]
    fn pages_follow_each_other_by_cursor_in_order_of_name() {
        let mut world = World::new(1);
        world.topic("b", &[1, 1, 1]);
        world.topic("a", &[1, 1]);
        let topic = |name: &str, indexes: &[i32]| (name.to_owned(), 0, indexes.to_vec());
        let first = page(&mut world, &request(&[], 3, None));
        assert_eq!(first, (vec![topic("a", &[0, 1]), topic("b", &[0])], Some(("b".to_owned(), 1))));
        let second = page(&mut world, &request(&[], 3, Some(("b", 1))));
        assert_eq!(second, (vec![topic("b", &[1, 2])], None));
        let exact = page(&mut world, &request(&[], 2, None));
        assert_eq!(exact, (vec![topic("a", &[0, 1])], Some(("b".to_owned(), 0))));
    }

    #[test]
    fn named_topics_are_told_with_their_errors() {
        let mut world = World::new(1);
        world.topic("t", &[1]);
        let (topics, _) = page(&mut world, &request(&["x", "t", "a b"], 10, None));
        let told: Vec<_> = topics.iter().map(|(name, code, _)| (name.as_str(), *code)).collect();
        assert_eq!(told, [("a b", 17), ("t", 0), ("x", 3)]);
        let (topics, _) = page(&mut world, &request(&["t"], 0, None));
        assert_eq!(topics[0].1, 42);
        let (topics, _) = page(&mut world, &request(&["t"], 1, Some(("t", -1))));
        assert_eq!(topics[0].1, 42);
    }
}
