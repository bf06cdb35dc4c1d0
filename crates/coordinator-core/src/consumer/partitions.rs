//! Sets of partitions: what a member is meant to have, and what it has.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{PartitionIndex, TopicId, TopicPartition};
use peer_api::groups::AssignedTopic;

pub type Partitions = BTreeSet<TopicPartition>;

/// Partitions with the epoch in which each was given to its owner (KIP-1251): a commit of an older epoch comes from somebody
/// who had the partition before.
pub type Owned = BTreeMap<TopicPartition, i32>;

pub fn from_topics(topics: &[AssignedTopic]) -> Partitions {
    topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|&partition| TopicPartition { topic: topic.topic_id, partition }))
        .collect()
}

/// In order of topic id and index.
pub fn to_topics<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Vec<AssignedTopic> {
    by_topic(partitions).into_iter().map(|(topic_id, partitions)| AssignedTopic { topic_id, partitions }).collect()
}

pub fn by_topic<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> BTreeMap<TopicId, Vec<PartitionIndex>> {
    let mut topics: BTreeMap<TopicId, Vec<PartitionIndex>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic).or_default().push(partition.partition);
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_grouped_by_topic_and_back() {
        let topics = vec![
            AssignedTopic { topic_id: TopicId([1; 16]), partitions: vec![PartitionIndex(0), PartitionIndex(3)] },
            AssignedTopic { topic_id: TopicId([2; 16]), partitions: vec![PartitionIndex(1)] },
        ];
        let partitions = from_topics(&topics);
        assert_eq!(partitions.len(), 3);
        assert_eq!(to_topics(&partitions), topics);
    }
}
