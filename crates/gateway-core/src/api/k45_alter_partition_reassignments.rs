//! AlterPartitionReassignments (45): partitions move to other replicas, or back (KIP-455).
//!
//! Versions 0–1, flexible. v1: a change of the replication factor may be forbidden (KIP-860).
//!
//! The answer says that a move has begun; [`super::k46_list_partition_reassignments`] says which are under way. Deviations from
//! Kafka: the answer waits until this gateway sees the move.

use std::ops::RangeInclusive;

use base_types::{BrokerId, ErrorCode};
use kafka_wire::k45_alter_partition_reassignments::{
    ReassignablePartitionResponse, ReassignableTopic, ReassignableTopicResponse,
};
use kafka_wire::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};
use peer_api::controller::{Error, Reassign, ReassignedTopic, Request, Response};

use crate::api::administration::{self, Change, message, outcome};
use crate::api::error;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=1;

pub(crate) fn begin(cx: &mut Context<'_>, request: AlterPartitionReassignmentsRequest) -> Begun {
    let brokers = |ids: &Vec<i32>| ids.iter().map(|id| BrokerId(*id)).collect();
    let asked = |topic: &ReassignableTopic| ReassignedTopic {
        name: topic.name.to_string(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| (partition.partition_index, partition.replicas.as_ref().map(brokers)))
            .collect(),
    };
    let allow_replication_factor_change = cx.version() == 0 || request.allow_replication_factor_change;
    let ask = Reassign { topics: request.topics.iter().map(asked).collect(), allow_replication_factor_change };
    let change = Reassignment { topics: request.topics, allow_replication_factor_change };
    administration::ask(cx, change, Request::Reassign(ask), request.timeout_ms)
}

struct Reassignment {
    topics: Vec<ReassignableTopic>,
    allow_replication_factor_change: bool,
}

impl Reassignment {
    /// The whole, and each partition that was named.
    fn refuse(self, cx: &mut Context<'_>, code: ErrorCode, text: &str) -> Answer {
        let error_code = cx.code(code);
        let mut response = AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: self.allow_replication_factor_change,
            error_code,
            error_message: message(text.to_owned()),
            ..Default::default()
        };
        for topic in self.topics {
            let refused = |partition: kafka_wire::k45_alter_partition_reassignments::ReassignablePartition| {
                ReassignablePartitionResponse {
                    partition_index: partition.partition_index,
                    error_code,
                    error_message: message(text.to_owned()),
                }
            };
            let partitions = topic.partitions.into_iter().map(refused).collect();
            response.responses.push(ReassignableTopicResponse { name: topic.name, partitions });
        }
        cx.respond(&response)
    }
}

impl Change for Reassignment {
    fn answer(self, cx: &mut Context<'_>, result: Result<Response, Error>) -> Answer {
        let topics = match result {
            Ok(Response::Reassigned { topics, .. }) => topics,
            Ok(_) => return self.refuse(cx, ErrorCode::UnknownServerError, ""),
            Err(error) => {
                let (code, text) = error::controller(&error);
                return self.refuse(cx, code, &text);
            }
        };
        let mut response = AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: self.allow_replication_factor_change,
            ..Default::default()
        };
        for topic in topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for (partition_index, result) in topic.partitions {
                let (error_code, error_message) = outcome(cx, result);
                partitions.push(ReassignablePartitionResponse { partition_index, error_code, error_message });
            }
            response.responses.push(ReassignableTopicResponse { name: topic.name.into(), partitions });
        }
        cx.respond(&response)
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::k45_alter_partition_reassignments::ReassignablePartition;
    use peer_api::controller::{Refusal, TopicOutcomes};

    use super::*;
    use crate::testing::World;

    fn request(allow: bool) -> AlterPartitionReassignmentsRequest {
        let partition = |partition_index, replicas| ReassignablePartition { partition_index, replicas };
        let partitions = vec![partition(0, Some(vec![3, 1])), partition(1, None)];
        AlterPartitionReassignmentsRequest {
            timeout_ms: 1000,
            allow_replication_factor_change: allow,
            topics: vec![ReassignableTopic { name: "t".into(), partitions }],
        }
    }

    #[test]
    fn the_controller_is_asked_and_each_partition_is_told() {
        for version in SUPPORTED {
            let mut world = World::new(1);
            world.send(version, &request(version == 0));
            let (call, asked) = world.next_call();
            let partitions = vec![(0, Some(vec![BrokerId(3), BrokerId(1)])), (1, None)];
            let topics = vec![ReassignedTopic { name: "t".into(), partitions }];
            assert_eq!(asked, Request::Reassign(Reassign { topics, allow_replication_factor_change: version == 0 }));
            let refusal = Refusal { code: ErrorCode::NoReassignmentInProgress, message: "none".into() };
            let topics = vec![TopicOutcomes { name: "t".into(), partitions: vec![(0, Ok(())), (1, Err(refusal))] }];
            let visible_at = world.metadata_at();
            world.controller_answers(call, Ok(Response::Reassigned { topics, visible_at }));
            let (_, response) = world.answer::<AlterPartitionReassignmentsRequest>(version);
            let told = &response.responses[0].partitions;
            assert_eq!(told.iter().map(|told| told.error_code).collect::<Vec<_>>(), [0, 85]);
            assert_eq!((told[0].error_message.is_none(), told[1].error_message.is_none()), (true, false));
        }
    }

    #[test]
    fn what_became_of_it_is_unknown_when_the_controller_is_lost() {
        let mut world = World::new(1);
        world.send(1, &request(true));
        let (call, _) = world.next_call();
        world.controller_answers(call, Err(Error::LostLeadership));
        let (_, response) = world.answer::<AlterPartitionReassignmentsRequest>(1);
        assert_eq!((response.error_code, response.responses[0].partitions[1].error_code), (7, 7));
    }
}
