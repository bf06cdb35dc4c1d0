//! Groups of the consumer protocol under random schedules: members come, go, fall silent, are slow to give up and lose
//! answers; topics come, grow and go; the coordinator dies and reads its log; in half of the runs members of the classic protocol
//! are among them, and the group changes between the protocols. Then everything is left alone and must settle.
//!
//! Checked all along: no partition has two owners among the members of the group (G1), epochs only grow (G6), and a coordinator
//! that reads the log has the group that the last one had. Checked in the end: the group settles in a few rounds of heartbeats
//! (G7), with every partition owned by somebody who subscribes to it.

#[path = "consumer_groups/classic.rs"]
mod classic;
#[path = "consumer_groups/migration.rs"]
mod migration;
#[path = "consumer_groups/rules.rs"]
mod rules;
#[path = "consumer_groups/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use base_types::{PartitionIndex, Random, TopicId, TopicPartition};
use coordinator_core::Settings;
use peer_api::groups::{GroupKind, GroupState};

use classic::{ClassicClient, Stage};
use world::{Client, Owned, World};

const SEEDS: u64 = 300;
const STEPS: u64 = 300;
/// Rounds of heartbeats within which a group that is left alone settles: one in which the last change is heard of, one for the
/// target, one in which members hear what to give up, one in which they say that they have, one in which the others get it.
/// The time between two targets comes on top.
const ROUNDS_TO_SETTLE: u64 = 5;
/// Members of the classic protocol hear of each step one heartbeat later, and answer it with a join.
const ROUNDS_MORE_WITH_CLASSIC: u64 = 2;
const ROUND_MS: u64 = 200;
const SESSION_MS: i32 = 6_000;

struct Run {
    world: World,
    random: Random,
    clients: Vec<Client>,
    classic: Vec<ClassicClient>,
    has_classic: bool,
    /// Silent until then.
    silent: BTreeMap<String, u64>,
    topics: BTreeMap<String, TopicId>,
    made: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random::new(seed);
        let settings = Settings {
            consumer_assignment_interval_ms: [0, 200, 1_000][random.below(3) as usize],
            consumer_session_timeout_ms: SESSION_MS,
            group_initial_rebalance_delay_ms: 0,
            ..Settings::default()
        };
        let mut run = Run {
            world: World::new(settings),
            random,
            clients: Vec::new(),
            classic: Vec::new(),
            has_classic: seed % 2 == 1,
            silent: BTreeMap::new(),
            topics: BTreeMap::new(),
            made: 0,
        };
        run.add_topic();
        run
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..4 if self.clients.len() < 8 => self.join(),
            4..6 => self.leave(),
            6..8 => self.fall_silent(),
            8..9 => self.resubscribe(),
            9..10 => self.change_topics(),
            10..11 => self.world.reload(),
            11..12 => self.reload_and_compare(),
            12..15 => self.world.pass(self.random.between(100, 2_000)),
            15..20 => self.lose_answer(),
            20..23 if self.has_classic && self.classic.len() < 4 => self.join_classic(),
            23..24 if self.has_classic => self.stop_classic(),
            24..60 if self.has_classic => self.classic_turn(),
            _ => {
                if !self.clients.is_empty() {
                    let chosen = self.random.below(self.clients.len() as u64) as usize;
                    self.heartbeat(chosen);
                }
                self.world.pass(self.random.below(200));
            }
        }
        self.check_owners();
    }

    fn join(&mut self) {
        self.made += 1;
        let mut client = Client::new(&format!("m{}", self.made), &[]);
        self.subscribe(&mut client);
        if self.random.chance(300) {
            let instance_id = format!("i{}", self.random.below(4));
            // A static member that is there still has its instance id.
            let is_taken = |other: &Client| other.instance_id.as_ref() == Some(&instance_id);
            if self.clients.iter().any(is_taken) {
                return;
            }
            client.instance_id = Some(instance_id);
        }
        client.rack = self.random.chance(500).then(|| ["a", "b", "c"][self.random.below(3) as usize].to_owned());
        client.assignor = self.random.chance(200).then(|| "range".to_owned());
        client.rebalance_timeout_ms = [300, 60_000][self.random.below(2) as usize];
        self.clients.push(client);
        self.heartbeat(self.clients.len() - 1);
    }

    fn join_classic(&mut self) {
        let pick = |random: &mut Random| format!("t{}", random.below(5));
        let names: Vec<String> = (0..self.random.between(1, 3)).map(|_| pick(&mut self.random)).collect();
        let mut client = ClassicClient::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
        client.session_timeout_ms = SESSION_MS;
        client.rebalance_timeout_ms = SESSION_MS;
        client.go_on(&mut self.world);
        self.classic.push(client);
    }

    /// It leaves, or just dies.
    fn stop_classic(&mut self) {
        if self.classic.is_empty() {
            return;
        }
        let client = self.classic.remove(self.random.below(self.classic.len() as u64) as usize);
        if self.random.chance(500) {
            client.leave(&mut self.world);
        }
    }

    fn classic_turn(&mut self) {
        if !self.classic.is_empty() {
            let chosen = self.random.below(self.classic.len() as u64) as usize;
            self.turn_of(chosen);
        }
        self.world.pass(self.random.below(200));
    }

    fn turn_of(&mut self, chosen: usize) {
        let client = &mut self.classic[chosen];
        if client.stage == Stage::Stable {
            let _ = client.heartbeat(&mut self.world);
        }
        client.go_on(&mut self.world);
    }

    fn subscribe(&mut self, client: &mut Client) {
        let pick = |random: &mut Random| format!("t{}", random.below(5));
        client.names = (0..self.random.below(4)).map(|_| pick(&mut self.random)).collect();
        client.regex = match self.random.below(4) {
            0 => Some("t[0-2]".to_owned()),
            1 => Some("t.*".to_owned()),
            _ => None,
        };
        client.must_say_all = true;
    }

    fn resubscribe(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let chosen = self.random.below(self.clients.len() as u64) as usize;
        let mut client = self.clients[chosen].clone();
        self.subscribe(&mut client);
        self.clients[chosen] = client;
    }

    fn leave(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let chosen = self.random.below(self.clients.len() as u64) as usize;
        let client = self.clients.remove(chosen);
        self.silent.remove(&client.member_id);
        let mut last = client.to_say();
        last.member_epoch = if client.instance_id.is_some() && self.random.chance(500) { -2 } else { -1 };
        // A member that was put out while it was silent is not known any more.
        let _ = self.world.heartbeat(last);
    }

    fn fall_silent(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let chosen = self.random.below(self.clients.len() as u64) as usize;
        let until = self.world.now + self.random.between(500, 10_000);
        self.silent.insert(self.clients[chosen].member_id.clone(), until);
    }

    fn add_topic(&mut self) {
        let name = format!("t{}", self.random.below(5));
        if !self.topics.contains_key(&name) {
            let id = self.world.add_topic(&name, self.random.between(1, 6) as i32);
            self.topics.insert(name, id);
        }
    }

    fn change_topics(&mut self) {
        let existing: Vec<(String, TopicId)> = self.topics.clone().into_iter().collect();
        let chosen = existing.get(self.random.below(existing.len().max(1) as u64) as usize);
        match (self.random.below(4), chosen) {
            (0, Some((_, id))) => self.world.grow_topic(*id),
            (1, Some((name, id))) => {
                self.topics.remove(name);
                self.world.remove_topic(*id);
            }
            _ => self.add_topic(),
        }
    }

    /// A coordinator that reads the log has the group that the last one had.
    fn reload_and_compare(&mut self) {
        let before = self.world.describe();
        self.world.reload();
        assert_eq!(self.world.describe(), before);
    }

    /// The coordinator has heard the member, which does not hear the answer and says everything the next time.
    fn lose_answer(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let chosen = self.random.below(self.clients.len() as u64) as usize;
        let said = self.clients[chosen].to_say();
        let _ = self.world.heartbeat(said);
        self.clients[chosen].must_say_all = true;
    }

    fn heartbeat(&mut self, chosen: usize) {
        let client = &mut self.clients[chosen];
        if self.silent.get(&client.member_id).is_some_and(|until| *until > self.world.now) {
            return;
        }
        self.silent.remove(&client.member_id);
        if self.random.chance(300) {
            client.slowness = self.random.below(4);
        }
        client.follow();
        match self.world.heartbeat(client.to_say()) {
            Ok(answer) => client.hear(&answer),
            Err(refused) => client.be_refused(&refused),
        }
    }

    /// G1, as the members see it. One that the group has put out may not know that yet, and does not count.
    fn check_owners(&mut self) {
        let members: BTreeSet<String> = self.world.member_ids();
        let all = self.clients.iter().map(|client| (&client.member_id, &client.owned));
        let all = all.chain(self.classic.iter().map(|client| (&client.member_id, &client.owned)));
        let mut owners: BTreeMap<_, &str> = BTreeMap::new();
        for (member_id, owned) in all.filter(|(member_id, _)| members.contains(*member_id)) {
            for partition in owned {
                let other = owners.insert(*partition, member_id);
                assert_eq!(other, None, "{partition} is also owned by {member_id}");
            }
        }
    }

    fn settle(&mut self) {
        // Whoever is gone for good is put out first; the others keep their sessions meanwhile.
        self.silent.clear();
        self.clients.iter_mut().for_each(|client| client.slowness = 0);
        let interval = self.world.settings.consumer_assignment_interval_ms as u64;
        let bound =
            ROUNDS_TO_SETTLE + interval / ROUND_MS + if self.has_classic { ROUNDS_MORE_WITH_CLASSIC } else { 0 };
        // A classic member that died while it joined has its time to join, its time to sync and its session.
        let sessions = if self.has_classic { 4 } else { 1 };
        (0..sessions * SESSION_MS as u64 / ROUND_MS + bound).for_each(|_| self.round());
        assert!(self.is_settled(), "{:#?}", self.world.describe());

        // One more change, with nobody gone: now the bound counts.
        self.clients.push(Client::new("late", &["t0", "t1", "t2", "t3", "t4"]));
        let mut rounds = 0;
        while rounds == 0 || !self.is_settled() {
            self.round();
            rounds += 1;
            assert!(rounds <= bound, "G7: {:#?}", self.world.describe());
        }
    }

    fn round(&mut self) {
        for chosen in 0..self.clients.len() {
            self.clients[chosen].follow();
            match self.world.heartbeat(self.clients[chosen].to_say()) {
                Ok(answer) => self.clients[chosen].hear(&answer),
                Err(refused) => self.clients[chosen].be_refused(&refused),
            }
            self.check_owners();
        }
        for chosen in 0..self.classic.len() {
            self.turn_of(chosen);
            self.check_owners();
        }
        self.world.pass(ROUND_MS);
    }

    /// The coordinator says so, and every existing partition that somebody subscribes to is owned by a subscriber.
    fn is_settled(&mut self) -> bool {
        let Some(group) = self.world.listed() else { return self.clients.is_empty() && self.classic.is_empty() };
        if self.clients.is_empty() && self.classic.is_empty() {
            return group.state == GroupState::Empty;
        }
        let kind = if self.clients.is_empty() { GroupKind::Classic } else { GroupKind::Consumer };
        let modern = self.clients.iter().map(|client| (client.owned.clone(), self.wanted(client)));
        let classic = self.classic.iter().map(|client| (client.owned.clone(), self.named(&client.names)));
        let (mut owned, mut wanted) = (Owned::new(), Owned::new());
        for (owns, wants) in modern.chain(classic) {
            if !owns.is_subset(&wants) {
                return false;
            }
            owned.extend(owns);
            wanted.extend(wants);
        }
        (group.kind, group.state) == (kind, GroupState::Stable) && owned == wanted
    }

    fn wanted(&self, client: &Client) -> Owned {
        let by_regex = |name: &&String| match client.regex.as_deref() {
            Some("t.*") => true,
            Some(_) => ["t0", "t1", "t2"].contains(&name.as_str()),
            None => false,
        };
        let names = self.topics.keys().filter(|name| client.names.contains(name) || by_regex(name));
        self.named(&names.cloned().collect::<Vec<_>>())
    }

    fn named(&self, names: &[String]) -> Owned {
        let ids = names.iter().filter_map(|name| self.topics.get(name));
        let topics = ids.filter_map(|id| self.world.image.topic(*id));
        topics
            .flat_map(|topic| {
                let of = |index| TopicPartition { topic: topic.id, partition: PartitionIndex(index) };
                (0..topic.partitions.len() as i32).map(of)
            })
            .collect()
    }
}

#[test]
fn groups_keep_their_promises_whatever_happens_and_settle_when_left_alone() {
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            (0..STEPS).for_each(|_| run.step());
            run.settle();
        });
        assert!(outcome.is_ok(), "seed {seed}");
    }
}
