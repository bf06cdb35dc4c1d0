//! Records as Kafka 4.3's own classes write them: what each means, and that we write the newest of each alike.
//!
//! `fixtures/records.txt` is written by `tests-e2e/golden-java/GroupRecords.java`, which says how to run it.

use base_types::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId};
use bytes::Bytes;
use coordinator_core::LogRecord;
use coordinator_core::records::{
    ClassicGroupValue, ClassicMemberMetadata, ClassicMemberValue, ConsumerGroupValue, ConsumerMemberValue,
    ConsumerRecord, CurrentMemberValue, CurrentTopic, OffsetKey, OffsetValue, Record, RegularExpressionValue,
    TargetAssignmentValue,
};
use peer_api::groups::AssignedTopic;

const RECORDS: &str = include_str!("../fixtures/records.txt");

const TOPIC: TopicId = TopicId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
const AT: Timestamp = Timestamp(1_700_000_000_000);

fn text(text: &str) -> String {
    text.to_owned()
}

fn offset(version: i16) -> OffsetValue {
    OffsetValue {
        offset: Offset(1_234_567_890_123),
        leader_epoch: LeaderEpoch(if version >= 3 { 5 } else { -1 }),
        metadata: text("m\u{e9}tadata"),
        committed_at: AT,
        expires_at: (version == 1).then_some(Timestamp(1_700_000_060_000)),
        topic_id: if version >= 4 { TOPIC } else { TopicId::ZERO },
    }
}

fn classic(version: i16) -> ClassicGroupValue {
    let member =
        |id: &str, instance: Option<&str>, subscription: &'static [u8], assignment: &'static [u8]| ClassicMemberValue {
            member_id: text(id),
            group_instance_id: instance.filter(|_| version >= 3).map(text),
            client_id: text("client"),
            client_host: text("/127.0.0.1"),
            rebalance_timeout_ms: if version >= 1 { 300_000 } else { -1 },
            session_timeout_ms: 45_000,
            subscription: Bytes::from_static(subscription),
            assignment: Bytes::from_static(assignment),
        };
    ClassicGroupValue {
        protocol_type: text("consumer"),
        generation: 9,
        protocol: Some(text("range")),
        leader: Some(text("member-1")),
        state_since: if version >= 2 { AT } else { Timestamp::NONE },
        members: vec![member("member-1", Some("instance"), &[1, 2, 3], &[4]), member("member-2", None, &[], &[])],
    }
}

fn consumer_member() -> ConsumerMemberValue {
    ConsumerMemberValue {
        instance_id: Some(text("instance")),
        rack_id: Some(text("rack")),
        client_id: text("client"),
        client_host: text("/127.0.0.1"),
        subscribed_topic_names: vec![text("a"), text("b")],
        subscribed_topic_regex: Some(text("x.*")),
        rebalance_timeout_ms: 300_000,
        server_assignor: Some(text("uniform")),
        classic: None,
    }
}

fn meaning(name: &str, version: i16) -> Record {
    let of_offset = |value: OffsetValue| {
        let key = OffsetKey { group_id: text("gr\u{fc}\u{df}e"), topic: text("topic"), partition: PartitionIndex(7) };
        Record::Offset { key, value: Some(value) }
    };
    let of_group = |value: ClassicGroupValue| Record::Classic { group_id: text("group"), value: Some(value) };
    let topic = |partitions: &[i32], epochs: Option<&[i32]>| CurrentTopic {
        topic_id: TOPIC,
        partitions: partitions.iter().map(|index| PartitionIndex(*index)).collect(),
        assignment_epochs: epochs.map(<[i32]>::to_vec),
    };
    let record = match name {
        "offset" => return of_offset(offset(version)),
        "offset-without-topic-id" => return of_offset(OffsetValue { topic_id: TopicId::ZERO, ..offset(4) }),
        "offset-legacy" => return of_offset(offset(0)),
        "classic" => return of_group(classic(version)),
        "classic-empty" => return of_group(ClassicGroupValue { state_since: AT, ..ClassicGroupValue::default() }),
        "consumer" => ConsumerRecord::Group(Some(ConsumerGroupValue { epoch: 11, metadata_hash: -987_654_321 })),
        "consumer-without-hash" => ConsumerRecord::Group(Some(ConsumerGroupValue { epoch: 11, metadata_hash: 0 })),
        "consumer-partition-metadata" => ConsumerRecord::PartitionMetadata { present: true },
        "consumer-member" => ConsumerRecord::Member { member_id: text("member"), value: Some(consumer_member()) },
        "consumer-member-classic" => {
            let value = ConsumerMemberValue {
                instance_id: None,
                rack_id: None,
                subscribed_topic_regex: None,
                server_assignor: None,
                classic: Some(ClassicMemberMetadata {
                    session_timeout_ms: 45_000,
                    protocols: vec![(text("range"), Bytes::from_static(&[1, 2, 3]))],
                }),
                ..consumer_member()
            };
            ConsumerRecord::Member { member_id: text("member"), value: Some(value) }
        }
        "consumer-target" => {
            ConsumerRecord::TargetAssignment(Some(TargetAssignmentValue { epoch: 11, assigned_at: AT }))
        }
        "consumer-target-member" => {
            let topic = AssignedTopic { topic_id: TOPIC, partitions: vec![PartitionIndex(0), PartitionIndex(300)] };
            ConsumerRecord::TargetMember { member_id: text("member"), value: Some(vec![topic]) }
        }
        "consumer-current-member" => {
            let value = CurrentMemberValue {
                member_epoch: 11,
                previous_member_epoch: 10,
                state: 1,
                assigned: vec![topic(&[0, 300], Some(&[9, 11]))],
                pending_revocation: vec![topic(&[1], None)],
            };
            ConsumerRecord::CurrentMember { member_id: text("member"), value: Some(value) }
        }
        "consumer-regex" => {
            let value =
                RegularExpressionValue { topics: vec![text("xa"), text("xb")], version: 12_345, resolved_at: AT };
            ConsumerRecord::RegularExpression { regex: text("x.*"), value: Some(value) }
        }
        other => panic!("{other} is not known"),
    };
    Record::Consumer { group_id: text("group"), record }
}

/// What Kafka 4.3 would write too.
fn is_written(name: &str, version: i16) -> bool {
    match name {
        "offset" => version == 1 || version == 4,
        "classic" => version == 3,
        // Read and written only as a tombstone.
        "offset-legacy" | "consumer-partition-metadata" => false,
        _ => true,
    }
}

#[test]
fn kafkas_records_are_read_and_ours_are_kafkas() {
    let mut lines = 0;
    for line in RECORDS.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [name, version, key, value] = fields[..] else { panic!("{line}") };
        let version: i16 = version.parse().expect("a number");
        let bytes = LogRecord { key: unhex(key), value: Some(unhex(value)) };
        let expected = meaning(name, version);
        assert_eq!(Record::decode(&bytes), Ok(Some(expected.clone())), "{line}");
        if is_written(name, version) {
            assert_eq!(expected.encode(), bytes, "{line}");
        }
        lines += 1;
    }
    assert_eq!(lines, 22);
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16).expect("a hexadecimal digit")).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}
