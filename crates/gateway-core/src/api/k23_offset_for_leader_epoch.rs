//! OffsetForLeaderEpoch (23): where an epoch ended, for clients that check whether their history still holds (KIP-320).
//!
//! Versions 2–4. v3: replica id, ignored. v4: flexible.
//!
//! Deviation from Kafka: none known.

use std::ops::RangeInclusive;

use base_types::{ErrorCode, LeaderEpoch};
use kafka_wire::k23_offset_for_leader_epoch::{EpochEndOffset, OffsetForLeaderTopic, OffsetForLeaderTopicResult};
use kafka_wire::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use peer_api::storage::{EpochEnd, EpochEndPartition, Request, Response};

use crate::api::scatter::{self, FoundByPartition, Question};
use crate::limits::READ_TIMEOUT_MS;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 2..=4;

pub(crate) fn begin(cx: &mut Context<'_>, request: OffsetForLeaderEpochRequest) -> Begun {
    let mut asks = Vec::new();
    for topic in &request.topics {
        for asked in &topic.partitions {
            asks.push(scatter::leader(cx, &topic.topic, asked.partition).map(|(partition, node)| {
                let ask = EpochEndPartition {
                    partition,
                    current_leader_epoch: LeaderEpoch(asked.current_leader_epoch),
                    leader_epoch: LeaderEpoch(asked.leader_epoch),
                };
                (node, ask)
            }));
        }
    }
    scatter::ask(cx, Ends { topics: request.topics }, asks, READ_TIMEOUT_MS)
}

struct Ends {
    topics: Vec<OffsetForLeaderTopic>,
}

impl Question for Ends {
    type Ask = EpochEndPartition;
    type Found = EpochEnd;

    fn request(asks: Vec<EpochEndPartition>) -> Request {
        Request::EpochEnds(asks)
    }

    fn found(response: Response) -> Option<FoundByPartition<EpochEnd>> {
        match response {
            Response::EpochEnds(found) => Some(found),
            _ => None,
        }
    }

    fn answer(self, cx: &mut Context<'_>, results: Vec<Result<EpochEnd, ErrorCode>>) -> Answer {
        let mut results = results.into_iter();
        let mut response = OffsetForLeaderEpochResponse::default();
        for topic in self.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for asked in topic.partitions {
                let mut answer = EpochEndOffset { partition: asked.partition, ..Default::default() };
                match results.next().unwrap_or(Err(ErrorCode::UnknownServerError)) {
                    Ok(end) => {
                        answer.leader_epoch = end.epoch.0;
                        answer.end_offset = end.end_offset.0;
                    }
                    Err(code) => answer.error_code = cx.code(code),
                }
                partitions.push(answer);
            }
            response.topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
        }
        cx.respond(&response)
    }
}

#[cfg(test)]
mod tests {
    use base_types::Offset;
    use kafka_wire::k23_offset_for_leader_epoch::OffsetForLeaderPartition;

    use super::*;
    use crate::testing::World;

    #[test]
    fn the_end_of_an_epoch_is_asked_of_the_leader() {
        for version in SUPPORTED {
            let mut world = World::new(1);
            world.topic("t", &[1]);
            let partition =
                |partition| OffsetForLeaderPartition { partition, current_leader_epoch: 5, leader_epoch: 3 };
            let topics = vec![OffsetForLeaderTopic { topic: "t".into(), partitions: vec![partition(0), partition(4)] }];
            world.send(version, &OffsetForLeaderEpochRequest { topics, ..Default::default() });
            let (node, call, request) = world.next_request();
            let Request::EpochEnds(asks) = request else { panic!("{request:?}") };
            assert_eq!((asks[0].current_leader_epoch, asks[0].leader_epoch), (LeaderEpoch(5), LeaderEpoch(3)));
            let end = EpochEnd { epoch: LeaderEpoch(2), end_offset: Offset(40) };
            world.storage_answers(node, call, Response::EpochEnds(vec![(asks[0].partition, Ok(end))]));
            let (_, response) = world.answer::<OffsetForLeaderEpochRequest>(version);
            let told: Vec<_> = response.topics[0]
                .partitions
                .iter()
                .map(|end| (end.partition, end.error_code, end.leader_epoch, end.end_offset))
                .collect();
            assert_eq!(told, [(0, 0, 2, 40), (4, 3, -1, -1)]);
        }
    }
}
