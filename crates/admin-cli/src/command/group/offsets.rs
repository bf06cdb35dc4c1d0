//! Where groups and partitions stand.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::k09_offset_fetch::OffsetFetchRequestGroup;
use kafka_wire::{KafkaString, MetadataResponse, OffsetFetchRequest};

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
