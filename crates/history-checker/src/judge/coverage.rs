//! What readers went past, against what must be there (R2, R6): acknowledged and never read, or read by others.
//!
//! A gap alone is nothing: markers of transactions, aborted records, compaction and a log start that moves all leave gaps. A gap over a
//! record is an anomaly.
//!
//! Tested in `tests/histories/`.

use std::collections::BTreeMap;

use base_types::Offset;

use crate::history::{History, Moment, OperationId, Partition, Value};
use crate::judge::deletions::Deletions;
use crate::judge::readings::{End, Gap, Readings};
use crate::judge::values::{Existing, Log, Missing};
use crate::verdict::{Finding, Kind, Verdict};

pub fn judge(history: &History, log: Log, readings: Readings, verdict: &mut Verdict) {
    let Log { mut existing, missing, newest } = log;
    let deletions = Deletions::of(history, newest);
    let Readings { gaps, mut ends, late } = readings;
    ends.sort_unstable_by_key(|end| (end.partition, end.asked, end.by));
    let known = Known::of(&mut existing);
    ends.iter().for_each(|end| known.judge_end(end, verdict));

    existing.retain(|record| !deletions.is_superseded(record.partition, record.key, Some(record.offset)));
    existing.sort_unstable_by_key(|record| (record.partition, record.offset));
    let mut unread = Unread::of(missing, &deletions);
    for gap in &gaps {
        let from = gap.from.max(deletions.log_start(gap.partition, gap.until));
        if from >= gap.to {
            continue;
        }
        let first = existing.partition_point(|record| (record.partition, record.offset) < (gap.partition, from));
        let within = existing[first..].iter();
        let mut within = within.take_while(|record| record.partition == gap.partition && record.offset < gap.to);
        if let Some(skipped) = within.find(|record| !late.contains(&(gap.stretch, record.offset))) {
            let evidence = [skipped.poll, gap.before, gap.after];
            let (partition, offset) = (skipped.partition, Some(skipped.offset));
            verdict.anomalies.push(Finding::new(Kind::SkippedPoll, partition, offset, skipped.value, evidence));
        }
        unread.judge_gap(gap, from, verdict);
    }
    unread.judge_ends(&ends, &deletions, verdict);
}

/// How far readers had got at each moment: the highest record that had been read by then.
struct Known {
    heights: Vec<Height>,
}

struct Height {
    partition: Partition,
    seen: Moment,
    offset: Offset,
    value: Value,
    poll: OperationId,
}

impl Known {
    fn of(existing: &mut [Existing]) -> Known {
        existing.sort_unstable_by_key(|record| (record.partition, record.seen, record.offset));
        let mut heights: Vec<Height> = Vec::new();
        for &Existing { partition, offset, value, poll, seen, .. } in &*existing {
            if heights.last().is_none_or(|last| last.partition != partition || last.offset < offset) {
                heights.push(Height { partition, seen, offset, value, poll });
            }
        }
        Known { heights }
    }

    fn judge_end(&self, end: &End, verdict: &mut Verdict) {
        let before =
            self.heights.partition_point(|height| (height.partition, height.seen) < (end.partition, end.asked));
        if let Some(height) = self.heights[..before].last()
            && height.partition == end.partition
            && height.offset >= end.end
        {
            let evidence = [height.poll, end.by];
            let (partition, offset) = (height.partition, Some(height.offset));
            verdict.anomalies.push(Finding::new(Kind::Truncated, partition, offset, height.value, evidence));
        }
    }
}

/// What was acknowledged and not found. It leaves when one reader has proven it gone: the others would only say it again.
struct Unread {
    placed: BTreeMap<(Partition, Offset, OperationId), Missing>,
    /// Nobody was told where.
    placeless: Vec<Missing>,
}

impl Unread {
    fn of(missing: Vec<Missing>, deletions: &Deletions) -> Unread {
        let mut unread = Unread { placed: BTreeMap::new(), placeless: Vec::new() };
        for missing in missing {
            if deletions.is_superseded(missing.partition, missing.key, missing.offset) {
                continue;
            }
            match missing.offset {
                Some(offset) => {
                    unread.placed.insert((missing.partition, offset, missing.send), missing);
                }
                None => unread.placeless.push(missing),
            }
        }
        unread
    }

    fn judge_gap(&mut self, gap: &Gap, from: Offset, verdict: &mut Verdict) {
        let first = OperationId(0);
        let within = (gap.partition, from, first)..(gap.partition, gap.to, first);
        let passed: Vec<_> = self.placed.range(within).map(|(place, _)| *place).collect();
        for missing in passed.iter().filter_map(|place| self.placed.remove(place)) {
            verdict.anomalies.push(missing.finding(Kind::Lost, [gap.before, gap.after]));
        }
    }

    /// `ends` in the order of partitions and moments.
    fn judge_ends(self, ends: &[End], deletions: &Deletions, verdict: &mut Verdict) {
        // From each end on, the lowest that anybody was told of until the last.
        let mut lowest_from: Vec<&End> = Vec::with_capacity(ends.len());
        for end in ends.iter().rev() {
            let later = lowest_from.last().filter(|later| later.partition == end.partition && later.end < end.end);
            lowest_from.push(later.copied().unwrap_or(end));
        }
        lowest_from.reverse();
        for missing in self.placed.into_values() {
            let after =
                ends.partition_point(|end| (end.partition, end.asked) <= (missing.partition, missing.acknowledged));
            if let Some(lowest) = lowest_from.get(after)
                && lowest.partition == missing.partition
                && missing.offset.is_some_and(|offset| lowest.end <= offset)
            {
                verdict.anomalies.push(missing.finding(Kind::Unseen, [lowest.by]));
            }
        }
        // Without an offset only a reader of everything can say that it is not there, and only if nothing was deleted.
        let whole: BTreeMap<Partition, &End> =
            ends.iter().filter(|end| end.is_whole).map(|end| (end.partition, end)).collect();
        for missing in self.placeless {
            if let Some(last) = whole.get(&missing.partition)
                && missing.acknowledged < last.asked
                && deletions.log_start(missing.partition, Moment(u64::MAX)) == Offset::ZERO
            {
                verdict.anomalies.push(missing.finding(Kind::Unseen, [last.by]));
            }
        }
    }
}

impl Missing {
    /// Nobody has it, or it is somewhere else.
    fn finding<const N: usize>(&self, kind: Kind, proof: [OperationId; N]) -> Finding {
        let kind = if self.elsewhere.is_some() { Kind::Misplaced } else { kind };
        let evidence = [self.send].into_iter().chain(self.elsewhere).chain(proof);
        Finding::new(kind, self.partition, self.offset, self.value, evidence)
    }
}
