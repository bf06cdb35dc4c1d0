//! Offsets follow time: what was asked for after another record was acknowledged lies behind it, whoever sent the two, because the log
//! was that long already. What one producer has under way at the same time keeps its order too, if the producer is idempotent (W1, P1).
//!
//! Tested in `tests/histories/`.

use std::collections::BTreeSet;

use crate::history::{Moment, OperationId};
use crate::judge::values::Placed;
use crate::verdict::{Finding, Kind, Verdict};

pub fn judge(mut placed: Vec<Placed>, verdict: &mut Verdict) {
    let mut reordered = BTreeSet::new();
    placed.sort_unstable_by_key(|send| (send.partition, send.start, send.send));
    for sends in placed.chunk_by(|a, b| a.partition == b.partition) {
        follow_acknowledged(sends, &mut reordered, verdict);
    }
    placed.sort_unstable_by_key(|send| (send.partition, send.client, send.start, send.send));
    for sends in placed.chunk_by(|a, b| (a.partition, a.client) == (b.partition, b.client)) {
        follow_own(sends, &reordered, verdict);
    }
}

/// The sends of one partition in the order of their starts, each against the highest that was acknowledged before.
fn follow_acknowledged(sends: &[Placed], reordered: &mut BTreeSet<OperationId>, verdict: &mut Verdict) {
    let mut acknowledged: Vec<(Moment, &Placed)> =
        sends.iter().filter_map(|send| Some((send.acknowledged?, send))).collect();
    acknowledged.sort_unstable_by_key(|(end, send)| (*end, send.send));
    let mut acknowledged = acknowledged.into_iter().peekable();
    let mut highest: Option<&Placed> = None;
    for send in sends {
        while let Some((_, earlier)) = acknowledged.next_if(|(end, _)| *end < send.start) {
            highest = higher(highest, earlier);
        }
        if let Some(earlier) = highest.filter(|earlier| earlier.offset > send.offset) {
            reordered.insert(send.send);
            verdict.anomalies.push(finding(Kind::Reordered, earlier, send));
        }
    }
}

/// The sends of one producer to one partition, each against the highest of those asked for before.
fn follow_own(sends: &[Placed], reordered: &BTreeSet<OperationId>, verdict: &mut Verdict) {
    let mut highest: Option<&Placed> = None;
    let mut highest_sequenced: Option<&Placed> = None;
    // What was asked for at one moment is in no order.
    for together in sends.chunk_by(|a, b| a.start == b.start) {
        for send in together.iter().filter(|send| !reordered.contains(&send.send)) {
            let overtaken_by = |earlier: &&Placed| earlier.offset > send.offset;
            if let Some(earlier) = highest_sequenced.filter(|_| send.is_sequenced).filter(overtaken_by) {
                verdict.anomalies.push(finding(Kind::NonMonotonicSend, earlier, send));
            } else if let Some(earlier) = highest.filter(overtaken_by) {
                verdict.information.push(finding(Kind::NonMonotonicSend, earlier, send));
            }
        }
        for send in together {
            highest = higher(highest, send);
            if send.is_sequenced {
                highest_sequenced = higher(highest_sequenced, send);
            }
        }
    }
}

fn higher<'a>(highest: Option<&'a Placed>, send: &'a Placed) -> Option<&'a Placed> {
    Some(highest.filter(|highest| highest.offset >= send.offset).unwrap_or(send))
}

fn finding(kind: Kind, earlier: &Placed, send: &Placed) -> Finding {
    Finding::new(kind, send.partition, Some(send.offset), send.value, [earlier.send, send.send])
}
