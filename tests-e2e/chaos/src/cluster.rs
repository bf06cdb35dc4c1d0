//! The processes under test, each on a host and with a clock of its own, those that keep data with a disk of their own.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tests_e2e::cluster::Role;
use tests_e2e::place;
use tests_e2e::process::{Process, error_lines, signal};

use crate::clock::{Clock, ClockLibrary};
use crate::disk::Disk;
use crate::network::{Host, Network};

const LISTEN_PORT: u16 = 9100;
const HTTP_PORT: u16 = 9200;
const CLUSTER_ID: &str = "thalweg-chaos";
/// Of a disk: far more than a run writes.
const DISK_BYTES: u64 = 4 << 30;
/// The least that is allowed, so that the journal goes round and old records are read from the disk.
const STORAGE_CONFIG: &str = "journal_mib = 128\ntail_cache_mib = 8\n";

/// How many of each, and what they stand on.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub controllers: u8,
    pub storage_nodes: u8,
    pub gateways: u8,
    /// Whose data is on disks that can fail.
    pub controller_disks: bool,
}

/// One process, also while it is down.
pub struct Member {
    pub role: Role,
    pub number: u8,
    pub host: Host,
    home: PathBuf,
    pub process: Option<Process>,
    pub disk: Option<Disk>,
    pub clock: Option<Clock>,
    /// Its disk fails, so it may end by itself.
    pub excused: bool,
}

pub struct Cluster {
    members: Vec<Member>,
    clocks: Option<ClockLibrary>,
    /// What should never have happened, whatever was done.
    pub complaints: Vec<String>,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.role, self.number)
    }
}

impl Member {
    fn address(&self) -> String {
        format!("{}:{LISTEN_PORT}", self.host.address)
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref()?.pid()
    }

    fn data(&self) -> PathBuf {
        match &self.disk {
            Some(disk) => disk.root().join("data"),
            None => self.home.join("data"),
        }
    }
}

impl Cluster {
    /// Makes hosts, disks and clocks; starts nothing. What cannot be had is said in `absent`.
    pub fn new(plan: Plan, network: &Network, folder: &Path, absent: &mut Vec<String>) -> Result<Cluster> {
        let clocks = ClockLibrary::compile(folder);
        let clocks = clocks.map_err(|error| absent.push(format!("no steps of clocks: {error:#}"))).ok();
        let mut members = Vec::new();
        let mut disks_work = true;
        for (role, count, number_of_host) in [
            (Role::Controller, plan.controllers, 10),
            (Role::Storage, plan.storage_nodes, 20),
            (Role::Gateway, plan.gateways, 30),
        ] {
            for number in 1..=count {
                let name = format!("{role}-{number}");
                let home = folder.join(&name);
                fs::create_dir_all(&home)?;
                let on_disk = role == Role::Storage || role == Role::Controller && plan.controller_disks;
                let mut disk = None;
                if on_disk && disks_work {
                    match Disk::mount(&home.join("disk"), DISK_BYTES) {
                        Ok(mounted) => disk = Some(mounted),
                        Err(error) => {
                            absent.push(format!("no faults of disks: {error:#}"));
                            disks_work = false;
                        }
                    }
                }
                let clock = clocks.as_ref().map(|_| Clock::new(&home.join("clock"))).transpose()?;
                let host = network.host(&name, number_of_host + number)?;
                members.push(Member { role, number, host, home, process: None, disk, clock, excused: false });
            }
        }
        Ok(Cluster { members, clocks, complaints: Vec::new() })
    }

    pub fn count(&self) -> usize {
        self.members.len()
    }

    pub fn member(&self, at: usize) -> &Member {
        &self.members[at]
    }

    pub fn member_mut(&mut self, at: usize) -> &mut Member {
        &mut self.members[at]
    }

    /// The places of all of one role.
    pub fn all(&self, role: Role) -> Vec<usize> {
        (0..self.members.len()).filter(|&at| self.members[at].role == role).collect()
    }

    pub fn place(&self, role: Role, number: u8) -> Option<usize> {
        self.members.iter().position(|member| member.role == role && member.number == number)
    }

    pub fn bootstrap(&self) -> String {
        self.addresses(Role::Gateway)
    }

    pub fn address(&self, at: usize) -> String {
        self.members[at].address()
    }

    fn addresses(&self, role: Role) -> String {
        let members = self.members.iter().filter(|member| member.role == role);
        members.map(Member::address).collect::<Vec<_>>().join(",")
    }

    pub fn start_all(&mut self, network: &Network) -> Result<()> {
        (0..self.members.len()).try_for_each(|at| self.start(network, at))
    }

    /// Starts what is down, on the data that it has.
    pub fn start(&mut self, network: &Network, at: usize) -> Result<()> {
        if self.members[at].process.is_some() {
            return Ok(());
        }
        let member = &self.members[at];
        let program = match member.role {
            Role::Controller => "metadata-controller",
            Role::Storage => "storage-node",
            Role::Gateway => "protocol-gateway",
        };
        let mut command = network.command(&member.host, &place::binary(program)?);
        let http = format!("{}:{HTTP_PORT}", member.host.address);
        command.args(["--node-id", &member.number.to_string(), "--listen", &member.address(), "--http", &http]);
        if member.role != Role::Gateway {
            command.arg("--data-dir").arg(member.data());
        }
        let controllers = self.addresses(Role::Controller);
        match member.role {
            Role::Controller => {
                let voters = self.members.iter().filter(|member| member.role == Role::Controller);
                let voters: Vec<String> = voters.map(|voter| format!("{}@{}", voter.number, voter.address())).collect();
                command.args(["--quorum", &voters.join(","), "--cluster-id", CLUSTER_ID]);
            }
            Role::Storage => {
                let config = member.home.join("config.toml");
                fs::write(&config, STORAGE_CONFIG)?;
                command.arg("--config").arg(config);
                command.args(["--controllers", &controllers, "--rack", &format!("rack-{}", member.number)]);
            }
            Role::Gateway => {
                command.args(["--controllers", &controllers, "--advertised", &member.address()]);
            }
        }
        if let (Some(library), Some(clock)) = (&self.clocks, &member.clock) {
            library.preload(&mut command, clock);
        }
        let process = Process::start(&member.to_string(), &mut command, &member.home.join("log"))?;
        self.members[at].process = Some(process);
        Ok(())
    }

    /// SIGKILL to all of them before any is waited for.
    pub fn kill(&mut self, victims: &[usize]) -> Result<()> {
        for &at in victims {
            if let Some(pid) = self.members[at].pid() {
                signal(pid, Signal::KILL)?;
            }
        }
        for &at in victims {
            if let Some(mut process) = self.members[at].process.take() {
                process.kill9()?;
            }
        }
        Ok(())
    }

    /// SIGTERM, and the bounded wait for an orderly end.
    pub fn terminate(&mut self, at: usize) -> Result<()> {
        let member = &mut self.members[at];
        let Some(mut process) = member.process.take() else { return Ok(()) };
        match process.terminate() {
            Ok(status) if status.success() => {}
            Ok(status) => self.complaints.push(format!("{member} ended with {status} after SIGTERM")),
            Err(error) => self.complaints.push(format!("{member}: {error:#}")),
        }
        Ok(())
    }

    /// Starts anew who has ended by itself, as whoever runs a cluster does, and says so if there was no reason to end.
    pub fn revive(&mut self, network: &Network) -> Result<()> {
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            let Some(process) = &mut member.process else { continue };
            let Some(status) = process.ended()? else { continue };
            let tail = process.log_tail();
            if !member.excused || status.code().is_none() {
                self.complaints.push(format!("{member} ended by itself with {status}:\n{tail}"));
            }
            member.process = None;
            self.start(network, at)?;
        }
        Ok(())
    }

    /// Panics and broken invariants in any log.
    pub fn broken(&self) -> Vec<String> {
        let mut found = Vec::new();
        for member in &self.members {
            let log = fs::read_to_string(member.home.join("log")).unwrap_or_default();
            let lines = error_lines(&log, &[]);
            let bad = lines.into_iter().filter(|line| line.contains("panicked at") || line.contains("invariant"));
            found.extend(bad.map(|line| format!("{member}: {line}")));
        }
        found
    }

    /// The data of a member that has no disk of ours is gone.
    pub fn forget_data(&self, at: usize) -> Result<()> {
        let data = self.members[at].data();
        fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))
    }

    /// How long everyone may take to be in sync again after anything.
    pub const RECOVERY_BOUND: Duration = Duration::from_secs(90);
}

/// The storage node that clients know by a broker id.
pub fn storage_number(broker: i32) -> Result<u8> {
    u8::try_from(broker).with_context(|| format!("broker {broker} is none of ours"))
}
