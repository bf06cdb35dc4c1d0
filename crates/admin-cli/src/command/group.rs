//! `thalweg group`.

pub mod offsets;
mod reset;

use std::collections::BTreeMap;
use std::time::Duration;

use base_types::ErrorCode;
use bytes::Buf;
use kafka_wire::k47_offset_delete::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_wire::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, KafkaString, ListGroupsRequest,
    OffsetDeleteRequest,
};
use serde_json::{Value, json};

use crate::cli::{GroupCommand, Partitions, Target};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Table;

use offsets::{committed, ends, expanded};

pub fn run(command: GroupCommand) -> Result<(), Failure> {
    match command {
        GroupCommand::Ls { target } => list(&target),
        GroupCommand::Describe { name, members, watch, target } => loop {
            describe(&name, members, &target)?;
            match watch {
                None => return Ok(()),
                Some(seconds) => std::thread::sleep(Duration::from_secs(seconds.max(1))),
            }
        },
        GroupCommand::Reset(options) => reset::run(&options),
        GroupCommand::Delete { name, dry_run, target } => delete(&name, dry_run, &target),
        GroupCommand::DeleteOffsets { name, topic, dry_run, target } => delete_offsets(&name, &topic, dry_run, &target),
    }
}

/// Each broker knows the groups that it coordinates.
fn list(target: &Target) -> Result<(), Failure> {
    let mut client = Client::connect(&target.bootstrap)?;
    let metadata = client.metadata(Some(&[]), false)?;
    let mut groups = BTreeMap::new();
    for broker in &metadata.brokers {
        let request = ListGroupsRequest::default();
        let response = client.call_broker(&metadata, broker.node_id, 5, &request)?;
        Failure::check("listing groups", response.error_code, None)?;
        groups.extend(response.groups.into_iter().map(|group| (group.group_id.clone(), group)));
    }
    let mut table = Table::new(&["group", "state", "type", "protocol_type"]);
    for group in groups.values() {
        table.row(vec![
            json!(group.group_id.as_str()),
            json!(group.group_state.as_str()),
            json!(group.group_type.as_str()),
            json!(group.protocol_type.as_str()),
        ]);
    }
    table.print(target.output);
    Ok(())
}

/// A group as its coordinator tells it, whichever protocol it speaks.
pub struct Group {
    pub state: String,
    protocol: String,
    pub members: Vec<Member>,
}

pub struct Member {
    id: String,
    client: String,
    host: String,
    assigned: Vec<(String, Vec<i32>)>,
}

impl Group {
    pub fn find(client: &mut Client, name: &str) -> Result<Group, Failure> {
        let ask = ConsumerGroupDescribeRequest { group_ids: vec![KafkaString::from(name)], ..Default::default() };
        let answer =
            client.call_coordinator(name, 0, &ask, |answer| answer.groups.first().map_or(0, |g| g.error_code))?;
        if let Some(group) = answer.groups.into_iter().next().filter(|group| group.error_code == 0) {
            let member = |member: kafka_wire::k69_consumer_group_describe::Member| Member {
                id: member.member_id.to_string(),
                client: member.client_id.to_string(),
                host: member.client_host.to_string(),
                assigned: member
                    .assignment
                    .topic_partitions
                    .into_iter()
                    .map(|topic| (topic.topic_name.to_string(), topic.partitions))
                    .collect(),
            };
            let protocol = format!("consumer ({})", group.assignor_name.as_str());
            let members = group.members.into_iter().map(member).collect();
            return Ok(Group { state: group.group_state.to_string(), protocol, members });
        }
        // Not of the new protocol.
        let ask = DescribeGroupsRequest { groups: vec![KafkaString::from(name)], ..Default::default() };
        let answer =
            client.call_coordinator(name, 5, &ask, |answer| answer.groups.first().map_or(0, |g| g.error_code))?;
        let group = answer.groups.into_iter().next();
        let group = group.ok_or_else(|| Failure::Failed(format!("the cluster said nothing of group {name}")))?;
        Failure::check(&format!("group {name}"), group.error_code, group.error_message.as_deref())?;
        if group.group_state == "Dead" {
            return Err(Failure::Failed(format!("there is no group {name}")));
        }
        let member = |member: kafka_wire::k15_describe_groups::DescribedGroupMember| Member {
            id: member.member_id.to_string(),
            client: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assigned: assigned(&member.member_assignment).unwrap_or_default(),
        };
        let protocol = format!("{} ({})", group.protocol_type.as_str(), group.protocol_data.as_str());
        Ok(Group {
            state: group.group_state.to_string(),
            protocol,
            members: group.members.into_iter().map(member).collect(),
        })
    }

    fn reader_of(&self, topic: &str, partition: i32) -> Option<&Member> {
        let reads = |(name, partitions): &(String, Vec<i32>)| name == topic && partitions.contains(&partition);
        self.members.iter().find(|member| member.assigned.iter().any(reads))
    }
}

/// An assignment as consumers write it for each other: a version, topics with their partitions, and what else they like.
fn assigned(mut bytes: &[u8]) -> Option<Vec<(String, Vec<i32>)>> {
    let version = bytes.try_get_i16().ok()?;
    if version < 0 {
        return None;
    }
    let topics = bytes.try_get_i32().ok()?;
    let mut assigned = Vec::new();
    for _ in 0..topics {
        let size = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        let (name, rest) = bytes.split_at_checked(size)?;
        bytes = rest;
        let count = bytes.try_get_i32().ok()?;
        let mut partitions = Vec::new();
        for _ in 0..count {
            partitions.push(bytes.try_get_i32().ok()?);
        }
        assigned.push((String::from_utf8_lossy(name).into_owned(), partitions));
    }
    Some(assigned)
}

fn describe(name: &str, members: bool, target: &Target) -> Result<(), Failure> {
    let mut client = Client::connect(&target.bootstrap)?;
    let group = Group::find(&mut client, name)?;
    if members {
        let mut table = Table::new(&["member", "client", "host", "partitions"]);
        for member in &group.members {
            let partitions =
                member.assigned.iter().flat_map(|(topic, list)| list.iter().map(move |p| format!("{topic}-{p}")));
            table.row(vec![
                json!(member.id),
                json!(member.client),
                json!(member.host),
                json!(partitions.collect::<Vec<_>>()),
            ]);
        }
        table.print(target.output);
        return Ok(());
    }
    let mut offsets: BTreeMap<(String, i32), Option<i64>> =
        committed(&mut client, name)?.into_iter().map(|(place, offset)| (place, Some(offset))).collect();
    // What is read and was never committed is shown as well.
    for (topic, partitions) in group.members.iter().flat_map(|member| &member.assigned) {
        for partition in partitions {
            offsets.entry((topic.clone(), *partition)).or_default();
        }
    }
    let ends = ends(&mut client, offsets.keys(), super::topic::LATEST)?;
    let mut table = Table::new(&["topic", "partition", "committed", "end", "lag", "member", "client", "host"]);
    let mut total = 0;
    for ((topic, partition), offset) in &offsets {
        let end = ends.get(&(topic.clone(), *partition)).copied();
        let lag = offset.zip(end).map(|(offset, end)| (end - offset).max(0));
        total += lag.unwrap_or(0);
        let reader = group.reader_of(topic, *partition);
        let of_reader = |what: fn(&Member) -> &str| reader.map_or(Value::Null, |reader| json!(what(reader)));
        table.row(vec![
            json!(topic),
            json!(partition),
            json!(offset),
            json!(end),
            json!(lag),
            of_reader(|member| &member.id),
            of_reader(|member| &member.client),
            of_reader(|member| &member.host),
        ]);
    }
    table.print(target.output);
    let count = group.members.len();
    eprintln!("group {name}: {}, {}, {count} members, {total} records behind", group.state, group.protocol);
    Ok(())
}

fn delete(name: &str, dry_run: bool, target: &Target) -> Result<(), Failure> {
    let mut client = Client::connect(&target.bootstrap)?;
    if dry_run {
        let group = Group::find(&mut client, name)?;
        must_be_empty(name, &group)?;
        return print_offsets(&mut client, name, |_, _| true, target);
    }
    let request = DeleteGroupsRequest { groups_names: vec![KafkaString::from(name)] };
    let code = |answer: &kafka_wire::DeleteGroupsResponse| answer.results.first().map_or(0, |result| result.error_code);
    let code = code(&client.call_coordinator(name, 2, &request, code)?);
    if code == ErrorCode::NonEmptyGroup.code() {
        must_be_empty(name, &Group::find(&mut client, name)?)?;
    }
    Failure::check(&format!("deleting group {name}"), code, None)
}

/// Only its members may change what a group does.
pub fn must_be_empty(name: &str, group: &Group) -> Result<(), Failure> {
    if group.members.is_empty() {
        return Ok(());
    }
    let clients: Vec<&str> = group.members.iter().map(|member| member.client.as_str()).collect();
    let text = format!("group {name} is {} and has members: stop them first ({})", group.state, clients.join(", "));
    Err(Failure::Failed(text))
}

fn print_offsets(
    client: &mut Client,
    name: &str,
    shown: impl Fn(&str, i32) -> bool,
    target: &Target,
) -> Result<(), Failure> {
    let mut table = Table::new(&["topic", "partition", "committed"]);
    for ((topic, partition), offset) in committed(client, name)? {
        if shown(&topic, partition) {
            table.row(vec![json!(topic), json!(partition), json!(offset)]);
        }
    }
    table.print(target.output);
    Ok(())
}

fn delete_offsets(name: &str, topics: &[Partitions], dry_run: bool, target: &Target) -> Result<(), Failure> {
    let mut client = Client::connect(&target.bootstrap)?;
    let places = expanded(&mut client, topics)?;
    if dry_run {
        let asked = |topic: &str, partition: i32| places.contains(&(topic.to_owned(), partition));
        return print_offsets(&mut client, name, asked, target);
    }
    let mut by_topic: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
    for (topic, partition_index) in &places {
        let partition = OffsetDeleteRequestPartition { partition_index: *partition_index };
        by_topic.entry(topic).or_default().push(partition);
    }
    let topic =
        |(name, partitions): (&str, Vec<_>)| OffsetDeleteRequestTopic { name: KafkaString::from(name), partitions };
    let request =
        OffsetDeleteRequest { group_id: KafkaString::from(name), topics: by_topic.into_iter().map(topic).collect() };
    let answer = client.call_coordinator(name, 0, &request, |answer| answer.error_code)?;
    Failure::check(&format!("group {name}"), answer.error_code, None)?;
    for topic in &answer.topics {
        for partition in &topic.partitions {
            let what = format!("deleting the offset of {}-{}", topic.name.as_str(), partition.partition_index);
            Failure::check(&what, partition.error_code, None)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::assigned;

    #[test]
    fn assignments_are_read_and_what_is_cut_short_is_not() {
        let bytes = [0, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(assigned(&bytes), Some(vec![("t".to_owned(), vec![0, 3])]));
        assert!((0..21).all(|size| assigned(&bytes[..size]).is_none()));
        assert_eq!(assigned(&[]), None);
    }
}
