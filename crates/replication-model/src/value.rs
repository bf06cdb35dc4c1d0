//! What clients append: batches of a few records that tell themselves apart by their CRC.

use base_types::{ProducerEpoch, ProducerId, Sequence, Timestamp, TopicPartition};
use record_batch::{BatchBuilder, BatchLimits, Compression, ProducedBatch, Producer};

/// `producer`: id, epoch and sequence of an idempotent producer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Value {
    pub partition: TopicPartition,
    pub number: u32,
    pub records: i32,
    pub producer: Option<(i64, i16, i32)>,
}

impl Value {
    pub fn batch(&self) -> ProducedBatch {
        let mut batch = BatchBuilder::new(Compression::None);
        if let Some((id, epoch, sequence)) = self.producer {
            let (id, epoch, base_sequence) = (ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
            batch = batch.producer(Producer { id, epoch, base_sequence });
        }
        for _ in 0..self.records {
            batch = batch.record(None, Some(&self.number.to_be_bytes()), &[], Timestamp(1_000));
        }
        let bytes = batch.build().expect("a small batch");
        ProducedBatch::check(bytes, &BatchLimits::default()).expect("a valid batch")
    }
}
