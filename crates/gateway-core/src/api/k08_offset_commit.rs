//! OffsetCommit (8): how far a group has read.
//!
//! Versions 2–10. v2 to v4: how long to keep the offsets. v6: leader epochs (KIP-320). v7: static members (KIP-345). v8: flexible.
//! v9: members of the consumer protocol, and the code STALE_MEMBER_EPOCH (KIP-848). v10: topics by id (KIP-848).
//!
//! Topics and partitions that do not exist are answered here and not told to the coordinator. An error of the whole commit is
//! told for every partition that does exist.

use std::ops::RangeInclusive;

use base_types::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, TopicId};
use kafka_wire::k08_offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_wire::{OffsetCommitRequest, OffsetCommitResponse};
use peer_api::groups::{CommitPartition, GroupRequest, GroupResponse, OffsetCommit, OffsetTopic};
use peer_api::metadata::{Image, Topic};

use crate::api::coordination::{self, Told};
use crate::limits::COORDINATOR_ANSWER_MS;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 2..=10;

/// Whether topics have ids instead of names.
const BY_ID: i16 = 10;

/// A topic of the request, and what is already known to be wrong with each partition.
struct Asked {
    topic: OffsetCommitRequestTopic,
    refused: Vec<Option<ErrorCode>>,
}

pub(crate) fn begin(cx: &mut Context<'_>, request: OffsetCommitRequest) -> Begun {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut asked = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = find(cx.image, cx.version(), &topic);
        let known = found.map_or((TopicId::ZERO, ""), |found| (found.id, found.name.as_str()));
        let refused: Vec<Option<ErrorCode>> = topic
            .partitions
            .iter()
            .map(|commit| match found.map(|found| found.partition(PartitionIndex(commit.partition_index))) {
                Err(code) => Some(code),
                Ok(None) => Some(ErrorCode::UnknownTopicOrPartition),
                Ok(Some(_)) => None,
            })
            .collect();
        let accepted = topic.partitions.iter().zip(&refused).filter(|(_, refused)| refused.is_none());
        let partitions: Vec<CommitPartition> = accepted.map(|(commit, _)| commit_of(commit)).collect();
        if !partitions.is_empty() {
            topics.push(OffsetTopic { id: known.0, name: known.1.to_owned(), partitions });
        }
        asked.push(Asked { topic, refused });
    }
    if topics.is_empty() {
        return Begun::Answered(answer(cx, asked, &Ok(GroupResponse::OffsetCommit(Ok(Vec::new())))));
    }
    let commit = OffsetCommit {
        group_id: request.group_id.to_string(),
        generation_or_epoch: request.generation_id_or_member_epoch,
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
        retention_ms: Some(request.retention_time_ms).filter(|ms| *ms >= 0),
        knows_member_epochs: cx.version() >= 9,
        topics,
    };
    let group_id = request.group_id;
    coordination::ask(cx, &group_id, GroupRequest::OffsetCommit(commit), COORDINATOR_ANSWER_MS, move |cx, told| {
        answer(cx, asked, &told)
    })
}

fn commit_of(commit: &OffsetCommitRequestPartition) -> CommitPartition {
    CommitPartition {
        partition: PartitionIndex(commit.partition_index),
        offset: Offset(commit.committed_offset),
        leader_epoch: LeaderEpoch(commit.committed_leader_epoch),
        metadata: commit.committed_metadata.as_ref().map(ToString::to_string),
    }
}

fn find<'a>(image: &'a Image, version: i16, topic: &OffsetCommitRequestTopic) -> Result<&'a Topic, ErrorCode> {
    if version >= BY_ID {
        image.topic(TopicId(topic.topic_id.0)).ok_or(ErrorCode::UnknownTopicId)
    } else {
        image.topic_named(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}

/// In the order of the request. The coordinator keeps it too, so that a partition that is named twice has two verdicts.
fn answer(cx: &mut Context<'_>, asked: Vec<Asked>, told: &Told) -> Answer {
    let mut verdicts = Vec::new();
    let of_all = match told {
        Ok(GroupResponse::OffsetCommit(Ok(topics))) => {
            let each = topics.iter().flat_map(|topic| &topic.partitions);
            verdicts.extend(each.map(|verdict| (verdict.partition.0, verdict.error)));
            ErrorCode::UnknownServerError
        }
        Ok(GroupResponse::OffsetCommit(Err(code))) | Err(code) => *code,
        Ok(_) => ErrorCode::UnknownServerError,
    };
    let mut topics = Vec::with_capacity(asked.len());
    let mut verdicts = verdicts.into_iter();
    for Asked { topic, refused } in asked {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (commit, refused) in topic.partitions.iter().zip(refused) {
            let verdict =
                || verdicts.next().filter(|(index, _)| *index == commit.partition_index).map(|(_, code)| code);
            let error_code = cx.code(refused.or_else(verdict).unwrap_or(of_all));
            partitions.push(OffsetCommitResponsePartition { partition_index: commit.partition_index, error_code });
        }
        topics.push(OffsetCommitResponseTopic { name: topic.name, topic_id: topic.topic_id, partitions });
    }
    cx.respond(&OffsetCommitResponse { topics, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use kafka_wire::Uuid;
    use peer_api::groups::{CommittedPartition, CoordinatorError};

    use super::*;
    use crate::testing::World;

    fn partition(index: i32, offset: i64, metadata: Option<&str>) -> OffsetCommitRequestPartition {
        OffsetCommitRequestPartition {
            partition_index: index,
            committed_offset: offset,
            committed_leader_epoch: -1,
            committed_metadata: metadata.map(Into::into),
        }
    }

    fn topic(name: &str, id: TopicId, partitions: Vec<OffsetCommitRequestPartition>) -> OffsetCommitRequestTopic {
        OffsetCommitRequestTopic { name: name.into(), topic_id: Uuid(id.0), partitions }
    }

    fn commit(topics: Vec<OffsetCommitRequestTopic>) -> OffsetCommitRequest {
        OffsetCommitRequest {
            group_id: "g".into(),
            generation_id_or_member_epoch: 3,
            member_id: "m".into(),
            topics,
            ..Default::default()
        }
    }

    /// In the form of the version: by name, or by id.
    fn in_form(version: i16, mut request: OffsetCommitRequest) -> OffsetCommitRequest {
        for topic in &mut request.topics {
            if version >= BY_ID { topic.name = "".into() } else { topic.topic_id = Uuid::default() }
        }
        request
    }

    fn committed(id: TopicId, name: &str, verdicts: &[(i32, ErrorCode)]) -> GroupResponse {
        let partition =
            |(index, error): &(i32, ErrorCode)| CommittedPartition { partition: PartitionIndex(*index), error: *error };
        let partitions = verdicts.iter().map(partition).collect();
        GroupResponse::OffsetCommit(Ok(vec![OffsetTopic { id, name: name.into(), partitions }]))
    }

    fn codes(response: &OffsetCommitResponse) -> Vec<(i32, i16)> {
        response.topics.iter().flat_map(|t| &t.partitions).map(|p| (p.partition_index, p.error_code)).collect()
    }

    /// Trap 48: what the client notes goes with the offset.
    #[test]
    fn every_version_says_the_same_to_the_coordinator() {
        for version in SUPPORTED {
            let mut world = World::with_groups(1);
            let id = world.topic("t", &[1, 1]);
            let mut request = commit(vec![topic("t", id, vec![partition(1, 7, Some("note")), partition(0, 5, None)])]);
            request.retention_time_ms = if version <= 4 { 1_000 } else { -1 };
            request.group_instance_id = (version >= 7).then(|| "i".into());
            if version >= 6 {
                request.topics[0].partitions[0].committed_leader_epoch = 2;
            }
            let request = in_form(version, request);
            let answer = committed(id, "t", &[(1, ErrorCode::None), (0, ErrorCode::OffsetMetadataTooLarge)]);
            let (asked, response) = world.coordinate(version, &request, Ok(answer));
            let GroupRequest::OffsetCommit(asked) = asked else { panic!("{asked:?}") };
            assert_eq!((&*asked.group_id, asked.generation_or_epoch, &*asked.member_id), ("g", 3, "m"));
            assert_eq!(asked.retention_ms, (version <= 4).then_some(1_000));
            assert_eq!(asked.group_instance_id.as_deref(), (version >= 7).then_some("i"));
            assert_eq!(asked.knows_member_epochs, version >= 9);
            assert_eq!((asked.topics[0].id, &*asked.topics[0].name), (id, "t"));
            let first = &asked.topics[0].partitions[0];
            assert_eq!(
                (first.partition, first.offset, first.metadata.as_deref()),
                (PartitionIndex(1), Offset(7), Some("note"))
            );
            assert_eq!(first.leader_epoch.0, if version >= 6 { 2 } else { -1 });
            assert_eq!(asked.topics[0].partitions[1].metadata, None);
            assert_eq!(codes(&response), [(1, 0), (0, 12)]);
            assert_eq!(&*response.topics[0].name, if version < BY_ID { "t" } else { "" });
            assert_eq!(response.topics[0].topic_id.0, if version < BY_ID { [0; 16] } else { id.0 });
        }
    }

    #[test]
    fn what_does_not_exist_is_answered_here_and_the_order_is_kept() {
        for version in [2, 9, 10] {
            let mut world = World::with_groups(1);
            let id = world.topic("t", &[1]);
            let gone = TopicId([99; 16]);
            let one = |index| vec![partition(index, 1, None)];
            let request = in_form(
                version,
                commit(vec![
                    topic("gone", gone, one(0)),
                    topic("t", id, vec![partition(4, 1, None), partition(0, 1, None), partition(-1, 1, None)]),
                ]),
            );
            let (asked, response) =
                world.coordinate(version, &request, Ok(committed(id, "t", &[(0, ErrorCode::None)])));
            let GroupRequest::OffsetCommit(asked) = asked else { panic!("{asked:?}") };
            assert_eq!((asked.topics.len(), asked.topics[0].partitions.len()), (1, 1));
            let unknown = if version >= BY_ID { 100 } else { 3 };
            assert_eq!(codes(&response), [(0, unknown), (4, 3), (0, 0), (-1, 3)]);
            // Nobody needs to be asked.
            let request = in_form(version, commit(vec![topic("gone", gone, one(0))]));
            assert_eq!(codes(&world.ask::<OffsetCommitRequest>(version, &request)), [(0, unknown)]);
            assert_eq!(codes(&world.ask::<OffsetCommitRequest>(version, &commit(vec![]))), []);
        }
    }

    #[test]
    fn a_partition_named_twice_has_two_verdicts() {
        let mut world = World::with_groups(1);
        let id = world.topic("t", &[1]);
        let twice = vec![partition(0, 1, None), partition(3, 1, None), partition(0, 1, Some("too long"))];
        let request = in_form(8, commit(vec![topic("t", id, twice)]));
        let answer = committed(id, "t", &[(0, ErrorCode::None), (0, ErrorCode::OffsetMetadataTooLarge)]);
        assert_eq!(codes(&world.coordinate(8, &request, Ok(answer)).1), [(0, 0), (3, 3), (0, 12)]);
    }

    #[test]
    fn an_error_of_the_whole_is_told_for_what_exists() {
        let mut world = World::with_groups(1);
        let id = world.topic("t", &[1, 1]);
        let topics = vec![topic("t", id, vec![partition(0, 1, None), partition(1, 1, None), partition(2, 1, None)])];
        let request = in_form(8, commit(topics));
        let refused = Ok(GroupResponse::OffsetCommit(Err(ErrorCode::IllegalGeneration)));
        assert_eq!(codes(&world.coordinate(8, &request, refused).1), [(0, 22), (1, 22), (2, 3)]);
        let late = Err(CoordinatorError::TimedOut);
        assert_eq!(codes(&world.coordinate(8, &request, late).1), [(0, 15), (1, 15), (2, 3)]);
    }
}
