//! The assignors against what they promise, on random groups; where the promise is an optimum, against every possibility.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{PartitionIndex, Random, TopicId, TopicPartition};
use coordinator_core::assignor::{Assignor, Group, Member, Partitions, Topic};

const RACKS: [&str; 3] = ["a", "b", "c"];

/// A group that owns its data.
#[derive(Clone, Debug, Default)]
struct Case {
    members: Vec<CaseMember>,
    /// Partitions by topic, and the racks of each.
    topics: BTreeMap<TopicId, Vec<Vec<&'static str>>>,
}

#[derive(Clone, Debug, Default)]
struct CaseMember {
    id: String,
    instance_id: Option<String>,
    rack: Option<&'static str>,
    subscribed: BTreeSet<TopicId>,
    target: Partitions,
}

impl Case {
    fn assign(&self, assignor: Assignor) -> Vec<Partitions> {
        let topic = |racks: &Vec<Vec<&'static str>>| Topic { partitions: racks.len(), racks: racks.clone() };
        let member = |member: &'static CaseMember| Member {
            member_id: &member.id,
            instance_id: member.instance_id.as_deref(),
            rack: member.rack,
            subscribed: &member.subscribed,
            target: &member.target,
        };
        // A test lives as long as its program: the borrow may, too.
        let members: &'static [CaseMember] = Vec::leak(self.members.clone());
        assignor.assign(&Group {
            members: members.iter().map(member).collect(),
            topics: self.topics.iter().map(|(id, racks)| (*id, topic(racks))).collect(),
        })
    }

    fn settle(&mut self, assignor: Assignor) -> Vec<Partitions> {
        let targets = self.assign(assignor);
        for (member, target) in self.members.iter_mut().zip(&targets) {
            member.target.clone_from(target);
        }
        targets
    }

    fn is_homogeneous(&self) -> bool {
        self.members.windows(2).all(|two| two[0].subscribed == two[1].subscribed)
    }

    /// What a member holds, still wants and still can have.
    fn kept(&self, member: usize) -> Partitions {
        let member = &self.members[member];
        let stands = |held: &&TopicPartition| {
            let partitions = self.topics.get(&held.topic).map_or(0, Vec::len);
            member.subscribed.contains(&held.topic) && (held.partition.0 as usize) < partitions
        };
        member.target.iter().filter(stands).copied().collect()
    }

    fn wanted(&self) -> Partitions {
        let subscribed: BTreeSet<&TopicId> = self.members.iter().flat_map(|member| &member.subscribed).collect();
        let of = |topic: &TopicId| (0..self.topics.get(topic).map_or(0, Vec::len) as i32).map(PartitionIndex);
        subscribed
            .into_iter()
            .flat_map(|&topic| of(&topic).map(move |partition| TopicPartition { topic, partition }))
            .collect()
    }

    fn near(&self, targets: &[Partitions]) -> usize {
        let is_near = |member: &CaseMember, held: &TopicPartition| {
            member.rack.is_some_and(|rack| self.topics[&held.topic][held.partition.0 as usize].contains(&rack))
        };
        let count =
            |(member, target): (&CaseMember, &Partitions)| target.iter().filter(|held| is_near(member, held)).count();
        self.members.iter().zip(targets).map(count).sum()
    }
}

fn topic(number: u8) -> TopicId {
    TopicId([number; 16])
}

fn random_case(random: &mut Random, members: u64, topics: u64, partitions: u64) -> Case {
    let mut case = Case::default();
    for number in 0..random.between(1, topics) {
        let count = random.between(0, partitions);
        let racks = (0..count).map(|_| RACKS.into_iter().filter(|_| random.chance(500)).collect()).collect();
        case.topics.insert(topic(number as u8), racks);
    }
    let alike = random.chance(500);
    let mut subscribed = random_subscription(random, topics);
    for number in 0..random.between(1, members) {
        if !alike {
            subscribed = random_subscription(random, topics);
        }
        case.members.push(CaseMember {
            id: format!("m{number:02}"),
            instance_id: random.chance(300).then(|| format!("i{}", 99 - number)),
            rack: random.chance(500).then(|| RACKS[random.below(3) as usize]),
            subscribed: subscribed.clone(),
            target: Partitions::new(),
        });
    }
    case
}

fn random_subscription(random: &mut Random, topics: u64) -> BTreeSet<TopicId> {
    // One more than there are: it does not exist.
    (0..=topics).filter(|_| random.chance(600)).map(|number| topic(number as u8)).collect()
}

/// Something happens to the group: the targets are then those of before.
fn disturb(case: &mut Case, random: &mut Random, topics: u64) {
    match random.below(4) {
        0 if case.members.len() > 1 => {
            let gone = random.below(case.members.len() as u64) as usize;
            case.members.remove(gone);
        }
        1 => {
            let subscribed = case.members[0].subscribed.clone();
            let id = format!("n{}", random.below(1_000_000));
            case.members.push(CaseMember { id, subscribed, ..CaseMember::default() });
        }
        2 => {
            let chosen = random.below(case.members.len() as u64) as usize;
            case.members[chosen].subscribed = random_subscription(random, topics);
        }
        _ => {
            let chosen = topic(random.below(topics) as u8);
            let count = random.between(0, 12);
            let racks = (0..count).map(|_| RACKS.into_iter().filter(|_| random.chance(500)).collect()).collect();
            case.topics.insert(chosen, racks);
        }
    }
}

fn assert_complete(case: &Case, targets: &[Partitions], seed: u64) {
    let mut all = Partitions::new();
    for (member, target) in case.members.iter().zip(targets) {
        for held in target {
            assert!(
                member.subscribed.contains(&held.topic),
                "seed {seed}: {held} is not subscribed to by {}",
                member.id
            );
            assert!(all.insert(*held), "seed {seed}: {held} has two owners");
        }
    }
    assert_eq!(all, case.wanted(), "seed {seed}: every partition has an owner");
}

#[test]
fn every_subscribed_partition_is_assigned_exactly_once() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let assignor = Assignor::ALL[(seed % 2) as usize];
        let mut case = random_case(&mut random, 8, 5, 12);
        for _ in 0..6 {
            let targets = case.settle(assignor);
            assert_complete(&case, &targets, seed);
            disturb(&mut case, &mut random, 5);
        }
    }
}

#[test]
fn nothing_moves_when_nothing_has_changed() {
    for seed in 0..1_000 {
        let mut random = Random::new(seed);
        let mut case = random_case(&mut random, 8, 5, 12);
        for _ in 0..4 {
            for &assignor in Assignor::ALL {
                let targets = case.settle(assignor);
                assert_eq!(case.assign(assignor), targets, "seed {seed}: {}", assignor.name());
            }
            disturb(&mut case, &mut random, 5);
        }
    }
}

#[test]
fn uniform_is_even_and_moves_as_little_as_that_allows() {
    for seed in 0..3_000 {
        let mut random = Random::new(seed);
        let mut case = random_case(&mut random, 9, 4, 12);
        for _ in 0..6 {
            if case.is_homogeneous() {
                let kept: Vec<Partitions> = (0..case.members.len()).map(|member| case.kept(member)).collect();
                let targets = case.assign(Assignor::Uniform);
                let loads: Vec<usize> = targets.iter().map(BTreeSet::len).collect();
                let (least, most) = (loads.iter().min().expect("members"), loads.iter().max().expect("members"));
                assert!(most - least <= 1, "seed {seed}: {loads:?}");

                // Whoever had more than the quota may keep one more, as long as there are any to keep.
                let (quota, mut extra) =
                    (case.wanted().len() / case.members.len(), case.wanted().len() % case.members.len());
                let mut keepable = 0;
                for held in &kept {
                    keepable += held.len().min(quota);
                    if held.len() > quota && extra > 0 {
                        (keepable, extra) = (keepable + 1, extra - 1);
                    }
                }
                let stayed: usize = kept.iter().zip(&targets).map(|(held, now)| held.intersection(now).count()).sum();
                assert_eq!(stayed, keepable, "seed {seed}: {case:?} became {targets:?}");
            }
            case.settle(Assignor::Uniform);
            disturb(&mut case, &mut random, 4);
        }
    }
}

/// The least sum of squares there is, by trying everything.
fn least_squares(case: &Case) -> usize {
    fn search(case: &Case, rest: &[TopicPartition], loads: &mut Vec<usize>) -> usize {
        let Some((first, rest)) = rest.split_first() else { return loads.iter().map(|load| load * load).sum() };
        let subscribers = (0..loads.len()).filter(|&member| case.members[member].subscribed.contains(&first.topic));
        subscribers
            .map(|member| {
                loads[member] += 1;
                let least = search(case, rest, loads);
                loads[member] -= 1;
                least
            })
            .min()
            .expect("a subscriber")
    }
    search(case, &case.wanted().into_iter().collect::<Vec<_>>(), &mut vec![0; case.members.len()])
}

#[test]
fn uniform_is_as_even_as_different_subscriptions_allow() {
    let mut compared = 0;
    for seed in 0..3_000 {
        let mut random = Random::new(seed);
        let mut case = random_case(&mut random, 4, 4, 4);
        for _ in 0..4 {
            if case.wanted().len() <= 8 {
                let loads = case.assign(Assignor::Uniform).iter().map(|held| held.len() * held.len()).sum::<usize>();
                assert_eq!(loads, least_squares(&case), "seed {seed}: {case:?}");
                compared += 1;
            }
            case.settle(Assignor::Uniform);
            disturb(&mut case, &mut random, 4);
        }
    }
    assert!(compared > 3_000, "{compared}");
}

#[test]
fn uniform_passes_partitions_along_a_chain() {
    // m0 wants topic 0, m1 both, m2 topic 1. Only by way of m1 can m0's burden reach m2.
    let subscriptions = [vec![0], vec![0, 1], vec![1]];
    let member = |(number, topics): (usize, &Vec<u8>)| CaseMember {
        id: format!("m{number}"),
        subscribed: topics.iter().map(|&number| topic(number)).collect(),
        ..CaseMember::default()
    };
    let mut case = Case {
        members: subscriptions.iter().enumerate().map(member).collect(),
        topics: [(topic(0), vec![vec![]; 3]), (topic(1), vec![vec![]; 3])].into(),
    };
    let held = |number, partitions: &[i32]| {
        let topic = topic(number);
        partitions
            .iter()
            .map(|&index| TopicPartition { topic, partition: PartitionIndex(index) })
            .collect::<Partitions>()
    };
    case.members[0].target = held(0, &[0, 1, 2]);
    case.members[1].target = held(1, &[0, 1]);
    case.members[2].target = held(1, &[2]);
    let loads: Vec<usize> = case.assign(Assignor::Uniform).iter().map(BTreeSet::len).collect();
    assert_eq!(loads, [2, 2, 2]);
}

#[test]
fn uniform_spreads_a_topic_over_all_members() {
    let mut case = Case::default();
    for number in 0..9 {
        case.topics.insert(topic(number), vec![vec![]; 100]);
    }
    for number in 0..10 {
        let id = format!("m{number}");
        case.members.push(CaseMember {
            id,
            subscribed: case.topics.keys().copied().collect(),
            ..CaseMember::default()
        });
    }
    for target in case.assign(Assignor::Uniform) {
        for number in 0..9 {
            assert_eq!(target.iter().filter(|held| held.topic == topic(number)).count(), 10);
        }
    }
}

#[test]
fn uniform_gives_members_what_is_in_their_rack() {
    let mut case = Case::default();
    case.topics.insert(topic(0), (0..30).map(|index| vec![RACKS[index % 3], RACKS[(index + 1) % 3]]).collect());
    for number in 0..6 {
        let id = format!("m{number}");
        let rack = Some(RACKS[number % 3]);
        case.members.push(CaseMember { id, rack, subscribed: [topic(0)].into(), ..CaseMember::default() });
    }
    let targets = case.settle(Assignor::Uniform);
    assert_eq!(case.near(&targets), 30);

    // One leaves: what it had goes to others, mostly near it, and nothing else moves.
    let gone = case.members.remove(0);
    let before: Vec<Partitions> = case.members.iter().map(|member| member.target.clone()).collect();
    let targets = case.assign(Assignor::Uniform);
    for (before, after) in before.iter().zip(&targets) {
        assert!(before.is_subset(after));
        assert!(after.difference(before).all(|held| gone.target.contains(held)));
    }
    assert!(targets.iter().all(|target| target.len() == 6));
    assert!(case.near(&targets) >= 28, "{} of 30 are near", case.near(&targets));
}

#[test]
fn racks_cost_no_balance_and_no_move() {
    for seed in 0..1_000 {
        let mut random = Random::new(seed);
        let mut case = random_case(&mut random, 8, 4, 12);
        case.settle(Assignor::Uniform);
        disturb(&mut case, &mut random, 4);
        let mut blind = case.clone();
        blind.members.iter_mut().for_each(|member| member.rack = None);
        let (seeing, blind) = (case.assign(Assignor::Uniform), blind.assign(Assignor::Uniform));
        let squares = |targets: &[Partitions]| targets.iter().map(|target| target.len() * target.len()).sum::<usize>();
        assert_eq!(squares(&seeing), squares(&blind), "seed {seed}");
        if case.is_homogeneous() {
            let stayed = |targets: &[Partitions]| -> usize {
                targets.iter().enumerate().map(|(m, now)| case.kept(m).intersection(now).count()).sum()
            };
            assert_eq!(stayed(&seeing), stayed(&blind), "seed {seed}");
        }
    }
}

#[test]
fn range_cuts_topics_of_one_size_alike_and_static_members_come_first() {
    let mut case = Case::default();
    for number in 0..3 {
        case.topics.insert(topic(number), vec![vec![]; 10]);
    }
    for (id, instance_id) in [("m2", None), ("m0", None), ("z9", Some("one")), ("m1", None)] {
        case.members.push(CaseMember {
            id: id.to_owned(),
            instance_id: instance_id.map(str::to_owned),
            subscribed: case.topics.keys().copied().collect(),
            ..CaseMember::default()
        });
    }
    let targets = case.assign(Assignor::Range);
    let indexes = |target: &Partitions, number: u8| -> Vec<i32> {
        target.iter().filter(|held| held.topic == topic(number)).map(|held| held.partition.0).collect()
    };
    for number in 0..3 {
        assert_eq!(indexes(&targets[2], number), [0, 1, 2]);
        assert_eq!(indexes(&targets[1], number), [3, 4, 5]);
        assert_eq!(indexes(&targets[3], number), [6, 7]);
        assert_eq!(indexes(&targets[0], number), [8, 9]);
    }
}

#[test]
fn an_assignor_is_found_by_its_name_only() {
    assert_eq!(Assignor::named("uniform"), Some(Assignor::Uniform));
    assert_eq!(Assignor::named("range"), Some(Assignor::Range));
    assert_eq!(Assignor::named("Range"), None);
}
