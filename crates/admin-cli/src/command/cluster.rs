//! `thalweg cluster`.

use kafka_wire::k55_describe_quorum::{RequestPartitionData, RequestTopicData};
use kafka_wire::{DescribeClusterRequest, DescribeQuorumRequest, KafkaString};
use serde_json::json;

use crate::cli::{ClusterCommand, Target};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Table;

pub fn run(command: ClusterCommand) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status { target } => status(&target),
    }
}

fn status(target: &Target) -> Result<(), Failure> {
    let mut client = Client::connect(&target.bootstrap)?;
    let request = DescribeClusterRequest { include_fenced_brokers: true, ..DescribeClusterRequest::default() };
    let cluster = client.call(2, &request)?;
    Failure::check("describing the cluster", cluster.error_code, cluster.error_message.as_deref())?;
    let metadata = client.metadata(None, false)?;
    eprintln!("cluster {}", cluster.cluster_id.as_str());
    let mut table = Table::new(&["broker", "address", "rack", "fenced", "leads", "replicas"]);
    for broker in &cluster.brokers {
        let partitions = || metadata.topics.iter().flat_map(|topic| &topic.partitions);
        let leads = partitions().filter(|partition| partition.leader_id == broker.broker_id).count();
        let replicas = partitions().filter(|partition| partition.replica_nodes.contains(&broker.broker_id)).count();
        table.row(vec![
            json!(broker.broker_id),
            json!(format!("{}:{}", broker.host.as_str(), broker.port)),
            json!(broker.rack.as_deref()),
            json!(broker.is_fenced),
            json!(leads),
            json!(replicas),
        ]);
    }
    table.print(target.output);
    quorum(&mut client)?;
    let mut ailing = 0;
    for topic in &metadata.topics {
        for partition in &topic.partitions {
            if partition.leader_id < 0 || partition.isr_nodes.len() < partition.replica_nodes.len() {
                ailing += 1;
                eprintln!(
                    "{}-{}: leader {}, in sync {:?} of {:?}",
                    topic.name.as_deref().unwrap_or("?"),
                    partition.partition_index,
                    partition.leader_id,
                    partition.isr_nodes,
                    partition.replica_nodes
                );
            }
        }
    }
    eprintln!("{ailing} partitions without a leader or with replicas that are not in sync");
    Ok(())
}

fn quorum(client: &mut Client) -> Result<(), Failure> {
    let topic = RequestTopicData {
        topic_name: KafkaString::from_static("__cluster_metadata"),
        partitions: vec![RequestPartitionData { partition_index: 0 }],
    };
    let response = client.call(1, &DescribeQuorumRequest { topics: vec![topic] })?;
    Failure::check("describing the quorum", response.error_code, None)?;
    for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
        let voters: Vec<String> = partition
            .current_voters
            .iter()
            .map(|voter| format!("{} at {}", voter.replica_id, voter.log_end_offset))
            .collect();
        eprintln!(
            "controllers: leader {} in epoch {}, high watermark {}, voters {}",
            partition.leader_id,
            partition.leader_epoch,
            partition.high_watermark,
            voters.join(", ")
        );
    }
    Ok(())
}
