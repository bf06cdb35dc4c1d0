//! Apache Kafka 4.3.0 itself: combined nodes, mostly one, as the judge of our answers, and its Java tools.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process::Process;
use crate::{place, ports, wait};

/// From the start of the JVM to the open client port; of three that start at once, on a busy machine.
const START_BOUND: Duration = Duration::from_secs(240);

/// Any valid base64 UUID will do; a fixed one keeps logs comparable.
const CLUSTER_ID: &str = "dGhhbHdlZy1vcmFjbGUtMQ";

/// Heap of the judge that all tests of a run ask.
const HEAP_MIB: u32 = 1024;

/// The virtual machine of a node that is measured: what `kafka-server-start.sh` of the distribution gives it.
const AS_DISTRIBUTED: [&str; 8] = [
    "-Xms1G",
    "-Xmx1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

/// How much, and how it is set up.
#[derive(Clone, Debug)]
pub struct OracleConfig {
    /// On top of the settings that such a cluster needs, as `name=value` of server.properties.
    pub settings: Vec<(String, String)>,
    /// The first node's client port; free if not given.
    pub port: Option<u16>,
    /// Each is broker and controller. One is a judge and starts quickly; several are measured, and run as their distribution runs them.
    pub nodes: u16,
    /// Every node runs under a group of its own, this number plus its id: by it a firewall tells what a node sends. Needs root.
    pub groups: Option<u32>,
}

impl Default for OracleConfig {
    fn default() -> Self {
        Self { settings: Vec::new(), port: None, nodes: 1, groups: None }
    }
}

/// A running Apache Kafka; dropping it kills its processes and removes its folder.
pub struct Kafka {
    nodes: Vec<Node>,
    groups: Option<u32>,
    folder: TempDir,
}

/// One node, also while it is down.
struct Node {
    id: u16,
    port: u16,
    controller_port: u16,
    process: Option<Process>,
}

impl Kafka {
    pub fn start(config: &OracleConfig) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("thalweg-oracle-").tempdir()?;
        let node = |id: u16| -> Result<Node> {
            let given = config.port.filter(|_| id == 1);
            Ok(Node { id, port: given.map_or_else(ports::free, Ok)?, controller_port: ports::free()?, process: None })
        };
        let mut kafka =
            Self { nodes: (1..=config.nodes).map(node).collect::<Result<_>>()?, groups: config.groups, folder };
        for id in 1..=config.nodes {
            fs::create_dir_all(kafka.home(id))?;
            let properties = kafka.home(id).join("server.properties");
            fs::write(&properties, kafka.server_properties(config, kafka.node(id)?))?;
            kafka.format(id)?;
        }
        // A node opens its port when it has found a quorum: all are started before one is waited for.
        for id in 1..=config.nodes {
            kafka.restart(id)?;
        }
        for node in &mut kafka.nodes {
            wait::until("the port of Apache Kafka", START_BOUND, || {
                if let Some(process) = &mut node.process {
                    process.expect_running()?;
                }
                Ok(TcpStream::connect(("127.0.0.1", node.port)).ok())
            })?;
        }
        Ok(kafka)
    }

    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect::<Vec<_>>().join(",")
    }

    /// The first node.
    pub fn process(&mut self) -> Result<&mut Process> {
        let first = self.nodes.first_mut().and_then(|node| node.process.as_mut());
        first.context("the first node is not running")
    }

    pub fn kill9(&mut self, id: u16) -> Result<()> {
        let node = self.nodes.iter_mut().find(|node| node.id == id).with_context(|| format!("no node {id}"))?;
        match node.process.take() {
            Some(mut process) => process.kill9(),
            None => bail!("node {id} is not running"),
        }
    }

    /// SIGTERM, and the bounded wait for a graceful end.
    pub fn terminate(&mut self, id: u16) -> Result<()> {
        let node = self.nodes.iter_mut().find(|node| node.id == id).with_context(|| format!("no node {id}"))?;
        match node.process.take() {
            // The virtual machine reports the signal as its exit code.
            Some(mut process) => process.terminate().map(drop),
            None => bail!("node {id} is not running"),
        }
    }

    pub fn pid(&self, id: u16) -> Option<u32> {
        self.node(id).ok()?.process.as_ref()?.pid()
    }

    /// What a node that is down had on its disk is lost; a new one is put in its place, as the operator must.
    pub fn lose_data(&mut self, id: u16) -> Result<()> {
        fs::remove_dir_all(self.home(id).join("data"))?;
        self.format(id)
    }

    fn format(&self, id: u16) -> Result<()> {
        let mut format = java("kafka.tools.StorageTool", 128)?;
        let properties = self.home(id).join("server.properties");
        format.args(["format", "--cluster-id", CLUSTER_ID, "--config"]).arg(&properties);
        checked(&mut format, "StorageTool format").map(drop)
    }

    /// Starts a node on its data and ports. It need not be ready when this returns.
    pub fn restart(&mut self, id: u16) -> Result<()> {
        let mut broker = match self.nodes.len() {
            1 => java("kafka.Kafka", HEAP_MIB)?,
            _ => virtual_machine(&AS_DISTRIBUTED, "kafka.Kafka")?,
        };
        broker.arg(self.home(id).join("server.properties"));
        if let Some(first) = self.groups {
            broker.gid(first + u32::from(id));
        }
        let log = self.home(id).join("kafka.log");
        let process = Process::start("Apache Kafka", &mut broker, &log)?;
        let node = self.nodes.iter_mut().find(|node| node.id == id).with_context(|| format!("no node {id}"))?;
        node.process = Some(process);
        Ok(())
    }

    fn node(&self, id: u16) -> Result<&Node> {
        self.nodes.iter().find(|node| node.id == id).with_context(|| format!("no node {id}"))
    }

    pub fn home(&self, id: u16) -> PathBuf {
        self.folder.path().join(format!("node-{id}"))
    }

    fn server_properties(&self, config: &OracleConfig, node: &Node) -> String {
        let Node { id, port, controller_port, .. } = node;
        let voters: Vec<String> =
            self.nodes.iter().map(|node| format!("{}@127.0.0.1:{}", node.id, node.controller_port)).collect();
        let mut lines = vec![
            "process.roles=broker,controller".to_owned(),
            format!("node.id={id}"),
            format!("controller.quorum.voters={}", voters.join(",")),
            format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"),
            format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}"),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
            "controller.listener.names=CONTROLLER".to_owned(),
            "inter.broker.listener.name=PLAINTEXT".to_owned(),
            format!("log.dirs={}", self.home(*id).join("data").display()),
        ];
        if self.nodes.len() < 3 {
            // One node cannot hold three copies of the internal topics.
            for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
                lines.push(format!("{topic}.replication.factor=1"));
            }
            lines.push("transaction.state.log.min.isr=1".to_owned());
            lines.push("share.coordinator.state.topic.min.isr=1".to_owned());
        }
        lines.push("group.initial.rebalance.delay.ms=0".to_owned());
        lines.extend(config.settings.iter().map(|(name, value)| format!("{name}={value}")));
        lines.join("\n") + "\n"
    }
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
    let heap = format!("-Xmx{heap_mib}m");
    // Tools live for a second: start quickly rather than run fast.
    virtual_machine(&[&heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"], class)
}

fn virtual_machine(options: &[&str], class: &str) -> Result<Command> {
    let mut command = Command::new("java");
    command.args(options).arg("-Dlog4j2.level=WARN").arg("-cp").arg(jars()?.join("*")).arg(class);
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
