//! The power goes, in the middle of load, and with it everything that no disk had: of one storage node, of a minority of everything, of all.
//!
//! Every storage node and controller has its data on a disk of ours. Whoever loses power is killed first, all of them before any is
//! waited for, and then the disks lose what was not synced, each in its own way. After each cycle every record ever acknowledged must
//! be there, which is why the contract's bound (no more than `min.insync.replicas - 1` disks *replaced*) does not matter here: none is.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use history_checker::judge;
use tests_e2e::cluster::Role;

use crate::client::reader::read_all;
use crate::cluster::{Cluster, Plan};
use crate::disk::Faults;
use crate::disk::content::Cut;
use crate::journal::Journal;
use crate::network::Network;
use crate::patience;
use crate::random::Random;
use crate::run::{tell_outcome, tell_verdict};
use crate::wire::{Gateways, Topic};
use crate::workload::{Client, Library};

const PLAN: Plan = Plan { controllers: 3, storage_nodes: 3, gateways: 1, controller_disks: true };
const PARTITIONS: i32 = 6;
const ANSWER_BOUND: Duration = Duration::from_secs(5);
const START_BOUND: Duration = Duration::from_secs(120);
const READ_BOUND: Duration = Duration::from_secs(120);
const CLIENT_HOST: u8 = 41;
const LAST_READER: u32 = 1_000_000;
const PAUSE: Duration = Duration::from_millis(5);
/// Load between two cuts, at most.
const LOAD_MS: u64 = 1_500;

/// What is asked of a run.
#[derive(Clone, Debug)]
pub struct Options {
    pub cycles: u64,
    pub seed: u64,
    pub sabotage: Sabotage,
    pub folder: PathBuf,
}

/// The test of the test: with any of these, all nodes losing power at once loses acknowledged records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Sabotage {
    None,
    /// Disks say that they have synced, and have not.
    LyingDisks,
    /// The topic asks for no sync before an acknowledgement (`thalweg.durability=page-cache`).
    PageCache,
}

/// Who loses power.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extent {
    OneNode,
    /// One storage node and one controller.
    Minority,
    /// All storage nodes and controllers.
    All,
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no variant is skipped");
        f.write_str(value.get_name())
    }
}

/// Whether all was well; what was not is printed.
pub fn run(options: &Options) -> Result<bool> {
    let mut absent = Vec::new();
    let network = Network::new()?;
    let mut cluster = Cluster::new(PLAN, &network, &options.folder, &mut absent)?;
    let on_disks = cluster.all(Role::Storage).iter().all(|&at| cluster.member(at).disk.is_some());
    if !on_disks {
        println!("power-loss: mechanism absent, NOT tested: {}", absent.join("; "));
        return Ok(true);
    }
    let topic = Topic { name: "ledger".to_owned(), partitions: PARTITIONS };
    let mut wrong = Vec::new();
    let mut told = String::new();
    if let Err(error) = cycles(options, &network, &mut cluster, &topic, &mut wrong, &mut told) {
        wrong.push(format!("{error:#}"));
    }
    wrong.append(&mut cluster.complaints);
    wrong.extend(cluster.broken());
    tell_outcome("power-loss", &wrong, options.seed, &options.folder, &told)
}

fn cycles(
    options: &Options,
    network: &Network,
    cluster: &mut Cluster,
    topic: &Topic,
    wrong: &mut Vec<String>,
    told: &mut String,
) -> Result<()> {
    let start = Instant::now();
    let mut random = Random::new(options.seed);
    let mut gateways = Gateways::new(&cluster.bootstrap(), ANSWER_BOUND);
    cluster.start_all(network)?;
    let durability = if options.sabotage == Sabotage::PageCache { "page-cache" } else { "fsync" };
    let configs = [("min.insync.replicas", "2"), ("thalweg.durability", durability)];
    gateways.create(topic, &configs, START_BOUND)?;
    gateways.wait_whole(topic, START_BOUND)?;
    if options.sabotage == Sabotage::LyingDisks {
        for at in cluster.all(Role::Storage) {
            let disk = cluster.member(at).disk.as_ref();
            disk.into_iter().for_each(|disk| disk.set(Faults { forgets_syncs: true, ..Faults::default() }));
        }
    }
    let host = network.host("client", CLIENT_HOST)?;
    let bootstrap = cluster.bootstrap();
    let mut client =
        Client::start(Library::Ours, network, &host, &bootstrap, topic, 0, &mut random, &options.folder, PAUSE)?;
    for cycle in 1..=options.cycles {
        thread::sleep(Duration::from_millis(LOAD_MS / 3 + random.below(LOAD_MS)));
        let extent = *random.pick(&[Extent::OneNode, Extent::Minority, Extent::All]);
        let victims = victims(cluster, extent, &mut random);
        cluster.kill(&victims)?;
        let mut cuts = Vec::new();
        for &at in &victims {
            let cut = *random.pick(&Cut::ALL);
            if let Some(disk) = &mut cluster.member_mut(at).disk {
                disk.cut_power(cut, &mut random)?;
            }
            cuts.push(format!("{} {cut:?}", cluster.member(at)));
        }
        *told += &format!("{:7.1} s  cycle {cycle}: {}\n", start.elapsed().as_secs_f64(), cuts.join(", "));
        victims.iter().try_for_each(|&at| cluster.start(network, at))?;
        let whole = patience::until("every replica to be in sync", Cluster::RECOVERY_BOUND, || {
            cluster.revive(network)?;
            gateways.is_whole(topic)
        });
        if let Err(error) = whole {
            wrong.push(format!("cycle {cycle}: {error:#}"));
            break;
        }
        client.expect_running()?;
    }
    client.stop()?;
    client.wait_stopped()?;
    let ends = gateways.ends(topic, READ_BOUND)?;
    client.finish(&ends)?;
    if let Err(error) = client.wait() {
        wrong.push(format!("{error:#}"));
    }
    let mut journal = Journal::default();
    client.add_to(&mut journal)?;
    journal.read("the last reader", &read_all(&cluster.bootstrap(), topic, LAST_READER, READ_BOUND)?)?;
    wrong.append(&mut journal.complaints);
    fs::write(options.folder.join("history"), journal.text())?;
    let history = journal.history()?;
    let verdict = judge(&history);
    wrong.extend(tell_verdict("power-loss", &verdict, &history, &options.folder)?);
    let seconds = start.elapsed().as_secs();
    println!(
        "power-loss: {} cycles in {seconds} s, seed {}, sabotage {}",
        options.cycles, options.seed, options.sabotage
    );
    Ok(())
}

fn victims(cluster: &Cluster, extent: Extent, random: &mut Random) -> Vec<usize> {
    let (storage, controllers) = (cluster.all(Role::Storage), cluster.all(Role::Controller));
    match extent {
        Extent::OneNode => vec![*random.pick(&storage)],
        Extent::Minority => vec![*random.pick(&storage), *random.pick(&controllers)],
        Extent::All => [storage, controllers].concat(),
    }
}
