//! What a fault costs those who write, to a cluster of ours and to Apache Kafka in the same run. Prints a table; judges nothing but that
//! every partition is written again and that no record is given up.
//!
//! ```text
//! make failover-bench [ROUNDS=n] [ONLY=kill,stop,hole,controller,gateway,restart,cold,lost] [SYSTEMS=ours,kafka]
//! ```
//!
//! 3 storage nodes, 3 controllers and 2 gateways beside three combined nodes of Apache Kafka; 200 partitions, RF 3, min ISR 2. 20 of them are
//! written by librdkafka and 180 by the Java client, each with its defaults, every 40 ms; a *gap* is the time between two
//! acknowledgements of one partition. Every gap of every partition and round counts.
//!
//! Few by librdkafka, because each batch of its is a request of its own: 100 would be 2,500 requests a second, more than Apache Kafka can
//! answer on two cores, and a cluster that is overloaded before anything dies says nothing about faults. For the same reason no fault
//! strikes before the cluster is calm.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark reads clocks and starts processes"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_e2e::clients;
use tests_e2e::failover::{self, Library, Placed, Probe, Report};

use system::{Part, System, Which};
use table::{Gaps, Table};

#[path = "failover/system.rs"]
mod system;
#[path = "failover/table.rs"]
mod table;

const ROUNDS: u32 = 3;
const TOPICS: [(Library, &str); 2] = [(Library::Librdkafka, "by-librdkafka"), (Library::Java, "by-java")];
/// Of each topic.
const PARTITIONS: [i32; 2] = [20, 180];
const MANY: i32 = 3_000;
const MANY_TOPICS: i32 = 15;
const FILL_MIB: u64 = 512;
const WHOLE_BOUND: Duration = Duration::from_secs(180);
const CREATE_BOUND: Duration = Duration::from_secs(120);
/// A virtual machine that has just started has compiled what it needs by then. Who is not calm then never will be, which the table shows.
const CALM_BOUND: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    // `cargo bench` passes `--bench`.
    let list = |name: &str, all: &str| -> Vec<String> {
        let given = std::env::var(name).ok().filter(|text| !text.is_empty()).unwrap_or_else(|| all.to_owned());
        given.split(',').map(str::to_owned).collect()
    };
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let lines = list("ONLY", "kill,stop,hole,controller,gateway,restart,lost,cold");
    let systems = list("SYSTEMS", "ours,kafka");
    let mut table = Table::default();
    for which in [Which::Ours, Which::Kafka] {
        if systems.iter().any(|name| name == which.name()) {
            let began = Instant::now();
            measure(which, &lines, rounds, &mut table).with_context(|| format!("measuring {}", which.name()))?;
            eprintln!("{} took {:.0} s", which.name(), began.elapsed().as_secs_f64());
        }
    }
    println!("{}", table.text(rounds));
    Ok(())
}

fn measure(which: Which, lines: &[String], rounds: u32, table: &mut Table) -> Result<()> {
    let wanted = |line: &str| lines.iter().any(|name| name == line);
    let mut system = System::start(which)?;
    let mut bench = Bench { probes: Vec::new(), table, which, rounds };
    let writing = ["kill", "stop", "hole", "controller", "gateway", "restart", "lost"];
    if writing.iter().any(|line| wanted(line)) {
        bench.start_probes(&system)?;
    }
    if wanted("kill") {
        bench.storage_fault(&mut system, Fault::Kill)?;
    }
    if wanted("stop") {
        bench.storage_fault(&mut system, Fault::Stop)?;
    }
    if wanted("hole") {
        bench.storage_fault(&mut system, Fault::Hole)?;
    }
    if wanted("controller") {
        bench.kill_controller(&mut system)?;
    }
    if wanted("gateway") && which == Which::Ours {
        bench.kill_gateway(&mut system)?;
    }
    if wanted("restart") {
        bench.restart_all(&mut system)?;
    }
    if wanted("lost") {
        bench.lose_data(&mut system)?;
    }
    bench.probes.clear();
    if wanted("cold") {
        bench.cold_start(&mut system)?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Stop,
    Hole,
}

struct Bench<'a> {
    /// In the order of [`TOPICS`].
    probes: Vec<Probe>,
    table: &'a mut Table,
    which: Which,
    rounds: u32,
}

impl Bench<'_> {
    fn start_probes(&mut self, system: &System) -> Result<()> {
        let bootstrap = system.bootstrap();
        for ((library, topic), partitions) in TOPICS.into_iter().zip(PARTITIONS) {
            clients::create_topics(&bootstrap, &[&format!("{topic}:{partitions}:3:min.insync.replicas=2")])?;
            let mut probe = Probe::start(library, &bootstrap, topic, partitions)?;
            probe.wait_flowing()?;
            self.probes.push(probe);
        }
        Ok(())
    }

    /// What the clients see when nothing happens, just before something does.
    fn calm(&mut self) -> Result<()> {
        let reports = failover::wait_calm(&mut self.probes, CALM_BOUND)?;
        self.say("no fault", &reports);
        self.add("no fault", &reports, |_, _| true);
        Ok(())
    }

    fn placed(&self, system: &System) -> Result<Vec<Vec<Placed>>> {
        TOPICS.iter().map(|(_, topic)| failover::placed(&system.bootstrap(), topic)).collect()
    }

    fn heal(&mut self, system: &mut System) -> Result<()> {
        system.wait_ready()?;
        failover::wait_whole(&system.bootstrap(), &TOPICS.map(|(_, topic)| topic), WHOLE_BOUND)
    }

    /// Adds what the probes saw of the partitions for which `counts` says so.
    fn add(&mut self, line: &'static str, reports: &[Report], counts: impl Fn(usize, usize) -> bool) {
        for (topic, (report, (library, _))) in reports.iter().zip(TOPICS).enumerate() {
            let gaps = report.longest.iter().enumerate();
            let counted = gaps.filter(|(partition, _)| counts(topic, *partition)).map(|(_, gap)| *gap);
            self.table.gaps(line, self.which, library).add(counted, report.failures());
        }
    }

    fn say(&self, what: &str, reports: &[Report]) {
        for (report, (library, _)) in reports.iter().zip(TOPICS) {
            let gaps = Gaps::of(&report.longest);
            eprintln!("{}: {what}, {library:?}: {gaps}, failed {}", self.which.name(), report.failed);
        }
    }

    /// A storage node that leads something, each time the one that leads most, dies, stands still, or is heard no more. One fault shows
    /// what losing a leader costs and what losing a follower does.
    fn storage_fault(&mut self, system: &mut System, fault: Fault) -> Result<()> {
        let (leader, follower) = match fault {
            Fault::Kill => ("kill -9 of the leader", "kill -9 of a follower"),
            Fault::Stop => ("SIGSTOP of the leader", "SIGSTOP of a follower"),
            Fault::Hole => ("black-holed leader", "black-holed follower"),
        };
        for round in 0..self.rounds {
            let placed = self.placed(system)?;
            let victim = failover::first_leader(&placed.concat(), system.spared()?)?;
            self.calm()?;
            let reports = failover::strike(&mut self.probes, || match fault {
                Fault::Kill => system.kill(Part::Storage(victim)),
                Fault::Stop => system.stand_still(victim, true),
                Fault::Hole => system.cut_off(victim, true),
            })?;
            self.say(&format!("{leader}, round {round}"), &reports);
            let led = |topic: usize, partition: usize| placed[topic][partition].leader == i64::from(victim);
            self.add(leader, &reports, led);
            self.add(follower, &reports, |topic, partition| !led(topic, partition));
            match fault {
                Fault::Kill => system.start_again(Part::Storage(victim))?,
                Fault::Stop => system.stand_still(victim, false)?,
                Fault::Hole => system.cut_off(victim, false)?,
            }
            self.heal(system)?;
        }
        Ok(())
    }

    fn kill_controller(&mut self, system: &mut System) -> Result<()> {
        for round in 0..self.rounds {
            let victim = system.active_controller()?;
            self.calm()?;
            let probes = &mut self.probes;
            for probe in &mut *probes {
                probe.wait_flowing()?;
                probe.begin()?;
            }
            system.kill(victim)?;
            probes[0].command(&format!("create after-controller-{round} 1 3"))?;
            let created = ms(&probes[0].answer(CREATE_BOUND)?, "created_ms")?;
            let reports = failover::aftermath(probes)?;
            self.say(
                &format!("kill -9 of the active controller, round {round}, topic after {created:.0} ms"),
                &reports,
            );
            self.add("kill -9 of the active controller", &reports, |_, _| true);
            self.table.gaps("… until a topic is created", self.which, Library::Librdkafka).add([created], 0);
            system.start_again(victim)?;
            self.heal(system)?;
        }
        Ok(())
    }

    fn kill_gateway(&mut self, system: &mut System) -> Result<()> {
        for round in 0..self.rounds {
            let victim = Part::Gateway(1 + (round % 2) as u16);
            self.calm()?;
            let reports = failover::strike(&mut self.probes, || system.kill(victim))?;
            self.say(&format!("kill -9 of a gateway, round {round}"), &reports);
            self.add("kill -9 of a gateway", &reports, |_, _| true);
            system.start_again(victim)?;
            self.heal(system)?;
            // Clients come back to a gateway only after a while, on purpose; then this round's is used again.
            system.wait_returned()?;
        }
        Ok(())
    }

    fn restart_all(&mut self, system: &mut System) -> Result<()> {
        let topics = TOPICS.map(|(_, topic)| topic);
        for part in system.parts() {
            self.calm()?;
            let reports = failover::strike(&mut self.probes, || {
                system.terminate(part)?;
                system.start_again(part)?;
                system.wait_ready()?;
                failover::wait_whole(&system.bootstrap(), &topics, WHOLE_BOUND)?;
                // As after a kill: a gateway is of use to its clients when it is named again, and only then is the other one stopped.
                if matches!(part, Part::Gateway(_)) { system.wait_returned() } else { Ok(()) }
            })?;
            self.say(&format!("planned restart of {part:?}"), &reports);
            self.add("planned restart of every process in turn", &reports, |_, _| true);
        }
        Ok(())
    }

    fn lose_data(&mut self, system: &mut System) -> Result<()> {
        self.probes[0].command(&format!("fill {FILL_MIB}"))?;
        self.probes[0].answer(WHOLE_BOUND)?;
        self.heal(system)?;
        let victim = 2;
        let bytes = system.data_bytes(victim)?;
        system.kill(Part::Storage(victim))?;
        // An old answer must not be taken for the new state.
        for (_, topic) in TOPICS {
            failover::wait_short(&system.bootstrap(), topic, WHOLE_BOUND)?;
        }
        system.lose_data(victim)?;
        let began = Instant::now();
        system.start_again(Part::Storage(victim))?;
        failover::wait_whole(&system.bootstrap(), &TOPICS.map(|(_, topic)| topic), WHOLE_BOUND)?;
        let took = began.elapsed().as_secs_f64();
        let rate = bytes as f64 / 1e6 / took;
        eprintln!(
            "{}: {:.0} MB lost, all in sync after {took:.1} s, {rate:.0} MB/s",
            self.which.name(),
            bytes as f64 / 1e6
        );
        self.table.say(
            "a data directory is lost",
            self.which,
            format!("{:.0} MB in {took:.1} s, {rate:.0} MB/s", bytes as f64 / 1e6),
        );
        Ok(())
    }

    fn cold_start(&mut self, system: &mut System) -> Result<()> {
        let names: Vec<String> = (0..MANY_TOPICS).map(|number| format!("many-{number}")).collect();
        for name in &names {
            clients::create_topics(
                &system.bootstrap(),
                &[&format!("{name}:{}:3:min.insync.replicas=2", MANY / MANY_TOPICS)],
            )?;
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        failover::wait_whole(&system.bootstrap(), &names, WHOLE_BOUND)?;
        let mut took = Vec::new();
        for _ in 0..self.rounds {
            for part in system.parts() {
                system.kill(part)?;
            }
            let began = Instant::now();
            for part in system.parts() {
                system.start_again(part)?;
            }
            for name in &names {
                failover::wait_led(&system.bootstrap(), name, WHOLE_BOUND)?;
            }
            took.push(began.elapsed().as_secs_f64());
            eprintln!("{}: cold start, all led after {:.1} s", self.which.name(), took[took.len() - 1]);
            system.wait_ready()?;
            failover::wait_whole(&system.bootstrap(), &names, WHOLE_BOUND)?;
        }
        let shown: Vec<String> = took.iter().map(|seconds| format!("{seconds:.1} s")).collect();
        self.table.say("cold start, 3,000 partitions led", self.which, shown.join(", "));
        ensure!(!took.is_empty(), "no rounds");
        Ok(())
    }
}

fn ms(answer: &Value, name: &str) -> Result<f64> {
    answer.get(name).and_then(Value::as_f64).with_context(|| format!("no {name} in {answer}"))
}

/// By line, system and client.
type Cells<T> = BTreeMap<(&'static str, Which, Library), T>;
