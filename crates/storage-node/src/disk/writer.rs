//! The writer thread: takes all that waits, commits writes in groups, and does everything else between groups, in order.

use std::time::Instant;

use base_types::{BrokerEpoch, Offset, TopicPartition};
use record_batch::StampedBatch;
use segment_log::{Checkpoint, Durability, LogWrite, ReadError, ReplicaOptions, StoreError};
use storage_core::{Event, WriteFailure, WriteId};

use super::queue::Queue;
use super::{Shared, on_disk};
use crate::shell::wall_clock;

/// The largest group: enough for the disk's full speed, little enough that the first of it does not wait long.
const GROUP_BYTES: usize = 4 << 20;

pub(super) enum WriteJob {
    Open { partition: TopicPartition, options: ReplicaOptions },
    Delete { partition: TopicPartition },
    SetAside { partition: TopicPartition, options: ReplicaOptions },
    Write { partition: TopicPartition, write: WriteId, batch: StampedBatch, durability: Durability },
    Sync { partition: TopicPartition },
    Truncate { partition: TopicPartition, write: WriteId, to: Offset },
    StartOver { partition: TopicPartition, write: WriteId, at: Offset },
    Trim { partition: TopicPartition, write: WriteId, to: Offset },
    Checkpoint { partition: TopicPartition, checkpoint: Checkpoint },
    RememberBrokerEpoch { broker_epoch: BrokerEpoch, cluster_id: Option<String> },
}

#[derive(Default)]
struct Group {
    writes: Vec<LogWrite>,
    ids: Vec<WriteId>,
    bytes: usize,
}

pub(super) fn run(shared: &Shared, jobs: &Queue<WriteJob>, flushes: &Queue<()>) {
    let mut group = Group::default();
    while let Some(batch) = jobs.take_all() {
        for job in batch {
            match job {
                WriteJob::Write { partition, write, batch, durability } => {
                    group.bytes += batch.size();
                    group.ids.push(write);
                    group.writes.push(LogWrite { tp: partition, batch, durability });
                    if group.bytes >= GROUP_BYTES {
                        commit(shared, &mut group);
                    }
                }
                other => {
                    commit(shared, &mut group);
                    perform(shared, other);
                }
            }
        }
        commit(shared, &mut group);
        shared.tell_damage();
        flushes.push(());
    }
}

fn commit(shared: &Shared, group: &mut Group) {
    if group.writes.is_empty() {
        return;
    }
    let started = Instant::now();
    let result = match shared.log().commit(&group.writes) {
        Ok(_) => Ok(()),
        Err(StoreError::NoSpace) => Err(WriteFailure::NoSpace),
        Err(error) => {
            tracing::error!(%error, source = ?std::error::Error::source(&error), "a commit failed");
            Err(WriteFailure::Failed)
        }
    };
    match result {
        Ok(()) => shared.metrics.committed(started.elapsed(), group.writes.len(), group.bytes),
        Err(_) => shared.metrics.commit_failed(),
    }
    let completed = group.writes.drain(..).zip(group.ids.drain(..));
    let event = |(written, write): (LogWrite, WriteId)| Event::WriteCompleted { partition: written.tp, write, result };
    shared.tell(completed.map(event).collect());
    group.bytes = 0;
}

fn perform(shared: &Shared, job: WriteJob) {
    let log = shared.log();
    match job {
        WriteJob::SetAside { partition, options } => {
            match log.set_aside(partition, wall_clock()) {
                Ok(Some(name)) => {
                    shared.metrics.replica_set_aside();
                    tracing::warn!(%partition, %name, "a damaged replica was set aside and is fetched anew from its leader");
                }
                Ok(None) => {}
                Err(error) => {
                    let source = std::error::Error::source(&error);
                    tracing::error!(%partition, %error, ?source, "a damaged replica cannot be set aside");
                    return shared.tell(vec![not_set_aside(partition, &error)]);
                }
            }
            perform(shared, WriteJob::Open { partition, options });
        }
        WriteJob::Open { partition, options } => {
            let opened = match log.open_replica(partition) {
                Ok(Some(replica)) => Ok(replica),
                Ok(None) => log.create_replica(partition, options).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let event = match opened {
                Ok(replica) => Event::ReplicaOpened { partition, on_disk: on_disk(replica) },
                Err(error) => {
                    tracing::error!(%partition, %error, "a replica cannot be opened");
                    Event::ReplicaOpenFailed { partition }
                }
            };
            shared.tell(vec![event]);
            if let Some(found) = log.damage(partition) {
                tracing::error!(%partition, %found, "the replica is damaged");
                shared.tell(vec![Event::ReplicaDamaged { partition }]);
            }
        }
        WriteJob::Delete { partition } => match log.delete_replica(partition) {
            // It was never opened.
            Ok(()) | Err(StoreError::NoReplica(_)) => {}
            Err(error) => tracing::error!(%partition, %error, "a replica cannot be deleted"),
        },
        WriteJob::Sync { partition } => match log.sync(partition) {
            // It was never opened.
            Ok(()) | Err(StoreError::NoReplica(_)) => {}
            Err(error) => {
                failure(partition, "a replica cannot be synced", &error);
                shared.tell(vec![Event::ShutdownRequested]);
            }
        },
        WriteJob::Truncate { partition, write, to } => {
            changed(shared, partition, write, log.truncate(partition, to).map(drop));
        }
        WriteJob::StartOver { partition, write, at } => {
            changed(shared, partition, write, log.reset(partition, at));
        }
        WriteJob::Trim { partition, write, to } => {
            let result = match log.advance_log_start(partition, to) {
                // What is damaged there cannot be sent to anyone, wherever it begins.
                Ok(()) => Ok(log.first_batch(partition).unwrap_or(to)),
                Err(error) => Err(failure(partition, "records cannot be deleted", &error)),
            };
            shared.tell(vec![Event::TrimCompleted { partition, write, result }]);
        }
        WriteJob::Checkpoint { partition, checkpoint } => {
            // Derived state: what is lost is rebuilt, but for producers whose batches are deleted.
            if let Err(error) = log.checkpoint(partition, &checkpoint) {
                tracing::warn!(%partition, %error, "a checkpoint was not kept");
            }
        }
        WriteJob::RememberBrokerEpoch { broker_epoch, cluster_id } => {
            // Until it is written the node stays fenced, which is the truth: it could not say later what its directory holds.
            let result = shared.directory.remember(broker_epoch, cluster_id).map_err(|error| {
                let source = std::error::Error::source(&error);
                tracing::error!(%error, ?source, "the registration cannot be written into the data directory");
                if error.is_no_space() { WriteFailure::NoSpace } else { WriteFailure::Failed }
            });
            shared.tell(vec![Event::BrokerEpochRemembered { broker_epoch, result }]);
        }
        WriteJob::Write { .. } => {}
    }
}

/// A directory that has failed takes the node out (S6); anything else is tried again.
fn not_set_aside(partition: TopicPartition, error: &StoreError) -> Event {
    match error {
        StoreError::Failed(_) => Event::ShutdownRequested,
        _ => Event::ReplicaNotSetAside { partition },
    }
}

/// Tells what the disk holds after a cut, or why it was not made.
fn changed(shared: &Shared, partition: TopicPartition, write: WriteId, cut: Result<(), StoreError>) {
    let result = match cut {
        Ok(()) => match shared.log().open_replica(partition) {
            Ok(Some(replica)) => Ok(on_disk(replica)),
            Ok(None) => {
                Err(failure(partition, "a replica vanished while it was cut", &StoreError::NoReplica(partition)))
            }
            Err(error) => {
                tracing::error!(%partition, %error, "a replica that was cut cannot be read");
                Err(if matches!(error, ReadError::Corrupt(_)) { WriteFailure::Corrupt } else { WriteFailure::Failed })
            }
        },
        Err(error) => Err(failure(partition, "a replica cannot be cut", &error)),
    };
    shared.tell(vec![Event::LogChanged { partition, write, result }]);
}

/// What the core makes of a change of one replica that was not made. A full disk is asked again.
fn failure(partition: TopicPartition, what: &'static str, error: &StoreError) -> WriteFailure {
    if matches!(error, StoreError::NoSpace) {
        tracing::debug!(%partition, "{what}: the disk is full");
        return WriteFailure::NoSpace;
    }
    tracing::error!(%partition, %error, source = ?std::error::Error::source(error), "{what}");
    if matches!(error, StoreError::Corrupt(_)) { WriteFailure::Corrupt } else { WriteFailure::Failed }
}

#[cfg(test)]
mod tests {
    use base_types::{PartitionIndex, TopicId};
    use store_api::{DiskError, DiskErrorKind, DiskOperation};

    use super::*;

    #[test]
    fn a_directory_that_failed_while_a_replica_was_moved_takes_the_node_out() {
        let partition = TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex(0) };
        let failed = DiskError::new(DiskOperation::Sync, "partitions", DiskErrorKind::Failed);
        assert!(matches!(not_set_aside(partition, &StoreError::Failed(failed.into())), Event::ShutdownRequested));
        let again = not_set_aside(partition, &StoreError::NoSpace);
        assert!(matches!(again, Event::ReplicaNotSetAside { .. }), "a full disk passes");
    }
}
