//! The disk, run on threads of its own: one writer that commits in groups, one reader for what the tail cache does not have,
//! one that moves the journal into segments in the background, and one that reads everything once in a while.

mod queue;
mod reader;
mod scrub;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;

use base_types::{Offset, TopicPartition};
use peer_api::config::{Durability, TopicSettings};
use peer_api::storage::{LogDir, ReplicaSize};
use segment_log::{LogRead, LogStore, ReadError, ReplicaOptions};
use storage_core::{Effect, Event, FetchKey, FetchPart, OnDisk, ReadFailure};
use tokio::sync::mpsc;

use crate::directory::Directory;
use crate::metrics::Metrics;
use crate::shell::Input;

pub use scrub::Pace;

use queue::Queue;
use reader::ReadJob;
use writer::WriteJob;

/// The shell's side of the threads.
pub(crate) struct Disk {
    shared: Arc<Shared>,
    writes: Arc<Queue<WriteJob>>,
    reads: Arc<Queue<ReadJob>>,
    flushes: Arc<Queue<()>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    /// The scrub ends with it.
    scrub: Option<std::sync::mpsc::Sender<()>>,
    /// Gathered during a turn, handed over in one piece at its end.
    gathered: Vec<WriteJob>,
    durability: BTreeMap<TopicPartition, Durability>,
}

pub(crate) struct Shared {
    directory: Directory,
    inbox: mpsc::Sender<Input>,
    metrics: Metrics,
}

impl Shared {
    pub(crate) fn log(&self) -> &LogStore {
        self.directory.log()
    }

    /// Passes on what was found damaged meanwhile, by whichever thread. What is done about it the core decides.
    fn tell_damage(&self) {
        for found in self.log().take_damage_news() {
            self.metrics.damage_found();
            tracing::error!(
                partition = %found.tp, %found,
                "a replica is damaged: it is fetched anew if another is in sync, else it stays as it is and what is damaged is \
                 refused; `thalweg debug verify` shows all of it"
            );
            self.tell(vec![Event::ReplicaDamaged { partition: found.tp }]);
        }
    }

    /// A shell that is gone needs to hear nothing.
    fn tell(&self, events: Vec<Event>) {
        drop(self.inbox.blocking_send(Input::Events(events)));
    }
}

impl Disk {
    pub(crate) fn start(directory: Directory, inbox: mpsc::Sender<Input>, metrics: Metrics) -> Disk {
        let shared = Arc::new(Shared { directory, inbox, metrics });
        let (writes, reads, flushes) = (Arc::default(), Arc::default(), Arc::default());
        let (scrub, stopped) = std::sync::mpsc::channel();
        let scrubbed = Arc::clone(&shared);
        let threads = vec![
            spawn("disk-writer", writer::run, &shared, &writes, &flushes),
            spawn("disk-reader", reader::run, &shared, &reads, &flushes),
            spawn("disk-flusher", flush, &shared, &flushes, &flushes),
            thread("disk-scrub", move || scrub::run(&scrubbed, scrubbed.directory.pace(), &stopped)),
        ];
        let scrub = Some(scrub);
        Disk { shared, writes, reads, flushes, threads, scrub, gathered: Vec::new(), durability: BTreeMap::new() }
    }

    /// Performs a disk effect. What needs no waiting is answered at once.
    pub(crate) fn perform(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::OpenReplica { partition, settings } => {
                self.durability.insert(partition, settings.durability);
                self.gathered.push(WriteJob::Open { partition, options: replica_options(&settings) });
            }
            Effect::DeleteReplica { partition } => {
                self.durability.remove(&partition);
                self.gathered.push(WriteJob::Delete { partition });
            }
            Effect::SetReplicaAside { partition, settings } => {
                self.gathered.push(WriteJob::SetAside { partition, options: replica_options(&settings) });
            }
            Effect::SettingsChanged { partition, settings } => {
                let before = self.durability.insert(partition, settings.durability);
                if (before, settings.durability) == (Some(Durability::PageCache), Durability::Fsync) {
                    // From now on a crash is taken to lose nothing.
                    self.gathered.push(WriteJob::Sync { partition });
                }
            }
            Effect::Write { partition, write, batch } => {
                let durability = match self.durability.get(&partition) {
                    Some(Durability::PageCache) => segment_log::Durability::PageCache,
                    Some(Durability::Fsync) | None => segment_log::Durability::Fsync,
                };
                self.gathered.push(WriteJob::Write { partition, write, batch, durability });
            }
            Effect::Truncate { partition, write, to } => {
                self.gathered.push(WriteJob::Truncate { partition, write, to });
            }
            Effect::StartOver { partition, write, at } => {
                self.gathered.push(WriteJob::StartOver { partition, write, at });
            }
            Effect::Trim { partition, write, to } => self.gathered.push(WriteJob::Trim { partition, write, to }),
            Effect::Checkpoint { partition, as_of, high_watermark, producer_state } => {
                let checkpoint = segment_log::Checkpoint { as_of, high_watermark, producer_state };
                self.gathered.push(WriteJob::Checkpoint { partition, checkpoint });
            }
            Effect::Read { partition, read, from, below, bytes_max } => {
                if let Some(hit) = self.shared.log().read_cached(partition, from, below, bytes_max) {
                    return Some(Event::ReadCompleted { partition, read, batches: Some(each_batch(hit)) });
                }
                self.reads.push(ReadJob::Replication { partition, read, from, below, bytes_max });
            }
            Effect::FetchRead { fetch, parts, bytes_max } => return self.fetch(fetch, parts, bytes_max),
            Effect::FindTimestamp { lookup, partition, at, below } => {
                self.reads.push(ReadJob::FindTimestamp { lookup, partition, at, below });
            }
            Effect::RememberBrokerEpoch { broker_epoch, cluster_id } => {
                self.gathered.push(WriteJob::RememberBrokerEpoch { broker_epoch, cluster_id });
            }
            Effect::DescribeLogDir { lookup } => {
                return Some(Event::LogDirDescribed { lookup, log_dir: self.describe() });
            }
            Effect::Answer { .. }
            | Effect::ToController { .. }
            | Effect::ReconnectController { .. }
            | Effect::ToFollower { .. }
            | Effect::ToLeader { .. }
            | Effect::CloseFollower { .. }
            | Effect::ConnectLeader { .. }
            | Effect::DisconnectLeader { .. }
            | Effect::RefuseCluster(_)
            | Effect::HighWatermarkLowered { .. }
            | Effect::Stop => unreachable!("the shell keeps to itself what is not for the disk"),
        }
        None
    }

    /// Hands what was gathered to the writer.
    pub(crate) fn submit(&mut self) {
        if !self.gathered.is_empty() {
            self.writes.push_all(&mut self.gathered);
        }
    }

    /// Lets the writer finish, flushes, and leaves the mark of a clean stop. The directory is closed when this returns: RocksDB takes
    /// locks until then that are gone once `main` has returned.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.submit();
        let Disk { shared, writes, reads, flushes, threads, scrub, .. } = self;
        writes.close();
        reads.close();
        flushes.close();
        drop(scrub);
        let (done, finished) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a disk thread panicked");
                }
            }
            let outcome = shared.log().shutdown();
            // The last who had it: the threads have ended.
            drop(shared);
            // Nobody waits any more only when the process is being torn down.
            drop(done.send(outcome));
        });
        finished.await?.map_err(|error| anyhow::Error::new(error).context("closing the data directory"))
    }

    fn fetch(&mut self, fetch: FetchKey, parts: Vec<FetchPart>, bytes_max: usize) -> Option<Event> {
        let cached = |part: &FetchPart, room: usize| {
            let hit = self.shared.log().read_cached(part.partition, part.from, part.below, part.bytes_max.min(room))?;
            Some(Ok(hit))
        };
        match read_parts(&parts, bytes_max, cached) {
            Some(parts) => Some(Event::FetchRead { fetch, parts }),
            None => {
                self.reads.push(ReadJob::Fetch { fetch, parts, bytes_max });
                None
            }
        }
    }

    fn describe(&self) -> LogDir {
        let log = self.shared.log();
        let size = |partition| ReplicaSize { partition, bytes: log.size(partition), offset_lag: 0 };
        let (bytes_total, bytes_usable) = self.shared.directory.space();
        LogDir {
            broker: self.shared.directory.broker(),
            error: None,
            path: self.shared.directory.path().display().to_string(),
            bytes_total,
            bytes_usable,
            replicas: log.replicas().into_iter().map(size).collect(),
        }
    }
}

/// Reads the parts in order until the limit is reached. `None` as soon as `read` gives none.
fn read_parts(
    parts: &[FetchPart],
    bytes_max: usize,
    read: impl Fn(&FetchPart, usize) -> Option<Result<LogRead, ReadFailure>>,
) -> Option<Vec<Result<Vec<bytes::Bytes>, ReadFailure>>> {
    let mut room = bytes_max;
    let mut results = Vec::with_capacity(parts.len());
    for part in parts {
        if room == 0 {
            break;
        }
        let result = read(part, room)?.map(|read| read.batches);
        if let Ok(batches) = &result {
            room = room.saturating_sub(batches.iter().map(bytes::Bytes::len).sum());
        }
        results.push(result);
    }
    Some(results)
}

/// One piece for each batch, as followers are sent them.
fn each_batch(read: LogRead) -> Vec<bytes::Bytes> {
    let pieces = read.batches.iter();
    pieces
        .flat_map(|piece| record_batch::batches(piece).map_while(Result::ok).map(|(_, range)| piece.slice(range)))
        .collect()
}

fn on_disk(replica: segment_log::ReplicaOnDisk) -> OnDisk {
    let checkpoint = replica.checkpoint;
    OnDisk {
        log_start: replica.log_start,
        first_batch: replica.first_batch,
        log_end: replica.log_end,
        leader_epochs: replica.leader_epochs,
        high_watermark: checkpoint.as_ref().map_or(Offset::ZERO, |checkpoint| checkpoint.high_watermark),
        producer_state: checkpoint.map(|checkpoint| checkpoint.producer_state),
        headers_since: replica.headers_since_checkpoint,
    }
}

fn read_failure(error: &ReadError) -> ReadFailure {
    match error {
        ReadError::OutOfRange { .. } | ReadError::NoReplica(_) => ReadFailure::OutOfRange,
        ReadError::Corrupt(_) => ReadFailure::Corrupt,
        ReadError::Disk(_) => ReadFailure::Failed,
    }
}

fn replica_options(settings: &TopicSettings) -> ReplicaOptions {
    ReplicaOptions { segment_bytes: u32::try_from(settings.segment_bytes).unwrap_or(1 << 30) }
}

fn spawn<J: Send + 'static>(
    name: &str,
    run: fn(&Shared, &Queue<J>, &Queue<()>),
    shared: &Arc<Shared>,
    jobs: &Arc<Queue<J>>,
    flushes: &Arc<Queue<()>>,
) -> std::thread::JoinHandle<()> {
    let (shared, jobs, flushes) = (Arc::clone(shared), Arc::clone(jobs), Arc::clone(flushes));
    thread(name, move || run(&shared, &jobs, &flushes))
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    match std::thread::Builder::new().name(name.to_owned()).spawn(run) {
        Ok(handle) => handle,
        Err(error) => panic!("the operating system gives no thread for {name}: {error}"),
    }
}

/// Moves the journal into segments, whenever the writer has committed something and enough has gathered. Ends with the directory:
/// once that is failed nothing is left to do here (S6).
fn flush(shared: &Shared, wake_ups: &Queue<()>, _: &Queue<()>) {
    let log = shared.log();
    let mut is_failing = false;
    while wake_ups.take_all().is_some() {
        shared.tell_damage();
        let prepared = log.prepare_journal().map(drop);
        let flushed = if log.is_flush_due() { log.flush(segment_log::FlushBudget::DUE).map(drop) } else { Ok(()) };
        let Err(error) = prepared.and(flushed) else {
            is_failing = false;
            continue;
        };
        // Said once, not at each wake-up of a disk that stays full.
        if !std::mem::replace(&mut is_failing, true) {
            tracing::error!(%error, source = ?std::error::Error::source(&error), "moving the journal into segments failed");
        }
        if log.failure().is_some() {
            // As after a failed write: hand over and stop.
            shared.tell(vec![Event::ShutdownRequested]);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use base_types::{BrokerId, Incarnation};
    use segment_log::LogOptions;

    use super::*;

    /// A process ends right after. With somebody left in RocksDB it ends in `abort`.
    #[tokio::test]
    async fn the_directory_is_closed_when_stop_returns() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..40 {
            let incarnation = Incarnation([round; 16]);
            let directory = Directory::open(folder.path(), BrokerId(1), LogOptions::new(incarnation)).unwrap();
            let (inbox, _events) = mpsc::channel(1);
            let metrics = Metrics::new(&service_kit::Metrics::new("storage-node", "test"));
            let disk = Disk::start(directory, inbox, metrics);
            // Held as by a thread that has answered and not gone yet.
            let shared = Arc::downgrade(&disk.shared);
            disk.stop().await.unwrap();
            assert!(shared.upgrade().is_none(), "somebody still has the directory");
        }
    }
}
