//! One run of chaos, from an empty folder to a verdict.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use history_checker::{History, Verdict, judge};

use crate::client::reader::read_all;
use crate::cluster::{Cluster, Plan};
use crate::journal::Journal;
use crate::nemesis::{Strikes, is_possible};
use crate::network::{Host, Network};
use crate::random::Random;
use crate::schedule::{Kind, Schedule};
use crate::wire::{Gateways, Topic};
use crate::workload::{Client, Library};

const ANSWER_BOUND: Duration = Duration::from_secs(5);
const START_BOUND: Duration = Duration::from_secs(120);
const READ_BOUND: Duration = Duration::from_secs(120);
const PLAN: Plan = Plan { controllers: 3, storage_nodes: 4, gateways: 2, controller_disks: false };
const PARTITIONS: i32 = 8;
const CLIENT_HOSTS: u8 = 41;
/// The last reader, behind the names of all clients.
const LAST_READER: u32 = 1_000_000;
/// Between two sends of a producer, each of up to ten records.
const PAUSE: Duration = Duration::from_millis(100);
/// Undisturbed, between rounds.
const REST: Duration = Duration::from_secs(1);
/// A kind that met nobody comes again so often.
const TRIES_MAX: u32 = 3;

/// What is asked of a run.
#[derive(Clone, Debug)]
pub struct Options {
    pub minutes: u64,
    pub seed: u64,
    /// Nothing else; all if empty.
    pub only: Vec<Kind>,
    /// A lost disk takes all others but one with it.
    pub sabotage: bool,
    /// Where everything is kept.
    pub folder: PathBuf,
}

/// The rest is in the folder.
const TOLD_MAX: usize = 20;

/// How often each kind was tried, and how often it met somebody.
type Counts = BTreeMap<Kind, (u32, u32)>;

struct Run {
    options: Options,
    network: Network,
    cluster: Cluster,
    topic: Topic,
    gateways: Gateways,
    hosts: Vec<Host>,
    clients: Vec<Client>,
    counts: Counts,
    /// Schedule and events, as they came.
    told: String,
    /// What must not be.
    wrong: Vec<String>,
    start: Instant,
}

/// Whether all was well; what was not is printed.
pub fn run(options: Options) -> Result<bool> {
    let mut run = Run::begin(options)?;
    let result = run.strike_and_finish();
    run.report(result)
}

impl Run {
    fn begin(options: Options) -> Result<Run> {
        let network = Network::new()?;
        let mut absent: Vec<String> = network.shortcomings().into_iter().map(str::to_owned).collect();
        let cluster = Cluster::new(PLAN, &network, &options.folder, &mut absent)?;
        for what in absent {
            println!("chaos: mechanism absent: {what}");
        }
        let topic = Topic { name: "ledger".to_owned(), partitions: PARTITIONS };
        let gateways = Gateways::new(&cluster.bootstrap(), ANSWER_BOUND);
        let mut run = Run {
            options,
            network,
            cluster,
            topic,
            gateways,
            hosts: Vec::new(),
            clients: Vec::new(),
            counts: Counts::new(),
            told: String::new(),
            wrong: Vec::new(),
            start: Instant::now(),
        };
        run.cluster.start_all(&run.network)?;
        run.gateways.create(&run.topic, &[("min.insync.replicas", "2")], START_BOUND)?;
        run.gateways.wait_whole(&run.topic, START_BOUND)?;
        let mut random = Random::new(run.options.seed).split();
        for (place, library) in Library::ALL.into_iter().enumerate() {
            let host = run.network.host(library.name(), CLIENT_HOSTS + place as u8)?;
            let bootstrap = run.cluster.bootstrap();
            let (folder, pause) = (run.options.folder.clone(), PAUSE);
            let client = Client::start(
                library,
                &run.network,
                &host,
                &bootstrap,
                &run.topic,
                place as u32,
                &mut random,
                &folder,
                pause,
            )?;
            run.clients.push(client);
            run.hosts.push(host);
        }
        Ok(run)
    }

    fn strike_and_finish(&mut self) -> Result<()> {
        self.strike()?;
        self.finish()
    }

    /// Rounds until the time is over and every kind has met somebody.
    fn strike(&mut self) -> Result<()> {
        let mut schedule = Schedule::new(self.options.seed, self.options.minutes);
        let wanted: Vec<Kind> =
            if self.options.only.is_empty() { Kind::ALL.to_vec() } else { self.options.only.clone() };
        let wanted: Vec<Kind> =
            wanted.into_iter().filter(|&kind| is_possible(kind, &self.network, &self.cluster)).collect();
        let time = Duration::from_secs(self.options.minutes * 60);
        self.start = Instant::now();
        loop {
            let open = wanted.iter().any(|kind| {
                let (tried, struck) = self.counts.get(kind).copied().unwrap_or_default();
                struck == 0 && tried < TRIES_MAX
            });
            let over = self.start.elapsed() > time;
            if over && !open {
                break;
            }
            let mut round = schedule.next_round();
            round.retain(|strike| wanted.contains(&strike.kind));
            if over {
                // Only for what is missing.
                round.retain(|strike| self.counts.get(&strike.kind).is_none_or(|(_, struck)| *struck == 0));
            }
            if round.is_empty() {
                continue;
            }
            let seconds = round.iter().map(|strike| strike.seconds).max().unwrap_or_default();
            let end = Instant::now() + Duration::from_secs(seconds);
            let mut under_way = Vec::new();
            for strike in &round {
                self.say(&strike.to_string());
                under_way.push((strike.kind, self.strikes().begin(*strike)?));
            }
            thread::sleep(end.saturating_duration_since(Instant::now()));
            for (kind, undo) in under_way {
                let struck = self.strikes().end(undo)?;
                let counts = self.counts.entry(kind).or_default();
                counts.0 += 1;
                counts.1 += u32::from(struck);
                self.say(&format!("{kind:?} is over, {}", if struck { "it struck" } else { "it met nobody" }));
            }
            self.strikes().wait_whole()?;
            self.say("whole again");
            self.clients.iter_mut().try_for_each(Client::expect_running)?;
            thread::sleep(REST);
        }
        for kind in wanted {
            if self.counts.get(&kind).is_none_or(|(_, struck)| *struck == 0) {
                self.wrong.push(format!("{kind:?} met nobody"));
            }
        }
        Ok(())
    }

    /// Everything is well again: who sent comes to an end, who reads catches up, and everything is read once more.
    fn finish(&mut self) -> Result<()> {
        self.clients.iter_mut().try_for_each(Client::stop)?;
        self.clients.iter_mut().try_for_each(Client::wait_stopped)?;
        let ends = self.gateways.ends(&self.topic, READ_BOUND)?;
        self.say(&format!("the ends are {ends:?}"));
        self.clients.iter_mut().try_for_each(|client| client.finish(&ends))?;
        for client in &mut self.clients {
            if let Err(error) = client.wait() {
                self.wrong.push(format!("{error:#}"));
            }
        }
        let mut journal = Journal::default();
        self.clients.iter().try_for_each(|client| client.add_to(&mut journal))?;
        let last = read_all(&self.cluster.bootstrap(), &self.topic, LAST_READER, READ_BOUND);
        let last = last.context("the last reading of everything")?;
        fs::write(self.options.folder.join("last.journal"), &last)?;
        journal.read("the last reader", &last)?;
        self.wrong.append(&mut journal.complaints);
        fs::write(self.options.folder.join("history"), journal.text())?;
        let history = journal.history()?;
        let verdict = judge(&history);
        self.wrong.extend(tell_verdict("chaos", &verdict, &history, &self.options.folder)?);
        Ok(())
    }

    fn strikes(&mut self) -> Strikes<'_> {
        Strikes {
            cluster: &mut self.cluster,
            network: &self.network,
            clients: &self.hosts,
            topic: &self.topic,
            gateways: &mut self.gateways,
            sabotaged: self.options.sabotage,
        }
    }

    fn say(&mut self, words: &str) {
        let line = format!("{:7.1} s  {words}", self.start.elapsed().as_secs_f64());
        println!("{line}");
        writeln!(self.told, "{line}").expect("a string takes everything");
    }

    fn report(mut self, result: Result<()>) -> Result<bool> {
        if let Err(error) = result {
            self.wrong.push(format!("{error:#}"));
        }
        self.wrong.append(&mut self.cluster.complaints);
        self.wrong.extend(self.cluster.broken());
        for (kind, (tried, struck)) in &self.counts {
            println!("chaos: {kind:?}: {tried} times, {struck} of them met somebody");
        }
        let strikes: u32 = self.counts.values().map(|(_, struck)| struck).sum();
        let minutes = self.start.elapsed().as_secs_f64() / 60.0;
        println!("chaos: {strikes} strikes in {minutes:.1} minutes, seed {}", self.options.seed);
        tell_outcome("chaos", &self.wrong, self.options.seed, &self.options.folder, &self.told)
    }
}

/// Prints the verdict, all of it if it is not clean, and gives what is wrong.
pub fn tell_verdict(what: &str, verdict: &Verdict, history: &History, folder: &Path) -> Result<Vec<String>> {
    let told = verdict.told(history).to_string();
    fs::write(folder.join("verdict"), &told)?;
    if !verdict.is_clean() {
        println!("{told}");
        return Ok(vec![format!("{} anomalies", verdict.anomalies.len())]);
    }
    // What follows is what a producer that is not idempotent must expect.
    println!("{what}: {}", told.lines().next().unwrap_or_default());
    if verdict.judged.acknowledged == 0 || verdict.judged.records_read == 0 {
        return Ok(vec!["nothing was acknowledged or read".to_owned()]);
    }
    Ok(Vec::new())
}

/// Keeps the folder of what went wrong, and removes that of what did not.
pub fn tell_outcome(what: &str, wrong: &[String], seed: u64, folder: &Path, told: &str) -> Result<bool> {
    if wrong.is_empty() {
        println!("{what}: all is well");
        return Ok(true);
    }
    fs::write(folder.join("schedule"), told)?;
    fs::write(folder.join("wrong"), wrong.join("\n"))?;
    for line in wrong.iter().take(TOLD_MAX) {
        println!("{what}: WRONG: {line}");
    }
    if let Some(more) = wrong.len().checked_sub(TOLD_MAX).filter(|&more| more > 0) {
        println!("{what}: WRONG: and {more} more");
    }
    println!("{what}: failed with SEED={seed}; histories, logs and schedule are in {}", folder.display());
    Ok(false)
}
