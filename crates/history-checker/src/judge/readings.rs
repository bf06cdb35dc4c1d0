//! The way of each reader through its partitions.
//!
//! A reader has a position: the offset that it must go on from. It is known after a seek and after every record, and unknown after an
//! assignment, until the first record. A *stretch* is what a reader reads from one position that it got to the next; within one it
//! goes forward only, and what it goes past it claims not to be there.
//!
//! Tested in `tests/histories/`.

use std::collections::{BTreeMap, BTreeSet};

use base_types::Offset;

use crate::history::{Action, Client, History, Moment, OperationId, Partition, Record};
use crate::verdict::{Finding, Kind, Verdict};

#[derive(Default)]
pub struct Readings {
    pub gaps: Vec<Gap>,
    pub ends: Vec<End>,
    /// What a stretch read although it had gone past it: out of order, but not skipped.
    pub late: BTreeSet<(Stretch, Offset)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch(u32);

/// Offsets that a reader went past without a record.
pub struct Gap {
    pub partition: Partition,
    pub stretch: Stretch,
    pub from: Offset,
    /// The first offset behind the gap.
    pub to: Offset,
    /// What brought the reader to `from`, and to `to`.
    pub before: OperationId,
    pub after: OperationId,
    /// When the reader was at `to`.
    pub until: Moment,
}

/// A reader was told where the partition ends, when it had read up to there.
pub struct End {
    pub partition: Partition,
    pub end: Offset,
    /// What ended before must lie before the end.
    pub asked: Moment,
    pub by: OperationId,
    /// It had begun at offset 0.
    pub is_whole: bool,
}

struct Position {
    stretch: Stretch,
    /// What the next record must not lie below.
    next: Offset,
    /// What the next new record must not lie behind: above `next` only after the reader went back.
    highest: Offset,
    /// What brought the reader to `next`, and to `highest`.
    next_by: OperationId,
    highest_by: OperationId,
    is_whole: bool,
}

pub fn judge(history: &History, verdict: &mut Verdict) -> Readings {
    let mut of_readers: Vec<(Client, Moment, OperationId)> = Vec::new();
    for (id, operation) in history.operations() {
        match operation.action {
            Action::Polled(_) | Action::Assigned { .. } | Action::Sought { .. } | Action::Finished { .. } => {
                of_readers.push((operation.client, operation.end, id));
            }
            Action::Sent(_) | Action::Trimmed { .. } => {}
        }
    }
    of_readers.sort_unstable();
    let mut walk = Walk { verdict, readings: Readings::default(), positions: BTreeMap::new(), stretches: 0 };
    for of_reader in of_readers.chunk_by(|a, b| a.0 == b.0) {
        walk.positions.clear();
        for &(_, end, id) in of_reader {
            walk.follow(history, id, end);
        }
    }
    walk.readings
}

struct Walk<'a> {
    verdict: &'a mut Verdict,
    readings: Readings,
    /// Of the reader that is followed. What is not here is unknown.
    positions: BTreeMap<Partition, Position>,
    stretches: u32,
}

impl Walk<'_> {
    fn follow(&mut self, history: &History, id: OperationId, until: Moment) {
        let operation = history.operation(id);
        match &operation.action {
            Action::Polled(polled) => polled.records.iter().for_each(|record| self.read(record, id, until)),
            Action::Assigned { partitions } => {
                for partition in partitions {
                    self.positions.remove(partition);
                }
            }
            Action::Sought { partition, to: None } => {
                self.positions.remove(partition);
            }
            Action::Sought { partition, to: Some(to) } => self.begin(*partition, *to, id, *to <= Offset::ZERO),
            Action::Finished { partition, end } => self.finish(*partition, *end, operation.start, id, until),
            Action::Sent(_) | Action::Trimmed { .. } => {}
        }
    }

    fn begin(&mut self, partition: Partition, at: Offset, by: OperationId, is_whole: bool) {
        let stretch = Stretch(self.stretches);
        self.stretches += 1;
        let position = Position { stretch, next: at, highest: at, next_by: by, highest_by: by, is_whole };
        self.positions.insert(partition, position);
    }

    fn read(&mut self, record: &Record, poll: OperationId, until: Moment) {
        let &Record { partition, offset, value } = record;
        let next = offset.plus(1);
        let Some(position) = self.positions.get_mut(&partition) else {
            return self.begin(partition, next, poll, false);
        };
        if offset < position.next {
            self.verdict.anomalies.push(Finding::new(
                Kind::NonMonotonicPoll,
                partition,
                Some(offset),
                value,
                [position.next_by, poll],
            ));
        }
        if offset < position.highest {
            self.readings.late.insert((position.stretch, offset));
        } else {
            self.readings.gaps.extend(position.advance(partition, offset, poll, until));
            position.highest = next;
        }
        position.next = next;
        position.next_by = poll;
    }

    fn finish(&mut self, partition: Partition, end: Offset, asked: Moment, by: OperationId, until: Moment) {
        let mut is_whole = false;
        if let Some(position) = self.positions.get_mut(&partition) {
            is_whole = position.is_whole;
            if end > position.highest {
                self.readings.gaps.extend(position.advance(partition, end, by, until));
                position.next = end;
                position.next_by = by;
            }
        }
        self.readings.ends.push(End { partition, end, asked, by, is_whole });
    }
}

impl Position {
    /// Goes on to `to`, and says what lies between.
    fn advance(&mut self, partition: Partition, to: Offset, after: OperationId, until: Moment) -> Option<Gap> {
        let (from, before) = (self.highest, self.highest_by);
        self.highest = to;
        self.highest_by = after;
        (from < to).then_some(Gap { partition, stretch: self.stretch, from, to, before, after, until })
    }
}
