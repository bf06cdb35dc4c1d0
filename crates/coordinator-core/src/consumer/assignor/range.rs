//! `range`: each topic is cut into one run of partitions for each subscriber, in one order of members for all topics, so that
//! topics with the same number of partitions and the same subscribers are cut alike and can be joined (co-partitioning).
//!
//! As in Apache Kafka 4.3 it is not sticky and knows no racks. Static members come first, in order of their instance ids, so
//! that a restart of one, with a new member id, moves nothing.

use base_types::{PartitionIndex, TopicId, TopicPartition};

use super::{Group, Member, Partitions};

pub fn assign(group: &Group<'_>) -> Vec<Partitions> {
    let mut order: Vec<usize> = (0..group.members.len()).collect();
    order.sort_by_key(|&index| group.members.get(index).map(rank));
    let mut targets = vec![Partitions::new(); group.members.len()];
    for (&topic, shape) in &group.topics {
        let subscribers: Vec<usize> = order.iter().copied().filter(|&index| subscribes(group, index, topic)).collect();
        let mut first = 0;
        for (rank, &member) in subscribers.iter().enumerate() {
            let length =
                shape.partitions / subscribers.len() + usize::from(rank < shape.partitions % subscribers.len());
            if let Some(target) = targets.get_mut(member) {
                target.extend(
                    (first..first + length)
                        .map(|index| TopicPartition { topic, partition: PartitionIndex(index as i32) }),
                );
            }
            first += length;
        }
    }
    targets
}

fn rank<'a>(member: &Member<'a>) -> (bool, &'a str) {
    match member.instance_id {
        Some(instance_id) => (false, instance_id),
        None => (true, member.member_id),
    }
}

fn subscribes(group: &Group<'_>, member: usize, topic: TopicId) -> bool {
    group.members.get(member).is_some_and(|member| member.subscribed.contains(&topic))
}
