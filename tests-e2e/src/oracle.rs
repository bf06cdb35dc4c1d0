//! Apache Kafka 4.3.0 itself: one combined node as the judge of our answers, and its Java tools.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process::Process;
use crate::{place, ports, wait};

/// From the start of the JVM to the open client port.
const START_BOUND: Duration = Duration::from_secs(90);

/// Any valid base64 UUID will do; a fixed one keeps logs comparable.
const CLUSTER_ID: &str = "dGhhbHdlZy1vcmFjbGUtMQ";

/// Broker settings on top of the ones a single node needs, as `name=value` of server.properties.
#[derive(Clone, Debug, Default)]
pub struct OracleConfig {
    pub settings: Vec<(String, String)>,
    /// The client port; free if not given.
    pub port: Option<u16>,
}

/// A running Apache Kafka; dropping it kills the process and removes its folder.
pub struct Kafka {
    process: Process,
    port: u16,
    _folder: TempDir,
}

impl Kafka {
    pub fn start(config: &OracleConfig) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("thalweg-oracle-").tempdir()?;
        let port = config.port.map_or_else(ports::free, Ok)?;
        let properties = folder.path().join("server.properties");
        fs::write(&properties, server_properties(config, port, ports::free()?, folder.path()))?;

        let mut format = java("kafka.tools.StorageTool", 128)?;
        format.args(["format", "--cluster-id", CLUSTER_ID, "--config"]).arg(&properties);
        checked(&mut format, "StorageTool format")?;

        let mut broker = java("kafka.Kafka", 1024)?;
        let log = folder.path().join("kafka.log");
        let mut process = Process::start("Apache Kafka", broker.arg(&properties), &log)?;
        wait::until("the port of Apache Kafka", START_BOUND, || {
            process.expect_running()?;
            Ok(TcpStream::connect(("127.0.0.1", port)).ok())
        })?;
        Ok(Self { process, port, _folder: folder })
    }

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn server_properties(config: &OracleConfig, port: u16, controller_port: u16, folder: &Path) -> String {
    let mut lines = vec![
        "process.roles=broker,controller".to_owned(),
        "node.id=1".to_owned(),
        format!("controller.quorum.voters=1@127.0.0.1:{controller_port}"),
        format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}"),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
        "controller.listener.names=CONTROLLER".to_owned(),
        "inter.broker.listener.name=PLAINTEXT".to_owned(),
        format!("log.dirs={}", folder.join("data").display()),
    ];
    // One node cannot hold three copies of the internal topics.
    for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
        lines.push(format!("{topic}.replication.factor=1"));
    }
    lines.push("transaction.state.log.min.isr=1".to_owned());
    lines.push("share.coordinator.state.topic.min.isr=1".to_owned());
    lines.push("group.initial.rebalance.delay.ms=0".to_owned());
    lines.extend(config.settings.iter().map(|(name, value)| format!("{name}={value}")));
    lines.join("\n") + "\n"
}

/// Runs one of Kafka's Java tools to its end, e.g. `org.apache.kafka.tools.TopicCommand`, and returns what it printed.
pub fn tool(class: &str, arguments: &[&str]) -> Result<String> {
    let output = checked(java(class, 256)?.args(arguments), class)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The same without judging the exit code, to compare failures.
pub fn tool_output(class: &str, arguments: &[&str]) -> Result<Output> {
    java(class, 256)?.args(arguments).output().with_context(|| format!("cannot start {class}"))
}

/// A command that runs `class` with Kafka's jars.
pub fn java(class: &str, heap_mib: u32) -> Result<Command> {
    let mut command = Command::new("java");
    command.arg(format!("-Xmx{heap_mib}m"));
    // Tools live for a second: start quickly rather than run fast.
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Dlog4j2.level=WARN"]);
    command.arg("-cp").arg(jars()?.join("*")).arg(class);
    Ok(command)
}

fn jars() -> Result<PathBuf> {
    let jars = place::cache()?.join("kafka/jars");
    if !jars.is_dir() {
        bail!("the jars of Apache Kafka are missing: `cargo xtask setup test` installs them");
    }
    Ok(jars)
}

fn checked(command: &mut Command, what: &str) -> Result<Output> {
    let output = command.output().with_context(|| format!("cannot start {what}"))?;
    if !output.status.success() {
        let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        bail!("{what} ended with {}:\n{}", output.status, words.concat());
    }
    Ok(output)
}
