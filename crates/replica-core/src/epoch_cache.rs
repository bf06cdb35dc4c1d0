//! Which leader epoch begins where in the log (KIP-101). Pure data; kept equal to what a scan of the log yields (R11).

use base_types::{LeaderEpoch, Offset, invariant};
use peer_api::storage::EpochEnd;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct EpochCache {
    /// Strictly increasing in both.
    starts: Vec<(LeaderEpoch, Offset)>,
}

impl EpochCache {
    pub fn new(starts: Vec<(LeaderEpoch, Offset)>) -> EpochCache {
        let cache = EpochCache { starts };
        cache.check_invariants();
        cache
    }

    /// The epoch of the last record; unknown for an empty log.
    pub fn latest(&self) -> LeaderEpoch {
        self.starts.last().map_or(LeaderEpoch::UNKNOWN, |&(epoch, _)| epoch)
    }

    pub fn starts(&self) -> &[(LeaderEpoch, Offset)] {
        &self.starts
    }

    /// A batch of `epoch` was appended at `offset`.
    pub fn append(&mut self, epoch: LeaderEpoch, offset: Offset) {
        if epoch > self.latest() {
            // The log begins here: what is known of the epoch before is that it has no record left.
            self.starts.pop_if(|&mut (_, start)| start == offset);
            self.starts.push((epoch, offset));
        } else {
            invariant!(R11, epoch == self.latest(), "epoch {epoch} at {offset} after {}", self.latest());
        }
    }

    /// What lay below `log_start` is gone. The epoch that reaches up to there is kept, even if nothing of it is left: an empty
    /// log still knows what it ended with.
    pub fn trim(&mut self, log_start: Offset) {
        let begun = self.starts.partition_point(|&(_, start)| start <= log_start);
        self.starts.drain(..begun.saturating_sub(1));
        if let Some((_, start)) = self.starts.first_mut().filter(|_| begun > 0) {
            *start = log_start;
        }
    }

    /// The epoch of the record at `offset`, which must lie inside the log.
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let after = self.starts.partition_point(|&(_, start)| start <= offset);
        self.starts[..after].last().map_or(LeaderEpoch::UNKNOWN, |&(epoch, _)| epoch)
    }

    /// The largest epoch not above `epoch` and the offset after its last record; `None` when every epoch is newer (KIP-279).
    pub fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<EpochEnd> {
        let after = self.starts.partition_point(|&(known, _)| known <= epoch);
        let &(epoch, _) = self.starts[..after].last()?;
        let end_offset = self.starts.get(after).map_or(log_end, |&(_, start)| start);
        Some(EpochEnd { epoch, end_offset })
    }

    pub fn check_invariants(&self) {
        for pair in self.starts.windows(2) {
            invariant!(R11, pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1, "{:?} then {:?}", pair[0], pair[1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> EpochCache {
        EpochCache::new(vec![(LeaderEpoch(1), Offset(0)), (LeaderEpoch(3), Offset(10)), (LeaderEpoch(6), Offset(15))])
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let end = |epoch| cache().end_of(LeaderEpoch(epoch), Offset(20)).map(|end| (end.epoch.0, end.end_offset.0));
        assert_eq!(end(0), None);
        assert_eq!(end(1), Some((1, 10)));
        assert_eq!(end(2), Some((1, 10)), "an epoch nobody wrote in falls back to the one before it");
        assert_eq!(end(3), Some((3, 15)));
        assert_eq!(end(6), Some((6, 20)));
        assert_eq!(end(9), Some((6, 20)));
    }

    #[test]
    fn offsets_belong_to_the_epoch_that_began_last() {
        assert_eq!(cache().epoch_at(Offset(9)), LeaderEpoch(1));
        assert_eq!(cache().epoch_at(Offset(10)), LeaderEpoch(3));
        assert_eq!(EpochCache::default().epoch_at(Offset(0)), LeaderEpoch::UNKNOWN);
    }

    #[test]
    fn what_is_trimmed_begins_where_the_log_does() {
        let trimmed = |to| {
            let mut cache = cache();
            cache.trim(Offset(to));
            cache.starts().iter().map(|(epoch, start)| (epoch.0, start.0)).collect::<Vec<_>>()
        };
        assert_eq!(trimmed(9), [(1, 9), (3, 10), (6, 15)]);
        assert_eq!(trimmed(10), [(3, 10), (6, 15)]);
        assert_eq!(trimmed(20), [(6, 20)]);
        let mut empty = cache();
        empty.trim(Offset(20));
        empty.append(LeaderEpoch(7), Offset(20));
        assert_eq!(empty.starts(), [(LeaderEpoch(7), Offset(20))]);
    }

    #[test]
    #[should_panic(expected = "invariant R11 broken")]
    fn an_older_epoch_cannot_be_appended() {
        cache().append(LeaderEpoch(5), Offset(20));
    }
}
