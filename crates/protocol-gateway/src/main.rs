//! The protocol gateway's process: command line, configuration, listeners, then the shell.

#![allow(clippy::disallowed_methods, reason = "a main reads clocks and files")]

mod cli;
mod config;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use base_types::{Incarnation, Random};
use clap::Parser;
use protocol_gateway::{GrpcLinks, Metrics, Options, Status, serve};
use service_kit::trace::Sampler;
use service_kit::{Health, Shutdown, admin, logs};
use tokio::net::TcpListener;
use tokio::sync::watch;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let cli = cli::Cli::parse();
    let loaded = service_kit::config::load::<config::Settings>(cli.load_options())?;
    let mut random = Random::new(unlike_any_other());
    let config = config::check(&loaded, Incarnation(random.uuid()), random.next_u64())?;
    if cli.common.answer(&loaded) {
        return Ok(());
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(config))
}

async fn run(config: config::Config) -> anyhow::Result<()> {
    let _logs = logs::init("protocol-gateway", &config.log, &config.trace)?;
    let shutdown = Shutdown::on_signals()?;
    let (kit, health) = (service_kit::Metrics::new("protocol-gateway", env!("CARGO_PKG_VERSION")), Health::new());
    let http = TcpListener::bind(&config.http).await.with_context(|| format!("`http` is {}", config.http))?;
    let listener = TcpListener::bind(&config.listen).await.with_context(|| format!("`listen` is {}", config.listen))?;
    let (status, told) = watch::channel(Status::default());
    tokio::spawn(admin::serve(http, kit.clone(), health.clone(), std::future::pending()));
    tokio::spawn(protocol_gateway::follow(told, health.clone(), shutdown.requested()));
    tracing::info!(listen = %listener.local_addr()?, http = %config.http, id = config.core.id.0, "gateway listens");
    let sampler = Sampler::new(&config.trace, config.core.seed);
    let options = Options {
        core: config.core,
        drain: config.drain,
        patience: config.patience,
        frame_size_max: config.frame_size_max,
        sampler,
    };
    let links = GrpcLinks::new(config.controllers);
    serve(options, listener, links, Some(Metrics::new(&kit)), status, shutdown.requested()).await;
    tracing::info!("gateway stopped");
    Ok(())
}

/// The time to the nanosecond and the process id: two lives never share both.
fn unlike_any_other() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_nanos() as u64) ^ (u64::from(std::process::id()) << 40)
}
