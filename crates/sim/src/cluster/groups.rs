//! Which groups a run has, and who is in them.
//!
//! Every run has groups of both protocols; the seed decides what their members' clients are like: new or old, static or not.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use base_types::{Random, Tick};

use super::Shape;
use crate::checkers::groups::{Group, GroupProtocol, Judge, Shared, Who};
use crate::faults::Seat;
use crate::process::client::auditor::Auditor;
use crate::process::client::classic_member::{ClassicMember, Versions};
use crate::process::client::consumer_member::ConsumerMember;
use crate::process::client::member::{Card, Member};
use crate::world::{ProcessId, Time, World};

const MEMBERS: i32 = 3;
/// Numbers of processes of one group: members, then their stand-ins.
const PROCESSES: i32 = 100;
const STAND_INS: i32 = 50;
/// Auditors are clients from here on.
const AUDITORS: i32 = 100;
const SESSION_MS: u64 = 2_000;
/// At least a session, which the judge relies on: who is late for a rebalance is put out no earlier than who is silent.
const REBALANCE_MS: i32 = 3_000;
const HEARTBEAT_MS: u64 = 300;

/// What clients a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    Classic,
    /// Of Kafka 0.11: no member id before the first join, and offsets that are kept only as long as the group has members.
    OldClassic,
    StaticClassic,
    Consumer,
    StaticConsumer,
}

pub(super) struct Groups {
    pub judge: Shared,
    pub min_insync_replicas: Option<u8>,
    gateways: i32,
    groups: Vec<(Clients, Group)>,
}

/// Who a group's members are: all of one flavour, or in the first slot of another one than in the others.
#[derive(Clone, Copy, Debug)]
struct Clients {
    first: Flavour,
    others: Flavour,
}

impl Clients {
    fn all(flavour: Flavour) -> Clients {
        Clients { first: flavour, others: flavour }
    }

    fn flavour(self, slot: i32) -> Flavour {
        if slot == 1 { self.first } else { self.others }
    }

    fn protocol(self) -> GroupProtocol {
        match (self.first.is_consumer_protocol(), self.others.is_consumer_protocol()) {
            (false, false) => GroupProtocol::Classic,
            (true, true) => GroupProtocol::Consumer,
            _ => GroupProtocol::Mixed,
        }
    }
}

/// What brokers and gateways are started with, so that what takes Kafka minutes fits into a run.
pub(super) fn statics() -> BTreeMap<String, String> {
    let configs = [
        ("group.consumer.heartbeat.interval.ms", HEARTBEAT_MS),
        ("group.consumer.session.timeout.ms", SESSION_MS),
        ("group.initial.rebalance.delay.ms", 200),
        ("group.min.session.timeout.ms", 500),
        // Shorter than a session, as Kafka's is: a member that waits for its answer does not heartbeat.
        ("offsets.commit.timeout.ms", 1_500),
        ("offsets.retention.check.interval.ms", 500),
        ("offsets.topic.num.partitions", 2),
    ];
    configs.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect()
}

impl Flavour {
    const CLASSIC: [Flavour; 3] = [Flavour::Classic, Flavour::OldClassic, Flavour::StaticClassic];
    const CONSUMER: [Flavour; 2] = [Flavour::Consumer, Flavour::StaticConsumer];

    fn any(of: &[Flavour], random: &mut Random) -> Flavour {
        of[random.below(of.len() as u64) as usize]
    }

    fn is_static(self) -> bool {
        matches!(self, Flavour::StaticClassic | Flavour::StaticConsumer)
    }

    fn is_consumer_protocol(self) -> bool {
        matches!(self, Flavour::Consumer | Flavour::StaticConsumer)
    }

    /// OffsetCommit, OffsetFetch.
    fn versions(self) -> (i16, i16) {
        match self {
            Flavour::Classic => (8, 8),
            Flavour::OldClassic => (4, 5),
            Flavour::StaticClassic => (7, 7),
            Flavour::Consumer => (9, 9),
            Flavour::StaticConsumer => (10, 10),
        }
    }
}

impl Groups {
    /// The first group speaks the classic protocol and the second one the consumer protocol; the third may be on its way from one
    /// to the other: the one member who speaks differently comes and goes, and the group with it.
    pub fn new(shape: Shape, seed: u64) -> Groups {
        if shape.groups == 0 {
            let judge = Rc::new(RefCell::new(Judge::new(Vec::new())));
            return Groups { judge, min_insync_replicas: None, gateways: shape.gateways, groups: Vec::new() };
        }
        let mut random = Random::new(seed).fork(6);
        let mut groups = Vec::new();
        for index in 0..shape.groups {
            let clients = match index {
                0 => Clients::all(Flavour::any(&Flavour::CLASSIC, &mut random)),
                1 => Clients::all(Flavour::any(&Flavour::CONSUMER, &mut random)),
                _ => match random.below(5) {
                    0 => Clients { first: Flavour::Classic, others: Flavour::Consumer },
                    1 => Clients { first: Flavour::Consumer, others: Flavour::Classic },
                    2 | 3 => Clients::all(Flavour::any(&Flavour::CLASSIC, &mut random)),
                    _ => Clients::all(Flavour::any(&Flavour::CONSUMER, &mut random)),
                },
            };
            let protocol = clients.protocol();
            let name = match protocol {
                GroupProtocol::Mixed => format!("{:?}And{:?}-{index}", clients.first, clients.others),
                GroupProtocol::Classic | GroupProtocol::Consumer => format!("{:?}-{index}", clients.first),
            };
            let group = Group {
                name,
                partitions: shape.partitions(),
                session_ms: SESSION_MS,
                offsets_expire: clients.first == Flavour::OldClassic,
                protocol,
            };
            groups.push((clients, group));
        }
        let judge = Judge::new(groups.iter().map(|(_, group)| group.clone()).collect());
        Groups {
            judge: Rc::new(RefCell::new(judge)),
            min_insync_replicas: random.chance(500).then_some(2),
            gateways: shape.gateways,
            groups,
        }
    }

    /// One member of each group may die for good.
    pub fn seats(&self) -> Vec<Seat> {
        let seats = self.groups.iter().enumerate().flat_map(|(index, (clients, _))| {
            (1..=MEMBERS).map(move |slot| {
                let (number, flavour) = (index as i32 * PROCESSES + slot, clients.flavour(slot));
                Seat {
                    process: ProcessId::Member(number),
                    stand_in: flavour.is_static().then_some(ProcessId::Member(number + STAND_INS)),
                    is_mortal: slot == 1,
                }
            })
        });
        seats.collect()
    }

    pub fn start_auditor(&self, world: &mut World, gateway: i32) {
        if !self.groups.is_empty() {
            let groups = self.groups.iter().map(|(_, group)| group.clone()).collect();
            world.start(ProcessId::Client(AUDITORS + gateway), Auditor::new(gateway, groups, self.judge.clone()));
        }
    }

    pub fn start_member(&self, world: &mut World, process: i32) {
        let index = process / PROCESSES;
        let Some((clients, group)) = self.groups.get(index as usize) else { return };
        let number = process % PROCESSES % STAND_INS;
        let flavour = clients.flavour(number);
        // A stand-in has the slot of the one that it stands in for.
        let who = Who { group: index as usize, slot: index * PROCESSES + number, process };
        let (commit_version, fetch_version) = flavour.versions();
        let card = Card {
            who,
            group: group.clone(),
            instance: flavour.is_static().then(|| format!("instance-{number}")),
            rebalance_ms: REBALANCE_MS,
            heartbeat_ms: HEARTBEAT_MS,
            gateways: self.gateways,
            is_consumer_protocol: flavour.is_consumer_protocol(),
            commit_version,
            fetch_version,
            judge: self.judge.clone(),
        };
        let id = ProcessId::Member(process);
        let newest = Versions { join: 9, sync: 5, heartbeat: 4, leave: 5 };
        match flavour {
            Flavour::Classic => world.start(id, Member::new(card, ClassicMember::new(newest))),
            Flavour::OldClassic => {
                let versions = Versions { join: 2, sync: 1, heartbeat: 1, leave: 1 };
                world.start(id, Member::new(card, ClassicMember::new(versions)));
            }
            Flavour::StaticClassic => {
                let versions = Versions { join: 5, sync: 3, heartbeat: 3, leave: 3 };
                world.start(id, Member::new(card, ClassicMember::new(versions)));
            }
            Flavour::Consumer | Flavour::StaticConsumer => {
                world.start(id, Member::new(card, ConsumerMember::default()));
            }
        }
    }

    pub fn died(&self, process: i32, at: Time) {
        self.judge.borrow_mut().died(process, Tick(at.ms()));
    }

    pub fn judged(&self) -> Result<(), String> {
        self.judge.borrow().complaint().map_or(Ok(()), |complaint| Err(complaint.clone()))
    }

    pub fn healed(&self, world: &World, ends: &BTreeMap<i32, i64>) -> Result<(), String> {
        self.judge.borrow().healed(|process| world.is_alive(ProcessId::Member(process)), ends)
    }
}
