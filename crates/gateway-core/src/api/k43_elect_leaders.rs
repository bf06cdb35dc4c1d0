//! ElectLeaders (43): leadership back to the preferred replicas, or to any replica at all (KIP-183, KIP-460).
//!
//! Versions 0–2. v1: unclean elections, a code for the whole. v2: flexible.
//!
//! Without partitions, all are meant, and those that need no election are left out of the answer. Deviation from Kafka: the
//! answer waits until this gateway sees the new leaders.

use std::ops::RangeInclusive;

use base_types::ErrorCode;
use kafka_wire::k43_elect_leaders::{PartitionResult, ReplicaElectionResult, TopicPartitions};
use kafka_wire::{ElectLeadersRequest, ElectLeadersResponse};
use peer_api::controller::{ElectionKind, ElectionTopics, Error, Request, Response};

use crate::api::administration::{self, Change, message, outcome};
use crate::api::error;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=2;

pub(crate) fn begin(cx: &mut Context<'_>, request: ElectLeadersRequest) -> Begun {
    let kind = match request.election_type {
        0 => ElectionKind::Preferred,
        1 => ElectionKind::Unclean,
        other => {
            let election = Election { topics: request.topic_partitions };
            let text = format!("Unknown election type {other}");
            return Begun::Answered(election.refuse(cx, ErrorCode::InvalidRequest, &text));
        }
    };
    let named = |topic: &TopicPartitions| (topic.topic.to_string(), topic.partitions.clone());
    let topics = match &request.topic_partitions {
        None => ElectionTopics::All,
        Some(topics) => ElectionTopics::Named(topics.iter().map(named).collect()),
    };
    let election = Election { topics: request.topic_partitions };
    administration::ask(cx, election, Request::ElectLeaders { kind, topics }, request.timeout_ms)
}

struct Election {
    topics: Option<Vec<TopicPartitions>>,
}

impl Election {
    /// The whole, and each partition that was named.
    fn refuse(self, cx: &mut Context<'_>, code: ErrorCode, text: &str) -> Answer {
        let error_code = cx.code(code);
        let mut response = ElectLeadersResponse::default();
        // Version 0 has no place for it.
        if cx.version() >= 1 {
            response.error_code = error_code;
        }
        for topic in self.topics.into_iter().flatten() {
            let refused =
                |partition_id| PartitionResult { partition_id, error_code, error_message: message(text.to_owned()) };
            let partition_result = topic.partitions.into_iter().map(refused).collect();
            response.replica_election_results.push(ReplicaElectionResult { topic: topic.topic, partition_result });
        }
        cx.respond(&response)
    }
}

impl Change for Election {
    fn answer(self, cx: &mut Context<'_>, result: Result<Response, Error>) -> Answer {
        let topics = match result {
            Ok(Response::LeadersElected { topics, .. }) => topics,
            Ok(_) => return self.refuse(cx, ErrorCode::UnknownServerError, ""),
            Err(error) => {
                let (code, text) = error::controller(&error);
                return self.refuse(cx, code, &text);
            }
        };
        let mut response = ElectLeadersResponse::default();
        for topic in topics {
            let mut partition_result = Vec::with_capacity(topic.partitions.len());
            for (partition_id, result) in topic.partitions {
                let (error_code, error_message) = outcome(cx, result);
                partition_result.push(PartitionResult { partition_id, error_code, error_message });
            }
            response
                .replica_election_results
                .push(ReplicaElectionResult { topic: topic.name.into(), partition_result });
        }
        cx.respond(&response)
    }
}

#[cfg(test)]
mod tests {
    use peer_api::controller::{Refusal, TopicOutcomes};
    use peer_api::metadata::MetadataOffset;

    use super::*;
    use crate::testing::World;

    fn request(election_type: i8, topics: Option<&[i32]>) -> ElectLeadersRequest {
        let named = |partitions: &[i32]| vec![TopicPartitions { topic: "t".into(), partitions: partitions.to_vec() }];
        ElectLeadersRequest { election_type, topic_partitions: topics.map(named), timeout_ms: 1000 }
    }

    #[test]
    fn the_controller_is_asked_and_each_partition_is_told() {
        for version in SUPPORTED {
            let mut world = World::new(1);
            let kind = if version == 0 { ElectionKind::Preferred } else { ElectionKind::Unclean };
            world.send(version, &request(i8::from(version > 0), Some(&[0, 1])));
            let (call, asked) = world.next_call();
            let topics = ElectionTopics::Named(vec![("t".into(), vec![0, 1])]);
            assert_eq!(asked, Request::ElectLeaders { kind, topics });
            let refusal = Refusal { code: ErrorCode::ElectionNotNeeded, message: "not needed".into() };
            let topics = vec![TopicOutcomes { name: "t".into(), partitions: vec![(0, Ok(())), (1, Err(refusal))] }];
            let visible_at = MetadataOffset(world.metadata_at().0);
            world.controller_answers(call, Ok(Response::LeadersElected { topics, visible_at }));
            let (_, response) = world.answer::<ElectLeadersRequest>(version);
            let told = &response.replica_election_results[0].partition_result;
            assert_eq!(told.iter().map(|told| told.error_code).collect::<Vec<_>>(), [0, 84]);
            assert_eq!((told[0].error_message.is_none(), told[1].error_message.is_none()), (true, false));
        }
    }

    #[test]
    fn without_partitions_all_are_meant() {
        let mut world = World::new(1);
        world.send(2, &request(0, None));
        let all = Request::ElectLeaders { kind: ElectionKind::Preferred, topics: ElectionTopics::All };
        assert_eq!(world.next_call().1, all);
    }

    #[test]
    fn an_election_of_no_known_kind_is_refused_for_each_partition() {
        let mut world = World::new(1);
        let response = world.ask::<ElectLeadersRequest>(2, &request(7, Some(&[0])));
        assert_eq!(response.error_code, 42);
        assert_eq!(response.replica_election_results[0].partition_result[0].error_code, 42);
    }
}
