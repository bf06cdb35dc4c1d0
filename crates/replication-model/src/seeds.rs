//! Long random schedules, each a function of its seed: what may go wrong and how often is drawn, happens for some hundred actions
//! with every rule looked at after every step, and then all heals and must come to rest.

mod clients;
mod heal;
mod rates;

use std::panic::{self, AssertUnwindSafe};

use base_types::{BrokerId, LeaderEpoch, Offset, Random, TopicId, TopicPartition};
use peer_api::storage::Acks;
use replica_core::{Replica, Role};

pub use crate::judge::Seen;
use crate::metadata::{Answer, is_active};
use crate::world::World;
use clients::Clients;
use rates::Rates;

const ACTIONS: usize = 400;

/// How a seed ended.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub seen: Seen,
    /// What was broken, with the id of the invariant.
    pub failure: Option<String>,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
}

/// Runs one seed, catching whatever a core or the judge objects to.
pub fn run(seed: u64, verbose: bool) -> Report {
    let mut run = Run::new(seed);
    run.world.trace = verbose.then(Vec::new);
    let ended = panic::catch_unwind(AssertUnwindSafe(|| run.play()));
    let failure = ended.err().map(|payload| match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().copied().unwrap_or("a panic without words").to_owned(),
    });
    let World { judge, trace, .. } = run.world;
    Report { seed, seen: judge.seen, failure, trace: trace.unwrap_or_default() }
}

struct Run {
    random: Random,
    rates: Rates,
    world: World,
    clients: Clients,
    topics_made: u8,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random::new(seed);
        let nodes = random.between(3, 5) as i32;
        let lag_ms = random.between(300, 2_000);
        let rates = Rates::draw(&mut random);
        Run { random, rates, world: World::new(nodes, lag_ms), clients: Clients::default(), topics_made: 0 }
    }

    fn play(&mut self) {
        for id in self.world.ids() {
            self.world.start(id);
            self.world.register(id);
        }
        self.settle_metadata();
        for _ in 0..self.random.between(1, 2) {
            self.create_topic();
        }
        self.settle_metadata();
        for _ in 0..ACTIONS {
            self.act();
            self.clients.hear(&mut self.world);
        }
        self.heal();
    }

    fn act(&mut self) {
        match self.random.below(100) {
            0..25 => self.deliver(),
            25..48 => self.finish_disk_jobs(),
            48..60 => self.append(),
            60..67 => self.tell(),
            67..71 => self.connect(),
            71..75 => self.propose(),
            75..80 => self.world.commit_one(),
            80..84 => self.answer(),
            84..88 => self.keep_alive(),
            88..92 => {
                let ms = self.random.between(1, 200);
                self.world.advance(ms);
            }
            _ => self.fault(),
        }
    }

    fn id(&mut self) -> BrokerId {
        BrokerId(self.random.between(1, self.world.nodes.len() as u64) as i32)
    }

    /// One that acts.
    fn living(&mut self) -> Option<BrokerId> {
        let id = self.id();
        self.world.nodes[&id].acts().then_some(id)
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(self.random.below(all.len() as u64) as usize).copied()
    }

    fn partition(&mut self) -> Option<TopicPartition> {
        let partitions: Vec<_> = self.world.metadata.pending().partitions().map(|(partition, _)| partition).collect();
        self.pick(&partitions)
    }

    fn partition_of(&mut self, id: BrokerId) -> Option<TopicPartition> {
        let partitions = self.world.partitions_of(id);
        self.pick(&partitions)
    }

    /// As many letters of one stream as come at once.
    fn deliver(&mut self) {
        let late = self.random.chance(self.rates.late);
        let world = &self.world;
        let arrives = |key: &&(BrokerId, BrokerId, u64)| world.nodes[&key.1].acts() && world.is_late(**key) == late;
        let queues: Vec<_> = world.letters.keys().filter(arrives).copied().collect();
        let Some(queue) = self.pick(&queues) else { return };
        let lost = late && self.random.chance(300);
        for _ in 0..self.random.between(1, 3) {
            self.world.deliver(queue, lost);
        }
    }

    fn finish_disk_jobs(&mut self) {
        let Some(id) = self.living() else { return };
        let Some(partition) = self.partition_of(id) else { return };
        for _ in 0..self.random.between(1, 3) {
            self.world.finish_disk_job(id, partition);
        }
        if self.random.chance(300)
            && let Some(slot) = self.world.slot(id, partition)
        {
            slot.disk.synced = slot.disk.log.len();
        }
    }

    fn append(&mut self) {
        let Some(partition) = self.partition() else { return };
        let leader = self.world.metadata.committed().partition(partition).and_then(|state| state.leader);
        let id = match leader {
            Some(leader) if self.random.chance(900) => leader,
            _ => self.id(),
        };
        if !self.world.nodes[&id].acts() {
            return;
        }
        let Some(known) = self.world.replica(id, partition).map(Replica::leader_epoch) else { return };
        let epoch = if self.random.chance(950) { known } else { LeaderEpoch(known.0 - 1) };
        let acks = if self.random.chance(850) { Acks::All } else { Acks::Leader };
        let timeout_ms = self.random.between(50, 3_000);
        for _ in 0..self.random.between(1, 2) {
            let value = self.clients.next_value(&mut self.random, partition, self.rates.misbehave);
            self.world.note(|| format!("{id} is sent {value:?} with {acks:?} under e{epoch}"));
            self.world.append(id, epoch, acks, value, timeout_ms);
        }
    }

    /// The next command, or the newest, or one between.
    fn tell(&mut self) {
        let Some(id) = self.living() else { return };
        let (heard, newest) = (self.world.nodes[&id].heard, self.world.metadata.committed_at());
        if heard < newest {
            let position = self.random.between(heard as u64 + 1, newest as u64) as usize;
            let position = if self.random.chance(500) { newest } else { position };
            self.world.tell(id, position);
        }
    }

    /// A node looks for the leader of something; now and then though it has a stream.
    fn connect(&mut self) {
        let Some(id) = self.living() else { return };
        let Some(partition) = self.partition_of(id) else { return };
        let Some(Role::Follower { leader }) = self.world.replica(id, partition).map(Replica::role) else { return };
        let is_open = self.world.streams.get(&(id, leader)).is_some_and(|stream| stream.open);
        if !is_open || self.random.chance(self.rates.break_stream / 10) {
            self.world.connect(id, leader);
        }
    }

    fn propose(&mut self) {
        if self.world.proposals.is_empty() {
            return;
        }
        let index = self.random.below(self.world.proposals.len() as u64) as usize;
        let proposal = self.world.proposals[index].clone();
        if !self.random.chance(self.rates.repeat) {
            self.world.proposals.remove(index);
        }
        if !self.random.chance(self.rates.lose) {
            self.world.decide(&proposal);
        }
    }

    fn answer(&mut self) {
        if self.world.answers.is_empty() {
            return;
        }
        let index = self.random.below(self.world.answers.len() as u64) as usize;
        let (_, Answer::Registered { broker: id, .. } | Answer::IsrDecided { leader: id, .. }) =
            &self.world.answers[index];
        if self.world.nodes[id].paused {
            return;
        }
        let answer = self.world.answers.remove(index);
        if !self.random.chance(self.rates.lose) {
            self.world.answer(answer);
        }
    }

    /// Whoever is not registered or is fenced does something about it.
    fn keep_alive(&mut self) {
        let Some(id) = self.living() else { return };
        let node = &self.world.nodes[&id];
        if node.broker_epoch.is_none() {
            self.world.register(id);
        } else if node.stopping {
            self.world.shut_down(id);
        } else {
            self.world.heartbeat(id);
        }
    }

    fn create_topic(&mut self) {
        self.topics_made += 1;
        let partitions = self.random.between(1, 2);
        // A node that has lost its disks and has not said so is counted in sync at first: a minimum of one would be it alone.
        let least = if self.rates.wipe + self.rates.page_cache > 0 { 2 } else { 1 };
        let assignments: Vec<Vec<BrokerId>> = (0..partitions).map(|_| self.replicas(least)).collect();
        let min_isr = [1, 2, 2, 2, 3][self.random.below(5) as usize].max(least as usize);
        let page_cache = self.random.chance(self.rates.page_cache);
        self.world.create_topic(self.topics_made, min_isr, page_cache, &assignments);
    }

    /// Mostly three.
    fn replicas(&mut self, least: u64) -> Vec<BrokerId> {
        let mut ids = self.world.ids();
        let all = ids.len() as u64;
        let count = if self.random.chance(600) { 3 } else { self.random.between(least, all) };
        let mut replicas = Vec::new();
        for _ in 0..count {
            replicas.push(ids.remove(self.random.below(ids.len() as u64) as usize));
        }
        replicas
    }

    fn fault(&mut self) {
        let rates = self.rates;
        let id = self.id();
        if self.random.chance(rates.break_stream) {
            let leader = self.id();
            let (follower_notices, leader_notices) = (self.random.chance(500), self.random.chance(500));
            self.world.disconnect(id, leader, follower_notices, leader_notices);
        }
        if self.random.chance(rates.fence) && is_active(self.world.metadata.pending(), id) {
            self.world.note(|| format!("{id} is fenced"));
            self.world.fence(id);
        }
        if self.random.chance(rates.fail_over) {
            self.world.note(|| "the controller fails over".to_owned());
            self.world.fail_over();
        }
        self.fault_of_node(id);
        self.fault_of_disk(id);
        self.administer();
    }

    fn fault_of_node(&mut self, id: BrokerId) {
        let rates = self.rates;
        let node = &self.world.nodes[&id];
        if !node.up {
            if self.random.chance(400) {
                self.world.start(id);
            }
        } else if node.paused {
            self.world.node(id).paused = !self.random.chance(400);
        } else if self.random.chance(rates.crash) {
            let surviving = self.random.below(4) as usize;
            let may_lose = self.world.may_lose(id);
            if rates.page_cache == 0 {
                self.world.crash(id, surviving, usize::MAX);
            } else if may_lose {
                let kept = self.random.below(20) as usize;
                self.world.crash(id, surviving, kept);
            }
            if !self.world.nodes[&id].up && may_lose && self.random.chance(rates.wipe) {
                self.world.wipe(id);
            }
        } else if self.random.chance(rates.pause) {
            self.world.note(|| format!("{id} is paused"));
            self.world.node(id).paused = true;
        } else if self.random.chance(rates.stop) {
            self.world.shut_down(id);
        }
    }

    fn fault_of_disk(&mut self, id: BrokerId) {
        let Some(partition) = self.partition_of(id) else { return };
        let (rates, is_up) = (self.rates, self.world.nodes[&id].up);
        let random = &mut self.random;
        let Some(slot) = self.world.slot(id, partition) else { return };
        let disk = &mut slot.disk;
        disk.full = if disk.full { random.chance(700) } else { random.chance(rates.disk_full) };
        disk.unreadable = if disk.unreadable { random.chance(600) } else { random.chance(rates.unreadable) };
        disk.broken |= is_up && random.chance(rates.disk_fails);
    }

    fn administer(&mut self) {
        let rates = self.rates;
        let Some(partition) = self.partition() else { return self.create_topic() };
        if self.random.chance(rates.elect) {
            self.world.elect_preferred();
        }
        if self.random.chance(rates.reassign) {
            // Where disks may be lost, one replica is not enough to move to.
            let target = self.replicas(if rates.wipe + rates.page_cache > 0 { 2 } else { 1 });
            let target = (!self.random.chance(200)).then_some(target);
            self.world.note(|| format!("{partition} is to move to {target:?}"));
            self.world.reassign(partition, target);
        }
        if self.random.chance(rates.min_isr) {
            let min_isr = self.random.between(1, 3) as usize;
            self.world.note(|| format!("min.insync.replicas of {partition} is to be {min_isr}"));
            self.world.set_min_isr(partition.topic, min_isr);
        }
        if self.random.chance(rates.recreate) {
            self.world.delete_topic(TopicId([self.topics_made; 16]));
            self.create_topic();
        }
        let id = self.id();
        if !self.world.nodes[&id].acts() {
            return;
        }
        if self.random.chance(rates.trim) {
            let to = self.world.judge.committed_end(partition).0;
            let to = (!self.random.chance(100)).then_some(Offset(self.random.below(to as u64 + 1) as i64));
            self.world.trim(id, partition, to);
        }
        if self.random.chance(rates.confirm) {
            let timeout_ms = self.random.between(50, 3_000);
            self.world.confirm(id, partition, timeout_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITION: TopicPartition =
        TopicPartition { topic: TopicId([1; 16]), partition: base_types::PartitionIndex(0) };

    fn ids(ids: &[i32]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    /// Four nodes, registered and unfenced, with one partition on these.
    fn cluster(replicas: &[i32], min_isr: usize, page_cache: bool) -> Run {
        let mut run = Run::new(1);
        run.world = World::new(4, 500);
        for id in run.world.ids() {
            run.world.start(id);
            run.world.register(id);
        }
        run.settle_metadata();
        run.world.create_topic(1, min_isr, page_cache, &[ids(replicas)]);
        run.world.commit_one();
        run
    }

    /// All that is under way arrives, and time passes.
    fn go_on(run: &mut Run) {
        for _ in 0..20 {
            run.settle_metadata();
            run.connect_all();
            run.settle();
            for proposal in std::mem::take(&mut run.world.proposals) {
                run.world.decide(&proposal);
            }
            run.world.advance(50);
        }
    }

    fn append(run: &mut Run, number: u32, acks: Acks) {
        let value = crate::Value { partition: PARTITION, number, records: 1, producer: None };
        let leader = run.world.acting_leader(PARTITION).expect("it is led");
        run.world.append(leader, LeaderEpoch(0), acks, value, 10_000);
    }

    /// A replica whose disk is full takes what is pushed, and asks for no write: what producers may be told depends on it (P2).
    #[test]
    fn the_judge_sees_what_a_follower_has_while_its_disk_is_full() {
        let mut run = cluster(&[1, 2], 1, false);
        go_on(&mut run);
        run.world.slot(BrokerId(2), PARTITION).unwrap().disk.full = true;
        for number in 1..=3 {
            append(&mut run, number, Acks::Leader);
            run.settle();
        }
        let slot = run.world.slot(BrokerId(2), PARTITION).unwrap();
        assert_eq!((slot.disk.log.len(), slot.log.len()), (0, 3));
        assert_eq!(slot.replica.as_ref().unwrap().log_end(), Offset(3));
    }

    /// It had nothing yet, which the controller cannot know.
    #[test]
    fn a_crash_counts_as_a_loss_for_a_page_cache_topic_that_the_node_had_not_heard_of() {
        let mut run = cluster(&[1, 2, 3], 2, true);
        assert!(run.world.may_lose(BrokerId(2)));
        run.world.crash(BrokerId(1), 0, 0);
        assert!(!run.world.may_lose(BrokerId(2)), "two of three, and one may be lost");
        run.world.start(BrokerId(1));
        run.settle_metadata();
        assert!(run.world.may_lose(BrokerId(2)), "1 is out of the ISR, and 3 is there");
    }

    #[test]
    fn no_topic_is_made_that_only_a_node_is_in_sync_with_that_has_crashed_and_not_said_so() {
        let mut run = cluster(&[1, 2], 2, true);
        run.world.fence(BrokerId(2));
        run.world.create_topic(2, 2, true, &[ids(&[1, 2])]);
        assert!(run.world.metadata.pending().topic(TopicId([2; 16])).is_some());
        run.world.crash(BrokerId(1), 0, 0);
        run.world.create_topic(3, 2, true, &[ids(&[1, 2])]);
        assert!(run.world.metadata.pending().topic(TopicId([3; 16])).is_none(), "it would never be led");
    }

    /// Nodes that no partition is on may all lose their disks together, which the promise does not cover for a topic that is then made.
    #[test]
    fn no_topic_is_made_where_as_many_as_the_minimum_have_lost_their_disks_and_not_said_so() {
        let mut run = cluster(&[1, 3], 2, false);
        for id in ids(&[2, 4]) {
            assert!(run.world.may_lose(id), "no partition is on it");
            run.world.crash(id, 0, usize::MAX);
            run.world.wipe(id);
        }
        let mut is_made = |number, min_isr, replicas| {
            run.world.create_topic(number, min_isr, false, &[ids(replicas)]);
            run.world.metadata.pending().topic(TopicId([number; 16])).is_some()
        };
        assert!(!is_made(2, 2, &[2, 1, 4]), "1 is fenced, two are enough without it, and neither of them ever leads");
        assert!(is_made(3, 3, &[2, 1, 4]), "1 stays eligible when it is fenced");
        assert!(is_made(4, 2, &[2, 1, 3]), "one may be lost");
    }

    /// What was acknowledged is on 2 and on 3, which a move has brought. 2 loses its disk, which nobody knows when the move is undone.
    #[test]
    fn a_move_that_is_undone_does_not_take_the_only_copy() {
        let mut run = cluster(&[2, 4], 2, false);
        go_on(&mut run);
        run.world.crash(BrokerId(1), 0, usize::MAX);
        run.world.crash(BrokerId(4), 0, usize::MAX);
        run.world.reassign(PARTITION, Some(ids(&[2, 1, 3])));
        append(&mut run, 1, Acks::All);
        go_on(&mut run);
        assert_eq!(run.world.judge.committed_end(PARTITION), Offset(1));
        let state = run.world.metadata.committed().partition(PARTITION).unwrap();
        assert_eq!((&state.isr, state.is_moving()), (&ids(&[2, 3]), true));
        assert!(run.world.may_lose(BrokerId(2)));
        run.world.crash(BrokerId(2), 0, usize::MAX);
        run.world.wipe(BrokerId(2));
        run.world.reassign(PARTITION, None);
        for id in [1, 2, 4] {
            run.world.start(BrokerId(id));
        }
        run.come_to_rest();
    }
}
