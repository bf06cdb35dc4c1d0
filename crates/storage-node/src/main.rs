//! The storage node's process: command line, configuration, data directory, listeners, then the shell.

#![allow(clippy::disallowed_methods, reason = "a main starts what a process needs")]

mod cli;
mod config;

use std::rc::Rc;

use anyhow::Context;
use clap::Parser;
use service_kit::{Health, Shutdown, admin, logs};
use storage_node::{Directory, Metrics, RemoteDial, new_incarnation};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let cli = cli::Cli::parse();
    let loaded = service_kit::config::load::<config::Settings>(cli.load_options())?;
    let config = config::check(&loaded, new_incarnation())?;
    if cli.common.answer(&loaded) {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(run(config)))
}

async fn run(config: config::Config) -> anyhow::Result<()> {
    let _logs = logs::init("storage-node", &config.log, &config.trace)?;
    logs::abort_on_panic();
    let shutdown = Shutdown::on_signals()?;
    let (kit, health) = (service_kit::Metrics::new("storage-node", env!("CARGO_PKG_VERSION")), Health::new());
    let http = TcpListener::bind(&config.http).await.with_context(|| format!("`http` is {}", config.http))?;
    let listener = TcpListener::bind(&config.listen).await.with_context(|| format!("`listen` is {}", config.listen))?;
    tokio::spawn(admin::serve(http, kit.clone(), health.clone(), std::future::pending()));
    let incarnation = config.log_options.incarnation;
    let directory = Directory::open(&config.data_dir, config.broker, config.log_options)
        .with_context(|| format!("`data_dir` is {}", config.data_dir.display()))?
        .with_pace(config.pace);
    let identity = storage_node::Identity {
        broker: config.broker,
        incarnation,
        cluster_id: directory.cluster_id().map(str::to_owned),
        rack: config.rack,
        peer_address: config.advertised,
        host: config.host,
        clean_since: directory.clean_since(),
        intact_since: directory.intact_since(),
        statics: config.statics,
    };
    let dial = Rc::new(RemoteDial::new(config.controllers));
    let started = storage_node::start(identity, directory, dial, Metrics::new(&kit));
    let (gateways, followers) = (started.handle.clone(), started.handle.clone());
    let server = rpc::Server::builder()
        .storage(move |stream, _| gateways.accept_gateway(stream))
        .replication(move |hello, stream| followers.accept_follower(hello, stream))
        .health(rpc::Health::new());
    let serving = tokio::spawn(server.serve(listener, std::future::pending()));
    let following = tokio::spawn(storage_node::follow(started.handle.clone(), health.clone()));
    tracing::info!(listen = %config.listen, http = %config.http, id = config.broker.0, "storage node serves");

    let mut task = started.task;
    let ended = tokio::select! {
        ended = &mut task => ended,
        () = shutdown.requested() => {
            health.set_stopping();
            started.handle.shut_down().await;
            match tokio::time::timeout(config.drain, &mut task).await {
                Ok(ended) => ended,
                Err(_) => {
                    tracing::warn!("leadership was not handed over in time");
                    started.handle.stop_now().await;
                    task.await
                }
            }
        }
    };
    serving.abort();
    following.abort();
    ended.context("the shell failed")??;
    tracing::info!("storage node stopped");
    Ok(())
}
