//! The two clusters behind one face.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tests_e2e::cluster::{Cluster, ClusterSpec, Role};
use tests_e2e::oracle::{Kafka, OracleConfig};
use tests_e2e::process;
use tests_e2e::scenario::faults;
use tests_e2e::wait;

const READY_BOUND: Duration = Duration::from_secs(120);

/// Storage node n of ours, and node n of Kafka's, run under this group plus n.
const GROUPS: u32 = 5_100;

/// Longer than a gateway that was gone stays unnamed (`timing.gateway_return_ms`).
const RETURN: Duration = Duration::from_secs(17);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    Ours,
    Kafka,
}

impl Which {
    pub fn name(self) -> &'static str {
        match self {
            Which::Ours => "ours",
            Which::Kafka => "kafka",
        }
    }
}

/// One process. Kafka's are all `Storage`: broker and controller in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Controller(u16),
    Storage(u16),
    Gateway(u16),
}

impl Part {
    fn ours(self) -> (Role, u16) {
        match self {
            Part::Controller(number) => (Role::Controller, number),
            Part::Storage(number) => (Role::Storage, number),
            Part::Gateway(number) => (Role::Gateway, number),
        }
    }

    fn kafkas(self) -> Result<u16> {
        match self {
            Part::Storage(number) => Ok(number),
            other => bail!("Kafka has no {other:?}"),
        }
    }
}

pub enum System {
    Ours(Box<Cluster>, tempfile::TempDir),
    Kafka(Kafka),
}

impl System {
    pub fn start(which: Which) -> Result<System> {
        Ok(match which {
            Which::Ours => {
                let folder = tempfile::Builder::new().prefix("thalweg-failover-").tempdir()?;
                let spec = ClusterSpec {
                    folder: Some(folder.path().to_owned()),
                    storage_groups: Some(GROUPS),
                    ..ClusterSpec::default()
                };
                System::Ours(Box::new(Cluster::start(spec)?), folder)
            }
            Which::Kafka => {
                let config = OracleConfig { nodes: 3, groups: Some(GROUPS), ..OracleConfig::default() };
                System::Kafka(Kafka::start(&config)?)
            }
        })
    }

    pub fn bootstrap(&self) -> String {
        match self {
            System::Ours(cluster, _) => cluster.bootstrap(),
            System::Kafka(kafka) => kafka.bootstrap(),
        }
    }

    pub fn parts(&self) -> Vec<Part> {
        let storage = (1..=3).map(Part::Storage);
        match self {
            System::Ours(..) => {
                (1..=3).map(Part::Controller).chain(storage).chain((1..=2).map(Part::Gateway)).collect()
            }
            System::Kafka(_) => storage.collect(),
        }
    }

    pub fn kill(&mut self, part: Part) -> Result<()> {
        match self {
            System::Ours(cluster, _) => cluster.kill9(part.ours().0, part.ours().1),
            System::Kafka(kafka) => kafka.kill9(part.kafkas()?),
        }
    }

    pub fn terminate(&mut self, part: Part) -> Result<()> {
        match self {
            System::Ours(cluster, _) => cluster.terminate(part.ours().0, part.ours().1),
            System::Kafka(kafka) => kafka.terminate(part.kafkas()?),
        }
    }

    pub fn start_again(&mut self, part: Part) -> Result<()> {
        match self {
            System::Ours(cluster, _) => cluster.restart(part.ours().0, part.ours().1),
            System::Kafka(kafka) => kafka.restart(part.kafkas()?),
        }
    }

    pub fn wait_ready(&mut self) -> Result<()> {
        match self {
            System::Ours(cluster, _) => cluster.wait_ready(READY_BOUND),
            System::Kafka(_) => Ok(()),
        }
    }

    /// Until clients are sent to a gateway again that was gone.
    pub fn wait_returned(&self) -> Result<()> {
        let began = Instant::now();
        wait::until("the gateway to be named again", RETURN * 2, || Ok((began.elapsed() > RETURN).then_some(())))
    }

    pub fn active_controller(&self) -> Result<Part> {
        let id = faults::active_controller(&self.bootstrap())?;
        Ok(match self {
            System::Ours(..) => Part::Controller(id),
            System::Kafka(_) => Part::Storage(id),
        })
    }

    /// Which storage node is not to be struck when a leader is: the active controller where nodes are both, for that would be two faults.
    pub fn spared(&self) -> Result<Option<u16>> {
        match self {
            System::Ours(..) => Ok(None),
            System::Kafka(_) => faults::active_controller(&self.bootstrap()).map(Some),
        }
    }

    /// SIGSTOP, and later SIGCONT.
    pub fn stand_still(&self, storage: u16, still: bool) -> Result<()> {
        let pid = match self {
            System::Ours(cluster, _) => cluster.pid(Role::Storage, storage),
            System::Kafka(kafka) => kafka.pid(storage),
        };
        let pid = pid.with_context(|| format!("storage {storage} is not running"))?;
        process::signal(pid, if still { Signal::STOP } else { Signal::CONT })
    }

    /// Nothing that the node sends arrives anywhere, acknowledgements of TCP included; what is sent to it still does. By the group that it
    /// runs under: iptables on the loopback device.
    pub fn cut_off(&self, storage: u16, cut: bool) -> Result<()> {
        let group = (GROUPS + u32::from(storage)).to_string();
        let change = if cut { "-A" } else { "-D" };
        let rule = [change, "OUTPUT", "-m", "owner", "--gid-owner", &group, "-j", "DROP"];
        let status = Command::new("iptables").args(rule).status().context("cannot start iptables")?;
        ensure!(status.success(), "iptables {rule:?} ended with {status}");
        Ok(())
    }

    pub fn lose_data(&mut self, storage: u16) -> Result<()> {
        match self {
            System::Ours(cluster, _) => cluster.lose_data(Role::Storage, storage),
            System::Kafka(kafka) => kafka.lose_data(storage),
        }
    }

    /// What the logs of a node hold.
    pub fn data_bytes(&self, storage: u16) -> Result<u64> {
        match self {
            System::Ours(_, folder) => segments(&folder.path().join(format!("storage-{storage}/data"))),
            System::Kafka(kafka) => segments(&kafka.home(storage).join("data")),
        }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // Whatever ended the run, no rule of ours stays.
        for storage in 1..=3 {
            let group = (GROUPS + storage).to_string();
            let rule = ["-D", "OUTPUT", "-m", "owner", "--gid-owner", &group, "-j", "DROP"];
            let _ = Command::new("iptables").args(rule).stderr(std::process::Stdio::null()).status();
        }
    }
}

/// Bytes written to files that end in `.log`.
fn segments(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let kind = entry.metadata()?;
        if kind.is_dir() {
            bytes += segments(&entry.path())?;
        } else if entry.path().extension().is_some_and(|extension| extension == "log") {
            bytes += kind.len();
        }
    }
    Ok(bytes)
}
