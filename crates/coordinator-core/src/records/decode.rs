//! Bytes to records.

use base_types::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId};
use bytes::{Buf, Bytes};
use peer_api::groups::AssignedTopic;

use super::{
    ClassicGroupValue, ClassicMemberMetadata, ClassicMemberValue, ConsumerGroupValue, ConsumerMemberValue,
    ConsumerRecord, CurrentMemberValue, CurrentTopic, DecodeError, OffsetKey, OffsetValue, Record,
    RegularExpressionValue, TargetAssignmentValue, key_type,
};
use crate::event::LogRecord;

pub(super) fn record(record: &LogRecord) -> Result<Option<Record>, DecodeError> {
    let mut key = Reader { left: record.key.clone(), flexible: false };
    let value = record.value.as_ref();
    let kind = key.i16()?;
    let known = match kind {
        key_type::OFFSET_LEGACY | key_type::OFFSET => Record::Offset {
            key: OffsetKey { group_id: key.text()?, topic: key.text()?, partition: PartitionIndex(key.i32()?) },
            value: value
                .map(|value| if kind == key_type::OFFSET { offset(value) } else { legacy_offset(value) })
                .transpose()?,
        },
        key_type::CLASSIC_GROUP => {
            Record::Classic { group_id: key.text()?, value: value.map(classic_group).transpose()? }
        }
        _ => {
            let Some(record) = consumer(kind, &mut key, value)? else { return Ok(None) };
            record
        }
    };
    if !key.left.is_empty() {
        return Err(DecodeError { what: "bytes after the key" });
    }
    Ok(Some(known))
}

fn consumer(kind: i16, key: &mut Reader, value: Option<&Bytes>) -> Result<Option<Record>, DecodeError> {
    let is_known = matches!(kind, key_type::CONSUMER_GROUP..=key_type::CONSUMER_CURRENT_MEMBER)
        || kind == key_type::CONSUMER_REGULAR_EXPRESSION;
    if !is_known {
        return Ok(None);
    }
    let group_id = key.text()?;
    let record = match kind {
        key_type::CONSUMER_GROUP => ConsumerRecord::Group(value.map(consumer_group).transpose()?),
        key_type::CONSUMER_PARTITION_METADATA => ConsumerRecord::PartitionMetadata { present: value.is_some() },
        key_type::CONSUMER_MEMBER => {
            ConsumerRecord::Member { member_id: key.text()?, value: value.map(consumer_member).transpose()? }
        }
        key_type::CONSUMER_TARGET_ASSIGNMENT => {
            ConsumerRecord::TargetAssignment(value.map(target_assignment).transpose()?)
        }
        key_type::CONSUMER_TARGET_MEMBER => {
            ConsumerRecord::TargetMember { member_id: key.text()?, value: value.map(target_member).transpose()? }
        }
        key_type::CONSUMER_CURRENT_MEMBER => {
            ConsumerRecord::CurrentMember { member_id: key.text()?, value: value.map(current_member).transpose()? }
        }
        _ => {
            ConsumerRecord::RegularExpression { regex: key.text()?, value: value.map(regular_expression).transpose()? }
        }
    };
    Ok(Some(Record::Consumer { group_id, record }))
}

fn legacy_offset(value: &Bytes) -> Result<OffsetValue, DecodeError> {
    let (mut reader, _) = Reader::value(value, 0, 1)?;
    let value = OffsetValue {
        offset: Offset(reader.i64()?),
        leader_epoch: LeaderEpoch::UNKNOWN,
        metadata: reader.text()?,
        committed_at: Timestamp(reader.i64()?),
        expires_at: None,
        topic_id: TopicId::ZERO,
    };
    reader.end(value)
}

fn offset(value: &Bytes) -> Result<OffsetValue, DecodeError> {
    let (mut reader, version) = Reader::value(value, 4, 4)?;
    let mut value = OffsetValue {
        offset: Offset(reader.i64()?),
        leader_epoch: LeaderEpoch(if version >= 3 { reader.i32()? } else { -1 }),
        metadata: reader.text()?,
        committed_at: Timestamp(reader.i64()?),
        expires_at: None,
        topic_id: TopicId::ZERO,
    };
    if version == 1 {
        let expires_at = reader.i64()?;
        value.expires_at = (expires_at != -1).then_some(Timestamp(expires_at));
    }
    if let Some(mut topic_id) = reader.tag_0()? {
        value.topic_id = topic_id.topic_id()?;
    }
    reader.end(value)
}

fn classic_group(value: &Bytes) -> Result<ClassicGroupValue, DecodeError> {
    let (mut reader, version) = Reader::value(value, 4, 4)?;
    let mut group = ClassicGroupValue {
        protocol_type: reader.text()?,
        generation: reader.i32()?,
        protocol: reader.nullable_text()?,
        leader: reader.nullable_text()?,
        state_since: Timestamp(if version >= 2 { reader.i64()? } else { -1 }),
        members: Vec::new(),
    };
    for _ in 0..reader.count()? {
        group.members.push(ClassicMemberValue {
            member_id: reader.text()?,
            group_instance_id: if version >= 3 { reader.nullable_text()? } else { None },
            client_id: reader.text()?,
            client_host: reader.text()?,
            rebalance_timeout_ms: if version >= 1 { reader.i32()? } else { -1 },
            session_timeout_ms: reader.i32()?,
            subscription: reader.bytes()?,
            assignment: reader.bytes()?,
        });
        reader.tag_0()?;
    }
    reader.tag_0()?;
    reader.end(group)
}

fn consumer_group(value: &Bytes) -> Result<ConsumerGroupValue, DecodeError> {
    let (mut reader, _) = Reader::value(value, 0, 0)?;
    let mut group = ConsumerGroupValue { epoch: reader.i32()?, metadata_hash: 0 };
    if let Some(mut hash) = reader.tag_0()? {
        group.metadata_hash = hash.i64()?;
    }
    reader.end(group)
}

fn consumer_member(value: &Bytes) -> Result<ConsumerMemberValue, DecodeError> {
    let (mut reader, _) = Reader::value(value, 0, 0)?;
    let mut member = ConsumerMemberValue {
        instance_id: reader.nullable_text()?,
        rack_id: reader.nullable_text()?,
        client_id: reader.text()?,
        client_host: reader.text()?,
        subscribed_topic_names: reader.texts()?,
        subscribed_topic_regex: reader.nullable_text()?,
        rebalance_timeout_ms: reader.i32()?,
        server_assignor: reader.nullable_text()?,
        classic: None,
    };
    if let Some(mut classic) = reader.tag_0()?
        && classic.u8()? as i8 >= 0
    {
        let mut metadata = ClassicMemberMetadata { session_timeout_ms: classic.i32()?, protocols: Vec::new() };
        for _ in 0..classic.count()? {
            metadata.protocols.push((classic.text()?, classic.bytes()?));
            classic.tag_0()?;
        }
        classic.tag_0()?;
        member.classic = Some(metadata);
    }
    reader.end(member)
}

fn target_assignment(value: &Bytes) -> Result<TargetAssignmentValue, DecodeError> {
    let (mut reader, _) = Reader::value(value, 0, 0)?;
    let mut assignment = TargetAssignmentValue { epoch: reader.i32()?, assigned_at: Timestamp(0) };
    if let Some(mut assigned_at) = reader.tag_0()? {
        assignment.assigned_at = Timestamp(assigned_at.i64()?);
    }
    reader.end(assignment)
}

fn target_member(value: &Bytes) -> Result<Vec<AssignedTopic>, DecodeError> {
    let (mut reader, _) = Reader::value(value, 0, 0)?;
    let mut topics = Vec::new();
    for _ in 0..reader.count()? {
        topics.push(AssignedTopic { topic_id: reader.topic_id()?, partitions: reader.partitions()? });
        reader.tag_0()?;
    }
    reader.tag_0()?;
    reader.end(topics)
}

fn current_member(value: &Bytes) -> Result<CurrentMemberValue, DecodeError> {
    let (mut reader, _) = Reader::value(value, 0, 0)?;
    let member = CurrentMemberValue {
        member_epoch: reader.i32()?,
        previous_member_epoch: reader.i32()?,
        state: reader.u8()? as i8,
        assigned: reader.current_topics()?,
        pending_revocation: reader.current_topics()?,
    };
    reader.tag_0()?;
    reader.end(member)
}

fn regular_expression(value: &Bytes) -> Result<RegularExpressionValue, DecodeError> {
    let (mut reader, _) = Reader::value(value, 0, 0)?;
    let regex = RegularExpressionValue {
        topics: reader.texts()?,
        version: reader.i64()?,
        resolved_at: Timestamp(reader.i64()?),
    };
    reader.tag_0()?;
    reader.end(regex)
}

struct Reader {
    left: Bytes,
    /// Lengths are varints and tagged fields follow (KIP-482).
    flexible: bool,
}

impl Reader {
    /// The content of a value, after its version.
    fn value(value: &Bytes, version_max: i16, flexible_from: i16) -> Result<(Reader, i16), DecodeError> {
        let mut reader = Reader { left: value.clone(), flexible: false };
        let version = reader.i16()?;
        if version < 0 || version > version_max {
            return Err(DecodeError { what: "a version of the value that is not known" });
        }
        reader.flexible = version >= flexible_from;
        Ok((reader, version))
    }

    fn end<T>(self, value: T) -> Result<T, DecodeError> {
        match self.left.is_empty() {
            true => Ok(value),
            false => Err(DecodeError { what: "bytes after the value" }),
        }
    }

    fn take(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        match count <= self.left.len() {
            true => Ok(self.left.split_to(count)),
            false => Err(DecodeError { what: "it ends too early" }),
        }
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.take(1).map(|mut bytes| bytes.get_u8())
    }

    fn i16(&mut self) -> Result<i16, DecodeError> {
        self.take(2).map(|mut bytes| bytes.get_i16())
    }

    fn i32(&mut self) -> Result<i32, DecodeError> {
        self.take(4).map(|mut bytes| bytes.get_i32())
    }

    fn i64(&mut self) -> Result<i64, DecodeError> {
        self.take(8).map(|mut bytes| bytes.get_i64())
    }

    fn topic_id(&mut self) -> Result<TopicId, DecodeError> {
        let mut id = [0; 16];
        self.take(16)?.copy_to_slice(&mut id);
        Ok(TopicId(id))
    }

    fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut number: u32 = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.u8()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError { what: "a number that is too long" })
    }

    /// A length; `None` for null. `fixed` is how many bytes it has where lengths are fixed numbers.
    fn length(&mut self, fixed: usize) -> Result<Option<usize>, DecodeError> {
        if self.flexible {
            return Ok((self.varint()? as usize).checked_sub(1));
        }
        let length = if fixed == 2 { i32::from(self.i16()?) } else { self.i32()? };
        match length {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => Ok(Some(length)),
                Err(_) => Err(DecodeError { what: "a negative length" }),
            },
        }
    }

    fn nullable_text(&mut self) -> Result<Option<String>, DecodeError> {
        let Some(length) = self.length(2)? else { return Ok(None) };
        match std::str::from_utf8(&self.take(length)?) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(DecodeError { what: "a text that is not UTF-8" }),
        }
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        self.nullable_text()?.ok_or(DecodeError { what: "null where there must be a text" })
    }

    fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.length(4)?.ok_or(DecodeError { what: "null where there must be bytes" })?;
        // A copy: a slice would keep all that was read of the log with it in memory.
        Ok(Bytes::copy_from_slice(&self.take(length)?))
    }

    /// How many elements follow. Each takes a byte at least, so more than there are bytes left cannot be true.
    fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self.length(4)?.ok_or(DecodeError { what: "null where there must be a list" })?;
        match count <= self.left.len() {
            true => Ok(count),
            false => Err(DecodeError { what: "it ends too early" }),
        }
    }

    fn texts(&mut self) -> Result<Vec<String>, DecodeError> {
        (0..self.count()?).map(|_| self.text()).collect()
    }

    fn numbers(&mut self) -> Result<Vec<i32>, DecodeError> {
        (0..self.count()?).map(|_| self.i32()).collect()
    }

    fn partitions(&mut self) -> Result<Vec<PartitionIndex>, DecodeError> {
        Ok(self.numbers()?.into_iter().map(PartitionIndex).collect())
    }

    fn current_topics(&mut self) -> Result<Vec<CurrentTopic>, DecodeError> {
        let mut topics = Vec::new();
        for _ in 0..self.count()? {
            let (topic_id, partitions) = (self.topic_id()?, self.partitions()?);
            let assignment_epochs = match self.tag_0()? {
                Some(mut epochs) => Some(epochs.numbers()?),
                None => None,
            };
            if assignment_epochs.as_ref().is_some_and(|epochs| epochs.len() != partitions.len()) {
                return Err(DecodeError { what: "not as many epochs as partitions" });
            }
            topics.push(CurrentTopic { topic_id, partitions, assignment_epochs });
        }
        Ok(topics)
    }

    /// Reads the tagged fields, which end every flexible structure, and gives the one with number 0. Others may come from a
    /// later version and are passed over.
    fn tag_0(&mut self) -> Result<Option<Reader>, DecodeError> {
        if !self.flexible {
            return Ok(None);
        }
        let mut found = None;
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let length = self.varint()? as usize;
            let left = self.take(length)?;
            if tag == 0 {
                found = Some(Reader { left, flexible: true });
            }
        }
        Ok(found)
    }
}
