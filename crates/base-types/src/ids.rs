//! Names of things and positions in logs.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Position of a record in a partition's log. Kafka's `-1` (unknown) is [`Offset::UNKNOWN`].
    Offset(i64)
);
number!(
    /// Counts the leaders of one partition; strictly increases with every election (R8).
    LeaderEpoch(i32)
);
number!(
    /// Counts the metadata changes of one partition; the compare-and-set key of AlterPartition (R9).
    PartitionEpoch(i32)
);
number!(
    /// A storage node, as clients see it: Kafka's broker or node id. Gateways and controllers have ids of the same type.
    BrokerId(i32)
);
number!(
    /// One registration of a storage node; grows with every registration, so that late requests of an older life are refused (R14).
    BrokerEpoch(i64)
);
number!(
    /// Index of a partition within its topic.
    PartitionIndex(i32)
);
number!(
    /// Identifies an idempotent or transactional producer (KIP-98). `-1` is [`ProducerId::NONE`].
    ProducerId(i64)
);
number!(
    /// Fences older instances of a producer (KIP-98).
    ProducerEpoch(i16)
);
number!(
    /// Number of a record within (producer id, epoch, partition); wraps from `i32::MAX` to 0 (P8).
    Sequence(i32)
);

impl Offset {
    pub const UNKNOWN: Offset = Offset(-1);
    pub const ZERO: Offset = Offset(0);

    /// The offset `count` records further on. Saturates, so that no claim from outside can wrap it.
    #[must_use]
    pub fn plus(self, count: i64) -> Offset {
        Offset(self.0.saturating_add(count))
    }

    /// How many offsets lie between `earlier` and this one; negative when it lies behind.
    pub fn since(self, earlier: Offset) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl LeaderEpoch {
    /// Kafka's "no epoch known" in requests and in answers.
    pub const UNKNOWN: LeaderEpoch = LeaderEpoch(-1);

    #[must_use]
    pub fn next(self) -> LeaderEpoch {
        LeaderEpoch(self.0 + 1)
    }
}

impl PartitionEpoch {
    #[must_use]
    pub fn next(self) -> PartitionEpoch {
        PartitionEpoch(self.0 + 1)
    }
}

impl BrokerId {
    /// Kafka's "no leader" and "no controller".
    pub const NONE: BrokerId = BrokerId(-1);
}

impl ProducerId {
    pub const NONE: ProducerId = ProducerId(-1);
}

impl ProducerEpoch {
    pub const NONE: ProducerEpoch = ProducerEpoch(-1);
}

impl Sequence {
    pub const NONE: Sequence = Sequence(-1);

    /// The sequence `count` records later, wrapping at `i32::MAX` as KIP-98 demands (P8).
    #[must_use]
    pub fn plus(self, count: i32) -> Sequence {
        let wide = i64::from(self.0) + i64::from(count);
        Sequence((wide % (i64::from(i32::MAX) + 1)) as i32)
    }

    /// Whether it comes before, going the shorter way round: after the largest comes 0.
    #[must_use]
    pub fn is_before(self, other: Sequence) -> bool {
        let distance = other.0.wrapping_sub(self.0) & i32::MAX;
        distance != 0 && distance <= i32::MAX / 2
    }
}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            pub const ZERO: $name = $name([0; 16]);

            pub fn is_zero(self) -> bool {
                self == Self::ZERO
            }
        }

        /// Kafka's way of writing UUIDs: URL-safe base64 without padding, 22 characters.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&uuid_base64(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidUuid;

            fn from_str(text: &str) -> Result<Self, InvalidUuid> {
                uuid_from_base64(text).map($name).ok_or(InvalidUuid)
            }
        }
    };
}

identity!(
    /// Identity of a topic for its whole life (KIP-516); a topic made again under the same name has another one (R18).
    TopicId
);
identity!(
    /// One life of a process: made at random when it starts.
    Incarnation
);

/// A text is not a UUID in Kafka's base64 form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUuid;

impl fmt::Display for InvalidUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a UUID: 22 characters of URL-safe base64 were expected")
    }
}

impl std::error::Error for InvalidUuid {}

/// One partition of one topic, by identity and not by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TopicPartition {
    pub topic: TopicId,
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn uuid_base64(bytes: [u8; 16]) -> String {
    let number = u128::from_be_bytes(bytes);
    // 128 bits are 21 whole sextets and 2 bits, which fill the high end of the last character.
    (0..22)
        .map(|i| {
            let sextet = if i < 21 { (number >> (122 - 6 * i)) & 63 } else { (number << 4) & 63 };
            char::from(BASE64_URL[sextet as usize])
        })
        .collect()
}

fn uuid_from_base64(text: &str) -> Option<[u8; 16]> {
    if text.len() != 22 {
        return None;
    }
    let mut number: u128 = 0;
    for (i, byte) in text.bytes().enumerate() {
        let sextet = BASE64_URL.iter().position(|&c| c == byte)? as u128;
        if i < 21 {
            number = (number << 6) | sextet;
        } else if sextet & 15 == 0 {
            number = (number << 2) | (sextet >> 4);
        } else {
            return None;
        }
    }
    Some(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero_after_the_largest() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).plus(3), Sequence(1));
        assert_eq!(Sequence(5).plus(4), Sequence(9));
    }

    #[test]
    fn sequences_come_before_others_the_shorter_way_round() {
        assert!(Sequence(4).is_before(Sequence(5)));
        assert!(!Sequence(5).is_before(Sequence(5)));
        assert!(!Sequence(5).is_before(Sequence(4)));
        assert!(Sequence(i32::MAX - 1).is_before(Sequence(2)));
        assert!(!Sequence(2).is_before(Sequence(i32::MAX - 1)));
    }

    #[test]
    fn uuids_are_written_as_kafka_writes_them() {
        // Kafka's `Uuid.METADATA_TOPIC_ID` is (0, 1) and prints as below.
        let mut bytes = [0; 16];
        bytes[15] = 1;
        assert_eq!(TopicId(bytes).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        let id = TopicId([0xfb, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("AAAAAAAAAAAAAAAAAAAAAB".parse::<TopicId>(), Err(InvalidUuid));
        assert_eq!("short".parse::<TopicId>(), Err(InvalidUuid));
    }

    #[test]
    fn offsets_saturate_instead_of_wrapping() {
        assert_eq!(Offset(i64::MAX).plus(1), Offset(i64::MAX));
        assert_eq!(Offset(10).since(Offset(4)), 6);
    }
}
