//! ListPartitionReassignments (46): which partitions are being moved, and from where to where (KIP-455).
//!
//! Version 0, flexible.
//!
//! Partitions that are not being moved, and those that do not exist, are left out. Deviation from Kafka: topics come in order of
//! name when all are asked for.

use std::ops::RangeInclusive;

use base_types::PartitionIndex;
use kafka_wire::k46_list_partition_reassignments::{
    ListPartitionReassignmentsTopics, OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_wire::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};
use peer_api::metadata::Topic;

use crate::api::k03_metadata::ids;
use crate::operation::{Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=0;

pub(crate) fn begin(cx: &mut Context<'_>, request: ListPartitionReassignmentsRequest) -> Begun {
    let topics: Vec<OngoingTopicReassignment> = match request.topics {
        None => {
            let all = cx.image.topics_by_name();
            all.filter_map(|topic| ongoing(topic, &(0..topic.partitions.len() as i32).collect::<Vec<_>>())).collect()
        }
        Some(asked) => {
            let named = |asked: ListPartitionReassignmentsTopics| {
                ongoing(cx.image.topic_named(&asked.name)?, &asked.partition_indexes)
            };
            asked.into_iter().filter_map(named).collect()
        }
    };
    Begun::Answered(cx.respond(&ListPartitionReassignmentsResponse { topics, ..Default::default() }))
}

fn ongoing(topic: &Topic, indexes: &[i32]) -> Option<OngoingTopicReassignment> {
    let partition = |&partition_index: &i32| {
        let state = topic.partition(PartitionIndex(partition_index)).filter(|state| state.is_moving())?;
        Some(OngoingPartitionReassignment {
            partition_index,
            replicas: ids(&state.replicas),
            adding_replicas: ids(&state.adding),
            removing_replicas: ids(&state.removing),
        })
    };
    let partitions: Vec<OngoingPartitionReassignment> = indexes.iter().filter_map(partition).collect();
    (!partitions.is_empty()).then(|| OngoingTopicReassignment { name: (&topic.name).into(), partitions })
}

#[cfg(test)]
mod tests {
    use base_types::{BrokerId, LeaderEpoch, PartitionEpoch, TopicPartition};
    use peer_api::metadata::{PartitionState, Record};

    use super::*;
    use crate::testing::World;

    #[test]
    fn only_what_is_being_moved_is_told() {
        let mut world = World::new(3);
        let topic = world.topic("moving", &[1, 1]);
        world.topic("still", &[2]);
        let state = PartitionState {
            replicas: [3, 2, 1].map(BrokerId).to_vec(),
            isr: [1, 2].map(BrokerId).to_vec(),
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(5),
            partition_epoch: PartitionEpoch(1_000),
            adding: vec![BrokerId(3)],
            removing: vec![BrokerId(1)],
            ..PartitionState::default()
        };
        let partition = TopicPartition { topic, partition: PartitionIndex(1) };
        world.change(vec![Record::PartitionChanged { partition, state }]);
        let named = |name: &str, indexes: &[i32]| ListPartitionReassignmentsTopics {
            name: name.into(),
            partition_indexes: indexes.to_vec(),
        };
        let asks = [
            (None, 1),
            (Some(vec![named("still", &[0]), named("none", &[0]), named("moving", &[7, 1, -1])]), 1),
            (Some(vec![named("moving", &[0])]), 0),
        ];
        for (topics, found) in asks {
            let request = ListPartitionReassignmentsRequest { timeout_ms: 1000, topics };
            let response = world.ask::<ListPartitionReassignmentsRequest>(0, &request);
            assert_eq!(response.topics.len(), found, "{request:?}");
            for topic in response.topics {
                let [told] = &topic.partitions[..] else { panic!("{topic:?}") };
                assert_eq!((&*topic.name, told.partition_index), ("moving", 1));
                let lists = (&told.replicas[..], &told.adding_replicas[..], &told.removing_replicas[..]);
                assert_eq!(lists, (&[3, 2, 1][..], &[3][..], &[1][..]));
            }
        }
    }
}
