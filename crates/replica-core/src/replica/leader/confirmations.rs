//! Whoever reads what follows from the log, and must miss nothing that was committed before, asks first whether this is still the
//! leader: one that was deposed may not have heard of it. (Raft's read index, §6.4 of Ongaro's thesis.)
//!
//! A leader of a later epoch commits nothing before it has taken up its epoch, and it comes from the maximal ISR (R4), unless it is
//! elected uncleanly. So when every member has said, after the request came, that it has taken up no later epoch, nothing was
//! committed elsewhere before the request came. With too few replicas in sync the next leader may be one that is in sync no more
//! (KIP-966): then nothing is certain, and nobody is confirmed.

use base_types::{BrokerEpoch, BrokerId, Tick};
use peer_api::replication::FromLeader;
use peer_api::storage::AppendError;

use super::Leader;
use super::waiting::{Request, Waiting};
use crate::effect::{Effect, Effects};
use crate::event::RequestKey;
use crate::replica::{Duty, Replica};

#[derive(Clone, Hash, Debug, Default)]
pub(super) struct Confirmations {
    /// The number of the last request. A follower is asked for the newest, and that is the answer to all before it.
    last_round: u64,
    pub waiting: Waiting<u64, ()>,
}

impl Confirmations {
    fn push(&mut self, key: RequestKey, deadline: Tick) {
        self.last_round += 1;
        self.waiting.push(Request { key, deadline, until: self.last_round, answer: () });
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
        let Some(round) = leader.confirmations.waiting.ends().map(|(_, last)| last) else { return };
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
        while let Some(request) = leader.confirmations.waiting.pop_reached(last) {
            effects.push(Effect::Confirmed { request: request.key, result: result.clone() });
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
        let mut waiting = confirmations.waiting;
        assert_eq!(waiting.next_deadline(), Some(Tick(4)));
        assert_eq!(waiting.take_expired(Tick(4)), [RequestKey(2)]);
        assert_eq!(waiting.next_deadline(), Some(Tick(8)));
        assert_eq!(waiting.keys().collect::<Vec<_>>(), [RequestKey(1), RequestKey(3)]);
        let mut confirmed = |round| waiting.pop_reached(round).map(|request| request.key);
        assert_eq!([2, 2, 3].map(&mut confirmed), [Some(RequestKey(1)), None, Some(RequestKey(3))]);
        assert_eq!(waiting.next_deadline(), None);
    }
}
