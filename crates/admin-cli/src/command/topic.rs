//! `thalweg topic`.

use std::collections::BTreeMap;
use std::fmt;

use kafka_wire::k02_list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::k03_metadata::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_wire::k19_create_topics::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::k20_delete_topics::DeleteTopicState;
use kafka_wire::k21_delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_wire::k37_create_partitions::CreatePartitionsTopic;
use kafka_wire::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, KafkaString,
    ListOffsetsRequest, MetadataResponse,
};
use serde_json::{Value, json};

use super::config;
use crate::cli::{Bound, Resource, Target, TopicCommand};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Table};

const TIMEOUT_MS: i32 = 30_000;
pub const EARLIEST: i64 = -2;
pub const LATEST: i64 = -1;

pub fn run(command: TopicCommand) -> Result<(), Failure> {
    match command {
        TopicCommand::Create { name, partitions, replication_factor, config, target } => {
            create(&name, partitions, replication_factor, &config, &target)
        }
        TopicCommand::Ls { target } => list(&target),
        TopicCommand::Describe { name, target } => describe(&name, &target),
        TopicCommand::Alter { name, config, unset, partitions, target } => {
            alter(&name, &config, &unset, partitions, &target)
        }
        TopicCommand::Delete { name, target } => delete(&name, &target),
        TopicCommand::Trim { name, partition, before, dry_run, target } => {
            trim(&name, &partition, before, dry_run, &target)
        }
        TopicCommand::AddPartitions { name, total, dry_run, target } => {
            add_partitions(&mut Client::connect(&target.bootstrap)?, &name, total, dry_run)
        }
    }
}

fn create(
    name: &str,
    partitions: i32,
    replication_factor: i16,
    configs: &[(String, String)],
    target: &Target,
) -> Result<(), Failure> {
    let config = |(name, value): &(String, String)| CreatableTopicConfig {
        name: KafkaString::from(name.clone()),
        value: Some(KafkaString::from(value.clone())),
    };
    let topic = CreatableTopic {
        name: KafkaString::from(name.to_owned()),
        num_partitions: partitions,
        replication_factor,
        configs: configs.iter().map(config).collect(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, validate_only: false };
    let response = Client::connect(&target.bootstrap)?.call(7, &request)?;
    let mut table = Table::new(&["topic", "id", "partitions", "replication_factor"]);
    for topic in &response.topics {
        let what = format!("creating topic {}", topic.name.as_str());
        Failure::check(&what, topic.error_code, topic.error_message.as_deref())?;
        let id = base_types::TopicId(topic.topic_id.0).to_string();
        table.row(vec![
            json!(topic.name.as_str()),
            json!(id),
            json!(topic.num_partitions),
            json!(topic.replication_factor),
        ]);
    }
    table.print(target.output);
    Ok(())
}

/// Creates those of the topics, with their numbers of partitions, that are not there yet.
pub fn ensure(topics: &[(String, i32)], target: &Target) -> Result<(), Failure> {
    let mut client = Client::connect(&target.bootstrap)?;
    let topic = |(name, partitions): &(String, i32)| CreatableTopic {
        name: KafkaString::from(name.clone()),
        num_partitions: *partitions,
        replication_factor: -1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest {
        topics: topics.iter().map(topic).collect(),
        timeout_ms: TIMEOUT_MS,
        validate_only: false,
    };
    for created in &client.call(7, &request)?.topics {
        let name = created.name.as_str();
        if created.error_code != base_types::ErrorCode::TopicAlreadyExists.code() {
            Failure::check(&format!("creating topic {name}"), created.error_code, created.error_message.as_deref())?;
            continue;
        }
        let found = client.topic(name)?.1.partitions.len();
        let wanted = topics.iter().find(|(topic, _)| topic == name).map_or(-1, |(_, partitions)| *partitions);
        if wanted != -1 && usize::try_from(wanted) != Ok(found) {
            eprintln!(
                "thalweg: topic {name} is there already, with {found} partitions and not {wanted}; it stays as it is"
            );
        }
    }
    Ok(())
}

fn list(target: &Target) -> Result<(), Failure> {
    let metadata = Client::connect(&target.bootstrap)?.metadata(None, false)?;
    let mut table = Table::new(&["topic", "id", "partitions", "replication_factor"]);
    for topic in &metadata.topics {
        let replicas = topic.partitions.first().map_or(0, |partition| partition.replica_nodes.len());
        table.row(vec![
            json!(topic.name.as_deref()),
            json!(base_types::TopicId(topic.topic_id.0).to_string()),
            json!(topic.partitions.len()),
            json!(replicas),
        ]);
    }
    table.print(target.output);
    Ok(())
}

fn describe(name: &str, target: &Target) -> Result<(), Failure> {
    let mut client = Client::connect(&target.bootstrap)?;
    let (metadata, topic) = client.topic(name)?;
    let columns = ["partition", "leader", "leader_epoch", "replicas", "in_sync", "log_start_offset", "high_watermark"];
    let mut table = Table::new(&columns);
    for partition in &topic.partitions {
        let index = partition.partition_index;
        let offset = |client: &mut Client, at| offset_of(client, &metadata, &topic, index, at).ok();
        let (start, end) = (offset(&mut client, EARLIEST), offset(&mut client, LATEST));
        table.row(vec![
            json!(index),
            json!(partition.leader_id),
            json!(partition.leader_epoch),
            json!(partition.replica_nodes),
            json!(partition.isr_nodes),
            json!(start),
            json!(end),
        ]);
    }
    let configs = config::described(&mut client, &Resource::Topic(name.to_owned()))?.into_iter();
    let own = configs.filter(|entry| entry.config_source == config::TOPIC_SOURCE);
    let described = Description {
        topic: name.to_owned(),
        id: base_types::TopicId(topic.topic_id.0).to_string(),
        partitions: table,
        configs: own.map(|entry| (entry.name.to_string(), entry.value.as_deref().map(str::to_owned))).collect(),
    };
    output::print(target.output, &described, || described.to_json());
    Ok(())
}

/// All that `topic describe` tells.
struct Description {
    topic: String,
    id: String,
    partitions: Table,
    /// Those that are set on the topic itself.
    configs: BTreeMap<String, Option<String>>,
}

impl Description {
    fn to_json(&self) -> Value {
        json!({
            "topic": self.topic,
            "id": self.id,
            "partitions": self.partitions.to_json(),
            "configs": self.configs,
        })
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.partitions)?;
        let first = self.configs.keys().next();
        for (name, value) in &self.configs {
            let gap = if Some(name) == first { "\n" } else { "" };
            writeln!(f, "{gap}{name}={}", value.as_deref().unwrap_or(""))?;
        }
        Ok(())
    }
}

/// The offset at a timestamp, special ones included, from the partition's leader; −1 where nothing is that young.
pub fn offset_of(
    client: &mut Client,
    metadata: &MetadataResponse,
    topic: &MetadataResponseTopic,
    partition: i32,
    at: i64,
) -> Result<i64, Failure> {
    let what = format!("offsets of partition {partition}");
    let known = topic.partitions.iter().find(|known| known.partition_index == partition);
    let leader = known.ok_or_else(|| Failure::Usage(format!("the topic has no partition {partition}")))?.leader_id;
    let ask = ListOffsetsPartition { partition_index: partition, timestamp: at, ..ListOffsetsPartition::default() };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic { name: topic.name.clone().unwrap_or_default(), partitions: vec![ask] }],
        ..ListOffsetsRequest::default()
    };
    let response = client.call_broker(metadata, leader, 7, &request)?;
    let answer = response.topics.first().and_then(|topic| topic.partitions.first());
    let answer = answer.ok_or_else(|| Failure::Failed(format!("{what}: no answer")))?;
    Failure::check(&what, answer.error_code, None)?;
    Ok(answer.offset)
}

fn alter(
    name: &str,
    configs: &[(String, String)],
    unset: &[String],
    partitions: Option<i32>,
    target: &Target,
) -> Result<(), Failure> {
    if configs.is_empty() && unset.is_empty() && partitions.is_none() {
        return Err(Failure::Usage("nothing to alter: give --config, --unset or --partitions".to_owned()));
    }
    let mut client = Client::connect(&target.bootstrap)?;
    if let Some(total) = partitions {
        add_partitions(&mut client, name, total, false)?;
    }
    let changes = config::changes(configs, unset);
    if changes.is_empty() {
        return Ok(());
    }
    config::change(&mut client, &Resource::Topic(name.to_owned()), changes, false)
}

fn add_partitions(client: &mut Client, name: &str, total: i32, dry_run: bool) -> Result<(), Failure> {
    let topic = CreatePartitionsTopic { name: KafkaString::from(name), count: total, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, validate_only: dry_run };
    for result in &client.call(3, &request)?.results {
        Failure::check(&format!("topic {name}"), result.error_code, result.error_message.as_deref())?;
    }
    Ok(())
}

/// Deletes the records below the bound, and prints where each partition begins then.
fn trim(name: &str, partitions: &[i32], before: Bound, dry_run: bool, target: &Target) -> Result<(), Failure> {
    let mut client = Client::connect(&target.bootstrap)?;
    let (metadata, topic) = client.topic(name)?;
    let mut table = Table::new(&["partition", "log_start_offset", "new_log_start_offset"]);
    // What is deleted cannot be had back: it is told, whatever becomes of the other partitions.
    let mut failed = Ok(());
    for partition in chosen(&topic, partitions)? {
        let (index, leader) = (partition.partition_index, partition.leader_id);
        let mut trim = || {
            let start = offset_of(&mut client, &metadata, &topic, index, EARLIEST)?;
            let end = offset_of(&mut client, &metadata, &topic, index, LATEST)?;
            let offset = match before {
                Bound::End => end,
                Bound::Offset(offset) => offset,
            };
            if !dry_run {
                return Ok((start, delete_records(&mut client, &metadata, name, leader, index, offset)?));
            }
            let beyond = format!("partition {index}: {offset} is beyond the end, {end}");
            if offset > end { Err(Failure::Failed(beyond)) } else { Ok((start, offset.max(start))) }
        };
        match trim() {
            Ok((start, new_start)) => table.row(vec![json!(index), json!(start), json!(new_start)]),
            Err(failure) => failed = failed.and(Err(failure)),
        }
    }
    table.print(target.output);
    failed
}

fn delete_records(
    client: &mut Client,
    metadata: &MetadataResponse,
    name: &str,
    leader: i32,
    partition: i32,
    offset: i64,
) -> Result<i64, Failure> {
    let partitions = vec![DeleteRecordsPartition { partition_index: partition, offset }];
    let topics = vec![DeleteRecordsTopic { name: KafkaString::from(name), partitions }];
    let request = DeleteRecordsRequest { topics, timeout_ms: TIMEOUT_MS };
    let response = client.call_broker(metadata, leader, 2, &request)?;
    let answer = response.topics.first().and_then(|topic| topic.partitions.first());
    let what = format!("deleting records of partition {partition}");
    let answer = answer.ok_or_else(|| Failure::Failed(format!("{what}: no answer")))?;
    Failure::check(&what, answer.error_code, None)?;
    Ok(answer.low_watermark)
}

/// The partitions that were asked for; all when none was.
pub fn chosen<'a>(
    topic: &'a MetadataResponseTopic,
    asked: &[i32],
) -> Result<Vec<&'a MetadataResponsePartition>, Failure> {
    let count = topic.partitions.len();
    if let Some(index) = asked.iter().find(|index| !usize::try_from(**index).is_ok_and(|index| index < count)) {
        return Err(Failure::Usage(format!("the topic has no partition {index}, only 0 to {}", count - 1)));
    }
    let mut all: Vec<&MetadataResponsePartition> = topic.partitions.iter().collect();
    all.retain(|partition| asked.is_empty() || asked.contains(&partition.partition_index));
    all.sort_by_key(|partition| partition.partition_index);
    Ok(all)
}

fn delete(name: &str, target: &Target) -> Result<(), Failure> {
    let topic = DeleteTopicState { name: Some(KafkaString::from(name.to_owned())), ..DeleteTopicState::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, ..DeleteTopicsRequest::default() };
    for answer in &Client::connect(&target.bootstrap)?.call(6, &request)?.responses {
        Failure::check(&format!("deleting topic {name}"), answer.error_code, answer.error_message.as_deref())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_one_document_and_people_are_told_the_same() {
        let mut partitions = Table::new(&["partition", "leader"]);
        partitions.row(vec![json!(0), json!(2)]);
        let configs = [("cleanup.policy", "compact"), ("retention.ms", "5")];
        let mut described = Description {
            topic: "t".to_owned(),
            id: "AAA".to_owned(),
            partitions,
            configs: configs.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect(),
        };
        let expected = json!({
            "topic": "t",
            "id": "AAA",
            "partitions": [{ "partition": 0, "leader": 2 }],
            "configs": { "cleanup.policy": "compact", "retention.ms": "5" },
        });
        assert_eq!(described.to_json(), expected);
        let table = "PARTITION  LEADER\n0          2\n";
        assert_eq!(described.to_string(), format!("{table}\ncleanup.policy=compact\nretention.ms=5\n"));
        described.configs.clear();
        assert_eq!(described.to_string(), table);
    }
}
