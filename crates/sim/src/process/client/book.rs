//! What the clients of one run did and were told.
//!
//! ```text
//!   producer, reader, operator, adversary ──► Book ─┬─► History ──► history_checker::judge, once, when the run is over
//!                                                   └─► complaint: the first answer that no cluster may give
//! ```
//!
//! Everything that is about records (lost, doubled, out of order, ...) is the history's judge's business. A complaint is about what an
//! answer says beside its records; the files under `operations/` say what may be said.
//!
//! Moments are counted: a run is one thread, so that what clients do is in one order.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::Range;
use std::rc::Rc;

use base_types::Offset;
use history_checker::{
    Action, Client, Delivery, History, Isolation, Kind, Moment, Operation, Outcome, Partition, Polled, Record, Sent,
    Value, judge,
};
use kafka_wire::Uuid;

use super::TOPIC;

pub type Shared = Rc<RefCell<Book>>;

/// A topic as clients know it. One that was made again has another id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Topic {
    pub name: String,
    pub id: Uuid,
}

impl Topic {
    /// Whether it is of the run's shape, so that nobody deletes it: a name stands for it as well as the id.
    pub fn is_fixed(&self) -> bool {
        self.name.starts_with(TOPIC)
    }
}

/// What was read of one partition: offsets and values.
pub type Piece = (Topic, i32, Vec<(i64, u64)>);

/// Sends whose outcome is not known yet, in their order.
pub type Sends = Range<u64>;

#[derive(Default)]
pub struct Book {
    history: History,
    moments: u64,
    clients: u32,
    /// Values are counted over all partitions.
    values: u64,
    open: BTreeMap<u64, Open>,
    /// The ids that each topic name has had.
    incarnations: BTreeMap<String, Vec<Uuid>>,
    producer_ids: BTreeSet<(i64, i16)>,
    /// What CreateTopics has told.
    made: BTreeSet<Uuid>,
    complaint: Option<String>,
    pub tally: Tally,
}

/// How much there was to judge.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub acknowledged: usize,
    pub unknown: usize,
    pub failed: usize,
    pub read: usize,
}

struct Open {
    client: Client,
    partition: Partition,
    delivery: Delivery,
    start: Moment,
}

impl Book {
    /// One life of a client.
    pub fn client(&mut self) -> Client {
        self.clients += 1;
        Client(self.clients)
    }

    pub fn now(&mut self) -> Moment {
        self.moments += 1;
        Moment(self.moments)
    }

    /// What no cluster may answer. The first one counts: what follows may follow from it.
    pub fn complain(&mut self, id: &str, what: impl Display) {
        self.complaint.get_or_insert_with(|| format!("{id}: {what}"));
    }

    pub fn complaint(&self) -> Option<&String> {
        self.complaint.as_ref()
    }

    /// New records are to be sent; each is known by its number, which is its value.
    pub fn sends(
        &mut self,
        client: Client,
        (topic, partition): (&Topic, i32),
        delivery: Delivery,
        count: u64,
    ) -> Sends {
        let partition = self.partition(topic, partition);
        let first = self.values;
        self.values += count;
        for value in first..self.values {
            let start = self.now();
            self.open.insert(value, Open { client, partition, delivery, start });
        }
        first..self.values
    }

    /// They are durable, from this offset on; `None`: nobody said where.
    pub fn acknowledged(&mut self, sends: Sends, base: Option<i64>) {
        self.tally.acknowledged += sends.clone().count();
        for (place, value) in sends.enumerate() {
            let at = base.map(|base| Offset(base + place as i64));
            self.settle(value, Outcome::Acknowledged { at });
        }
    }

    /// Nothing was appended, for certain.
    pub fn failed(&mut self, sends: Sends) {
        self.tally.failed += sends.clone().count();
        sends.for_each(|value| self.settle(value, Outcome::Failed));
    }

    /// Nothing was promised, because less than all was waited for.
    pub fn not_promised(&mut self, sends: Sends) {
        sends.for_each(|value| self.settle(value, Outcome::Indeterminate));
    }

    /// Nobody knows, and nobody will.
    pub fn unknown(&mut self, sends: Sends) {
        self.tally.unknown += sends.clone().count();
        sends.for_each(|value| self.settle(value, Outcome::Indeterminate));
    }

    fn settle(&mut self, value: u64, outcome: Outcome) {
        let Some(Open { client, partition, delivery, start }) = self.open.remove(&value) else { return };
        let sent = Sent { partition, value: Value(value), key: None, delivery, outcome };
        let end = self.now();
        self.history.push(Operation { client, start, end, action: Action::Sent(sent) });
    }

    /// What one poll returned: offsets and values of one partition after the other.
    pub fn polled(&mut self, client: Client, start: Moment, read: &[Piece]) {
        let mut records = Vec::new();
        for (topic, partition, of_partition) in read {
            let partition = self.partition(topic, *partition);
            records.extend(of_partition.iter().map(|&(offset, value)| Record {
                partition,
                offset: Offset(offset),
                value: Value(value),
            }));
        }
        if !records.is_empty() {
            self.tally.read += records.len();
            let polled = Polled { isolation: Isolation::ReadCommitted, records };
            let end = self.now();
            self.history.push(Operation { client, start, end, action: Action::Polled(polled) });
        }
    }

    /// The reader goes on from here.
    pub fn sought(&mut self, client: Client, topic: &Topic, partition: i32, to: i64) {
        let partition = self.partition(topic, partition);
        self.at_once(client, Action::Sought { partition, to: Some(Offset(to)) });
    }

    /// The reader has all up to where the partition ended when it asked, at `start`.
    pub fn finished(&mut self, client: Client, start: Moment, topic: &Topic, partition: i32, end: i64) {
        let partition = self.partition(topic, partition);
        let now = self.now();
        let action = Action::Finished { partition, end: Offset(end) };
        self.history.push(Operation { client, start, end: now, action });
    }

    /// It is about to be asked that all below goes.
    pub fn trims(&mut self, client: Client, topic: &Topic, partition: i32, to: i64) {
        let partition = self.partition(topic, partition);
        self.at_once(client, Action::Trimmed { partition, to: Offset(to) });
    }

    /// Whether this producer id and epoch were never handed out before (P6, P7).
    pub fn is_new_producer(&mut self, id: i64, epoch: i16) -> bool {
        self.producer_ids.insert((id, epoch))
    }

    /// Whether no topic that was made before got this id (R18).
    pub fn is_new_topic(&mut self, id: Uuid) -> bool {
        id != Uuid::ZERO && self.made.insert(id)
    }

    /// The verdict on the whole history. What is still open will stay so.
    pub fn judge(&mut self) -> Result<(), String> {
        let (first, last) = (self.open.keys().next().copied(), self.open.keys().next_back().copied());
        if let (Some(first), Some(last)) = (first, last) {
            let open = self.open.len();
            (first..=last).for_each(|value| self.settle(value, Outcome::Indeterminate));
            self.tally.unknown += open;
        }
        let verdict = judge(&self.history);
        match verdict.anomalies.first() {
            None => Ok(()),
            Some(finding) => Err(format!("{}: {}", invariant(finding.kind), verdict.told(&self.history))),
        }
    }

    fn at_once(&mut self, client: Client, action: Action) {
        let now = self.now();
        self.history.push(Operation { client, start: now, end: now, action });
    }

    fn partition(&mut self, topic: &Topic, partition: i32) -> Partition {
        let ids = self.incarnations.entry(topic.name.clone()).or_default();
        let place = ids.iter().position(|id| *id == topic.id).unwrap_or_else(|| {
            ids.push(topic.id);
            ids.len() - 1
        });
        let name = if place == 0 {
            format!("{}-{partition}", topic.name)
        } else {
            format!("{}.{place}-{partition}", topic.name)
        };
        self.history.partition(&name)
    }
}

/// Which invariant an anomaly breaks first of all.
fn invariant(kind: Kind) -> &'static str {
    match kind {
        Kind::Lost | Kind::Unseen | Kind::SkippedPoll => "R2",
        Kind::Truncated => "R6",
        Kind::Misplaced | Kind::Inconsistent => "R10",
        Kind::Duplicated => "P1",
        // What was sent elsewhere, such as to the topic that had this name before.
        Kind::Phantom => "R18",
        Kind::FailedRead | Kind::AbortedRead => "R17",
        Kind::Reordered | Kind::NonMonotonicSend => "W1",
        Kind::NonMonotonicPoll => "W5",
    }
}
