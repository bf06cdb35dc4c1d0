//! Decisions of a follower: open, take what is pushed, report what is durable, cut off what the leader does not have.

use base_types::{BrokerId, LeaderEpoch, Now, Offset, Tick, invariant};
use peer_api::replication::{FromFollower, FromLeader};
use record_batch::StampedBatch;

use super::{Duty, Replica};
use crate::effect::{Effect, Effects};

/// How long to wait before opening again with a leader that refused, and how long for its answer to an opening.
const REOPEN_MS: u64 = 200;

#[derive(Debug)]
pub(super) struct Follower {
    pub(super) leader: BrokerId,
    phase: Phase,
    /// The end that was reported last on this stream.
    reported: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No stream to the leader's node.
    Unreachable,
    /// A stream is there; open as soon as the disk has everything.
    Ready,
    /// Opened. The leader either streams from where we stand, or says where to cut.
    Open,
    /// Refused: open again then.
    Waiting(Tick),
}

impl Follower {
    pub(super) fn new(leader: BrokerId) -> Follower {
        // The owner knows whether a stream is there and says so right after; asking is harmless when it is not.
        Follower { leader, phase: Phase::Ready, reported: Offset::UNKNOWN }
    }

    pub(super) fn next_deadline(&self) -> Option<Tick> {
        match self.phase {
            Phase::Waiting(until) => Some(until),
            Phase::Unreachable | Phase::Ready | Phase::Open => None,
        }
    }
}

impl Replica {
    pub(super) fn leader_reachable(&mut self, effects: &mut Effects) {
        if let Duty::Follower(follower) = &mut self.duty {
            follower.phase = Phase::Ready;
        }
        self.follower_open(effects);
    }

    pub(super) fn leader_lost(&mut self) {
        if let Duty::Follower(follower) = &mut self.duty {
            follower.phase = Phase::Unreachable;
        }
    }

    pub(super) fn follower_ticked(&mut self, now: Now, effects: &mut Effects) {
        if let Duty::Follower(follower) = &mut self.duty
            && matches!(follower.phase, Phase::Waiting(until) if until <= now.tick)
        {
            follower.phase = Phase::Ready;
        }
        self.follower_open(effects);
    }

    /// Opens with the leader, once everything here is durable: the position named must be (decision 3).
    pub(super) fn follower_open(&mut self, effects: &mut Effects) {
        if self.failed || self.cutting.is_some() || !self.writes.is_empty() {
            return;
        }
        let Duty::Follower(follower) = &mut self.duty else { return };
        if follower.phase != Phase::Ready {
            return;
        }
        follower.phase = Phase::Open;
        follower.reported = self.durable_end;
        let message = FromFollower::Follow {
            partition: self.partition,
            leader_epoch: self.leader_epoch,
            log_end: self.durable_end,
            last_epoch: self.epochs.latest(),
        };
        effects.push(Effect::ToLeader { leader: follower.leader, message });
    }

    /// Tells the leader what has become durable.
    pub(super) fn follower_report(&mut self, effects: &mut Effects) {
        self.follower_open(effects);
        let Duty::Follower(follower) = &mut self.duty else { return };
        if follower.phase == Phase::Open && self.durable_end > follower.reported {
            follower.reported = self.durable_end;
            let message = FromFollower::Durable {
                partition: self.partition,
                leader_epoch: self.leader_epoch,
                log_end: self.durable_end,
            };
            effects.push(Effect::ToLeader { leader: follower.leader, message });
        }
    }

    pub(super) fn leader_said(&mut self, now: Now, message: FromLeader, effects: &mut Effects) {
        let Duty::Follower(follower) = &mut self.duty else { return };
        let epoch = match message {
            FromLeader::Push { leader_epoch, .. }
            | FromLeader::Diverged { leader_epoch, .. }
            | FromLeader::StartOver { leader_epoch, .. }
            | FromLeader::Advanced { leader_epoch, .. } => leader_epoch,
            // A refusal names the refuser's epoch. Newer metadata is on its way, to us or to the leader.
            FromLeader::Refused { .. } => {
                follower.phase = Phase::Waiting(now.tick.plus_ms(REOPEN_MS));
                return;
            }
        };
        if epoch != self.leader_epoch || follower.phase != Phase::Open || self.cutting.is_some() || self.failed {
            return;
        }
        match message {
            FromLeader::Push { base_offset, batches, high_watermark, .. } => {
                if base_offset > self.log_end {
                    // Something was lost on the way: find out where we stand.
                    follower.phase = Phase::Ready;
                    return self.follower_open(effects);
                }
                for batch in batches {
                    self.take(batch, effects);
                }
                self.leader_advanced(high_watermark);
            }
            FromLeader::Advanced { high_watermark, .. } => self.leader_advanced(high_watermark),
            FromLeader::Diverged { epoch, end_offset, .. } => self.diverged(epoch, end_offset, effects),
            FromLeader::StartOver { log_start, .. } => {
                follower.phase = Phase::Ready;
                let write = self.new_write();
                self.cutting = Some(write);
                self.writes.clear();
                effects.push(Effect::StartOver { write, at: log_start });
            }
            FromLeader::Refused { .. } => {}
        }
    }

    /// Appends a pushed batch as it is; what we have already is passed over.
    fn take(&mut self, batch: StampedBatch, effects: &mut Effects) {
        let header = batch.header();
        if header.base_offset < self.log_end || header.leader_epoch < self.epochs.latest() {
            return;
        }
        if header.base_offset == self.log_end {
            self.write(batch, effects);
        }
    }

    fn leader_advanced(&mut self, high_watermark: Offset) {
        self.high_watermark = self.high_watermark.max(high_watermark.min(self.log_end));
    }

    /// Cuts the log back to the largest prefix that both may share (KIP-101, KIP-279) and opens again.
    fn diverged(&mut self, epoch: LeaderEpoch, end_offset: Offset, effects: &mut Effects) {
        let own_end = self.epochs.end_of(epoch, self.log_end).map_or(self.log_start, |end| end.end_offset);
        let to = own_end.min(end_offset).max(self.log_start);
        let Duty::Follower(follower) = &mut self.duty else { return };
        follower.phase = Phase::Ready;
        if to >= self.log_end {
            return;
        }
        invariant!(R12, to >= self.high_watermark, "to {to} below {}", self.high_watermark);
        let write = self.new_write();
        self.cutting = Some(write);
        self.writes.clear();
        effects.push(Effect::Truncate { write, to });
    }
}
