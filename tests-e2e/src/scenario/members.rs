//! Consumer groups whose members live in processes of their own: what they own, what they saw, how long they were without records.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::faults::{self, Fault};
use crate::clients::{self, Client};
use crate::record::Record;

/// From the start of the processes until every group has shared its partitions.
const SHARE_BOUND: Duration = Duration::from_secs(60);

/// From the end of the load until every group has read and committed all of it.
const FINISH_BOUND: Duration = Duration::from_secs(120);

/// Lines that may wait between a process and its reader.
const LINES_WAITING_MAX: usize = 100_000;

/// What all groups read, and how.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    pub bootstrap: &'a str,
    pub topic: &'a str,
    pub partitions: i32,
    /// Of members of the classic protocol; the others have the brokers'.
    pub session: Duration,
}

/// A group, and a protocol with its assignor by the name that `confluent_members.py` gives it.
pub type NamedGroup = (String, &'static str);

/// One process with as many members of each of its groups.
pub struct Members {
    child: Child,
    lines: Receiver<Result<Value>>,
    owned: BTreeMap<(String, u64), BTreeSet<i64>>,
    told: Vec<Value>,
}

impl Members {
    pub fn start(task: &Task<'_>, groups: &[NamedGroup], members: usize) -> Result<Self> {
        let mut command = clients::python_command("confluent_members.py")?;
        command.args(["--bootstrap", task.bootstrap, "--topic", task.topic]);
        command.args(["--partitions", &task.partitions.to_string(), "--members", &members.to_string()]);
        command.args(["--session-ms", &task.session.as_millis().to_string()]);
        command.args(groups.iter().map(|(name, protocol)| format!("{name}={protocol}")));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let stdout = child.stdout.take().context("its output is ours")?;
        let (sender, lines) = sync_channel(LINES_WAITING_MAX);
        thread::Builder::new().name("lines of members".to_owned()).spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let line = line.map_err(anyhow::Error::from);
                let value =
                    line.and_then(|line| serde_json::from_str(&line).with_context(|| format!("no JSON: {line}")));
                if sender.send(value).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { child, lines, owned: BTreeMap::new(), told: Vec::new() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// What each member of the group that lives here owns.
    pub fn owned(&mut self, group: &str) -> Result<Vec<BTreeSet<i64>>> {
        loop {
            match self.lines.recv_timeout(Duration::ZERO) {
                Ok(line) => self.heard(line?)?,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the members of {group} have ended with {}", self.child.wait()?)
                }
            }
        }
        Ok(self.owned.iter().filter(|((name, _), _)| name == group).map(|(_, owned)| owned.clone()).collect())
    }

    /// Lets the groups read up to these ends, commit and leave. What each has to say in the end.
    pub fn finish(mut self, ends: &[i64]) -> Result<Vec<Done>> {
        let mut stdin = self.child.stdin.take().context("it was finished already")?;
        writeln!(stdin, "{}", serde_json::to_string(ends)?)?;
        let deadline = Instant::now() + FINISH_BOUND;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.heard(line?)?,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!("members do not finish within {FINISH_BOUND:?}"),
            }
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "members ended with {status}");
        std::mem::take(&mut self.told).iter().map(Done::from_json).collect()
    }

    fn heard(&mut self, line: Value) -> Result<()> {
        let text = |name: &str| line.get(name).and_then(Value::as_str).map(str::to_owned);
        match text("event").as_deref() {
            Some("owns") => {
                let group = text("group").context("a group")?;
                let member = line.get("member").and_then(Value::as_u64).context("a member")?;
                let partitions = line.get("partitions").and_then(Value::as_array).context("partitions")?;
                self.owned.insert((group, member), partitions.iter().filter_map(Value::as_i64).collect());
            }
            Some("done") => self.told.push(line),
            Some("behind") => bail!("groups do not get to the end: {line}"),
            Some("watched") => {
                // Each look goes to one group: the coordinator that is gone for a moment fails a few of them, not most.
                ensure!(
                    line["asked"].as_u64() > line["failed"].as_u64(),
                    "hardly anybody could be asked for offsets: {line}"
                );
            }
            _ => bail!("an unknown event: {line}"),
        }
        Ok(())
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        // They have ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether every partition has exactly one owner and nobody has two more than another.
pub fn is_shared(owned: &[BTreeSet<i64>], members: usize, partitions: i32) -> bool {
    let all: BTreeSet<i64> = owned.iter().flatten().copied().collect();
    let sizes = || owned.iter().map(BTreeSet::len);
    owned.len() == members
        && sizes().sum::<usize>() == all.len()
        && all.into_iter().eq(0..i64::from(partitions))
        && sizes().max().zip(sizes().min()).is_some_and(|(most, least)| most - least <= 1)
}

/// What a group saw until its end.
#[derive(Clone, Debug)]
pub struct Done {
    pub group: String,
    pub committed: Vec<i64>,
    /// Records that came more than once.
    pub again: u64,
    /// How often a member was given partitions.
    pub assignments: u64,
    /// Commits that were refused, by code.
    pub refused: String,
    /// What must never be: offsets that went back, lost commits, records that were left out.
    pub wrong: Vec<String>,
    /// The longest time without a record: for the group, and in one partition.
    pub pause: Duration,
    pub partition_pause: Duration,
}

impl Done {
    fn from_json(line: &Value) -> Result<Self> {
        let seconds = |name: &str| -> Result<Duration> {
            Ok(Duration::try_from_secs_f64(line[name].as_f64().with_context(|| format!("{name} in {line}"))?)?)
        };
        let number = |name: &str| line[name].as_u64().with_context(|| format!("{name} in {line}"));
        let list = |name: &str| line[name].as_array().with_context(|| format!("{name} in {line}"));
        let mut wrong: Vec<String> = list("wrong")?.iter().map(ToString::to_string).collect();
        wrong.extend(list("skipped")?.iter().map(|skipped| format!("not read (partition, from, to): {skipped}")));
        Ok(Self {
            group: line["group"].as_str().context("a group")?.to_owned(),
            committed: list("committed")?.iter().filter_map(Value::as_i64).collect(),
            again: number("again")?,
            assignments: number("assignments")?,
            refused: line["refused"].to_string(),
            wrong,
            pause: seconds("pause")?,
            partition_pause: seconds("partition_pause")?,
        })
    }
}

/// Groups of three members consume under load while the faults strike. Everything is read and committed in the end, no offset
/// goes back, and no acknowledged commit is lost. The topic exists.
pub fn consume_while_faults_strike(
    task: &Task<'_>,
    groups: &[NamedGroup],
    processes: usize,
    records: usize,
    faults: Vec<Fault<'_>>,
) -> Result<(faults::Outcome, Vec<Done>)> {
    const MEMBERS: usize = 3;
    let mut running: Vec<(Vec<NamedGroup>, Members)> = Vec::new();
    for part in groups.chunks(groups.len().div_ceil(processes)) {
        running.push((part.to_vec(), Members::start(task, part, MEMBERS)?));
    }
    crate::wait::until("every group to share its partitions", SHARE_BOUND, || {
        for (part, members) in &mut running {
            for (group, _) in part {
                if !is_shared(&members.owned(group)?, MEMBERS, task.partitions) {
                    return Ok(None);
                }
            }
        }
        Ok(Some(()))
    })?;
    let spread = |n: usize| (n % task.partitions as usize) as i32;
    let records: Vec<Record> = (0..records)
        .map(|n| Record { partition: Some(spread(n)), ..Record::text(&n.to_string(), &n.to_string()) })
        .collect();
    let outcome = faults::while_faults_strike(task.bootstrap, task.topic, Client::Confluent, true, &records, faults)?;
    ensure!(outcome.refused == 0, "{outcome:?}");
    // Every record is there once: the producer is idempotent, and nothing was refused.
    let mut ends = vec![0; task.partitions as usize];
    for n in 0..records.len() {
        ends[spread(n) as usize] += 1;
    }
    let mut done = Vec::new();
    for (_, members) in running {
        done.extend(members.finish(&ends)?);
    }
    for group in &done {
        ensure!(group.wrong.is_empty(), "group {}: {:?}", group.group, group.wrong);
        ensure!(group.committed == ends, "group {} committed {:?} of {ends:?}", group.group, group.committed);
    }
    ensure!(done.len() == groups.len(), "{} of {} groups have told", done.len(), groups.len());
    Ok((outcome, done))
}
