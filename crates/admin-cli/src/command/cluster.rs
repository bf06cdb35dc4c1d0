//! `thalweg cluster`.

use std::fmt;

use kafka_wire::k55_describe_quorum::{RequestPartitionData, RequestTopicData};
use kafka_wire::{
    DescribeClusterRequest, DescribeClusterResponse, DescribeQuorumRequest, DescribeQuorumResponse, KafkaString,
    MetadataResponse,
};
use serde_json::{Value, json};

use crate::cli::{ClusterCommand, Target};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Table};

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
    let topic = RequestTopicData {
        topic_name: KafkaString::from_static("__cluster_metadata"),
        partitions: vec![RequestPartitionData { partition_index: 0 }],
    };
    let quorum = client.call(1, &DescribeQuorumRequest { topics: vec![topic] })?;
    Failure::check("describing the quorum", quorum.error_code, None)?;
    let status = Status::of(&cluster, &metadata, &quorum);
    output::print(target.output, &status, || status.to_json());
    Ok(())
}

/// What is asked of a cluster first.
struct Status {
    cluster_id: String,
    brokers: Table,
    quorum: Option<Quorum>,
    /// Partitions without a leader, or with replicas that are not in sync.
    ailing: Table,
}

struct Quorum {
    leader: i32,
    leader_epoch: i32,
    high_watermark: i64,
    /// How far each controller has come.
    voters: Vec<(i32, i64)>,
}

impl Status {
    fn of(cluster: &DescribeClusterResponse, metadata: &MetadataResponse, quorum: &DescribeQuorumResponse) -> Status {
        let partitions = || {
            let named = metadata.topics.iter().map(|topic| (topic.name.as_deref(), &topic.partitions));
            named.flat_map(|(name, partitions)| partitions.iter().map(move |partition| (name, partition)))
        };
        let mut brokers = Table::new(&["broker", "address", "rack", "fenced", "leads", "replicas"]);
        for broker in &cluster.brokers {
            let leads = partitions().filter(|(_, partition)| partition.leader_id == broker.broker_id);
            let replicas = partitions().filter(|(_, partition)| partition.replica_nodes.contains(&broker.broker_id));
            brokers.row(vec![
                json!(broker.broker_id),
                json!(format!("{}:{}", broker.host.as_str(), broker.port)),
                json!(broker.rack.as_deref()),
                json!(broker.is_fenced),
                json!(leads.count()),
                json!(replicas.count()),
            ]);
        }
        let mut ailing = Table::new(&["topic", "partition", "leader", "in_sync", "replicas"]);
        for (topic, partition) in partitions() {
            if partition.leader_id < 0 || partition.isr_nodes.len() < partition.replica_nodes.len() {
                ailing.row(vec![
                    json!(topic),
                    json!(partition.partition_index),
                    json!(partition.leader_id),
                    json!(partition.isr_nodes),
                    json!(partition.replica_nodes),
                ]);
            }
        }
        let quorum = quorum.topics.iter().flat_map(|topic| &topic.partitions).next().map(|partition| Quorum {
            leader: partition.leader_id,
            leader_epoch: partition.leader_epoch,
            high_watermark: partition.high_watermark,
            voters: partition.current_voters.iter().map(|voter| (voter.replica_id, voter.log_end_offset)).collect(),
        });
        Status { cluster_id: cluster.cluster_id.to_string(), brokers, quorum, ailing }
    }

    fn to_json(&self) -> Value {
        let voter = |(id, log_end_offset): &(i32, i64)| json!({ "id": id, "log_end_offset": log_end_offset });
        let quorum = |quorum: &Quorum| {
            json!({
                "leader": quorum.leader,
                "leader_epoch": quorum.leader_epoch,
                "high_watermark": quorum.high_watermark,
                "voters": quorum.voters.iter().map(voter).collect::<Vec<_>>(),
            })
        };
        json!({
            "cluster_id": self.cluster_id,
            "brokers": self.brokers.to_json(),
            "quorum": self.quorum.as_ref().map(quorum),
            "ailing_partitions": self.ailing.to_json(),
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cluster {}\n\n{}", self.cluster_id, self.brokers)?;
        if let Some(quorum) = &self.quorum {
            let voters: Vec<String> = quorum.voters.iter().map(|(id, end)| format!("{id} at {end}")).collect();
            writeln!(
                f,
                "controllers: leader {} in epoch {}, high watermark {}, voters {}",
                quorum.leader,
                quorum.leader_epoch,
                quorum.high_watermark,
                voters.join(", ")
            )?;
        }
        let ailing = self.ailing.len();
        writeln!(f, "{ailing} partitions without a leader or with replicas that are not in sync")?;
        if ailing > 0 { write!(f, "\n{}", self.ailing) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::k03_metadata::{MetadataResponsePartition, MetadataResponseTopic};
    use kafka_wire::k55_describe_quorum::{ReplicaState, ResponsePartitionData, ResponseTopicData};
    use kafka_wire::k60_describe_cluster::DescribeClusterBroker;

    use super::*;

    fn partition(partition_index: i32, leader_id: i32, isr_nodes: &[i32]) -> MetadataResponsePartition {
        let (isr_nodes, replica_nodes) = (isr_nodes.to_vec(), vec![1, 2]);
        MetadataResponsePartition {
            partition_index,
            leader_id,
            isr_nodes,
            replica_nodes,
            ..MetadataResponsePartition::default()
        }
    }

    fn status() -> Status {
        let broker = DescribeClusterBroker { broker_id: 1, host: "h".into(), port: 9092, rack: None, is_fenced: false };
        let cluster = DescribeClusterResponse {
            cluster_id: "c".into(),
            brokers: vec![broker],
            ..DescribeClusterResponse::default()
        };
        let partitions = vec![partition(0, 1, &[1, 2]), partition(1, -1, &[2])];
        let topic = MetadataResponseTopic { name: Some("t".into()), partitions, ..MetadataResponseTopic::default() };
        let metadata = MetadataResponse { topics: vec![topic], ..MetadataResponse::default() };
        let voter = ReplicaState { replica_id: 101, log_end_offset: 8, ..ReplicaState::default() };
        let of_quorum = ResponsePartitionData {
            leader_id: 101,
            leader_epoch: 3,
            high_watermark: 7,
            current_voters: vec![voter],
            ..ResponsePartitionData::default()
        };
        let topic = ResponseTopicData { partitions: vec![of_quorum], ..ResponseTopicData::default() };
        let quorum = DescribeQuorumResponse { topics: vec![topic], ..DescribeQuorumResponse::default() };
        Status::of(&cluster, &metadata, &quorum)
    }

    #[test]
    fn a_status_is_one_document() {
        let expected = json!({
            "cluster_id": "c",
            "brokers":
                [{ "broker": 1, "address": "h:9092", "rack": null, "fenced": false, "leads": 1, "replicas": 2 }],
            "quorum": {
                "leader": 101,
                "leader_epoch": 3,
                "high_watermark": 7,
                "voters": [{ "id": 101, "log_end_offset": 8 }],
            },
            "ailing_partitions":
                [{ "topic": "t", "partition": 1, "leader": -1, "in_sync": [2], "replicas": [1, 2] }],
        });
        assert_eq!(status().to_json(), expected);
    }

    #[test]
    fn people_are_told_the_same() {
        let told = status().to_string();
        for part in ["cluster c", "h:9092", "leader 101 in epoch 3", "101 at 8", "1 partitions without", "t      1"] {
            assert!(told.contains(part), "`{part}` is missing:\n{told}");
        }
    }
}
