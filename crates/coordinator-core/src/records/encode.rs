//! Records to bytes.

use base_types::{PartitionIndex, TopicId};
use bytes::{BufMut, Bytes};
use peer_api::groups::AssignedTopic;

use super::{
    ClassicGroupValue, ClassicMemberMetadata, ConsumerGroupValue, ConsumerMemberValue, ConsumerRecord,
    CurrentMemberValue, CurrentTopic, OffsetValue, Record, RegularExpressionValue, TargetAssignmentValue, key_type,
};
use crate::event::LogRecord;

pub(super) fn record(record: &Record) -> LogRecord {
    match record {
        Record::Offset { key, value } => {
            let mut out = Key::new(key_type::OFFSET);
            out.text(&key.group_id);
            out.text(&key.topic);
            out.0.put_i32(key.partition.0);
            out.with(value.as_ref().map(offset))
        }
        Record::Classic { group_id, value } => {
            let mut out = Key::new(key_type::CLASSIC_GROUP);
            out.text(group_id);
            out.with(value.as_ref().map(classic_group))
        }
        Record::Consumer { group_id, record } => consumer(group_id, record),
    }
}

fn consumer(group_id: &str, record: &ConsumerRecord) -> LogRecord {
    let of_group = |key_type| {
        let mut key = Key::new(key_type);
        key.text(group_id);
        key
    };
    let of_part = |key_type, part: &str| {
        let mut key = of_group(key_type);
        key.text(part);
        key
    };
    match record {
        ConsumerRecord::Group(value) => of_group(key_type::CONSUMER_GROUP).with(value.as_ref().map(consumer_group)),
        ConsumerRecord::PartitionMetadata { present } => {
            let empty = || {
                let mut out = Value::new(0);
                out.count(0);
                out.tags(&[]);
                out
            };
            of_group(key_type::CONSUMER_PARTITION_METADATA).with(present.then(empty))
        }
        ConsumerRecord::Member { member_id, value } => {
            of_part(key_type::CONSUMER_MEMBER, member_id).with(value.as_ref().map(consumer_member))
        }
        ConsumerRecord::TargetAssignment(value) => {
            of_group(key_type::CONSUMER_TARGET_ASSIGNMENT).with(value.as_ref().map(target_assignment))
        }
        ConsumerRecord::TargetMember { member_id, value } => {
            of_part(key_type::CONSUMER_TARGET_MEMBER, member_id).with(value.as_deref().map(target_member))
        }
        ConsumerRecord::CurrentMember { member_id, value } => {
            of_part(key_type::CONSUMER_CURRENT_MEMBER, member_id).with(value.as_ref().map(current_member))
        }
        ConsumerRecord::RegularExpression { regex, value } => {
            of_part(key_type::CONSUMER_REGULAR_EXPRESSION, regex).with(value.as_ref().map(regular_expression))
        }
    }
}

/// Version 1 is the only one with an expiry time of its own; else version 4, which alone has the topic id.
fn offset(value: &OffsetValue) -> Value {
    match value.expires_at {
        Some(expires_at) => {
            let mut out = Value::new(1);
            out.0.put_i64(value.offset.0);
            out.fixed_text(&value.metadata);
            out.0.put_i64(value.committed_at.0);
            out.0.put_i64(expires_at.0);
            out
        }
        None => {
            let mut out = Value::new(4);
            out.0.put_i64(value.offset.0);
            out.0.put_i32(value.leader_epoch.0);
            out.text(&value.metadata);
            out.0.put_i64(value.committed_at.0);
            let id = (!value.topic_id.is_zero()).then(|| value.topic_id.0.to_vec());
            out.tags(&[id]);
            out
        }
    }
}

fn classic_group(value: &ClassicGroupValue) -> Value {
    let mut out = Value::new(3);
    out.fixed_text(&value.protocol_type);
    out.0.put_i32(value.generation);
    out.fixed_nullable_text(value.protocol.as_deref());
    out.fixed_nullable_text(value.leader.as_deref());
    out.0.put_i64(value.state_since.0);
    out.0.put_i32(value.members.len() as i32);
    for member in &value.members {
        out.fixed_text(&member.member_id);
        out.fixed_nullable_text(member.group_instance_id.as_deref());
        out.fixed_text(&member.client_id);
        out.fixed_text(&member.client_host);
        out.0.put_i32(member.rebalance_timeout_ms);
        out.0.put_i32(member.session_timeout_ms);
        out.fixed_bytes(&member.subscription);
        out.fixed_bytes(&member.assignment);
    }
    out
}

fn consumer_group(value: &ConsumerGroupValue) -> Value {
    let mut out = Value::new(0);
    out.0.put_i32(value.epoch);
    let hash = (value.metadata_hash != 0).then(|| value.metadata_hash.to_be_bytes().to_vec());
    out.tags(&[hash]);
    out
}

fn consumer_member(value: &ConsumerMemberValue) -> Value {
    let mut out = Value::new(0);
    out.nullable_text(value.instance_id.as_deref());
    out.nullable_text(value.rack_id.as_deref());
    out.text(&value.client_id);
    out.text(&value.client_host);
    out.texts(&value.subscribed_topic_names);
    out.nullable_text(value.subscribed_topic_regex.as_deref());
    out.0.put_i32(value.rebalance_timeout_ms);
    out.nullable_text(value.server_assignor.as_deref());
    out.tags(&[value.classic.as_ref().map(classic_member_metadata)]);
    out
}

/// A nullable structure begins with a byte that says whether it is there.
fn classic_member_metadata(value: &ClassicMemberMetadata) -> Vec<u8> {
    let mut out = Value(vec![1]);
    out.0.put_i32(value.session_timeout_ms);
    out.count(value.protocols.len());
    for (name, metadata) in &value.protocols {
        out.text(name);
        out.bytes(metadata);
        out.tags(&[]);
    }
    out.tags(&[]);
    out.0
}

fn target_assignment(value: &TargetAssignmentValue) -> Value {
    let mut out = Value::new(0);
    out.0.put_i32(value.epoch);
    let assigned_at = (value.assigned_at.0 != 0).then(|| value.assigned_at.0.to_be_bytes().to_vec());
    out.tags(&[assigned_at]);
    out
}

fn target_member(topics: &[AssignedTopic]) -> Value {
    let mut out = Value::new(0);
    out.count(topics.len());
    for topic in topics {
        out.topic_id(topic.topic_id);
        out.partitions(&topic.partitions);
        out.tags(&[]);
    }
    out.tags(&[]);
    out
}

fn current_member(value: &CurrentMemberValue) -> Value {
    let mut out = Value::new(0);
    out.0.put_i32(value.member_epoch);
    out.0.put_i32(value.previous_member_epoch);
    out.0.put_i8(value.state);
    out.current_topics(&value.assigned);
    out.current_topics(&value.pending_revocation);
    out.tags(&[]);
    out
}

fn regular_expression(value: &RegularExpressionValue) -> Value {
    let mut out = Value::new(0);
    out.texts(&value.topics);
    out.0.put_i64(value.version);
    out.0.put_i64(value.resolved_at.0);
    out.tags(&[]);
    out
}

/// Keys are never flexible: lengths are fixed numbers.
struct Key(Vec<u8>);

impl Key {
    fn new(key_type: i16) -> Key {
        let mut out = Vec::with_capacity(64);
        out.put_i16(key_type);
        Key(out)
    }

    fn text(&mut self, text: &str) {
        put_fixed_text(&mut self.0, text);
    }

    fn with(self, value: Option<Value>) -> LogRecord {
        LogRecord { key: Bytes::from(self.0), value: value.map(|value| Bytes::from(value.0)) }
    }
}

struct Value(Vec<u8>);

impl Value {
    fn new(version: i16) -> Value {
        let mut out = Vec::with_capacity(64);
        out.put_i16(version);
        Value(out)
    }

    fn fixed_text(&mut self, text: &str) {
        put_fixed_text(&mut self.0, text);
    }

    fn fixed_nullable_text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => put_fixed_text(&mut self.0, text),
            None => self.0.put_i16(-1),
        }
    }

    fn fixed_bytes(&mut self, bytes: &Bytes) {
        self.0.put_i32(bytes.len() as i32);
        self.0.put_slice(bytes);
    }

    fn varint(&mut self, mut number: u32) {
        while number > 0x7f {
            self.0.put_u8((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.put_u8(number as u8);
    }

    /// Compact lengths are one too large, so that 0 can mean null.
    fn count(&mut self, count: usize) {
        self.varint(count as u32 + 1);
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.put_slice(text.as_bytes());
    }

    fn nullable_text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.varint(0),
        }
    }

    fn texts(&mut self, texts: &[String]) {
        self.count(texts.len());
        texts.iter().for_each(|text| self.text(text));
    }

    fn bytes(&mut self, bytes: &Bytes) {
        self.count(bytes.len());
        self.0.put_slice(bytes);
    }

    fn topic_id(&mut self, id: TopicId) {
        self.0.put_slice(&id.0);
    }

    fn partitions(&mut self, partitions: &[PartitionIndex]) {
        self.count(partitions.len());
        partitions.iter().for_each(|partition| self.0.put_i32(partition.0));
    }

    fn current_topics(&mut self, topics: &[CurrentTopic]) {
        self.count(topics.len());
        for topic in topics {
            self.topic_id(topic.topic_id);
            self.partitions(&topic.partitions);
            let epochs = topic.assignment_epochs.as_ref().map(|epochs| {
                let mut out = Value(Vec::new());
                out.count(epochs.len());
                epochs.iter().for_each(|epoch| out.0.put_i32(*epoch));
                out.0
            });
            self.tags(&[epochs]);
        }
    }

    /// Tagged fields by number, from 0; `None` where the field has its default.
    fn tags(&mut self, fields: &[Option<Vec<u8>>]) {
        self.varint(fields.iter().flatten().count() as u32);
        for (tag, field) in fields.iter().enumerate() {
            if let Some(field) = field {
                self.varint(tag as u32);
                self.varint(field.len() as u32);
                self.0.put_slice(field);
            }
        }
    }
}

fn put_fixed_text(out: &mut Vec<u8>, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}
