//! What clients' bytes may cost before the core has them: buffers of unfinished frames, and whole frames on their way to the loop.
//!
//! ```text
//!   0 ──────────────── line: ¾ ─────────── memory_max ──── + one frame
//!   everyone reads     │ frames are finished one at a time │
//! ```
//!
//! One account holds these bytes and those the core counts (W7). A reader asks before it makes room and waits when there is none,
//! so the sender is held back by its socket. If all the memory were in unfinished frames, all readers would wait for each other.
//! Kafka (`queued.max.request.bytes`) lets whoever comes while there is any room have its whole frame, and so goes beyond its
//! bound by a frame. So does this: one reader at a time has the *pass* to finish its frame beyond the line, and nobody gets it while finished
//! frames, which will be free again without anyone reading, hold more than a quarter. Hence at any time
//!
//! `used ≤ memory_max + FRAME_SIZE_MAX + FREE × connections`, plus what answers grow by on their own.
//!
//! Unlike Kafka's, the account is of bytes received and not of bytes claimed: a claim alone holds nobody up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};

/// A connection gets this much without asking, so that small requests are heard whatever large ones wait for.
pub(super) const FREE: usize = 64 * 1024;

pub(super) struct Memory {
    max: usize,
    state: Mutex<State>,
    /// Readers wait here in the order in which they came; the first of them waits for `freed`.
    first: Semaphore,
    freed: Notify,
}

#[derive(Default)]
struct State {
    /// Buffers of readers.
    unfinished: usize,
    /// Whole frames that the loop has not taken up.
    queued: usize,
    /// What the core counts, as of its last turn.
    core: usize,
    pass_given: bool,
}

impl State {
    fn used(&self) -> usize {
        self.unfinished + self.queued + self.core
    }
}

impl Memory {
    pub fn new(max: usize) -> Arc<Memory> {
        Arc::new(Memory { max, state: Mutex::default(), first: Semaphore::new(1), freed: Notify::new() })
    }

    fn line(&self) -> usize {
        self.max / 4 * 3
    }

    pub fn is_short(&self) -> bool {
        self.lock().used() > self.line()
    }

    /// Bytes of frames that the core has not been given.
    pub fn outside_core(&self) -> usize {
        let state = self.lock();
        state.unfinished + state.queued
    }

    /// The core has taken up so many bytes of frames, and now counts so many in all.
    pub fn taken_up(&self, frames: usize, core: usize) {
        {
            let mut state = self.lock();
            state.queued -= frames;
            state.core = core;
        }
        self.freed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of one reader. What it holds is given back when it ends.
pub(super) struct Share {
    memory: Arc<Memory>,
    held: usize,
    has_pass: bool,
}

impl Share {
    pub fn new(memory: Arc<Memory>) -> Share {
        Share { memory, held: 0, has_pass: false }
    }

    /// Whether others wait until this reader's frame is whole.
    pub fn has_pass(&self) -> bool {
        self.has_pass
    }

    pub fn is_memory_short(&self) -> bool {
        self.memory.is_short()
    }

    /// Waits until the buffer may be of this size.
    pub async fn grow(&mut self, size: usize) {
        let ahead = size <= FREE || self.has_pass || self.memory.first.available_permits() > 0;
        if ahead && self.try_grow(size) {
            return;
        }
        let memory = self.memory.clone();
        // It is never closed.
        let _first = memory.first.acquire().await;
        while !self.try_grow(size) {
            memory.freed.notified().await;
        }
    }

    fn try_grow(&mut self, size: usize) -> bool {
        let mut state = self.memory.lock();
        let more = size.saturating_sub(self.held);
        let room = state.used() + more <= self.memory.line();
        if room && std::mem::take(&mut self.has_pass) {
            state.pass_given = false;
        }
        if !room && size > FREE && !self.has_pass {
            if state.pass_given || state.queued + state.core > self.memory.max / 4 {
                return false;
            }
            state.pass_given = true;
            self.has_pass = true;
        }
        state.unfinished += more;
        self.held += more;
        true
    }

    /// The buffer has this size now. One that is given back holds no unfinished frame.
    pub fn settle(&mut self, size: usize) {
        if self.held != size {
            self.change(0, size, size == 0);
        }
    }

    /// A whole frame leaves for the loop; the buffer behind it has `size`.
    pub fn pass_on(&mut self, frame: usize, size: usize) {
        self.change(frame, size, true);
    }

    fn change(&mut self, queued: usize, size: usize, finished: bool) {
        {
            let mut state = self.memory.lock();
            state.queued += queued;
            state.unfinished = state.unfinished - self.held + size;
            self.held = size;
            if finished && std::mem::take(&mut self.has_pass) {
                state.pass_given = false;
            }
        }
        self.memory.freed.notify_one();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.change(0, 0, true);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const MAX: usize = 16 << 20;

    fn waits(future: impl Future<Output = ()>) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    fn shares(memory: &Arc<Memory>, count: usize) -> Vec<Share> {
        (0..count).map(|_| Share::new(memory.clone())).collect()
    }

    #[test]
    fn beyond_the_line_one_unfinished_frame_grows_and_the_others_wait() {
        let memory = Memory::new(MAX);
        let mut shares = shares(&memory, 13);
        for share in &mut shares[..12] {
            assert!(!waits(share.grow(1 << 20)));
        }
        assert!(!waits(shares[0].grow(8 << 20)) && shares[0].has_pass(), "nobody else can make room");
        assert!(!waits(shares[0].grow(9 << 20)), "and it is not asked again");
        assert!(waits(shares[1].grow(2 << 20)));
        assert!(waits(shares[12].grow(FREE + 1)));
        assert!(!waits(shares[12].grow(FREE)), "small requests are heard");
        assert_eq!(memory.outside_core(), (9 << 20) + (11 << 20) + FREE);
    }

    #[test]
    fn the_pass_is_given_again_when_what_was_finished_is_done_with() {
        let memory = Memory::new(MAX);
        let mut shares = shares(&memory, 12);
        for share in &mut shares {
            assert!(!waits(share.grow(1 << 20)));
        }
        let mut context = Context::from_waker(Waker::noop());
        let (first, rest) = shares.split_at_mut(1);
        assert!(!waits(first[0].grow(4 << 20)));
        let mut second = pin!(rest[0].grow(8 << 20));
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(!waits(first[0].grow(8 << 20)), "who has the pass does not queue behind those who wait for it");
        first[0].pass_on(8 << 20, 0);
        assert!(!first[0].has_pass());
        assert!(second.as_mut().poll(&mut context).is_pending(), "the frame still waits for the loop");
        memory.taken_up(8 << 20, 8 << 20);
        assert!(second.as_mut().poll(&mut context).is_pending(), "or is held by the core");
        memory.taken_up(0, 0);
        assert_eq!(second.as_mut().poll(&mut context), Poll::Ready(()));
    }

    #[test]
    fn who_waits_longest_is_first_and_a_reader_that_ends_gives_everything_back() {
        let memory = Memory::new(MAX);
        let mut shares = shares(&memory, 4);
        let (holders, waiters) = shares.split_at_mut(2);
        assert!(!waits(holders[0].grow(12 << 20)));
        assert!(!waits(holders[1].grow(1 << 20)) && holders[1].has_pass());
        let mut context = Context::from_waker(Waker::noop());
        let (early, late) = waiters.split_at_mut(1);
        {
            let mut late = pin!(late[0].grow(1 << 20));
            {
                let mut early = pin!(early[0].grow(4 << 20));
                assert!(early.as_mut().poll(&mut context).is_pending());
                assert!(late.as_mut().poll(&mut context).is_pending());
                holders[1] = Share::new(memory.clone());
                assert!(late.as_mut().poll(&mut context).is_pending(), "the pass is not for who came later");
                assert_eq!(early.as_mut().poll(&mut context), Poll::Ready(()));
            }
            assert!(early[0].has_pass());
        }
        drop(shares);
        assert_eq!(memory.outside_core(), 0);
        let mut share = Share::new(memory.clone());
        assert!(!waits(share.grow(40 << 20)) && share.has_pass(), "the pass came back too");
    }
}
