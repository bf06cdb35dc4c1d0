//! P5: producer state is derived from the log, so that it is the same wherever the log ends alike.

use std::collections::BTreeMap;

use base_types::{BrokerId, LeaderEpoch, Offset, TopicPartition};
use bytes::Bytes;

/// One replica's, whose log is durable to its end and has all that ever was in it: what a producer wrote is forgotten with its records
/// at the next start, and not before.
pub struct State {
    pub node: BrokerId,
    pub partition: TopicPartition,
    /// Logs that end at one offset in one epoch are the same (R1).
    pub log_end: Offset,
    pub last_epoch: LeaderEpoch,
    pub encoded: Bytes,
}

/// All that are there at one moment.
pub fn check(states: impl IntoIterator<Item = State>) -> Result<(), String> {
    let mut known: BTreeMap<(TopicPartition, Offset, LeaderEpoch), (BrokerId, Bytes)> = BTreeMap::new();
    for State { node, partition, log_end, last_epoch, encoded } in states {
        let (other, same) = known.entry((partition, log_end, last_epoch)).or_insert((node, encoded.clone()));
        if *same != encoded {
            return Err(format!("P5: {partition}: nodes {other} and {node} know different producers at {log_end}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base_types::{PartitionIndex, TopicId};

    use super::*;

    fn state(node: i32, log_end: i64, encoded: &'static [u8]) -> State {
        State {
            node: BrokerId(node),
            partition: TopicPartition { topic: TopicId::default(), partition: PartitionIndex(0) },
            log_end: Offset(log_end),
            last_epoch: LeaderEpoch(1),
            encoded: Bytes::from_static(encoded),
        }
    }

    #[test]
    fn logs_that_end_alike_know_the_same_producers() {
        assert_eq!(check([state(1, 5, b"a"), state(2, 5, b"a"), state(3, 6, b"b")]), Ok(()));
        assert!(check([state(1, 5, b"a"), state(2, 5, b"b")]).unwrap_err().starts_with("P5"));
    }
}
