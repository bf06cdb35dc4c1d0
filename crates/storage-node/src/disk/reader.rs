//! The reader thread: what the tail cache does not have, and look-ups by time.

use base_types::{Offset, TopicPartition};
use peer_api::storage::OffsetSpec;
use storage_core::{Event, FetchKey, FetchPart, LookupKey, ReadFailure, ReadId, TimestampHit};

use super::queue::Queue;
use super::{Shared, each_batch, read_failure, read_parts};

pub(super) enum ReadJob {
    Replication { partition: TopicPartition, read: ReadId, from: Offset, below: Offset, bytes_max: usize },
    Fetch { fetch: FetchKey, parts: Vec<FetchPart>, bytes_max: usize },
    FindTimestamp { lookup: LookupKey, partition: TopicPartition, at: OffsetSpec, below: Offset },
}

pub(super) fn run(shared: &Shared, jobs: &Queue<ReadJob>, _: &Queue<()>) {
    while let Some(batch) = jobs.take_all() {
        for job in batch {
            shared.tell(vec![perform(shared, job)]);
            shared.tell_damage();
        }
    }
}

fn perform(shared: &Shared, job: ReadJob) -> Event {
    let log = shared.log();
    match job {
        ReadJob::Replication { partition, read, from, below, bytes_max } => {
            let batches = match log.read(partition, from, below, bytes_max) {
                Ok(hit) => Some(each_batch(hit)),
                Err(error) => {
                    tracing::warn!(%partition, %from, %error, "a read for a follower failed");
                    None
                }
            };
            Event::ReadCompleted { partition, read, batches }
        }
        ReadJob::Fetch { fetch, parts, bytes_max } => {
            let read = |part: &FetchPart, room: usize| {
                let read = log.read(part.partition, part.from, part.below, part.bytes_max.min(room));
                Some(read.map_err(|error| {
                    tracing::warn!(partition = %part.partition, from = %part.from, %error, "a read failed");
                    read_failure(&error)
                }))
            };
            let parts = read_parts(&parts, bytes_max, read).unwrap_or_default();
            Event::FetchRead { fetch, parts }
        }
        ReadJob::FindTimestamp { lookup, partition, at, below } => {
            let found = match at {
                OffsetSpec::At(timestamp) => log.find_timestamp(partition, timestamp, below),
                _ => log.find_max_timestamp(partition, below),
            };
            let hit = found.map_err(|error| read_failure(&error)).map(|hit| hit.map(told));
            Event::TimestampFound { lookup, hit: hit as Result<Option<TimestampHit>, ReadFailure> }
        }
    }
}

fn told(hit: segment_log::TimestampHit) -> TimestampHit {
    TimestampHit { offset: hit.offset, timestamp: hit.timestamp, leader_epoch: hit.leader_epoch }
}
