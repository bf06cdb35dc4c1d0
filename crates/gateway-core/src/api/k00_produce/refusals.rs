//! What a producer is told of batches that it had sent before it knew that one in front of them was refused.
//!
//! ```text
//!   R1 ──► refused, to be repeated          it has its answer, so nothing of ours waits for it any more
//!   R2 ──► "sequence 1 where 0 is due"      meanwhile the leader takes batches, and R1 is the one that is missing
//! ```
//!
//! By itself R2 is out of order, and Kafka says so. librdkafka then begins a new epoch for every partition that its producer
//! writes: what it had to repeat in another one, and was in the log there, is appended a second time (librdkafka #4953). But
//! nothing is wrong with the numbers. So R2 may be repeated like R1, and is in order then.
//!
//! Assumes: a client repeats what got a retriable error before it goes on under the same producer epoch.

use std::collections::BTreeMap;

use base_types::{ProducerEpoch, ProducerId, Sequence, Tick, TopicPartition};

use crate::limits::REFUSALS_MAX;

/// An idempotent client has no more under way to a partition (KIP-98).
const IN_FLIGHT_MAX: usize = 5;
/// Whoever sends something so long after a refusal has heard of it.
const UNHEARD_MS_MAX: u64 = 5_000;

/// Of one connection, where a partition has one producer that numbers its batches.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    latest: BTreeMap<TopicPartition, Refusal>,
}

#[derive(Debug)]
struct Refusal {
    producer: (ProducerId, ProducerEpoch),
    /// Where they begin. The oldest is the one that others miss, so when there are too many it is not the oldest that is left out.
    sequences: Vec<Sequence>,
    at: Tick,
}

impl Refusals {
    /// A batch, which came `begun`, is told `now` that it may be repeated: it is not there, or nobody knows.
    pub(super) fn refused(
        &mut self,
        (begun, now): (Tick, Tick),
        partition: TopicPartition,
        producer: (ProducerId, ProducerEpoch),
        sequence: Sequence,
    ) {
        let fresh = || Refusal { producer, sequences: Vec::new(), at: now };
        let refusal = self.latest.entry(partition).or_insert_with(fresh);
        // Who sent this one had heard of those before it long ago, and has repeated them, here or over another connection.
        if refusal.producer != producer || begun > refusal.at.plus_ms(UNHEARD_MS_MAX) {
            *refusal = fresh();
        }
        refusal.at = now;
        if refusal.sequences.len() < IN_FLIGHT_MAX && !refusal.sequences.contains(&sequence) {
            refusal.sequences.push(sequence);
        }
        if self.latest.len() > REFUSALS_MAX {
            self.latest.pop_first();
        }
    }

    /// A batch is there, and so is all before it.
    pub(super) fn appended(&mut self, partition: TopicPartition) {
        self.latest.remove(&partition);
    }

    /// Whether a batch, which came `begun`, comes behind one that was refused and has not come again.
    pub(super) fn precede(
        &self,
        partition: TopicPartition,
        producer: (ProducerId, ProducerEpoch),
        sequence: Sequence,
        begun: Tick,
    ) -> bool {
        self.unheard(partition, producer, begun).is_some_and(|refused| refused.first() != Some(&sequence))
    }

    /// Whether the one that is missing before a batch, which came `begun`, is one that was refused.
    pub(super) fn explain(
        &self,
        partition: TopicPartition,
        producer: (ProducerId, ProducerEpoch),
        missing: Sequence,
        begun: Tick,
    ) -> bool {
        self.unheard(partition, producer, begun).is_some_and(|refused| refused.contains(&missing))
    }

    /// What was refused, and whoever sent another batch, which came `begun`, need not have heard.
    fn unheard(
        &self,
        partition: TopicPartition,
        producer: (ProducerId, ProducerEpoch),
        begun: Tick,
    ) -> Option<&[Sequence]> {
        let refusal = self.latest.get(&partition)?;
        let is_unheard = refusal.producer == producer && begun <= refusal.at.plus_ms(UNHEARD_MS_MAX);
        is_unheard.then_some(&refusal.sequences)
    }
}
