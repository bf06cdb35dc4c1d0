//! Random runs of one partition on three nodes, against a dumb twin that sees everything (`cluster/oracle.rs`).
//!
//! Each seed draws what may go wrong and how often, lets it happen for some hundred steps, checks every rule after every step,
//! then heals everything and demands that the partition comes to rest: all answered, all in the ISR, all logs equal.
//!
//! `SEED=n cargo test -p replica-core --release --test properties` replays one run and prints it (`UNCLEAN=1`: with unclean elections);
//! `SEEDS=n` runs so many.
//! A seed that ever failed is added to [`REGRESSIONS`] with its name, or to [`UNCLEAN_REGRESSIONS`].
#![allow(clippy::disallowed_methods, reason = "a test reads its seed from the environment")]

#[path = "cluster/model.rs"]
mod cluster;

use base_types::{BrokerId, ErrorCode, LeaderEpoch, Offset, Random, Sequence};
use peer_api::metadata::PartitionState;
use peer_api::storage::{Acks, AppendError};
use replica_core::{Replica, Role, Settings};

use cluster::Cluster;
use cluster::batch::Spec;
use cluster::controller::Proposal;

const SEEDS: u64 = 2_000;
const STEPS: usize = 500;

/// Seeds that found something once, or alone found what was broken on purpose. The name says what.
const REGRESSIONS: &[(&str, u64)] = &[
    ("a follower that holds what is committed and lags all the same joins and leaves the ISR without end", 1593),
    ("a joiner that has the high watermark and not the start of the epoch lacks what was committed", 236),
    ("an echo of `StartOver` drops what was acknowledged since", 363),
    ("a late answer of the controller takes the ISR back", 349),
    ("followers of the epoch before are believed under the next one", 394),
    ("a follower outside the ISR is cut by a leader that leads no more, which is harmless", 15997),
    ("an opening of an earlier life leaves the follower unheard", 2114),
];

/// Those with unclean elections.
const UNCLEAN_REGRESSIONS: &[(&str, u64)] =
    &[("an unclean leader acknowledges what it heard was committed and has not on its disk yet", 6651)];

#[test]
fn whatever_happens_nothing_acknowledged_is_lost() {
    if let Some(seed) = number("SEED") {
        let mut run = Run::new(seed);
        run.cluster.trace = Some(Vec::new());
        run.elects_uncleanly = number("UNCLEAN").is_some();
        run.play();
        return;
    }
    let mut seen = Seen::default();
    for seed in 0..number("SEEDS").unwrap_or(SEEDS) {
        seen.add(&Run::new(seed).play());
    }
    println!("{seen:?}");
    // A run in which nothing happened proves nothing.
    let Seen { acknowledged, committed, truncated, elections, proposals, refused_sequences } = seen;
    let all = [acknowledged, committed, truncated, elections, proposals, refused_sequences];
    assert!(all.into_iter().all(|count| count > 1_000), "too little has happened");
}

/// Runs of their own, so that those of the other seeds stay what they were.
#[test]
fn who_is_confirmed_misses_nothing_that_was_committed() {
    let mut confirmed = 0;
    for seed in 0..number("SEEDS").unwrap_or(SEEDS / 2) {
        let mut run = Run::new(seed);
        run.confirms = true;
        confirmed += run.play().cluster.oracle.confirmed;
    }
    println!("{confirmed} confirmed");
    assert!(confirmed > 1_000, "too little has happened");
}

/// What the elected leader had is kept by everyone, as after any election; whoever had more gives it up and says so.
#[test]
fn unclean_elections_take_what_the_leader_lacks_and_nothing_else() {
    let (mut lowered, mut acknowledged) = (0, 0);
    for seed in 0..number("SEEDS").unwrap_or(SEEDS / 2) {
        let mut run = Run::new(seed);
        run.elects_uncleanly = true;
        let run = run.play();
        lowered += run.cluster.oracle.lowered;
        acknowledged += run.cluster.oracle.acknowledged;
    }
    println!("{lowered} high watermarks went back, {acknowledged} acknowledged");
    assert!(lowered > 300 && acknowledged > 1_000, "too little has happened");
}

#[test]
fn regressions() {
    for &(name, seed) in REGRESSIONS {
        println!("{name}");
        Run::new(seed).play();
    }
    for &(name, seed) in UNCLEAN_REGRESSIONS {
        println!("{name}");
        let mut run = Run::new(seed);
        run.elects_uncleanly = true;
        run.play();
    }
}

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().expect("a number"))
}

/// How much there was to check.
#[derive(Debug, Default)]
struct Seen {
    acknowledged: usize,
    committed: usize,
    truncated: usize,
    elections: usize,
    proposals: usize,
    refused_sequences: usize,
}

impl Seen {
    fn add(&mut self, run: &Run) {
        self.acknowledged += run.cluster.oracle.acknowledged;
        self.committed += run.cluster.oracle.committed.len();
        self.truncated += run.cluster.oracle.truncated;
        self.elections += run.cluster.controller.state.leader_epoch.0 as usize;
        self.proposals += run.proposals;
        self.refused_sequences += run.refused_sequences;
    }
}

struct Run {
    seed: u64,
    random: Random,
    /// How often each fault comes, in a thousand actions; many are 0 in any one run.
    rates: Rates,
    cluster: Cluster,
    producers: Vec<Producer>,
    /// Answers of the controller on their way.
    decided: Vec<(Proposal, Result<PartitionState, ErrorCode>)>,
    next_value: u32,
    /// Whether it is also asked, before every action, who still leads.
    confirms: bool,
    /// Whether leaders are also elected from outside the ISR.
    elects_uncleanly: bool,
    proposals: usize,
    refused_sequences: usize,
}

#[derive(Debug)]
struct Rates {
    late: u64,
    break_stream: u64,
    lose_answer: u64,
    elect: u64,
    fence: u64,
    crash: u64,
    wipe: u64,
    disk_full: u64,
    disk_fails: u64,
    unreadable: u64,
    misbehave: u64,
}

/// An idempotent client: at most three batches without an answer, retried until there is one.
struct Producer {
    id: i64,
    epoch: i16,
    next: i32,
    unanswered: Vec<Spec>,
    answered: Vec<Spec>,
}

/// Names the seed when a run panics.
impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_trace();
            eprintln!("seed {} failed; SEED={} replays it; {:?}", self.seed, self.seed, self.rates);
        }
    }
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random::new(seed);
        let settings = Settings {
            min_insync_replicas: random.between(1, 2) as usize,
            replica_lag_ms_max: random.between(300, 2_000),
            ..Settings::default()
        };
        let isr = [&[1, 2, 3][..], &[1, 2, 3], &[1, 2], &[1]][random.below(4) as usize];
        let mut cluster = Cluster::new(3, settings, isr);
        if isr == [1] && random.chance(700) {
            cluster.begin(BrokerId(1), Offset(100));
        }
        let rates = Rates::draw(&mut random);
        let producer = |id: i64, next: i32| Producer { id, epoch: 0, next, unanswered: vec![], answered: vec![] };
        let producers = vec![producer(7, 0), producer(8, i32::MAX - 10)];
        Run {
            seed,
            random,
            rates,
            cluster,
            producers,
            decided: Vec::new(),
            next_value: 0,
            confirms: false,
            elects_uncleanly: false,
            proposals: 0,
            refused_sequences: 0,
        }
    }

    fn play(mut self) -> Run {
        let first = self.cluster.controller.state.isr[0];
        self.cluster.controller.elect(first);
        for _ in 0..STEPS {
            if self.confirms && self.random.chance(100) {
                let (id, timeout_ms) = (self.node(), self.random.between(50, 3_000));
                if self.cluster.replica(id).is_some() {
                    self.cluster.confirm(id, timeout_ms);
                }
            }
            if self.elects_uncleanly && self.random.chance(10) {
                let id = self.node();
                let is_up = self.cluster.replica(id).is_some() && !self.cluster.controller.fenced.contains(&id);
                if is_up && !self.cluster.controller.state.isr.contains(&id) {
                    self.cluster.note(|| format!("{id} is elected uncleanly"));
                    self.cluster.elect_uncleanly(id);
                }
            }
            self.act();
            self.hear_answers();
            self.print_trace();
        }
        self.heal();
        self
    }

    fn print_trace(&mut self) {
        if let Some(trace) = &mut self.cluster.trace {
            trace.drain(..).for_each(|line| println!("{line}"));
        }
    }

    fn node(&mut self) -> BrokerId {
        BrokerId(self.random.between(1, 3) as i32)
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        all.get(self.random.below(all.len() as u64) as usize).cloned()
    }

    fn act(&mut self) {
        if self.random.chance(120) {
            return self.fault();
        }
        match self.random.below(100) {
            0..30 => {
                let late = self.random.chance(self.rates.late);
                self.deliver(late);
            }
            30..58 => {
                let id = self.node();
                self.cluster.finish_disk_job(id);
            }
            58..72 => self.append(),
            72..80 => {
                let (id, newest) = (self.node(), self.random.chance(500));
                if !self.cluster.tell(id, newest) && self.random.chance(300) {
                    let back = self.random.below(4) as usize;
                    self.cluster.tell_again(id, back);
                }
            }
            80..86 => self.connect(),
            86..91 => self.decide(),
            91..95 => self.answer(),
            _ => {
                let ms = self.random.between(1, 200);
                self.cluster.advance(ms);
            }
        }
    }

    fn fault(&mut self) {
        let Rates { break_stream, elect, fence, crash, disk_full, disk_fails, unreadable, .. } = self.rates;
        let id = self.node();
        let is_up = self.cluster.replica(id).is_some();
        if self.random.chance(break_stream) {
            let leader = self.node();
            let (follower_notices, leader_notices) = (self.random.chance(500), self.random.chance(500));
            self.cluster.disconnect(id, leader, follower_notices, leader_notices);
        }
        let controller = &mut self.cluster.controller;
        if self.random.chance(elect) && controller.state.isr.contains(&id) && !controller.fenced.contains(&id) {
            controller.elect(id);
        }
        if self.random.chance(fence) && !controller.fenced.contains(&id) {
            controller.fence(id);
        } else if controller.fenced.contains(&id) && is_up && self.random.chance(300) {
            controller.unfence(id);
        }
        if !is_up {
            if self.random.chance(400) {
                // A disk may be replaced only where the others have everything (R13).
                let others_hold = controller.state.isr.iter().any(|&member| member != id);
                let wiped = others_hold && self.random.chance(self.rates.wipe);
                self.cluster.note(|| format!("{id} starts, wiped: {wiped}"));
                self.cluster.restart(id, wiped);
            }
        } else if self.random.chance(crash) {
            let surviving = self.random.below(4) as usize;
            self.cluster.note(|| format!("{id} crashes"));
            self.cluster.crash(id, surviving);
        }
        let random = &mut self.random;
        let disk = &mut self.cluster.nodes.get_mut(&id).expect("a node").disk;
        disk.full = if disk.full { random.chance(700) } else { random.chance(disk_full) };
        disk.unreadable = if disk.unreadable { random.chance(600) } else { random.chance(unreadable) };
        disk.broken |= is_up && random.chance(disk_fails);
    }

    fn deliver(&mut self, late: bool) {
        let letters = self.cluster.deliverable();
        let letters: Vec<usize> =
            letters.into_iter().filter(|&index| self.cluster.is_late(&self.cluster.letters[index]) == late).collect();
        if let Some(index) = self.pick(&letters) {
            if late && self.random.chance(200) {
                self.cluster.lose(index);
            } else {
                self.cluster.note(|| if late { "(late)".to_owned() } else { String::new() });
                self.cluster.deliver(index);
            }
        }
    }

    /// A node looks for its leader; now and then though it has a stream.
    fn connect(&mut self) {
        let id = self.node();
        let Some(Role::Follower { leader }) = self.cluster.replica(id).map(Replica::role) else { return };
        let is_open = self.cluster.streams.get(&(id, leader)).is_some_and(|stream| stream.open);
        if !is_open || self.random.chance(self.rates.break_stream / 10) {
            self.cluster.connect(id, leader);
        }
    }

    fn decide(&mut self) {
        if self.cluster.proposals.is_empty() {
            return;
        }
        self.proposals += 1;
        let index = self.random.below(self.cluster.proposals.len() as u64) as usize;
        if self.random.chance(self.rates.lose_answer / 2) {
            let proposal = self.cluster.proposals.remove(index);
            if self.random.chance(500) {
                // It is still on its way when the owner gives up on it.
                self.cluster.answer(&proposal, Err(None));
                self.cluster.proposals.push(proposal);
            }
            return;
        }
        let decided = self.cluster.decide(index);
        if self.random.chance(self.rates.lose_answer) {
            self.cluster.answer(&decided.0, Err(None));
        } else {
            self.decided.push(decided);
        }
    }

    fn answer(&mut self) {
        if !self.decided.is_empty() {
            let index = self.random.below(self.decided.len() as u64) as usize;
            let (proposal, result) = self.decided.remove(index);
            self.cluster.answer(&proposal, result.map_err(Some));
        }
    }

    fn append(&mut self) {
        let node = match self.cluster.controller.state.leader {
            Some(leader) if self.random.chance(850) => leader,
            _ => self.node(),
        };
        let Some(known) = self.cluster.replica(node).map(Replica::leader_epoch) else { return };
        let epoch = if self.random.chance(950) { known } else { LeaderEpoch(known.0 - 1) };
        let acks = if self.random.chance(800) { Acks::All } else { Acks::Leader };
        let timeout_ms = self.random.between(50, 3_000);
        let spec = if self.random.chance(300) { self.plain() } else { self.idempotent() };
        self.cluster.note(|| format!("{node} is sent {spec:?} with {acks:?} under e{epoch}"));
        self.cluster.append(node, epoch, acks, spec, timeout_ms);
    }

    fn plain(&mut self) -> Spec {
        self.next_value += 1;
        Spec { value: self.next_value, records: self.random.between(1, 3) as i32, producer: None }
    }

    fn idempotent(&mut self) -> Spec {
        let index = self.random.below(self.producers.len() as u64) as usize;
        let plain = self.plain();
        let misbehaves = self.random.chance(self.rates.misbehave);
        let (kind, which) = (self.random.below(3), self.random.next_u64() as usize);
        let producer = &mut self.producers[index];
        if misbehaves {
            return match kind {
                // A gap.
                0 => producer.numbered(plain, producer.epoch, Sequence(producer.next).plus(1).0),
                // An instance that was fenced.
                1 => producer.numbered(plain, producer.epoch - 1, producer.next),
                // A retry that is late.
                _ => producer.answered.get(which % producer.answered.len().max(1)).copied().unwrap_or(plain),
            };
        }
        if producer.unanswered.len() >= 3 || (kind == 0 && !producer.unanswered.is_empty()) {
            return producer.unanswered[if kind == 1 { which % producer.unanswered.len() } else { 0 }];
        }
        let spec = producer.numbered(plain, producer.epoch, producer.next);
        producer.next = Sequence(producer.next).plus(plain.records).0;
        producer.unanswered.push(spec);
        spec
    }

    fn hear_answers(&mut self) {
        for (request, result) in std::mem::take(&mut self.cluster.answers) {
            let Some((id, epoch, _)) = request.spec.producer else { continue };
            let Some(producer) = self.producers.iter_mut().find(|producer| producer.id == id) else { continue };
            let known = producer.unanswered.iter().position(|spec| *spec == request.spec);
            match (result, known) {
                (Ok(_), Some(at)) => producer.answered.push(producer.unanswered.remove(at)),
                // Its batches are too far apart by now: begin anew under the next epoch.
                (Err(AppendError::OutOfOrderSequence { .. }), Some(_)) if epoch == producer.epoch => {
                    self.refused_sequences += 1;
                    producer.epoch += 1;
                    producer.next = 0;
                    producer.unanswered.clear();
                    producer.answered.clear();
                }
                (Err(AppendError::OutOfOrderSequence { .. } | AppendError::InvalidProducerEpoch { .. }), _) => {
                    self.refused_sequences += 1;
                }
                _ => {}
            }
        }
    }

    /// Everything works again; what was on its way arrives or is lost. Then all must come to rest.
    fn heal(&mut self) {
        self.cluster.note(|| "--- heals".to_owned());
        for id in self.cluster.ids() {
            let disk = &mut self.cluster.nodes.get_mut(&id).expect("a node").disk;
            (disk.full, disk.unreadable) = (false, false);
            if disk.broken || self.cluster.replica(id).is_none() || self.has_failed(id) {
                self.cluster.crash(id, 0);
                self.cluster.restart(id, false);
            }
            self.cluster.controller.unfence(id);
        }
        for round in 0..400 {
            self.heal_round(round);
            self.print_trace();
            if round > 40 && self.is_at_rest() {
                return self.check_alive();
            }
        }
        let nodes: Vec<String> = self.cluster.ids().into_iter().map(|id| self.cluster.describe(id)).collect();
        panic!("never at rest: {nodes:#?}, {:?}, waiting {:?}", self.cluster.controller.state, self.cluster.requests);
    }

    fn heal_round(&mut self, round: usize) {
        if round < 20 {
            self.deliver(true);
        }
        for id in self.cluster.ids() {
            self.cluster.tell(id, true);
            if let Some(Role::Follower { leader }) = self.cluster.replica(id).map(Replica::role)
                && !self.cluster.streams.get(&(id, leader)).is_some_and(|stream| stream.open)
            {
                self.cluster.connect(id, leader);
            }
        }
        self.cluster.settle();
        while !self.cluster.proposals.is_empty() {
            let (proposal, result) = self.cluster.decide(0);
            self.cluster.answer(&proposal, result.map_err(Some));
        }
        self.cluster.advance(50);
        self.hear_answers();
    }

    fn has_failed(&mut self, id: BrokerId) -> bool {
        self.cluster.tell(id, true);
        self.cluster.replica(id).is_some_and(|replica| replica.role() == Role::Idle)
            && self.cluster.controller.state.leader.is_some()
    }

    fn is_at_rest(&self) -> bool {
        let logs_end = |replica: &Replica| replica.high_watermark() == replica.log_end();
        self.cluster.controller.state.isr.len() == 3
            && self.cluster.requests.is_empty()
            && self.cluster.confirmations.is_empty()
            && self.cluster.nodes.values().all(|node| {
                node.replica.as_ref().is_some_and(logs_end)
                    && node.disk.log == self.cluster.nodes[&BrokerId(1)].disk.log
            })
    }

    /// And at rest it takes a write.
    fn check_alive(&mut self) {
        let leader = self.cluster.acting_leader().expect("somebody leads");
        let epoch = self.cluster.controller.state.leader_epoch;
        let spec = self.plain();
        self.cluster.append(leader, epoch, Acks::All, spec, 10_000);
        self.cluster.settle();
        let last = self.cluster.answers.pop().map(|(request, result)| (request.spec, result.is_ok()));
        assert_eq!(last, Some((spec, true)), "a healthy partition takes a write");
    }
}

impl Rates {
    fn draw(random: &mut Random) -> Rates {
        let mut rate = |most: u64| if random.chance(500) { random.between(1, most) } else { 0 };
        Rates {
            late: rate(600),
            break_stream: rate(500),
            lose_answer: rate(500),
            elect: rate(300),
            fence: rate(150),
            crash: rate(150),
            wipe: rate(500),
            disk_full: rate(100),
            disk_fails: rate(20),
            unreadable: rate(100),
            misbehave: rate(400),
        }
    }
}

impl Producer {
    fn numbered(&self, spec: Spec, epoch: i16, sequence: i32) -> Spec {
        if epoch < 0 || sequence < 0 { spec } else { Spec { producer: Some((self.id, epoch, sequence)), ..spec } }
    }
}
