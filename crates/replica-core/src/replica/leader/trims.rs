//! Records deleted on request (DeleteRecords): at once here, and answered when every live replica has deleted them too.

use base_types::{Now, Offset, Tick};
use peer_api::storage::TrimError;

use super::{Leader, push};
use crate::effect::{Effect, Effects};
use crate::event::RequestKey;
use crate::replica::{Duty, Replica};

/// Few at any time, so they are looked through.
#[derive(Clone, Hash, Debug, Default)]
pub(super) struct Trims {
    /// They came while the high watermark lagged behind what this leader found when elected, and are looked at when it has caught up.
    early: Vec<Early>,
    waiting: Vec<Trim>,
}

#[derive(Clone, Hash, Debug)]
struct Early {
    key: RequestKey,
    deadline: Tick,
    to: Option<Offset>,
}

#[derive(Clone, Hash, Debug)]
struct Trim {
    key: RequestKey,
    deadline: Tick,
    to: Offset,
}

impl Trims {
    pub(super) fn next_deadline(&self) -> Option<Tick> {
        let early = self.early.iter().map(|trim| trim.deadline);
        self.waiting.iter().map(|trim| trim.deadline).chain(early).min()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = RequestKey> {
        self.early.iter().map(|trim| trim.key).chain(self.waiting.iter().map(|trim| trim.key))
    }

    pub(super) fn take_expired(&mut self, now: Tick) -> Vec<RequestKey> {
        let early = self.early.extract_if(.., |trim| trim.deadline <= now).map(|trim| trim.key);
        early.chain(self.waiting.extract_if(.., |trim| trim.deadline <= now).map(|trim| trim.key)).collect()
    }
}

impl Leader {
    /// Where the log begins on every live replica, at the least; `None` while one of them has not said so. One that is fenced
    /// is not waited for: it deletes the records when it comes back.
    fn low_watermark(&self, own: Offset) -> Option<Offset> {
        let live = self.followers.iter().filter(|(id, _)| self.broker_epochs.contains_key(id));
        live.map(|(_, progress)| progress.log_start).try_fold(own, |low, start| Some(low.min(start?)))
    }
}

impl Replica {
    pub(in crate::replica) fn trim_requested(
        &mut self,
        request: RequestKey,
        deadline: Tick,
        to: Option<Offset>,
        effects: &mut Effects,
    ) {
        let high_watermark = self.high_watermark;
        let Duty::Leader(leader) = &mut self.duty else {
            let error = if self.failed { TrimError::StorageFailed } else { TrimError::NotLeader };
            return effects.push(Effect::Trimmed { request, result: Err(error) });
        };
        // Records that are committed may still lie above: "everything" would leave them, and their offsets be out of range.
        if high_watermark < leader.epoch_start && to.is_none_or(|to| to > high_watermark) {
            return leader.trims.early.push(Early { key: request, deadline, to });
        }
        let to = to.unwrap_or(high_watermark);
        if to < Offset::ZERO || to > high_watermark {
            return effects.push(Effect::Trimmed { request, result: Err(TrimError::OutOfRange) });
        }
        leader.trims.waiting.push(Trim { key: request, deadline, to });
        self.log_start_wanted = self.log_start_wanted.max(to);
        self.trim(effects);
        self.leader_settle_trims(effects);
    }

    /// Looks at the trims that were early, if the high watermark has caught up.
    pub(super) fn leader_take_up_trims(&mut self, effects: &mut Effects) {
        let Duty::Leader(leader) = &mut self.duty else { return };
        if self.high_watermark >= leader.epoch_start {
            for Early { key, deadline, to } in std::mem::take(&mut leader.trims.early) {
                self.trim_requested(key, deadline, to, effects);
            }
        }
    }

    /// Answers whoever waited for what every live replica has deleted by now.
    pub(in crate::replica) fn leader_settle_trims(&mut self, effects: &mut Effects) {
        let log_start = self.log_start;
        let Duty::Leader(leader) = &mut self.duty else { return };
        let Some(low) = leader.low_watermark(log_start) else { return };
        for trim in leader.trims.waiting.extract_if(.., |trim| trim.to <= low) {
            effects.push(Effect::Trimmed { request: trim.key, result: Ok(low) });
        }
    }

    /// The log begins later: followers that have opened hear of it soon; the others do when they open.
    pub(in crate::replica) fn leader_tell_log_start(&mut self, now: Now, effects: &mut Effects) {
        if let Duty::Leader(leader) = &mut self.duty {
            for progress in leader.followers.values_mut().filter(|progress| progress.stream().is_some()) {
                progress.tell_at.get_or_insert(now.tick.plus_ms(push::ADVANCE_DELAY_MS));
            }
        }
        self.leader_tell(now, effects);
    }
}
