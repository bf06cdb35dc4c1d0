//! A tiny model of a cluster that does everything right, and of clients that do everything they may: the histories it makes are legal.
//!
//! Partitions are lists of records. A send takes effect at some moment between its start and its end, or later, or never, as its outcome
//! allows; whatever producers have under way is applied in the order that they promise.

use std::collections::{BTreeMap, BTreeSet};

use base_types::{Offset, Random};
use history_checker::{
    Action, Client, Delivery, History, Isolation, Key, Moment, Operation, Outcome, Partition, Polled, Record, Sent,
    Value,
};

/// The two readers that read everything at the end, one after the other.
pub const FIRST_FINAL_READER: Client = Client(901);
pub const LAST_FINAL_READER: Client = Client(902);

const CONSUMERS_FROM: u32 = 500;
const OPERATOR: Client = Client(900);
const UNDER_WAY_MAX: usize = 5;
const KEYS: u64 = 6;

#[derive(Clone, Copy)]
pub struct Shape {
    pub partitions: u64,
    pub producers: u64,
    pub consumers: u64,
    /// So many operations before the end.
    pub operations: usize,
    /// So many records in a poll of the final readers.
    pub final_poll_records: usize,
}

impl Shape {
    /// Small enough to be read by people, and different for each seed.
    pub fn small(random: &mut Random) -> Shape {
        Shape {
            partitions: random.between(1, 3),
            producers: random.between(1, 4),
            consumers: random.between(1, 3),
            operations: random.between(20, 150) as usize,
            final_poll_records: random.between(1, 12) as usize,
        }
    }
}

/// A legal history: its operations, in the order in which they were over, and the partitions that they are about.
pub struct Story {
    pub operations: Vec<Operation>,
    frame: History,
}

impl Story {
    pub fn of(random: &mut Random, shape: Shape) -> Story {
        let mut model = Model::new(random, shape);
        while model.operations.len() < shape.operations {
            model.step();
        }
        model.settle();
        model.read_all(FIRST_FINAL_READER, Isolation::ReadUncommitted, shape.final_poll_records);
        model.read_all(LAST_FINAL_READER, Isolation::ReadCommitted, shape.final_poll_records);
        Story { operations: model.operations, frame: model.frame }
    }

    /// These operations on this story's partitions.
    pub fn history(&self, operations: Vec<Operation>) -> History {
        let mut history = self.frame.clone();
        for operation in operations {
            history.push(operation);
        }
        history
    }

    pub fn is_compacted(&self, partition: Partition) -> bool {
        self.frame.is_compacted(partition)
    }
}

struct Model<'a> {
    random: &'a mut Random,
    now: u64,
    next_value: u64,
    frame: History,
    logs: Vec<Log>,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    operations: Vec<Operation>,
}

struct Log {
    partition: Partition,
    is_compacted: bool,
    start: i64,
    slots: Vec<Slot>,
    /// Offsets of records whose transactions have not ended.
    open: BTreeSet<i64>,
    /// The last committed record of each key.
    newest: BTreeMap<Key, i64>,
}

enum Slot {
    Record(Value, Option<Key>, State),
    /// A marker of a transaction, or what compaction has taken away.
    Nothing,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Committed,
    Open,
    Aborted,
}

struct Producer {
    client: Client,
    delivery: Delivery,
    /// In the order in which it was asked for. Of a transactional producer: its transaction.
    under_way: Vec<UnderWay>,
    /// What may be sent once more, because its fate was open.
    again: Vec<(usize, Value, Option<Key>)>,
}

struct UnderWay {
    log: usize,
    value: Value,
    key: Option<Key>,
    start: Moment,
    place: Option<i64>,
    /// The client has given up waiting, and the send is still on its way.
    is_given_up: bool,
}

struct Consumer {
    client: Client,
    isolation: Isolation,
    positions: BTreeMap<usize, i64>,
}

impl Log {
    fn append(&mut self, slot: Slot) -> i64 {
        let offset = self.slots.len() as i64;
        match slot {
            Slot::Record(_, Some(key), State::Committed) => {
                self.newest.insert(key, offset);
            }
            Slot::Record(_, _, State::Open) => {
                self.open.insert(offset);
            }
            Slot::Record(..) | Slot::Nothing => {}
        }
        self.slots.push(slot);
        offset
    }

    fn end_transaction(&mut self, offset: i64, to: State) {
        self.open.remove(&offset);
        if let Slot::Record(_, key, state) = &mut self.slots[offset as usize] {
            *state = to;
            if let Some(key) = key.filter(|_| to == State::Committed) {
                let newest = self.newest.entry(key).or_insert(offset);
                *newest = offset.max(*newest);
            }
        }
    }

    /// How far such a reader may read.
    fn end(&self, isolation: Isolation) -> i64 {
        let end = self.slots.len() as i64;
        match isolation {
            Isolation::ReadUncommitted => end,
            Isolation::ReadCommitted => self.open.first().copied().unwrap_or(end),
        }
    }

    /// Some records from `position` on, and the position behind them.
    fn read(&self, position: i64, isolation: Isolation, records_max: usize) -> (Vec<Record>, i64) {
        let mut at = position.max(self.start);
        let mut records = Vec::new();
        while at < self.end(isolation) && records.len() < records_max {
            if let Slot::Record(value, _, state) = self.slots[at as usize]
                && (state != State::Aborted || isolation == Isolation::ReadUncommitted)
            {
                records.push(Record { partition: self.partition, offset: Offset(at), value });
            }
            at += 1;
        }
        (records, at)
    }
}

impl<'a> Model<'a> {
    fn new(random: &'a mut Random, shape: Shape) -> Model<'a> {
        let mut frame = History::new();
        let mut logs = Vec::new();
        for index in 0..shape.partitions {
            let partition = frame.partition(&format!("topic-{index}"));
            let is_compacted = random.chance(300);
            if is_compacted {
                frame.compact(partition);
            }
            let (slots, open, newest) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
            logs.push(Log { partition, is_compacted, start: 0, slots, open, newest });
        }
        let producers = (0..shape.producers).map(|number| {
            let delivery = [Delivery::Plain, Delivery::Idempotent, Delivery::Transactional][random.below(3) as usize];
            Producer { client: Client(number as u32), delivery, under_way: Vec::new(), again: Vec::new() }
        });
        let producers = producers.collect();
        let consumers = (0..shape.consumers).map(|number| {
            let isolation = [Isolation::ReadUncommitted, Isolation::ReadCommitted][random.below(2) as usize];
            Consumer { client: Client(CONSUMERS_FROM + number as u32), isolation, positions: BTreeMap::new() }
        });
        let consumers = consumers.collect();
        Model { random, now: 0, next_value: 0, frame, logs, producers, consumers, operations: Vec::new() }
    }

    fn step(&mut self) {
        let producer = self.random.below(self.producers.len() as u64) as usize;
        let consumer = self.random.below(self.consumers.len() as u64) as usize;
        let log = self.random.below(self.logs.len() as u64) as usize;
        match (self.random.below(100), self.producers[producer].delivery) {
            (0..30, _) => self.send(producer, log),
            (30..70, Delivery::Transactional) => {
                if self.random.chance(200) {
                    self.end_transaction(producer);
                }
            }
            (30..50, _) => self.apply(producer),
            (50..70, _) => self.complete(producer),
            (70..90, _) => self.poll(consumer),
            (90..92, _) => self.assign(consumer, log),
            (92..95, _) => self.seek(consumer, log),
            (95..96, _) => self.trim(log),
            (96.., _) => self.compact(log),
        }
    }

    /// Everything that is under way comes to its end.
    fn settle(&mut self) {
        for producer in 0..self.producers.len() {
            while !self.producers[producer].under_way.is_empty() {
                match self.producers[producer].delivery {
                    Delivery::Transactional => self.end_transaction(producer),
                    Delivery::Plain | Delivery::Idempotent => {
                        self.apply(producer);
                        self.complete(producer);
                    }
                }
            }
        }
    }

    fn tick(&mut self) -> Moment {
        self.now += 1;
        Moment(self.now)
    }

    fn record(&mut self, client: Client, start: Moment, action: Action) {
        let end = self.tick();
        self.operations.push(Operation { client, start, end, action });
    }

    fn send(&mut self, producer: usize, log: usize) {
        if self.producers[producer].under_way.len() == UNDER_WAY_MAX {
            return;
        }
        let again = if self.random.chance(500) { self.producers[producer].again.pop() } else { None };
        let (log, value, key) = again.unwrap_or_else(|| {
            self.next_value += 1;
            let is_keyed = self.logs[log].is_compacted || self.random.chance(500);
            (log, Value(self.next_value), is_keyed.then(|| Key(self.random.below(KEYS))))
        });
        let start = self.tick();
        let mut under_way = UnderWay { log, value, key, start, place: None, is_given_up: false };
        if self.producers[producer].delivery == Delivery::Transactional {
            if self.random.chance(50) {
                return self.told(producer, &under_way, Outcome::Failed);
            }
            under_way.place = Some(self.logs[log].append(Slot::Record(value, key, State::Open)));
        }
        self.producers[producer].under_way.push(under_way);
    }

    /// The client learns what came of a send.
    fn told(&mut self, producer: usize, send: &UnderWay, outcome: Outcome) {
        let Producer { client, delivery, ref mut again, .. } = self.producers[producer];
        let &UnderWay { log, value, key, start, .. } = send;
        if matches!(outcome, Outcome::Indeterminate | Outcome::Failed | Outcome::Aborted) && self.random.chance(400) {
            again.push((log, value, key));
        }
        let partition = self.logs[log].partition;
        self.record(client, start, Action::Sent(Sent { partition, value, key, delivery, outcome }));
    }

    /// Something that is under way reaches its log, or never will, or its client gives up waiting.
    fn apply(&mut self, producer: usize) {
        let is_plain = self.producers[producer].delivery == Delivery::Plain;
        let under_way = self.producers[producer].under_way.iter().enumerate();
        let waiting: Vec<usize> = under_way.filter(|(_, send)| send.place.is_none()).map(|(index, _)| index).collect();
        // Who is not idempotent may be overtaken by itself.
        let choice = if is_plain { self.random.below(waiting.len() as u64) as usize } else { 0 };
        let Some(&index) = waiting.get(choice) else { return };
        let UnderWay { log, value, key, is_given_up, .. } = self.producers[producer].under_way[index];
        match self.random.below(100) {
            0..80 => {
                let place = self.logs[log].append(Slot::Record(value, key, State::Committed));
                if is_plain && !self.logs[log].is_compacted && self.random.chance(50) {
                    self.logs[log].append(Slot::Record(value, key, State::Committed));
                }
                if is_given_up {
                    self.producers[producer].under_way.remove(index);
                } else {
                    self.producers[producer].under_way[index].place = Some(place);
                }
            }
            80..90 if !is_given_up => {
                let send = &mut self.producers[producer].under_way[index];
                send.is_given_up = true;
                let given_up = UnderWay { place: None, ..*send };
                self.told(producer, &given_up, Outcome::Indeterminate);
            }
            chance => {
                let send = self.producers[producer].under_way.remove(index);
                if !is_given_up {
                    let outcome = if chance < 97 { Outcome::Failed } else { Outcome::Indeterminate };
                    self.told(producer, &send, outcome);
                }
            }
        }
    }

    /// A client hears of something that has reached its log, or does not.
    fn complete(&mut self, producer: usize) {
        let under_way = self.producers[producer].under_way.iter().enumerate();
        let applied: Vec<usize> = under_way.filter(|(_, send)| send.place.is_some()).map(|(index, _)| index).collect();
        let Some(&index) = applied.get(self.random.below(applied.len() as u64) as usize) else { return };
        let send = self.producers[producer].under_way.remove(index);
        let outcome = match self.random.below(100) {
            0..85 => Outcome::Acknowledged { at: send.place.map(Offset) },
            85..89 => Outcome::Acknowledged { at: None },
            _ => Outcome::Indeterminate,
        };
        self.told(producer, &send, outcome);
    }

    fn end_transaction(&mut self, producer: usize) {
        let sends = std::mem::take(&mut self.producers[producer].under_way);
        let is_known = self.random.chance(850);
        let is_committed = self.random.chance(600);
        let to = if is_committed { State::Committed } else { State::Aborted };
        let mut logs: Vec<usize> = sends.iter().map(|send| send.log).collect();
        logs.sort_unstable();
        logs.dedup();
        for send in &sends {
            if let Some(place) = send.place {
                self.logs[send.log].end_transaction(place, to);
            }
        }
        for log in logs {
            self.logs[log].append(Slot::Nothing);
        }
        for send in &sends {
            let outcome = match (is_known, is_committed) {
                (true, true) => Outcome::Acknowledged { at: send.place.map(Offset) },
                (true, false) => Outcome::Aborted,
                (false, _) => Outcome::Indeterminate,
            };
            self.told(producer, send, outcome);
        }
    }

    fn poll(&mut self, consumer: usize) {
        let start = self.tick();
        if self.random.chance(30) {
            let log = self.random.below(self.logs.len() as u64) as usize;
            self.assign(consumer, log);
        }
        let mut records = Vec::new();
        let Consumer { client, isolation, positions } = &mut self.consumers[consumer];
        for (&log, position) in positions {
            let records_max = if self.random.chance(400) { self.random.below(5) as usize } else { 0 };
            let (read, next) = self.logs[log].read(*position, *isolation, records_max);
            records.extend(read);
            *position = next;
        }
        let (client, isolation) = (*client, *isolation);
        self.record(client, start, Action::Polled(Polled { isolation, records }));
    }

    /// The reader goes on from an offset that its group has committed.
    fn assign(&mut self, consumer: usize, log: usize) {
        let Consumer { client, isolation, .. } = self.consumers[consumer];
        let partition = self.logs[log].partition;
        let committed = self.random.below(self.logs[log].end(isolation) as u64 + 1) as i64;
        self.consumers[consumer].positions.insert(log, committed);
        let start = self.tick();
        self.record(client, start, Action::Assigned { partitions: vec![partition] });
    }

    fn seek(&mut self, consumer: usize, log: usize) {
        let Consumer { client, isolation, .. } = self.consumers[consumer];
        let Log { partition, .. } = self.logs[log];
        let end = self.logs[log].end(isolation);
        let to = match self.random.below(3) {
            0 => Some(0),
            1 => Some(self.random.below(end as u64 + 1) as i64),
            _ => None,
        };
        self.consumers[consumer].positions.insert(log, to.unwrap_or(end));
        let start = self.tick();
        self.record(client, start, Action::Sought { partition, to: to.map(Offset) });
    }

    fn trim(&mut self, log: usize) {
        let start = self.tick();
        let log = &mut self.logs[log];
        let room = log.end(Isolation::ReadCommitted) - log.start;
        log.start += self.random.below(room.min(3) as u64 + 1) as i64;
        let (partition, to) = (log.partition, Offset(log.start));
        self.record(OPERATOR, start, Action::Trimmed { partition, to });
    }

    fn compact(&mut self, log: usize) {
        let log = &mut self.logs[log];
        let end = log.end(Isolation::ReadCommitted);
        if !log.is_compacted || end == log.start {
            return;
        }
        let offset = log.start + self.random.below((end - log.start) as u64) as i64;
        let slot = &mut log.slots[offset as usize];
        if let Slot::Record(_, Some(key), State::Committed) = slot
            && log.newest.get(key).is_some_and(|&newest| newest > offset)
        {
            *slot = Slot::Nothing;
        }
    }

    fn read_all(&mut self, client: Client, isolation: Isolation, records_max: usize) {
        for log in 0..self.logs.len() {
            let Log { partition, .. } = self.logs[log];
            let end = self.logs[log].end(isolation);
            let start = self.tick();
            self.record(client, start, Action::Sought { partition, to: Some(Offset::ZERO) });
            let mut position = 0;
            while position < end {
                let start = self.tick();
                let (records, next) = self.logs[log].read(position, isolation, records_max);
                position = next;
                self.record(client, start, Action::Polled(Polled { isolation, records }));
            }
        }
        for log in 0..self.logs.len() {
            let start = self.tick();
            let partition = self.logs[log].partition;
            let end = Offset(self.logs[log].end(isolation));
            self.record(client, start, Action::Finished { partition, end });
        }
    }
}
