//! The log of one replica on a disk that finishes its jobs on command, and loses in a crash what it has not finished.

use std::collections::VecDeque;

use base_types::{LeaderEpoch, Offset};
use record_batch::StampedBatch;
use replica_core::{Event, OnDisk, ProducerState, ReadId, WriteFailure, WriteId};

#[derive(Clone, Hash, Debug, Default)]
pub struct Disk {
    pub log_start: Offset,
    pub log: Vec<StampedBatch>,
    /// How many of them a loss of power leaves. All of them, but in topics that are acknowledged from the page cache.
    pub synced: usize,
    pub page_cache: bool,
    pub high_watermark: Offset,
    pub jobs: VecDeque<Job>,
    pub full: bool,
    pub broken: bool,
    pub unreadable: bool,
}

#[derive(Clone, Hash, Debug)]
pub enum Job {
    Write { write: WriteId, batch: StampedBatch },
    Truncate { write: WriteId, to: Offset },
    StartOver { write: WriteId, at: Offset },
    Trim { write: WriteId, to: Offset },
    Read { read: ReadId, from: Offset, below: Offset, bytes_max: usize },
}

impl Disk {
    pub fn log_end(&self) -> Offset {
        self.log.last().map_or(self.log_start, |batch| batch.header().next_offset())
    }

    fn first_batch(&self) -> Offset {
        self.log.first().map_or(self.log_start, |batch| batch.header().base_offset.min(self.log_start))
    }

    /// Does the oldest job, and says what the replica is to hear of it.
    pub fn finish_one(&mut self) -> Option<Event> {
        let event = match self.jobs.pop_front()? {
            Job::Write { write, batch } => {
                // A write behind one that found no space does not continue the log, and finds none either.
                let result = if self.broken {
                    Err(WriteFailure::Failed)
                } else if self.full || batch.header().base_offset != self.log_end() {
                    Err(WriteFailure::NoSpace)
                } else {
                    self.log.push(batch);
                    Ok(())
                };
                Event::WriteCompleted { write, result }
            }
            Job::Truncate { write, .. } | Job::StartOver { write, .. } if self.broken => {
                Event::LogChanged { write, result: Err(WriteFailure::Failed) }
            }
            Job::Truncate { write, .. } | Job::StartOver { write, .. } if self.full => {
                Event::LogChanged { write, result: Err(WriteFailure::NoSpace) }
            }
            Job::Truncate { write, to } => {
                self.log.retain(|batch| batch.header().next_offset() <= to);
                Event::LogChanged { write, result: Ok(self.on_disk()) }
            }
            Job::StartOver { write, at } => {
                self.log.clear();
                self.log_start = at;
                Event::LogChanged { write, result: Ok(self.on_disk()) }
            }
            Job::Trim { write, to } => {
                let result = match (self.broken, self.full) {
                    (true, _) => Err(WriteFailure::Failed),
                    (false, true) => Err(WriteFailure::NoSpace),
                    (false, false) => {
                        let before = self.log.len();
                        self.log_start = to;
                        self.log.retain(|batch| batch.header().next_offset() > to);
                        self.synced = self.synced.saturating_sub(before - self.log.len());
                        Ok(self.first_batch())
                    }
                };
                Event::TrimCompleted { write, result }
            }
            Job::Read { read, from, below, bytes_max } => {
                let mut size = 0;
                let wanted = |batch: &&StampedBatch| {
                    let fits = size == 0 || size + batch.size() <= bytes_max;
                    size += batch.size();
                    batch.header().base_offset < below && fits
                };
                let found = self.log.iter().skip_while(|batch| batch.header().next_offset() <= from);
                let batches: Vec<_> = found.take_while(wanted).map(StampedBatch::to_bytes).collect();
                Event::ReadCompleted { read, batches: (!self.unreadable).then_some(batches) }
            }
        };
        // A cut is synced at once, lest what was cut comes back.
        self.synced = if self.page_cache { self.synced.min(self.log.len()) } else { self.log.len() };
        Some(event)
    }

    /// Power fails. The first `surviving` jobs had reached the platter, though nobody was told. Where the page cache is trusted, all
    /// but the first `kept` batches go, if fewer were synced; the answer is whether any went.
    pub fn crash(&mut self, surviving: usize, kept: usize) -> bool {
        for _ in 0..surviving {
            let _ = self.finish_one();
        }
        self.jobs.clear();
        (self.full, self.broken, self.unreadable) = (false, false, false);
        let before = self.log.len();
        self.log.truncate(self.synced.max(kept));
        self.synced = self.log.len();
        self.high_watermark = self.high_watermark.min(self.log_end());
        self.log.len() < before
    }

    /// Producer state comes half as a snapshot and half as the headers after it, as it may after any restart.
    pub fn on_disk(&self) -> OnDisk {
        let (before, after) = self.log.split_at(self.log.len() / 2);
        OnDisk {
            log_start: self.log_start,
            first_batch: self.first_batch(),
            log_end: self.log_end(),
            leader_epochs: epochs_of(self.log_start, &self.log),
            high_watermark: self.high_watermark.max(self.log_start),
            producer_state: Some(producers_of(before).encode()),
            headers_since: after.iter().map(|batch| *batch.header()).collect(),
        }
    }
}

/// The leader epochs that a scan of the log yields.
pub fn epochs_of(log_start: Offset, log: &[StampedBatch]) -> Vec<(LeaderEpoch, Offset)> {
    let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
    for header in log.iter().map(StampedBatch::header) {
        if epochs.last().is_none_or(|&(last, _)| last != header.leader_epoch) {
            epochs.push((header.leader_epoch, header.base_offset.max(log_start)));
        }
    }
    epochs
}

/// And the producer state.
pub fn producers_of(log: &[StampedBatch]) -> ProducerState {
    let mut producers = ProducerState::default();
    log.iter().for_each(|batch| producers.append(batch.header()));
    producers
}
