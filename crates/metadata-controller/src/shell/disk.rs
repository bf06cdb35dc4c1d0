//! The thread that writes the quorum log.

use std::sync::mpsc as blocking;
use std::thread;
use std::time::Instant;

use controller_core::{Persist, WriteId};
use tokio::sync::watch;

use crate::metrics::ControllerMetrics;
use crate::quorum_log::{QuorumLog, QuorumLogError};

/// Writes that may wait. Consensus bounds what is uncommitted; this bounds a disk that stands still.
const WRITES_MAX: usize = 16 * 1024;
/// Writes that share one sync.
const GROUP_MAX: usize = 256;

/// Writes are durable in order, so that the newest durable one says it all.
#[derive(Debug)]
pub(super) struct DiskThread {
    queue: blocking::SyncSender<Persist>,
    durable: watch::Receiver<WriteId>,
}

impl DiskThread {
    pub(super) fn spawn(mut log: QuorumLog, metrics: ControllerMetrics) -> Result<DiskThread, std::io::Error> {
        let (queue, writes) = blocking::sync_channel::<Persist>(WRITES_MAX);
        let (durable_tx, durable) = watch::channel(WriteId(0));
        thread::Builder::new().name("quorum-log".to_owned()).spawn(move || {
            while let Ok(first) = writes.recv() {
                let mut group = vec![first];
                group.extend(writes.try_iter().take(GROUP_MAX - 1));
                let last = group.last().map(|persist| persist.write);
                // The thread ends here, and with it the controller: dropping the sender says so.
                if let Err(error) = write(&mut log, &group, &metrics) {
                    tracing::error!(%error, "the quorum log cannot be written; this controller stops");
                    return;
                }
                if last.is_some_and(|last| durable_tx.send(last).is_err()) {
                    return;
                }
            }
        })?;
        Ok(DiskThread { queue, durable })
    }

    pub(super) fn write(&self, persist: Persist) {
        // Full or ended: either way nothing after this write is ever acknowledged, and `next_durable` ends the task.
        if let Err(error) = self.queue.try_send(persist) {
            tracing::error!(%error, "the quorum log does not take writes any more");
        }
    }

    /// The newest write that is durable, once it is another than before.
    pub(super) async fn next_durable(&mut self) -> Result<WriteId, DiskStopped> {
        self.durable.changed().await.map_err(|_| DiskStopped)?;
        Ok(*self.durable.borrow_and_update())
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct DiskStopped;

impl std::fmt::Display for DiskStopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the quorum log cannot be written")
    }
}

impl std::error::Error for DiskStopped {}

fn write(log: &mut QuorumLog, group: &[Persist], metrics: &ControllerMetrics) -> Result<(), QuorumLogError> {
    let began = Instant::now();
    log.write(group)?;
    metrics.log_synced(began.elapsed());
    Ok(())
}
