//! Deadlines as data, in order of time.

use std::collections::{BTreeMap, BTreeSet};

use base_types::Tick;

/// What a deadline is for. There is at most one deadline of each.
///
/// A session is moved with every heartbeat, so the group keeps the true deadline and looks at it when the timer fires: it sets
/// the timer again if the time has not come.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Timer {
    /// Of a group.
    Group { group_id: String, kind: GroupTimer },
    /// Old offsets are looked for.
    Expiry,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum GroupTimer {
    /// Classic: the member was not heard of.
    Session { member_id: String },
    /// Classic: a member was told its id and has not joined with it.
    Pending { member_id: String },
    /// Classic: joining ends.
    Join,
    /// Classic: waiting for members to sync ends.
    Sync,
    /// Consumer: the member was not heard of.
    ConsumerSession { member_id: String },
    /// Consumer: the member did not give up in time what was taken from it.
    ConsumerRebalance { member_id: String },
    /// Consumer: a member of the classic protocol was told to join again.
    ConsumerJoin { member_id: String },
    /// Consumer: a member of the classic protocol has joined, and is to sync.
    ConsumerSync { member_id: String },
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Tick, Timer)>,
    times: BTreeMap<Timer, Tick>,
}

impl Timers {
    /// In place of an earlier deadline of the same timer.
    pub fn set(&mut self, timer: Timer, at: Tick) {
        self.cancel(&timer);
        self.times.insert(timer.clone(), at);
        self.by_time.insert((at, timer));
    }

    pub fn set_if_none(&mut self, timer: Timer, at: Tick) {
        if !self.times.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    pub fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, at)) = self.times.remove_entry(timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    /// Takes out the earliest timer whose time has come.
    pub fn pop_due(&mut self, now: Tick) -> Option<Timer> {
        let (at, _) = self.by_time.first()?;
        if *at > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.times.remove(&timer);
        Some(timer)
    }

    pub fn next(&self) -> Option<Tick> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join_of(group_id: &str) -> Timer {
        Timer::Group { group_id: group_id.to_owned(), kind: GroupTimer::Join }
    }

    #[test]
    fn a_timer_fires_once_at_its_last_deadline() {
        let mut timers = Timers::default();
        timers.set(join_of("a"), Tick(10));
        timers.set(join_of("b"), Tick(20));
        timers.set(join_of("a"), Tick(30));
        timers.set(Timer::Expiry, Tick(5));
        timers.cancel(&Timer::Expiry);
        assert_eq!(timers.next(), Some(Tick(20)));
        assert_eq!(timers.pop_due(Tick(19)), None);
        assert_eq!(timers.pop_due(Tick(30)), Some(join_of("b")));
        assert_eq!(timers.pop_due(Tick(30)), Some(join_of("a")));
        assert_eq!(timers.pop_due(Tick(30)), None);
        assert_eq!(timers.next(), None);
    }
}
