//! Files of a storage node are damaged, under a node that is down and under one that runs: no wrong byte is served, every acknowledged record
//! is read, once, the damaged replicas are fetched anew, and what was damaged is still there to be looked at (S2, S3, R13).

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "end-to-end tests start processes and read clocks"
)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests_e2e::clients::{self, Client, Codec, Produce};
use tests_e2e::cluster::{Cluster, ClusterSpec, Role};
use tests_e2e::history::{self, Promise};
use tests_e2e::record::{Ack, Record};
use tests_e2e::scenario::packages;
use tests_e2e::{failover, place, wait};

const PARTITIONS: i32 = 6;
/// Enough for segments of several blocks each.
const RECORDS: usize = 4_000;
/// Of the topic with one replica, each acknowledged before the next is sent: no batch holds records of two of them.
const PORTION: usize = 20;
const BOUND: Duration = Duration::from_secs(60);
const BLOCK: usize = 4096;
/// The whole directory is read again and again.
const SCRUB: &str = "scrub_cycle_s = 1\nscrub_mib_per_s = 64";

const FOUND: &str = "thalweg_log_damage_found_total";
const QUARANTINED: &str = "thalweg_log_replicas_quarantined_total";
const DAMAGED: &str = "thalweg_damaged_replicas";

/// A topic, what was sent to it and where it was acknowledged to be.
struct Written<'a> {
    bootstrap: &'a str,
    topic: &'static str,
    sent: Vec<Record>,
    acks: Vec<Ack>,
}

impl Written<'_> {
    fn send(&mut self, records: &[Record]) -> Result<()> {
        let job = Produce::new(self.bootstrap, self.topic, Codec::None).idempotent();
        let acks = Client::Confluent.produce(&job, records)?;
        ensure!(acks.len() == records.len(), "{} of {} were acknowledged", acks.len(), records.len());
        let before = self.sent.len();
        self.acks.extend(acks.into_iter().map(|ack| Ack { n: ack.n + before, ..ack }));
        self.sent.extend_from_slice(records);
        Ok(())
    }

    /// Every record once, where it was acknowledged, byte for byte.
    fn expect_all(&self, when: &str) -> Result<()> {
        let seen = Client::Confluent.consume(self.bootstrap, self.topic, &[]).context(when.to_owned())?;
        ensure!(seen.len() == self.sent.len(), "{when}: {} of {}", seen.len(), self.sent.len());
        history::judge(&self.sent, &self.acks, &seen, Promise::ExactlyOnce, true).context(when.to_owned())
    }
}

/// `thalweg debug verify`: its exit code, and everything it said.
fn verify(directory: &Path) -> Result<(Option<i32>, String)> {
    let output = Command::new(place::binary("thalweg")?).args(["debug", "verify"]).arg(directory).output()?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.code(), text))
}

fn expect_sound(directory: &Path) -> Result<()> {
    let (code, text) = verify(directory)?;
    ensure!(code == Some(0) && text.contains(": 0 findings"), "{code:?}: {text}");
    Ok(())
}

/// The folder of each replica of a node, as `<topic id>-<partition>`.
fn replicas(data: &Path) -> Result<BTreeSet<String>> {
    let names = fs::read_dir(data.join("log/partitions"))?.map(|entry| Ok(entry?.file_name().into_string().ok()));
    Ok(names.collect::<Result<Vec<_>>>()?.into_iter().flatten().filter(|name| !name.contains(".quarantine-")).collect())
}

fn set_aside(data: &Path) -> Result<Vec<PathBuf>> {
    let paths = fs::read_dir(data.join("log/partitions"))?.map(|entry| Ok(entry?.path()));
    let paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.to_string_lossy().contains(".quarantine-")).collect())
}

/// The first segment of a replica.
fn segment(data: &Path, replica: &str) -> PathBuf {
    data.join("log/partitions").join(replica).join(format!("{:020}.log", 0))
}

fn used(file: &Path) -> Result<usize> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map(|last| last + 1)
        .with_context(|| format!("{} is empty", file.display()))
}

/// In place, as a disk does it: nobody who has the file open notices.
fn flip(file: &Path, position: usize) -> Result<()> {
    let handle = File::options().read(true).write(true).open(file)?;
    let mut byte = [0];
    handle.read_exact_at(&mut byte, position as u64)?;
    handle.write_all_at(&[byte[0] ^ 0x10], position as u64)?;
    Ok(())
}

fn swap_blocks(file: &Path) -> Result<()> {
    ensure!(used(file)? > 3 * BLOCK, "{} is too short", file.display());
    let handle = File::options().read(true).write(true).open(file)?;
    let (mut one, mut other) = ([0; BLOCK], [0; BLOCK]);
    handle.read_exact_at(&mut one, BLOCK as u64)?;
    handle.read_exact_at(&mut other, 2 * BLOCK as u64)?;
    handle.write_all_at(&other, BLOCK as u64)?;
    handle.write_all_at(&one, 2 * BLOCK as u64)?;
    Ok(())
}

/// The journal that was written last, and as much of the derived state as there is.
fn damage_the_rest(data: &Path) -> Result<()> {
    let mut journals: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(data.join("log/journal"))? {
        journals.push(entry?.path());
    }
    journals.sort_by_key(|path| used(path).ok());
    let newest = journals.last().context("no journal")?;
    flip(newest, used(newest)? / 2)?;
    for entry in fs::read_dir(data.join("derived"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == "CURRENT" || name.ends_with(".sst") || name.ends_with(".log") {
            let length = fs::metadata(&path)?.len() as usize;
            if length > 0 {
                flip(&path, length / 2)?;
            }
        }
    }
    Ok(())
}

fn wait_metric(cluster: &Cluster, node: u16, name: &str, at_least: f64) -> Result<()> {
    let what = format!("{name} of storage {node} to be {at_least}");
    wait::until(&what, BOUND, || Ok((cluster.metric(Role::Storage, node, name)? >= at_least).then_some(())))
}

/// Everyone leads what they led at first.
fn elect_preferred(bootstrap: &str) -> Result<()> {
    let output =
        Command::new(place::binary("thalweg")?).args(["partitions", "elect", "--bootstrap", bootstrap]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn damaged_replicas_serve_nothing_wrong_and_come_back_whole_and_the_only_copy_stays() -> Result<()> {
    let spec = ClusterSpec { config: vec![(Role::Storage, SCRUB)], ..ClusterSpec::default() };
    let mut cluster = Cluster::start(spec)?;
    let bootstrap = cluster.bootstrap();
    clients::create_topics(&bootstrap, &[&format!("damage:{PARTITIONS}:3:min.insync.replicas=2"), "single:1:1"])?;
    let input = packages::records(RECORDS)?;
    let (first, second) = input.split_at(input.len() * 3 / 4);
    let written = |topic| Written { bootstrap: &bootstrap, topic, sent: Vec::new(), acks: Vec::new() };
    let (mut damage, mut single) = (written("damage"), written("single"));
    damage.send(first)?;
    for portion in first.chunks(PORTION).take(3) {
        single.send(portion)?;
    }

    // Stopped in order, each has everything in segments, and nothing in memory afterwards.
    for node in 1..=3 {
        cluster.terminate(Role::Storage, node)?;
        expect_sound(&cluster.data_dir(Role::Storage, node)?)?;
        cluster.restart(Role::Storage, node)?;
        cluster.wait_ready(BOUND)?;
        failover::wait_whole(&bootstrap, &["damage", "single"], BOUND)?;
    }
    let host = u16::try_from(failover::placed(&bootstrap, "single")?[0].leader)?;
    let (victim, other) = (host % 3 + 1, (host + 1) % 3 + 1);
    // What comes now is in the journals alone.
    damage.send(second)?;

    down(&mut cluster, victim, &damage)?;
    running(&cluster, other, &damage)?;
    only_copy(&cluster, host, &single)?;

    for node in [victim, other] {
        cluster.terminate(Role::Storage, node)?;
        let data = cluster.data_dir(Role::Storage, node)?;
        let (code, text) = verify(&data)?;
        ensure!(
            code == Some(0) && text.contains("set aside or left over"),
            "what was set aside is told and no fault: {text}"
        );
        cluster.restart(Role::Storage, node)?;
        cluster.wait_ready(BOUND)?;
        failover::wait_whole(&bootstrap, &["damage"], BOUND)?;
    }
    damage.expect_all("at the end")
}

/// Every kind of file of a node that was killed.
fn down(cluster: &mut Cluster, victim: u16, damage: &Written<'_>) -> Result<()> {
    let data = cluster.data_dir(Role::Storage, victim)?;
    cluster.kill9(Role::Storage, victim)?;
    expect_sound(&data)?;
    let replicas: Vec<String> = replicas(&data)?.into_iter().collect();
    ensure!(replicas.len() == PARTITIONS as usize, "{replicas:?}");
    let harmed: Vec<PathBuf> = replicas[..3].iter().map(|replica| segment(&data, replica)).collect();
    flip(&harmed[0], used(&harmed[0])? / 2)?;
    File::options().write(true).open(&harmed[1])?.set_len(used(&harmed[1])? as u64 / 2)?;
    swap_blocks(&harmed[2])?;
    damage_the_rest(&data)?;
    let (code, text) = verify(&data)?;
    ensure!(code == Some(1) && text.contains("findings that do not heal by themselves"), "{code:?}: {text}");
    for name in &replicas[..3] {
        ensure!(text.contains(name), "{name} is not told: {text}");
    }

    cluster.restart(Role::Storage, victim)?;
    cluster.wait_ready(BOUND)?;
    damage.expect_all("while the node heals")?;
    wait_metric(cluster, victim, QUARANTINED, 3.0)?;
    wait::until("no replica to be damaged", BOUND, || {
        Ok((cluster.metric(Role::Storage, victim, DAMAGED)? == 0.0).then_some(()))
    })?;
    failover::wait_whole(damage.bootstrap, &["damage"], BOUND)?;
    // It leads again, and what it serves is what it fetched.
    elect_preferred(damage.bootstrap)?;
    damage.expect_all("after the node has healed")?;
    let aside = set_aside(&data)?;
    for (replica, harmed) in replicas.iter().zip(&harmed) {
        let of_it = |path: &&PathBuf| path.to_string_lossy().contains(replica.as_str());
        let path = aside.iter().find(of_it).with_context(|| format!("{replica} was not set aside: {aside:?}"))?;
        ensure!(!fs::read_to_string(path.join("cause"))?.is_empty());
        let kept = path.join(harmed.file_name().unwrap_or_default());
        ensure!(used(&kept)? > 0, "{}", kept.display());
    }
    Ok(())
}

/// Segments of a node that leads, while it leads. The scrub finds what nobody reads.
fn running(cluster: &Cluster, node: u16, damage: &Written<'_>) -> Result<()> {
    let data = cluster.data_dir(Role::Storage, node)?;
    elect_preferred(damage.bootstrap)?;
    let leads = failover::placed(damage.bootstrap, "damage")?;
    let led = leads.iter().position(|placed| placed.leader == i64::from(node)).context("it leads nothing")?;
    // Replicas of both topics end with their number; the one of the only copy is on another node.
    let all = replicas(&data)?;
    let harmed: Vec<&String> = all
        .iter()
        .filter(|name| [led, (led + 1) % leads.len()].iter().any(|index| name.ends_with(&format!("-{index}"))))
        .collect();
    ensure!(harmed.len() == 2, "{all:?}");
    for name in &harmed {
        let file = segment(&data, name);
        flip(&file, used(&file)? / 3)?;
    }
    damage.expect_all("while the damaged node leads")?;
    wait_metric(cluster, node, FOUND, 2.0)?;
    wait_metric(cluster, node, QUARANTINED, 2.0)?;
    failover::wait_whole(damage.bootstrap, &["damage"], BOUND)?;
    elect_preferred(damage.bootstrap)?;
    damage.expect_all("after the running node has healed")?;
    let aside = set_aside(&data)?;
    for name in harmed {
        ensure!(aside.iter().any(|path| path.to_string_lossy().contains(name.as_str())), "{name}: {aside:?}");
    }
    Ok(())
}

/// It stays where it is, refuses what is damaged and serves what is whole.
fn only_copy(cluster: &Cluster, host: u16, single: &Written<'_>) -> Result<()> {
    let data = cluster.data_dir(Role::Storage, host)?;
    let all = replicas(&data)?;
    let topic = |name: &str| name.rsplit_once('-').map(|(id, _)| id.to_owned());
    // The only one of its topic.
    let own: Vec<&String> =
        all.iter().filter(|name| all.iter().filter(|other| topic(other) == topic(name)).count() == 1).collect();
    let [replica] = &own[..] else { bail!("{all:?}") };
    let file = segment(&data, replica);
    let before = used(&file)?;
    // Behind the head of the first batch.
    flip(&file, 80)?;
    wait_metric(cluster, host, DAMAGED, 1.0)?;
    let place = ["--bootstrap", single.bootstrap, "--topic", single.topic, "--partition", "0", "--timeout-ms", "2000"];
    let refused = clients::python("confluent_consume.py", &place);
    ensure!(refused.as_ref().is_err_and(|error| format!("{error:#}").contains("nothing for")), "{refused:?}");
    let from = PORTION.to_string();
    let whole =
        ["-C", "-q", "-e", "-b", single.bootstrap, "-t", single.topic, "-p", "0", "-o", &from, "-f", "%o %k\\n"];
    let whole = String::from_utf8(clients::kcat(&whole, None)?)?;
    let expected = single.sent.iter().enumerate().skip(PORTION).map(|(offset, record)| {
        format!("{offset} {}\n", String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()))
    });
    ensure!(whole == expected.collect::<String>(), "{whole}");
    ensure!(used(&file)? == before && cluster.metric(Role::Storage, host, DAMAGED)? == 1.0);
    ensure!(!set_aside(&data)?.iter().any(|path| path.to_string_lossy().contains(replica.as_str())));
    Ok(())
}

/// Each may hold what the other lacks, so neither goes, whoever leads and whoever begins a new life meanwhile.
#[test]
fn of_two_copies_that_are_damaged_in_different_places_both_stay() -> Result<()> {
    let spec = ClusterSpec { config: vec![(Role::Storage, SCRUB)], ..ClusterSpec::default() };
    let mut cluster = Cluster::start(spec)?;
    let bootstrap = cluster.bootstrap();
    clients::create_topics(&bootstrap, &["pair:1:2"])?;
    let mut pair = Written { bootstrap: &bootstrap, topic: "pair", sent: Vec::new(), acks: Vec::new() };
    pair.send(&packages::records(RECORDS / 4)?)?;
    let leader = u16::try_from(failover::placed(&bootstrap, "pair")?[0].leader)?;
    let mut follower = None;
    for node in (1..=3).filter(|node| *node != leader) {
        if !replicas(&cluster.data_dir(Role::Storage, node)?)?.is_empty() {
            follower = Some(node);
        }
    }
    let follower = follower.context("nobody follows")?;
    // Stopped in order, each has everything in its segment.
    for node in [leader, follower] {
        cluster.terminate(Role::Storage, node)?;
        cluster.restart(Role::Storage, node)?;
        cluster.wait_ready(BOUND)?;
        failover::wait_whole(&bootstrap, &["pair"], BOUND)?;
    }
    let file = |node: u16| -> Result<PathBuf> {
        let data = cluster.data_dir(Role::Storage, node)?;
        let name = replicas(&data)?.into_iter().next().context("no replica")?;
        Ok(segment(&data, &name))
    };
    let files = [file(leader)?, file(follower)?];

    // The one is the only one in sync when its damage is found; the other's is found as soon as it is opened.
    cluster.terminate(Role::Storage, follower)?;
    flip(&files[0], used(&files[0])? / 4)?;
    wait_metric(&cluster, leader, DAMAGED, 1.0)?;
    File::options().write(true).open(&files[1])?.set_len(used(&files[1])? as u64 / 2)?;
    cluster.restart(Role::Storage, follower)?;
    cluster.wait_ready(BOUND)?;
    wait_metric(&cluster, follower, DAMAGED, 1.0)?;

    for node in [leader, follower] {
        cluster.kill9(Role::Storage, node)?;
        cluster.restart(Role::Storage, node)?;
        cluster.wait_ready(BOUND)?;
        failover::wait_led(&bootstrap, "pair", BOUND)?;
        for node in [leader, follower] {
            wait_metric(&cluster, node, DAMAGED, 1.0)?;
        }
    }
    for (node, file) in [leader, follower].into_iter().zip(&files) {
        let aside = set_aside(&cluster.data_dir(Role::Storage, node)?)?;
        ensure!(aside.is_empty() && used(file)? > 0, "storage {node}: {aside:?}");
    }
    Ok(())
}
