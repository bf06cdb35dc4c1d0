//! What is written to `__consumer_offsets`, in Kafka's own formats, so that tools which read the topic work.
//!
//! ```text
//!  key   := type i16, fields                 0, 1 an offset   2 a classic group   3–8, 16 a consumer group
//!  value := version i16, fields              none: a tombstone
//! ```
//!
//! Every version that Kafka 4.3 reads is read, and what Kafka 4.3 writes is written. A key of another type (share groups,
//! streams groups) decodes to `None`: such groups are not coordinated here, and their records are left alone.
//!
//! Bytes may come from outside: nothing is allocated in proportion to a count that the bytes left do not justify.
//!
//! Tested at the bottom, and in `tests/golden.rs` against bytes that Kafka's own classes wrote.

mod decode;
mod encode;

use std::fmt;

use base_types::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId};
use bytes::Bytes;
use peer_api::groups::AssignedTopic;

use crate::event::LogRecord;

/// One record: what it is about and what it says of it. Values that are `None` are tombstones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Offset { key: OffsetKey, value: Option<OffsetValue> },
    Classic { group_id: String, value: Option<ClassicGroupValue> },
    Consumer { group_id: String, record: ConsumerRecord },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetKey {
    pub group_id: String,
    pub topic: String,
    pub partition: PartitionIndex,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetValue {
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: String,
    pub committed_at: Timestamp,
    /// When the client itself said how long to keep the offset.
    pub expires_at: Option<Timestamp>,
    /// [`TopicId::ZERO`] when it was not known.
    pub topic_id: TopicId,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ClassicGroupValue {
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    /// [`Timestamp::NONE`] when it is not known.
    pub state_since: Timestamp,
    pub members: Vec<ClassicMemberValue>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ClassicMemberValue {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// What is said of a consumer group (KIP-848).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerRecord {
    Group(Option<ConsumerGroupValue>),
    /// Written by Kafka before 4.1 only. Its content is not used; what is written of it is tombstones.
    PartitionMetadata {
        present: bool,
    },
    Member {
        member_id: String,
        value: Option<ConsumerMemberValue>,
    },
    TargetAssignment(Option<TargetAssignmentValue>),
    TargetMember {
        member_id: String,
        value: Option<Vec<AssignedTopic>>,
    },
    CurrentMember {
        member_id: String,
        value: Option<CurrentMemberValue>,
    },
    RegularExpression {
        regex: String,
        value: Option<RegularExpressionValue>,
    },
}

impl ConsumerRecord {
    pub fn is_tombstone(&self) -> bool {
        match self {
            ConsumerRecord::Group(value) => value.is_none(),
            ConsumerRecord::PartitionMetadata { present } => !present,
            ConsumerRecord::Member { value, .. } => value.is_none(),
            ConsumerRecord::TargetAssignment(value) => value.is_none(),
            ConsumerRecord::TargetMember { value, .. } => value.is_none(),
            ConsumerRecord::CurrentMember { value, .. } => value.is_none(),
            ConsumerRecord::RegularExpression { value, .. } => value.is_none(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ConsumerGroupValue {
    pub epoch: i32,
    /// 0 when it was not computed yet.
    pub metadata_hash: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConsumerMemberValue {
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub subscribed_topic_names: Vec<String>,
    pub subscribed_topic_regex: Option<String>,
    pub rebalance_timeout_ms: i32,
    pub server_assignor: Option<String>,
    /// The member speaks the classic protocol.
    pub classic: Option<ClassicMemberMetadata>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ClassicMemberMetadata {
    pub session_timeout_ms: i32,
    /// Protocols and their metadata.
    pub protocols: Vec<(String, Bytes)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TargetAssignmentValue {
    pub epoch: i32,
    /// 0 when it is not known.
    pub assigned_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CurrentMemberValue {
    pub member_epoch: i32,
    pub previous_member_epoch: i32,
    /// Kafka's number of the member's state; whoever folds it judges it.
    pub state: i8,
    pub assigned: Vec<CurrentTopic>,
    pub pending_revocation: Vec<CurrentTopic>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CurrentTopic {
    pub topic_id: TopicId,
    pub partitions: Vec<PartitionIndex>,
    /// The epoch at which each partition was assigned, in the order of `partitions`; `None` in older records.
    pub assignment_epochs: Option<Vec<i32>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RegularExpressionValue {
    pub topics: Vec<String>,
    /// Of the metadata against which it was resolved.
    pub version: i64,
    pub resolved_at: Timestamp,
}

/// The bytes are no record of this topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    pub what: &'static str,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record of __consumer_offsets: {}", self.what)
    }
}

impl std::error::Error for DecodeError {}

mod key_type {
    pub const OFFSET_LEGACY: i16 = 0;
    pub const OFFSET: i16 = 1;
    pub const CLASSIC_GROUP: i16 = 2;
    pub const CONSUMER_GROUP: i16 = 3;
    pub const CONSUMER_PARTITION_METADATA: i16 = 4;
    pub const CONSUMER_MEMBER: i16 = 5;
    pub const CONSUMER_TARGET_ASSIGNMENT: i16 = 6;
    pub const CONSUMER_TARGET_MEMBER: i16 = 7;
    pub const CONSUMER_CURRENT_MEMBER: i16 = 8;
    pub const CONSUMER_REGULAR_EXPRESSION: i16 = 16;
}

impl Record {
    /// As Kafka 4.3 writes it.
    pub fn encode(&self) -> LogRecord {
        encode::record(self)
    }

    /// `None` for a record of a type that is not folded here.
    pub fn decode(record: &LogRecord) -> Result<Option<Record>, DecodeError> {
        decode::record(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Record> {
        let offset = OffsetValue {
            offset: Offset(42),
            leader_epoch: LeaderEpoch(7),
            metadata: "m\u{e4}ta".to_owned(),
            committed_at: Timestamp(1_700_000_000_000),
            expires_at: None,
            topic_id: TopicId([9; 16]),
        };
        let key = OffsetKey { group_id: "g".to_owned(), topic: "t".to_owned(), partition: PartitionIndex(3) };
        let without_id = OffsetValue { topic_id: TopicId::ZERO, leader_epoch: LeaderEpoch(-1), ..offset.clone() };
        let expiring = OffsetValue { expires_at: Some(Timestamp(1_700_000_000_001)), ..without_id.clone() };
        let member = ClassicMemberValue {
            member_id: "m".to_owned(),
            group_instance_id: Some("i".to_owned()),
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            rebalance_timeout_ms: 300_000,
            session_timeout_ms: 45_000,
            subscription: Bytes::from_static(&[1, 2]),
            assignment: Bytes::from_static(&[3]),
        };
        let classic = ClassicGroupValue {
            protocol_type: "consumer".to_owned(),
            generation: 5,
            protocol: Some("range".to_owned()),
            leader: Some("m".to_owned()),
            state_since: Timestamp(1_700_000_000_000),
            members: vec![member.clone(), ClassicMemberValue { group_instance_id: None, ..member }],
        };
        let consumer_member = ConsumerMemberValue {
            instance_id: Some("i".to_owned()),
            rack_id: None,
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            subscribed_topic_names: vec!["a".to_owned(), "b".to_owned()],
            subscribed_topic_regex: Some("x.*".to_owned()),
            rebalance_timeout_ms: 1,
            server_assignor: Some("uniform".to_owned()),
            classic: Some(ClassicMemberMetadata {
                session_timeout_ms: 45_000,
                protocols: vec![("range".to_owned(), Bytes::from_static(&[1]))],
            }),
        };
        let topic = |epochs| CurrentTopic {
            topic_id: TopicId([1; 16]),
            partitions: vec![PartitionIndex(0), PartitionIndex(300)],
            assignment_epochs: epochs,
        };
        let current = CurrentMemberValue {
            member_epoch: 3,
            previous_member_epoch: 2,
            state: 1,
            assigned: vec![topic(Some(vec![1, 2]))],
            pending_revocation: vec![topic(None)],
        };
        let target = vec![AssignedTopic { topic_id: TopicId([2; 16]), partitions: vec![PartitionIndex(5)] }];
        let regex = RegularExpressionValue { topics: vec!["a".to_owned()], version: 8, resolved_at: Timestamp(9) };
        let member_id = || "m".to_owned();
        let consumer = [
            ConsumerRecord::Group(Some(ConsumerGroupValue { epoch: 4, metadata_hash: -12 })),
            ConsumerRecord::Group(Some(ConsumerGroupValue { epoch: 4, metadata_hash: 0 })),
            ConsumerRecord::PartitionMetadata { present: true },
            ConsumerRecord::PartitionMetadata { present: false },
            ConsumerRecord::Member { member_id: member_id(), value: Some(consumer_member.clone()) },
            ConsumerRecord::Member {
                member_id: member_id(),
                value: Some(ConsumerMemberValue { classic: None, ..consumer_member }),
            },
            ConsumerRecord::TargetAssignment(Some(TargetAssignmentValue { epoch: 3, assigned_at: Timestamp(77) })),
            ConsumerRecord::TargetMember { member_id: member_id(), value: Some(target) },
            ConsumerRecord::CurrentMember { member_id: member_id(), value: Some(current) },
            ConsumerRecord::RegularExpression { regex: "x.*".to_owned(), value: Some(regex) },
            ConsumerRecord::RegularExpression { regex: "x.*".to_owned(), value: None },
        ];
        let mut records = vec![
            Record::Offset { key: key.clone(), value: Some(offset) },
            Record::Offset { key: key.clone(), value: Some(without_id) },
            Record::Offset { key: key.clone(), value: Some(expiring) },
            Record::Offset { key, value: None },
            Record::Classic { group_id: "g".to_owned(), value: Some(classic) },
            Record::Classic { group_id: "g".to_owned(), value: None },
        ];
        records.extend(consumer.map(|record| Record::Consumer { group_id: "g".to_owned(), record }));
        records
    }

    #[test]
    fn records_read_back_as_they_were_written() {
        for record in samples() {
            assert_eq!(Record::decode(&record.encode()), Ok(Some(record)));
        }
    }

    #[test]
    fn a_record_cut_anywhere_is_an_error_and_never_a_panic() {
        for record in samples() {
            let whole = record.encode();
            let Some(value) = &whole.value else { continue };
            for end in 0..value.len() {
                let cut = LogRecord { key: whole.key.clone(), value: Some(value.slice(..end)) };
                let present = Record::decode(&cut);
                let is_unread =
                    matches!(&record, Record::Consumer { record: ConsumerRecord::PartitionMetadata { .. }, .. });
                assert!(present.is_err() || is_unread, "{record:?} cut at {end}");
            }
            for end in 0..whole.key.len() {
                let cut = LogRecord { key: whole.key.slice(..end), value: None };
                assert!(Record::decode(&cut).is_err(), "{record:?} key cut at {end}");
            }
        }
    }

    #[test]
    fn bytes_turned_over_at_any_place_never_panic() {
        for record in samples() {
            let whole = record.encode();
            let Some(value) = &whole.value else { continue };
            for place in 0..value.len() {
                for bits in [0xff, 0x80, 0x01] {
                    let mut bytes = value.to_vec();
                    bytes[place] ^= bits;
                    let _ = Record::decode(&LogRecord { key: whole.key.clone(), value: Some(Bytes::from(bytes)) });
                }
            }
        }
    }

    #[test]
    fn keys_of_other_kinds_of_groups_are_left_alone() {
        // A share group's epoch (type 11).
        let key = Bytes::from_static(&[0, 11, 0, 1, b'g']);
        assert_eq!(Record::decode(&LogRecord { key, value: None }), Ok(None));
    }
}
