//! How many bytes may go: a token bucket. Pure data, time is given.

use base_types::Tick;

/// What was not used in so much time is lost.
const BURST_MS: i128 = 1_000;

/// Earns its rate, and is open while it has anything. What goes while it is open is counted afterwards and may be more than there
/// was; then it is closed until that is earned.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Bytes a second; `None`: it is always open.
    rate: Option<u64>,
    /// Thousandths of a byte, since a rate of one byte a second earns one a millisecond; negative: a debt.
    level: i128,
    as_of: Tick,
}

impl Budget {
    /// Another rate begins anew, with neither the debt nor the savings of the one before.
    pub(super) fn set_rate(&mut self, now: Tick, rate: Option<u64>) {
        if self.rate != rate {
            *self = Budget { rate, level: 0, as_of: now };
        }
    }

    pub(super) fn is_limited(&self) -> bool {
        self.rate.is_some()
    }

    pub(super) fn is_open(&mut self, now: Tick) -> bool {
        self.earn(now);
        self.rate.is_none() || self.level > 0
    }

    pub(super) fn spend(&mut self, now: Tick, bytes: usize) {
        self.earn(now);
        self.level = self.level.saturating_sub(1_000 * bytes as i128);
    }

    /// For what did not ask whether it may go: it takes what was saved, and no more, so that it does not keep those who do ask waiting.
    pub(super) fn spend_saved(&mut self, now: Tick, bytes: usize) {
        self.earn(now);
        let least = self.level.min(0);
        self.level = self.level.saturating_sub(1_000 * bytes as i128).max(least);
    }

    /// When it is open; `None`: never, at this rate.
    pub(super) fn opens_at(&self) -> Option<Tick> {
        match self.rate {
            Some(0) => None,
            Some(rate) if self.level <= 0 => {
                let wait = -self.level / i128::from(rate) + 1;
                Some(self.as_of.plus_ms(u64::try_from(wait).unwrap_or(u64::MAX)))
            }
            Some(_) | None => Some(self.as_of),
        }
    }

    fn earn(&mut self, now: Tick) {
        let rate = i128::from(self.rate.unwrap_or(0));
        let earned = rate.saturating_mul(i128::from(now.ms_since(self.as_of)));
        self.level = self.level.saturating_add(earned).min(rate * BURST_MS);
        self.as_of = self.as_of.max(now);
    }
}

#[cfg(test)]
mod tests {
    use base_types::Random;

    use super::*;

    fn limited(rate: u64) -> Budget {
        let mut budget = Budget::default();
        budget.set_rate(Tick(0), Some(rate));
        budget
    }

    #[test]
    fn between_any_two_moments_no_more_goes_than_is_earned_and_one_second_saves_and_one_piece_exceeds() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let (rate, piece_max) = (random.between(1, 100_000), random.between(1, 300_000));
            let mut budget = limited(rate);
            // Everything that went, and when.
            let mut gone: Vec<(u64, u64)> = Vec::new();
            let mut now = 0;
            for _ in 0..200 {
                let pause = if random.chance(50) { 10_000 } else { 100 };
                now += random.below(pause);
                if budget.is_open(Tick(now)) {
                    let piece = random.between(1, piece_max);
                    budget.spend(Tick(now), piece as usize);
                    gone.push((now, piece));
                }
            }
            for (first, &(from, _)) in gone.iter().enumerate() {
                let mut sum = 0;
                for &(to, piece) in &gone[first..] {
                    sum += piece;
                    let most = rate * (to - from) / 1_000 + rate + piece_max + 1;
                    assert!(sum <= most, "seed {seed}: {sum} of {most} bytes in {from}..={to} ms");
                }
            }
        }
    }

    #[test]
    fn it_opens_when_it_says_and_no_sooner_and_what_is_asked_at_once_goes_at_the_rate() {
        for rate in [1, 7, 999, 1_000, 1_001, 50_000_000, i64::MAX as u64] {
            let (mut budget, mut sent) = (limited(rate), 0);
            let mut now = Tick(0);
            for _ in 0..50 {
                let closed = !budget.is_open(now);
                now = budget.opens_at().unwrap();
                assert!(!closed || !budget.is_open(Tick(now.0 - 1)), "rate {rate}: too late at {now:?}");
                assert!(budget.is_open(now), "rate {rate}: closed at {now:?}");
                budget.spend(now, 1 << 20);
                sent += 1 << 20;
            }
            let earned = u128::from(rate) * u128::from(now.0) / 1_000;
            assert!(sent <= earned + (1 << 20), "rate {rate}: {sent} of {earned}");
            assert!(earned <= sent + u128::from(rate) / 1_000 + 1, "rate {rate}: {sent} of {earned}");
        }
    }

    #[test]
    fn what_does_not_wait_takes_only_what_was_saved() {
        let mut budget = limited(1_000);
        budget.spend_saved(Tick(500), 2_000_000_000);
        assert_eq!(budget.opens_at(), Some(Tick(501)));
        // A debt of somebody's own turn is neither forgiven nor made greater.
        budget.spend(Tick(2_000), 10_000);
        budget.spend_saved(Tick(2_000), 2_000_000_000);
        assert_eq!(budget.opens_at(), Some(Tick(11_001)));
        // Of a second's worth, so much less can follow at once.
        budget.spend_saved(Tick(12_000), 800);
        budget.spend(Tick(12_000), 1_200);
        assert_eq!(budget.opens_at(), Some(Tick(13_001)));
    }

    #[test]
    fn at_rate_zero_it_is_closed_until_the_rate_is_raised() {
        let mut budget = limited(0);
        assert!(!budget.is_open(Tick(u64::MAX)));
        assert_eq!(budget.opens_at(), None);
        let mut budget = limited(0);
        budget.spend(Tick(5), 1 << 20);
        budget.set_rate(Tick(10), Some(1));
        assert_eq!(budget.opens_at(), Some(Tick(11)), "without the debt of the former rate");
        budget.set_rate(Tick(10), None);
        assert!(budget.is_open(Tick(10)));
    }
}
