//! CreatePartitions (37): more partitions for topics that exist (KIP-195).
//!
//! Versions 0–3. v2: flexible. v3: quota errors.
//!
//! Every topic asked for is in the answer (trap 23). Deviation from Kafka: `__consumer_offsets` keeps its number of partitions; the controller refuses.

use std::ops::RangeInclusive;

use base_types::{BrokerId, ErrorCode};
use kafka_wire::k37_create_partitions::{CreatePartitionsTopic, CreatePartitionsTopicResult};
use kafka_wire::{CreatePartitionsRequest, CreatePartitionsResponse, KafkaString};
use peer_api::controller::{Error, NewPartitions, Refusal, Request, Response};

use crate::api::administration::{self, Change, outcome};
use crate::api::error;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=3;

pub(crate) fn begin(cx: &mut Context<'_>, request: CreatePartitionsRequest) -> Begun {
    let mut change = Growth { topics: Vec::new(), twice: Vec::new() };
    let mut counts = administration::counted(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut asked = Vec::new();
    for topic in &request.topics {
        match counts.remove(topic.name.as_str()) {
            Some(1) => {
                change.topics.push(topic.name.clone());
                asked.push(new_partitions(topic));
            }
            Some(_) => change.twice.push(topic.name.clone()),
            // What is named several times is told once.
            None => {}
        }
    }
    if change.topics.is_empty() {
        let nothing = Response::PartitionsCreated { topics: Vec::new(), visible_at: cx.image.at() };
        return Begun::Answered(change.answer(cx, Ok(nothing)));
    }
    let ask = Request::CreatePartitions { topics: asked, validate_only: request.validate_only };
    administration::ask(cx, change, ask, request.timeout_ms)
}

fn new_partitions(topic: &CreatePartitionsTopic) -> NewPartitions {
    let brokers = |ids: &Vec<i32>| ids.iter().map(|id| BrokerId(*id)).collect();
    NewPartitions {
        name: topic.name.to_string(),
        count: topic.count,
        assignments: topic.assignments.iter().flatten().map(|assignment| brokers(&assignment.broker_ids)).collect(),
    }
}

struct Growth {
    topics: Vec<KafkaString>,
    twice: Vec<KafkaString>,
}

impl Change for Growth {
    fn answer(self, cx: &mut Context<'_>, result: Result<Response, Error>) -> Answer {
        let results = match result {
            Ok(Response::PartitionsCreated { topics, .. }) if topics.len() == self.topics.len() => topics,
            Ok(_) => {
                vec![Err(Refusal { code: ErrorCode::UnknownServerError, message: String::new() }); self.topics.len()]
            }
            Err(error) => {
                let (code, message) = error::controller(&error);
                vec![Err(Refusal { code, message }); self.topics.len()]
            }
        };
        let duplicate =
            || Refusal { code: ErrorCode::InvalidRequest, message: "Duplicate topic in request.".to_owned() };
        let twice = self.twice.into_iter().map(|name| (name, Err(duplicate())));
        let results = self.topics.into_iter().zip(results).chain(twice);
        let mut response = CreatePartitionsResponse::default();
        for (name, result) in results {
            let (error_code, error_message) = outcome(cx, result);
            response.results.push(CreatePartitionsTopicResult { name, error_code, error_message });
        }
        cx.respond(&response)
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::k37_create_partitions::CreatePartitionsAssignment;

    use super::*;
    use crate::testing::World;

    fn topic(name: &str, count: i32) -> CreatePartitionsTopic {
        CreatePartitionsTopic { name: name.into(), count, assignments: None }
    }

    /// Trap 23.
    #[test]
    fn every_topic_asked_for_is_told() {
        for version in SUPPORTED {
            let mut world = World::new(1);
            let mut placed = topic("placed", 3);
            placed.assignments = Some(vec![CreatePartitionsAssignment { broker_ids: vec![1, 2] }]);
            let topics = vec![placed, topic("twice", 2), topic("x", 2), topic("twice", 3)];
            world.send(version, &CreatePartitionsRequest { topics, timeout_ms: 1000, validate_only: false });
            let (id, call) = world.next_call();
            let Request::CreatePartitions { topics, .. } = call else { panic!("{call:?}") };
            assert_eq!((&*topics[0].name, topics[0].count), ("placed", 3));
            assert_eq!(topics[0].assignments, [vec![BrokerId(1), BrokerId(2)]]);
            let refusal = Refusal { code: ErrorCode::InvalidPartitions, message: "fewer".into() };
            let visible_at = world.metadata_at();
            world.controller_answers(
                id,
                Ok(Response::PartitionsCreated { topics: vec![Ok(()), Err(refusal)], visible_at }),
            );
            let (_, response) = world.answer::<CreatePartitionsRequest>(version);
            let told: Vec<_> = response.results.iter().map(|topic| (&*topic.name, topic.error_code)).collect();
            assert_eq!(told, [("placed", 0), ("x", 37), ("twice", 42)]);
        }
    }
}
