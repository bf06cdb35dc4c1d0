//! Decisions of a follower: open, take what is pushed, report what is durable, cut off what the leader does not have.
//!
//! ```text
//!                     LeaderReachable                Follow                  Push, Advanced
//!   Unreachable ───────────────────────► Ready ────────────────► Asked ────────────────────────► Streaming
//!        ▲                                 ▲  all is durable        │ Diverged, StartOver: cut       │ gap
//!        │ LeaderLost, from anywhere       ├────────────────────────┴────────────────────────────────┘
//!                                          └──── Waiting ◄──── Refused, or an echo of an earlier opening
//! ```
//!
//! Messages name no opening, and one of an earlier opening may come late, over a stream that has ended. What makes them
//! harmless: within one leader epoch the leader's log only grows, so a late `Push` is either passed over or right; and once the
//! leader has continued our log (`agreed`) the logs cannot differ in this epoch, so a late `Diverged` is known as an echo.

use base_types::{BrokerId, LeaderEpoch, Now, Offset, Tick, invariant, planted};
use peer_api::replication::{FromFollower, FromLeader};
use record_batch::StampedBatch;

use super::{Cut, Cutting, Duty, Replica};
use crate::effect::{Effect, Effects};

/// How long to wait before opening again with a leader that refused.
const REOPEN_MS: u64 = 200;
/// And with one that has not heard yet that it leads: the news that we had is about to reach it. Each time twice as long, up to the other.
const REOPEN_BEHIND_MS: u64 = 10;
/// How long to wait for the answer to an opening. Only a lost answer takes so long.
const ANSWER_MS: u64 = 2_000;

#[derive(Clone, Hash, Debug)]
pub(super) struct Follower {
    pub(super) leader: BrokerId,
    phase: Phase,
    /// In this leader epoch the leader has continued our log: it is a prefix of the leader's, and stays one.
    agreed: bool,
    /// How long to wait if the leader refuses because it is behind.
    behind_ms: u64,
    /// The end that was reported last.
    reported: Offset,
    /// And the start.
    reported_start: Offset,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// No stream to the leader's node.
    Unreachable,
    /// A stream is there: open as soon as the disk has everything.
    Ready,
    /// Opened; open again then if no answer has come.
    Asked(Tick),
    /// The leader has answered by going on where our log ends.
    Streaming,
    /// Open again then.
    Waiting(Tick),
}

impl Follower {
    pub(super) fn new(leader: BrokerId) -> Follower {
        // The owner knows whether a stream is there and says so right after; asking is harmless when it is not.
        Follower {
            leader,
            phase: Phase::Ready,
            agreed: false,
            behind_ms: REOPEN_BEHIND_MS,
            reported: Offset::UNKNOWN,
            reported_start: Offset::UNKNOWN,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Tick> {
        match self.phase {
            Phase::Waiting(until) | Phase::Asked(until) => Some(until),
            Phase::Unreachable | Phase::Ready | Phase::Streaming => None,
        }
    }

    fn agree(&mut self) {
        self.agreed = true;
        self.phase = Phase::Streaming;
    }

    fn wait(&mut self, now: Now) {
        self.phase = Phase::Waiting(now.tick.plus_ms(REOPEN_MS));
    }

    fn wait_for_news(&mut self, now: Now) {
        self.phase = Phase::Waiting(now.tick.plus_ms(self.behind_ms));
        self.behind_ms = (self.behind_ms * 2).min(REOPEN_MS);
    }
}

impl Replica {
    pub(super) fn leader_reachable(&mut self, now: Now, effects: &mut Effects) {
        if let Duty::Follower(follower) = &mut self.duty {
            follower.phase = Phase::Ready;
        }
        self.follower_open(now, effects);
    }

    pub(super) fn leader_lost(&mut self) {
        if let Duty::Follower(follower) = &mut self.duty {
            follower.phase = Phase::Unreachable;
        }
    }

    pub(super) fn follower_ticked(&mut self, now: Now, effects: &mut Effects) {
        if let Duty::Follower(follower) = &mut self.duty
            && follower.next_deadline().is_some_and(|at| at <= now.tick)
        {
            follower.phase = Phase::Ready;
        }
        self.follower_open(now, effects);
    }

    /// Opens with the leader, once everything here is durable: the position named must be (decision 3).
    pub(super) fn follower_open(&mut self, now: Now, effects: &mut Effects) {
        if self.cutting.is_some() || !self.writes.is_empty() {
            return;
        }
        let Duty::Follower(follower) = &mut self.duty else { return };
        if follower.phase != Phase::Ready {
            return;
        }
        follower.phase = Phase::Asked(now.tick.plus_ms(ANSWER_MS));
        follower.reported = self.durable_end;
        follower.reported_start = self.log_start;
        let message = FromFollower::Follow {
            partition: self.partition,
            leader_epoch: self.leader_epoch,
            log_start: self.log_start,
            log_end: self.durable_end,
            last_epoch: self.epochs.latest(),
        };
        effects.push(Effect::ToLeader { leader: follower.leader, message });
    }

    /// Tells the leader what has become durable, or is gone.
    pub(super) fn follower_report(&mut self, effects: &mut Effects) {
        let log_end = if planted!(FollowerReportsMemory) { self.log_end } else { self.durable_end };
        let Duty::Follower(follower) = &mut self.duty else { return };
        let is_news = log_end > follower.reported || self.log_start > follower.reported_start;
        if follower.phase == Phase::Streaming && is_news {
            follower.reported = log_end;
            follower.reported_start = self.log_start;
            let message = FromFollower::Durable {
                partition: self.partition,
                leader_epoch: self.leader_epoch,
                log_start: self.log_start,
                log_end,
            };
            effects.push(Effect::ToLeader { leader: follower.leader, message });
        }
    }

    pub(super) fn leader_said(&mut self, now: Now, message: FromLeader, effects: &mut Effects) {
        let Duty::Follower(follower) = &mut self.duty else { return };
        if let FromLeader::Confirm { leader_epoch, round, .. } = message {
            // Whatever this follower does otherwise: it has taken up no later epoch.
            if leader_epoch == self.leader_epoch {
                let (partition, leader) = (self.partition, follower.leader);
                let message = FromFollower::Confirmed { partition, leader_epoch, round };
                effects.push(Effect::ToLeader { leader, message });
            }
            return;
        }
        if self.cutting.is_some() || !matches!(follower.phase, Phase::Asked(_) | Phase::Streaming) {
            return;
        }
        let ours = self.leader_epoch;
        match message {
            // A refusal names the refuser's epoch. Newer metadata is on its way, to the leader or to us.
            FromLeader::Refused { leader_epoch, .. } if leader_epoch < ours => follower.wait_for_news(now),
            FromLeader::Refused { .. } => follower.wait(now),
            FromLeader::Push { leader_epoch, base_offset, batches, high_watermark, log_start, .. }
                if leader_epoch == ours =>
            {
                self.pushed(now, base_offset, batches, (high_watermark, log_start), effects);
            }
            FromLeader::Advanced { leader_epoch, high_watermark, log_start, .. } if leader_epoch == ours => {
                follower.agree();
                self.leader_advanced(high_watermark, log_start, effects);
            }
            FromLeader::Diverged { leader_epoch, epoch, end_offset, .. } if leader_epoch == ours => {
                self.diverged(now, epoch, end_offset, effects);
            }
            FromLeader::StartOver { leader_epoch, log_start, .. } if leader_epoch == ours => {
                self.told_to_start_over(now, log_start, effects);
            }
            FromLeader::Push { .. }
            | FromLeader::Advanced { .. }
            | FromLeader::Diverged { .. }
            | FromLeader::StartOver { .. }
            | FromLeader::Confirm { .. } => {}
        }
    }

    fn pushed(
        &mut self,
        now: Now,
        base_offset: Offset,
        batches: Vec<StampedBatch>,
        (high_watermark, log_start): (Offset, Offset),
        effects: &mut Effects,
    ) {
        let log_end = self.log_end;
        let Duty::Follower(follower) = &mut self.duty else { return };
        if base_offset > log_end {
            // Something was lost on the way. While we ask already it is an echo, and the answer is still to come.
            if follower.phase == Phase::Streaming {
                follower.phase = Phase::Ready;
                self.follower_open(now, effects);
            }
            return;
        }
        follower.agree();
        let continues = batches.into_iter().all(|batch| self.take(batch, effects));
        self.leader_advanced(high_watermark, log_start, effects);
        let Duty::Follower(follower) = &mut self.duty else { return };
        if !continues {
            follower.wait(now);
        } else if self.log_end == log_end {
            // Nothing new: the leader believes us further back than we are.
            follower.reported = Offset::UNKNOWN;
            self.follower_report(effects);
        }
    }

    /// Appends a pushed batch as it is; what we have already is passed over. `false` if it does not continue the log.
    fn take(&mut self, batch: StampedBatch, effects: &mut Effects) -> bool {
        let header = batch.header();
        if header.next_offset() <= self.log_end {
            return true;
        }
        let epochs = self.epochs.latest()..=self.leader_epoch;
        if header.base_offset != self.log_end || !epochs.contains(&header.leader_epoch) {
            return false;
        }
        self.write(batch, effects);
        true
    }

    fn leader_advanced(&mut self, high_watermark: Offset, log_start: Offset, effects: &mut Effects) {
        self.high_watermark = self.high_watermark.max(high_watermark.min(self.log_end));
        self.log_start_wanted = self.log_start_wanted.max(log_start);
        self.trim(effects);
    }

    /// Cuts the log back to the largest prefix that both may share (KIP-101, KIP-279), and then opens again.
    fn diverged(&mut self, now: Now, epoch: LeaderEpoch, end_offset: Offset, effects: &mut Effects) {
        let own_end = self.epochs.end_of(epoch, self.log_end).map_or(self.log_start, |end| end.end_offset);
        let to = own_end.min(end_offset).max(self.log_start);
        let Duty::Follower(follower) = &mut self.duty else { return };
        if follower.agreed || to >= self.log_end {
            return follower.wait(now);
        }
        self.cut(now, Cut::Truncate { to }, effects);
    }

    /// Our log ends before the leader's begins, or has no epoch in common with it. Also when both agreed before: where our log ends the
    /// leader's begins by now, with a newer epoch, and it knows no more what it deleted.
    fn told_to_start_over(&mut self, now: Now, at: Offset, effects: &mut Effects) {
        let Duty::Follower(follower) = &mut self.duty else { return };
        if follower.agreed && at < self.log_end {
            return follower.wait(now);
        }
        self.cut(now, Cut::StartOver { at }, effects);
    }

    /// Has the disk cut the log.
    ///
    /// Invariant: not below the high watermark (R12), unless the controller has elected a leader uncleanly since our last record:
    /// then its log is the history, whatever was committed in ours.
    fn cut(&mut self, now: Now, cut: Cut, effects: &mut Effects) {
        let (from, last_epoch, end) = (self.high_watermark, self.epochs.latest(), cut.end());
        let unclean_since = self.unclean_since.filter(|since| last_epoch < *since);
        invariant!(R12, end >= from || unclean_since.is_some(), "to {end} below {from}");
        let lowered_since = unclean_since.filter(|_| end < from);
        if let Duty::Follower(follower) = &mut self.duty {
            // A trim that is on its way would leave a log that begins behind its end.
            if lowered_since.is_some() && self.trimming.is_some() {
                return follower.wait(now);
            }
            follower.phase = Phase::Ready;
        }
        if let Some(unclean_since) = lowered_since {
            effects.push(Effect::HighWatermarkLowered { from, to: end, last_epoch, unclean_since });
        }
        self.ask_for_cut(cut, lowered_since.is_some(), effects);
    }

    /// Also for a second time, when the first one found no space.
    pub(super) fn ask_for_cut(&mut self, cut: Cut, lowers_high_watermark: bool, effects: &mut Effects) {
        let write = self.new_write();
        self.cutting = Some(Cutting { write, cut, lowers_high_watermark });
        self.writes.clear();
        self.retry_writes_at = None;
        effects.push(match cut {
            Cut::Truncate { to } => Effect::Truncate { write, to },
            Cut::StartOver { at } => Effect::StartOver { write, at },
        });
    }
}
