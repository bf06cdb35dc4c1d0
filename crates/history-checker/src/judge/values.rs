//! One value at a time: all its sends beside all who read it.
//!
//! Here the difference between acknowledged, failed and indeterminate is made (R17, P1), and here it is settled what the partition holds, so
//! that the other rules need not ask again.
//!
//! Tested in `tests/histories/`.

use std::collections::BTreeMap;

use base_types::Offset;

use crate::history::{Client, Delivery, History, Isolation, Key, Moment, OperationId, Outcome, Partition, Value};
use crate::judge::offsets::Conflicts;
use crate::judge::{Attempt, Rows, Sighting};
use crate::verdict::{Finding, Kind, Verdict};

#[derive(Default)]
pub struct Values {
    pub log: Log,
    pub placed: Vec<Placed>,
}

/// What the partitions hold, as far as clients can know.
#[derive(Default)]
pub struct Log {
    pub existing: Vec<Existing>,
    pub missing: Vec<Missing>,
    /// Of each key of a compacted partition, the last offset at which a record of it may be.
    pub newest: BTreeMap<(Partition, Key), Offset>,
}

/// A record that somebody has read and that every reader must therefore find.
pub struct Existing {
    pub partition: Partition,
    pub offset: Offset,
    pub value: Value,
    pub key: Option<Key>,
    /// The first poll that returned it, and when that ended.
    pub poll: OperationId,
    pub seen: Moment,
}

/// An acknowledged send whose record nobody has read where it was promised. That is no anomaly as long as nobody has looked there.
pub struct Missing {
    pub partition: Partition,
    pub offset: Option<Offset>,
    pub value: Value,
    pub key: Option<Key>,
    pub send: OperationId,
    pub acknowledged: Moment,
    /// A poll that read the value at another offset.
    pub elsewhere: Option<OperationId>,
}

/// A send whose place in the log is known and undisputed.
pub struct Placed {
    pub partition: Partition,
    pub offset: Offset,
    pub value: Value,
    pub send: OperationId,
    pub client: Client,
    pub start: Moment,
    /// `None`: its outcome is indeterminate, and somebody has read it.
    pub acknowledged: Option<Moment>,
    pub is_sequenced: bool,
}

pub fn judge(history: &History, rows: &Rows<'_>, conflicts: &Conflicts, verdict: &mut Verdict) -> Values {
    let mut judging = Judging { history, conflicts, verdict, values: Values::default() };
    let mut read = rows.sightings.chunk_by(|a, b| a.record() == b.record()).peekable();
    for attempts in rows.attempts.chunk_by(|a, b| a.record() == b.record()) {
        let record = attempts[0].record();
        while let Some(unsent) = read.next_if(|sightings| sightings[0].record() < record) {
            judging.never_sent(unsent);
        }
        let sightings = read.next_if(|sightings| sightings[0].record() == record).unwrap_or_default();
        judging.judge(&Write { attempts, sightings });
    }
    read.for_each(|unsent| judging.never_sent(unsent));
    judging.values
}

/// All that is known of one value of one partition.
struct Write<'a> {
    /// At least one, in the order of their starts.
    attempts: &'a [Attempt<'a>],
    /// In the order of their offsets, and of their ends where they have one offset.
    sightings: &'a [Sighting],
}

impl<'a> Write<'a> {
    fn key(&self) -> Option<Key> {
        self.attempts[0].sent.key
    }

    /// The sends that may have left a record which readers of committed records see.
    fn possible(&self) -> impl Iterator<Item = &'a Attempt<'a>> {
        let attempts = self.attempts.iter();
        attempts.filter(|attempt| matches!(attempt.sent.outcome, Outcome::Acknowledged { .. } | Outcome::Indeterminate))
    }

    /// The sends that may have left a record at all: one of an aborted transaction is there for whoever reads uncommitted records.
    fn leaving_a_record(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.sent.outcome != Outcome::Failed).count()
    }

    /// The sightings at each offset.
    fn copies(&self) -> impl Iterator<Item = &'a [Sighting]> {
        self.sightings.chunk_by(|a, b| a.offset == b.offset)
    }

    fn is_read_at(&self, offset: Offset) -> bool {
        self.sightings.binary_search_by_key(&offset, |sighting| sighting.offset).is_ok()
    }

    /// The copies that every reader must find: who could read one must be able to for ever, unless its transaction may have been open.
    fn copies_for_all(&self) -> impl Iterator<Item = &'a [Sighting]> {
        let is_transactional = self.attempts.iter().any(|attempt| attempt.sent.delivery == Delivery::Transactional);
        let mut told: Vec<Offset> = Vec::new();
        if is_transactional {
            told.extend(self.attempts.iter().filter_map(Attempt::told));
            told.sort_unstable();
        }
        self.copies().filter(move |copy| {
            !is_transactional
                || told.binary_search(&copy[0].offset).is_ok()
                || copy.iter().any(|sighting| sighting.isolation == Isolation::ReadCommitted)
        })
    }
}

fn is_sequenced(attempt: &Attempt<'_>) -> bool {
    match attempt.sent.delivery {
        Delivery::Plain => false,
        Delivery::Idempotent | Delivery::Transactional => true,
    }
}

fn earliest<'a>(sightings: impl IntoIterator<Item = &'a Sighting>) -> Option<&'a Sighting> {
    sightings.into_iter().min_by_key(|sighting| (sighting.seen, sighting.poll))
}

struct Judging<'a> {
    history: &'a History,
    conflicts: &'a Conflicts,
    verdict: &'a mut Verdict,
    values: Values,
}

impl Judging<'_> {
    fn never_sent(&mut self, sightings: &[Sighting]) {
        if let Some(first) = earliest(sightings) {
            self.found(Kind::Phantom, first, [first.poll]);
        }
    }

    fn judge(&mut self, write: &Write<'_>) {
        if write.possible().next().is_none() {
            return self.refused(write);
        }
        let sent_first = &write.attempts[0];
        if let Some(read_first) = earliest(write.sightings)
            && read_first.seen < sent_first.operation.start
        {
            self.found(Kind::Phantom, read_first, [read_first.poll, sent_first.id]);
        }
        self.count(write);
        self.place(write);
        self.keep(write);
    }

    /// No send of it can have left a record that counts.
    fn refused(&mut self, write: &Write<'_>) {
        match write.attempts.iter().find(|attempt| attempt.sent.outcome == Outcome::Aborted) {
            // Whoever reads uncommitted records may see it.
            Some(aborted) => {
                let committed =
                    write.sightings.iter().filter(|sighting| sighting.isolation == Isolation::ReadCommitted);
                if let Some(read) = earliest(committed) {
                    self.found(Kind::AbortedRead, read, [aborted.id, read.poll]);
                }
            }
            None => {
                if let Some(read) = earliest(write.sightings) {
                    self.found(Kind::FailedRead, read, [write.attempts[0].id, read.poll]);
                }
            }
        }
    }

    /// P1: as many copies as sends at most.
    fn count(&mut self, write: &Write<'_>) {
        let undisputed = |copy: &&[Sighting]| !self.conflicts.contains(copy[0].partition, copy[0].offset);
        let copies: Vec<&Sighting> = write.copies().filter(undisputed).map(|copy| &copy[0]).collect();
        if let Some(send) = write.possible().next()
            && let [first, second, ..] = copies[..]
            && copies.len() > write.leaving_a_record()
        {
            let evidence = [send.id, first.poll, second.poll];
            let finding = Finding::new(Kind::Duplicated, second.partition, Some(second.offset), second.value, evidence);
            if write.possible().all(is_sequenced) {
                self.verdict.anomalies.push(finding);
            } else {
                self.verdict.information.push(finding);
            }
        }
    }

    /// Where each send's record is, or should be.
    fn place(&mut self, write: &Write<'_>) {
        let is_only_one = write.leaving_a_record() == 1;
        let read = earliest(write.sightings).map(|read| read.poll);
        for attempt in write.possible() {
            match (attempt.told(), read) {
                (Some(offset), _) if write.is_read_at(offset) => self.put(attempt, offset),
                (Some(offset), None) => {
                    self.put(attempt, offset);
                    self.miss(attempt, Some(offset), None);
                }
                // An idempotent send leaves one record, so it cannot be at both offsets.
                (Some(offset), Some(_)) if is_only_one && is_sequenced(attempt) => {
                    self.misplace(write, attempt, offset)
                }
                // Others may have been repeated: the record must be looked for where it was promised.
                (Some(offset), elsewhere) => self.miss(attempt, Some(offset), elsewhere),
                (None, None) if attempt.sent.outcome != Outcome::Indeterminate => self.miss(attempt, None, None),
                // Which of several sends left a copy is not known. Of several copies each lies behind what was there before the send.
                (None, Some(_)) if is_only_one => self.put(attempt, write.sightings[0].offset),
                (None, _) => {}
            }
        }
    }

    fn misplace(&mut self, write: &Write<'_>, attempt: &Attempt<'_>, offset: Offset) {
        let is_disputed = |offset| self.conflicts.contains(attempt.sent.partition, offset);
        let elsewhere = write.sightings.iter().find(|read| !is_disputed(read.offset));
        match elsewhere.filter(|_| !is_disputed(offset)) {
            Some(read) => {
                let (partition, value) = (attempt.sent.partition, attempt.sent.value);
                let evidence = [attempt.id, read.poll];
                self.verdict.anomalies.push(Finding::new(Kind::Misplaced, partition, Some(offset), value, evidence));
            }
            None => self.miss(attempt, Some(offset), write.sightings.first().map(|read| read.poll)),
        }
    }

    fn put(&mut self, attempt: &Attempt<'_>, offset: Offset) {
        let partition = attempt.sent.partition;
        if self.conflicts.contains(partition, offset) {
            return;
        }
        let acknowledged = match attempt.sent.outcome {
            Outcome::Acknowledged { .. } => Some(attempt.operation.end),
            Outcome::Failed | Outcome::Aborted | Outcome::Indeterminate => None,
        };
        self.values.placed.push(Placed {
            partition,
            offset,
            value: attempt.sent.value,
            send: attempt.id,
            client: attempt.operation.client,
            start: attempt.operation.start,
            acknowledged,
            is_sequenced: is_sequenced(attempt),
        });
    }

    fn miss(&mut self, attempt: &Attempt<'_>, offset: Option<Offset>, elsewhere: Option<OperationId>) {
        let partition = attempt.sent.partition;
        if offset.is_some_and(|offset| self.conflicts.contains(partition, offset)) {
            return;
        }
        self.values.log.missing.push(Missing {
            partition,
            offset,
            value: attempt.sent.value,
            key: attempt.sent.key,
            send: attempt.id,
            acknowledged: attempt.operation.end,
            elsewhere,
        });
    }

    /// What readers must find from now on, and what compaction may take away for its sake.
    fn keep(&mut self, write: &Write<'_>) {
        for copy in write.copies_for_all() {
            let first = &copy[0];
            self.values.log.existing.push(Existing {
                partition: first.partition,
                offset: first.offset,
                value: first.value,
                key: write.key(),
                poll: first.poll,
                seen: first.seen,
            });
        }
        let partition = write.attempts[0].sent.partition;
        let Some(key) = write.key().filter(|_| self.history.is_compacted(partition)) else { return };
        let known = write.copies().map(|copy| copy[0].offset).chain(write.possible().filter_map(Attempt::told)).max();
        // A record that nobody has read and whose offset nobody was told may be at any.
        let is_open = write.possible().any(|attempt| attempt.told().is_none())
            && write.copies().count() < write.leaving_a_record();
        let last = if is_open { Some(Offset(i64::MAX)) } else { known };
        if let Some(last) = last {
            let newest = self.values.log.newest.entry((partition, key)).or_insert(last);
            *newest = last.max(*newest);
        }
    }

    fn found<const N: usize>(&mut self, kind: Kind, read: &Sighting, evidence: [OperationId; N]) {
        self.verdict.anomalies.push(Finding::new(kind, read.partition, Some(read.offset), read.value, evidence));
    }
}
