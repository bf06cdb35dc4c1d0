//! DescribeProducers (61): which producers a partition's leader remembers (KIP-664).
//!
//! Version 0.
//!
//! Deviation from Kafka: none known. Coordinator epoch and open transaction are −1 until there are transactions.

use std::ops::RangeInclusive;

use base_types::{ErrorCode, TopicPartition};
use kafka_wire::k61_describe_producers::{PartitionResponse, ProducerState, TopicRequest, TopicResponse};
use kafka_wire::{DescribeProducersRequest, DescribeProducersResponse};
use peer_api::storage::{ActiveProducer, Request, Response};

use crate::api::k03_metadata::is_valid_name;
use crate::api::scatter::{self, FoundByPartition, Question};
use crate::limits::READ_TIMEOUT_MS;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 0..=0;

pub(crate) fn begin(cx: &mut Context<'_>, request: DescribeProducersRequest) -> Begun {
    let mut asks = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partition_indexes {
            let leader = if is_valid_name(&topic.name) {
                scatter::leader(cx, &topic.name, *partition)
            } else {
                Err(ErrorCode::InvalidTopicException)
            };
            asks.push(leader.map(|(partition, node)| (node, partition)));
        }
    }
    scatter::ask(cx, Producers { topics: request.topics }, asks, READ_TIMEOUT_MS)
}

struct Producers {
    topics: Vec<TopicRequest>,
}

impl Question for Producers {
    type Ask = TopicPartition;
    type Found = Vec<ActiveProducer>;

    fn request(asks: Vec<TopicPartition>) -> Request {
        Request::DescribeProducers(asks)
    }

    fn found(response: Response) -> Option<FoundByPartition<Vec<ActiveProducer>>> {
        match response {
            Response::DescribeProducers(found) => Some(found),
            _ => None,
        }
    }

    fn answer(self, cx: &mut Context<'_>, results: Vec<Result<Vec<ActiveProducer>, ErrorCode>>) -> Answer {
        let mut results = results.into_iter();
        let mut response = DescribeProducersResponse::default();
        for topic in self.topics {
            let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
            for partition_index in topic.partition_indexes {
                let mut answer = PartitionResponse { partition_index, ..Default::default() };
                match results.next().unwrap_or(Err(ErrorCode::UnknownServerError)) {
                    Ok(producers) => answer.active_producers = producers.iter().map(state).collect(),
                    Err(code) => answer.error_code = cx.code(code),
                }
                partitions.push(answer);
            }
            response.topics.push(TopicResponse { name: topic.name, partitions });
        }
        cx.respond(&response)
    }
}

fn state(producer: &ActiveProducer) -> ProducerState {
    ProducerState {
        producer_id: producer.producer_id.0,
        producer_epoch: i32::from(producer.producer_epoch.0),
        last_sequence: producer.last_sequence.0,
        last_timestamp: producer.last_timestamp.0,
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    }
}

#[cfg(test)]
mod tests {
    use base_types::{ProducerEpoch, ProducerId, Sequence, Timestamp};

    use super::*;
    use crate::testing::World;

    #[test]
    fn producers_of_a_partition_are_listed() {
        let mut world = World::new(1);
        world.topic("t", &[1]);
        let asked =
            |name: &str, partitions: &[i32]| TopicRequest { name: name.into(), partition_indexes: partitions.to_vec() };
        let topics = vec![asked("t", &[0, 3]), asked("a b", &[0])];
        world.send(0, &DescribeProducersRequest { topics });
        let (node, call, request) = world.next_request();
        let Request::DescribeProducers(asks) = request else { panic!("{request:?}") };
        let producer = ActiveProducer {
            producer_id: ProducerId(4),
            producer_epoch: ProducerEpoch(1),
            last_sequence: Sequence(9),
            last_timestamp: Timestamp(7),
        };
        world.storage_answers(node, call, Response::DescribeProducers(vec![(asks[0], Ok(vec![producer]))]));
        let (_, response) = world.answer::<DescribeProducersRequest>(0);
        let partitions = &response.topics[0].partitions;
        assert_eq!((partitions[0].error_code, partitions[1].error_code), (0, 3));
        assert_eq!(response.topics[1].partitions[0].error_code, 17);
        let told = &partitions[0].active_producers[0];
        assert_eq!((told.producer_id, told.producer_epoch, told.last_sequence, told.last_timestamp), (4, 1, 9, 7));
    }
}
