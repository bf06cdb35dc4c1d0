//! What the judge found, and how it is told to people.

use std::fmt;

use base_types::Offset;

use crate::history::{History, OperationId, Partition, Value};

/// So many findings of one kind are told whole; a broken cluster gives thousands, and the first ones say it.
const TOLD_OF_EACH_KIND_MAX: usize = 10;

/// What kind of promise was broken. Evidence is named in the order in which [`Finding::evidence`] has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Acknowledged, and a reader went past its offset, and nobody has ever read it. The send, the reader's way past it.
    Lost,
    /// Acknowledged, and a reader that was told of the end later found the end before it, and nobody has ever read it. The send, the end.
    Unseen,
    /// Read once, and later the partition ended before it. The poll that read it, the end.
    Truncated,
    /// Acknowledged at one offset and found at another instead. The send, the poll that found it, and a reader's way past the offset told
    /// where it takes that to know.
    Misplaced,
    /// Two values at one offset. An operation for each.
    Inconsistent,
    /// At more offsets than it was sent times. The send, a poll for each of two offsets. For information where the producer is not idempotent.
    Duplicated,
    /// Read, but never sent to that partition, or not before it was read. The poll, the send if there is one.
    Phantom,
    /// Read, although every send of it failed for certain. The send, the poll.
    FailedRead,
    /// Read by a reader of committed records, although its transaction was aborted. The send, the poll.
    AbortedRead,
    /// Sent, by anyone, after another record was acknowledged, and yet at a lower offset. The other send, the send.
    Reordered,
    /// Of two sends that one producer had under way together, the later has the lower offset. The earlier send, the later. For information
    /// where the producer is not idempotent.
    NonMonotonicSend,
    /// A reader went back without having chosen to. What brought it to its position, the poll that went back.
    NonMonotonicPoll,
    /// A reader went past a record that another one has read. The poll that read it, the reader's way past it.
    SkippedPoll,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Finding {
    pub kind: Kind,
    pub partition: Partition,
    /// Where it is or should be; `None` where nobody was told.
    pub offset: Option<Offset>,
    pub value: Value,
    /// The operations that prove it, without repetition.
    pub evidence: Vec<OperationId>,
}

impl Finding {
    pub(crate) fn new(
        kind: Kind,
        partition: Partition,
        offset: Option<Offset>,
        value: Value,
        evidence: impl IntoIterator<Item = OperationId>,
    ) -> Finding {
        let mut distinct = Vec::new();
        for id in evidence {
            if !distinct.contains(&id) {
                distinct.push(id);
            }
        }
        Finding { kind, partition, offset, value, evidence: distinct }
    }
}

/// How much there was to judge. A clean verdict on nothing proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Judged {
    pub operations: usize,
    pub sends: usize,
    pub acknowledged: usize,
    pub records_read: usize,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// What must not be, in the order of their kinds, partitions and offsets.
    pub anomalies: Vec<Finding>,
    /// What a producer that is not idempotent must expect.
    pub information: Vec<Finding>,
    pub judged: Judged,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.anomalies.is_empty()
    }

    /// The verdict on `history` for people: every finding with the operations that prove it.
    pub fn told<'a>(&'a self, history: &'a History) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            let Judged { operations, sends, acknowledged, records_read } = self.judged;
            writeln!(
                f,
                "{} anomalies in {operations} operations: {sends} sends, {acknowledged} of them acknowledged, \
                 and {records_read} records read",
                self.anomalies.len()
            )?;
            tell(f, history, &self.anomalies)?;
            if !self.information.is_empty() {
                writeln!(f, "for information: {}", self.information.len())?;
                tell(f, history, &self.information)?;
            }
            Ok(())
        })
    }
}

fn tell(f: &mut fmt::Formatter<'_>, history: &History, findings: &[Finding]) -> fmt::Result {
    for of_kind in findings.chunk_by(|a, b| a.kind == b.kind) {
        for finding in of_kind.iter().take(TOLD_OF_EACH_KIND_MAX) {
            write!(f, "{:?}: value {} in {}", finding.kind, finding.value.0, history.name(finding.partition))?;
            match finding.offset {
                Some(offset) => writeln!(f, " at offset {offset}")?,
                None => writeln!(f)?,
            }
            for &id in &finding.evidence {
                writeln!(f, "    operation {}: {}", id.0, history.line(id))?;
            }
        }
        if let Some(more) = of_kind.len().checked_sub(TOLD_OF_EACH_KIND_MAX).filter(|&more| more > 0) {
            writeln!(f, "    and {more} more of this kind")?;
        }
    }
    Ok(())
}
