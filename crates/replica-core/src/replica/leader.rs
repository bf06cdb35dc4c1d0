//! Decisions of a leader: who waits for what, and how far the log is committed. Its parts: [`append`], [`push`],
//! [`trims`], [`confirmations`] and [`membership`].

mod append;
mod confirmations;
mod first_batches;
mod membership;
mod progress;
mod push;
mod trims;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use base_types::{BrokerEpoch, BrokerId, Now, Offset, PartitionEpoch, Tick, invariant, planted};
use peer_api::storage::{AppendError, Appended, TrimError};

use super::{Duty, Replica};
use crate::effect::{Effect, Effects};
use crate::event::{Assignment, Settings};
use crate::high_watermark;

pub(super) use append::Append;
use confirmations::Confirmations;
use first_batches::FirstBatches;
use progress::Progress;
use trims::Trims;
use waiting::Waiting;

#[derive(Clone, Hash, Debug)]
pub(super) struct Leader {
    /// Where the log ended when this epoch began: nothing is known to be committed in this epoch before the high watermark is here.
    epoch_start: Offset,
    isr: Vec<BrokerId>,
    /// Of which partition epoch `isr` is.
    partition_epoch: PartitionEpoch,
    /// Everyone named in an ISR that was proposed under this partition epoch.
    asked: BTreeSet<BrokerId>,
    /// No proposal before this.
    ask_after: Tick,
    broker_epochs: BTreeMap<BrokerId, BrokerEpoch>,
    /// Every other replica.
    followers: BTreeMap<BrokerId, Progress>,
    /// `acks=all`: they wait for the high watermark.
    until_committed: Waiting<Offset, Appended>,
    /// `acks=1`: they wait for our own disk.
    until_durable: Waiting<Offset, Appended>,
    /// They wait until every live replica has deleted the records too.
    trims: Trims,
    /// They wait until every member has said that it has taken up no later epoch.
    confirmations: Confirmations,
    /// First batches of producers that were refused and are to come again.
    first_batches: FirstBatches,
}

impl Leader {
    pub(super) fn new(now: Now, me: BrokerId, log_end: Offset, assignment: &Assignment) -> Leader {
        let mut leader = Leader {
            epoch_start: log_end,
            isr: Vec::new(),
            partition_epoch: PartitionEpoch(-1),
            asked: BTreeSet::new(),
            ask_after: now.tick,
            broker_epochs: BTreeMap::new(),
            followers: BTreeMap::new(),
            until_committed: Waiting::default(),
            until_durable: Waiting::default(),
            trims: Trims::default(),
            confirmations: Confirmations::default(),
            first_batches: FirstBatches::default(),
        };
        leader.assigned(now, me, log_end, assignment);
        leader
    }

    /// This replica led before and leads now, under another epoch. Followers open again before anything is pushed under it.
    pub(super) fn elected_again(&mut self, now: Now, me: BrokerId, log_end: Offset, assignment: &Assignment) {
        self.epoch_start = log_end;
        self.followers.clear();
        self.assigned(now, me, log_end, assignment);
    }

    /// The controller spoke.
    pub(super) fn assigned(&mut self, now: Now, me: BrokerId, log_end: Offset, assignment: &Assignment) {
        self.followers.retain(|follower, _| assignment.replicas.contains(follower));
        for &replica in assignment.replicas.iter().filter(|&&replica| replica != me) {
            self.followers.entry(replica).or_insert_with(|| Progress::new(now.tick, log_end));
        }
        self.broker_epochs = assignment.broker_epochs.iter().copied().collect();
        // The same partition epoch said again (a broker's registration changed) decides nothing about a proposal.
        if assignment.partition_epoch > self.partition_epoch {
            self.settle(assignment.partition_epoch, assignment.isr.clone());
        }
        if self.asked.is_empty() {
            self.ask_after = now.tick;
        }
    }

    pub(super) fn isr(&self) -> &[BrokerId] {
        &self.isr
    }

    pub(super) fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    pub(super) fn next_deadline(&self, settings: &Settings) -> Option<Tick> {
        let replies = [
            self.until_committed.next_deadline(),
            self.until_durable.next_deadline(),
            self.trims.next_deadline(),
            self.confirmations.waiting.next_deadline(),
        ];
        let tells = self.followers.values().filter_map(|progress| progress.tell_at);
        replies.into_iter().flatten().chain(tells).chain(self.next_proposal(settings)).min()
    }

    /// Everyone who waits gets this answer.
    pub(super) fn abandon(&self, error: &AppendError, trim_error: TrimError, effects: &mut Effects) {
        for request in self.until_committed.keys().chain(self.until_durable.keys()) {
            effects.push(Effect::Reply { request, result: Err(error.clone()) });
        }
        for request in self.confirmations.waiting.keys() {
            effects.push(Effect::Confirmed { request, result: Err(error.clone()) });
        }
        for request in self.trims.keys() {
            effects.push(Effect::Trimmed { request, result: Err(trim_error) });
        }
    }

    /// No more than there are replicas: a topic with two replicas and `min.insync.replicas=3` would take no write at all.
    pub(super) fn min_insync_replicas(&self, settings: &Settings) -> usize {
        settings.min_insync_replicas.min(1 + self.followers.len())
    }

    pub(super) fn check_invariants(&self, high_watermark: Offset, durable_end: Offset, log_end: Offset) {
        let acknowledged = high_watermark.min(durable_end);
        for (waiting, reached) in [(&self.until_committed, acknowledged), (&self.until_durable, durable_end)] {
            if let Some((first, last)) = waiting.ends() {
                invariant!(R16, first > reached, "{first} waits and {reached} is reached");
                invariant!(R16, last <= log_end, "{last} waits beyond {log_end}");
            }
        }
        for progress in self.followers.values() {
            if let (Some(stream), Some(durable)) = (progress.stream(), progress.durable_end) {
                invariant!(R7, durable <= stream.next, "durable {durable}, sent {}", stream.next);
                invariant!(R7, stream.next <= log_end, "sent {}, log end {log_end}", stream.next);
            }
        }
    }

    /// A newer partition epoch: whatever was asked under an older one has been taken up in it, or never will be.
    fn settle(&mut self, partition_epoch: PartitionEpoch, isr: Vec<BrokerId>) {
        self.partition_epoch = partition_epoch;
        self.isr = isr;
        self.asked.clear();
        self.ask_after = Tick::default();
    }

    /// What a member other than ourselves is known to hold. One that has not spoken in this epoch holds what was committed
    /// before, and how much that is we cannot say.
    fn durable_end_of(&self, member: BrokerId) -> Offset {
        self.followers.get(&member).and_then(|progress| progress.durable_end).unwrap_or(Offset::ZERO)
    }
}

impl Replica {
    /// Moves the high watermark as far as the maximal ISR allows, and answers whoever waited for it.
    pub(super) fn leader_advance(&mut self, now: Now, effects: &mut Effects) {
        let Duty::Leader(leader) = &mut self.duty else { return };
        let min_insync_replicas = leader.min_insync_replicas(&self.settings);
        let counts = |id: &BrokerId| !planted!(HighWatermarkOverCommittedIsr) || leader.isr.contains(id);
        let others = leader.maximal_isr().filter(|&id| id != self.me).filter(counts);
        let durable_ends = others.map(|id| leader.durable_end_of(id)).chain([self.durable_end]);
        let bound = high_watermark::bound(durable_ends, leader.isr.len(), min_insync_replicas);
        if let Some(bound) = bound.filter(|&bound| bound > self.high_watermark) {
            invariant!(R5, leader.isr.len() >= min_insync_replicas, "ISR {:?}", leader.isr);
            self.high_watermark = bound;
            for progress in leader.followers.values_mut().filter(|progress| progress.stream().is_some()) {
                progress.tell_at.get_or_insert(now.tick.plus_ms(push::ADVANCE_DELAY_MS));
            }
        }
        self.leader_settle(effects);
        self.leader_settle_confirmations(effects);
        self.leader_take_up_trims(effects);
    }

    pub(super) fn leader_ticked(&mut self, now: Now, effects: &mut Effects) {
        if let Duty::Leader(leader) = &mut self.duty {
            let too_few = leader.isr.len() < leader.min_insync_replicas(&self.settings);
            let error = if too_few { AppendError::NotEnoughReplicasAfterAppend } else { AppendError::TimedOut };
            for request in leader.until_committed.take_expired(now.tick) {
                effects.push(Effect::Reply { request, result: Err(error.clone()) });
            }
            for request in leader.until_durable.take_expired(now.tick) {
                effects.push(Effect::Reply { request, result: Err(AppendError::TimedOut) });
            }
            for request in leader.confirmations.waiting.take_expired(now.tick) {
                effects.push(Effect::Confirmed { request, result: Err(AppendError::TimedOut) });
            }
            for request in leader.trims.take_expired(now.tick) {
                effects.push(Effect::Trimmed { request, result: Err(TrimError::TimedOut) });
            }
        }
        self.leader_tell(now, effects);
        self.leader_propose(now, effects);
    }

    /// Answers, oldest first, every request whose position is reached.
    fn leader_settle(&mut self, effects: &mut Effects) {
        let durable = self.durable_end;
        // As a follower we may have heard that records are committed before our disk had them, and then be elected uncleanly.
        let committed = self.high_watermark.min(durable);
        let Duty::Leader(leader) = &mut self.duty else { return };
        for (waiting, reached) in [(&mut leader.until_committed, committed), (&mut leader.until_durable, durable)] {
            while let Some(request) = waiting.pop_reached(reached) {
                effects.push(Effect::Reply { request: request.key, result: Ok(request.answer) });
            }
        }
    }
}
