//! Voters without a past (C9): a directory that was wiped, and a quorum that begins.

use std::collections::{BTreeMap, VecDeque};

use base_types::{BrokerId, Random, Tick};
use bytes::Bytes;
use raft_core::{Config, Consensus, Effect, Effects, Event, Persist, Stored};

/// Three voters with stores that survive them. What is sent arrives in order, unless one of the two is down.
struct Quorum {
    voters: BTreeMap<i32, Consensus>,
    stored: BTreeMap<i32, BTreeMap<u64, Bytes>>,
    hard_states: BTreeMap<i32, Bytes>,
    network: VecDeque<(i32, i32, Bytes)>,
    /// Writes that are under way while a disk hangs.
    hanging: BTreeMap<i32, Vec<Persist>>,
    committed: BTreeMap<u64, Bytes>,
    now: u64,
    lives: u64,
}

impl Quorum {
    fn of_three() -> Quorum {
        let mut quorum = Quorum {
            voters: BTreeMap::new(),
            stored: BTreeMap::new(),
            hard_states: BTreeMap::new(),
            network: VecDeque::new(),
            hanging: BTreeMap::new(),
            committed: BTreeMap::new(),
            now: 0,
            lives: 0,
        };
        (1..=3).for_each(|id| quorum.start(id));
        quorum
    }

    fn start(&mut self, id: i32) {
        let stored = Stored {
            hard_state: self.hard_states.get(&id).cloned(),
            snapshot: None,
            entries: self.stored.entry(id).or_default().clone().into_iter().collect(),
        };
        self.lives += 1;
        let config = Config::new(BrokerId(id), [1, 2, 3].map(BrokerId).to_vec());
        let mut effects = Effects::default();
        let voter = Consensus::recover(config, stored, Tick(self.now), Random::new(self.lives), &mut effects);
        self.voters.insert(id, voter.expect("the store is whole"));
        self.carry_out(id, effects);
    }

    /// The process is gone, and with it what it had said and nobody had heard.
    fn stop(&mut self, id: i32) {
        self.voters.remove(&id);
        self.network.retain(|(from, to, _)| *from != id && *to != id);
        for voter in self.voters.keys().copied().collect::<Vec<_>>() {
            self.tell(voter, Event::PeerLost(BrokerId(id)));
        }
    }

    fn wipe(&mut self, id: i32) {
        self.stop(id);
        self.stored.remove(&id);
        self.hard_states.remove(&id);
        self.start(id);
    }

    fn tell(&mut self, id: i32, event: Event) {
        let mut effects = Effects::default();
        if let Some(voter) = self.voters.get_mut(&id) {
            voter.step(Tick(self.now), event, &mut effects);
        }
        self.carry_out(id, effects);
    }

    fn carry_out(&mut self, id: i32, mut effects: Effects) {
        let mut written = Vec::new();
        while let Some(effect) = effects.pop() {
            match effect {
                Effect::Persist(persist) => written.push(persist),
                Effect::Send { to, bytes, .. } => self.network.push_back((id, to.0, bytes)),
                Effect::Committed(entries) => {
                    for entry in entries {
                        let known = self.committed.entry(entry.index).or_insert_with(|| entry.data.clone());
                        assert_eq!(*known, entry.data, "C2: entry {} of voter {id}", entry.index);
                    }
                }
                Effect::Installed(_) | Effect::RoleChanged(_) | Effect::ReadReady { .. } => {}
            }
        }
        if let Some(hanging) = self.hanging.get_mut(&id) {
            hanging.extend(written);
            return;
        }
        self.complete(id, written);
    }

    fn complete(&mut self, id: i32, written: Vec<Persist>) {
        for persist in written {
            let entries = self.stored.entry(id).or_default();
            if let Some(from) = persist.remove_from {
                entries.split_off(&from);
            }
            entries.extend(persist.entries.iter().cloned());
            self.hard_states.extend(persist.hard_state.map(|state| (id, state)));
            self.tell(id, Event::PersistCompleted(persist.write));
        }
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 50 {
            self.now += 50;
            for id in self.voters.keys().copied().collect::<Vec<_>>() {
                self.tell(id, Event::Ticked);
            }
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        while let Some((from, to, bytes)) = self.network.pop_front() {
            if self.voters.contains_key(&from) {
                self.tell(to, Event::MessageReceived(bytes));
            }
        }
    }

    /// The leader in the newest term.
    fn leader(&self) -> Option<i32> {
        let leaders = self.voters.iter().filter(|(_, voter)| voter.role().is_leader);
        leaders.max_by_key(|(_, voter)| voter.role().term).map(|(id, _)| *id)
    }

    fn led_after(&mut self, ms: u64) -> i32 {
        self.pass(ms);
        self.leader().expect("a leader")
    }

    fn propose(&mut self, data: &'static str) {
        let leader = self.leader().expect("a leader");
        let mut effects = Effects::default();
        let voter = self.voters.get_mut(&leader).expect("it lives");
        voter.propose(Tick(self.now), data.into(), &mut effects).expect("it leads");
        self.carry_out(leader, effects);
    }

    fn is_committed(&self, data: &str) -> bool {
        self.committed.values().any(|entry| entry == data.as_bytes())
    }

    /// What is written down says so.
    fn is_newcomer(&self, id: i32) -> bool {
        self.hard_states.get(&id).is_none_or(|state| state[0] == 2)
    }

    fn others(leader: i32) -> (i32, i32) {
        let mut others = (1..=3).filter(|id| *id != leader);
        (others.next().expect("three"), others.next().expect("three"))
    }
}

#[test]
fn a_quorum_begins_and_all_are_voters_soon() {
    let mut quorum = Quorum::of_three();
    quorum.led_after(3_000);
    assert!((1..=3).all(|id| !quorum.is_newcomer(id)));
}

#[test]
fn two_of_three_are_enough_to_begin() {
    let mut quorum = Quorum::of_three();
    quorum.stop(3);
    quorum.led_after(3_000);
    quorum.propose("x");
    quorum.pass(100);
    assert!(quorum.is_committed("x") && !quorum.is_newcomer(1) && !quorum.is_newcomer(2));
}

/// C9: one voter lags, the second dies, the third comes back without its log. Nobody has what the last two had committed.
#[test]
fn a_wiped_voter_does_not_elect_who_lacks_what_it_had_confirmed() {
    let mut quorum = Quorum::of_three();
    let leader = quorum.led_after(3_000);
    let (wiped, lagging) = Quorum::others(leader);
    quorum.stop(lagging);
    quorum.propose("kept");
    quorum.pass(100);
    assert!(quorum.is_committed("kept"));
    quorum.stop(leader);
    quorum.wipe(wiped);
    quorum.start(lagging);
    quorum.pass(30_000);
    assert_eq!(quorum.leader(), None);
    quorum.start(leader);
    assert_eq!(quorum.led_after(10_000), leader, "only its log has all");
    assert!(!quorum.is_newcomer(wiped));
    quorum.stop(leader);
    quorum.led_after(10_000);
    quorum.propose("more");
    quorum.pass(100);
    assert!(quorum.is_committed("more"), "the wiped one votes again");
}

/// The same, when it is stopped on its way: what it has by then is more than the lagging one has, and not all.
#[test]
fn a_newcomer_that_has_a_part_is_not_elected_by_who_has_less() {
    let mut quorum = Quorum::of_three();
    let leader = quorum.led_after(3_000);
    let (wiped, lagging) = Quorum::others(leader);
    quorum.stop(lagging);
    for data in ["first", "second"] {
        quorum.propose(data);
        quorum.pass(100);
    }
    quorum.stop(leader);
    quorum.wipe(wiped);
    quorum.stop(wiped);
    let mut part = quorum.stored[&leader].clone();
    part.pop_last();
    quorum.stored.insert(wiped, part);
    let mut state = quorum.hard_states[&leader].to_vec();
    state[0] = 2;
    state[17..].fill(0);
    quorum.hard_states.insert(wiped, state.into());
    quorum.start(wiped);
    quorum.start(lagging);
    quorum.pass(30_000);
    assert_eq!(quorum.leader(), None);
    quorum.start(leader);
    assert_eq!(quorum.led_after(10_000), leader);
}

/// It is brought up by the leader that knew its earlier life, and the two serve while the third is down.
#[test]
fn a_wiped_voter_is_brought_up_while_the_leader_stays() {
    let mut quorum = Quorum::of_three();
    let leader = quorum.led_after(3_000);
    let term = quorum.voters[&leader].role().term;
    let (wiped, other) = Quorum::others(leader);
    quorum.propose("before");
    quorum.pass(100);
    quorum.wipe(wiped);
    quorum.pass(50);
    quorum.stop(other);
    quorum.pass(500);
    quorum.propose("after");
    quorum.pass(100);
    assert!(quorum.is_committed("after") && !quorum.is_newcomer(wiped));
    assert_eq!((quorum.leader(), quorum.voters[&leader].role().term), (Some(leader), term));
}

/// What the wiped one confirmed in its earlier life does not help an entry to be committed.
#[test]
fn what_a_wiped_voter_confirmed_before_counts_no_more() {
    let mut quorum = Quorum::of_three();
    let leader = quorum.led_after(3_000);
    let (wiped, other) = Quorum::others(leader);
    quorum.stop(other);
    quorum.hanging.insert(leader, Vec::new());
    quorum.propose("lost");
    quorum.deliver();
    assert_eq!(quorum.stored[&wiped].len(), quorum.stored[&leader].len() + 1, "confirmed, and the leader still writes");
    quorum.wipe(wiped);
    quorum.pass(100);
    quorum.network.clear();
    let written = quorum.hanging.remove(&leader).expect("it hangs");
    // The leader completes its own write, and the wiped one hears nothing more.
    let voter = quorum.voters.remove(&wiped).expect("it lives");
    quorum.complete(leader, written);
    assert!(!quorum.is_committed("lost") || quorum.stored[&wiped].len() == quorum.stored[&leader].len());
    quorum.voters.insert(wiped, voter);
    quorum.pass(500);
    assert!(quorum.is_committed("lost"), "with the copy that it has now");
}

/// Everyone stops while some have the first entry and nobody is known to have caught up: together they go on.
#[test]
fn a_beginning_that_is_interrupted_at_any_moment_is_gone_on_with() {
    for steps in 0..200 {
        let mut quorum = Quorum::of_three();
        let mut left = steps;
        'beginning: for _ in 0..60 {
            quorum.now += 50;
            for id in 1..=3 {
                quorum.tell(id, Event::Ticked);
            }
            while let Some((_, to, bytes)) = quorum.network.pop_front() {
                if left == 0 {
                    break 'beginning;
                }
                left -= 1;
                quorum.tell(to, Event::MessageReceived(bytes));
            }
        }
        (1..=3).for_each(|id| quorum.stop(id));
        (1..=3).for_each(|id| quorum.start(id));
        quorum.led_after(20_000);
        quorum.propose("on");
        quorum.pass(200);
        assert!(quorum.is_committed("on"), "after {steps} messages");
    }
}
