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
    for (index, topic) in topics.iter().enumerate() {
        let refused = match &topic.name {
            Some(_) if !topic.topic_id.is_zero() => Some("You may not specify both topic name and topic id."),
            None if topic.topic_id.is_zero() => Some("Neither topic name nor id were specified."),
            _ if topics.iter().enumerate().any(|(other, same)| other != index && same == topic) => {
                Some("Duplicate topic name or id.")
            }
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
            let mut answer =
                DeletableTopicResult { name: topic.name, topic_id: topic.topic_id, ..Default::default() };
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
