//! A local cluster of the real service processes, for tests and for `make cluster`: one launcher, so that what is tried by hand is
//! what is tested.
//!
//! ```text
//!   folder/controller-1/{data,log,pid}   folder/storage-1/...   folder/gateway-1/...
//! ```
//!
//! Ready means: `/health/ready` of every process answers 200.

use std::fmt;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{self, Process};
use crate::{place, ports, wait};

const READY_BOUND: Duration = Duration::from_secs(60);
const CLUSTER_ID: &str = "thalweg-local";

/// Fixed ports of `make cluster`, plus the member's number less one.
const CONTROLLER_PORT: u16 = 19_001;
const STORAGE_PORT: u16 = 19_101;
const GATEWAY_PORT: u16 = 9_092;
const CONTROLLER_HTTP_PORT: u16 = 18_001;
const STORAGE_HTTP_PORT: u16 = 18_101;
const GATEWAY_HTTP_PORT: u16 = 18_201;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Controller,
    Storage,
    Gateway,
}

impl Role {
    fn binary(self) -> &'static str {
        match self {
            Self::Controller => "metadata-controller",
            Self::Storage => "storage-node",
            Self::Gateway => "protocol-gateway",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Controller => "controller",
            Self::Storage => "storage",
            Self::Gateway => "gateway",
        })
    }
}

/// How many of each, and where.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    pub controllers: u16,
    pub storage_nodes: u16,
    pub gateways: u16,
    /// A folder that stays; without it a temporary one.
    pub folder: Option<PathBuf>,
    /// The ports of `make cluster` instead of free ones.
    pub fixed_ports: bool,
    /// Handed to every process, e.g. `THALWEG_LOG__FILTER`.
    pub environment: Vec<(String, String)>,
    /// Every storage node runs under a group of its own, this number plus the node's: by it a firewall tells what a node sends. Needs root.
    pub storage_groups: Option<u32>,
    /// What stands in the configuration file of a role's services.
    pub config: Vec<(Role, &'static str)>,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            controllers: 3,
            storage_nodes: 3,
            gateways: 2,
            folder: None,
            fixed_ports: false,
            environment: Vec::new(),
            storage_groups: None,
            config: Vec::new(),
        }
    }
}

/// One process of the cluster, also while it is down.
struct Member {
    role: Role,
    number: u16,
    listen: u16,
    http: u16,
    process: Option<Process>,
}

/// A running cluster; dropping it kills every process.
pub struct Cluster {
    spec: ClusterSpec,
    members: Vec<Member>,
    folder: PathBuf,
    _temporary: Option<TempDir>,
}

impl Cluster {
    /// Starts every process and waits until all are ready.
    pub fn start(spec: ClusterSpec) -> Result<Self> {
        let temporary = match &spec.folder {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("thalweg-cluster-").tempdir()?),
        };
        let folder = match (&spec.folder, &temporary) {
            (Some(folder), _) => folder.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => bail!("a cluster needs a folder"),
        };
        let mut members = Vec::new();
        for (role, count, listen, http) in [
            (Role::Controller, spec.controllers, CONTROLLER_PORT, CONTROLLER_HTTP_PORT),
            (Role::Storage, spec.storage_nodes, STORAGE_PORT, STORAGE_HTTP_PORT),
            (Role::Gateway, spec.gateways, GATEWAY_PORT, GATEWAY_HTTP_PORT),
        ] {
            for number in 1..=count {
                let port = |fixed: u16| if spec.fixed_ports { Ok(fixed + number - 1) } else { ports::free() };
                members.push(Member { role, number, listen: port(listen)?, http: port(http)?, process: None });
            }
        }
        let mut cluster = Self { spec, members, folder, _temporary: temporary };
        for at in 0..cluster.members.len() {
            cluster.launch(at)?;
        }
        cluster.wait_ready(READY_BOUND)?;
        Ok(cluster)
    }

    /// The gateways' addresses, for a client.
    pub fn bootstrap(&self) -> String {
        let gateways = self.members.iter().filter(|member| member.role == Role::Gateway);
        gateways.map(|member| format!("127.0.0.1:{}", member.listen)).collect::<Vec<_>>().join(",")
    }

    /// The controllers' addresses, for services and the operator's tool.
    pub fn controllers(&self) -> String {
        let controllers = self.members.iter().filter(|member| member.role == Role::Controller);
        controllers.map(|member| format!("127.0.0.1:{}", member.listen)).collect::<Vec<_>>().join(",")
    }

    /// Where metrics and health are served.
    pub fn http(&self) -> String {
        let each = |member: &Member| format!("{} {} 127.0.0.1:{}", member.role, member.number, member.http);
        self.members.iter().map(each).collect::<Vec<_>>().join(", ")
    }

    /// What a member's `/metrics` says.
    pub fn metrics(&self, role: Role, number: u16) -> Result<String> {
        Ok(get(self.members[self.index(role, number)?].http, "/metrics")?)
    }

    /// One figure of it; labels and all are a part of the name.
    pub fn metric(&self, role: Role, number: u16, name: &str) -> Result<f64> {
        let text = self.metrics(role, number)?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("{role} {number} has no metric {name}"))?.trim().parse()?)
    }

    /// What a member keeps on its disk.
    pub fn data_dir(&self, role: Role, number: u16) -> Result<PathBuf> {
        Ok(self.home(&self.members[self.index(role, number)?]).join("data"))
    }

    pub fn pid(&self, role: Role, number: u16) -> Option<u32> {
        self.members[self.index(role, number).ok()?].process.as_ref()?.pid()
    }

    pub fn kill9(&mut self, role: Role, number: u16) -> Result<()> {
        let at = self.index(role, number)?;
        match self.members[at].process.take() {
            Some(mut process) => process.kill9(),
            None => bail!("{role} {number} is not running"),
        }
    }

    /// SIGTERM, and the bounded wait for a graceful end.
    pub fn terminate(&mut self, role: Role, number: u16) -> Result<()> {
        let at = self.index(role, number)?;
        let Some(mut process) = self.members[at].process.take() else { bail!("{role} {number} is not running") };
        let status = process.terminate()?;
        if !status.success() {
            bail!("{role} {number} ended with {status} after SIGTERM:\n{}", process.log_tail());
        }
        Ok(())
    }

    /// What a member that is down had on its disk is lost.
    pub fn lose_data(&mut self, role: Role, number: u16) -> Result<()> {
        let member = &self.members[self.index(role, number)?];
        if member.process.is_some() {
            bail!("{role} {number} is running");
        }
        Ok(fs::remove_dir_all(self.home(member).join("data"))?)
    }

    /// Starts a member that was stopped, on the same data and ports. It need not be ready when this returns.
    pub fn restart(&mut self, role: Role, number: u16) -> Result<()> {
        let at = self.index(role, number)?;
        if self.members[at].process.is_some() {
            bail!("{role} {number} is running");
        }
        self.launch(at)
    }

    /// Until every member that runs says it is ready.
    pub fn wait_ready(&mut self, bound: Duration) -> Result<()> {
        for member in &mut self.members {
            let Some(process) = &mut member.process else { continue };
            let what = format!("{} {} to be ready", member.role, member.number);
            let ready = wait::until(&what, bound, || {
                process.expect_running()?;
                Ok(is_ready(member.http).then_some(()))
            });
            if let Err(error) = ready {
                // One that has ended says why by itself.
                return match process.expect_running() {
                    Ok(()) => Err(error.context(format!("the end of its log:\n{}", process.log_tail()))),
                    Err(ended) => Err(ended),
                };
            }
        }
        Ok(())
    }

    /// Lines of any log that nobody expected, each with its member.
    pub fn unexpected_errors(&self, expected: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for member in &self.members {
            let log = fs::read_to_string(self.home(member).join("log")).unwrap_or_default();
            let lines = process::error_lines(&log, expected);
            found.extend(lines.into_iter().map(|line| format!("{} {}: {line}", member.role, member.number)));
        }
        found
    }

    /// Leaves every process running and its pid in a file, for [`stop`].
    pub fn detach(mut self) -> Result<()> {
        for at in 0..self.members.len() {
            let home = self.home(&self.members[at]);
            if let Some(pid) = self.members[at].process.take().and_then(Process::detach) {
                fs::write(home.join("pid"), pid.to_string())?;
            }
        }
        Ok(())
    }

    fn index(&self, role: Role, number: u16) -> Result<usize> {
        let found = self.members.iter().position(|member| member.role == role && member.number == number);
        found.with_context(|| format!("this cluster has no {role} {number}"))
    }

    fn home(&self, member: &Member) -> PathBuf {
        self.folder.join(format!("{}-{}", member.role, member.number))
    }

    fn launch(&mut self, at: usize) -> Result<()> {
        let member = &self.members[at];
        let home = self.home(member);
        fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
        let mut command = Command::new(place::binary(member.role.binary())?);
        command.envs(self.spec.environment.iter().map(|(name, value)| (name, value)));
        let listen = format!("127.0.0.1:{}", member.listen);
        command.args(["--node-id", &member.number.to_string(), "--listen", &listen]);
        command.args(["--http", &format!("127.0.0.1:{}", member.http)]);
        let config = self.spec.config.iter().filter(|(role, _)| *role == member.role);
        let config: String = config.map(|(_, text)| format!("{text}\n")).collect();
        if !config.is_empty() {
            let file = home.join("config.toml");
            fs::write(&file, config)?;
            command.arg("--config").arg(file);
        }
        if member.role != Role::Gateway {
            command.arg("--data-dir").arg(home.join("data"));
        }
        match member.role {
            Role::Controller => {
                let voters = self.members.iter().filter(|member| member.role == Role::Controller);
                let quorum: Vec<String> =
                    voters.map(|voter| format!("{}@127.0.0.1:{}", voter.number, voter.listen)).collect();
                command.args(["--quorum", &quorum.join(","), "--cluster-id", CLUSTER_ID]);
            }
            Role::Storage => {
                command.args(["--controllers", &self.controllers(), "--rack", &format!("rack-{}", member.number)]);
            }
            Role::Gateway => {
                // A name, so that several brokers behind one gateway can be told apart by its spelling.
                let advertised = format!("localhost:{}", member.listen);
                command.args(["--controllers", &self.controllers(), "--advertised", &advertised]);
            }
        }
        if let Some(first) = self.spec.storage_groups.filter(|_| member.role == Role::Storage) {
            command.gid(first + u32::from(member.number));
        }
        if self.spec.folder.is_some() {
            // Whoever keeps the folder may detach: an interrupt of the launcher must not reach the services.
            command.process_group(0);
        }
        let name = format!("{} {}", member.role, member.number);
        let process = Process::start(&name, &mut command, &home.join("log"))?;
        self.members[at].process = Some(process);
        Ok(())
    }
}

/// Whether `/health/ready` answers 200. Anything else, no listener included, is "not yet".
fn is_ready(port: u16) -> bool {
    get(port, "/health/ready").is_ok_and(|text| text.split(' ').nth(1) == Some("200"))
}

/// The whole answer, head and all.
fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Stops the detached processes of `folder`: gateways first, so that no client meets a half-stopped cluster. Returns how many.
pub fn stop(folder: &Path) -> Result<usize> {
    let mut stopped = 0;
    for role in [Role::Gateway, Role::Storage, Role::Controller] {
        let entries = fs::read_dir(folder).with_context(|| format!("no cluster in {}", folder.display()))?;
        let mut running = Vec::new();
        for entry in entries {
            let home = entry?.path();
            let name = home.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.starts_with(&format!("{role}-")) {
                continue;
            }
            let Ok(text) = fs::read_to_string(home.join("pid")) else { continue };
            let pid: u32 = text.trim().parse().with_context(|| format!("{name}/pid holds no number"))?;
            if runs(pid, role) {
                process::signal(pid, Signal::TERM)?;
                running.push((name, pid));
            }
            fs::remove_file(home.join("pid"))?;
        }
        for (name, pid) in running {
            let ended = wait::until(&name, process::STOP_BOUND, || Ok((!runs(pid, role)).then_some(())));
            if ended.is_err() {
                eprintln!("{name} did not end within {:?} of SIGTERM and is killed", process::STOP_BOUND);
                process::signal(pid, Signal::KILL)?;
            }
            stopped += 1;
        }
    }
    Ok(stopped)
}

/// Whether `pid` still is the process that we started, and not another that got its number.
fn runs(pid: u32, role: Role) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command).split('\0').next().is_some_and(|program| program.ends_with(role.binary()))
}
