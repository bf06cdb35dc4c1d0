//! Single steps: the state after, and exactly the effects.

use base_types::{BrokerId, Random, Tick};
use bytes::Bytes;
use raft_core::{
    Committed, Config, Consensus, Effect, Effects, Event, Persist, ProposeError, ReadId, RecoverError, Role, Stored,
    WriteId,
};

const ME: BrokerId = BrokerId(1);
const OTHERS: [BrokerId; 2] = [BrokerId(2), BrokerId(3)];

fn recover(id: BrokerId, voters: &[BrokerId], stored: Stored) -> Result<(Consensus, Vec<Effect>), RecoverError> {
    let mut effects = Effects::default();
    let config = Config::new(id, voters.to_vec());
    let consensus = Consensus::recover(config, stored, Tick(0), Random::new(id.0 as u64), &mut effects)?;
    Ok((consensus, drain(&mut effects)))
}

fn three(id: BrokerId) -> Consensus {
    let (consensus, effects) = recover(id, &[ME, OTHERS[0], OTHERS[1]], Stored::default()).unwrap();
    assert_eq!(effects, []);
    consensus
}

fn drain(effects: &mut Effects) -> Vec<Effect> {
    std::iter::from_fn(|| effects.pop()).collect()
}

fn step(consensus: &mut Consensus, now: u64, event: Event) -> Vec<Effect> {
    let mut effects = Effects::default();
    consensus.step(Tick(now), event, &mut effects);
    drain(&mut effects)
}

fn sent(effects: &[Effect]) -> Vec<(BrokerId, Bytes, Option<WriteId>)> {
    let send = |effect: &Effect| match effect {
        Effect::Send { to, bytes, after } => Some((*to, bytes.clone(), *after)),
        _ => None,
    };
    effects.iter().filter_map(send).collect()
}

fn message_to(id: BrokerId, effects: &[Effect]) -> Bytes {
    sent(effects).into_iter().find(|(to, ..)| *to == id).map(|(_, bytes, _)| bytes).expect("a message")
}

/// Names of the effects, with what they wait for.
fn shape(effects: &[Effect]) -> Vec<String> {
    let name = |effect: &Effect| match effect {
        Effect::Persist(p) => format!("persist {} entries {}", p.write.0, p.entries.len()),
        Effect::Send { to, after, .. } => match after {
            Some(after) => format!("send {to} after {}", after.0),
            None => format!("send {to}"),
        },
        Effect::Committed(entries) => format!("committed {:?}", entries.iter().map(|e| e.index).collect::<Vec<_>>()),
        Effect::Installed(installed) => format!("installed {}", installed.index),
        Effect::RoleChanged(role) => format!("role term {} leads {}", role.term, role.is_leader),
        Effect::ReadReady { read, index } => format!("read {} at {index}", read.0),
    };
    effects.iter().map(name).collect()
}

/// Ticks `consensus` until it says something.
fn until_it_stands(consensus: &mut Consensus) -> (u64, Vec<Effect>) {
    for now in (50..5_000).step_by(50) {
        let effects = step(consensus, now, Event::Ticked);
        if !effects.is_empty() {
            return (now, effects);
        }
    }
    panic!("never stood for election");
}

#[test]
fn a_sole_voter_leads_at_once_and_commits_when_its_write_is_durable() {
    let (mut consensus, effects) = recover(ME, &[ME], Stored::default()).unwrap();
    assert!(consensus.role().is_leader);
    assert_eq!(shape(&effects), ["persist 1 entries 1", "role term 1 leads true"]);
    assert_eq!(shape(&step(&mut consensus, 1, Event::PersistCompleted(WriteId(1)))), ["committed [1]"]);

    let mut effects = Effects::default();
    assert_eq!(consensus.next_index(), 2);
    assert_eq!(consensus.propose(Tick(2), b"x".to_vec(), &mut effects), Ok(2));
    assert_eq!(shape(&drain(&mut effects)), ["persist 2 entries 1"]);
    let committed = Committed { index: 2, term: 1, data: Bytes::from_static(b"x") };
    assert_eq!(step(&mut consensus, 3, Event::PersistCompleted(WriteId(2))), [Effect::Committed(vec![committed])]);
    assert_eq!(shape(&step(&mut consensus, 4, Event::ReadIndexRequested(ReadId(7)))), ["read 7 at 2"]);
}

/// C4: term and vote are durable before any message that implies them; so are entries before they are confirmed.
#[test]
fn votes_and_confirmations_wait_for_their_write() {
    let (mut one, mut two) = (three(ME), three(OTHERS[0]));
    // Asking whether it would be elected changes nothing and waits for nothing.
    let (now, effects) = until_it_stands(&mut one);
    // raft-rs walks its peers in an order of its own, always the same.
    assert_eq!(shape(&effects), ["send 3", "send 2"]);
    let pre_vote = message_to(OTHERS[0], &effects);
    // By then the other has heard nothing for as long.
    let (_, _) = until_it_stands(&mut two);
    let effects = step(&mut two, now, Event::MessageReceived(pre_vote));
    assert_eq!(shape(&effects), ["send 1"]);

    // It really stands: term and own vote first, then the requests.
    let effects = step(&mut one, now, Event::MessageReceived(sent(&effects)[0].1.clone()));
    assert_eq!(shape(&effects), ["persist 1 entries 0", "send 3 after 1", "send 2 after 1", "role term 1 leads false"]);
    let vote = message_to(OTHERS[0], &effects);
    assert_eq!(step(&mut one, now, Event::PersistCompleted(WriteId(1))), []);

    // The voter writes its vote before it says so.
    let effects = step(&mut two, now, Event::MessageReceived(vote));
    assert_eq!(shape(&effects), ["persist 1 entries 0", "send 1 after 1", "role term 1 leads false"]);
    let granted = sent(&effects)[0].1.clone();
    assert_eq!(step(&mut two, now, Event::PersistCompleted(WriteId(1))), []);

    // A leader may send what it is still writing; it counts itself only when that is durable.
    let effects = step(&mut one, now, Event::MessageReceived(granted));
    assert_eq!(shape(&effects), ["persist 2 entries 1", "send 3", "send 2", "role term 1 leads true"]);
    let append = message_to(OTHERS[0], &effects);

    // The follower confirms after its write.
    let effects = step(&mut two, now, Event::MessageReceived(append));
    assert_eq!(shape(&effects), ["persist 2 entries 1", "send 1 after 2", "role term 1 leads false"]);
    let confirmed = sent(&effects)[0].1.clone();

    // One durable copy of three is no majority, two are.
    let effects = step(&mut one, now, Event::MessageReceived(confirmed));
    assert!(!shape(&effects).contains(&"committed [1]".to_owned()), "{:?}", shape(&effects));
    let effects = step(&mut one, now, Event::PersistCompleted(WriteId(2)));
    assert!(shape(&effects).contains(&"committed [1]".to_owned()), "{:?}", shape(&effects));
}

#[test]
fn a_follower_refuses_proposals() {
    let mut effects = Effects::default();
    assert_eq!(three(ME).propose(Tick(0), Vec::new(), &mut effects), Err(ProposeError::NotLeader));
    assert!(effects.is_empty());
}

#[test]
fn a_leader_cut_off_from_the_others_steps_down() {
    let (mut one, mut two) = (three(ME), three(OTHERS[0]));
    let (now, effects) = until_it_stands(&mut one);
    until_it_stands(&mut two);
    let mut to_two = vec![message_to(OTHERS[0], &effects)];
    for _ in 0..4 {
        let mut to_one = Vec::new();
        for bytes in std::mem::take(&mut to_two) {
            let effects = step(&mut two, now, Event::MessageReceived(bytes));
            to_one.extend(sent(&effects).into_iter().filter(|(to, ..)| *to == ME).map(|(_, bytes, _)| bytes));
            step(&mut two, now, Event::PersistCompleted(WriteId(u64::MAX)));
        }
        for bytes in to_one {
            let effects = step(&mut one, now, Event::MessageReceived(bytes));
            to_two.extend(sent(&effects).into_iter().filter(|(to, ..)| *to == OTHERS[0]).map(|(_, bytes, _)| bytes));
            step(&mut one, now, Event::PersistCompleted(WriteId(u64::MAX)));
        }
    }
    assert!(one.role().is_leader);
    for later in (now + 50..now + 3_000).step_by(50) {
        step(&mut one, later, Event::Ticked);
    }
    let Role { is_leader, leader, .. } = one.role();
    assert_eq!((is_leader, leader), (false, None));
}

#[test]
fn a_snapshot_and_the_tail_are_found_again() {
    let (mut consensus, effects) = recover(ME, &[ME], Stored::default()).unwrap();
    let mut stored = Stored::default();
    let mut entries = std::collections::BTreeMap::new();
    let mut keep = |effects: Vec<Effect>, stored: &mut Stored| {
        for effect in effects {
            let Effect::Persist(Persist { hard_state, snapshot, remove_below, entries: new, .. }) = effect else {
                continue;
            };
            stored.hard_state = hard_state.or(stored.hard_state.take());
            stored.snapshot = snapshot.or(stored.snapshot.take());
            entries.extend(new);
            entries = entries.split_off(&remove_below.unwrap_or(0));
            stored.entries = entries.clone().into_iter().collect();
        }
    };
    keep(effects, &mut stored);
    step(&mut consensus, 1, Event::PersistCompleted(WriteId(1)));
    for write in 2..=6 {
        let mut effects = Effects::default();
        consensus.propose(Tick(write), vec![write as u8], &mut effects).unwrap();
        keep(drain(&mut effects), &mut stored);
        step(&mut consensus, write, Event::PersistCompleted(WriteId(write)));
        if write == 4 {
            let mut effects = Effects::default();
            consensus.compact(Bytes::from_static(b"image"), &mut effects);
            let effects = drain(&mut effects);
            assert!(matches!(&effects[..], [Effect::Persist(p)] if p.remove_below == Some(5)), "{effects:?}");
            keep(effects, &mut stored);
            // The next write has the number after it.
            let mut effects = Effects::default();
            consensus.propose(Tick(write), vec![0], &mut effects).unwrap();
            keep(drain(&mut effects), &mut stored);
            step(&mut consensus, write, Event::PersistCompleted(WriteId(6)));
            break;
        }
    }
    assert_eq!(stored.entries.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [5]);
    let (mut again, effects) = recover(ME, &[ME], stored.clone()).unwrap();
    assert_eq!(shape(&effects)[0], "installed 4");
    let effects = step(&mut again, 1, Event::PersistCompleted(WriteId(1)));
    assert_eq!(shape(&effects), ["committed [5, 6]"], "the tail, and the first entry of the new term");

    // C9: a hole is not bridged.
    stored.snapshot = None;
    let refused = recover(ME, &[ME], stored).map(|_| ());
    assert_eq!(refused, Err(RecoverError::Gap { expected: 1, found: 5 }));
}

/// Three voters whose writes are durable at once and whose messages arrive at once, unless somebody is cut off.
struct Trio {
    voters: Vec<Consensus>,
    now: u64,
}

impl Trio {
    /// Voter 1 leads, and the others know it.
    fn led_by_the_first() -> Trio {
        let mut trio = Trio { voters: [ME, OTHERS[0], OTHERS[1]].map(three).into(), now: 0 };
        // The others have heard nothing for as long, so that they grant a pre-vote.
        for id in 1..=3 {
            let mut effects = Vec::new();
            (50..=1_400).step_by(50).for_each(|now| effects.extend(step(trio.voter(id), now, Event::Ticked)));
            trio.now = 1_400;
            if id == 1 {
                trio.settle(1, effects, &[]);
            }
        }
        while !trio.voter(1).role().is_leader {
            trio.pass(50, &[2, 3], &[]);
        }
        trio.pass(200, &[], &[]);
        assert_eq!(trio.leaders(), [Some(1), Some(1), Some(1)]);
        trio
    }

    fn voter(&mut self, id: i32) -> &mut Consensus {
        &mut self.voters[id as usize - 1]
    }

    fn leaders(&self) -> Vec<Option<i32>> {
        self.voters.iter().map(|voter| voter.role().leader.map(|id| id.0)).collect()
    }

    fn tell(&mut self, id: i32, event: Event, cut_off: &[i32]) {
        let now = self.now;
        let effects = step(self.voter(id), now, event);
        self.settle(id, effects, cut_off);
    }

    /// Carries out what a voter asks for; to and from the cut off nothing arrives.
    fn settle(&mut self, id: i32, effects: Vec<Effect>, cut_off: &[i32]) {
        for effect in &effects {
            if let Effect::Persist(persist) = effect {
                self.tell(id, Event::PersistCompleted(persist.write), cut_off);
            }
        }
        for (to, bytes, _) in sent(&effects) {
            if !cut_off.contains(&id) && !cut_off.contains(&to.0) {
                self.tell(to.0, Event::MessageReceived(bytes), cut_off);
            }
        }
    }

    /// Time passes for all but `still`.
    fn pass(&mut self, ms: u64, still: &[i32], cut_off: &[i32]) {
        for _ in 0..ms / 50 {
            self.now += 50;
            for id in (1..=3).filter(|id| !still.contains(id)) {
                self.tell(id, Event::Ticked, cut_off);
            }
        }
    }
}

#[test]
fn a_leader_whose_streams_end_is_replaced_after_two_heartbeats() {
    let mut trio = Trio::led_by_the_first();
    let term = trio.voter(1).role().term;
    for id in [2, 3] {
        trio.tell(id, Event::PeerLost(ME), &[1]);
    }
    trio.pass(150, &[1], &[1]);
    assert_eq!(trio.leaders()[1..], [None, None], "a leader that lives has two heartbeats to say so");
    trio.pass(50, &[1], &[1]);
    assert_eq!(trio.leaders()[1..], [Some(2), Some(2)]);
    assert_eq!(trio.voter(2).role().term, term + 1);
}

/// The first in rank is dead as well, or its log is too short: the next one does not wait for a whole time-out.
#[test]
fn the_next_in_rank_stands_soon_after() {
    let mut trio = Trio::led_by_the_first();
    for id in [2, 3] {
        trio.tell(id, Event::PeerLost(ME), &[1]);
    }
    trio.pass(300, &[1, 2], &[1]);
    assert_eq!(trio.leaders()[1..], [Some(3), Some(3)]);
}

#[test]
fn a_leader_that_lives_stays_when_one_stream_to_it_ends() {
    let mut trio = Trio::led_by_the_first();
    let term = trio.voter(1).role().term;
    // Its own stream to the follower stands: the next heartbeat says that nothing has happened.
    trio.tell(2, Event::PeerLost(ME), &[]);
    assert_eq!(trio.leaders(), [Some(1), None, Some(1)]);
    trio.pass(100, &[], &[]);
    assert_eq!(trio.leaders(), [Some(1), Some(1), Some(1)]);
    // From then on the follower is as patient as ever.
    trio.pass(650, &[1], &[]);
    assert_eq!((trio.leaders()[1], trio.voter(2).role().term), (Some(1), term));
    trio.pass(100, &[], &[]);
    // The other way is gone too, for one follower only: who still hears the leader grants it nothing.
    trio.tell(2, Event::PeerLost(ME), &[2]);
    for _ in 0..20 {
        trio.now += 50;
        trio.tell(1, Event::Ticked, &[2]);
        trio.tell(3, Event::Ticked, &[2]);
        trio.tell(2, Event::Ticked, &[]);
    }
    assert_eq!((trio.leaders()[0], trio.leaders()[2], trio.voter(1).role().term), (Some(1), Some(1), term));
}
