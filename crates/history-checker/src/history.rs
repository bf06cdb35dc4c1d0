//! What clients did, when, and what came of it.
//!
//! What it must not know: what of it is right. It holds what is well-formed (no operation ends before it starts, every partition has a
//! name), the judge decides about the rest.

use std::collections::{BTreeMap, BTreeSet};

use base_types::Offset;

/// One life of one client. A client that starts anew is another one: it has another position, and its sends another sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Client(pub u32);

/// A logical time: only the order counts. What has the same moment is in no order.
///
/// Assumes: all clients of a history have one clock. Two clocks that disagree make order out of what has none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Moment(pub u64);

/// What a record is known by, unique in its partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Value(pub u64);

/// What compaction goes by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key(pub u64);

/// A partition of this history; [`History::partition`] hands them out. A topic that was made again is another one (R18).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Partition(u32);

/// The place of an operation in its history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OperationId(pub u32);

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    pub client: Client,
    /// When it was asked for.
    pub start: Moment,
    /// When its outcome was known. What readers do counts in the order of their ends, so that what a rebalance inside a poll changes comes
    /// before what the poll returns.
    pub end: Moment,
    pub action: Action,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Sent(Sent),
    Polled(Polled),
    /// The reader's position in these partitions is from now on one that it has not chosen: after a subscription, a rebalance, an assignment, a
    /// reset. Positions in other partitions stay.
    Assigned {
        partitions: Vec<Partition>,
    },
    /// The reader goes on from an offset of its choice; `None`: from a place that it knows no number of, such as the end.
    Sought {
        partition: Partition,
        to: Option<Offset>,
    },
    /// The reader has everything up to `end`, and was told within this operation that the partition ends there. To be told only when
    /// the answer must be true: after the trouble is over and every transaction has ended.
    Finished {
        partition: Partition,
        end: Offset,
    },
    /// From the start of this operation on, records below `to` may be gone.
    Trimmed {
        partition: Partition,
        to: Offset,
    },
}

/// One call to send one record. What the client's library repeats under the hood, and whatever is repeated with the same sequence, belongs to
/// the same call; an application that sends a value once more makes another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Chosen by the application: of a send that nobody answered, no one else could tell.
    pub partition: Partition,
    pub value: Value,
    pub key: Option<Key>,
    pub delivery: Delivery,
    pub outcome: Outcome,
}

/// What the producer promises about repetition and order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// The library may send a record several times, and in another order than it was asked to.
    Plain,
    /// Each record at most once, in order (KIP-98).
    Idempotent,
    /// Idempotent, and within a transaction, whose end is the send's outcome.
    Transactional,
}

/// What may be believed of a send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is durable (`acks=all`; for less than that say [`Outcome::Indeterminate`]), and its transaction, if any, is committed. `at` is
    /// `None` where the client was told no offset, as after DUPLICATE_SEQUENCE_NUMBER.
    Acknowledged { at: Option<Offset> },
    /// For certain, nothing was appended.
    Failed,
    /// For certain, its transaction is not committed and never will be.
    Aborted,
    /// Nobody knows.
    Indeterminate,
}

/// What one call of poll returned, in that order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Polled {
    pub isolation: Isolation,
    pub records: Vec<Record>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    pub partition: Partition,
    pub offset: Offset,
    pub value: Value,
}

/// All that the clients of one run did.
#[derive(Clone, Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
    names: Vec<String>,
    by_name: BTreeMap<String, Partition>,
    compacted: BTreeSet<Partition>,
}

impl History {
    pub fn new() -> History {
        History::default()
    }

    /// The partition of this name, for example `orders-0`. A name is made of what Kafka allows in a topic's name.
    pub fn partition(&mut self, name: &str) -> Partition {
        assert!(is_partition_name(name), "`{name}` names no partition");
        if let Some(&known) = self.by_name.get(name) {
            return known;
        }
        let partition = Partition(u32::try_from(self.names.len()).expect("fewer than 2^32 partitions"));
        self.names.push(name.to_owned());
        self.by_name.insert(name.to_owned(), partition);
        partition
    }

    /// The partition is compacted: a record may be gone when a later one has its key.
    pub fn compact(&mut self, partition: Partition) {
        self.compacted.insert(partition);
    }

    pub fn push(&mut self, operation: Operation) -> OperationId {
        assert!(operation.start <= operation.end, "{operation:?} ends before it starts");
        let id = OperationId(u32::try_from(self.operations.len()).expect("fewer than 2^32 operations"));
        self.operations.push(operation);
        id
    }

    pub fn operations(&self) -> impl ExactSizeIterator<Item = (OperationId, &Operation)> {
        // `push` has seen to it that every place fits.
        self.operations.iter().enumerate().map(|(place, operation)| (OperationId(place as u32), operation))
    }

    /// The operation that `push` has given this id.
    pub fn operation(&self, id: OperationId) -> &Operation {
        &self.operations[id.0 as usize]
    }

    pub fn name(&self, partition: Partition) -> &str {
        &self.names[partition.0 as usize]
    }

    pub fn is_compacted(&self, partition: Partition) -> bool {
        self.compacted.contains(&partition)
    }

    pub fn compacted(&self) -> impl Iterator<Item = Partition> {
        self.compacted.iter().copied()
    }
}

/// Kafka's rule for names of topics, which leaves out what separates the words of the text form.
pub fn is_partition_name(name: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.chars().all(is_legal)
}
