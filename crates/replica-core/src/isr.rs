//! Who may join the ISR and who must leave it. Pure functions on data.

use base_types::{Offset, Tick};

/// Where a follower stands, as far as the ISR is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it reported durable in this leader epoch; `None` before its first word.
    pub durable_end: Option<Offset>,
    /// When it last held everything that the leader had.
    pub caught_up_at: Tick,
}

/// A follower may join when it has spoken in this epoch, and holds durably everything committed and everything that was there
/// when the leader took over (reliability reference §2.3).
pub fn may_join(standing: Standing, high_watermark: Offset, epoch_start: Offset) -> bool {
    standing.durable_end.is_some_and(|end| end >= high_watermark && end >= epoch_start)
}

/// A member must leave when it has not caught up for longer than the allowed lag.
pub fn must_leave(standing: Standing, now: Tick, lag_ms_max: u64) -> bool {
    now.ms_since(standing.caught_up_at) > lag_ms_max
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(end: Option<i64>) -> Standing {
        Standing { durable_end: end.map(Offset), caught_up_at: Tick(100) }
    }

    #[test]
    fn joining_needs_the_high_watermark_and_the_epoch_start() {
        assert!(may_join(standing(Some(10)), Offset(10), Offset(8)));
        assert!(!may_join(standing(Some(9)), Offset(10), Offset(8)));
        assert!(!may_join(standing(Some(10)), Offset(5), Offset(11)));
        assert!(!may_join(standing(None), Offset(0), Offset(0)), "silence is no position");
    }

    #[test]
    fn lag_counts_from_the_last_time_it_had_everything() {
        assert!(!must_leave(standing(Some(1)), Tick(130), 30));
        assert!(must_leave(standing(Some(1)), Tick(131), 30));
    }
}
