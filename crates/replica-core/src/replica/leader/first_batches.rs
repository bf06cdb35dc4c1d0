//! First batches that were refused for a while, of producers of which the log knows nothing.
//!
//! Any sequence may be the first one of such a producer (its earlier records may be deleted), so the batch *behind* a refused first one
//! would be taken for the first. librdkafka then believes that the refused one arrived, too: an answer for a batch answers for all
//! before it. So who leads remembers what it refused, until that has come.

use std::collections::BTreeMap;

use base_types::{ProducerEpoch, ProducerId, Sequence};
use peer_api::storage::AppendError;
use record_batch::BatchHeader;

/// Beyond it those with the lowest producer ids, which are the oldest, are forgotten.
const PRODUCERS_MAX: usize = 1_024;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct FirstBatches {
    refused: BTreeMap<(ProducerId, ProducerEpoch), Sequence>,
}

impl FirstBatches {
    /// A batch of a producer that the log knows nothing of: whether it comes behind one that was refused (P3).
    pub fn check(&self, batch: &BatchHeader) -> Result<(), AppendError> {
        match self.refused.get(&key(batch)) {
            Some(&expected) if expected.is_before(batch.base_sequence) => {
                Err(AppendError::OutOfOrderSequence { expected, got: batch.base_sequence })
            }
            _ => Ok(()),
        }
    }

    pub fn refused(&mut self, batch: &BatchHeader) {
        let first = self.refused.entry(key(batch)).or_insert(batch.base_sequence);
        if batch.base_sequence.is_before(*first) {
            *first = batch.base_sequence;
        }
        if self.refused.len() > PRODUCERS_MAX {
            self.refused.pop_first();
        }
    }

    /// From here on the log knows.
    pub fn appended(&mut self, batch: &BatchHeader) {
        self.refused.remove(&key(batch));
    }
}

fn key(batch: &BatchHeader) -> (ProducerId, ProducerEpoch) {
    (batch.producer_id, batch.producer_epoch)
}
