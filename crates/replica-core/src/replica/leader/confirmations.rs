//! Whoever reads what follows from the log, and must miss nothing that was committed before, asks first whether this is still the
//! leader: one that was deposed may not have heard of it. (Raft's read index, §6.4 of Ongaro's thesis.)
//!
//! A leader of a later epoch commits nothing before it has taken up its epoch, and it comes from the maximal ISR (R4), unless it is
//! elected uncleanly. So when every member has said, after the request came, that it has taken up no later epoch, nothing was
//! committed elsewhere before the request came. With too few replicas in sync the next leader may be one that is in sync no more
//! (KIP-966): then nothing is certain, and nobody is confirmed.

use std::collections::VecDeque;

use base_types::{BrokerEpoch, BrokerId, Tick};
use peer_api::replication::FromLeader;
use peer_api::storage::AppendError;

use super::Leader;
use crate::effect::{Effect, Effects};
use crate::event::RequestKey;
use crate::replica::{Duty, Replica};

#[derive(Debug, Default)]
pub(super) struct Confirmations {
    /// The number of the last request. A follower is asked for the newest, and that is the answer to all before it.
    last_round: u64,
    /// In the order of their rounds.
    waiting: VecDeque<Confirmation>,
    /// No deadline is earlier; exact after each [`Confirmations::take_expired`].
    earliest: Option<Tick>,
}

#[derive(Debug)]
struct Confirmation {
    key: RequestKey,
    deadline: Tick,
    round: u64,
}

impl Confirmations {
    fn push(&mut self, key: RequestKey, deadline: Tick) {
        self.last_round += 1;
        self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        self.waiting.push_back(Confirmation { key, deadline, round: self.last_round });
    }

    /// The oldest request, if all have answered it.
    fn pop_confirmed(&mut self, round: u64) -> Option<RequestKey> {
        let waiting = self.waiting.pop_front_if(|waiting| waiting.round <= round);
        if self.waiting.is_empty() {
            self.earliest = None;
        }
        waiting.map(|waiting| waiting.key)
    }

    pub(super) fn next_deadline(&self) -> Option<Tick> {
        self.earliest
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = RequestKey> {
        self.waiting.iter().map(|waiting| waiting.key)
    }

    pub(super) fn take_expired(&mut self, now: Tick) -> Vec<RequestKey> {
        let mut expired = Vec::new();
        if self.earliest.is_some_and(|earliest| earliest <= now) {
            self.waiting.retain(|waiting| {
                let stays = waiting.deadline > now;
                if !stays {
                    expired.push(waiting.key);
                }
                stays
            });
            self.earliest = self.waiting.iter().map(|waiting| waiting.deadline).min();
        }
        expired
    }
}

impl Leader {
    /// The last request that every other member has answered.
    fn confirmed_round(&self, me: BrokerId) -> u64 {
        let others = self.maximal_isr().filter(|&id| id != me);
        let rounds = others.map(|id| self.followers.get(&id).map_or(0, |progress| progress.confirmed_round));
        rounds.min().unwrap_or(self.confirmations.last_round)
    }
}

impl Replica {
    pub(in crate::replica) fn confirmation_requested(
        &mut self,
        request: RequestKey,
        deadline: Tick,
        effects: &mut Effects,
    ) {
        let Duty::Leader(leader) = &mut self.duty else {
            let leader = self.leader.unwrap_or(BrokerId::NONE);
            let error = AppendError::NotLeader { leader, leader_epoch: self.leader_epoch };
            return effects.push(Effect::Confirmed { request, result: Err(error) });
        };
        leader.confirmations.push(request, deadline);
        self.leader_settle_confirmations(effects);
        self.leader_ask_to_confirm(effects);
    }

    /// Asks every follower that has opened and owes no answer, if somebody waits for what it has to say.
    pub(super) fn leader_ask_to_confirm(&mut self, effects: &mut Effects) {
        let (partition, leader_epoch) = (self.partition, self.leader_epoch);
        let Duty::Leader(leader) = &mut self.duty else { return };
        let Some(round) = leader.confirmations.waiting.back().map(|waiting| waiting.round) else { return };
        for (&follower, progress) in &mut leader.followers {
            let owes_answer = progress.asked_round > progress.confirmed_round;
            if progress.stream().is_some() && !owes_answer && progress.confirmed_round < round {
                progress.asked_round = round;
                let message = FromLeader::Confirm { partition, leader_epoch, round };
                effects.push(Effect::ToFollower { follower, message });
            }
        }
    }

    pub(super) fn follower_confirmed(
        &mut self,
        (follower, broker_epoch): (BrokerId, BrokerEpoch),
        round: u64,
        effects: &mut Effects,
    ) {
        let Duty::Leader(leader) = &mut self.duty else { return };
        let Some(progress) = leader.followers.get_mut(&follower) else { return };
        // It cannot have been asked what was not asked yet.
        if progress.broker_epoch == broker_epoch && round <= leader.confirmations.last_round {
            progress.confirmed_round = progress.confirmed_round.max(round);
            self.leader_settle_confirmations(effects);
            self.leader_ask_to_confirm(effects);
        }
    }

    /// Answers everyone whose request all members have answered, once what was committed before this epoch is known to be.
    pub(super) fn leader_settle_confirmations(&mut self, effects: &mut Effects) {
        let (me, high_watermark) = (self.me, self.high_watermark);
        let Duty::Leader(leader) = &mut self.duty else { return };
        let (last, result) = if leader.isr.len() < leader.min_insync_replicas(&self.settings) {
            (u64::MAX, Err(AppendError::NotEnoughReplicas))
        } else if high_watermark < leader.epoch_start {
            return;
        } else {
            (leader.confirmed_round(me), Ok(high_watermark))
        };
        while let Some(request) = leader.confirmations.pop_confirmed(last) {
            effects.push(Effect::Confirmed { request, result: result.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_too_long_is_taken_out_and_the_others_stay_in_order() {
        let mut confirmations = Confirmations::default();
        for (key, deadline) in [(1, 9), (2, 4), (3, 8)] {
            confirmations.push(RequestKey(key), Tick(deadline));
        }
        assert_eq!(confirmations.next_deadline(), Some(Tick(4)));
        assert_eq!(confirmations.take_expired(Tick(4)), [RequestKey(2)]);
        assert_eq!(confirmations.next_deadline(), Some(Tick(8)));
        assert_eq!(confirmations.keys().collect::<Vec<_>>(), [RequestKey(1), RequestKey(3)]);
        assert_eq!(
            [2, 2, 3].map(|round| confirmations.pop_confirmed(round)),
            [Some(RequestKey(1)), None, Some(RequestKey(3))]
        );
        assert_eq!(confirmations.next_deadline(), None);
    }
}
