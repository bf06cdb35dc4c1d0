//! Replication as the leader sees it: openings, pushes, reports.

use base_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Now, Offset, planted};
use bytes::Bytes;
use peer_api::replication::{FromFollower, FromLeader};
use record_batch::StampedBatch;

use super::progress::Progress;
use crate::effect::{Effect, Effects};
use crate::event::ReadId;
use crate::replica::{Duty, Replica};

/// One read for a follower that lags, and one push of batches that are on their way to our disk.
const CATCH_UP_BYTES: usize = 1 << 20;
/// How long a high watermark may stay unsaid to followers while nothing is pushed.
pub(super) const ADVANCE_DELAY_MS: u64 = 20;

/// What a follower says of itself when it opens.
struct Opening {
    broker_epoch: BrokerEpoch,
    leader_epoch: LeaderEpoch,
    log_start: Offset,
    log_end: Offset,
    last_epoch: LeaderEpoch,
}

impl Replica {
    pub(in crate::replica) fn follower_said(
        &mut self,
        now: Now,
        (follower, broker_epoch): (BrokerId, BrokerEpoch),
        message: FromFollower,
        effects: &mut Effects,
    ) {
        match message {
            FromFollower::Follow { leader_epoch, log_start, log_end, last_epoch, .. } => {
                let opening = Opening { broker_epoch, leader_epoch, log_start, log_end, last_epoch };
                self.follower_opened(now, follower, &opening, effects);
            }
            FromFollower::Durable { leader_epoch, log_start, log_end, .. } => {
                if leader_epoch == self.leader_epoch {
                    self.follower_reported(now, (follower, broker_epoch), (log_start, log_end), effects);
                }
            }
            FromFollower::Confirmed { leader_epoch, round, .. } => {
                if leader_epoch == self.leader_epoch {
                    self.follower_confirmed((follower, broker_epoch), round, effects);
                }
            }
        }
    }

    pub(in crate::replica) fn follower_lost(&mut self, now: Now, follower: BrokerId) {
        if let Duty::Leader(leader) = &mut self.duty
            && let Some(progress) = leader.followers.get_mut(&follower)
        {
            progress.closed(now.tick, self.log_end);
        }
    }

    pub(in crate::replica) fn read_completed(
        &mut self,
        now: Now,
        read: ReadId,
        batches: Option<Vec<Bytes>>,
        effects: &mut Effects,
    ) {
        let Duty::Leader(leader) = &mut self.duty else { return };
        let reads = |progress: &Progress| progress.stream().is_some_and(|stream| stream.reading == Some(read));
        let Some((&follower, progress)) = leader.followers.iter_mut().find(|(_, progress)| reads(progress)) else {
            return;
        };
        let Some(stream) = progress.stream_mut() else { return };
        stream.reading = None;
        match batches.and_then(|batches| batches_from(stream.next, batches)) {
            Some(batches) => {
                self.push_to(follower, batches, effects);
                self.leader_pump(follower, effects);
            }
            // It cannot be read. The follower opens again after a while; meanwhile the disk's owner deals with the damage.
            None => {
                progress.closed(now.tick, self.log_end);
                self.refuse(follower, ErrorCode::KafkaStorageError, effects);
            }
        }
    }

    /// Whether anything would come of that read for the follower, were it answered now.
    pub fn awaits(&self, follower: BrokerId, read: ReadId) -> bool {
        let Duty::Leader(leader) = &self.duty else { return false };
        let stream = leader.followers.get(&follower).and_then(Progress::stream);
        stream.is_some_and(|stream| stream.reading == Some(read))
    }

    pub(in crate::replica) fn leader_pump_all(&mut self, effects: &mut Effects) {
        let Duty::Leader(leader) = &self.duty else { return };
        let followers: Vec<BrokerId> = leader.followers.keys().copied().collect();
        for follower in followers {
            self.leader_pump(follower, effects);
        }
    }

    /// Hands a new batch to every follower that has everything before it.
    pub(super) fn leader_push(&mut self, now: Now, base_offset: Offset, batch: &StampedBatch, effects: &mut Effects) {
        let log_end = self.log_end;
        let Duty::Leader(leader) = &mut self.duty else { return };
        let mut ready = Vec::new();
        for (&follower, progress) in &mut leader.followers {
            progress.lag.begin(now.tick, log_end);
            if progress.stream().is_some_and(|stream| stream.next == base_offset && stream.has_room()) {
                ready.push(follower);
            }
        }
        for follower in ready {
            self.push_to(follower, vec![batch.clone()], effects);
        }
    }

    /// Tells the high watermark to followers that have waited long enough for it.
    pub(super) fn leader_tell(&mut self, now: Now, effects: &mut Effects) {
        let Duty::Leader(leader) = &mut self.duty else { return };
        for (&follower, progress) in &mut leader.followers {
            if progress.tell_at.is_none_or(|at| at > now.tick) {
                continue;
            }
            progress.tell_at = None;
            if progress.told < self.high_watermark || progress.told_start < self.log_start {
                progress.told = self.high_watermark;
                progress.told_start = self.log_start;
                let message = FromLeader::Advanced {
                    partition: self.partition,
                    leader_epoch: self.leader_epoch,
                    high_watermark: self.high_watermark,
                    log_start: self.log_start,
                };
                effects.push(Effect::ToFollower { follower, message });
            }
        }
    }

    fn follower_opened(&mut self, now: Now, follower: BrokerId, opening: &Opening, effects: &mut Effects) {
        if let Some(code) = self.refusal(follower, opening) {
            return self.refuse(follower, code, effects);
        }
        let objection = self.objection(opening);
        let log_end = self.log_end;
        let Duty::Leader(leader) = &mut self.duty else { return };
        let Some(progress) = leader.followers.get_mut(&follower) else { return };
        if opening.broker_epoch < progress.broker_epoch {
            return; // Late word of a life that has ended.
        }
        progress.closed(now.tick, log_end);
        progress.broker_epoch = opening.broker_epoch;
        progress.durable_end = None;
        progress.log_start = Some(opening.log_start);
        if let Some(message) = objection {
            return effects.push(Effect::ToFollower { follower, message });
        }
        progress.opened(now.tick, opening.log_end, log_end);
        self.follower_moved(now, follower, effects);
        self.leader_tell(now, effects);
        self.leader_ask_to_confirm(effects);
    }

    /// Why nothing can be said about the follower's log at all.
    fn refusal(&self, follower: BrokerId, opening: &Opening) -> Option<ErrorCode> {
        let Duty::Leader(leader) = &self.duty else {
            return Some(if self.failed { ErrorCode::KafkaStorageError } else { ErrorCode::NotLeaderOrFollower });
        };
        if opening.leader_epoch < self.leader_epoch {
            Some(ErrorCode::FencedLeaderEpoch)
        } else if opening.leader_epoch > self.leader_epoch {
            Some(ErrorCode::UnknownLeaderEpoch)
        } else if !leader.followers.contains_key(&follower) {
            Some(ErrorCode::UnknownTopicOrPartition)
        } else {
            None
        }
    }

    /// What the follower must do before its log is a prefix of ours, if anything (KIP-101, KIP-279).
    fn objection(&self, opening: &Opening) -> Option<FromLeader> {
        let (partition, leader_epoch, log_start) = (self.partition, self.leader_epoch, self.first_batch);
        let start_over = FromLeader::StartOver { partition, leader_epoch, log_start };
        if opening.log_end < self.first_batch {
            return Some(start_over);
        }
        if opening.last_epoch == LeaderEpoch::UNKNOWN {
            // An empty log agrees with every log, if it lies inside.
            return (opening.log_end > self.log_end).then_some(start_over);
        }
        let Some(end) = self.epochs.end_of(opening.last_epoch, self.log_end) else { return Some(start_over) };
        if end.epoch == opening.last_epoch && end.end_offset >= opening.log_end {
            return None;
        }
        // Only after an unclean election: what the follower has deleted was committed, and we lack some of it.
        if end.end_offset < opening.log_start {
            return Some(start_over);
        }
        Some(FromLeader::Diverged { partition, leader_epoch, epoch: end.epoch, end_offset: end.end_offset })
    }

    fn refuse(&self, follower: BrokerId, code: ErrorCode, effects: &mut Effects) {
        let message = FromLeader::Refused { partition: self.partition, leader_epoch: self.leader_epoch, code };
        effects.push(Effect::ToFollower { follower, message });
    }

    fn follower_reported(
        &mut self,
        now: Now,
        (follower, broker_epoch): (BrokerId, BrokerEpoch),
        (log_start, durable_end): (Offset, Offset),
        effects: &mut Effects,
    ) {
        let log_end = self.log_end;
        let Duty::Leader(leader) = &mut self.duty else { return };
        let Some(progress) = leader.followers.get_mut(&follower) else { return };
        if progress.broker_epoch != broker_epoch && !planted!(EarlierLifeBelieved) {
            return; // Late word of a life that has ended; its disk may have ended with it (KIP-903).
        }
        progress.confirmed(now.tick, durable_end, log_end);
        progress.log_start = progress.log_start.max(Some(log_start));
        self.follower_moved(now, follower, effects);
    }

    fn follower_moved(&mut self, now: Now, follower: BrokerId, effects: &mut Effects) {
        self.leader_settle_trims(effects);
        self.leader_advance(now, effects);
        self.leader_propose(now, effects);
        self.leader_pump(follower, effects);
    }

    /// Brings a lagging follower on: from memory where the batches are still on their way to our disk, else by a read.
    fn leader_pump(&mut self, follower: BrokerId, effects: &mut Effects) {
        loop {
            let Duty::Leader(leader) = &mut self.duty else { return };
            let Some(stream) = leader.followers.get_mut(&follower).and_then(Progress::stream_mut) else { return };
            if !stream.has_room() || stream.next >= self.log_end {
                return;
            }
            let from = stream.next;
            if from < self.durable_end {
                self.next_read.0 += 1;
                stream.reading = Some(self.next_read);
                // Of the first batch, a part may be gone for readers; it is sent whole.
                let from = from.max(self.log_start);
                let (read, below) = (self.next_read, self.durable_end);
                return effects.push(Effect::Read { follower, read, from, below, bytes_max: CATCH_UP_BYTES });
            }
            let batches = self.pending_from(from);
            self.push_to(follower, batches, effects);
        }
    }

    /// Batches from `from` on that are not durable here yet: at least one, where there is any.
    fn pending_from(&self, from: Offset) -> Vec<StampedBatch> {
        let first = self.writes.partition_point(|pending| pending.batch.header().base_offset < from);
        let mut size = 0;
        let fits = |batch: &&StampedBatch| {
            let fits = size == 0 || size + batch.size() <= CATCH_UP_BYTES;
            size += batch.size();
            fits
        };
        self.writes.range(first..).map(|pending| &pending.batch).take_while(fits).cloned().collect()
    }

    fn push_to(&mut self, follower: BrokerId, batches: Vec<StampedBatch>, effects: &mut Effects) {
        let Duty::Leader(leader) = &mut self.duty else { return };
        let Some(progress) = leader.followers.get_mut(&follower) else { return };
        progress.told = self.high_watermark;
        progress.told_start = self.log_start;
        progress.tell_at = None;
        let Some(stream) = progress.stream_mut() else { return };
        let base_offset = stream.next;
        batches.iter().for_each(|batch| stream.pushed(batch));
        let message = FromLeader::Push {
            partition: self.partition,
            leader_epoch: self.leader_epoch,
            base_offset,
            batches,
            high_watermark: self.high_watermark,
            log_start: self.log_start,
        };
        effects.push(Effect::ToFollower { follower, message });
    }
}

/// The batches of a read that continue a log at `from`; `None` if it brought none, or they are damaged, or one is missing.
fn batches_from(from: Offset, batches: Vec<Bytes>) -> Option<Vec<StampedBatch>> {
    let mut next = from;
    let mut found = Vec::with_capacity(batches.len());
    for bytes in batches {
        let batch = StampedBatch::from_stored(bytes).ok()?;
        let header = batch.header();
        // A read begins with the batch that holds `from`; as a follower stands between batches, that is the first it lacks.
        if header.next_offset() <= from {
            continue;
        }
        if header.base_offset != next {
            return None;
        }
        next = header.next_offset();
        found.push(batch);
    }
    (!found.is_empty()).then_some(found)
}
