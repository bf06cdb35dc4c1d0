//! How long writers wait when something dies: probes that write to every partition all the time, and what is done to the cluster meanwhile.
//!
//! A probe is an unchanged client with its defaults in a process of its own. A *gap* is the time between two acknowledgements of one
//! partition; every partition counts, led by the victim or not. Of a probe that reads, it is the time between two records.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{clients, oracle, place, wait};

/// Between two writes to a partition. Gaps cannot be told from it if they are shorter.
pub const INTERVAL: Duration = Duration::from_millis(40);

/// Producers of librdkafka's probe. Each partition's batch is a request of its own there, and Apache Kafka takes up a request of a
/// connection when the one before it is answered, so a single one that writes to many partitions waits for itself.
const PRODUCERS: usize = 4;

/// Nothing goes on after a fault for so long: the cluster has not come back. librdkafka waits a minute for the answer of a leader that stands
/// still before it looks for another one (`socket.timeout.ms`), and gives a record up after five (`message.timeout.ms`).
const SILENCE_BOUND: Duration = Duration::from_secs(300);

/// A cluster is calm when no partition has so long a gap for as long as a fault is watched.
const CALM_GAP: Duration = Duration::from_millis(300);

/// A fault shows its effect within so long at the latest; what is acknowledged before may have been under way.
const STRIKES: Duration = Duration::from_secs(3);

/// The answer to a command, other than to create or fill. The first one comes when the virtual machine has compiled the probe.
const ANSWER_BOUND: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Library {
    Librdkafka,
    Java,
}

/// One client that writes.
pub struct Probe {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<Value>,
}

/// What a probe saw since it was told to begin.
#[derive(Clone, Debug)]
pub struct Report {
    /// Milliseconds, of each partition in order.
    pub longest: Vec<f64>,
    /// Since the last acknowledgement; `None` before the first.
    open: Vec<Option<f64>>,
    pub acked: u64,
    /// Records that the client gave up, by its name for the error.
    pub failed: Value,
}

impl Report {
    pub fn failures(&self) -> u64 {
        self.failed.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
    }

    /// Whether every partition was acknowledged so lately.
    fn flows(&self, lately: Duration) -> bool {
        let bound = lately.as_secs_f64() * 1_000.0;
        self.open.iter().all(|open| open.is_some_and(|open| open < bound))
    }

    pub fn worst(&self) -> f64 {
        self.longest.iter().copied().fold(0.0, f64::max)
    }
}

impl Probe {
    /// The topic exists.
    pub fn start(library: Library, bootstrap: &str, topic: &str, partitions: i32) -> Result<Probe> {
        let (partitions, interval) = (partitions.to_string(), INTERVAL.as_millis().to_string());
        match library {
            Library::Librdkafka => {
                let mut command = clients::python_command("failover_probe.py")?;
                command.args(["--bootstrap", bootstrap, "--topic", topic]);
                command.args(["--partitions", &partitions, "--interval-ms", &interval]);
                command.args(["--producers", &PRODUCERS.to_string()]);
                Self::spawn(library, command)
            }
            Library::Java => Self::spawn(library, java([bootstrap, topic, &partitions, &interval])?),
        }
    }

    /// A client of Java's that reads what others write from now on.
    pub fn reader(bootstrap: &str, topic: &str, partitions: i32) -> Result<Probe> {
        Self::spawn(Library::Java, java([bootstrap, topic, &partitions.to_string(), "read"])?)
    }

    fn spawn(library: Library, mut command: Command) -> Result<Probe> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("cannot start the probe of {library:?}"))?;
        let commands = child.stdin.take().context("its input is ours")?;
        let stdout = child.stdout.take().context("its output is ours")?;
        let (sender, answers) = sync_channel(16);
        thread::Builder::new().name(format!("answers of {library:?}")).spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(answer) = serde_json::from_str(&line) else { continue };
                if sender.send(answer).is_err() {
                    return;
                }
            }
        })?;
        Ok(Probe { child, commands, answers })
    }

    pub fn command(&mut self, line: &str) -> Result<()> {
        writeln!(self.commands, "{line}").context("the probe has ended")
    }

    pub fn answer(&mut self, bound: Duration) -> Result<Value> {
        self.answers.recv_timeout(bound).context("the probe does not answer")
    }

    pub fn begin(&mut self) -> Result<()> {
        self.command("begin")?;
        self.answer(ANSWER_BOUND).map(drop)
    }

    pub fn report(&mut self) -> Result<Report> {
        self.command("report")?;
        let answer = self.answer(ANSWER_BOUND)?;
        let list = |name: &str| answer.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(Report {
            longest: list("longest").iter().filter_map(Value::as_f64).collect(),
            open: list("open").iter().map(Value::as_f64).collect(),
            acked: answer.get("acked").and_then(Value::as_u64).unwrap_or_default(),
            failed: answer.get("failed").cloned().unwrap_or_default(),
        })
    }

    /// Until every partition has been written once more.
    pub fn wait_flowing(&mut self) -> Result<Report> {
        let since = Instant::now();
        wait::until("every partition to be written", SILENCE_BOUND, || {
            let lately = since.elapsed();
            let report = self.report()?;
            Ok(report.flows(lately).then_some(report))
        })
    }
}

fn java(arguments: [&str; 4]) -> Result<Command> {
    let source = place::manifests().join("clients/java/FailoverProbe.java");
    let mut command = oracle::java(&source.display().to_string(), 256)?;
    command.args(arguments);
    Ok(command)
}

impl Drop for Probe {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Until no partition has had a long gap for a while: what has just started is slow, a Java virtual machine for a minute perhaps. Answers
/// with what the probes saw last, calm or not when `bound` has passed.
pub fn wait_calm(probes: &mut [Probe], bound: Duration) -> Result<Vec<Report>> {
    let began = Instant::now();
    loop {
        let reports = strike(probes, || Ok(()))?;
        let is_calm = reports.iter().all(|report| report.worst() < CALM_GAP.as_secs_f64() * 1_000.0);
        if is_calm || began.elapsed() > bound {
            return Ok(reports);
        }
    }
}

/// Does something to the cluster under the probes' eyes. Answers when every partition is written again, with what each probe saw.
pub fn strike(probes: &mut [Probe], strike: impl FnOnce() -> Result<()>) -> Result<Vec<Report>> {
    for probe in &mut *probes {
        probe.wait_flowing()?;
        probe.begin()?;
    }
    strike()?;
    aftermath(probes)
}

/// What the probes saw of a fault that has just struck, once every partition is written again.
pub fn aftermath(probes: &mut [Probe]) -> Result<Vec<Report>> {
    let struck = Instant::now();
    let rest = || STRIKES.saturating_sub(struck.elapsed());
    wait::until("the fault to show", STRIKES * 2, || Ok(rest().is_zero().then_some(())))?;
    probes.iter_mut().map(Probe::wait_flowing).collect()
}

/// What the cluster tells its clients of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub leader: i64,
    pub replicas: usize,
    pub in_sync: usize,
}

/// Every partition of a topic, in order.
pub fn placed(bootstrap: &str, topic: &str) -> Result<Vec<Placed>> {
    let answer = clients::kcat(&["-L", "-J", "-m", "10", "-b", bootstrap, "-t", topic], None)?;
    let answer: Value = serde_json::from_slice(&answer).context("kcat -L -J prints JSON")?;
    let partitions = answer.pointer("/topics/0/partitions").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut found: Vec<(i64, Placed)> = Vec::new();
    for partition in &partitions {
        let number = |name: &str| partition.get(name).and_then(Value::as_i64);
        let count = |name: &str| partition.get(name).and_then(Value::as_array).map_or(0, Vec::len);
        let (Some(index), Some(leader)) = (number("partition"), number("leader")) else {
            bail!("not a partition: {partition}")
        };
        found.push((index, Placed { leader, replicas: count("replicas"), in_sync: count("isrs") }));
    }
    found.sort_by_key(|(index, _)| *index);
    Ok(found.into_iter().map(|(_, placed)| placed).collect())
}

/// The ports at which clients are told to find the storage nodes: those of the gateways that stand for them.
pub fn ports(bootstrap: &str) -> Result<BTreeMap<i64, String>> {
    let answer = clients::kcat(&["-L", "-J", "-m", "10", "-b", bootstrap], None)?;
    let answer: Value = serde_json::from_slice(&answer).context("kcat -L -J prints JSON")?;
    let brokers = answer.get("brokers").and_then(Value::as_array).cloned().unwrap_or_default();
    let port = |broker: &Value| {
        Some((broker.get("id")?.as_i64()?, broker.get("name")?.as_str()?.split_once(':')?.1.to_owned()))
    };
    Ok(brokers.iter().filter_map(port).collect())
}

/// Until every partition of the topics has a leader and all replicas in sync.
pub fn wait_whole(bootstrap: &str, topics: &[&str], bound: Duration) -> Result<()> {
    for topic in topics {
        wait::until(&format!("all replicas of {topic} to be in sync"), bound, || {
            // While nothing can be reached, nothing is whole.
            let Ok(placed) = placed(bootstrap, topic) else { return Ok(None) };
            let whole = |placed: &Placed| placed.leader >= 0 && placed.in_sync == placed.replicas;
            Ok((!placed.is_empty() && placed.iter().all(whole)).then_some(()))
        })?;
    }
    Ok(())
}

/// Until a replica of every partition of the topic is known to be out of sync.
pub fn wait_short(bootstrap: &str, topic: &str, bound: Duration) -> Result<()> {
    wait::until(&format!("replicas of {topic} to be out of sync"), bound, || {
        let Ok(placed) = placed(bootstrap, topic) else { return Ok(None) };
        Ok((!placed.is_empty() && placed.iter().all(|placed| placed.in_sync < placed.replicas)).then_some(()))
    })
}

/// Until every partition of the topic has a leader.
pub fn wait_led(bootstrap: &str, topic: &str, bound: Duration) -> Result<()> {
    wait::until(&format!("leaders of {topic}"), bound, || {
        let Ok(placed) = placed(bootstrap, topic) else { return Ok(None) };
        Ok((!placed.is_empty() && placed.iter().all(|placed| placed.leader >= 0)).then_some(()))
    })
}

/// The node that leads most, of those that are not spared.
pub fn first_leader(placed: &[Placed], spared: Option<u16>) -> Result<u16> {
    let count = |id: i64| placed.iter().filter(|other| other.leader == id).count();
    let leaders = placed.iter().map(|placed| placed.leader).filter(|id| spared.map(i64::from) != Some(*id));
    let best = leaders.max_by_key(|id| count(*id));
    best.and_then(|id| u16::try_from(id).ok()).context("nobody leads anything")
}
