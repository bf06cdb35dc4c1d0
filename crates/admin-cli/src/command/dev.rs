//! `thalweg dev`: all three services in one process, on one thread and a few for the disk.
//!
//! The services are the same as in a cluster; only the streams between them are channels instead of connections.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use base_types::BrokerId;
use metadata_controller::metrics::ControllerMetrics;
use metadata_controller::{ControllerConfig, ControllerHandle};
use peer_api::controller::{ActiveController, FromController, ToController};
use peer_api::replication::{FromFollower, FromLeader, Hello};
use peer_api::storage::{FromStorage, ToStorage};
use protocol_gateway::{Links, Opening};
use rpc::Duplex;
use segment_log::LogOptions;
use service_kit::logs::{self, LogConfig};
use service_kit::trace::{Sampler, TraceConfig};
use service_kit::{Health, Metrics, Shutdown, admin};
use store_os::{DirectIo, OsVfs};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::cli::{Dev, Target};
use crate::failure::Failure;
use crate::output::Format;

const NODE: BrokerId = BrokerId(1);
const DRAIN: Duration = Duration::from_secs(5);
/// A laptop's share: the journal bounds what a restart after a crash reads, the cache what consumers at the tail find in memory.
const JOURNAL_BYTES: u64 = 256 << 20;
const TAIL_CACHE_BYTES: u64 = 16 << 20;

pub fn run(options: Dev) -> Result<(), Failure> {
    let started = || -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(LocalSet::new().run_until(serve(options)))
    };
    started().map_err(|error| Failure::Failed(format!("{error:#}")))
}

async fn serve(options: Dev) -> anyhow::Result<()> {
    let trace = TraceConfig {
        otlp_endpoint: options.otlp_endpoint.clone().unwrap_or_default(),
        sample_ratio: options.trace_ratio,
    };
    anyhow::ensure!(trace.has_good_ratio(), "--trace-ratio is {}; expected: 0 to 1", trace.sample_ratio);
    let _logs = logs::init("thalweg", &LogConfig { filter: options.log.clone(), ..LogConfig::default() }, &trace)?;
    logs::abort_on_panic();
    let shutdown = Shutdown::on_signals()?;
    let (kit, health) = (Metrics::new("thalweg", env!("CARGO_PKG_VERSION")), Health::new());
    let listener = TcpListener::bind(&options.listen).await.with_context(|| format!("--listen {}", options.listen))?;
    let address = listener.local_addr()?;
    if let Some(http) = &options.http {
        let http = TcpListener::bind(http).await.with_context(|| format!("--http {http}"))?;
        tokio::spawn(admin::serve(http, kit.clone(), health.clone(), std::future::pending()));
    }

    let controller_dir = options.data_dir.join("controller");
    let vfs = OsVfs::open(&controller_dir, DirectIo::Never).context("--data-dir")?;
    let cluster_id = metadata_controller::config::new_cluster_id();
    let mut config = ControllerConfig::alone(NODE, "in-process".to_owned(), cluster_id);
    // The other services share this thread: when it is late, they are late together.
    config.core.broker_timeout_ms = 30_000;
    config.core.gateway_timeout_ms = 30_000;
    let (controller_task, controller) = metadata_controller::open(config, Arc::new(vfs), ControllerMetrics::new(&kit))?;
    let stop_controller = Shutdown::new();
    let controlling = tokio::spawn(controller_task.run(stop_controller.requested()));

    // As Kafka's own settings for one node: there are no three for the copies, and nobody wants to wait for more members.
    let statics = [("offsets.topic.replication.factor", "1"), ("group.initial.rebalance.delay.ms", "0")];
    let statics: BTreeMap<String, String> =
        statics.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();

    let incarnation = storage_node::new_incarnation();
    let mut log_options = LogOptions::new(incarnation);
    log_options.journal_bytes_max = JOURNAL_BYTES;
    log_options.tail_cache_bytes = TAIL_CACHE_BYTES;
    let directory = storage_node::Directory::open(&options.data_dir, NODE, log_options).context("--data-dir")?;
    let identity = storage_node::Identity {
        broker: NODE,
        incarnation,
        cluster_id: directory.cluster_id().map(str::to_owned),
        rack: None,
        peer_address: "in-process".to_owned(),
        host: "localhost".to_owned(),
        clean_since: directory.clean_since(),
        intact_since: directory.intact_since(),
        statics: statics.clone(),
    };
    let dial = Rc::new(LocalDial { controller: controller.clone() });
    let storage = storage_node::start(identity, directory, dial, storage_node::Metrics::new(&kit));

    let core = protocol_gateway::Config {
        id: NODE,
        incarnation,
        advertised_host: address.ip().to_string(),
        advertised_port: address.port(),
        host: "localhost".to_owned(),
        seed: u64::from_be_bytes(*incarnation.0.first_chunk().unwrap_or(&[0; 8])),
        memory_max: 256 << 20,
        lag_interval_ms: if options.http.is_some() { 15_000 } else { 0 },
        statics,
        ..protocol_gateway::Config::default()
    };
    let sampler = Sampler::new(&trace, core.seed);
    // As a Kafka broker does: connections are taken, and requests answered only once there is somebody to lead partitions. A client
    // that is told of a cluster without brokers may not ask again for minutes.
    let mut storing = storage.task;
    tokio::select! {
        () = until_unfenced(&storage.handle) => {}
        ended = &mut storing => return ended?.context("the storage node ended by itself"),
    }
    let (status, told) = watch::channel(protocol_gateway::Status::default());
    let links = LocalLinks { controller, storage: storage.handle.clone() };
    let gateway = protocol_gateway::serve(
        protocol_gateway::Options {
            core,
            drain: DRAIN,
            patience: protocol_gateway::Patience::default(),
            frame_size_max: protocol_gateway::FRAME_SIZE_MAX,
            sampler,
        },
        listener,
        links,
        Some(protocol_gateway::Metrics::new(&kit)),
        status,
        shutdown.requested(),
    );
    tokio::spawn(protocol_gateway::follow(told.clone(), health.clone(), shutdown.requested()));
    tokio::spawn(storage_node::follow(storage.handle.clone(), health.clone()));
    tokio::spawn(announce(told, health.clone(), options, address));

    tokio::select! {
        () = gateway => {}
        ended = &mut storing => return ended?.context("the storage node ended by itself"),
    }
    storage.handle.shut_down().await;
    if let Ok(ended) = tokio::time::timeout(DRAIN, &mut storing).await {
        ended??;
    } else {
        storage.handle.stop_now().await;
        storing.await??;
    }
    stop_controller.request();
    controlling.await??;
    Ok(())
}

/// Waits until the controller trusts the storage node; for ever if the node has ended, which its task tells.
async fn until_unfenced(storage: &storage_node::Handle) {
    loop {
        match storage.stats().await {
            Some((stats, _)) if stats.registered && !stats.fenced => return,
            Some(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            None => return std::future::pending().await,
        }
    }
}

/// Once everything is ready: makes the topics asked for, and says how to try it.
async fn announce(
    mut told: watch::Receiver<protocol_gateway::Status>,
    health: Health,
    options: Dev,
    address: std::net::SocketAddr,
) {
    if told.wait_for(|status| status.ready).await.is_err() {
        return;
    }
    while !health.is_ready() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let bootstrap = address.to_string();
    let topics = options.topic.clone();
    let target = Target { bootstrap: bootstrap.clone(), output: Format::Json };
    if !topics.is_empty() {
        let made = tokio::task::spawn_blocking(move || super::topic::ensure(&topics, &target)).await;
        if let Ok(Err(failure)) = made {
            eprintln!("thalweg: {failure}");
        }
    }
    let topic = options.topic.first().map_or("hello", |(name, _)| name.as_str());
    println!("Thalweg serves the Kafka protocol at {bootstrap}; its data is in {}.", options.data_dir.display());
    println!("Try it:");
    println!("  echo hello | kcat -b {bootstrap} -t {topic} -P && kcat -b {bootstrap} -t {topic} -C -e");
    println!(
        "  pip install -q kafka-python && python3 -c \"from kafka import KafkaProducer as P; p = P(bootstrap_servers='{bootstrap}'); \
         print(p.send('{topic}', b'hello').get(10))\""
    );
    println!(
        "  npm install --silent --no-save kafkajs && node -e \"const {{Kafka}} = require('kafkajs'); const p = new Kafka({{brokers: ['{bootstrap}']}}).producer(); \
         p.connect().then(() => p.send({{topic: '{topic}', messages: [{{value: 'hello'}}]}})).then(console.log)\
         .then(() => p.disconnect())\""
    );
}

/// The storage node's way to the controller. There is no other node to follow.
struct LocalDial {
    controller: ControllerHandle,
}

impl storage_node::Dial for LocalDial {
    fn controller<'a>(
        &'a self,
        _: &'a storage_node::Choice,
    ) -> storage_node::Dialled<'a, ToController, FromController> {
        Box::pin(async {
            self.controller
                .connect()
                .await
                .ok_or_else(|| storage_node::DialError("the controller has ended".to_owned()))
        })
    }

    fn leader<'a>(&'a self, address: &'a str, _: Hello) -> storage_node::Dialled<'a, FromFollower, FromLeader> {
        Box::pin(async move { Err(storage_node::DialError(format!("there is no other storage node at {address}"))) })
    }
}

/// The gateway's ways to the other two.
struct LocalLinks {
    controller: ControllerHandle,
    storage: storage_node::Handle,
}

impl Links for LocalLinks {
    fn storage(&mut self, _: BrokerId, _: &str) -> Opening<ToStorage, FromStorage> {
        let storage = self.storage.clone();
        Box::pin(async move { Some(storage.connect_gateway().await) as Option<Duplex<ToStorage, FromStorage>> })
    }

    fn controller(&mut self, _: Option<ActiveController>) -> Opening<ToController, FromController> {
        let controller = self.controller.clone();
        Box::pin(async move { controller.connect().await })
    }
}
