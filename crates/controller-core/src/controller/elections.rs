//! Elections on request (KIP-460): back to the preferred replica, or any leader at all. Kafka's rules, codes and texts.

use std::collections::BTreeSet;

use base_types::{ErrorCode, PartitionIndex, TopicPartition};
use peer_api::controller::{ElectionKind, ElectionTopics, Refusal, Response, TopicOutcomes};
use peer_api::metadata::{Image, MetadataOffset, Record};

use super::{Decision, changed_with, flag, refusal};
use crate::partition_change::Change;

/// What one request has decided so far.
#[derive(Default)]
struct Elected {
    records: Vec<Record>,
    partitions: BTreeSet<TopicPartition>,
}

pub fn elect_leaders(image: &Image, kind: ElectionKind, topics: ElectionTopics) -> Decision {
    let mut elected = Elected::default();
    let topics = match topics {
        ElectionTopics::Named(topics) => topics
            .into_iter()
            .map(|(name, partitions)| {
                let elect = |index: i32| (index, elect_leader(image, kind, &name, index, &mut elected));
                let partitions = partitions.into_iter().map(elect).collect();
                TopicOutcomes { name, partitions }
            })
            .collect(),
        ElectionTopics::All => image
            .topics_by_name()
            .map(|topic| {
                let elect = |index: i32| (index, elect_leader(image, kind, &topic.name, index, &mut elected));
                // Those that have the leader they should have are not told.
                let is_news = |(_, result): &(i32, Result<(), Refusal>)| {
                    result.as_ref().err().is_none_or(|refusal| refusal.code != ErrorCode::ElectionNotNeeded)
                };
                let partitions = (0..topic.partitions.len() as i32).map(elect).filter(is_news).collect();
                TopicOutcomes { name: topic.name.clone(), partitions }
            })
            .collect(),
    };
    Decision::after(elected.records, Response::LeadersElected { topics, visible_at: MetadataOffset(0) })
}

fn elect_leader(
    image: &Image,
    kind: ElectionKind,
    name: &str,
    index: i32,
    elected: &mut Elected,
) -> Result<(), Refusal> {
    let unknown = |text: String| refusal(ErrorCode::UnknownTopicOrPartition, text);
    let topic = image.topic_named(name).ok_or_else(|| unknown(format!("No such topic as {name}")))?;
    let partition = TopicPartition { topic: topic.id, partition: PartitionIndex(index) };
    let old =
        topic.partition(partition.partition).ok_or_else(|| unknown(format!("No such partition as {name}-{index}")))?;
    if elected.partitions.contains(&partition) {
        return Ok(()); // Named twice.
    }
    let has_it = match kind {
        ElectionKind::Preferred => old.leader.is_some() && old.leader.as_ref() == old.replicas.first(),
        ElectionKind::Unclean => old.leader.is_some(),
    };
    if has_it {
        let text = "Leader election not needed for topic partition.";
        return Err(refusal(ErrorCode::ElectionNotNeeded, text));
    }
    let unclean = kind == ElectionKind::Unclean || flag(image, name, "unclean.leader.election.enable");
    let prefer_first = kind == ElectionKind::Preferred;
    let change = Change { isr: old.isr.clone(), prefer_first, ..Change::default() };
    let Some(state) = changed_with(image, name, old, &change, unclean) else {
        return Err(match kind {
            ElectionKind::Preferred => {
                refusal(ErrorCode::PreferredLeaderNotAvailable, "The preferred leader was not available.")
            }
            ElectionKind::Unclean => {
                refusal(ErrorCode::EligibleLeadersNotAvailable, "Eligible topic partition leaders are not available.")
            }
        });
    };
    elected.partitions.insert(partition);
    elected.records.push(Record::PartitionChanged { partition, state });
    Ok(())
}
