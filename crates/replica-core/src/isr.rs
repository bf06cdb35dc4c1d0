//! Who may join the ISR and who must leave it. Pure functions on data.

use base_types::{Offset, Tick, planted};

/// A follower may join when it holds durably everything committed and everything that was there when the leader took over
/// (KIP-101, KIP-320). `durable_end` is what it reported in this leader epoch; `None`: it has not spoken yet, and silence is no
/// position.
pub fn may_join(durable_end: Option<Offset>, high_watermark: Offset, epoch_start: Offset) -> bool {
    durable_end.is_some_and(|end| end >= high_watermark && (end >= epoch_start || planted!(JoinsBehindEpochStart)))
}

/// Since when a follower has not had everything.
///
/// Under steady load a healthy follower is always a few batches behind and never seen at the very end. What counts is how old
/// the end is that it has reached: the log end is marked, and when the follower gets there it was caught up as of the mark.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lag {
    /// `None`: it has everything.
    behind: Option<Behind>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Behind {
    /// It had everything that was there then.
    since: Tick,
    /// Where the log ended at `marked_at`.
    mark: Offset,
    marked_at: Tick,
}

impl Lag {
    /// Nothing is known of the follower yet: it gets its time from `now` on.
    pub fn from(now: Tick, log_end: Offset) -> Lag {
        Lag { behind: Some(Behind { since: now, mark: log_end, marked_at: now }) }
    }

    /// Something was appended, or the stream ended: from now on the follower may lack something.
    pub fn begin(&mut self, now: Tick, log_end: Offset) {
        if self.behind.is_none() {
            *self = Lag::from(now, log_end);
        }
    }

    /// The follower reported `durable_end`.
    pub fn reported(&mut self, now: Tick, durable_end: Offset, log_end: Offset) {
        if durable_end >= log_end {
            self.behind = None;
        } else if let Some(Behind { mark, marked_at, .. }) = self.behind
            && durable_end >= mark
        {
            self.behind = Some(Behind { since: marked_at, mark: log_end, marked_at: now });
        }
    }

    /// From when on the follower is no member any more (`replica.lag.time.max.ms`).
    pub fn ends_membership_at(&self, lag_ms_max: u64) -> Option<Tick> {
        self.behind.map(|behind| behind.since.plus_ms(lag_ms_max).plus_ms(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 30;

    #[test]
    fn joining_needs_the_high_watermark_and_the_epoch_start() {
        assert!(may_join(Some(Offset(10)), Offset(10), Offset(8)));
        assert!(!may_join(Some(Offset(9)), Offset(10), Offset(8)));
        assert!(!may_join(Some(Offset(10)), Offset(5), Offset(11)));
        assert!(!may_join(None, Offset(0), Offset(0)), "silence is no position");
    }

    #[test]
    fn lag_counts_from_the_moment_something_was_missing() {
        let mut lag = Lag::from(Tick(0), Offset(5));
        lag.reported(Tick(7), Offset(5), Offset(5));
        assert_eq!(lag.ends_membership_at(MAX), None, "an idle follower never lags");
        lag.begin(Tick(1000), Offset(6));
        lag.begin(Tick(1005), Offset(7));
        assert_eq!(lag.ends_membership_at(MAX), Some(Tick(1031)));
    }

    #[test]
    fn a_follower_always_a_little_behind_is_as_old_as_the_end_it_reached() {
        let mut lag = Lag::from(Tick(0), Offset(10));
        for step in 1..100 {
            // One record each 10 ms, and the follower is two records behind.
            lag.reported(Tick(step * 10), Offset(8 + step as i64), Offset(10 + step as i64));
            assert!(lag.ends_membership_at(MAX + 20) > Some(Tick(step * 10)), "left at step {step}");
        }
    }

    #[test]
    fn a_follower_that_stands_still_leaves_though_it_reports() {
        let mut lag = Lag::from(Tick(0), Offset(10));
        (1..9).for_each(|step| lag.reported(Tick(step), Offset(9), Offset(20)));
        assert_eq!(lag.ends_membership_at(MAX), Some(Tick(31)));
    }
}
