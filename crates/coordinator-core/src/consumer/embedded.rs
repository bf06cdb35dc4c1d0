//! What members of the classic protocol say and are told in its opaque bytes when they are ordinary consumers: Kafka's
//! ConsumerProtocolSubscription and ConsumerProtocolAssignment.
//!
//! Versions 0 to 3 are read; newer ones are read as the newest known, since they only ever add at the end. The bytes come from
//! clients: nothing is allocated in proportion to a count that the bytes left do not justify.

use base_types::PartitionIndex;
use bytes::{Buf, BufMut, Bytes, BytesMut};

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Subscription {
    pub version: i16,
    pub topics: Vec<String>,
    /// From version 1 on: what the member owns, by topic name.
    pub owned: Vec<TopicPartitions>,
    /// From version 3 on.
    pub rack_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Assignment {
    pub partitions: Vec<TopicPartitions>,
    pub user_data: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicPartitions {
    pub topic: String,
    pub partitions: Vec<PartitionIndex>,
}

/// The bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Subscription {
    pub fn decode(bytes: &Bytes) -> Result<Subscription, Malformed> {
        let mut reader = Reader(bytes.clone());
        let version = reader.version()?;
        let topics = reader.list(2, Reader::text)?;
        let _user_data = reader.nullable_bytes()?;
        let owned = if version >= 1 { reader.list(6, Reader::topic_partitions)? } else { Vec::new() };
        if version >= 2 {
            let _generation = reader.i32()?;
        }
        let rack_id = if version >= 3 { reader.nullable_text()? } else { None };
        Ok(Subscription { version, topics, owned, rack_id })
    }
}

impl Assignment {
    /// A member that was given nothing yet has no bytes at all.
    pub fn decode(bytes: &Bytes) -> Result<Assignment, Malformed> {
        if bytes.is_empty() {
            return Ok(Assignment::default());
        }
        let mut reader = Reader(bytes.clone());
        reader.version()?;
        let partitions = reader.list(6, Reader::topic_partitions)?;
        Ok(Assignment { partitions, user_data: reader.nullable_bytes()?.unwrap_or_default() })
    }

    /// In the version of the member's subscription.
    pub fn encode(&self, version: i16) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(version);
        out.put_i32(self.partitions.len() as i32);
        for topic in &self.partitions {
            out.put_i16(topic.topic.len() as i16);
            out.put_slice(topic.topic.as_bytes());
            out.put_i32(topic.partitions.len() as i32);
            topic.partitions.iter().for_each(|partition| out.put_i32(partition.0));
        }
        // No user data.
        out.put_i32(-1);
        out.freeze()
    }
}

struct Reader(Bytes);

impl Reader {
    fn version(&mut self) -> Result<i16, Malformed> {
        let version = self.i16()?;
        if version < 0 { Err(Malformed) } else { Ok(version) }
    }

    fn i16(&mut self) -> Result<i16, Malformed> {
        self.0.try_get_i16().map_err(|_| Malformed)
    }

    fn i32(&mut self) -> Result<i32, Malformed> {
        self.0.try_get_i32().map_err(|_| Malformed)
    }

    fn take(&mut self, length: usize) -> Result<Bytes, Malformed> {
        if length > self.0.len() { Err(Malformed) } else { Ok(self.0.split_to(length)) }
    }

    fn text(&mut self) -> Result<String, Malformed> {
        self.nullable_text()?.ok_or(Malformed)
    }

    fn nullable_text(&mut self) -> Result<Option<String>, Malformed> {
        let length = self.i16()?;
        if length == -1 {
            return Ok(None);
        }
        let bytes = self.take(usize::try_from(length).map_err(|_| Malformed)?)?;
        String::from_utf8(bytes.to_vec()).map(Some).map_err(|_| Malformed)
    }

    fn nullable_bytes(&mut self) -> Result<Option<Bytes>, Malformed> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        self.take(usize::try_from(length).map_err(|_| Malformed)?).map(Some)
    }

    /// Each element takes at least `least` bytes.
    fn list<T>(
        &mut self,
        least: usize,
        read: impl Fn(&mut Reader) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = usize::try_from(self.i32()?).map_err(|_| Malformed)?;
        if count > self.0.len() / least {
            return Err(Malformed);
        }
        (0..count).map(|_| read(self)).collect()
    }

    fn topic_partitions(&mut self) -> Result<TopicPartitions, Malformed> {
        let topic = self.text()?;
        let partitions = self.list(4, |reader| reader.i32().map(PartitionIndex))?;
        Ok(TopicPartitions { topic, partitions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(topic: &str, partitions: &[i32]) -> TopicPartitions {
        TopicPartitions {
            topic: topic.to_owned(),
            partitions: partitions.iter().map(|&index| PartitionIndex(index)).collect(),
        }
    }

    /// Topics a and bc, user data 0xff, owned a-1, generation 7, rack "r": as Kafka's own class writes version 3.
    const VERSION_3: &[u8] =
        b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\0\0\0\x01\xff\0\0\0\x01\0\x01a\0\0\0\x01\0\0\0\x01\0\0\0\x07\0\x01r";

    #[test]
    fn every_version_of_a_subscription_is_read_as_far_as_it_goes() {
        let whole = Bytes::from_static(VERSION_3);
        let expected = Subscription {
            version: 3,
            topics: vec!["a".to_owned(), "bc".to_owned()],
            owned: vec![of("a", &[1])],
            rack_id: Some("r".to_owned()),
        };
        assert_eq!(Subscription::decode(&whole), Ok(expected.clone()));
        for (version, length) in [(2, VERSION_3.len() - 3), (1, VERSION_3.len() - 7), (0, 18)] {
            let mut bytes = VERSION_3[..length].to_vec();
            bytes[1] = version;
            let read = Subscription::decode(&Bytes::from(bytes)).expect("it is whole");
            let owned = if version >= 1 { expected.owned.clone() } else { Vec::new() };
            let topics = expected.topics.clone();
            assert_eq!(read, Subscription { version: i16::from(version), topics, owned, rack_id: None });
        }
        let mut newer = VERSION_3.to_vec();
        newer[1] = 9;
        newer.extend_from_slice(b"more");
        assert_eq!(Subscription::decode(&Bytes::from(newer)).expect("it is whole").topics, expected.topics);
    }

    #[test]
    fn an_assignment_is_read_as_it_was_written() {
        let assignment = Assignment { partitions: vec![of("a", &[0, 2]), of("bc", &[])], user_data: Bytes::new() };
        for version in 0..=3 {
            let bytes = assignment.encode(version);
            assert_eq!(bytes[..2], version.to_be_bytes());
            assert_eq!(Assignment::decode(&bytes), Ok(assignment.clone()));
        }
        assert_eq!(Assignment::decode(&Bytes::new()), Ok(Assignment::default()));
    }

    #[test]
    fn bytes_that_are_cut_or_lie_about_their_length_are_refused() {
        for end in 0..VERSION_3.len() {
            assert_eq!(
                Subscription::decode(&Bytes::copy_from_slice(&VERSION_3[..end])),
                Err(Malformed),
                "cut at {end}"
            );
        }
        for lie in [b"\0\x01\x7f\xff\xff\xff", b"\0\x01\xff\xff\xff\xff", b"\xff\xff\0\0\0\0"] {
            assert_eq!(Subscription::decode(&Bytes::from_static(lie)), Err(Malformed));
            assert_eq!(Assignment::decode(&Bytes::from_static(lie)), Err(Malformed));
        }
    }
}
