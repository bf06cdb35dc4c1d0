//! Stopping: the first signal asks, the second insists.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether the process has been asked to stop. Cheap to clone; every clone sees the same.
#[derive(Clone, Debug)]
pub struct Shutdown {
    requested: watch::Sender<bool>,
}

impl Shutdown {
    /// One that nobody but [`Shutdown::request`] triggers.
    pub fn new() -> Shutdown {
        Shutdown { requested: watch::Sender::new(false) }
    }

    /// Follows SIGTERM and SIGINT. After the first, a second ends the process at once, with 128 plus the signal's number, as
    /// a shell would report it.
    ///
    /// Must be called within a tokio runtime; signals that come before are not seen.
    pub fn on_signals() -> std::io::Result<Shutdown> {
        let shutdown = Shutdown::new();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let asked = shutdown.clone();
        tokio::spawn(async move {
            loop {
                let (name, code) = tokio::select! {
                    _ = term.recv() => ("SIGTERM", 128 + 15),
                    _ = int.recv() => ("SIGINT", 128 + 2),
                };
                if asked.is_requested() {
                    tracing::warn!(signal = name, "second signal: stopping at once");
                    std::process::exit(code);
                }
                tracing::info!(signal = name, "stopping; a second signal stops at once");
                asked.request();
            }
        });
        Ok(shutdown)
    }

    pub fn request(&self) {
        self.requested.send_replace(true);
    }

    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Resolves once the process has been asked to stop.
    pub fn requested(&self) -> impl Future<Output = ()> + Send + 'static {
        // It holds a sender of its own, so that it never sees the last one go.
        let this = self.clone();
        let mut requested = self.requested.subscribe();
        async move {
            drop(requested.wait_for(|requested| *requested).await);
            drop(this);
        }
    }
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_sees_a_request_and_late_askers_too() {
        let shutdown = Shutdown::new();
        let (clone, early) = (shutdown.clone(), shutdown.requested());
        assert!(!clone.is_requested());
        shutdown.request();
        early.await;
        clone.requested().await;
        assert!(clone.is_requested());
    }
}
