//! Requests that name many partitions: the results of each are gathered, and the request is answered when the last one is settled.
//!
//! What it must not know: what is asked. Every partition of a request that is begun is settled once, or its gateway is forgotten.

use std::collections::BTreeMap;
use std::iter::Map;
use std::ops::Range;

use base_types::TopicPartition;
use peer_api::storage::RequestId;
use replica_core::RequestKey;

use crate::event::GatewayStream;

/// The low bits of a [`RequestKey`] are the place of the partition in its request.
const PLACE_BITS: u32 = 20;

/// The requests of one kind that wait for partitions.
#[derive(Debug)]
pub(super) struct Gathering<R> {
    waiting: BTreeMap<u64, Waiting<R>>,
    last: u64,
}

#[derive(Debug)]
struct Waiting<R> {
    stream: GatewayStream,
    id: RequestId,
    results: Vec<(TopicPartition, Option<R>)>,
    unsettled: usize,
}

/// All that a request asked for, in the order in which it was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gathered<R> {
    pub(super) stream: GatewayStream,
    pub(super) id: RequestId,
    pub(super) results: Vec<(TopicPartition, R)>,
}

/// One key for each partition, in the order of the request.
pub(super) type Keys = Map<Range<u64>, fn(u64) -> RequestKey>;

impl<R> Default for Gathering<R> {
    fn default() -> Self {
        Gathering { waiting: BTreeMap::new(), last: 0 }
    }
}

impl<R> Gathering<R> {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A request that names no partition, or more than there are keys for, is settled already: each of them by `refusal`.
    pub(super) fn begin(
        &mut self,
        stream: GatewayStream,
        id: RequestId,
        partitions: impl ExactSizeIterator<Item = TopicPartition>,
        refusal: R,
    ) -> Result<Keys, Gathered<R>>
    where
        R: Clone,
    {
        let unsettled = partitions.len();
        if unsettled == 0 || unsettled >= 1 << PLACE_BITS {
            let results = partitions.map(|partition| (partition, refusal.clone())).collect();
            return Err(Gathered { stream, id, results });
        }
        self.last += 1;
        let results = partitions.map(|partition| (partition, None)).collect();
        self.waiting.insert(self.last, Waiting { stream, id, results, unsettled });
        let first = self.last << PLACE_BITS;
        Ok((first..first + unsettled as u64).map(RequestKey as fn(u64) -> RequestKey))
    }

    /// The whole, when this was the last of it. What was settled before, or is waited for no more, changes nothing.
    pub(super) fn settle(&mut self, key: RequestKey, result: R) -> Option<Gathered<R>> {
        let (request, place) = (key.0 >> PLACE_BITS, key.0 & ((1 << PLACE_BITS) - 1));
        let waiting = self.waiting.get_mut(&request)?;
        let (_, unset @ None) = waiting.results.get_mut(place as usize)? else { return None };
        *unset = Some(result);
        waiting.unsettled -= 1;
        if waiting.unsettled > 0 {
            return None;
        }
        let Waiting { stream, id, results, .. } = self.waiting.remove(&request)?;
        let results = results.into_iter().filter_map(|(partition, result)| Some((partition, result?))).collect();
        Some(Gathered { stream, id, results })
    }

    /// The gateway is gone: what is done stays done, but nobody is there to be told.
    pub(super) fn forget(&mut self, stream: GatewayStream) {
        self.waiting.retain(|_, waiting| waiting.stream != stream);
    }
}

#[cfg(test)]
mod tests {
    use base_types::{PartitionIndex, TopicId};

    use super::*;

    fn partitions(count: u32) -> impl ExactSizeIterator<Item = TopicPartition> {
        let partition =
            |index: u32| TopicPartition { topic: TopicId([7; 16]), partition: PartitionIndex(index as i32) };
        (0..count).map(partition)
    }

    fn begun(gathering: &mut Gathering<char>, stream: u64, id: u64, count: u32) -> Vec<RequestKey> {
        let keys = gathering.begin(GatewayStream(stream), RequestId(id), partitions(count), '-');
        keys.expect("it has partitions").collect()
    }

    fn results(gathered: &Gathered<char>) -> String {
        gathered.results.iter().map(|(_, result)| result).collect()
    }

    #[test]
    fn a_request_is_whole_with_its_last_partition_and_in_the_order_in_which_it_was_asked() {
        let mut gathering = Gathering::default();
        let (first, second) = (begun(&mut gathering, 1, 10, 3), begun(&mut gathering, 1, 11, 1));
        assert_eq!(gathering.settle(first[2], 'c'), None);
        assert_eq!(gathering.settle(first[0], 'a'), None);
        let other = gathering.settle(second[0], 'z').expect("it asked for one");
        assert_eq!((other.id, results(&other)), (RequestId(11), "z".to_owned()));
        assert_eq!(gathering.len(), 1);
        let whole = gathering.settle(first[1], 'b').expect("nothing is open");
        assert_eq!((whole.stream, whole.id), (GatewayStream(1), RequestId(10)));
        assert_eq!(results(&whole), "abc");
        assert!(whole.results.iter().map(|(partition, _)| *partition).eq(partitions(3)));
        assert_eq!(gathering.len(), 0);
    }

    #[test]
    fn what_is_settled_twice_counts_once() {
        let mut gathering = Gathering::default();
        let keys = begun(&mut gathering, 1, 10, 2);
        assert_eq!(gathering.settle(keys[0], 'a'), None);
        assert_eq!(gathering.settle(keys[0], 'x'), None);
        assert_eq!(results(&gathering.settle(keys[1], 'b').expect("nothing is open")), "ab");
        assert_eq!(gathering.settle(keys[1], 'x'), None, "it was answered");
    }

    #[test]
    fn a_gateway_that_is_gone_is_told_nothing_and_the_others_are() {
        let mut gathering = Gathering::default();
        let (gone, here) = (begun(&mut gathering, 1, 10, 1), begun(&mut gathering, 2, 10, 1));
        gathering.forget(GatewayStream(1));
        assert_eq!(gathering.settle(gone[0], 'a'), None);
        assert!(gathering.settle(here[0], 'b').is_some());
    }

    #[test]
    fn none_and_too_many_are_settled_at_once() {
        let mut gathering = Gathering::default();
        for (count, told) in [(0, 0), (1 << PLACE_BITS, 1 << PLACE_BITS)] {
            let refused = gathering.begin(GatewayStream(1), RequestId(1), partitions(count), '-');
            let refused = refused.map(drop).expect_err("it cannot wait");
            assert_eq!(refused.results.len(), told);
            assert!(refused.results.iter().all(|(_, result)| *result == '-'));
        }
        assert_eq!(gathering.len(), 0);
        let (most, next) = (begun(&mut gathering, 1, 2, (1 << PLACE_BITS) - 1), begun(&mut gathering, 1, 3, 1));
        assert!(!most.contains(&next[0]), "the keys of two requests never meet");
    }
}
