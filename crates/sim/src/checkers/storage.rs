//! S1, S11, S12 and C10: what disks hold, over the lives of the processes that use them.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{BrokerId, Offset, TopicPartition};
use peer_api::metadata::Image;

/// Over the whole run.
#[derive(Debug, Default)]
pub struct Disks {
    log_starts: BTreeMap<(BrokerId, TopicPartition), Offset>,
    held: BTreeMap<BrokerId, (u64, BTreeSet<TopicPartition>)>,
    /// Whose last stop was in order, or failed when all was done but that the mark of it had its name for good.
    closed: BTreeSet<BrokerId>,
}

impl Disks {
    /// The process closed its log in order, or is not known to have failed in that.
    pub fn closed(&mut self, node: BrokerId) {
        self.closed.insert(node);
    }

    /// The disk is another one.
    pub fn lost(&mut self, node: BrokerId) {
        self.log_starts.retain(|(holder, _), _| *holder != node);
        self.held.remove(&node);
        self.closed.remove(&node);
    }

    /// S1 and S12, of a log that has just been recovered: `ends` is what it holds, `durable` what it held durably before.
    pub fn recovered(
        &mut self,
        node: BrokerId,
        was_clean: bool,
        ends: &BTreeMap<TopicPartition, Offset>,
        durable: impl Iterator<Item = (TopicPartition, Offset)>,
    ) -> Result<(), String> {
        if was_clean && !self.closed.remove(&node) {
            return Err(format!("S12: the log of node {node} says that it was closed in order, and it was not"));
        }
        self.closed.remove(&node);
        for (partition, before) in durable {
            let end = ends.get(&partition).copied().unwrap_or(Offset::ZERO);
            if end < before {
                return Err(format!("S1: {partition}: node {node} ends at {end}, and {before} was durable"));
            }
        }
        Ok(())
    }

    /// S11.
    pub fn begins(&mut self, node: BrokerId, partition: TopicPartition, log_start: Offset) -> Result<(), String> {
        let before = self.log_starts.insert((node, partition), log_start);
        match before.filter(|before| *before > log_start) {
            Some(before) => Err(format!("S11: {partition}: node {node} begins at {log_start}, after {before}")),
            None => Ok(()),
        }
    }

    /// C10: of what a node holds, only that goes in a life of its process which the metadata no longer give to it. `image`: the
    /// newest, as at every call before.
    pub fn holds(
        &mut self,
        node: BrokerId,
        life: u64,
        partitions: BTreeSet<TopicPartition>,
        image: &Image,
    ) -> Result<(), String> {
        let before = self.held.insert(node, (life, partitions));
        let Some((_, now)) = self.held.get(&node) else { return Ok(()) };
        let Some((_, before)) = before.filter(|(before, _)| *before == life) else { return Ok(()) };
        let is_given = |partition: &TopicPartition| {
            image.partition(*partition).is_some_and(|state| state.replicas.contains(&node))
        };
        match before.iter().find(|partition| !now.contains(partition) && is_given(partition)) {
            Some(gone) => Err(format!("C10: node {node} has deleted {gone}, which is its own")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use base_types::{PartitionIndex, TopicId};

    use super::*;

    const NODE: BrokerId = BrokerId(1);

    fn partition() -> TopicPartition {
        TopicPartition { topic: TopicId::default(), partition: PartitionIndex(0) }
    }

    #[test]
    fn what_was_durable_is_there_after_a_restart() {
        let ends = BTreeMap::from([(partition(), Offset(5))]);
        let recovered =
            |durable: i64| Disks::default().recovered(NODE, false, &ends, [(partition(), Offset(durable))].into_iter());
        assert_eq!(recovered(5), Ok(()));
        assert!(recovered(6).unwrap_err().starts_with("S1"));
    }

    #[test]
    fn only_a_log_that_was_closed_in_order_says_so() {
        let mut disks = Disks::default();
        let recovered = |disks: &mut Disks| disks.recovered(NODE, true, &BTreeMap::new(), std::iter::empty());
        assert!(recovered(&mut disks).unwrap_err().starts_with("S12"));
        disks.closed(NODE);
        assert_eq!(recovered(&mut disks), Ok(()));
        assert!(recovered(&mut disks).unwrap_err().starts_with("S12"), "once for each stop");
    }

    #[test]
    fn a_log_does_not_begin_earlier_than_before_unless_its_disk_is_another() {
        let mut disks = Disks::default();
        assert_eq!(disks.begins(NODE, partition(), Offset(5)), Ok(()));
        assert!(disks.begins(NODE, partition(), Offset(4)).unwrap_err().starts_with("S11"));
        disks.lost(NODE);
        assert_eq!(disks.begins(NODE, partition(), Offset(0)), Ok(()));
    }
}
