//! Jobs for one thread. What waits here is bounded by what the core has let in, so the queue itself needs no bound.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

pub(super) struct Queue<J> {
    state: Mutex<State<J>>,
    filled: Condvar,
}

struct State<J> {
    jobs: Vec<J>,
    closed: bool,
}

impl<J> Default for Queue<J> {
    fn default() -> Queue<J> {
        Queue { state: Mutex::new(State { jobs: Vec::new(), closed: false }), filled: Condvar::new() }
    }
}

impl<J> Queue<J> {
    pub(super) fn push(&self, job: J) {
        self.lock().jobs.push(job);
        self.filled.notify_one();
    }

    pub(super) fn push_all(&self, jobs: &mut Vec<J>) {
        self.lock().jobs.append(jobs);
        self.filled.notify_one();
    }

    /// Everything that waits, in order; `None` when the queue is closed and empty.
    pub(super) fn take_all(&self) -> Option<Vec<J>> {
        let mut state = self.lock();
        while state.jobs.is_empty() {
            if state.closed {
                return None;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Some(std::mem::take(&mut state.jobs))
    }

    /// What waits is still done; nothing more is expected.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
