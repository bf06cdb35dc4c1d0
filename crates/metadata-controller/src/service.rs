//! The whole process: configuration, listeners, the task, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use service_kit::config::Loaded;
use service_kit::health::Check;
use service_kit::{Health, Metrics, Shutdown, Tasks};
use store_os::{DirectIo, OsVfs};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::ControllerHandle;
use crate::config::{ControllerConfig, FileConfig};
use crate::metrics::ControllerMetrics;

const DRAIN_MAX: Duration = Duration::from_secs(10);
const READINESS_EVERY: Duration = Duration::from_millis(100);

/// Serves until asked to stop.
pub async fn run(loaded: Loaded<FileConfig>) -> anyhow::Result<()> {
    let config = ControllerConfig::new(&loaded)?;
    let section = &loaded.config.controller;
    let shutdown = Shutdown::on_signals()?;
    let metrics = Metrics::new("metadata-controller", env!("CARGO_PKG_VERSION"));
    let health = Health::new();
    let ready = health.check("quorum");

    let vfs = OsVfs::open(&section.data_dir, DirectIo::Never)
        .with_context(|| format!("data directory {}", section.data_dir.display()))?;
    let (task, handle) = crate::open(config, Arc::new(vfs), ControllerMetrics::new(&metrics))?;
    let grpc = TcpListener::bind(&section.listen).await.with_context(|| format!("listen on {}", section.listen))?;
    let http = TcpListener::bind(&section.http).await.with_context(|| format!("listen on {}", section.http))?;
    tracing::info!(node_id = section.node_id, grpc = %grpc.local_addr()?, http = %http.local_addr()?, "controller starts");

    let mut tasks = Tasks::new();
    let rpc_health = rpc::Health::new();
    rpc_health.set_serving(true).await;
    let (sessions, raft) = (handle.clone(), handle.clone());
    let server = rpc::Server::builder()
        .controller(move |stream, _| sessions.accept(stream))
        .raft(move |_, stream| raft.accept_raft(stream))
        .health(rpc_health);
    let stop = shutdown.requested();
    let (handed_over, closing) = oneshot::channel::<()>();
    tasks.spawn("controller", async move {
        let result = task.run(stop).await;
        drop(handed_over);
        result
    });
    // The listener outlives the task, so that the answer to the handover can be heard.
    tasks.spawn("grpc", async move {
        let closing = async move { drop(closing.await) };
        Ok(server.serve(grpc, closing).await?)
    });
    let (stop, admin_health) = (shutdown.requested(), health.clone());
    tasks.spawn("http", async move { Ok(service_kit::admin::serve(http, metrics, admin_health, stop).await?) });
    let stop = shutdown.requested();
    tasks.spawn("readiness", async move {
        tokio::select! {
            () = watch_readiness(&handle, &ready) => {}
            () = stop => {}
        }
        Ok(())
    });
    health.set_started();
    tasks.run(&shutdown, async { Ok(()) }, DRAIN_MAX).await
}

async fn watch_readiness(handle: &ControllerHandle, ready: &Check) {
    loop {
        if handle.is_ready() {
            ready.pass();
        } else {
            ready.fail("no active controller is known");
        }
        tokio::time::sleep(READINESS_EVERY).await;
    }
}
