//! From a history to a verdict, in the order in which one rule needs what another has found.
//!
//! ```text
//!   rows ──► offsets: two values at one offset? ─┐ where not to look for a second cause
//!    │                                           ▼
//!    ├─────► values: sent, refused, how often? ──┬──► order: do offsets follow time?
//!    │                                           │ what is there, what was promised and not found
//!    └─────► readings: where readers went ───────┴──► coverage: what they passed over
//! ```
//!
//! One cause is one anomaly: an offset with two values is not also a lost and a doubled record. Every rule sorts and sweeps, so that the whole
//! takes O(n log n) steps.

mod coverage;
mod deletions;
mod offsets;
mod order;
mod readings;
mod values;

use base_types::Offset;

use crate::history::{Action, History, Isolation, Moment, Operation, OperationId, Outcome, Partition, Sent, Value};
use crate::verdict::{Judged, Verdict};

/// Judges what the clients of one run saw. The same history gives the same verdict.
pub fn judge(history: &History) -> Verdict {
    let rows = Rows::of(history);
    let mut verdict = Verdict { judged: rows.extent(history), ..Verdict::default() };
    let conflicts = offsets::judge(&rows, &mut verdict);
    let values = values::judge(history, &rows, &conflicts, &mut verdict);
    order::judge(values.placed, &mut verdict);
    let readings = readings::judge(history, &mut verdict);
    coverage::judge(history, values.log, readings, &mut verdict);
    verdict.anomalies.sort_unstable();
    verdict.information.sort_unstable();
    verdict
}

/// Sends and reads taken apart, each in the order of partitions and values.
struct Rows<'a> {
    attempts: Vec<Attempt<'a>>,
    sightings: Vec<Sighting>,
}

/// One send.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    id: OperationId,
    operation: &'a Operation,
    sent: &'a Sent,
}

/// One record in the hands of one reader.
#[derive(Clone, Copy)]
struct Sighting {
    partition: Partition,
    value: Value,
    offset: Offset,
    seen: Moment,
    poll: OperationId,
    isolation: Isolation,
}

impl<'a> Rows<'a> {
    fn of(history: &'a History) -> Rows<'a> {
        let mut attempts = Vec::new();
        let mut sightings = Vec::new();
        for (id, operation) in history.operations() {
            match &operation.action {
                Action::Sent(sent) => attempts.push(Attempt { id, operation, sent }),
                Action::Polled(polled) => sightings.extend(polled.records.iter().map(|record| Sighting {
                    partition: record.partition,
                    value: record.value,
                    offset: record.offset,
                    seen: operation.end,
                    poll: id,
                    isolation: polled.isolation,
                })),
                Action::Assigned { .. } | Action::Sought { .. } | Action::Finished { .. } | Action::Trimmed { .. } => {}
            }
        }
        attempts.sort_unstable_by_key(|attempt| (attempt.record(), attempt.operation.start, attempt.id));
        sightings.sort_unstable_by_key(|sighting| (sighting.record(), sighting.offset, sighting.seen, sighting.poll));
        Rows { attempts, sightings }
    }

    fn extent(&self, history: &History) -> Judged {
        let acknowledged = |attempt: &&Attempt<'_>| matches!(attempt.sent.outcome, Outcome::Acknowledged { .. });
        Judged {
            operations: history.operations().len(),
            sends: self.attempts.len(),
            acknowledged: self.attempts.iter().filter(acknowledged).count(),
            records_read: self.sightings.len(),
        }
    }
}

impl Attempt<'_> {
    fn record(&self) -> (Partition, Value) {
        (self.sent.partition, self.sent.value)
    }

    /// The offset it was acknowledged at.
    fn told(&self) -> Option<Offset> {
        match self.sent.outcome {
            Outcome::Acknowledged { at } => at,
            Outcome::Failed | Outcome::Aborted | Outcome::Indeterminate => None,
        }
    }
}

impl Sighting {
    fn record(&self) -> (Partition, Value) {
        (self.partition, self.value)
    }
}
