//! `uniform`: loads are as even as the subscriptions allow, and among such assignments few partitions move.
//!
//! ```text
//!  keep what is still wanted ──► hand out what nobody has ──► even out along chains of members
//! ```
//!
//! With equal subscriptions loads differ by one at most, and no assignment with that property moves fewer partitions. With
//! different ones no member has a load that could be lowered by passing partitions on, directly or along a chain of members
//! (A gives to B, B gives to C): that is the least sum of squared loads there is (Harvey, Ladner, Lovász, Tamir: *Semi-matchings
//! for bipartite graphs and load balancing*, 2006).
//!
//! Racks decide between partitions that could equally well be handed out or moved. Nothing moves for the sake of a rack, and
//! no load is less even for it.
//!
//! Deviation from Kafka: Kafka 4.3 ignores racks in this assignor, though KIP-848 means it to heed them, and hands out whole
//! runs of one topic; here the partitions of a topic are spread over all subscribers, so that a busy topic loads nobody alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use base_types::{PartitionIndex, TopicId, TopicPartition};

use super::{Group, Partitions, Topic};

/// How many partitions are looked at for one that suits the racks, so that one move costs little whatever a member holds.
const RACK_LOOKAHEAD: usize = 64;

pub fn assign(group: &Group<'_>) -> Vec<Partitions> {
    let mut board = Board::new(group);
    board.keep();
    board.hand_out();
    board.even_out();
    board.targets()
}

/// Indices in place of names. Topics with the same subscribers are one class: for the balance they are all the same.
struct Board<'a> {
    group: &'a Group<'a>,
    has_racks: bool,
    partitions: Vec<Partition<'a>>,
    classes: Vec<Class>,
    members: Vec<Load>,
}

struct Partition<'a> {
    topic: TopicId,
    shape: &'a Topic<'a>,
    index: usize,
    class: usize,
    is_kept: bool,
}

#[derive(Default)]
struct Class {
    subscribers: Vec<usize>,
    partitions: Vec<usize>,
}

#[derive(Clone, Default)]
struct Load {
    total: usize,
    /// By class. What was kept stands before what was handed out, so that the end is what costs least to move.
    held: BTreeMap<usize, Vec<usize>>,
}

impl Load {
    fn put(&mut self, class: usize, partition: usize) {
        self.held.entry(class).or_default().push(partition);
        self.total += 1;
    }
}

/// How a member came to be reached in the search for a lower load.
#[derive(Clone, Copy)]
struct Reached {
    from: usize,
    class: usize,
}

impl<'a> Board<'a> {
    fn new(group: &'a Group<'a>) -> Board<'a> {
        let mut by_subscribers: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        let mut classes: Vec<Class> = Vec::new();
        let mut partitions = Vec::new();
        let mut subscribers_of: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        for (index, member) in group.members.iter().enumerate() {
            for topic in member.subscribed {
                subscribers_of.entry(*topic).or_default().push(index);
            }
        }
        for (topic, subscribers) in subscribers_of {
            let Some(shape) = group.topics.get(&topic) else { continue };
            let class = *by_subscribers.entry(subscribers).or_insert_with_key(|subscribers| {
                classes.push(Class { subscribers: subscribers.clone(), partitions: Vec::new() });
                classes.len() - 1
            });
            for index in 0..shape.partitions {
                classes[class].partitions.push(partitions.len());
                partitions.push(Partition { topic, shape, index, class, is_kept: false });
            }
        }
        let has_racks = group.members.iter().any(|member| member.rack.is_some());
        Board { group, has_racks, partitions, classes, members: vec![Load::default(); group.members.len()] }
    }

    /// Members keep what they have, are still subscribed to and is still there. What two have goes to the first.
    fn keep(&mut self) {
        // The partitions of a topic follow each other.
        let mut first_of: BTreeMap<TopicId, usize> = BTreeMap::new();
        for (number, partition) in self.partitions.iter().enumerate() {
            first_of.entry(partition.topic).or_insert(number);
        }
        for (member, load) in self.group.members.iter().zip(&mut self.members) {
            for held in member.target.iter().filter(|held| member.subscribed.contains(&held.topic)) {
                let Some(first) = first_of.get(&held.topic) else { continue };
                let number = first + held.partition.0 as usize;
                if let Some(partition) = self.partitions.get_mut(number)
                    && partition.topic == held.topic
                    && !partition.is_kept
                {
                    partition.is_kept = true;
                    load.put(partition.class, number);
                }
            }
        }
    }

    /// What nobody has goes to whoever has least. The classes with few subscribers come first, as they have least choice.
    fn hand_out(&mut self) {
        let mut order: Vec<usize> = (0..self.classes.len()).collect();
        order.sort_by_key(|&class| self.classes[class].subscribers.len());
        for class in order {
            let free = self.classes[class].partitions.iter().copied().filter(|&p| !self.partitions[p].is_kept);
            let mut pool = Pool::new(free, &self.partitions, self.has_racks);
            let subscribers = &self.classes[class].subscribers;
            let mut least: BinaryHeap<Reverse<(usize, usize)>> =
                subscribers.iter().map(|&member| Reverse((self.members[member].total, member))).collect();
            while let Some(Reverse((total, member))) = least.pop() {
                let Some(partition) = pool.take(self.group.members[member].rack) else { break };
                self.members[member].put(class, partition);
                least.push(Reverse((total + 1, member)));
            }
        }
    }

    /// Lowers the highest loads as long as there is somebody, at the end of a chain, who has at least two less.
    fn even_out(&mut self) {
        // Members from whom no lower load can be reached, as of the last move.
        let mut settled = vec![false; self.members.len()];
        while let Some(source) = self.highest(&settled) {
            let (reached, lowest) = self.reach(source);
            match lowest {
                Some(lowest) => {
                    self.pass_on(source, lowest, &reached);
                    settled.fill(false);
                }
                // Whoever is reached from here and has no more than this one has no better outlook.
                None => {
                    let ceiling = self.members[source].total;
                    for (member, _) in reached.iter().enumerate().filter(|(_, reached)| reached.is_some()) {
                        settled[member] |= self.members[member].total <= ceiling;
                    }
                    settled[source] = true;
                }
            }
        }
    }

    fn highest(&self, settled: &[bool]) -> Option<usize> {
        let open = (0..self.members.len()).filter(|&member| !settled[member]);
        open.max_by_key(|&member| (self.members[member].total, Reverse(member)))
    }

    /// Breadth first, so that few partitions move: over the classes a member holds to everyone who subscribes to them. Ends
    /// at the first class that leads to somebody with a load lower by two.
    fn reach(&self, source: usize) -> (Vec<Option<Reached>>, Option<usize>) {
        let ceiling = self.members[source].total;
        let mut reached: Vec<Option<Reached>> = vec![None; self.members.len()];
        let mut classes = vec![false; self.classes.len()];
        let mut queue = VecDeque::from([source]);
        while let Some(from) = queue.pop_front() {
            for (&class, _) in self.members[from].held.iter().filter(|(_, held)| !held.is_empty()) {
                if std::mem::replace(&mut classes[class], true) {
                    continue;
                }
                let mut lowest: Option<usize> = None;
                for &member in self.classes[class].subscribers.iter() {
                    if member == source || reached[member].is_some() {
                        continue;
                    }
                    reached[member] = Some(Reached { from, class });
                    queue.push_back(member);
                    let total = self.members[member].total;
                    if total + 2 <= ceiling && lowest.is_none_or(|lowest| total < self.members[lowest].total) {
                        lowest = Some(member);
                    }
                }
                if lowest.is_some() {
                    return (reached, lowest);
                }
            }
        }
        (reached, None)
    }

    fn pass_on(&mut self, source: usize, lowest: usize, reached: &[Option<Reached>]) {
        let mut to = lowest;
        while to != source {
            let Some(Reached { from, class }) = reached[to] else { return };
            if let Some(partition) = self.give_up(from, class, to) {
                self.members[to].put(class, partition);
            }
            to = from;
        }
    }

    /// Takes from the end what suits the new owner's rack and not the old one's; else the last.
    fn give_up(&mut self, from: usize, class: usize, to: usize) -> Option<usize> {
        let (from_rack, to_rack) = (self.group.members[from].rack, self.group.members[to].rack);
        let load = &mut self.members[from];
        let held = load.held.get_mut(&class)?;
        let last = held.len().checked_sub(1)?;
        let mut chosen = last;
        if self.has_racks {
            let gain = |&at: &usize| {
                let partition = &self.partitions[held[at]];
                // What was handed out in this very run moves for nothing: it goes before what was kept.
                let is_new = !partition.is_kept;
                let suits = |rack| i8::from(partition.shape.is_in_rack(partition.index, rack));
                (is_new, suits(to_rack) - suits(from_rack))
            };
            chosen = (held.len().saturating_sub(RACK_LOOKAHEAD)..held.len()).max_by_key(gain).unwrap_or(last);
        }
        load.total -= 1;
        Some(held.remove(chosen))
    }

    fn targets(&self) -> Vec<Partitions> {
        let target = |load: &Load| {
            let held = load.held.values().flatten().map(|&number| &self.partitions[number]);
            held.map(|partition| TopicPartition {
                topic: partition.topic,
                partition: PartitionIndex(partition.index as i32),
            })
            .collect()
        };
        self.members.iter().map(target).collect()
    }
}

/// Partitions to hand out, in order, or first those of a rack.
struct Pool<'a> {
    all: VecDeque<usize>,
    by_rack: BTreeMap<&'a str, VecDeque<usize>>,
    taken: BTreeSet<usize>,
}

impl<'a> Pool<'a> {
    fn new(free: impl Iterator<Item = usize>, partitions: &[Partition<'a>], has_racks: bool) -> Pool<'a> {
        let mut pool = Pool { all: free.collect(), by_rack: BTreeMap::new(), taken: BTreeSet::new() };
        if has_racks {
            for &number in &pool.all {
                let partition = &partitions[number];
                for &rack in partition.shape.racks.get(partition.index).into_iter().flatten() {
                    pool.by_rack.entry(rack).or_default().push_back(number);
                }
            }
        }
        pool
    }

    fn take(&mut self, rack: Option<&str>) -> Option<usize> {
        let near = rack.and_then(|rack| self.by_rack.get_mut(rack)).into_iter();
        for queue in near.chain([&mut self.all]) {
            while let Some(number) = queue.pop_front() {
                if self.taken.insert(number) {
                    return Some(number);
                }
            }
        }
        None
    }
}
