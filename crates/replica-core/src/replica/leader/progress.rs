//! What a leader knows of one follower. Pure data.

use std::collections::VecDeque;

use base_types::{BrokerEpoch, Offset, Tick, invariant};
use record_batch::StampedBatch;

use crate::event::ReadId;
use crate::isr::Lag;

/// Bytes pushed to a follower and not yet confirmed. Enough to keep two disks busy, little enough to bound memory.
const BYTES_IN_FLIGHT_MAX: usize = 8 << 20;

#[derive(Clone, Hash, Debug)]
pub(super) struct Progress {
    pub link: Link,
    /// The registration under which it opened in this leader epoch; anything said under an older one is late.
    pub broker_epoch: BrokerEpoch,
    /// What it reported in this leader epoch; `None` before its first word.
    pub durable_end: Option<Offset>,
    /// Where its log begins, as it reported in this leader epoch.
    pub log_start: Option<Offset>,
    pub lag: Lag,
    /// The last request of [`super::confirmations`] that it was asked to confirm in this opening.
    pub asked_round: u64,
    /// And the last one that it has confirmed, in this leader epoch.
    pub confirmed_round: u64,
    /// The high watermark it was told.
    pub told: Offset,
    /// And the log start.
    pub told_start: Offset,
    /// When it has to be told a newer one.
    pub tell_at: Option<Tick>,
}

#[derive(Clone, Hash, Debug)]
pub(super) enum Link {
    /// It has not opened in this epoch, or is to open again.
    Silent,
    /// It agrees with the log up to `next`; everything after is pushed as it comes, or read while it lags.
    Streaming(Stream),
}

#[derive(Clone, Hash, Debug)]
pub(super) struct Stream {
    /// What is pushed next begins here.
    pub next: Offset,
    /// Ends and sizes of what was pushed and is not confirmed.
    in_flight: VecDeque<(Offset, usize)>,
    bytes_in_flight: usize,
    pub reading: Option<ReadId>,
}

impl Progress {
    pub(super) fn new(now: Tick, log_end: Offset) -> Progress {
        Progress {
            link: Link::Silent,
            broker_epoch: BrokerEpoch(-1),
            durable_end: None,
            log_start: None,
            lag: Lag::from(now, log_end),
            asked_round: 0,
            confirmed_round: 0,
            told: Offset::UNKNOWN,
            told_start: Offset::UNKNOWN,
            tell_at: None,
        }
    }

    pub(super) fn stream(&self) -> Option<&Stream> {
        match &self.link {
            Link::Streaming(stream) => Some(stream),
            Link::Silent => None,
        }
    }

    pub(super) fn stream_mut(&mut self) -> Option<&mut Stream> {
        match &mut self.link {
            Link::Streaming(stream) => Some(stream),
            Link::Silent => None,
        }
    }

    /// It opened at `at`, where its log agrees with ours.
    pub(super) fn opened(&mut self, now: Tick, at: Offset, log_end: Offset) {
        self.link = Link::Streaming(Stream { next: at, in_flight: VecDeque::new(), bytes_in_flight: 0, reading: None });
        self.durable_end = Some(at);
        self.lag.reported(now, at, log_end);
        self.told = Offset::UNKNOWN;
        self.told_start = Offset::UNKNOWN;
        self.tell_at = Some(now);
        self.asked_round = 0;
    }

    /// The stream ended, or the follower is sent back to opening.
    pub(super) fn closed(&mut self, now: Tick, log_end: Offset) {
        self.link = Link::Silent;
        self.lag.begin(now, log_end);
        self.tell_at = None;
    }

    /// Everything below `durable_end` is on its disk. Late words of an earlier opening are true too, but say less.
    pub(super) fn confirmed(&mut self, now: Tick, durable_end: Offset, log_end: Offset) {
        let Link::Streaming(stream) = &mut self.link else { return };
        // Whatever it claims, it has no more of this log than this opening has brought.
        let durable_end = durable_end.min(stream.next).max(self.durable_end.unwrap_or_default());
        stream.confirm(durable_end);
        self.durable_end = Some(durable_end);
        self.lag.reported(now, durable_end, log_end);
    }
}

impl Stream {
    /// Whether a batch may be pushed: nothing is being read before it, and not too much is under way.
    pub(super) fn has_room(&self) -> bool {
        self.reading.is_none() && self.bytes_in_flight < BYTES_IN_FLIGHT_MAX
    }

    pub(super) fn pushed(&mut self, batch: &StampedBatch) {
        invariant!(R10, batch.header().base_offset == self.next, "{} at {}", batch.header().base_offset, self.next);
        self.next = batch.header().next_offset();
        self.bytes_in_flight += batch.size();
        self.in_flight.push_back((self.next, batch.size()));
    }

    fn confirm(&mut self, durable_end: Offset) {
        while let Some((_, size)) = self.in_flight.pop_front_if(|&mut (end, _)| end <= durable_end) {
            self.bytes_in_flight -= size;
        }
    }
}
