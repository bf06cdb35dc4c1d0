//! Where the high watermark may stand. Pure functions on data.

use base_types::{Offset, planted};

/// The smallest durable end over the maximal ISR, or `None` while the ISR is too small for it to move (R5).
///
/// `durable_ends` are those of the maximal ISR, the leader's own included: committed members and proposed ones alike, so that
/// a proposal that was accepted without our knowing can never have committed less than we did (KIP-497, R4).
pub fn bound(
    durable_ends: impl Iterator<Item = Offset>,
    isr_size: usize,
    min_insync_replicas: usize,
) -> Option<Offset> {
    if isr_size < min_insync_replicas && !planted!(HighWatermarkBelowMinIsr) {
        return None;
    }
    durable_ends.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_member_of_the_maximal_isr_holds_it_back() {
        let ends = [Offset(9), Offset(5), Offset(7)];
        assert_eq!(bound(ends.into_iter(), 2, 2), Some(Offset(5)));
    }

    #[test]
    fn it_does_not_move_while_the_isr_is_too_small() {
        assert_eq!(bound([Offset(9)].into_iter(), 1, 2), None);
    }
}
