//! `thalweg partitions`.

use std::time::Duration;

use base_types::ErrorCode;
use kafka_wire::k43_elect_leaders::TopicPartitions;
use kafka_wire::k45_alter_partition_reassignments::{ReassignablePartition, ReassignableTopic};
use kafka_wire::{
    AlterPartitionReassignmentsRequest, ElectLeadersRequest, KafkaString, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
};
use serde_json::json;

use super::topic::chosen;
use crate::cli::{PartitionsCommand, Target};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Table;

const TIMEOUT_MS: i32 = 30_000;
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub fn run(command: PartitionsCommand) -> Result<(), Failure> {
    match command {
        PartitionsCommand::Move { topic, partition, to, cancel: _, dry_run, wait, target } => {
            Moves { topic, partitions: partition, to, dry_run, wait }.begin(&target)
        }
        PartitionsCommand::Moves { target } => list(&target),
        PartitionsCommand::Elect { topic, partition, unclean, target } => {
            elect(topic.as_deref(), &partition, unclean, &target)
        }
    }
}

struct Moves {
    topic: String,
    partitions: Vec<i32>,
    /// Empty: back.
    to: Vec<i32>,
    dry_run: bool,
    wait: bool,
}

impl Moves {
    fn begin(&self, target: &Target) -> Result<(), Failure> {
        let mut client = Client::connect(&target.bootstrap)?;
        let (_, topic) = client.topic(&self.topic)?;
        let under_way = ongoing(&mut client)?;
        let is_moving = |index: i32| {
            let topic = under_way.topics.iter().find(|topic| topic.name.as_str() == self.topic);
            topic.is_some_and(|topic| topic.partitions.iter().any(|partition| partition.partition_index == index))
        };
        let mut table = Table::new(&["partition", "replicas", "new_replicas"]);
        let mut partitions = Vec::new();
        for partition in chosen(&topic, &self.partitions)? {
            let index = partition.partition_index;
            if self.to.is_empty() {
                // What stands still needs no undoing, unless it was named.
                if self.partitions.is_empty() && !is_moving(index) {
                    continue;
                }
                table.row(vec![json!(index), json!(partition.replica_nodes), json!("back")]);
                partitions.push(ReassignablePartition { partition_index: index, replicas: None });
            } else {
                // Each begins with another broker, so that leaderships spread.
                let mut replicas = self.to.clone();
                replicas.rotate_left(usize::try_from(index).unwrap_or(0) % self.to.len());
                table.row(vec![json!(index), json!(partition.replica_nodes), json!(replicas)]);
                partitions.push(ReassignablePartition { partition_index: index, replicas: Some(replicas) });
            }
        }
        let asked: Vec<i32> = partitions.iter().map(|partition| partition.partition_index).collect();
        if !self.dry_run && !partitions.is_empty() {
            self.ask(&mut client, partitions)?;
        }
        table.print(target.output);
        if self.wait && !self.dry_run {
            self.wait_for(&mut client, &asked)?;
        }
        Ok(())
    }

    fn ask(&self, client: &mut Client, partitions: Vec<ReassignablePartition>) -> Result<(), Failure> {
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: TIMEOUT_MS,
            allow_replication_factor_change: true,
            topics: vec![ReassignableTopic { name: KafkaString::from(&self.topic), partitions }],
        };
        let response = client.call(0, &request)?;
        Failure::check("moving partitions", response.error_code, response.error_message.as_deref())?;
        for told in response.responses.iter().flat_map(|topic| &topic.partitions) {
            let what = format!("moving partition {}", told.partition_index);
            Failure::check(&what, told.error_code, told.error_message.as_deref())?;
        }
        Ok(())
    }

    fn wait_for(&self, client: &mut Client, asked: &[i32]) -> Result<(), Failure> {
        loop {
            let under_way = ongoing(client)?;
            let mut moving = under_way.topics.iter().filter(|topic| topic.name.as_str() == self.topic);
            if !moving.any(|topic| topic.partitions.iter().any(|one| asked.contains(&one.partition_index))) {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

fn ongoing(client: &mut Client) -> Result<ListPartitionReassignmentsResponse, Failure> {
    let response = client.call(0, &ListPartitionReassignmentsRequest { timeout_ms: TIMEOUT_MS, topics: None })?;
    Failure::check("listing moves", response.error_code, response.error_message.as_deref())?;
    Ok(response)
}

fn list(target: &Target) -> Result<(), Failure> {
    let mut table = Table::new(&["topic", "partition", "replicas", "adding", "removing"]);
    for topic in &ongoing(&mut Client::connect(&target.bootstrap)?)?.topics {
        for partition in &topic.partitions {
            table.row(vec![
                json!(topic.name.as_str()),
                json!(partition.partition_index),
                json!(partition.replicas),
                json!(partition.adding_replicas),
                json!(partition.removing_replicas),
            ]);
        }
    }
    table.print(target.output);
    Ok(())
}

/// Prints the partitions that have another leader now. One that has the right leader already is no failure.
fn elect(topic: Option<&str>, partitions: &[i32], unclean: bool, target: &Target) -> Result<(), Failure> {
    let mut client = Client::connect(&target.bootstrap)?;
    let topic_partitions = match topic {
        None => None,
        Some(name) => {
            let (_, topic) = client.topic(name)?;
            let partitions = chosen(&topic, partitions)?.iter().map(|partition| partition.partition_index).collect();
            Some(vec![TopicPartitions { topic: KafkaString::from(name), partitions }])
        }
    };
    let election_type = if unclean { UNCLEAN } else { PREFERRED };
    let response = client.call(2, &ElectLeadersRequest { election_type, topic_partitions, timeout_ms: TIMEOUT_MS })?;
    Failure::check("electing leaders", response.error_code, None)?;
    let mut table = Table::new(&["topic", "partition"]);
    let mut refused = None;
    for topic in &response.replica_election_results {
        for told in &topic.partition_result {
            if told.error_code == ErrorCode::ElectionNotNeeded.code() {
                continue;
            }
            let what = format!("electing a leader of {}-{}", topic.topic.as_str(), told.partition_id);
            match Failure::check(&what, told.error_code, told.error_message.as_deref()) {
                Ok(()) => table.row(vec![json!(topic.topic.as_str()), json!(told.partition_id)]),
                Err(failure) => refused = refused.or(Some(failure)),
            }
        }
    }
    table.print(target.output);
    refused.map_or(Ok(()), Err)
}
