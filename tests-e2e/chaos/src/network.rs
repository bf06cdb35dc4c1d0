//! Hosts: each process in a network namespace of its own, all on one bridge, and what goes wrong between them.
//!
//! ```text
//!   ours: bridge 10.77.0.1 ──┬── controller-1 10.77.0.11    each: a network namespace with eth0, iptables and tc of its own
//!                            ├── storage-1    10.77.0.21
//!                            ├── gateway-1    10.77.0.31
//!                            └── java         10.77.0.42
//! ```
//!
//! [`enter`] has this program start again in a network, mount and process namespace of its own. So nothing of this is seen from outside,
//! nothing goes out, and all of it ends with the program, however it ends. Where namespaces are not to be had, every host is an address
//! of the loopback interface, and nothing can be cut.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const INSIDE: &str = "CHAOS_INSIDE";
const NAMESPACES: &str = "/run/netns";
const BRIDGE: &str = "chaos";

/// Where a process lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub name: String,
    pub address: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Namespaces,
    Loopback,
}

pub struct Network {
    kind: Kind,
    pub can_cut: bool,
    pub can_shape: bool,
}

/// Starts this program again where it may do as it likes; returns if it is there already, or cannot be.
pub fn enter() -> Result<()> {
    if env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let private = ["--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let allowed = Command::new("unshare").args(private).arg("true").output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    let mut unshare = Command::new("unshare");
    unshare.args(private).arg(env::current_exe()?).args(env::args_os().skip(1)).env(INSIDE, "1");
    Err(unshare.exec()).context("cannot start again in namespaces")
}

impl Network {
    pub fn new() -> Result<Network> {
        if env::var_os(INSIDE).is_none() {
            return Ok(Network { kind: Kind::Loopback, can_cut: false, can_shape: false });
        }
        fs::create_dir_all(NAMESPACES)?;
        // Names of namespaces are mounts; those of others stay theirs.
        run(Command::new("mount").args(["-t", "tmpfs", "none", NAMESPACES]))?;
        ip(&["link", "set", "lo", "up"])?;
        ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        ip(&["addr", "add", "10.77.0.1/24", "dev", BRIDGE])?;
        ip(&["link", "set", BRIDGE, "up"])?;
        let mut network = Network { kind: Kind::Namespaces, can_cut: false, can_shape: false };
        let trial = network.host("trial", 254)?;
        network.can_cut = network.drop_from(&trial, &trial).is_ok();
        network.can_shape = network.shape(&trial, 1000).is_ok();
        Ok(network)
    }

    /// What is missing, for people.
    pub fn shortcomings(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if self.kind == Kind::Loopback {
            missing.push("no namespaces: all processes are on the loopback interface");
        }
        if !self.can_cut {
            missing.push("no iptables: no partitions, no resets");
        }
        if !self.can_shape {
            missing.push("no tc: no slow links");
        }
        missing
    }

    /// A host with the last number of its address.
    pub fn host(&self, name: &str, number: u8) -> Result<Host> {
        if self.kind == Kind::Loopback {
            return Ok(Host { name: name.to_owned(), address: format!("127.77.0.{number}") });
        }
        let address = format!("10.77.0.{number}");
        let outside = format!("veth{number}");
        ip(&["netns", "add", name])?;
        ip(&["link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns", name])?;
        ip(&["link", "set", &outside, "master", BRIDGE, "up"])?;
        ip(&["-netns", name, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        ip(&["-netns", name, "link", "set", "eth0", "up"])?;
        ip(&["-netns", name, "link", "set", "lo", "up"])?;
        Ok(Host { name: name.to_owned(), address })
    }

    /// A program that runs on `host`, with our files, under the process id that is returned when it is started.
    pub fn command(&self, host: &Host, program: &Path) -> Command {
        match self.kind {
            Kind::Loopback => Command::new(program),
            Kind::Namespaces => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={NAMESPACES}/{}", host.name)).arg(program);
                command
            }
        }
    }

    /// `to` hears nothing more that `from` says.
    pub fn drop_from(&self, from: &Host, to: &Host) -> Result<()> {
        self.iptables(to, &["--append", "INPUT", "--source", &from.address, "--jump", "DROP"])
    }

    /// `to` answers whatever `from` says over TCP with a reset.
    pub fn reset_from(&self, from: &Host, to: &Host) -> Result<()> {
        let rule = ["--append", "INPUT", "--source", &from.address, "--protocol", "tcp", "--jump", "REJECT"];
        self.iptables(to, &[&rule[..], &["--reject-with", "tcp-reset"]].concat())
    }

    /// What `host` sends goes out at this many kilobits a second.
    pub fn shape(&self, host: &Host, kilobits: u64) -> Result<()> {
        let rate = format!("{kilobits}kbit");
        let rule =
            ["qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", &rate, "burst", "16kb", "latency", "400ms"];
        run(self.command(host, Path::new("tc")).args(rule))
    }

    /// Everything between `host` and others is well again. How many packets met a rule since the last time.
    pub fn heal(&self, host: &Host) -> Result<u64> {
        if self.kind == Kind::Loopback {
            return Ok(0);
        }
        let mut struck = 0;
        if self.can_cut {
            let list = ["-w", "--list", "INPUT", "--numeric", "--verbose", "--exact"];
            let listed = output(self.command(host, Path::new("iptables")).args(list))?;
            struck += listed
                .lines()
                .skip(2)
                .filter_map(|rule| rule.split_ascii_whitespace().next()?.parse::<u64>().ok())
                .sum::<u64>();
            self.iptables(host, &["--flush", "INPUT"])?;
        }
        if self.can_shape {
            struck += self.shaped(host)?;
        }
        Ok(struck)
    }

    /// Takes the cap off; how many packets it had to hold or drop.
    fn shaped(&self, host: &Host) -> Result<u64> {
        let shown = output(self.command(host, Path::new("tc")).args(["-s", "qdisc", "show", "dev", "eth0"]))?;
        if !shown.contains("tbf") {
            return Ok(0);
        }
        run(self.command(host, Path::new("tc")).args(["qdisc", "del", "dev", "eth0", "root"]))?;
        // Sent 4056 bytes 12 pkt (dropped 3, overlimits 27 requeues 0)
        let counted = |word: &str| {
            let behind = shown.split_once(word)?.1;
            behind.trim_start().split(|letter: char| !letter.is_ascii_digit()).next()?.parse::<u64>().ok()
        };
        Ok(counted("dropped").unwrap_or_default() + counted("overlimits").unwrap_or_default())
    }

    fn iptables(&self, host: &Host, rule: &[&str]) -> Result<()> {
        run(self.command(host, Path::new("iptables")).arg("-w").args(rule))
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
