//! The tasks of a process, watched: one that ends when it should not stops the process, with its name and reason.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::task::{Id, JoinError, JoinSet};

use crate::shutdown::Shutdown;

/// What runs until the process stops.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<anyhow::Result<()>>,
    names: Vec<(Id, String)>,
}

impl Tasks {
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// Starts a task that must not end before the process is asked to stop, neither well nor badly.
    pub fn spawn(&mut self, name: impl Into<String>, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let id = self.set.spawn(task).id();
        self.names.push((id, name.into()));
    }

    /// Starts a named thread under the same rule, for shards and disks.
    pub fn spawn_thread(
        &mut self,
        name: impl Into<String>,
        body: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> std::io::Result<()> {
        let name = name.into();
        let (done_tx, done_rx) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name(name.clone()).spawn(move || drop(done_tx.send(body())))?;
        self.spawn(name, async move { done_rx.await.unwrap_or_else(|_| Err(anyhow!("the thread panicked"))) });
        Ok(())
    }

    /// Runs until the process is asked to stop; then `drain` has `drain_timeout` to finish, and after it the tasks have as
    /// long to end by themselves. An error is the reason why the process has to end with a failure.
    pub async fn run(
        mut self,
        shutdown: &Shutdown,
        drain: impl Future<Output = anyhow::Result<()>>,
        drain_timeout: Duration,
    ) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            ended = self.set.join_next_with_id(), if !self.set.is_empty() => {
                // A task may be quicker to see the request than this one.
                if !shutdown.is_requested() {
                    return Err(self.unexpected(ended));
                }
            }
        }
        match tokio::time::timeout(drain_timeout, drain).await {
            Ok(drained) => drained.context("stopping did not go as it should")?,
            Err(_) => {
                tracing::warn!(after_ms = drain_timeout.as_millis() as u64, "draining took too long and was cut short")
            }
        }
        let ending = async {
            while let Some(ended) = self.set.join_next_with_id().await {
                if let Some(error) = failure(&ended) {
                    tracing::warn!(task = self.name(&ended), %error, "task failed while stopping");
                }
            }
        };
        if tokio::time::timeout(drain_timeout, ending).await.is_err() {
            let left: Vec<_> = self.names.iter().map(|(_, name)| name.as_str()).collect();
            tracing::warn!(tasks = ?left, "some of these tasks did not end and are dropped");
        }
        tracing::info!("stopped");
        Ok(())
    }

    fn unexpected(&self, ended: Option<Ended>) -> anyhow::Error {
        let Some(ended) = ended else { return anyhow!("no task is left") };
        let name = self.name(&ended);
        match ended {
            Ok((_, Ok(()))) => anyhow!("task {name} ended, though nobody asked it to"),
            Ok((_, Err(error))) => error.context(format!("task {name} failed")),
            Err(error) => anyhow!(error).context(format!("task {name} failed")),
        }
    }

    fn name(&self, ended: &Ended) -> String {
        let id = match ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        self.names.iter().find(|(known, _)| *known == id).map_or_else(|| id.to_string(), |(_, name)| name.clone())
    }
}

type Ended = Result<(Id, anyhow::Result<()>), JoinError>;

fn failure(ended: &Ended) -> Option<String> {
    match ended {
        Ok((_, Ok(()))) => None,
        Ok((_, Err(error))) => Some(format!("{error:#}")),
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn a_task_that_ends_well_too_early_stops_the_process() {
        let mut tasks = Tasks::new();
        tasks.spawn("acceptor", async { Ok(()) });
        let error = tasks.run(&Shutdown::new(), async { Ok(()) }, SOON).await.unwrap_err();
        assert_eq!(error.to_string(), "task acceptor ended, though nobody asked it to");
    }

    #[tokio::test]
    async fn a_task_that_fails_names_itself_and_the_reason() {
        let mut tasks = Tasks::new();
        tasks.spawn("idle", std::future::pending());
        tasks.spawn("listener", async { Err(anyhow!("address in use").context("cannot listen")) });
        let error = tasks.run(&Shutdown::new(), async { Ok(()) }, SOON).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "task listener failed: cannot listen: address in use");
    }

    #[tokio::test]
    async fn a_thread_that_panics_stops_the_process() {
        let mut tasks = Tasks::new();
        tasks.spawn_thread("disk", || panic!("on purpose")).unwrap();
        let error = tasks.run(&Shutdown::new(), async { Ok(()) }, SOON).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "task disk failed: the thread panicked");
    }

    #[tokio::test]
    async fn a_request_drains_first_and_then_waits_for_the_tasks() {
        let shutdown = Shutdown::new();
        let (drained_tx, drained_rx) = tokio::sync::oneshot::channel();
        let mut tasks = Tasks::new();
        tasks.spawn("worker", async move { Ok(drained_rx.await?) });
        shutdown.request();
        let drain = async {
            drained_tx.send(()).unwrap();
            Ok(())
        };
        tasks.run(&shutdown, drain, SOON).await.unwrap();
    }

    #[tokio::test]
    async fn a_drain_without_end_is_cut_short() {
        let shutdown = Shutdown::new();
        shutdown.request();
        let mut tasks = Tasks::new();
        tasks.spawn("stuck", std::future::pending());
        tasks.run(&shutdown, std::future::pending(), Duration::from_millis(20)).await.unwrap();
    }
}
