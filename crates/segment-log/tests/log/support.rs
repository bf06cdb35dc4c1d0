//! Batches and stores to test with.

use std::sync::Arc;

use base_types::{
    Incarnation, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
    TopicPartition,
};
use record_batch::{BatchBuilder, Compression, Producer, StampedBatch};
use segment_log::{Durability, LogOptions, LogRead, LogStore, LogWrite, ReadError, RecoveryReport, ReplicaOptions};
use store_api::{MemKv, MemVfs};

pub const ALL: Offset = Offset(i64::MAX);

pub fn tp(index: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([7; 16]), partition: PartitionIndex(index) }
}

/// Small enough that a few operations reach every corner.
pub fn options(life: u8) -> LogOptions {
    LogOptions {
        journal_file_bytes: 64 << 10,
        journal_bytes_max: 192 << 10,
        tail_cache_bytes: 32 << 10,
        bypass_bytes: 2 << 10,
        index_interval_bytes: 256,
        reserve_bytes: 0,
        open_files_max: 3,
        unsynced_bytes_max: 4 << 10,
        ..LogOptions::new(Incarnation([life; 16]))
    }
}

/// So large that batches of tens of KiB go through the journal, and have gaps before them.
pub fn large_options(life: u8) -> LogOptions {
    LogOptions {
        journal_file_bytes: 512 << 10,
        journal_bytes_max: 3 << 20,
        tail_cache_bytes: 1 << 20,
        bypass_bytes: 128 << 10,
        ..options(life)
    }
}

pub fn replica_options() -> ReplicaOptions {
    ReplicaOptions { segment_bytes: 4 << 10 }
}

/// `records` records whose values are `value_bytes` long, all with their offset as timestamp.
pub fn batch(base: Offset, epoch: i32, records: i64, value_bytes: usize) -> StampedBatch {
    batch_with(base, epoch, records, value_bytes, Compression::None, Producer::NONE)
}

pub fn batch_with(
    base: Offset,
    epoch: i32,
    records: i64,
    value_bytes: usize,
    compression: Compression,
    producer: Producer,
) -> StampedBatch {
    let mut builder =
        BatchBuilder::new(compression).base_offset(base).leader_epoch(LeaderEpoch(epoch)).producer(producer);
    for i in 0..records {
        let offset = base.plus(i);
        let value = vec![(offset.0 * 31 + i64::from(epoch)) as u8; value_bytes];
        builder.push(None, Some(&value), &[], Timestamp(offset.0));
    }
    StampedBatch::from_stored(builder.build().unwrap()).unwrap()
}

pub fn producer(id: i64, sequence: i32) -> Producer {
    Producer { id: ProducerId(id), epoch: ProducerEpoch(0), base_sequence: Sequence(sequence) }
}

pub fn write(tp: TopicPartition, batch: StampedBatch) -> LogWrite {
    LogWrite { tp, batch, durability: Durability::Fsync }
}

pub fn lazy(tp: TopicPartition, batch: StampedBatch) -> LogWrite {
    LogWrite { tp, batch, durability: Durability::PageCache }
}

pub struct Disk {
    pub vfs: MemVfs,
    pub kv: Arc<MemKv>,
    pub life: u8,
    pub options: fn(u8) -> LogOptions,
}

impl Disk {
    pub fn new() -> Disk {
        Disk::with(options)
    }

    /// `options`: those of each life.
    pub fn with(options: fn(u8) -> LogOptions) -> Disk {
        Disk { vfs: MemVfs::new(), kv: Arc::new(MemKv::new()), life: 0, options }
    }

    pub fn open(&mut self) -> (LogStore, RecoveryReport) {
        self.open_with(|_| {})
    }

    pub fn open_with(&mut self, adjust: impl FnOnce(&mut LogOptions)) -> (LogStore, RecoveryReport) {
        self.life += 1;
        let mut options = (self.options)(self.life);
        adjust(&mut options);
        LogStore::open(Arc::new(self.vfs.clone()), self.kv.clone(), options).unwrap()
    }
}

/// Everything from `from` on, in single batches, read with a small limit so that many reads are needed.
pub fn read_all(store: &LogStore, tp: TopicPartition, from: Offset) -> Result<Vec<StampedBatch>, ReadError> {
    let mut found = Vec::new();
    let mut next = from;
    loop {
        let read: LogRead = store.read(tp, next, ALL, 1000)?;
        if read.batches.is_empty() {
            return Ok(found);
        }
        for piece in read.batches {
            let batch = StampedBatch::from_stored(piece).unwrap();
            assert!(batch.header().next_offset() > next);
            next = batch.header().next_offset();
            found.push(batch);
        }
        assert_eq!(next, read.next);
    }
}

pub fn bases(store: &LogStore, tp: TopicPartition) -> Vec<i64> {
    let (start, _) = store.bounds(tp).unwrap();
    read_all(store, tp, start).unwrap().iter().map(|batch| batch.header().base_offset.0).collect()
}
