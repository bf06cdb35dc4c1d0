//! CreateTopics (19).
//!
//! Versions 2–7. v4: −1 for the cluster's defaults (KIP-464, trap 22). v5: flexible; the answer says partitions, replicas and
//! configs (KIP-525). v6: quota errors. v7: topic id (KIP-516).
//!
//! Names, counts, placement and configs are judged by the controller. The answer waits until this gateway sees the topics.
//! Deviation from Kafka: none known.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use base_types::{BrokerId, ErrorCode, PartitionIndex};
use kafka_wire::k19_create_topics::{CreatableTopic, CreatableTopicConfigs, CreatableTopicResult};
use kafka_wire::{CreateTopicsRequest, CreateTopicsResponse, KafkaString, Uuid};
use peer_api::config::{Lookup, Source};
use peer_api::controller::{CreatedTopic, Error, NewTopic, Refusal, Request, Response};

use crate::api::administration::{self, Change, message};
use crate::api::error;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 2..=7;

pub(crate) fn begin(cx: &mut Context<'_>, request: CreateTopicsRequest) -> Begun {
    let mut times: BTreeMap<KafkaString, u32> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let mut change = Creation { topics: Vec::new(), twice: Vec::new(), validate_only: request.validate_only };
    for topic in request.topics {
        match times.get(&topic.name) {
            Some(1) => change.topics.push(topic),
            _ if change.twice.contains(&topic.name) => {}
            _ => change.twice.push(topic.name),
        }
    }
    if change.topics.is_empty() {
        let nothing = Response::TopicsCreated { topics: Vec::new(), visible_at: cx.image.at() };
        return Begun::Answered(change.answer(cx, Ok(nothing)));
    }
    let topics = change.topics.iter().map(new_topic).collect();
    let request_to_controller = Request::CreateTopics { topics, validate_only: request.validate_only };
    administration::ask(cx, change, request_to_controller, request.timeout_ms)
}

fn new_topic(topic: &CreatableTopic) -> NewTopic {
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|assignment| {
                let brokers = assignment.broker_ids.iter().map(|id| BrokerId(*id)).collect();
                (PartitionIndex(assignment.partition_index), brokers)
            })
            .collect(),
        configs: topic
            .configs
            .iter()
            .map(|config| (config.name.to_string(), config.value.as_ref().map(|value| value.to_string())))
            .collect(),
    }
}

struct Creation {
    topics: Vec<CreatableTopic>,
    /// Names that were given more than once.
    twice: Vec<KafkaString>,
    validate_only: bool,
}

impl Change for Creation {
    fn answer(self, cx: &mut Context<'_>, result: Result<Response, Error>) -> Answer {
        let mut results: Vec<Result<CreatedTopic, Refusal>> = match result {
            Ok(Response::TopicsCreated { topics, .. }) if topics.len() == self.topics.len() => topics,
            Ok(_) => refused(&self.topics, ErrorCode::UnknownServerError, String::new()),
            Err(error) => {
                let (code, text) = error::controller(&error);
                refused(&self.topics, code, text)
            }
        };
        let mut response = CreateTopicsResponse::default();
        for (topic, result) in self.topics.iter().zip(results.drain(..)) {
            let mut answer = CreatableTopicResult { name: topic.name.clone(), ..Default::default() };
            match result {
                Ok(created) => {
                    answer.topic_id = Uuid(created.id.0);
                    answer.num_partitions = created.partitions;
                    answer.replication_factor = created.replication_factor;
                    if cx.version() >= 5 {
                        answer.configs = Some(configs(cx, topic, self.validate_only));
                    }
                }
                Err(refusal) => {
                    answer.error_code = cx.code(refusal.code);
                    answer.error_message = message(refusal.message);
                    if cx.version() >= 5 {
                        answer.num_partitions = -1;
                        answer.replication_factor = -1;
                        answer.configs = Some(Vec::new());
                    }
                }
            }
            response.topics.push(answer);
        }
        for name in self.twice {
            response.topics.push(CreatableTopicResult {
                name,
                error_code: cx.code(ErrorCode::InvalidRequest),
                error_message: message("Duplicate topic name.".to_owned()),
                configs: Some(Vec::new()),
                ..Default::default()
            });
        }
        cx.respond(&response)
    }
}

fn refused(topics: &[CreatableTopic], code: ErrorCode, text: String) -> Vec<Result<CreatedTopic, Refusal>> {
    topics.iter().map(|_| Err(Refusal { code, message: text.clone() })).collect()
}

/// The configs the topic has, or would have.
fn configs(cx: &Context<'_>, topic: &CreatableTopic, validate_only: bool) -> Vec<CreatableTopicConfigs> {
    let lookup = Lookup::new(cx.image).with_static(&cx.config().statics);
    lookup
        .topic_configs(&topic.name)
        .into_iter()
        .map(|effective| {
            let given = topic.configs.iter().find(|config| config.name == *effective.definition.name);
            let (value, source) = match given.and_then(|config| config.value.clone()) {
                Some(value) if validate_only => (Some(value), Source::Topic),
                _ => (effective.value.map(KafkaString::from), effective.source),
            };
            CreatableTopicConfigs {
                name: effective.definition.name.into(),
                value,
                read_only: false,
                config_source: source.code(),
                is_sensitive: effective.definition.is_sensitive(),
            }
        })
        .collect()
}
