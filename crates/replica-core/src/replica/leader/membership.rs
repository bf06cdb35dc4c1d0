//! The ISR: whom the leader wants in it, and what it asks of the controller.
//!
//! A proposal is a compare-and-set on the partition epoch (KIP-497). Its answer may be lost, and a refusal may be that of an
//! earlier attempt, so no answer but a newer partition epoch settles it: until then everyone who was ever proposed under this
//! partition epoch may be a member, and counts for the high watermark (R4). A proposal that is wished no more is withdrawn by
//! proposing the ISR as it is, which moves the partition epoch on and so makes the earlier attempts void.

use base_types::{BrokerEpoch, BrokerId, ErrorCode, Now, Offset, Tick, planted};
use peer_api::metadata::PartitionState;

use super::Leader;
use super::progress::Progress;
use crate::effect::{Effect, Effects};
use crate::event::Settings;
use crate::isr;
use crate::replica::{Duty, Replica};

/// How soon the controller is asked again.
const PROPOSAL_RETRY_MS: u64 = 500;

impl Leader {
    /// Members, and those who may be members by now for all we know.
    pub(in crate::replica) fn maximal_isr(&self) -> impl Iterator<Item = BrokerId> + '_ {
        self.isr.iter().chain(self.asked.iter().filter(|id| !self.isr.contains(id))).copied()
    }

    /// When the controller is to be asked (again).
    pub(super) fn next_proposal(&self, settings: &Settings) -> Option<Tick> {
        if !self.asked.is_empty() {
            return Some(self.ask_after);
        }
        let members = self.isr.iter().filter_map(|id| self.followers.get(id));
        let leaves_at =
            members.filter_map(|progress| progress.lag.ends_membership_at(settings.replica_lag_ms_max)).min()?;
        Some(leaves_at.max(self.ask_after))
    }

    fn wished_isr(&self, now: Tick, high_watermark: Offset, log_start: Offset, lag_ms_max: u64) -> Vec<BrokerId> {
        let lags = |progress: &Progress| progress.lag.ends_membership_at(lag_ms_max).is_some_and(|at| at <= now);
        let stays = |id: &&BrokerId| !self.followers.get(id).is_some_and(lags);
        // One that would have to leave at once does not join, or two of them would take turns for as long as they lag.
        let joins = |id: &&BrokerId| {
            self.followers.get(id).is_some_and(|progress| {
                progress.stream().is_some()
                    && !lags(progress)
                    && isr::may_join(progress.durable_end, high_watermark, self.epoch_start)
                    // As leader it would have what was deleted (S11).
                    && progress.log_start >= Some(log_start)
                    && self.broker_epochs.get(id) == Some(&progress.broker_epoch)
            })
        };
        let outsiders = self.followers.keys().filter(|id| !self.isr.contains(id));
        self.isr.iter().filter(stays).chain(outsiders.filter(joins)).copied().collect()
    }

    /// `None` when the registration of one of them is not known: it is fenced or about to be, and the controller is the one
    /// to take it out.
    fn with_broker_epochs(&self, isr: &[BrokerId]) -> Option<Vec<(BrokerId, BrokerEpoch)>> {
        isr.iter().map(|id| Some((*id, *self.broker_epochs.get(id)?))).collect()
    }
}

impl Replica {
    /// Asks the controller for the change of the ISR that is due, if any.
    pub(in crate::replica) fn leader_propose(&mut self, now: Now, effects: &mut Effects) {
        let (leader_epoch, partition_epoch) = (self.leader_epoch, self.partition_epoch);
        let Duty::Leader(leader) = &mut self.duty else { return };
        if now.tick < leader.ask_after {
            return;
        }
        let wished = leader.wished_isr(now.tick, self.high_watermark, self.log_start, self.settings.replica_lag_ms_max);
        if wished == leader.isr && leader.asked.iter().all(|id| leader.isr.contains(id)) {
            leader.asked.clear();
            return;
        }
        leader.ask_after = now.tick.plus_ms(PROPOSAL_RETRY_MS);
        if let Some(isr) = leader.with_broker_epochs(&wished) {
            leader.asked.extend(wished);
            effects.push(Effect::ProposeIsr { leader_epoch, partition_epoch, isr });
        }
    }

    pub(in crate::replica) fn isr_decided(
        &mut self,
        now: Now,
        result: Result<PartitionState, Option<ErrorCode>>,
        effects: &mut Effects,
    ) {
        // A refusal settles nothing: the proposal is made again, or withdrawn, when its time has come.
        let Ok(state) = result else { return };
        let me = self.me;
        let Duty::Leader(leader) = &mut self.duty else { return };
        let newer = state.partition_epoch > self.partition_epoch || planted!(LateIsrAnswerTaken);
        if newer && state.leader_epoch == self.leader_epoch && state.leader == Some(me) {
            self.partition_epoch = state.partition_epoch;
            leader.settle(state.partition_epoch, state.isr);
            self.leader_advance(now, effects);
            self.leader_propose(now, effects);
        }
    }
}
