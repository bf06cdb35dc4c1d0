//! What a group looks like from outside.

use peer_api::groups::{ConsumerGroupDescription, ConsumerMemberDescription, DescribedTopic};
use peer_api::metadata::Image;

use super::ConsumerGroup;
use super::partitions::{self, Partitions};
use crate::event::Settings;

impl ConsumerGroup {
    pub fn describe(&self, image: &Image, settings: &Settings) -> ConsumerGroupDescription {
        let nothing = Partitions::new();
        let members = self.members.iter().map(|(member_id, member)| ConsumerMemberDescription {
            member_id: member_id.clone(),
            instance_id: member.description.instance_id.clone(),
            rack_id: member.description.rack_id.clone(),
            member_epoch: member.current.epoch,
            client_id: member.description.client_id.clone(),
            client_host: member.description.client_host.clone(),
            subscribed_topic_names: member.description.subscribed_names.iter().cloned().collect(),
            // Kafka has an empty one where there is none.
            subscribed_topic_regex: Some(member.description.regex().unwrap_or_default().to_owned()),
            // What it has yet to give up is still its own.
            assignment: topics(&member.current.held().collect::<Partitions>(), image),
            target_assignment: topics(self.targets.get(member_id).unwrap_or(&nothing), image),
            is_classic: member.is_classic(),
        });
        ConsumerGroupDescription {
            state: self.state(),
            group_epoch: self.epoch(),
            assignment_epoch: self.assignment_epoch(),
            assignor_name: self.assignor(settings).name().to_owned(),
            members: members.collect(),
        }
    }
}

/// Topics that are gone have no name, and are left out as Kafka leaves them out.
fn topics(partitions: &Partitions, image: &Image) -> Vec<DescribedTopic> {
    partitions::by_topic(partitions)
        .into_iter()
        .filter_map(|(topic_id, partitions)| {
            let topic_name = image.topic(topic_id)?.name.clone();
            Some(DescribedTopic { topic_id, topic_name, partitions })
        })
        .collect()
}
