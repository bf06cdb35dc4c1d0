//! Appending: the checks, the offset, and the place in the queue of those who wait for an answer.

use base_types::{BrokerId, LeaderEpoch, Now, Offset, Tick, Timestamp};
use peer_api::storage::{Acks, AppendError, Appended};
use record_batch::{ProducedBatch, StampedBatch};

use super::waiting::Request;
use crate::effect::{Effect, Effects};
use crate::event::{RequestKey, Settings};
use crate::producer_state::Verdict;
use crate::replica::{Duty, Replica};

/// An append request but for its batch.
pub(in crate::replica) struct Append {
    pub request: RequestKey,
    pub acks: Acks,
    pub deadline: Tick,
    pub leader_epoch: LeaderEpoch,
    pub has_space: bool,
}

/// Where a batch is in the log, whether it came there now or earlier.
struct Place {
    base_offset: Offset,
    end: Offset,
    log_append_time: Timestamp,
}

impl Replica {
    pub(in crate::replica) fn append_requested(
        &mut self,
        now: Now,
        append: Append,
        batch: &ProducedBatch,
        effects: &mut Effects,
    ) {
        match self.check_append(now, &append, batch) {
            Err(error) => {
                self.note_refused_first(batch, &error);
                effects.push(Effect::Reply { request: append.request, result: Err(error) });
            }
            Ok(verdict) => {
                let place = match verdict {
                    Verdict::Append => self.append(now, batch, effects),
                    Verdict::Duplicate { base_offset, next_offset, timestamp } => {
                        Place { base_offset, end: next_offset, log_append_time: self.log_append_time(timestamp) }
                    }
                };
                self.answer_when_safe(append, place, effects);
            }
        }
    }

    /// Everything that can be wrong is found here, before anything is appended: so every error is definite (R17).
    fn check_append(&self, now: Now, append: &Append, batch: &ProducedBatch) -> Result<Verdict, AppendError> {
        let leader = match &self.duty {
            Duty::Leader(leader) if append.leader_epoch == self.leader_epoch => leader,
            Duty::Leader(_) | Duty::Follower(_) | Duty::Idle => {
                let leader = self.leader.unwrap_or(BrokerId::NONE);
                return Err(AppendError::NotLeader { leader, leader_epoch: self.leader_epoch });
            }
        };
        // A retry of what is in the log is refused by no limit: "nothing was appended" would be a lie about the attempt before (P2).
        let verdict = self.producers.check(batch.header());
        if let Ok(duplicate @ Verdict::Duplicate { .. }) = verdict {
            return Ok(duplicate);
        }
        if self.producers.is_first_of(batch.header()) {
            leader.first_batches.check(batch.header())?;
        }
        if append.acks == Acks::All && leader.isr.len() < leader.min_insync_replicas(&self.settings) {
            return Err(AppendError::NotEnoughReplicas);
        }
        check_settings(&self.settings, now.wall, batch)?;
        let verdict = verdict?;
        if !append.has_space || self.retry_writes_at.is_some() {
            return Err(AppendError::NoSpace);
        }
        Ok(verdict)
    }

    fn note_refused_first(&mut self, batch: &ProducedBatch, error: &AppendError) {
        if matches!(error, AppendError::NotEnoughReplicas | AppendError::NoSpace)
            && self.producers.is_first_of(batch.header())
            && let Duty::Leader(leader) = &mut self.duty
        {
            leader.first_batches.refused(batch.header());
        }
    }

    fn append(&mut self, now: Now, batch: &ProducedBatch, effects: &mut Effects) -> Place {
        if let Duty::Leader(leader) = &mut self.duty {
            leader.first_batches.appended(batch.header());
        }
        let base_offset = self.log_end;
        let stamped = if self.settings.log_append_time {
            StampedBatch::stamp_with_log_append_time(batch, base_offset, self.leader_epoch, now.wall)
        } else {
            StampedBatch::stamp(batch, base_offset, self.leader_epoch)
        };
        self.write(stamped.clone(), effects);
        self.leader_push(now, base_offset, &stamped, effects);
        Place { base_offset, end: self.log_end, log_append_time: self.log_append_time(now.wall) }
    }

    /// A duplicate waits like a first attempt: its batch need not be committed yet, nor even durable.
    fn answer_when_safe(&mut self, append: Append, place: Place, effects: &mut Effects) {
        let log_start = self.log_start;
        let Duty::Leader(leader) = &mut self.duty else { return };
        let Place { base_offset, end, log_append_time } = place;
        let queue = match append.acks {
            Acks::All => &mut leader.until_committed,
            Acks::Leader => &mut leader.until_durable,
        };
        let appended = Appended { base_offset, log_append_time, log_start };
        queue.push(Request { key: append.request, deadline: append.deadline, until: end, answer: appended });
        self.leader_settle(effects);
    }

    fn log_append_time(&self, timestamp: Timestamp) -> Timestamp {
        if self.settings.log_append_time { timestamp } else { Timestamp::NONE }
    }
}

fn check_settings(settings: &Settings, wall: Timestamp, batch: &ProducedBatch) -> Result<(), AppendError> {
    let header = batch.header();
    if header.size() > settings.message_bytes_max {
        return Err(AppendError::MessageTooLarge { size: header.size(), max: settings.message_bytes_max });
    }
    if !settings.log_append_time {
        let late = header.max_timestamp.0.saturating_sub(wall.0) > settings.timestamp_after_ms_max;
        // No time at all is not an early time: nothing bounds it, as in Kafka.
        let has_time = header.base_timestamp != Timestamp::NONE;
        let early = has_time && wall.0.saturating_sub(header.base_timestamp.0) > settings.timestamp_before_ms_max;
        if late || early {
            return Err(AppendError::InvalidTimestamp);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use record_batch::{BatchBuilder, BatchLimits, Compression};

    use super::*;

    #[test]
    fn only_a_time_that_is_there_can_be_too_early_or_too_late() {
        let settings =
            Settings { timestamp_before_ms_max: 1_000, timestamp_after_ms_max: 1_000, ..Settings::default() };
        let check = |time: Timestamp| {
            let bytes = BatchBuilder::new(Compression::None).record(None, None, &[], time).build().unwrap();
            let batch = ProducedBatch::check(bytes, &BatchLimits::default()).unwrap();
            check_settings(&settings, Timestamp(10_000), &batch)
        };
        assert_eq!(check(Timestamp(8_999)), Err(AppendError::InvalidTimestamp));
        assert_eq!(check(Timestamp(9_000)), Ok(()));
        assert_eq!(check(Timestamp(11_000)), Ok(()));
        assert_eq!(check(Timestamp(11_001)), Err(AppendError::InvalidTimestamp));
        assert_eq!(check(Timestamp::NONE), Ok(()));
    }
}
