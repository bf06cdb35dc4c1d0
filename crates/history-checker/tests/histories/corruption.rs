//! One thing in a legal history is made wrong, so that it has an anomaly of a known kind.

use base_types::{Offset, Random};
use history_checker::{
    Action, Client, Delivery, Kind, Moment, Operation, Outcome, Partition, Polled, Record, Sent, Value,
};

use crate::model::{FIRST_FINAL_READER, LAST_FINAL_READER, Story};

pub const KINDS: [Kind; 13] = [
    Kind::Lost,
    Kind::Unseen,
    Kind::Truncated,
    Kind::Misplaced,
    Kind::Inconsistent,
    Kind::Duplicated,
    Kind::Phantom,
    Kind::FailedRead,
    Kind::AbortedRead,
    Kind::Reordered,
    Kind::NonMonotonicSend,
    Kind::NonMonotonicPoll,
    Kind::SkippedPoll,
];

/// Above every offset and value of a small story.
const FAR: i64 = 1_000_000;

/// The story with one anomaly of this kind; `None` where it has nothing that can be made wrong in this way.
pub fn corrupted(story: &Story, kind: Kind, random: &mut Random) -> Option<Vec<Operation>> {
    let mut operations = story.operations.clone();
    let solid = solid(story);
    match kind {
        Kind::Lost => {
            let lost = pick(&solid, random)?;
            retain(&mut operations, |_, record| !lost.is(record));
        }
        Kind::Unseen => {
            let unseen = pick(&solid, random)?;
            cut(&mut operations, None, unseen);
        }
        Kind::Truncated => {
            let truncated = pick(&solid, random)?;
            cut(&mut operations, Some(LAST_FINAL_READER), truncated);
        }
        Kind::Misplaced => {
            let sequenced: Vec<Solid> = solid.into_iter().filter(|record| record.is_sequenced).collect();
            let misplaced = pick(&sequenced, random)?;
            sent_mut(&mut operations[misplaced.send])?.outcome = Outcome::Acknowledged { at: Some(Offset(FAR)) };
        }
        Kind::Inconsistent => {
            let one = pick(&solid, random)?;
            let others: Vec<Solid> = solid.into_iter().filter(|record| record.partition == one.partition).collect();
            let other = pick(&others, random).filter(|other| other.value != one.value)?;
            for record in records_mut(&mut operations, |client| client == LAST_FINAL_READER) {
                if one.is(record) {
                    record.value = other.value;
                }
            }
        }
        Kind::Duplicated => {
            let sequenced: Vec<Solid> = solid.into_iter().filter(|record| record.is_sequenced).collect();
            let twice = pick(&sequenced, random)?;
            append(&mut operations, twice.partition, twice.value)?;
        }
        Kind::Phantom => append(&mut operations, pick(&solid, random)?.partition, Value(FAR as u64))?,
        Kind::FailedRead => {
            let failed = sent_once(story, Outcome::Failed);
            let failed = pick(&failed, random)?;
            append(&mut operations, failed.partition, failed.value)?;
        }
        Kind::AbortedRead => {
            let aborted = sent_once(story, Outcome::Aborted);
            let aborted = pick(&aborted, random)?;
            append(&mut operations, aborted.partition, aborted.value)?;
        }
        Kind::Reordered => {
            let pairs = neighbours(&solid, |earlier, later| earlier.end < later.start);
            exchange(&mut operations, pick(&pairs, random)?);
        }
        Kind::NonMonotonicSend => {
            let overlap = |a: &Solid, b: &Solid| a.start < b.start && b.start <= a.end;
            let pairs = neighbours(&solid, |earlier, later| {
                earlier.client == later.client && earlier.is_sequenced && overlap(earlier, later)
            });
            exchange(&mut operations, pick(&pairs, random)?);
        }
        Kind::NonMonotonicPoll => {
            let polls = operations.iter_mut().filter_map(polled_mut);
            let mut pairs: Vec<&mut [Record]> =
                polls.filter_map(|polled| neighbours_read(&mut polled.records)).collect();
            let choice = random.below(pairs.len() as u64) as usize;
            pairs.get_mut(choice)?.swap(0, 1);
        }
        Kind::SkippedPoll => {
            let skipped = pick(&solid, random)?;
            retain(&mut operations, |client, record| client != LAST_FINAL_READER || !skipped.is(record));
        }
    }
    Some(operations)
}

/// Whether the corruption may break a second promise as well, one that the judge rightly names besides.
pub fn has_side_effects(kind: Kind) -> bool {
    match kind {
        // Of a value that was sent twice, one record may be before the end and one behind it.
        Kind::Unseen => true,
        // A record that changes place may be read before it was sent.
        Kind::Reordered | Kind::NonMonotonicSend => true,
        _ => false,
    }
}

/// A record that was sent once, was acknowledged, and was read at its offset by both final readers; compaction cannot excuse that it is gone.
#[derive(Clone, Copy)]
struct Solid {
    /// The place of the send.
    send: usize,
    client: Client,
    start: Moment,
    end: Moment,
    partition: Partition,
    offset: Offset,
    value: Value,
    is_sequenced: bool,
}

impl Solid {
    fn is(&self, record: &Record) -> bool {
        (record.partition, record.value) == (self.partition, self.value)
    }
}

fn solid(story: &Story) -> Vec<Solid> {
    let reads = |client: Client| -> Vec<(Partition, Value, Offset)> {
        let of_client = story.operations.iter().filter(|operation| operation.client == client);
        let polls = of_client.filter_map(polled);
        let records = polls.flat_map(|polled| &polled.records);
        records.map(|record| (record.partition, record.value, record.offset)).collect()
    };
    let (first, last) = (reads(FIRST_FINAL_READER), reads(LAST_FINAL_READER));
    let mut solid = Vec::new();
    for (send, operation) in story.operations.iter().enumerate() {
        let Action::Sent(Sent { partition, value, delivery, outcome, .. }) = operation.action else { continue };
        let Outcome::Acknowledged { at: Some(offset) } = outcome else { continue };
        let is_alone = |reads: &[(Partition, Value, Offset)]| {
            let mut of_value = reads.iter().filter(|read| (read.0, read.1) == (partition, value));
            of_value.next().is_some_and(|read| read.2 == offset) && of_value.next().is_none()
        };
        let is_sent_once = sends(story).filter(|sent| (sent.partition, sent.value) == (partition, value)).count() == 1;
        if !story.is_compacted(partition) && is_sent_once && is_alone(&first) && is_alone(&last) {
            let &Operation { client, start, end, .. } = operation;
            let is_sequenced = delivery != Delivery::Plain;
            solid.push(Solid { send, client, start, end, partition, offset, value, is_sequenced });
        }
    }
    solid
}

fn sends(story: &Story) -> impl Iterator<Item = &Sent> {
    story.operations.iter().filter_map(|operation| match &operation.action {
        Action::Sent(sent) => Some(sent),
        _ => None,
    })
}

/// What was sent once, with this outcome.
fn sent_once(story: &Story, outcome: Outcome) -> Vec<Sent> {
    let is_alone = |sent: &&Sent| {
        sends(story).filter(|other| (other.partition, other.value) == (sent.partition, sent.value)).count() == 1
    };
    sends(story).filter(|sent| sent.outcome == outcome).filter(is_alone).copied().collect()
}

/// Neighbours in a log, both solid.
fn neighbours(solid: &[Solid], is_wanted: impl Fn(&Solid, &Solid) -> bool) -> Vec<(Solid, Solid)> {
    let mut pairs = Vec::new();
    for earlier in solid {
        for later in solid {
            let are_neighbours = (later.partition, later.offset) == (earlier.partition, earlier.offset.plus(1));
            if are_neighbours && is_wanted(earlier, later) {
                pairs.push((*earlier, *later));
            }
        }
    }
    pairs
}

/// The first two records of one partition that follow each other in a poll.
fn neighbours_read(records: &mut [Record]) -> Option<&mut [Record]> {
    let place = records.windows(2).position(|pair| pair[0].partition == pair[1].partition)?;
    Some(&mut records[place..place + 2])
}

/// Two records take each other's place, for everyone.
fn exchange(operations: &mut [Operation], pair: (Solid, Solid)) {
    let (one, other) = pair;
    for (solid, offset) in [(one, other.offset), (other, one.offset)] {
        if let Some(sent) = sent_mut(&mut operations[solid.send]) {
            sent.outcome = Outcome::Acknowledged { at: Some(offset) };
        }
    }
    for record in records_mut(operations, |_| true) {
        if one.is(record) {
            record.value = other.value;
        } else if other.is(record) {
            record.value = one.value;
        }
    }
}

/// The partition ends before this record, for one reader or for everyone.
fn cut(operations: &mut [Operation], for_reader: Option<Client>, first: Solid) {
    let is_meant = |client: Client| for_reader.is_none_or(|reader| reader == client);
    retain(operations, |client, record| {
        !is_meant(client) || record.partition != first.partition || record.offset < first.offset
    });
    for operation in operations {
        if let Action::Finished { partition, end } = &mut operation.action
            && is_meant(operation.client)
            && *partition == first.partition
        {
            *end = first.offset;
        }
    }
}

/// The last final reader reads one more record, at the end.
fn append(operations: &mut [Operation], partition: Partition, value: Value) -> Option<()> {
    let is_readers = |operation: &&mut Operation| operation.client == LAST_FINAL_READER;
    let mut appended = None;
    for operation in operations.iter_mut().filter(is_readers) {
        if let Action::Finished { partition: finished, end } = &mut operation.action
            && *finished == partition
        {
            appended = Some(Record { partition, offset: *end, value });
            *end = end.plus(1);
        }
    }
    let last = operations.iter_mut().filter(is_readers).filter_map(polled_mut).next_back()?;
    last.records.push(appended?);
    Some(())
}

fn pick<T: Copy>(choices: &[T], random: &mut Random) -> Option<T> {
    choices.get(random.below(choices.len() as u64) as usize).copied()
}

fn retain(operations: &mut [Operation], is_kept: impl Fn(Client, &Record) -> bool) {
    for operation in operations {
        let client = operation.client;
        if let Some(polled) = polled_mut(operation) {
            polled.records.retain(|record| is_kept(client, record));
        }
    }
}

fn records_mut(operations: &mut [Operation], is_reader: impl Fn(Client) -> bool) -> impl Iterator<Item = &mut Record> {
    let of_reader = operations.iter_mut().filter(move |operation| is_reader(operation.client));
    of_reader.filter_map(polled_mut).flat_map(|polled| &mut polled.records)
}

fn polled(operation: &Operation) -> Option<&Polled> {
    match &operation.action {
        Action::Polled(polled) => Some(polled),
        _ => None,
    }
}

fn polled_mut(operation: &mut Operation) -> Option<&mut Polled> {
    match &mut operation.action {
        Action::Polled(polled) => Some(polled),
        _ => None,
    }
}

fn sent_mut(operation: &mut Operation) -> Option<&mut Sent> {
    match &mut operation.action {
        Action::Sent(sent) => Some(sent),
        _ => None,
    }
}
