//! `peer-api` types to protobuf and back.
//!
//! To protobuf nothing can fail. Back, a missing part, an unknown enum value or a number out of its range is [`Malformed`]:
//! the contract has no optional meaning beyond what the proto files mark as such.
//!
//! Tested in `convert/tests.rs`: every message kind, made at random, comes back as it was and has a plain encoder's bytes.

#[cfg(test)]
mod arbitrary;
mod controller;
mod groups;
mod raft;
mod replication;
mod storage;
#[cfg(test)]
mod tests;

use base_types::{ErrorCode, PartitionIndex, TopicId, TopicPartition};

use crate::proto::base::v1 as base;
use crate::wire::Malformed;

fn to_partition(partition: TopicPartition) -> Option<base::TopicPartition> {
    let (topic_high, topic_low) = halves(partition.topic.0);
    Some(base::TopicPartition { topic_high, topic_low, partition: partition.partition.0 })
}

fn from_partition(partition: Option<base::TopicPartition>) -> Result<TopicPartition, Malformed> {
    let partition = partition.ok_or(Malformed::Missing("partition"))?;
    Ok(TopicPartition {
        topic: TopicId(whole(partition.topic_high, partition.topic_low)),
        partition: PartitionIndex(partition.partition),
    })
}

fn to_uuid(id: [u8; 16]) -> Option<base::Uuid> {
    let (high, low) = halves(id);
    Some(base::Uuid { high, low })
}

fn from_uuid(id: Option<base::Uuid>, field: &'static str) -> Result<[u8; 16], Malformed> {
    id.map(|id| whole(id.high, id.low)).ok_or(Malformed::Missing(field))
}

fn from_code(code: i32) -> Result<ErrorCode, Malformed> {
    let unknown = Malformed::Unknown { field: "error code", value: code.into() };
    i16::try_from(code).ok().and_then(ErrorCode::from_code).ok_or(unknown)
}

/// A number that protobuf has no type narrow enough for.
fn narrow<N, W: Copy + Into<i64>>(value: W, field: &'static str) -> Result<N, Malformed>
where
    N: TryFrom<W>,
{
    N::try_from(value).map_err(|_| Malformed::OutOfRange { field, value: value.into() })
}

fn each<T, U>(items: Vec<T>, convert: impl FnMut(T) -> Result<U, Malformed>) -> Result<Vec<U>, Malformed> {
    items.into_iter().map(convert).collect()
}

fn halves(id: [u8; 16]) -> (u64, u64) {
    let number = u128::from_be_bytes(id);
    ((number >> 64) as u64, number as u64)
}

fn whole(high: u64, low: u64) -> [u8; 16] {
    ((u128::from(high) << 64) | u128::from(low)).to_be_bytes()
}
