//! Where groups and partitions stand.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::k08_offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::k09_offset_fetch::OffsetFetchRequestGroup;
use kafka_wire::{KafkaString, MetadataResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest};

use crate::cli::Partitions;
use crate::client::Client;
use crate::command::topic::{chosen, offset_of};
use crate::failure::Failure;

pub type Place = (String, i32);

/// What a group has committed, everywhere.
pub fn committed(client: &mut Client, group: &str) -> Result<BTreeMap<Place, i64>, Failure> {
    let ask = OffsetFetchRequestGroup { group_id: KafkaString::from(group), topics: None, ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![ask], ..Default::default() };
    let code = |answer: &kafka_wire::OffsetFetchResponse| answer.groups.first().map_or(0, |group| group.error_code);
    let answer = client.call_coordinator(group, 8, &request, code)?;
    let mut offsets = BTreeMap::new();
    for told in answer.groups {
        Failure::check(&format!("offsets of group {group}"), told.error_code, None)?;
        for topic in told.topics {
            for partition in topic.partitions {
                let place = (topic.name.to_string(), partition.partition_index);
                Failure::check(&format!("the offset of {}-{}", place.0, place.1), partition.error_code, None)?;
                if partition.committed_offset >= 0 {
                    offsets.insert(place, partition.committed_offset);
                }
            }
        }
    }
    Ok(offsets)
}

/// The member that commits. Others may only while the group has none.
pub struct Committer<'a> {
    pub member_id: &'a KafkaString,
    pub epoch: i32,
}

/// Commits these offsets for a group. Refused by the first code that any of them is refused with.
pub fn commit(
    client: &mut Client,
    version: i16,
    group: &str,
    by: Option<Committer<'_>>,
    offsets: &BTreeMap<Place, i64>,
) -> Result<(), Failure> {
    let code = |answer: &OffsetCommitResponse| {
        let mut told = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|told| told.error_code);
        told.find(|code| *code != 0).unwrap_or(0)
    };
    let answer = client.call_coordinator(group, version, &to_commit(group, by, offsets), code)?;
    Failure::check(&format!("committing offsets of group {group}"), code(&answer), None)
}

fn to_commit(group: &str, by: Option<Committer<'_>>, offsets: &BTreeMap<Place, i64>) -> OffsetCommitRequest {
    let mut request = OffsetCommitRequest { group_id: KafkaString::from(group), ..OffsetCommitRequest::default() };
    if let Some(Committer { member_id, epoch }) = by {
        request.member_id = member_id.clone();
        request.generation_id_or_member_epoch = epoch;
    }
    let mut by_topic: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition_index), committed_offset) in offsets {
        by_topic.entry(topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: *partition_index,
            committed_offset: *committed_offset,
            ..OffsetCommitRequestPartition::default()
        });
    }
    let topic = |(name, partitions): (&str, Vec<_>)| OffsetCommitRequestTopic {
        name: KafkaString::from(name),
        partitions,
        ..OffsetCommitRequestTopic::default()
    };
    request.topics = by_topic.into_iter().map(topic).collect();
    request
}

/// The offset at a timestamp, special ones included, of each partition that can be asked for it now.
pub fn ends<'a>(
    client: &mut Client,
    places: impl Iterator<Item = &'a Place>,
    at: i64,
) -> Result<BTreeMap<Place, i64>, Failure> {
    let places: BTreeSet<&Place> = places.collect();
    let mut offsets = BTreeMap::new();
    let mut topic = None;
    for (name, partition) in places {
        if topic.as_ref().is_none_or(|(known, _): &(&String, _)| *known != name) {
            // A topic that was deleted has no end, and its commits are still shown.
            topic = Some((name, client.topic(name).ok()));
        }
        if let Some((_, Some((metadata, topic)))) = &topic
            && let Ok(offset) = offset_of(client, metadata, topic, *partition, at)
        {
            offsets.insert((name.clone(), *partition), offset);
        }
    }
    Ok(offsets)
}

/// Every partition that is meant; they must exist.
pub fn expanded(client: &mut Client, topics: &[Partitions]) -> Result<BTreeSet<Place>, Failure> {
    let mut places = BTreeSet::new();
    for Partitions { topic: name, indexes } in topics {
        let (_, topic): (MetadataResponse, _) = client.topic(name)?;
        let partitions = chosen(&topic, indexes.as_deref().unwrap_or_default())?;
        places.extend(partitions.iter().map(|partition| (name.clone(), partition.partition_index)));
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_committed_by_topic_and_in_the_name_of_who_commits() {
        let place = |topic: &str, partition| (topic.to_owned(), partition);
        let offsets = BTreeMap::from([(place("b", 0), 1), (place("a", 3), 2), (place("b", 2), 3)]);
        let outside = to_commit("g", None, &offsets);
        assert_eq!((outside.member_id.as_str(), outside.generation_id_or_member_epoch), ("", -1));
        let told = |topic: &OffsetCommitRequestTopic| {
            let partitions = topic.partitions.iter().map(|told| (told.partition_index, told.committed_offset));
            (topic.name.to_string(), partitions.collect::<Vec<_>>())
        };
        let by_topic: Vec<_> = outside.topics.iter().map(told).collect();
        assert_eq!(by_topic, [("a".to_owned(), vec![(3, 2)]), ("b".to_owned(), vec![(0, 1), (2, 3)])]);
        let member_id = KafkaString::from("m");
        let inside = to_commit("g", Some(Committer { member_id: &member_id, epoch: 4 }), &offsets);
        assert_eq!((inside.member_id.as_str(), inside.generation_id_or_member_epoch), ("m", 4));
        assert_eq!(inside.topics, outside.topics);
    }
}
