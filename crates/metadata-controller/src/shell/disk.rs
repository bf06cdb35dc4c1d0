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

    /// After an error the task must end: a later write that became durable would vouch for the one that was refused (C4).
    pub(super) fn write(&self, persist: Persist) -> Result<(), DiskStopped> {
        self.queue.try_send(persist).map_err(|error| {
            tracing::error!(%error, "the quorum log takes no more writes; this controller stops");
            DiskStopped
        })
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use base_types::BrokerId;
    use store_api::{DiskOperation, Image, MemVfs};

    use super::*;

    #[tokio::test]
    async fn a_disk_that_stands_still_refuses_writes_aloud_when_its_queue_is_full() {
        let vfs = Arc::new(MemVfs::new());
        let (log, _) = QuorumLog::open(vfs.clone(), BrokerId(1)).unwrap();
        let (go_on, standing) = blocking::channel::<()>();
        let standing = Mutex::new(standing);
        vfs.observe(Some(Arc::new(move |image: &Image<'_>| {
            if image.operation() == DiskOperation::Sync {
                // Ends when the other side is dropped.
                let _ = standing.lock().unwrap().recv();
            }
        })));
        let metrics = ControllerMetrics::new(&service_kit::Metrics::new("test", "0"));
        let mut disk = DiskThread::spawn(log, metrics).unwrap();
        let most = WRITES_MAX + GROUP_MAX;
        let write = |number: u64| disk.write(Persist { write: WriteId(number), ..Persist::default() });
        let taken = (1..=most as u64 + 1).take_while(|number| write(*number).is_ok()).count();
        assert!((WRITES_MAX..=most).contains(&taken), "{taken}");
        drop(go_on);
        // What was taken becomes durable, and nothing says more than that.
        while disk.next_durable().await.unwrap() != WriteId(taken as u64) {}
    }
}
