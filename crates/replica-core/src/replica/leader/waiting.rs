//! Requests that wait until something has come so far: the log is safe up to the end of their batch, or their question is answered.

use std::collections::VecDeque;

use base_types::Tick;

use crate::event::RequestKey;

#[derive(Clone, Hash, Debug)]
pub(super) struct Waiting<P, T> {
    /// In order of `until`.
    requests: VecDeque<Request<P, T>>,
    /// No deadline is earlier; exact after each [`Waiting::take_expired`].
    earliest: Option<Tick>,
}

#[derive(Clone, Hash, Debug)]
pub(super) struct Request<P, T> {
    pub key: RequestKey,
    pub deadline: Tick,
    pub until: P,
    /// What it is told when that is reached.
    pub answer: T,
}

impl<P, T> Default for Waiting<P, T> {
    fn default() -> Waiting<P, T> {
        Waiting { requests: VecDeque::new(), earliest: None }
    }
}

impl<P: Copy + Ord, T> Waiting<P, T> {
    pub(super) fn push(&mut self, request: Request<P, T>) {
        self.earliest = Some(self.earliest.map_or(request.deadline, |earliest| earliest.min(request.deadline)));
        // Nearly always the last place; a duplicate waits for a batch appended earlier.
        let place = self.requests.partition_point(|earlier| earlier.until <= request.until);
        self.requests.insert(place, request);
    }

    /// The oldest request, if what it waits for is reached.
    pub(super) fn pop_reached(&mut self, reached: P) -> Option<Request<P, T>> {
        let request = self.requests.pop_front_if(|request| request.until <= reached);
        if self.requests.is_empty() {
            self.earliest = None;
        }
        request
    }

    pub(super) fn take_expired(&mut self, now: Tick) -> Vec<RequestKey> {
        let mut expired = Vec::new();
        if self.earliest.is_some_and(|earliest| earliest <= now) {
            self.requests.retain(|request| {
                let stays = request.deadline > now;
                if !stays {
                    expired.push(request.key);
                }
                stays
            });
            self.earliest = self.requests.iter().map(|request| request.deadline).min();
        }
        expired
    }

    pub(super) fn next_deadline(&self) -> Option<Tick> {
        self.earliest
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = RequestKey> {
        self.requests.iter().map(|request| request.key)
    }

    /// The first and the last that is waited for.
    pub(super) fn ends(&self) -> Option<(P, P)> {
        Some((self.requests.front()?.until, self.requests.back()?.until))
    }
}

#[cfg(test)]
mod tests {
    use base_types::Offset;

    use super::*;

    fn waiting(requests: &[(u64, u64, i64)]) -> Waiting<Offset, ()> {
        let mut waiting = Waiting::default();
        for &(key, deadline, end) in requests {
            waiting.push(Request { key: RequestKey(key), deadline: Tick(deadline), until: Offset(end), answer: () });
        }
        waiting
    }

    #[test]
    fn requests_leave_in_order_of_offset_and_not_before_it_is_reached() {
        let mut waiting = waiting(&[(1, 9, 10), (2, 9, 20), (3, 9, 10)]);
        let mut reached = |safe| waiting.pop_reached(Offset(safe)).map(|request| request.key.0);
        assert_eq!(
            [reached(9), reached(10), reached(10), reached(10), reached(20)],
            [None, Some(1), Some(3), None, Some(2)]
        );
    }

    #[test]
    fn the_next_deadline_moves_once_the_expired_are_taken() {
        let mut waiting = waiting(&[(1, 5, 10), (2, 3, 20), (3, 8, 30)]);
        assert_eq!(waiting.next_deadline(), Some(Tick(3)));
        assert_eq!(waiting.take_expired(Tick(5)), [RequestKey(1), RequestKey(2)]);
        assert_eq!(waiting.next_deadline(), Some(Tick(8)));
        assert!(waiting.pop_reached(Offset(30)).is_some());
        assert_eq!(waiting.next_deadline(), None);
    }
}
