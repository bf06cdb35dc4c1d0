//! A disk that delays, fails, is full at times, and loses at a crash what it has not confirmed.

use std::collections::{BTreeMap, VecDeque};

use base_types::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, Random, Timestamp, TopicPartition};
use bytes::Bytes;
use peer_api::storage::{LogDir, OffsetSpec, ReplicaSize};
use record_batch::StampedBatch;
use storage_core::{Effect, Event, FetchPart, OnDisk, ReadFailure, TimestampHit, WriteFailure};

#[derive(Default)]
pub struct Disk {
    logs: BTreeMap<TopicPartition, Log>,
    pub broker_epoch: Option<BrokerEpoch>,
    writes: VecDeque<Effect>,
    reads: Vec<Effect>,
    pub full: bool,
    pub failed: bool,
}

#[derive(Default)]
struct Log {
    start: Offset,
    batches: Vec<StampedBatch>,
    checkpoint: Option<(Offset, Offset, Bytes)>,
}

impl Log {
    fn end(&self) -> Offset {
        self.batches.last().map_or(self.start, |batch| batch.header().next_offset())
    }

    fn first_batch(&self) -> Offset {
        self.batches.first().map_or(self.start, |batch| batch.header().base_offset.min(self.start))
    }

    fn on_disk(&self) -> OnDisk {
        let mut leader_epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for header in self.batches.iter().map(StampedBatch::header) {
            if leader_epochs.last().is_none_or(|&(epoch, _)| epoch < header.leader_epoch) {
                leader_epochs.push((header.leader_epoch, header.base_offset));
            }
        }
        let as_of = self.checkpoint.as_ref().map_or(self.start, |&(as_of, ..)| as_of);
        let headers = self.batches.iter().map(|batch| *batch.header());
        OnDisk {
            log_start: self.start,
            first_batch: self.first_batch(),
            log_end: self.end(),
            leader_epochs,
            high_watermark: self.checkpoint.as_ref().map_or(self.start, |&(_, high_watermark, _)| high_watermark),
            producer_state: self.checkpoint.as_ref().map(|(_, _, state)| state.clone()),
            headers_since: headers.filter(|header| header.base_offset >= as_of).collect(),
        }
    }

    fn read(&self, from: Offset, below: Offset, bytes_max: usize) -> Result<Vec<Bytes>, ReadFailure> {
        if from < self.start || from > self.end() {
            return Err(ReadFailure::OutOfRange);
        }
        let wanted = |batch: &&StampedBatch| batch.header().next_offset() > from && batch.header().base_offset < below;
        let mut size = 0;
        let fits = |batch: &&StampedBatch| {
            size += batch.size();
            size == batch.size() || size <= bytes_max
        };
        Ok(self.batches.iter().filter(wanted).take_while(fits).map(StampedBatch::to_bytes).collect())
    }
}

impl Disk {
    /// The CRC of the batch at `offset`, which everything about it but its place goes into.
    pub fn crc_at(&self, partition: TopicPartition, offset: Offset) -> Option<u32> {
        let log = self.logs.get(&partition)?;
        let at = log.batches.binary_search_by_key(&offset, |batch| batch.header().base_offset).ok()?;
        Some(log.batches[at].header().crc)
    }

    pub fn holds(&self, partition: TopicPartition) -> bool {
        self.logs.contains_key(&partition)
    }

    pub fn crcs(&self, partition: TopicPartition) -> impl Iterator<Item = (Offset, u32)> + '_ {
        let batches = self.logs.get(&partition).into_iter().flat_map(|log| &log.batches);
        batches.map(|batch| (batch.header().base_offset, batch.header().crc))
    }

    pub fn is_idle(&self) -> bool {
        self.writes.is_empty() && self.reads.is_empty()
    }

    pub fn ask(&mut self, effect: Effect) {
        match effect {
            Effect::Read { .. }
            | Effect::FetchRead { .. }
            | Effect::FindTimestamp { .. }
            | Effect::DescribeLogDir { .. } => self.reads.push(effect),
            effect => self.writes.push_back(effect),
        }
    }

    /// Does the next thing that changes something, or any of those that do not.
    pub fn work(&mut self, random: &mut Random) -> Option<Event> {
        if !self.reads.is_empty() && (self.writes.is_empty() || random.chance(500)) {
            let any = random.below(self.reads.len() as u64) as usize;
            let read = self.reads.swap_remove(any);
            return Some(self.read(read, random));
        }
        let write = self.writes.pop_front()?;
        self.change(write)
    }

    /// Of what was asked for, some prefix has happened and nobody will hear of it.
    pub fn crash(&mut self, random: &mut Random) {
        let kept = random.below(self.writes.len() as u64 + 1) as usize;
        for write in std::mem::take(&mut self.writes).into_iter().take(kept) {
            self.change(write);
        }
        self.reads.clear();
        self.failed = false;
    }

    /// Everything that was asked for happens, as before an orderly stop.
    pub fn finish(&mut self) {
        while let Some(write) = self.writes.pop_front() {
            self.change(write);
        }
        self.reads.clear();
        self.failed = false;
    }

    fn change(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::OpenReplica { partition, .. } => {
                if (self.full || self.failed) && !self.logs.contains_key(&partition) {
                    return Some(Event::ReplicaOpenFailed { partition });
                }
                let on_disk = self.logs.entry(partition).or_default().on_disk();
                Some(Event::ReplicaOpened { partition, on_disk })
            }
            Effect::DeleteReplica { partition } => {
                self.logs.remove(&partition);
                None
            }
            Effect::SetReplicaAside { partition, .. } => {
                let on_disk = Log::default().on_disk();
                self.logs.insert(partition, Log::default());
                Some(Event::ReplicaOpened { partition, on_disk })
            }
            Effect::Write { partition, write, batch } => {
                let log = self.logs.get_mut(&partition).expect("a write to a log that is not open");
                let result = if self.failed {
                    Err(WriteFailure::Failed)
                } else if self.full || log.end() != batch.header().base_offset {
                    // Behind one that found no space, there is none either.
                    assert!(log.end() <= batch.header().base_offset, "{partition} is written twice");
                    Err(WriteFailure::NoSpace)
                } else {
                    log.batches.push(batch);
                    Ok(())
                };
                Some(Event::WriteCompleted { partition, write, result })
            }
            Effect::Truncate { partition, write, .. } | Effect::StartOver { partition, write, .. }
                if self.failed || self.full =>
            {
                let failure = if self.failed { WriteFailure::Failed } else { WriteFailure::NoSpace };
                Some(Event::LogChanged { partition, write, result: Err(failure) })
            }
            Effect::Truncate { partition, write, to } => {
                let log = self.logs.get_mut(&partition)?;
                log.batches.retain(|batch| batch.header().next_offset() <= to);
                log.checkpoint.take_if(|(as_of, ..)| *as_of > to);
                Some(Event::LogChanged { partition, write, result: Ok(log.on_disk()) })
            }
            Effect::StartOver { partition, write, at } => {
                let log = Log { start: at, ..Log::default() };
                let on_disk = log.on_disk();
                self.logs.insert(partition, log);
                Some(Event::LogChanged { partition, write, result: Ok(on_disk) })
            }
            Effect::Trim { partition, write, to } => {
                let log = self.logs.get_mut(&partition)?;
                let result = if self.failed {
                    Err(WriteFailure::Failed)
                } else if self.full {
                    Err(WriteFailure::NoSpace)
                } else {
                    log.start = to;
                    log.batches.retain(|batch| batch.header().next_offset() > to);
                    Ok(log.first_batch())
                };
                Some(Event::TrimCompleted { partition, write, result })
            }
            Effect::Checkpoint { partition, as_of, high_watermark, producer_state } => {
                let log = self.logs.get_mut(&partition)?;
                assert!(as_of <= log.end(), "S4: {partition} as of {as_of}, the log ends at {}", log.end());
                assert!(high_watermark <= as_of.max(log.end()), "{partition}: {high_watermark} is not there yet");
                log.checkpoint = Some((as_of, high_watermark, producer_state));
                None
            }
            Effect::RememberBrokerEpoch { broker_epoch, .. } => {
                let result = match (self.failed, self.full) {
                    (true, _) => Err(WriteFailure::Failed),
                    (false, true) => Err(WriteFailure::NoSpace),
                    (false, false) => Ok(()),
                };
                if result.is_ok() {
                    self.broker_epoch = Some(broker_epoch);
                }
                Some(Event::BrokerEpochRemembered { broker_epoch, result })
            }
            Effect::SettingsChanged { .. } => None,
            other => panic!("not the disk's: {other:?}"),
        }
    }

    fn read(&self, effect: Effect, random: &mut Random) -> Event {
        let broken = random.chance(10);
        match effect {
            Effect::Read { partition, read, from, below, bytes_max } => {
                let log = self.logs.get(&partition).filter(|_| !broken);
                let batches = log.and_then(|log| log.read(from, below, bytes_max).ok());
                Event::ReadCompleted { partition, read, batches }
            }
            Effect::FetchRead { fetch, parts, bytes_max } => {
                let mut room = bytes_max;
                let mut results = Vec::new();
                for FetchPart { partition, from, below, bytes_max } in parts {
                    if room == 0 {
                        break;
                    }
                    let log = self.logs.get(&partition).ok_or(ReadFailure::OutOfRange);
                    let result = match broken {
                        true => Err(ReadFailure::Failed),
                        false => log.and_then(|log| log.read(from, below, bytes_max.min(room))),
                    };
                    room -= result.iter().flatten().map(Bytes::len).sum::<usize>().min(room);
                    results.push(result);
                }
                Event::FetchRead { fetch, parts: results }
            }
            Effect::FindTimestamp { lookup, partition, at: OffsetSpec::At(_) | OffsetSpec::MaxTimestamp, below } => {
                let first = self.logs.get(&partition).and_then(|log| log.batches.first());
                let hit = first.map(|batch| *batch.header()).filter(|header| header.base_offset < below);
                let hit = hit.map(|header| TimestampHit {
                    offset: header.base_offset,
                    timestamp: Timestamp(1),
                    leader_epoch: header.leader_epoch,
                });
                Event::TimestampFound { lookup, hit: if broken { Err(ReadFailure::Failed) } else { Ok(hit) } }
            }
            Effect::DescribeLogDir { lookup } => {
                let size = |(&partition, log): (&TopicPartition, &Log)| ReplicaSize {
                    partition,
                    bytes: log.batches.len() as u64,
                    offset_lag: 0,
                };
                let replicas = self.logs.iter().map(size).collect();
                let path = "/data".to_owned();
                let (bytes_total, bytes_usable) = (1, 1);
                let log_dir = LogDir { broker: BrokerId(0), error: None, path, bytes_total, bytes_usable, replicas };
                Event::LogDirDescribed { lookup, log_dir }
            }
            other => panic!("not a read: {other:?}"),
        }
    }
}
