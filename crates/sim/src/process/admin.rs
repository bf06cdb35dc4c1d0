//! Who makes the topics of the shape, and then asks for what the list of faults says, one thing after the other.

use std::collections::VecDeque;

use base_types::{ErrorCode, Tick};
use bytes::Bytes;
use kafka_wire::k19_create_topics::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::k20_delete_topics::DeleteTopicState;
use kafka_wire::k43_elect_leaders::TopicPartitions;
use kafka_wire::k44_incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use kafka_wire::k45_alter_partition_reassignments::{ReassignablePartition, ReassignableTopic};
use kafka_wire::{
    AlterPartitionReassignmentsRequest, CreateTopicsRequest, DeleteTopicsRequest, ElectLeadersRequest,
    IncrementalAlterConfigsRequest, KafkaString,
};

use super::client::{Connection, Gateways, News};
use crate::cluster::{Topic, topic_name};
use crate::faults::Operation;
use crate::world::{Context, Input, Process};

const ANSWER_MS_MAX: u64 = 8_000;
const TIMEOUT_MS: i32 = 5_000;
const PAUSE_MS: u64 = 200;
/// What was refused or not answered so often is given up. Topics of the shape are not.
const ATTEMPTS: u32 = 3;
const SET: i8 = 0;
const DELETE: i8 = 1;
const OF_TOPIC: i8 = 2;

pub struct Admin {
    connection: Connection,
    topics: Vec<Topic>,
    /// So many of the shape's topics are there.
    made: usize,
    queue: VecDeque<Operation>,
    attempts: u32,
    wait_until: Option<Tick>,
    is_asking: bool,
    /// What the cluster took up.
    pub accepted: u64,
}

impl Admin {
    pub fn new(gateways: i32, topics: &[Topic]) -> Admin {
        Admin {
            connection: Connection::new(0, Gateways::Any { count: gateways, last: 0 }),
            topics: topics.to_vec(),
            made: 0,
            queue: VecDeque::new(),
            attempts: 0,
            wait_until: None,
            is_asking: false,
            accepted: 0,
        }
    }

    /// Looked at with the next thing that it is told.
    pub fn ask(&mut self, operation: Operation) {
        self.queue.push_back(operation);
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        if self.is_asking || self.wait_until.is_some() || !self.connection.is_free() {
            return;
        }
        if let Some(topic) = self.topics.get(self.made) {
            let min_insync_replicas = CreatableTopicConfig {
                name: KafkaString::from_static("min.insync.replicas"),
                value: Some(topic.min_insync_replicas.to_string().into()),
            };
            let topic = CreatableTopic {
                name: topic_name(self.made).into(),
                num_partitions: topic.partitions,
                replication_factor: topic.replication_factor,
                configs: vec![min_insync_replicas],
                ..CreatableTopic::default()
            };
            self.create(context, topic);
        } else if let Some(operation) = self.queue.front().cloned() {
            self.perform(context, operation);
        } else {
            return;
        }
        self.is_asking = true;
    }

    fn create(&mut self, context: &mut Context<'_>, topic: CreatableTopic) {
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, validate_only: false };
        self.connection.ask(context, 7, &request, ANSWER_MS_MAX);
    }

    fn perform(&mut self, context: &mut Context<'_>, operation: Operation) {
        match operation {
            Operation::Configure { topic, name, value } => {
                let config = AlterableConfig {
                    name: name.into(),
                    config_operation: if value.is_some() { SET } else { DELETE },
                    value: value.map(Into::into),
                };
                let resource = AlterConfigsResource {
                    resource_type: OF_TOPIC,
                    resource_name: topic_name(topic).into(),
                    configs: vec![config],
                };
                let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
                self.connection.ask(context, 1, &request, ANSWER_MS_MAX);
            }
            Operation::Reassign { topic, partition, replicas } => {
                self.reassign(context, topic, partition, Some(replicas));
            }
            Operation::CancelReassignment { topic, partition } => self.reassign(context, topic, partition, None),
            Operation::Elect { topic, partition } => {
                let of_topic = TopicPartitions { topic: topic_name(topic).into(), partitions: vec![partition] };
                let request = ElectLeadersRequest {
                    election_type: 0,
                    topic_partitions: Some(vec![of_topic]),
                    timeout_ms: TIMEOUT_MS,
                };
                self.connection.ask(context, 2, &request, ANSWER_MS_MAX);
            }
            Operation::Create { name, partitions, replication_factor } => {
                let topic = CreatableTopic {
                    name: name.into(),
                    num_partitions: partitions,
                    replication_factor,
                    ..CreatableTopic::default()
                };
                self.create(context, topic);
            }
            Operation::Delete { name } => {
                let topic = DeleteTopicState { name: Some(name.into()), ..DeleteTopicState::default() };
                let request = DeleteTopicsRequest {
                    topics: vec![topic],
                    timeout_ms: TIMEOUT_MS,
                    ..DeleteTopicsRequest::default()
                };
                self.connection.ask(context, 6, &request, ANSWER_MS_MAX);
            }
        }
    }

    fn reassign(&mut self, context: &mut Context<'_>, topic: usize, partition: i32, replicas: Option<Vec<i32>>) {
        let partition = ReassignablePartition { partition_index: partition, replicas };
        let topic = ReassignableTopic { name: topic_name(topic).into(), partitions: vec![partition] };
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: TIMEOUT_MS,
            allow_replication_factor_change: true,
            topics: vec![topic],
        };
        self.connection.ask(context, 1, &request, ANSWER_MS_MAX);
    }

    fn answered(&mut self, context: &mut Context<'_>, frame: Bytes) {
        self.is_asking = false;
        if self.made < self.topics.len() {
            let answer = self.connection.decode::<CreateTopicsRequest>(frame, 7);
            let code = answer.topics.first().map_or(-1, |topic| topic.error_code);
            if code == 0 || code == ErrorCode::TopicAlreadyExists.code() {
                self.made += 1;
            } else {
                self.wait_until = Some(context.now.tick.plus_ms(PAUSE_MS));
            }
            return;
        }
        let Some(operation) = self.queue.front() else { return };
        let code = match operation {
            Operation::Configure { .. } => {
                let answer = self.connection.decode::<IncrementalAlterConfigsRequest>(frame, 1);
                answer.responses.first().map_or(-1, |resource| resource.error_code)
            }
            Operation::Reassign { .. } | Operation::CancelReassignment { .. } => {
                let answer = self.connection.decode::<AlterPartitionReassignmentsRequest>(frame, 1);
                let partition = answer.responses.first().and_then(|topic| topic.partitions.first());
                partition.map_or(answer.error_code, |partition| partition.error_code)
            }
            Operation::Elect { .. } => {
                let answer = self.connection.decode::<ElectLeadersRequest>(frame, 2);
                let result = answer.replica_election_results.first().and_then(|topic| topic.partition_result.first());
                result.map_or(answer.error_code, |partition| partition.error_code)
            }
            Operation::Create { .. } => {
                let answer = self.connection.decode::<CreateTopicsRequest>(frame, 7);
                answer.topics.first().map_or(-1, |topic| topic.error_code)
            }
            Operation::Delete { .. } => {
                let answer = self.connection.decode::<DeleteTopicsRequest>(frame, 6);
                answer.responses.first().map_or(-1, |topic| topic.error_code)
            }
        };
        if code == 0 {
            self.accepted += 1;
            self.queue.pop_front();
            self.attempts = 0;
        } else {
            self.failed(context);
        }
    }

    fn failed(&mut self, context: &mut Context<'_>) {
        self.is_asking = false;
        self.wait_until = Some(context.now.tick.plus_ms(PAUSE_MS));
        self.attempts += 1;
        if self.attempts >= ATTEMPTS && self.made >= self.topics.len() {
            self.queue.pop_front();
            self.attempts = 0;
        }
    }
}

impl Process for Admin {
    fn handle(&mut self, context: &mut Context<'_>, input: Input) {
        match self.connection.handle(context, &input) {
            News::Nothing => {}
            News::Answered(frame) => self.answered(context, frame),
            News::Unanswered => self.failed(context),
        }
        self.wait_until.take_if(|until| *until <= context.now.tick);
        self.go_on(context);
    }

    fn next_deadline(&self) -> Option<Tick> {
        self.connection.next_deadline().into_iter().chain(self.wait_until).min()
    }
}
