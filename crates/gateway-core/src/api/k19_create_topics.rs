//! CreateTopics (19).
//!
//! Versions 2–7. v4: −1 for the cluster's defaults (KIP-464, trap 22). v5: flexible; the answer says partitions, replicas and
//! configs (KIP-525). v6: quota errors. v7: topic id (KIP-516).
//!
//! Names, counts, placement and configs are judged by the controller. The answer waits until this gateway sees the topics.
//! Deviation from Kafka: none known.

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
    let mut counts = administration::counted(request.topics.iter().map(|topic| topic.name.clone()));
    let mut change = Creation { topics: Vec::new(), twice: Vec::new(), validate_only: request.validate_only };
    for topic in request.topics {
        match counts.remove(&topic.name) {
            Some(1) => change.topics.push(topic),
            Some(_) => change.twice.push(topic.name),
            // What is named several times is told once.
            None => {}
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
            let mut answer =
                CreatableTopicResult { name: topic.name.clone(), error_message: None, ..Default::default() };
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

#[cfg(test)]
mod tests {
    use base_types::TopicId;
    use kafka_wire::k19_create_topics::{CreatableReplicaAssignment, CreatableTopicConfig};
    use peer_api::metadata::MetadataOffset;

    use super::*;
    use crate::testing::World;

    fn topic(name: &str) -> CreatableTopic {
        CreatableTopic { name: name.into(), num_partitions: -1, replication_factor: -1, ..Default::default() }
    }

    fn request(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
        CreateTopicsRequest { topics, timeout_ms: 5_000, validate_only: false }
    }

    fn created(name: &str) -> Result<CreatedTopic, Refusal> {
        Ok(CreatedTopic { name: name.into(), id: TopicId([1; 16]), partitions: 4, replication_factor: 3 })
    }

    /// Trap 22.
    #[test]
    fn a_topic_is_told_with_id_size_and_configs_when_this_gateway_sees_it() {
        for version in SUPPORTED {
            let mut world = World::new(1);
            let config = CreatableTopicConfig { name: "cleanup.policy".into(), value: Some("compact".into()) };
            let asked = CreatableTopic { configs: vec![config], ..topic("t") };
            world.send(version, &request(vec![asked]));
            let (id, call) = world.next_call();
            let Request::CreateTopics { topics, validate_only: false } = call else { panic!("{call:?}") };
            assert_eq!((topics[0].partitions, topics[0].replication_factor), (-1, -1));
            assert_eq!(topics[0].configs, [("cleanup.policy".to_owned(), Some("compact".to_owned()))]);
            let visible_at = MetadataOffset(world.metadata_at().0 + 1);
            world.controller_answers(id, Ok(Response::TopicsCreated { topics: vec![created("t")], visible_at }));
            assert!(world.is_silent());
            world.topic("t", &[1]);
            let (_, response) = world.answer::<CreateTopicsRequest>(version);
            let told = &response.topics[0];
            assert_eq!((told.error_code, &*told.name, told.topic_id.is_zero()), (0, "t", version < 7));
            assert_eq!(told.error_message, None);
            if version >= 5 {
                assert_eq!((told.num_partitions, told.replication_factor), (4, 3));
                assert!(told.configs.as_ref().unwrap().len() > 20);
            }
        }
    }

    #[test]
    fn placement_is_passed_on() {
        let mut world = World::new(1);
        let assignments = vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![3, 1] }];
        world.send(5, &request(vec![CreatableTopic { assignments, ..topic("t") }]));
        let (_, call) = world.next_call();
        let Request::CreateTopics { topics, .. } = call else { panic!("{call:?}") };
        assert_eq!(topics[0].assignments, [(PartitionIndex(0), vec![BrokerId(3), BrokerId(1)])]);
    }

    #[test]
    fn refusals_are_per_topic_and_doubles_are_told_once() {
        let mut world = World::new(1);
        world.send(7, &request(vec![topic("a"), topic("b"), topic("b"), topic("c")]));
        let (id, call) = world.next_call();
        let Request::CreateTopics { topics, .. } = call else { panic!("{call:?}") };
        assert_eq!(topics.iter().map(|topic| &*topic.name).collect::<Vec<_>>(), ["a", "c"]);
        let refusal = Refusal { code: ErrorCode::TopicAlreadyExists, message: "there".into() };
        let visible_at = world.metadata_at();
        world.controller_answers(
            id,
            Ok(Response::TopicsCreated { topics: vec![Err(refusal), created("c")], visible_at }),
        );
        let (_, response) = world.answer::<CreateTopicsRequest>(7);
        let told: Vec<_> = response.topics.iter().map(|topic| (&*topic.name, topic.error_code)).collect();
        assert_eq!(told, [("a", 36), ("c", 0), ("b", 42)]);
        assert_eq!(response.topics[0].error_message.as_deref(), Some("there"));
    }

    #[test]
    fn validation_alone_tells_the_configs_there_would_be() {
        let mut world = World::new(1);
        let config = CreatableTopicConfig { name: "retention.ms".into(), value: Some("77".into()) };
        let asked = CreatableTopic { configs: vec![config], ..topic("t") };
        world.send(7, &CreateTopicsRequest { validate_only: true, ..request(vec![asked]) });
        let (id, _) = world.next_call();
        let visible_at = world.metadata_at();
        world.controller_answers(id, Ok(Response::TopicsCreated { topics: vec![created("t")], visible_at }));
        let (_, response) = world.answer::<CreateTopicsRequest>(7);
        let configs = response.topics[0].configs.as_ref().unwrap();
        let retention = configs.iter().find(|config| config.name == "retention.ms").unwrap();
        assert_eq!((retention.value.as_deref(), retention.config_source), (Some("77"), 1));
    }

    #[test]
    fn no_controller_is_an_error_and_not_a_hang() {
        let mut world = World::new(1);
        world.send(7, &request(vec![topic("t")]));
        world.pass(5_000);
        assert_eq!(world.answer::<CreateTopicsRequest>(7).1.topics[0].error_code, 7);
        world.send(7, &request(vec![topic("t")]));
        world.step(crate::Event::ControllerLost);
        assert_eq!(world.answer::<CreateTopicsRequest>(7).1.topics[0].error_code, 7);
        world.send(7, &request(Vec::new()));
        assert_eq!(world.answer::<CreateTopicsRequest>(7).1.topics.len(), 0);
    }
}
