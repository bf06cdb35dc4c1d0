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
