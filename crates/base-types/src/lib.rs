//! The vocabulary of every crate: ids, offsets, epochs, time, Kafka's error codes, and the invariants by id.
//!
//! What it must not know: how anything is stored, sent or decided. No serialisation, no I/O, no clock.
//!
//! Numbers are newtypes, because an offset is not a count and an epoch is not an id; arithmetic that has a meaning in the
//! domain is a method (`Offset::plus`), everything else needs an explicit `.0`.
//!
//! Tested at the bottom of each module.

#[doc(hidden)]
pub mod planted;

mod error_code;
mod ids;
mod invariants;
mod random;
mod time;

pub use error_code::ErrorCode;
pub use ids::{
    BrokerEpoch, BrokerId, Incarnation, LeaderEpoch, Offset, PartitionEpoch, PartitionIndex, ProducerEpoch, ProducerId,
    Sequence, TopicId, TopicPartition,
};
pub use invariants::{Invariant, broken};
pub use random::Random;
pub use time::{Now, Tick, Timestamp};
