//! A dumb log: vectors of batches, nothing else. And random operations for it and the real one.

use std::collections::BTreeMap;

use base_types::{LeaderEpoch, Offset, Random, TopicPartition};
use record_batch::StampedBatch;
use segment_log::{Checkpoint, Durability, FlushBudget, LogStore, LogWrite, ReplicaOptions};

use crate::support::{batch, read_all, replica_options, tp};

/// Of each partition what should be there.
#[derive(Clone, Default)]
pub struct Twin {
    pub logs: BTreeMap<TopicPartition, TwinLog>,
}

#[derive(Clone)]
pub struct TwinLog {
    pub log_start: Offset,
    pub log_end: Offset,
    pub batches: Vec<StampedBatch>,
    /// Everything below survives power loss.
    pub durable_end: Offset,
    pub epoch: i32,
}

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Operation {
    Commit(Vec<LogWrite>),
    Truncate(TopicPartition, Offset),
    Reset(TopicPartition, Offset),
    LogStart(TopicPartition, Offset),
    Create(TopicPartition, ReplicaOptions),
    Delete(TopicPartition),
    Checkpoint(TopicPartition, Offset),
    FlushDue,
    FlushEverything,
    PrepareJournal,
}

impl TwinLog {
    fn empty(start: Offset, epoch: i32) -> TwinLog {
        TwinLog { log_start: start, log_end: start, batches: Vec::new(), durable_end: start, epoch }
    }

    pub fn visible(&self) -> impl Iterator<Item = &StampedBatch> {
        self.batches.iter().filter(|batch| batch.header().next_offset() > self.log_start)
    }

    /// Where a truncation to `to` ends the log.
    pub fn cut(&self, to: Offset) -> Offset {
        if to >= self.log_end {
            return self.log_end;
        }
        let last = self.visible().map(|batch| batch.header().next_offset()).filter(|next| *next <= to).last();
        last.unwrap_or(self.log_start)
    }

    pub fn epochs(&self) -> Vec<(LeaderEpoch, Offset)> {
        let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for batch in self.visible() {
            let header = batch.header();
            if epochs.last().is_none_or(|(epoch, _)| *epoch < header.leader_epoch) {
                epochs.push((header.leader_epoch, header.base_offset.max(self.log_start)));
            }
        }
        epochs
    }
}

impl Twin {
    /// The twin after `operation`, all of it done and nothing lost.
    pub fn after(&self, operation: &Operation) -> Twin {
        let mut twin = self.clone();
        match operation {
            Operation::Commit(writes) => {
                for write in writes {
                    let log = twin.logs.get_mut(&write.tp).unwrap();
                    log.log_end = write.batch.header().next_offset();
                    log.batches.push(write.batch.clone());
                    if write.durability == Durability::Fsync {
                        log.durable_end = log.log_end;
                    }
                }
            }
            Operation::Truncate(tp, to) => {
                let log = twin.logs.get_mut(tp).unwrap();
                let end = log.cut(*to);
                log.batches.retain(|batch| batch.header().next_offset() <= end);
                log.log_end = end;
                log.durable_end = log.durable_end.min(end);
                log.epoch += 1;
            }
            Operation::Reset(tp, start) => {
                let log = twin.logs.get_mut(tp).unwrap();
                *log = TwinLog::empty(*start, log.epoch + 1);
            }
            Operation::LogStart(tp, to) => {
                let log = twin.logs.get_mut(tp).unwrap();
                log.log_start = log.log_start.max((*to).min(log.log_end));
                let start = log.log_start;
                log.batches.retain(|batch| batch.header().next_offset() > start);
                log.durable_end = log.durable_end.max(start);
            }
            Operation::Create(tp, _) => {
                twin.logs.insert(*tp, TwinLog::empty(Offset::ZERO, 0));
            }
            Operation::Delete(tp) => {
                twin.logs.remove(tp);
            }
            Operation::FlushEverything => {
                for log in twin.logs.values_mut() {
                    log.durable_end = log.log_end;
                }
            }
            Operation::FlushDue | Operation::PrepareJournal | Operation::Checkpoint(..) => {}
        }
        twin
    }

    /// The twin when `operation` has happened but promised nothing yet.
    pub fn half_done(&self, operation: &Operation) -> Twin {
        let mut twin = self.after(operation);
        for (tp, log) in &mut twin.logs {
            let before = self.logs.get(tp).map_or(log.log_start, |before| before.durable_end);
            log.durable_end = log.durable_end.min(before).max(log.log_start);
        }
        twin
    }

    pub fn check_equal(&self, store: &LogStore) {
        let partitions: Vec<TopicPartition> = self.logs.keys().copied().collect();
        assert_eq!(store.replicas(), partitions);
        for (tp, log) in &self.logs {
            assert_eq!(store.bounds(*tp), Some((log.log_start, log.log_end)), "{tp}");
            let found = read_all(store, *tp, log.log_start).unwrap();
            let offsets = |batch: &StampedBatch| (batch.header().base_offset.0, batch.header().next_offset().0);
            let expected: Vec<_> = log.visible().map(offsets).collect();
            assert_eq!(found.iter().map(offsets).collect::<Vec<_>>(), expected, "{tp}");
            assert!(found.iter().eq(log.visible()), "{tp}");
            let opened = store.open_replica(*tp).unwrap().unwrap();
            assert!(
                epochs_match(&opened.leader_epochs, &log.epochs()),
                "{tp}: {:?}, not {:?}",
                opened.leader_epochs,
                log.epochs()
            );
        }
    }
}

/// The log may remember the epoch before the first batch that is left, as Kafka does, and that an epoch began before it.
pub fn epochs_match(found: &[(LeaderEpoch, Offset)], expected: &[(LeaderEpoch, Offset)]) -> bool {
    let Some(extra) = found.len().checked_sub(expected.len()).filter(|extra| *extra <= 1) else { return false };
    let rest = &found[extra..];
    let first = rest.first().zip(expected.first()).is_none_or(|(f, e)| f.0 == e.0 && f.1 <= e.1);
    first && rest.iter().skip(1).eq(expected.iter().skip(1)) && found.windows(2).all(|pair| pair[0].0 < pair[1].0)
}

/// Draws operations that the twin allows.
pub struct Generator {
    pub random: Random,
    pub partitions: i32,
    replica_options: ReplicaOptions,
    /// In thousand: how many commits bring a partition's batches of tens of KiB.
    large: u64,
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator { random: Random::new(seed), partitions: 5, replica_options: replica_options(), large: 0 }
    }

    /// One whose batches are large as often as small.
    pub fn large(seed: u64) -> Generator {
        let replica_options = ReplicaOptions { segment_bytes: 1 << 20 };
        Generator { replica_options, large: 500, ..Generator::new(seed) }
    }

    pub fn next(&mut self, twin: &Twin) -> Operation {
        let tp = tp(self.random.below(self.partitions as u64) as i32);
        let Some(log) = twin.logs.get(&tp) else { return Operation::Create(tp, self.replica_options) };
        let span = log.log_end.since(log.log_start) as u64;
        match self.random.below(100) {
            0..60 => self.commit(twin),
            60..66 if span > 0 => Operation::Truncate(tp, log.log_start.plus(self.random.below(span + 2) as i64)),
            66..68 => Operation::Reset(tp, Offset(self.random.below(1000) as i64)),
            // Logs are kept short, so that reading them all is quick.
            68..80 => {
                let last = log.batches.len().saturating_sub(6);
                let to = log.batches.get(last).map_or(log.log_start, |batch| batch.header().base_offset);
                Operation::LogStart(tp, to.max(log.log_start).plus(self.random.below(3) as i64))
            }
            80 => Operation::Delete(tp),
            81..85 => Operation::FlushEverything,
            85..93 => Operation::FlushDue,
            93..95 => Operation::PrepareJournal,
            _ => Operation::Checkpoint(tp, log.log_end),
        }
    }

    fn commit(&mut self, twin: &Twin) -> Operation {
        let mut writes = Vec::new();
        for (tp, log) in &twin.logs {
            if !self.random.chance(400) {
                continue;
            }
            // Partition 2 and 3 ask for less, 3 changes its mind.
            let durability = match tp.partition.0 {
                2 => Durability::PageCache,
                3 if self.random.chance(600) => Durability::PageCache,
                _ => Durability::Fsync,
            };
            let mut end = log.log_end;
            let epoch = log.epoch + i32::from(self.random.chance(50));
            let is_large = self.large > 0 && self.random.chance(self.large);
            for _ in 0..self.random.between(1, 3) {
                let (records, bytes) = if is_large {
                    // Pages that differ, so that none can pass for another.
                    (self.random.between(20, 60) as i64, 1000 + self.random.below(200))
                } else {
                    let records = self.random.between(1, 3) as i64;
                    (records, if self.random.chance(120) { self.random.below(2500) } else { self.random.below(120) })
                };
                // Compaction leaves gaps.
                let base = end.plus(if self.random.chance(50) { 2 } else { 0 });
                let batch = batch(base, epoch, records, bytes as usize);
                end = batch.header().next_offset();
                writes.push(LogWrite { tp: *tp, batch, durability });
            }
        }
        Operation::Commit(writes)
    }
}

/// Does it to the real log.
pub fn perform(store: &LogStore, twin: &Twin, operation: &Operation) -> Result<(), segment_log::StoreError> {
    match operation {
        Operation::Commit(writes) => store.commit(writes).map(|_| ()),
        Operation::Truncate(tp, to) => {
            let end = store.truncate(*tp, *to)?;
            assert_eq!(end, twin.logs[tp].cut(*to), "truncation of {tp} to {to}");
            Ok(())
        }
        Operation::Reset(tp, start) => store.reset(*tp, *start),
        Operation::LogStart(tp, to) => store.advance_log_start(*tp, *to),
        Operation::Create(tp, options) => store.create_replica(*tp, *options).map(|_| ()),
        Operation::Delete(tp) => store.delete_replica(*tp),
        Operation::Checkpoint(tp, as_of) => {
            let state = bytes::Bytes::copy_from_slice(&as_of.0.to_be_bytes());
            store.checkpoint(*tp, &Checkpoint { as_of: *as_of, high_watermark: *as_of, producer_state: state })
        }
        Operation::FlushDue => store.flush(FlushBudget::DUE).map(|_| ()),
        Operation::FlushEverything => store.flush(FlushBudget::EVERYTHING).map(|_| ()),
        Operation::PrepareJournal => store.prepare_journal().map(|_| ()),
    }
}

/// The epoch that the log has reached, for the next commits.
pub fn note_epochs(twin: &mut Twin) {
    for log in twin.logs.values_mut() {
        if let Some(last) = log.batches.last() {
            log.epoch = log.epoch.max(last.header().leader_epoch.0);
        }
    }
}

/// One line for a trace.
pub fn describe(operation: &Operation) -> String {
    match operation {
        Operation::Commit(writes) => {
            let one = |write: &LogWrite| {
                let header = write.batch.header();
                let (base, next) = (header.base_offset, header.next_offset());
                format!("{}:{base}..{next} {}b {:?}", write.tp.partition, write.batch.size(), write.durability)
            };
            format!("commit {}", writes.iter().map(one).collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
    }
}
