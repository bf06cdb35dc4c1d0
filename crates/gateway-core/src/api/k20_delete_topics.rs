//! DeleteTopics (20).
//!
//! Versions 1–6. v4: flexible. v5: error messages. v6: topics by name or by id (KIP-516).
//!
//! Every topic asked for is in the answer (trap 23). The answer waits until this gateway no longer sees them.
//! Deviation from Kafka: none known.

use std::ops::RangeInclusive;

use base_types::{ErrorCode, TopicId};
use kafka_wire::k20_delete_topics::{DeletableTopicResult, DeleteTopicState};
use kafka_wire::{DeleteTopicsRequest, DeleteTopicsResponse, Uuid};
use peer_api::controller::{DeletedTopic, Error, Refusal, Request, Response, TopicSelector};

use crate::api::administration::{self, Change, message};
use crate::api::error;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 1..=6;

pub(crate) fn begin(cx: &mut Context<'_>, request: DeleteTopicsRequest) -> Begun {
    let topics = if cx.version() >= 6 {
        request.topics
    } else {
        request
            .topic_names
            .into_iter()
            .map(|name| DeleteTopicState { name: Some(name), ..Default::default() })
            .collect()
    };
    let mut change = Deletion { topics: Vec::new(), refused: Vec::new() };
    let mut counts = administration::counted(topics.iter().map(named));
    for topic in &topics {
        // What is named several times is told once.
        let Some(count) = counts.remove(&named(topic)) else { continue };
        let refused = match &topic.name {
            Some(_) if !topic.topic_id.is_zero() => Some("You may not specify both topic name and topic id."),
            None if topic.topic_id.is_zero() => Some("Neither topic name nor id were specified."),
            _ if count > 1 => Some("Duplicate topic name or id."),
            _ => None,
        };
        match refused {
            None => change.topics.push(topic.clone()),
            Some(text) => change.refused.push((topic.clone(), text)),
        }
    }
    if change.topics.is_empty() {
        let nothing = Response::TopicsDeleted { topics: Vec::new(), visible_at: cx.image.at() };
        return Begun::Answered(change.answer(cx, Ok(nothing)));
    }
    let selectors = change
        .topics
        .iter()
        .map(|topic| match &topic.name {
            Some(name) => TopicSelector::Name(name.to_string()),
            None => TopicSelector::Id(TopicId(topic.topic_id.0)),
        })
        .collect();
    administration::ask(cx, change, Request::DeleteTopics(selectors), request.timeout_ms)
}

fn named(topic: &DeleteTopicState) -> (Option<&str>, [u8; 16]) {
    (topic.name.as_deref(), topic.topic_id.0)
}

struct Deletion {
    topics: Vec<DeleteTopicState>,
    refused: Vec<(DeleteTopicState, &'static str)>,
}

impl Change for Deletion {
    fn answer(self, cx: &mut Context<'_>, result: Result<Response, Error>) -> Answer {
        let refuse = |code, text: &str| Err(Refusal { code, message: text.to_owned() });
        let results: Vec<Result<DeletedTopic, Refusal>> = match result {
            Ok(Response::TopicsDeleted { topics, .. }) if topics.len() == self.topics.len() => topics,
            Ok(_) => self.topics.iter().map(|_| refuse(ErrorCode::UnknownServerError, "")).collect(),
            Err(error) => {
                let (code, text) = error::controller(&error);
                self.topics.iter().map(|_| refuse(code, &text)).collect()
            }
        };
        let refused = self.refused.into_iter().map(|(topic, text)| (topic, refuse(ErrorCode::InvalidRequest, text)));
        let mut response = DeleteTopicsResponse::default();
        for (topic, result) in self.topics.into_iter().zip(results).chain(refused) {
            let mut answer = DeletableTopicResult { name: topic.name, topic_id: topic.topic_id, ..Default::default() };
            match result {
                Ok(deleted) => {
                    answer.name = Some(deleted.name.into());
                    answer.topic_id = Uuid(deleted.id.0);
                }
                Err(refusal) => {
                    answer.error_code = cx.code(refusal.code);
                    if cx.version() >= 5 {
                        answer.error_message = message(refusal.message);
                    }
                }
            }
            response.responses.push(answer);
        }
        cx.respond(&response)
    }
}

#[cfg(test)]
mod tests {
    use peer_api::metadata::{MetadataOffset, Record};

    use super::*;
    use crate::testing::World;

    /// Trap 23.
    #[test]
    fn every_topic_asked_for_is_told_when_it_is_gone_here() {
        for version in SUPPORTED {
            let mut world = World::new(1);
            let id = world.topic("t", &[1]);
            let names = ["t", "x"].map(|name| DeleteTopicState { name: Some(name.into()), ..Default::default() });
            let request = if version >= 6 {
                DeleteTopicsRequest { topics: names.to_vec(), timeout_ms: 1000, ..Default::default() }
            } else {
                let topic_names = vec!["t".into(), "x".into()];
                DeleteTopicsRequest { topic_names, timeout_ms: 1000, ..Default::default() }
            };
            world.send(version, &request);
            let (call, asked) = world.next_call();
            let wanted = vec![TopicSelector::Name("t".into()), TopicSelector::Name("x".into())];
            assert_eq!(asked, Request::DeleteTopics(wanted));
            let deleted = DeletedTopic { name: "t".into(), id };
            let refusal = Refusal { code: ErrorCode::UnknownTopicOrPartition, message: "none".into() };
            let visible_at = MetadataOffset(world.metadata_at().0 + 1);
            let answer = Response::TopicsDeleted { topics: vec![Ok(deleted), Err(refusal)], visible_at };
            world.controller_answers(call, Ok(answer));
            assert!(world.is_silent());
            world.change(vec![Record::TopicRemoved { id }]);
            let (_, response) = world.answer::<DeleteTopicsRequest>(version);
            let told: Vec<_> =
                response.responses.iter().map(|topic| (topic.name.as_deref().unwrap(), topic.error_code)).collect();
            assert_eq!(told, [("t", 0), ("x", 3)]);
            assert_eq!(response.responses[0].topic_id.is_zero(), version < 6);
        }
    }

    #[test]
    fn a_topic_must_be_named_once_and_in_one_way() {
        let mut world = World::new(1);
        let by_name = |name: &str| DeleteTopicState { name: Some(name.into()), ..Default::default() };
        let both = DeleteTopicState { name: Some("a".into()), topic_id: Uuid([1; 16]) };
        let topics = vec![both, DeleteTopicState::default(), by_name("b"), by_name("b")];
        let response = world.ask::<DeleteTopicsRequest>(6, &DeleteTopicsRequest { topics, ..Default::default() });
        assert_eq!(response.responses.iter().map(|topic| topic.error_code).collect::<Vec<_>>(), [42; 3]);
        let topics = vec![DeleteTopicState { name: None, topic_id: Uuid([5; 16]) }];
        world.send(6, &DeleteTopicsRequest { topics, timeout_ms: 100, ..Default::default() });
        assert_eq!(world.next_call().1, Request::DeleteTopics(vec![TopicSelector::Id(TopicId([5; 16]))]));
    }
}
