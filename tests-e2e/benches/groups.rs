//! What many groups, and large ones, cost `thalweg dev` and Apache Kafka, over sockets: how soon everyone has partitions, how much
//! memory and processor time that takes, how soon partitions are handed on. Prints figures; judges nothing but that all is well.
//!
//! ```text
//! cargo bench --package tests-e2e --bench groups [-- kafka] [NAME]      after `cargo build --release --workspace --bins`
//! ```
//!
//! A member is a connection and a small state machine that speaks the protocol as clients do, without their threads: a thousand
//! of them take less than the server does.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark reads clocks and starts processes"
)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kafka_wire::k03_metadata::MetadataRequestTopic;
use kafka_wire::k19_create_topics::CreatableTopic;
use kafka_wire::{CreateTopicsRequest, FindCoordinatorRequest, KafkaString, MetadataRequest, Uuid};
use tests_e2e::dev::Dev;
use tests_e2e::oracle::{Kafka, OracleConfig};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, LocalSet};

use connection::Connection;

#[path = "groups/classic.rs"]
mod classic;
#[path = "groups/connection.rs"]
mod connection;
#[path = "groups/consumer.rs"]
mod consumer;

const BOUND: Duration = Duration::from_secs(180);

/// Members of the classic protocol, which are not told how often. Clients' default is 3 s.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// Before a coordinator that is not there yet (codes 14 to 16) is asked again.
const NOT_YET: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// Everything is given up for a rebalance.
    Eager,
    /// Only what others get is given up (KIP-429).
    Cooperative,
    /// KIP-848.
    Consumer,
}

/// A topic by its number, and a partition of it.
type Partition = (usize, i32);

/// What a member is told of the world.
struct Task {
    address: String,
    group: String,
    protocol: Protocol,
    topics: Vec<(KafkaString, Uuid)>,
    partitions: i32,
    board: Rc<Board>,
    leave: Notify,
}

/// Who owns what, by group and member.
#[derive(Default)]
struct Board {
    owned: RefCell<BTreeMap<(String, usize), BTreeSet<Partition>>>,
    changed: Notify,
}

impl Board {
    fn put(&self, group: &str, member: usize, owned: &BTreeSet<Partition>) {
        self.owned.borrow_mut().insert((group.to_owned(), member), owned.clone());
        self.changed.notify_one();
    }

    fn remove(&self, group: &str, member: usize) {
        self.owned.borrow_mut().remove(&(group.to_owned(), member));
        self.changed.notify_one();
    }

    /// Everyone has a share of the right size.
    fn is_shared(&self, members: usize, shares: &[usize]) -> bool {
        let owned = self.owned.borrow();
        owned.len() == members && owned.values().all(|owned| shares.contains(&owned.len()))
    }

    /// Nothing has two owners.
    fn check(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for ((group, member), owned) in self.owned.borrow().iter() {
            for partition in owned {
                ensure!(
                    seen.insert((group.clone(), *partition)),
                    "{partition:?} of {group} has two owners, one is {member}"
                );
            }
        }
        Ok(())
    }

    async fn shared(&self, members: usize, shares: &[usize]) -> Result<()> {
        let all = async {
            while !self.is_shared(members, shares) {
                self.changed.notified().await;
            }
        };
        if tokio::time::timeout(BOUND, all).await.is_err() {
            let owned = self.owned.borrow();
            let sizes: BTreeSet<usize> = owned.values().map(BTreeSet::len).collect();
            bail!("not within {BOUND:?}: {} of {members} members own {sizes:?} instead of {shares:?}", owned.len());
        }
        self.check()
    }
}

/// The one or two sizes of an even share.
fn shares(partitions: usize, members: usize) -> Vec<usize> {
    vec![partitions / members, partitions.div_ceil(members)]
}

enum Server {
    Thalweg(Dev),
    Kafka(Kafka),
}

impl Server {
    fn start(is_kafka: bool) -> Result<Server> {
        Ok(if is_kafka {
            Server::Kafka(Kafka::start(&OracleConfig::default())?)
        } else {
            Server::Thalweg(Dev::start()?)
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Server::Thalweg(_) => "thalweg",
            Server::Kafka(_) => "Apache Kafka",
        }
    }

    fn bootstrap(&self) -> String {
        match self {
            Server::Thalweg(dev) => dev.bootstrap(),
            Server::Kafka(kafka) => kafka.bootstrap(),
        }
    }

    fn usage(&mut self) -> Result<Usage> {
        let pid = match self {
            Server::Thalweg(dev) => dev.process().pid(),
            Server::Kafka(kafka) => kafka.process()?.pid(),
        };
        Usage::of(pid.context("it runs")?)
    }
}

struct Usage {
    cpu: Duration,
    resident_mib: f64,
    peak_mib: f64,
}

impl Usage {
    fn of(pid: u32) -> Result<Usage> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let mib = |name: &str| -> f64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
        };
        Ok(Usage { cpu: Duration::from_millis(ticks * 10), resident_mib: mib("VmRSS"), peak_mib: mib("VmHWM") })
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_kafka = arguments.iter().any(|argument| argument == "kafka");
    let only = arguments.iter().find(|argument| *argument != "kafka");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for protocol in [Protocol::Eager, Protocol::Cooperative, Protocol::Consumer] {
        let runs = [
            ("groups", protocol != Protocol::Cooperative),
            ("members", protocol != Protocol::Cooperative),
            ("rebalance", protocol != Protocol::Eager),
        ];
        for (name, runs_here) in runs {
            if runs_here && only.is_none_or(|only| only == name) {
                // A server of its own, so that memory is what this took.
                let mut server = Server::start(is_kafka)?;
                runtime.block_on(LocalSet::new().run_until(run(&mut server, name, protocol)))?;
            }
        }
    }
    Ok(())
}

async fn run(server: &mut Server, name: &str, protocol: Protocol) -> Result<()> {
    match name {
        "groups" => many_groups(server, protocol, 1_000).await,
        "members" => many_members(server, protocol, 1_000).await,
        _ => rebalance(server, protocol).await,
    }
}

/// A thousand groups of one member each, all at once.
async fn many_groups(server: &mut Server, protocol: Protocol, groups: usize) -> Result<()> {
    let topics = create(server, 1, 3).await?;
    let before = server.usage()?;
    let began = Instant::now();
    let board = Rc::new(Board::default());
    let members: Vec<Member> =
        (0..groups).map(|n| Member::start(server, &board, &format!("group-{n}"), 0, protocol, &topics, 3)).collect();
    board.shared(groups, &[3]).await?;
    report(server, &format!("{groups} groups of one member, {protocol:?}"), began.elapsed(), &before, &members).await
}

/// A thousand members of one group, all at once.
async fn many_members(server: &mut Server, protocol: Protocol, count: usize) -> Result<()> {
    let topics = create(server, 10, 100).await?;
    let before = server.usage()?;
    let began = Instant::now();
    let board = Rc::new(Board::default());
    let members: Vec<Member> =
        (0..count).map(|n| Member::start(server, &board, "large", n, protocol, &topics, 100)).collect();
    board.shared(count, &shares(1_000, count)).await?;
    report(server, &format!("one group of {count} members, {protocol:?}"), began.elapsed(), &before, &members).await
}

/// Ten members share 900 partitions; an eleventh comes, and goes.
async fn rebalance(server: &mut Server, protocol: Protocol) -> Result<()> {
    let topics = create(server, 9, 100).await?;
    let before = server.usage()?;
    let board = Rc::new(Board::default());
    let start = |n| Member::start(server, &board, "ten", n, protocol, &topics, 100);
    let began = Instant::now();
    let mut members: Vec<Member> = (0..10).map(start).collect();
    board.shared(10, &[90]).await?;
    let first = began.elapsed();
    // Long enough for a group to be at rest.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let began = Instant::now();
    members.push(start(10));
    board.shared(11, &shares(900, 11)).await?;
    let joined = began.elapsed();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let began = Instant::now();
    members[10].task.leave.notify_one();
    board.shared(10, &[90]).await?;
    let text = format!(
        "10 members and 900 partitions, {protocol:?}: an eleventh has its share after {joined:.2?}, and it is handed back {:.2?} \
         after it left; they began",
        began.elapsed()
    );
    report(server, &text, first, &before, &members).await
}

async fn report(server: &mut Server, what: &str, took: Duration, before: &Usage, members: &[Member]) -> Result<()> {
    for member in members {
        ensure!(!member.running.is_finished() || member.left(), "a member has ended by itself");
    }
    let after = server.usage()?;
    println!(
        "{}: {what}: shared after {took:.2?}; {:.2} s of CPU, resident {:.0} -> {:.0} MiB, at most {:.0}",
        server.name(),
        (after.cpu - before.cpu).as_secs_f64(),
        before.resident_mib,
        after.resident_mib,
        after.peak_mib,
    );
    // What it costs to let them live.
    const LIFE: Duration = Duration::from_secs(10);
    tokio::time::sleep(LIFE).await;
    let alive = server.usage()?;
    let per_cent = (alive.cpu - after.cpu).as_secs_f64() / LIFE.as_secs_f64() * 100.0;
    println!("    then {per_cent:.0} % of a core, resident {:.0} MiB", alive.resident_mib);
    members.iter().for_each(|member| member.running.abort());
    Ok(())
}

struct Member {
    task: Rc<Task>,
    number: usize,
    running: JoinHandle<()>,
}

impl Member {
    fn start(
        server: &Server,
        board: &Rc<Board>,
        group: &str,
        number: usize,
        protocol: Protocol,
        topics: &[(KafkaString, Uuid)],
        partitions: i32,
    ) -> Member {
        let task = Rc::new(Task {
            address: server.bootstrap(),
            group: group.to_owned(),
            protocol,
            topics: topics.to_vec(),
            partitions,
            board: board.clone(),
            leave: Notify::new(),
        });
        let running = tokio::task::spawn_local({
            let task = task.clone();
            async move {
                let lived = match task.protocol {
                    Protocol::Eager | Protocol::Cooperative => classic::live(&task, number).await,
                    Protocol::Consumer => consumer::live(&task, number).await,
                };
                if let Err(error) = lived {
                    eprintln!("member {number} of {}: {error:#}", task.group);
                }
            }
        });
        Member { task, number, running }
    }

    fn left(&self) -> bool {
        !self.task.board.owned.borrow().contains_key(&(self.task.group.clone(), self.number))
    }
}

/// A connection to the coordinator, found as clients do.
async fn coordinator(task: &Task) -> Result<Connection> {
    let mut connection = Connection::open(&task.address).await?;
    let request = FindCoordinatorRequest {
        coordinator_keys: vec![task.group.as_str().into()],
        ..FindCoordinatorRequest::default()
    };
    loop {
        let answer = connection.ask(4, &request).await?;
        if answer.coordinators.first().is_some_and(|found| found.error_code == 0) {
            return Ok(connection);
        }
        tokio::time::sleep(NOT_YET).await;
    }
}

async fn create(server: &Server, topics: usize, partitions: i32) -> Result<Vec<(KafkaString, Uuid)>> {
    let names: Vec<KafkaString> = (0..topics).map(|n| KafkaString::from(format!("topic-{n}"))).collect();
    let mut connection = Connection::open(&server.bootstrap()).await?;
    let topic = |name: &KafkaString| CreatableTopic {
        name: name.clone(),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest {
        topics: names.iter().map(topic).collect(),
        timeout_ms: 60_000,
        ..CreateTopicsRequest::default()
    };
    let created = connection.ask(7, &request).await?;
    ensure!(created.topics.iter().all(|topic| topic.error_code == 0), "{created:?}");
    let named =
        |name: &KafkaString| MetadataRequestTopic { name: Some(name.clone()), ..MetadataRequestTopic::default() };
    let request = MetadataRequest { topics: Some(names.iter().map(named).collect()), ..MetadataRequest::default() };
    let deadline = Instant::now() + BOUND;
    let ids = loop {
        let answer = connection.ask(12, &request).await?;
        let led = answer.topics.iter().all(|topic| {
            topic.error_code == 0
                && topic.partitions.len() == partitions as usize
                && topic.partitions.iter().all(|partition| partition.leader_id >= 0)
        });
        if led {
            let id = |topic: kafka_wire::k03_metadata::MetadataResponseTopic| {
                (topic.name.unwrap_or_default(), topic.topic_id)
            };
            break answer.topics.into_iter().map(id).collect();
        }
        ensure!(Instant::now() < deadline, "no leaders");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // The groups' own topic is no part of what is measured.
    let task = Task {
        address: server.bootstrap(),
        group: "first".to_owned(),
        protocol: Protocol::Eager,
        topics: Vec::new(),
        partitions,
        board: Rc::default(),
        leave: Notify::new(),
    };
    coordinator(&task).await?;
    Ok(ids)
}
