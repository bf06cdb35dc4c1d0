//! Recorded conversations of a few replicas. A file in `scenarios/` is a list of commands, each followed by what came of it.
//! `UPDATE=1 cargo test -p replica-core --test scenarios` records anew; whoever changes a file reads the difference.
//!
//! | command | what happens |
//! |---|---|
//! | `cluster 3 isr=1,2,3 [min=N] [lag=MS] [connected]` | nodes with empty logs; `connected`: a stream from each to each |
//! | `begin N OFFSET` | retention has moved the (empty) log of node N on |
//! | `elect N [unclean]` · `isr 1,2` · `fence N` · `unfence N` · `say-again` | the controller decides, and tells nobody yet |
//! | `tell N…` or `tell all` | those nodes hear the controller's newest word |
//! | `recall N W` | node N hears the controller's word number W, however old |
//! | `connect F L` · `cut F L` · `vanish F L` | the stream from F to L begins; ends; ends and neither side notices |
//! | `deliver F->L [n]` · `late F->L` · `lose F->L` | the next letters of a stream; one of a stream that has ended; one is lost |
//! | `disk N [n]` | node N's disk finishes jobs, all of them by default |
//! | `limit BYTES` | `max.message.bytes` changes, everywhere |
//! | `full N` · `space N` · `break N` · `unreadable N` · `readable N` | what becomes of node N's disk |
//! | `produce N vX [acks=1] [records=R] [producer=ID/EPOCH/SEQUENCE] [epoch=E] [timeout=MS]` | |
//! | `trim N KEY [to=OFFSET] [timeout=MS]` | a gateway wants records deleted |
//! | `confirm N [timeout=MS]` | node N is asked whether it still leads, before a read |
//! | `accept` · `accept-silently` · `refuse` | the oldest proposal is decided and answered; decided, and the answer is lost; refused |
//! | `wait MS` | time passes, and nodes whose deadline has come are told |
//! | `settle` | everything under way arrives, in no time |
//! | `crash N [surviving=J]` · `restart N [wiped]` | power |
//! | `show` | every node |
//!
//! After each step the oracle of the properties looks on.
#![allow(clippy::disallowed_methods, reason = "a test reads its scenario files")]

#[path = "cluster/model.rs"]
mod cluster;

use std::fs;
use std::path::Path;

use base_types::{BrokerId, ErrorCode, LeaderEpoch, Offset};
use peer_api::storage::Acks;
use replica_core::Settings;

use cluster::Cluster;
use cluster::batch::Spec;

macro_rules! scenarios {
    ($($name:ident,)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*

        #[test]
        fn every_file_is_a_test() {
            let named = [$(concat!(stringify!($name), ".txt"),)*];
            let entries = fs::read_dir(Path::new("tests/scenarios")).expect("the scenarios are there");
            for file in entries.map(|entry| entry.expect("a readable directory").file_name()) {
                assert!(named.iter().any(|name| file == **name), "{file:?} is not tested");
            }
        }
    };
}

scenarios! {
    normal_replication,
    catch_up_by_reading,
    double_failover_kip_101,
    double_failover_kip_279,
    isr_shrinks_and_grows,
    proposal_with_lost_answer,
    withdrawn_proposal,
    refused_first_batch,
    min_isr_refuses_and_recovers,
    idempotent_producers,
    duplicates_before_limits,
    leader_change_with_pending_acks,
    start_over,
    time_outs,
    disk_full,
    disk_full_at_a_trim,
    disk_failure,
    late_messages,
    late_divergence,
    late_words_of_an_older_epoch,
    late_words_of_an_older_life,
    failed_disk_never_leads_again,
    cut_on_a_full_disk,
    cut_while_elected,
    restarted_leader,
    damaged_read,
    trims,
    trims_after_an_election,
    trims_up_to_a_follower_that_is_away,
    joining_needs_the_log_start,
    confirmations,
    unclean_election,
    unclean_election_and_deleted_records,
}

fn check(name: &str) {
    let path = format!("tests/scenarios/{name}.txt");
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    let played = play(&recorded);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, played).expect("the scenario can be written");
    } else {
        assert!(played == recorded, "{path} has changed; it plays now:\n{played}");
    }
}

/// Comments and commands are kept, everything else is what the commands print.
fn play(recorded: &str) -> String {
    let mut cluster = Cluster::new(1, Settings::default(), &[1]);
    let mut played = String::new();
    for line in recorded.lines() {
        if line.starts_with('#') {
            played.push_str(line);
            played.push('\n');
        } else if line.is_empty() {
            played.push('\n');
        } else if let Some(command) = line.strip_prefix("> ") {
            played.push_str(line);
            played.push('\n');
            cluster.trace = Some(Vec::new());
            Command::parse(command).run(&mut cluster);
            for line in cluster.trace.take().unwrap_or_default() {
                played.push_str("  ");
                played.push_str(&line);
                played.push('\n');
            }
        }
    }
    played
}

struct Command<'a> {
    verb: &'a str,
    words: Vec<&'a str>,
}

impl<'a> Command<'a> {
    fn parse(line: &'a str) -> Command<'a> {
        let mut words = line.split_whitespace();
        Command { verb: words.next().expect("a command"), words: words.collect() }
    }

    fn option(&self, name: &str) -> Option<&'a str> {
        self.words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn number(&self, name: &str, default: i64) -> i64 {
        self.option(name).map_or(default, |text| text.parse().expect("a number"))
    }

    fn flag(&self, name: &str) -> bool {
        self.words.contains(&name)
    }

    fn node(&self, at: usize) -> BrokerId {
        BrokerId(self.words[at].parse().expect("a node"))
    }

    fn count(&self, at: usize) -> usize {
        self.words.get(at).map_or(usize::MAX, |word| word.parse().expect("a count"))
    }

    fn list(text: &str) -> Vec<i32> {
        text.split(',').map(|word| word.parse().expect("a node")).collect()
    }

    /// `2->1`: letters from 2 to 1.
    fn direction(&self) -> (BrokerId, BrokerId) {
        let (from, to) = self.words[0].split_once("->").expect("from->to");
        (BrokerId(from.parse().expect("a node")), BrokerId(to.parse().expect("a node")))
    }

    fn run(&self, cluster: &mut Cluster) {
        match self.verb {
            "cluster" => *cluster = self.cluster(),
            "elect" if self.flag("unclean") => cluster.elect_uncleanly(self.node(0)),
            "elect" => cluster.controller.elect(self.node(0)),
            "isr" => cluster.controller.set_isr(Self::list(self.words[0]).into_iter().map(BrokerId).collect()),
            "fence" => cluster.controller.fence(self.node(0)),
            "say-again" => cluster.controller.say(),
            "begin" => cluster.begin(self.node(0), Offset(self.words[1].parse().expect("an offset"))),
            "unfence" => cluster.controller.unfence(self.node(0)),
            "tell" if self.flag("all") => cluster.ids().into_iter().for_each(|id| _ = cluster.tell(id, true)),
            "tell" => (0..self.words.len()).for_each(|at| _ = cluster.tell(self.node(at), true)),
            "recall" => cluster.recall(self.node(0), self.count(1)),
            "connect" => cluster.connect(self.node(0), self.node(1)),
            "cut" => cluster.disconnect(self.node(0), self.node(1), true, true),
            "vanish" => cluster.disconnect(self.node(0), self.node(1), false, false),
            "deliver" => (0..self.count(1).min(cluster.letters.len())).for_each(|_| self.deliver(cluster, false)),
            "late" => self.deliver(cluster, true),
            "lose" => {
                let index = self.letter(cluster, false).expect("a letter");
                cluster.lose(index);
            }
            "disk" => (0..self.count(1)).take_while(|_| cluster.finish_disk_job(self.node(0))).for_each(drop),
            "full" | "space" => self.disk(cluster).full = self.verb == "full",
            "break" => self.disk(cluster).broken = true,
            "unreadable" | "readable" => self.disk(cluster).unreadable = self.verb == "unreadable",
            "limit" => cluster.limit(self.words[0].parse().expect("a size")),
            "produce" => self.produce(cluster),
            "trim" => {
                let to = self.option("to").map(|text| Offset(text.parse().expect("an offset")));
                let key = self.words[1].parse().expect("a key");
                cluster.trim(self.node(0), key, to, self.number("timeout", 30_000) as u64);
            }
            "confirm" => cluster.confirm(self.node(0), self.number("timeout", 5_000) as u64),
            "accept" => {
                let (proposal, result) = cluster.decide(0);
                cluster
                    .note(|| format!("controller {}", result.as_ref().map_or_else(|code| code.name(), |_| "accepts")));
                cluster.answer(&proposal, result.map_err(Some));
            }
            "accept-silently" => drop(cluster.decide(0)),
            "refuse" => {
                let proposal = cluster.proposals.remove(0);
                cluster.answer(&proposal, Err(Some(ErrorCode::IneligibleReplica)));
            }
            "wait" => cluster.advance(self.words[0].parse().expect("milliseconds")),
            "settle" => cluster.settle(),
            "crash" => cluster.crash(self.node(0), self.number("surviving", 0) as usize),
            "restart" => cluster.restart(self.node(0), self.flag("wiped")),
            "show" => {
                for id in cluster.ids() {
                    let line = cluster.describe(id);
                    cluster.note(|| line);
                }
            }
            verb => panic!("there is no command {verb}"),
        }
    }

    fn cluster(&self) -> Cluster {
        let isr = Self::list(self.option("isr").unwrap_or("1,2,3"));
        let settings = Settings {
            min_insync_replicas: self.number("min", 2) as usize,
            replica_lag_ms_max: self.number("lag", 30_000) as u64,
            ..Settings::default()
        };
        let mut cluster = Cluster::new(self.words[0].parse().expect("how many nodes"), settings, &isr);
        if self.flag("connected") {
            for follower in cluster.ids() {
                cluster.ids().into_iter().for_each(|leader| cluster.connect(follower, leader));
            }
        }
        cluster
    }

    fn disk<'c>(&self, cluster: &'c mut Cluster) -> &'c mut cluster::disk::Disk {
        &mut cluster.nodes.get_mut(&self.node(0)).expect("a node").disk
    }

    fn letter(&self, cluster: &Cluster, late: bool) -> Option<usize> {
        let (from, to) = self.direction();
        cluster.deliverable().into_iter().find(|&index| {
            let letter = &cluster.letters[index];
            letter.from == from && letter.to == to && cluster.is_late(letter) == late
        })
    }

    fn deliver(&self, cluster: &mut Cluster, late: bool) {
        if let Some(index) = self.letter(cluster, late) {
            cluster.deliver(index);
        } else {
            assert!(!late, "no such letter");
        }
    }

    fn produce(&self, cluster: &mut Cluster) {
        let node = self.node(0);
        let value = self.words[1].strip_prefix('v').and_then(|text| text.parse().ok()).expect("a value");
        let producer = self.option("producer").map(|text| {
            let mut parts = text.split('/').map(|part| part.parse::<i64>().expect("a number"));
            let mut part = || parts.next().expect("id/epoch/sequence");
            (part(), part() as i16, part() as i32)
        });
        let spec = Spec { value, records: self.number("records", 1) as i32, producer };
        let known = cluster.replica(node).map_or(LeaderEpoch::UNKNOWN, |replica| replica.leader_epoch());
        let epoch = LeaderEpoch(self.number("epoch", i64::from(known.0)) as i32);
        let acks = if self.option("acks") == Some("1") { Acks::Leader } else { Acks::All };
        cluster.append(node, epoch, acks, spec, self.number("timeout", 30_000) as u64);
    }
}
