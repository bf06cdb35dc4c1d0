//! OffsetFetch (9): how far groups have committed.
//!
//! Versions 1–10. v2: null topics mean all, and an error of the whole group. v5: leader epochs (KIP-320). v6: flexible. v7: only
//! stable offsets, if asked for (KIP-447, trap 49). v8: several groups (KIP-709). v9: member and epoch are checked (KIP-848). v10:
//! topics by id.
//!
//! Every partition that was asked for is answered, −1 where nothing is committed, and no other (trap 47). Version 1 has no place
//! for an error of the group: each partition has it. With ids, committed offsets of topics that are gone are left out.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use base_types::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, TopicId};
use kafka_wire::k09_offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_wire::{KafkaString, OffsetFetchRequest, OffsetFetchResponse, Uuid};
use peer_api::groups::{
    FetchGroup, FetchedGroup, FetchedOffset, GroupRequest, GroupResponse, OffsetFetch, OffsetTopic,
};

use crate::api::coordination::{self, Ask, Place, Told};
use crate::limits::COORDINATOR_ANSWER_MS;
use crate::operation::{Answer, Begun, Context};

pub(crate) const SUPPORTED: RangeInclusive<i16> = 1..=10;

const TOP_LEVEL_ERROR: i16 = 2;
const SEVERAL_GROUPS: i16 = 8;
/// Whether topics have ids instead of names.
const BY_ID: i16 = 10;

/// A group as it was asked for; each topic with its name, if that is known.
struct Asked {
    group_id: KafkaString,
    /// `None`: all.
    topics: Option<Vec<(Option<String>, OffsetFetchRequestTopics)>>,
}

pub(crate) fn begin(cx: &mut Context<'_>, request: OffsetFetchRequest) -> Begun {
    let require_stable = request.require_stable;
    let groups = if cx.version() >= SEVERAL_GROUPS { request.groups } else { vec![single(request)] };
    if let Some(refused) = coordination::refuse_too_many(groups.len()) {
        return refused;
    }
    let mut asks = Vec::with_capacity(groups.len());
    let mut asked = Vec::with_capacity(groups.len());
    for group in groups {
        let topics: Option<Vec<_>> =
            group.topics.map(|topics| topics.into_iter().map(|topic| (name(cx, &topic), topic)).collect());
        let fetch = FetchGroup {
            group_id: group.group_id.to_string(),
            member_id: group.member_id.map(|id| id.to_string()),
            member_epoch: group.member_epoch,
            topics: topics.as_ref().map(|topics| wanted(cx, topics)),
        };
        let request = GroupRequest::OffsetFetch(OffsetFetch { groups: vec![fetch], require_stable });
        asks.push(Ask { place: Place::OfGroup(group.group_id.to_string()), request });
        asked.push(Asked { group_id: group.group_id, topics });
    }
    coordination::ask_each(cx, asks, COORDINATOR_ANSWER_MS, move |cx, told| answer(cx, asked, told))
}

/// The older form as the newer.
fn single(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.map(|topics| {
        let topic = |topic: kafka_wire::k09_offset_fetch::OffsetFetchRequestTopic| OffsetFetchRequestTopics {
            name: topic.name,
            topic_id: Uuid::default(),
            partition_indexes: topic.partition_indexes,
        };
        topics.into_iter().map(topic).collect()
    });
    OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() }
}

/// Offsets are kept by name, also those of topics that do not exist.
fn name(cx: &Context<'_>, topic: &OffsetFetchRequestTopics) -> Option<String> {
    if cx.version() >= BY_ID {
        cx.image.topic(TopicId(topic.topic_id.0)).map(|topic| topic.name.clone())
    } else {
        Some(topic.name.to_string())
    }
}

fn wanted(cx: &Context<'_>, topics: &[(Option<String>, OffsetFetchRequestTopics)]) -> Vec<OffsetTopic<PartitionIndex>> {
    topics
        .iter()
        .filter_map(|(name, topic)| {
            let name = name.clone()?;
            let id = cx.image.topic_named(&name).map_or(TopicId::ZERO, |topic| topic.id);
            let partitions = topic.partition_indexes.iter().copied().map(PartitionIndex).collect();
            Some(OffsetTopic { id, name, partitions })
        })
        .collect()
}

fn answer(cx: &mut Context<'_>, asked: Vec<Asked>, told: Vec<Told>) -> Answer {
    let mut groups: Vec<OffsetFetchResponseGroup> =
        asked.into_iter().zip(told).map(|(asked, told)| group(cx, asked, told)).collect();
    if cx.version() >= SEVERAL_GROUPS {
        return cx.respond(&OffsetFetchResponse { groups, ..Default::default() });
    }
    let group = groups.pop().unwrap_or_default();
    let topics = group.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(in_older_form).collect(),
    });
    cx.respond(&OffsetFetchResponse { topics: topics.collect(), error_code: group.error_code, ..Default::default() })
}

fn in_older_form(partition: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    }
}

fn group(cx: &mut Context<'_>, asked: Asked, told: Told) -> OffsetFetchResponseGroup {
    let found: Result<Vec<OffsetTopic<FetchedOffset>>, ErrorCode> = match told {
        Ok(GroupResponse::OffsetFetch(groups)) => match groups.into_iter().next() {
            Some(FetchedGroup { result, .. }) => result,
            None => Err(ErrorCode::UnknownServerError),
        },
        Ok(_) => Err(ErrorCode::UnknownServerError),
        // Java's consumer gives up on the one, and librdkafka's admin client crashes on both. This one all of them try again,
        // and no other broker would know better.
        Err(ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator) => {
            Err(ErrorCode::CoordinatorLoadInProgress)
        }
        Err(code) => Err(code),
    };
    let group_id = asked.group_id;
    match found {
        Ok(found) => {
            let topics = match asked.topics {
                None => everything(cx, found),
                Some(topics) => chosen(cx, topics, found),
            };
            OffsetFetchResponseGroup { group_id, topics, error_code: 0 }
        }
        Err(code) if cx.version() >= TOP_LEVEL_ERROR => {
            OffsetFetchResponseGroup { group_id, topics: Vec::new(), error_code: cx.code(code) }
        }
        Err(code) => {
            let topics = asked.topics.unwrap_or_default().into_iter().map(|(_, topic)| {
                let partitions = topic.partition_indexes.iter().map(|index| nothing(cx, *index, code)).collect();
                OffsetFetchResponseTopics { name: topic.name, topic_id: topic.topic_id, partitions }
            });
            OffsetFetchResponseGroup { group_id, topics: topics.collect(), error_code: 0 }
        }
    }
}

fn everything(cx: &mut Context<'_>, found: Vec<OffsetTopic<FetchedOffset>>) -> Vec<OffsetFetchResponseTopics> {
    let mut topics = Vec::with_capacity(found.len());
    for topic in found {
        let topic_id = match cx.image.topic_named(&topic.name) {
            Some(known) => known.id,
            None if cx.version() >= BY_ID => continue,
            None => TopicId::ZERO,
        };
        let partitions = topic.partitions.into_iter().map(|offset| committed(cx, &offset)).collect();
        topics.push(OffsetFetchResponseTopics { name: topic.name.into(), topic_id: Uuid(topic_id.0), partitions });
    }
    topics
}

fn chosen(
    cx: &mut Context<'_>,
    topics: Vec<(Option<String>, OffsetFetchRequestTopics)>,
    found: Vec<OffsetTopic<FetchedOffset>>,
) -> Vec<OffsetFetchResponseTopics> {
    let mut offsets = BTreeMap::new();
    for topic in &found {
        offsets.extend(topic.partitions.iter().map(|offset| ((topic.name.as_str(), offset.partition.0), offset)));
    }
    let mut answers = Vec::with_capacity(topics.len());
    for (name, topic) in topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for &index in &topic.partition_indexes {
            partitions.push(match &name {
                None => nothing(cx, index, ErrorCode::UnknownTopicId),
                Some(name) => match offsets.get(&(name.as_str(), index)) {
                    Some(offset) => committed(cx, offset),
                    None => nothing(cx, index, ErrorCode::None),
                },
            });
        }
        answers.push(OffsetFetchResponseTopics { name: topic.name, topic_id: topic.topic_id, partitions });
    }
    answers
}

fn committed(cx: &mut Context<'_>, found: &FetchedOffset) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: found.partition.0,
        committed_offset: found.offset.0,
        committed_leader_epoch: found.leader_epoch.0,
        metadata: Some(found.metadata.as_str().into()),
        error_code: cx.code(found.error),
    }
}

fn nothing(cx: &mut Context<'_>, partition_index: i32, code: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: Offset::UNKNOWN.0,
        committed_leader_epoch: LeaderEpoch::UNKNOWN.0,
        metadata: Some(KafkaString::default()),
        error_code: cx.code(code),
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::k09_offset_fetch::OffsetFetchRequestTopic;
    use peer_api::groups::CoordinatorError;

    use super::*;
    use crate::testing::World;

    fn offset(partition: i32, offset: i64) -> FetchedOffset {
        FetchedOffset {
            partition: PartitionIndex(partition),
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(2),
            metadata: "note".into(),
            error: ErrorCode::None,
        }
    }

    fn fetched(topics: Vec<(&str, Vec<FetchedOffset>)>) -> GroupResponse {
        let topic = |(name, partitions): (&str, Vec<FetchedOffset>)| OffsetTopic {
            id: TopicId::ZERO,
            name: name.into(),
            partitions,
        };
        let topics = topics.into_iter().map(topic).collect();
        GroupResponse::OffsetFetch(vec![FetchedGroup { group_id: "g".into(), result: Ok(topics) }])
    }

    fn refused(code: ErrorCode) -> GroupResponse {
        GroupResponse::OffsetFetch(vec![FetchedGroup { group_id: "g".into(), result: Err(code) }])
    }

    /// The same request in the form of any version.
    fn request(version: i16, topics: Option<Vec<(&str, TopicId, Vec<i32>)>>) -> OffsetFetchRequest {
        if version < SEVERAL_GROUPS {
            let topic = |(name, _, partition_indexes): (&str, TopicId, Vec<i32>)| OffsetFetchRequestTopic {
                name: name.into(),
                partition_indexes,
            };
            let topics = topics.map(|topics| topics.into_iter().map(topic).collect());
            return OffsetFetchRequest { group_id: "g".into(), topics, ..Default::default() };
        }
        let topic = |(name, id, partition_indexes): (&str, TopicId, Vec<i32>)| OffsetFetchRequestTopics {
            name: if version >= BY_ID { "".into() } else { name.into() },
            topic_id: if version >= BY_ID { Uuid(id.0) } else { Uuid::default() },
            partition_indexes,
        };
        let topics = topics.map(|topics| topics.into_iter().map(topic).collect());
        let group = OffsetFetchRequestGroup { group_id: "g".into(), topics, ..Default::default() };
        OffsetFetchRequest { groups: vec![group], ..Default::default() }
    }

    /// Name, partition, offset and error of everything in an answer of any version, and the error of the group.
    fn told(response: &OffsetFetchResponse) -> (Vec<(String, i32, i64, i16)>, i16) {
        let older = response.topics.iter().flat_map(|topic| {
            let name = topic.name.to_string();
            topic.partitions.iter().map(move |p| (name.clone(), p.partition_index, p.committed_offset, p.error_code))
        });
        let newer = response.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| {
            let name =
                if topic.topic_id.is_zero() { topic.name.to_string() } else { format!("id {}", topic.topic_id.0[0]) };
            topic.partitions.iter().map(move |p| (name.clone(), p.partition_index, p.committed_offset, p.error_code))
        });
        let code = response.groups.first().map_or(response.error_code, |group| group.error_code);
        (older.chain(newer).collect(), code)
    }

    /// Trap 47.
    #[test]
    fn every_partition_asked_for_is_answered_and_no_other() {
        for version in SUPPORTED {
            let mut world = World::with_groups(1);
            let id = world.topic("t", &[1, 1]);
            let request = request(version, Some(vec![("t", id, vec![1, 0, 7])]));
            let found = fetched(vec![("t", vec![offset(0, 5), offset(1, 9), offset(3, 1)])]);
            let (asked, response) = world.coordinate(version, &request, Ok(found));
            let GroupRequest::OffsetFetch(OffsetFetch { groups, require_stable }) = asked else { panic!("{asked:?}") };
            let topic = &groups[0].topics.as_ref().unwrap()[0];
            assert_eq!((topic.id, &*topic.name, topic.partitions.len(), require_stable), (id, "t", 3, false));
            assert_eq!((groups[0].member_id.as_deref(), groups[0].member_epoch), (None, -1));
            let name = if version >= BY_ID { "id 2".to_owned() } else { "t".to_owned() };
            let expected = [(name.clone(), 1, 9, 0), (name.clone(), 0, 5, 0), (name, 7, -1, 0)];
            assert_eq!(told(&response), (expected.to_vec(), 0), "version {version}");
            let epochs: Vec<i32> = match version {
                ..SEVERAL_GROUPS => response.topics[0].partitions.iter().map(|p| p.committed_leader_epoch).collect(),
                _ => response.groups[0].topics[0].partitions.iter().map(|p| p.committed_leader_epoch).collect(),
            };
            assert_eq!(epochs, if version >= 5 { [2, 2, -1] } else { [-1, -1, -1] });
        }
    }

    #[test]
    fn null_means_everything_from_v2_on() {
        for version in 2..=10 {
            let mut world = World::with_groups(1);
            world.topic("t", &[1]);
            let found = fetched(vec![("gone", vec![offset(0, 3)]), ("t", vec![offset(0, 5)])]);
            let (asked, response) = world.coordinate(version, &request(version, None), Ok(found));
            let GroupRequest::OffsetFetch(asked) = asked else { panic!("{asked:?}") };
            assert_eq!(asked.groups[0].topics, None);
            let expected = if version >= BY_ID {
                vec![("id 2".to_owned(), 0, 5, 0)]
            } else {
                vec![("gone".to_owned(), 0, 3, 0), ("t".to_owned(), 0, 5, 0)]
            };
            assert_eq!(told(&response), (expected, 0), "version {version}");
        }
    }

    #[test]
    fn no_coordinator_is_an_error_that_every_client_tries_again() {
        for (error, code) in [
            (CoordinatorError::NotAvailable, 14),
            (CoordinatorError::TimedOut, 14),
            (CoordinatorError::WriteRefused, -1),
        ] {
            let mut world = World::with_groups(1);
            let (_, response) = world.coordinate(9, &request(9, None), Err(error));
            assert_eq!(told(&response), (Vec::new(), code), "{error:?}");
        }
    }

    #[test]
    fn an_unknown_id_is_an_error_of_its_partitions_and_an_unknown_name_is_none() {
        let mut world = World::with_groups(1);
        let id = world.topic("t", &[1]);
        let topics = |gone| Some(vec![("gone", gone, vec![0, 1]), ("t", id, vec![0])]);
        let gone = TopicId([99; 16]);
        let found = || fetched(vec![("t", vec![offset(0, 5)])]);
        let (asked, response) = world.coordinate(10, &request(10, topics(gone)), Ok(found()));
        let GroupRequest::OffsetFetch(asked) = asked else { panic!("{asked:?}") };
        assert_eq!(asked.groups[0].topics.as_ref().unwrap().len(), 1);
        let (all, _) = told(&response);
        assert_eq!(
            all,
            [("id 99".to_owned(), 0, -1, 100), ("id 99".to_owned(), 1, -1, 100), ("id 2".to_owned(), 0, 5, 0)]
        );
        let (asked, response) = world.coordinate(9, &request(9, topics(gone)), Ok(found()));
        let GroupRequest::OffsetFetch(asked) = asked else { panic!("{asked:?}") };
        assert_eq!(asked.groups[0].topics.as_ref().unwrap()[0].id, TopicId::ZERO);
        let (all, _) = told(&response);
        assert_eq!(all[..2], [("gone".to_owned(), 0, -1, 0), ("gone".to_owned(), 1, -1, 0)]);
    }

    #[test]
    fn an_error_of_the_group_is_on_top_where_there_is_room() {
        for version in SUPPORTED {
            let mut world = World::with_groups(1);
            let id = world.topic("t", &[1]);
            let request = request(version, Some(vec![("t", id, vec![0, 1])]));
            let (_, response) = world.coordinate(version, &request, Ok(refused(ErrorCode::UnknownMemberId)));
            let each = vec![("t".to_owned(), 0, -1, 25), ("t".to_owned(), 1, -1, 25)];
            let expected = if version == 1 { (each, 0) } else { (Vec::new(), 25) };
            assert_eq!(told(&response), expected, "version {version}");
        }
    }

    /// Trap 49, and KIP-848's check of the member.
    #[test]
    fn stability_and_member_are_passed_on_and_the_error_comes_back() {
        let mut world = World::with_groups(1);
        let id = world.topic("t", &[1]);
        let mut asking = request(9, Some(vec![("t", id, vec![0])]));
        asking.require_stable = true;
        asking.groups[0].member_id = Some("m".into());
        asking.groups[0].member_epoch = 4;
        let unstable = FetchedOffset { offset: Offset(-1), error: ErrorCode::UnstableOffsetCommit, ..offset(0, 0) };
        let (asked, response) = world.coordinate(9, &asking, Ok(fetched(vec![("t", vec![unstable])])));
        let GroupRequest::OffsetFetch(asked) = asked else { panic!("{asked:?}") };
        assert!(asked.require_stable);
        assert_eq!((asked.groups[0].member_id.as_deref(), asked.groups[0].member_epoch), (Some("m"), 4));
        assert_eq!(told(&response).0, [("t".to_owned(), 0, -1, 88)]);
    }

    #[test]
    fn several_groups_are_asked_where_each_lives_and_answered_in_order() {
        let mut world = World::new(2);
        let mut leaders = vec![1; 50];
        leaders[12] = 2;
        world.topic(peer_api::groups::GROUPS_TOPIC, &leaders);
        let group = |group_id: &str| OffsetFetchRequestGroup {
            group_id: group_id.into(),
            topics: Some(Vec::new()),
            ..Default::default()
        };
        let groups = vec![group("test"), group("my-group"), group("")];
        world.send(8, &OffsetFetchRequest { groups, ..Default::default() });
        let first = world.next_question();
        let second = world.next_question();
        let third = world.next_question();
        assert_eq!((first.0.0, second.0.0, third.2.partition), (1, 2, PartitionIndex(0)));
        world.coordinator_answers(second.0, second.1, Err(CoordinatorError::WriteRefused));
        world.coordinator_answers(third.0, third.1, Ok(fetched(vec![])));
        assert!(world.is_silent());
        world.coordinator_answers(first.0, first.1, Ok(fetched(vec![])));
        let (_, response) = world.answer::<OffsetFetchRequest>(8);
        let codes: Vec<_> = response.groups.iter().map(|group| (&*group.group_id, group.error_code)).collect();
        assert_eq!(codes, [("test", 0), ("my-group", -1), ("", 0)]);
    }
}
